//! Events of tasks, and the one type of their results. Invariant: a task that began ends in exactly one
//! of `task.finished` and `task.skipped`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ParkCause;
use crate::core::chat::{Blob, Message, Milli, Parameter, SECRET_MARK, SECRET_MAX};
use crate::core::ids::{AgentRef, BlobId, CallId, Key, Name, Step};
use crate::core::money::Amount;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum TaskEvent {
    /// The items of a `for_each`. `items` is a JSON list, absent where the rows are pinned with the crew.
    #[serde(rename = "task.fanned_out")]
    FannedOut { step: Step, keys: Vec<Key>, items: Option<BlobId> },
    #[serde(rename = "task.assigned")]
    Assigned {
        step: Step,
        agent: AgentRef,
        work: Box<Work>,
        /// Steps of `degrade` that the run had given up: an agent begins with what it is told here.
        #[serde(default, skip_serializing_if = "is_none")]
        degraded: u32,
        /// What its words come from that is not to be trusted: the first source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tainted: Option<String>,
    },
    /// A sub-crew begins below `step`.
    #[serde(rename = "task.crew_started")]
    CrewStarted {
        step: Step,
        inputs: BTreeMap<Name, serde_json::Value>,
        /// Steps of `degrade` that the run had given up.
        #[serde(default, skip_serializing_if = "is_none")]
        degraded: u32,
        /// What its inputs come from that is not to be trusted: the first source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tainted: Option<String>,
    },
    #[serde(rename = "task.skipped")]
    Skipped {
        step: Step,
        because: String,
        /// Something it needs has failed: what needs this one is skipped too.
        upstream: bool,
    },
    /// A counted attempt is over; the next one differs by `variation`.
    #[serde(rename = "task.attempt_failed")]
    AttemptFailed {
        step: Step,
        agent: AgentRef,
        attempt: u32,
        class: ErrorClass,
        message: String,
        variation: Box<Variation>,
    },
    #[serde(rename = "task.needs_review")]
    NeedsReview { step: Step, agent: Option<AgentRef>, class: ErrorClass, message: String },
    /// Outside: a person lets a step that needs review start over.
    #[serde(rename = "task.retried")]
    Retried { step: Step, agent: Option<AgentRef>, by: String },
    #[serde(rename = "task.finished")]
    Finished { step: Step, agent: Option<AgentRef>, result: TaskResult },
    #[serde(rename = "task.round_decided")]
    RoundDecided { judge: Step, round: u32, outcome: RoundOutcome },
    /// The coordinator takes a delegation on: a child task.
    #[serde(rename = "task.delegated")]
    Delegated {
        step: Step,
        from: CallId,
        index: u32,
        agent: AgentRef,
        task: BlobId,
        expected: Option<BlobId>,
        inputs: BTreeMap<Name, serde_json::Value>,
    },
    #[serde(rename = "task.delegation_refused")]
    DelegationRefused {
        from: CallId,
        index: u32,
        agent: AgentRef,
        content: Msg,
        /// Of a result that was paid for before: see [`TaskResult::tainted`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tainted: Option<String>,
    },
    /// A child's result goes back to the agent that asked.
    #[serde(rename = "task.returned")]
    Returned {
        step: Step,
        from: CallId,
        index: u32,
        agent: AgentRef,
        content: Msg,
        spent: Amount,
        /// Of the child's result: see [`TaskResult::tainted`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tainted: Option<String>,
    },
    /// Nothing below this sub-crew's task can go on in this process.
    #[serde(rename = "task.parked")]
    Parked { step: Step, causes: Vec<ParkCause> },
    /// Outside: the output file is on disk, whole.
    #[serde(rename = "task.file_written")]
    FileWritten { step: Step, path: String, text: BlobId },
    /// Outside: the output file could not be written; the words of the file system.
    #[serde(rename = "task.file_failed")]
    FileFailed { step: Step, path: String, message: String },
    /// Outside: the agent's actor panicked.
    #[serde(rename = "task.crashed")]
    Crashed { step: Step, agent: AgentRef, message: String },
    /// Outside: a timer that the agent's machine wanted.
    #[serde(rename = "task.woken")]
    Woken { step: Step, agent: AgentRef },
    /// An agent's prompt is made to fit: messages replaced by shorter ones, oldest turns left out.
    #[serde(rename = "task.shrunk")]
    Shrunk { step: Step, agent: AgentRef, replaced: Vec<Replaced>, dropped: Option<(u32, u32)> },
    /// Its oldest turns are to be summed up in a call of their own: the messages from, up to and without,
    /// and what is asked.
    #[serde(rename = "task.summarising")]
    Summarising { step: Step, agent: AgentRef, turns: (u32, u32), ask: Msg, max_output: u64 },
    /// The answer to that takes the place of those messages.
    #[serde(rename = "task.summarised")]
    Summarised { step: Step, agent: AgentRef, dropped: (u32, u32), with: Msg },
    /// Its model refuses call after call for a while: the step goes on with another one.
    #[serde(rename = "task.fell_back")]
    FellBack { step: Step, agent: AgentRef, model: String, because: String },
    /// Outside: the step's model has failed call after call and is left alone until then (milliseconds since
    /// the epoch; the largest number: until a trial call has ended).
    #[serde(rename = "task.cooling")]
    Cooling { step: Step, agent: AgentRef, model: String, until_ms: u64 },
    /// Outside: it may be tried again.
    #[serde(rename = "task.cooled")]
    Cooled { step: Step, agent: AgentRef, model: String },
    /// Outside: a person takes the answer of an earlier attempt for the result of a step that needs review.
    #[serde(rename = "task.accepted")]
    Accepted { step: Step, agent: AgentRef, attempt: u32, answer: Box<Msg>, by: String },
    /// The next call is the last: tools are off and the agent is asked to answer with what it has.
    #[serde(rename = "task.concluding")]
    Concluding { step: Step, agent: AgentRef, note: Msg },
    /// Outside: a person says something to an agent, at work or not. `id` is the command's in the run's
    /// inbox, so that one that is taken up twice is recorded once.
    #[serde(rename = "agent.told")]
    Told { agent: AgentRef, message: Msg, by: String, id: u64 },
    /// What it was told enters its memory, as the message `with`. `answered`: behind an answer that would
    /// have been the result; the agent takes one more turn.
    #[serde(rename = "agent.heard")]
    Heard { step: Step, agent: AgentRef, with: Msg, answered: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replaced {
    pub index: u32,
    pub with: Msg,
}

fn is_none(steps: &u32) -> bool {
    *steps == 0
}

/// A message in an agent's memory: the blob of its JSON, and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Msg {
    pub message: BlobId,
    pub bytes: u64,
    /// The result of a tool call: it stands or falls with the answer before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_result: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnTurn>,
}

/// A turn in the words of the provider that wrote it. It goes back only to that model: signatures do not
/// survive a change of model or provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnTurn {
    pub turn: BlobId,
    pub bytes: u64,
    /// Hash of `provider/model-id`.
    pub by: BlobId,
}

impl Msg {
    /// `blob` is `message` encoded.
    pub fn of(message: &Message, blob: &Blob) -> Msg {
        let is_result = matches!(message, Message::Tool { .. });
        // A mark is sent as its secret's value, which may be longer.
        let marks = blob.text.matches(SECRET_MARK).count();
        Msg { message: blob.id, bytes: (blob.text.len() + marks * SECRET_MAX) as u64, is_result, own: None }
    }
    /// The turn in its author's own words, if `model` (`provider/model-id`) is that author.
    pub fn own_turn(&self, model: &str) -> Option<OwnTurn> {
        // Most messages have none, and hash nothing.
        self.own.filter(|own| own.by == BlobId::of(model.as_bytes()))
    }
    /// Bytes of what `model` is sent for it.
    pub fn bytes_for(&self, model: &str) -> u64 {
        self.own_turn(model).map_or(self.bytes, |own| own.bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    Prompt {
        system: Msg,
        user: Msg,
        /// The agent goes on from the turns of the last round.
        carries: bool,
        /// User messages of later attempts, where the task's `retry` names a prompt.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        retry: Vec<Retold>,
    },
    /// A tool called without a model.
    Tool { tool: String, arguments: BlobId },
}

/// What an attempt is told instead of the task's own user message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retold {
    pub attempt: u32,
    pub user: Msg,
}

/// What the next attempt does differently.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Variation {
    /// A message that says what was wrong with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Msg>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Milli>,
    /// The prompt is held to half of `context_tokens`.
    #[serde(default)]
    pub shorter: bool,
    /// Another model: an alias, or `provider/model-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The user message instead of the task's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Msg>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// Parameters the provider has refused: left out of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Parameter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundOutcome {
    Again,
    Approved,
    /// The limit was reached: the last result stands, unapproved.
    Accepted,
    Failed,
    Review,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Done,
    /// A `for_each` with gaps.
    Partial,
    /// Another task's result stands in (`on_error`).
    Replaced,
    Failed,
    Skipped,
    Cancelled,
    OverBudget,
}

impl TaskStatus {
    /// Dependents get a value.
    pub fn has_result(self) -> bool {
        match self {
            TaskStatus::Done | TaskStatus::Partial | TaskStatus::Replaced => true,
            TaskStatus::Failed | TaskStatus::Skipped | TaskStatus::Cancelled | TaskStatus::OverBudget => false,
        }
    }
    pub fn as_str(self) -> &'static str {
        match self {
            TaskStatus::Done => "done",
            TaskStatus::Partial => "partial",
            TaskStatus::Replaced => "replaced",
            TaskStatus::Failed => "failed",
            TaskStatus::Skipped => "skipped",
            TaskStatus::Cancelled => "cancelled",
            TaskStatus::OverBudget => "over_budget",
        }
    }
}

/// The one result type: of tasks, children, sub-crews and tools.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskResult {
    pub status: TaskStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<BlobId>,
    /// The text is JSON that fits the task's schema.
    #[serde(default)]
    pub typed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// Settled by the task and everything below it.
    pub spent: Amount,
    /// It was made by whoever had read what is not to be trusted; the first source, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tainted: Option<String>,
}

impl TaskResult {
    pub fn done(text: Option<BlobId>, typed: bool, spent: Amount) -> TaskResult {
        TaskResult { status: TaskStatus::Done, text, typed, error: None, spent, tainted: None }
    }
    pub fn failed(status: TaskStatus, error: TaskError, spent: Amount) -> TaskResult {
        TaskResult { status, text: None, typed: false, error: Some(error), spent, tainted: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskError {
    pub class: ErrorClass,
    pub message: String,
    pub attempts: u32,
}

/// Rows of the failure table that end an attempt, and ends that are nobody's attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    Unusable,
    UnknownTool,
    Loop,
    TurnLimit,
    Guardrail,
    Ambiguous,
    Timeout,
    TooLong,
    OurFault,
    Tool,
    /// The prompt does not fit, whatever is left out.
    PromptTooLarge,
    /// The process died five times inside this step.
    Deaths,
    /// The agent's actor panicked more than three times.
    Crashed,
    RoundLimit,
    TooManyItems,
    Template,
    /// Something it needs failed.
    Upstream,
    Budget,
    /// A person said no, or nobody said anything in time.
    Rejected,
    Cancelled,
}
