//! Commands of other processes. Invariant: a command is forgotten once its event is durable and not
//! before; one that this bosun does not know stays for one that does.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ractor::{ActorId, ActorRef};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::task::JoinSet;

use super::Ports;
#[cfg(debug_assertions)]
use super::crash::CrashPoints;
use super::crash::crash_point;
use super::host::Host;
use super::run::RunMsg;
use crate::core::event::{BadEvent, CallEvent, Event, PauseCause, RunEvent};
use crate::core::ids::{CallId, RunId, Seq};
use crate::core::interrupt::{Interrupts, RULING, Ruling};
use crate::core::machine::Decided;
use crate::core::money::Amount;
use crate::core::run::Entry;
use crate::ports::store::{InboxRow, Store, StoreError};

/// How often another process's commands are looked for.
const EVERY: Duration = Duration::from_millis(50);

type Root = (RunId, ActorRef<RunMsg>);

/// One per process: looks until the host is gone.
pub async fn watch(host: Weak<Host>, ports: Ports) {
    let mut inbox = Inbox::new(ports.store);
    #[cfg(debug_assertions)]
    {
        inbox.crash = ports.crash;
    }
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(live) = host.upgrade().map(|host| host.at_work()) else {
            // What is on disk is forgotten all the same.
            return inbox.at_work.detach_all();
        };
        if !live.is_empty() {
            inbox.look(live).await;
        }
    }
}

/// The commands of each run are taken one after the other, those of different runs at the same time: no run waits
/// for what another one is told.
struct Inbox {
    store: Arc<dyn Store>,
    #[cfg(debug_assertions)]
    crash: CrashPoints,
    /// Locked while commands of the run are being taken.
    desks: HashMap<RunId, Arc<Mutex<Desk>>>,
    at_work: JoinSet<()>,
}

/// What is known of one run's commands.
#[derive(Default)]
struct Desk {
    /// The store's version as of which nothing is left to take, for this root actor: a run that went live
    /// after a look has none and is looked at.
    seen: Option<(ActorId, u64)>,
    /// Durable, but the store would not forget them: not to be recorded again.
    taken: HashSet<u64>,
    /// What people were asked, up to where the journal was read.
    asked: Option<(Seq, Interrupts)>,
    /// Said in the log, once each.
    unknown: HashSet<u64>,
}

/// Where the commands of one run lie, and who is told.
struct Post {
    store: Arc<dyn Store>,
    #[cfg(debug_assertions)]
    crash: CrashPoints,
    run: RunId,
    root: ActorRef<RunMsg>,
}

impl Inbox {
    fn new(store: Arc<dyn Store>) -> Inbox {
        Inbox {
            store,
            #[cfg(debug_assertions)]
            crash: CrashPoints::default(),
            desks: HashMap::new(),
            at_work: JoinSet::new(),
        }
    }

    async fn look(&mut self, live: Vec<Root>) {
        while let Some(ended) = self.at_work.try_join_next() {
            if let Err(why) = ended {
                tracing::error!(%why, "commands of a run were not taken; they are looked at again");
            }
        }
        let ids: HashSet<&RunId> = live.iter().map(|(run, _)| run).collect();
        // A run that starts over is not live for a moment.
        let done = |desk: &Mutex<Desk>| desk.try_lock().is_ok_and(|desk| desk.taken.is_empty());
        self.desks.retain(|run, desk| ids.contains(run) || !done(desk));
        let mut free = Vec::new();
        for root in live {
            let desk = self.desks.entry(root.0.clone()).or_default().clone();
            free.extend(desk.try_lock_owned().ok().map(|desk| (root, desk)));
        }
        let store = self.store.clone();
        let Ok((version, found)) = tokio::task::spawn_blocking(move || rows(&*store, free)).await else { return };
        for ((run, root), mut desk, rows) in found {
            let seen = version.map(|version| (root.get_id(), version));
            if rows.is_empty() {
                desk.seen = seen.or(desk.seen);
                continue;
            }
            let post = Post {
                store: self.store.clone(),
                #[cfg(debug_assertions)]
                crash: self.crash.clone(),
                run,
                root,
            };
            self.at_work.spawn(async move {
                let mut whole = true;
                for row in rows {
                    whole &= desk.take(&post, row).await;
                }
                if whole {
                    desk.seen = seen.or(desk.seen);
                }
            });
        }
    }
}

impl Desk {
    /// `false` if the command must be looked at again.
    async fn take(&mut self, post: &Post, row: InboxRow) -> bool {
        if !self.taken.contains(&row.id) {
            let by = row.by.clone();
            let decided = match row.kind.as_str() {
                "pause" => Some(Decided::one(Event::Run(RunEvent::PauseAsked { cause: PauseCause::Asked, by }))),
                "cancel" => Some(Decided::one(Event::Run(RunEvent::CancelAsked { by }))),
                "settle" => settle_event(&row).map(Decided::one),
                "tell" => return post.tell(&row).await && self.forget(post, &row).await,
                kind if kind.starts_with(RULING) => match self.ruled(post, &row).await {
                    Ok(decided) => decided,
                    Err(why) => {
                        let run = &post.run;
                        tracing::warn!(%run, %why, "the journal cannot be read; a decision is looked at again");
                        return false;
                    }
                },
                other => {
                    if self.unknown.insert(row.id) {
                        tracing::warn!(kind = other, "a command this bosun does not know is left in the inbox");
                    }
                    return true;
                }
            };
            if let Some(decided) = decided
                && !post.record(decided).await
            {
                return false;
            }
        }
        self.forget(post, &row).await
    }

    /// What a person decided, if that is still open: one that is not changes nothing and is forgotten.
    async fn ruled(&mut self, post: &Post, row: &InboxRow) -> Result<Option<Decided>, String> {
        let (store, of) = (post.store.clone(), post.run.clone());
        let known = self.asked.take().unwrap_or((Seq(0), Interrupts::default()));
        let read = tokio::task::spawn_blocking(move || later(&*store, &of, known)).await;
        let known = read.map_err(|why| why.to_string())?.map_err(|why| why.to_string())?;
        let decided = ruled(&known.1, row);
        self.asked = Some(known);
        Ok(decided)
    }

    /// `false` if it must be tried again.
    async fn forget(&mut self, post: &Post, row: &InboxRow) -> bool {
        crash_point!(post.crash, "inbox_taken");
        let (store, run, id) = (post.store.clone(), post.run.clone(), row.id);
        let forgotten = tokio::task::spawn_blocking(move || store.inbox_done(&run, id)).await;
        if let Ok(Err(error)) = forgotten {
            tracing::warn!(%error, "a command was taken but could not be taken out of the inbox");
            self.taken.insert(row.id);
            return false;
        }
        self.taken.remove(&row.id);
        true
    }
}

impl Post {
    /// `true` once the message is on disk.
    async fn tell(&self, row: &InboxRow) -> bool {
        let (durable, answer) = oneshot::channel();
        self.root.cast(RunMsg::Tell { row: Box::new(row.clone()), durable }).is_ok() && answer.await.is_ok()
    }

    /// `true` once the event is on disk, or void.
    async fn record(&self, decided: Decided) -> bool {
        let (durable, answer) = oneshot::channel();
        self.root.cast(RunMsg::Take { decided, durable }).is_ok() && answer.await.is_ok()
    }
}

/// A run whose commands nobody is taking.
type Free = (Root, OwnedMutexGuard<Desk>);
type Found = (Option<u64>, Vec<(Root, OwnedMutexGuard<Desk>, Vec<InboxRow>)>);

fn rows(store: &dyn Store, free: Vec<Free>) -> Found {
    // First: what is written after it changes it again.
    let version = store.version().ok();
    let mut found = Vec::new();
    for (root, desk) in free {
        let due = version.is_none() || desk.seen != version.map(|version| (root.1.get_id(), version));
        if !due {
            continue;
        }
        match store.inbox(&root.0) {
            Ok(rows) => found.push((root, desk, rows)),
            Err(error) => tracing::warn!(run = %root.0, %error, "the inbox cannot be read; it is read again"),
        }
    }
    (version, found)
}

/// The interrupts of a run as far as it is on disk.
pub fn interrupts(store: &dyn Store, run: &RunId) -> Result<Interrupts, StoreError> {
    later(store, run, (Seq(0), Interrupts::default())).map(|(_, all)| all)
}

/// The same, from what was known up to an entry.
fn later(store: &dyn Store, run: &RunId, known: (Seq, Interrupts)) -> Result<(Seq, Interrupts), StoreError> {
    let (last, mut all) = known;
    let rows = store.read(run, last.next())?;
    for row in rows.iter().filter(|row| Interrupts::looks_at(&row.kind)) {
        let entry = Entry::decode(row.seq, row.at_ms, &row.kind, &row.payload);
        let damaged = |why: BadEvent| StoreError::Damaged { run: run.clone(), seq: row.seq, why: why.to_string() };
        all.apply(&entry.map_err(damaged)?);
    }
    Ok((rows.last().map_or(last, |row| row.seq), all))
}

/// A person's ruling as events, judged by the time at which it was made.
pub fn ruled(interrupts: &Interrupts, row: &InboxRow) -> Option<Decided> {
    let ruling: Ruling = serde_json::from_str(&row.payload).ok()?;
    let decided = interrupts.rule(&ruling, &row.by, row.at_ms);
    decided.inspect_err(|why| tracing::warn!(by = %row.by, %why, "a decision changes nothing")).ok()
}

/// `{"call": "draft.1", "cost": {…}}`.
pub fn settle_event(row: &InboxRow) -> Option<Event> {
    #[derive(serde::Deserialize)]
    struct Settle {
        call: CallId,
        cost: Amount,
    }
    let Settle { call, cost } = serde_json::from_str(&row.payload).ok()?;
    Some(Event::Call(CallEvent::Settled { call, cost, by: row.by.clone() }))
}

#[cfg(test)]
mod tests;
