//! `bosun tell`: from another process, in mid-call, to the parked and to the dead. Invariant of each test:
//! the message is on record once, in one request of each attempt that comes after it, and the run replays.

use std::time::Duration;

use boatswain::core::event::{CallEvent, Event, TaskEvent};

use super::stand_in::{Behaviour, Seen};
use super::support::{Dice, Folder, Provider, kill9, size, until, wait};

const NOTE: &str = "Leave out the pumps.";

fn folder(provider: &Provider, body: &str) -> Folder {
    Folder::new(&format!("schema = 1\n{}{body}", provider.tables("max_concurrency = 8")))
}

const ONE: &str =
    "[agents.writer]\nmodel = \"m\"\n[tasks.draft]\nagent = \"writer\"\ndescription = \"Write <draft>\"\n";

const TWO: &str = "[agents.writer]\nmodel = \"m\"\n[agents.editor]\nmodel = \"m\"\nMEMORY\n\
    [tasks.draft]\nagent = \"writer\"\ndescription = \"Write <draft>\"\n\
    [tasks.book]\nagent = \"editor\"\ndescription = \"Bind <book>\"\ncontext = [\"draft\"]\n";

fn kinds(folder: &Folder) -> Vec<&'static str> {
    folder
        .runs()
        .first()
        .map(|(_, entries)| entries.iter().map(|entry| entry.event.kind()).collect())
        .unwrap_or_default()
}

fn has(folder: &Folder, kind: &str) -> bool {
    kinds(folder).contains(&kind)
}

/// In which messages of which requests a text stands.
fn places(provider: &Provider, text: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    for (request, seen) in provider.seen().iter().enumerate() {
        let found = seen.messages().into_iter().enumerate().filter(|(_, (_, content))| content.contains(text));
        out.extend(found.map(|(message, _)| (request, message)));
    }
    out
}

/// The first call takes as long as a test needs to tell, the others no time.
fn slow_first(provider: &Provider) {
    provider.server.respond(|_, number| {
        let wait = if number == 1 { 700 } else { 0 };
        (Duration::from_millis(wait), Behaviour::Answer(format!("Answer {number}.")))
    });
}

fn in_first_call(folder: &Folder, provider: &Provider, args: &[&str]) -> std::process::Child {
    let child = folder.start(args);
    until("a first call", || provider.requests() == 1 && has(folder, "call.held"));
    child
}

#[test]
fn told_in_mid_call_the_answer_is_kept_and_one_more_turn_is_taken() {
    let provider = Provider::start();
    slow_first(&provider);
    let folder = folder(&provider, ONE);
    let child = in_first_call(&folder, &provider, &["run", "crew.toml"]);
    let told = folder.bosun(&["tell", "latest", "writer", "Leave", "out", "the pumps."]).expect(0);
    assert!(told.err.contains("writer (draft) hears it at its next turn"), "{}", told.err);
    let ran = wait(child).expect(0);
    assert_eq!(ran.out, "Answer 2.\n");
    assert!(ran.err.contains("told writer by ") && ran.err.contains(NOTE), "{}", ran.err);
    assert!(ran.err.contains("heard draft writer: it had answered, and takes one more turn"), "{}", ran.err);
    let seen = provider.seen();
    assert_eq!(seen.len(), 2, "the call went on and was not made again");
    let (first, second) = (seen[0].messages(), seen[1].messages());
    assert_eq!(second[..2], first[..2]);
    assert_eq!(second[2], ("assistant".into(), "Answer 1.".into()));
    assert!(second[3].0 == "user" && second[3].1.contains(NOTE) && second.len() == 4, "{second:?}");
    let order: Vec<&str> =
        kinds(&folder).into_iter().filter(|kind| kind.starts_with("call") || kind.starts_with("agent")).collect();
    assert_eq!(order, ["call.held", "agent.told", "call.answered", "agent.heard", "call.held", "call.answered"]);
    folder.verify();
    assert!(folder.bosun(&["replay"]).expect(0).err.len() < 4000);
    let shown = folder.bosun(&["show", "latest", "--events"]).expect(0).out;
    assert!(shown.contains("agent.told") && shown.contains(NOTE) && shown.contains("one more turn"), "{shown}");
    let json = folder.bosun(&["show", "latest", "--events", "--json"]).expect(0).out;
    let told: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["type"] == "agent.told")
        .collect();
    assert_eq!((told.len(), &told[0]["agent"]), (1, &serde_json::json!("writer")));
}

#[test]
fn a_message_outlives_the_process_that_took_it() {
    let provider = Provider::start();
    provider.push(Behaviour::Hang);
    let folder = folder(&provider, ONE);
    let child = in_first_call(&folder, &provider, &["run", "crew.toml", "-q"]);
    folder.bosun(&["tell", "latest", "draft", NOTE]).expect(0);
    until("the message is on record", || has(&folder, "agent.told"));
    assert!(!has(&folder, "agent.heard"));
    kill9(child.id());
    wait(child);
    let ran = folder.bosun(&["resume", "-q"]).expect(0);
    assert_eq!((ran.out.as_str(), provider.requests()), ("Answer 2.\n", 2));
    assert_eq!(places(&provider, NOTE), [(1, 2)], "after the task, in the one call of the resume");
    assert_eq!(kinds(&folder).iter().filter(|kind| **kind == "agent.told").count(), 1);
    folder.verify();
}

#[test]
fn a_process_that_dies_between_the_event_and_the_inbox_records_it_once() {
    let provider = Provider::start();
    slow_first(&provider);
    let folder = folder(&provider, ONE);
    let mut command = folder.command(&["run", "crew.toml", "-q"]);
    let child = command.env("BOSUN_CRASH_AT", "inbox_taken:1").spawn().unwrap();
    until("a first call", || provider.requests() == 1 && has(&folder, "call.held"));
    folder.bosun(&["tell", "latest", "writer", NOTE]).expect(0);
    assert_eq!(wait(child).code, None, "it dies once the message is on record");
    assert!(has(&folder, "agent.told"));
    folder.bosun(&["resume", "-q"]).expect(0);
    assert_eq!(kinds(&folder).iter().filter(|kind| **kind == "agent.told").count(), 1);
    assert_eq!(places(&provider, NOTE), [(1, 2)]);
    let store = folder.store();
    assert_eq!(store.inbox(&folder.runs()[0].0.run).unwrap(), [], "and the inbox has forgotten it");
    folder.verify();
}

#[test]
fn parked_and_dead_runs_take_it_before_their_first_call() {
    let provider = Provider::start();
    slow_first(&provider);
    let folder = folder(&provider, TWO.replace("MEMORY", "").as_str());
    let child = in_first_call(&folder, &provider, &["run", "crew.toml", "-q"]);
    folder.bosun(&["pause"]).expect(0);
    wait(child).expect(130);
    // Nobody runs it: the editor's task is ahead, the writer's is over.
    let told = folder.bosun(&["tell", "latest", "editor", NOTE]).expect(0);
    assert!(told.err.contains("editor hears it with its next task when the run goes on: bosun resume"), "{}", told.err);
    let over = folder.bosun(&["tell", "latest", "writer", NOTE]).expect(2);
    assert!(over.err.contains("no task of `writer` is running or ahead"), "{}", over.err);
    for (to, says) in [
        ("nobody", "its agents are: editor, writer"),
        ("draft", "draft has ended"),
        ("book", "book has not begun; tell the agent `editor`"),
    ] {
        let refused = folder.bosun(&["tell", "latest", to, NOTE]).expect(2);
        assert!(refused.err.contains(says), "{to}: {}", refused.err);
    }
    folder.bosun(&["resume", "-q"]).expect(0);
    assert_eq!(places(&provider, NOTE), [(1, 2)], "in the first call of its task, behind the task");
    let late = folder.bosun(&["tell", "latest", "editor", NOTE]).expect(2);
    assert!(late.err.contains("is over"), "{}", late.err);
    assert_eq!(
        folder.bosun(&["tell", "latest", "editor", " "]).expect(2).err.lines().next(),
        Some("bosun: there is nothing to tell: the text is empty")
    );
    folder.verify();
}

/// While another works: an agent that was never up, and one that is idle and remembers.
/// What a person pastes is no safer than what a tool says.
#[test]
fn a_key_in_a_message_is_in_no_inbox_and_no_journal() {
    const KEY: &str = "sk-live-1234567890abcdef";
    let provider = Provider::start();
    slow_first(&provider);
    let mut folder = folder(&provider, TWO.replace("MEMORY", "").as_str());
    folder.env("HOUSE_API_KEY", KEY);
    let child = in_first_call(&folder, &provider, &["run", "crew.toml", "-q"]);
    folder.bosun(&["pause"]).expect(0);
    wait(child).expect(130);
    folder.bosun(&["tell", "latest", "editor", &format!("The key is {KEY}.")]).expect(0);
    folder.bosun(&["resume", "-q"]).expect(0);
    let said = provider.seen().iter().flat_map(Seen::messages).map(|(_, text)| text).collect::<String>();
    assert!(said.contains("The key is ") && !said.contains(KEY), "{said}");
    assert!(!String::from_utf8_lossy(&std::fs::read(folder.state().join("journal.db")).unwrap()).contains(KEY));
    folder.verify();
}

#[test]
fn an_idle_agent_keeps_it_for_its_next_task() {
    for memory in ["task", "run"] {
        let provider = Provider::start();
        slow_first(&provider);
        let memory = format!("memory = \"{memory}\"");
        let folder = folder(&provider, TWO.replace("MEMORY", &memory).as_str());
        let child = in_first_call(&folder, &provider, &["run", "crew.toml", "-q"]);
        folder.bosun(&["tell", "latest", "editor", NOTE]).expect(0);
        wait(child).expect(0);
        assert_eq!(places(&provider, NOTE), [(1, 2)], "{memory}");
        folder.verify();
    }
    // The one actor has done its first task when it is told, and its second is ahead.
    let body = "[agents.clerk]\nmodel = \"m\"\nmemory = \"run\"\n[agents.other]\nmodel = \"m\"\n\
        [tasks.a]\nagent = \"clerk\"\ndescription = \"Do <a>\"\n\
        [tasks.b]\nagent = \"other\"\ndescription = \"Do <b>\"\ncontext = [\"a\"]\n\
        [tasks.c]\nagent = \"clerk\"\ndescription = \"Do <c>\"\ncontext = [\"b\"]\n";
    let second = Provider::start();
    second.server.respond(|_, number| {
        (Duration::from_millis(if number == 2 { 700 } else { 0 }), Behaviour::Answer(format!("Answer {number}.")))
    });
    let folder = self::folder(&second, body);
    let child = folder.start(&["run", "crew.toml", "-q"]);
    until("b is on its way", || second.requests() == 2);
    folder.bosun(&["tell", "latest", "clerk", NOTE]).expect(0);
    wait(child).expect(0);
    let third = second.seen()[2].messages();
    assert_eq!(places(&second, NOTE), [(2, 4)], "{third:?}");
    assert!(third[1].1.contains("<a>") && third[3].1.contains("<c>"), "{third:?}");
    folder.verify();
}

#[test]
fn a_role_is_told_in_all_its_actors_and_an_item_in_one() {
    let provider = Provider::start();
    provider.server.respond(|_, number| {
        (Duration::from_millis(if number <= 3 { 900 } else { 0 }), Behaviour::Answer(format!("Answer {number}.")))
    });
    let body = "[agents.author]\nmodel = \"m\"\n[tasks.section]\nagent = \"author\"\nfor_each = \"rows.csv\"\nkey = \"id\"\n\
        description = \"Write <{{ item.id }}>\"\n";
    let folder = folder(&provider, body);
    folder.file("rows.csv", "id\none\ntwo\nthree\n");
    let child = folder.start(&["run", "crew.toml", "-q"]);
    until("three calls", || provider.requests() == 3);
    let told = folder.bosun(&["tell", "latest", "author", NOTE]).expect(0);
    assert_eq!(told.err.lines().count(), 3, "{}", told.err);
    folder.bosun(&["tell", "latest", "section[two]", "Only for two."]).expect(0);
    wait(child).expect(0);
    let with = |text: &str| -> Vec<String> {
        let seen = provider.seen();
        let found = seen.iter().map(Seen::messages).filter(|all| all.iter().any(|(_, content)| content.contains(text)));
        let mut about: Vec<String> = found.map(|all| all[1].1.trim().to_owned()).collect();
        about.sort();
        about
    };
    assert_eq!(with(NOTE), ["Write <one>", "Write <three>", "Write <two>"]);
    assert_eq!(with("Only for two."), ["Write <two>"]);
    assert_eq!(provider.requests(), 6);
    folder.verify();
}

/// What was said holds for the attempts after it, each time behind the task.
#[test]
fn a_later_attempt_is_told_again() {
    let provider = Provider::start();
    slow_first(&provider);
    let folder = folder(&provider, &format!("{ONE}guardrails = [{{ if = \"'4' in output\", say = \"Say four\" }}]\n"));
    let child = in_first_call(&folder, &provider, &["run", "crew.toml", "-q"]);
    folder.bosun(&["tell", "latest", "writer", NOTE]).expect(0);
    // Answers 1 and 2 fail the guardrail; the third attempt's answer is out of attempts.
    wait(child).expect(16);
    assert_eq!(places(&provider, NOTE), [(1, 3), (2, 3)], "behind the task and the note on what was wrong");
    folder.verify();
    // A person lets it start over: the message is part of the task.
    let ran = folder.bosun(&["resume", "-q", "--retry", "draft"]).expect(0);
    assert_eq!(ran.out, "Answer 4.\n");
    assert_eq!(places(&provider, NOTE).last(), Some(&(3, 2)));
    folder.verify();
}

#[test]
fn without_a_turn_or_the_budget_for_one_the_answer_stands() {
    for (budget, agent) in [
        ("", "max_turns = 1"),
        ("[budget]\nmax_calls = 1\non_exhausted = \"finish\"\n", ""),
        ("[budget]\nmax_calls = 1\non_exhausted = \"fail\"\n", ""),
    ] {
        let provider = Provider::start();
        slow_first(&provider);
        let body = ONE.replacen("model = \"m\"", &format!("model = \"m\"\n{agent}"), 1);
        let folder = folder(&provider, &format!("{budget}{body}"));
        let child = in_first_call(&folder, &provider, &["run", "crew.toml"]);
        folder.bosun(&["tell", "latest", "writer", NOTE]).expect(0);
        let ran = wait(child).expect(0);
        assert_eq!((ran.out.as_str(), provider.requests()), ("Answer 1.\n", 1), "{budget}{agent}");
        assert_eq!(ran.err.contains("writer has not heard 1 message"), budget.is_empty(), "{}", ran.err);
        folder.verify();
    }
}

#[test]
fn a_message_that_would_fill_the_prompt_is_refused() {
    let provider = Provider::start();
    slow_first(&provider);
    let folder = folder(&provider, &ONE.replacen("model = \"m\"", "model = \"m\"\ncontext_tokens = 400", 1));
    let child = in_first_call(&folder, &provider, &["run", "crew.toml", "-q"]);
    let long = "word ".repeat(150);
    let refused = folder.bosun(&["tell", "latest", "writer", &long]).expect(2);
    assert!(refused.err.contains("writer takes 100, a quarter of its prompt of 400"), "{}", refused.err);
    wait(child).expect(0);
    assert!(!has(&folder, "agent.told"));
}

/// What an event of the journal says is what the provider saw: nothing is asked twice.
#[test]
fn a_told_agent_that_is_killed_between_all_its_calls_repeats_nothing() {
    let provider = Provider::start();
    slow_first(&provider);
    let folder = folder(&provider, ONE);
    let child = in_first_call(&folder, &provider, &["run", "crew.toml", "-q"]);
    folder.bosun(&["tell", "latest", "writer", NOTE]).expect(0);
    provider.push(Behaviour::Hang);
    until("the second call", || provider.requests() == 2);
    until("it is on record", || {
        folder.events().iter().filter(|event| matches!(event, Event::Call(CallEvent::Held(_)))).count() == 2
    });
    kill9(child.id());
    wait(child);
    folder.verify();
    let ran = folder.bosun(&["resume", "-q"]).expect(0);
    assert_eq!((ran.out.as_str(), provider.requests()), ("Answer 3.\n", 3));
    assert_eq!(provider.seen()[1].messages(), provider.seen()[2].messages(), "the same prompt again");
    let heard = folder.events().iter().filter(|event| matches!(event, Event::Task(TaskEvent::Heard { .. }))).count();
    assert_eq!(heard, 1);
    folder.verify();
}

/// A Chat Completions body that asks for tools.
fn asks(name: &str, arguments: &str) -> Behaviour {
    let call = serde_json::json!({"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}});
    let message = serde_json::json!({"role": "assistant", "content": "", "tool_calls": [call]});
    let usage = serde_json::json!({"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16});
    let choice = serde_json::json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
    Behaviour::Body(serde_json::json!({"id": "c", "choices": [choice], "usage": usage}).to_string())
}

#[test]
fn told_while_its_tool_runs_it_hears_behind_the_results() {
    let provider = Provider::start();
    provider.push(asks("nap", "{}"));
    let body = format!(
        "{}[tools.nap]\nkind = \"command\"\ncommand = [\"sleep\", \"0.7\"]\nisolation = \"none\"\ndescription = \"Naps\"\n",
        ONE.replacen("model = \"m\"", "model = \"m\"\ntools = [\"nap\"]", 1)
    );
    let folder = folder(&provider, &body);
    let child = folder.start(&["run", "crew.toml", "-q"]);
    until("the tool runs", || has(&folder, "tool.started"));
    folder.bosun(&["tell", "latest", "writer", NOTE]).expect(0);
    let ran = wait(child).expect(0);
    assert_eq!((ran.out.as_str(), provider.requests()), ("Answer 2.\n", 2));
    let roles: Vec<String> = provider.seen()[1].messages().into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
    assert_eq!(places(&provider, NOTE), [(1, 4)]);
    let audit = folder.bosun(&["audit", "list"]).expect(0).out;
    assert!(audit.contains("told writer something"), "{audit}");
    folder.verify();
}

/// One waits for the money that the other holds, and is told something meanwhile.
#[test]
fn told_while_it_waits_for_budget() {
    let provider = Provider::start();
    slow_first(&provider);
    let long = "word ".repeat(80);
    let body = format!(
        "[budget]\nmax_tokens = 1600\n[agents]\nann = {{ model = \"m\" }}\nben = {{ model = \"m\" }}\n\
        [tasks.a]\nagent = \"ann\"\ndescription = \"Do <a> {long}\"\n[tasks.b]\nagent = \"ben\"\ndescription = \"Do <b> {long}\"\nafter = []\n\
        [crew]\noutput = \"b\"\n"
    );
    let folder = folder(&provider, &body);
    let child = folder.start(&["run", "crew.toml", "-q"]);
    until("one waits", || has(&folder, "call.queued"));
    let waits = folder.events().into_iter().find_map(|event| match event {
        Event::Call(CallEvent::Queued { agent, .. }) => Some(agent.to_string()),
        _ => None,
    });
    let waits = waits.unwrap();
    folder.bosun(&["tell", "latest", &waits, NOTE]).expect(0);
    until("it is heard", || has(&folder, "agent.heard"));
    wait(child).expect(0);
    assert_eq!((provider.requests(), places(&provider, NOTE)), (2, vec![(1, 2)]));
    folder.verify();
}

/// Told at random moments by other processes while its own is killed at random: each message is on record
/// once, and each is in the prompts of a run that still had a turn for it.
#[test]
fn told_and_killed_at_random_each_message_is_recorded_once() {
    let provider = Provider::start();
    provider.server.respond(|_, number| (Duration::from_millis(15), Behaviour::Answer(format!("Answer {number}."))));
    let tasks: String = (1..=40)
        .map(|n| {
            let after = if n > 1 { format!("context = [\"t{}\"]\n", n - 1) } else { String::new() };
            format!("[tasks.t{n}]\nagent = \"clerk\"\ndescription = \"Do <{n}>\"\n{after}")
        })
        .collect();
    let folder = folder(&provider, &format!("[agents.clerk]\nmodel = \"m\"\nmemory = \"run\"\n{tasks}"));
    let mut dice = Dice::new(11);
    let (mut told, mut kills) = (0u64, 0u64);
    let most = size("TELLS", 10);
    while told < most {
        let child = folder.start(&["run", "crew.toml", "--key", "k", "-q"]);
        let seen = provider.requests();
        let begun = std::time::Instant::now();
        let enough = || begun.elapsed() > Duration::from_millis(900);
        until("a request", || provider.requests() > seen || enough());
        std::thread::sleep(Duration::from_millis(dice.below(20)));
        let ran = folder.bosun(&["tell", "latest", "clerk", &format!("Message {told} end.")]);
        if ran.code == Some(2) {
            wait(child);
            break;
        }
        ran.expect(0);
        told += 1;
        std::thread::sleep(Duration::from_millis(dice.below(80)));
        kill9(child.id());
        kills += u64::from(wait(child).code.is_none());
    }
    // Left behind in the inbox by a process that was killed first, it is taken up here.
    let ran = folder.bosun(&["run", "crew.toml", "--key", "k"]);
    let ran = if ran.code == Some(16) { folder.bosun(&["resume"]) } else { ran };
    ran.expect(0);
    let events = folder.events();
    let ids: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Task(TaskEvent::Told { id, .. }) => Some(*id),
            _ => None,
        })
        .collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!((ids.len() as u64, unique.len()), (told, ids.len()), "{told} told, {kills} kills: {ids:?}");
    assert!(told >= most / 2 && kills > 0, "{told} told, {kills} kills");
    for message in 0..told {
        assert!(!places(&provider, &format!("Message {message} end.")).is_empty(), "{message} of {told} was not heard");
    }
    folder.verify();
}
