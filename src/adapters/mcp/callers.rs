//! Whose calls are under way on a connection. Invariant: a question goes to the people of exactly the call that it
//! belongs to; where that cannot be told, to nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::core::question::Question;
use crate::ports::tool::{Answer, People};

tokio::task_local! {
    /// The call that this task makes.
    pub(super) static CALLER: Caller;
}

/// One call.
#[derive(Clone)]
pub(super) struct Caller {
    people: Arc<dyn People>,
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
}

/// A call is under way as long as this is there.
pub(super) struct Here {
    callers: Callers,
    number: u64,
    _end: watch::Sender<()>,
}

impl Drop for Here {
    fn drop(&mut self) {
        self.callers.table(|table| table.calls.remove(&self.number));
    }
}

impl Callers {
    fn table<T>(&self, of: impl FnOnce(&mut Table) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn enter(&self, people: Arc<dyn People>) -> (Caller, Here) {
        let (end, here) = watch::channel(());
        let caller = Caller { people, notes: Arc::default(), here };
        let number = self.table(|table| {
            table.next += 1;
            table.calls.insert(table.next, caller.clone());
            table.next
        });
        (caller, Here { callers: self.clone(), number, _end: end })
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
