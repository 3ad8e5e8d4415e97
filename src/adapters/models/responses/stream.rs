//! The typed events of a streamed response. Invariant: only a terminal event ends an answer; a stream
//! that stops before it is a cut one, however much of the answer it brought.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Asked, Fault, Outcome, outcome};

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(default)]
    output_index: Option<u64>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    /// Of an `error` event: within it at this endpoint, as an object of its own at others.
    #[serde(default)]
    error: Option<Fault>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

/// What one event comes to.
pub enum Step {
    /// Nothing to tell.
    On,
    /// The next piece of the text.
    Text(String),
    End(Outcome),
}

/// A response that is being streamed.
#[derive(Default)]
pub struct Events {
    /// Of the response at the provider, from its first event.
    pub id: Option<String>,
    items: BTreeMap<u64, Box<RawValue>>,
}

impl Events {
    /// The `data` of one event. Its name on the wire repeats its `type`.
    pub fn event(&mut self, data: &str, asked: Asked<'_>, request_id: Option<&str>) -> Step {
        let request_id = request_id.map(str::to_owned);
        let Ok(event) = serde_json::from_str::<Event<'_>>(data) else { return Step::End(Outcome::Not) };
        match &*event.kind {
            "response.output_text.delta" | "response.refusal.delta" => {
                let piece = event.delta.and_then(|delta| serde_json::from_str(delta.get()).ok());
                piece.map_or(Step::On, Step::Text)
            }
            "response.created" => {
                let created = event.response.and_then(|raw| serde_json::from_str::<Created>(raw.get()).ok());
                self.id = created.map(|created| created.id).or(self.id.take());
                Step::On
            }
            "response.output_item.done" => {
                let next = self.items.keys().next_back().map_or(0, |last| last + 1);
                if let Some(item) = event.item {
                    self.items.insert(event.output_index.unwrap_or(next), item.to_owned());
                }
                Step::On
            }
            "response.completed" | "response.incomplete" | "response.failed" => match event.response {
                Some(response) => Step::End(outcome(response.get(), self.joined(), asked, request_id)),
                None => Step::End(Outcome::Not),
            },
            "error" => {
                let own = Fault { code: event.code, message: event.message };
                Step::End(Outcome::Failed(event.error.unwrap_or(own).words()))
            }
            // Progress, or news that an answer does not depend on.
            _ => Step::On,
        }
    }

    fn joined(&mut self) -> Option<Box<RawValue>> {
        let items = std::mem::take(&mut self.items);
        let all: Vec<&str> = items.values().map(|item| item.get()).collect();
        (!all.is_empty()).then(|| RawValue::from_string(format!("[{}]", all.join(","))).ok())?
    }
}
