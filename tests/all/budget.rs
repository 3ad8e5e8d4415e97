//! Budgets under concurrency, kills and lies. Invariant: `settled + held + ambiguous` never passes a cap
//! (every test is verified entry by entry), and what a cap allows can be used.

use std::time::Duration;

use boatswain::core::event::{CallEvent, Event, LedgerEvent};
use boatswain::core::ledger::Ledger;
use boatswain::core::money::{Amount, NanoUsd};
use serde_json::json;

use super::stand_in::{Behaviour, Billed, OUTPUT};
use super::support::{Dice, Folder, Provider, kill9, size, until, wait};

/// What the provider's own count costs, at the prices of `Provider::tables`.
fn invoice(billed: Billed) -> NanoUsd {
    NanoUsd(billed.input * 1_000 + billed.output * 10_000)
}

/// A Chat Completions body that asks for tools, with the usage that the stand-in bills.
fn asking(request: &str, calls: &[(&str, serde_json::Value)]) -> String {
    let calls: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(n, (name, arguments))| {
            json!({"id": format!("c{n}"), "type": "function",
                "function": {"name": name, "arguments": arguments.to_string()}})
        })
        .collect();
    let input = (request.len() as u64 / 4).max(1);
    json!({"choices": [{"message": {"role": "assistant", "content": "", "tool_calls": calls}, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": input, "completion_tokens": OUTPUT}})
    .to_string()
}

fn offers_tools(request: &str) -> bool {
    request.contains("\"tools\":[")
}

/// Asks for a search that nobody asked for before, until tools are off.
fn search_for_ever(request: &str, number: usize) -> Behaviour {
    if !offers_tools(request) {
        return Behaviour::Answer("Enough.".into());
    }
    let arguments = json!({"pattern": format!("q{number}"), "path": "notes.txt"});
    Behaviour::Body(asking(request, &[("files__search", arguments)]))
}

fn swarm(provider: &Provider, tasks: u32, cap: &str, max_output: u64) -> Folder {
    let tables =
        provider.tables("max_concurrency = 64").replace("max_output = 100", &format!("max_output = {max_output}"));
    let folder = Folder::new(&format!(
        "schema = 1\n[crew]\nmax_parallel = 64\n[budget]\n{cap}\nmax_tokens = 1000000000\nmax_calls = 1000000\n{tables}\
         [agents.a]\nmodel = \"m\"\ntools = [\"files.search\"]\nmax_turns = 50\ncontext_tokens = 100000\n\
         [tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Search {{{{ item.id }}}}\"\n"
    ));
    let rows: String = (1..=tasks).map(|n| format!("r{n}\n")).collect();
    folder.file("rows.csv", &format!("id\n{rows}"));
    folder.file("notes.txt", "Nothing here.\n");
    folder
}

fn random_latency(provider: &Provider, seed: u64) {
    provider.server.respond(move |request, number| {
        let micros = Dice::new(seed ^ number as u64).below(6_000);
        (Duration::from_micros(micros), search_for_ever(request, number))
    });
}

fn root_cap(events: &[Event]) -> NanoUsd {
    let Event::Run(boatswain::core::event::RunEvent::Started(started)) = &events[0] else { panic!() };
    started.caps.usd.unwrap()
}

/// The largest hold of a run, and whether each refusal was one that no settlement could have avoided.
#[track_caller]
fn refusals_are_final(events: &[Event]) -> (Amount, u64) {
    let (mut ledger, mut largest, mut refused) = (Ledger::default(), Amount::default(), 0);
    for event in events {
        if let Event::Call(CallEvent::Held(held)) = event {
            largest = largest.max_usd(held.amount);
        }
        if let Event::Call(CallEvent::Exhausted { need, node, .. }) = event {
            let firm = ledger.nodes.get(node).map(|sums| sums.firm()).unwrap_or_default();
            assert!(
                ledger.caps.broken_by(firm.plus(*need)).is_some(),
                "{need:?} was refused while money was only held"
            );
            refused += 1;
        }
        ledger.apply(event).unwrap();
    }
    (largest, refused)
}

trait MaxUsd {
    fn max_usd(self, other: Amount) -> Amount;
}
impl MaxUsd for Amount {
    fn max_usd(self, other: Amount) -> Amount {
        if other.usd > self.usd { other } else { self }
    }
}

/// `64 tasks x 50 calls on a cap that fits 1,000, random latency`.
#[test]
fn sixty_four_tasks_use_a_cap_and_never_pass_it() {
    let provider = Provider::start();
    random_latency(&provider, size("SEED", 1));
    let folder = swarm(&provider, 64, "max_usd = 1.10", 100);
    let ran = folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
    assert!(ran.last_line().contains("--raise-budget"), "{}", ran.last_line());
    let figures = folder.verify().remove(0);
    let events = folder.events();
    let cap = root_cap(&events);
    let (largest, refused) = refusals_are_final(&events);
    assert!(largest.usd.0 * 100 <= cap.0, "one worst case is at most 1 % of the cap: {} of {cap}", largest.usd);
    let used = figures.sums.settled.usd.plus(figures.sums.ambiguous.usd).plus(figures.sums.overrun.usd);
    let calls = figures.answered;
    println!(
        "{calls} calls, {refused} refusals, used {used} of {cap}, provider's count {}",
        invoice(provider.billed())
    );
    assert!(used.0 * 100 >= cap.0 * 95, "{used} of {cap} used");
    assert!(figures.sums.settled.usd <= cap);
    assert!(invoice(provider.billed()) <= cap);
    assert!((700..1500).contains(&calls), "{calls} calls: the cap was made for about 1,000");
    assert_eq!(refused, 64, "every task met the limit once");
}

#[test]
fn with_kills_the_cap_still_holds() {
    let seed = size("SEED", 1);
    let mut dice = Dice::new(seed);
    let provider = Provider::start();
    random_latency(&provider, seed);
    let folder = swarm(&provider, 64, "max_usd = 0.60", 100);
    let run = ["run", "crew.toml", "-q", "--key", "k"];
    for _ in 0..3 {
        let more = provider.requests() + dice.below(120) as usize;
        let child = folder.start(&run);
        let pid = child.id();
        until("requests", || provider.requests() > more);
        kill9(pid);
        wait(child);
    }
    folder.bosun(&run).expect(11);
    let figures = folder.verify().remove(0);
    let events = folder.events();
    let cap = root_cap(&events);
    refusals_are_final(&events);
    assert!(figures.lost > 0, "the kills hit calls");
    assert!(figures.sums.used().usd <= cap);
    let invoice = invoice(provider.billed());
    assert!(invoice <= cap, "{invoice} billed of {cap}");
}

/// `actual usage 5 % of the worst case, 64 in parallel`: waiting is not refusing.
#[test]
fn nothing_pauses_while_money_is_only_held() {
    let provider = Provider::start();
    random_latency(&provider, 3);
    // Worst case near 23 m$, actual near 1 m$; the cap fits 21 worst cases.
    let folder = swarm(&provider, 64, "max_usd = 0.48", 2_000);
    // No item is mandatory: else the run would be refused before it starts, as its smallest course
    // could cost more than the cap.
    let text = folder.read("crew.toml").replace("for_each =", "optional = true\nfor_each =");
    folder.file("crew.toml", &text);
    folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
    let figures = folder.verify().remove(0);
    let events = folder.events();
    let cap = root_cap(&events);
    let (largest, _) = refusals_are_final(&events);
    let queued = events.iter().filter(|event| matches!(event, Event::Call(CallEvent::Queued { .. }))).count();
    assert!(queued > 20, "{queued} calls waited for others to settle");
    assert!(largest.usd.0 * 20 <= cap.0, "{} of {cap}", largest.usd);
    let used = figures.sums.settled.usd;
    assert!(used.0 * 100 >= cap.0 * 95, "{used} of {cap} used");
}

#[test]
fn a_raised_budget_goes_on() {
    let provider = Provider::start();
    random_latency(&provider, 4);
    let folder = swarm(&provider, 4, "max_usd = 0.02", 100);
    let run = ["run", "crew.toml", "-q", "--key", "k"];
    folder.bosun(&run).expect(11);
    folder.verify();
    // The same again changes nothing, and sends nothing.
    let before = provider.requests();
    folder.bosun(&["resume", "-q"]).expect(11);
    assert_eq!(provider.requests(), before);
    folder.bosun(&["resume", "-q", "--raise-budget", "0.001"]).expect(2);
    folder.bosun(&["resume", "-q", "--raise-budget", "0.05"]).expect(11);
    assert!(provider.requests() > before);
    folder.bosun(&["resume", "-q", "--raise-budget", "10"]).expect(0);
    let figures = folder.verify().remove(0);
    let raises = folder.events().into_iter().filter(|event| matches!(event, Event::Ledger(LedgerEvent::Raised { .. })));
    assert_eq!(raises.count(), 2);
    assert_eq!(figures.answered, 4 * 50, "each task took its fifty turns");
}

/// One call; the answer's usage as given. The journal's view of it.
fn lied(usage: &str) -> (boatswain::core::event::Answered, boatswain::core::event::Held, Folder, Provider) {
    let provider = Provider::start();
    let body = format!(
        "{{\"choices\":[{{\"message\":{{\"role\":\"assistant\",\"content\":\"Fine.\"}},\"finish_reason\":\"stop\"}}]{usage}}}"
    );
    provider.push(Behaviour::Body(body));
    let tables = provider.tables("");
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 0.10\n{tables}[agents.a]\nmodel = \"m\"\n\
         [tasks.one]\nagent = \"a\"\ndescription = \"Say one\"\n\
         [tasks.two]\nagent = \"a\"\ndescription = \"Say two\"\ncontext = [\"one\"]\n"
    ));
    let code = folder.bosun(&["run", "crew.toml", "-q"]).code;
    folder.verify();
    let events = folder.events();
    let held = events.iter().find_map(|event| match event {
        Event::Call(CallEvent::Held(held)) => Some((**held).clone()),
        _ => None,
    });
    let answered = events.iter().find_map(|event| match event {
        Event::Call(CallEvent::Answered(answered)) => Some((**answered).clone()),
        _ => None,
    });
    let (answered, held) = (answered.unwrap(), held.unwrap());
    // Beyond the bound nothing new is sent; any other lie is booked at the hold and the run goes on.
    assert_eq!(code, Some(if answered.overrun { 11 } else { 0 }));
    assert_eq!(provider.requests(), if answered.overrun { 1 } else { 2 });
    (answered, held, folder, provider)
}

#[test]
fn a_provider_that_lies_is_found_in_one_call() {
    let lies = [
        "",
        ",\"usage\":null",
        ",\"usage\":{}",
        ",\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}",
        ",\"usage\":{\"prompt_tokens\":-40,\"completion_tokens\":-7}",
        ",\"usage\":{\"prompt_tokens\":\"40\",\"completion_tokens\":7}",
        ",\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":90}}",
    ];
    for usage in lies {
        let (answered, held, ..) = lied(usage);
        assert!(answered.estimated && !answered.overrun, "{usage}");
        assert_eq!(answered.cost, held.amount, "{usage}: booked at the hold");
    }
    // Three times the bound: booked in full, and nothing more is sent.
    let (_, held, ..) = lied("");
    let (input, output) = (held.input.0 * 3, 300);
    let usage = format!(",\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output}}}");
    let (answered, held, folder, provider) = lied(&usage);
    assert!(answered.overrun && !answered.estimated);
    assert_eq!(answered.cost.usd, NanoUsd(input * 1_000 + output * 10_000));
    let figures = folder.verify().remove(0);
    assert_eq!(figures.sums.overrun.usd, answered.cost.usd.minus(held.amount.usd));
    // A person who has read this may raise the budget, and it goes on.
    folder.bosun(&["resume", "-q", "--raise-budget", "0.20"]).expect(0);
    assert_eq!(provider.requests(), 2);
    folder.verify();
}

#[test]
fn delegation_in_parallel_ends_at_the_limit() {
    for (limit, fan) in [(3, 2), (5, 4), (9, 8)] {
        let provider = Provider::start();
        provider.server.respond(move |request, number| {
            let to = if request.contains("\"enum\":[\"helper\"]") { "helper" } else { "peer" };
            let delegate = |n: usize| {
                let arguments = json!({"to": to, "task": format!("Part {number} {n}")});
                ("delegate", arguments)
            };
            let calls: Vec<_> = (0..fan).map(delegate).collect();
            let behaviour = match offers_tools(request) {
                true => Behaviour::Body(asking(request, &calls)),
                false => Behaviour::Answer("Done.".into()),
            };
            (Duration::from_millis(2), behaviour)
        });
        let tables = provider.tables("max_concurrency = 64");
        let folder = Folder::new(&format!(
            "schema = 1\n[crew]\nmax_parallel = 16\n[budget]\nmax_usd = 5\nmax_calls = {limit}\n{tables}\
             [agents.lead]\nmodel = \"m\"\ndelegates = [\"helper\"]\n[agents.helper]\nmodel = \"m\"\ndelegates = [\"peer\"]\n[agents.peer]\nmodel = \"m\"\n\
             [tasks.t]\nagent = \"lead\"\ndescription = \"Lead\"\n"
        ));
        let ran = folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
        folder.verify();
        assert!(provider.requests() <= limit, "{} of {limit}", provider.requests());
        assert_eq!(provider.requests(), limit, "fan-out {fan}: what the limit allows is used: {}", ran.err);
    }
}

#[test]
fn who_is_out_of_budget_keeps_nobody_from_the_provider() {
    let folder = Folder::new(
        "schema = 1\n[crew]\noutput = \"u\"\n\
         [providers.s]\nkind = \"scripted\"\nfile = \"script.toml\"\nmax_concurrency = 1\n\
         [models]\nm = \"s/m\"\n\
         [agents.poor]\nmodel = \"m\"\ngoal = \"g\"\nbudget = { max_tokens = 10 }\n\
         [agents.rich]\nmodel = \"m\"\ngoal = \"g\"\n\
         [tasks.t]\nagent = \"poor\"\ndescription = \"Say it\"\noptional = true\n\
         [tasks.u]\nagent = \"rich\"\ndescription = \"Say it\"\n",
    );
    folder.file("script.toml", "[default]\ntext = \"Fine.\"\n");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
    let figures = folder.verify().remove(0);
    assert_eq!(figures.answered, 1, "the other went on");
}

/// Caps of agents and tasks below the crew's: each holds at its own node, and waiters of one node do not
/// stop those of another.
#[test]
fn every_node_of_the_tree_keeps_its_own_cap() {
    let provider = Provider::start();
    random_latency(&provider, 9);
    let tables = provider.tables("max_concurrency = 64");
    let folder = Folder::new(&format!(
        "schema = 1\n[crew]\nmax_parallel = 32\n[budget]\nmax_usd = 0.60\nmax_tokens = 100000000\nmax_calls = 220\n{tables}\
         [agents.a]\nmodel = \"m\"\ntools = [\"files.search\"]\nbudget = {{ max_usd = 0.12 }}\n\
         [agents.b]\nmodel = \"m\"\ntools = [\"files.search\"]\n\
         [tasks.one]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"One {{{{ item.id }}}}\"\nbudget = {{ share = 0.1 }}\n\
         [tasks.two]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Two {{{{ item.id }}}}\"\nbudget = {{ max_usd = 0.08 }}\n\
         [tasks.three]\nagent = \"b\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Three {{{{ item.id }}}}\"\n\
         [tasks.end]\nagent = \"b\"\ndescription = \"End\"\ncontext = [\"one\", \"two\", \"three\"]\n"
    ));
    let rows: String = (1..=12).map(|n| format!("r{n}\n")).collect();
    folder.file("rows.csv", &format!("id\n{rows}"));
    folder.file("notes.txt", "Nothing here.\n");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
    let figures = folder.verify().remove(0);
    assert!(figures.answered <= 220);
    let events = folder.events();
    let exhausted: std::collections::BTreeSet<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Call(CallEvent::Exhausted { node, .. }) => Some(node.to_string()),
            _ => None,
        })
        .collect();
    assert!(exhausted.len() >= 2, "several nodes met their limit: {exhausted:?}");
}

/// `on_exhausted = "fail"`: the task ends over budget, and the run fails.
#[test]
fn a_budget_that_fails_its_tasks_ends_the_run() {
    let provider = Provider::start();
    random_latency(&provider, 11);
    let folder = swarm(&provider, 8, "max_usd = 0.03\non_exhausted = \"fail\"", 100);
    folder.bosun(&["run", "crew.toml", "-q"]).expect(10);
    let figures = folder.verify().remove(0);
    assert!(invoice(provider.billed()) <= root_cap(&folder.events()));
    assert_eq!(figures.end, Some(boatswain::core::event::RunEnd::Failed));
    assert_eq!(figures.sums.held, Amount::default());
}

/// Ledger 7: a report from what is done, in every place that shows money while the run is under way.
#[test]
fn a_forecast_says_what_the_rest_will_cost_at_this_rate() {
    let provider = Provider::start();
    let message = json!({"role": "assistant", "content": "Fine."});
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 90});
    let body = json!({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).to_string();
    provider.server.respond(move |_, _| (Duration::ZERO, Behaviour::Body(body.clone())));
    let tables = provider.tables("");
    let folder = Folder::new(&format!(
        "schema = 1\n[crew]\nmax_parallel = 1\n[budget]\nmax_usd = 0.02\nwarn_at = [0.5]\n{tables}[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Say {{{{ item.id }}}}\"\n"
    ));
    let rows: String = (1..=40).map(|n| format!("r{n}\n")).collect();
    folder.file("rows.csv", &format!("id\n{rows}"));
    let ran = folder.bosun(&["run", "crew.toml"]).expect(11);
    let figures = folder.verify().remove(0);
    let done = figures.answered;
    assert!((2..40).contains(&done), "{done}");
    let settled = figures.sums.settled.usd.0;
    let at_end = (u128::from(settled) * 40).div_ceil(u128::from(done));
    let words = format!("of $0.02 ({done} of 40 tasks done)");
    for args in [vec!["ledger", "show", "latest"], vec!["cost", "latest"]] {
        let shown = folder.bosun(&args).expect(0).out;
        let line = shown.lines().find(|line| line.starts_with("at this rate")).unwrap_or_else(|| panic!("{shown}"));
        assert!(line.ends_with(&words), "{line}");
        let dollars = line.split(['$', ' ']).nth(4).unwrap();
        let nano = NanoUsd(at_end as u64);
        let near: NanoUsd = dollars.parse().unwrap();
        assert!(near.0.abs_diff(nano.0) * 100 <= nano.0, "{line}: {nano} was expected");
    }
    let alert = ran.err.lines().find(|line| line.contains("has reached 50 % of its cap of $0.02:")).unwrap();
    assert!(alert.contains("; at this rate $"), "{alert}");
}

/// Nothing is a share of nothing; what the run is measured by besides is warned of all the same.
#[test]
fn a_cap_of_no_dollars_has_no_shares_to_warn_of() {
    let folder = Folder::new(
        "schema = 1\n[budget]\nmax_tokens = 6_000\nwarn_at = [0.01]\n[models.m]\nid = \"offline/x\"\nmax_output = 400\n\
         [agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n",
    );
    let ran = folder.bosun(&["run", "crew.toml", "--max-usd", "0"]).expect(0);
    folder.verify();
    let alerts: Vec<&str> = ran.err.lines().filter(|line| line.contains("has reached")).collect();
    assert!(alerts.len() == 1 && alerts[0].contains("1 % of its cap of 6,000 tokens"), "{}", ran.err);
}

/// The smallest course used to count four bytes a token where a hold counts each: a run with long prompts
/// began, and paused at its first call.
#[test]
fn a_run_whose_first_hold_does_not_fit_is_refused_before_it_starts() {
    let provider = Provider::start();
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer("Fine.".into())));
    let tables = provider.tables("");
    let long = "All of this is to be taken to heart, word by word. ".repeat(400);
    let crew = |cap: &str| {
        format!(
            "schema = 1\n[budget]\nmax_usd = {cap}\n{tables}[agents.a]\nmodel = \"m\"\n\
             [tasks.t]\nagent = \"a\"\ndescription = \"{long}\"\n"
        )
    };
    let folder = Folder::new(&crew("0.015"));
    let refused = folder.bosun(&["run", "crew.toml", "-q"]).expect(3);
    assert!(refused.err.contains("the smallest possible course"), "{}", refused.err);
    assert_eq!(provider.requests(), 0);
    let checked = folder.bosun(&["check", "crew.toml"]).expect(3);
    assert!(format!("{}{}", checked.out, checked.err).contains("$0.015 allowed"), "{} {}", checked.out, checked.err);
    let planned = folder.bosun(&["plan", "crew.toml", "--json"]).expect(0);
    let planned: serde_json::Value = serde_json::from_str(&planned.out).unwrap();
    let needed: NanoUsd = planned["smallest"]["usd"].as_str().unwrap().parse().unwrap();
    // With exactly that it runs; with a nano-dollar less it is refused.
    let least = Folder::new(&crew(&NanoUsd(needed.0 - 1).to_string()));
    least.bosun(&["run", "crew.toml", "-q"]).expect(3);
    let enough = Folder::new(&crew(&needed.to_string()));
    enough.bosun(&["run", "crew.toml", "-q"]).expect(0);
    enough.verify();
}

/// Ledger 9 through the program: tools are asked for without end, the cap is twice the endings, and there is
/// a result without a pause.
#[test]
fn a_run_that_finishes_at_its_limit_has_a_result() {
    let provider = Provider::start();
    random_latency(&provider, 3);
    let tables = provider.tables("");
    let crew = |cap: &str| {
        format!(
            "schema = 1\n[crew]\nmax_parallel = 3\n[budget]\nmax_usd = {cap}\non_exhausted = \"finish\"\nmax_calls = 100000\n{tables}\
             [agents.a]\nmodel = \"m\"\ntools = [\"files.search\"]\nmax_turns = 200\ncontext_tokens = 100000\n\
             [tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Search {{{{ item.id }}}}\"\n\
             [tasks.end]\nagent = \"a\"\ndescription = \"Sum up\"\ncontext = [\"t\"]\n"
        )
    };
    let folder = Folder::new(&crew("0.20"));
    folder.file("rows.csv", "id\none\ntwo\nthree\nfour\n");
    folder.file("notes.txt", "Nothing here.\n");
    let ran = folder.bosun(&["run", "crew.toml"]).expect(0);
    assert_eq!(ran.out.trim(), "Enough.");
    let events = folder.events();
    let endings = events.iter().filter(|event| matches!(event, Event::Call(CallEvent::Exhausted { finish: true, .. })));
    assert!(endings.count() > 0, "some task went to its ending: {}", ran.err);
    assert!(ran.err.contains("it goes to its ending"), "{}", ran.err);
    assert!(!events.iter().any(|event| matches!(event, Event::Ledger(LedgerEvent::Unguaranteed { .. }))));
    let figures = folder.verify().remove(0);
    assert!(figures.sums.settled.usd <= root_cap(&events));
    // A cap that never covered the endings says so at once, and goes on as far as it goes.
    let folder = Folder::new(&crew("0.03"));
    folder.file("rows.csv", "id\none\ntwo\nthree\nfour\n");
    folder.file("notes.txt", "Nothing here.\n");
    let ran = folder.bosun(&["run", "crew.toml"]);
    assert!(ran.err.contains("a result is not guaranteed"), "{}", ran.err);
    folder.verify();
}
