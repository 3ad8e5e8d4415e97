//! Room in the write-ahead log. Invariant: only what lies behind the file's end is written, it is zeros,
//! and nobody else can write meanwhile: SQLite reads the log up to the first frame that does not fit the
//! ones before it, so zeros are no frames.
//!
//! A commit that makes the file longer syncs its length and its extents as well, which costs two more
//! writes and a third of the time. In a log that has its length, each commit is one write and one sync.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Bytes of a log that checkpoints at [`super::open::AUTOCHECKPOINT`] pages, and of one large commit more.
pub const ROOM: u64 = 6 << 20;
/// Commits after which a process is taken to write so much that room is worth its zeros.
pub const COMMITS: u32 = 64;
/// Bytes of a log with the answers of some hundred calls.
pub const FOR_A_CROWD: u64 = 2 << 20;
/// Without work for this long, the calls of a crowd are out: there is time to write zeros, which takes two.
pub const QUIET: Duration = Duration::from_millis(20);
/// So many batches in one transaction are a crowd of calls.
const CROWD: usize = 32;

/// Whether a crowd of calls has left whose answers will come as close together: they find room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    #[default]
    Unneeded,
    Wanted,
    Tried,
}
impl Room {
    /// So many batches were written together.
    pub fn after(&mut self, batches: usize) {
        if *self == Room::Unneeded && batches >= CROWD {
            *self = Room::Wanted;
        }
    }
}

/// Gives the log of `folder` at least `to` bytes. The caller holds the write lock.
pub fn make(folder: &Path, to: u64) -> io::Result<()> {
    let log = OpenOptions::new().write(true).open(folder.join("journal.db-wal"))?;
    extend(&log, to)
}

fn extend(log: &File, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut end = log.metadata()?.len();
    while end < to {
        let some = &ZEROS[..usize::try_from(to - end).unwrap_or(ZEROS.len()).min(ZEROS.len())];
        log.write_all_at(some, end)?;
        end += some.len() as u64;
    }
    log.sync_data()
}
