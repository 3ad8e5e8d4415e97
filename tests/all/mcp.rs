//! MCP servers, through the real binary. Invariant: whatever a server does, a call ends, a run ends, and no process
//! is left behind.

mod browser;
mod conformance;
mod elicit;
mod http;
mod issuer;
mod oauth;
mod pinned;
pub mod server;
pub mod third;

use std::time::{Duration, Instant};

use boatswain::core::event::{Event, Outcome, ToolEvent};
use serde_json::{Value, json};

use super::support::{Folder, Ran, kill9, size, until};

/// A project with the scripted server `s`.
pub struct Place {
    pub folder: Folder,
}

impl Place {
    /// `more` is appended to the server's table; the agent is offered all of its tools.
    pub fn new(more: &str) -> Place {
        let mut folder = Folder::new("");
        folder.env("MCP_LOG", folder.path().join("log").display().to_string().as_str());
        folder.env("MCP_TOOLS", folder.path().join("tools.json").display().to_string().as_str());
        folder.env("SECRET_OF_THE_TESTER", "must not be seen");
        let (argv, env) = (json!(server::argv()), json!(server::VARIABLES));
        folder.file(
            "crew.toml",
            &format!(
                "schema = 1\n[providers.p]\nkind = 'scripted'\nfile = 'script.toml'\n[models.m]\nid = 'p/m'\n\
                 [agents.a]\nmodel = 'm'\ntools = ['s.*']\n[tasks.t]\nagent = 'a'\ndescription = 'Do it'\n\
                 [tools.s]\nkind = 'mcp'\ncommand = {argv}\nenv = {env}\nisolation = 'none'\n{more}\n"
            ),
        );
        folder.file("script.toml", "[default]\ntext = 'nothing to do'\n");
        Place { folder }
    }
    pub fn call(&self, tool: &str, args: Value) -> Ran {
        self.folder.bosun(&["tools", "call", &format!("s.{tool}"), "crew.toml", "--yes", "--args", &args.to_string()])
    }
    pub fn approve(&self) -> Ran {
        self.folder.bosun(&["tools", "approve"]).expect(0)
    }
    pub fn define(&self, tools: &Value) {
        self.folder.file("tools.json", &tools.to_string());
    }
    pub fn log(&self) -> String {
        self.folder.read("log")
    }
    /// Every process that the server was or has started.
    pub fn pids(&self) -> Vec<u32> {
        self.log().lines().filter_map(|line| line.strip_prefix("pid ")?.parse().ok()).collect()
    }
    /// Waits until none of them is there.
    #[track_caller]
    pub fn no_orphans(&self) {
        let pids = self.pids();
        assert!(!pids.is_empty(), "the server noted no process");
        until("no orphans", || pids.iter().all(|pid| !alive(*pid)));
    }
    /// The model asks for the tool once, then answers with what came.
    pub fn script(&self, tool: &str, args: Value) {
        self.folder.file(
            "script.toml",
            &format!(
                "[[reply]]\nstep = 't'\ntool_calls = [{{ name = 's__{tool}', arguments = {} }}]\n\
                 [[reply]]\nstep = 't'\ntext = 'the end'\n",
                toml_of(&args)
            ),
        );
    }
    /// How the tool calls of the one run ended, with what the model read.
    pub fn outcomes(&self) -> Vec<(Outcome, String)> {
        let store = self.folder.store();
        let ended = self.folder.events().into_iter().filter_map(|event| match event {
            Event::Tool(ToolEvent::Returned { outcome, content, .. }) => {
                let text = store.blob(&content.message).unwrap().unwrap();
                let message: Value = serde_json::from_str(&text).unwrap();
                Some((outcome, message["content"].as_str().unwrap().to_owned()))
            }
            _ => None,
        });
        ended.collect()
    }
}

/// A flat object as an inline table.
fn toml_of(args: &Value) -> String {
    let fields: Vec<String> = args.as_object().unwrap().iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}

/// Is the process there, and more than a name in the table?
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn a_tool_of_a_server_is_called_in_both_eras() {
    for era in ["legacy", "modern"] {
        let mut place = Place::new("effect = 'read'");
        place.folder.env("MCP_ERA", era);
        let said = place.approve();
        assert!(said.out.contains("14 tools") && said.out.contains("+ echo: Does echo."), "{}", said.out);
        let echo = place.call("echo", json!({"text": "ahoy"})).expect(0);
        assert_eq!(echo.out, "echo: ahoy\n", "{era}");
        assert_eq!(place.log().contains("heard initialize"), era == "legacy", "{}", place.log());
        assert_eq!(place.call("structured", json!({})).expect(0).out, "{\n  \"sum\": 7\n}\n");
        let failed = place.call("fail", json!({})).expect(10);
        assert!(failed.err.contains("s.fail: no such file"), "{}", failed.err);
        let meta: Value = serde_json::from_str(&place.call("meta", json!({})).expect(0).out).unwrap();
        assert!(meta["boatswain/idempotencyKey"].as_str().unwrap().starts_with("by-hand-"), "{meta}");
        place.no_orphans();
    }
}

#[test]
fn a_server_sees_the_variables_it_was_given_and_no_other() {
    let place = Place::new("");
    place.approve();
    let names = place.call("env", json!({})).expect(0).out;
    // What the test harness of Rust sets by itself does not come from us.
    let names: Vec<&str> = names.split_whitespace().filter(|name| !name.starts_with("RUST_")).collect();
    assert_eq!(names, ["HOME", "MCP_LOG", "MCP_TOOLS", "PATH"]);
}

#[test]
fn a_call_ends_whatever_the_server_does() {
    // What answers has time to, on a machine that is busy; what never does is not waited for.
    let (place, short) = (Place::new("timeout = '60s'"), Place::new("timeout = '3s'"));
    for place in [&place, &short] {
        place.approve();
    }
    for (tool, code, says) in [
        ("garbage", 0, "after garbage"),
        ("crash", 10, "s.crash: the server s was lost in mid-call: Transport closed; it may have happened"),
        ("big", 10, "reply of 20971"),
        ("big_late", 10, "reply of 20971"),
        ("bad", 10, "s.bad: the server s"),
        ("ask", 0, "asked: decline"),
        ("hang", 10, "s.hang did not answer within 3000 ms; it may have happened"),
        // Progress is news, not more time.
        ("steps", 10, "s.steps did not answer within 3000 ms"),
    ] {
        let begun = Instant::now();
        let place = if says.contains("3000 ms") { &short } else { &place };
        let ran = place.call(tool, json!({})).expect(code);
        assert!(ran.out.contains(says) || ran.err.contains(says), "{tool}: {} {}", ran.out, ran.err);
        assert!(begun.elapsed() < Duration::from_secs(40), "{tool} took {:?}", begun.elapsed());
    }
    let said = short.call("steps", json!({})).expect(10).err;
    let far: Vec<&str> = said.lines().filter(|line| line.contains(": step ")).collect();
    assert!(far.len() >= 2 && far[0].ends_with(": step 1"), "how far it is stands below the command: {said}");
    [&place, &short].into_iter().for_each(Place::no_orphans);
}

#[test]
fn a_dead_server_is_a_tools_error_and_no_dead_run() {
    let place = Place::new("effect = 'read'");
    place.script("crash", json!({}));
    let ran = place.folder.bosun(&["run", "crew.toml"]).expect(0);
    assert!(ran.err.contains("the server s") && ran.err.contains("14 tools pinned in bosun.lock"), "{}", ran.err);
    let [(Outcome::Error, text)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
    assert!(text.contains("lost in mid-call"), "{text}");
    place.folder.verify();
    place.no_orphans();
}

#[test]
fn with_effect_once_nobody_knows_and_a_person_is_asked() {
    let place = Place::new("");
    place.script("crash", json!({}));
    place.folder.bosun(&["run", "crew.toml"]).expect(16);
    assert_eq!(place.outcomes()[0].0, Outcome::Unknown);
    place.folder.verify();
    place.no_orphans();
}

#[test]
fn a_server_is_started_again_so_often_and_then_let_rest() {
    let place = Place::new("effect = 'read'");
    let turns = (0..7)
        .map(|n| format!("[[reply]]\nstep = 't'\ntool_calls = [{{ name = 's__crash', arguments = {{ n = {n} }} }}]\n"));
    let script: String = turns.chain(["[[reply]]\nstep = 't'\ntext = 'the end'\n".to_owned()]).collect();
    place.folder.file("script.toml", &script);
    place.folder.bosun(&["run", "crew.toml"]).expect(0);
    let said: Vec<String> = place.outcomes().into_iter().map(|(_, text)| text).collect();
    assert_eq!(said.len(), 7);
    assert!(said[..4].iter().all(|text| text.contains("lost in mid-call")), "{said:?}");
    assert!(said[4..].iter().all(|text| text.contains("started 4 times within a minute")), "{said:?}");
    assert!(said[6].contains("the core melts"), "its last words: {}", said[6]);
    place.no_orphans();
}

/// The server is killed in mid-call: the run goes on, and nothing is left.
fn killed(times: u64) {
    let place = Place::new("effect = 'read'\ntimeout = '50s'");
    place.approve();
    place.script("hang", json!({}));
    for n in 0..times {
        let _ = std::fs::remove_file(place.folder.path().join("log"));
        let begun = Instant::now();
        let run = place.folder.start(&["run", "crew.toml"]);
        until("the call hangs", || place.log().contains("hangs"));
        // By turns the server itself and what holds its leash.
        let pid = place.pids()[0];
        kill9(if n % 2 == 0 { pid } else { parent(pid) });
        if n % 2 == 1 {
            // Without its leash the server is still there, and dies with the run at the latest.
            kill9(pid);
        }
        let ran = super::support::wait(run).expect(0);
        assert!(begun.elapsed() < Duration::from_secs(40), "{n} hung: {}", ran.err);
        place.no_orphans();
    }
    let runs = place.folder.runs();
    assert_eq!(runs.len() as u64, times);
    place.folder.verify();
}

fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_server_killed_in_mid_call_hangs_no_run_and_leaves_no_orphan() {
    killed(10);
}

#[test]
#[ignore = "the campaign of 100"]
fn a_server_killed_in_mid_call_100_times() {
    killed(size("KILLS", 100));
}

#[test]
fn a_server_dies_with_a_run_that_is_killed() {
    for kill in [true, false] {
        let place = Place::new("effect = 'read'");
        place.approve();
        let _ = std::fs::remove_file(place.folder.path().join("log"));
        place.script("hang", json!({}));
        let mut run = place.folder.start(&["run", "crew.toml"]);
        until("the call hangs", || place.log().contains("hangs"));
        assert!(place.pids().iter().all(|pid| alive(*pid)) && place.pids().len() == 2);
        if kill {
            kill9(run.id());
        } else {
            super::support::signal(run.id(), rustix::process::Signal::TERM);
            super::support::signal(run.id(), rustix::process::Signal::TERM);
            super::support::signal(run.id(), rustix::process::Signal::TERM);
        }
        let _ = run.wait();
        place.no_orphans();
    }
}

#[test]
fn calls_of_one_turn_run_at_the_same_time() {
    let place = Place::new("effect = 'read'\ntimeout = '3s'");
    place.approve();
    let asks: Vec<String> = (0..4).map(|n| format!("{{ name = 's__hang', arguments = {{ n = {n} }} }}")).collect();
    place.folder.file(
        "script.toml",
        &format!(
            "[[reply]]\nstep = 't'\ntool_calls = [{}]\n\
             [[reply]]\nstep = 't'\ntool_calls = [{{ name = 's__echo', arguments = {{ }} }}]\n\
             [[reply]]\nstep = 't'\ntext = 'the end'\n",
            asks.join(", ")
        ),
    );
    let begun = Instant::now();
    place.folder.bosun(&["run", "crew.toml"]).expect(0);
    assert!(begun.elapsed() < Duration::from_secs(9), "four calls of 3 s took {:?}", begun.elapsed());
    assert_eq!(place.outcomes().len(), 5);
    // Nobody waits for them any more, and the server that lives on is told so.
    assert_eq!(place.log().matches("heard notifications/cancelled").count(), 4, "{}", place.log());
    place.no_orphans();
}

#[test]
fn a_server_s_table_says_which_calls_need_a_persons_yes() {
    let place = Place::new("effect = 'read'\napprove_when = \"args.text == 'danger'\"");
    place.script("echo", json!({"text": "fine"}));
    place.folder.bosun(&["run", "crew.toml"]).expect(0);
    let place = Place::new("effect = 'read'\napprove_when = \"args.text == 'danger'\"");
    place.script("echo", json!({"text": "danger"}));
    place.folder.bosun(&["run", "crew.toml"]).expect(12);
    assert!(!place.log().contains("heard tools/call"), "{}", place.log());
    let open = place.folder.bosun(&["approvals"]).expect(0).out;
    let id = open.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap().to_owned();
    place.folder.bosun(&["approve", &id]).expect(0);
    place.folder.bosun(&["resume"]).expect(0);
    assert_eq!(place.outcomes(), [(Outcome::Ok, "echo: danger".to_owned())]);
    place.folder.verify();
    place.no_orphans();
}

/// What a server says of a call is shown with that call, to people and to programs, and is nobody's fact.
#[test]
fn progress_is_seen_with_the_call_that_it_belongs_to() {
    let twice = |place: &Place| {
        let call = "{ name = 's__steps', arguments = {} }";
        let script = format!("[[reply]]\nstep = 't'\ntool_calls = [{call}, {call}]\n[default]\ntext = 'the end'\n");
        place.folder.file("script.toml", &script);
    };
    let place = Place::new("effect = 'read'\ntimeout = '60s'");
    place.approve();
    twice(&place);
    let ran = place.folder.bosun(&["run", "crew.toml", "--json"]).expect(0);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let progress: Vec<&Value> = lines.iter().filter(|line| line["type"] == "tool.progress").collect();
    for index in [0, 1] {
        let own: Vec<&&Value> = progress.iter().filter(|line| line["index"] == index).collect();
        assert!(own.len() > 2, "{index}: {progress:?}");
        for line in own {
            assert_eq!((&line["tool"], &line["step"], &line["call"]), (&json!("s.steps"), &json!("t"), &json!("t.1")));
            assert_eq!((&line["of"], line.get("seq")), (&json!(50.0), None));
            assert_eq!(line["says"], format!("step {}", line["done"].as_f64().unwrap()));
        }
    }
    let last = lines.iter().rposition(|line| line["type"] == "tool.progress").unwrap();
    assert!(lines[last..].iter().any(|line| line["type"] == "tool.returned"), "none after its call");
    place.folder.verify();

    let place = Place::new("effect = 'read'\ntimeout = '60s'");
    place.approve();
    place.script("steps", json!({}));
    let terminal = super::approvals::terminal::Terminal::sized(&place.folder, &["run", "crew.toml"], 80);
    until("how far it is", || {
        let seen = terminal.seen();
        seen.contains("* t  a  tool s.steps ") && seen.contains(" of 50: step ")
    });
    assert_eq!(terminal.ends(), Some(0));
    place.no_orphans();
}
