//! Waiting for people. Invariant: who waits for a person holds no slot, and goes on as soon as nothing is
//! left that a person must say.

use super::*;
use crate::core::crew::{Task, TaskApproval};
use crate::core::event::{
    Decision, Event, InterruptEvent, InterruptKind, Raised, TaskError, TaskEvent, TaskStatus, Why,
};
use crate::core::machine::{Decided, Refusal, World};

impl Unit {
    /// Why it stands still, a cause for each thing that is asked.
    pub(super) fn asked_of(&self, address: &Step) -> Vec<ParkCause> {
        let cause = |(id, question): (&InterruptId, &bool)| {
            let (step, id) = (self.step(address), id.clone());
            if *question { ParkCause::Question { step, id } } else { ParkCause::Approval { step, id } }
        };
        self.people.iter().map(cause).collect()
    }
}

impl Plan {
    /// A task with `approval = "before"` asks before it begins: a list once, not for each item; a task in a
    /// loop with its first round.
    pub(super) fn to_let_begin(&self, world: World<'_>, task: &Task, unit: &Unit, step: &Step) -> Option<Decided> {
        let item = matches!(unit.kind, Kind::Item { .. });
        if task.approval != TaskApproval::Before || unit.let_begin || item || unit.round > 1 {
            return None;
        }
        let mut decided = Decided::default();
        let what = serde_json::json!({ "task": task.name.as_str() });
        let raised = Raised {
            id: InterruptId::of_task(world.run, step),
            kind: InterruptKind::Before,
            step: step.clone(),
            agent: None,
            call: None,
            index: 0,
            of: 0,
            tool: String::new(),
            ask: String::new(),
            arguments: decided.keep(what.to_string()),
            typed: false,
            why: vec![Why::Task],
            expires_ms: None,
        };
        decided.events.push(Event::Interrupt(InterruptEvent::Raised(Box::new(raised))));
        Some(decided)
    }

    /// A person did not let it begin: it has failed, and whoever stands in for it does.
    pub(super) fn reject(&self, address: &Step) -> Result<Decided, Refusal> {
        let why = self.state.refused.get(address).zip(self.unit(address));
        let (why, unit) = why.ok_or_else(|| Refusal::NotDue(format!("nobody refused {address}")))?;
        let error = TaskError { class: ErrorClass::Rejected, message: why.clone(), attempts: 0 };
        let result = TaskResult::failed(TaskStatus::Failed, error, Amount::default());
        let step = unit.step(address);
        Ok(Decided::one(Event::Task(TaskEvent::Finished { step, agent: None, result })))
    }

    pub(super) fn apply_interrupt(&mut self, event: &InterruptEvent) {
        match event {
            // Its call is under way: nothing stands still.
            InterruptEvent::Raised(raised) if raised.server().is_some() => {}
            InterruptEvent::Raised(raised) => {
                let address = raised.step.with_round(None);
                let Some(unit) = self.state.units.get_mut(&address).filter(|unit| !unit.is_over()) else { return };
                unit.people.insert(raised.id.clone(), raised.kind.is_question());
                self.set(&address, Phase::Person);
            }
            InterruptEvent::Decided { id, step, decision, .. } => {
                self.wake_crew_above(step);
                self.said(id, &step.with_round(None), decision);
            }
        }
    }

    fn said(&mut self, id: &InterruptId, address: &Step, decision: &Decision) {
        let Some(unit) = self.state.units.get_mut(address) else { return };
        // Decided before, or its task is over.
        if unit.people.remove(id).is_none() || unit.phase != Phase::Person || !unit.people.is_empty() {
            return;
        }
        if unit.agent.is_some() {
            let children = unit.open_children > 0;
            return self.set(address, if children { Phase::Waits } else { Phase::Running });
        }
        match decision {
            Decision::Approved { .. } | Decision::Answered { .. } => {
                unit.let_begin = true;
                self.set(address, Phase::Ready);
            }
            Decision::Rejected { reason } => drop(self.state.refused.insert(address.clone(), reason.clone())),
            Decision::Expired => {
                drop(self.state.refused.insert(address.clone(), "nobody decided in time".to_owned()));
            }
        }
    }

    /// A sub-crew that stood still for it goes on.
    fn wake_crew_above(&mut self, step: &Step) {
        let parked = |unit: &Unit| matches!(unit.phase, Phase::CrewParked(_));
        let above = self.state.units.iter().find(|(address, unit)| parked(unit) && step.is_within(&unit.step(address)));
        if let Some((address, _)) = above {
            let address = address.clone();
            self.set(&address, Phase::Crew);
        }
    }
}
