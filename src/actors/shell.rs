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
    /// The journal has said that the subject has moved up to here.
    moved: Seq,
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
    pub fn new(machine: M, last: Seq, subject: Subject, journal: JournalHandle) -> Shell<M> {
        Shell { machine, last, subject, journal, moved: Seq(0) }
    }

    /// Has the subject moved beyond what is folded, as the journal has said? Those entries are in the mailbox; until
    /// then it takes nothing that is decided here.
    pub fn is_behind(&self) -> bool {
        self.last < self.moved
    }

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
        &mut self,
        decided: Decided,
        also: Option<(Subject, Seq)>,
    ) -> Result<Result<Vec<Arc<Entry>>, Subject>, Fatal> {
        if self.is_behind() {
            return Ok(Err(self.subject.clone()));
        }
        let expected = std::iter::once((self.subject.clone(), self.last)).chain(also).collect();
        Ok(match self.journal.append(expected, decided).await.ok_or(Fatal::NoJournal)? {
            Appended::Stale(subject, seq) => {
                if subject == self.subject {
                    self.moved = seq;
                }
                Err(subject)
            }
            Appended::Done(entries) => Ok(entries),
        })
    }
}

/// Hands an entry to an actor's mailbox.
pub type Deliver = Arc<dyn Fn(Arc<Entry>) + Send + Sync>;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ractor::{Actor, ActorProcessingErr, ActorRef};

    use super::super::durable::Durable;
    use super::super::journal::JournalMsg;
    use super::*;
    use crate::core::event::{Event, PauseCause, RunEvent};

    /// A journal in which the ledger's subject has moved to entry 7.
    struct Ahead(Arc<AtomicUsize>);
    impl Actor for Ahead {
        type Msg = JournalMsg;
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<JournalMsg>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
        async fn handle(
            &self,
            _: ActorRef<JournalMsg>,
            message: JournalMsg,
            _: &mut (),
        ) -> Result<(), ActorProcessingErr> {
            if let JournalMsg::Append { expected, reply, .. } = message {
                self.0.fetch_add(1, Ordering::SeqCst);
                let stale = expected.into_iter().find(|(_, seen)| *seen < Seq(7));
                let answer = stale.map_or(Appended::Done(Vec::new()), |(subject, _)| Appended::Stale(subject, Seq(7)));
                assert!(reply.send(answer).is_ok());
            }
            Ok(())
        }
    }

    #[test]
    fn whoever_is_behind_does_not_ask_again_before_it_has_caught_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let asked = Arc::new(AtomicUsize::new(0));
            let (actor, _) = Actor::spawn(None, Ahead(asked.clone()), ()).await.unwrap();
            let journal = JournalHandle::new(actor.clone(), Arc::new(Durable::new(Seq(0))));
            let mut shell = Shell::new(Ledger::default(), Seq(4), Subject::Ledger, journal);
            let event = || Event::Run(RunEvent::PauseAsked { cause: PauseCause::Asked, by: "me".into() });
            let entry = |seq| Entry { seq: Seq(seq), at_ms: 0, event: event() };
            for seq in [5, 6, 7] {
                // However often it is tried, the journal is asked once.
                for _ in 0..3 {
                    let stale = shell.commit(Decided::one(event()), None).await.unwrap();
                    assert_eq!(stale, Commit::Stale(Subject::Ledger));
                    assert_eq!((asked.load(Ordering::SeqCst), shell.is_behind()), (1, true));
                }
                shell.fold(&entry(seq)).unwrap();
            }
            assert!(!shell.is_behind());
            // Another's subject that has moved says nothing of its own.
            let other = Some((Subject::All, Seq(0)));
            assert_eq!(shell.commit(Decided::one(event()), other).await.unwrap(), Commit::Stale(Subject::All));
            assert!(!shell.is_behind());
            assert_eq!(shell.commit(Decided::one(event()), None).await.unwrap(), Commit::Done);
            assert_eq!(asked.load(Ordering::SeqCst), 3);
            actor.stop(None);
        });
    }
}
