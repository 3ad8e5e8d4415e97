//! Events of approvals and questions. Invariant: an interrupt is decided at most once, and what is decided
//! is about exactly the arguments that were shown.

use serde::{Deserialize, Serialize};

use super::Msg;
use crate::core::ids::{AgentRef, BlobId, CallId, InterruptId, Step};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum InterruptEvent {
    /// A person is asked; what was asked for waits. Outside where a server asks ([`Raised::server`]).
    #[serde(rename = "interrupt.raised")]
    Raised(Box<Raised>),
    /// Outside: what a person said, or that nobody did in time.
    #[serde(rename = "interrupt.decided")]
    Decided { id: InterruptId, step: Step, agent: Option<AgentRef>, decision: Decision, by: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Raised {
    pub id: InterruptId,
    pub kind: InterruptKind,
    pub step: Step,
    /// `None`: the coordinator asks, before anyone works on the task.
    pub agent: Option<AgentRef>,
    /// The call that a tool call or a result came with.
    pub call: Option<CallId>,
    /// Which of the turn's `of` tool calls, from 0.
    pub index: u32,
    pub of: u32,
    /// The tool that is to run; empty where it is not about a tool.
    pub tool: String,
    /// The provider's id of the tool call.
    pub ask: String,
    /// A tool's arguments, a question (both JSON), or a result's text.
    pub arguments: BlobId,
    /// The result is JSON that fits the task's schema.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub typed: bool,
    pub why: Vec<Why>,
    /// Milliseconds from this entry's time after which nothing is decided any more.
    pub expires_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptKind {
    /// A tool is to run.
    Approval,
    /// An agent asks for words.
    Question,
    /// A task is to begin.
    Before,
    /// A result is to count.
    After,
}

/// Why a person is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The tool says `approval = "always"`.
    Always,
    /// The tool's `approve_when` holds; the condition as it is written.
    Condition(String),
    /// What the agent has read is not to be trusted; where it came from.
    Tainted(String),
    /// The task says `approval`.
    Task,
    /// The agent asks.
    Question,
    /// This server asks, in the middle of a call of one of its tools.
    Server(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// With these arguments (or this text of a result) instead of those that were asked for.
    Approved {
        arguments: Option<BlobId>,
    },
    Rejected {
        reason: String,
    },
    /// The answer to a question, as the tool's result.
    Answered {
        content: Msg,
    },
    Expired,
}

impl Raised {
    /// The server that asks, where it is the world that does and no machine: nothing of the run waits but the
    /// call that is under way, which takes the answer.
    pub fn server(&self) -> Option<&str> {
        let [Why::Server(name)] = self.why.as_slice() else { return None };
        self.kind.is_question().then_some(name)
    }
}

impl InterruptKind {
    pub fn is_question(self) -> bool {
        self == InterruptKind::Question
    }
    pub fn as_str(self) -> &'static str {
        match self {
            InterruptKind::Approval => "approval",
            InterruptKind::Question => "question",
            InterruptKind::Before => "before",
            InterruptKind::After => "after",
        }
    }
}

impl Decision {
    pub fn as_str(&self) -> &'static str {
        match self {
            Decision::Approved { arguments: None } => "approved",
            Decision::Approved { arguments: Some(_) } => "approved with changes",
            Decision::Rejected { .. } => "rejected",
            Decision::Answered { .. } => "answered",
            Decision::Expired => "expired",
        }
    }
}
