//! Something outside that outlives a call: a server of tools. Invariant: a session that is dropped leaves nothing
//! behind, and a call that is dropped is cancelled.

use std::sync::Arc;

use super::BoxFuture;
use super::tool::People;
use crate::core::definition::Definition;

/// A server before it is reached.
pub trait Service: Send + Sync {
    /// As crew files call it.
    fn name(&self) -> &str;
    /// The same for two tables that mean the same server.
    fn key(&self) -> &str;
    /// Starts or reaches it; takes as long as it takes. The error says what was tried and what came.
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Session>, String>>;
}

/// One tool call of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceCall {
    /// The server's name of the tool.
    pub tool: String,
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// Idempotency key.
    pub key: String,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done(String),
    /// The server, or whoever stands before it, says no: in words for the model.
    Refused(String),
    /// It may or may not have happened.
    Lost(String),
}

/// What a session says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Its tools may be others now.
    Changed,
    /// It is over, for this reason.
    Ended(String),
}

/// A server that is reached. Dropped, it is left and, where it was started, stopped with all it had started.
pub trait Session: Send + Sync {
    /// All of its tools, as it defines them now.
    fn definitions(&self) -> BoxFuture<'_, Result<Vec<Definition>, String>>;
    /// Dropped, the server is told that nobody waits any more. What the server asks meanwhile goes to `people`.
    fn call<'a>(&'a self, call: &'a ServiceCall, people: Arc<dyn People>) -> BoxFuture<'a, Reply>;
    /// The next news; for one listener.
    fn news(&self) -> BoxFuture<'_, News>;
}
