//! The single writer of one run: total order, hash chain, fan-out. Invariant: an append whose author
//! has not seen everything it depends on writes nothing; the journal calls nobody and waits for nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

mod given;
mod recent;
use given::Given;
use recent::Recent;

use super::Ports;
use super::crash::crash_point;
use super::durable::Durable;
use super::shell::{Deliver, Fatal};
use super::texts::TextCache;
use crate::core::chain;
use crate::core::event::{CallEvent, Event, Scopes, Subject, TaskEvent, ToolEvent};
use crate::core::ids::{RunId, Seq, Step};
use crate::core::machine::{Control, Decided};
use crate::core::run::Entry;
use crate::ports::author::Author;
use crate::ports::store::Epoch;

pub enum JournalMsg {
    /// A decision, on condition.
    Append { expected: Vec<(Subject, Seq)>, decided: Decided, reply: oneshot::Sender<Appended> },
    /// A fact from outside that holds only of what its author has seen.
    Note { expected: Vec<(Subject, Seq)>, decided: Decided, reply: oneshot::Sender<Noted> },
    /// Facts from outside, without condition.
    Record { decided: Decided, reply: oneshot::Sender<Seq> },
    /// Entries of `subject` after `since` go to `deliver`. Replies `false`, and nothing goes there, if some
    /// of them are no longer at hand.
    Subscribe { subject: Subject, since: Seq, deliver: Deliver, reply: oneshot::Sender<bool> },
    /// The same for a subject that begins, or in a journal that does: only what concerns everybody can be of
    /// before, and that is always at hand.
    SubscribeFresh { subject: Subject, since: Seq, deliver: Deliver },
    /// The plan and the agents of this scope and those below it hear of nothing any more.
    Unsubscribe(Step),
    /// What has waited for company goes to the store.
    Flush,
    /// The last entry's Seq and hash.
    Head(oneshot::Sender<(Seq, chain::Hash)>),
}

pub enum Appended {
    /// The entries that concern the author, in order.
    Done(Vec<Arc<Entry>>),
    /// This subject has moved, last by that entry, which is in its mailbox.
    Stale(Subject, Seq),
}

/// What became of a fact that somebody outside wants recorded.
pub enum Noted {
    /// Up to where the journal is.
    Done(Seq),
    Stale,
}

/// The journal as other actors see it.
#[derive(Clone)]
pub struct JournalHandle {
    actor: ActorRef<JournalMsg>,
    pub durable: Arc<Durable>,
}

impl JournalHandle {
    pub fn new(actor: ActorRef<JournalMsg>, durable: Arc<Durable>) -> JournalHandle {
        JournalHandle { actor, durable }
    }
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> JournalMsg) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.actor.cast(message(reply)).ok()?;
        answer.await.ok()
    }
    /// `None`: the journal has ended.
    pub async fn append(&self, expected: Vec<(Subject, Seq)>, decided: Decided) -> Option<Appended> {
        self.ask(|reply| JournalMsg::Append { expected, decided, reply }).await
    }
    pub async fn note(&self, expected: Vec<(Subject, Seq)>, decided: Decided) -> Option<Noted> {
        self.ask(|reply| JournalMsg::Note { expected, decided, reply }).await
    }
    pub async fn record(&self, decided: Decided) -> Option<Seq> {
        self.ask(|reply| JournalMsg::Record { decided, reply }).await
    }
    /// `None`: the journal has ended, or goes on too far after `since`.
    async fn subscribe(&self, subject: Subject, since: Seq, deliver: Deliver) -> Option<()> {
        let subscribed = self.ask(|reply| JournalMsg::Subscribe { subject, since, deliver, reply }).await;
        subscribed.filter(|at_hand| *at_hand).map(drop)
    }
    /// Entries of `subject` after `since` go to `deliver`. `fresh`: none of its own can be later than `since`, so
    /// that nobody need wait.
    pub async fn follow(&self, subject: &Subject, since: Seq, fresh: bool, deliver: Deliver) -> Result<(), Fatal> {
        if fresh {
            self.subscribe_fresh(subject.clone(), since, deliver);
            return Ok(());
        }
        self.subscribe(subject.clone(), since, deliver).await.ok_or(Fatal::NoJournal)
    }
    /// For an actor that begins, or a journal that does: nobody waits to be told. Whatever its parent appends after
    /// this reaches it. (A person's message that its parent has not folded refuses that append, and the actor is raised
    /// again from the journal.)
    pub fn subscribe_fresh(&self, subject: Subject, since: Seq, deliver: Deliver) {
        // If the journal has ended, the parent's next append says so.
        let _ = self.actor.cast(JournalMsg::SubscribeFresh { subject, since, deliver });
    }
    pub fn unsubscribe(&self, scope: Step) {
        // A journal that has ended has no subscribers either.
        let _ = self.actor.cast(JournalMsg::Unsubscribe(scope));
    }
    pub async fn head(&self) -> Option<(Seq, chain::Hash)> {
        self.ask(JournalMsg::Head).await
    }
}

pub struct Journal;

/// Where the journal goes on.
pub struct JournalArgs {
    pub run: RunId,
    pub epoch: Epoch,
    pub last: Seq,
    pub hash: chain::Hash,
    pub scopes: Scopes,
    pub control: Control,
    pub seen: HashMap<Subject, Seq>,
    pub ports: Ports,
    pub texts: Arc<TextCache>,
    pub durable: Arc<Durable>,
    /// Gets every entry, from the first on, once it is on disk. A closed receiver is forgotten.
    pub watcher: Option<mpsc::UnboundedSender<Arc<Entry>>>,
    /// Called once when a write has failed.
    pub broken: Arc<dyn Fn() + Send + Sync>,
    /// Told at the end: the last entry that the store was given. Nothing is written after it.
    pub gone: Option<oneshot::Sender<Seq>>,
}

pub struct JournalState {
    args: JournalArgs,
    subscribers: HashMap<Subject, Deliver>,
    recent: Recent,
    /// Events that are ordered wait in it for the store.
    author: Author,
    /// Texts that the store was given lately: a role's system message comes with each of its tasks, and
    /// is written with the first.
    given: Given,
    /// The last entry with the store.
    flushed: Seq,
    /// Entries that the store was not given yet, for the watcher: what is not on disk is told to nobody outside.
    unseen: Vec<Arc<Entry>>,
    /// Sends a `Flush` after [`LINGER`].
    timer: Option<AbortHandle>,
    myself: ActorRef<JournalMsg>,
}

/// How long facts that no effect waits for may wait for company. An answer and the next hold of the
/// same agent are then one transaction: one fsync per call, not four.
const LINGER: Duration = Duration::from_millis(1);
/// So many of them are company enough: a burst of answers is written as it comes, not all at its end.
const CROWD: usize = 64;

impl Actor for Journal {
    type Msg = JournalMsg;
    type State = JournalState;
    type Arguments = JournalArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<JournalMsg>,
        args: JournalArgs,
    ) -> Result<JournalState, ActorProcessingErr> {
        let (subscribers, recent) = (HashMap::new(), Recent::default());
        let author = Author::after(&args.run, args.last, args.hash);
        let (given, flushed, unseen, timer) = (Given::default(), args.last, Vec::new(), None);
        Ok(JournalState { args, subscribers, recent, author, given, flushed, unseen, timer, myself })
    }

    async fn handle(
        &self,
        _: ActorRef<JournalMsg>,
        message: JournalMsg,
        state: &mut JournalState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            JournalMsg::Append { expected, decided, reply } => {
                let stale = state.stale(&expected);
                let answer = match stale {
                    Some((subject, _)) => Appended::Stale(subject.clone(), state.last_of(subject)),
                    None => Appended::Done(state.write(decided, expected.first().map(|(subject, _)| subject))),
                };
                // An author that died meanwhile finds its entries in the journal when it comes back.
                let _ = reply.send(answer);
            }
            JournalMsg::Note { expected, decided, reply } => {
                let answer = match state.stale(&expected) {
                    Some(_) => Noted::Stale,
                    None => {
                        state.write(decided, None);
                        Noted::Done(state.author.end().0)
                    }
                };
                let _ = reply.send(answer);
            }
            JournalMsg::Record { decided, reply } => {
                state.write(decided, None);
                let _ = reply.send(state.author.end().0);
            }
            JournalMsg::Subscribe { subject, since, deliver, reply } => {
                let at_hand = state.catch_up(&subject, since, &deliver);
                if at_hand {
                    state.subscribers.insert(subject, deliver);
                }
                let _ = reply.send(at_hand);
            }
            JournalMsg::SubscribeFresh { subject, since, deliver } => {
                state.recent.whole(since).for_each(|entry| deliver(entry.clone()));
                state.subscribers.insert(subject, deliver);
            }
            JournalMsg::Unsubscribe(scope) => state.subscribers.retain(|subject, _| !belongs(subject, &scope)),
            JournalMsg::Flush => state.flush(),
            JournalMsg::Head(reply) => drop(reply.send(state.author.end())),
        }
        Ok(())
    }
}

impl JournalState {
    fn last_of(&self, subject: &Subject) -> Seq {
        let at = |subject| self.args.seen.get(subject).copied().unwrap_or_default();
        at(subject).max(at(&Subject::All))
    }

    fn stale<'a>(&self, expected: &'a [(Subject, Seq)]) -> Option<&'a (Subject, Seq)> {
        expected.iter().find(|(subject, seq)| self.last_of(subject) > *seq)
    }

    /// Delivers what a subscriber has missed; `false` if that is no longer at hand.
    fn catch_up(&self, subject: &Subject, since: Seq, deliver: &Deliver) -> bool {
        if self.last_of(subject) <= since {
            return true;
        }
        let own = self.args.seen.get(subject).copied().unwrap_or_default();
        let missed = self.recent.missed(subject, since, own);
        missed.map(|missed| missed.into_iter().for_each(|entry| deliver(entry))).is_some()
    }

    /// Orders the events, hands them to the store's queue and to their subscribers. The author gets
    /// its own by the reply instead.
    fn write(&mut self, decided: Decided, author: Option<&Subject>) -> Vec<Arc<Entry>> {
        let Decided { events, mut blobs } = decided;
        blobs.retain(|blob| self.given.is_new(blob.id));
        let mut own = Vec::new();
        let urgent = events.iter().any(is_urgent);
        let last = Seq(self.author.end().0.0.saturating_add(events.len() as u64));
        blobs.iter().for_each(|blob| self.args.texts.pin(blob, last));
        self.author.keep(blobs);
        for event in events {
            let entry = Arc::new(self.author.write(event, self.args.ports.clock.now_ms()));
            if self.route(&entry, author) {
                own.push(entry);
            }
        }
        if urgent || self.author.waiting() >= CROWD {
            self.flush()
        } else {
            self.linger()
        }
        own
    }

    /// Does the entry concern its author?
    fn route(&mut self, entry: &Arc<Entry>, author: Option<&Subject>) -> bool {
        let args = &mut self.args;
        args.scopes.apply(&entry.event);
        if let Event::Run(run) = &entry.event {
            args.control.apply(run);
        }
        if let Event::Call(CallEvent::Failed { failure, .. }) = &entry.event
            && failure.class.stops_the_run()
        {
            let quota = failure.class != crate::core::chat::FailureClass::Credentials;
            args.control.refused(quota, &failure.message);
        }
        let mut own = false;
        let subjects = entry.event.subjects(&args.scopes);
        for subject in &subjects {
            match args.seen.get_mut(subject) {
                Some(seen) => *seen = entry.seq,
                None => drop(args.seen.insert(subject.clone(), entry.seq)),
            }
            if *subject == Subject::All {
                own = author.is_some();
                let others = self.subscribers.iter().filter(|(subject, _)| Some(*subject) != author);
                others.for_each(|(_, deliver)| deliver(entry.clone()));
            } else if Some(subject) == author {
                own = true;
            } else if let Some(deliver) = self.subscribers.get(subject) {
                deliver(entry.clone());
            }
        }
        self.recent.push(entry.clone(), subjects);
        if self.args.watcher.is_some() {
            self.unseen.push(entry.clone());
        }
        own
    }

    /// What no effect waits for goes to the store with what follows, or after [`LINGER`].
    fn linger(&mut self) {
        if self.timer.is_none() {
            let mailbox = self.myself.clone();
            let timer = tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                // A journal that has ended has written everything.
                let _ = mailbox.cast(JournalMsg::Flush);
            });
            self.timer = Some(timer.abort_handle());
        }
    }

    fn flush(&mut self) {
        // Nothing is left to wait for company: a process that is otherwise idle is not woken for it.
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        if self.author.waiting() == 0 {
            return;
        }
        let (batch, last) = (self.author.take(self.args.epoch), self.author.end().0);
        self.flushed = last;
        self.args.watcher.take_if(|watcher| watcher.is_closed());
        let unseen = std::mem::take(&mut self.unseen);
        let news = self.args.watcher.clone().map(|watcher| (watcher, unseen));
        let args = &self.args;
        let (durable, broken, texts) = (args.durable.clone(), args.broken.clone(), args.texts.clone());
        #[cfg(debug_assertions)]
        let points = args.ports.crash.clone();
        crash_point!(args.ports.crash, "append_queue");
        args.ports.store.append(
            batch,
            Box::new(move |written| match written {
                Ok(()) => {
                    crash_point!(points, "append_durable");
                    // Before whoever waits for the end of the run hears of it.
                    if let Some((watcher, entries)) = news {
                        entries.into_iter().for_each(|entry| drop(watcher.send(entry)));
                    }
                    texts.durable(last);
                    durable.reached(last);
                }
                Err(error) => {
                    durable.fail(error);
                    broken();
                }
            }),
        );
        crash_point!(args.ports.crash, "append_queued");
    }
}

/// Whatever ends the journal: what was ordered is written.
impl Drop for JournalState {
    fn drop(&mut self) {
        self.flush();
        if let Some(gone) = self.args.gone.take() {
            // Only a run that is taken up again asks.
            let _ = gone.send(self.flushed);
        }
    }
}

fn belongs(subject: &Subject, scope: &Step) -> bool {
    match subject {
        Subject::Plan(plan) => plan.is_within(scope),
        Subject::Agent(agent) => agent.scope.is_within(scope),
        Subject::Ledger | Subject::All => false,
    }
}

/// Does an effect wait for it? Everything else may share the transaction of what follows.
fn is_urgent(event: &Event) -> bool {
    match event {
        Event::Run(_) => true,
        Event::Call(call) => matches!(call, CallEvent::Held(_)),
        Event::Tool(tool) => matches!(tool, ToolEvent::Started { .. }),
        Event::Task(task) => matches!(task, TaskEvent::Crashed { .. }),
        Event::Interrupt(_) | Event::Ledger(_) => false,
    }
}
