//! Runs in this process. Invariant: a run is launched from the fold of its journal, fresh or resumed
//! alike; other processes' commands reach it through the inbox and become events.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use ractor::ActorRef;
use tokio::sync::{mpsc, oneshot, watch};

use super::Ports;
use super::crash::crash_point;
use super::keeper::{Keeper, Up};
use super::run::{Drill, Outcome, RunMsg};
use super::streams::{Streams, Working, Writing};
use super::texts::{Lately, TextCache};
use super::throttle::{NearLimit, Throttle, Waiting};
use crate::core::chain;
use crate::core::crew::Crew;
use crate::core::event::{Event, PauseCause, RunEvent};
use crate::core::ids::{RunId, Seq};
use crate::core::machine::Decided;
use crate::core::run::Entry;
use crate::ports::rates::SharedRates;
use crate::ports::store::{Epoch, InboxRow, Row, StoreError};

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
    pub(super) throttle: Arc<Throttle>,
    pub(super) streams: Streams,
    pub(super) live: DashMap<RunId, ActorRef<RunMsg>>,
    polling: AtomicU64,
    /// Shared by the runs at work, and gone with the last of them.
    texts: Mutex<Weak<Lately>>,
}

/// A run at work in this process.
pub struct Live {
    pub id: RunId,
    pub crew: Arc<Crew>,
    up: watch::Receiver<Up>,
    runtime: tokio::runtime::Handle,
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
    /// Facts that open this stay in the process: `Resumed`, `Raised`, `Retried`, what people decided.
    pub opening: Decided,
    /// Messages of people that wait in the inbox.
    pub told: Vec<InboxRow>,
    pub time_left: Option<Duration>,
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

impl Host {
    pub fn new() -> Host {
        Host::sharing(None)
    }

    /// With `rates`, providers' limits are shared with the other processes of this host.
    pub fn sharing(rates: Option<Arc<dyn SharedRates>>) -> Host {
        Host {
            throttle: Arc::new(Throttle::new(rates)),
            streams: Streams::default(),
            live: DashMap::new(),
            polling: AtomicU64::new(0),
            texts: Mutex::default(),
        }
    }

    fn texts(&self) -> Arc<Lately> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.upgrade().unwrap_or_else(|| {
            let fresh = Arc::default();
            *texts = Arc::downgrade(&fresh);
            fresh
        })
    }

    /// Answers that are coming as they are written.
    pub fn writing(&self) -> Vec<Writing> {
        self.streams.writing()
    }

    /// Tools that say how far they are.
    pub fn working(&self) -> Vec<Working> {
        self.streams.working()
    }

    /// Calls that wait for a provider's limits, in any run of this process.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.throttle.waiting()
    }
    /// Limits that were nearly used up since this was asked last.
    pub fn near(&self) -> Vec<NearLimit> {
        self.throttle.near()
    }

    /// Takes a run up and stays with it: whatever holds it together may fail a few times. `watcher` gets
    /// every new entry.
    pub async fn launch(
        self: &Arc<Self>,
        launch: Launch,
        ports: Ports,
        watcher: Option<mpsc::UnboundedSender<Arc<Entry>>>,
    ) -> Result<Live, LaunchError> {
        let Launch { id, epoch, crew, rows, opening, told, time_left } = launch;
        crash_point!(ports.crash, "launch");
        // Those of sub-crews, and what stands in for a model, ask when they call.
        for agent in crew.agents.values() {
            self.throttle.ask_ahead(&*ports.models, &agent.model.provider, &agent.model.id);
        }
        let texts = Arc::new(TextCache::new(ports.store.clone(), self.texts()));
        let ends = time_left.and_then(|left| Instant::now().checked_add(left));
        let keeper = Keeper {
            host: self.clone(),
            id: id.clone(),
            epoch,
            crew: crew.clone(),
            ports: ports.clone(),
            texts: texts.clone(),
            watcher,
            ends,
        };
        let (up, ending) = keeper.raise(&rows, opening, &told).await?;
        let (raised, up) = watch::channel(up);
        let (done, outcome) = oneshot::channel();
        tokio::spawn(async move {
            let (host, id) = (keeper.host.clone(), keeper.id.clone());
            let outcome = keeper.keep(raised, ending).await;
            // The process may end with its last run.
            if host.is_last(&id) {
                host.throttle.farewell().await;
            }
            // Nobody may be waiting any more; the journal has it all.
            let _ = done.send(outcome);
        });
        self.poll(ports);
        Ok(Live { id, crew, up, runtime: tokio::runtime::Handle::current(), texts, outcome })
    }

    /// One watch per process over the commands of other processes.
    fn poll(self: &Arc<Self>, ports: Ports) {
        if self.polling.swap(1, Ordering::SeqCst) == 0 {
            tokio::spawn(super::inbox::watch(Arc::downgrade(self), ports));
        }
    }

    /// No other run is at work in this process.
    pub(super) fn is_last(&self, id: &RunId) -> bool {
        let gone = |root: &ActorRef<RunMsg>| matches!(root.get_status(), ractor::ActorStatus::Stopped);
        self.live.iter().all(|run| run.key() == id || gone(run.value()))
    }

    /// The runs of this process, each with its root.
    pub(super) fn at_work(&self) -> Vec<(RunId, ActorRef<RunMsg>)> {
        self.live.retain(|_, root| !matches!(root.get_status(), ractor::ActorStatus::Stopped));
        self.live.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect()
    }
}

impl Live {
    fn tell(&self, message: RunMsg) -> bool {
        self.up.borrow().root.cast(message).is_ok()
    }
    /// For as long as the run is here: what was asked of a root that failed at that moment is asked of the next.
    fn insist(&self, event: RunEvent) {
        let ask = move |up: &mut watch::Receiver<Up>| {
            let _ = up.borrow_and_update().root.cast(RunMsg::Record(vec![Event::Run(event.clone())]));
        };
        let mut up = self.up.clone();
        ask(&mut up);
        self.runtime.spawn(async move {
            while up.changed().await.is_ok() {
                ask(&mut up);
            }
        });
    }
    /// First Ctrl-C, SIGTERM, `bosun pause`: nothing new starts, calls in flight end.
    pub fn pause(&self, cause: PauseCause, by: &str) {
        self.insist(RunEvent::PauseAsked { cause, by: by.to_owned() });
    }
    pub fn cancel(&self, by: &str) {
        self.insist(RunEvent::CancelAsked { by: by.to_owned() });
    }
    /// Second Ctrl-C: calls in flight are dropped; each may still be billed.
    pub fn drop_calls(&self) {
        self.tell(RunMsg::DropCalls);
    }
    pub fn in_flight(&self) -> bool {
        !self.up.borrow().flights.is_empty()
    }
    /// Makes an agent that is at work panic, to show supervision.
    pub async fn drill(&self) -> bool {
        self.drill_of(Drill::Agent).await
    }
    /// Makes an actor panic. Replies whether there was such a one.
    pub async fn drill_of(&self, drill: Drill) -> bool {
        let (reply, answer) = oneshot::channel();
        self.tell(RunMsg::Drill(drill, reply)) && answer.await.unwrap_or(false)
    }
    pub async fn head(&self) -> Option<(Seq, chain::Hash)> {
        let journal = self.up.borrow().journal.clone();
        journal.head().await
    }
    pub async fn wait(&mut self) -> Outcome {
        let gone = || Outcome::Crashed("the run's root actor ended without a word".into());
        (&mut self.outcome).await.unwrap_or_else(|_| gone())
    }
}
