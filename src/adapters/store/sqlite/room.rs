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

/// Bytes of a log that checkpoints at [`super::open::AUTOCHECKPOINT`] pages, and of one large commit more.
const ROOM: u64 = 6 << 20;
/// Commits after which a process is taken to write so much that room is worth its zeros.
pub const COMMITS: u32 = 64;

/// Gives the log of `folder` its room. The caller holds the write lock.
pub fn make(folder: &Path) -> io::Result<()> {
    let log = OpenOptions::new().write(true).open(folder.join("journal.db-wal"))?;
    extend(&log, ROOM)
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
