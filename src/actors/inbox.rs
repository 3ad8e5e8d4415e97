//! Commands of other processes. Invariant: a command is forgotten once its event is durable and not
//! before; one that this bosun does not know stays for one that does.

use std::collections::{HashMap, HashSet};
use std::sync::Weak;
use std::time::Duration;

use ractor::{ActorId, ActorRef};
use tokio::sync::oneshot;

use super::Ports;
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
    let mut inbox = Inbox::default();
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(live) = host.upgrade().map(|host| host.at_work()) else { return };
        if !live.is_empty() {
            inbox.look(&ports, live).await;
        }
    }
}

#[derive(Default)]
struct Inbox {
    /// The store's version as of which nothing is left to take, by root actor: a run that went live
    /// after a look has none and is looked at.
    seen: HashMap<ActorId, u64>,
    /// Durable, but the store would not forget them: not to be recorded again.
    taken: HashSet<(RunId, u64)>,
    /// What people were asked in each run, up to where its journal was read.
    asked: HashMap<RunId, (Seq, Interrupts)>,
    /// Said in the log, once each.
    unknown: HashSet<(RunId, u64)>,
}

impl Inbox {
    async fn look(&mut self, ports: &Ports, live: Vec<Root>) {
        self.seen.retain(|id, _| live.iter().any(|(_, root)| root.get_id() == *id));
        self.asked.retain(|run, _| live.iter().any(|(id, _)| id == run));
        let (store, seen) = (ports.store.clone(), self.seen.clone());
        let looked = tokio::task::spawn_blocking(move || rows(&*store, &seen, live)).await;
        let Ok((version, found)) = looked else { return };
        for ((run, root), rows) in found {
            let mut whole = true;
            for row in rows {
                whole &= self.take(ports, &run, &root, row).await;
            }
            if let (Some(version), true) = (version, whole) {
                self.seen.insert(root.get_id(), version);
            }
        }
    }

    /// `false` if the command must be looked at again.
    async fn take(&mut self, ports: &Ports, run: &RunId, root: &ActorRef<RunMsg>, row: InboxRow) -> bool {
        let key = (run.clone(), row.id);
        if !self.taken.contains(&key) {
            let by = row.by.clone();
            let decided = match row.kind.as_str() {
                "pause" => Some(Decided::one(Event::Run(RunEvent::PauseAsked { cause: PauseCause::Asked, by }))),
                "cancel" => Some(Decided::one(Event::Run(RunEvent::CancelAsked { by }))),
                "settle" => settle_event(&row).map(Decided::one),
                "tell" => return self.tell(ports, run, root, row).await,
                kind if kind.starts_with(RULING) => match self.ruled(ports, run, &row).await {
                    Ok(decided) => decided,
                    Err(why) => {
                        tracing::warn!(%run, %why, "the journal cannot be read; a decision is looked at again");
                        return false;
                    }
                },
                other => {
                    if self.unknown.insert(key) {
                        tracing::warn!(kind = other, "a command this bosun does not know is left in the inbox");
                    }
                    return true;
                }
            };
            if let Some(decided) = decided
                && !record(root, decided).await
            {
                return false;
            }
        }
        self.forget(ports, run, &row).await
    }

    /// What a person decided, if that is still open: one that is not changes nothing and is forgotten.
    async fn ruled(&mut self, ports: &Ports, run: &RunId, row: &InboxRow) -> Result<Option<Decided>, String> {
        let (store, of) = (ports.store.clone(), run.clone());
        let known = self.asked.remove(run).unwrap_or((Seq(0), Interrupts::default()));
        let read = tokio::task::spawn_blocking(move || later(&*store, &of, known)).await;
        let known = read.map_err(|why| why.to_string())?.map_err(|why| why.to_string())?;
        let decided = ruled(&known.1, row);
        self.asked.insert(run.clone(), known);
        Ok(decided)
    }

    async fn tell(&mut self, ports: &Ports, run: &RunId, root: &ActorRef<RunMsg>, row: InboxRow) -> bool {
        let (durable, answer) = oneshot::channel();
        let told = root.cast(RunMsg::Tell { row: Box::new(row.clone()), durable }).is_ok() && answer.await.is_ok();
        told && self.forget(ports, run, &row).await
    }

    /// `false` if it must be tried again.
    async fn forget(&mut self, ports: &Ports, run: &RunId, row: &InboxRow) -> bool {
        let key = (run.clone(), row.id);
        crash_point!(ports.crash, "inbox_taken");
        let (store, run, id) = (ports.store.clone(), run.clone(), row.id);
        let forgotten = tokio::task::spawn_blocking(move || store.inbox_done(&run, id)).await;
        if let Ok(Err(error)) = forgotten {
            tracing::warn!(%error, "a command was taken but could not be taken out of the inbox");
            self.taken.insert(key);
            return false;
        }
        self.taken.remove(&key);
        true
    }
}

/// `true` once the event is on disk, or void.
async fn record(root: &ActorRef<RunMsg>, decided: Decided) -> bool {
    let (durable, answer) = oneshot::channel();
    root.cast(RunMsg::Take { decided, durable }).is_ok() && answer.await.is_ok()
}

type Found = (Option<u64>, Vec<(Root, Vec<InboxRow>)>);

fn rows(store: &dyn Store, seen: &HashMap<ActorId, u64>, live: Vec<Root>) -> Found {
    // First: what is written after it changes it again.
    let version = store.version().ok();
    let due = |root: &Root| version.is_none() || seen.get(&root.1.get_id()) != version.as_ref();
    let mut found = Vec::new();
    for root in live.into_iter().filter(due) {
        match store.inbox(&root.0) {
            Ok(rows) => found.push((root, rows)),
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
