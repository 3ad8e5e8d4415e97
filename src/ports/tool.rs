//! A tool. Invariant: arguments have been validated against the tool's schema before it sees them,
//! and it never sees a call its agent was not given.

use std::sync::Arc;

use super::BoxFuture;
use crate::core::chat::ToolSpec;
use crate::core::question::Question;

/// One call of a tool.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// A JSON object that fits [`ToolSpec::parameters`].
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// run + step address + call number + argument hash: the same over resume.
    pub idempotency_key: String,
}

/// How a tool call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolOutcome {
    Ok(String),
    /// What went wrong, in words the model can act on.
    Error(String),
    /// It may or may not have happened (timeout of a tool with effect, lost connection).
    Unknown(String),
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It fits the question's schema.
    Given(serde_json::Value),
    Declined,
    /// Nobody has said anything, for this reason.
    Nobody(String),
}

/// How far a call is, as its tool says itself: for whoever watches, never a fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// In units of the tool's own.
    pub done: f64,
    /// Of so many, where it says.
    pub of: Option<f64>,
    /// In words; foreign text.
    pub says: String,
}

/// Whoever a tool may ask in the middle of a call.
pub trait People: Send + Sync {
    /// Ends by itself. Dropped, the question is withdrawn.
    fn ask(&self, question: Question) -> BoxFuture<'_, Answer>;
    /// The tool says how far it is. Returns at once.
    fn watch(&self, progress: Progress) {
        drop(progress);
    }
}

/// No person is near: every question is declined.
pub struct Nobody;

impl People for Nobody {
    fn ask(&self, _: Question) -> BoxFuture<'_, Answer> {
        Box::pin(async { Answer::Declined })
    }
}

pub trait Tool: Send + Sync {
    fn spec(&self) -> &ToolSpec;
    /// The future may be dropped: whatever it started is stopped with it.
    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolOutcome>;
    /// The same, of a tool that may ask a person while it runs.
    fn call_near(&self, call: ToolCall, people: Arc<dyn People>) -> BoxFuture<'_, ToolOutcome> {
        drop(people);
        self.call(call)
    }
}

/// The tools of a run by name (`files.read`, or the name of a `[tools.N]` table).
pub trait Tools: Send + Sync {
    /// `crew` is the file of the crew whose agent calls: a sub-crew has its own tools.
    fn tool(&self, crew: &str, name: &str) -> Option<Arc<dyn Tool>>;
}
