//! Deciding what is due. Invariant: templates, conditions and lists are evaluated here and nowhere
//! else; their outcome is in the event.

use super::prompt::NoPrompt;
use super::*;
use crate::core::crew::{OnLimit, Repeat, Who};
use crate::core::event::{Event, RoundOutcome, RunEnd, RunEvent, TaskError, TaskEvent, TaskStatus, Work};
use crate::core::machine::{Decided, Refusal, World};
use crate::core::money::Amount;

impl Plan {
    pub fn decide(&self, world: World<'_>, step: &PlanStep) -> Result<Decided, Refusal> {
        match step {
            PlanStep::Start(address) => self.start(world, address),
            PlanStep::CloseList(list) => self.close_list(world, list),
            PlanStep::DecideRound(judge) => self.decide_round(world, judge),
            PlanStep::Delegate { call, index } => self.decide_delegation(world, call, *index),
            PlanStep::Return(child) => self.decide_return(world, child),
            PlanStep::FailCrashed(step) => self.fail_crashed(step),
            PlanStep::Reject(step) => self.reject(step),
            PlanStep::WriteFile(step) => Err(Refusal::NotDue(format!("writing {step} is the shell's"))),
            PlanStep::Cancel => Ok(self.cancel()),
            PlanStep::Finish => self.finish(),
            PlanStep::Park => self.park(),
        }
    }

    fn start(&self, world: World<'_>, address: &Step) -> Result<Decided, Refusal> {
        let ready = self.unit(address).filter(|unit| unit.phase == Phase::Ready);
        let unit = ready.ok_or_else(|| Refusal::NotDue(format!("{address} is not ready")))?;
        if self.state.control.is_halted() {
            return Err(Refusal::Paused);
        }
        match self.try_start(world, address, unit) {
            Ok(decided) => Ok(decided),
            Err(NoPrompt::Missing(missing)) => Err(missing.into()),
            // What `check` could not see: a value that turned out wrong. Nothing is asked with it.
            Err(NoPrompt::Template(error)) => Ok(self.cannot_start(address, unit, error.to_string())),
            Err(NoPrompt::Wrong(why)) => Ok(self.cannot_start(address, unit, why)),
        }
    }

    fn try_start(&self, world: World<'_>, address: &Step, unit: &Unit) -> Result<Decided, NoPrompt> {
        let step = unit.step(address);
        let Some(index) = unit.task.map(|index| index as usize) else {
            return self.start_child(world, address, unit);
        };
        let task = &self.crew.tasks[index];
        if unit.round <= 1 {
            if let Some(because) = self.upstream_failure(unit, index) {
                return Ok(Decided::one(Event::Task(TaskEvent::Skipped { step, because, upstream: true })));
            }
            if let Some(skipped) = self.given_up(world, task, &step) {
                return Ok(Decided::one(skipped));
            }
            if let Some(condition) = task.when.as_ref().filter(|when| self.asks_here(unit, when.0.as_ref())) {
                let scope = self.scope_of(world, unit)?;
                if !self.crew.templates.test(condition, &scope)? {
                    let because = format!("`{}` is false", condition.0);
                    return Ok(Decided::one(Event::Task(TaskEvent::Skipped { step, because, upstream: false })));
                }
            }
        }
        if let Some(raised) = self.to_let_begin(world, task, unit, &step) {
            return Ok(raised);
        }
        if let (Kind::List { .. }, Some(repeat)) = (&unit.kind, &task.repeat) {
            return self.start_list(world, step, unit, repeat);
        }
        self.may_be_written(world, unit, task)?;
        match &task.who {
            Who::Agent(name) => self.assign(world, step, unit, name),
            Who::Crew(name) => self.start_crew(world, step, unit, name),
            Who::Tool { tool, args } => {
                let arguments = self.tool_arguments(world, unit, args)?;
                let schema = self.crew.tools.get(tool).map(|tool| &tool.arguments);
                if let Some(Err(why)) = schema.map(|schema| schema.check(&arguments)) {
                    return Err(NoPrompt::Wrong(format!("arguments of {tool}: {why}")));
                }
                let mut decided = Decided::default();
                let arguments = decided.keep(arguments.to_string());
                let work = Box::new(Work::Tool { tool: tool.clone(), arguments });
                let agent = self.free_agent(&task.name, unit);
                decided.events.push(self.assigned(step, unit, agent, work));
                Ok(decided)
            }
        }
    }

    /// `when` of a list is asked once, unless it speaks of the item.
    fn asks_here(&self, unit: &Unit, condition: &str) -> bool {
        let words = condition.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let by_item = words.into_iter().any(|word| matches!(word, "item" | "index" | "key"));
        match unit.kind {
            Kind::List { .. } => !by_item,
            Kind::Item { .. } => by_item,
            Kind::Single | Kind::Child(_) => true,
        }
    }

    fn assign(&self, world: World<'_>, step: Step, unit: &Unit, name: &Name) -> Result<Decided, NoPrompt> {
        let role = self.crew.agents.get(name).ok_or_else(|| NoPrompt::Wrong(format!("there is no agent {name}")))?;
        let mut decided = Decided::default();
        let work = Box::new(self.prompt(world, unit, role, &mut decided)?);
        let agent = self.free_agent(name, unit);
        decided.events.push(self.assigned(step, unit, agent, work));
        Ok(decided)
    }

    fn start_child(&self, world: World<'_>, address: &Step, unit: &Unit) -> Result<Decided, NoPrompt> {
        let wrong = || NoPrompt::Wrong(format!("{address} is nobody's work"));
        let name = address.last().ok_or_else(wrong)?.name;
        match &unit.kind {
            Kind::Child(child) if self.crew.crews.contains_key(&name) => {
                let inputs = child.inputs.clone();
                Ok(self.crew_started(address.clone(), unit, inputs))
            }
            Kind::Child(_) => self.assign(world, address.clone(), unit, &name),
            Kind::Single | Kind::List { .. } | Kind::Item { .. } => Err(wrong()),
        }
    }

    fn start_crew(&self, world: World<'_>, step: Step, unit: &Unit, name: &Name) -> Result<Decided, NoPrompt> {
        let sub = self.crew.crews.get(name).ok_or_else(|| NoPrompt::Wrong(format!("there is no crew {name}")))?;
        let scope = self.scope_of(world, unit)?;
        let mut inputs = BTreeMap::new();
        for input in &sub.crew.inputs {
            let given = sub.inputs.get(&input.name).map(|template| self.crew.templates.render(template, &scope));
            let value = given.transpose()?.map(|text| input.parse(&text).map_err(NoPrompt::Wrong)).transpose()?;
            if let Some(value) = value.or_else(|| input.default.clone()) {
                inputs.insert(input.name.clone(), value);
            }
        }
        Ok(self.crew_started(step, unit, inputs))
    }

    fn start_list(&self, world: World<'_>, step: Step, unit: &Unit, repeat: &Repeat) -> Result<Decided, NoPrompt> {
        match &repeat.over {
            Over::Rows(rows) => {
                let keys = rows.iter().map(|row| row.key.clone()).collect();
                Ok(Decided::one(Event::Task(TaskEvent::FannedOut { step, keys, items: None })))
            }
            Over::Result { list, .. } => {
                let scope = self.scope_of(world, unit)?;
                let values = self.crew.templates.list(list, &scope)?;
                let most = repeat.max_items.unwrap_or(u32::MAX) as usize;
                if values.len() > most {
                    let message = format!("`{}` has {} items, more than `max_items` = {most}", list.0, values.len());
                    return Ok(self.to_review(step, ErrorClass::TooManyItems, message));
                }
                let keys = self.item_keys(&values, repeat, scope)?;
                let mut decided = Decided::default();
                let items = Some(decided.keep(serde_json::Value::Array(values).to_string()));
                decided.events.push(Event::Task(TaskEvent::FannedOut { step, keys, items }));
                Ok(decided)
            }
        }
    }

    fn item_keys(
        &self,
        values: &[serde_json::Value],
        repeat: &Repeat,
        mut scope: crate::core::template::Scope,
    ) -> Result<Vec<Key>, NoPrompt> {
        let mut keys = Vec::with_capacity(values.len());
        let mut seen = BTreeMap::new();
        for (index, value) in values.iter().enumerate() {
            let number = index + 1;
            let text = match &repeat.key {
                None => number.to_string(),
                Some(template) => {
                    scope.json("item", value.clone());
                    scope.json("index", number.into());
                    self.crew.templates.render(template, &scope)?
                }
            };
            let key = Key::new(text.trim()).map_err(|error| NoPrompt::Wrong(format!("item {number}: {error}")))?;
            if let Some(other) = seen.insert(key.folded(), number) {
                return Err(NoPrompt::Wrong(format!("items {other} and {number} have the same key `{key}`")));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn cannot_start(&self, address: &Step, unit: &Unit, message: String) -> Decided {
        let returns = match unit.task.map(|index| &self.crew.tasks[index as usize]) {
            Some(task) => task.on_error.is_some() || task.optional,
            None => true,
        };
        let step = unit.step(address);
        if !returns {
            return self.to_review(step, ErrorClass::Template, message);
        }
        let error = TaskError { class: ErrorClass::Template, message, attempts: 0 };
        let failed = TaskResult::failed(TaskStatus::Failed, error, Amount::default());
        // The words may be those of a value.
        let result = TaskResult { tainted: self.taint_of(unit), ..failed };
        Decided::one(Event::Task(TaskEvent::Finished { step, agent: None, result }))
    }

    fn to_review(&self, step: Step, class: ErrorClass, message: String) -> Decided {
        Decided::one(Event::Task(TaskEvent::NeedsReview { step, agent: None, class, message }))
    }

    /// A list's result: its items' texts joined under their keys; failed only if every item failed.
    fn close_list(&self, world: World<'_>, list: &Step) -> Result<Decided, Refusal> {
        let due = || Refusal::NotDue(format!("{list} still has items at work"));
        let unit = self.unit(list).filter(|_| self.state.full.contains(list)).ok_or_else(due)?;
        let (Kind::List { keys, .. }, Some(task)) = (&unit.kind, unit.task) else { return Err(due()) };
        let (mut good, mut spent, mut texts) = (0, Amount::default(), Vec::new());
        let (mut first_error, mut tainted) = (None, None);
        for key in keys {
            let item = self.unit(&self.address(task as usize, Some(key)));
            let Some(result) = item.and_then(|unit| unit.result.as_ref()) else { continue };
            spent = spent.plus(result.spent);
            tainted = tainted.or_else(|| result.tainted.clone());
            if let Some(text) = result.text.filter(|_| result.status.has_result()) {
                good += 1;
                texts.push((key.as_str(), world.texts.text(&text)?));
            } else if result.status != TaskStatus::Skipped || result.error.is_some() {
                first_error.get_or_insert_with(|| result.error.clone());
            }
        }
        let mut decided = Decided::default();
        let text = Some(decided.keep(joined(&texts)));
        let result = match first_error {
            None => TaskResult { tainted, ..TaskResult::done(text, false, spent) },
            Some(error) => {
                let (status, text) = if good > 0 { (TaskStatus::Partial, text) } else { (TaskStatus::Failed, None) };
                TaskResult { status, text, typed: false, error, spent, tainted }
            }
        };
        decided.events.push(Event::Task(TaskEvent::Finished { step: list.clone(), agent: None, result }));
        Ok(decided)
    }

    fn decide_round(&self, world: World<'_>, judge: &Step) -> Result<Decided, Refusal> {
        let run = self.state.loops.get(judge).filter(|_| self.state.rounds.contains(judge));
        let run = run.ok_or_else(|| Refusal::NotDue(format!("{judge} has not judged")))?;
        let looped = &self.crew.loops[run.index as usize];
        let scope = self.round_scope(world, judge)?;
        let outcome = match self.crew.templates.test(&looped.until, &scope) {
            Ok(true) => RoundOutcome::Approved,
            // No budget for another round: the last result stands, unapproved.
            Ok(false) if run.round < looped.max_rounds && self.state.finishing => RoundOutcome::Accepted,
            Ok(false) if run.round < looped.max_rounds => RoundOutcome::Again,
            Ok(false) => match looped.on_limit {
                OnLimit::Accept => RoundOutcome::Accepted,
                OnLimit::Fail => RoundOutcome::Failed,
                OnLimit::Review => RoundOutcome::Review,
            },
            Err(_) => RoundOutcome::Review,
        };
        let (judge, round) = (judge.with_round(Some(run.round)), run.round);
        Ok(Decided::one(Event::Task(TaskEvent::RoundDecided { judge, round, outcome })))
    }

    fn fail_crashed(&self, step: &Step) -> Result<Decided, Refusal> {
        let unit = self.unit(&step.with_round(None)).filter(|unit| unit.crashes > MAX_CRASHES && unit.is_at_work());
        let unit = unit.ok_or_else(|| Refusal::NotDue(format!("{step} has not crashed so often")))?;
        let message = format!("its agent panicked {} times", unit.crashes);
        let error = TaskError { class: ErrorClass::Crashed, message, attempts: unit.crashes };
        let result = TaskResult::failed(TaskStatus::Failed, error, Amount::default());
        let (step, agent) = (step.clone(), unit.agent.clone());
        Ok(Decided::one(Event::Task(TaskEvent::Finished { step, agent, result })))
    }

    /// Everything that has not ended, leaves first, in one append.
    fn cancel(&self) -> Decided {
        let units = self.state.units.iter().map(|(step, unit)| (step, &**unit));
        let mut open: Vec<(&Step, &Unit)> = units.filter(|(_, unit)| self.counts(unit)).collect();
        open.sort_by_key(|(step, unit)| {
            (std::cmp::Reverse(step.depth()), matches!(unit.kind, Kind::List { .. }), (*step).clone())
        });
        let events = open.into_iter().map(|(address, unit)| {
            let error =
                TaskError { class: ErrorClass::Cancelled, message: "the run was cancelled".into(), attempts: 0 };
            let result = TaskResult::failed(TaskStatus::Cancelled, error, Amount::default());
            // The step of a round that is over has ended already; its unit has not.
            let over = unit.result.is_some();
            let step = if over { address.clone() } else { unit.step(address) };
            Event::Task(TaskEvent::Finished { step, agent: unit.agent.clone(), result })
        });
        Decided { events: events.collect(), blobs: Vec::new() }
    }

    pub(in crate::core) fn counts(&self, unit: &Unit) -> bool {
        let idle_rescue = unit.task.is_some_and(|index| self.crew.tasks[index as usize].rescues.is_some())
            && matches!(unit.phase, Phase::Waiting);
        // One that is being stood in for ends with the task that stands in.
        !unit.is_over() && !idle_rescue && unit.phase != Phase::Rescue
    }

    fn finish(&self) -> Result<Decided, Refusal> {
        let output = self.unit(&self.address(self.crew.output, None)).and_then(|unit| unit.result.clone());
        let spent =
            self.state.units.values().filter(|unit| unit.task.is_some() && !matches!(unit.kind, Kind::Item { .. }));
        let spent =
            spent.filter_map(|unit| unit.result.as_ref()).fold(Amount::default(), |sum, result| sum.plus(result.spent));
        let cancelled = self.state.control == Control::Cancelling;
        let status = match (cancelled, self.state.failed) {
            (true, _) => RunEnd::Cancelled,
            (false, true) => RunEnd::Failed,
            (false, false) => RunEnd::Completed,
        };
        if self.state.scope.is_root() {
            let result = output.map(|result| TaskResult { spent, ..result });
            return Ok(Decided::one(Event::Run(RunEvent::Finished { status, result })));
        }
        let failed = |class, message: &str| {
            let error = TaskError { class, message: message.into(), attempts: 0 };
            TaskResult::failed(TaskStatus::Failed, error, spent)
        };
        let result = match output {
            Some(result) if result.status.has_result() && !self.state.failed => TaskResult { spent, ..result },
            Some(result) => TaskResult {
                status: match self.cause_of(self.crew.output).unwrap_or(result.status) {
                    TaskStatus::Cancelled => TaskStatus::Cancelled,
                    TaskStatus::Skipped => TaskStatus::Skipped,
                    TaskStatus::OverBudget => TaskStatus::OverBudget,
                    TaskStatus::Failed | TaskStatus::Done | TaskStatus::Partial | TaskStatus::Replaced => {
                        if cancelled {
                            TaskStatus::Cancelled
                        } else {
                            TaskStatus::Failed
                        }
                    }
                },
                text: None,
                typed: false,
                error: result.error.or_else(|| failed(ErrorClass::Upstream, "a task of the crew failed").error),
                spent,
                tainted: result.tainted,
            },
            None => failed(ErrorClass::Upstream, "the crew has no result"),
        };
        let step = self.state.scope.clone();
        Ok(Decided::one(Event::Task(TaskEvent::Finished { step, agent: None, result })))
    }
}

/// A list's result: under each key its text.
fn joined(texts: &[(&str, Arc<str>)]) -> String {
    let mut all = String::with_capacity(texts.iter().map(|(key, text)| key.len() + text.len() + 4).sum());
    for (key, text) in texts {
        all.extend([if all.is_empty() { "" } else { "\n\n" }, key, "\n\n", text]);
    }
    all
}
