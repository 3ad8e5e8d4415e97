//! Stores and threads that want one run, names that dead processes leave, folders that somebody tidies up.

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
    assert_eq!(names(&folder), 4, "what is owned outlives the store that took it");
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
    assert_eq!(names(&folder), 22, "of the dead process nothing is left");
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
fn a_name_that_could_not_be_removed_does_not_keep_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let (run, owners) = (RunId::from_random(1), Owners::new(folder.path().to_owned()));
    let _other = owners.take(&RunId::from_random(2)).unwrap();
    let lock = owners.take(&run).unwrap();
    let (path, by) = (lock.path.clone(), lock.by.path.clone());
    drop(lock);
    fs::hard_link(by, &path).unwrap();
    assert_eq!(owners.owner(&run), Some(this_process()));
    let lock = owners.take(&run).unwrap();
    assert!(matches!(owners.take(&run), Err(NotTaken::Held(_))));
    drop(lock);
    assert!(!path.exists());
}

#[test]
fn a_run_is_not_taken_for_a_dead_process_s_while_its_neighbour_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    left(&folder, 2);
    let owners = Owners::new(folder.path().to_owned());
    let dead = File::options().read(true).write(true).open(folder.path().join(".0123456789abcdef")).unwrap();
    let gone = Owner { pid: i32::MAX.unsigned_abs(), host: this_process().host };
    fs::write(folder.path().join(".0123456789abcdef"), serde_json::to_string(&gone).unwrap()).unwrap();
    dead.lock().unwrap();
    let neighbour = RunId::from_random(1);
    assert_eq!(owners.look(&neighbour, || dead.unlock().unwrap()), None);
    // Whoever lives is believed at the first look.
    let _lock = owners.take(&neighbour).unwrap();
    assert_eq!(owners.look(&neighbour, || unreachable!()), Some(this_process()));
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
                owners.sweep();
            }
        });
    });
    assert!(taken.load(Ordering::SeqCst) > 0);
}
