//! Summaries of turns that no longer fit. Invariant: a summary is a call like every other, held first,
//! counted and paid for; whatever becomes of it, the task goes on.
//!
//! In this order, each only as far as the one before does not suffice:
//! 1. the oldest tool results are shortened (free);
//! 2. turns of earlier tasks and rounds go: their results are on record, and those that matter are in the
//!    task's own prompt (free);
//! 3. the oldest turns of the task itself are summed up.
//!
//! What makes 3 cheap: the call holds the turns that go, not the whole conversation, and one summary takes
//! so many turns that half of the context is free afterwards, so that one is due every half context and
//! not every turn. A later one takes in the one before. It is not asked for where it could be as long as
//! what it replaces or would not bring the prompt under the limit, more than [`SUMMARIES`] times in an
//! attempt, or with an empty prompt file (`prompts/builtin/summary.md`). Then, and after a summary that
//! failed, was of no use or found no budget, the oldest turns just go, as few as need be; a summary that
//! was paid for goes last. After one such failure the attempt asks for no other.
//!
//! The turns are sent as text, without tools and without the provider's own turns: no model has to take
//! tool calls for which it is offered no tools, and a change of model changes nothing.

use std::fmt::Write;

use super::request::{PER_MESSAGE, PER_REQUEST};
use super::*;
use crate::core::chat::{Message, Settings};
use crate::core::crew::Model;
use crate::core::ledger::{Countable, HoldRequest};
use crate::core::machine::{Decided, Refusal, World};
use crate::core::money::Tokens;
use crate::core::template::Scope;

/// In one attempt, at most.
pub const SUMMARIES: u32 = 4;
/// Characters of the task's prompt that a summary is told: its description comes first.
const TASK_CHARS: usize = 2_000;

/// A summary that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Summing {
    turns: (u32, u32),
    ask: Msg,
    max_output: u64,
}

/// What the prompt takes, in tokens.
pub(super) struct Room<'a> {
    pub sizes: &'a [u64],
    pub total: u64,
    pub limit: u64,
    /// The limit of an attempt that is not held to half of it.
    pub whole: u64,
}

impl Summing {
    pub(super) fn settings(&self, of: &Settings) -> Settings {
        Settings { max_output: of.max_output.min(self.max_output), ..of.clone() }
    }
}

impl Job {
    pub(super) fn sum_up(&mut self, turns: (u32, u32), ask: Msg, max_output: u64) {
        self.summaries += 1;
        self.summary = Some(Summing { turns, ask, max_output });
    }

    /// Of no use, not answered, or not to be paid.
    pub(super) fn no_summary(&mut self) {
        (self.summary, self.slides, self.phase) = (None, true, Phase::Ready);
    }

    /// Something was left out, if need be instead of being summed up.
    pub(super) fn shrunk(&mut self) {
        self.ease();
        if self.summary.is_some() {
            self.no_summary();
        }
    }
}

impl Agent {
    /// Asks for a summary of the oldest turns of the task, if one is worth it.
    pub(super) fn to_sum_up(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        room: &Room<'_>,
    ) -> Result<Option<Decided>, Refusal> {
        // Turns of earlier tasks go first.
        if !spec.crew.summaries || job.slides || job.summaries >= SUMMARIES || job.base > 1 {
            return Ok(None);
        }
        let Some((_, settings)) = job.in_force(spec) else { return Ok(None) };
        let max_output = settings.max_output.min(room.limit / 4);
        let (from, end) = (job.base + 1 + usize::from(job.variation.note.is_some()), self.last_unit(job));
        let (mut to, mut left) = (from, room.total);
        while to < end && left > room.limit / 2 {
            left = left.saturating_sub(room.sizes[to]);
            to += 1;
        }
        while to < end && !self.starts_unit(to) {
            left = left.saturating_sub(room.sizes[to]);
            to += 1;
        }
        if room.total.saturating_sub(left) <= max_output || left.saturating_add(max_output) > room.limit {
            return Ok(None);
        }
        let text = self.ask_for_summary(world, job, spec, (from, to), max_output)?;
        if text.is_empty() {
            return Ok(None);
        }
        let mut decided = Decided::default();
        let ask = decided.message(&Message::User { content: text });
        let size: u64 = decided.blobs.iter().map(|blob| world.sizes.tokens(&blob.text)).sum();
        if room.sizes[0].saturating_add(size) > room.whole {
            return Ok(None);
        }
        let (step, agent, turns) = (job.step.clone(), self.who.clone(), (from as u32, to as u32));
        decided.events.push(Event::Task(TaskEvent::Summarising { step, agent, turns, ask, max_output }));
        Ok(Some(decided))
    }

    fn ask_for_summary(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        (from, to): (usize, usize),
        max_output: u64,
    ) -> Result<String, Refusal> {
        let decode = |msg: &Msg| Ok::<_, Refusal>(Message::decode(&world.texts.text(&msg.message)?));
        let mut turns = String::new();
        for msg in &self.memory[from..to] {
            if let Ok(message) = decode(msg)? {
                write_turn(&mut turns, &message);
            }
        }
        let task = decode(&self.memory[job.base])?.map(|message| message.content().to_owned()).unwrap_or_default();
        let mut scope = Scope::default();
        scope.text("task", task.chars().take(TASK_CHARS).collect::<String>().into());
        scope.text("turns", turns.into());
        // A word is a token and a half, and a cut-off summary lacks its end.
        scope.text("words", (max_output / 2).max(1).to_string().into());
        Ok(spec.crew.templates.builtin("summary", &scope))
    }

    /// The messages of a summary's prompt.
    pub(super) fn summary_messages(&self, summing: &Summing) -> Vec<Msg> {
        self.memory.first().copied().into_iter().chain([summing.ask]).collect()
    }

    /// What the ledger is asked for, if a summary is due.
    pub(super) fn summary_request(&self, job: &Job, model: &Model, settings: &Settings) -> Option<HoldRequest> {
        let summing = job.summary.as_ref()?;
        let id = model.full_id();
        let messages = self.summary_messages(summing);
        let bound = |sum: u64, msg: &Msg| sum.saturating_add(msg.bytes_for(&id) + PER_MESSAGE);
        Some(HoldRequest {
            call: CallId { step: job.step.clone(), number: job.calls + 1 },
            agent: self.who.clone(),
            attempt: job.attempt,
            input: Tokens(messages.iter().fold(PER_REQUEST, bound)),
            model: id,
            price: model.price,
            settings: summing.settings(settings),
            messages: messages.len() as u32,
            tools: false,
            ending: false,
            countable: model.tokenizer.map(|tokenizer| Countable { tokenizer, messages: messages.clone() }),
            summary: true,
        })
    }

    /// The answer takes the place of the turns, or they go without one.
    pub(super) fn judge_summary(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        answer: Msg,
        finish: Finish,
    ) -> Result<Decided, Refusal> {
        let Some(summing) = &job.summary else { return Err(Refusal::NotDue("no summary was asked for".into())) };
        let text = world.texts.text(&answer.message)?;
        let content = Message::decode(&text).map(|message| message.content().to_owned()).unwrap_or_default();
        let (step, agent) = (job.step.clone(), self.who.clone());
        // One that was cut off is paid for, and says more than none.
        let whole = matches!(finish, Finish::Stop | Finish::Length) && !content.trim().is_empty();
        let mut decided = Decided::default();
        let mut scope = Scope::default();
        scope.text("summary", content.trim().into());
        let with = spec.crew.templates.builtin("summarised", &scope);
        let (from, to) = summing.turns;
        let Some((model, _)) = job.in_force(spec) else { return Err(Refusal::NotDue("it has no model".into())) };
        let sizes = self.sizes(world, &model.full_id())?;
        let gone: u64 = sizes.iter().take(to as usize).skip(from as usize).sum();
        if whole && world.sizes.tokens(&with) < gone {
            let with = decided.message(&Message::User { content: with });
            let dropped = summing.turns;
            decided.events.push(Event::Task(TaskEvent::Summarised { step, agent, dropped, with }));
        } else {
            let dropped = Some(self.to_slide(job, spec, &model, &sizes).unwrap_or(summing.turns));
            decided.events.push(Event::Task(TaskEvent::Shrunk { step, agent, replaced: Vec::new(), dropped }));
        }
        Ok(decided)
    }

    fn to_slide(&self, job: &Job, spec: &Spec, model: &Model, sizes: &[u64]) -> Option<(u32, u32)> {
        let (limit, _) = job.limits(spec, spec.role.as_ref()?, model);
        self.drop_oldest(job, sizes, &[], sizes.iter().sum(), limit)
    }

    pub(super) fn summed_up(&mut self, (from, to): (u32, u32), with: Msg) {
        let to = (to as usize).min(self.memory.len());
        let from = (from as usize).min(to);
        self.memory.splice(from..to, [with]);
        self.known = None;
        if let Some(job) = &mut self.job {
            (job.summary, job.summed, job.phase) = (None, Some(from), Phase::Ready);
        }
    }
}

fn write_turn(out: &mut String, message: &Message) {
    let (who, asks) = match message {
        Message::System { .. } => ("system", &[][..]),
        Message::User { .. } => ("user", &[][..]),
        Message::Assistant { tool_calls, .. } => ("you", tool_calls.as_slice()),
        Message::Tool { .. } => ("result", &[][..]),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{who}: {}", message.content().trim_end());
    for ask in asks {
        let _ = writeln!(out, "you call {} {}", ask.name, ask.arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_told_with_what_it_asked_for() {
        let mut out = String::new();
        let tool_calls =
            vec![crate::core::chat::ToolAsk { id: "c1".into(), name: "look".into(), arguments: "{\"at\":1}".into() }];
        write_turn(&mut out, &Message::Assistant { content: "Let me see.\n".into(), tool_calls });
        write_turn(&mut out, &Message::Tool { tool_call_id: "c1".into(), content: "A door.".into() });
        assert_eq!(out, "you: Let me see.\nyou call look {\"at\":1}\nresult: A door.\n");
    }
}
