//! The root of one run. Invariant: calls in flight belong to it, not to the actors that asked for
//! them; when the store or the journal fails the run stops before the next call.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

mod rest;
mod start;
use start::{start_machines, watch_deadline, watch_flights};

use super::Ports;
use super::coordinator::CoordinatorMsg;
use super::durable::Durable;
use super::journal::{Journal, JournalArgs, JournalHandle};
use super::keeper::Rationed;
use super::ledger::LedgerMsg;
use super::questions::{Claim, Questions, Taken};
use super::shell::Fatal;
use super::streams::Streams;
use super::texts::TextCache;
use super::throttle::Throttle;
use super::work::{Context, Flights};
use crate::core::chain;
use crate::core::event::{Event, ParkCause, RunEnd, RunEvent, Subject, TaskResult};
use crate::core::ids::{RunId, Seq};
use crate::core::machine::Decided;
use crate::core::run::{Entry, Run};
use crate::ports::store::{Epoch, InboxRow, StoreError};

pub enum RunMsg {
    /// An entry that concerns the whole run.
    Committed(Arc<Entry>),
    /// Facts from people and other processes: pause, cancel.
    Record(Vec<Event>),
    /// A command of another process; replies once it is durable. A settlement closes an ambiguous hold:
    /// the ledger looks whether there still is one.
    Take { decided: Decided, durable: oneshot::Sender<()> },
    /// A person's message, with its place in the inbox; replies once it is durable.
    Tell { row: Box<InboxRow>, durable: oneshot::Sender<()> },
    /// A second Ctrl-C, a deadline: calls in flight are dropped and recorded as ambiguous.
    DropCalls,
    /// The table of work under way has emptied while somebody waited for it.
    Drained,
    /// The first entry of quiet: nothing has moved since. `parked`: so it stands in the plan.
    Settled { head: Seq, parked: bool },
    /// A write has failed.
    Broken,
    /// See [`CoordinatorMsg::Drill`].
    Drill(Drill, oneshot::Sender<bool>),
}

/// Who is to panic, to show supervision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// An agent that is at work.
    Agent,
    /// An agent that is up and has nothing to do.
    Idle,
    Coordinator,
    Ledger,
}

/// How a run left this process.
#[derive(Clone, Debug)]
pub enum Outcome {
    Finished {
        status: RunEnd,
        result: Option<TaskResult>,
        head: chain::Hash,
    },
    Parked {
        causes: Vec<ParkCause>,
        head: chain::Hash,
    },
    /// The journal cannot be written: nothing was sent after the failed write.
    StoreFailed(StoreError),
    /// An actor that holds the run together has failed: the run goes on from its fold.
    Crashed(String),
    /// They failed again and again: it is not taken up by itself any more.
    GaveUp(String),
}

pub struct Root;

/// A run to be taken up: fresh or resumed, the only difference is how much was folded.
pub struct RootArgs {
    pub id: RunId,
    pub epoch: Epoch,
    pub run: Run,
    pub hash: chain::Hash,
    pub ports: Ports,
    pub throttle: Arc<Throttle>,
    pub streams: Streams,
    pub texts: Arc<TextCache>,
    pub outcome: oneshot::Sender<Outcome>,
    pub watcher: Option<mpsc::UnboundedSender<Arc<Entry>>>,
    /// What is left of the deadline.
    pub time_left: Option<Duration>,
    /// Is no other run at work in this process?
    pub alone: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Gives the journal's handle to whoever watches.
    pub ready: oneshot::Sender<(JournalHandle, Arc<Flights>)>,
    /// See [`JournalArgs::gone`].
    pub gone: oneshot::Sender<Seq>,
}

pub struct RootState {
    context: Arc<Context>,
    epoch: Epoch,
    ledger: ActorRef<LedgerMsg>,
    coordinator: ActorRef<CoordinatorMsg>,
    outcome: Option<oneshot::Sender<Outcome>>,
    parked: Option<(Seq, Vec<ParkCause>)>,
    journal: ActorId,
    restarts: Rationed,
    alone: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Tasks that end with the run.
    watches: Vec<AbortHandle>,
}

impl Drop for RootState {
    fn drop(&mut self) {
        self.watches.iter().for_each(AbortHandle::abort);
    }
}

impl Actor for Root {
    type Msg = RunMsg;
    type State = RootState;
    type Arguments = RootArgs;

    async fn pre_start(&self, myself: ActorRef<RunMsg>, args: RootArgs) -> Result<RootState, ActorProcessingErr> {
        let RootArgs {
            id,
            epoch,
            run,
            hash,
            ports,
            throttle,
            streams,
            texts,
            outcome,
            watcher,
            time_left,
            alone,
            ready,
            gone,
        } = args;
        let durable = Arc::new(Durable::new(run.last));
        let mailbox = myself.clone();
        let journal_args = JournalArgs {
            run: id.clone(),
            epoch,
            last: run.last,
            hash,
            scopes: run.scopes.clone(),
            control: run.control.clone(),
            seen: run.seen.clone().into_iter().collect(),
            ports: ports.clone(),
            texts: texts.clone(),
            durable: durable.clone(),
            watcher,
            broken: Arc::new(move || drop(mailbox.cast(RunMsg::Broken))),
            gone: Some(gone),
        };
        let (journal, _) = Journal::spawn_linked(None, Journal, journal_args, myself.get_cell()).await?;
        let (journal_id, journal) = (journal.get_id(), JournalHandle::new(journal, durable));
        let flights = Arc::new(Flights::default());
        let span = tracing::info_span!("run", run = %id);
        let context = Arc::new(Context {
            run: id,
            crew: run.crew.clone(),
            ports,
            texts,
            journal: journal.clone(),
            throttle,
            streams,
            flights: flights.clone(),
            interrupts: run.interrupts.clone(),
            questions: Questions::default(),
            span,
        });
        let mailbox = myself.clone();
        let deliver = Arc::new(move |entry| drop(mailbox.cast(RunMsg::Committed(entry))));
        journal.subscribe_fresh(Subject::All, run.last, deliver);
        let (coordinator, ledger) = start_machines(&myself, &context, epoch, (run, true)).await?;
        // Whoever has the journal may write: everybody has subscribed.
        let _ = ready.send((journal.clone(), flights.clone()));
        let mut watches = vec![watch_flights(&myself, flights)];
        watches.extend(time_left.map(|time| watch_deadline(&myself, time)));
        let (journal, restarts) = (journal_id, Rationed::default());
        let outcome = Some(outcome);
        Ok(RootState { context, epoch, ledger, coordinator, outcome, parked: None, watches, journal, restarts, alone })
    }

    async fn handle(
        &self,
        myself: ActorRef<RunMsg>,
        message: RunMsg,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RunMsg::Committed(entry) => state.committed(&myself, &entry).await,
            RunMsg::Record(events) => {
                state.context.journal.record(Decided { events, blobs: Vec::new() }).await.ok_or(Fatal::NoJournal)?;
            }
            RunMsg::Take { decided, durable } => state.take(decided, durable).await?,
            RunMsg::Tell { row, durable } => {
                let context = state.context.clone();
                tokio::spawn(async move {
                    if super::told::record(&context, *row).await.is_some() {
                        let _ = durable.send(());
                    }
                });
            }
            RunMsg::DropCalls => state.drop_calls().await?,
            RunMsg::Drained => {
                let _ = state.coordinator.cast(CoordinatorMsg::Wake);
                if state.parked.is_some() {
                    state.ask_quiet(&myself);
                }
            }
            RunMsg::Settled { head, parked } => state.settled(&myself, head, parked).await,
            RunMsg::Broken => {
                state.context.flights.drop_all();
                let error = state.context.journal.durable.failure().unwrap_or_else(StoreError::ended);
                state.end(&myself, Outcome::StoreFailed(error));
            }
            RunMsg::Drill(Drill::Ledger, reply) => {
                let _ = reply.send(state.ledger.cast(LedgerMsg::Drill).is_ok());
            }
            RunMsg::Drill(drill, reply) => drop(state.coordinator.cast(CoordinatorMsg::Drill(drill, reply))),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RunMsg>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                tracing::error!(actor = %who.get_id(), %error, "an actor that holds the run together failed");
                if let Some(failure) = state.context.journal.durable.failure() {
                    state.end(&myself, Outcome::StoreFailed(failure));
                } else if let Err(outcome) = state.start_over(&myself, &who, &error.to_string()).await {
                    state.context.flights.drop_all();
                    state.end(&myself, outcome);
                }
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ActorTerminated(..) => {}
            SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl RootState {
    async fn committed(&mut self, myself: &ActorRef<RunMsg>, entry: &Arc<Entry>) {
        let Event::Run(event) = &entry.event else {
            // Credentials or quota: nothing new starts; parked once calls in flight have ended.
            self.context.flights.await_empty();
            return;
        };
        match event {
            RunEvent::Started(_) | RunEvent::Resumed { .. } => {}
            RunEvent::PauseAsked { .. } => {
                self.context.questions.stop("the pause");
                self.context.flights.await_empty();
            }
            RunEvent::CancelAsked { .. } => {
                let _ = self.drop_calls().await;
            }
            RunEvent::Parked { causes } => {
                self.parked = Some((entry.seq, causes.clone()));
                self.ask_quiet(myself);
            }
            RunEvent::Finished { status, result } => {
                self.finished(myself, entry.seq, *status, result.clone()).await;
            }
        }
    }

    /// The ledger or the coordinator is gone: both, and every agent, start over from the fold. Calls in
    /// flight run on. Fails with why, if it happens too often or the journal itself is gone.
    async fn start_over(&mut self, myself: &ActorRef<RunMsg>, who: &ActorCell, why: &str) -> Result<(), Outcome> {
        if who.get_id() == self.journal {
            return Err(Outcome::Crashed(format!("the journal's actor: {why}")));
        }
        if ![self.ledger.get_id(), self.coordinator.get_id()].contains(&who.get_id()) {
            // One that was replaced already.
            return Ok(());
        }
        if !self.restarts.again() {
            return Err(Outcome::GaveUp(why.to_owned()));
        }
        // Whatever they still append is in the journal before it is read, or delivered after.
        let _ = self.ledger.get_cell().kill_and_wait(None).await;
        let _ = self.coordinator.get_cell().kill_and_wait(None).await;
        let gone = |what: &str| Outcome::Crashed(format!("{why}; {what}"));
        let (seq, _) = self.context.journal.head().await.ok_or_else(|| gone("the journal has ended"))?;
        self.context.journal.durable.wait(seq).await.map_err(|_| gone("the journal cannot be written"))?;
        let (store, id, crew) = (self.context.ports.store.clone(), self.context.run.clone(), self.context.crew.clone());
        let folded = tokio::task::spawn_blocking(move || super::coordinator::fold(&*store, &id, crew));
        let run = folded.await.ok().flatten().ok_or_else(|| gone("the journal cannot be followed"))?;
        let started = start_machines(myself, &self.context, self.epoch, (run, false)).await;
        (self.coordinator, self.ledger) = started.map_err(|error| Outcome::Crashed(format!("{why}; {error}")))?;
        self.parked = None;
        Ok(())
    }

    async fn take(&self, decided: Decided, reply: oneshot::Sender<()>) -> Result<(), Fatal> {
        let taken = match self.context.questions.claim(&decided) {
            Claim::Void => {
                let _ = reply.send(());
                return Ok(());
            }
            Claim::Other => None,
            Claim::Taken(taken) => Some(taken),
        };
        let (booked, at) = oneshot::channel();
        match decided.events.first() {
            Some(event @ Event::Call(_)) => {
                let _ = self.ledger.cast(LedgerMsg::Settle { event: Box::new(event.clone()), booked });
            }
            Some(_) | None => {
                let seq = self.context.journal.record(decided).await.ok_or(Fatal::NoJournal)?;
                let _ = booked.send(seq);
            }
        }
        let durable = self.context.journal.durable.clone();
        tokio::spawn(async move {
            if let Ok(seq) = at.await
                && durable.wait(seq).await.is_ok()
            {
                taken.into_iter().for_each(Taken::hand_over);
                // Whoever does not wait any more looks again.
                let _ = reply.send(());
            }
        });
        Ok(())
    }

    async fn head(&self) -> chain::Hash {
        self.context.journal.head().await.map_or([0; 32], |(_, hash)| hash)
    }

    async fn drop_calls(&mut self) -> Result<(), Fatal> {
        let events = self.context.flights.drop_all();
        if !events.is_empty() {
            let recorded = self.context.journal.record(Decided { events, blobs: Vec::new() }).await;
            recorded.ok_or(Fatal::NoJournal)?;
        }
        let _ = self.coordinator.cast(CoordinatorMsg::Wake);
        Ok(())
    }
}
