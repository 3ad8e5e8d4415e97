//! A write that fails. After it nothing is written any more: no effect follows a fact that was lost.

use boatswain::adapters::store::{MemoryStore, SqliteStore};
use boatswain::core::chain::verify;
use boatswain::core::ids::Seq;
use boatswain::ports::store::{Store, StoreError};

use super::{Author, append};
use crate::support::{Folder, program, wait};

#[track_caller]
fn lost<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::WriteFailed { .. })), "expected WriteFailed, found {outcome:?}");
}

#[test]
fn after_a_full_disk_nothing_is_written_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open_bounded(folder.path(), 64).unwrap();
    let (mut full, mut small) = (Author::new(1), Author::new(2));
    full.create(&store, 1);
    small.create(&store, 1);
    let mut durable = 1;
    let failure = loop {
        let text = format!("{durable} {}", "x".repeat(20_000));
        match append(&store, full.batch_at(1, 1, &[&text])) {
            Ok(()) => durable += 1,
            Err(error) => break error,
        }
        assert!(durable < 100, "the disk is never full");
    };
    assert!(failure.to_string().contains("full"), "{failure}");
    lost::<()>(Err(failure));
    assert!(durable > 5);
    // A batch that would fit, of another run that has no part in it.
    lost(append(&store, small.batch(1)));
    lost(store.claim(&small.run).map_err(|error| {
        match error {
            StoreError::Owned { .. } => store
                .claim({
                    store.release(&small.run);
                    &small.run
                })
                .unwrap_err(),
            other => other,
        }
    }));
    let mut third = Author::new(3);
    let first = third.batch(1);
    lost(store.create(third.new_run("report", None), first));
    lost(store.inbox_put(&full.run, "pause", "{}", "me", 1));
    assert_eq!(store.read(&full.run, Seq(1)).unwrap().len(), durable, "reading goes on");
    drop(store);

    let store = SqliteStore::open(folder.path()).unwrap();
    let rows = store.read(&full.run, Seq(1)).unwrap();
    assert_eq!(rows.len(), durable);
    verify(&full.run, &rows).unwrap();
    let mut again = Author::at_end(&store, &full.run, store.claim(&full.run).unwrap());
    append(&store, again.batch(1)).unwrap();
}

#[test]
fn a_journal_that_cannot_be_made_says_why_to_whoever_was_waiting() {
    // It is made beside what the caller does next: a batch may be queued before that has failed, or after.
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join("nowhere/at/all"), folder.path().join("journal.db")).unwrap();
        let store = SqliteStore::open(folder.path()).unwrap();
        let mut author = Author::new(1);
        let first = author.batch(1);
        let error = store.create(author.new_run("report", None), first).unwrap_err();
        let place = folder.path().display().to_string();
        assert!(matches!(&error, StoreError::Unusable { path, .. } if *path == place), "{error}");
        assert!(error.to_string().contains("unable to open"), "{error}");
    }
}

#[test]
fn a_file_that_meets_its_limit_is_said_and_the_run_goes_on_without_it() {
    let folder = Folder::new(
        "schema = 1\n[models.m]\nid = \"offline/x\"\n[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Say {{ item.id }} at length\"\n",
    );
    let rows: String = (1..=60).map(|n| format!("r{n}\n")).collect();
    folder.file("rows.csv", &format!("id\n{rows}"));
    let mut limited = std::process::Command::new("sh");
    folder.prepare(&mut limited);
    // In units of 512 bytes or of 1 KiB, as the shell has it: more than an empty journal takes, less than the run.
    limited.args(["-c", "ulimit -f 160; exec \"$0\" \"$@\"", &program(), "run", "crew.toml", "-q"]);
    let ran = wait(limited.spawn().unwrap()).expect(6);
    assert!(ran.err.contains("lift a limit on sizes of files"), "{}", ran.err);
    assert!(ran.err.contains("go on: bosun resume"), "{}", ran.err);
    folder.bosun(&["resume", "-q"]).expect(0);
    folder.verify();
}

#[test]
fn batches_queued_behind_a_failed_one_fail_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open_bounded(folder.path(), 64).unwrap();
    let (mut one, mut two) = (Author::new(1), Author::new(2));
    one.create(&store, 1);
    two.create(&store, 1);
    let (tell, told) = std::sync::mpsc::channel();
    let huge = "x".repeat(1_000_000);
    for (number, batch) in [one.batch_at(1, 1, &[&huge]), one.batch(1), two.batch(1)].into_iter().enumerate() {
        let tell = tell.clone();
        store.append(batch, Box::new(move |verdict| tell.send((number, verdict)).unwrap()));
    }
    drop(tell);
    let verdicts: Vec<_> = told.iter().collect();
    assert_eq!(verdicts.len(), 3);
    for (number, (told, verdict)) in verdicts.into_iter().enumerate() {
        assert_eq!(told, number);
        lost(verdict);
    }
}

#[test]
fn the_fault_of_the_memory_store_is_as_final() {
    let store = MemoryStore::new();
    let mut author = Author::new(1);
    author.create(&store, 1);
    store.fail_after(2);
    append(&store, author.batch(1)).unwrap();
    append(&store, author.batch(1)).unwrap();
    let third = author.batch(1);
    lost(append(&store, third.clone()));
    lost(append(&store, third));
    lost(store.claim(&author.run));
    assert_eq!(store.read(&author.run, Seq(1)).unwrap().len(), 3);
}

#[test]
fn a_caller_that_panics_or_lets_the_store_go_in_done_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(SqliteStore::open(folder.path()).unwrap());
    let mut author = Author::new(1);
    author.create(&*store, 1);
    store.append(author.batch(1), Box::new(|_| panic!("of the caller, meant to be seen in this test's output")));
    append(&*store, author.batch(1)).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let last = store.clone();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    store.append(
        author.batch(1),
        Box::new(move |verdict| {
            let _ = gone.recv();
            drop(last);
            tell.send(verdict).unwrap();
        }),
    );
    drop(store);
    drop(go);
    told.recv().unwrap().unwrap();
}
