//! Many tasks that begin at once. Invariant: what was decided ahead of the journal is put back if the
//! journal refuses it.

use ractor::ActorRef;

use super::{CoordinatorMsg, CoordinatorState, Took};
use crate::actors::shell::Fatal;
use crate::core::machine::Decided;
use crate::core::plan::PlanStep;

/// Starts of one append: the first agents are at work while the next ones are decided.
const TOGETHER: usize = 8;
/// From here on a copy of the plan costs less than a round trip to the journal for each start.
const CROWD: usize = 8;
/// Units of the plan for each start, at most: a long list of which a few items begin is not copied.
const UNITS: usize = 64;

impl CoordinatorState {
    pub(super) fn is_crowd(&self, due: &[PlanStep]) -> bool {
        let begins = |step: &PlanStep| matches!(step, PlanStep::Start(_));
        let fits = self.shell.machine.state.units.len() <= due.len().saturating_mul(UNITS);
        due.len() >= CROWD && fits && due.iter().all(begins)
    }

    /// Each start is decided on the fold of those before it, as if they had been written one by one.
    pub(super) async fn start_crowd(
        &mut self,
        myself: &ActorRef<CoordinatorMsg>,
        due: &[PlanStep],
    ) -> Result<Took, Fatal> {
        let mut written = self.shell.machine.clone();
        let mut took = Took::Nothing;
        for steps in due.chunks(TOGETHER) {
            let mut all = Decided::default();
            for step in steps {
                let Some(decided) = self.decide(step)? else { continue };
                self.prepare(myself, &decided).await?;
                for event in &decided.events {
                    self.shell.machine.apply(event)?;
                }
                all.events.extend(decided.events);
                all.blobs.extend(decided.blobs);
            }
            if all.events.is_empty() {
                continue;
            }
            let Ok(entries) = self.shell.append(all, None).await? else {
                self.shell.machine = written;
                return Ok(Took::Stale);
            };
            for entry in entries {
                written.apply(&entry.event)?;
                self.shell.last = entry.seq;
            }
            took = Took::Moved;
        }
        Ok(took)
    }
}
