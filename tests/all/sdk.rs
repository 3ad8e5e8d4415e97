//! The vendors' own SDKs and Bosun say the same conversations to one recorder. Invariant: every field in
//! which they differ stands here with its reason.
//!
//! `BOSUN_TEST_PYTHON=VENV/bin/python cargo test --test all -- --ignored --nocapture sdk::`, with `anthropic` and
//! `openai` installed in that environment. Compared with anthropic 2.11.0 and openai 3.52.0 in November 2026.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use boatswain::adapters::models::anthropic::{Anthropic, AnthropicSpec};
use boatswain::adapters::models::openai::{Dialect, OpenAi, OpenAiSpec};
use boatswain::core::chat::{Effect, Message, ModelRequest, OutputSchema, Settings, ToolAsk, ToolSpec};
use boatswain::core::ids::{CallId, Name, RunId};
use boatswain::ports::model::{Model, Unwatched};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::speech::{End, Tongue, Wire};
use super::stand_in::{Seen, StandIn};

const KEY: &str = "sk-test-0123456789abcdef";

/// Fields that differ, by a part of their path, and why.
const REASONS: [(&str, &str); 11] = [
    ("header accept-encoding", "no compression is built in: answers are small, and their bytes are kept"),
    ("header accept", "a provider answers JSON, or the stream that the body asks for"),
    ("header user-agent", "each says who it is"),
    ("header x-stainless", "the SDK tells its language, runtime and retry count: nobody's business"),
    ("header connection", "HTTP/1.1 keeps connections without being told"),
    ("header content-length", "follows from the body"),
    (
        "messages[",
        "a text is sent as a list of one block, which is what the SDK's string is short for, so that \
      results and marks can stand beside it; or the same input with other spaces",
    ),
    ("stream_options", "usage is asked for, or the call could not be booked; padding is not"),
    ("response_format.json_schema", "named for what it is; the class's own titles are not sent"),
    ("output_config.format.schema", "the class's own titles are not sent"),
    ("stream", "the SDK says `false` where nothing need be said"),
];

struct Case {
    name: &'static str,
    wire: Wire,
    how: &'static str,
    request: ModelRequest,
    /// What a program gives the SDK.
    kwargs: Value,
    /// Paths in which they may differ besides the headers.
    differ: &'static [&'static str],
}

fn request(model: &str, messages: &[Message]) -> ModelRequest {
    ModelRequest {
        run: RunId::from_random(1),
        call: CallId::parse("draft.1").unwrap(),
        agent: Name::new("writer").unwrap(),
        attempt: 1,
        model: model.into(),
        messages: messages.iter().map(|message| message.encode().text).collect(),
        own_turns: Default::default(),
        tools: Vec::new().into(),
        schema: None,
        settings: Settings { max_output: 4096, ..Settings::default() },
        extra: Arc::default(),
    }
}

fn reads() -> ToolSpec {
    ToolSpec {
        name: "files.read".into(),
        description: "Reads.".into(),
        parameters: parameters(),
        effect: Effect::Read,
        timeout_ms: 1,
        max_result: 1,
    }
}
fn parameters() -> Value {
    json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]})
}

fn verdict() -> Option<Arc<OutputSchema>> {
    let schema = json!({"type": "object", "properties": {"verdict": {"enum": ["approve", "revise"], "type": "string"},
        "issues": {"items": {"type": "string"}, "type": "array"}},
        "required": ["verdict", "issues"], "additionalProperties": false});
    Some(Arc::new(OutputSchema { name: "Result".into(), schema }))
}

fn talk() -> Vec<Message> {
    let ask = |id: &str, path: &str| ToolAsk {
        id: id.into(),
        name: "files__read".into(),
        arguments: json!({"path": path}).to_string(),
    };
    vec![
        Message::System { content: "Be brief.".into() },
        Message::User { content: "Read é".into() },
        Message::Assistant { content: "I look.".into(), tool_calls: vec![ask("a", "x"), ask("b", "y")] },
        Message::Tool { tool_call_id: "a".into(), content: "X".into() },
        Message::Tool { tool_call_id: "b".into(), content: "Y".into() },
    ]
}

fn plain() -> Vec<Message> {
    vec![Message::System { content: "Be brief.".into() }, Message::User { content: "Say é".into() }]
}

fn anthropic_cases() -> Vec<Case> {
    let model = "claude-sonnet-4-5";
    let said = json!([{"role": "user", "content": "Say é"}]);
    let base = json!({"model": model, "max_tokens": 4096, "system": "Be brief.", "messages": said});
    let with = |more: Value| merged(&base, &more);
    let uses = json!([{"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "a", "name": "files__read", "input": {"path": "x"}},
        {"type": "tool_use", "id": "b", "name": "files__read", "input": {"path": "y"}}]);
    let results = json!([{"type": "tool_result", "tool_use_id": "a", "content": "X"},
        {"type": "tool_result", "tool_use_id": "b", "content": "Y"}]);
    let turns = json!([{"role": "user", "content": "Read é"}, {"role": "assistant", "content": uses},
        {"role": "user", "content": results}]);
    let tools = json!([{"name": "files__read", "description": "Reads.", "input_schema": parameters()}]);
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 2048}});
    let text = &["messages[0].content"];
    let case = |name, how, request, kwargs, differ| Case { name, wire: Wire::Anthropic, how, request, kwargs, differ };
    let settings = Settings { max_output: 4096, reasoning: Some("medium".into()), ..Settings::default() };
    let settings = |word: &str| Settings { reasoning: Some(word.into()), ..settings.clone() };
    vec![
        case("plain", "create", request(model, &plain()), base.clone(), text),
        case("stream", "stream", request(model, &plain()), base.clone(), text),
        case(
            "tools",
            "create",
            ModelRequest { tools: vec![reads()].into(), ..request(model, &talk()) },
            with(json!({"messages": turns, "tools": tools})),
            text,
        ),
        case(
            "thinking",
            "create",
            ModelRequest { settings: settings("medium"), ..request(model, &plain()) },
            with(thinking),
            text,
        ),
        case(
            "effort",
            "create",
            ModelRequest { settings: settings("high"), ..request("claude-opus-5", &plain()) },
            with(
                json!({"model": "claude-opus-5", "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
            ),
            text,
        ),
        case(
            "schema",
            "parse",
            ModelRequest { schema: verdict(), ..request(model, &plain()) },
            base.clone(),
            &["messages[0].content", "output_config.format.schema"],
        ),
    ]
}

fn chat_cases() -> Vec<Case> {
    let model = "gpt-4.1";
    let said = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say é"}]);
    let base = json!({"model": model, "max_completion_tokens": 4096, "messages": said});
    let with = |more: Value| merged(&base, &more);
    let call = |id: &str, path: &str| {
        let function = json!({"name": "files__read", "arguments": json!({"path": path}).to_string()});
        json!({"id": id, "type": "function", "function": function})
    };
    let turns = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Read é"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call("a", "x"), call("b", "y")]},
        {"role": "tool", "tool_call_id": "a", "content": "X"}, {"role": "tool", "tool_call_id": "b", "content": "Y"}]);
    let function = json!({"name": "files__read", "description": "Reads.", "parameters": parameters()});
    let tools =
        json!({"messages": turns, "tools": [{"type": "function", "function": function}], "parallel_tool_calls": true});
    let case = |name, how, request, kwargs, differ| Case { name, wire: Wire::Chat, how, request, kwargs, differ };
    let low = Settings { max_output: 4096, reasoning: Some("low".into()), ..Settings::default() };
    vec![
        case("plain", "create", request(model, &plain()), base.clone(), &[]),
        case("stream", "stream", request(model, &plain()), base.clone(), &["stream_options"]),
        case(
            "tools",
            "create",
            ModelRequest { tools: vec![reads()].into(), ..request(model, &talk()) },
            with(tools),
            &[],
        ),
        case(
            "reasoning",
            "create",
            ModelRequest { settings: low, ..request("o4-mini", &plain()) },
            with(json!({"model": "o4-mini", "reasoning_effort": "low"})),
            &[],
        ),
        case(
            "schema",
            "parse",
            ModelRequest { schema: verdict(), ..request(model, &plain()) },
            base.clone(),
            &["response_format.json_schema", "stream"],
        ),
    ]
}

fn merged(base: &Value, more: &Value) -> Value {
    let mut all = base.as_object().unwrap().clone();
    all.extend(more.as_object().unwrap().clone());
    Value::Object(all)
}

fn client(wire: Wire, base_url: String, stream: bool) -> Box<dyn Model> {
    let (key, timeout, connections) = (Some(SecretString::from(KEY)), Duration::from_secs(20), 1);
    let secrets = Arc::default();
    if wire == Wire::Anthropic {
        return Box::new(
            Anthropic::new(AnthropicSpec { base_url, key, timeout, connections, stream, secrets }).unwrap(),
        );
    }
    let dialect = Dialect::OPENAI;
    Box::new(OpenAi::new(OpenAiSpec { base_url, key, timeout, connections, dialect, stream, secrets }).unwrap())
}

/// Paths at which two values differ, each with both.
fn differences(path: &str, ours: &Value, theirs: &Value, out: &mut BTreeMap<String, String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let none = Value::from("(not there)");
                differences(&below, a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let each = a.iter().zip(b).enumerate();
            each.for_each(|(n, (a, b))| differences(&format!("{path}[{n}]"), a, b, out));
        }
        _ if ours == theirs => {}
        _ => {
            out.insert(path.to_owned(), format!("{ours} here, {theirs} there"));
        }
    }
}

fn headers(seen: &Seen) -> Value {
    let one = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (format!("header {name}"), Value::from(value.to_str().unwrap()))
    };
    seen.headers.iter().map(one).collect()
}

fn by_sdk(python: &str, line: &Value) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/say.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    assert!(child.wait().unwrap().success(), "the SDK refused: {line}");
}

async fn compare(case: &Case, python: &str) -> Vec<String> {
    let server = StandIn::start().await;
    let tongue = Tongue { wire: case.wire, stream: case.how == "stream" };
    let said = json!({"verdict": "approve", "issues": []}).to_string();
    let usage = Some(tongue.counts(json!(50), json!(7)));
    let answer = tongue.behaviour(&tongue.turn(&said, &[], End::Whole, usage));
    server.push(answer.clone());
    server.push(answer);
    let base = match case.wire {
        Wire::Anthropic => server.base_url().trim_end_matches("/v1").to_owned(),
        Wire::Chat | Wire::Responses | Wire::Gemini => server.base_url(),
    };
    let answer = client(case.wire, base.clone(), tongue.stream).call(&case.request, &Unwatched).await.unwrap();
    assert_eq!(answer.text, said);
    let vendor = if case.wire == Wire::Anthropic { "anthropic" } else { "openai" };
    let line = json!({"vendor": vendor, "how": case.how, "base_url": base, "kwargs": case.kwargs});
    let python = python.to_owned();
    tokio::task::spawn_blocking(move || by_sdk(&python, &line)).await.unwrap();
    let seen = server.seen();
    let [ours, theirs] = seen.as_slice() else { panic!("{} requests", seen.len()) };
    let mut out = BTreeMap::new();
    assert_eq!(ours.path, theirs.path, "{vendor} {}", case.name);
    let body = |seen: &Seen| serde_json::from_str::<Value>(&seen.body).unwrap();
    differences("", &body(ours), &body(theirs), &mut out);
    let unexpected: Vec<_> =
        out.iter().filter(|(path, _)| !case.differ.iter().any(|known| path.starts_with(known))).collect();
    assert!(unexpected.is_empty(), "{vendor} {}: {unexpected:#?}", case.name);
    differences("", &headers(ours), &headers(theirs), &mut out);
    let reason = |path: &str| REASONS.iter().find(|(part, _)| path.starts_with(part)).map(|(_, why)| *why);
    let told = out.iter().map(|(path, both)| {
        let why = reason(path).unwrap_or_else(|| panic!("{vendor} {}: no reason for {path}: {both}", case.name));
        format!("{vendor} {} | {path} | {both} | {why}", case.name)
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Python with the vendors' SDKs: BOSUN_TEST_PYTHON"]
async fn the_sdks_requests_and_ours_differ_only_for_a_reason() {
    let python = std::env::var("BOSUN_TEST_PYTHON").expect("BOSUN_TEST_PYTHON names a Python with the SDKs");
    // What differs in every case is told once.
    let mut told = BTreeSet::new();
    for case in anthropic_cases().iter().chain(&chat_cases()) {
        for line in compare(case, &python).await {
            let (who, what) = line.split_once(" | ").unwrap();
            if told.insert((case.wire == Wire::Anthropic, what.to_owned())) {
                println!("{who} | {what}");
            }
        }
    }
}
