//! The time that a person has. Invariant: it is judged by the entry that asked, on the clock of the process
//! that is there when it ends; what was decided before counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::actors::work::Context;
use crate::core::event::{Decision, Event, InterruptEvent};
use crate::core::ids::{AgentRef, InterruptId, Step};
use crate::core::machine::Decided;

/// What an agent has asked and nobody has decided, each with a timer.
#[derive(Default)]
pub(super) struct People(BTreeMap<InterruptId, AbortHandle>);

impl Drop for People {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

impl People {
    /// `open`: each with the milliseconds that a person has. Called after every entry: what is new was asked now.
    pub(super) fn watch(
        &mut self,
        context: &Arc<Context>,
        who: &AgentRef,
        step: Option<&Step>,
        open: &[(&InterruptId, u64)],
    ) {
        self.0.retain(|id, timer| {
            let waits = open.iter().any(|(one, _)| *one == id);
            if !waits {
                timer.abort();
            }
            waits
        });
        for (id, time) in open {
            let Some(step) = step.filter(|_| !self.0.contains_key(*id)) else { continue };
            let ends = context.interrupts.get(id).and_then(|one| one.ends_ms());
            let left = ends.map_or(*time, |ends| ends.saturating_sub(context.ports.clock.now_ms()));
            let (decision, by) = (Decision::Expired, "time".to_owned());
            let (step, agent) = (step.clone(), Some(who.clone()));
            let expired = Event::Interrupt(InterruptEvent::Decided { id: (*id).clone(), step, agent, decision, by });
            let shared = context.clone();
            let timer = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(left)).await;
                shared.journal.record(Decided::one(expired)).await;
            });
            self.0.insert((*id).clone(), timer.abort_handle());
        }
    }
}
