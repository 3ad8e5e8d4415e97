//! Secrets and everything that is written. Invariant: a value that was given as a secret is in the requests
//! that need it, and in nothing that is left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use boatswain::adapters::redaction::Redactor;
use boatswain::cli::out::{Color, Out};
use serde_json::json;

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

/// 20 secrets. The first twelve can be keys; what follows can only be the value of an input.
const SECRETS: [&str; 20] = [
    "sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c",
    "hunter2-hunter2",
    "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
    "AIzaSyA-1234567890_abcdefghijklmnopqrs",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s5Vz-0w_7Q",
    "dGhpcyBpcyBhIHNlY3JldA==",
    "p@ss/w0rd+with%25&odd=signs",
    "quote\"and'apostrophe`tick",
    "back\\slash\\n\\u0041",
    "(regex.*)[a-z]+$^|?{2}",
    "$HOME;$(id)&&#hash!",
    "<b>not&amp;html</b>",
    "two words and a third",
    "Grüße-aus-Köln-Straße",
    "漢字のパスワード",
    "🚢🗝️⚓🚢🗝️⚓",
    "line one\nline two\nline three",
    "tab\tand \"quotes\" and \\ back",
    "{\"user\":\"root\",\"pass\":\"toor\"}",
    "-----BEGIN KEY-----\nMIIB/+==\n-----END KEY-----",
];
const KEYS: usize = 12;

const CREW: &str = r#"
schema = 1
[budget]
max_usd = 100
max_tokens = 100_000_000
[crew]
output = "ask"
on_failure = "continue"
[inputs.pin]
secret = true
[agents.a]
model = "m"
tools = ["leak", "fail", "echo", "files.read", "files.write", "none"]
[tasks.ask]
agent = "a"
description = "Use the pin {{ pin }}"
output_file = "out/ask.md"
[tasks.direct]
tool = "echo"
args = { q = "{{ pin }}" }
[tasks.broken]
agent = "a"
description = "Break {{ pin }}"
attempts = 1
optional = true
after = ["ask"]
[tools.leak]
kind = "command"
description = "Prints a variable"
command = ["sh", "-c", "printenv TOOL_TOKEN; printenv TOOL_TOKEN >&2; cat"]
env = ["TOOL_TOKEN"]
isolation = "none"
effect = "read"
schema = { text = "string" }
[tools.fail]
kind = "command"
description = "Fails with a variable"
command = ["sh", "-c", "printenv TOOL_TOKEN >&2; exit 3"]
env = ["TOOL_TOKEN"]
isolation = "none"
effect = "read"
[tools.none]
kind = "command"
description = "Prints what it was not given"
command = ["env"]
isolation = "none"
effect = "read"
[tools.echo]
kind = "http"
description = "Says back what it was sent"
url = "http://ADDRESS/echo"
query = { q = "{q}" }
headers = { X-Service = "env:SERVICE_AUTH" }
net = ["ADDRESS"]
[notify]
command = ["sh", "-c", "cat >> notices.txt"]
"#;

/// What the stand-in says: whatever it was sent, back again, as text, as tool calls and as errors.
fn says(body: &str, secret: &str, pin: &str) -> Behaviour {
    let Ok(asked) = serde_json::from_str::<serde_json::Value>(body) else {
        let both = json!({ "you sent": body, "key": secret, "pin": pin });
        return Behaviour::Body(both.to_string());
    };
    let messages = asked["messages"].as_array().unwrap();
    let all = asked["messages"].to_string();
    if all.contains("Break ") {
        let words = json!({ "error": { "message": format!("Incorrect API key provided: {secret}, pin {pin}"), "code": secret } });
        return Behaviour::Status(400, vec![("x-request-id", "r".into())], words.to_string());
    }
    let whole = |message: serde_json::Value, finish: &str| {
        let all = json!({ "id": format!("id-{secret}"), "object": "chat.completion", "model": format!("m-{secret}"),
            "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
            "usage": { "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17, "note": secret } });
        Behaviour::Body(all.to_string())
    };
    if messages.last().unwrap()["role"] == "tool" {
        let text = format!("The key is {secret} and the pin is {pin}.");
        return whole(json!({ "role": "assistant", "content": text }), "stop");
    }
    let both = format!("{secret} {pin}");
    let calls = [
        ("leak", json!({ "text": both })),
        ("fail", json!({})),
        ("none", json!({})),
        ("echo", json!({ "q": both })),
        ("files__read", json!({ "path": "keys.txt" })),
        ("files__write", json!({ "path": "out/said.txt", "text": secret })),
        ("unknown", json!({ "say": both })),
        ("files__read", json!({ "path": secret, "pin": pin })),
    ];
    let asks = calls.iter().enumerate().map(|(at, (name, arguments))| {
        json!({ "id": format!("call_{at}"), "type": "function", "function": { "name": name, "arguments": arguments.to_string() } })
    });
    let asks: Vec<_> = asks.collect();
    whole(json!({ "role": "assistant", "content": format!("Thinking of {both}"), "tool_calls": asks }), "tool_calls")
}

/// How a value may be spelled in what is written.
fn spellings(value: &str) -> Vec<String> {
    let json = serde_json::Value::from(value).to_string();
    let url = reqwest_form(value);
    let mut all = vec![value.to_owned(), json[1..json.len() - 1].to_owned(), url];
    // A part of it would be too much already.
    all.extend(value.lines().filter(|line| line.chars().count() >= 8).map(str::to_owned));
    all
}

fn reqwest_form(value: &str) -> String {
    value
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Every sink of one run, by name.
fn sinks(folder: &Folder, provider: &Provider, value: &str) -> BTreeMap<&'static str, Vec<u8>> {
    let mut all: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
    let pin = format!("pin={value}");
    let args = ["run", "crew.toml", "--input", &pin, "--json", "-vvv", "--log-file", "bosun.log"];
    let json = folder.bosun(&args);
    let plain = folder.bosun(&["run", "crew.toml", "--input", &pin, "-vvv"]);
    assert!(provider.requests() > 0, "{}", json.err);
    all.insert("--json", json.out.into_bytes());
    all.insert("stdout", plain.out.into_bytes());
    all.insert("stderr and its log", [plain.err, json.err].concat().into_bytes());
    let (store, runs) = (folder.store(), folder.runs());
    let (mut rows, mut blobs) = (Vec::new(), Vec::new());
    for (run, _) in &runs {
        for row in store.read(&run.run, boatswain::core::ids::Seq(1)).unwrap() {
            // Every id of a blob that the row holds.
            let text = String::from_utf8_lossy(&row.payload).into_owned();
            for word in text.split('"').filter(|word| word.len() == 64) {
                let blob = word.parse().ok().and_then(|id| store.blob(&id).unwrap());
                blobs.extend(blob.iter().flat_map(|text| text.as_bytes()));
            }
            rows.extend(text.as_bytes());
        }
    }
    assert_eq!(runs.len(), 2);
    all.insert("journal rows", rows);
    all.insert("blobs", blobs);
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap_or_default();
    let below = |path: &std::path::Path, filter: &dyn Fn(&str) -> bool| -> Vec<u8> {
        let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_file() && filter(&path.to_string_lossy())).flat_map(read).collect()
    };
    all.insert("files of the store", below(&folder.state(), &|_| true));
    all.insert("log file", below(folder.path(), &|path| path.contains("bosun.log")));
    all.insert("notices", read(folder.path().join("notices.txt")));
    // What was written on a model's word is no sink; what is the run's own result is.
    all.insert("output file", read(folder.path().join("out/ask.md")));
    let mut shown = Vec::new();
    for args in [
        &["show", "latest"][..],
        &["show", "latest", "ask"],
        &["show", "latest", "ask", "--why"],
        &["show", "latest", "broken"],
        &["show", "latest", "ask", "--json"],
        &["runs"],
        &["approvals"],
        &["cost", "latest"],
        &["audit", "log", "latest"],
        &["replay", "latest"],
        &["show", "latest", "ask", "--prompt"],
    ] {
        let said = folder.bosun(args);
        shown.extend([said.out, said.err].concat().into_bytes());
    }
    all.insert("show", shown);
    let mut errors = Vec::new();
    let wrong = format!("pni={value}");
    for args in [
        &["resume", "latest"][..],
        &["run", "crew.toml", "--input", &wrong],
        &["check", "crew.toml"],
        &["tools", "call", "leak", "crew.toml", "--args", "{\"text\":\"x\"}"],
        &["tools", "call", "fail", "crew.toml"],
    ] {
        let said = folder.bosun(args);
        errors.extend([said.out, said.err].concat().into_bytes());
    }
    all.insert("errors, and tools by hand", errors);
    all
}

fn campaign(secrets: &[(usize, &str)]) {
    for (number, secret) in secrets {
        let provider = Provider::start();
        // What cannot be a key is used beside one that can.
        let key = if *number < KEYS { secret } else { SECRETS[1] };
        let (echoed, pin) = (key.to_string(), secret.to_string());
        provider.server.respond(move |body, _| (Duration::ZERO, says(body, &echoed, &pin)));
        let base = provider.server.base_url();
        let address = base.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
        let crew = CREW.replace("ADDRESS", &address) + &provider.tables("api_key_env = \"PROVIDER\"");
        let mut folder = Folder::new(&crew);
        for name in ["PROVIDER", "SERVICE_AUTH"] {
            folder.env(name, key);
        }
        folder.env("TOOL_TOKEN", secret);
        folder.env("BOSUN_INPUT_PIN", secret);
        folder.file("keys.txt", &format!("key: {key}\npin: {secret}\n"));
        let sinks = sinks(&folder, &provider, secret);
        let seen = provider.seen();
        let sent = seen.iter().any(|one| {
            one.headers.get("authorization").is_some_and(|value| value.as_bytes().ends_with(key.as_bytes()))
        });
        let escaped = serde_json::Value::from(*secret).to_string();
        let used = seen.iter().any(|one| one.body.contains(&escaped[1..escaped.len() - 1]));
        assert!(sent && used, "the provider got neither key nor pin: {secret}");
        assert!(seen.iter().any(|one| one.path.starts_with("/echo")), "the service was called");
        assert_eq!(sinks.len(), 11);
        for (sink, bytes) in &sinks {
            assert!(!bytes.is_empty(), "{sink} is empty: nothing was looked at");
            for value in [*secret, key] {
                for spelling in spellings(value) {
                    let hit = bytes.windows(spelling.len()).position(|part| part == spelling.as_bytes());
                    let near = |at: usize| {
                        String::from_utf8_lossy(&bytes[at.saturating_sub(300)..(at + 200).min(bytes.len())])
                            .into_owned()
                    };
                    assert_eq!(
                        hit,
                        None,
                        "{value:?} is in {sink} as {spelling:?}: …{}…",
                        hit.map(near).unwrap_or_default()
                    );
                }
            }
        }
        let blobs = String::from_utf8_lossy(&sinks["blobs"]).into_owned();
        assert!(
            blobs.contains("[redacted]") || blobs.contains("⟦secret:pin"),
            "nothing was there to be hidden: {blobs}"
        );
        folder.verify();
    }
}

#[test]
fn four_secrets_are_in_none_of_twelve_sinks() {
    campaign(&[(0, SECRETS[0]), (7, SECRETS[7]), (13, SECRETS[13]), (19, SECRETS[19])]);
}

#[test]
#[ignore = "the safety table's 20 secrets; a minute"]
fn twenty_secrets_are_in_none_of_twelve_sinks() {
    campaign(&SECRETS.into_iter().enumerate().collect::<Vec<_>>());
}

/// The twelfth sink: this very test as a process of its own, which panics with a secret in its words.
#[test]
fn a_panic_says_no_secret() {
    for secret in SECRETS {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "safety::secrets::panics_with_a_secret", "--nocapture"]);
        let said = child.env("BOSUN_TEST_SECRET", secret).env("RUST_BACKTRACE", "1").output().unwrap();
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("bosun: internal error: ") && text.contains("it knows [redacted] well"), "{text}");
        for spelling in spellings(secret) {
            assert!(!text.contains(&spelling), "{text}");
        }
    }
}

#[test]
#[ignore = "the child of `a_panic_says_no_secret`"]
fn panics_with_a_secret() {
    let Ok(secret) = std::env::var("BOSUN_TEST_SECRET") else { return };
    let hide = Redactor::default();
    hide.learn(&secret);
    boatswain::cli::say_panics(std::sync::Arc::new(Out::new(Color::Never, true).hiding(hide)));
    panic!("it knows {secret} well");
}
