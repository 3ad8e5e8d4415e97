//! `kill -9`, at random and at a given call. Invariant: nothing recorded is asked again, nothing billed is
//! unaccounted, and the result is that of an undisturbed run.

use std::collections::BTreeMap;
use std::time::Duration;

use boatswain::core::event::{CallEvent, Event};

use super::stand_in::Behaviour;
use super::support::{Dice, Folder, Provider, kill9, size, until, wait};

/// 160 sections, four at once, and a last task that reads them.
fn crew(provider: &Provider, items: u32) -> Folder {
    let tables = provider.tables("max_concurrency = 8");
    let folder = Folder::new(&format!(
        "schema = 1\n[crew]\nmax_parallel = 4\n[budget]\nmax_usd = 50\n{tables}\
         [agents.author]\nrole = \"Author\"\nmodel = \"m\"\n[agents.editor]\nrole = \"Editor\"\nmodel = \"m\"\n\
         [tasks.section]\nagent = \"author\"\nfor_each = \"sections.csv\"\nkey = \"id\"\n\
         description = \"Section <{{{{ item.id }}}}>\"\n\
         [tasks.book]\nagent = \"editor\"\ndescription = \"Bind <all>\"\ncontext = [\"section\"]\noutput_file = \"book.md\"\n"
    ));
    let rows: String = (1..=items).map(|n| format!("s{n},{n}\n")).collect();
    folder.file("sections.csv", &format!("id,n\n{rows}"));
    folder
}

/// What a request is about: the mark in its last message.
fn subject(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let text = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    let (_, rest) = text.split_once('<').expect("a mark");
    rest.split_once('>').unwrap().0.to_owned()
}

/// The answer depends on the whole prompt, so that a wrong prompt shows in the result.
fn answer(body: &str) -> Behaviour {
    let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
    let prompt = parsed["messages"].to_string();
    let sum = prompt.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Behaviour::Answer(format!("{} is {sum:x}.", subject(body)))
}

fn counted<'a>(of: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    of.for_each(|name| *counts.entry(name.to_owned()).or_default() += 1);
    counts
}

/// The key of an item, or `all`.
fn of_step(step: &str) -> &str {
    step.split_once('[').map_or("all", |(_, rest)| rest.trim_end_matches(']'))
}

/// The provider's count against the journal's, item by item.
#[track_caller]
fn account(folder: &Folder, provider: &Provider) -> (u64, u64) {
    let events = folder.events();
    let names = |pick: fn(&CallEvent) -> Option<&str>| {
        counted(events.iter().filter_map(|event| match event {
            Event::Call(call) => pick(call).map(of_step),
            _ => None,
        }))
    };
    let answered = names(|call| match call {
        CallEvent::Answered(answered) => Some(answered.call.step.as_str()),
        _ => None,
    });
    let lost = names(|call| match call {
        CallEvent::Lost { call, .. } => Some(call.step.as_str()),
        _ => None,
    });
    let seen = provider.seen();
    let subjects: Vec<String> = seen.iter().map(|seen| subject(&seen.body)).collect();
    let billed = counted(subjects.iter().map(String::as_str));
    let none = 0;
    for (item, billed) in &billed {
        let (answered, lost) = (answered.get(item).unwrap_or(&none), lost.get(item).unwrap_or(&none));
        assert_eq!(*answered, 1, "{item} is answered once");
        assert!(*billed <= answered + lost, "{item}: {billed} billed, {answered} answered, {lost} in doubt");
    }
    assert_eq!(answered.len(), billed.len(), "what is answered was asked");
    (billed.values().sum(), lost.values().sum())
}

fn undisturbed(items: u32) -> String {
    let provider = Provider::start();
    provider.server.respond(|body, _| (Duration::ZERO, answer(body)));
    let folder = crew(&provider, items);
    let ran = folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    folder.verify();
    assert_eq!(account(&folder, &provider), (u64::from(items) + 1, 0));
    assert_eq!(folder.read("book.md"), ran.out.trim_end());
    ran.out
}

fn killed_at_random(seed: u64, kills: u64, items: u32, expected: &str) -> (u64, u64) {
    let mut dice = Dice::new(seed);
    let provider = Provider::start();
    provider.server.respond(|body, number| (Duration::from_millis(1 + (number as u64 * 7) % 5), answer(body)));
    let folder = crew(&provider, items);
    let mut done = 0;
    let out = loop {
        let child = folder.start(&["run", "crew.toml", "--key", "k", "-q"]);
        if done >= kills {
            let ran = wait(child);
            if ran.code != Some(16) {
                break ran.expect(0).out;
            }
            // Five of the kills hit the same step: a person says that it may go on.
            let mut command = vec!["resume", "-q"];
            for step in ran.last_line().split(" --retry ").skip(1) {
                command.extend(["--retry", step.trim_matches('\'')]);
            }
            folder.bosun(&command).expect(0);
            continue;
        }
        let more = provider.requests() + dice.below(u64::from(items) / kills) as usize;
        let pid = child.id();
        let begun = std::time::Instant::now();
        until("the next requests", || provider.requests() > more || begun.elapsed() > Duration::from_millis(1500));
        std::thread::sleep(Duration::from_micros(dice.below(4000)));
        kill9(pid);
        let ended = wait(child);
        if ended.code == Some(0) {
            break ended.out;
        }
        done += 1;
    };
    assert_eq!(out, expected, "seed {seed}: the result is that of an undisturbed run");
    let figures = folder.verify();
    assert_eq!(figures.len(), 1, "one run");
    let counts = account(&folder, &provider);
    assert_eq!(figures[0].answered, u64::from(items) + 1);
    counts
}

#[test]
fn random_kills_repeat_nothing_that_is_recorded_and_lose_nothing_that_is_billed() {
    let (runs, kills, items) = (size("CRASH_RUNS", 4), size("CRASH_KILLS", 4), 160);
    campaign(runs, kills, items);
}

/// `BOSUN_TEST_SEED=7 cargo test --test all -- --ignored hundred_runs`
#[test]
#[ignore = "100 runs x 10 kills: minutes"]
fn a_hundred_runs_of_ten_kills() {
    campaign(size("CRASH_RUNS", 100), size("CRASH_KILLS", 10), 160);
}

fn campaign(runs: u64, kills: u64, items: u32) {
    let expected = undisturbed(items);
    let (mut billed, mut lost) = (0, 0);
    for run in 0..runs {
        let (b, l) = killed_at_random(size("SEED", 1) + run, kills, items, &expected);
        (billed, lost) = (billed + b, lost + l);
    }
    let needed = runs * u64::from(items + 1);
    println!("{runs} runs x {kills} kills: {billed} billed, {needed} needed, {lost} in doubt, 0 unaccounted");
    assert!(billed <= needed + lost);
}

#[test]
fn step_84_of_161_killed_costs_at_most_one_call_more() {
    let expected = undisturbed(160);
    for billed_before in [false, true] {
        let provider = Provider::start();
        let folder = crew(&provider, 160);
        // One at a time, so that there is a step 84.
        let text = folder.read("crew.toml").replace("max_parallel = 4", "max_parallel = 1");
        folder.file("crew.toml", &text);
        provider.server.respond(move |body, number| match number {
            // Billed and never answered: the process dies in the call.
            84 if billed_before => (Duration::ZERO, Behaviour::Hang),
            _ => (Duration::ZERO, answer(body)),
        });
        if billed_before {
            let child = folder.start(&["run", "crew.toml", "--key", "k", "-q"]);
            until("request 84", || provider.requests() == 84);
            kill9(child.id());
            wait(child);
        } else {
            // Dies once call 84 is held and before it is sent.
            let mut command = folder.command(&["run", "crew.toml", "--key", "k", "-q"]);
            let child = command.env("BOSUN_CRASH_AT", "call_send:84").spawn().unwrap();
            wait(child);
            assert_eq!(provider.requests(), 83);
        }
        let before = provider.requests();
        let ran = folder.bosun(&["run", "crew.toml", "--key", "k", "-q"]).expect(0);
        assert_eq!(ran.out, expected);
        let after = provider.requests() - before;
        assert_eq!(after, 78, "calls after the resume");
        assert_eq!(provider.billed().requests, if billed_before { 162 } else { 161 });
        let figures = folder.verify();
        assert_eq!((figures[0].answered, figures[0].lost), (161, 1));
    }
}
