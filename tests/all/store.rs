//! The suite that every store passes. `make` gives another opener of one and the same place each time,
//! as another process would be.

mod damage;
mod exit;
mod full;
mod pots;
mod process;

use std::sync::mpsc;
use std::time::Duration;

use boatswain::adapters::store::{MemoryStore, SqliteStore};
use boatswain::core::chain::{Hash, genesis, link, verify};
use boatswain::core::chat::Blob;
use boatswain::core::ids::{BlobId, RunId, Seq};
use boatswain::core::money::{Amount, NanoUsd, Tokens};
use boatswain::ports::store::{Batch, Done, Epoch, NewRun, Row, RunFilter, RunState, Store, StoreError};

/// Whoever writes a run: knows its last entry, makes batches that follow it.
pub struct Author {
    pub run: RunId,
    pub epoch: Epoch,
    pub after: Seq,
    pub hash: Hash,
}

impl Author {
    pub fn new(number: u64) -> Author {
        let run = RunId::from_random(number);
        Author { epoch: Epoch(1), after: Seq(0), hash: genesis(&run), run }
    }
    /// Takes the run over where its journal ends.
    pub fn at_end(store: &dyn Store, run: &RunId, epoch: Epoch) -> Author {
        let rows = store.read(run, Seq(1)).unwrap();
        let hash = verify(run, &rows).unwrap();
        Author { run: run.clone(), epoch, after: rows.last().map_or(Seq(0), |row| row.seq), hash }
    }
    pub fn batch(&mut self, rows: usize) -> Batch {
        self.batch_at(rows, 1_000, &[])
    }
    pub fn batch_at(&mut self, rows: usize, at_ms: u64, texts: &[&str]) -> Batch {
        let blobs: Vec<Blob> = texts.iter().map(|text| Blob::new(*text)).collect();
        let after = self.after;
        let row = |_| {
            let seq = self.after.next();
            let refers: Vec<String> = blobs.iter().map(|blob| blob.id.to_string()).collect();
            let payload = format!("{{\"v\":1,\"n\":{seq},\"texts\":{refers:?}}}");
            self.hash = link(&self.hash, seq, at_ms, "task.finished", payload.as_bytes());
            self.after = seq;
            Row { seq, at_ms, kind: "task.finished".into(), payload: payload.into(), hash: self.hash }
        };
        let rows = (0..rows).map(row).collect();
        let (run, epoch) = (self.run.clone(), self.epoch);
        Batch { run, epoch, after, rows, blobs, spent: Amount::default(), state: None }
    }
    pub fn new_run(&self, crew: &str, key: Option<&str>) -> NewRun {
        NewRun {
            run: self.run.clone(),
            crew: crew.into(),
            key: key.map(str::to_owned),
            inputs: BlobId::of(b"{}"),
            offline: true,
            cap: "$1.00".into(),
            started_ms: 1_000,
        }
    }
    /// Creates the run with `rows` entries.
    pub fn create(&mut self, store: &dyn Store, rows: usize) {
        let first = self.batch(rows);
        self.epoch = store.create(self.new_run("report", None), first).unwrap();
    }
}

/// Appends and waits for the verdict.
pub fn append(store: &dyn Store, batch: Batch) -> Result<(), StoreError> {
    let (tell, told) = mpsc::channel();
    store.append(batch, Box::new(move |verdict| tell.send(verdict).unwrap()));
    told.recv_timeout(Duration::from_secs(60)).expect("`done` was not called")
}

pub fn conformance(make: impl Fn() -> Box<dyn Store>) {
    let (a, b) = (make(), make());
    entries_come_back_as_they_were_written(&*a);
    a_batch_that_does_not_follow_is_refused_whole(&*a);
    appends_of_a_run_keep_their_order(&*a);
    many_runs_share_the_store(&*a);
    what_does_not_exist_is_named(&*a);
    totals_and_lists(&*a);
    what_follows_a_run_may_be_queued_behind_its_making(&*a, &*b);
    keys_are_unique_per_crew(&*a, &*b);
    one_owner(&*a, &*b);
    a_later_claim_fences_the_earlier(&*a, &*b);
    commands_reach_the_owner(&*a, &*b);
    pots::a_pot_is_divided_and_never_beyond_its_cap(&*a, &*b);
    a_clock_that_jumps_back_is_stored_as_is(&*a);
    texts_are_stored_once_and_gc_takes_what_nobody_needs(&*a, &*b);
    // Last: it closes both.
    a_journal_outlives_its_opener(&make, a, b);
}

fn entries_come_back_as_they_were_written(store: &dyn Store) {
    let mut author = Author::new(100);
    let first = author.batch(2);
    let second = author.batch_at(3, 2_000, &["one", "two"]);
    assert_eq!(store.create(author.new_run("report", None), first.clone()).unwrap(), Epoch(1));
    append(store, second.clone()).unwrap();
    let rows = store.read(&author.run, Seq(1)).unwrap();
    assert_eq!(rows, [first.rows, second.rows].concat());
    assert_eq!(verify(&author.run, &rows), Ok(author.hash));
    assert_eq!(store.read(&author.run, Seq(4)).unwrap(), rows[3..]);
    assert_eq!(store.read(&author.run, Seq(0)).unwrap(), rows);
    assert_eq!(store.read(&author.run, Seq(6)).unwrap(), []);
    assert_eq!(store.read(&author.run, Seq(u64::MAX)).unwrap(), []);
    assert_eq!(store.blob(&BlobId::of(b"two")).unwrap().as_deref(), Some("two"));
}

fn a_batch_that_does_not_follow_is_refused_whole(store: &dyn Store) {
    let mut author = Author::new(200);
    author.create(store, 2);
    let good = author.batch(1);
    let moved = |batch: Batch| match append(store, batch) {
        Err(StoreError::Moved { expected, found, .. }) => (expected.0, found.0),
        other => panic!("expected Moved, found {other:?}"),
    };
    let late = Batch { after: Seq(1), rows: vec![Row { seq: Seq(2), ..good.rows[0].clone() }], ..good.clone() };
    assert_eq!(moved(late), (1, 2));
    let early = Batch { after: Seq(5), rows: vec![Row { seq: Seq(6), ..good.rows[0].clone() }], ..good.clone() };
    assert_eq!(moved(early), (5, 2));
    let gap = [good.rows[0].clone(), Row { seq: Seq(5), ..good.rows[0].clone() }];
    assert_eq!(moved(Batch { rows: gap.into(), blobs: vec![Blob::new("of a refused batch")], ..good.clone() }), (4, 2));
    assert_eq!(store.blob(&BlobId::of(b"of a refused batch")).unwrap(), None);
    let mut other = Author::new(201);
    let first = other.batch(2);
    let refused = store.create(other.new_run("report", None), Batch { after: Seq(1), ..first.clone() });
    assert!(matches!(refused, Err(StoreError::Moved { .. })), "{refused:?}");
    assert!(matches!(store.read(&other.run, Seq(1)), Err(StoreError::NoRun { .. })), "a refused run exists");
    assert_eq!(store.owner(&other.run), None, "a refused run is owned");
    let early = append(store, Batch { epoch: Epoch(1), ..first.clone() });
    assert!(matches!(early, Err(StoreError::NoRun { .. })), "a refused run is written: {early:?}");
    store.create(other.new_run("report", None), first).unwrap();
    append(store, good).unwrap();
    assert_eq!(store.read(&author.run, Seq(1)).unwrap().len(), 3);
}

fn appends_of_a_run_keep_their_order(store: &dyn Store) {
    let mut author = Author::new(300);
    author.create(store, 1);
    let (tell, told) = mpsc::channel();
    for number in 0..50 {
        let (batch, tell) = (author.batch(3), tell.clone());
        store.append(batch, Box::new(move |verdict| tell.send((number, verdict)).unwrap()));
    }
    drop(tell);
    let verdicts: Vec<_> = told.iter().collect();
    assert_eq!(verdicts.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    assert!(verdicts.iter().all(|(_, verdict)| verdict.is_ok()), "{verdicts:?}");
    let rows = store.read(&author.run, Seq(1)).unwrap();
    assert_eq!(rows.len(), 151);
    assert_eq!(verify(&author.run, &rows), Ok(author.hash));
}

fn many_runs_share_the_store(store: &dyn Store) {
    std::thread::scope(|scope| {
        for number in 0..64 {
            scope.spawn(move || {
                let mut author = Author::new(1_000 + number);
                author.create(store, 1);
                for _ in 0..8 {
                    let batch = author.batch_at(4, 2_000, &["shared by all", &format!("{number}/{}", author.after)]);
                    // A refusal among the others' batches, in whatever transaction it lands.
                    let refused = append(store, Batch { after: Seq(999), ..batch.clone() });
                    assert!(matches!(refused, Err(StoreError::Moved { .. })), "{refused:?}");
                    append(store, batch).unwrap();
                }
            });
        }
    });
    for number in 0..64 {
        let run = RunId::from_random(1_000 + number);
        let rows = store.read(&run, Seq(1)).unwrap();
        assert_eq!(rows.len(), 33);
        verify(&run, &rows).unwrap();
    }
}

fn what_does_not_exist_is_named(store: &dyn Store) {
    let mut author = Author::new(400);
    let run = author.run.clone();
    let no_run = |error: StoreError| match error {
        StoreError::NoRun { run } => run == author.run.to_string(),
        other => panic!("expected NoRun, found {other:?}"),
    };
    assert!(no_run(store.claim(&run).unwrap_err()));
    assert!(no_run(store.read(&run, Seq(1)).unwrap_err()));
    assert!(no_run(store.inbox_put(&run, "pause", "{}", "me", 1).unwrap_err()));
    assert!(no_run(store.set_notified(&run, Seq(1)).unwrap_err()));
    assert!(no_run(store.notified(&run).unwrap_err()));
    assert_eq!(store.inbox(&run).unwrap(), []);
    assert_eq!(store.owner(&run), None, "the refused claim left its lock");
    assert_eq!(store.blob(&BlobId::of(b"never written")).unwrap(), None);
    let batch = author.batch(1);
    assert!(matches!(append(store, batch), Err(StoreError::NoRun { .. })));
}

fn totals_and_lists(store: &dyn Store) {
    let (mut old, mut new) = (Author::new(501), Author::new(500));
    let first = old.batch(1);
    store.create(old.new_run("lists", Some("monday")), first).unwrap();
    let first = Batch { state: Some(RunState::WaitingRate), ..new.batch_at(1, 9, &[]) };
    store.create(new.new_run("lists", Some("tuesday")), first).unwrap();
    let spent = Amount { tokens: Tokens(10), usd: NanoUsd(7), calls: 1 };
    for _ in 0..2 {
        append(store, Batch { spent, ..old.batch_at(1, 3_000, &[]) }).unwrap();
    }
    let spent = Amount { tokens: Tokens(1), ..Amount::default() };
    append(store, Batch { spent, state: Some(RunState::Paused), ..old.batch(0) }).unwrap();
    let listed = |filter: RunFilter| store.runs(&RunFilter { crew: Some("lists".into()), ..filter }).unwrap();
    let all = listed(RunFilter::default());
    assert_eq!(all.iter().map(|row| row.run.clone()).collect::<Vec<_>>(), [new.run.clone(), old.run.clone()]);
    assert_eq!(all[0].state, RunState::WaitingRate);
    let row = &all[1];
    assert_eq!(row.spent, Amount { tokens: Tokens(21), usd: NanoUsd(14), calls: 2 });
    assert_eq!((row.state, row.last, row.started_ms, row.updated_ms), (RunState::Paused, Seq(3), 1_000, 3_000));
    assert_eq!((&*row.cap, row.key.as_deref(), row.offline), ("$1.00", Some("monday"), true));
    assert_eq!(row.inputs, BlobId::of(b"{}"));
    assert_eq!(listed(RunFilter { limit: Some(1), ..RunFilter::default() }), all[..1]);
    assert_eq!(listed(RunFilter { key: Some("monday".into()), ..RunFilter::default() }), all[1..]);
    let prefix = Some(old.run.as_str()[..4].to_ascii_lowercase());
    assert_eq!(listed(RunFilter { prefix, ..RunFilter::default() }), all[1..]);
    let wild = Some("%".to_owned());
    assert_eq!(listed(RunFilter { prefix: wild, ..RunFilter::default() }), []);
    assert_eq!(store.notified(&old.run).unwrap(), Seq(0));
    store.set_notified(&old.run, Seq(2)).unwrap();
    append(store, old.batch(1)).unwrap();
    assert_eq!(store.notified(&old.run).unwrap(), Seq(2));
}

fn what_follows_a_run_may_be_queued_behind_its_making(a: &dyn Store, b: &dyn Store) {
    let (mut one, mut two) = (Author::new(610), Author::new(611));
    let (tell, told) = mpsc::channel();
    for author in [&mut one, &mut two] {
        let (first, second) = (author.batch(1), author.batch(2));
        let done = || -> Done {
            let tell = tell.clone();
            Box::new(move |how| tell.send(how).unwrap())
        };
        let epoch = a.begin(author.new_run("queued", Some("one key")), first, done()).unwrap();
        a.append(Batch { epoch, ..second }, done());
    }
    let how = [(); 4].map(|()| told.recv_timeout(Duration::from_secs(60)).expect("`done` was not called"));
    assert!(matches!(&how[..2], [Ok(()), Ok(())]), "{how:?}");
    assert!(matches!(&how[2..], [Err(StoreError::KeyTaken { .. }), Err(StoreError::NoRun { .. })]), "{how:?}");
    assert_eq!(b.read(&one.run, Seq(1)).unwrap().len(), 3);
    assert!(b.owner(&one.run).is_some() && b.owner(&two.run).is_none());
}

fn keys_are_unique_per_crew(a: &dyn Store, b: &dyn Store) {
    let (mut one, mut two, mut three) = (Author::new(600), Author::new(601), Author::new(602));
    let first = one.batch(1);
    a.create(one.new_run("report", Some("2026-01")), first).unwrap();
    let first = two.batch(1);
    match b.create(two.new_run("report", Some("2026-01")), first.clone()) {
        Err(StoreError::KeyTaken { key, crew, run }) => {
            assert_eq!((&*key, &*crew, run), ("2026-01", "report", one.run))
        }
        other => panic!("expected KeyTaken, found {other:?}"),
    }
    assert_eq!(b.owner(&two.run), None);
    b.create(two.new_run("report", Some("2026-02")), first).unwrap();
    let first = three.batch(1);
    b.create(three.new_run("other_crew", Some("2026-01")), first).unwrap();
}

fn one_owner(a: &dyn Store, b: &dyn Store) {
    let mut author = Author::new(700);
    author.create(a, 1);
    let owned = |outcome: Result<Epoch, StoreError>| match outcome {
        Err(StoreError::Owned { owner, .. }) => assert_eq!(owner.pid, std::process::id()),
        other => panic!("expected Owned, found {other:?}"),
    };
    owned(a.claim(&author.run));
    owned(b.claim(&author.run));
    let first = Author::new(700).batch(1);
    owned(b.create(author.new_run("report", None), first.clone()));
    assert_eq!(b.owner(&author.run).unwrap().pid, std::process::id());
    b.release(&author.run);
    owned(b.claim(&author.run));
    a.release(&author.run);
    assert_eq!(b.owner(&author.run), None);
    let again = b.create(author.new_run("report", None), first);
    assert!(matches!(again, Err(StoreError::Moved { found: Seq(1), .. })), "{again:?}");
    assert_eq!(b.owner(&author.run), None, "a refused run is owned");
    let behind = Batch { epoch: Epoch(1), ..author.batch(1) };
    let behind = append(b, behind);
    assert!(matches!(behind, Err(StoreError::Fenced { .. })), "it landed in the other run: {behind:?}");
    assert_eq!(b.claim(&author.run).unwrap(), Epoch(3));
    owned(a.claim(&author.run));
    b.release(&author.run);
}

fn a_later_claim_fences_the_earlier(a: &dyn Store, b: &dyn Store) {
    let mut author = Author::new(800);
    author.create(a, 1);
    let earlier = author.batch(1);
    append(a, earlier).unwrap();
    a.release(&author.run);
    let mut later = Author::at_end(b, &author.run, b.claim(&author.run).unwrap());
    let late = author.batch(1);
    assert!(matches!(append(a, late.clone()), Err(StoreError::Fenced { .. })));
    append(b, later.batch(2)).unwrap();
    assert!(matches!(append(a, late), Err(StoreError::Fenced { .. })));
    b.release(&author.run);
    let mut third = Author::at_end(a, &author.run, a.claim(&author.run).unwrap());
    append(a, third.batch(1)).unwrap();
    let rows = a.read(&author.run, Seq(1)).unwrap();
    assert_eq!(rows.len(), 5);
    assert_eq!(verify(&author.run, &rows), Ok(third.hash));
}

fn commands_reach_the_owner(a: &dyn Store, b: &dyn Store) {
    let (mut author, mut other) = (Author::new(900), Author::new(901));
    author.create(a, 1);
    other.create(a, 1);
    let before = a.version().unwrap();
    append(a, author.batch(1)).unwrap();
    assert_eq!(a.version().unwrap(), before, "its own writes wake the owner up");
    let first = b.inbox_put(&author.run, "pause", "{\"why\":\"lunch\"}", "me@here 7", 5).unwrap();
    assert_ne!(a.version().unwrap(), before, "the owner is not woken up");
    let second = b.inbox_put(&author.run, "cancel", "{}", "me@here 8", 4).unwrap();
    // So is it by its own process's commands: a host, or whoever sits at its terminal.
    let before = a.version().unwrap();
    let own = a.inbox_put(&author.run, "pause", "{}", "me", 4).unwrap();
    let once = a.inbox_put_once(&author.run, "decide:A", "{}", "me", 4).unwrap();
    assert!(a.version().unwrap() >= before + 2, "a process does not hear itself");
    [own, once.unwrap()].into_iter().for_each(|id| a.inbox_done(&author.run, id).unwrap());
    b.inbox_put(&other.run, "cancel", "{}", "me@here 9", 6).unwrap();
    assert!(second > first);
    let rows = a.inbox(&author.run).unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.id, &*row.kind, row.at_ms)).collect::<Vec<_>>(),
        [(first, "pause", 5), (second, "cancel", 4)]
    );
    assert_eq!((&*rows[0].payload, &*rows[0].by), ("{\"why\":\"lunch\"}", "me@here 7"));
    a.inbox_done(&author.run, second).unwrap();
    assert_eq!(a.inbox(&author.run).unwrap(), rows[..1], "an older one stays");
    a.inbox_done(&author.run, first).unwrap();
    assert_eq!(a.inbox(&author.run).unwrap(), []);
    assert_eq!(b.inbox(&other.run).unwrap().len(), 1, "another run's command was taken");
    let once = |store: &dyn Store| store.inbox_put_once(&author.run, "decide:X", "{}", "me", 6).unwrap();
    let first = once(b).expect("nothing of the kind waits");
    assert_eq!(once(a), None, "a second one is refused");
    assert!(a.inbox_put_once(&author.run, "decide:Y", "{}", "me", 6).unwrap().is_some());
    assert!(a.inbox_put_once(&other.run, "decide:X", "{}", "me", 6).unwrap().is_some());
    a.inbox_done(&author.run, first).unwrap();
    assert!(once(a).is_some(), "the first one is taken");
    let third = b.inbox_put(&author.run, "pause", "{}", "me@here 7", 5).unwrap();
    assert!(third > second, "an id came back: its command would be taken for done");
}

fn a_clock_that_jumps_back_is_stored_as_is(store: &dyn Store) {
    let mut author = Author::new(950);
    author.create(store, 1);
    for at in [u64::MAX, 5, 0, 7] {
        append(store, author.batch_at(1, at, &[])).unwrap();
    }
    let rows = store.read(&author.run, Seq(2)).unwrap();
    assert_eq!(rows.iter().map(|row| row.at_ms).collect::<Vec<_>>(), [u64::MAX, 5, 0, 7]);
    assert_eq!(verify(&author.run, &store.read(&author.run, Seq(1)).unwrap()), Ok(author.hash));
}

fn texts_are_stored_once_and_gc_takes_what_nobody_needs(a: &dyn Store, b: &dyn Store) {
    let finish = |number, at_ms, texts: &[&str], state| {
        let mut author = Author::new(number);
        let first = author.batch_at(1, at_ms, texts);
        let bytes = first.rows[0].payload.len() as u64;
        a.create(author.new_run("gc", Some(&number.to_string())), Batch { state, ..first }).unwrap();
        a.release(&author.run);
        (author.run, bytes)
    };
    let (old, old_bytes) = finish(2_000, 10, &["in both", "only old", "only old"], Some(RunState::Completed));
    let (young, young_bytes) = finish(2_001, 30, &["in both"], Some(RunState::Failed));
    let (open, _) = finish(2_002, 10, &["of an open run"], Some(RunState::Paused));
    let (owned, _) = finish(2_003, 10, &["of an owned run"], Some(RunState::Cancelled));
    a.claim(&owned).unwrap();
    let dry = b.gc(20, true).unwrap();
    assert_eq!((&dry.runs, dry.blobs, dry.bytes), (&vec![old.clone()], 1, old_bytes + 8));
    assert!(a.read(&old, Seq(1)).is_ok(), "a dry run removed");
    assert_eq!(b.gc(20, false).unwrap(), dry);
    assert!(matches!(a.read(&old, Seq(1)), Err(StoreError::NoRun { .. })));
    assert_eq!(a.blob(&BlobId::of(b"only old")).unwrap(), None);
    assert_eq!(a.blob(&BlobId::of(b"in both")).unwrap().as_deref(), Some("in both"));
    assert_eq!(b.gc(20, false).unwrap().runs, []);
    let last = b.gc(31, false).unwrap();
    assert_eq!((last.runs, last.blobs, last.bytes), (vec![young], 1, young_bytes + 7));
    assert_eq!(a.blob(&BlobId::of(b"in both")).unwrap(), None);
    for run in [open, owned] {
        assert_eq!(a.read(&run, Seq(1)).unwrap().len(), 1, "gc took a run that is not over");
    }
    // What a writer remembers of texts that came again is not believed once they have gone, whoever took them.
    for (number, collector) in [(2_000, b), (2_004, a), (2_005, b)] {
        let (run, _) = finish(number, 10, &["in both", "in both"], Some(RunState::Completed));
        assert_eq!(a.blob(&BlobId::of(b"in both")).unwrap().as_deref(), Some("in both"));
        assert_eq!(collector.gc(20, false).unwrap().runs, [run]);
        assert_eq!(a.blob(&BlobId::of(b"in both")).unwrap(), None);
    }
    finish(2_000, 10, &[], Some(RunState::Running));
}

fn a_journal_outlives_its_opener(make: &impl Fn() -> Box<dyn Store>, a: Box<dyn Store>, b: Box<dyn Store>) {
    let mut author = Author::new(3_000);
    author.create(&*a, 1);
    let (tell, told) = mpsc::channel();
    a.append(author.batch_at(3, 1, &["kept"]), Box::new(move |verdict| tell.send(verdict).unwrap()));
    drop((a, b));
    told.recv().expect("`done` was not called").expect("what was queued at the end was not written");
    let store = make();
    assert_eq!(store.owner(&author.run), None);
    let mut author = Author::at_end(&*store, &author.run, store.claim(&author.run).unwrap());
    assert_eq!((author.after, author.epoch), (Seq(4), Epoch(2)));
    append(&*store, author.batch(1)).unwrap();
    assert_eq!(store.blob(&BlobId::of(b"kept")).unwrap().as_deref(), Some("kept"));
}

#[test]
fn memory_conforms() {
    let place = MemoryStore::new();
    conformance(|| Box::new(place.another()));
}

#[test]
fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance(|| Box::new(SqliteStore::open(folder.path()).unwrap()));
}
