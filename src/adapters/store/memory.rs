//! A store without a disk, for tests and for runs that nobody needs to resume. Invariant: it refuses
//! what the SQLite store refuses; `append` is decided, and `done` called, before it returns.
//!
//! [`MemoryStore::another`] is a second opener of the same place, as another process would be.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lock::this_process;
use crate::core::ids::{BlobId, RunId, Seq};
use crate::core::ledger::{Day, PotRow, divide};
use crate::core::money::Amount;
use crate::ports::store::{
    Batch, Done, Epoch, Garbage, InboxRow, NewRun, Owner, PotAsk, PotShare, Row, RunFilter, RunRow, RunState, Store,
    StoreError,
};

#[derive(Default)]
struct Place {
    runs: HashMap<RunId, Run>,
    blobs: BTreeMap<BlobId, Arc<str>>,
    keys: HashMap<(String, String), RunId>,
    /// Which opener holds a run.
    held: HashMap<RunId, u64>,
    /// By crew and day: each run's row, and the entry of its last ask.
    pots: HashMap<(String, Day), HashMap<RunId, (PotRow, Seq)>>,
    openers: u64,
    created: u64,
    commands: u64,
    writes: u64,
}

struct Run {
    row: RunRow,
    number: u64,
    epoch: Epoch,
    rows: Vec<Row>,
    edges: BTreeSet<BlobId>,
    inbox: Vec<InboxRow>,
    notified: Seq,
}

/// What this opener alone knows.
#[derive(Default)]
struct Own {
    writes: u64,
    /// Of them commands.
    commands: u64,
    /// Appends that still succeed; `None` is no limit.
    left: Option<u64>,
    failed: Option<StoreError>,
}

pub struct MemoryStore {
    place: Arc<Mutex<Place>>,
    own: Mutex<Own>,
    opener: u64,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore { place: Arc::default(), own: Mutex::default(), opener: 0 }
    }

    /// Another opener of the same place. What it holds is let go when it is dropped.
    pub fn another(&self) -> MemoryStore {
        let mut place = self.place();
        place.openers += 1;
        MemoryStore { place: self.place.clone(), own: Mutex::default(), opener: place.openers }
    }

    /// After `n` more appends that succeed, every write of this opener fails, as on a full disk.
    pub fn fail_after(&self, n: u64) {
        self.own().left = Some(n);
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails once the fault hook has struck, and counts a write otherwise.
    fn write<T>(&self, work: impl FnOnce(&mut Place) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut own = self.own();
        if let Some(error) = &own.failed {
            return Err(error.clone());
        }
        let mut place = self.place();
        let value = work(&mut place)?;
        place.writes += 1;
        own.writes += 1;
        Ok(value)
    }

    fn append_now(&self, batch: Batch) -> Result<(), StoreError> {
        let mut own = self.own();
        if own.left == Some(0) && own.failed.is_none() {
            own.failed = Some(StoreError::WriteFailed { why: "the disk of this test is full".to_owned() });
        }
        drop(own);
        self.write(|place| place.append(batch))?;
        let mut own = self.own();
        own.left = own.left.map(|left| left.saturating_sub(1));
        Ok(())
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        let opener = self.opener;
        self.place().held.retain(|_, holder| *holder != opener);
    }
}

impl Place {
    fn run(&self, run: &RunId) -> Result<&Run, StoreError> {
        self.runs.get(run).ok_or_else(|| StoreError::NoRun { run: run.to_string() })
    }
    fn run_mut(&mut self, run: &RunId) -> Result<&mut Run, StoreError> {
        self.runs.get_mut(run).ok_or_else(|| StoreError::NoRun { run: run.to_string() })
    }
    fn free(&self, run: &RunId) -> Result<(), StoreError> {
        match self.held.get(run) {
            Some(_) => Err(StoreError::Owned { run: run.clone(), owner: this_process() }),
            None => Ok(()),
        }
    }

    fn append(&mut self, batch: Batch) -> Result<(), StoreError> {
        let run = self.run_mut(&batch.run)?;
        if run.epoch != batch.epoch {
            return Err(StoreError::Fenced { run: batch.run });
        }
        follows(&batch, run.row.last)?;
        if let Some(last) = batch.rows.last() {
            (run.row.last, run.row.updated_ms) = (last.seq, last.at_ms);
        }
        run.row.spent = run.row.spent.plus(batch.spent);
        run.row.state = batch.state.unwrap_or(run.row.state);
        run.rows.extend(batch.rows);
        run.edges.extend(batch.blobs.iter().map(|blob| blob.id));
        for blob in batch.blobs {
            self.blobs.entry(blob.id).or_insert(blob.text);
        }
        Ok(())
    }
}

fn follows(batch: &Batch, last: Seq) -> Result<(), StoreError> {
    let moved = |expected| StoreError::Moved { run: batch.run.clone(), expected, found: last };
    if batch.after != last {
        return Err(moved(batch.after));
    }
    let gap = (last.0 + 1..).zip(&batch.rows).find(|(expected, row)| row.seq.0 != *expected);
    gap.map_or(Ok(()), |(_, row)| Err(moved(Seq(row.seq.0.saturating_sub(1)))))
}

impl Store for MemoryStore {
    fn begin(&self, new: NewRun, first: Batch, done: Done) -> Result<Epoch, StoreError> {
        let epoch = Epoch(1);
        let opener = self.opener;
        let made = self.write(|place| {
            let id = new.run.clone();
            place.free(&id)?;
            if let Some(key) = &new.key
                && let Some(run) = place.keys.get(&(new.crew.clone(), key.clone()))
            {
                return Err(StoreError::KeyTaken { key: key.clone(), crew: new.crew, run: run.clone() });
            }
            if let Some(found) = place.runs.get_mut(&id) {
                // Nothing that follows may land in the other run.
                found.epoch.0 += 1;
                return Err(StoreError::Moved { run: id, expected: Seq(0), found: found.row.last });
            }
            let first = Batch { run: id.clone(), epoch, ..first };
            follows(&first, Seq(0))?;
            if let Some(key) = &new.key {
                place.keys.insert((new.crew.clone(), key.clone()), id.clone());
            }
            place.created += 1;
            let run = Run {
                row: listed(new),
                number: place.created,
                epoch,
                rows: Vec::new(),
                edges: BTreeSet::new(),
                inbox: Vec::new(),
                notified: Seq(0),
            };
            place.runs.insert(id.clone(), run);
            place.held.insert(id, opener);
            place.append(first)
        });
        done(made);
        Ok(epoch)
    }

    fn claim(&self, run: &RunId) -> Result<Epoch, StoreError> {
        let opener = self.opener;
        self.write(|place| {
            place.free(run)?;
            let found = place.run_mut(run)?;
            found.epoch.0 += 1;
            let epoch = found.epoch;
            place.held.insert(run.clone(), opener);
            Ok(epoch)
        })
    }

    fn release(&self, run: &RunId) {
        let mut place = self.place();
        if place.held.get(run) == Some(&self.opener) {
            place.held.remove(run);
        }
    }

    fn owner(&self, run: &RunId) -> Option<Owner> {
        self.place().held.contains_key(run).then(this_process)
    }

    fn append(&self, batch: Batch, done: Done) {
        done(self.append_now(batch));
    }

    fn read(&self, run: &RunId, from: Seq) -> Result<Vec<Row>, StoreError> {
        let place = self.place();
        Ok(place.run(run)?.rows.iter().filter(|row| row.seq >= from).cloned().collect())
    }

    fn blob(&self, id: &BlobId) -> Result<Option<Arc<str>>, StoreError> {
        Ok(self.place().blobs.get(id).cloned())
    }

    fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StoreError> {
        let prefix = filter.prefix.as_ref().map(|prefix| prefix.to_ascii_uppercase());
        let wanted = |run: &&Run| {
            prefix.as_ref().is_none_or(|prefix| run.row.run.as_str().starts_with(prefix))
                && filter.crew.as_ref().is_none_or(|crew| *crew == run.row.crew)
                && filter.key.as_ref().is_none_or(|key| Some(key) == run.row.key.as_ref())
        };
        let place = self.place();
        let mut found: Vec<&Run> = place.runs.values().filter(wanted).collect();
        found.sort_by_key(|run| std::cmp::Reverse(run.number));
        Ok(found.iter().take(filter.limit.unwrap_or(usize::MAX)).map(|run| run.row.clone()).collect())
    }

    fn inbox_put(&self, run: &RunId, kind: &str, payload: &str, by: &str, at_ms: u64) -> Result<u64, StoreError> {
        self.write(|place| {
            let id = place.commands + 1;
            let row = InboxRow { id, kind: kind.into(), payload: payload.into(), by: by.into(), at_ms };
            place.run_mut(run)?.inbox.push(row);
            place.commands = id;
            Ok(id)
        })
        .inspect(|_| self.own().commands += 1)
    }

    fn inbox_put_once(
        &self,
        run: &RunId,
        kind: &str,
        payload: &str,
        by: &str,
        at_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        self.write(|place| {
            let id = place.commands + 1;
            let inbox = &mut place.run_mut(run)?.inbox;
            if inbox.iter().any(|row| row.kind == kind) {
                return Ok(None);
            }
            inbox.push(InboxRow { id, kind: kind.into(), payload: payload.into(), by: by.into(), at_ms });
            place.commands = id;
            Ok(Some(id))
        })
        .inspect(|_| self.own().commands += 1)
    }

    fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, StoreError> {
        Ok(self.place().runs.get(run).map(|run| run.inbox.clone()).unwrap_or_default())
    }

    fn pot(&self, ask: &PotAsk) -> Result<PotShare, StoreError> {
        self.write(|place| {
            if place.run(&ask.run)?.epoch != ask.epoch {
                return Err(StoreError::Fenced { run: ask.run.clone() });
            }
            let Place { pots, held, .. } = place;
            let pot = pots.entry((ask.crew.clone(), ask.ask.day)).or_default();
            let (own, seq) = pot.get(&ask.run).copied().unwrap_or_default();
            let others = pot.iter().filter(|(run, _)| **run != ask.run);
            let others = others.map(|(run, (row, _))| (*row, held.contains_key(run)));
            let (row, most) = divide(&ask.ask, own, others);
            let late = row.granted < own.granted && ask.as_of <= seq;
            let row = if late { own } else { row };
            pot.insert(ask.run.clone(), (row, seq.max(ask.as_of)));
            Ok(PotShare { granted: row.granted, most })
        })
    }

    fn inbox_done(&self, run: &RunId, id: u64) -> Result<(), StoreError> {
        self.write(|place| {
            place.run_mut(run)?.inbox.retain(|row| row.id != id);
            Ok(())
        })
    }

    fn version(&self) -> Result<u64, StoreError> {
        let own = self.own();
        Ok(self.place().writes.saturating_sub(own.writes) + own.commands)
    }

    fn notified(&self, run: &RunId) -> Result<Seq, StoreError> {
        Ok(self.place().run(run)?.notified)
    }

    fn set_notified(&self, run: &RunId, upto: Seq) -> Result<(), StoreError> {
        self.write(|place| {
            place.run_mut(run)?.notified = upto;
            Ok(())
        })
    }

    fn gc(&self, before_ms: u64, dry: bool) -> Result<Garbage, StoreError> {
        self.write(|place| {
            let old = |run: &Run| run.row.state.is_final() && run.row.updated_ms < before_ms;
            let free = |run: &Run| !place.held.contains_key(&run.row.run);
            let mut doomed: Vec<&Run> = place.runs.values().filter(|run| old(run) && free(run)).collect();
            doomed.sort_by_key(|run| run.number);
            let mut garbage = Garbage::default();
            for run in doomed {
                garbage.bytes += run.rows.iter().map(|row| row.payload.len() as u64).sum::<u64>();
                garbage.runs.push(run.row.run.clone());
            }
            let gone: HashSet<&RunId> = garbage.runs.iter().collect();
            let left = place.runs.values().filter(|run| !gone.contains(&run.row.run));
            let used: HashSet<BlobId> = left.flat_map(|run| run.edges.iter().copied()).collect();
            for (_, text) in place.blobs.iter().filter(|(id, _)| !used.contains(id)) {
                garbage.blobs += 1;
                garbage.bytes += text.len() as u64;
            }
            if !dry {
                place.blobs.retain(|id, _| used.contains(id));
                place.runs.retain(|id, _| !garbage.runs.contains(id));
                place.keys.retain(|_, run| !garbage.runs.contains(run));
            }
            Ok(garbage)
        })
    }
}

fn listed(new: NewRun) -> RunRow {
    RunRow {
        run: new.run,
        crew: new.crew,
        key: new.key,
        inputs: new.inputs,
        offline: new.offline,
        state: RunState::Running,
        started_ms: new.started_ms,
        updated_ms: new.started_ms,
        last: Seq(0),
        spent: Amount::default(),
        cap: new.cap,
    }
}
