//! What a subscriber that comes a little late has missed. Invariant: it is given all of it, in order, or
//! is told that it is no longer at hand.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::core::event::Subject;
use crate::core::ids::Seq;
use crate::core::run::Entry;

/// Entries kept for late subscribers. An actor is taken up again within far fewer.
const LATEST: usize = 1024;

#[derive(Default)]
pub struct Recent {
    latest: VecDeque<(Arc<Entry>, Vec<Subject>)>,
    /// What concerns everybody, from the start of this process on: few, and an agent that has long been
    /// idle has missed nothing else.
    whole: Vec<Arc<Entry>>,
}

impl Recent {
    pub fn push(&mut self, entry: Arc<Entry>, subjects: Vec<Subject>) {
        if subjects.contains(&Subject::All) {
            self.whole.push(entry.clone());
        }
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back((entry, subjects));
    }

    /// Entries of `subject` after `since`, those for everybody included; `own` is the last one of its own.
    /// `None`: some are no longer at hand.
    pub fn missed(&self, subject: &Subject, since: Seq, own: Seq) -> Option<Vec<Arc<Entry>>> {
        let at_hand = self.latest.front().is_some_and(|(first, _)| first.seq <= since.next());
        if at_hand {
            let late = self.latest.iter().filter(|(entry, _)| entry.seq > since);
            let late = late.filter(|(_, subjects)| subjects.contains(subject) || subjects.contains(&Subject::All));
            return Some(late.map(|(entry, _)| entry.clone()).collect());
        }
        (own <= since).then(|| self.whole(since).cloned().collect())
    }

    /// Entries for everybody after `since`.
    pub fn whole(&self, since: Seq) -> impl Iterator<Item = &Arc<Entry>> {
        self.whole.iter().filter(move |entry| entry.seq > since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{Event, PauseCause, RunEvent};

    fn entry(seq: u64) -> Arc<Entry> {
        let event = Event::Run(RunEvent::PauseAsked { cause: PauseCause::Asked, by: "me".into() });
        Arc::new(Entry { seq: Seq(seq), at_ms: 0, event })
    }

    #[test]
    fn whoever_was_idle_for_long_gets_what_concerned_everybody() {
        let mut recent = Recent::default();
        recent.push(entry(1), vec![Subject::All]);
        (2..3000).for_each(|seq| recent.push(entry(seq), vec![Subject::Ledger]));
        let seqs = |missed: Option<Vec<Arc<Entry>>>| missed.map(|all| all.iter().map(|e| e.seq.0).collect::<Vec<_>>());
        let idle = Subject::Plan(crate::core::ids::Step::root());
        assert_eq!(seqs(recent.missed(&idle, Seq(0), Seq(0))), Some(vec![1]));
        assert_eq!(seqs(recent.missed(&idle, Seq(1), Seq(1))), Some(vec![]));
        assert_eq!(seqs(recent.missed(&Subject::Ledger, Seq(10), Seq(2999))), None, "too far behind");
        assert_eq!(seqs(recent.missed(&Subject::Ledger, Seq(2997), Seq(2999))), Some(vec![2998, 2999]));
    }
}
