//! The journal's public vocabulary. Invariant: an event is a fact; it is written once, never
//! changed, and whoever folds it may not disagree.
//!
//! Kinds (`task.finished`) are the names of `--json`. A payload is `{"v":1,"type":KIND,…}`; texts are
//! blob ids. Events marked *outside* bring in what the world decided; every other one is what a
//! machine decided, and replay must derive its exact bytes again ([`Event::is_outside`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chat::{Blob, CallFailure, Finish, Message, Milli, Settings};
use super::crew::Overrides;
use super::ids::{AgentRef, BlobId, CallId, Key, Name, RunId, Step};
use super::ledger::NodeId;
use super::money::{Amount, Caps, Limit, Price, Tokens, Usage};

/// Format of payloads. A newer one is printed, never resumed.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum RunEvent {
    /// Outside: the run begins; everything it is made of is pinned here.
    #[serde(rename = "run.started")]
    Started(Box<Started>),
    /// Outside: a process takes the run up again. Pauses are over.
    #[serde(rename = "run.resumed")]
    Resumed { by: String },
    /// Outside: nothing new is to start; calls in flight may end.
    #[serde(rename = "run.pause_asked")]
    PauseAsked { cause: PauseCause, by: String },
    /// Outside.
    #[serde(rename = "run.cancel_asked")]
    CancelAsked { by: String },
    /// The root coordinator: nothing can go on in this process.
    #[serde(rename = "run.parked")]
    Parked { causes: Vec<ParkCause> },
    #[serde(rename = "run.finished")]
    Finished { status: RunEnd, result: Option<TaskResult> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Started {
    pub run: RunId,
    pub crew: String,
    /// Path of the crew file (or of the role prompt that is run as a crew of one).
    pub file: String,
    /// Every file the crew is made of.
    pub pins: BTreeMap<String, BlobId>,
    /// Values by name; a secret's value is its mark.
    pub inputs: BTreeMap<Name, serde_json::Value>,
    pub overrides: Overrides,
    /// The prices in force, by `provider/model-id`, and the date of their table.
    pub prices: BTreeMap<String, Price>,
    /// Of the top crew, after every layer.
    pub caps: Caps,
    /// Where the caps come from, in words.
    pub cap_origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Every model is a stand-in.
    pub offline: bool,
    /// Of the program that started it.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM, SIGHUP.
    Terminated,
    /// `bosun pause`.
    Asked,
    Deadline,
}

/// Why a run waits, each with the words its last line needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum ParkCause {
    Credentials { message: String },
    Quota { message: String },
    Deadline,
    Budget { step: Step },
    Review { step: Step },
    Interrupted,
    Terminated,
    Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    Completed,
    Failed,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum TaskEvent {
    /// The items of a `for_each`. `items` is a JSON list, absent where the rows are pinned with the crew.
    #[serde(rename = "task.fanned_out")]
    FannedOut { step: Step, keys: Vec<Key>, items: Option<BlobId> },
    #[serde(rename = "task.assigned")]
    Assigned { step: Step, agent: AgentRef, work: Work },
    /// A sub-crew begins below `step`.
    #[serde(rename = "task.crew_started")]
    CrewStarted { step: Step, inputs: BTreeMap<Name, serde_json::Value> },
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
        variation: Variation,
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
    DelegationRefused { from: CallId, index: u32, agent: AgentRef, content: Msg },
    /// A child's result goes back to the agent that asked.
    #[serde(rename = "task.returned")]
    Returned { step: Step, from: CallId, index: u32, agent: AgentRef, content: Msg, spent: Amount },
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
    /// The next call is the last: tools are off and the agent is asked to answer with what it has.
    #[serde(rename = "task.concluding")]
    Concluding { step: Step, agent: AgentRef, note: Msg },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replaced {
    pub index: u32,
    pub with: Msg,
}

/// A message in an agent's memory: the blob of its JSON, and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Msg {
    pub message: BlobId,
    pub bytes: u64,
    /// The result of a tool call: it stands or falls with the answer before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_result: bool,
}

impl Msg {
    /// `blob` is `message` encoded.
    pub fn of(message: &Message, blob: &Blob) -> Msg {
        let is_result = matches!(message, Message::Tool { .. });
        Msg { message: blob.id, bytes: blob.text.len() as u64, is_result }
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
    },
    /// A tool called without a model.
    Tool { tool: String, arguments: BlobId },
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
}

impl TaskResult {
    pub fn failed(status: TaskStatus, error: TaskError, spent: Amount) -> TaskResult {
        TaskResult { status, text: None, typed: false, error: Some(error), spent }
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
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum CallEvent {
    /// The worst case is reserved at every node; the request leaves as soon as this is durable.
    #[serde(rename = "call.held")]
    Held(Box<Held>),
    /// The hold would fit if open holds settle lower: it waits its turn at `node`.
    #[serde(rename = "call.queued")]
    Queued { call: CallId, agent: AgentRef, node: NodeId, limit: Limit, need: Amount },
    /// The hold would not fit if every open hold settled at zero.
    #[serde(rename = "call.exhausted")]
    Exhausted { call: CallId, agent: AgentRef, node: NodeId, limit: Limit, need: Amount, left: Amount, pause: bool },
    /// Outside: the answer as it came. `cost` is the hold's price of the reported usage.
    #[serde(rename = "call.answered")]
    Answered(Box<Answered>),
    /// Outside.
    #[serde(rename = "call.failed")]
    Failed { call: CallId, agent: AgentRef, failure: CallFailure, elapsed_ms: u64 },
    /// Outside: whether it was billed is not known; the hold stays.
    #[serde(rename = "call.lost")]
    Lost { call: CallId, agent: AgentRef, cause: LostCause, elapsed_ms: u64 },
    /// Outside: a person closes an ambiguous hold with the invoice's figure.
    #[serde(rename = "call.settled")]
    Settled { call: CallId, cost: Amount, by: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    pub call: CallId,
    pub agent: AgentRef,
    pub attempt: u32,
    /// `provider/model-id`.
    pub model: String,
    /// Bound of the input, in tokens.
    pub input: Tokens,
    /// What is reserved: bound + `max_output`, at the dearest price.
    pub amount: Amount,
    /// `None`: local, or unknown and allowed.
    pub price: Option<Price>,
    pub settings: Settings,
    /// Messages sent, of the agent's memory at this point.
    pub messages: u32,
    pub tools: bool,
    /// The call had waited for its hold.
    pub waited: bool,
    /// Every node of the budget tree it counts in, from the top down.
    pub nodes: Vec<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answered {
    pub call: CallId,
    pub agent: AgentRef,
    /// As held: `provider/model-id`.
    pub model: String,
    pub finish: Finish,
    /// Tool calls it asks for.
    #[serde(default)]
    pub asks: u32,
    pub usage: Usage,
    /// Booked: the usage at the hold's price, or the hold where the usage is unknown.
    pub cost: Amount,
    /// The usage was absent, unparsable or cannot be true.
    #[serde(default)]
    pub estimated: bool,
    /// More was billed than held.
    #[serde(default)]
    pub overrun: bool,
    pub message: Msg,
    /// The provider's own turn, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<BlobId>,
    /// The provider's usage object, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_usage: Option<BlobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub elapsed_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostCause {
    /// The process died while it was in flight.
    Died,
    /// Dropped by a second Ctrl-C, a cancel or a deadline.
    Aborted,
    /// The task's own timeout.
    Timeout,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum ToolEvent {
    /// About to run; `key` is the idempotency key.
    #[serde(rename = "tool.started")]
    Started {
        call: CallId,
        /// Which of the turn's `of` calls, from 0.
        index: u32,
        of: u32,
        agent: AgentRef,
        tool: String,
        /// The provider's id of the call.
        ask: String,
        arguments: BlobId,
        key: String,
    },
    /// Not run: unknown tool, bad arguments, too many calls, a repeat. `content` is what the model reads.
    #[serde(rename = "tool.refused")]
    Refused { call: CallId, index: u32, of: u32, agent: AgentRef, tool: String, refusal: ToolRefusal, content: Msg },
    /// Outside. `content` is what the model reads; `full` the whole result where it was capped.
    #[serde(rename = "tool.returned")]
    Returned {
        call: CallId,
        index: u32,
        agent: AgentRef,
        outcome: Outcome,
        content: Msg,
        full: Option<BlobId>,
        elapsed_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolRefusal {
    UnknownTool,
    BadArguments,
    TooMany,
    Repeat,
    Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Error,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum LedgerEvent {
    /// Settled + held of a node passed a threshold.
    #[serde(rename = "budget.alert")]
    Alert { node: NodeId, alert: AlertAt, limit: Limit, used: Amount, caps: Caps },
    /// Outside: `--raise-budget`. Only ever looser.
    #[serde(rename = "budget.raised")]
    Raised { caps: Caps, by: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertAt {
    /// Thousandths of the cap.
    Share(u32),
    Usd(super::money::NanoUsd),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Run(RunEvent),
    Task(TaskEvent),
    Call(CallEvent),
    Tool(ToolEvent),
    Ledger(LedgerEvent),
}

/// Who folds an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Every machine of the run.
    All,
    /// The coordinator of a scope.
    Plan(Step),
    Agent(AgentRef),
    Ledger,
}

mod codec;
mod subjects;

pub use codec::BadEvent;
pub use subjects::Scopes;
