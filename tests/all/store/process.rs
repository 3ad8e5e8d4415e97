//! Other processes: this test binary, run again for one ignored test.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use boatswain::adapters::store::SqliteStore;
use boatswain::core::chain::verify;
use boatswain::core::ids::{RunId, Seq};
use boatswain::ports::store::{Epoch, Store, StoreError};

use super::{Author, append};

fn child(test: &str, folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("BOSUN_TEST_FOLDER", folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Runs an ignored test as a user who is not root, and passes its verdict on.
pub fn as_nobody(place: &Path, test: &str, folder: &Path) {
    use std::os::unix::process::CommandExt;
    // Where this binary lives may be closed to other users.
    let copy = place.join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(copy);
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("BOSUN_TEST_FOLDER", folder).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Claims run 1 and appends to it until it is killed, or until whoever started it is gone.
#[test]
#[ignore = "run by the tests of this file"]
fn child_writes_until_it_is_killed() {
    let Ok(folder) = std::env::var("BOSUN_TEST_FOLDER") else { return };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let store = SqliteStore::open(Path::new(&folder)).unwrap();
    let run = RunId::from_random(1);
    let mut author = Author::at_end(&store, &run, store.claim(&run).unwrap());
    loop {
        let text = format!("text of {}", author.after);
        append(&store, author.batch_at(3, 1_000, &[&text])).unwrap();
        println!("durable {}", author.after);
        std::io::stdout().flush().unwrap();
    }
}

/// Entries that the child has said to be durable, once there are at least `enough`.
fn wait_for(child: &mut Child, enough: u64) -> u64 {
    for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
        // The test harness prints "test … ... " without a newline in front of the first.
        if let Some((_, seq)) = line.unwrap().rsplit_once("durable ") {
            let seq = seq.parse().unwrap();
            if seq >= enough {
                return seq;
            }
        }
    }
    panic!("the child ended by itself");
}

#[test]
fn a_killed_process_loses_its_lock_and_nothing_that_it_was_told_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunId::from_random(1);
    {
        let store = SqliteStore::open(folder.path()).unwrap();
        Author::new(1).create(&store, 1);
    }
    let mut child = child("store::process::child_writes_until_it_is_killed", folder.path());
    wait_for(&mut child, 10);
    let store = SqliteStore::open(folder.path()).unwrap();
    match store.claim(&run) {
        Err(StoreError::Owned { owner, .. }) => {
            assert_eq!(owner.pid, child.id());
            assert!(!owner.host.is_empty());
        }
        other => panic!("expected Owned, found {other:?}"),
    }
    assert_eq!(store.owner(&run).unwrap().pid, child.id());
    let told = wait_for(&mut child, 20);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(store.owner(&run), None);
    assert_eq!(store.claim(&run).unwrap(), Epoch(3));
    let rows = store.read(&run, Seq(1)).unwrap();
    assert!(rows.len() as u64 >= told, "{told} entries were said to be durable, {} are there", rows.len());
    verify(&run, &rows).unwrap();
    let mut author = Author::at_end(&store, &run, Epoch(3));
    append(&store, author.batch(1)).unwrap();
}

#[test]
fn a_torn_wal_leaves_whole_batches() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunId::from_random(1);
    {
        let store = SqliteStore::open(folder.path()).unwrap();
        Author::new(1).create(&store, 1);
    }
    let mut child = child("store::process::child_writes_until_it_is_killed", folder.path());
    wait_for(&mut child, 20);
    child.kill().unwrap();
    child.wait().unwrap();
    let wal = fs::read(folder.path().join("journal.db-wal")).unwrap();
    let database = fs::read(folder.path().join("journal.db")).unwrap();
    assert!(wal.len() > 40_000, "the writer checkpoints in the middle of its work");
    let mut lengths = Vec::new();
    for part in 1..8 {
        let torn = tempfile::tempdir().unwrap();
        fs::write(torn.path().join("journal.db"), &database).unwrap();
        fs::write(torn.path().join("journal.db-wal"), &wal[..wal.len() * part / 8 - 7]).unwrap();
        let store = SqliteStore::open(torn.path()).unwrap();
        let rows = store.read(&run, Seq(1)).unwrap();
        verify(&run, &rows).unwrap();
        assert_eq!(rows.len() % 3, 1, "a batch of three is torn");
        let mut author = Author::at_end(&store, &run, store.claim(&run).unwrap());
        append(&store, author.batch(1)).unwrap();
        lengths.push(rows.len());
    }
    assert!(lengths.is_sorted() && lengths[0] < lengths[6], "{lengths:?}");
}

#[test]
fn many_open_a_new_folder_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = folder.path();
            scope.spawn(move || {
                let store = SqliteStore::open(path).unwrap();
                let mut author = Author::new(number);
                author.create(&store, 1);
                append(&store, author.batch(2)).unwrap();
            });
        }
    });
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "more than journal.db and owners is left");
    let store = SqliteStore::open(folder.path()).unwrap();
    for number in 0..8 {
        assert_eq!(store.read(&RunId::from_random(number), Seq(1)).unwrap().len(), 3);
    }
}
