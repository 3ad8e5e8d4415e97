//! Facts that a person adds to a run that no process runs. Invariant: the run is claimed first, so there
//! is one writer, and all of it is one append; what is not from outside is decided by the run's machines.

use std::sync::{Arc, mpsc};

use super::crew;
use super::failure::{Exit, Failure};
use super::open::{Project, StoreTexts, decode, now_ms};
use super::tally::Tally;
use crate::adapters::sizes::O200k;
use crate::core::event::{CallEvent, Event, LostCause, RunEvent};
use crate::core::ids::{RunId, Seq, Step};
use crate::core::machine::{Control, World};
use crate::core::plan::PlanStep;
use crate::core::run::Run;
use crate::ports::author::Author;
use crate::ports::store::{Epoch, RunRow, Store, StoreError};

/// Appends `events` to the end of a run that nobody owns.
///
/// # Errors
/// Exit 5 if a live process owns the run; whatever the store says if the write fails.
pub fn outside(store: &dyn Store, run: &RunId, events: &[Event]) -> Result<(), Failure> {
    if let Some(event) = events.iter().find(|event| !event.is_outside()) {
        return Err(Failure::new(Exit::Internal, format!("`{}` is a machine's to decide", event.kind())));
    }
    as_owner(store, run, |epoch| {
        let mut author = Author::behind(run, &store.read(run, Seq(1))?);
        events.iter().for_each(|event| drop(author.write(event.clone(), now_ms())));
        append(store, author, epoch)
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
            return Err(Failure::usage(format!("run {} is over: there is nothing to cancel", row.run)));
        }
        let mut author = Author::behind(&row.run, &rows);
        let lost = run.open_calls.iter().map(|(call, agent)| {
            let (call, agent, cause) = (call.clone(), agent.clone(), LostCause::Died);
            Event::Call(CallEvent::Lost { call, agent, cause, elapsed_ms: 0 })
        });
        let mut due: Vec<Event> = lost.collect();
        due.push(Event::Run(RunEvent::CancelAsked { by }));
        let (texts, sizes) = (StoreTexts::new(store.clone()), O200k::new());
        while !due.is_empty() {
            for event in due.drain(..) {
                let entry = author.write(event, now_ms());
                run.apply(&entry).map_err(|illegal| corrupt(&row.run, &illegal.to_string()))?;
            }
            let crew = run.crew.clone();
            let world = World { run: &row.run, crew: &crew, texts: &texts, sizes: &sizes };
            if let Some((scope, step)) = ending(&run) {
                let decided = run.decide_plan(world, &scope, &step);
                let decided = decided.map_err(|refusal| corrupt(&row.run, &refusal.to_string()))?;
                author.keep(decided.blobs);
                due = decided.events;
            }
        }
        append(&*store, author, epoch)
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

/// Appends what the author has written, and waits for the disk.
fn append(store: &dyn Store, mut author: Author, epoch: Epoch) -> Result<(), Failure> {
    let (tell, told) = mpsc::sync_channel(1);
    // Nobody waits any more only if this thread is gone.
    store.append(author.take(epoch), Box::new(move |verdict| drop(tell.send(verdict))));
    let lost = || StoreError::WriteFailed { why: "the store gave no answer".to_owned() };
    told.recv().map_err(|_| lost())?.map_err(Failure::from)
}
