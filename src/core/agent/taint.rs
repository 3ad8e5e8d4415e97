//! What an agent has read that is not to be trusted. Invariant: the fold alone says so, never a prompt; from the
//! first such word on the context is tainted to the end of the task, and in a memory that is kept beyond it.
//!
//! Turns that were written after it are tainted too: whoever obeys a page says so in words of its own.

use super::*;

impl Agent {
    /// Where the first thing in its context came from that is not to be trusted.
    pub fn taint(&self) -> Option<&str> {
        self.taint.as_deref()
    }

    /// What the result of this call will be tainted by. A child is told what its parent makes of what it has read.
    pub(super) fn taint_from(&self, spec: &Spec, tool: &str, call: &CallId) -> Option<String> {
        match spec.crew.tools.get(tool) {
            Some(def) => def.taints.then(|| format!("{tool} at {call}")),
            None => self.taint.clone(),
        }
    }

    pub(super) fn reads(&mut self, from: Option<&str>) {
        if let Some(from) = from {
            self.taint.get_or_insert_with(|| from.to_owned());
        }
    }

    /// A task begins with what it brings, and with the turns that are still in memory.
    pub(super) fn begins_with(&mut self, work: &Work, brought: Option<&str>) {
        let carries = match work {
            Work::Prompt { carries, .. } => *carries,
            Work::Tool { .. } => true,
        };
        if !carries || self.memory.is_empty() {
            self.taint = None;
        }
        self.reads(brought);
    }

    /// The turns of earlier tasks are gone before the task has asked anything: what they had read counts no more.
    pub(super) fn forgets(&mut self) {
        if let Some(job) = self.job.as_ref().filter(|job| job.base <= 1 && job.calls == 0) {
            self.taint = job.brought.clone();
        }
    }
}

impl Job {
    /// What the result of a call that runs is tainted by.
    pub(super) fn taint_of_result(&self, call: &CallId, index: u32) -> Option<String> {
        match &self.phase {
            Phase::Tools { call: open, asks, .. } if open == call => match asks.get(&index)? {
                Ask::Running { tainted, .. } => tainted.clone(),
                Ask::Waiting(_) | Ask::Done(_) => None,
            },
            Phase::ToolTask { state: ToolTask::Running { call: open, tainted, .. }, .. } if open == call => {
                tainted.clone()
            }
            Phase::Tools { .. } | Phase::ToolTask { .. } | Phase::Ready | Phase::Queued => None,
            Phase::Calling { .. } | Phase::Judging { .. } | Phase::Failed(_) | Phase::Backoff { .. } => None,
            Phase::Blocked | Phase::OverBudget { .. } | Phase::Review | Phase::Accepted { .. } => None,
            Phase::Asked { .. } => None,
        }
    }
}
