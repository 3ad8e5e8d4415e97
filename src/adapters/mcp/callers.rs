//! Whose calls are under way on a connection. Invariant: a question goes to the people of exactly the call that it
//! belongs to; where that cannot be told, to nobody.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::ProgressToken;
use tokio::sync::watch;

use crate::core::question::Question;
use crate::ports::tool::{Answer, People, Progress};

tokio::task_local! {
    /// The call that this task makes.
    pub(super) static CALLER: Caller;
}

/// One call.
#[derive(Clone)]
pub(super) struct Caller {
    people: Arc<dyn People>,
    /// The call's idempotency key.
    key: Arc<str>,
    notes: Arc<Mutex<Vec<String>>>,
    /// Its other end goes with the call.
    here: watch::Receiver<()>,
}

impl Caller {
    /// Ends with the call at the latest.
    pub(super) async fn ask(&self, question: Question) -> Answer {
        let mut here = self.here.clone();
        tokio::select! {
            answer = self.people.ask(question) => answer,
            _ = here.changed() => Answer::Nobody("the call has ended".to_owned()),
        }
    }
    /// For whoever watches.
    pub(super) fn is_at(&self, progress: Progress) {
        self.people.watch(progress);
    }
    /// For whoever reads the call's result.
    pub(super) fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
    pub(super) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Default)]
pub(super) struct Callers(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    next: u64,
    calls: BTreeMap<u64, Caller>,
    /// Calls by what their messages of progress will be marked with.
    tokens: HashMap<ProgressToken, u64>,
}

/// A call is under way as long as this is there.
pub(super) struct Here {
    callers: Callers,
    number: u64,
    _end: watch::Sender<()>,
}

impl Drop for Here {
    fn drop(&mut self) {
        self.callers.table(|table| {
            table.calls.remove(&self.number);
            table.tokens.retain(|_, number| *number != self.number);
        });
    }
}

impl Callers {
    fn table<T>(&self, of: impl FnOnce(&mut Table) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn enter(&self, key: &str, people: Arc<dyn People>) -> (Caller, Here) {
        let (end, here) = watch::channel(());
        let caller = Caller { people, key: key.into(), notes: Arc::default(), here };
        let number = self.table(|table| {
            table.next += 1;
            table.calls.insert(table.next, caller.clone());
            table.next
        });
        (caller, Here { callers: self.clone(), number, _end: end })
    }

    /// A request of the call with this key leaves: progress with this mark will be its own. Of two calls with one
    /// key it is the first's.
    pub(super) fn leaves(&self, key: &str, token: ProgressToken) {
        self.table(|table| {
            let number = table.calls.iter().find(|(_, caller)| &*caller.key == key).map(|(number, _)| *number);
            if let Some(number) = number {
                table.tokens.insert(token, number);
            }
        });
    }

    pub(super) fn of_token(&self, token: &ProgressToken) -> Option<Caller> {
        self.table(|table| table.calls.get(table.tokens.get(token)?).cloned())
    }

    /// The one call that is under way.
    pub(super) fn only(&self) -> Option<Caller> {
        self.table(|table| {
            let mut calls = table.calls.values();
            calls.next().filter(|_| calls.next().is_none()).cloned()
        })
    }

    /// For whoever reads the result of any of them.
    pub(super) fn note(&self, text: &str) {
        self.table(|table| table.calls.values().for_each(|caller| caller.note(text.to_owned())));
    }
}
