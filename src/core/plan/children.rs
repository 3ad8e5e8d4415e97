//! Delegation. Invariant: a delegation that is taken on always comes back with a typed result; depth,
//! fan-out and who may ask whom are decided here and by no prompt.

use super::*;
use crate::core::agent::{Delegation, open_inputs};
use crate::core::chat::Message;
use crate::core::crew::Input;
use crate::core::event::{Event, TaskEvent};
use crate::core::machine::{Decided, MissingText, Refusal, World};
use crate::core::template::TemplateName;

impl Plan {
    pub(super) fn decide_delegation(&self, world: World<'_>, call: &CallId, index: u32) -> Result<Decided, Refusal> {
        if self.state.control.is_halted() {
            return Err(Refusal::Paused);
        }
        let key = (call.clone(), index);
        let asked = self.state.asked.get(&key).ok_or_else(|| Refusal::NotDue(format!("{call} asked nothing")))?;
        let arguments = world.texts.text(&asked.arguments)?;
        let delegation = Delegation::read(&arguments);
        match delegation.ok_or_else(|| "not done: the arguments name nobody".to_owned()).and_then(|delegation| {
            self.may_delegate(world, asked, call, &delegation)?;
            let inputs = self.child_inputs(world, call, &delegation)?;
            Ok((delegation, inputs))
        }) {
            Ok((delegation, inputs)) => {
                let mut decided = Decided::default();
                let task = decided.keep(delegation.task.clone());
                let expected = delegation.expected.clone().map(|text| decided.keep(text));
                let (step, agent) = (self.child_address(call, &delegation.to), asked.agent.clone());
                let from = call.clone();
                decided.events.push(Event::Task(TaskEvent::Delegated {
                    step,
                    from,
                    index,
                    agent,
                    task,
                    expected,
                    inputs,
                }));
                Ok(decided)
            }
            Err(content) => {
                let mut decided = Decided::default();
                let content = decided.message(&Message::Tool { tool_call_id: asked.ask.clone(), content });
                let (from, agent) = (call.clone(), asked.agent.clone());
                // It may be told a result that there is.
                let known = Delegation::read(&arguments).and_then(|again| self.known_child(call, &again));
                let known = known.and_then(|child| self.unit(child)?.result.as_ref());
                let tainted = known.and_then(|result| result.tainted.clone());
                decided.events.push(Event::Task(TaskEvent::DelegationRefused { from, index, agent, content, tainted }));
                Ok(decided)
            }
        }
    }

    /// Every limit of a delegation; the words are what the asking model reads.
    fn may_delegate(
        &self,
        world: World<'_>,
        asked: &Asked,
        call: &CallId,
        delegation: &Delegation,
    ) -> Result<(), String> {
        let role = self.crew.agents.get(&asked.agent.name).ok_or("not done: unknown agent")?;
        if !role.delegates.contains(&delegation.to) {
            return Err(format!("not done: {} may not be asked", delegation.to));
        }
        let depth = self.depth_of(&call.step);
        if depth >= role.max_depth {
            return Err(format!("not done: delegation is {} levels deep, the limit (`max_depth`)", role.max_depth));
        }
        let children = self.children_of(&call.step);
        if children >= role.max_children {
            return Err(format!("not done: {children} pieces of work were given out, the limit (`max_children`)"));
        }
        if let Some(child) = self.known_child(call, delegation) {
            // An attempt that asks what an earlier one asked gets the answer that was paid for.
            let known = self.result_of(world, child).map_err(|missing| missing.to_string())?;
            let busy = || format!("not done: {} was already given this very task and is at work on it", delegation.to);
            return Err(known.unwrap_or_else(busy));
        }
        if self.all_wait_for_children(&delegation.to) || self.asks_itself(asked, &delegation.to) {
            return Err(format!("not done: {} waits for work that it gave out itself", delegation.to));
        }
        if let Some(sub) = self.crew.crews.get(&delegation.to) {
            let missing: Vec<&str> = open_inputs(sub)
                .filter(|input| input.default.is_none() && !delegation.inputs.contains_key(&input.name))
                .map(|input| input.name.as_str())
                .collect();
            if !missing.is_empty() {
                return Err(format!("not done: {} needs {}", delegation.to, missing.join(", ")));
            }
        }
        Ok(())
    }

    /// The child that was given the very same task by the same step.
    fn known_child(&self, call: &CallId, delegation: &Delegation) -> Option<&Step> {
        let mark = repeat_mark(&call.step, &delegation.to, &BlobId::of(delegation.task.as_bytes()));
        self.state.delegated.get(&mark)
    }

    /// Is the one who asks the only actor that the role may have?
    fn asks_itself(&self, asked: &Asked, to: &Name) -> bool {
        asked.agent.name == *to && self.agent_limit(to) <= 1
    }

    /// What a sub-crew is given: what [crews.N] fixes, the open inputs that were named, their defaults, and the
    /// task's text where the crew has an input of that name.
    fn child_inputs(
        &self,
        world: World<'_>,
        call: &CallId,
        delegation: &Delegation,
    ) -> Result<BTreeMap<Name, serde_json::Value>, String> {
        let mut inputs = BTreeMap::new();
        let Some(sub) = self.crew.crews.get(&delegation.to) else { return Ok(inputs) };
        for input in &sub.crew.inputs {
            let template = sub.inputs.get(&input.name).filter(|_| self.crew.rules.fixed_inputs_given);
            let fixed = template.map(|template| self.fixed_input(world, call, input, template)).transpose();
            let fixed = fixed.map_err(|why| format!("not done: `{}` of {}: {why}", input.name, delegation.to))?;
            let given = delegation.inputs.get(&input.name).cloned();
            let task = (input.name.as_str() == "task").then(|| delegation.task.clone().into());
            if let Some(value) = fixed.or(given).or(task).or_else(|| input.default.clone()) {
                inputs.insert(input.name.clone(), value);
            }
        }
        Ok(inputs)
    }

    /// Made of what the task sees that delegates.
    fn fixed_input(
        &self,
        world: World<'_>,
        call: &CallId,
        input: &Input,
        template: &TemplateName,
    ) -> Result<serde_json::Value, String> {
        let unit = self.unit(&call.step.with_round(None)).ok_or("nobody asked")?;
        let scope = self.scope_of(world, unit).map_err(|missing| missing.to_string())?;
        let text = self.crew.templates.render(template, &scope).map_err(|error| error.to_string())?;
        input.parse(&text)
    }

    fn child_address(&self, call: &CallId, to: &Name) -> Step {
        let base = call.step.child(&Segment::task(to.clone()));
        let number = self.state.children.get(&base).copied().unwrap_or(0) + 1;
        // A number is a valid key; if it ever were not, the step itself is the child's address.
        match Key::new(&number.to_string()) {
            Ok(key) => call.step.child(&Segment { name: to.clone(), key: Some(key), round: None }),
            Err(_) => base,
        }
    }

    fn children_of(&self, step: &Step) -> u32 {
        let direct = self.state.children.iter().filter(|(base, _)| base.parent().as_ref() == Some(step));
        direct.map(|(_, count)| count).sum()
    }

    /// Levels below a task of the file.
    fn depth_of(&self, step: &Step) -> u32 {
        (step.depth() - self.state.scope.depth()).saturating_sub(1) as u32
    }

    pub(super) fn delegated(
        &mut self,
        step: &Step,
        (from, index): (&CallId, u32),
        parent: &AgentRef,
        (task, expected): (BlobId, Option<BlobId>),
        inputs: BTreeMap<Name, serde_json::Value>,
    ) {
        let Some(asked) = self.state.asked.remove(&(from.clone(), index)) else { return };
        let Some(last) = step.last() else { return };
        *self.state.children.entry(from.step.child(&Segment::task(last.name.clone()))).or_default() += 1;
        self.state.delegated.insert(repeat_mark(&from.step, &last.name, &task), step.clone());
        let (from, parent, Asked { ask, tainted, .. }) = (from.clone(), parent.clone(), asked);
        let above = from.step.with_round(None);
        let child = Child { from, index, parent, task, expected, inputs, ask, tainted };
        self.state.units.insert(step.clone(), Box::new(Unit::new(None, Kind::Child(child))));
        self.state.open += 1;
        self.set(step, Phase::Ready);
        if let Some(unit) = self.state.units.get_mut(&above) {
            unit.open_children += 1;
            if unit.phase == Phase::Running {
                self.set(&above, Phase::Waits);
            }
        }
    }

    pub(super) fn returned(&mut self, step: &Step, from: &CallId) {
        self.state.returns.remove(step);
        let above = from.step.with_round(None);
        if let Some(unit) = self.state.units.get_mut(&above) {
            unit.open_children = unit.open_children.saturating_sub(1);
            if unit.open_children == 0 && unit.phase == Phase::Waits {
                self.set(&above, Phase::Running);
            }
        }
    }

    /// What the asking model reads: `{status, result or error, usd, step}`; `None` while the child is at work.
    fn result_of(&self, world: World<'_>, step: &Step) -> Result<Option<String>, MissingText> {
        let Some(result) = self.unit(step).filter(|unit| unit.is_over()).and_then(|unit| unit.result.as_ref()) else {
            return Ok(None);
        };
        let mut fields = serde_json::Map::new();
        fields.insert("status".into(), result.status.as_str().into());
        match (&result.text, &result.error) {
            (Some(text), _) => {
                let text = world.texts.text(text)?;
                let typed = if result.typed { serde_json::from_str(&text).ok() } else { None };
                fields.insert("result".into(), typed.unwrap_or_else(|| (&*text).into()));
            }
            (None, Some(error)) => {
                fields.insert("error".into(), error.message.clone().into());
            }
            (None, None) => {}
        }
        fields.insert("usd".into(), result.spent.usd.to_string().into());
        fields.insert("step".into(), step.as_str().into());
        Ok(Some(serde_json::Value::Object(fields).to_string()))
    }

    pub(super) fn decide_return(&self, world: World<'_>, step: &Step) -> Result<Decided, Refusal> {
        let due = || Refusal::NotDue(format!("{step} has no result to return"));
        let unit = self.unit(step).filter(|_| self.state.returns.contains(step)).ok_or_else(due)?;
        let (Kind::Child(child), Some(result)) = (&unit.kind, &unit.result) else { return Err(due()) };
        let content = self.result_of(world, step)?.ok_or_else(due)?;
        let mut decided = Decided::default();
        let content = decided.message(&Message::Tool { tool_call_id: child.ask.clone(), content });
        decided.events.push(Event::Task(TaskEvent::Returned {
            step: step.clone(),
            from: child.from.clone(),
            index: child.index,
            agent: child.parent.clone(),
            content,
            spent: result.spent,
            tainted: result.tainted.clone(),
        }));
        Ok(decided)
    }
}

/// The same task given to the same agent by the same step.
fn repeat_mark(step: &Step, to: &Name, task: &BlobId) -> BlobId {
    BlobId::of(format!("{step} {to} {task}").as_bytes())
}
