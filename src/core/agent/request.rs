//! From memory to a request: what is sent, how large it may be, what the ledger is asked for.

use std::sync::Arc;

use super::*;
use crate::core::chat::{Message, ModelRequest, OutputSchema, ToolSpec};
use crate::core::crew::{Crew, Model};
use crate::core::ledger::{Countable, HoldRequest};
use crate::core::machine::{Decided, Refusal, World};
use crate::core::money::Tokens;

/// Tokens a provider may add to a message (role, separators), and to a request. OpenAI documents 3
/// a message and 3 a reply; doubled, because other vendors' templates are not public.
pub(super) const PER_MESSAGE: u64 = crate::core::rules::ONE.per_message;
pub(super) const PER_REQUEST: u64 = crate::core::rules::ONE.per_request;
/// What a tool costs beside its JSON.
const PER_TOOL: u64 = crate::core::rules::ONE.per_tool;

/// What an agent's `decide` comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A model call is due: the ledger decides.
    Ask(HoldRequest),
    /// Facts to record.
    Record(Decided),
}

impl Agent {
    /// Decides whatever is due in this phase.
    pub fn decide(&self, world: World<'_>) -> Result<Decision, Refusal> {
        let job = self.job.as_ref().ok_or_else(|| Refusal::NotDue("no task".into()))?;
        let spec =
            self.spec(world.crew, job).ok_or_else(|| Refusal::NotDue(format!("the crew has no step {}", job.step)))?;
        match &job.phase {
            Phase::Ready | Phase::Queued if self.halted() => Err(Refusal::Paused),
            // Time ran out in the tools: no call is held that could not run.
            Phase::Ready if job.active_ms >= spec.timeout_ms => {
                self.after_trouble(job, &spec, &Trouble::Timeout).map(Decision::Record)
            }
            Phase::Ready | Phase::Queued => self.prepare(world, job, &spec),
            Phase::Judging { answer, finish, .. } if job.summary.is_some() => {
                self.judge_summary(world, job, &spec, *answer, *finish).map(Decision::Record)
            }
            Phase::Judging { answer, finish, tools, .. } => {
                self.judge(world, job, &spec, *answer, *finish, *tools).map(Decision::Record)
            }
            Phase::Accepted { answer } => self.accepted(world, job, &spec, *answer).map(Decision::Record),
            Phase::Failed(trouble) => self.after_trouble(job, &spec, trouble).map(Decision::Record),
            Phase::OverBudget { message } => {
                let stands = self.stands(world, job, &spec)?;
                Ok(Decision::Record(stands.unwrap_or_else(|| self.over_budget(job, message))))
            }
            Phase::ToolTask { tool, arguments, state } => {
                self.tool_task(world, job, &spec, tool, arguments, state).map(Decision::Record)
            }
            Phase::Asked { .. } => self.after_result(world, job, &spec).map(Decision::Record),
            Phase::Tools { .. } => self.after_decision(world, job, &spec).map(Decision::Record),
            Phase::Calling { .. } => Err(Refusal::NotDue("work is in flight".into())),
            Phase::Backoff { .. } | Phase::Blocked | Phase::Review => Err(Refusal::NotDue("it waits".into())),
        }
    }

    /// Before a call: announce the conclusion, make the prompt fit, then ask for the hold.
    fn prepare(&self, world: World<'_>, job: &Job, spec: &Spec) -> Result<Decision, Refusal> {
        let (Some(role), Some((model, settings))) = (&spec.role, job.in_force(spec)) else {
            return Err(Refusal::NotDue("a tool task makes no model call".into()));
        };
        if let Some(decided) = self.fall_back(job, spec, &model) {
            return Ok(Decision::Record(decided));
        }
        if let Some(request) = self.summary_request(job, &model, &settings) {
            return Ok(Decision::Ask(request));
        }
        // No budget for more: first without tools, then with nothing but its task, then not at all.
        let broke = job.finishing > job.eased;
        if broke && let Some(decided) = self.stands(world, job, spec)? {
            return Ok(Decision::Record(decided));
        }
        if broke && (job.concluding || !self.offers_tools(spec)) {
            return Ok(Decision::Record(self.to_the_bone(job)));
        }
        let last = job.turns + 1 >= role.max_turns || job.looped || broke;
        if last && !job.concluding && self.offers_tools(spec) {
            let mut decided = Decided::default();
            let text = spec.crew.templates.builtin("conclude", &Default::default());
            let note = decided.message(&Message::User { content: text });
            let (step, agent) = (job.step.clone(), self.who.clone());
            decided.events.push(Event::Task(TaskEvent::Concluding { step, agent, note }));
            return Ok(Decision::Record(decided));
        }
        if self.is_told(job) {
            return self.hear(world, job, spec, false).map(Decision::Record);
        }
        if let Some(decided) = self.make_fit(world, job, spec, role, &model)? {
            return Ok(Decision::Record(decided));
        }
        let tools = !job.concluding && self.offers_tools(spec);
        let (input, new) = self.bound(job, spec, &model, tools);
        let countable = model.tokenizer.map(|tokenizer| {
            let own = |msg: &&Msg| msg.own_turn(&model.full_id()).is_none();
            Countable { tokenizer, messages: new.iter().filter(own).copied().collect() }
        });
        Ok(Decision::Ask(HoldRequest {
            call: CallId { step: job.step.clone(), number: job.calls + 1 },
            agent: self.who.clone(),
            attempt: job.attempt,
            model: model.full_id(),
            input: Tokens(input),
            price: model.price,
            settings,
            messages: self.memory.len() as u32,
            tools,
            ending: !tools,
            countable,
            summary: false,
        }))
    }

    /// What the step demands, less what the run has given up. A call in flight is as it was held.
    pub fn spec(&self, top: &Arc<Crew>, job: &Job) -> Option<Spec> {
        let steps = match &job.phase {
            Phase::Calling { .. } => job.held_under,
            Phase::Ready | Phase::Queued | Phase::Judging { .. } | Phase::Tools { .. } => self.degraded,
            Phase::Failed(_) | Phase::Backoff { .. } | Phase::Blocked | Phase::OverBudget { .. } => self.degraded,
            Phase::Review | Phase::Accepted { .. } | Phase::ToolTask { .. } => self.degraded,
            Phase::Asked { .. } => self.degraded,
        };
        Some(Spec::of(top, &job.step, &self.who)?.after(top, steps, &self.who))
    }

    fn offers_tools(&self, spec: &Spec) -> bool {
        !spec.tools.is_empty() || spec.role.as_ref().is_some_and(|role| !role.delegates.is_empty())
    }

    /// Upper bound of the input in tokens: what the provider reported for the longest prefix it has
    /// seen, then one token per byte of what is new. Byte-level tokenisers cannot use more. And what is new.
    fn bound(&self, job: &Job, spec: &Spec, model: &Model, tools: bool) -> (u64, &[Msg]) {
        let (unit, id) = (job.step.with_round(None), model.full_id());
        let known = self.known.as_ref().filter(|known| {
            known.unit == unit && known.model == id && (known.tools || !tools) && known.messages <= self.memory.len()
        });
        let (seen, start) = match known {
            // The answer that was counted is the next message: its tokens are known too.
            Some(known) if self.memory.get(known.messages).is_some_and(|msg| msg.message == known.answer) => {
                (known.messages + 1, known.input.saturating_add(known.output))
            }
            Some(known) => (known.messages, known.input),
            None => (0, PER_REQUEST + extras_bytes(self, spec, model, tools)),
        };
        let new = &self.memory[seen..];
        (new.iter().fold(start, |sum, msg| sum.saturating_add(msg.bytes_for(&id) + PER_MESSAGE)), new)
    }

    /// The request of a held call.
    pub fn request(&self, world: World<'_>, call: &CallId) -> Result<ModelRequest, Refusal> {
        let job = self.job.as_ref().filter(|job| job.step == call.step);
        let job = job.ok_or_else(|| Refusal::NotDue(format!("{call} is not this agent's")))?;
        let spec = self.spec(world.crew, job);
        let Some((spec, (model, settings))) = spec.and_then(|spec| job.in_force(&spec).map(|model| (spec, model)))
        else {
            return Err(Refusal::NotDue(format!("the crew has no step {}", job.step)));
        };
        let sums = job.summary.as_ref();
        let sent: Vec<Msg> = sums.map_or_else(|| self.memory.clone(), |sums| self.summary_messages(sums));
        let messages = sent.iter().map(|msg| world.texts.text(&msg.message)).collect::<Result<_, _>>()?;
        let own_turns = if sums.is_some() { BTreeMap::new() } else { self.own_turns(world, &model.full_id())? };
        let tools = if job.concluding || sums.is_some() { Vec::new() } else { self.tool_specs(&spec) };
        let settings = sums.map_or(settings.clone(), |sums| sums.settings(&settings));
        Ok(ModelRequest {
            run: world.run.clone(),
            call: call.clone(),
            agent: self.who.name.clone(),
            attempt: job.attempt,
            model: model.id.clone(),
            messages,
            own_turns,
            tools: tools.into(),
            schema: spec.schema.as_ref().filter(|_| sums.is_none()).map(|schema| std::sync::Arc::new(on_wire(schema))),
            settings,
            extra: model.extra.clone(),
        })
    }

    /// What `model` wrote itself and gets back as it came.
    fn own_turns(&self, world: World<'_>, model: &str) -> Result<BTreeMap<usize, Arc<str>>, Refusal> {
        let own = self.memory.iter().enumerate().filter_map(|(i, msg)| Some((i, msg.own_turn(model)?)));
        own.map(|(i, own)| Ok((i, world.texts.text(&own.turn)?))).collect()
    }

    /// Tools in the order they are offered; `delegate` last.
    pub(super) fn tool_specs(&self, spec: &Spec) -> Vec<ToolSpec> {
        let named = spec.tools.iter().filter_map(|name| spec.crew.tools.get(name)).map(|tool| tool.spec.clone());
        let role = spec.role.as_ref().filter(|role| !role.delegates.is_empty());
        named.chain(role.map(|role| delegate::spec_for(&spec.crew, role))).collect()
    }
}

fn on_wire(schema: &crate::core::schema::Schema) -> OutputSchema {
    schema.on_wire("result")
}

/// Bytes of tool definitions and output schema, which providers bill as input, and what they add to these. (A
/// schema is a tool to some.)
fn extras_bytes(agent: &Agent, spec: &Spec, model: &Model, tools: bool) -> u64 {
    let size = |value: &serde_json::Value| value.to_string().len() as u64;
    let added = model.refuses.tool_prompt;
    let schema = spec.schema.as_ref().map_or(0, |schema| size(schema.json()) + PER_TOOL + added);
    if !tools {
        return schema;
    }
    let specs = agent.tool_specs(spec);
    let each = |tool: &ToolSpec| (tool.name.len() + tool.description.len()) as u64 + size(&tool.parameters) + PER_TOOL;
    schema.max(added) + specs.iter().map(each).sum::<u64>()
}
