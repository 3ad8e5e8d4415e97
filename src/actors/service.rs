//! One actor per server of tools, shared by the runs of a process. Invariant: a call ends by its deadline
//! whatever the server does; a server that says of its tools other than what was pinned is not called.
//!
//! A server is started with the first call that needs it, several at the same time, and again after it has
//! ended, three times within a minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{Mutex, oneshot};
use tokio::task::AbortHandle;

use crate::core::crew::Server;
use crate::core::definition::Definition;
use crate::ports::service::{News, Reply, Service, ServiceCall, Session};
use crate::ports::tool::People;
mod tool;
pub use tool::{ServiceTool, quarantine};

/// How often within a minute a server may be started.
const STARTS: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);

enum ServiceMsg {
    Ask(Ask),
    Connected(u64, Result<Up, String>),
    /// The tools as they are after a change.
    Listed(u64, Result<Vec<Definition>, String>),
    News(u64, News),
}

/// What somebody wants of the server.
enum Ask {
    /// `sent` from the moment on that the server may have heard of it.
    Call {
        call: ServiceCall,
        server: Arc<Server>,
        sent: Arc<AtomicBool>,
        people: Arc<dyn People>,
        reply: oneshot::Sender<Reply>,
    },
    Definitions {
        reply: oneshot::Sender<Result<Vec<Definition>, String>>,
    },
}

impl Ask {
    fn refuse(self, why: &str) {
        // Nobody may be waiting any more.
        match self {
            Ask::Call { reply, .. } => drop(reply.send(Reply::Refused(why.to_owned()))),
            Ask::Definitions { reply } => drop(reply.send(Err(why.to_owned()))),
        }
    }
    fn is_open(&self) -> bool {
        match self {
            Ask::Call { reply, .. } => !reply.is_closed(),
            Ask::Definitions { reply } => !reply.is_closed(),
        }
    }
}

/// A server that is reached, with what it said of its tools.
struct Up {
    session: Arc<dyn Session>,
    definitions: Vec<Definition>,
}

enum Phase {
    Idle,
    Connecting,
    Up(Up),
    /// Its tools may be others now: nobody is served before they are listed again. `stale` once they have changed
    /// since this listing was asked for: its answer may be of before.
    Asking {
        session: Arc<dyn Session>,
        stale: bool,
    },
}

struct State {
    service: Arc<dyn Service>,
    deadline: Duration,
    phase: Phase,
    /// Counts the sessions: news of an old one is none.
    session: u64,
    /// Waits for its news, and holds it: ends with it.
    listener: Option<Listener>,
    waiting: Vec<Ask>,
    started: Vec<Instant>,
    /// Why it is not up.
    last: Option<String>,
}

struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct ServiceActor;

impl Actor for ServiceActor {
    type Msg = ServiceMsg;
    type State = State;
    type Arguments = (Arc<dyn Service>, Duration);

    async fn pre_start(&self, _: ActorRef<ServiceMsg>, args: Self::Arguments) -> Result<State, ActorProcessingErr> {
        let (service, deadline) = args;
        let (waiting, started) = (Vec::new(), Vec::new());
        let (phase, listener) = (Phase::Idle, None);
        Ok(State { service, deadline, phase, session: 0, listener, waiting, started, last: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<ServiceMsg>,
        message: ServiceMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ServiceMsg::Ask(ask) => state.asked(&myself, ask),
            ServiceMsg::Connected(session, up) if session == state.session => state.connected(&myself, up),
            ServiceMsg::Listed(session, tools) if session == state.session => state.listed(&myself, tools),
            ServiceMsg::News(session, news) if session == state.session => state.news(&myself, news),
            ServiceMsg::Connected(..) | ServiceMsg::Listed(..) | ServiceMsg::News(..) => {}
        }
        Ok(())
    }
}

impl State {
    fn asked(&mut self, myself: &ActorRef<ServiceMsg>, ask: Ask) {
        match &self.phase {
            Phase::Up(up) => serve(up, ask),
            Phase::Connecting | Phase::Asking { .. } => {
                self.waiting.retain(Ask::is_open);
                self.waiting.push(ask);
            }
            Phase::Idle => match self.may_start() {
                Ok(()) => {
                    self.waiting.push(ask);
                    self.connect(myself);
                }
                Err(why) => ask.refuse(&why),
            },
        }
    }

    fn may_start(&mut self) -> Result<(), String> {
        let now = Instant::now();
        self.started.retain(|at| now.duration_since(*at) < MINUTE);
        if self.started.len() < STARTS {
            self.started.push(now);
            return Ok(());
        }
        let (name, last) = (self.service.name(), self.last.as_deref().unwrap_or("it ended"));
        Err(format!("the server {name} was started {STARTS} times within a minute and is let rest: {last}"))
    }

    fn connect(&mut self, myself: &ActorRef<ServiceMsg>) {
        self.phase = Phase::Connecting;
        self.session += 1;
        let (service, deadline) = (self.service.clone(), self.deadline);
        let (session, mailbox) = (self.session, myself.clone());
        tokio::spawn(async move {
            let up = async {
                let session = service.connect().await?;
                loop {
                    let definitions = session.definitions().await?;
                    match already(&*session).await {
                        Some(News::Changed) => {}
                        Some(News::Ended(why)) => return Err(format!("it has ended: {why}")),
                        None => return Ok(Up { session, definitions }),
                    }
                }
            };
            let late = || Err(format!("it was not ready within {} ms", deadline.as_millis()));
            let up = tokio::time::timeout(deadline, up).await.unwrap_or_else(|_| late());
            // A server that wants a login is named by who says so.
            let named = format!("the server {} ", service.name());
            let up = up.map_err(|why| match why.starts_with(&named) {
                true => why,
                false => format!("{named}cannot be reached: {why}"),
            });
            let _ = mailbox.cast(ServiceMsg::Connected(session, up));
        });
    }

    fn connected(&mut self, myself: &ActorRef<ServiceMsg>, up: Result<Up, String>) {
        let up = match up {
            Ok(up) => up,
            Err(why) => return self.down(&why),
        };
        let (session, listened, mailbox) = (self.session, up.session.clone(), myself.clone());
        let listener = tokio::spawn(async move {
            loop {
                let news = listened.news().await;
                let last = matches!(news, News::Ended(_));
                if mailbox.cast(ServiceMsg::News(session, news)).is_err() || last {
                    return;
                }
            }
        });
        self.listener = Some(Listener(listener.abort_handle()));
        self.up(up);
    }

    fn up(&mut self, up: Up) {
        std::mem::take(&mut self.waiting).into_iter().for_each(|ask| serve(&up, ask));
        self.phase = Phase::Up(up);
    }

    fn down(&mut self, why: &str) {
        tracing::warn!(server = self.service.name(), why, "a server of tools is down");
        (self.phase, self.listener) = (Phase::Idle, None);
        self.last = Some(why.to_owned());
        std::mem::take(&mut self.waiting).into_iter().for_each(|ask| ask.refuse(why));
    }

    fn news(&mut self, myself: &ActorRef<ServiceMsg>, news: News) {
        match (&mut self.phase, news) {
            (_, News::Ended(why)) => self.down(&format!("the server {} has ended: {why}", self.service.name())),
            (Phase::Up(Up { session, .. }), News::Changed) => {
                let session = session.clone();
                self.list(myself, session);
            }
            (Phase::Asking { stale, .. }, News::Changed) => *stale = true,
            (Phase::Idle | Phase::Connecting, News::Changed) => {}
        }
    }

    /// One listing at a time: the answers of two could overtake each other.
    fn list(&mut self, myself: &ActorRef<ServiceMsg>, session: Arc<dyn Session>) {
        self.phase = Phase::Asking { session: session.clone(), stale: false };
        let (number, deadline, mailbox) = (self.session, self.deadline, myself.clone());
        tokio::spawn(async move {
            let listed = tokio::time::timeout(deadline, session.definitions()).await;
            let late = || Err(format!("its tools were not listed within {} ms", deadline.as_millis()));
            let _ = mailbox.cast(ServiceMsg::Listed(number, listed.unwrap_or_else(|_| late())));
        });
    }

    fn listed(&mut self, myself: &ActorRef<ServiceMsg>, tools: Result<Vec<Definition>, String>) {
        let Phase::Asking { session, stale } = &self.phase else { return };
        let (session, stale) = (session.clone(), *stale);
        match tools {
            Ok(_) if stale => self.list(myself, session),
            Ok(definitions) => self.up(Up { session, definitions }),
            Err(why) => self.down(&format!("the server {}: {why}", self.service.name())),
        }
    }
}

/// What a session has said by now, before anybody listens to it.
async fn already(session: &dyn Session) -> Option<News> {
    tokio::select! {
        biased;
        news = session.news() => Some(news),
        () = std::future::ready(()) => None,
    }
}

fn serve(up: &Up, ask: Ask) {
    let (call, server, sent, people, mut reply) = match ask {
        Ask::Call { call, server, sent, people, reply } => (call, server, sent, people, reply),
        Ask::Definitions { reply } => return drop(reply.send(Ok(up.definitions.clone()))),
    };
    let none = BTreeMap::new();
    if let Some(why) = quarantine(&server, server.pins.as_ref().unwrap_or(&none), &up.definitions) {
        return drop(reply.send(Reply::Refused(why)));
    }
    let session = up.session.clone();
    sent.store(true, Ordering::SeqCst);
    tokio::spawn(async move {
        tokio::select! {
            answer = session.call(&call, people) => drop(reply.send(answer)),
            // Dropped with the call that nobody waits for: the server is told.
            () = reply.closed() => {}
        }
    });
}

/// The servers of a process.
#[derive(Default)]
pub struct Services {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    watch: Option<ActorRef<()>>,
    actors: BTreeMap<String, ActorRef<ServiceMsg>>,
}

/// Looks after the servers' actors: one that fails is gone with its session, and the next call makes a new one.
struct Watch;

impl Actor for Watch {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, why) = event {
            tracing::error!(%why, "the actor of a server failed");
        }
        Ok(())
    }
}

impl Services {
    async fn actor(&self, service: &Arc<dyn Service>, deadline: Duration) -> Result<ActorRef<ServiceMsg>, String> {
        let mut table = self.table.lock().await;
        let gone = |status| matches!(status, ractor::ActorStatus::Stopped | ractor::ActorStatus::Stopping);
        if let Some(actor) = table.actors.get(service.key()).filter(|actor| !gone(actor.get_status())) {
            return Ok(actor.clone());
        }
        let failed = |why: &dyn std::fmt::Display| format!("no actor for the server {}: {why}", service.name());
        let watch = match table.watch.clone().filter(|watch| !gone(watch.get_status())) {
            Some(watch) => watch,
            None => Watch::spawn(None, Watch, ()).await.map_err(|why| failed(&why))?.0,
        };
        let args = (service.clone(), deadline);
        let spawned = ServiceActor::spawn_linked(None, ServiceActor, args, watch.get_cell()).await;
        let actor = spawned.map_err(|why| failed(&why))?.0;
        table.watch = Some(watch);
        table.actors.insert(service.key().to_owned(), actor.clone());
        Ok(actor)
    }

    /// What a server says of its tools; started if it is not up.
    pub async fn definitions(&self, service: &Arc<dyn Service>, timeout_ms: u64) -> Result<Vec<Definition>, String> {
        let actor = self.actor(service, Duration::from_millis(timeout_ms)).await?;
        let (reply, answer) = oneshot::channel();
        let gone = || format!("the actor of the server {} ended", service.name());
        actor.cast(ServiceMsg::Ask(Ask::Definitions { reply })).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Stops every server.
    pub async fn stop(&self) {
        let table = std::mem::take(&mut *self.table.lock().await);
        for actor in table.actors.values() {
            let _ = actor.stop_and_wait(None, Some(Duration::from_secs(1))).await;
        }
        if let Some(watch) = table.watch {
            watch.stop(None);
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let table = self.table.get_mut();
        table.actors.values().for_each(|actor| actor.stop(None));
        if let Some(watch) = &table.watch {
            watch.stop(None);
        }
    }
}

#[cfg(test)]
mod tests;
