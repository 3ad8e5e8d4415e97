//! How a store is left. Invariant: a process that ends by itself leaves no write-ahead log behind, and
//! does not take long over it.

use std::time::{Duration, Instant};

use boatswain::adapters::store::SqliteStore;
use boatswain::core::ids::Seq;
use boatswain::ports::store::{RunFilter, Store};

use super::{Author, append};

fn wal(folder: &std::path::Path) -> u64 {
    std::fs::metadata(folder.join("journal.db-wal")).map_or(0, |file| file.len())
}

/// A store with a run of `entries`, which has been read too; dropped within the time that is given back.
fn left(folder: &std::path::Path, entries: usize) -> Duration {
    let store = SqliteStore::open(folder).unwrap();
    let mut author = Author::new(1);
    author.create(&store, 1);
    for number in 0..entries / 10 {
        append(&store, author.batch_at(10, 1_000, &[&format!("text {number} {}", "x".repeat(500))])).unwrap();
    }
    assert_eq!(store.read(&author.run, Seq(1)).unwrap().len(), entries + 1);
    assert_eq!(store.runs(&RunFilter::default()).unwrap().len(), 1);
    let begun = Instant::now();
    drop(store);
    begun.elapsed()
}

#[test]
fn a_store_that_is_closed_leaves_no_log_behind() {
    let folder = tempfile::tempdir().unwrap();
    left(folder.path(), 300);
    assert_eq!(wal(folder.path()), 0);
    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(store.runs(&RunFilter::default()).unwrap().len(), 1);
}

#[test]
#[ignore = "prints figures"]
fn exit_figures() {
    let folder = tempfile::tempdir().unwrap();
    let took = left(folder.path(), 10_000);
    println!("10,000 entries at once, then closed: {took:?}, log of {} bytes", wal(folder.path()));
    for round in 0..3 {
        let store = SqliteStore::open(folder.path()).unwrap();
        let run = store.runs(&RunFilter::default()).unwrap()[0].run.clone();
        let mut author = Author::at_end(&store, &run, store.claim(&run).unwrap());
        for _ in 0..20 {
            append(&store, author.batch(1)).unwrap();
        }
        let begun = Instant::now();
        drop(store);
        println!("20 more entries, round {round}: {:?}, log of {} bytes", begun.elapsed(), wal(folder.path()));
        let begun = Instant::now();
        let store = SqliteStore::open(folder.path()).unwrap();
        let found = store.last_of(&run, "budget.raised").unwrap();
        println!("opened and searched for a raise ({}) in {:?}", found.is_some(), begun.elapsed());
        let begun = Instant::now();
        drop(store);
        println!("only looked at: closed in {:?}", begun.elapsed());
    }
}

/// As a power cut or `kill -9` would leave it: a copy of the files while the store is open.
fn copy(folder: &std::path::Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(folder.join(name), to.path().join(name)).unwrap();
    }
    to
}

#[test]
fn a_log_with_room_ahead_no_longer_grows_and_is_read_to_its_last_entry() {
    const ROOM: u64 = 6 << 20;
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let mut author = Author::new(1);
    author.create(&store, 1);
    let text = "x".repeat(4_000);
    for number in 0..80 {
        append(&store, author.batch_at(2, 1_000, &[&format!("{number} {text}")])).unwrap();
    }
    assert_eq!(wal(folder.path()), ROOM);
    // Through several checkpoints; the log starts anew each time.
    for number in 80..2_000 {
        append(&store, author.batch_at(2, 1_000, &[&format!("{number} {text}")])).unwrap();
        if number % 400 == 0 {
            let torn = copy(folder.path());
            let again = SqliteStore::open(torn.path()).unwrap();
            assert_eq!(again.read(&author.run, Seq(1)).unwrap().len(), 2 * (number + 1) + 1);
        }
    }
    assert_eq!(wal(folder.path()), ROOM);
    drop(store);
    assert_eq!(wal(folder.path()), 0);
}
