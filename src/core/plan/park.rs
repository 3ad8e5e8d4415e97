//! Nothing can go on in this process. Invariant: a run that parks says of everything that waits why.

use super::*;
use crate::core::event::{Event, PauseCause, RunEvent, TaskEvent};
use crate::core::machine::{Decided, Refusal};

impl Plan {
    /// Nothing goes on, and that stands in the journal.
    pub fn is_parked(&self) -> bool {
        self.state.parked.is_some()
    }

    pub(super) fn park(&self) -> Result<Decided, Refusal> {
        let mut causes = BTreeSet::new();
        match &self.state.control {
            Control::Running | Control::Cancelling | Control::Ended => {}
            Control::Pausing(PauseCause::Interrupted) => {
                causes.insert(ParkCause::Interrupted);
            }
            Control::Pausing(PauseCause::Terminated) => {
                causes.insert(ParkCause::Terminated);
            }
            Control::Pausing(PauseCause::Asked) => {
                causes.insert(ParkCause::Asked);
            }
            Control::Pausing(PauseCause::Deadline) => {
                causes.insert(ParkCause::Deadline);
            }
            Control::Pausing(PauseCause::RateLimited(limited)) => {
                causes.insert(ParkCause::Rate(limited.clone()));
            }
            Control::Refused { quota: true, message } => {
                causes.insert(ParkCause::Quota { message: message.clone() });
            }
            Control::Refused { quota: false, message } => {
                causes.insert(ParkCause::Credentials { message: message.clone() });
            }
        }
        for (address, unit) in &self.state.units {
            match &unit.phase {
                Phase::Blocked => {
                    causes.insert(ParkCause::Budget { step: unit.step(address) });
                }
                Phase::Review(..) => {
                    causes.insert(ParkCause::Review { step: unit.step(address) });
                }
                Phase::Person => causes.extend(unit.asked_of(address)),
                Phase::CrewParked(inner) => causes.extend(inner.iter().cloned()),
                Phase::Waiting | Phase::Ready | Phase::Running | Phase::Waits | Phase::Items => {}
                Phase::Crew | Phase::RoundOver | Phase::Rescue | Phase::Ended => {}
            }
        }
        causes.extend(self.state.files.keys().map(|step| ParkCause::Review { step: step.clone() }));
        if causes.is_empty() {
            return Err(Refusal::NotDue("nothing says why the crew cannot go on".into()));
        }
        let causes = causes.into_iter().collect();
        let event = if self.state.scope.is_root() {
            Event::Run(RunEvent::Parked { causes })
        } else {
            Event::Task(TaskEvent::Parked { step: self.state.scope.clone(), causes })
        };
        Ok(Decided::one(event))
    }
}
