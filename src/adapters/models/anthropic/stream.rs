//! A Messages stream, put together. Invariant: what comes out is the body that the same answer has
//! when it is not streamed, so that both are read by the same code; a stream without its
//! `message_stop` is no answer.
//!
//! Events: `message_start`, `content_block_{start,delta,stop}`, `message_delta`, `message_stop`,
//! `ping`, `error`; new ones may be added, and are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::turns::INVALID;
use super::wire;
use crate::adapters::models::streamed::{Step, Streamed};
use crate::core::malformed::Due;
use crate::core::money::Usage;

#[derive(Debug, Default)]
pub struct Assembly {
    model: Value,
    stop_reason: Value,
    stop_details: Value,
    usage: Value,
    /// What the start counted of the output. The last word on it comes with `message_delta`; without that
    /// it is not known.
    output_so_far: Value,
    blocks: BTreeMap<u64, Block>,
}

#[derive(Debug, Default)]
struct Block {
    fields: Map<String, Value>,
    /// A tool's input, as its pieces came.
    input: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    message: Map<String, Value>,
    #[serde(default)]
    content_block: Map<String, Value>,
    #[serde(default)]
    delta: Map<String, Value>,
    #[serde(default)]
    usage: Value,
}

impl Streamed for Assembly {
    const END: &'static str = "message_stop";
    const WANTED: Due = Due::Message;

    fn take(&mut self, data: &str) -> Step {
        let Ok(mut event) = serde_json::from_str::<Event>(data) else { return Step::Broken };
        match event.kind.as_str() {
            "message_start" => {
                self.model = event.message.shift_remove("model").unwrap_or_default();
                self.usage = event.message.shift_remove("usage").unwrap_or_default();
                if let Value::Object(usage) = &mut self.usage {
                    self.output_so_far = usage.shift_remove("output_tokens").unwrap_or_default();
                }
                Step::Quiet
            }
            "content_block_start" => {
                self.blocks.insert(event.index, Block { fields: event.content_block, input: String::new() });
                Step::Quiet
            }
            "content_block_delta" => match self.blocks.get_mut(&event.index) {
                Some(block) => block.grow(event.delta),
                None => Step::Broken,
            },
            "message_delta" => {
                self.stop_reason = event.delta.shift_remove("stop_reason").unwrap_or_default();
                self.stop_details = event.delta.shift_remove("stop_details").unwrap_or_default();
                self.count(event.usage);
                Step::Quiet
            }
            "message_stop" => Step::Done,
            "error" => Step::Error,
            _ => Step::Quiet,
        }
    }

    /// What was reported so far; `None` before anything was.
    fn usage(&self) -> Option<Usage> {
        let mut usage = self.usage.as_object()?.clone();
        usage.entry("output_tokens").or_insert_with(|| self.output_so_far.clone());
        serde_json::value::to_raw_value(&usage).ok().map(|raw| wire::usage(Some(&*raw)))
    }

    /// The body that would have come without a stream.
    fn body(self) -> Vec<u8> {
        let mut out = String::from("{\"content\":[");
        for (at, block) in self.blocks.into_values().enumerate() {
            out.push_str(if at > 0 { "," } else { "" });
            block.write(&mut out);
        }
        out.push(']');
        let rest = [
            ("model", self.model),
            ("stop_reason", self.stop_reason),
            ("stop_details", self.stop_details),
            ("usage", self.usage),
        ];
        for (key, value) in rest.into_iter().filter(|(_, value)| !value.is_null()) {
            out.push_str(&format!(",\"{key}\":{value}"));
        }
        out.push('}');
        out.into_bytes()
    }
}

impl Assembly {
    /// Cumulative: what is said again replaces what was said. Only the output is never null.
    fn count(&mut self, said: Value) {
        match (&mut self.usage, said) {
            (_, Value::Null) => {}
            (Value::Object(usage), Value::Object(said)) => {
                usage.extend(said.into_iter().filter(|(key, count)| !count.is_null() || key == "output_tokens"));
            }
            (usage, said) => *usage = said,
        }
    }
}

impl Block {
    fn grow(&mut self, mut delta: Map<String, Value>) -> Step {
        let kind = delta.shift_remove("type").unwrap_or_default();
        let mut text = |key: &str| match delta.shift_remove(key) {
            Some(Value::String(text)) => Some(text),
            Some(_) | None => None,
        };
        match kind.as_str().unwrap_or_default() {
            "text_delta" => match text("text") {
                Some(piece) => {
                    self.append("text", &piece);
                    Step::Text(piece)
                }
                None => Step::Broken,
            },
            "input_json_delta" => {
                self.input.push_str(&text("partial_json").unwrap_or_default());
                Step::Quiet
            }
            "thinking_delta" => {
                self.append("thinking", &text("thinking").unwrap_or_default());
                Step::Quiet
            }
            "signature_delta" => {
                let signature = text("signature").unwrap_or_default();
                self.fields.insert("signature".to_owned(), signature.into());
                Step::Quiet
            }
            "citations_delta" => {
                let citation = delta.shift_remove("citation").unwrap_or_default();
                match self.fields.entry("citations").or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(all) => all.push(citation),
                    other => *other = Value::Array(vec![citation]),
                }
                Step::Quiet
            }
            _ => Step::Quiet,
        }
    }

    fn append(&mut self, key: &str, piece: &str) {
        match self.fields.entry(key).or_insert_with(|| Value::String(String::new())) {
            Value::String(text) => text.push_str(piece),
            other => *other = piece.into(),
        }
    }

    /// The input stands as its bytes came; what is no JSON (the answer was cut off in it) stands as text.
    fn write(mut self, out: &mut String) {
        if self.input.is_empty() {
            out.push_str(&Value::Object(self.fields).to_string());
            return;
        }
        self.fields.shift_remove("input");
        let fields = Value::Object(self.fields).to_string();
        out.push_str(&fields[..fields.len() - 1]);
        out.push_str(if fields.len() > 2 { ",\"input\":" } else { "\"input\":" });
        match serde_json::from_str::<&RawValue>(&self.input) {
            Ok(raw) => out.push_str(raw.get()),
            Err(_) => out.push_str(&serde_json::json!({INVALID: self.input}).to_string()),
        }
        out.push('}');
    }
}
