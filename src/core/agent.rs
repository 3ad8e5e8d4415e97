//! One agent: its turns, its memory, its attempts. Invariant: at most one model call of an agent is
//! open; a call leaves only after its hold, and an answer is judged exactly once.
//!
//! ```text
//! Idle --Assigned--> Ready --Held--> Calling --Answered--> Judging --Finished--> Idle
//!                    ^  |  --Queued--> Queued     |           |--Started, Refused--> Tools --all returned--> Ready
//!                    |  |  --Exhausted--> Blocked |           |--AttemptFailed--> Ready
//!                    |  |                         |           '--NeedsReview--> Review
//!                    |  '--Shrunk, Concluding, Heard--> Ready <--Heard-- Judging (it was told something)
//!                    |                                        Failed --AttemptFailed | NeedsReview--> …
//!                    '--Woken-- Backoff <--Failed, transient--|    Review --Accepted--> Finished | NeedsReview
//!                                                 '--Raised--> Asked --Decided--> Finished | AttemptFailed
//! ```
//! In `Tools` a call that needs a person's yes waits (`Raised`) while the others run; `Decided` lets it start,
//! or refuses it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::chat::{CallFailure, FailureClass, Finish};
use super::event::{
    CallEvent, Decision as Said, Event, Held, InterruptEvent, LedgerEvent, LostCause, Msg, Outcome, Raised, Retold,
    RunEvent, TaskEvent, ToolEvent, ToolRefusal, Variation, Work,
};
use super::ids::{AgentRef, BlobId, CallId, InterruptId, Step};
use super::machine::{Control, IllegalEvent};
use super::money::{Amount, Usage};

mod apply;
mod approve;
mod delegate;
mod job;
mod judge;
mod memory;
mod request;
mod spec;
mod summary;
mod taint;
mod told;
mod turn;
mod vary;

pub use delegate::{DELEGATE, Delegation, open_inputs};
pub use judge::usable;
pub use request::Decision;
pub use spec::Spec;
pub use summary::SUMMARIES;

pub use super::failure::MAX_DEATHS;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Agent {
    pub who: AgentRef,
    pub memory: Vec<Msg>,
    /// Boxed: an agent is moved often before it is up, and most of it is this.
    pub job: Option<Box<Job>>,
    /// What a person has said to it and it has not heard yet, in the order it came.
    told: Vec<Msg>,
    known: Option<Known>,
    /// Steps of `degrade` that the run has given up.
    degraded: u32,
    /// The first thing in its context that is not to be trusted: where it came from.
    taint: Option<String>,
    control: Control,
}

/// What the provider reported for the longest prefix of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Known {
    /// Of which task or item: another may have other tools or another schema.
    unit: Step,
    model: String,
    tools: bool,
    /// Messages that were sent.
    messages: usize,
    input: u64,
    /// Of the answer that followed them.
    output: u64,
    answer: BlobId,
}

/// The task at hand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Job {
    pub step: Step,
    /// From 1.
    pub attempt: u32,
    /// Number of the last call, over all attempts.
    pub calls: u32,
    /// Turns taken in this attempt.
    pub turns: u32,
    pub phase: Phase,
    /// The call that a tool task is, whatever phase it is in.
    tool: Option<(String, BlobId)>,
    pub variation: Variation,
    /// What the task itself brought with it that is not to be trusted.
    brought: Option<String>,
    /// The task's own user message, and what later attempts are told instead.
    user: Option<Msg>,
    retold: Vec<Retold>,
    /// The model it has fallen back to.
    fallen: Option<String>,
    /// Models that are left alone after failures in a row, and one that may be tried again.
    cooling: BTreeSet<String>,
    back: Option<String>,
    /// Transient refusals in a row, of one model.
    refusals: u32,
    /// Index in the memory of the task's user message.
    base: usize,
    /// Times that no budget was left for its next call in a run that finishes then, and what it gave up since.
    finishing: u32,
    eased: u32,
    /// Summaries asked for in this attempt, and the one under way.
    summaries: u32,
    summary: Option<summary::Summing>,
    /// The one before the attempt's turns, at this index.
    summed: Option<usize>,
    /// A summary came to nothing: from now on in this attempt the oldest turns just go.
    slides: bool,
    /// Set once the last turn has been announced.
    concluding: bool,
    /// Steps of `degrade` that were given up when its open call was held: it is sent as it was held.
    held_under: u32,
    /// Failures without a counted attempt, in a row: the exponent of the wait.
    hiccups: u32,
    pub deaths: u32,
    /// Milliseconds of calls and tools in this attempt.
    pub active_ms: u64,
    /// The longest tool of this turn: tools run side by side.
    turn_ms: u64,
    /// Turns in a row with an unknown tool or bad arguments.
    bad_turns: u32,
    bad_now: bool,
    /// A tool with effect may or may not have run: a person must look.
    unknown_effect: bool,
    /// Tool calls by name and arguments, over the attempt: three times the same is a loop.
    seen: BTreeMap<BlobId, u32>,
    /// The loop guard has spoken: conclude.
    looped: bool,
    /// What a person has said to it in this task: part of every attempt.
    heard: Vec<Msg>,
    /// Its last answer that would have been the result, had it not been told something.
    standing: Option<Msg>,
    /// Calls of each tool over the step.
    used: BTreeMap<String, u64>,
    pub spent: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Phase {
    Ready,
    Queued,
    Calling {
        held: Box<Held>,
    },
    Judging {
        call: CallId,
        answer: Msg,
        finish: Finish,
        /// Tool calls it asks for: new work, which starts only in a run that goes on.
        asks: u32,
        tools: bool,
    },
    Tools {
        call: CallId,
        answer: Msg,
        of: u32,
        asks: BTreeMap<u32, Ask>,
    },
    /// A call or the attempt's time ran out in a way that needs a decision.
    Failed(Trouble),
    Backoff {
        ms: u64,
    },
    /// No budget; goes on after a resume.
    Blocked,
    /// No budget and `on_exhausted = "fail"`.
    OverBudget {
        message: String,
    },
    Review,
    /// A person has taken this earlier answer for the result.
    Accepted {
        answer: Msg,
    },
    /// A person is asked whether this result counts: the answer it came from (none of a tool task), its text.
    Asked {
        interrupt: InterruptId,
        answer: Option<Msg>,
        text: BlobId,
        typed: bool,
        said: Option<Said>,
    },
    /// A task that is one tool call, without a model.
    ToolTask {
        tool: String,
        arguments: BlobId,
        state: ToolTask,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ToolTask {
    Due,
    /// For a person.
    Waiting {
        call: CallId,
        interrupt: InterruptId,
        expires_ms: Option<u64>,
        said: Option<Said>,
    },
    Running {
        call: CallId,
        key: String,
        tainted: Option<String>,
    },
    Returned(Outcome, Msg),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Trouble {
    Call(CallFailure),
    Timeout,
    Deaths,
    UnknownEffect,
}

/// One tool call of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Ask {
    /// For a person: for a yes, or for the answer itself.
    Waiting(Box<Waiting>),
    Running {
        tool: String,
        ask: String,
        arguments: BlobId,
        key: String,
        tainted: Option<String>,
    },
    Done(Msg),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Waiting {
    pub interrupt: InterruptId,
    tool: String,
    ask: String,
    arguments: BlobId,
    expires_ms: Option<u64>,
    /// What was decided; what follows from it is due then.
    said: Option<Said>,
}

/// What the agent's shell must do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentStep {
    /// Ask [`Agent::decide`]: it records something, or wants a hold.
    Decide,
    /// Send the request of this held call, once its hold is durable.
    Send(CallId),
    /// Run the tool, once its start is durable.
    RunTool { call: CallId, index: u32 },
    /// Append `Woken` after so long.
    Wake { ms: u64 },
}

impl Agent {
    /// An agent with nothing to do, in a run that is `control`.
    pub fn begun(who: AgentRef, control: Control) -> Agent {
        let (memory, told) = (Vec::new(), Vec::new());
        Agent { who, memory, job: None, told, known: None, degraded: 0, taint: None, control }
    }

    pub fn next(&self) -> Vec<AgentStep> {
        let Some(job) = &self.job else { return Vec::new() };
        if self.control == Control::Ended {
            return Vec::new();
        }
        let halted = self.control.is_halted();
        match &job.phase {
            Phase::Ready | Phase::Queued if halted => Vec::new(),
            Phase::Ready | Phase::Queued => vec![AgentStep::Decide],
            // A call or tool is started when its entry is folded, in a run that goes on. Once the run is
            // halted whatever is not in flight was dropped: it must not be sent a second time.
            Phase::Calling { .. } | Phase::Tools { .. } if halted => Vec::new(),
            // In flight, or lost with its process; `Lost` follows then.
            Phase::Calling { held } => vec![AgentStep::Send(held.call.clone())],
            Phase::Judging { asks, .. } if *asks > 0 && halted => Vec::new(),
            Phase::Judging { .. } | Phase::Failed(_) | Phase::OverBudget { .. } => vec![AgentStep::Decide],
            Phase::Accepted { .. } => vec![AgentStep::Decide],
            Phase::Tools { call, asks, .. } => {
                let running = asks.iter().filter(|(_, ask)| match ask {
                    Ask::Running { tool, .. } => tool != DELEGATE,
                    Ask::Waiting(_) | Ask::Done(_) => false,
                });
                let running = running.map(|(index, _)| AgentStep::RunTool { call: call.clone(), index: *index });
                self.decided_ask().map(|_| AgentStep::Decide).into_iter().chain(running).collect()
            }
            Phase::Asked { said, .. } => said.iter().map(|_| AgentStep::Decide).collect(),
            Phase::ToolTask { state, .. } => match state {
                ToolTask::Due | ToolTask::Waiting { .. } | ToolTask::Running { .. } if halted => Vec::new(),
                ToolTask::Waiting { said: None, .. } => Vec::new(),
                ToolTask::Due | ToolTask::Waiting { .. } | ToolTask::Returned(..) => vec![AgentStep::Decide],
                ToolTask::Running { call, .. } => vec![AgentStep::RunTool { call: call.clone(), index: 0 }],
            },
            Phase::Backoff { .. } if halted => Vec::new(),
            Phase::Backoff { ms } => vec![AgentStep::Wake { ms: *ms }],
            Phase::Blocked | Phase::Review => Vec::new(),
        }
    }

    fn illegal(&self, event: &Event, why: impl Into<String>) -> IllegalEvent {
        IllegalEvent { machine: format!("agent {}", self.who), kind: event.kind(), why: why.into() }
    }

    fn halted(&self) -> bool {
        self.control.is_halted()
    }
}

/// The usage's totals, where they are known.
fn totals(usage: &Usage) -> Option<(u64, u64)> {
    usage.known()
}

#[cfg(test)]
mod tests;
