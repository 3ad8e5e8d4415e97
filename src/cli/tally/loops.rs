//! Loops that came to their round limit. Invariant: nothing is said of a loop whose crew is not known here: the
//! rounds of a debate end so, too.

use super::Tally;
use crate::cli::screen::count;
use crate::core::event::RoundOutcome;
use crate::core::ids::Step;

impl Tally {
    /// Is it the last to speak in a debate? `None`: the crew is not at hand.
    pub fn is_debate(&self, judge: &Step) -> Option<bool> {
        let crew = self.crew.as_ref()?.of_scope(&judge.parent()?)?;
        let last = judge.last()?;
        let debates = crew.loops.iter().filter(|looped| looped.debate.is_some());
        Some(debates.into_iter().any(|looped| crew.tasks[looped.judge].name == last.name))
    }

    pub(super) fn round_decided(&mut self, judge: &Step, round: u32, outcome: RoundOutcome) {
        match outcome {
            RoundOutcome::Again | RoundOutcome::Approved => {}
            RoundOutcome::Review => drop(self.limits.insert(judge.clone(), round)),
            RoundOutcome::Accepted => drop(self.limited.insert(judge.clone(), (round, outcome))),
            RoundOutcome::Failed => {
                self.limited.insert(judge.clone(), (round, outcome));
                self.failed_at.get_or_insert(self.ledger.total().settled);
            }
        }
    }

    /// What became of those that nobody was asked about, a line each.
    pub fn limits_reached(&self) -> Vec<String> {
        let reached = self.limited.iter().filter(|(judge, _)| self.is_debate(judge) == Some(false));
        let lines = reached.filter_map(|(judge, (rounds, outcome))| {
            let (judge, rounds) = (judge.with_round(None), count(u64::from(*rounds), "round"));
            match outcome {
                RoundOutcome::Accepted => {
                    Some(format!("{judge}: not approved after {rounds}; its last result is used"))
                }
                RoundOutcome::Failed => Some(format!("{judge}: not approved after {rounds}: its loop has failed")),
                RoundOutcome::Again | RoundOutcome::Approved | RoundOutcome::Review => None,
            }
        });
        lines.collect()
    }
}
