//! What needs a person. Invariant: a tool call that needs a yes starts only after one, with exactly the
//! arguments that were agreed to; the gate stands here and in no prompt.

use super::apply::same;
use super::judge::usable;
use super::turn::idempotency_key;
use super::*;
use crate::core::chat::Message;
use crate::core::event::{ErrorClass, InterruptKind, TaskError, TaskResult, TaskStatus, Why};
use crate::core::interrupt::words;
use crate::core::machine::{Decided, Refusal, World};
use crate::core::template::Scope;

/// One tool call that fits its schema.
pub(super) struct Asked<'a> {
    pub call: &'a CallId,
    pub index: u32,
    pub of: u32,
    pub tool: &'a str,
    /// The provider's id of it; empty of a tool task.
    pub ask: &'a str,
}

impl Agent {
    /// Why a person must agree before this runs; nothing, if it may run at once.
    pub fn needs_yes(&self, job: &Job, spec: &Spec, tool: &str, arguments: &str) -> Vec<Why> {
        let Some(def) = spec.crew.tools.get(tool) else { return Vec::new() };
        if def.is_question() {
            return vec![Why::Question];
        }
        let mut why = Vec::new();
        if def.approval.always {
            why.push(Why::Always);
        }
        if let Some(condition) = &def.approval.when {
            let mut scope = Scope::default();
            scope.json("args", serde_json::from_str(arguments).unwrap_or_default());
            scope.json("tool", tool.into());
            scope.json("agent", self.who.name.as_str().into());
            scope.json("step", job.step.as_str().into());
            // One that cannot be told (an argument that was left out) is put to a person.
            if spec.crew.templates.test(condition, &scope).unwrap_or(true) {
                why.push(Why::Condition(condition.0.to_string()));
            }
        }
        why.extend(self.taint().filter(|_| def.asks_if_tainted()).map(|from| Why::Tainted(from.to_owned())));
        why
    }

    /// The event a tool call begins with.
    pub(super) fn raise_or_start(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        asked: &Asked<'_>,
        arguments: String,
        decided: &mut Decided,
    ) -> Event {
        let why = self.needs_yes(job, spec, asked.tool, &arguments);
        if why.is_empty() {
            return self.started(world, spec, asked, arguments, decided);
        }
        let Asked { call, index, of, tool, ask } = *asked;
        let def = spec.crew.tools.get(tool);
        let question = def.is_some_and(|def| def.is_question());
        let raised = Raised {
            id: InterruptId::of_call(world.run, call, index, &arguments),
            kind: if question { InterruptKind::Question } else { InterruptKind::Approval },
            step: job.step.clone(),
            agent: Some(self.who.clone()),
            call: Some(call.clone()),
            index,
            of,
            tool: tool.to_owned(),
            ask: ask.to_owned(),
            arguments: decided.keep(arguments),
            typed: false,
            why,
            expires_ms: def.and_then(|def| def.approval.expires_ms),
        };
        Event::Interrupt(InterruptEvent::Raised(Box::new(raised)))
    }

    fn started(
        &self,
        world: World<'_>,
        spec: &Spec,
        asked: &Asked<'_>,
        arguments: String,
        decided: &mut Decided,
    ) -> Event {
        let key = idempotency_key(world.run, asked.call, asked.index, &arguments);
        Event::Tool(ToolEvent::Started {
            call: asked.call.clone(),
            index: asked.index,
            of: asked.of,
            agent: self.who.clone(),
            tool: asked.tool.to_owned(),
            ask: asked.ask.to_owned(),
            arguments: decided.keep(arguments),
            key,
            tainted: self.taint_from(spec, asked.tool, asked.call),
        })
    }

    /// The first tool call of the turn that a person has decided on and that has not moved yet.
    pub(super) fn decided_ask(&self) -> Option<(u32, &Waiting)> {
        let Phase::Tools { asks, .. } = &self.job.as_ref()?.phase else { return None };
        asks.iter().find_map(|(index, ask)| match ask {
            Ask::Waiting(waiting) if waiting.said.is_some() => Some((*index, &**waiting)),
            Ask::Waiting(_) | Ask::Running { .. } | Ask::Done(_) => None,
        })
    }

    /// A person has decided on a tool call of the turn: it starts, or the model reads why not.
    pub(super) fn after_decision(&self, world: World<'_>, job: &Job, spec: &Spec) -> Result<Decided, Refusal> {
        let idle = || Refusal::NotDue("work is in flight".into());
        let Phase::Tools { call, of, .. } = &job.phase else { return Err(idle()) };
        let (index, waiting) = self.decided_ask().ok_or_else(idle)?;
        if self.halted() {
            return Err(Refusal::Paused);
        }
        let said = waiting.said.as_ref().ok_or_else(idle)?;
        let asked = Asked { call, index, of: *of, tool: &waiting.tool, ask: &waiting.ask };
        let mut decided = Decided::default();
        match self.agreed(world, job, spec, &asked, &waiting.arguments, waiting.expires_ms, said)? {
            Ok(arguments) => {
                let event = self.started(world, spec, &asked, arguments, &mut decided);
                decided.events.push(event);
            }
            Err((refusal, content)) => {
                let message = Message::Tool { tool_call_id: waiting.ask.clone(), content };
                let content = decided.message(&message);
                let (call, of, agent, tool) = (call.clone(), *of, self.who.clone(), waiting.tool.clone());
                let refused = ToolEvent::Refused { call, index, of, agent, tool, refusal, content };
                decided.events.push(Event::Tool(refused));
            }
        }
        Ok(decided)
    }

    /// The arguments that were agreed to; or why it does not run.
    #[expect(clippy::too_many_arguments, reason = "what was asked, and what was said to it")]
    fn agreed(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        asked: &Asked<'_>,
        arguments: &BlobId,
        expires_ms: Option<u64>,
        said: &Said,
    ) -> Result<Result<String, (ToolRefusal, String)>, Refusal> {
        let edited = match said {
            Said::Approved { arguments } => *arguments,
            Said::Rejected { reason } => {
                return Ok(Err((ToolRefusal::Rejected, format!("not done, a person said no: {reason}"))));
            }
            Said::Expired => {
                let time = expires_ms.map(|ms| format!(" within {}", words(ms))).unwrap_or_default();
                return Ok(Err((ToolRefusal::Expired, format!("not done: nobody decided{time}"))));
            }
            Said::Answered { .. } => return Err(Refusal::NotDue("an answer is the result itself".into())),
        };
        let def = spec.crew.tools.get(asked.tool);
        let used = job.used.get(asked.tool).copied().unwrap_or(0);
        if def.and_then(|def| def.max_calls).is_some_and(|most| used >= most) {
            return Ok(Err((ToolRefusal::Limit, format!("not run: {} may be called {used} times", asked.tool))));
        }
        let text = world.texts.text(&edited.unwrap_or(*arguments))?;
        let Some(def) = def.filter(|_| edited.is_some()) else { return Ok(Ok(text.to_string())) };
        // Whoever changed them was told already; this is for whoever wrote to the inbox by hand.
        let fits = serde_json::from_str(&text).map_err(|error| format!("they are not JSON ({error})"));
        Ok(match fits.and_then(|value| def.arguments.check(&value)) {
            Ok(()) => Ok(text.to_string()),
            Err(why) => Err((ToolRefusal::Rejected, format!("not run: a person changed the arguments, and {why}"))),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "what was asked, and what was said to it")]
    pub(super) fn tool_task_said(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        asked: &Asked<'_>,
        arguments: &BlobId,
        expires_ms: Option<u64>,
        said: Option<&Said>,
    ) -> Result<Decided, Refusal> {
        let said = said.ok_or_else(|| Refusal::NotDue("it waits for a person".into()))?;
        let mut decided = Decided::default();
        match self.agreed(world, job, spec, asked, arguments, expires_ms, said)? {
            Ok(arguments) => {
                let event = self.started(world, spec, asked, arguments, &mut decided);
                decided.events.push(event);
                Ok(decided)
            }
            Err((_, why)) => Ok(self.rejected(job, why)),
        }
    }

    fn rejected(&self, job: &Job, message: String) -> Decided {
        let error = TaskError { class: ErrorClass::Rejected, message, attempts: job.attempt };
        Decided::one(self.finished(job, TaskResult::failed(TaskStatus::Failed, error, job.spent)))
    }

    /// A result that fits: the task's end, or a person is asked first.
    pub(super) fn with_result(&self, world: World<'_>, job: &Job, spec: &Spec, text: String, typed: bool) -> Decided {
        let mut decided = Decided::default();
        if !spec.asks_after {
            let text = Some(decided.keep(text));
            let result = TaskResult::done(text, typed, job.spent);
            decided.events.push(self.finished(job, result));
            return decided;
        }
        let call = CallId { step: job.step.clone(), number: job.calls };
        let raised = Raised {
            id: InterruptId::of_result(world.run, &call, &text),
            kind: InterruptKind::After,
            step: job.step.clone(),
            agent: Some(self.who.clone()),
            call: Some(call),
            index: 0,
            of: 0,
            tool: String::new(),
            ask: String::new(),
            arguments: decided.keep(text),
            typed,
            why: vec![Why::Task],
            expires_ms: None,
        };
        decided.events.push(Event::Interrupt(InterruptEvent::Raised(Box::new(raised))));
        decided
    }

    /// A person has looked at a result.
    pub(super) fn after_result(&self, world: World<'_>, job: &Job, spec: &Spec) -> Result<Decided, Refusal> {
        let waits = || Refusal::NotDue("it waits for a person".into());
        let Phase::Asked { answer, text, typed, said, .. } = &job.phase else { return Err(waits()) };
        let done = |text: BlobId, typed: bool| {
            Decided::one(self.finished(job, TaskResult::done(Some(text), typed, job.spent)))
        };
        match said.as_ref().ok_or_else(waits)? {
            Said::Approved { arguments: None } => Ok(done(*text, *typed)),
            Said::Approved { arguments: Some(edited) } => {
                let words = world.texts.text(edited)?;
                Ok(match usable(spec, &words) {
                    Ok((words, typed)) => {
                        let mut decided = Decided::default();
                        let text = decided.keep(words);
                        decided.events = done(text, typed).events;
                        decided
                    }
                    Err(why) => self.review(job, ErrorClass::Unusable, why),
                })
            }
            // What a tool has done is not undone by a second attempt.
            Said::Rejected { reason } if answer.is_none() => Ok(self.rejected(job, reason.clone())),
            Said::Rejected { reason } => {
                let why = format!("a person did not take it: {reason}");
                Ok(self.fail_attempt(job, spec, ErrorClass::Rejected, &why))
            }
            Said::Expired => Ok(self.rejected(job, "nobody decided in time".into())),
            Said::Answered { .. } => Err(waits()),
        }
    }

    pub(super) fn apply_interrupt(&mut self, event: &InterruptEvent) {
        match event {
            // The call that asks is under way and takes the answer: its turn waits for that call as for any.
            InterruptEvent::Raised(raised) if raised.server().is_some() => {}
            InterruptEvent::Raised(raised) => self.raised(raised),
            InterruptEvent::Decided { id, decision, .. } => self.said(id, decision),
        }
    }

    fn raised(&mut self, raised: &Raised) {
        let Some(job) = self.job.as_mut().filter(|job| job.step == raised.step) else { return };
        let (interrupt, Some(call)) = (raised.id.clone(), &raised.call) else { return };
        match &mut job.phase {
            Phase::Judging { answer, .. } if raised.kind == InterruptKind::After => {
                let (answer, text, typed) = (Some(*answer), raised.arguments, raised.typed);
                job.phase = Phase::Asked { interrupt, answer, text, typed, said: None };
            }
            Phase::ToolTask { .. } if raised.kind == InterruptKind::After => {
                let (text, typed) = (raised.arguments, raised.typed);
                job.phase = Phase::Asked { interrupt, answer: None, text, typed, said: None };
            }
            Phase::ToolTask { state, .. } => {
                let expires_ms = raised.expires_ms;
                *state = ToolTask::Waiting { call: call.clone(), interrupt, expires_ms, said: None };
                job.calls = call.number;
            }
            Phase::Judging { .. } | Phase::Tools { .. } => {
                *job.seen.entry(same(&raised.tool, &raised.arguments)).or_default() += 1;
                let waiting = Waiting {
                    interrupt,
                    tool: raised.tool.clone(),
                    ask: raised.ask.clone(),
                    arguments: raised.arguments,
                    expires_ms: raised.expires_ms,
                    said: None,
                };
                job.ask(call, raised.index, raised.of, Ask::Waiting(Box::new(waiting)));
            }
            Phase::Ready | Phase::Queued | Phase::Calling { .. } | Phase::Failed(_) | Phase::Backoff { .. } => {}
            Phase::Blocked | Phase::OverBudget { .. } | Phase::Review => {}
            Phase::Accepted { .. } | Phase::Asked { .. } => {}
        }
    }

    /// Only what is open can be decided, and once.
    fn said(&mut self, id: &InterruptId, decision: &Said) {
        let Some(job) = &mut self.job else { return };
        match &mut job.phase {
            Phase::Asked { interrupt, said, .. } if interrupt == id => {
                said.get_or_insert_with(|| decision.clone());
            }
            Phase::ToolTask { state, .. } => match (&mut *state, decision) {
                (ToolTask::Waiting { interrupt, said: None, .. }, Said::Answered { content }) if interrupt == id => {
                    *state = ToolTask::Returned(Outcome::Ok, *content);
                }
                (ToolTask::Waiting { interrupt, said, .. }, _) if interrupt == id => {
                    said.get_or_insert_with(|| decision.clone());
                }
                (ToolTask::Due | ToolTask::Waiting { .. } | ToolTask::Running { .. } | ToolTask::Returned(..), _) => {}
            },
            Phase::Tools { call, asks, .. } => {
                let waits = |ask: &Ask| matches!(ask, Ask::Waiting(one) if one.interrupt == *id && one.said.is_none());
                let Some((index, ask)) = asks.iter_mut().find(|(_, ask)| waits(ask)) else { return };
                match (decision, ask) {
                    (Said::Answered { content }, _) => {
                        let (call, index, content) = (call.clone(), *index, *content);
                        self.returned(&call, index, content);
                    }
                    (_, Ask::Waiting(waiting)) => waiting.said = Some(decision.clone()),
                    (_, Ask::Running { .. } | Ask::Done(_)) => {}
                }
            }
            Phase::Asked { .. } | Phase::Accepted { .. } | Phase::Ready | Phase::Queued | Phase::Calling { .. } => {}
            Phase::Judging { .. } | Phase::Failed(_) | Phase::Backoff { .. } | Phase::Blocked => {}
            Phase::OverBudget { .. } | Phase::Review => {}
        }
    }

    /// What this agent has asked, nobody has decided on, and ends at some time: each with the milliseconds
    /// that it is open.
    pub fn expiring(&self) -> Vec<(&InterruptId, u64)> {
        match self.job.as_ref().map(|job| &job.phase) {
            Some(Phase::Tools { asks, .. }) => {
                let open = asks.values().filter_map(|ask| match ask {
                    Ask::Waiting(one) if one.said.is_none() => Some((&one.interrupt, one.expires_ms?)),
                    Ask::Waiting(_) | Ask::Running { .. } | Ask::Done(_) => None,
                });
                open.collect()
            }
            Some(Phase::ToolTask { state: ToolTask::Waiting { interrupt, expires_ms, said: None, .. }, .. }) => {
                expires_ms.map(|time| (interrupt, time)).into_iter().collect()
            }
            Some(_) | None => Vec::new(),
        }
    }
}
