//! Facts that a person adds to a run that no process runs. Invariant: the run is claimed first, so there
//! is one writer, and all of it is one append; what is not from outside is decided by the run's machines.

use std::sync::{Arc, mpsc};

use super::crew;
use super::failure::{Exit, Failure};
use super::open::{Project, StoreTexts, decode, now_ms};
use super::tally::Tally;
use crate::adapters::sizes::O200k;
use crate::core::chain::{Hash, genesis, link};
use crate::core::chat::Blob;
use crate::core::event::{CallEvent, Event, LostCause, RunEvent};
use crate::core::ids::{RunId, Seq, Step};
use crate::core::machine::{Control, World};
use crate::core::money::Amount;
use crate::core::plan::PlanStep;
use crate::core::run::{Entry, Run};
use crate::ports::store::{Batch, Epoch, Row, RunRow, RunState, Store, StoreError};

/// Appends `events` to the end of a run that nobody owns. `state` is the run's state after them, where
/// they change it.
///
/// # Errors
/// Exit 5 if a live process owns the run; whatever the store says if the write fails.
pub fn outside(store: &dyn Store, run: &RunId, events: &[Event], state: Option<RunState>) -> Result<(), Failure> {
    if let Some(event) = events.iter().find(|event| !event.is_outside()) {
        return Err(Failure::new(Exit::Internal, format!("`{}` is a machine's to decide", event.kind())));
    }
    as_owner(store, run, |epoch| {
        let mut author = Author::at_end(store, run)?;
        events.iter().for_each(|event| drop(author.push(event.clone())));
        author.append(store, epoch, state)
    })
}

/// Cancels a run that nobody runs: what was in flight is lost, then every open task and the run end as
/// its coordinators decide.
pub fn cancel(project: &Project, store: Arc<dyn Store>, row: &RunRow, by: String) -> Result<(), Failure> {
    as_owner(&*store, &row.run, |epoch| {
        let rows = store.read(&row.run, Seq(1))?;
        let entries = decode(&row.run, &rows)?;
        let tally = Tally::of(&entries);
        let started =
            tally.started.as_deref().ok_or_else(|| corrupt(&row.run, "it does not begin with run.started"))?;
        let (crew, _) = crew::pinned(project, &*store, started)?;
        let mut run = Run::fold(crew, &entries).map_err(|illegal| corrupt(&row.run, &illegal.to_string()))?;
        if run.control == Control::Ended {
            return Err(Failure::usage(format!("run {} is over: there is nothing to cancel", row.run.short())));
        }
        let mut author = Author::after(&row.run, &rows);
        let lost = run.open_calls.iter().map(|(call, agent)| {
            let (call, agent, cause) = (call.clone(), agent.clone(), LostCause::Died);
            Event::Call(CallEvent::Lost { call, agent, cause, elapsed_ms: 0 })
        });
        let mut due: Vec<Event> = lost.collect();
        due.push(Event::Run(RunEvent::CancelAsked { by }));
        let (texts, sizes) = (StoreTexts::new(store.clone()), O200k::new());
        while !due.is_empty() {
            for event in due.drain(..) {
                let entry = author.push(event);
                run.apply(&entry).map_err(|illegal| corrupt(&row.run, &illegal.to_string()))?;
            }
            let crew = run.crew.clone();
            let world = World { run: &row.run, crew: &crew, texts: &texts, sizes: &sizes };
            if let Some((scope, step)) = ending(&run) {
                let decided = run.decide_plan(world, &scope, &step);
                let decided = decided.map_err(|refusal| corrupt(&row.run, &refusal.to_string()))?;
                author.blobs.extend(decided.blobs);
                due = decided.events;
            }
        }
        author.append(&*store, epoch, Some(RunState::Cancelled))
    })
}

/// The next step towards the end of a cancelled run, the deepest crew first.
fn ending(run: &Run) -> Option<(Step, PlanStep)> {
    run.plans.iter().rev().find_map(|(scope, plan)| {
        let due = plan.next().into_iter().find(|step| matches!(step, PlanStep::Cancel | PlanStep::Finish))?;
        Some((scope.clone(), due))
    })
}

fn corrupt(run: &RunId, why: &str) -> Failure {
    Failure::new(Exit::Audit, format!("the journal of run {run} cannot be followed: {why}"))
        .hint(format!("bosun audit verify {run}"))
}

fn as_owner<T>(store: &dyn Store, run: &RunId, work: impl FnOnce(Epoch) -> Result<T, Failure>) -> Result<T, Failure> {
    let epoch = store.claim(run)?;
    let done = work(epoch);
    store.release(run);
    done
}

/// Rows that follow a run's last one.
struct Author {
    run: RunId,
    after: Seq,
    seq: Seq,
    previous: Hash,
    at_ms: u64,
    rows: Vec<Row>,
    blobs: Vec<Blob>,
    spent: Amount,
}

impl Author {
    fn at_end(store: &dyn Store, run: &RunId) -> Result<Author, Failure> {
        Ok(Author::after(run, &store.read(run, Seq(1))?))
    }
    fn after(run: &RunId, rows: &[Row]) -> Author {
        let (after, previous) = rows.last().map_or_else(|| (Seq(0), genesis(run)), |row| (row.seq, row.hash));
        let (run, spent) = (run.clone(), Amount::default());
        Author { run, after, seq: after, previous, at_ms: now_ms(), rows: Vec::new(), blobs: Vec::new(), spent }
    }
    fn push(&mut self, event: Event) -> Entry {
        self.seq = self.seq.next();
        let (kind, payload) = (event.kind().to_owned(), event.encode());
        self.previous = link(&self.previous, self.seq, self.at_ms, &kind, &payload);
        let (seq, at_ms, hash) = (self.seq, self.at_ms, self.previous);
        self.rows.push(Row { seq, at_ms, kind, payload: payload.into(), hash });
        if let Event::Call(CallEvent::Settled { cost, .. }) = &event {
            self.spent = self.spent.plus(*cost);
        }
        Entry { seq, at_ms, event }
    }
    fn append(self, store: &dyn Store, epoch: Epoch, state: Option<RunState>) -> Result<(), Failure> {
        let Author { run, after, rows, blobs, spent, .. } = self;
        let batch = Batch { run, epoch, after, rows, blobs, spent, state };
        let (tell, told) = mpsc::sync_channel(1);
        // Nobody waits any more only if this thread is gone.
        store.append(batch, Box::new(move |verdict| drop(tell.send(verdict))));
        let lost = || StoreError::WriteFailed { why: "the store gave no answer".to_owned() };
        told.recv().map_err(|_| lost())?.map_err(Failure::from)
    }
}
