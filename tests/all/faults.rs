//! Faults of the machine: disks, signals, processes, panics, clocks, huge answers. Invariant: each ends in
//! a named exit, nothing is sent after a failed write, and the run goes on from its journal.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boatswain::actors::Ports;
use boatswain::actors::host::{Host, Launch};
use boatswain::actors::run::{Drill, Outcome};
use boatswain::adapters::files::RootFiles;
use boatswain::adapters::models::secrets::Env;
use boatswain::adapters::sizes::O200k;
use boatswain::adapters::store::MemoryStore;
use boatswain::adapters::tools::{ToolBox, ToolBoxes};
use boatswain::cli::open::now_ms;
use boatswain::cli::wiring::{self, Engine};
use boatswain::cli::{crew as crews, open};
use boatswain::core::chain;
use boatswain::core::crew::Overrides;
use boatswain::core::event::{CallEvent, Event, RunEnd, RunEvent, Started, TaskEvent, TaskStatus};
use boatswain::core::ids::{Name, RunId, Seq};
use boatswain::core::machine::Texts;
use boatswain::core::money::{Amount, Caps};
use boatswain::ports::BoxFuture;
use boatswain::ports::clock::Clock;
use boatswain::ports::model::{Model, Models};
use boatswain::ports::store::{Batch, Epoch, NewRun, Row, RunState, Store};
use rustix::process::Signal;
use serde_json::json;

use super::stand_in::Behaviour;
use super::support::{Dice, Folder, Provider, kill9, program, signal, until, wait};

const RUN: [&str; 5] = ["run", "crew.toml", "-q", "--key", "k"];

/// One agent, one task.
fn single(provider: &Provider, more: &str) -> Folder {
    let tables = provider.tables("timeout = \"30s\"");
    Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n{more}\n"
    ))
}

/// Twenty tasks, four at once.
fn many(provider: &Provider, more: &str) -> Folder {
    let tables = provider.tables("timeout = \"30s\"");
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 5\n{tables}[agents.a]\nmodel = \"m\"\n{more}\n\
         [tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Say {{{{ item.id }}}}\"\n"
    ));
    let rows: String = (1..=20).map(|n| format!("r{n}\n")).collect();
    folder.file("rows.csv", &format!("id\n{rows}"));
    folder
}

fn answer_after(provider: &Provider, latency: Duration, text: String) {
    provider.server.respond(move |_, _| (latency, Behaviour::Answer(text.clone())));
}

#[test]
fn a_full_disk_is_exit_6_and_nothing_is_sent_after_it() {
    let provider = Provider::start();
    answer_after(&provider, Duration::from_millis(2), "words ".repeat(3000));
    let folder = many(&provider, "");
    // Files of the process end at 160 KB: the journal's own limit, wherever that is met.
    let program = super::support::program();
    let mut command = Command::new("bash");
    folder.prepare(&mut command);
    let script = format!("trap '' XFSZ; ulimit -f 160; exec {program} {}", RUN.join(" "));
    let ran = wait(command.args(["-c", &script]).spawn().unwrap()).expect(6);
    assert!(ran.err.contains("nothing was sent after the failed write"), "{}", ran.err);
    let sent = provider.requests() as u64;
    let figures = folder.verify().remove(0);
    assert!(figures.held >= sent, "{} held on disk, {sent} sent", figures.held);
    assert!(sent < 20);
    // There is room again.
    folder.bosun(&RUN).expect(0);
    let figures = folder.verify().remove(0);
    assert_eq!(figures.answered, 20);
    assert!(provider.requests() as u64 <= figures.answered + figures.lost);
}

#[test]
fn a_state_folder_that_cannot_be_written_is_exit_6() {
    let provider = Provider::start();
    let folder = single(&provider, "");
    // A file where the folder should be: nobody, not even root, can write there.
    folder.file(".bosun", "in the way");
    let ran = folder.bosun(&RUN).expect(6);
    assert!(ran.err.contains(".bosun"), "{}", ran.err);
    std::fs::remove_file(folder.state()).unwrap();
    folder.bosun(&RUN).expect(0);
    folder.verify();
    // Read-only for good, where the system lets a test make it so.
    let state = folder.state().display().to_string();
    let program = super::support::program();
    let script =
        format!("mount --bind {state} {state} && mount -o remount,ro,bind {state} && {program} run crew.toml -q");
    let mut command = Command::new("unshare");
    folder.prepare(&mut command);
    match command.args(["-m", "sh", "-c", &script]).spawn() {
        Ok(child) => {
            let ran = wait(child);
            if !ran.err.contains("mount:") && !ran.err.contains("unshare:") {
                ran.expect(6);
            }
        }
        Err(why) => println!("no read-only mount here: {why}"),
    }
    assert_eq!(provider.requests(), 1, "nothing was sent");
}

#[test]
fn a_run_has_one_owner_who_is_named() {
    let provider = Provider::start();
    provider.push(Behaviour::Hang);
    let folder = single(&provider, "");
    let first = folder.start(&RUN);
    let pid = first.id();
    until("a request", || provider.requests() == 1);
    for args in [&RUN[..], &["resume", "-q"]] {
        let ran = folder.bosun(args).expect(5);
        assert!(ran.err.contains(&pid.to_string()), "the owner is named: {}", ran.err);
    }
    assert_eq!(provider.requests(), 1);
    kill9(pid);
    wait(first);
    folder.bosun(&RUN).expect(0);
    folder.verify();
}

#[test]
fn the_first_ctrl_c_lets_calls_end_and_starts_nothing() {
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 143)] {
        let provider = Provider::start();
        answer_after(&provider, Duration::from_millis(300), "Fine.".into());
        let folder = many(&provider, "");
        let child = folder.start(&RUN);
        until("four requests", || provider.requests() == 4);
        signal(child.id(), sent);
        let ran = wait(child).expect(code);
        assert!(ran.last_line().contains("bosun resume"), "{}", ran.err);
        let figures = folder.verify().remove(0);
        assert_eq!((provider.requests(), figures.answered, figures.lost), (4, 4, 0), "{sent:?}");
        provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer("Fine.".into())));
        folder.bosun(&RUN).expect(0);
        assert_eq!(provider.requests(), 20);
        folder.verify();
    }
}

#[test]
fn the_second_drops_calls_which_may_be_billed() {
    for times in [2, 3] {
        let provider = Provider::start();
        (0..4).for_each(|_| provider.push(Behaviour::Hang));
        let folder = many(&provider, "");
        let child = folder.start(&RUN);
        until("four requests", || provider.requests() == 4);
        for _ in 0..times {
            signal(child.id(), Signal::INT);
            std::thread::sleep(Duration::from_millis(30));
        }
        let begun = Instant::now();
        wait(child).expect(130);
        assert!(begun.elapsed() < Duration::from_secs(2));
        let figures = folder.verify().remove(0);
        if times == 2 {
            assert_eq!((figures.lost, figures.sums.ambiguous.calls), (4, 4));
        }
        folder.bosun(&RUN).expect(0);
        let figures = folder.verify().remove(0);
        assert_eq!((figures.answered, figures.lost, provider.requests()), (20, 4, 24));
    }
}

fn asks_for_tool(name: &str) -> Behaviour {
    let call = json!({"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}});
    let message = json!({"role": "assistant", "content": "", "tool_calls": [call]});
    let usage = json!({"prompt_tokens": 50, "completion_tokens": 7});
    Behaviour::Body(
        json!({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}).to_string(),
    )
}

fn asks_for_tools(name: &str, count: u32) -> Behaviour {
    let call = |n: u32| {
        let function = json!({"name": name, "arguments": json!({"n": n}).to_string()});
        json!({"id": format!("c{n}"), "type": "function", "function": function})
    };
    let calls: Vec<_> = (1..=count).map(call).collect();
    let message = json!({"role": "assistant", "content": "", "tool_calls": calls});
    let usage = json!({"prompt_tokens": 50, "completion_tokens": 7});
    Behaviour::Body(
        json!({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}).to_string(),
    )
}

fn with_tool(provider: &Provider, script: &str) -> Folder {
    let folder = single(
        provider,
        &format!(
            "[tools.act]\nkind = \"command\"\ndescription = \"Acts\"\nisolation = \"none\"\neffect = \"once\"\n\
             timeout = \"20s\"\ncommand = [\"sh\", \"-c\", \"echo x >> ran.txt; {script}\"]"
        ),
    );
    let text = folder.read("crew.toml").replace("[agents.a]", "[agents.a]\ntools = [\"act\"]");
    folder.file("crew.toml", &text);
    folder
}

fn ran(folder: &Folder) -> usize {
    folder.read("ran.txt").lines().count()
}

#[test]
fn a_pausing_run_starts_no_tool_and_runs_it_once_after_the_resume() {
    let provider = Provider::start();
    provider.server.respond(|_, number| match number {
        1 => (Duration::from_millis(200), asks_for_tool("act")),
        _ => (Duration::ZERO, Behaviour::Answer("Fine.".into())),
    });
    let folder = with_tool(&provider, "true");
    let child = folder.start(&RUN);
    until("a request", || provider.requests() == 1);
    signal(child.id(), Signal::INT);
    wait(child).expect(130);
    assert_eq!(ran(&folder), 0, "nothing new starts");
    folder.verify();
    folder.bosun(&RUN).expect(0);
    assert_eq!((ran(&folder), provider.requests()), (1, 2));
    folder.verify();
}

#[test]
fn tools_that_end_together_run_once_each() {
    let provider = Provider::start();
    provider.server.respond(|_, number| match number % 2 {
        1 => (Duration::ZERO, asks_for_tools("act", 8)),
        _ => (Duration::ZERO, Behaviour::Answer("Fine.".into())),
    });
    let folder = with_tool(&provider, "true");
    let text = folder.read("crew.toml").replace("timeout = \"20s\"", "timeout = \"20s\"\nschema = { n = \"int\" }");
    folder.file("crew.toml", &text);
    for round in 1..=5 {
        folder.bosun(&["run", "crew.toml", "-q", "--key", &round.to_string()]).expect(0);
        assert_eq!(ran(&folder), 8 * round, "a tool with effect ran again");
    }
    folder.verify();
}

#[test]
fn a_pause_ends_although_the_last_answer_is_judged_after_it() {
    let provider = Provider::start();
    // So large that the coordinator is at rest before the agent has found it unusable.
    let list = format!("[{}1]", "1,".repeat(400_000));
    answer_after(&provider, Duration::from_millis(300), list);
    let folder = single(&provider, "output_schema = { a = \"int\" }");
    let child = folder.start(&RUN);
    until("a request", || provider.requests() == 1);
    signal(child.id(), Signal::INT);
    wait(child).expect(130);
    let failed = |event: &Event| matches!(event, Event::Task(TaskEvent::AttemptFailed { .. }));
    assert!(folder.events().iter().any(failed), "the answer was judged");
    folder.verify();
}

#[test]
fn a_run_that_is_over_is_never_taken_up() {
    let provider = Provider::start();
    let folder = single(&provider, "");
    folder.bosun(&RUN).expect(0);
    let (row, entries) = folder.runs().remove(0);
    let (engine, ready) = ready(&folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // As a process does that looked at it before its owner had finished it.
    let resumed = Event::Run(RunEvent::Resumed { by: "a second process".into() });
    let refused = runtime.block_on(engine.resume(&row.run, ready, vec![resumed], None)).err().expect("it is refused");
    assert!(refused.to_string().contains("is over"), "{refused}");
    assert!(engine.store.owner(&row.run).is_none(), "it is let go");
    drop(engine);
    assert_eq!(folder.runs().remove(0), (row, entries), "nothing was added");
}

#[test]
fn a_tool_with_effect_that_was_cut_off_is_put_to_a_person() {
    for way in ["kill", "drop", "cancel"] {
        let provider = Provider::start();
        provider.push(asks_for_tool("act"));
        let folder = with_tool(&provider, "sleep 15");
        let child = folder.start(&RUN);
        let pid = child.id();
        until("the tool", || ran(&folder) == 1);
        match way {
            "kill" => kill9(pid),
            "drop" => {
                signal(pid, Signal::INT);
                std::thread::sleep(Duration::from_millis(50));
                signal(pid, Signal::INT);
            }
            _ => ask(&folder, "cancel", "{}"),
        }
        let ended = wait(child);
        assert_eq!(ran(&folder), 1, "{way}: it is not run again by itself");
        if way == "cancel" {
            ended.expect(17);
            folder.verify();
            continue;
        }
        let reviewed = folder.bosun(&RUN).expect(16);
        assert!(reviewed.last_line().contains("--retry t"), "{}", reviewed.err);
        assert_eq!((ran(&folder), provider.requests()), (1, 1), "{way}");
        folder.verify();
        // A person has looked: it starts over.
        folder.bosun(&["resume", "-q", "--retry", "t"]).expect(0);
        folder.verify();
    }
}

fn ask(folder: &Folder, kind: &str, payload: &str) {
    let store = folder.store();
    let runs = store.runs(&Default::default()).unwrap();
    store.inbox_put(&runs[0].run, kind, payload, "test", now_ms()).unwrap();
}

#[test]
fn another_process_pauses_and_cancels_within_a_tenth_of_a_second() {
    for (kind, code) in [("cancel", 17), ("pause", 11)] {
        let mut best = u64::MAX;
        for _ in 0..3 {
            let provider = Provider::start();
            (0..4).for_each(|_| provider.push(Behaviour::Hang));
            let folder = many(&provider, "");
            let child = folder.start(&RUN);
            until("four requests", || provider.requests() == 4);
            let store = folder.store();
            let run = store.runs(&Default::default()).unwrap()[0].run.clone();
            let asked = now_ms();
            store.inbox_put(&run, kind, "{}", "test", asked).unwrap();
            drop(store);
            if kind == "pause" {
                // Calls in flight may end; nothing else starts.
                until("the pause is recorded", || {
                    folder.events().iter().any(|event| matches!(event, Event::Run(RunEvent::PauseAsked { .. })))
                });
                signal(child.id(), Signal::INT);
                signal(child.id(), Signal::INT);
                std::thread::sleep(Duration::from_millis(20));
                signal(child.id(), Signal::INT);
                wait(child);
            } else {
                wait(child).expect(code);
            }
            folder.verify();
            assert_eq!(provider.requests(), 4, "{kind}: nothing was sent after it");
            let entries = folder.runs().remove(0).1;
            let heard = entries.iter().find(|entry| {
                matches!(entry.event, Event::Run(RunEvent::PauseAsked { .. } | RunEvent::CancelAsked { .. }))
            });
            best = best.min(heard.unwrap().at_ms.saturating_sub(asked));
        }
        println!("{kind}: heard after {best} ms");
        assert!(best <= 100, "{kind}: {best} ms");
    }
}

#[test]
fn a_cancel_that_was_never_taken_comes_before_any_call_of_the_resume() {
    let provider = Provider::start();
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Hang));
    let folder = many(&provider, "");
    let child = folder.start(&RUN);
    until("four requests", || provider.requests() == 4);
    kill9(child.id());
    wait(child);
    let (row, _) = folder.runs().remove(0);
    folder.store().inbox_put(&row.run, "cancel", "{}", "a person", now_ms()).unwrap();
    folder.bosun(&["resume", "-q"]).expect(17);
    assert_eq!(provider.requests(), 4, "a cancelled run sends nothing");
    let by = |event: &Event| matches!(event, Event::Run(RunEvent::CancelAsked { by }) if by == "a person");
    assert!(folder.events().iter().any(by));
    folder.verify();
}

#[test]
fn a_command_this_bosun_does_not_know_stays_and_holds_up_no_other() {
    let provider = Provider::start();
    (0..4).for_each(|_| provider.push(Behaviour::Hang));
    let folder = many(&provider, "");
    let child = folder.start(&RUN);
    until("four requests", || provider.requests() == 4);
    ask(&folder, "explain", "{}");
    ask(&folder, "pause", "{}");
    let paused = |event: &Event| matches!(event, Event::Run(RunEvent::PauseAsked { .. }));
    until("the pause is on record", || folder.events().iter().any(paused));
    let store = folder.store();
    let run = store.runs(&Default::default()).unwrap()[0].run.clone();
    let kinds = || store.inbox(&run).unwrap().into_iter().map(|row| row.kind).collect::<Vec<_>>();
    until("the pause is forgotten", || kinds() == ["explain"]);
    kill9(child.id());
    let ended = wait(child);
    assert!(ended.err.matches("does not know").count() <= 1, "it is said once: {}", ended.err);
    folder.bosun(&RUN).expect(0);
    assert_eq!(kinds(), ["explain"], "it is left for a bosun that knows it");
    let asked = folder.events().into_iter().filter(paused).count();
    assert_eq!(asked, 1);
    folder.verify();
}

#[test]
fn a_tool_that_writes_the_mark_of_a_secret_does_not_get_its_value_sent() {
    let provider = Provider::start();
    provider.server.respond(|_, number| match number {
        1 => (Duration::ZERO, asks_for_tool("act")),
        _ => (Duration::ZERO, Behaviour::Answer("Fine.".into())),
    });
    let folder = with_tool(&provider, "echo the mark is ⟦secret:pin⟧");
    let text = folder.read("crew.toml").replace("Say it\"", "Use {{ pin }}\"");
    folder.file("crew.toml", &format!("{text}\n[inputs.pin]\ntype = \"string\"\nsecret = true\n"));
    let with_pin = ["run", "crew.toml", "-q", "--key", "k", "--input", "pin=s3cr3t"];
    folder.bosun(&with_pin).expect(0);
    // The same key and the same value are the same run.
    folder.bosun(&with_pin).expect(0);
    let seen = provider.seen();
    assert_eq!((seen.len(), ran(&folder)), (2, 1));
    assert!(seen[0].body.contains("Use s3cr3t"), "the prompt has it: {}", seen[0].body);
    assert_eq!(seen[1].body.matches("s3cr3t").count(), 1, "the prompt alone has it: {}", seen[1].body);
    assert!(seen[1].body.contains("⟦secret:pin⟧"), "{}", seen[1].body);
    folder.verify();
}

#[test]
fn cancelling_at_any_moment_sends_nothing_twice() {
    let mut dice = Dice::new(5);
    for _ in 0..6 {
        let provider = Provider::start();
        answer_after(&provider, Duration::from_millis(3), "Fine.".into());
        let folder = many(&provider, "");
        let child = folder.start(&RUN);
        let at = 1 + dice.below(14) as usize;
        until("requests", || provider.requests() >= at);
        ask(&folder, "cancel", "{}");
        let ended = wait(child);
        assert!(matches!(ended.code, Some(0 | 17)), "{ended:?}");
        let figures = folder.verify().remove(0);
        assert!(provider.requests() as u64 <= figures.held, "{} of {} held", provider.requests(), figures.held);
    }
}

#[test]
fn a_settlement_counts_once_and_only_for_a_call_in_doubt() {
    let provider = Provider::start();
    provider.push(Behaviour::Status(500, Vec::new(), "oops".into()));
    provider.push(Behaviour::Status(422, Vec::new(), "no".into()));
    let folder = single(&provider, "");
    folder.bosun(&RUN).expect(16);
    let payload = json!({"call": "t.1", "cost": {"tokens": 5, "usd": "0.0001", "calls": 1}}).to_string();
    // Twice the same, one of a call that never was, one of a call that was given back.
    ask(&folder, "settle", &payload);
    ask(&folder, "settle", &payload);
    ask(&folder, "settle", &payload.replace("t.1", "t.9"));
    ask(&folder, "settle", &payload.replace("t.1", "t.2"));
    folder.bosun(&["resume", "-q", "--retry", "t"]).expect(0);
    let figures = folder.verify().remove(0);
    assert_eq!(figures.sums.ambiguous, Amount::default());
    let settled = folder.events().into_iter().filter(|event| matches!(event, Event::Call(CallEvent::Settled { .. })));
    assert_eq!(settled.count(), 1);
}

#[test]
fn a_settlement_of_a_live_run_is_void_unless_the_call_is_in_doubt() {
    let provider = Provider::start();
    provider.push(Behaviour::Status(500, Vec::new(), "oops".into()));
    provider.server.respond(|_, _| (Duration::from_millis(700), Behaviour::Answer("Fine.".into())));
    let folder = single(&provider, "");
    let child = folder.start(&RUN);
    until("the second request", || provider.requests() == 2);
    let payload = json!({"call": "t.1", "cost": {"tokens": 5, "usd": "0.0001", "calls": 1}}).to_string();
    ask(&folder, "settle", &payload);
    ask(&folder, "settle", &payload);
    // In flight: its answer will say what it cost.
    ask(&folder, "settle", &payload.replace("t.1", "t.2"));
    wait(child).expect(0);
    let figures = folder.verify().remove(0);
    assert_eq!((figures.answered, figures.sums.ambiguous.calls), (1, 0));
    let settled = folder.events().into_iter().filter(|event| matches!(event, Event::Call(CallEvent::Settled { .. })));
    assert_eq!(settled.count(), 1);
}

#[test]
fn a_deadline_pauses_and_a_resume_after_it_sends_nothing() {
    let provider = Provider::start();
    provider.push(Behaviour::Hang);
    let folder = single(&provider, "");
    let text = folder.read("crew.toml").replace("[budget]", "[crew]\ndeadline = \"300ms\"\n[budget]");
    folder.file("crew.toml", &text);
    let ran = folder.bosun(&RUN).expect(14);
    assert!(ran.err.contains("deadline"), "{}", ran.err);
    let figures = folder.verify().remove(0);
    assert_eq!((figures.lost, figures.sums.ambiguous.calls), (1, 1));
    for _ in 0..3 {
        folder.bosun(&RUN).expect(14);
    }
    folder.verify();
    assert_eq!(provider.requests(), 1, "its time is over: nothing is sent");
}

/// An engine on the project, in this process.
fn ready(folder: &Folder) -> (Engine, wiring::Ready) {
    let project = folder.project();
    let loaded = crews::load(&project, "crew.toml", &Overrides::default());
    let none = BTreeMap::new();
    let bound = wiring::bind(
        &project.root,
        folder.path(),
        loaded,
        "crew.toml".into(),
        &none,
        &BTreeMap::new(),
        Overrides::default(),
    );
    (Engine::open(&project, Arc::new(Env::default())).unwrap(), bound.unwrap())
}

#[test]
fn a_panicking_agent_touches_nobody_else() {
    let provider = Provider::start();
    answer_after(&provider, Duration::from_millis(60), "Fine.".into());
    let folder = many(&provider, "");
    let (engine, ready) = ready(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let (watcher, mut entries) = tokio::sync::mpsc::unbounded_channel();
        let mut live = engine.start(ready, Some(watcher)).await.unwrap();
        let mut crashed = 0;
        while let Some(entry) = entries.recv().await {
            match &entry.event {
                // The next one as soon as the last is on record.
                Event::Task(TaskEvent::Crashed { .. }) => crashed += 1,
                Event::Call(CallEvent::Held(_)) if crashed == 0 => {}
                Event::Run(RunEvent::Finished { .. }) => break,
                _ => continue,
            }
            if crashed < 3 {
                live.drill().await;
            }
        }
        let outcome = live.wait().await;
        engine.store.release(&live.id);
        outcome
    });
    assert!(matches!(outcome, Outcome::Finished { status: RunEnd::Completed, .. }), "{outcome:?}");
    drop(engine);
    let figures = folder.verify().remove(0);
    // Its call ran on and is not made again; nobody else noticed.
    assert_eq!((figures.answered, figures.lost, provider.requests()), (20, 0, 20));
    let crashed = folder.events().into_iter().filter(|event| matches!(event, Event::Task(TaskEvent::Crashed { .. })));
    assert!(crashed.count() >= 3);
}

#[test]
fn an_agent_that_panics_too_often_fails_its_task_alone() {
    let provider = Provider::start();
    provider.push(Behaviour::Hang);
    let folder = many(&provider, "max_parallel = 1");
    let (engine, ready) = ready(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let mut live = engine.start(ready, None).await.unwrap();
        while provider.requests() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..4 {
            assert!(live.drill().await, "an agent was at work");
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        let outcome = tokio::time::timeout(Duration::from_secs(20), live.wait()).await.expect("the run ends");
        engine.store.release(&live.id);
        outcome
    });
    assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
    drop(engine);
    folder.verify();
    let ends: Vec<TaskStatus> = folder
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Task(TaskEvent::Finished { result, agent: Some(_), .. }) => Some(result.status),
            _ => None,
        })
        .collect();
    assert_eq!(ends.iter().filter(|status| **status == TaskStatus::Failed).count(), 1);
    assert_eq!(ends.iter().filter(|status| **status == TaskStatus::Done).count(), 19);
}

#[test]
fn an_agent_that_panics_while_it_is_idle_remembers_its_run() {
    let provider = Provider::start();
    provider.server.respond(|_, number| match number {
        2 => (Duration::from_millis(300), Behaviour::Answer("Meanwhile.".into())),
        _ => (Duration::ZERO, Behaviour::Answer("The moon.".into())),
    });
    let tables = provider.tables("timeout = \"30s\"");
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\nmemory = \"run\"\n\
         [agents.b]\nmodel = \"m\"\n\
         [tasks.first]\nagent = \"a\"\ndescription = \"Choose\"\n\
         [tasks.second]\nagent = \"b\"\nafter = [\"first\"]\ndescription = \"Wait\"\n\
         [tasks.third]\nagent = \"a\"\nafter = [\"second\"]\ndescription = \"Go on\"\n"
    ));
    let (engine, ready) = ready(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut live = engine.start(ready, None).await.unwrap();
        while provider.requests() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(live.drill_of(Drill::Idle).await, "the first agent was idle");
        let outcome = tokio::time::timeout(Duration::from_secs(20), live.wait()).await.expect("the run ends");
        assert!(matches!(outcome, Outcome::Finished { status: RunEnd::Completed, .. }), "{outcome:?}");
    });
    drop(engine);
    folder.verify();
    let third = provider.seen()[2].body.clone();
    assert!(third.contains("Choose") && third.contains("The moon."), "it has forgotten: {third}");
}

/// The coordinator panics whenever `when` says so, and how the run ends.
fn with_failing_coordinator(folder: &Folder, mut when: impl FnMut(&Event) -> bool) -> Outcome {
    let (engine, ready) = ready(folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let (watcher, mut entries) = tokio::sync::mpsc::unbounded_channel();
        let mut live = engine.start(ready, Some(watcher)).await.unwrap();
        let mut next = Seq(0);
        let watched = async {
            while let Some(entry) = entries.recv().await {
                assert!(entry.seq > next, "the watcher sees every entry once, in order");
                next = entry.seq;
                if when(&entry.event) {
                    live.drill_of(Drill::Coordinator).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), watched).await.expect("the run ends");
        live.wait().await
    });
    assert!(engine.store.owner(&folder.runs()[0].0.run).is_none(), "it is let go");
    outcome
}

#[test]
fn a_run_whose_coordinator_panics_goes_on_from_its_journal() {
    let provider = Provider::start();
    answer_after(&provider, Duration::from_millis(20), "Fine.".into());
    let folder = many(&provider, "");
    let mut seen = 0;
    let outcome = with_failing_coordinator(&folder, |event| {
        let held = matches!(event, Event::Call(CallEvent::Held(_)));
        seen += u64::from(held);
        held && [3, 9, 15].contains(&seen)
    });
    assert!(matches!(outcome, Outcome::Finished { status: RunEnd::Completed, .. }), "{outcome:?}");
    let figures = folder.verify().remove(0);
    assert_eq!(figures.answered, 20);
    assert_eq!(figures.lost, 0, "calls in flight run on");
    assert_eq!(figures.sums.ambiguous.calls, figures.lost);
    assert!(provider.requests() as u64 <= figures.answered + figures.lost);
}

#[test]
fn a_run_whose_coordinator_panics_too_often_says_why_and_can_be_resumed() {
    let provider = Provider::start();
    answer_after(&provider, Duration::from_millis(20), "Fine.".into());
    let folder = many(&provider, "");
    let outcome = with_failing_coordinator(&folder, |event| matches!(event, Event::Call(CallEvent::Held(_))));
    let Outcome::Crashed(why) = &outcome else { panic!("{outcome:?}") };
    assert!(why.contains("4 times") && why.contains("told to panic"), "{why}");
    folder.verify();
    folder.bosun(&["resume", "-q"]).expect(0);
    let figures = folder.verify().remove(0);
    assert_eq!(figures.answered, 20);
    assert!(provider.requests() as u64 <= figures.answered + figures.lost);
}

#[test]
fn a_closed_stdout_stops_the_output_and_not_the_run() {
    let provider = Provider::start();
    answer_after(&provider, Duration::from_millis(1), "words ".repeat(100_000));
    for flag in ["-q", "--json"] {
        let folder = single(&provider, "");
        let script = format!("{} run crew.toml {flag} | head -c 10; exit ${{PIPESTATUS[0]}}", program());
        let mut command = Command::new("bash");
        folder.prepare(&mut command);
        let ran = wait(command.args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap()).expect(0);
        assert_eq!(ran.out.len(), 10);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        let figures = folder.verify().remove(0);
        assert_eq!(figures.end, Some(RunEnd::Completed), "{flag}");
    }
}

#[test]
fn huge_answers_are_taken_or_refused_whole() {
    let provider = Provider::start();
    let taken = "words ".repeat(1_200_000);
    provider.push(Behaviour::Answer(taken.clone()));
    let folder = single(&provider, "");
    let ran = folder.bosun(&RUN).expect(0);
    assert_eq!(ran.out.trim_end(), taken.trim_end(), "7 MB are a result");
    folder.verify();
    let provider = Provider::start();
    provider.push(Behaviour::Answer("words ".repeat(1_800_000)));
    let folder = single(&provider, "");
    let ran = folder.bosun(&RUN).expect(16);
    assert!(ran.err.contains("larger than 8 MiB") && !ran.err.contains("bosun show"), "10 MB are not: {}", ran.err);
    let figures = folder.verify().remove(0);
    assert_eq!(figures.answered, 1, "and are paid for once");
}

/// Runs backwards, an hour at each look.
struct Backwards(AtomicU64);
impl Clock for Backwards {
    fn now_ms(&self) -> u64 {
        self.0.fetch_sub(3_600_000, Ordering::SeqCst)
    }
    fn random(&self) -> u64 {
        4
    }
}
struct One(Arc<dyn Model>);
impl Models for One {
    fn provider(&self, _: &Name) -> Option<Arc<dyn Model>> {
        Some(self.0.clone())
    }
    fn tier(&self, _: &Name, _: &str) -> Arc<boatswain::ports::model::Tier> {
        Arc::new(boatswain::ports::model::Tier::at_once("one", 4))
    }
}
struct Says;
impl Model for Says {
    fn call<'a>(
        &'a self,
        _: &'a boatswain::core::chat::ModelRequest,
        _: &'a dyn boatswain::ports::model::Watch,
    ) -> BoxFuture<'a, Result<boatswain::core::chat::ModelAnswer, boatswain::core::chat::CallFailure>> {
        Box::pin(async {
            let usage = boatswain::core::money::Usage::reported(40, 7);
            Ok(boatswain::core::chat::ModelAnswer::of("Fine.".into(), usage))
        })
    }
}

#[test]
fn a_clock_that_runs_backwards_changes_no_decision() {
    let provider = Provider::start();
    let folder = many(&provider, "");
    let project = folder.project();
    let loaded = crews::load(&project, "crew.toml", &Overrides::default());
    let crew = loaded.crew.clone().unwrap();
    let store = Arc::new(MemoryStore::new());
    let id = RunId::from_random(7);
    let clock = Arc::new(Backwards(AtomicU64::new(1_800_000_000_000)));
    let started = Started {
        run: id.clone(),
        crew: crew.name.clone(),
        file: "crew.toml".into(),
        pins: BTreeMap::new(),
        inputs: BTreeMap::new(),
        overrides: Overrides::default(),
        prices: BTreeMap::new(),
        price_from: Default::default(),
        windows: BTreeMap::new(),
        tokenizers: BTreeMap::new(),
        refuses: BTreeMap::new(),
        caps: Caps { ..crew.budget.caps },
        aside: Vec::new(),
        cap_origin: String::new(),
        key: None,
        offline: false,
        version: "0".into(),
        tools: None,
        rules: boatswain::core::rules::RULES,
        tainted: None,
    };
    let (event, at_ms) = (Event::Run(RunEvent::Started(Box::new(started))), clock.now_ms());
    let (kind, payload) = (event.kind(), event.encode());
    let hash = chain::link(&chain::genesis(&id), Seq(1), at_ms, kind, &payload);
    let row = Row { seq: Seq(1), at_ms, kind: kind.to_owned(), payload: payload.into(), hash };
    let new = NewRun {
        run: id.clone(),
        crew: crew.name.clone(),
        key: None,
        inputs: boatswain::core::ids::BlobId::of(b""),
        offline: false,
        cap: String::new(),
        started_ms: at_ms,
    };
    let (rows, blobs) = (vec![row.clone()], Vec::new());
    let state = Some(RunState::Running);
    let batch = Batch { run: id.clone(), epoch: Epoch(0), after: Seq(0), rows, blobs, spent: Amount::default(), state };
    let epoch = store.create(new, batch).unwrap();
    let mut boxes = ToolBoxes::default();
    boxes.0.insert(crew.file.clone(), ToolBox::new(folder.path(), Vec::new(), Vec::new()).unwrap());
    let ports = Ports {
        attended: false,
        store: store.clone(),
        models: Arc::new(One(Arc::new(Says))),
        tools: Arc::new(boxes),
        files: Arc::new(RootFiles::open(folder.path()).unwrap()),
        clock,
        sizes: Arc::new(O200k::new()),
        crash: Default::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let launch = Launch {
            id: id.clone(),
            epoch,
            crew: crew.clone(),
            rows: vec![row],
            opening: Default::default(),
            told: Vec::new(),
            time_left: None,
        };
        let mut live = Arc::new(Host::new()).launch(launch, ports, None).await.unwrap();
        live.wait().await
    });
    assert!(matches!(outcome, Outcome::Finished { status: RunEnd::Completed, .. }), "{outcome:?}");
    let rows = store.read(&id, Seq(1)).unwrap();
    chain::verify(&id, &rows).unwrap();
    assert!(rows.windows(2).all(|pair| pair[0].at_ms > pair[1].at_ms), "the clock did run backwards");
    let (texts, sizes) = (open::StoreTexts::new(store), O200k::new());
    let texts: &dyn Texts = &texts;
    let mut replay = boatswain::core::run::Replay::new(id, crew, texts, &sizes);
    for row in &rows {
        let entry = boatswain::core::run::Entry::decode(row.seq, row.at_ms, &row.kind, &row.payload).unwrap();
        replay.step(&entry, &row.payload).unwrap();
    }
    replay.finish().unwrap();
}

#[test]
fn one_key_started_by_many_processes_at_once_is_one_run() {
    for _ in 0..3 {
        let provider = Provider::start();
        answer_after(&provider, Duration::from_millis(5), "Fine.".into());
        let folder = many(&provider, "");
        let children: Vec<_> = (0..6).map(|_| folder.start(&RUN)).collect();
        let ended: Vec<_> = children.into_iter().map(wait).collect();
        assert!(ended.iter().any(|ran| ran.code == Some(0)), "{ended:?}");
        for ran in &ended {
            assert!(matches!(ran.code, Some(0 | 5)), "{ran:?}");
        }
        let figures = folder.verify();
        assert_eq!(figures.len(), 1, "one key, one run");
        assert_eq!((figures[0].answered, provider.requests()), (20, 20));
    }
}

#[test]
fn a_ledger_or_coordinator_that_fails_starts_over_from_the_fold() {
    for part in [Drill::Ledger, Drill::Coordinator] {
        let provider = Provider::start();
        answer_after(&provider, Duration::from_millis(30), "Fine.".into());
        let folder = many(&provider, "");
        let (engine, ready) = ready(&folder);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let drill = |times: usize, ready: wiring::Ready| {
            runtime.block_on(async {
                let (watcher, mut entries) = tokio::sync::mpsc::unbounded_channel();
                let mut live = engine.start(ready, Some(watcher)).await.unwrap();
                let mut held = 0;
                while let Some(entry) = entries.recv().await {
                    held += usize::from(matches!(entry.event, Event::Call(CallEvent::Held(_))));
                    if matches!(entry.event, Event::Run(RunEvent::Finished { .. })) {
                        break;
                    }
                    if held % 4 == 1 && held / 4 < times && matches!(entry.event, Event::Call(CallEvent::Held(_))) {
                        live.drill_of(part).await;
                    }
                }
                let outcome = tokio::time::timeout(Duration::from_secs(20), live.wait()).await.expect("it ends");
                engine.store.release(&live.id);
                outcome
            })
        };
        let outcome = drill(3, ready);
        assert!(matches!(outcome, Outcome::Finished { status: RunEnd::Completed, .. }), "{part:?}: {outcome:?}");
        let figures = folder.verify().remove(0);
        assert_eq!((figures.answered, figures.lost, provider.requests()), (20, 0, 20), "{part:?}");
    }
}

#[test]
fn a_coordinator_that_fails_again_and_again_is_reported_and_the_run_resumes() {
    let provider = Provider::start();
    provider.push(Behaviour::Hang);
    let folder = single(&provider, "");
    let (engine, ready) = ready(&folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let mut live = engine.start(ready, None).await.unwrap();
        loop {
            live.drill_of(Drill::Coordinator).await;
            if let Ok(outcome) = tokio::time::timeout(Duration::from_millis(50), live.wait()).await {
                engine.store.release(&live.id);
                break outcome;
            }
        }
    });
    assert!(matches!(outcome, Outcome::Crashed(_)), "{outcome:?}");
    drop(engine);
    folder.verify();
    folder.bosun(&["resume", "-q"]).expect(0);
    folder.verify();
}

#[test]
fn five_deaths_in_one_step_are_put_to_a_person() {
    let provider = Provider::start();
    (0..5).for_each(|_| provider.push(Behaviour::Hang));
    let folder = single(&provider, "");
    for death in 1..=5 {
        let child = folder.start(&RUN);
        until("a request", || provider.requests() == death);
        kill9(child.id());
        wait(child);
    }
    let ran = folder.bosun(&RUN).expect(16);
    assert!(ran.err.contains("died 5 times"), "{}", ran.err);
    let figures = folder.verify().remove(0);
    assert_eq!((provider.requests(), figures.lost, figures.sums.ambiguous.calls), (5, 5, 5));
    assert!(!folder.events().iter().any(|event| matches!(event, Event::Task(TaskEvent::AttemptFailed { .. }))));
    folder.bosun(&["resume", "-q", "--retry", "t"]).expect(0);
    assert_eq!(provider.requests(), 6);
    folder.verify();
}

#[test]
fn a_wait_for_a_provider_does_not_hold_up_a_pause() {
    let provider = Provider::start();
    provider.push(Behaviour::Status(503, vec![("retry-after", "30".into())], String::new()));
    let folder = single(&provider, "");
    let child = folder.start(&RUN);
    until("a request", || provider.requests() == 1);
    until("the refusal", || folder.events().iter().any(|event| matches!(event, Event::Call(CallEvent::Failed { .. }))));
    let begun = Instant::now();
    signal(child.id(), Signal::INT);
    wait(child).expect(130);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    folder.verify();
}
