//! Who owns a run. Invariant: of all processes (and all stores of one process) at most one holds a
//! run's lock, and the kernel frees it when that process dies, however it dies.
//!
//! The lock is an OS lock on `owners/<run>`; the JSON inside only says whom to name in a message.
//! It says who is *alive*. That a dead owner's late writes are refused is the epoch's work, not the lock's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::ids::RunId;
use crate::ports::store::Owner;

/// A look at the lock ([`owner`]) holds it for an instant, so a claim asks this often before it gives up.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(5);

/// A held lock. Dropping it lets it go.
#[derive(Debug)]
pub struct OwnerLock {
    file: File,
    path: PathBuf,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum NotTaken {
    Held(Owner),
    Io(io::Error),
}

impl From<io::Error> for NotTaken {
    fn from(error: io::Error) -> NotTaken {
        NotTaken::Io(error)
    }
}

impl OwnerLock {
    pub fn take(folder: &Path, run: &RunId) -> Result<OwnerLock, NotTaken> {
        let path = folder.join(run.as_str());
        let mut tries = 0;
        loop {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            match try_hold(&file, &path) {
                Ok(false) => continue,
                Ok(true) => {
                    write_owner(&mut file)?;
                    return Ok(OwnerLock { file, path });
                }
                Err(TryLockError::WouldBlock) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(NotTaken::Held(read_owner(&mut file))),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // While the lock is held, so that nobody can have locked the file that goes.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "owner file not removed");
        }
        let _ = self.file.unlock();
    }
}

/// The live holder of a run's lock. A file that a dead process left behind is nobody's.
pub fn owner(folder: &Path, run: &RunId) -> Option<Owner> {
    let mut file = File::open(folder.join(run.as_str())).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_owner(&mut file)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// Takes the lock and says whether it is the run's: the last owner removes the file before it lets go,
/// so that what was opened before and locked after may be a file that nobody else will ever find.
fn try_hold(file: &File, path: &Path) -> Result<bool, TryLockError> {
    file.try_lock().map(|()| is_at(file, path))
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn write_owner(file: &mut File) -> io::Result<()> {
    let text = serde_json::to_string(&this_process())?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

fn read_owner(file: &mut File) -> Owner {
    let mut text = String::new();
    // Read at the instant its owner writes it, the name may be missing; that it is held is certain.
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let owner = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    owner.unwrap_or_else(|| Owner { pid: 0, host: "an unknown host".to_owned() })
}

pub fn this_process() -> Owner {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Owner { pid: std::process::id(), host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_its_name_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::from_random(1);
        assert_eq!(owner(folder.path(), &run), None);
        let lock = OwnerLock::take(folder.path(), &run).unwrap();
        assert_eq!(owner(folder.path(), &run), Some(this_process()));
        match OwnerLock::take(folder.path(), &run) {
            Err(NotTaken::Held(owner)) => assert_eq!(owner, this_process()),
            other => panic!("a held lock was taken: {other:?}"),
        }
        drop(lock);
        assert_eq!(owner(folder.path(), &run), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "owner files do not pile up");
    }

    #[test]
    fn a_file_left_behind_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::from_random(1);
        fs::write(folder.path().join(run.as_str()), "{\"pid\":1,\"host\":\"gone\"}").unwrap();
        assert_eq!(owner(folder.path(), &run), None);
        assert!(OwnerLock::take(folder.path(), &run).is_ok());
    }

    #[test]
    fn a_lock_on_a_file_that_is_gone_is_not_the_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let early = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!try_hold(&early, &path).unwrap());
        let late = File::create(&path).unwrap();
        assert!(!try_hold(&early, &path).unwrap());
        assert!(try_hold(&late, &path).unwrap());
    }

    #[test]
    fn two_never_hold_while_files_come_and_go() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let (inside, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(lock) = OwnerLock::take(folder.path(), &RunId::from_random(1)) {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two held the lock");
                            taken.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(taken.load(Ordering::SeqCst) > 0);
    }
}
