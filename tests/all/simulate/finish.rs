//! Ledger 9: with `on_exhausted = "finish"` money for one ending of every mandatory task is set aside, so
//! that a capped run has fewer turns, revisions and delegations, and a result.

use std::collections::BTreeMap;
use std::sync::Arc;

use boatswain::core::crew::Crew;
use boatswain::core::estimate::set_aside;
use boatswain::core::event::{CallEvent, Event, LedgerEvent, RunEnd, RunEvent, TaskEvent};
use boatswain::core::ids::Step;
use boatswain::core::ledger::NodeId;
use boatswain::core::money::{Amount, Caps, NanoUsd};

use super::FAIR;
use super::crews::crew;
use super::driver::{End, Sim};
use super::random::Random;
use super::script::Mood;

/// What a crew gives up before it goes to its endings.
const DEGRADE: &[&str] = &[
    "",
    "",
    "degrade = [{ skip = \"optional\" }]\n",
    "degrade = [{ max_output = 20 }, { model = \"small\" }]\n",
    "degrade = [{ agent = \"a\", model = \"small\" }, { skip = \"optional\" }, { max_output = 10 }]\n",
];

/// A crew of up to five tasks, in a shape that the numbers choose; `usd` is its cap.
fn body(random: &mut Random, usd: NanoUsd) -> String {
    let mut out = format!(
        "[crew]\nmax_parallel = {}\noutput = \"last\"\n[budget]\nmax_usd = {usd}\nmax_tokens = 100000000\n\
         on_exhausted = \"finish\"\n{}[agents]\n",
        1 + random.below(4),
        *random.pick(DEGRADE),
    );
    let tools = *random.pick(&["", ", tools = [\"look\"]"]);
    let delegates = *random.pick(&["", ", delegates = [\"b\"]"]);
    // With the smaller context turns are summed up, which is no ending.
    let context = *random.pick(&["", ", context_tokens = 1300"]);
    out.push_str(&format!(
        "a = {{ model = \"m\", max_turns = {}{tools}{delegates}{context} }}\n",
        2 + random.below(20)
    ));
    out.push_str(&format!("b = {{ model = \"small\", tools = [\"look\"], max_turns = {} }}\n", 2 + random.below(9)));
    out.push_str("c = { model = \"m\" }\n");
    let tasks = 1 + random.below(4);
    for n in 0..tasks {
        let agent = *random.pick(&["a", "b", "c"]);
        out.push_str(&format!("[tasks.t{n}]\nagent = \"{agent}\"\ndescription = \"Do {n}\"\n"));
        if n > 0 && random.below(2) == 0 {
            out.push_str(&format!("context = [\"t{}\"]\n", random.below(n)));
        }
        match random.below(5) {
            0 => out.push_str("for_each = \"rows.csv\"\nkey = \"id\"\n"),
            1 => out.push_str(&format!("review = {{ by = \"c\", max_rounds = {} }}\n", 1 + random.below(4))),
            2 => out.push_str("optional = true\n"),
            3 => out.push_str("output_schema = { items = [\"string\"], n = \"int\" }\n"),
            _ => {}
        }
    }
    let all: Vec<String> = (0..tasks).map(|n| format!("\"t{n}\"")).collect();
    out.push_str(&format!("[tasks.last]\nagent = \"a\"\ndescription = \"Last\"\ncontext = [{}]\n", all.join(", ")));
    out
}

fn compiled(body: &str) -> Arc<Crew> {
    crew(&[("a.toml", body), ("rows.csv", "id\none\ntwo\nthree\n")])
}

/// The sum of what is set aside for the whole crew.
fn minimum(crew: &Arc<Crew>) -> Amount {
    let each = set_aside(crew, &BTreeMap::new());
    each.iter().fold(Amount::default(), |sum, entry| sum.plus(entry.amount.times(entry.items.iter().product())))
}

fn said(sim: &Sim) -> bool {
    sim.events().any(|event| matches!(event, Event::Ledger(LedgerEvent::Unguaranteed { .. })))
}

/// One random crew on a cap of its minimum and a little; `more` in thousandths of the minimum.
fn one(seed: u64, mood: Mood, more: u64) -> (Sim, End) {
    let mut random = Random::new(seed);
    let shape = random.below(u64::MAX / 2);
    let least = minimum(&compiled(&body(&mut Random::new(shape), NanoUsd(1_000_000_000)))).usd;
    let cap = NanoUsd(least.0 + least.0 / 1000 * more);
    let crew = compiled(&body(&mut Random::new(shape), cap));
    assert_eq!(crew.budget.caps.usd, Some(cap));
    let mut sim = Sim::new(&crew, &[], mood, seed).resumes(2);
    if !seed.is_multiple_of(10) {
        sim = sim.quick();
    }
    let end = sim.go();
    (sim, end)
}

/// Adversarial usage, and no ending fails: a result on every cap that fits the minimum.
const GREEDY: Mood = Mood { tools: 900, approve: 100, full_usage: 800, ..FAIR };
/// The same where everything fails too: then only the cap holds.
const WILD: Mood = Mood { fail: 60, lost: 30, unusable: 150, bad_tools: 100, unknown_usage: 50, retry: 30, ..GREEDY };

fn campaign(seeds: std::ops::Range<u64>) {
    let (mut endings, mut results, mut told, mut summed) = (0u64, 0u64, 0u64, 0usize);
    for seed in seeds {
        let more = [0, 1, 20, 100, 500, 3000][(seed % 6) as usize];
        let (sim, end) = one(seed, GREEDY, more);
        assert_eq!(end, End::Finished(RunEnd::Completed), "seed {seed}, cap + {more}/1000\n{}", sim.tail());
        let result = sim.events().any(|event| {
            matches!(event, Event::Run(RunEvent::Finished { result: Some(result), .. }) if result.status.has_result())
        });
        assert!(result, "seed {seed}: no result\n{}", sim.tail());
        assert!(!said(&sim), "seed {seed}: it says that nothing is guaranteed\n{}", sim.tail());
        results += 1;
        summed += sim.kinds().iter().filter(|kind| **kind == "task.summarised").count();
        endings +=
            sim.events().filter(|event| matches!(event, Event::Call(CallEvent::Exhausted { .. }))).count() as u64;
        // The cap is checked at every entry of every run.
        let (wild, _) = one(seed, WILD, more);
        told += u64::from(said(&wild));
    }
    println!("{summed} times turns were summed up");
    println!("{results} results, {endings} times to an ending, {told} wild runs said that nothing is guaranteed");
    assert!(endings > 0 && told > 0 && summed > 0);
}

#[test]
fn a_cap_that_fits_the_minimum_gives_a_result() {
    campaign(0..std::env::var("SIMULATE_CREWS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000));
}

#[test]
#[ignore = "100,000 random crews: minutes"]
fn a_hundred_thousand_crews_have_a_result() {
    campaign(0..100_000);
}

const TURNS: &str = "[budget]\nmax_usd = CAP\non_exhausted = \"finish\"\n[agents]\na = { model = \"m\", tools = [\"look\"], max_turns = 40 }\n\
                     [tasks.x]\nagent = \"a\"\ndescription = \"X\"\n[tasks.y]\nagent = \"a\"\ndescription = \"Y\"\ncontext = [\"x\"]\n";

#[test]
fn an_agent_goes_to_its_ending_and_leaves_the_others_theirs() {
    let least = minimum(&compiled(&TURNS.replace("CAP", "9"))).usd;
    let crew = compiled(&TURNS.replace("CAP", &NanoUsd(least.0 * 2).to_string()));
    let mut sim = Sim::new(&crew, &[], Mood { tools: 1000, full_usage: 1000, ..FAIR }, 5).resumes(0);
    assert_eq!(sim.go(), End::Finished(RunEnd::Completed));
    let kinds = sim.kinds();
    assert!(kinds.contains(&"call.exhausted") && kinds.contains(&"task.concluding"), "{kinds:?}");
    assert!(!kinds.contains(&"run.parked"));
    let root = &sim.run.ledger.nodes[&NodeId::Crew(Step::root())];
    assert!(sim.run.ledger.caps.broken_by(root.used()).is_none());
    assert_eq!(sim.run.ledger.aside(), Amount::default(), "nothing is set aside once all have ended");
}

#[test]
fn a_cap_below_the_minimum_is_said_at_the_first_call_and_used_as_far_as_it_goes() {
    let least = minimum(&compiled(&TURNS.replace("CAP", "9"))).usd;
    let crew = compiled(&TURNS.replace("CAP", &NanoUsd(least.0 / 2).to_string()));
    let mut sim = Sim::new(&crew, &[], Mood { tools: 0, ..FAIR }, 5).resumes(0);
    assert_eq!(sim.go(), End::Finished(RunEnd::Completed), "it was cheaper than it might have been");
    let told: Vec<bool> = sim
        .events()
        .filter_map(|event| match event {
            Event::Ledger(LedgerEvent::Unguaranteed { never, .. }) => Some(*never),
            _ => None,
        })
        .collect();
    assert_eq!(told.first(), Some(&true));
}

#[test]
fn a_revision_that_cannot_be_paid_leaves_the_last_round_standing() {
    let body = "[budget]\nmax_usd = CAP\non_exhausted = \"finish\"\n[agents]\na = { model = \"m\" }\nb = { model = \"m\" }\n\
                [tasks.x]\nagent = \"a\"\ndescription = \"X\"\nreview = { by = \"b\", max_rounds = 50 }\n";
    let least = minimum(&compiled(&body.replace("CAP", "9"))).usd;
    let crew = compiled(&body.replace("CAP", &NanoUsd(least.0 + least.0 / 4).to_string()));
    let mut rounds = 0;
    for seed in 0..40 {
        let mood = Mood { approve: 0, full_usage: 1000, ..FAIR };
        let mut sim = Sim::new(&crew, &[], mood, seed).resumes(0);
        assert_eq!(sim.go(), End::Finished(RunEnd::Completed), "seed {seed}\n{}", sim.tail());
        let over = sim.events().filter(|event| matches!(event, Event::Task(TaskEvent::Finished { result, .. }) if result.status == boatswain::core::event::TaskStatus::OverBudget));
        rounds += over.count();
    }
    assert!(rounds > 0, "some revision was cut short");
}

const DEBATE: &str = "[budget]\nmax_usd = CAP\nmax_tokens = 100000000\non_exhausted = \"finish\"\n[agents]\n\
    a = { model = \"m\", tools = [\"look\"], max_turns = 6 }\nb = { model = \"small\" }\nc = { model = \"m\" }\n\
    [tasks.x]\ndescription = \"X\"\ndebate = { agents = [\"a\", \"b\", \"c\"], max_rounds = 20JUDGE }\n\
    output_schema = { n = \"int\" }\n";

/// Fewer rounds, and always a result; also if somebody is told something meanwhile.
#[test]
fn a_debate_on_a_cap_that_fits_the_minimum_gives_a_result() {
    let (mut rounds, mut heard) = (std::collections::BTreeSet::new(), 0);
    for judge in ["", ", judge = \"d\""] {
        let body = DEBATE
            .replace("JUDGE", judge)
            .replace("c = { model = \"m\" }", "c = { model = \"m\" }\nd = { model = \"small\" }");
        let least = minimum(&compiled(&body.replace("CAP", "9"))).usd;
        for seed in 0..150 {
            let more = [0, 1, 50, 300, 2000][(seed % 5) as usize];
            let crew = compiled(&body.replace("CAP", &NanoUsd(least.0 + least.0 / 1000 * more).to_string()));
            for tell in [0, 60] {
                let mut sim = Sim::new(&crew, &[], Mood { tell, ..GREEDY }, seed).resumes(0);
                assert_eq!(sim.go(), End::Finished(RunEnd::Completed), "seed {seed} + {more} {tell}\n{}", sim.tail());
                assert!(tell > 0 || !said(&sim), "seed {seed}: nothing is guaranteed\n{}", sim.tail());
                rounds.insert(sim.kinds().iter().filter(|kind| **kind == "task.round_decided").count());
                heard += sim.kinds().iter().filter(|kind| **kind == "agent.heard").count();
            }
        }
    }
    assert!(rounds.len() > 3 && rounds.contains(&1) && heard > 0, "{rounds:?}, {heard} heard");
}

#[test]
fn nothing_is_set_aside_where_the_run_pauses() {
    let crew = compiled("[agents]\na = { model = \"m\" }\n[tasks.x]\nagent = \"a\"\ndescription = \"X\"\n");
    assert!(set_aside(&crew, &BTreeMap::new()).is_empty());
    let caps = Caps::default();
    assert!(caps.is_none());
}
