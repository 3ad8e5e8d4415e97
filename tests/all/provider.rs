//! The OpenAI client against a server that keeps its own count. Invariant of every test here: one
//! call is one request.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boatswain::adapters::models::line::LineSpec;
use boatswain::adapters::models::openai::{Dialect, OpenAi};
use boatswain::adapters::models::secrets::{Env, KeySource, SecretInputs, mark};
use boatswain::adapters::models::{ProviderKind, ProviderSpec, Registry, Surroundings};
use boatswain::core::chat::{
    CallFailure, Effect, FailureClass, Finish, Message, Milli, ModelAnswer, ModelRequest, OutputSchema, Settings,
    ToolSpec,
};
use boatswain::core::ids::{CallId, Name, RunId};
use boatswain::core::malformed;
use boatswain::core::money::{Count, Usage};
use boatswain::ports::model::{Model, Models, Unwatched};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::stand_in::{Behaviour, Billed, OUTPUT, StandIn, completion};

const KEY: &str = "sk-test-0123456789abcdef";

fn spec(base_url: String) -> LineSpec {
    LineSpec {
        base_url,
        key: Some(SecretString::from(KEY)),
        timeout: Duration::from_secs(20),
        connections: 4,
        stream: false,
        secrets: Arc::default(),
    }
}

fn client(server: &StandIn) -> OpenAi {
    OpenAi::new(spec(server.base_url()), Dialect::OPENAI).unwrap()
}

fn request() -> ModelRequest {
    ModelRequest {
        run: RunId::from_random(1),
        call: CallId::parse("draft#1.1").unwrap(),
        agent: Name::new("writer").unwrap(),
        attempt: 1,
        model: "gpt-4.1-mini".into(),
        messages: vec![
            Message::System { content: "Be brief.".into() }.encode().text,
            Message::User { content: "Say \"é\"\n".into() }.encode().text,
        ],
        own_turns: Default::default(),
        tools: Vec::new().into(),
        schema: None,
        settings: Settings { max_output: 64, ..Settings::default() },
        extra: Arc::default(),
    }
}

fn tool(name: &str) -> ToolSpec {
    let parameters = json!({"type":"object","properties":{"path":{"type":"string"}},"required":["path"]});
    ToolSpec {
        name: name.into(),
        description: "Reads.".into(),
        parameters,
        effect: Effect::Read,
        timeout_ms: 1,
        max_result: 1,
    }
}

/// The outcome of one call when the server behaves like that, after which it has seen one request.
async fn one(behaviour: Behaviour) -> Result<ModelAnswer, CallFailure> {
    let server = StandIn::start().await;
    server.push(behaviour);
    let outcome = client(&server).call(&request(), &Unwatched).await;
    assert_eq!(server.requests(), 1);
    outcome
}

async fn status(status: u16, headers: &[(&'static str, &str)], body: &str) -> CallFailure {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    one(Behaviour::Status(status, headers, body.into())).await.unwrap_err()
}

async fn body_of(request: &ModelRequest, dialect: Dialect) -> String {
    let server = StandIn::start().await;
    OpenAi::new(spec(server.base_url()), dialect).unwrap().call(request, &Unwatched).await.unwrap();
    server.seen().pop().unwrap().body
}

#[tokio::test]
async fn the_body_is_these_bytes() {
    let plain = body_of(&request(), Dialect::OPENAI).await;
    assert_eq!(
        plain,
        r#"{"model":"gpt-4.1-mini","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Say \"é\"\n"}],"max_completion_tokens":64}"#
    );
    // A model that the capability table does not know is passed everything.
    let full = ModelRequest {
        model: "gpt-99".into(),
        tools: vec![tool("files.read")].into(),
        settings: Settings {
            max_output: 64,
            temperature: Some(Milli(700)),
            top_p: Some(Milli(950)),
            seed: Some(-3),
            reasoning: Some("low".into()),
            without: Vec::new(),
        },
        extra: Arc::new(json!({"service_tier":"flex","seed":5}).as_object().unwrap().clone()),
        ..request()
    };
    let tail = |body: String| body.split_once("],").unwrap().1.to_owned();
    let tools = r#""tools":[{"type":"function","function":{"name":"files__read","description":"Reads.","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}}]"#;
    let rest = r#""temperature":0.7,"top_p":0.95,"reasoning_effort":"low","service_tier":"flex","seed":5}"#;
    assert_eq!(
        tail(body_of(&full, Dialect::OPENAI).await),
        format!(r#"{tools},"parallel_tool_calls":true,"max_completion_tokens":64,{rest}"#)
    );
    assert_eq!(tail(body_of(&full, Dialect::COMPATIBLE).await), format!(r#"{tools},"max_tokens":64,{rest}"#));
}

#[tokio::test]
async fn structured_output_is_strict_only_where_the_schema_is() {
    for (schema, strict) in [
        (
            json!({"type":"object","additionalProperties":false,"required":["a"],"properties":{"a":{"type":"string"}}}),
            true,
        ),
        (json!({"type":"object","properties":{"a":{"type":"string"}}}), false),
    ] {
        let output = OutputSchema { name: "verdict".into(), schema: schema.clone() };
        let body = body_of(&ModelRequest { schema: Some(Arc::new(output)), ..request() }, Dialect::OPENAI).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let format = json!({"type":"json_schema","json_schema":{"name":"verdict","schema":schema,"strict":strict}});
        assert_eq!(body["response_format"], format);
    }
}

#[tokio::test]
async fn another_tool_set_is_never_sent_in_the_place_of_the_first() {
    let server = StandIn::start().await;
    let client = client(&server);
    for i in 0..200 {
        let ask = ModelRequest { tools: vec![tool(&format!("t{i}"))].into(), ..request() };
        client.call(&ask, &Unwatched).await.unwrap();
        client.call(&ask, &Unwatched).await.unwrap();
    }
    for (at, seen) in server.seen().iter().enumerate() {
        let name = format!("\"name\":\"t{}\"", at / 2);
        assert!(seen.body.contains(&name), "{name} is not in {}", seen.body);
    }
}

#[tokio::test]
async fn what_the_worst_case_depends_on_cannot_be_set_by_extra() {
    let server = StandIn::start().await;
    for key in ["model", "messages", "n", "max_tokens", "max_completion_tokens", "stream", "tools"] {
        let extra = Arc::new([(key.to_owned(), json!(9))].into_iter().collect());
        let failure = client(&server).call(&ModelRequest { extra, ..request() }, &Unwatched).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::OurFault);
        assert!(failure.message.contains(key), "{}", failure.message);
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_plain_answer_comes_with_everything_that_is_recorded() {
    let server = StandIn::start().await;
    let answer = client(&server).call(&request(), &Unwatched).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), ("Answer 1.", Finish::Stop));
    assert_eq!(answer.request_id.as_deref(), Some("req_1"));
    assert_eq!(answer.native.unwrap().get(), r#"{"role":"assistant","content":"Answer 1."}"#);
    let Billed { requests, input, output } = server.billed();
    assert_eq!((requests, output, answer.usage), (1, OUTPUT, Usage::reported(input, output)));
    assert!(answer.raw_usage.unwrap().get().starts_with(r#"{"prompt_tokens":"#));
    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(seen.headers["content-type"], "application/json");
}

fn message(message: Value, finish: &str) -> Behaviour {
    Behaviour::Body(json!({"choices":[{"message":message,"finish_reason":finish}]}).to_string())
}

#[tokio::test]
async fn tool_calls_come_as_they_were_asked() {
    let calls = json!([
        {"id":"a","type":"function","function":{"name":"files__read","arguments":"{\"path\":\"x\"}"}},
        {"id":"b","type":"function","function":{"name":"files__read","arguments":"{not json"}},
        {"function":{"name":"c","arguments":{"p":1}}}]);
    for finish in ["tool_calls", "stop"] {
        let turn = json!({"role":"assistant","content":null,"tool_calls":calls});
        let answer = one(message(turn.clone(), finish)).await.unwrap();
        let asks: Vec<_> = answer.tool_calls.iter().map(|a| (&*a.id, &*a.name, &*a.arguments)).collect();
        let read = "files__read";
        assert_eq!(asks, [("a", read, r#"{"path":"x"}"#), ("b", read, "{not json"), ("call_3", "c", r#"{"p":1}"#)]);
        assert_eq!((answer.finish, answer.text.as_str(), answer.usage), (Finish::Tool, "", Usage::ABSENT));
        assert_eq!(answer.native.unwrap().get(), turn.to_string());
    }
}

#[tokio::test]
async fn every_finish_has_its_word() {
    let said = |content: &str| json!({"role":"assistant","content":content});
    for (turn, sent, finish) in [
        (said("x"), "stop", Finish::Stop),
        (said("x"), "length", Finish::Length),
        (said("x"), "content_filter", Finish::Filter),
        (said("x"), "eos", Finish::Stop),
        (json!({"role":"assistant","content":null,"refusal":"x"}), "stop", Finish::Refusal),
        (json!({"role":"assistant","content":[{"type":"text","text":"x"}]}), "stop", Finish::Stop),
    ] {
        let answer = one(message(turn, sent)).await.unwrap();
        assert_eq!((answer.finish, answer.text.as_str()), (finish, "x"), "{sent}");
    }
}

#[tokio::test]
async fn usage_is_told_apart_in_all_its_states() {
    let with = |usage: &str| {
        let plain = completion("x", 1, 1);
        let (head, _) = plain.split_once(",\"usage\"").unwrap();
        Behaviour::Body(format!("{head},\"usage\":{usage}}}"))
    };
    let full = r#"{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5}}"#;
    let answer = one(with(full)).await.unwrap();
    assert_eq!(answer.usage, Usage { cache_read: Count::Reported(5), ..Usage::reported(9, 4) });
    assert_eq!(answer.raw_usage.unwrap().get(), full);
    for odd in ["\"10\"", "-3", "1e30", "null"] {
        let answer = one(with(&format!(r#"{{"prompt_tokens":{odd},"completion_tokens":4}}"#))).await.unwrap();
        assert_eq!((answer.usage.input, answer.usage.output), (Count::Unparsable, Count::Reported(4)), "{odd}");
    }
    assert_eq!(one(with(r#"{"prompt_tokens":0,"completion_tokens":0}"#)).await.unwrap().usage.known(), None);
    assert_eq!(one(with("null")).await.unwrap().usage, Usage::ABSENT);
}

#[tokio::test]
async fn each_status_has_its_row_of_the_failure_table() {
    let error = |code: &str| json!({"error":{"message":"words","type":"t","param":null,"code":code}}).to_string();
    for (sent, code, class) in [
        (400, "bad", FailureClass::OurFault),
        (400, "context_length_exceeded", FailureClass::TooLong),
        (401, "invalid_api_key", FailureClass::Credentials),
        (402, "x", FailureClass::Quota),
        (403, "x", FailureClass::Credentials),
        (404, "model_not_found", FailureClass::NotFound),
        (408, "x", FailureClass::Transient),
        (409, "x", FailureClass::OurFault),
        (413, "x", FailureClass::OurFault),
        (422, "x", FailureClass::OurFault),
        (425, "x", FailureClass::Transient),
        (429, "rate_limit_exceeded", FailureClass::Transient),
        (429, "credit_balance_exhausted", FailureClass::Quota),
        (429, "organization_spend_limit_exceeded", FailureClass::Quota),
        (429, "project_spend_limit_exceeded", FailureClass::Quota),
        (429, "organization_usage_limit_exceeded", FailureClass::Quota),
        (429, "insufficient_quota", FailureClass::Quota),
        (500, "x", FailureClass::Ambiguous),
        (502, "x", FailureClass::Ambiguous),
        (503, "server_is_overloaded", FailureClass::Transient),
        (504, "x", FailureClass::Ambiguous),
        (520, "x", FailureClass::Ambiguous),
        (529, "x", FailureClass::Transient),
    ] {
        let failure = status(sent, &[], &error(code)).await;
        assert_eq!((failure.class, failure.status), (class, Some(sent)), "{sent} {code}");
        let words = format!("HTTP {sent}: words (code `{code}`)");
        let (said, place) = failure.message.split_at(words.len());
        assert_eq!(said, words);
        // What a person must mend is said with its place.
        assert_eq!(place.ends_with("/v1/chat/completions)"), class.stops_the_run(), "{place}");
        assert_eq!(place.is_empty(), !class.stops_the_run(), "{place}");
    }
    let failure = status(400, &[], r#"{"error":{"message":"no","param":"temperature","code":null}}"#).await;
    assert_eq!(failure.message, "HTTP 400: no (param `temperature`)");
    assert_eq!(status(400, &[], r#"{"error":"model is required"}"#).await.message, "HTTP 400: model is required");
    assert_eq!(status(502, &[], "").await.message, "HTTP 502: no words in the body");
}

#[tokio::test]
async fn waits_are_read_in_every_form() {
    let long_ago = ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
    for (headers, wait) in [
        (vec![("retry-after-ms", "300"), ("retry-after", "9")], Some(300)),
        (vec![("retry-after", "2")], Some(2000)),
        (vec![long_ago], Some(0)),
        (vec![("retry-after", "soon")], None),
        (vec![], None),
    ] {
        assert_eq!(status(429, &headers, "{}").await.retry_after_ms, wait, "{headers:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = StandIn::start().await;
    let to = format!("{}/chat/completions", elsewhere.base_url());
    for code in [302, 307, 308] {
        assert_eq!(status(code, &[("location", &to)], "").await.class, FailureClass::Ambiguous);
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_good_status_without_an_answer_is_malformed_and_may_be_billed() {
    for body in ["<html>Welcome</html>", "", r#"{"choices":[{"mess"#, r#"{"choices":[]}"#, "[1]"] {
        let answer = one(Behaviour::Body(body.to_owned())).await.unwrap();
        assert_eq!((answer.finish, answer.usage), (Finish::Malformed, Usage::ABSENT));
        assert_eq!(answer.text, body[..body.len().min(2048)]);
        assert!(answer.native.is_none() && answer.request_id.is_some());
    }
    let big = completion(&"x".repeat(10 << 20), 5, 5);
    let answer = one(Behaviour::Body(big.clone())).await.unwrap();
    assert_eq!((answer.finish, answer.usage), (Finish::Malformed, Usage::ABSENT));
    let words = malformed::words(&answer.text);
    let announced = format!("larger than 8 MiB ({} bytes were announced)", big.len());
    assert!(words.contains(&announced) && words.contains("`max_output`"), "{words}");
    let large = completion(&"y".repeat(7 << 20), 5, 5);
    assert_eq!(one(Behaviour::Body(large)).await.unwrap().text.len(), 7 << 20);
}

#[tokio::test]
async fn what_breaks_after_sending_is_ambiguous() {
    let failure = one(Behaviour::Cut(r#"{"choices":[{"#.into())).await.unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::Ambiguous, Some(200)));
    let server = StandIn::start().await;
    server.push(Behaviour::Hang);
    let short = LineSpec { timeout: Duration::from_millis(300), ..spec(server.base_url()) };
    let start = Instant::now();
    let failure = OpenAi::new(short, Dialect::OPENAI).unwrap().call(&request(), &Unwatched).await.unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::Ambiguous, None));
    assert!(failure.message.contains("within 300 ms"), "{}", failure.message);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!((server.requests(), server.billed().requests), (1, 1));
}

/// A server that reads one request whole, writes these bytes and closes.
fn raw(answer: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).ends_with("\"max_completion_tokens\":64}") {
            let n = socket.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..n]);
        }
        socket.write_all(answer.as_bytes()).unwrap();
    });
    format!("http://{address}/v1")
}

#[tokio::test]
async fn a_connection_that_ends_early_is_ambiguous_whatever_was_promised() {
    for answer in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"choices\":[]}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"cho\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
    ] {
        let failure =
            OpenAi::new(spec(raw(answer)), Dialect::OPENAI).unwrap().call(&request(), &Unwatched).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Ambiguous, "{answer:?}: {}", failure.message);
    }
}

#[tokio::test]
async fn what_was_never_sent_is_not_sent() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = StandIn::start().await;
    for base in [
        format!("http://{closed}/v1"),
        // A label of 64 characters: no resolver asks anyone about it.
        format!("http://{}.invalid/v1", "x".repeat(64)),
        server.base_url().replace("http://", "https://"),
    ] {
        let failure =
            OpenAi::new(spec(base.clone()), Dialect::OPENAI).unwrap().call(&request(), &Unwatched).await.unwrap_err();
        assert_eq!((failure.class, failure.status), (FailureClass::NotSent, None), "{base}: {}", failure.message);
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn no_text_ever_holds_the_key() {
    let said = format!("Incorrect API key provided: {KEY}. Authorization: Bearer {KEY}");
    let json = json!({"error":{"message":said,"param":KEY,"code":KEY}}).to_string();
    let mut texts = Vec::new();
    for body in [json.clone(), said.clone(), format!("{}{KEY}", "x".repeat(485))] {
        texts.push(status(401, &[], &body).await.message);
    }
    let body = format!("<html>{KEY} {}{KEY}", "x".repeat(2048 - 6 - KEY.len() - 1 - 10));
    texts.push(one(Behaviour::Body(body)).await.unwrap().text);
    for text in &texts {
        assert!(!text.contains(&KEY[..12]), "{text}");
        assert!(text.contains("[redacted]") || text.contains("xxxx"), "{text}");
    }
    assert!(texts[0].starts_with("HTTP 401: Incorrect API key provided: [redacted]."), "{}", texts[0]);
}

#[tokio::test]
async fn a_secret_input_exists_only_in_the_body() {
    let server = StandIn::start().await;
    let pin = Name::new("pin").unwrap();
    let secrets: SecretInputs = [(mark(&pin, 7), SecretString::from("s3cr\"et\n"))].into();
    let client = OpenAi::new(LineSpec { secrets: Arc::new(secrets), ..spec(server.base_url()) }, Dialect::OPENAI);
    let client = client.unwrap();
    let say = |mark: String| Message::User { content: format!("My pin is {mark}.") }.encode().text;
    let ask = ModelRequest { messages: vec![say(mark(&pin, 7))], ..request() };
    server.push(Behaviour::Status(400, vec![], json!({"error":{"message":"bad s3cr\"et\n!"}}).to_string()));
    let failure = client.call(&ask, &Unwatched).await.unwrap_err();
    assert_eq!(failure.message, "HTTP 400: bad [redacted]!");
    let body: Value = serde_json::from_str(&server.seen()[0].body).unwrap();
    assert_eq!(body["messages"][0]["content"], "My pin is s3cr\"et\n.");
    // What a tool or a file says is no mark of this run.
    let forged = ModelRequest { messages: vec![say("⟦secret:pin⟧".into()), say(mark(&pin, 8))], ..request() };
    client.call(&forged, &Unwatched).await.unwrap();
    assert!(!server.seen()[1].body.contains("s3cr"));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn the_registry_finds_keys_and_addresses_with_or_without_a_slash() {
    let server = StandIn::start().await;
    let name = |text: &str| Name::new(text).unwrap();
    let acme = ProviderSpec {
        base_url: Some(format!("{}/", server.base_url())),
        key: KeySource::Env("ACME_KEY".into()),
        ..ProviderSpec::new(name("acme"), ProviderKind::OpenAiCompatible)
    };
    let ollama =
        ProviderSpec { base_url: Some(server.base_url()), ..ProviderSpec::new(name("ollama"), ProviderKind::Ollama) };
    let env = Env::from([("ACME_KEY".to_owned(), "k-acme".to_owned())]);
    let registry = Registry::new([acme, ollama], Surroundings { env: Arc::new(env), ..Surroundings::default() });
    for provider in ["acme", "ollama"] {
        registry.provider(&name(provider)).unwrap().call(&request(), &Unwatched).await.unwrap();
    }
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.path == "/v1/chat/completions"));
    assert_eq!(seen[0].headers["authorization"], "Bearer k-acme");
    assert!(!seen[1].headers.contains_key("authorization"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_at_once_are_thirty_two_requests() {
    let server = StandIn::start().await;
    server.latency(Duration::from_millis(2));
    let client = Arc::new(client(&server));
    let calls: Vec<_> = (0..128)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call(&request(), &Unwatched).await.unwrap().usage.known().unwrap() })
        })
        .collect();
    let mut input = 0;
    for call in calls {
        input += call.await.unwrap().0;
    }
    assert_eq!(server.billed(), Billed { requests: 128, input, output: 128 * OUTPUT });
}

/// A figure, not a test: `cargo test --release --test all -- --ignored --nocapture provider_figures`.
#[tokio::test(flavor = "current_thread")]
#[ignore = "prints figures"]
async fn provider_figures() {
    let start = Instant::now();
    let idle = OpenAi::new(spec("https://127.0.0.1:1/v1".into()), Dialect::OPENAI).unwrap();
    let first = start.elapsed();
    drop(idle);
    let start = Instant::now();
    let server = StandIn::start().await;
    let own = client(&server);
    println!("client construction: first {first:?}, then (with a server) {:?}", start.elapsed());
    let bare = reqwest_of(&server);
    let prompt = Message::User { content: "A word or two. ".repeat(270) }.encode().text;
    let ask = ModelRequest { messages: vec![prompt], ..request() };
    own.call(&ask, &Unwatched).await.unwrap();
    let body = server.seen().pop().unwrap().body;
    const CALLS: u32 = 2000;
    for _ in 0..3 {
        let start = Instant::now();
        for _ in 0..CALLS {
            bare(body.clone()).await;
        }
        let without = start.elapsed() / CALLS;
        let start = Instant::now();
        for _ in 0..CALLS {
            own.call(&ask, &Unwatched).await.unwrap();
        }
        println!("per call, {} bytes: bare {without:?}, own {:?}", body.len(), start.elapsed() / CALLS);
    }
}

/// What a program without any adapter does: post bytes, read bytes.
fn reqwest_of(server: &StandIn) -> impl AsyncFn(String) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
    let url = format!("{}/chat/completions", server.base_url());
    async move |body: String| {
        let post = http.post(&url).header("content-type", "application/json").bearer_auth(KEY).body(body);
        post.send().await.unwrap().bytes().await.unwrap();
    }
}
