//! Variations of a task's later attempts. Invariant: an entry replaces only what it names.

use std::sync::Arc;

use super::{Model, TaskPrompt};
use crate::core::chat::Milli;

/// What a task's `retry` says of one attempt: it replaces only what it names.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    pub temperature: Option<Milli>,
    /// With the task's and the agent's settings laid over it.
    pub model: Option<Arc<Model>>,
    pub prompt: Option<TaskPrompt>,
    pub max_output: Option<u64>,
}

/// The variations of a task's `retry` with the attempts they apply to. One that is nothing but a
/// temperature which its model would refuse is skipped for the next; `own` is the task's model.
pub fn retries<'a>(retry: &'a [Retry], own: &'a Model) -> impl Iterator<Item = (u32, &'a Retry)> {
    let void = |entry: &Retry| {
        let alone = entry.model.is_none() && entry.prompt.is_none() && entry.max_output.is_none();
        alone && entry.temperature.is_some() && own.refuses_temperature()
    };
    retry.iter().filter(move |entry| !void(entry)).zip(2..).map(|(entry, attempt)| (attempt, entry))
}
