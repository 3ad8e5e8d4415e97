//! One turn's tool calls. Invariant: nothing runs whose name was not offered and whose arguments do
//! not fit its schema; every call that was asked for gets a result, in the order asked.

use super::apply::same;
use super::approve::Asked;
use super::judge::clip;
use super::*;
use crate::core::chat::{Message, ToolAsk, wire_name};
use crate::core::event::ErrorClass;
use crate::core::ids::RunId;
use crate::core::machine::{Decided, Refusal, World};

/// The same tool with the same arguments this many times is a loop.
const LOOP: u32 = 3;

impl Agent {
    pub(super) fn take_turn(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        asks: &[ToolAsk],
    ) -> Result<Decided, Refusal> {
        let Phase::Judging { call, .. } = &job.phase else {
            return Err(Refusal::NotDue("no answer to judge".into()));
        };
        let most = spec.role.as_ref().map_or(0, |role| role.max_tool_calls) as usize;
        let of = asks.len() as u32;
        let mut decided = Decided::default();
        let mut bad = None;
        let mut here: BTreeMap<BlobId, u32> = BTreeMap::new();
        let mut uses: BTreeMap<&str, u64> = BTreeMap::new();
        for (index, ask) in asks.iter().enumerate() {
            let checked = if index >= most {
                Err((ToolRefusal::TooMany, format!("not run: at most {most} tool calls a turn")))
            } else {
                self.check_ask(job, spec, ask, &mut here, &mut uses)
            };
            let index = index as u32;
            match checked {
                Ok((tool, arguments)) => {
                    let asked = Asked { call, index, of, tool: &tool, ask: &ask.id };
                    let event = self.raise_or_start(world, job, spec, &asked, arguments, &mut decided);
                    decided.events.push(event);
                }
                Err((refusal, content)) => {
                    if matches!(refusal, ToolRefusal::UnknownTool | ToolRefusal::BadArguments) {
                        bad.get_or_insert_with(|| content.clone());
                    }
                    let (tool, tool_call_id) = (clip(&ask.name), ask.id.clone());
                    let content = decided.message(&Message::Tool { tool_call_id, content });
                    let (call, agent) = (call.clone(), self.who.clone());
                    decided.events.push(Event::Tool(ToolEvent::Refused {
                        call,
                        index,
                        of,
                        agent,
                        tool,
                        refusal,
                        content,
                    }));
                }
            }
        }
        // The first turn with a bad call gets the error and goes on; the second in a row is an attempt.
        match bad {
            Some(why) if job.bad_turns >= 1 => Ok(self.fail_attempt(job, spec, ErrorClass::UnknownTool, &why)),
            Some(_) | None => Ok(decided),
        }
    }

    /// The tool's own name and its arguments as canonical JSON; or why it is not run.
    fn check_ask<'a>(
        &self,
        job: &Job,
        spec: &'a Spec,
        ask: &ToolAsk,
        here: &mut BTreeMap<BlobId, u32>,
        uses: &mut BTreeMap<&'a str, u64>,
    ) -> Result<(String, String), (ToolRefusal, String)> {
        let offered = spec.tools.iter().find(|name| wire_name(name) == ask.name || **name == ask.name);
        let delegates = spec.role.as_ref().is_some_and(|role| !role.delegates.is_empty());
        let tool = offered.map(String::as_str).or((delegates && ask.name == DELEGATE).then_some(DELEGATE));
        let Some(tool) = tool else {
            let mut names: Vec<String> = spec.tools.iter().map(|name| wire_name(name)).collect();
            names.extend(delegates.then(|| DELEGATE.to_owned()));
            let why = format!("there is no tool `{}`; the tools are: {}", clip(&ask.name), names.join(", "));
            return Err((ToolRefusal::UnknownTool, why));
        };
        let given = if ask.arguments.trim().is_empty() { "{}" } else { &ask.arguments };
        let bad = |why: String, schema: &serde_json::Value| {
            (ToolRefusal::BadArguments, format!("not run: {why}. The arguments of {tool} must fit {schema}"))
        };
        let (schema, limit) = match spec.crew.tools.get(tool) {
            Some(def) => (Some(def.arguments.clone()), def.max_calls),
            None => (delegate::schema(spec), None),
        };
        let schema = schema.ok_or_else(|| (ToolRefusal::UnknownTool, format!("{tool} cannot be called here")))?;
        let value: serde_json::Value = serde_json::from_str(given)
            .map_err(|error| bad(format!("the arguments are not JSON ({error})"), schema.json()))?;
        schema.check(&value).map_err(|why| bad(why, schema.json()))?;
        let arguments = value.to_string();
        let same = same(tool, &BlobId::of(arguments.as_bytes()));
        let times = here.entry(same).or_insert_with(|| job.seen.get(&same).copied().unwrap_or(0));
        *times += 1;
        if *times >= LOOP {
            let why =
                format!("not run: {tool} was called {LOOP} times with the same arguments; answer with what you have");
            return Err((ToolRefusal::Repeat, why));
        }
        let used = uses.entry(tool).or_insert_with(|| job.used.get(tool).copied().unwrap_or(0));
        *used += 1;
        if limit.is_some_and(|limit| *used > limit) {
            return Err((
                ToolRefusal::Limit,
                format!("not run: {tool} may be called {} times", used.saturating_sub(1)),
            ));
        }
        Ok((tool.to_owned(), arguments))
    }

    /// A task that is one tool call: start it, then take its result as the task's.
    pub(super) fn tool_task(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        tool: &str,
        arguments: &BlobId,
        state: &ToolTask,
    ) -> Result<Decided, Refusal> {
        let mut decided = Decided::default();
        match state {
            ToolTask::Due => {
                let call = CallId { step: job.step.clone(), number: job.calls + 1 };
                let text = world.texts.text(arguments)?;
                let asked = Asked { call: &call, index: 0, of: 1, tool, ask: "" };
                let event = self.raise_or_start(world, job, spec, &asked, text.to_string(), &mut decided);
                // They are in the store already.
                decided.blobs.clear();
                decided.events.push(event);
                Ok(decided)
            }
            ToolTask::Waiting { call, expires_ms, said, .. } => {
                let asked = Asked { call, index: 0, of: 1, tool, ask: "" };
                self.tool_task_said(world, job, spec, &asked, arguments, *expires_ms, said.as_ref())
            }
            ToolTask::Running { .. } => Err(Refusal::NotDue("the tool is running".into())),
            ToolTask::Returned(outcome, content) => {
                let text = world.texts.text(&content.message)?;
                let text = Message::decode(&text).map(|message| message.content().to_owned()).unwrap_or_default();
                match outcome {
                    Outcome::Ok => Ok(self.with_result(world, job, spec, text, false)),
                    Outcome::Error => Ok(self.fail_attempt(job, spec, ErrorClass::Tool, &text)),
                    Outcome::Unknown => Ok(self.review(job, ErrorClass::Tool, text)),
                }
            }
        }
    }

    /// Tools that were started and have not returned: call, index, name, the model's id of the call.
    pub fn running_tools(&self) -> Vec<(CallId, u32, &str, &str)> {
        match self.job.as_ref().map(|job| &job.phase) {
            Some(Phase::Tools { call, asks, .. }) => {
                let running = asks.iter().filter_map(|(index, ask)| match ask {
                    Ask::Running { tool, ask, .. } => Some((call.clone(), *index, tool.as_str(), ask.as_str())),
                    Ask::Waiting(_) | Ask::Done(_) => None,
                });
                running.collect()
            }
            Some(Phase::ToolTask { tool, state: ToolTask::Running { call, .. }, .. }) => {
                vec![(call.clone(), 0, tool, "")]
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// What the shell needs to run a tool of this turn: name, arguments, idempotency key, the ask's id.
    pub fn tool_run(&self, call: &CallId, index: u32) -> Option<(&str, BlobId, &str, &str)> {
        let job = self.job.as_ref()?;
        match &job.phase {
            Phase::Tools { call: open, asks, .. } if open == call => match asks.get(&index)? {
                Ask::Running { tool, arguments, key, ask, .. } => Some((tool, *arguments, key, ask)),
                Ask::Waiting(_) | Ask::Done(_) => None,
            },
            Phase::ToolTask { tool, arguments, state: ToolTask::Running { call: open, key, .. } } if open == call => {
                Some((tool, *arguments, key, ""))
            }
            Phase::ToolTask { .. } | Phase::Tools { .. } | Phase::Ready | Phase::Queued => None,
            Phase::Calling { .. } | Phase::Judging { .. } | Phase::Failed(_) | Phase::Backoff { .. } => None,
            Phase::Blocked | Phase::OverBudget { .. } | Phase::Review | Phase::Accepted { .. } => None,
            Phase::Asked { .. } => None,
        }
    }
}

/// Stable over resume: run + step address + call number + index in the turn + argument hash.
pub(super) fn idempotency_key(run: &RunId, call: &CallId, index: u32, arguments: &str) -> String {
    format!("{run}:{call}:{index}:{}", &BlobId::of(arguments.as_bytes()).to_string()[..16])
}
