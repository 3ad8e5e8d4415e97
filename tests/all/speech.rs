//! What providers say, in the words of each wire, whole or as a stream. Invariant: both forms of one
//! answer mean the same.

use serde_json::{Value, json};

use super::stand_in::Behaviour;

/// A wire that a stand-in speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Responses,
    Gemini,
}

/// A wire, and how its answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tongue {
    pub wire: Wire,
    pub stream: bool,
}

pub const ALL: [Tongue; 4] = [
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
            Wire::Responses => json!({"input_tokens": input, "output_tokens": output,
                "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}),
            Wire::Gemini => json!({"promptTokenCount": input, "candidatesTokenCount": output}),
        }
    }
    fn usage(self) -> Option<Value> {
        Some(self.counts(USED.0.into(), USED.1.into()))
    }

    /// A refusal by status, with the wire's own error body.
    pub fn status(self, status: u16, code: &str, wait: Option<u64>) -> Behaviour {
        let wait = wait.map(|ms| ("retry-after-ms", ms.to_string())).into_iter().collect();
        let body = match self.wire {
            Wire::Responses => json!({"error": {"message": "as told", "type": "t", "param": null, "code": code}}),
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
        Behaviour::Events { text: sse(&events[..events.len() - 1]), piece: 64, cut: false }
    }
    /// An error after a good status and a part of the answer.
    pub fn error_in_stream(self) -> Behaviour {
        let turn = self.turn("BADBADBAD", &[], End::Whole, self.usage());
        let mut events = self.list(&turn);
        events.truncate(events.len() - 1);
        events.push(match self.wire {
            Wire::Responses => json!({"type": "error", "code": "server_error", "message": "as told", "param": null}),
            Wire::Gemini => json!({"error": {"code": 503, "message": "as told", "status": "UNAVAILABLE"}}),
        });
        Behaviour::Events { text: sse(&events), piece: 64, cut: false }
    }

    /// How a request shows a turn of the model.
    pub fn own_role(self) -> &'static str {
        match self.wire {
            Wire::Responses => "\"role\":\"assistant\"",
            Wire::Gemini => "\"role\":\"model\"",
        }
    }

    /// The whole answer, as its wire has it.
    pub fn turn(self, text: &str, calls: &[(&str, &str)], end: End, usage: Option<Value>) -> Value {
        match self.wire {
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
            Wire::Responses => response_events(turn),
            Wire::Gemini => content_chunks(turn),
        }
    }
}

fn sse(events: &[Value]) -> String {
    let one = |event: &Value| match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\r\n\r\n"),
    };
    events.iter().map(one).collect()
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
