//! Who owns a run. Invariant: of all processes (and all stores of one process) at most one owns a run,
//! and the kernel ends that when the process dies, however it dies.
//!
//! A store has one file, which is locked as long as the store is there; a run that it owns is a second name of
//! that file, `owners/<run>`. So a run is owned if the file of its name is locked, and five hundred runs at once
//! take one file, not five hundred. The JSON inside only says whom to name in a message. It says who is *alive*:
//! that a dead owner's late writes are refused is the epoch's work, not the lock's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::ids::RunId;
use crate::ports::store::Owner;

/// A look at a lock ([`Owners::owner`]) holds it for an instant, so a claim asks this often before it gives up.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(5);

/// The folder of all names, and what this store puts its own on.
#[derive(Debug)]
pub struct Owners {
    folder: PathBuf,
    /// Made with the first run.
    own: Mutex<Option<Arc<Locked>>>,
}

/// A file that is locked as long as this is there.
#[derive(Debug)]
struct Locked {
    path: PathBuf,
    file: File,
}

/// A run that is owned. Dropping it lets it go.
#[derive(Debug)]
pub struct OwnerLock {
    path: PathBuf,
    by: Arc<Locked>,
}

/// Why a run was not taken.
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

impl Owners {
    pub fn new(folder: PathBuf) -> Owners {
        Owners { folder, own: Mutex::default() }
    }

    fn own(&self) -> MutexGuard<'_, Option<Arc<Locked>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// `Held` by a live owner; whatever the folder says.
    pub fn take(&self, run: &RunId) -> Result<OwnerLock, NotTaken> {
        let path = self.folder.join(run.as_str());
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_take(&path)? {
                Tried::Taken(lock) => return Ok(lock),
                Tried::Held(owner) if tries > TRIES => return Err(NotTaken::Held(owner)),
                Tried::Held(_) => std::thread::sleep(PAUSE),
                Tried::Again(error) if tries > TRIES => return Err(error.into()),
                Tried::Again(_) => {}
            }
        }
    }

    fn try_take(&self, path: &Path) -> io::Result<Tried> {
        // One at a time: runs of one dead process have one lock, and two of this store would take each other for
        // somebody who owns them.
        let mut own = self.own();
        let by = match &*own {
            Some(by) => by.clone(),
            None => own.insert(Arc::new(Locked::make(&self.folder)?)).clone(),
        };
        match fs::hard_link(&by.path, path) {
            Ok(()) => Ok(Tried::Taken(OwnerLock { path: path.to_owned(), by })),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(self.clear(path)?.map_or(Tried::Again(error), Tried::Held))
            }
            // Somebody has tidied up the folder, or it has all the names that a file can have.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::TooManyLinks) => {
                *own = None;
                Ok(Tried::Again(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a name that a dead process has left, or says who owns it. It goes while its lock is held, so that
    /// nobody else can take what is new under the name for what was there before.
    fn clear(&self, path: &Path) -> io::Result<Option<Owner>> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match hold_at(&file, path) {
            Ok(true) => fs::remove_file(path).map(|()| None),
            Ok(false) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_owner(&mut file))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The live owner of a run. A name that a dead process left behind is nobody's.
    pub fn owner(&self, run: &RunId) -> Option<Owner> {
        let mut file = File::open(self.folder.join(run.as_str())).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_owner(&mut file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    /// Removes the files of processes that were killed. Names of runs stay: they say that a run was left behind.
    pub fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(OWN.as_bytes()) {
                self.clear(&entry.path())?;
            }
        }
        Ok(())
    }
}

enum Tried {
    Taken(OwnerLock),
    Held(Owner),
    /// Something has changed that was in the way, of which this is the error.
    Again(io::Error),
}

/// What a store's own file is called begins with: no run's name does.
const OWN: &str = ".";

impl Locked {
    fn make(folder: &Path) -> io::Result<Locked> {
        let random = getrandom::u64().map_err(|error| io::Error::other(format!("no random number: {error}")))?;
        let path = folder.join(format!("{OWN}{random:016x}"));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // Whoever tidies up may look at it right now.
        file.lock()?;
        file.write_all(serde_json::to_string(&this_process())?.as_bytes())?;
        Ok(Locked { path, file })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.remove(&self.path);
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        self.by.remove(&self.path);
    }
}

impl Locked {
    /// Removes a name, if it is still its own. The lock is held: nobody else removes it.
    fn remove(&self, path: &Path) {
        let removed = if is_at(&self.file, path) { fs::remove_file(path) } else { Ok(()) };
        if let Err(error) = removed {
            tracing::debug!(path = %path.display(), %error, "owner file not removed");
        }
    }
}

/// Takes the lock and says whether its file still has the name: who had it before removes the name before letting
/// go, so that what was opened before and locked after may be a file that nobody else will ever find.
fn hold_at(file: &File, path: &Path) -> Result<bool, TryLockError> {
    file.try_lock().map(|()| is_at(file, path))
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
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

    fn names(folder: &tempfile::TempDir) -> usize {
        fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn one_owner_at_a_time_and_its_name_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunId::from_random(1);
        let [one, two] = [(); 2].map(|()| Owners::new(folder.path().to_owned()));
        assert_eq!((one.owner(&run), names(&folder)), (None, 0));
        let lock = one.take(&run).unwrap();
        let other = one.take(&RunId::from_random(2)).unwrap();
        assert_eq!((one.owner(&run), two.owner(&run)), (Some(this_process()), Some(this_process())));
        for owners in [&one, &two] {
            match owners.take(&run) {
                Err(NotTaken::Held(owner)) => assert_eq!(owner, this_process()),
                other => panic!("an owned run was taken: {other:?}"),
            }
        }
        drop(lock);
        assert_eq!((one.owner(&run), one.owner(&RunId::from_random(2))), (None, Some(this_process())));
        let lock = two.take(&run).unwrap();
        drop((one, two));
        assert_eq!(names(&folder), 4, "a run outlives the store that took it");
        drop((lock, other));
        assert_eq!(names(&folder), 0, "files do not pile up");
    }

    /// What a process leaves that was killed with these runs.
    fn left(folder: &tempfile::TempDir, runs: u64) {
        let own = folder.path().join(".0123456789abcdef");
        fs::write(&own, "{\"pid\":1,\"host\":\"gone\"}").unwrap();
        (0..runs).for_each(|n| fs::hard_link(&own, folder.path().join(RunId::from_random(n).as_str())).unwrap());
    }

    #[test]
    fn what_a_dead_process_left_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        left(&folder, 20);
        // And one of a version that locked a file for each run.
        fs::write(folder.path().join(RunId::from_random(20).as_str()), "{\"pid\":1,\"host\":\"gone\"}").unwrap();
        let owners = Owners::new(folder.path().to_owned());
        let runs: Vec<RunId> = (0..21).map(RunId::from_random).collect();
        assert!(runs.iter().all(|run| owners.owner(run).is_none()));
        let all: Vec<_> = std::thread::scope(|scope| {
            let takes: Vec<_> = runs.iter().map(|run| scope.spawn(|| owners.take(run))).collect();
            takes.into_iter().map(|take| take.join().unwrap().unwrap()).collect()
        });
        assert!(runs.iter().all(|run| owners.owner(run) == Some(this_process())));
        owners.sweep().unwrap();
        assert!(runs.iter().all(|run| owners.owner(run) == Some(this_process())));
        drop((all, owners));
        assert_eq!(names(&folder), 0);
    }

    #[test]
    fn a_folder_that_somebody_tidied_up_does_not_stop_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let owners = Owners::new(folder.path().to_owned());
        drop(owners.take(&RunId::from_random(1)).unwrap());
        fs::read_dir(folder.path()).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
        let run = RunId::from_random(2);
        let _lock = owners.take(&run).unwrap();
        assert_eq!(owners.owner(&run), Some(this_process()));
        let gone = Owners::new(folder.path().join("nowhere"));
        assert!(matches!(gone.take(&run), Err(NotTaken::Io(_))));
    }

    #[test]
    fn a_lock_on_a_file_that_has_lost_its_name_is_not_the_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let early = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!hold_at(&early, &path).unwrap());
        let late = File::create(&path).unwrap();
        assert!(!hold_at(&early, &path).unwrap());
        assert!(hold_at(&late, &path).unwrap());
    }

    #[test]
    fn two_never_own_while_names_come_and_go() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let (inside, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..200 {
                        // Every other time the store goes too, before the run or after it.
                        let owners = Owners::new(folder.path().to_owned());
                        if let Ok(lock) = owners.take(&RunId::from_random(1)) {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two own the run");
                            taken.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            if round % 2 == 0 { drop((owners, lock)) } else { drop((lock, owners)) }
                        }
                    }
                });
            }
            scope.spawn(|| {
                let owners = Owners::new(folder.path().to_owned());
                let path = folder.path().join(RunId::from_random(1).as_str());
                for _ in 0..300 {
                    // A name that a dead process has left is in the way.
                    let _ = OpenOptions::new().write(true).create_new(true).open(&path);
                    owners.sweep().unwrap();
                }
            });
        });
        assert!(taken.load(Ordering::SeqCst) > 0);
    }
}
