//! Who owns a run. Invariant: of all processes (and all stores of one process) at most one owns a run,
//! and the kernel ends that when the process dies, however it dies.
//!
//! A store has one file, which is locked as long as the store is there; a run that it owns is a second name of
//! that file, `owners/<run>`. So a run is owned if the file of its name is locked, and five hundred runs at once
//! take one file, not five hundred. The JSON inside only says whom to name in a message. It says who is *alive*:
//! that a dead owner's late writes are refused is the epoch's work, not the lock's.
//!
//! Runs that one dead process has left have one lock, so whoever takes one of them up is in the way of the others
//! for an instant; a Bosun that locked a file for each run, for as long as it has that run.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::core::ids::RunId;
use crate::ports::store::Owner;

/// A look at a lock ([`Owners::owner`]) holds it for an instant, so a claim asks this often before it gives up.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(5);
const GLANCE: Duration = Duration::from_millis(1);

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
    /// Names of runs that are owned by it.
    names: Mutex<HashSet<PathBuf>>,
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
                Tried::Held(owner) if tries > if is_dead(&owner) { 10 * TRIES } else { TRIES } => {
                    return Err(NotTaken::Held(owner));
                }
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
        // Held over what the folder says, so that the two agree.
        let mut names = by.names();
        let linked = match fs::hard_link(&by.path, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match self.clear(path)? {
                // A name of its own that could not be removed.
                Some(_) if !names.contains(path) && is_at(&by.file, path) => Ok(()),
                Some(owner) => return Ok(Tried::Held(owner)),
                None => {
                    self.sweep();
                    return Ok(Tried::Again(error));
                }
            },
            other => other,
        };
        match linked {
            Ok(()) => {
                names.insert(path.to_owned());
                drop(names);
                Ok(Tried::Taken(OwnerLock { path: path.to_owned(), by }))
            }
            // Somebody has tidied up the folder, or the store's file has all the names that a file can have.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::TooManyLinks) => {
                *own = None;
                Ok(Tried::Again(error))
            }
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::PERM | Errno::OPNOTSUPP)) => {
                Err(io::Error::other(format!("its file system has no hard links ({error}): use a local disk")))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a name that a dead process has left, or says who owns it. It goes while its lock is held, so that
    /// nobody else can take what is new under the name for what was there before.
    fn clear(&self, path: &Path) -> io::Result<Option<Owner>> {
        // To be locked alone a file must be open for writing on some file systems.
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
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
        self.look(run, || std::thread::sleep(GLANCE))
    }

    /// `again` is called before it looks once more.
    fn look(&self, run: &RunId, mut again: impl FnMut()) -> Option<Owner> {
        let path = self.folder.join(run.as_str());
        let mut seen = None;
        for _ in 0..TRIES {
            let mut file = File::open(&path).ok()?;
            match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => seen = Some(read_owner(&mut file)),
                Ok(()) | Err(TryLockError::Error(_)) => return None,
            }
            if seen.as_ref().is_some_and(|owner| !is_dead(owner)) {
                break;
            }
            // Somebody is about to take this or another run of a dead process, which have one lock.
            drop(file);
            again();
        }
        seen
    }

    /// Removes the files of processes that were killed, as far as it can. Names of runs stay: they say that a run
    /// was left behind.
    fn sweep(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(OWN.as_bytes())) {
            if let Err(error) = self.clear(&entry.path()) {
                tracing::debug!(path = %entry.path().display(), %error, "a dead process's file stays");
            }
        }
    }
}

/// Of this host, and gone: its lock is then held by whoever tidies up after it.
fn is_dead(owner: &Owner) -> bool {
    let pid = i32::try_from(owner.pid).ok().and_then(Pid::from_raw);
    owner.host == this_process().host && pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
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
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // From here on it goes again if something fails.
        let mut made = Locked { path, file, names: Mutex::default() };
        // Whoever tidies up may look at it right now.
        made.file.lock()?;
        made.file.write_all(serde_json::to_string(&this_process())?.as_bytes())?;
        Ok(made)
    }

    fn names(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.remove(&self.path);
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        let mut names = self.by.names();
        self.by.remove(&self.path);
        names.remove(&self.path);
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
mod tests;
