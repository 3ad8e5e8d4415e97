//! Servers behind an address. Invariant: what holds of a program holds of an address, and the secret of a header is
//! seen by the server alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boatswain::core::event::Outcome;
use serde_json::{Value, json};

use crate::support::Folder;

const SECRET: &str = "sk-0123456789abcdef";

/// A server on a loopback port, until the process ends; what it heard, header lines and bodies.
fn serve() -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(String::new()));
    let all = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let all = all.clone();
            std::thread::spawn(move || while one(&stream, &all).is_some() {});
        }
    });
    (port, heard)
}

/// One request and its answer.
fn one(mut stream: &TcpStream, heard: &Mutex<String>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let mut body = vec![0; field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    heard.lock().unwrap().push_str(&format!("{head}{body}\n"));
    let mut answer = |status: &str, more: &str, body: &str| {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()
    };
    if !head.starts_with("POST") {
        return answer("405 Method Not Allowed", "", "");
    }
    if head.starts_with("POST /moved") {
        return answer("307 Temporary Redirect", "Location: /elsewhere\r\n", "");
    }
    let message: Value = serde_json::from_str(&body).unwrap();
    let id = &message["id"];
    let says = |text: &str| json!({"content": [{"type": "text", "text": text}]});
    let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "h", "version": "1"}}),
        "tools/list" => json!({"tools": (["who", "big", "hang", "cut", "fail"].map(tool))}),
        "tools/call" => match message["params"]["name"].as_str().unwrap() {
            "who" => says(&format!("you are {}", field("authorization").unwrap_or_default())),
            "big" => says(&"x".repeat(20 << 20)),
            "hang" => {
                std::thread::sleep(Duration::from_secs(1000));
                return None;
            }
            "cut" => return None,
            _ => return answer("500 Internal Server Error", "", &format!("down; your key {SECRET} was seen")),
        },
        _ if id.is_null() => return answer("202 Accepted", "", ""),
        _ => {
            let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"}});
            return answer("200 OK", "", &error.to_string());
        }
    };
    answer("200 OK", "", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}

fn place(port: u16, path: &str, more: &str) -> Folder {
    let mut folder = Folder::new(&format!(
        "schema = 1\n[providers.p]\nkind = 'scripted'\nfile = 'script.toml'\n[models.m]\nid = 'p/m'\n\
         [agents.a]\nmodel = 'm'\ntools = ['h.*']\n[tasks.t]\nagent = 'a'\ndescription = 'Do it'\n\
         [tools.h]\nkind = 'mcp'\nurl = 'http://127.0.0.1:{port}/{path}'\neffect = 'read'\ntimeout = '5s'\n\
         headers = {{ Authorization = 'env:H_TOKEN' }}\n{more}\n"
    ));
    folder.env("H_TOKEN", &format!("Bearer {SECRET}"));
    folder.file(
        "script.toml",
        "[[reply]]\nstep = 't'\ntool_calls = [{ name = 'h__who', arguments = {} }]\n\
        [[reply]]\nstep = 't'\ntext = 'the end'\n",
    );
    folder
}

#[test]
fn a_header_comes_from_a_variable_and_stays_out_of_everything() {
    let (port, heard) = serve();
    let folder = place(port, "mcp", "");
    let ran = folder.bosun(&["-vvv", "run", "crew.toml"]).expect(0);
    assert!(heard.lock().unwrap().contains(&format!("Bearer {SECRET}")), "it is sent");
    folder.verify();
    let failed = folder.bosun(&["-vvv", "tools", "call", "h.fail", "crew.toml"]).expect(10);
    let mut seen =
        vec![("output", ran.out + &ran.err + &failed.out + &failed.err), ("lock", folder.read("bosun.lock"))];
    let store = folder.store();
    for event in folder.events() {
        seen.push(("event", format!("{event:?}")));
        if let boatswain::core::event::Event::Tool(boatswain::core::event::ToolEvent::Returned {
            content,
            outcome,
            ..
        }) = event
        {
            assert_eq!(outcome, Outcome::Ok);
            let text = store.blob(&content.message).unwrap().unwrap().to_string();
            assert!(text.contains("you are [secret]"), "{text}");
            seen.push(("blob", text));
        }
    }
    for (what, text) in seen {
        assert!(!text.contains(SECRET), "{what}: {text}");
    }
}

#[test]
fn a_variable_that_is_not_set_is_said_before_anything_is_sent() {
    let (port, heard) = serve();
    let mut folder = place(port, "mcp", "");
    folder.bosun(&["tools", "approve"]).expect(0);
    heard.lock().unwrap().clear();
    folder.env("H_TOKEN", " ");
    let ran = folder.bosun(&["run", "crew.toml"]).expect(4);
    assert!(ran.err.contains("needs the variable H_TOKEN, which is not set"), "{}", ran.err);
    assert_eq!(*heard.lock().unwrap(), "");
}

#[test]
fn a_call_over_http_ends_whatever_the_server_does() {
    let (port, _) = serve();
    let folder = place(port, "mcp", "");
    folder.bosun(&["tools", "approve"]).expect(0);
    for (tool, says) in [
        ("big", "h.big: the server h was lost in mid-call"),
        ("hang", "h.hang did not answer within 5000 ms"),
        ("cut", "h.cut: the server h was lost in mid-call"),
        ("fail", "h.fail: the server h was lost in mid-call"),
    ] {
        let begun = Instant::now();
        let ran = folder.bosun(&["tools", "call", &format!("h.{tool}"), "crew.toml"]).expect(10);
        assert!(ran.err.contains(says), "{tool}: {}", ran.err);
        assert!(begun.elapsed() < Duration::from_secs(15), "{tool}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_redirect_is_not_followed_and_an_address_without_a_server_is_said_so() {
    let (port, heard) = serve();
    let folder = place(port, "moved", "");
    let ran = folder.bosun(&["run", "crew.toml"]).expect(3);
    assert!(ran.err.contains("the server h cannot be reached"), "{}", ran.err);
    assert!(!heard.lock().unwrap().contains("/elsewhere"), "the header would go with it");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ran = place(gone, "mcp", "").bosun(&["run", "crew.toml"]).expect(3);
    assert!(ran.err.contains("the server h cannot be reached"), "{}", ran.err);
}
