//! Who is told what is not to be trusted. Invariant: whatever a unit's words may come from ([`Plan::scope_of`])
//! taints it; the results say so themselves, so that nothing is read again.

use super::*;
use crate::core::event::{Event, TaskEvent};
use crate::core::machine::Decided;

impl Plan {
    /// The first source of what a unit is told that is not to be trusted.
    pub(super) fn taint_of(&self, unit: &Unit) -> Option<String> {
        let given = match &unit.kind {
            Kind::Child(child) => child.tainted.as_ref(),
            Kind::Single | Kind::List { .. } | Kind::Item { .. } => None,
        };
        let given = self.state.tainted.as_ref().or(given);
        let read = || self.sources(unit).into_iter().find_map(|result| result.tainted.as_ref());
        given.or_else(read).cloned()
    }

    /// The results that a unit's words may come from.
    fn sources<'a>(&'a self, unit: &'a Unit) -> Vec<&'a TaskResult> {
        let Some(index) = unit.task.map(|index| index as usize) else { return Vec::new() };
        let task = &self.crew.tasks[index];
        let list = task.repeat.as_ref().and_then(|repeat| match &repeat.over {
            Over::Result { task, .. } => Some(task),
            Over::Rows(_) => None,
        });
        let after = task.after.iter().filter(|name| self.crew.may_quote(task, name));
        let named = task.context.iter().chain(after).chain(list).filter_map(|name| self.crew.index_of(name));
        let mut all: Vec<&TaskResult> = Vec::new();
        for other in named {
            let dependency = self.dependency(unit, index, other);
            // The list that an item was made of, too: not only the other item that it is joined to.
            let whole = self.unit(&self.address(other, None));
            all.extend(dependency.into_iter().chain(whole).filter_map(|unit| unit.result.as_ref()));
        }
        if let Some((failed, _)) = self.rescued_error(index) {
            all.extend(self.unit(&failed).and_then(|unit| unit.result.as_ref()));
        }
        if let (Kind::Item { index: item }, Some(_)) = (&unit.kind, task.repeat.as_ref().and_then(|r| r.window)) {
            let before = self.keys(index).unwrap_or_default().iter().take(*item as usize);
            all.extend(before.filter_map(|key| self.unit(&self.address(index, Some(key)))?.result.as_ref()));
        }
        all.extend(unit.previous.as_ref());
        all.extend(self.judge_of(unit).and_then(|judge| judge.previous.as_ref()));
        all.extend(self.debate_of(index).into_iter().flat_map(|looped| &looped.body).filter_map(|at| self.spoken(*at)));
        all
    }

    pub(super) fn crew_started(&self, step: Step, unit: &Unit, inputs: BTreeMap<Name, serde_json::Value>) -> Decided {
        let (degraded, tainted) = (self.state.degraded, self.taint_of(unit));
        Decided::one(Event::Task(TaskEvent::CrewStarted { step, inputs, degraded, tainted }))
    }
}
