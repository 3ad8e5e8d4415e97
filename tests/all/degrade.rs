//! `degrade` through the program (Ledger 8). Invariant: at a node that is used up the steps are given up in
//! order, each is an event, later calls ask for less, and only then does `on_exhausted` count.

use std::time::Duration;

use boatswain::core::event::{CallEvent, Event, Held, LedgerEvent, TaskEvent};

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

fn crew(provider: &Provider, budget: &str, rows: usize) -> Folder {
    let tables = provider.tables("");
    let folder = Folder::new(&format!(
        "schema = 1\n[crew]\nmax_parallel = 2\noutput = \"end\"\n[budget]\n{budget}\n{tables}\
         [models.cheap]\nid = \"p/cheap\"\nprice = {{ input = 0.1, output = 1.0 }}\nmax_output = 80\n\
         [agents.a]\nmodel = \"m\"\n[agents.b]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Tell of {{{{ item.id }}}}\"\n\
         [tasks.extra]\nagent = \"b\"\noptional = true\nafter = [\"t\"]\ndescription = \"More\"\n\
         [tasks.end]\nagent = \"b\"\nafter = [\"extra\"]\ndescription = \"Sum up\"\n"
    ));
    let ids: Vec<String> = (0..rows).map(|n| format!("row{n}")).collect();
    folder.file("rows.csv", &format!("id\n{}\n", ids.join("\n")));
    folder
}

/// As dear as it may get: every answer as long as it was allowed to be.
fn greedy(body: &str) -> Behaviour {
    let request: serde_json::Value = serde_json::from_str(body).unwrap();
    let most = request["max_tokens"].as_u64().or(request["max_completion_tokens"].as_u64()).unwrap();
    let message = serde_json::json!({ "role": "assistant", "content": "Fine." });
    let usage = serde_json::json!({ "prompt_tokens": 100, "completion_tokens": most, "total_tokens": 100 + most });
    let choices = serde_json::json!([{ "index": 0, "message": message, "finish_reason": "stop" }]);
    Behaviour::Body(serde_json::json!({ "id": "1", "choices": choices, "usage": usage }).to_string())
}

fn holds(events: &[Event]) -> Vec<&Held> {
    let held = events.iter().filter_map(|event| match event {
        Event::Call(CallEvent::Held(held)) => Some(&**held),
        _ => None,
    });
    held.collect()
}

fn steps(events: &[Event]) -> Vec<(u32, String)> {
    let steps = events.iter().filter_map(|event| match event {
        Event::Ledger(LedgerEvent::Degraded { step, gives_up, .. }) => Some((*step, gives_up.clone())),
        _ => None,
    });
    steps.collect()
}

const STEPS: &str = "degrade = [{ model = \"cheap\" }, { skip = \"optional\" }, { max_output = 30 }]";

#[test]
fn a_budget_that_is_used_up_buys_cheaper_calls_to_the_end() {
    let provider = Provider::start();
    provider.server.respond(|body, _| (Duration::ZERO, greedy(body)));
    // A call of `m` is held at some $0.00135 and costs $0.0011; one of `cheap` is a tenth and less. Nine of
    // them leave $0.0013.
    let folder = crew(&provider, &format!("max_usd = 0.0112\n{STEPS}"), 20);
    let planned = folder.bosun(&["plan", "crew.toml"]).expect(0);
    let told: String = planned.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("1. model = \"cheap\", 2. skip = \"optional\", 3. max_output = 30; then the run pauses"),
        "{told}"
    );
    let ran = folder.bosun(&["run", "crew.toml"]).expect(0);
    assert_eq!(ran.out.trim(), "Fine.");
    assert!(ran.err.contains("step 1 of 3"), "{}", ran.err);
    let events = folder.events();
    let told = steps(&events);
    assert_eq!(told[0], (1, "model = \"cheap\"".to_owned()), "{told:?}");
    let at = events.iter().position(|event| matches!(event, Event::Ledger(LedgerEvent::Degraded { .. }))).unwrap();
    let (before, after) = (holds(&events[..at]), holds(&events[at..]));
    assert!(before.iter().all(|held| held.model == "p/m") && before.len() > 3);
    let items = after.iter().filter(|held| held.agent.name.as_str() == "a");
    assert!(items.clone().count() > 5 && items.clone().all(|held| held.model == "p/cheap"));
    assert!(after.iter().all(|held| held.model == "p/cheap" && held.settings.max_output == 80));
    let seen = provider.seen();
    assert_eq!(seen.iter().filter(|seen| seen.body.contains("\"cheap\"")).count(), after.len());
    assert!(!events.iter().any(|event| matches!(event, Event::Call(CallEvent::Exhausted { .. }))));
    folder.verify();
    folder.bosun(&["replay"]).expect(0);
    let why = folder.bosun(&["show", "latest", "t[row19]", "--why"]).expect(0);
    assert!(why.out.contains("p/cheap <- `degrade` in [budget]"), "{}", why.out);
    let events = folder.bosun(&["show", "--events"]).expect(0);
    assert!(events.out.contains("budget.degraded") && events.out.contains("step 1 of 3"), "{}", events.out);
}

#[test]
fn only_when_no_step_is_left_the_run_pauses_and_a_resume_goes_on_with_what_is_given_up() {
    let provider = Provider::start();
    provider.server.respond(|body, _| (Duration::ZERO, greedy(body)));
    let folder = crew(&provider, &format!("max_usd = 0.006\n{STEPS}"), 120);
    let ran = folder.bosun(&["run", "crew.toml"]).expect(11);
    assert!(ran.err.contains("step 3 of 3"), "{}", ran.err);
    let events = folder.events();
    assert_eq!(steps(&events).iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3]);
    let last = events.iter().rposition(|event| matches!(event, Event::Ledger(LedgerEvent::Degraded { .. }))).unwrap();
    let over = events.iter().position(|event| matches!(event, Event::Call(CallEvent::Exhausted { .. }))).unwrap();
    assert!(last < over, "it pauses before the last step is given up");
    assert!(holds(&events[last..]).iter().all(|held| held.settings.max_output <= 30));
    folder.verify();
    // The next process begins with what was given up: nothing dearer is asked for.
    folder.bosun(&["resume", "--raise-budget", "0.05"]).expect(0);
    let events = folder.events();
    assert!(holds(&events[last..]).iter().all(|held| held.settings.max_output <= 30));
    let skipped = events.iter().find_map(|event| match event {
        Event::Task(TaskEvent::Skipped { step, because, .. }) => Some((step.to_string(), because.clone())),
        _ => None,
    });
    let (step, because) = skipped.unwrap();
    assert!(step == "extra" && because.contains("optional tasks are given up"), "{step}: {because}");
    folder.verify();
}

/// Ledger 9 with 8: S is that of the cheapest way to an ending, and each task has its ending.
#[test]
fn a_run_that_finishes_gives_up_its_steps_first() {
    let provider = Provider::start();
    provider.server.respond(|body, _| (Duration::ZERO, greedy(body)));
    let budget = "max_usd = 0.0062\non_exhausted = \"finish\"\ndegrade = [{ model = \"cheap\" }, { max_output = 40 }]";
    let folder = crew(&provider, budget, 6);
    let ran = folder.bosun(&["run", "crew.toml"]).expect(0);
    assert_eq!(ran.out.trim(), "Fine.");
    let events = folder.events();
    assert!(!steps(&events).is_empty(), "{}", ran.err);
    assert!(!ran.err.contains("not guaranteed"), "{}", ran.err);
    folder.verify();
}
