//! What the processes of a host know together about provider keys: one file per key in the state folder's
//! `rates/`. Invariant: a file is replaced whole, by the one process that holds its lock; the kernel frees
//! the lock of a process that dies. What cannot be read counts as nothing known.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::rates::{MINUTE_MS, Shared};
use crate::ports::rates::SharedRates;

/// The lock is held for well under a millisecond; a process that was stopped while it held it must not
/// stop the others.
const TRIES: u32 = 250;
const PAUSE: Duration = Duration::from_millis(2);

pub struct RateFiles {
    folder: PathBuf,
}

impl RateFiles {
    /// `folder`: `rates` in the state folder; made at the first exchange.
    pub fn new(folder: PathBuf) -> RateFiles {
        RateFiles { folder }
    }

    fn lock(&self, key: &str) -> io::Result<File> {
        let path = self.folder.join(format!("{key}.lock"));
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = match open() {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.folder)?;
                open()?
            }
            other => other?,
        };
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(why)) => return Err(why),
            }
        }
        let say = format!("{} is locked by another process for too long", path.display());
        Err(io::Error::new(io::ErrorKind::TimedOut, say))
    }
}

impl SharedRates for RateFiles {
    fn exchange(&self, key: &str, act: &mut dyn FnMut(&mut Shared)) -> io::Result<()> {
        // Keys are hashes, classes are model ids: nothing in them may lead out of the folder.
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '_' };
        let key: String = key.chars().map(plain).take(120).collect();
        let lock = self.lock(&key)?;
        let path = self.folder.join(format!("{key}.json"));
        let mut shared = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| Shared::new(MINUTE_MS)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Shared::new(MINUTE_MS),
            Err(why) => return Err(why),
        };
        act(&mut shared);
        let next = self.folder.join(format!("{key}.next"));
        // No fsync: after a power cut nothing that it says matters any more.
        fs::write(&next, serde_json::to_vec(&shared)?)?;
        fs::rename(&next, &path)?;
        drop(lock);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rates::{Act, Offer, Rates, Units};

    const ONE: Units = Units { requests: 1, input: 10, output: 0 };

    #[test]
    fn what_one_process_spent_another_finds_spent() {
        let folder = tempfile::tempdir().unwrap();
        let rates = Rates { rpm: Some(2), ..Rates::default() };
        let turn = |owner: u64, offer: Offer| {
            let files = RateFiles::new(folder.path().join("rates"));
            let mut reply = None;
            let mut act = |shared: &mut Shared| reply = Some(shared.exchange(1000, MINUTE_MS, owner, &rates, &offer));
            files.exchange("k/../e y", &mut act).unwrap();
            reply.unwrap()
        };
        let spent = Act::Spent { at: 900, units: ONE };
        turn(1, Offer { acts: vec![spent], ..Offer::default() });
        let wants = |n: usize| Offer { wants: vec![ONE; n], ..Offer::default() };
        assert_eq!(turn(2, wants(2)).have.requests, 1);
        assert_eq!(turn(3, wants(1)).have.requests, 0);
        let mut names: Vec<_> =
            fs::read_dir(folder.path().join("rates")).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["k_.._e_y.json", "k_.._e_y.lock"]);
    }

    #[test]
    fn a_file_that_is_no_state_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = RateFiles::new(folder.path().to_owned());
        for junk in ["", "{", "[1]", "{\"v\":99}", "\u{0}\u{1}"] {
            fs::write(folder.path().join("k.json"), junk).unwrap();
            let mut seen = None;
            files.exchange("k", &mut |shared| seen = Some(shared.clone())).unwrap();
            assert_eq!(seen, Some(Shared::new(MINUTE_MS)), "{junk:?}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rates"), "a file").unwrap();
        let files = RateFiles::new(folder.path().join("rates"));
        assert!(files.exchange("k", &mut |_| {}).is_err());
    }
}
