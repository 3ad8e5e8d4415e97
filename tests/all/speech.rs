//! What providers say, in the words of each wire, whole or as a stream. Invariant: both forms of one
//! answer mean the same.

use serde_json::{Value, json};

use super::stand_in::Behaviour;

/// A wire that a stand-in speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Chat,
    Anthropic,
    Responses,
    Gemini,
}

/// A wire, and how its answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tongue {
    pub wire: Wire,
    pub stream: bool,
}

pub const ALL: [Tongue; 8] = [
    Tongue { wire: Wire::Chat, stream: false },
    Tongue { wire: Wire::Chat, stream: true },
    Tongue { wire: Wire::Anthropic, stream: false },
    Tongue { wire: Wire::Anthropic, stream: true },
    Tongue { wire: Wire::Responses, stream: false },
    Tongue { wire: Wire::Responses, stream: true },
    Tongue { wire: Wire::Gemini, stream: false },
    Tongue { wire: Wire::Gemini, stream: true },
];

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    Length,
    Filter,
    Refusal,
}

/// Both totals that an answer is billed with.
pub const USED: (u64, u64) = (50, 7);

impl Tongue {
    /// `[providers.p]` and the model `m` of it, at $1 a million tokens in and $10 out.
    pub fn tables(self, base: &str) -> String {
        let root = base.trim_end_matches("/v1");
        let (kind, base) = match self.wire {
            Wire::Chat => ("openai", base),
            Wire::Anthropic => ("anthropic", root),
            Wire::Responses => ("openai-responses", base),
            Wire::Gemini => ("gemini", root),
        };
        format!(
            "[providers.p]\nkind = \"{kind}\"\nbase_url = \"{base}\"\ntimeout = \"20s\"\nstream = {}\n\
             [models.m]\nid = \"p/m\"\nprice = {{ input = 1.0, output = 10.0 }}\nmax_output = 100\n",
            self.stream
        )
    }

    pub fn answer(self, text: &str) -> Behaviour {
        self.says(text, End::Whole)
    }
    pub fn says(self, text: &str, end: End) -> Behaviour {
        self.behaviour(&self.turn(text, &[], end, self.usage()))
    }
    pub fn calls(self, calls: &[(&str, &str)]) -> Behaviour {
        self.behaviour(&self.turn("", calls, End::Whole, self.usage()))
    }
    /// `usage`: what stands in its place, or nothing at all.
    pub fn used(self, text: &str, usage: Option<Value>) -> Behaviour {
        self.behaviour(&self.turn(text, &[], End::Whole, usage))
    }
    /// Counts in this wire's own words.
    pub fn counts(self, input: Value, output: Value) -> Value {
        match self.wire {
            Wire::Chat => json!({"prompt_tokens": input, "completion_tokens": output}),
            Wire::Anthropic => json!({"input_tokens": input, "output_tokens": output,
                "cache_read_input_tokens": 0, "cache_creation_input_tokens": null}),
            Wire::Responses => json!({"input_tokens": input, "output_tokens": output,
                "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}),
            Wire::Gemini => json!({"promptTokenCount": input, "candidatesTokenCount": output}),
        }
    }
    pub fn usage(self) -> Option<Value> {
        Some(self.counts(USED.0.into(), USED.1.into()))
    }

    /// A refusal by status, with the wire's own error body.
    pub fn status(self, status: u16, code: &str, wait: Option<u64>) -> Behaviour {
        let wait = wait.map(|ms| ("retry-after-ms", ms.to_string())).into_iter().collect();
        let body = match self.wire {
            Wire::Chat | Wire::Responses => {
                json!({"error": {"message": "as told", "type": "t", "param": null, "code": code}})
            }
            Wire::Anthropic => json!({"type": "error", "request_id": "r",
                "error": {"type": "t", "message": "as told", "details": {"error_code": code}}}),
            Wire::Gemini => json!({"error": {"code": status, "message": "as told", "status": code, "details": []}}),
        };
        Behaviour::Status(status, wait, body.to_string())
    }

    /// A stream that says a little and breaks off.
    pub fn cut_stream(self) -> Behaviour {
        let text = self.events(&self.turn("BADBADBAD of which", &[], End::Whole, self.usage()));
        let at = text.find("BAD").unwrap() + 100;
        Behaviour::Events { text: text[..at].to_owned(), piece: 7, cut: true }
    }
    /// A stream that ends as a stream ends, without the event that ends an answer.
    pub fn short_stream(self) -> Behaviour {
        let turn = self.turn("BADBADBAD", &[], End::Whole, self.usage());
        let events = self.list(&turn);
        // Without its usage either: where both have come, nothing is missing but the word.
        let missing = if self.wire == Wire::Chat { 2 } else { 1 };
        Behaviour::Events { text: sse(&events[..events.len() - missing]), piece: 64, cut: false }
    }
    /// An error after a good status and a part of the answer.
    pub fn error_in_stream(self) -> Behaviour {
        let turn = self.turn("BADBADBAD", &[], End::Whole, self.usage());
        let mut events = self.list(&turn);
        events.truncate(events.len() - 1);
        events.push(match self.wire {
            Wire::Chat => json!({"error": {"message": "as told", "code": "server_error"}}),
            Wire::Anthropic => json!({"type": "error", "error": {"type": "overloaded_error", "message": "as told"}}),
            Wire::Responses => json!({"type": "error", "code": "server_error", "message": "as told", "param": null}),
            Wire::Gemini => json!({"error": {"code": 503, "message": "as told", "status": "UNAVAILABLE"}}),
        });
        Behaviour::Events { text: sse(&events), piece: 64, cut: false }
    }

    /// How a request shows a turn of the model.
    pub fn own_role(self) -> &'static str {
        match self.wire {
            Wire::Chat | Wire::Anthropic | Wire::Responses => "\"role\":\"assistant\"",
            Wire::Gemini => "\"role\":\"model\"",
        }
    }

    /// The whole answer, as its wire has it.
    pub fn turn(self, text: &str, calls: &[(&str, &str)], end: End, usage: Option<Value>) -> Value {
        match self.wire {
            Wire::Chat => chat(text, calls, end, usage),
            Wire::Anthropic => message(text, calls, end, usage),
            Wire::Responses => response(text, calls, end, usage),
            Wire::Gemini => content(text, calls, end, usage),
        }
    }
    pub fn behaviour(self, turn: &Value) -> Behaviour {
        match self.stream {
            false => Behaviour::Body(turn.to_string()),
            true => Behaviour::Events { text: self.events(turn), piece: 50, cut: false },
        }
    }
    pub fn events(self, turn: &Value) -> String {
        sse(&self.list(turn))
    }
    fn list(self, turn: &Value) -> Vec<Value> {
        match self.wire {
            Wire::Chat => chat_chunks(turn),
            Wire::Anthropic => message_events(turn),
            Wire::Responses => response_events(turn),
            Wire::Gemini => content_chunks(turn),
        }
    }
}

fn sse(events: &[Value]) -> String {
    let one = |event: &Value| match event["type"].as_str() {
        None if event.is_string() => format!("data: {}\n\n", event.as_str().unwrap()),
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\r\n\r\n"),
    };
    events.iter().map(one).collect()
}

fn chat(text: &str, calls: &[(&str, &str)], end: End, usage: Option<Value>) -> Value {
    let mut said = json!({"role": "assistant", "content": text});
    if end == End::Refusal {
        said = json!({"role": "assistant", "content": null, "refusal": text});
    }
    if !calls.is_empty() {
        let call = |(n, (name, arguments)): (usize, &(&str, &str))| {
            let function = json!({"name": name, "arguments": arguments});
            json!({"id": format!("c{n}"), "type": "function", "function": function})
        };
        said["tool_calls"] = calls.iter().enumerate().map(call).collect();
    }
    let finish = match end {
        End::Whole if !calls.is_empty() => "tool_calls",
        End::Whole | End::Refusal => "stop",
        End::Length => "length",
        End::Filter => "content_filter",
    };
    let choice = json!({"index": 0, "message": said, "finish_reason": finish});
    let mut all = json!({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]});
    if let Some(usage) = usage {
        all["usage"] = usage;
    }
    all
}

/// Chunks of a completion: the role, pieces of text and of calls, the finish, the usage, `[DONE]`.
pub fn chat_chunks(whole: &Value) -> Vec<Value> {
    let chunk = |delta: Value, finish: &Value| {
        json!({"object": "chat.completion.chunk", "model": "m", "usage": null,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let (said, none) = (&whole["choices"][0]["message"], Value::Null);
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), &none)];
    for key in ["content", "refusal"] {
        chunks.extend(pieces(said[key].as_str().unwrap_or_default()).map(|piece| chunk(json!({key: piece}), &none)));
    }
    for (n, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let function = json!({"name": call["function"]["name"], "arguments": ""});
        let begun = json!({"index": n, "id": call["id"], "type": "function", "function": function});
        chunks.push(chunk(json!({"tool_calls": [begun]}), &none));
        for piece in pieces(call["function"]["arguments"].as_str().unwrap()) {
            let more = json!({"index": n, "function": {"arguments": piece}});
            chunks.push(chunk(json!({"tool_calls": [more]}), &none));
        }
    }
    chunks.push(chunk(json!({}), &whole["choices"][0]["finish_reason"]));
    if let Some(usage) = whole.get("usage") {
        chunks.push(json!({"object": "chat.completion.chunk", "model": "m", "choices": [], "usage": usage}));
    }
    chunks.push("[DONE]".into());
    chunks
}

fn message(text: &str, calls: &[(&str, &str)], end: End, usage: Option<Value>) -> Value {
    let mut content: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(n, (name, arguments))| {
            let input: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({"broken": arguments}));
            json!({"type": "tool_use", "id": format!("toolu_{n}"), "name": name, "input": input})
        })
        .collect();
    if !text.is_empty() {
        content.insert(0, json!({"type": "text", "text": text}));
    }
    let stop = match end {
        End::Whole if !calls.is_empty() => "tool_use",
        End::Whole => "end_turn",
        End::Length => "max_tokens",
        // It has no filter of its own: what comes nearest is a full window.
        End::Filter => "model_context_window_exceeded",
        End::Refusal => "refusal",
    };
    let mut all = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
        "stop_reason": stop, "stop_sequence": null});
    if let Some(usage) = usage {
        all["usage"] = usage;
    }
    all
}

/// The events of a message: its usage's input with the start, the rest with the delta at the end.
pub fn message_events(whole: &Value) -> Vec<Value> {
    let mut begun = whole.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    // As the vendor has it: one token of output was counted when the stream began.
    if let Some(Value::Object(usage)) = begun.get_mut("usage") {
        usage.remove("output_tokens_details");
        usage.entry("output_tokens").and_modify(|count| *count = json!(1));
    }
    let mut events = vec![json!({"type": "message_start", "message": begun}), json!({"type": "ping"})];
    for (index, block) in whole["content"].as_array().unwrap().iter().enumerate() {
        let mut start = block.clone();
        let mut deltas = Vec::new();
        for (key, kind) in [("text", "text_delta"), ("thinking", "thinking_delta")] {
            if let Some(text) = block[key].as_str() {
                start[key] = "".into();
                deltas.extend(pieces(text).map(|piece| json!({"type": kind, key: piece})));
            }
        }
        if let Some(signature) = block["signature"].as_str() {
            start["signature"] = "".into();
            deltas.push(json!({"type": "signature_delta", "signature": signature}));
        }
        if block["input"].is_object() {
            start["input"] = json!({});
            let input = block["input"].to_string();
            deltas.extend(pieces(&input).map(|piece| json!({"type": "input_json_delta", "partial_json": piece})));
        }
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        events.extend(deltas.into_iter().map(|d| json!({"type": "content_block_delta", "index": index, "delta": d})));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let delta = json!({"stop_reason": whole["stop_reason"], "stop_sequence": null});
    let mut last = json!({"type": "message_delta", "delta": delta});
    if let Some(usage) = whole.get("usage") {
        last["usage"] = usage.clone();
    }
    events.push(last);
    events.push(json!({"type": "message_stop"}));
    events
}

fn response(text: &str, calls: &[(&str, &str)], end: End, usage: Option<Value>) -> Value {
    let part = match end {
        End::Refusal => json!({"type": "refusal", "refusal": text}),
        End::Whole | End::Length | End::Filter => json!({"type": "output_text", "text": text, "annotations": []}),
    };
    let said = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]});
    let called = calls.iter().enumerate().map(|(n, (name, arguments))| {
        json!({"type": "function_call", "id": format!("fc_{n}"), "call_id": format!("c{n}"), "name": name,
            "arguments": arguments, "status": "completed"})
    });
    let output: Vec<Value> = if calls.is_empty() { vec![said] } else { called.collect() };
    let (status, why) = match end {
        End::Whole | End::Refusal => ("completed", Value::Null),
        End::Length => ("incomplete", json!({"reason": "max_output_tokens"})),
        End::Filter => ("incomplete", json!({"reason": "content_filter"})),
    };
    let mut all = json!({"id": "resp_1", "object": "response", "status": status, "error": null,
        "incomplete_details": why, "model": "m", "service_tier": "default", "output": output});
    if let Some(usage) = usage {
        all["usage"] = usage;
    }
    all
}

/// The events of a response: what it comes to, item by item, and then itself.
pub fn response_events(response: &Value) -> Vec<Value> {
    let begun = json!({"id": response["id"], "status": "in_progress", "output": []});
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
    ];
    for (n, item) in response["output"].as_array().unwrap().iter().enumerate() {
        events.push(json!({"type": "response.output_item.added", "output_index": n, "item": {"type": item["type"]}}));
        for part in item["content"].as_array().into_iter().flatten() {
            let (kind, text) = match part["refusal"].as_str() {
                Some(text) => ("response.refusal.delta", text),
                None => ("response.output_text.delta", part["text"].as_str().unwrap_or_default()),
            };
            for piece in pieces(text) {
                events.push(json!({"type": kind, "output_index": n, "delta": piece}));
            }
        }
        for piece in pieces(item["arguments"].as_str().unwrap_or_default()) {
            events.push(json!({"type": "response.function_call_arguments.delta", "output_index": n, "delta": piece}));
        }
        events.push(json!({"type": "response.output_item.done", "output_index": n, "item": item}));
    }
    let last = format!("response.{}", response["status"].as_str().unwrap());
    events.push(json!({"type": last, "response": response}));
    events
}

fn content(text: &str, calls: &[(&str, &str)], end: End, usage: Option<Value>) -> Value {
    let mut parts: Vec<Value> = calls
        .iter()
        .map(|(name, arguments)| {
            let args: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({"broken": arguments}));
            json!({"functionCall": {"name": name, "args": args}})
        })
        .collect();
    if !text.is_empty() {
        parts.insert(0, json!({"text": text}));
    }
    let finish = match end {
        End::Whole => "STOP",
        End::Length => "MAX_TOKENS",
        End::Filter => "SAFETY",
        // It has no refusal of its own: what comes nearest is a block.
        End::Refusal => "PROHIBITED_CONTENT",
    };
    let candidate = json!({"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0});
    let mut all = json!({"candidates": [candidate], "modelVersion": "m", "responseId": "r"});
    if let Some(usage) = usage {
        all["usageMetadata"] = usage;
    }
    all
}

/// A chunk per part, texts in pieces; the finish and the usage with the last, which has no parts.
pub fn content_chunks(whole: &Value) -> Vec<Value> {
    let mut chunks = Vec::new();
    let chunk = |part: Value| json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}], "modelVersion": "m"});
    for part in whole["candidates"][0]["content"]["parts"].as_array().unwrap() {
        match (part["text"].as_str(), part.as_object().unwrap().len()) {
            (Some(text), 1) => chunks.extend(pieces(text).map(|piece| chunk(json!({"text": piece})))),
            _ => chunks.push(chunk(part.clone())),
        }
    }
    let mut last = whole.clone();
    last["candidates"][0]["content"] = json!({"role": "model"});
    chunks.push(last);
    chunks
}

/// Three characters at a time.
fn pieces(text: &str) -> impl Iterator<Item = String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(3).map(|piece| piece.iter().collect()).collect::<Vec<String>>().into_iter()
}
