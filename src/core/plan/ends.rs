//! Ends and what they wake. Invariant: a unit becomes ready when everything it waits for has ended,
//! and a task that failed in spite of `on_error` has failed.

use super::*;
use crate::core::event::{RoundOutcome, TaskError, TaskStatus};

impl Plan {
    /// A step reported its result.
    pub(super) fn finished(&mut self, step: &Step, result: TaskResult) {
        let address = step.with_round(None);
        let Some(unit) = self.unit(&address).filter(|unit| !unit.is_over()) else { return };
        let (task, good) = (unit.task.map(|index| index as usize), result.status.has_result());
        let cancelled = result.status == TaskStatus::Cancelled;
        // It has failed already and is being stood in for.
        if unit.phase == Phase::Rescue && !cancelled {
            return;
        }
        let looped = unit.round > 0 && !cancelled;
        let whole = !matches!(unit.kind, Kind::Item { .. });
        self.state.full.remove(&address);
        self.state.refused.remove(&address);
        let argues = task.is_some_and(|index| self.crew.tasks[index].optional && self.debate_of(index).is_some());
        let broke = result.status == TaskStatus::OverBudget && self.state.finishing
            || result.status == TaskStatus::Failed && argues;
        if let Some(judge) = self.loop_of(&address).filter(|_| looped && broke && unit_round(&self.state, &address) > 1)
        {
            return self.last_round_stands(&judge, &address, result);
        }
        if let Some(judge) = self.loop_of(&address).filter(|_| looped) {
            return self.round_result(&judge, &address, result);
        }
        // An item that failed is a gap in its list; only the list as a whole is stood in for.
        let rescue = task.and_then(|index| self.crew.tasks[index].on_error.clone());
        let rescue = rescue.filter(|_| whole && !good && !cancelled);
        if let Some(rescue) = rescue.and_then(|name| self.crew.index_of(&name)) {
            if let Some(unit) = self.state.units.get_mut(&address) {
                unit.result = Some(result);
            }
            self.set(&address, Phase::Rescue);
            self.state.open += 1;
            return self.consider(&self.address(rescue, None));
        }
        self.ended(&address, result);
    }

    /// A unit is left out. In a loop, the round goes on without it, unless it is the judge or something
    /// it needs has failed.
    pub(super) fn skipped(&mut self, address: &Step, result: TaskResult, upstream: bool) {
        let looped = self.unit(address).filter(|unit| unit.round > 0).and_then(|_| self.loop_of(address));
        match looped {
            Some(judge) if upstream || *address == judge => self.break_loop(&judge, address, result),
            Some(judge) => {
                self.ended(address, result);
                self.body(&judge).iter().for_each(|unit| self.consider(unit));
            }
            None => {
                self.ended(address, result);
                self.judges_left_out(address);
            }
        }
    }

    /// A person lets a step start over: from its task, or with one more round of its loop.
    pub(super) fn retried(&mut self, address: &Step, with_agent: bool) {
        let Some(unit) = self.state.units.get_mut(address) else { return };
        unit.crashes = 0;
        self.state.crashed.remove(address);
        let Phase::Review(class, _) = unit.phase else { return };
        if let Some(judge) = self.loop_of(address).filter(|_| class == ErrorClass::RoundLimit) {
            return self.round_decided(&judge, RoundOutcome::Again);
        }
        self.set(address, if with_agent { Phase::Running } else { Phase::Ready });
    }

    /// The `on_error` task's result takes the failed task's name.
    pub(super) fn stand_in(&mut self, failed: &Step, result: TaskResult) {
        let Some(unit) = self.unit(failed).filter(|unit| unit.phase == Phase::Rescue) else { return };
        let own = unit.result.clone();
        let result = if result.status.has_result() {
            let spent = own.map(|own| own.spent).unwrap_or_default();
            TaskResult { status: TaskStatus::Replaced, spent, ..result }
        } else {
            own.unwrap_or(result)
        };
        self.ended(failed, result);
    }

    pub(super) fn item_ended(&mut self, address: &Step, task: Option<u32>, index: u32) {
        let Some(task) = task.map(|task| task as usize) else { return };
        let list = self.address(task, None);
        let list_of = self.state.units.get_mut(&list).map(|unit| &mut unit.kind);
        let Some(Kind::List { keys, ended, .. }) = list_of else { return };
        *ended += 1;
        let (full, next) = (*ended as usize == keys.len(), keys.get(index as usize + 1).cloned());
        if full {
            self.state.full.insert(list);
        }
        let windowed = self.crew.tasks[task].repeat.as_ref().is_some_and(|repeat| repeat.window.is_some());
        if let Some(key) = next.filter(|_| windowed) {
            self.consider(&self.address(task, Some(&key)));
        }
        debug_assert!(self.unit(address).is_some_and(Unit::is_over));
    }

    /// Looks at every unit that may have waited for this one.
    pub(super) fn wake_dependents(&mut self, address: &Step) {
        let Some(unit) = self.unit(address) else { return };
        let Some(index) = unit.task.map(|index| index as usize) else { return };
        let item = match &unit.kind {
            Kind::Item { index } => Some(*index as usize),
            Kind::Single | Kind::List { .. } | Kind::Child(_) => None,
        };
        let key = item.and_then(|item| self.keys(index).and_then(|keys| keys.get(item)).cloned());
        for other in 0..self.crew.tasks.len() {
            if !self.waits_for(other, index) {
                continue;
            }
            match &key {
                Some(key) if self.joined(other, index) => self.consider(&self.address(other, Some(key))),
                Some(_) => {}
                None => self.consider(&self.address(other, None)),
            }
        }
    }

    /// Does task `a` wait for task `b` by its own words?
    pub(super) fn waits_for(&self, a: usize, b: usize) -> bool {
        let (task, name) = (&self.crew.tasks[a], &self.crew.tasks[b].name);
        let list = task.repeat.as_ref().is_some_and(|repeat| match &repeat.over {
            Over::Result { task, .. } => task == name,
            Over::Rows(_) => false,
        });
        list || task.context.contains(name) || task.after.contains(name)
    }

    /// Has everything ended that this unit waits for?
    pub(super) fn is_due(&self, address: &Step) -> bool {
        let Some(unit) = self.unit(address) else { return false };
        let Some(index) = unit.task.map(|index| index as usize) else { return true };
        // Started by the failure it answers to, never by itself.
        let answers_to = self.crew.tasks[index].rescues.as_ref().and_then(|name| self.crew.index_of(name));
        let failed = answers_to.map(|failed| self.unit(&self.address(failed, None)));
        if failed.is_some_and(|unit| unit.is_none_or(|unit| unit.phase != Phase::Rescue)) {
            return false;
        }
        if let Kind::Item { index: item } = unit.kind {
            let windowed = self.crew.tasks[index].repeat.as_ref().is_some_and(|repeat| repeat.window.is_some());
            let before = (item as usize).checked_sub(1).filter(|_| windowed);
            let before = before.and_then(|before| self.keys(index).and_then(|keys| keys.get(before)));
            if before.is_some_and(|key| !self.is_over(&self.address(index, Some(key)))) {
                return false;
            }
        }
        (0..self.crew.tasks.len())
            .filter(|other| self.waits_for(index, *other))
            .all(|other| self.dep_over(unit, index, other))
    }

    fn is_over(&self, address: &Step) -> bool {
        self.unit(address).is_some_and(Unit::is_over)
    }

    /// Has `other` ended as far as `unit` of task `index` is concerned?
    fn dep_over(&self, unit: &Unit, index: usize, other: usize) -> bool {
        let whole = self.address(other, None);
        let item = match &unit.kind {
            Kind::Item { index } => Some(*index as usize),
            Kind::List { .. } if self.joined(index, other) && self.crew.tasks[index].when.is_none() => {
                // The items wait for their own; the list itself only for the other to exist.
                return self.keys(other).is_some() || self.is_over(&whole);
            }
            Kind::Single | Kind::List { .. } | Kind::Child(_) => None,
        };
        let same_loop = self.crew.tasks[index].in_loop.is_some()
            && self.crew.tasks[index].in_loop == self.crew.tasks[other].in_loop;
        let address = match item.filter(|_| self.joined(index, other)) {
            Some(item) => match self.keys(other).and_then(|keys| keys.get(item)) {
                Some(key) => self.address(other, Some(key)),
                None => return self.is_over(&whole),
            },
            None => whole,
        };
        let Some(dep) = self.unit(&address) else { return false };
        // Inside a loop, only this round counts; a task behind its own revision (the judge's feedback)
        // is not waited for by the one that is revised.
        dep.is_over() || same_loop && dep.phase == Phase::RoundOver && dep.round == unit.round
    }

    /// Why a unit cannot run: the first task in its context that failed and that it cannot do without.
    pub(super) fn upstream_failure(&self, unit: &Unit, index: usize) -> Option<String> {
        for name in &self.crew.tasks[index].context {
            let other = self.crew.index_of(name)?;
            let Some(dep) = self.dependency(unit, index, other) else { continue };
            let Some(result) = &dep.result else { continue };
            let upstream = result.error.as_ref().is_some_and(|error| error.class == ErrorClass::Upstream);
            let gone = match result.status {
                TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::OverBudget => true,
                TaskStatus::Skipped => upstream,
                TaskStatus::Done | TaskStatus::Partial | TaskStatus::Replaced => false,
            };
            if gone && !self.crew.tasks[other].optional {
                return Some(format!("`{name}` ended {}", result.status.as_str()));
            }
        }
        self.has_heard_nobody(index).then(|| "nobody has said anything in the debate".to_owned())
    }

    /// How the task ended that was the first of those for want of which `index` was left out; `None`, if it was not
    /// left out so.
    pub(super) fn cause_of(&self, index: usize) -> Option<TaskStatus> {
        let unit = self.unit(&self.address(index, None)).filter(|_| self.crew.rules.crew_ends_as_cause)?;
        let result = unit.result.as_ref()?;
        if result.status != TaskStatus::Skipped || result.error.is_none() {
            return None;
        }
        let gone = |other: usize| {
            let result = self.dependency(unit, index, other)?.result.as_ref()?;
            let good = result.status.has_result() || result.status == TaskStatus::Skipped && result.error.is_none();
            (!good && !self.crew.tasks[other].optional).then_some(result.status)
        };
        let context = self.crew.tasks[index].context.iter().filter_map(|name| self.crew.index_of(name));
        context.filter_map(|other| Some((other, gone(other)?))).next().map(|(other, status)| {
            // What was itself left out has a cause of its own; tasks never wait in a circle.
            self.cause_of(other).unwrap_or(status)
        })
    }

    /// The unit whose result stands for task `other` in the eyes of `unit`: its own item where both
    /// repeat over the same items.
    pub(super) fn dependency(&self, unit: &Unit, index: usize, other: usize) -> Option<&Unit> {
        let whole = self.unit(&self.address(other, None));
        match unit.kind {
            Kind::Item { index: item } if self.joined(index, other) => {
                let key = self.keys(other).and_then(|keys| keys.get(item as usize));
                key.and_then(|key| self.unit(&self.address(other, Some(key)))).or(whole)
            }
            Kind::Item { .. } | Kind::Single | Kind::List { .. } | Kind::Child(_) => whole,
        }
    }

    /// The error that an `on_error` task answers to.
    pub(super) fn rescued_error(&self, index: usize) -> Option<(Step, TaskError)> {
        let failed = self.crew.index_of(self.crew.tasks[index].rescues.as_ref()?)?;
        let address = self.address(failed, None);
        let error = self.unit(&address)?.result.as_ref()?.error.clone()?;
        Some((address, error))
    }
}

fn unit_round(state: &State, address: &Step) -> u32 {
    state.units.get(address).map_or(0, |unit| unit.round)
}
