//! Steps that wait for a person. Invariant: a step waits as long as anything of it is open.

use super::{StepState, Tally};
use crate::cli::screen::count;
use crate::core::event::ParkCause;
use crate::core::ids::Step;

impl Tally {
    /// One thing that a step asked is decided: does it still wait for another?
    pub(super) fn decided(&mut self, step: &Step) {
        let waits = self.interrupts.open().iter().any(|one| one.raised.step == *step);
        let row = self.steps.get_mut(step).filter(|row| !waits && row.state == StepState::WaitsPerson);
        row.into_iter().for_each(|row| row.state = StepState::Running);
    }

    /// Steps that ended and still wait for a person: their loop stopped at its round limit.
    pub(super) fn not_approved(&mut self, causes: &[ParkCause]) {
        for cause in causes {
            let ParkCause::Review { step } = cause else { continue };
            let Some(segment) = step.last() else { continue };
            // The judge is a task of the same level, over the same item.
            let judges = self.limits.iter().filter(|(judge, _)| {
                let last = judge.last();
                judge.parent() == step.parent()
                    && last.is_some_and(|last| (last.key, last.round) == (segment.key.clone(), segment.round))
            });
            let Some(rounds) = judges.map(|(_, rounds)| *rounds).next() else { continue };
            let Some(row) = self.steps.get_mut(step) else { continue };
            if let StepState::Ended(result) = &row.state {
                self.unapproved.insert(step.clone(), result.clone());
                let message = format!("not approved after {}", count(rounds.into(), "round"));
                row.state = StepState::Review { message, fixed: false };
            }
        }
    }
}
