//! Runs in this process. Invariant: a run is launched from the fold of its journal, fresh or resumed
//! alike; other processes' commands reach it through the inbox and become events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use ractor::{Actor, ActorRef};
use tokio::sync::{mpsc, oneshot};

use super::Ports;
use super::crash::crash_point;
use super::journal::JournalHandle;
use super::run::{Outcome, Root, RootArgs, RunMsg};
use super::texts::TextCache;
use super::throttle::Throttle;
use super::work::Flights;
use crate::core::chain;
use crate::core::chat::Effect;
use crate::core::crew::Crew;
use crate::core::event::{CallEvent, Event, LostCause, Msg, Outcome as ToolOutcome, PauseCause, RunEvent, ToolEvent};
use crate::core::ids::{RunId, Seq};
use crate::core::machine::{Control, Decided, IllegalEvent};
use crate::core::money::Amount;
use crate::core::run::{Entry, Run};
use crate::ports::store::{Batch, Epoch, Row, StoreError};

/// Launches of one run within a minute before its crashes are reported instead.
const LAUNCHES: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the journal of run {run} cannot be followed: {why}")]
    Corrupt { run: RunId, why: String },
    #[error("run {run} is over: there is nothing to go on with")]
    Over { run: RunId },
    #[error("run {run}: {why}")]
    Actor { run: RunId, why: String },
}

/// One per process.
pub struct Host {
    throttle: Arc<Throttle>,
    live: DashMap<RunId, ActorRef<RunMsg>>,
    polling: AtomicU64,
}

/// A run at work in this process.
pub struct Live {
    pub id: RunId,
    pub crew: Arc<Crew>,
    root: ActorRef<RunMsg>,
    journal: JournalHandle,
    flights: Arc<Flights>,
    /// Readable as soon as an entry is, before it is on disk.
    pub texts: Arc<TextCache>,
    outcome: oneshot::Receiver<Outcome>,
}

/// What a run is taken up with.
pub struct Launch {
    pub id: RunId,
    pub epoch: Epoch,
    pub crew: Arc<Crew>,
    /// Every row of the journal, at least its first.
    pub rows: Vec<Row>,
    /// Facts that open this stay in the process: `Resumed`, `Raised`, `Retried`.
    pub opening: Vec<Event>,
    pub time_left: Option<Duration>,
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

impl Host {
    pub fn new() -> Host {
        Host { throttle: Arc::default(), live: DashMap::new(), polling: AtomicU64::new(0) }
    }

    /// Folds the journal, records what the end of the last process left open, and starts the actors.
    /// `watcher` gets every new entry.
    pub async fn launch(
        self: &Arc<Self>,
        launch: Launch,
        ports: Ports,
        watcher: Option<mpsc::UnboundedSender<Arc<Entry>>>,
    ) -> Result<Live, LaunchError> {
        let Launch { id, epoch, crew, rows, opening, time_left } = launch;
        crash_point!(ports.crash, "launch");
        let corrupt = |why: String| LaunchError::Corrupt { run: id.clone(), why };
        let mut hash = chain::genesis(&id);
        let mut run = Run::new(crew.clone());
        for row in &rows {
            let entry = Entry::decode(row.seq, row.at_ms, &row.kind, &row.payload);
            run.apply(&entry.map_err(|error| corrupt(error.to_string()))?)
                .map_err(|illegal: IllegalEvent| corrupt(illegal.to_string()))?;
            hash = row.hash;
        }
        // Its owner may have finished it after it was looked at and before it was claimed.
        if run.control == Control::Ended {
            return Err(LaunchError::Over { run: id });
        }
        let texts = Arc::new(TextCache::new(ports.store.clone()));
        let mut decided = left_open(&run);
        decided.events.extend(opening);
        if time_left.is_some_and(|left| left.is_zero()) {
            // Said before anything starts: a resume after the deadline must not send a call.
            let (cause, by) = (PauseCause::Deadline, "deadline".to_owned());
            decided.events.push(Event::Run(RunEvent::PauseAsked { cause, by }));
        }
        if !decided.events.is_empty() {
            hash = self.open(&mut run, &id, epoch, hash, decided, &ports, watcher.as_ref(), &texts).await?;
        }
        let (outcome, ended) = oneshot::channel();
        let (ready, started) = oneshot::channel();
        let throttle = self.throttle.clone();
        let args = RootArgs {
            id: id.clone(),
            epoch,
            run,
            hash,
            ports: ports.clone(),
            throttle,
            texts: texts.clone(),
            outcome,
            watcher,
            time_left,
            ready,
        };
        let spawned = Root::spawn(None, Root, args).await;
        let (root, _) = spawned.map_err(|error| LaunchError::Actor { run: id.clone(), why: error.to_string() })?;
        let gone = |_| LaunchError::Actor { run: id.clone(), why: "it ended while it started".into() };
        let (journal, flights) = started.await.map_err(gone)?;
        self.live.insert(id.clone(), root.clone());
        self.poll(ports);
        Ok(Live { id, crew, root, journal, flights, texts, outcome: ended })
    }

    /// Appends the opening facts before any actor is up: durable on return.
    #[expect(clippy::too_many_arguments, reason = "one call site; a struct would only rename them")]
    async fn open(
        &self,
        run: &mut Run,
        id: &RunId,
        epoch: Epoch,
        mut hash: chain::Hash,
        decided: Decided,
        ports: &Ports,
        watcher: Option<&mpsc::UnboundedSender<Arc<Entry>>>,
        texts: &TextCache,
    ) -> Result<chain::Hash, LaunchError> {
        let after = run.last;
        let mut rows = Vec::new();
        decided.blobs.iter().for_each(|blob| texts.keep(blob));
        let mut entries = Vec::new();
        for event in decided.events {
            if !may_open(run, &event) {
                continue;
            }
            let (seq, at_ms, kind, payload) = (run.last.next(), ports.clock.now_ms(), event.kind(), event.encode());
            hash = chain::link(&hash, seq, at_ms, kind, &payload);
            rows.push(Row { seq, at_ms, kind: kind.to_owned(), payload: payload.into(), hash });
            let entry = Arc::new(Entry { seq, at_ms, event });
            run.apply(&entry).map_err(|illegal| LaunchError::Corrupt { run: id.clone(), why: illegal.to_string() })?;
            entries.push(entry);
        }
        let state = entries.iter().rev().find_map(|entry| super::journal::run_state(&entry.event));
        let spent =
            entries.iter().fold(Amount::default(), |sum, entry| sum.plus(super::journal::settled(&entry.event)));
        let batch = Batch { run: id.clone(), epoch, after, rows, blobs: decided.blobs, spent, state };
        let (done, written) = oneshot::channel();
        crash_point!(ports.crash, "open_append");
        ports.store.append(batch, Box::new(move |result| drop(done.send(result))));
        let ended = || StoreError::WriteFailed { why: "the store has ended".into() };
        written.await.unwrap_or_else(|_| Err(ended()))?;
        crash_point!(ports.crash, "open_durable");
        if let Some(watcher) = watcher {
            entries.into_iter().for_each(|entry| drop(watcher.send(entry)));
        }
        Ok(hash)
    }

    /// One watch per process over the commands of other processes.
    fn poll(self: &Arc<Self>, ports: Ports) {
        if self.polling.swap(1, Ordering::SeqCst) == 0 {
            tokio::spawn(super::inbox::watch(Arc::downgrade(self), ports));
        }
    }

    /// The runs of this process, each with its root.
    pub(super) fn at_work(&self) -> Vec<(RunId, ActorRef<RunMsg>)> {
        self.live.retain(|_, root| !matches!(root.get_status(), ractor::ActorStatus::Stopped));
        self.live.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect()
    }
}

/// A settlement may come twice: its process died after the event and before the inbox forgot it. The
/// first counts. Calls that the last process left open are in doubt by the time this is applied.
fn may_open(run: &Run, event: &Event) -> bool {
    match event {
        Event::Call(CallEvent::Settled { call, .. }) => run.ledger.hold(call).is_some(),
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

impl Live {
    /// First Ctrl-C, SIGTERM, `bosun pause`: nothing new starts, calls in flight end.
    pub fn pause(&self, cause: PauseCause, by: &str) {
        let event = RunEvent::PauseAsked { cause, by: by.to_owned() };
        let _ = self.root.cast(RunMsg::Record(vec![Event::Run(event)]));
    }
    pub fn cancel(&self, by: &str) {
        let _ = self.root.cast(RunMsg::Record(vec![Event::Run(RunEvent::CancelAsked { by: by.to_owned() })]));
    }
    /// Second Ctrl-C: calls in flight are dropped; each may still be billed.
    pub fn drop_calls(&self) {
        let _ = self.root.cast(RunMsg::DropCalls);
    }
    pub fn in_flight(&self) -> bool {
        !self.flights.is_empty()
    }
    /// Makes an agent that is at work panic, to show supervision.
    pub async fn drill(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.root.cast(RunMsg::Drill(reply)).is_ok() && answer.await.unwrap_or(false)
    }
    pub async fn head(&self) -> Option<(Seq, chain::Hash)> {
        self.journal.head().await
    }
    pub async fn wait(&mut self) -> Outcome {
        let gone = || Outcome::Crashed("the run's root actor ended without a word".into());
        (&mut self.outcome).await.unwrap_or_else(|_| gone())
    }
}

/// Restarts are rationed: so many within a minute.
#[derive(Default)]
pub struct Rationed(Vec<Instant>);

impl Rationed {
    /// May it be launched again?
    pub fn again(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        self.0.push(now);
        self.0.len() <= LAUNCHES
    }
}
