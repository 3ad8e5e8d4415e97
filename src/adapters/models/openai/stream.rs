//! A Chat Completions stream, put together. Invariant: what comes out is the body that the same answer
//! has when it is not streamed, so that both are read by the same code.
//!
//! Chunks: `choices[0].delta` with pieces of the text and of tool calls, a last one with `usage` and no
//! choice (asked for with `stream_options.include_usage`), `{"error": …}` at any time, then `[DONE]`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::wire;
use crate::adapters::models::streamed::{Step, Streamed};
use crate::core::malformed::Due;
use crate::core::money::Usage;

#[derive(Debug, Default)]
pub struct Assembly {
    /// Of the message, but for its calls; texts grow.
    fields: Map<String, Value>,
    calls: Vec<Call>,
    finish_reason: Option<String>,
    usage: Option<Box<RawValue>>,
    model: Option<String>,
    service_tier: Option<String>,
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default = "Vec::new")]
    choices: Vec<Choice>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    service_tier: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Option<Map<String, Value>>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Value,
}

impl Streamed for Assembly {
    const END: &'static str = "[DONE]";
    const WANTED: Due = Due::Completion;

    fn take(&mut self, data: &str) -> Step {
        if data == "[DONE]" {
            return Step::Done;
        }
        let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(data) else { return Step::Broken };
        if chunk.error.is_some() {
            return Step::Error;
        }
        self.usage = chunk.usage.map(RawValue::to_owned).or(self.usage.take());
        self.model = chunk.model.or(self.model.take());
        self.service_tier = chunk.service_tier.or(self.service_tier.take());
        let mut step = Step::Quiet;
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
            if let Some(piece) = self.grow(choice.delta.unwrap_or_default()) {
                step = Step::Text(piece);
            }
        }
        step
    }

    /// A body that ends here is whole although nobody said `[DONE]`: the answer's end and its usage came.
    fn is_whole(&self) -> bool {
        self.finish_reason.is_some() && self.usage.is_some()
    }

    /// What was reported so far; `None` before anything was.
    fn usage(&self) -> Option<Usage> {
        self.usage.as_deref().map(|raw| wire::usage(Some(raw)))
    }

    /// The body that would have come without a stream.
    fn body(self) -> Vec<u8> {
        let mut message = self.fields;
        message.entry("role").or_insert_with(|| "assistant".into());
        message.entry("content").or_insert(Value::Null);
        if !self.calls.is_empty() {
            let call = |Call { id, name, arguments, .. }: Call| {
                let function = json!({"name": name, "arguments": arguments});
                match id.is_empty() {
                    true => json!({"type": "function", "function": function}),
                    false => json!({"id": id, "type": "function", "function": function}),
                }
            };
            message.insert("tool_calls".to_owned(), self.calls.into_iter().map(call).collect());
        }
        let choice = json!({"message": message, "finish_reason": self.finish_reason});
        let mut out = format!("{{\"choices\":[{choice}]");
        // As its bytes came: it is kept.
        if let Some(usage) = self.usage {
            out.push_str(",\"usage\":");
            out.push_str(usage.get());
        }
        for (key, value) in [("model", self.model), ("service_tier", self.service_tier)] {
            if let Some(value) = value {
                out.push_str(&format!(",\"{key}\":{}", Value::String(value)));
            }
        }
        out.push('}');
        out.into_bytes()
    }
}

impl Assembly {
    fn grow(&mut self, delta: Map<String, Value>) -> Option<String> {
        let mut shown = None;
        for (key, value) in delta {
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                ("tool_calls", Value::Array(pieces)) => pieces.into_iter().for_each(|piece| self.call(piece)),
                ("role", role) => {
                    self.fields.insert("role".to_owned(), role);
                }
                (_, Value::String(piece)) => {
                    if let Some(Value::String(text)) = self.fields.get_mut(&key) {
                        text.push_str(&piece);
                    } else {
                        self.fields.insert(key.clone(), piece.clone().into());
                    }
                    shown = (key == "content" && !piece.is_empty()).then_some(piece).or(shown);
                }
                (_, value) => {
                    self.fields.insert(key, value);
                }
            }
        }
        shown
    }

    /// A piece belongs to the call of its index; some servers number nothing, or give every call the
    /// same number and an id of its own.
    fn call(&mut self, piece: Value) {
        let Ok(Piece { index, id, function }) = serde_json::from_value::<Piece>(piece) else { return };
        let id = id.unwrap_or_default();
        let new_id = |call: &Call| !id.is_empty() && !call.id.is_empty() && call.id != id;
        let at = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let at = at.filter(|at| !new_id(&self.calls[*at])).unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = id;
        }
        let Some(Function { name, arguments }) = function else { return };
        if let Some(name) = name.filter(|name| *name != call.name) {
            call.name.push_str(&name);
        }
        match arguments {
            Value::String(text) => call.arguments.push_str(&text),
            Value::Null => {}
            whole => call.arguments.push_str(&whole.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_together(chunks: &[Value]) -> Value {
        let mut so_far = Assembly::default();
        for chunk in chunks {
            assert!(matches!(so_far.take(&chunk.to_string()), Step::Quiet | Step::Text(_)), "{chunk}");
        }
        serde_json::from_slice(&so_far.body()).unwrap()
    }

    fn delta(delta: Value) -> Value {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
    }

    fn call(piece: Value) -> Value {
        delta(json!({"tool_calls": [piece]}))
    }

    #[test]
    fn text_and_calls_grow_and_the_usage_comes_last() {
        let body = put_together(&[
            delta(json!({"role": "assistant", "content": ""})),
            delta(json!({"content": "Hé"})),
            delta(json!({"content": "llo", "reasoning_content": "hm"})),
            call(json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}})),
            call(json!({"index": 0, "function": {"arguments": "{\"x\""}})),
            call(json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}})),
            call(json!({"index": 0, "function": {"arguments": ":1}"}})),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "model": "m"}),
            json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}, "service_tier": "flex"}),
        ]);
        let calls = json!([
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]);
        let message = json!({"role": "assistant", "content": "Héllo", "reasoning_content": "hm", "tool_calls": calls});
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 2});
        let choices = json!([{"message": message, "finish_reason": "tool_calls"}]);
        assert_eq!(body, json!({"choices": choices, "usage": usage, "model": "m", "service_tier": "flex"}));
    }

    #[test]
    fn calls_without_numbers_are_told_apart_by_their_ids() {
        let whole = |id: &str, index: Value| {
            call(json!({"index": index, "id": id, "function": {"name": id, "arguments": {"n": 1}}}))
        };
        for index in [Value::Null, json!(0)] {
            let body = put_together(&[whole("a", index.clone()), whole("b", index)]);
            let calls = body["choices"][0]["message"]["tool_calls"].as_array().unwrap().clone();
            let seen: Vec<_> = calls.iter().map(|call| (&call["id"], &call["function"]["arguments"])).collect();
            assert_eq!(seen, [(&json!("a"), &json!("{\"n\":1}")), (&json!("b"), &json!("{\"n\":1}"))]);
        }
    }

    #[test]
    fn errors_ends_and_nonsense_are_told_apart() {
        let mut so_far = Assembly::default();
        assert_eq!(so_far.take("{\"error\":{\"message\":\"x\"}}"), Step::Error);
        assert_eq!(so_far.take("[DONE]"), Step::Done);
        assert_eq!(so_far.take("{\"choices\":[{"), Step::Broken);
        assert_eq!(so_far.take("<html>"), Step::Broken);
        assert!(!so_far.is_whole() && so_far.usage().is_none());
        so_far.take("{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}");
        assert_eq!(so_far.usage(), Some(Usage::reported(5, 2)));
        assert!(!so_far.is_whole());
    }
}
