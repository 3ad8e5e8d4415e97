//! Facts that a person adds to a run that no process runs. Invariant: the run is claimed first, so there
//! is one writer; only events from outside are written; a run that is owned gets a message instead.

use std::sync::mpsc;

use super::failure::{Exit, Failure};
use super::open::now_ms;
use crate::core::chain::{genesis, link};
use crate::core::event::{CallEvent, Event};
use crate::core::ids::{RunId, Seq};
use crate::core::money::Amount;
use crate::ports::store::{Batch, Row, RunState, Store, StoreError};

/// Appends `events` to the end of a run that nobody owns. `state` is the run's state after them, where
/// they change it.
///
/// # Errors
/// Exit 5 if a live process owns the run; whatever the store says if the write fails.
pub fn outside(store: &dyn Store, run: &RunId, events: &[Event], state: Option<RunState>) -> Result<(), Failure> {
    if let Some(event) = events.iter().find(|event| !event.is_outside()) {
        return Err(Failure::new(Exit::Internal, format!("`{}` is a machine's to decide", event.kind())));
    }
    let epoch = store.claim(run)?;
    let written = claimed(store, run, epoch, events, state);
    store.release(run);
    written
}

fn claimed(
    store: &dyn Store,
    run: &RunId,
    epoch: crate::ports::store::Epoch,
    events: &[Event],
    state: Option<RunState>,
) -> Result<(), Failure> {
    let last = store.read(run, Seq(1))?;
    let (after, mut previous) = last.last().map_or((Seq(0), genesis(run)), |row| (row.seq, row.hash));
    let at_ms = now_ms();
    let mut seq = after;
    let row = |event: &Event| {
        seq = seq.next();
        let (kind, payload) = (event.kind().to_owned(), event.encode());
        previous = link(&previous, seq, at_ms, &kind, &payload);
        Row { seq, at_ms, kind, payload: payload.into(), hash: previous }
    };
    let rows = events.iter().map(row).collect();
    let spent = events.iter().map(cost).fold(Amount::default(), Amount::plus);
    let batch = Batch { run: run.clone(), epoch, after, rows, blobs: Vec::new(), spent, state };
    let (tell, told) = mpsc::sync_channel(1);
    // Nobody waits any more only if this thread is gone.
    store.append(batch, Box::new(move |verdict| drop(tell.send(verdict))));
    let lost = || StoreError::WriteFailed { why: "the store gave no answer".to_owned() };
    told.recv().map_err(|_| lost())?.map_err(Failure::from)
}

/// What an outside event settles.
fn cost(event: &Event) -> Amount {
    match event {
        Event::Call(CallEvent::Answered(answered)) => answered.cost,
        Event::Call(CallEvent::Settled { cost, .. }) => *cost,
        Event::Call(_) | Event::Run(_) | Event::Task(_) | Event::Tool(_) | Event::Ledger(_) => Amount::default(),
    }
}
