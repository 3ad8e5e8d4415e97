//! Files that are not what was written. Nothing panics, nothing is changed, the message says where and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use boatswain::adapters::store::SqliteStore;
use boatswain::core::chain::verify;
use boatswain::core::ids::Seq;
use boatswain::ports::store::{RunFilter, Store, StoreError};

use super::process::as_nobody;
use super::{Author, append};

/// A closed store with one run of ten entries, each with a text of its own.
fn written(folder: &Path) -> Author {
    let store = SqliteStore::open(folder).unwrap();
    let mut author = Author::new(1);
    author.create(&store, 1);
    for number in 0..9 {
        let text = format!("text {number} {}", "y".repeat(3_000));
        append(&store, author.batch_at(1, 1_000, &[&text])).unwrap();
    }
    author
}

fn change(folder: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(folder.join("journal.db")).unwrap();
    assert_ne!(conn.execute(sql, []).unwrap(), 0, "nothing was changed");
}

#[track_caller]
fn unusable(folder: &Path, says: &str) {
    match SqliteStore::open(folder).map(drop) {
        Err(StoreError::Unusable { path, why }) => {
            assert_eq!(path, folder.display().to_string());
            assert!(why.contains(says), "`{why}` does not say `{says}`");
        }
        other => panic!("expected Unusable, found {other:?}"),
    }
}

#[test]
fn the_state_folder_is_the_users_own() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("deep/.bosun");
    drop(SqliteStore::open(&folder).unwrap());
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["journal.db", "owners"], "a closed store leaves no WAL");
}

#[test]
fn changed_removed_and_swapped_entries_are_found_by_the_chain() {
    for (sql, at) in [
        ("UPDATE events SET payload = replace(payload, '\"v\":1', '\"v\":3') WHERE id & 0xffffffff = 4", 4),
        ("UPDATE events SET at = at + 1 WHERE id & 0xffffffff = 7", 7),
        ("DELETE FROM events WHERE id & 0xffffffff = 5", 5),
        (
            "UPDATE events SET payload = (SELECT e.payload FROM events e WHERE e.id = events.id - 1) WHERE id & 15 = 9",
            9,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let author = written(folder.path());
        change(folder.path(), sql);
        let store = SqliteStore::open(folder.path()).unwrap();
        let rows = store.read(&author.run, Seq(1)).unwrap();
        assert_eq!(verify(&author.run, &rows).unwrap_err().seq, Seq(at), "after {sql}");
    }
}

#[test]
fn entries_cut_off_at_the_end_are_missed_by_the_runs_own_record() {
    let folder = tempfile::tempdir().unwrap();
    let author = written(folder.path());
    change(folder.path(), "DELETE FROM events WHERE id & 0xffffffff > 8");
    let store = SqliteStore::open(folder.path()).unwrap();
    let rows = store.read(&author.run, Seq(1)).unwrap();
    assert!(verify(&author.run, &rows).is_ok());
    assert_eq!((rows.len(), store.runs(&RunFilter::default()).unwrap()[0].last), (8, Seq(10)));
}

#[test]
fn a_changed_text_is_damaged_and_its_entry_is_named() {
    for sql in [
        "UPDATE blobs SET text = replace(text, 'text 3', 'text 4') WHERE text LIKE 'text 3%'",
        "UPDATE blobs SET text = CAST(x'ff' AS TEXT) WHERE text LIKE 'text 3%'",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let author = written(folder.path());
        let text = format!("text 3 {}", "y".repeat(3_000));
        let id = boatswain::core::ids::BlobId::of(text.as_bytes());
        assert_eq!(SqliteStore::open(folder.path()).unwrap().blob(&id).unwrap().as_deref(), Some(&*text));
        change(folder.path(), sql);
        match SqliteStore::open(folder.path()).unwrap().blob(&id) {
            Err(StoreError::Damaged { run, seq, why }) => {
                assert_eq!((run, seq), (author.run, Seq(5)));
                assert!(why.contains(&id.to_string()), "{why}");
            }
            other => panic!("expected Damaged, found {other:?}"),
        }
    }
}

#[test]
fn a_damaged_record_is_its_own_runs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let author = written(folder.path());
    let store = SqliteStore::open(folder.path()).unwrap();
    let mut other = Author::new(2);
    other.create(&store, 1);
    drop(store);
    change(folder.path(), &format!("UPDATE runs SET inputs = x'00' WHERE run = '{}'", other.run));
    let store = SqliteStore::open(folder.path()).unwrap();
    let named = |run: &str| store.runs(&RunFilter { prefix: Some(run.to_owned()), ..RunFilter::default() });
    assert_eq!(named(author.run.as_str()).unwrap().len(), 1);
    assert_eq!(store.runs(&RunFilter::default()).unwrap().len(), 1, "the others are listed");
    let error = named(other.run.as_str()).unwrap_err().to_string();
    assert!(error.contains(other.run.as_str()) && error.contains("`inputs`") && error.contains("backup"), "{error}");
}

#[test]
fn an_entry_that_is_no_entry_is_damaged() {
    for sql in [
        "UPDATE events SET hash = x'00' WHERE id & 0xffffffff = 6",
        "UPDATE events SET kind = CAST(x'ff' AS TEXT) WHERE id & 0xffffffff = 6",
        "UPDATE events SET at = 'noon' WHERE id & 0xffffffff = 6",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let author = written(folder.path());
        change(folder.path(), sql);
        let store = SqliteStore::open(folder.path()).unwrap();
        match store.read(&author.run, Seq(1)) {
            Err(StoreError::Damaged { seq, .. }) => assert_eq!(seq, Seq(6), "after {sql}"),
            other => panic!("expected Damaged after {sql}, found {other:?}"),
        }
        assert_eq!(store.read(&author.run, Seq(7)).unwrap().len(), 4);
    }
}

#[test]
fn a_torn_file_is_an_error_wherever_it_was_cut() {
    let whole = tempfile::tempdir().unwrap();
    let author = written(whole.path());
    let bytes = fs::read(whole.path().join("journal.db")).unwrap();
    let mut refused = 0;
    for length in [1, 99, 100, 4_095, 4_096, 5_000, 8_192, bytes.len() / 2, bytes.len() - 4_096, bytes.len() - 1] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("journal.db"), &bytes[..length]).unwrap();
        let whole = SqliteStore::open(folder.path()).and_then(|store| {
            let rows = store.read(&author.run, Seq(1))?;
            for text in 0..9 {
                let text = format!("text {text} {}", "y".repeat(3_000));
                let id = boatswain::core::ids::BlobId::of(text.as_bytes());
                store.blob(&id)?;
            }
            Ok(rows.len())
        });
        match whole {
            Err(StoreError::Unusable { .. } | StoreError::Damaged { .. }) => refused += 1,
            other => panic!("cut to {length} of {}: {other:?}", bytes.len()),
        }
    }
    assert_eq!(refused, 10);
}

#[test]
fn what_is_not_a_journal_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let garbage = "Dear diary, ".repeat(1_000);
    fs::write(&path, &garbage).unwrap();
    unusable(folder.path(), "not a Bosun journal: move it away");
    assert_eq!(fs::read(&path).unwrap(), garbage.as_bytes());

    let folder = tempfile::tempdir().unwrap();
    rusqlite::Connection::open(folder.path().join("journal.db"))
        .unwrap()
        .execute_batch("CREATE TABLE cats(name)")
        .unwrap();
    unusable(folder.path(), "another program's database");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("journal.db"), "").unwrap();
    unusable(folder.path(), "put a backup in its place");

    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("journal.db")).unwrap();
    unusable(folder.path(), "check owner");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state"), "a file").unwrap();
    unusable(&folder.path().join("state"), "a folder is needed");
}

#[test]
fn a_newer_format_is_named_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    rusqlite::Connection::open(folder.path().join("journal.db"))
        .unwrap()
        .pragma_update(None, "user_version", 2)
        .unwrap();
    let bytes = fs::read(folder.path().join("journal.db")).unwrap();
    match SqliteStore::open(folder.path()).map(drop) {
        Err(StoreError::Newer { found: 2, known: 1, .. }) => {}
        other => panic!("expected Newer, found {other:?}"),
    }
    assert_eq!(fs::read(folder.path().join("journal.db")).unwrap(), bytes);
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_be_so() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let new = place.path().join("new");
    let old = place.path().join("old");
    fs::create_dir(&new).unwrap();
    written(&old);
    for (path, mode) in [(&new, 0o555), (&old.join("owners"), 0o555), (&old.join("journal.db"), 0o444), (&old, 0o555)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    // Root may write anywhere, so the look is taken by somebody who may not.
    for folder in [&new, &old] {
        as_nobody(place.path(), "store::damage::child_finds_a_folder_unusable", folder);
    }
}

#[test]
#[ignore = "run by a_folder_that_cannot_be_written_is_said_to_be_so"]
fn child_finds_a_folder_unusable() {
    if let Ok(folder) = std::env::var("BOSUN_TEST_FOLDER") {
        unusable(Path::new(&folder), "write");
    }
}
