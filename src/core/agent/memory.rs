//! Bounded context. Invariant: a prompt is counted before it is sent; a tool call and its results
//! are one unit, dropped together or kept together; the system message and the task stay.

use super::summary::Room;
use super::*;
use crate::core::chat::Message;
use crate::core::crew;
use crate::core::event::Replaced;
use crate::core::event::{ErrorClass, TaskEvent};
use crate::core::machine::{Decided, Refusal, World};

impl Agent {
    pub(super) fn shrink(&mut self, replaced: &[Replaced], dropped: Option<(u32, u32)>) {
        for change in replaced {
            if let Some(msg) = self.memory.get_mut(change.index as usize) {
                *msg = change.with;
            }
        }
        if let Some((from, to)) = dropped {
            let (from, to) = (from as usize, (to as usize).min(self.memory.len()));
            self.memory.drain(from..to);
            if let Some(job) = &mut self.job {
                job.base -= if job.base >= to { to - from } else { 0 };
                job.summed = job.summed.filter(|at| !(from..to).contains(at));
                job.summed = job.summed.map(|at| if at >= to { at - (to - from) } else { at });
            }
        }
        self.known = None;
        self.forgets();
    }

    /// What must change before the prompt fits `context_tokens`; `None` if it fits as it is.
    pub(super) fn make_fit(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        role: &crew::Agent,
        of: &crew::Model,
    ) -> Result<Option<Decided>, Refusal> {
        let (limit, whole) = job.limits(spec, role, of);
        let model = &of.full_id();
        // Never more tokens than bytes: most prompts need no count.
        if self.memory.iter().map(|msg| msg.bytes_for(model)).sum::<u64>() <= limit {
            return Ok(None);
        }
        let sizes = self.sizes(world, model)?;
        let total: u64 = sizes.iter().sum();
        if total <= limit {
            return Ok(None);
        }
        let (step, agent) = (job.step.clone(), self.who.clone());
        let mut decided = Decided::default();
        let (replaced, total) = self.shorten_results(world, &sizes, total, limit, &mut decided)?;
        if spec.crew.summaries && !replaced.is_empty() {
            // Counted anew before anything is left out.
            decided.events.push(Event::Task(TaskEvent::Shrunk { step, agent, replaced, dropped: None }));
            return Ok(Some(decided));
        }
        if let Some(asked) = self.to_sum_up(world, job, spec, &Room { sizes: &sizes, total, limit, whole })? {
            return Ok(Some(asked));
        }
        let dropped = if total > limit { self.drop_oldest(job, &sizes, &replaced, total, limit) } else { None };
        if replaced.is_empty() && dropped.is_none() {
            let message = self.too_large(world, &sizes, total, limit)?;
            let class = ErrorClass::PromptTooLarge;
            return Ok(Some(self.give_up(job, spec, class, message)));
        }
        decided.events.push(Event::Task(TaskEvent::Shrunk { step, agent, replaced, dropped }));
        Ok(Some(decided))
    }

    /// Tokens of each message, as `model` (`provider/model-id`) is sent it.
    pub(super) fn sizes(&self, world: World<'_>, model: &str) -> Result<Vec<u64>, Refusal> {
        let tokens = |msg: &Msg| {
            let sent = msg.own_turn(model).map_or(msg.message, |own| own.turn);
            Ok(world.sizes.tokens(&world.texts.text(&sent)?))
        };
        self.memory.iter().map(tokens).collect()
    }

    /// The ending does not fit the budget: everything goes but the system message, the task and the last
    /// word to it; then there is nothing left to give up.
    pub(super) fn to_the_bone(&self, job: &Job) -> Decided {
        let last = self.memory.len().saturating_sub(1);
        let turns = (job.base + 1 < last).then_some((job.base + 1, last));
        let earlier = (job.base > 1).then_some((1, job.base));
        let Some((from, to)) = turns.or(earlier).or(self.unheard(job)) else {
            return self.over_budget(job, "the budget cannot pay for the ending of the task");
        };
        let (step, agent, dropped) = (job.step.clone(), self.who.clone(), Some((from as u32, to as u32)));
        Decided::one(Event::Task(TaskEvent::Shrunk { step, agent, replaced: Vec::new(), dropped }))
    }

    /// Oldest tool results first, each replaced by a short stand-in, until the rest fits.
    fn shorten_results(
        &self,
        world: World<'_>,
        sizes: &[u64],
        mut total: u64,
        limit: u64,
        decided: &mut Decided,
    ) -> Result<(Vec<Replaced>, u64), Refusal> {
        let stub = world.crew.templates.builtin("shrunk", &Default::default());
        let stub_size = world.sizes.tokens(&stub) + 16;
        let mut replaced = Vec::new();
        for (index, msg) in self.memory.iter().enumerate() {
            if total <= limit {
                break;
            }
            if sizes[index] <= stub_size * 2 {
                continue;
            }
            let text = world.texts.text(&msg.message)?;
            if let Ok(Message::Tool { tool_call_id, content }) = Message::decode(&text) {
                // A stand-in is as short as it gets, whatever the provider's id of the call adds to it.
                if content == stub {
                    continue;
                }
                let with = decided.message(&Message::Tool { tool_call_id, content: stub.clone() });
                total = total - sizes[index] + stub_size;
                replaced.push(Replaced { index: index as u32, with });
            }
        }
        Ok((replaced, total))
    }

    /// The sliding window: the oldest turns between the system message and the task's own prompt, then
    /// those after it, whole units only, never the last.
    pub(super) fn drop_oldest(
        &self,
        job: &Job,
        sizes: &[u64],
        replaced: &[Replaced],
        total: u64,
        limit: u64,
    ) -> Option<(u32, u32)> {
        let shortened = |index: usize| replaced.iter().any(|change| change.index as usize == index);
        let size = |index: usize| if shortened(index) { 32 } else { sizes[index] };
        let mut over = total.saturating_sub(limit);
        // Turns of earlier tasks or rounds go first: they stand between the system message and the task.
        let (from, end) = if job.base > 1 { (1, job.base) } else { (job.base + 1, self.last_unit(job)) };
        // What a summary was paid for goes last.
        let from = job.summed.map(|at| at + 1).filter(|at| (from..end).contains(at)).unwrap_or(from);
        let mut to = from;
        while over > 0 && to < end {
            over = over.saturating_sub(size(to));
            to += 1;
        }
        // A unit is an answer and the results after it: cut only before an answer or a user message.
        while to < end && !self.starts_unit(to) {
            to += 1;
        }
        (to > from).then_some((from as u32, to as u32))
    }

    /// Where the newest turn begins: it is never dropped.
    pub(super) fn last_unit(&self, job: &Job) -> usize {
        let first = job.base + 1;
        (first..self.memory.len()).rev().find(|index| self.starts_unit(*index)).unwrap_or(first)
    }

    /// Results have the size of what tools said and stand after their answer; only an answer has a
    /// predecessor that is not part of its unit. The memory itself tells: an answer was pushed right
    /// before its results, so a unit starts wherever the fold pushed an answer or a user message.
    pub(super) fn starts_unit(&self, index: usize) -> bool {
        self.memory.get(index).is_none_or(|msg| !msg.is_result)
    }

    fn too_large(&self, world: World<'_>, sizes: &[u64], total: u64, limit: u64) -> Result<String, Refusal> {
        let mut largest: Vec<usize> = (0..sizes.len()).collect();
        largest.sort_by_key(|index| std::cmp::Reverse(sizes[*index]));
        let mut parts = Vec::new();
        for index in largest.into_iter().take(3) {
            let text = world.texts.text(&self.memory[index].message)?;
            let what = match Message::decode(&text) {
                Ok(Message::System { .. }) => "system message",
                Ok(Message::User { .. }) => "task prompt",
                Ok(Message::Assistant { .. }) => "an answer",
                Ok(Message::Tool { .. }) => "a tool result",
                Err(_) => "a message",
            };
            parts.push(format!("{what} {} tokens", sizes[index]));
        }
        Ok(format!(
            "the prompt has {total} tokens and cannot be brought under {limit} (`context_tokens`): {}",
            parts.join(", ")
        ))
    }
}
