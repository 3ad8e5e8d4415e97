//! Keeps a run at work in this process. Invariant: a run whose actors failed goes on from the fold of its
//! journal, once nothing of them can write or send any more; too often, and the cause is reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorRef};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::Ports;
use super::crash::crash_point;
use super::host::{Host, LaunchError};
use super::journal::JournalHandle;
use super::run::{Outcome, Root, RootArgs, RunMsg};
use super::texts::TextCache;
use super::work::Flights;
use crate::core::chain;
use crate::core::chat::Effect;
use crate::core::crew::Crew;
use crate::core::event::{
    CallEvent, Event, InterruptEvent, LostCause, Msg, Outcome as ToolOutcome, PauseCause, RunEvent, ToolEvent,
};
use crate::core::ids::{RunId, Seq};
use crate::core::interrupt::Interrupt;
use crate::core::machine::{Control, Decided, IllegalEvent};
use crate::core::run::{Entry, Run};
use crate::ports::author::Author;
use crate::ports::store::{Epoch, InboxRow, Row, StoreError};

/// How often within a minute a run is taken up again before its failure is reported instead.
const AGAIN: usize = 3;

/// What a run keeps while its actors come and go.
pub(super) struct Keeper {
    pub host: Arc<Host>,
    pub id: RunId,
    pub epoch: Epoch,
    pub crew: Arc<Crew>,
    pub ports: Ports,
    pub texts: Arc<TextCache>,
    pub watcher: Option<mpsc::UnboundedSender<Arc<Entry>>>,
    /// When its deadline is met.
    pub ends: Option<Instant>,
}

/// The actors that are up now.
#[derive(Clone)]
pub(super) struct Up {
    pub root: ActorRef<RunMsg>,
    pub journal: JournalHandle,
    pub flights: Arc<Flights>,
}

/// How they end: in this order.
pub(super) struct Ending {
    outcome: oneshot::Receiver<Outcome>,
    root: JoinHandle<()>,
    /// The last entry that the journal gave to the store.
    journal: oneshot::Receiver<Seq>,
}

impl Keeper {
    /// Stays with the run until it leaves this process for good.
    pub async fn keep(self, up: watch::Sender<Up>, mut ending: Ending) -> Outcome {
        let mut rationed = Rationed::default();
        loop {
            let gone = |_| Outcome::Crashed("the run's root actor ended without a word".into());
            let outcome = (&mut ending.outcome).await.unwrap_or_else(gone);
            let why = match outcome {
                Outcome::Crashed(why) if rationed.again() => why,
                Outcome::Crashed(why) | Outcome::GaveUp(why) => {
                    self.ports.store.release(&self.id);
                    return Outcome::Crashed(format!("its actors failed {} times within a minute: {why}", AGAIN + 1));
                }
                Outcome::Finished { .. } | Outcome::Parked { .. } | Outcome::StoreFailed(_) => return outcome,
            };
            tracing::warn!(run = %self.id, %why, "the run is taken up again from its journal");
            let old = up.borrow().clone();
            // Aside: most runs never need the room for it.
            match Box::pin(self.again(&old, ending)).await {
                Ok((raised, next)) => {
                    ending = next;
                    up.send_replace(raised);
                }
                Err(outcome) => {
                    self.ports.store.release(&self.id);
                    return outcome;
                }
            }
        }
    }

    /// Waits for the last of the old actors' work, and raises new ones on what is on disk.
    async fn again(&self, old: &Up, ending: Ending) -> Result<(Up, Ending), Outcome> {
        let _ = ending.root.await;
        // A journal that never got up has written nothing.
        if let Ok(last) = ending.journal.await
            && old.journal.durable.wait(last).await.is_err()
        {
            return Err(Outcome::StoreFailed(old.journal.durable.failure().unwrap_or_else(StoreError::ended)));
        }
        // Whatever an old actor still starts waits for this mark, and is not sent.
        old.journal.durable.fail(StoreError::WriteFailed { why: "the run was taken up again".into() });
        old.flights.drop_all();
        let (store, id) = (self.ports.store.clone(), self.id.clone());
        let read = tokio::task::spawn_blocking(move || store.read(&id, Seq(1))).await;
        let rows = match read {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => return Err(Outcome::StoreFailed(error)),
            Err(died) => return Err(Outcome::Crashed(died.to_string())),
        };
        if let Some(outcome) = at_rest(&rows) {
            return Err(outcome);
        }
        self.raise(&rows, Decided::default(), &[]).await.map_err(|error| match error {
            LaunchError::Store(error) => Outcome::StoreFailed(error),
            LaunchError::Corrupt { .. } | LaunchError::Over { .. } | LaunchError::Actor { .. } => {
                Outcome::Crashed(error.to_string())
            }
        })
    }

    /// Folds the journal, records what the end of the last actors left open, and starts new ones.
    pub async fn raise(&self, rows: &[Row], opening: Decided, told: &[InboxRow]) -> Result<(Up, Ending), LaunchError> {
        let corrupt = |why: String| LaunchError::Corrupt { run: self.id.clone(), why };
        let mut hash = chain::genesis(&self.id);
        let mut run = Run::new(self.crew.clone());
        for row in rows {
            let entry = Entry::decode(row.seq, row.at_ms, &row.kind, &row.payload);
            run.apply(&entry.map_err(|error| corrupt(error.to_string()))?)
                .map_err(|illegal: IllegalEvent| corrupt(illegal.to_string()))?;
            hash = row.hash;
        }
        // Its owner may have finished it after it was looked at and before it was claimed.
        if run.control == Control::Ended {
            return Err(LaunchError::Over { run: self.id.clone() });
        }
        let time_left = self.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        let mut decided = left_open(&run);
        let told = told.iter().map(|row| super::told::decided(&run, row));
        for Decided { events, blobs } in std::iter::once(opening).chain(told) {
            decided.events.extend(events);
            decided.blobs.extend(blobs);
        }
        if time_left.is_some_and(|left| left.is_zero()) {
            // Said before anything starts: a resume after the deadline must not send a call.
            let (cause, by) = (PauseCause::Deadline, "deadline".to_owned());
            decided.events.push(Event::Run(RunEvent::PauseAsked { cause, by }));
        }
        if !decided.events.is_empty() {
            hash = self.open(&mut run, hash, decided).await?;
        }
        self.start(run, hash, time_left).await
    }

    async fn start(
        &self,
        run: Run,
        hash: chain::Hash,
        time_left: Option<Duration>,
    ) -> Result<(Up, Ending), LaunchError> {
        let (outcome, ended) = oneshot::channel();
        let (ready, started) = oneshot::channel();
        let (gone, journal_gone) = oneshot::channel();
        let (host, id) = (Arc::downgrade(&self.host), self.id.clone());
        let args = RootArgs {
            id: self.id.clone(),
            epoch: self.epoch,
            run,
            hash,
            ports: self.ports.clone(),
            throttle: self.host.throttle.clone(),
            streams: self.host.streams.clone(),
            texts: self.texts.clone(),
            outcome,
            watcher: self.watcher.clone(),
            time_left,
            alone: Arc::new(move || host.upgrade().is_some_and(|host| host.is_last(&id))),
            ready,
            gone,
        };
        let failed = |why: String| LaunchError::Actor { run: self.id.clone(), why };
        let spawned = Root::spawn(None, Root, args).await;
        let (root, joined) = spawned.map_err(|error| failed(error.to_string()))?;
        let (journal, flights) = started.await.map_err(|_| failed("it ended while it started".into()))?;
        self.host.live.insert(self.id.clone(), root.clone());
        let ending = Ending { outcome: ended, root: joined, journal: journal_gone };
        Ok((Up { root, journal, flights }, ending))
    }

    /// Appends the opening facts before any actor is up: durable on return.
    async fn open(&self, run: &mut Run, hash: chain::Hash, decided: Decided) -> Result<chain::Hash, LaunchError> {
        let Keeper { id, epoch, ports, texts, watcher, .. } = self;
        let mut author = Author::after(id, run.last, hash);
        decided.blobs.iter().for_each(|blob| texts.keep(blob));
        author.keep(decided.blobs);
        let mut entries = Vec::new();
        for event in decided.events {
            if !may_open(run, &event) {
                continue;
            }
            let entry = Arc::new(author.write(event, ports.clock.now_ms()));
            run.apply(&entry).map_err(|illegal| LaunchError::Corrupt { run: id.clone(), why: illegal.to_string() })?;
            entries.push(entry);
        }
        let (done, written) = oneshot::channel();
        crash_point!(ports.crash, "open_append");
        let batch = author.take(*epoch);
        ports.store.append(batch, Box::new(move |result| drop(done.send(result))));
        written.await.unwrap_or_else(|_| Err(StoreError::ended()))?;
        crash_point!(ports.crash, "open_durable");
        if let Some(watcher) = watcher {
            entries.into_iter().for_each(|entry| drop(watcher.send(entry)));
        }
        Ok(author.end().1)
    }
}

/// How a run left, if the journal says that it did: its actors failed after that.
fn at_rest(rows: &[Row]) -> Option<Outcome> {
    let head = rows.last()?.hash;
    let decode = |row: &Row| Entry::decode(row.seq, row.at_ms, &row.kind, &row.payload).ok();
    let last = rows.iter().rev().filter(|row| row.kind.starts_with("run.")).find_map(decode)?;
    let Event::Run(event) = last.event else { return None };
    match event {
        RunEvent::Finished { status, result } => Some(Outcome::Finished { head, status, result }),
        RunEvent::Parked { causes } => Some(Outcome::Parked { head, causes }),
        RunEvent::Started(_) | RunEvent::Resumed { .. } => None,
        RunEvent::PauseAsked { .. } | RunEvent::CancelAsked { .. } => None,
    }
}

/// A settlement may come twice: its process died after the event and before the inbox forgot it. The
/// first counts. Calls that the last process left open are in doubt by the time this is applied.
fn may_open(run: &Run, event: &Event) -> bool {
    match event {
        Event::Call(CallEvent::Settled { call, .. }) => run.ledger.hold(call).is_some(),
        Event::Interrupt(InterruptEvent::Decided { id, .. }) => run.interrupts.get(id).is_some_and(Interrupt::is_open),
        Event::Interrupt(InterruptEvent::Raised(_)) => false,
        Event::Call(_) | Event::Run(_) | Event::Task(_) | Event::Tool(_) | Event::Ledger(_) => true,
    }
}

/// What the end of the last process left open: its calls may have been sent, its tools may have run.
fn left_open(run: &Run) -> Decided {
    let mut decided = Decided::default();
    for (call, agent) in &run.open_calls {
        let (call, agent) = (call.clone(), agent.clone());
        let lost = CallEvent::Lost { call, agent, cause: LostCause::Died, elapsed_ms: 0 };
        decided.events.push(Event::Call(lost));
    }
    for (who, agent) in &run.agents {
        for (call, index, tool, ask) in agent.running_tools() {
            let spec = crate::core::agent::Spec::of(&run.crew, &call.step, who);
            let once = spec.and_then(|spec| spec.crew.tools.get(tool).map(|def| def.spec.effect == Effect::Once));
            if once != Some(true) {
                continue;
            }
            let text = format!("{tool} was started and the process died: it may or may not have run");
            let message = crate::core::chat::Message::Tool { tool_call_id: ask.to_owned(), content: text };
            let content: Msg = decided.message(&message);
            let (agent, outcome) = (who.clone(), ToolOutcome::Unknown);
            let event = ToolEvent::Returned { call, index, agent, outcome, content, full: None, elapsed_ms: 0 };
            decided.events.push(Event::Tool(event));
        }
    }
    decided
}

/// So many within a minute.
#[derive(Default)]
pub(super) struct Rationed(Vec<Instant>);

impl Rationed {
    /// May it be taken up again?
    pub(super) fn again(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        self.0.push(now);
        self.0.len() <= AGAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_taken_up_again_three_times_a_minute() {
        let mut rationed = Rationed::default();
        assert_eq!([(); 4].map(|()| rationed.again()), [true, true, true, false]);
        let a_minute_ago = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        rationed.0.iter_mut().for_each(|at| *at = a_minute_ago);
        assert!(rationed.again());
    }
}
