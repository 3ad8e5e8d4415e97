//! Revise loops. Invariant: a loop ends by its `until`, by its limit, or with the first of its tasks
//! that fails; everyone outside waits for that end.

use super::*;
use crate::core::event::{RoundOutcome, TaskError, TaskStatus};
use crate::core::money::Amount;

impl Plan {
    /// The judge's unit of the loop that a unit is in, while the loop goes on.
    pub(super) fn loop_of(&self, address: &Step) -> Option<Step> {
        let unit = self.unit(address)?;
        let looped = &self.crew.loops[self.crew.tasks[unit.task? as usize].in_loop?];
        let key = match &unit.kind {
            Kind::Item { index } => Some(self.keys(unit.task? as usize)?.get(*index as usize)?.clone()),
            Kind::Single | Kind::List { .. } | Kind::Child(_) => None,
        };
        let judge = self.address(looped.judge, key.as_ref());
        self.state.loops.get(&judge).filter(|run| !run.over).map(|_| judge)
    }

    /// Units of the loop's body, in the order of work.
    pub(super) fn body(&self, judge: &Step) -> Vec<Step> {
        let Some(run) = self.state.loops.get(judge) else { return Vec::new() };
        let looped = &self.crew.loops[run.index as usize];
        let key = run.item.and_then(|item| self.keys(looped.revised)?.get(item as usize).cloned());
        looped.body.iter().map(|task| self.address(*task, key.as_ref())).collect()
    }

    /// One of the body's tasks is done for this round, or has failed.
    pub(super) fn round_result(&mut self, judge: &Step, address: &Step, result: TaskResult) {
        let good = result.status.has_result();
        if let Some(unit) = self.state.units.get_mut(address) {
            unit.result = Some(result.clone());
        }
        if !good {
            return self.break_loop(judge, address, result);
        }
        self.set(address, Phase::RoundOver);
        self.rest(address);
        if address == judge {
            self.state.rounds.insert(judge.clone());
        } else {
            for unit in self.body(judge) {
                self.consider(&unit);
            }
        }
    }

    pub(super) fn round_decided(&mut self, judge: &Step, outcome: RoundOutcome) {
        self.state.rounds.remove(judge);
        let body = self.body(judge);
        match outcome {
            RoundOutcome::Again => {
                if let Some(run) = self.state.loops.get_mut(judge) {
                    run.round += 1;
                }
                for address in &body {
                    // One that was left out stays so.
                    let Some(unit) = self.state.units.get_mut(address).filter(|unit| !unit.is_over()) else { continue };
                    unit.round += 1;
                    unit.previous = unit.result.take();
                    let spent = unit.previous.as_ref().map(|result| result.spent).unwrap_or_default();
                    unit.earlier = unit.earlier.plus(spent);
                    self.set(address, Phase::Waiting);
                }
                body.iter().for_each(|address| self.consider(address));
            }
            RoundOutcome::Approved | RoundOutcome::Accepted => self.close_loop(judge, &body),
            RoundOutcome::Failed => {
                if let Some((revised, error)) = self.limit_error(judge)
                    && let Some(unit) = self.state.units.get_mut(&revised)
                {
                    let spent = unit.result.as_ref().map(|result| result.spent).unwrap_or_default();
                    unit.result = Some(TaskResult::failed(TaskStatus::Failed, error, spent));
                }
                self.close_loop(judge, &body);
            }
            RoundOutcome::Review => {
                if let Some((revised, error)) = self.limit_error(judge) {
                    self.set(&revised, Phase::Review(error.class, error.message));
                }
            }
        }
    }

    fn limit_error(&self, judge: &Step) -> Option<(Step, TaskError)> {
        let run = self.state.loops.get(judge)?;
        let looped = &self.crew.loops[run.index as usize];
        let position = looped.body.iter().position(|task| *task == looped.revised)?;
        let revised = self.body(judge).into_iter().nth(position)?;
        let message = format!("not approved after {} rounds", run.round);
        Some((revised, TaskError { class: ErrorClass::RoundLimit, message, attempts: run.round }))
    }

    /// Every task of the body ends with its result of the last round.
    fn close_loop(&mut self, judge: &Step, body: &[Step]) {
        if let Some(run) = self.state.loops.get_mut(judge) {
            run.over = true;
        }
        for address in body {
            if let Some(result) = self.unit(address).and_then(|unit| unit.result.clone()) {
                self.ended(address, result);
            }
        }
    }

    /// No budget is left for a revision: what the rounds before it came to stands, unapproved.
    pub(super) fn last_round_stands(&mut self, judge: &Step, broke: &Step, result: TaskResult) {
        let body = self.body(judge);
        if let Some(run) = self.state.loops.get_mut(judge) {
            run.over = true;
        }
        self.state.rounds.remove(judge);
        for address in &body {
            let Some(unit) = self.unit(address).filter(|unit| !unit.is_over()) else { continue };
            if address != broke && unit.is_busy() {
                continue;
            }
            // What the round before it cost is counted with the unit already.
            let spent = if address == broke { result.spent } else { Amount::default() };
            let own = unit.result.clone().filter(|_| unit.phase == Phase::RoundOver);
            let last = unit.previous.clone().map(|result| TaskResult { spent, ..result });
            let ends = own.or(last).unwrap_or_else(|| result.clone());
            self.ended(address, ends);
        }
    }

    /// A task of the body failed: it ends so, those before it keep their results, those at work come to
    /// their own end, the others are skipped.
    pub(super) fn break_loop(&mut self, judge: &Step, failed: &Step, result: TaskResult) {
        let body = self.body(judge);
        if let Some(run) = self.state.loops.get_mut(judge) {
            run.over = true;
        }
        self.state.rounds.remove(judge);
        for address in &body {
            if address != failed && self.unit(address).is_some_and(Unit::is_busy) {
                continue;
            }
            let own =
                self.unit(address).filter(|unit| unit.phase == Phase::RoundOver).and_then(|unit| unit.result.clone());
            let result = if address == failed { Some(result.clone()) } else { own };
            let skipped = || {
                let message = format!("`{failed}` ended {}", result_status(failed, self));
                let error = TaskError { class: ErrorClass::Upstream, message, attempts: 0 };
                TaskResult::failed(TaskStatus::Skipped, error, Amount::default())
            };
            let result = result.unwrap_or_else(skipped);
            self.ended(address, result);
        }
    }
}

impl Plan {
    /// An agent whose memory is the run's may do other work between two rounds; another actor keeps the
    /// turns of its task and stays with it.
    fn rest(&mut self, address: &Step) {
        let Some(agent) = self.unit(address).and_then(|unit| unit.agent.clone()) else { return };
        if self.crew.agents.get(&agent.name).is_some_and(|role| role.memory == MemoryScope::Run) {
            self.state.busy.entry(agent.name).or_default().remove(&agent.number);
        }
    }

    /// A list that judges another item by item was left out: what it would judge stands as it is.
    pub(super) fn judges_left_out(&mut self, address: &Step) {
        let Some(index) = self.unit(address).and_then(|unit| unit.task).map(|index| index as usize) else { return };
        let judged: Vec<Step> = self
            .state
            .loops
            .iter()
            .filter(|(judge, run)| {
                let looped = &self.crew.loops[run.index as usize];
                !run.over && looped.per_item && looped.body.contains(&index) && self.unit(judge).is_none()
            })
            .map(|(judge, _)| judge.clone())
            .collect();
        for judge in judged {
            let body = self.body(&judge);
            self.close_loop(&judge, &body);
        }
    }
}

fn result_status(address: &Step, plan: &Plan) -> &'static str {
    plan.unit(address).and_then(|unit| unit.result.as_ref()).map_or("failed", |result| result.status.as_str())
}
