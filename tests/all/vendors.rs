//! Our requests beside those of the vendors' own SDKs, field by field. Invariant: one conversation, one
//! recorder; every difference stands in [`ALLOWED`] with its reason, and nothing stands there that is none.
//!
//! `python3 -m venv V && V/bin/pip install -r tests/sdk/requirements.txt`, then
//! `BOSUN_SDK_PYTHON=V/bin/python cargo test --test all vendors:: -- --ignored --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use boatswain::adapters::models::anthropic::Anthropic;
use boatswain::adapters::models::gemini::Gemini;
use boatswain::adapters::models::line::LineSpec;
use boatswain::adapters::models::openai::{Dialect, OpenAi};
use boatswain::adapters::models::responses::Responses;
use boatswain::core::chat::{Effect, Message, Milli, ModelAnswer, ModelRequest, OutputSchema, Settings, ToolSpec};
use boatswain::core::ids::{CallId, Name, RunId};
use boatswain::ports::model::{Model, Unwatched};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::stand_in::{Behaviour, Seen, StandIn};

const KEY: &str = "sk-test-0123456789abcdef";
const WIRES: [&str; 4] = ["chat", "responses", "anthropic", "gemini"];
const CASES: [&str; 4] = ["plain", "tools", "schema", "stream"];

/// A difference that is meant: wire and case (`*`: any), the field, and why.
type Allowed = (&'static str, &'static str, &'static str, &'static str);

const ALLOWED: [Allowed; 20] = [
    ("*", "*", "header:user-agent", "it says who asks"),
    ("*", "*", "header:x-stainless-*", "the SDK's own count of languages, systems and retries"),
    ("gemini", "*", "header:x-goog-api-client", "the same, of Google's"),
    ("*", "*", "header:accept", "one client for whole answers and streams: the body says which is wanted"),
    ("*", "*", "header:accept-encoding", "no compression: a stream would come in blocks, an answer is small"),
    ("*", "*", "header:connection", "the default of HTTP/1.1"),
    ("*", "*", "header:content-length", "follows from the other differences"),
    ("chat", "tools", "body.parallel_tool_calls", "the default, stated: several calls in one turn are handled"),
    ("responses", "tools", "body.parallel_tool_calls", "the default, stated: several calls in one turn are handled"),
    ("chat", "tools", "body.messages[2].content", "an encoded message has a text, which may be empty; both are taken"),
    (
        "*",
        "stream",
        "body.stream_options.include_obfuscation",
        "padding of each event, which costs bytes, is not wanted",
    ),
    ("responses", "*", "body.store", "the default is to keep it for 30 days"),
    ("responses", "schema", "body.include[0]", "reasoning comes back sealed, for there is no stored turn to refer to"),
    (
        "anthropic",
        "*",
        "body.messages[0].content*",
        "one block or a text mean the same; a block can be marked for the cache",
    ),
    (
        "anthropic",
        "schema",
        "body.output_config.format.schema.properties.verdict.type",
        "an enum says its type by its values",
    ),
    ("gemini", "*", "body.systemInstruction.role", "no role is read there; the SDK gives every content one"),
    (
        "gemini",
        "tools",
        "body.tools[0].functionDeclarations[0].parametersJsonSchema*",
        "the name of the REST reference",
    ),
    (
        "gemini",
        "tools",
        "body.tools[0].functionDeclarations[0].parameters_json_schema*",
        "the SDK's spelling of the same field",
    ),
    (
        "gemini",
        "schema",
        "body.generationConfig.thinkingConfig.thinking*",
        "thinkingLevel, which the SDK spells thinking_level",
    ),
    (
        "gemini",
        "tools",
        "body.contents[1].parts[0].thoughtSignature",
        "as it came; the SDK writes the same bytes in base64url",
    ),
];

/// What one request says, by field: `header:accept`, `body.messages[0].role`.
type Fields = BTreeMap<String, String>;

fn fields(seen: &Seen) -> Fields {
    let mut all = Fields::from([("path".to_owned(), seen.path.clone())]);
    for (name, value) in &seen.headers {
        all.insert(format!("header:{name}"), value.to_str().unwrap().to_owned());
    }
    // The port is another for each recorder.
    all.remove("header:host");
    flatten("body", &serde_json::from_str(&seen.body).unwrap(), &mut all);
    all
}

fn flatten(path: &str, value: &Value, all: &mut Fields) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| flatten(&format!("{path}.{key}"), value, all));
        }
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(n, value)| flatten(&format!("{path}[{n}]"), value, all));
        }
        leaf => {
            all.insert(path.to_owned(), leaf.to_string());
        }
    }
}

/// What the recorder answers, so that both sides go on.
fn answers(wire: &str, case: &str) -> Vec<Behaviour> {
    let whole = |body: Value| Behaviour::Body(body.to_string());
    let calls = match wire {
        "chat" => json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
            "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_a", "type": "function", "function": {"name": "files__read", "arguments": "{\"path\":\"notes.txt\"}"}},
                {"id": "call_b", "type": "function", "function": {"name": "files__read", "arguments": "{\"path\":\"more.txt\"}"}}]}}]}),
        "responses" => {
            json!({"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m",
            "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA+/=="},
            {"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "files__read",
                "arguments": "{\"path\":\"notes.txt\"}", "status": "completed"},
            {"type": "function_call", "id": "fc_2", "call_id": "call_b", "name": "files__read",
                "arguments": "{\"path\":\"more.txt\"}", "status": "completed"}]})
        }
        "anthropic" => {
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
            "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 2}, "content": [
            {"type": "thinking", "thinking": "hm", "signature": "EqQ+/=="},
            {"type": "tool_use", "id": "call_a", "name": "files__read", "input": {"path": "notes.txt"}},
            {"type": "tool_use", "id": "call_b", "name": "files__read", "input": {"path": "more.txt"}}]})
        }
        _ => json!({"candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": [
            {"functionCall": {"name": "files__read", "args": {"path": "notes.txt"}}, "thoughtSignature": "AbC+/w=="},
            {"functionCall": {"name": "files__read", "args": {"path": "more.txt"}}}]}}]}),
    };
    let text = match wire {
        "chat" => json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
            "finish_reason": "stop", "message": {"role": "assistant", "content": "Fine."}}]}),
        "responses" => {
            json!({"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m",
            "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "output": [
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "Fine.", "annotations": []}]}]})
        }
        "anthropic" => {
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 2},
            "content": [{"type": "text", "text": "Fine."}]})
        }
        _ => {
            json!({"candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": [{"text": "Fine."}]}}]})
        }
    };
    match case {
        "tools" => vec![whole(calls), whole(text)],
        // A stream that says nothing: what was asked is all that counts.
        "stream" => vec![Behaviour::Events { text: "data: [DONE]\n\n".into(), piece: 64, cut: false }],
        _ => vec![whole(text)],
    }
}

/// Every request of the case that the SDK made.
async fn theirs(python: &str, wire: &str, case: &str) -> Vec<Seen> {
    let server = StandIn::start().await;
    answers(wire, case).into_iter().for_each(|answer| server.push(answer));
    let base = server.base_url().trim_end_matches("/v1").to_owned();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/send.py");
    let (python, wire, case) = (python.to_owned(), wire.to_owned(), case.to_owned());
    // An SDK may not like what the recorder says: its requests are what is looked at.
    let run = move || std::process::Command::new(python).args([script, &wire, &case, &base]).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let seen = server.seen();
    assert!(!seen.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    seen
}

fn model(wire: &str, case: &str) -> &'static str {
    match (wire, case) {
        ("chat", "schema") => "gpt-5",
        ("responses", "tools" | "schema") => "gpt-5.4",
        ("chat" | "responses", _) => "gpt-4.1",
        ("anthropic", _) => "claude-opus-5-5",
        _ => "gemini-3-pro",
    }
}

fn client(wire: &str, case: &str, base: String) -> Box<dyn Model> {
    let (key, timeout, connections) = (Some(SecretString::from(KEY)), Duration::from_secs(20), 4);
    let (secrets, stream, root) = (Arc::default(), case == "stream", base.trim_end_matches("/v1").to_owned());
    let base_url = if matches!(wire, "chat" | "responses") { base } else { root };
    let line = LineSpec { base_url, key, timeout, connections, stream, secrets };
    match wire {
        "chat" => Box::new(OpenAi::new(line, Dialect::OPENAI).unwrap()),
        "responses" => Box::new(Responses::new(line).unwrap()),
        "anthropic" => Box::new(Anthropic::new(line).unwrap()),
        _ => Box::new(Gemini::new(line).unwrap()),
    }
}

fn request(talk: &Value, wire: &str, case: &str) -> ModelRequest {
    let text = |key: &str| talk[key].as_str().unwrap().to_owned();
    let tools: Vec<ToolSpec> = talk["tools"].as_array().unwrap().iter().filter(|_| case == "tools").map(spec).collect();
    let schema = (case == "schema").then(|| OutputSchema { name: "result".into(), schema: talk["schema"].clone() });
    // Anthropic refuses any temperature: the SDK is not told one.
    let warm = matches!(case, "plain" | "stream") && wire != "anthropic";
    ModelRequest {
        run: RunId::from_random(1),
        call: CallId::parse("t.1").unwrap(),
        agent: Name::new("a").unwrap(),
        attempt: 1,
        model: model(wire, case).into(),
        messages: vec![
            Message::System { content: text("system") }.encode().text,
            Message::User { content: text("user") }.encode().text,
        ],
        own_turns: BTreeMap::new(),
        tools: tools.into(),
        schema: schema.map(Arc::new),
        settings: Settings {
            max_output: talk["max_output"].as_u64().unwrap(),
            temperature: warm.then_some(Milli(700)),
            reasoning: (case == "schema").then(|| text("effort")),
            ..Settings::default()
        },
        extra: Arc::default(),
    }
}

fn spec(tool: &Value) -> ToolSpec {
    ToolSpec {
        name: tool["name"].as_str().unwrap().into(),
        description: tool["description"].as_str().unwrap().into(),
        parameters: tool["parameters"].clone(),
        effect: Effect::Read,
        timeout_ms: 1,
        max_result: 1,
    }
}

/// Every request of the case that we make.
async fn ours(talk: &Value, wire: &str, case: &str) -> Vec<Seen> {
    let server = StandIn::start().await;
    answers(wire, case).into_iter().for_each(|answer| server.push(answer));
    let client = client(wire, case, server.base_url());
    let mut request = request(talk, wire, case);
    let first = client.call(&request, &Unwatched).await;
    if case == "tools" {
        let ModelAnswer { text, tool_calls, native, verbatim, .. } = first.unwrap();
        assert_eq!(verbatim, wire != "chat");
        if verbatim {
            request.own_turns.insert(2, native.unwrap().get().into());
        }
        let ids: Vec<String> = tool_calls.iter().map(|ask| ask.id.clone()).collect();
        request.messages.push(Message::Assistant { content: text, tool_calls }.encode().text);
        for (id, result) in ids.into_iter().zip(talk["results"].as_array().unwrap()) {
            let content = result.as_str().unwrap().to_owned();
            request.messages.push(Message::Tool { tool_call_id: id, content }.encode().text);
        }
        client.call(&request, &Unwatched).await.unwrap();
    }
    server.seen()
}

/// `*` is any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).any(|i| rest.is_char_boundary(i) && glob(tail, &rest[i..]))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the vendors' SDKs: BOSUN_SDK_PYTHON"]
async fn every_difference_from_the_vendors_sdks_has_its_reason() {
    let python = std::env::var("BOSUN_SDK_PYTHON").expect("BOSUN_SDK_PYTHON names a Python that has the SDKs");
    let talk: Value = serde_json::from_str(include_str!("../sdk/conversation.json")).unwrap();
    let (mut used, mut unexplained, mut same) = (BTreeSet::new(), Vec::new(), 0);
    for wire in WIRES {
        for case in CASES {
            let (theirs, ours) = (theirs(&python, wire, case).await, ours(&talk, wire, case).await);
            assert_eq!(theirs.len(), ours.len(), "{wire} {case}: requests");
            for (n, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
                let (theirs, ours) = (fields(theirs), fields(ours));
                let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
                for name in names {
                    let (sdk, own) = (theirs.get(name), ours.get(name));
                    if sdk == own {
                        same += 1;
                        continue;
                    }
                    let line = format!("{wire} {case} {}: {name}: SDK {sdk:?}, ours {own:?}", n + 1);
                    let is = |(w, c, f, _): &&Allowed| glob(w, wire) && glob(c, case) && glob(f, name);
                    match ALLOWED.iter().position(|allowed| is(&allowed)) {
                        Some(at) => {
                            println!("{line}: {}", ALLOWED[at].3);
                            used.insert(at);
                        }
                        None => unexplained.push(line),
                    }
                }
            }
        }
    }
    println!("{same} fields are the same");
    assert!(unexplained.is_empty(), "no reason is written for\n{}", unexplained.join("\n"));
    let stale: Vec<_> = (0..ALLOWED.len()).filter(|at| !used.contains(at)).map(|at| ALLOWED[at]).collect();
    assert!(stale.is_empty(), "no difference any more: {stale:?}");
}
