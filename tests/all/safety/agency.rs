//! Calls that no crew allowed: unknown names, arguments that do not fit.

use boatswain::core::event::{Event, ToolEvent};
use serde_json::json;

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

const TURN: usize = 8;

/// Names that the agent was not given, or that are no names.
const UNKNOWN: [&str; 64] = [
    "files__append",
    "files__move",
    "files__read",
    "files__delete",
    "shell__run",
    "code__python",
    "web__fetch",
    "memory__save",
    "ask__human",
    "delegate",
    "others",
    "data__query",
    "text__stats",
    "bash",
    "sh",
    "eval",
    "exec",
    "system",
    "sudo",
    "curl",
    "Touch",
    "TOUCH",
    "touch ",
    " touch",
    "touch\n",
    "touch\u{0}",
    "tou\u{200b}ch",
    "tоuch",
    "ｔｏｕｃｈ",
    "touch;touch",
    "touch()",
    "touch__touch",
    "__touch",
    "touch__",
    "./touch",
    "../touch",
    "tools/touch",
    "tools.touch",
    "[tools.touch]",
    "touch#1",
    "files__Write",
    "files_write",
    "files-write",
    "files/write",
    "files____write",
    "FILES__WRITE",
    "files__*",
    "*",
    "web__*",
    "__proto__",
    "constructor",
    "toString",
    "undefined",
    "null",
    "",
    " ",
    "\u{1b}[2J",
    "<script>",
    "{{ touch }}",
    "$(touch)",
    "`touch`",
    "%touch",
    "functions.touch",
    "multi_tool_use.parallel",
];

/// Arguments that do not fit `{ name: string of 1 to 20 characters, n: an integer from 1 to 9 }`.
const MALFORMED: [&str; 68] = [
    "",
    " ",
    "{",
    "}",
    "[",
    "[]",
    "{}",
    "null",
    "true",
    "1",
    "\"x\"",
    "NaN",
    "undefined",
    "{\"name\"",
    "{\"name\":",
    "{\"name\":\"x\"",
    "{\"name\":\"x\",",
    "{\"name\":\"x\",}",
    "{name:\"x\"}",
    "{'name':'x'}",
    "{\"name\":'x'}",
    "{\"name\":\"x\"}}",
    "{\"name\":\"x\"} x",
    "{\"name\":\"x\"}{\"name\":\"y\"}",
    "[{\"name\":\"x\"}]",
    "{\"name\":\"x\"}//",
    "/**/{\"name\":\"x\"}",
    "{\"name\":\"x\n\"}",
    "{\"name\":\"\\x\"}",
    "{\"name\":\"\\ud800\"}",
    "{\"name\":\"x\"\u{0}}",
    "\u{feff}{\"name\":\"x\"}",
    "{\"name\":1}",
    "{\"name\":null}",
    "{\"name\":true}",
    "{\"name\":[]}",
    "{\"name\":[\"x\"]}",
    "{\"name\":{}}",
    "{\"name\":{\"name\":\"x\"}}",
    "{\"name\":\"\"}",
    "{\"name\":\"a name of more than twenty characters\"}",
    "{\"Name\":\"x\"}",
    "{\"name \":\"x\"}",
    "{\"n\":1}",
    "{\"name\":\"x\",\"n\":0}",
    "{\"name\":\"x\",\"n\":10}",
    "{\"name\":\"x\",\"n\":-1}",
    "{\"name\":\"x\",\"n\":1.5}",
    "{\"name\":\"x\",\"n\":\"1\"}",
    "{\"name\":\"x\",\"n\":1e400}",
    "{\"name\":\"x\",\"n\":null}",
    "{\"name\":\"x\",\"n\":99999999999999999999999}",
    "{\"name\":\"x\",\"more\":1}",
    "{\"name\":\"x\",\"\":1}",
    "{\"name\":\"x\",\"__proto__\":{}}",
    "{\"name\":\"x\",\"effect\":\"read\"}",
    "{\"name\":\"x\",\"command\":[\"rm\"]}",
    "{\"name\":\"x\",\"approval\":\"never\"}",
    "{\"name\":\"x\",\"name\":1}",
    "{\"arguments\":{\"name\":\"x\"}}",
    "{\"name\":\"x\",\"n\":[1]}",
    "{\"name\":\"x\",\"n\":{\"$gt\":0}}",
    "name=x",
    "<name>x</name>",
    "name: x",
    "x",
    "{\"name\":\"x\",\"n\":0x1}",
    "{\"name\":\"x\",\"n\":01}",
];

/// 200 different calls of the model, by name and arguments.
fn hostile() -> Vec<(String, String)> {
    let good = "{\"name\":\"x\"}".to_owned();
    let unknown = UNKNOWN.iter().map(|name| ((*name).to_owned(), good.clone()));
    let mut all: Vec<(String, String)> = unknown.collect();
    for tool in ["touch", "post"] {
        all.extend(MALFORMED.iter().map(|arguments| (tool.to_owned(), (*arguments).to_owned())));
    }
    // Of the builtin, which has a schema of its own.
    all.truncate(192);
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let written = [
        "{\"path\":\"x\"}",
        "{\"text\":\"x\"}",
        "{\"path\":1,\"text\":\"x\"}",
        "{\"path\":\"\",\"text\":\"x\"}",
        "{\"path\":[\"x\"],\"text\":\"x\"}",
        "{\"path\":\"x\",\"text\":\"x\",\"mode\":\"0777\"}",
        "{\"path\":\"x\",\"text\":null}",
        &format!("{{\"path\":\"x\",\"text\":{deep}}}"),
    ];
    all.extend(written.iter().map(|arguments| ("files__write".to_owned(), (*arguments).to_owned())));
    all
}

const CREW: &str = r#"
schema = 1
[budget]
max_usd = 100
max_tokens = 100_000_000
[crew]
output = "t"
[agents.a]
model = "m"
tools = ["touch", "post", "files.write"]
max_turns = 40
max_tool_calls = 8
[agents.other]
model = "m"
tools = ["others", "files.append"]
[tasks.t]
agent = "a"
description = "Work"
for_each = "rows.csv"
optional = true
[tasks.never]
agent = "other"
description = "Work"
when = "false"
[tools.touch]
kind = "command"
description = "Touches"
command = ["touch", "executed-{name}"]
isolation = "none"
effect = "idempotent"
schema = { type = "object", properties = { name = { type = "string", minLength = 1, maxLength = 20 }, n = { type = "integer", minimum = 1, maximum = 9 } }, required = ["name"], additionalProperties = false }
[tools.others]
kind = "command"
description = "Touches"
command = ["touch", "executed"]
isolation = "none"
[tools.post]
kind = "http"
description = "Posts"
method = "POST"
url = "http://ADDRESS/post/{name}"
net = ["ADDRESS"]
schema = { type = "object", properties = { name = { type = "string", minLength = 1, maxLength = 20 }, n = { type = "integer", minimum = 1, maximum = 9 } }, required = ["name"], additionalProperties = false }
"#;

/// A turn that asks for these calls.
fn turn(calls: &[(String, String)], number: usize) -> Behaviour {
    let asks: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(at, (name, arguments))| {
            json!({ "id": format!("call_{number}_{at}"), "type": "function",
                "function": { "name": name, "arguments": arguments } })
        })
        .collect();
    let message = json!({ "role": "assistant", "content": null, "tool_calls": asks });
    let whole = json!({ "id": "c", "object": "chat.completion", "model": "stand-in",
        "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17 } });
    Behaviour::Body(whole.to_string())
}

#[test]
fn two_hundred_calls_that_no_crew_allows_and_none_is_executed() {
    let provider = Provider::start();
    let base = provider.server.base_url();
    let address = base.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let folder = Folder::new(&(CREW.replace("ADDRESS", &address) + &provider.tables("")));
    let calls = hostile();
    assert_eq!(calls.len(), 200);
    let different: std::collections::BTreeSet<_> = calls.iter().collect();
    assert_eq!(different.len(), 200);
    for (number, calls) in calls.chunks(TURN).enumerate() {
        provider.push(turn(calls, number));
    }
    folder.file("rows.csv", &format!("n\n{}", (0..16).map(|n| format!("{n}\n")).collect::<String>()));
    let before: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let ran = folder.bosun(&["run", "crew.toml"]);
    let (mut refused, mut started) = (0, Vec::new());
    for event in folder.events() {
        match event {
            Event::Tool(ToolEvent::Refused { .. }) => refused += 1,
            Event::Tool(ToolEvent::Started { tool, .. }) => started.push(tool),
            _ => {}
        }
    }
    // An agent that asks for nothing but nonsense is begun anew: the rest of its calls is not even refused.
    assert!(refused >= 80, "{refused}: {}", ran.err);
    assert!(started.is_empty(), "{started:?}");
    let seen = provider.seen();
    assert_eq!(seen.iter().filter(|one| one.path.starts_with("/post")).count(), 0);
    assert!(seen.len() > 25, "all 25 turns of 8 calls were heard: {}", ran.err);
    let mut after: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    after.retain(|name| name != ".bosun" && !before.contains(name));
    assert!(after.is_empty(), "{after:?}");
    folder.verify();
}

#[test]
fn the_same_crew_executes_what_it_allows() {
    let provider = Provider::start();
    let base = provider.server.base_url();
    let address = base.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let folder = Folder::new(&(CREW.replace("ADDRESS", &address) + &provider.tables("")));
    let good = |tool: &str| (tool.to_owned(), "{\"name\":\"x\",\"n\":1}".to_owned());
    folder.file("rows.csv", "n\n1\n");
    provider.push(turn(&[good("touch"), good("post")], 0));
    folder.bosun(&["run", "crew.toml"]).expect(0);
    assert!(folder.path().join("executed-x").exists());
    assert!(provider.seen().iter().any(|one| one.path == "/post/x"));
}
