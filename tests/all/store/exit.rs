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
