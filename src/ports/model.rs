//! A model provider. Invariant: one call is one request on the wire; no implementation retries.

use std::sync::Arc;

use super::BoxFuture;
use crate::core::chat::{CallFailure, ModelAnswer, ModelRequest};
use crate::core::ids::Name;
use crate::core::rates::{Limits, MINUTE_MS, Rates};

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
    /// What the answer's headers say about the provider's limits, as soon as they are there.
    fn limits(&self, _limits: Limits) {}
}

/// Nobody looks.
pub struct Unwatched;
impl Watch for Unwatched {}

/// The providers of a run by the name that `[providers]` gives them.
pub trait Models: Send + Sync {
    fn provider(&self, name: &Name) -> Option<Arc<dyn Model>>;
    /// Which limits a call of this model at this provider is under. Asked before every call, so cheap.
    fn tier(&self, provider: &Name, model: &str) -> Arc<Tier>;
}

/// The limits that calls share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Of the host and the key, never the key itself: whoever has the same shares the limits.
    pub key: String,
    /// The models of the key that share `rates`; empty: all of them.
    pub class: Arc<str>,
    pub rates: Rates,
    /// Milliseconds of the window of `rates`: a minute, but in tests.
    pub window_ms: u64,
    /// Calls in flight at once, over all classes of the key.
    pub max_concurrency: u32,
    /// A wait that is known to be longer parks the run.
    pub max_wait_ms: u64,
    /// Other processes of this host may use the key too.
    pub shared: bool,
}

impl Tier {
    /// No limit but so many calls at once.
    pub fn at_once(key: impl Into<String>, max_concurrency: u32) -> Tier {
        Tier {
            key: key.into(),
            class: Arc::from(""),
            rates: Rates::default(),
            window_ms: MINUTE_MS,
            max_concurrency,
            max_wait_ms: 600_000,
            shared: false,
        }
    }
}
