//! Questions of servers to people. Invariant: an answer reaches exactly the call that asked, once, and fits what was
//! asked; a call that nobody answers ends all the same.

use std::process::Child;
use std::time::{Duration, Instant};

use boatswain::core::event::{Decision, Event, InterruptEvent, Outcome, Raised};
use boatswain::engine::{Exit, Options};
use serde_json::{Value, json};

use super::{Place, alive, server, third};
use crate::embed::people::comes;
use crate::stamps::open;
use crate::support::{Folder, Ran, kill9, signal, until, wait};

/// The id of the one question, once it is there.
#[track_caller]
fn asked(folder: &Folder) -> String {
    until("a question is open", || !open(folder).is_empty());
    let open = open(folder);
    assert_eq!(open.len(), 1, "{open:?}");
    open[0]["id"].as_str().unwrap().to_owned()
}

/// A run whose agent calls `ask` once.
fn asks(more: &str, text: &str, era: &str) -> (Place, Child) {
    let mut place = Place::new(more);
    place.folder.env("MCP_ERA", era);
    place.approve();
    place.script("ask", json!({"text": text}));
    let run = place.folder.start(&["run", "crew.toml"]);
    (place, run)
}

fn interrupts(place: &Place) -> (Vec<Raised>, Vec<(Decision, String)>) {
    let (mut raised, mut decided) = (Vec::new(), Vec::new());
    for event in place.folder.events() {
        match event {
            Event::Interrupt(InterruptEvent::Raised(one)) => raised.push(*one),
            Event::Interrupt(InterruptEvent::Decided { decision, by, .. }) => decided.push((decision, by)),
            _ => {}
        }
    }
    (raised, decided)
}

#[track_caller]
fn refused(place: &Place, args: &[&str], words: &[&str]) -> Ran {
    let ran = place.folder.bosun(args).expect(2);
    words.iter().for_each(|word| assert!(ran.err.contains(word), "{word}: {}", ran.err));
    ran
}

#[test]
fn an_answer_of_another_process_reaches_the_call_that_asks() {
    for era in ["legacy", "modern"] {
        let (place, run) = asks("effect = 'read'\ntimeout = '60s'", "more", era);
        let id = asked(&place.folder);
        let shown = place.folder.bosun(&["approvals", "show", &id]).expect(0).out;
        for words in ["the server s asks", "Who?", "- name (string, required): As in the passport", "default 40"] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        assert!(!shown.contains('\u{1b}'), "{shown}");
        let listed = place.folder.bosun(&["approvals"]).expect(0).out;
        assert!(listed.contains(&id) && listed.contains("the server s asks"), "{listed}");
        refused(&place, &["answer", &id, "{\"name\": 7}"], &["/name", "it must fit {", "bosun answer"]);
        refused(&place, &["answer", &id, "{\"age\": 7}"], &["\"name\" is a required property"]);
        refused(&place, &["answer", &id, "{\"name\": \"Ann\", \"tone\": \"green\"}"], &["/tone"]);
        refused(&place, &["answer", &id, "Ann"], &["expected a JSON object"]);
        refused(&place, &["approve", &id], &["answered or rejected"]);
        assert!(interrupts(&place).1.is_empty(), "what does not fit changes nothing");
        let said = place.folder.bosun(&["answer", &id, "{\"name\": \"Ann\", \"tone\": \"red\"}"]).expect(0).err;
        assert!(said.contains("goes on with it"), "{said}");
        let ran = wait(run).expect(0);
        assert!(ran.err.contains(&format!("bosun answer {id}")), "{}", ran.err);
        let answer = "asked: accept {\"name\":\"Ann\",\"tone\":\"red\",\"age\":40}";
        assert_eq!(place.outcomes(), [(Outcome::Ok, answer.to_owned())], "{era}");
        refused(&place, &["answer", &id, "{\"name\": \"Ben\"}"], &["answered by"]);
        let (raised, decided) = interrupts(&place);
        assert_eq!((raised.len(), decided.len()), (1, 1));
        let call = raised[0].call.as_ref().unwrap();
        assert_eq!((raised[0].step.as_str(), call.number, raised[0].index), ("t", 1, 0));
        assert_eq!(open(&place.folder), Vec::<Value>::new());
        place.folder.verify();
        place.no_orphans();
    }
}

#[test]
fn plain_text_is_enough_for_one_field_and_a_no_is_a_decline() {
    let (place, run) = asks("effect = 'read'\ntimeout = '60s'", "", "legacy");
    let id = asked(&place.folder);
    let shown = place.folder.bosun(&["approvals", "show", &id]).expect(0).out;
    assert!(shown.contains("\nYour name?\n"), "{shown:?}");
    place.folder.bosun(&["answer", &id, "Ann Lee"]).expect(0);
    wait(run).expect(0);
    assert_eq!(place.outcomes(), [(Outcome::Ok, "asked: accept {\"name\":\"Ann Lee\"}".to_owned())]);
    place.folder.verify();

    let (place, run) = asks("effect = 'read'\ntimeout = '60s'", "", "modern");
    place.folder.bosun(&["reject", &asked(&place.folder)]).expect(0);
    wait(run).expect(0);
    assert_eq!(place.outcomes(), [(Outcome::Ok, "asked: decline".to_owned())]);
    place.folder.verify();
}

#[test]
fn what_nobody_answers_is_cancelled_and_the_result_says_so() {
    for (table, says) in [("timeout = '2s'", "within 2s"), ("timeout = '60s'\nexpires = '1s'", "within 1s")] {
        let begun = Instant::now();
        let (place, run) = asks(&format!("effect = 'read'\n{table}"), "", "legacy");
        wait(run).expect(0);
        assert!(begun.elapsed() < Duration::from_secs(40));
        let [(Outcome::Ok, text)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
        assert!(text.starts_with("asked: cancel\n[the server s asked a person") && text.contains(says), "{text}");
        assert_eq!(interrupts(&place).1, [(Decision::Expired, "time".to_owned())]);
        place.folder.verify();
        place.no_orphans();
    }
}

#[test]
fn the_time_of_a_call_stands_still_only_while_a_person_is_asked() {
    let (place, run) = asks("effect = 'read'\ntimeout = '5s'", "then hangs", "legacy");
    let id = asked(&place.folder);
    place.folder.bosun(&["answer", &id, "Ann"]).expect(0);
    let answered = Instant::now();
    wait(run).expect(0);
    assert!(answered.elapsed() < Duration::from_secs(40), "{:?}", answered.elapsed());
    let [(Outcome::Error, text)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
    assert!(text.contains("did not answer within 5000 ms"), "{text}");
    place.folder.verify();
}

#[test]
fn a_question_that_is_not_one_call_s_or_not_a_form_is_declined_in_words() {
    let (place, run) = asks("effect = 'read'\ntimeout = '60s'", "url", "modern");
    wait(run).expect(0);
    let [(Outcome::Ok, text)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
    assert!(text.starts_with("asked: decline\n[") && text.contains("wants a page opened"), "{text}");
    assert!(interrupts(&place).0.is_empty());

    // Two calls at once on a connection that does not say whose the questions are.
    let place = Place::new("effect = 'read'\ntimeout = '4s'");
    place.approve();
    let call = |tool: &str| format!("{{ name = 's__{tool}', arguments = {{ text = 'x' }} }}");
    let script = format!(
        "[[reply]]\nstep = 't'\ntool_calls = [{}, {}]\n[[reply]]\nstep = 't'\ntext = 'the end'\n",
        call("hang"),
        call("ask")
    );
    place.folder.file("script.toml", &script);
    place.folder.bosun(&["run", "crew.toml"]).expect(0);
    let all = place.outcomes();
    let declined =
        all.iter().any(|(_, text)| text.starts_with("asked: decline") && text.contains("which of the calls"));
    assert!(declined, "{all:?}");
    assert!(interrupts(&place).0.is_empty());
    place.folder.verify();
    place.no_orphans();
}

#[test]
fn a_question_ends_with_its_process_and_a_repeated_call_asks_anew() {
    let (place, mut run) = asks("effect = 'read'\ntimeout = '60s'", "", "legacy");
    let first = asked(&place.folder);
    kill9(run.id());
    let _ = run.wait();
    until("its process is gone", || place.pids().iter().all(|pid| !alive(*pid)));
    assert_eq!(open(&place.folder), Vec::<Value>::new());
    refused(&place, &["answer", &first, "Ann"], &["void", "process"]);
    let again = place.folder.start(&["resume"]);
    // The run has its owner a moment before it has said that the old question is over.
    let ids = || open(&place.folder).iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    until("it asks anew", || ids().iter().any(|id| *id != first));
    let second = asked(&place.folder);
    assert_ne!(first, second);
    refused(&place, &["answer", &first, "Ann"], &["void"]);
    place.folder.bosun(&["answer", &second, "Ben"]).expect(0);
    wait(again).expect(0);
    assert_eq!(place.outcomes(), [(Outcome::Ok, "asked: accept {\"name\":\"Ben\"}".to_owned())]);
    place.folder.verify();
    place.no_orphans();
}

#[test]
fn an_answer_that_its_process_did_not_live_to_take_is_void() {
    // With effect `once` the call is lost: nobody knows, and a person looks.
    let (place, mut run) = asks("timeout = '60s'", "", "legacy");
    let id = asked(&place.folder);
    signal(run.id(), rustix::process::Signal::STOP);
    place.folder.bosun(&["answer", &id, "Ann"]).expect(0);
    kill9(run.id());
    let _ = run.wait();
    place.folder.bosun(&["resume"]).expect(16);
    assert_eq!(place.outcomes().iter().map(|(outcome, _)| *outcome).collect::<Vec<_>>(), [Outcome::Unknown]);
    assert!(interrupts(&place).1.is_empty());
    refused(&place, &["answer", &id, "Ann"], &["void"]);
    place.folder.verify();
    place.no_orphans();
}

#[test]
fn a_run_that_is_stopped_waits_for_nobody() {
    let (place, run) = asks("effect = 'read'\ntimeout = '60s'", "", "legacy");
    asked(&place.folder);
    let begun = Instant::now();
    place.folder.bosun(&["pause"]).expect(0);
    let ran = wait(run);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let [(Outcome::Ok, text)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
    assert!(text.starts_with("asked: cancel") && text.contains("the pause"), "{text} {}", ran.err);
    assert_eq!(open(&place.folder), Vec::<Value>::new());
    place.folder.bosun(&["resume"]).expect(0);
    place.folder.verify();
    place.no_orphans();
}

#[test]
fn a_run_that_is_being_stopped_asks_nobody_any_more() {
    let (place, run) = asks("effect = 'read'\ntimeout = '600s'", "late", "legacy");
    until("the tool is at work", || place.log().contains("is slow to ask"));
    place.folder.bosun(&["pause"]).expect(0);
    until("it pauses", || place.folder.events().iter().any(|event| event.kind() == "run.pause_asked"));
    place.folder.file("ask now", "");
    let ran = wait(run);
    assert!(ran.err.contains("pausing 1 tool call in flight (t); waiting until they end\n"), "{}", ran.err);
    let [(Outcome::Ok, text)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
    assert!(text.starts_with("asked: cancel") && text.contains("the pause"), "{text}");
    assert!(place.folder.events().iter().any(|event| event.kind() == "run.parked"), "{}", ran.err);
    place.folder.bosun(&["resume"]).expect(0);
    place.folder.verify();
    place.no_orphans();
}

#[test]
fn a_server_may_take_its_question_back() {
    let (place, run) = asks("effect = 'read'\ntimeout = '60s'", "takes back", "legacy");
    let id = asked(&place.folder);
    place.folder.file("take it back", "");
    until("it is taken back", || open(&place.folder).is_empty());
    refused(&place, &["answer", &id, "Ann"], &["expired by the server"]);
    place.folder.file("go on", "");
    wait(run).expect(0);
    let [(Outcome::Ok, text)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
    assert!(text.starts_with("taken back"), "{text}");
    assert!(text.contains("the server took it back"), "{text}");
    assert_eq!(interrupts(&place).1, [(Decision::Expired, "the server".to_owned())]);
    place.folder.verify();
    place.no_orphans();
}

#[test]
fn everything_asks_a_person_through_a_run() {
    let Some(npm) = third::npm() else { return };
    let place = Place::new("effect = 'read'\ntimeout = '60s'");
    let argv = json!(["node", third::script(npm, "server-everything")]);
    let crew = place.folder.read("crew.toml");
    let line = crew.lines().find(|line| line.starts_with("command = ")).unwrap();
    place.folder.file("crew.toml", &crew.replace(line, &format!("command = {argv}")));
    place.approve();
    place.script("trigger-elicitation-request", json!({}));
    let run = place.folder.start(&["run", "crew.toml"]);
    let id = asked(&place.folder);
    refused(&place, &["answer", &id, "{}"], &["\"name\" is a required property"]);
    refused(&place, &["answer", &id, "{\"name\": \"Ann\", \"integer\": 101}"], &["/integer"]);
    place.folder.bosun(&["answer", &id, "{\"name\": \"Ann\", \"check\": true}"]).expect(0);
    wait(run).expect(0);
    let [(Outcome::Ok, text)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
    for words in ["User provided the requested information", "Ann", "dark and stormy", "hero-1"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    place.folder.verify();
}

/// Before a terminal it asks there, in the middle of the call.
#[test]
fn a_run_on_a_terminal_asks_in_mid_call() {
    use crate::approvals::terminal::Terminal;
    let asks = "! to decline): ";
    for columns in [80, 40] {
        let mut place = Place::new("effect = 'read'\ntimeout = '60s'");
        place.folder.env("MCP_ERA", "legacy");
        place.approve();
        place.script("ask", json!({"text": "more"}));
        let mut terminal = Terminal::sized(&place.folder, &["run", "crew.toml"], columns);
        let seen = terminal.types(asks, "{\"name\": 7}\n");
        assert!(seen.contains("Who?") && seen.contains("- name (string, required): As in the passport"), "{seen}");
        let seen = terminal.types(asks, "{\"name\": \"Ann\", \"tone\": \"red\"}\n");
        assert!(seen.contains("the answer does not fit"), "{seen}");
        assert_eq!(terminal.ends(), Some(0));
        let answer = "asked: accept {\"name\":\"Ann\",\"tone\":\"red\",\"age\":40}";
        assert_eq!(place.outcomes(), [(Outcome::Ok, answer.to_owned())]);
        place.folder.verify();
        place.no_orphans();
    }
    let mut place = Place::new("effect = 'read'\ntimeout = '60s'");
    place.folder.env("MCP_ERA", "modern");
    place.approve();
    place.script("ask", json!({"text": ""}));
    let mut terminal = Terminal::of(&place.folder, &["run", "crew.toml"]);
    terminal.types(asks, "!\n");
    assert_eq!(terminal.ends(), Some(0));
    assert_eq!(place.outcomes(), [(Outcome::Ok, "asked: decline".to_owned())]);
}

/// A program around Bosun answers what a server asks a run of another process.
#[tokio::test]
async fn a_host_program_answers_in_mid_call() {
    use boatswain::engine::{Options, Then, Why};
    let (place, run) = asks("effect = 'read'\ntimeout = '60s'", "more", "modern");
    let id = asked(&place.folder);
    let engine = Options::folder(place.folder.path()).open().unwrap();
    let open = engine.waiting(Some("latest")).await.unwrap();
    assert_eq!((open.len(), open[0].id.as_str(), &open[0].why[..]), (1, &*id, &[Why::Server("s".into())][..]));
    let failure = engine.answer(&id, "{\"name\": 7}", "the shop").await.unwrap_err();
    assert!(failure.message.contains("does not fit"), "{failure}");
    assert_eq!(engine.answer(&id, "{\"name\": \"Ann\", \"tone\": \"red\"}", "the shop").await.unwrap(), Then::Soon);
    wait(run).expect(0);
    let answer = "asked: accept {\"name\":\"Ann\",\"tone\":\"red\",\"age\":40}";
    assert_eq!(place.outcomes(), [(Outcome::Ok, answer.to_owned())]);
    assert_eq!(interrupts(&place).1[0].1, "the shop");
    place.folder.verify();

    let (place, run) = asks("effect = 'read'\ntimeout = '60s'", "", "legacy");
    let id = asked(&place.folder);
    let engine = Options::folder(place.folder.path()).open().unwrap();
    engine.reject(&id, "", "the shop").await.unwrap();
    wait(run).expect(0);
    assert_eq!(place.outcomes(), [(Outcome::Ok, "asked: decline".to_owned())]);
}

#[tokio::test]
async fn where_a_host_looks_a_question_waits_as_long_as_its_tool_says() {
    for (attended, seconds) in [(false, 60), (true, 7200)] {
        let place = Place::new("effect = 'read'\ntimeout = '60s'\nexpires = '2h'");
        // This process has no variable for the server.
        let crew = place.folder.read("crew.toml");
        let log = place.folder.path().join("log").display().to_string();
        let mut command = vec!["sh", "-c", "MCP_LOG=$0 exec \"$@\"", &log];
        let argv = server::argv();
        command.extend(argv.iter().map(String::as_str));
        place.folder.file("crew.toml", &crew.replace(&json!(argv).to_string(), &json!(command).to_string()));
        place.approve();
        place.script("ask", json!({"text": "more"}));
        let options = Options::folder(place.folder.path());
        let engine = if attended { options.attended() } else { options }.open().unwrap();
        let run = engine.crew("crew.toml").start().await.unwrap();
        let asked = comes(&engine).await;
        assert_eq!(asked.ends_ms.unwrap() - asked.asked_ms, seconds * 1000, "attended: {attended}");
        engine.answer(asked.id.as_str(), "{\"name\": \"Ann\"}", "ann of the web shop").await.unwrap();
        assert_eq!(run.wait().await.unwrap().exit, Exit::Done);
        let [(Outcome::Ok, answer)] = &place.outcomes()[..] else { panic!("{:?}", place.outcomes()) };
        assert!(answer.starts_with("asked: accept {\"name\":\"Ann\""), "{answer}");
    }
}
