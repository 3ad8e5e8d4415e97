//! What a person says to an agent. Invariant: a message is heard once, whole, between two turns, and stays
//! with every later attempt of the task; a call in flight goes on and is judged as usual.
//!
//! An answer that would be the result does not swallow what was said before it was judged: it enters the
//! memory, the message behind it, and the agent takes one more turn, as long as `max_turns` has one left.
//! If it has none, or the run is short of budget and goes to its endings, the answer is the result, and the
//! message waits for the agent's next task. If the budget cannot pay for the turn more, in a run that goes
//! on without, the answer that stood before it is the result.

use super::*;
use crate::core::chat::Message;
use crate::core::event::TaskResult;
use crate::core::machine::{Decided, Refusal, World};
use crate::core::template::Scope;

impl Agent {
    /// What it has been told and not heard.
    pub fn waiting(&self) -> usize {
        self.told.len()
    }

    /// Is there something to hear before the next call? Endings for want of budget are not made dearer.
    pub(super) fn is_told(&self, job: &Job) -> bool {
        !self.told.is_empty() && job.finishing == 0
    }

    /// Does an answer that would be the result wait for one more turn?
    pub(super) fn goes_on(&self, job: &Job, spec: &Spec) -> bool {
        let turns = spec.role.as_ref().map_or(0, |role| role.max_turns);
        self.is_told(job) && job.turns + 1 < turns
    }

    pub(super) fn hear(&self, world: World<'_>, job: &Job, spec: &Spec, answered: bool) -> Result<Decided, Refusal> {
        let mut messages = Vec::with_capacity(self.told.len());
        for told in &self.told {
            let text = world.texts.text(&told.message)?;
            messages.push(Message::decode(&text).map(|message| message.content().to_owned()).unwrap_or_default());
        }
        let mut scope = Scope::default();
        scope.json("messages", messages.into());
        let mut decided = Decided::default();
        // One message, however many were said: none of them can be left out before it was read.
        let with = decided.message(&Message::User { content: spec.crew.templates.builtin("told", &scope) });
        let (step, agent) = (job.step.clone(), self.who.clone());
        decided.events.push(Event::Task(TaskEvent::Heard { step, agent, with, answered }));
        Ok(decided)
    }

    pub(super) fn heard(&mut self, with: Msg, answered: bool) {
        self.told.clear();
        let Some(job) = &mut self.job else { return };
        if answered && let Phase::Judging { answer, .. } = &job.phase {
            self.memory.push(*answer);
            job.standing = Some(*answer);
            job.turns += 1;
            job.phase = Phase::Ready;
        }
        job.heard.push(with);
        self.memory.push(with);
    }

    /// Another attempt begins: what was said holds for it too.
    pub(super) fn hear_again(&mut self) {
        self.memory.extend(self.job.iter().flat_map(|job| &job.heard).copied());
    }

    /// There is no budget for the turn more: the answer before it is the result.
    pub(super) fn stands(&self, world: World<'_>, job: &Job, spec: &Spec) -> Result<Option<Decided>, Refusal> {
        let Some(answer) = job.standing else { return Ok(None) };
        let text = world.texts.text(&answer.message)?;
        let content = Message::decode(&text).map(|message| message.content().to_owned()).unwrap_or_default();
        let Ok((text, typed)) = self.accept(spec, &content) else { return Ok(None) };
        let mut decided = Decided::default();
        let text = Some(decided.keep(text));
        let result = TaskResult::done(text, typed, job.spent);
        decided.events.push(self.finished(job, result));
        Ok(Some(decided))
    }

    /// Nothing is left before what it heard, and still the budget cannot pay: that goes too.
    pub(super) fn unheard(&self, job: &Job) -> Option<(usize, usize)> {
        let last = self.memory.len().checked_sub(1).filter(|last| *last > job.base)?;
        job.heard.contains(&self.memory[last]).then_some((last, last + 1))
    }
}
