//! A run that is taken up again, as the store has it. Invariant: whoever claims a run and does not launch it lets it
//! go, wherever that is given up; what the store is asked here blocks, off the runtime's thread.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::Ports;
use crate::actors::crash::crash_point;
use crate::actors::inbox::{interrupts, ruled, settle_event};
use crate::adapters::clock::SystemClock;
use crate::cli::failure::{Exit, Failure};
use crate::core::event::{Event, RunEvent};
use crate::core::ids::{RunId, Seq};
use crate::core::interrupt::RULING;
use crate::core::machine::Decided;
use crate::core::run::Entry;
use crate::ports::clock::Clock;
use crate::ports::store::{Epoch, InboxRow, Row, Store, StoreError};

/// Lets the run go when it is dropped.
pub(super) struct Claim {
    store: Arc<dyn Store>,
    run: RunId,
    kept: bool,
}

impl Claim {
    /// Whoever launches the run lets it go.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            self.store.release(&self.run);
        }
    }
}

/// A run that is this process's, with all that waited for its owner.
pub(super) struct Taken {
    pub(super) claim: Claim,
    pub(super) epoch: Epoch,
    pub(super) rows: Vec<Row>,
    inbox: Vec<InboxRow>,
    /// What people decided meanwhile, and what nobody did in time.
    decided: Decided,
}

impl Taken {
    pub(super) async fn up(ports: &Ports, run: &RunId) -> Result<Taken, Failure> {
        let (ports, run) = (ports.clone(), run.clone());
        Ok(blocking(move || taken(&ports, run)).await??)
    }

    /// The facts that open the stay: `opening` and what waited in the inbox.
    pub(super) fn opening(&mut self, opening: Vec<Event>) -> Decided {
        let settles = self.inbox.iter().filter(|row| row.kind == "settle").filter_map(settle_event);
        let mut all =
            Decided { events: settles.chain(opening).chain(cancel(&self.inbox)).collect(), blobs: Vec::new() };
        let Decided { events, blobs } = std::mem::take(&mut self.decided);
        all.events.extend(events);
        all.blobs.extend(blobs);
        all
    }

    /// Messages of people that wait.
    pub(super) fn told(&self) -> Vec<InboxRow> {
        self.inbox.iter().filter(|row| row.kind == "tell").cloned().collect()
    }

    /// What is left of a deadline.
    pub(super) fn time_left(&self, deadline_ms: Option<u64>, more: Duration) -> Option<Duration> {
        deadline_ms.map(|all| Duration::from_millis(all.saturating_sub(running_ms(&self.rows))) + more)
    }

    /// The commands to forget once the run is launched: what this bosun does not know is left for one that does.
    pub(super) fn known(&self) -> Vec<u64> {
        let known = |kind: &str| ["pause", "cancel", "settle", "tell"].contains(&kind) || kind.starts_with(RULING);
        self.inbox.iter().filter(|row| known(&row.kind)).map(|row| row.id).collect()
    }
}

/// Forgets commands whose events are on disk.
pub(super) async fn forget(ports: &Ports, run: &RunId, known: Vec<u64>) -> Result<(), Failure> {
    if known.is_empty() {
        return Ok(());
    }
    let (ports, run) = (ports.clone(), run.clone());
    let forgotten = blocking(move || {
        known.into_iter().try_for_each(|id| {
            crash_point!(ports.crash, "inbox_opened");
            ports.store.inbox_done(&run, id)
        })
    });
    Ok(forgotten.await??)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|why| Failure::new(Exit::Internal, format!("the store was not asked to the end: {why}")))
}

fn taken(ports: &Ports, run: RunId) -> Result<Taken, StoreError> {
    let store = &ports.store;
    let epoch = store.claim(&run)?;
    crash_point!(ports.crash, "run_claimed");
    let claim = Claim { store: store.clone(), run: run.clone(), kept: false };
    let rows = store.read(&run, Seq(1))?;
    let inbox = store.inbox(&run)?;
    let decided = match cancel(&inbox) {
        Some(_) => Decided::default(),
        None => decisions(&**store, &run, &inbox)?,
    };
    Ok(Taken { claim, epoch, rows, inbox, decided })
}

/// A pause that was asked of the dead process is over with it; a cancel is not, and comes before anything starts.
fn cancel(inbox: &[InboxRow]) -> Option<Event> {
    let cancel = inbox.iter().find(|row| row.kind == "cancel");
    cancel.map(|row| Event::Run(RunEvent::CancelAsked { by: row.by.clone() }))
}

/// What people decided while no process ran the run, and what nobody decided in time.
fn decisions(store: &dyn Store, run: &RunId, inbox: &[InboxRow]) -> Result<Decided, StoreError> {
    let (mut interrupts, mut all) = (interrupts(store, run)?, Decided::default());
    for row in inbox.iter().filter(|row| row.kind.starts_with(RULING)) {
        let Some(decided) = ruled(&interrupts, row) else { continue };
        for event in &decided.events {
            interrupts.apply(&Entry { seq: Seq(u64::MAX), at_ms: row.at_ms, event: event.clone() });
        }
        all.events.extend(decided.events);
        all.blobs.extend(decided.blobs);
    }
    all.events.extend(interrupts.expired(SystemClock.now_ms()));
    Ok(all)
}

/// Running time so far: between each start and the last entry before the next one, on the clock of
/// the rows. A clock that jumped back counts as nothing.
fn running_ms(rows: &[Row]) -> u64 {
    let mut total = 0u64;
    let (mut from, mut last) = (None, 0);
    for row in rows {
        if row.kind == "run.started" || row.kind == "run.resumed" {
            total = total.saturating_add(from.map_or(0, |from| u64::saturating_sub(last, from)));
            from = Some(row.at_ms);
        }
        last = row.at_ms;
    }
    total.saturating_add(from.map_or(0, |from| last.saturating_sub(from)))
}
