//! A server of our own that misbehaves on demand: this test binary, started again. Invariant: what it does is
//! decided by the tool that is called and by the files that its variables name.

use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::until;

/// Variables it reads: the list of its tools, where it notes what it heard, and which protocol it speaks.
pub const VARIABLES: [&str; 3] = ["MCP_TOOLS", "MCP_LOG", "MCP_ERA"];

/// Arguments that make this binary the server.
pub fn argv() -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    [&program, "mcp::server::serve", "--exact", "--ignored", "--nocapture"].map(str::to_owned).to_vec()
}

/// The tools that it has unless a file says otherwise.
pub fn tools() -> Value {
    let tool = |name: &str| {
        json!({"name": name, "title": format!("Tool {name}"), "description": format!("Does {name}."),
            "inputSchema": {"type": "object", "properties": {
                "text": {"type": "string", "description": "What to say"}, "n": {"type": "integer", "minimum": 0}},
                "required": []},
            "annotations": {"readOnlyHint": true}})
    };
    let names = [
        "echo",
        "hang",
        "crash",
        "big",
        "big_late",
        "garbage",
        "change",
        "bad",
        "env",
        "meta",
        "ask",
        "fail",
        "steps",
        "structured",
    ];
    names.map(tool).to_vec().into()
}

#[derive(Clone)]
struct Out(Arc<Mutex<std::io::Stdout>>);

impl Out {
    fn line(&self, value: &Value) {
        self.raw(&format!("{value}\n"));
    }
    fn raw(&self, text: &str) {
        let mut out = self.0.lock().unwrap();
        // Nobody may read any more.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
    fn reply(&self, id: &Value, result: Value) {
        self.line(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }
    fn says(&self, id: &Value, text: &str) {
        self.reply(id, json!({"content": [{"type": "text", "text": text}], "resultType": "complete"}));
    }
}

fn note(text: &str) {
    let Ok(path) = std::env::var("MCP_LOG") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn listed() -> Value {
    let file = std::env::var("MCP_TOOLS").ok().and_then(|path| std::fs::read_to_string(path).ok());
    file.map_or_else(tools, |text| serde_json::from_str(&text).unwrap())
}

#[test]
#[ignore = "a server, started by the other tests"]
fn serve() {
    if std::env::var("MCP_LOG").is_err() {
        return;
    }
    let modern = modern();
    let out = Out(Arc::new(Mutex::new(std::io::stdout())));
    note(&format!("pid {}", std::process::id()));
    let listener = Arc::new(Mutex::new(Value::Null));
    let (answered, answers) = std::sync::mpsc::channel();
    let answers = Arc::new(Mutex::new(answers));
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = line.map_err(drop).and_then(|line| serde_json::from_str::<Value>(&line).map_err(drop)) else {
            break;
        };
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        note(&format!("heard {method}{}", message["result"]));
        let (id, params) = (message["id"].clone(), message["params"].clone());
        match method.as_str() {
            "server/discover" if modern => out.reply(
                &id,
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
                    "capabilities": {"tools": {"listChanged": true}}}),
            ),
            "initialize" => out.reply(
                &id,
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": true}},
                    "serverInfo": {"name": "scripted", "version": "1"}}),
            ),
            "tools/list" => out.reply(
                &id,
                json!({"tools": listed(), "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}),
            ),
            "subscriptions/listen" => {
                *listener.lock().unwrap() = id.clone();
                out.line(&json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {
                    "notifications": {"toolsListChanged": true},
                    "_meta": {"io.modelcontextprotocol/subscriptionId": id}}}));
            }
            "tools/call" => {
                let (out, listener) = (out.clone(), listener.lock().unwrap().clone());
                let answers = answers.clone();
                std::thread::spawn(move || call(&out, &id, &params, &listener, &answers));
            }
            "" => answered.send(message["result"].clone()).unwrap(),
            _ if !id.is_null() => {
                out.line(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"}}));
            }
            _ => {}
        }
    }
    std::process::exit(0);
}

fn modern() -> bool {
    std::env::var("MCP_ERA").is_ok_and(|era| era == "modern")
}

/// What a person is asked, by the tool's argument.
fn asks(text: &str) -> Value {
    let name = json!({"type": "string", "description": "As in the \u{1b}[2Kpassport"});
    let schema = |properties: Value| json!({"type": "object", "properties": properties, "required": ["name"]});
    match text {
        "url" => json!({"mode": "url", "message": "Log in", "url": "http://127.0.0.1/", "elicitationId": "e"}),
        "more" => json!({"mode": "form", "message": "Who?", "requestedSchema": schema(json!({"name": name,
            "age": {"type": "integer", "minimum": 1, "default": 40},
            "tone": {"type": "string", "enum": ["red", "blue"], "default": "blue"}}))}),
        _ => json!({"mode": "form", "message": "Your \u{1b}[31mname\u{7}?",
            "requestedSchema": schema(json!({"name": name}))}),
    }
}

/// Waits for a file beside the list of tools.
fn told_to(name: &str) {
    let path = std::env::var("MCP_TOOLS").unwrap();
    until("told to", || Path::new(&path).with_file_name(name).exists());
}

/// An answer as the tool tells it.
fn told(answer: &Value) -> String {
    let content = answer.get("content").map(|content| format!(" {content}")).unwrap_or_default();
    format!("asked: {}{content}", answer["action"].as_str().unwrap_or("nothing"))
}

fn call(out: &Out, id: &Value, params: &Value, listener: &Value, answers: &Mutex<Receiver<Value>>) {
    let text = params["arguments"]["text"].as_str().unwrap_or("nothing").to_owned();
    match params["name"].as_str().unwrap_or_default() {
        "echo" => out.says(id, &format!("echo: {text}")),
        "hang" => {
            let mut child =
                Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            note(&format!("pid {}", child.id()));
            note("hangs");
            child.wait().unwrap();
        }
        "crash" => {
            eprintln!("the core melts");
            std::process::exit(3);
        }
        "big" => out.says(id, &"x".repeat(20 << 20)),
        "big_late" => {
            let content = json!([{"type": "text", "text": "x".repeat(20 << 20)}]);
            out.raw(&format!("{{\"result\":{{\"content\":{content}}},\"jsonrpc\":\"2.0\",\"id\":{id}}}\n"));
        }
        "garbage" => {
            out.raw("Listening …\n\n{\"half\": \n[1,2,3]\n\u{1b}[31mnull\n{\"jsonrpc\":\"2.0\",\"id\":99999,\"result\":{}}\n");
            out.says(id, "after garbage");
        }
        "change" => {
            let mut tools = listed();
            tools[0]["description"] = json!("Says it to all.");
            std::fs::write(std::env::var("MCP_TOOLS").unwrap(), tools.to_string()).unwrap();
            let meta = if listener.is_null() {
                json!({})
            } else {
                json!({"io.modelcontextprotocol/subscriptionId": listener})
            };
            out.line(
                &json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": meta}}),
            );
            out.says(id, "changed");
        }
        "bad" => out.raw(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":17}}\n")),
        "env" => {
            let mut names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
            names.sort();
            out.says(id, &names.join(" "));
        }
        "meta" => out.says(id, &params["_meta"].to_string()),
        "ask" if modern() => match &params["inputResponses"]["q"] {
            Value::Null => out.reply(
                id,
                json!({"resultType": "input_required", "requestState": "once",
                    "inputRequests": {"q": {"method": "elicitation/create", "params": asks(&text)}}}),
            ),
            answer => out.says(id, &told(answer)),
        },
        "ask" => {
            if text == "late" {
                note("is slow to ask");
                told_to("ask now");
            }
            let number = format!("q{id}");
            out.line(&json!({"jsonrpc": "2.0", "id": number, "method": "elicitation/create", "params": asks(&text)}));
            note("asks");
            if text == "takes back" {
                told_to("take it back");
                let params = json!({"requestId": number});
                out.line(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}));
                told_to("go on");
                return out.says(id, "taken back");
            }
            let answer = answers.lock().unwrap().recv().unwrap();
            if text == "then hangs" {
                std::thread::sleep(Duration::from_secs(60));
            }
            out.says(id, &told(&answer));
        }
        "fail" => out.reply(
            id,
            json!({"content": [{"type": "text", "text": "no such file"}], "isError": true, "resultType": "complete"}),
        ),
        "steps" => {
            let token = &params["_meta"]["progressToken"];
            for n in 1..=50 {
                out.line(&json!({"jsonrpc": "2.0", "method": "notifications/progress",
                    "params": {"progressToken": token, "progress": n, "total": 50, "message": format!("step {n}")}}));
                std::thread::sleep(Duration::from_millis(100));
            }
            out.says(id, "done");
        }
        "structured" => {
            out.reply(id, json!({"content": [], "structuredContent": {"sum": 7}, "resultType": "complete"}))
        }
        other => out.line(&json!({"jsonrpc": "2.0", "id": id,
            "error": {"code": -32602, "message": format!("no tool {other}")}})),
    }
}
