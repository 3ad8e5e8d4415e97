//! Events of model calls and their tools, and of the budget that pays for them. Invariant: a call is
//! held before it is sent, and its hold has one end.

use serde::{Deserialize, Serialize};

use super::Msg;
use crate::core::chat::{CallFailure, Finish, Served, Settings};
use crate::core::ids::{AgentRef, BlobId, CallId};
use crate::core::ledger::{Day, NodeId};
use crate::core::money::{Amount, Caps, Limit, NanoUsd, Price, Tokens, Usage};

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
    Exhausted {
        call: CallId,
        agent: AgentRef,
        node: NodeId,
        limit: Limit,
        need: Amount,
        left: Amount,
        pause: bool,
        /// The task goes straight to its ending.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        finish: bool,
        /// It was to pay for a summary: the task goes on without one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        summary: bool,
    },
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
    /// A turn without tools, in a run that sets money aside for such turns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
    /// It sums up turns that no longer fit: its answer is no turn of the task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub summary: bool,
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
    /// The provider's own turn, verbatim, where it is not `message.own`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<BlobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
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
        /// What comes of it is not to be trusted: where it comes from, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tainted: Option<String>,
    },
    /// Not run: unknown tool, bad arguments, too many calls, a repeat, a person's no. `content` is what the model reads.
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
    /// A person said no.
    Rejected,
    /// Nobody said anything in time.
    Expired,
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
    /// What is set aside for the endings of tasks ahead does not fit any more: a result is no longer
    /// guaranteed. `never`: the cap never covered it.
    #[serde(rename = "budget.unguaranteed")]
    Unguaranteed { node: NodeId, limit: Limit, aside: Amount, used: Amount, caps: Caps, never: bool },
    /// No budget was left for a call, and a step of `degrade` is given up instead: whoever asks for calls
    /// from now on, asks for less.
    #[serde(rename = "budget.degraded")]
    Degraded {
        call: CallId,
        agent: AgentRef,
        node: NodeId,
        limit: Limit,
        need: Amount,
        left: Amount,
        /// From 1, of `of`: all steps up to this one are given up.
        step: u32,
        of: u32,
        /// The step as the crew file writes it.
        gives_up: String,
    },
    /// Outside: `--raise-budget`. Only ever looser.
    #[serde(rename = "budget.raised")]
    Raised { caps: Caps, by: String },
    /// Outside: what the store grants this run of a day's cap, in all; a hold relies on it only after this
    /// event. `most`: what it could be at most if the other runs' open holds settled at zero.
    #[serde(rename = "budget.day")]
    Day { day: Day, cap: NanoUsd, granted: NanoUsd, most: NanoUsd },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertAt {
    /// Thousandths of the cap.
    Share(u32),
    Usd(NanoUsd),
}
