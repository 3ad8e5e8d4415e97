//! Folding a plan. Invariant: facts about ended units change nothing; counters and sets are derived
//! from phases in one place ([`Plan::set`]).

use super::*;
use crate::core::chat::FailureClass;
use crate::core::crew::OnFailure;
use crate::core::event::{CallEvent, Event, LedgerEvent, RunEvent, TaskError, TaskEvent, TaskStatus, ToolEvent};
use crate::core::machine::IllegalEvent;
use crate::core::money::Amount;

impl Plan {
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        if let Event::Ledger(LedgerEvent::Degraded { step, .. }) = event {
            self.state.degraded = *step;
            return Ok(());
        }
        // Whatever else happens, the plan may go on: only a new `Parked` says otherwise. That the run parks is
        // nothing new to a sub-crew at rest: it would park again, and the run because of it, for ever.
        let rests = matches!(event, Event::Run(RunEvent::Parked { .. })) && self.crew.rules.parks_once;
        if !rests || self.state.scope.is_root() {
            self.state.parked = None;
        }
        match event {
            Event::Run(run) => self.apply_run(run),
            Event::Task(task) => return self.apply_task(event, task),
            Event::Call(call) => self.apply_call(call),
            Event::Tool(ToolEvent::Started { call, index, agent, ask, arguments, tainted, .. }) => {
                let (ask, tainted) = (ask.clone(), tainted.clone());
                let asked = Asked { agent: agent.clone(), arguments: *arguments, ask, tainted };
                self.state.asked.insert((call.clone(), *index), asked);
            }
            Event::Interrupt(interrupt) => self.apply_interrupt(interrupt),
            Event::Tool(_) | Event::Ledger(_) => {}
        }
        Ok(())
    }

    fn illegal(&self, event: &Event, why: impl Into<String>) -> IllegalEvent {
        let machine = format!(
            "coordinator of {}",
            if self.state.scope.is_root() { "the crew" } else { self.state.scope.as_str() }
        );
        IllegalEvent { machine, kind: event.kind(), why: why.into() }
    }

    fn apply_run(&mut self, event: &RunEvent) {
        self.state.control.apply(event);
        match event {
            RunEvent::Started(started) if self.state.scope.is_root() => {
                self.state.tainted = started.tainted.clone();
                self.begin(started.inputs.clone());
            }
            RunEvent::Resumed { .. } => {
                let addresses: Vec<Step> = self.state.units.keys().cloned().collect();
                for address in addresses {
                    match self.state.units[&address].phase {
                        Phase::Blocked => self.set(&address, Phase::Running),
                        Phase::CrewParked(_) => self.set(&address, Phase::Crew),
                        Phase::Waiting | Phase::Ready | Phase::Running | Phase::Waits | Phase::Items => {}
                        Phase::Person => {}
                        Phase::Crew | Phase::RoundOver | Phase::Rescue | Phase::Review(..) | Phase::Ended => {}
                    }
                }
                self.state.files.values_mut().for_each(|failed| *failed = None);
            }
            RunEvent::Parked { causes } if self.state.scope.is_root() => self.state.parked = Some(causes.clone()),
            RunEvent::Finished { .. } => self.state.over = true,
            RunEvent::Started(_) | RunEvent::Parked { .. } => {}
            RunEvent::PauseAsked { .. } | RunEvent::CancelAsked { .. } => {}
        }
    }

    /// The plan of a crew that has just begun, by itself.
    pub fn at_start(crew: &Arc<Crew>, inputs: BTreeMap<Name, serde_json::Value>) -> Plan {
        let mut plan = Plan::new(Step::root(), crew.clone());
        plan.begin(inputs);
        plan
    }

    fn begin(&mut self, inputs: BTreeMap<Name, serde_json::Value>) {
        self.state.inputs = inputs;
        for index in 0..self.crew.tasks.len() {
            let task = &self.crew.tasks[index];
            let list = Kind::List { keys: Vec::new(), items: None, fanned: false, ended: 0, running: 0 };
            let kind = if task.repeat.is_some() { list } else { Kind::Single };
            let mut unit = Unit::new(Some(index as u32), kind);
            let looped = task.in_loop.filter(|index| !self.crew.loops[*index].per_item);
            unit.round = u32::from(looped.is_some());
            self.state.units.insert(self.address(index, None), Box::new(unit));
            // A rescuing task is no part of the crew's work until something fails.
            self.state.open += u32::from(task.rescues.is_none());
        }
        for (index, looped) in self.crew.loops.iter().enumerate().filter(|(_, looped)| !looped.per_item) {
            let run = LoopRun { index: index as u32, item: None, round: 1, over: false };
            self.state.loops.insert(self.address(looped.judge, None), run);
        }
        for index in 0..self.crew.tasks.len() {
            self.consider(&self.address(index, None));
        }
    }

    fn apply_task(&mut self, event: &Event, task: &TaskEvent) -> Result<(), IllegalEvent> {
        match task {
            TaskEvent::CrewStarted { step, inputs, degraded, tainted } if *step == self.state.scope => {
                self.state.tainted = tainted.clone();
                self.state.degraded = *degraded;
                self.begin(inputs.clone());
            }
            TaskEvent::CrewStarted { step, .. } => self.set(&step.with_round(None), Phase::Crew),
            TaskEvent::FannedOut { step, keys, items } => self.fan_out(event, step, keys, *items)?,
            TaskEvent::Assigned { step, agent, .. } => {
                let address = step.with_round(None);
                let Some(unit) = self.state.units.get_mut(&address) else {
                    return Err(self.illegal(event, format!("there is no task {step}")));
                };
                unit.agent = Some(agent.clone());
                self.state.busy.entry(agent.name.clone()).or_default().insert(agent.number);
                self.set(&address, Phase::Running);
            }
            TaskEvent::Skipped { step, because, upstream } => {
                let class = if *upstream { ErrorClass::Upstream } else { ErrorClass::Cancelled };
                let error = TaskError { class, message: because.clone(), attempts: 0 };
                let whole = TaskResult::failed(TaskStatus::Skipped, error, Amount::default());
                let result = TaskResult { error: whole.error.filter(|_| *upstream), ..whole };
                self.skipped(&step.with_round(None), result, *upstream);
            }
            TaskEvent::NeedsReview { step, class, message, .. } => {
                self.set(&step.with_round(None), Phase::Review(*class, message.clone()));
            }
            TaskEvent::Accepted { step, .. } => self.retried(&step.with_round(None), true),
            TaskEvent::Retried { step, agent, .. } => self.retried(&step.with_round(None), agent.is_some()),
            TaskEvent::Finished { step, .. } if *step == self.state.scope && !step.is_root() => self.state.over = true,
            TaskEvent::Finished { step, result, .. } => self.finished(step, result.clone()),
            TaskEvent::RoundDecided { judge, outcome, .. } => self.round_decided(&judge.with_round(None), *outcome),
            TaskEvent::Delegated { step, from, index, agent, task, expected, inputs } => {
                self.delegated(step, (from, *index), agent, (*task, *expected), inputs.clone());
            }
            TaskEvent::DelegationRefused { from, index, .. } => {
                self.state.asked.remove(&(from.clone(), *index));
            }
            TaskEvent::Returned { step, from, .. } => self.returned(step, from),
            TaskEvent::Parked { step, causes } if *step == self.state.scope => {
                self.state.parked = Some(causes.clone());
            }
            TaskEvent::Parked { step, causes } => {
                self.set(&step.with_round(None), Phase::CrewParked(causes.clone()));
            }
            TaskEvent::FileWritten { step, .. } => {
                self.state.files.remove(step);
                if let Some(unit) = self.state.units.get_mut(step) {
                    unit.file_written = true;
                }
            }
            TaskEvent::FileFailed { step, message, .. } => {
                if let Some(failed) = self.state.files.get_mut(step) {
                    *failed = Some(message.clone());
                }
            }
            TaskEvent::Crashed { step, .. } => self.count_crash(step.with_round(None)),
            TaskEvent::AttemptFailed { .. } | TaskEvent::Woken { .. } | TaskEvent::FellBack { .. } => {}
            TaskEvent::Cooling { .. } | TaskEvent::Cooled { .. } | TaskEvent::Shrunk { .. } => {}
            TaskEvent::Summarising { .. } | TaskEvent::Summarised { .. } | TaskEvent::Concluding { .. } => {}
            TaskEvent::Told { .. } | TaskEvent::Heard { .. } => {}
        }
        Ok(())
    }

    fn count_crash(&mut self, address: Step) {
        let unit = self.state.units.get_mut(&address);
        // What panics after its task's end has nothing to lose.
        if let Some(unit) = unit.filter(|unit| unit.is_at_work()) {
            unit.crashes += 1;
            self.state.crashed.insert(address);
        }
    }

    fn apply_call(&mut self, event: &CallEvent) {
        let (step, phase) = match event {
            CallEvent::Held(held) => (&held.call.step, Phase::Running),
            CallEvent::Queued { call, .. } => (&call.step, Phase::Waits),
            // Without a pause the agent goes on to its end at once.
            CallEvent::Exhausted { call, pause, finish, .. } => {
                self.state.finishing |= *finish;
                (&call.step, if *pause { Phase::Blocked } else { Phase::Running })
            }
            CallEvent::Failed { failure, .. } => {
                if failure.class.stops_the_run() {
                    self.state.control.refused(failure.class != FailureClass::Credentials, &failure.message);
                }
                return;
            }
            CallEvent::Answered(_) | CallEvent::Lost { .. } | CallEvent::Settled { .. } => return,
        };
        let address = step.with_round(None);
        if self.unit(&address).is_some_and(|unit| !unit.is_over()) {
            self.set(&address, phase);
        }
    }

    fn fan_out(&mut self, event: &Event, step: &Step, keys: &[Key], items: Option<BlobId>) -> Result<(), IllegalEvent> {
        let Some(unit) = self.state.units.get_mut(step) else {
            return Err(self.illegal(event, format!("there is no task {step}")));
        };
        let task = unit.task;
        unit.kind = Kind::List { keys: keys.to_vec(), items, fanned: true, ended: 0, running: 0 };
        let Some(index) = task.map(|index| index as usize) else { return Ok(()) };
        self.set(step, Phase::Items);
        let in_loop = self.crew.tasks[index].in_loop;
        let looped = in_loop.map(|at| (at, &self.crew.loops[at])).filter(|(_, looped)| looped.per_item);
        for (item, key) in keys.iter().enumerate() {
            let mut unit = Unit::new(task, Kind::Item { index: item as u32 });
            unit.round = u32::from(in_loop.is_some());
            self.state.units.insert(self.address(index, Some(key)), Box::new(unit));
            self.state.open += 1;
            // With the first list of the body: its items may be done before the judge's list is there.
            if let Some((at, looped)) = looped {
                let run = LoopRun { index: at as u32, item: Some(item as u32), round: 1, over: false };
                self.state.loops.entry(self.address(looped.judge, Some(key))).or_insert(run);
            }
        }
        if keys.is_empty() {
            self.state.full.insert(step.clone());
        }
        for key in keys {
            self.consider(&self.address(index, Some(key)));
        }
        // Lists that are joined to this one, and their items, may have waited for these to exist.
        for other in 0..self.crew.tasks.len() {
            if other == index || !self.joined(other, index) {
                continue;
            }
            self.consider(&self.address(other, None));
            for key in keys {
                self.consider(&self.address(other, Some(key)));
            }
        }
        Ok(())
    }

    /// The one place where a phase changes: slots, lists and the ready set follow.
    pub(super) fn set(&mut self, address: &Step, phase: Phase) {
        let Some(unit) = self.state.units.get_mut(address) else { return };
        let holds = |phase: &Phase| matches!(phase, Phase::Running | Phase::Crew);
        let (before, now) = (holds(&unit.phase), holds(&phase));
        // An item holds its list's place from start to end, whatever it waits for in between.
        let at_work = |phase: &Phase| !matches!(phase, Phase::Waiting | Phase::Ready | Phase::Ended);
        let (was, is) = (at_work(&unit.phase), at_work(&phase));
        let ready = phase == Phase::Ready;
        let (waited, waits) = (unit.phase == Phase::Waits, phase == Phase::Waits);
        let worked = unit.agent.clone().filter(|_| unit.is_at_work());
        unit.phase = phase;
        let works = unit.agent.clone().filter(|_| unit.is_at_work());
        let (task, rank) = (unit.task, rank(unit));
        let is_item = matches!(unit.kind, Kind::Item { .. });
        self.state.slots = self.state.slots + u32::from(now) - u32::from(before);
        match (waited, waits) {
            (false, true) => drop(self.state.waits.insert(address.clone())),
            (true, false) => drop(self.state.waits.remove(address)),
            (true, true) | (false, false) => {}
        }
        if let Some(agent) = works {
            *self.state.working.entry(agent.name).or_default() += 1;
        }
        if let Some(agent) = worked {
            *self.state.working.entry(agent.name).or_default() -= 1;
        }
        let key = (rank.0, rank.1, address.clone());
        if ready {
            self.state.ready.insert(key);
        } else {
            self.state.ready.remove(&key);
        }
        if let Some(task) = task.filter(|_| is_item && was != is) {
            let list = self.address(task as usize, None);
            if let Some(Kind::List { running, .. }) = self.state.units.get_mut(&list).map(|unit| &mut unit.kind) {
                *running = *running + u32::from(is) - u32::from(was);
            }
        }
    }

    /// Makes a waiting unit ready if all it waits for has ended.
    pub(super) fn consider(&mut self, address: &Step) {
        if self.unit(address).is_some_and(|unit| unit.phase == Phase::Waiting) && self.is_due(address) {
            self.set(address, Phase::Ready);
        }
    }

    /// A unit's last word: result recorded, agent freed, dependents looked at.
    pub(super) fn ended(&mut self, address: &Step, result: TaskResult) {
        let crew = self.crew.clone();
        let Some(unit) = self.state.units.get(address) else { return };
        let definition = unit.task.map(|index| &crew.tasks[index as usize]);
        let rescues = definition.and_then(|task| task.rescues.clone()).and_then(|name| self.crew.index_of(&name));
        // A rescuing task is counted from the failure it answers to.
        let counted = rescues.is_none_or(|failed| {
            let failed = self.state.scope.child(&Segment::task(self.crew.tasks[failed].name.clone()));
            self.state.units.get(&failed).is_some_and(|unit| unit.phase == Phase::Rescue)
        });
        let Some(unit) = self.state.units.get_mut(address) else { return };
        let (task, kind) = (unit.task, unit.kind.clone());
        if unit.is_over() {
            return;
        }
        let good = result.status.has_result();
        let bad = matches!(result.status, TaskStatus::Failed | TaskStatus::OverBudget | TaskStatus::Cancelled);
        let result = TaskResult { spent: result.spent.plus(unit.earlier), ..result };
        unit.result = Some(result.clone());
        let agent = unit.agent.clone();
        unit.people.clear();
        self.set(address, Phase::Ended);
        self.state.open -= u32::from(counted);
        if let Some(agent) = agent {
            self.state.busy.entry(agent.name).or_default().remove(&agent.number);
        }
        // A list fails as a whole, its items do not count again.
        let optional = definition.is_none_or(|task| task.optional) || matches!(kind, Kind::Item { .. });
        self.state.failed |= bad && !optional;
        if good && definition.is_some_and(|task| task.output_file.is_some()) && !matches!(kind, Kind::List { .. }) {
            self.state.files.insert(address.clone(), None);
        }
        match kind {
            Kind::Item { index } => self.item_ended(address, task, index),
            Kind::Child(_) => {
                self.state.returns.insert(address.clone());
            }
            Kind::Single | Kind::List { .. } => {}
        }
        self.wake_dependents(address);
        if let Some(failed) = rescues {
            self.stand_in(&self.address(failed, None), result);
        }
        let stop = self.crew.on_failure == OnFailure::Stop && self.state.failed;
        debug_assert!(!stop || self.stopping());
    }
}

/// Where a unit stands in the order of work: children first (their parents wait), then document order.
fn rank(unit: &Unit) -> (u32, u32) {
    let item = match &unit.kind {
        Kind::Item { index } => index + 1,
        Kind::Single | Kind::List { .. } | Kind::Child(_) => 0,
    };
    (unit.task.map_or(0, |index| index + 1), item)
}
