//! A machine, the last Seq it has folded, and the only place that applies live events. Invariant: a
//! machine decides on what it has folded, and every append says up to where that was; if something it
//! depends on has moved meanwhile, nothing is written and it decides again.

use std::sync::Arc;

use super::journal::{Appended, JournalHandle};
use crate::core::agent::Agent;
use crate::core::event::{Event, Subject};
use crate::core::ids::Seq;
use crate::core::ledger::Ledger;
use crate::core::machine::{Decided, IllegalEvent, MissingText};
use crate::core::plan::Plan;
use crate::core::run::Entry;

pub trait Machine {
    fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent>;
}
impl Machine for Agent {
    fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        Agent::apply(self, event)
    }
}
impl Machine for Plan {
    fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        Plan::apply(self, event)
    }
}
impl Machine for Ledger {
    fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        Ledger::apply(self, event)
    }
}

pub struct Shell<M> {
    pub machine: M,
    pub last: Seq,
    pub subject: Subject,
    pub journal: JournalHandle,
}

/// What became of a commit.
#[derive(Debug, PartialEq, Eq)]
pub enum Commit {
    Done,
    /// This subject has moved: its entries are in the mailbox; decide again after them.
    Stale(Subject),
}

/// Why an actor dies: its journal is broken or no longer takes its word, or who works for it has died.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error("the journal has ended")]
    NoJournal,
    /// With its own cause.
    #[error("an actor below it failed: {0}")]
    Below(String),
    #[error("an actor below it did not start: {0}")]
    NotUp(String),
    #[error(transparent)]
    Missing(#[from] MissingText),
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
}

impl<M: Machine> Shell<M> {
    /// Folds a committed entry, once.
    pub fn fold(&mut self, entry: &Entry) -> Result<(), IllegalEvent> {
        if entry.seq <= self.last {
            return Ok(());
        }
        self.machine.apply(&entry.event)?;
        self.last = entry.seq;
        Ok(())
    }

    /// Appends a decision on condition that neither this machine's subject nor `also` has moved, and
    /// folds it. The reply carries the entries themselves: nothing can stand between.
    pub async fn commit(&mut self, decided: Decided, also: Option<(Subject, Seq)>) -> Result<Commit, Fatal> {
        match self.append(decided, also).await? {
            Err(subject) => Ok(Commit::Stale(subject)),
            Ok(entries) => {
                for entry in entries {
                    self.fold(&entry)?;
                }
                Ok(Commit::Done)
            }
        }
    }

    /// The same without folding it. `Err`: nothing was written, because this subject has moved.
    pub async fn append(
        &self,
        decided: Decided,
        also: Option<(Subject, Seq)>,
    ) -> Result<Result<Vec<Arc<Entry>>, Subject>, Fatal> {
        let expected = std::iter::once((self.subject.clone(), self.last)).chain(also).collect();
        Ok(match self.journal.append(expected, decided).await.ok_or(Fatal::NoJournal)? {
            Appended::Stale(subject) => Err(subject),
            Appended::Done(entries) => Ok(entries),
        })
    }
}

/// Hands an entry to an actor's mailbox.
pub type Deliver = Arc<dyn Fn(Arc<Entry>) + Send + Sync>;
