//! The task at hand, from attempt to attempt. Invariant: what an attempt has counted ends with it; what a
//! step has counted (calls, deaths, cost) does not.

use super::*;
use crate::core::failure::Action;

impl Job {
    /// `told`: the call that a tool task is, the task's user message, and what later attempts are told.
    pub(super) fn begun(
        step: Step,
        phase: Phase,
        base: usize,
        (tool, user, retold): (Option<(String, BlobId)>, Option<Msg>, Vec<Retold>),
    ) -> Job {
        Job {
            step,
            attempt: 1,
            calls: 0,
            turns: 0,
            phase,
            tool,
            variation: Variation::default(),
            brought: None,
            user,
            retold,
            fallen: None,
            cooling: BTreeSet::new(),
            back: None,
            refusals: 0,
            finishing: 0,
            eased: 0,
            base,
            summaries: 0,
            summary: None,
            summed: None,
            slides: false,
            concluding: false,
            held_under: 0,
            hiccups: 0,
            deaths: 0,
            active_ms: 0,
            turn_ms: 0,
            bad_turns: 0,
            bad_now: false,
            unknown_effect: false,
            seen: BTreeMap::new(),
            looped: false,
            heard: Vec::new(),
            standing: None,
            used: BTreeMap::new(),
            spent: Amount::default(),
        }
    }

    pub(super) fn in_flight(&self, call: &CallId) -> bool {
        matches!(&self.phase, Phase::Calling { held } if held.call == *call)
    }

    /// It has given something up for want of budget.
    pub(super) fn ease(&mut self) {
        self.eased = self.finishing;
    }

    /// Goes on with this model.
    pub(super) fn fell_back(&mut self, model: &str) {
        (self.fallen, self.refusals, self.hiccups) = (Some(model.to_owned()), 0, 0);
        self.back = None;
    }

    pub(super) fn woken(&mut self) {
        if matches!(self.phase, Phase::Backoff { .. }) {
            self.phase = Phase::Ready;
        }
    }

    pub(super) fn left_alone(&mut self, model: &str) {
        self.cooling.insert(model.to_owned());
    }

    pub(super) fn cooled(&mut self, model: &str) {
        if self.cooling.remove(model) {
            self.back = Some(model.to_owned());
        }
    }

    /// The next attempt, from the task's own prompt.
    pub(super) fn again(&mut self, variation: Variation) {
        self.attempt += 1;
        // A model that refuses is not asked again because the answer of another was bad.
        if variation.model.is_some() {
            (self.fallen, self.refusals) = (None, 0);
        }
        self.turns = 0;
        self.active_ms = 0;
        self.turn_ms = 0;
        self.bad_turns = 0;
        self.bad_now = false;
        self.unknown_effect = false;
        self.concluding = false;
        (self.summaries, self.summary, self.summed, self.slides) = (0, None, None, false);
        self.looped = false;
        (self.finishing, self.eased) = (0, 0);
        self.seen.clear();
        self.variation = variation;
        self.phase = match self.tool.clone() {
            Some((tool, arguments)) => Phase::ToolTask { tool, arguments, state: ToolTask::Due },
            None => Phase::Ready,
        };
    }

    /// Does this tool call of the turn wait for a person?
    pub(super) fn awaits(&self, call: &CallId, index: u32) -> bool {
        match &self.phase {
            Phase::Tools { call: open, asks, .. } => open == call && matches!(asks.get(&index), Some(Ask::Waiting(_))),
            Phase::Ready | Phase::Queued | Phase::Calling { .. } | Phase::Judging { .. } | Phase::Failed(_) => false,
            Phase::Backoff { .. } | Phase::Blocked | Phase::OverBudget { .. } | Phase::Review => false,
            Phase::Accepted { .. } | Phase::Asked { .. } | Phase::ToolTask { .. } => false,
        }
    }

    pub(super) fn ask(&mut self, call: &CallId, index: u32, of: u32, ask: Ask) {
        if let Phase::Judging { answer, .. } = &self.phase {
            self.phase = Phase::Tools { call: call.clone(), answer: *answer, of, asks: BTreeMap::new() };
        }
        if let Phase::Tools { asks, .. } = &mut self.phase {
            asks.insert(index, ask);
        }
    }

    pub(super) fn failed(&mut self, failure: &CallFailure) {
        if self.summary.is_some() {
            return self.no_summary();
        }
        self.phase = match failure.class.rule().action {
            // Not an attempt: waits and goes on, as long as it takes.
            Action::Again => {
                let wait = failure.retry_after_ms.unwrap_or_else(|| backoff_ms(self.hiccups));
                self.hiccups += 1;
                Phase::Backoff { ms: wait }
            }
            // It waits at the gate, which is closed for everyone on that key.
            Action::WaitThenFallback => {
                self.refusals += 1;
                Phase::Backoff { ms: 0 }
            }
            // The run pauses; after a resume the same call is made anew.
            Action::PauseRun | Action::NewCall => Phase::Ready,
            Action::ShrinkOnce | Action::RemoveParameter | Action::NextAttempt => {
                Phase::Failed(Trouble::Call(failure.clone()))
            }
            // No class of a failed call leads here.
            Action::TellModel | Action::Conclude | Action::Review => Phase::Failed(Trouble::Call(failure.clone())),
        };
    }

    pub(super) fn lost(&mut self, cause: LostCause) {
        match cause {
            LostCause::Aborted => self.phase = Phase::Ready,
            LostCause::Timeout if self.summary.is_some() => self.no_summary(),
            LostCause::Timeout => self.phase = Phase::Failed(Trouble::Timeout),
            LostCause::Died => {
                self.deaths += 1;
                self.phase = if self.deaths >= MAX_DEATHS { Phase::Failed(Trouble::Deaths) } else { Phase::Ready };
            }
        }
    }
}

/// 2 s doubling to 60 s, as the failure table says; the shell adds jitter.
fn backoff_ms(hiccups: u32) -> u64 {
    (2_000u64 << hiccups.min(5)).min(60_000)
}
