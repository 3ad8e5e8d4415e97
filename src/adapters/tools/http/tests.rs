use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::routing::any;
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::core::crew::HttpCall;

const SECRET: &str = "sk_live-4f9a/+_x&y\"z";

/// Says back what came, and keeps it.
struct Service {
    at: String,
    seen: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn echo(
    State(seen): State<Arc<Mutex<Vec<String>>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> String {
    let headers: BTreeMap<_, _> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let said = json!({
        "method": method.as_str(), "uri": uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body), "results": [{ "text": "first\u{1b}[31m", "n": 1 }],
    });
    seen.lock().unwrap().push(said.to_string());
    said.to_string()
}

async fn status(Path(code): Path<u16>, headers: HeaderMap) -> (StatusCode, String) {
    // The longest prose a service may answer with, with the key in the middle of where it is cut.
    let key = headers.get("x-api-key").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    (StatusCode::from_u16(code).unwrap(), format!("{}your key {} is wrong", "x".repeat(980), key.unwrap_or_default()))
}

impl Service {
    async fn start() -> Service {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let html = ([("content-type", "text/html")], "<p>Hello <b>you</b></p>");
        let routes = Router::new()
            .route("/status/{code}", any(status))
            .route("/empty", any(|| async { StatusCode::NO_CONTENT }))
            .route("/page", any(move || async move { html }))
            .route("/on", any(|| async { (StatusCode::TEMPORARY_REDIRECT, [("location", "/page")], "") }))
            .route("/hang", any(|| async { std::future::pending::<()>().await }))
            .fallback(any(echo))
            .with_state(seen.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Service { at, seen, server }
    }
    fn call(&self, path: &str) -> HttpCall {
        HttpCall {
            method: "GET".into(),
            url: format!("http://{}{path}", self.at),
            net: vec![self.at.clone()],
            ..HttpCall::default()
        }
    }
}

fn schema() -> Value {
    let text = json!({ "type": "string" });
    json!({ "type": "object", "properties": { "q": text, "id": text, "n": { "type": "integer" }, "list": {}, "deep": {} } })
}

fn tool(call: HttpCall, effect: Effect) -> Http {
    let spec = ToolSpec {
        name: "probe".into(),
        description: "d".into(),
        parameters: schema(),
        effect,
        timeout_ms: 10_000,
        max_result: 4_000,
    };
    let keys = [("KEY".to_owned(), SECRET.into())].into();
    Http::new(HttpSpec { spec, call, keys }, Arc::new(Web::default())).unwrap()
}

fn asked(arguments: Value) -> ToolCall {
    ToolCall { arguments: arguments.as_object().unwrap().clone(), idempotency_key: "RUN/draft#1.2/abc".into() }
}

async fn said(tool: &Http, arguments: Value) -> Value {
    match tool.call(asked(arguments)).await {
        ToolOutcome::Ok(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn wrong(tool: &Http, arguments: Value) -> String {
    match tool.call(asked(arguments)).await {
        ToolOutcome::Error(why) => why,
        other => panic!("{other:?}"),
    }
}

/// What breaks out of an address, a query, a header or JSON.
const BREAKING: [&str; 16] = [
    "../../admin",
    "..",
    ".",
    "%2e%2e",
    "a/../b",
    "a?b=c",
    "a#b",
    "a&b=c",
    "a b",
    "a\\b",
    "\r\nHost: evil",
    "\"}, {\"x\": \"",
    "@evil.example",
    "://evil",
    "ä漢🚢",
    "a\u{0}b",
];

#[tokio::test]
async fn values_fill_path_and_query_and_stay_in_their_place() {
    let service = Service::start().await;
    let call = HttpCall {
        query: vec![("q".into(), "{q}".into()), ("in".into(), "<{q}>".into()), ("list".into(), "{list}".into())],
        ..service.call("/items/{id}/notes?old={q}&fixed=1")
    };
    let tool = tool(call, Effect::Read);
    for text in BREAKING {
        let outcome = tool.call(asked(json!({ "id": text, "q": text, "list": ["1", text] }))).await;
        if text == ".." || text == "." {
            assert!(matches!(&outcome, ToolOutcome::Error(why) if why.contains("names another place")), "{outcome:?}");
            continue;
        }
        let ToolOutcome::Ok(said) = outcome else { panic!("{text}: {outcome:?}") };
        let said: Value = serde_json::from_str(&said).unwrap();
        let url = reqwest::Url::parse(&format!("http://h{}", said["uri"].as_str().unwrap())).unwrap();
        let parts: Vec<&str> = url.path_segments().unwrap().collect();
        assert_eq!((parts.len(), parts[0], parts[2]), (3, "items", "notes"), "{text}");
        let decoded: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let expected =
            [("old", text), ("fixed", "1"), ("q", text), ("in", &format!("<{text}>")), ("list", "1"), ("list", text)];
        let expected: Vec<_> = expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(decoded, expected, "{text}");
        assert!(said["headers"]["host"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    assert!(wrong(&tool, json!({ "id": "", "q": "x" })).await.contains("argument `id` is empty"));
    assert!(wrong(&tool, json!({ "q": "x" })).await.contains("argument `id` is empty"));
    let uri = said(&tool, json!({ "id": "7" })).await["uri"].clone();
    assert_eq!(uri, "/items/7/notes?old=&fixed=1&in=%3C%3E", "a pair whose argument was not given goes with it");
}

#[tokio::test]
async fn values_fill_a_body_as_json_whatever_they_hold() {
    let service = Service::start().await;
    let tree = json!({ "text": "{q}", "say": "you said {q}", "n": "{n}", "fixed": [1, null, "{{x}}", "{list}"], "in": { "deep": "{deep}" } });
    let text = Value::from(r#"{{"text": {q}, "n": {n}, "deep": [{deep}]}}"#);
    for text_body in [false, true] {
        let body = Some(if text_body { text.clone() } else { tree.clone() });
        let tool = tool(HttpCall { method: "POST".into(), body, ..service.call("/") }, Effect::Idempotent);
        for value in BREAKING {
            let said = said(&tool, json!({ "q": value, "n": 7, "deep": { "a": value } })).await;
            let body: Value = serde_json::from_str(said["body"].as_str().unwrap()).unwrap();
            let expected = match text_body {
                true => json!({ "text": value, "n": 7, "deep": [{ "a": value }] }),
                false => json!({
                    "text": value, "say": format!("you said {value}"), "n": 7, "fixed": [1, null, "{x}"],
                    "in": { "deep": { "a": value } },
                }),
            };
            assert_eq!(body, expected);
            assert_eq!(said["headers"]["content-type"], "application/json");
            assert_eq!(said["headers"]["idempotency-key"], "RUN/draft#1.2/abc");
        }
    }
}

#[tokio::test]
async fn a_secret_is_in_the_request_and_in_nothing_that_comes_back() {
    let service = Service::start().await;
    let keyed = |path: &str| HttpCall {
        headers: vec![("X-Api-Key".into(), "env:KEY".into()), ("Authorization".into(), "Bearer env:KEY".into())],
        query: vec![("key".into(), "env:KEY".into()), ("q".into(), "{q}".into())],
        ..service.call(path)
    };
    let encoded = ["sk_live-4f9a%2F%2B_x%26y%22z", "sk_live-4f9a/+_x&y\\\"z", "sk\\_live", SECRET];
    let arguments = json!({ "q": "x" });
    for (path, result) in [("/", None), ("/", Some("/headers")), ("/", Some("/uri")), ("/", Some("/nowhere"))] {
        let call = HttpCall { result: result.map(str::to_owned), ..keyed(path) };
        let outcome = format!("{:?}", tool(call, Effect::Read).call(asked(arguments.clone())).await);
        assert!(encoded.iter().all(|text| !outcome.contains(text)), "{outcome}");
        assert!(outcome.contains("[redacted]"), "{outcome}");
    }
    let sent = service.seen.lock().unwrap().join("");
    assert!(sent.contains("Bearer sk_live-4f9a/+_x&y"), "it was sent: {sent}");
    for code in [400, 401, 404, 429, 500, 503] {
        for effect in [Effect::Read, Effect::Idempotent, Effect::Once] {
            let outcome = tool(keyed(&format!("/status/{code}")), effect).call(asked(arguments.clone())).await;
            let unknown = matches!(outcome, ToolOutcome::Unknown(_));
            assert_eq!(unknown, effect == Effect::Once && code >= 500, "{code} {effect:?}: {outcome:?}");
            let outcome = format!("{outcome:?}");
            assert!(outcome.contains(&format!("HTTP {code}")) && !outcome.contains("sk_live"), "{outcome}");
        }
    }
    // What is told of the tool itself: the variable's name.
    let HttpSpec { spec, call, .. } = HttpSpec {
        spec: tool(keyed("/"), Effect::Read).spec,
        call: keyed("/"),
        keys: [("KEY".to_owned(), SECRET.into())].into(),
    };
    let about = format!("{:?}", HttpSpec { spec, call, keys: [("KEY".to_owned(), SECRET.into())].into() });
    assert!(about.contains("env:KEY") && !about.contains("sk_live"), "{about}");
    let unset = Http { keys: BTreeMap::new(), ..tool(keyed("/"), Effect::Read) };
    assert!(wrong(&unset, arguments).await.contains("the environment variable KEY is not set"));
}

#[tokio::test]
async fn results_are_what_the_pointer_says_or_the_whole_as_text() {
    let service = Service::start().await;
    let at = |path: &str, result: Option<&str>| {
        tool(HttpCall { result: result.map(str::to_owned), ..service.call(path) }, Effect::Read)
    };
    let run = async |tool: Http| tool.call(asked(json!({}))).await;
    let ok = |text: &str| ToolOutcome::Ok(text.to_owned());
    assert_eq!(run(at("/", Some("/results/0/text"))).await, ok("first"), "no control characters");
    assert_eq!(run(at("/", Some("/results/0/n"))).await, ok("1"));
    assert_eq!(run(at("/page", None)).await, ok("Hello **you**"));
    assert_eq!(run(at("/on", None)).await, ok("Hello **you**"), "a GET is sent on");
    assert_eq!(run(at("/empty", None)).await, ok("[HTTP 204, without content]\n"));
    let ToolOutcome::Error(why) = run(at("/", Some("/gone"))).await else { panic!() };
    assert!(why.starts_with("the answer has nothing at `/gone`; it begins: {"), "{why}");
    let ToolOutcome::Error(why) = run(at("/page", Some("/a"))).await else { panic!() };
    assert!(why.starts_with("the answer is no JSON"), "{why}");
    let post = tool(HttpCall { method: "POST".into(), ..service.call("/on") }, Effect::Once);
    let ToolOutcome::Error(why) = run(post).await else { panic!() };
    assert!(why.contains("HTTP 307: the service sends on to /page, which is not followed"), "{why}");
}

#[tokio::test]
async fn a_private_host_must_be_listed_and_silence_is_unknown_only_with_effect_once() {
    let service = Service::start().await;
    let blocked = tool(HttpCall { net: vec![], ..service.call("/") }, Effect::Once);
    let why = wrong(&blocked, json!({})).await;
    assert!(why.contains("loopback") && why.contains(&format!("`net` can list `{}`", service.at)), "{why}");
    assert_eq!(service.seen.lock().unwrap().len(), 0);
    for effect in [Effect::Read, Effect::Idempotent, Effect::Once] {
        let mut tool = tool(service.call("/hang"), effect);
        tool.spec.timeout_ms = 150;
        let outcome = tool.call(asked(json!({}))).await;
        assert_eq!(matches!(outcome, ToolOutcome::Unknown(_)), effect == Effect::Once, "{outcome:?}");
    }
}

#[test]
fn every_wrong_table_is_told_with_its_key() {
    let base = HttpCall { method: "GET".into(), url: "https://api.example.com/v1/{q}".into(), ..HttpCall::default() };
    let head = |name: &str, value: &str| HttpCall { headers: vec![(name.into(), value.into())], ..base.clone() };
    let url = |url: &str| HttpCall { url: url.into(), ..base.clone() };
    let body = |body: Value| HttpCall { method: "POST".into(), body: Some(body), ..base.clone() };
    let cases = [
        (url("https://{q}.example.com/"), "url", "scheme and host are fixed"),
        (url("https://api.example.com{q}"), "url", "scheme and host are fixed"),
        (url("{q}://api.example.com/"), "url", "scheme and host are fixed"),
        (url("https://api.example.com:{n}/"), "url", "scheme and host are fixed"),
        (url("https://api.example.com\\{q}/x"), "url", "scheme and host are fixed"),
        (url("ftp://api.example.com/"), "url", "no http or https address"),
        (url("api.example.com/x"), "url", "no http or https address"),
        (url("https://me:pw@api.example.com/"), "url", "no user name or password"),
        (url("https://api.example.com/a/../{q}"), "url", "no `..`"),
        (url("https://api.example.com/a#{q}"), "url", "no `#`"),
        (url("https://api.example.com/{q"), "url", "a brace is not closed"),
        (url("https://api.example.com/{unknown}"), "url", "placeholder `{unknown}` is no argument"),
        (head("Authorization", "Bearer abc"), "headers", "keys do not belong into files"),
        (head("X-Api-Key", "abc"), "headers", "keys do not belong into files"),
        (head("Cookie", "a=b"), "headers", "keys do not belong into files"),
        (head("Host", "evil"), "headers", "set by Bosun itself"),
        (head("a b", "x"), "headers", "no name of a header"),
        (head("X", "a\nb"), "headers", "no header can carry"),
        (head("X", "env:a b"), "headers", "the name of an environment variable"),
        (HttpCall { body: Some(json!({})), ..base.clone() }, "body", "a GET has no body"),
        (body(r#"{{"a": "{q}"}}"#.into()), "body", "write `{name}` without quotes"),
        (body(r#"{{{q}: 1}}"#.into()), "body", "this is no JSON"),
        (body(json!({ "a": "{nope}" })), "body", "placeholder `{nope}`"),
        (HttpCall { result: Some("a.b".into()), ..base.clone() }, "result", "begins with `/`"),
        (HttpCall { net: vec!["host".into()], ..base.clone() }, "net", "no host with a port"),
    ];
    assert_eq!(problems(&base, &schema()), []);
    for (call, key, words) in cases {
        let wrong = problems(&call, &schema());
        assert!(wrong.iter().any(|one| one.key == key && one.message.contains(words)), "{call:?}: {wrong:?}");
    }
}
