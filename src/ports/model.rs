//! A model provider. Invariant: one call is one request on the wire; no implementation retries.

use std::sync::Arc;

use super::BoxFuture;
use crate::core::chat::{CallFailure, ModelAnswer, ModelRequest};
use crate::core::ids::Name;

pub trait Model: Send + Sync {
    /// Sends the request once. The future may be dropped at any await: the call is then ambiguous.
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>>;
}

/// What a call tells while it runs: progress, never fact. Whoever watches returns at once.
pub trait Watch: Send + Sync {
    /// The next piece of a streamed answer's text.
    fn text(&self, _piece: &str) {}
}

/// Nobody looks.
pub struct Unwatched;
impl Watch for Unwatched {}

/// The providers of a run by the name that `[providers]` gives them.
pub trait Models: Send + Sync {
    fn provider(&self, name: &Name) -> Option<Arc<dyn Model>>;
    /// Calls in flight at once with this provider (`max_concurrency`).
    fn concurrency(&self, name: &Name) -> usize;
}
