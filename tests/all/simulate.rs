//! Whole runs without actors: every machine of the core, a journal in memory, a world that lies,
//! fails, crashes and changes its mind. Invariant of each run: it ends or parks with a cause, replay
//! derives every byte again, the budget holds at every prefix, and every delegation comes back.

pub mod crews;
pub mod driver;
mod finish;
mod people;
mod random;
mod retry;
pub mod script;
mod summary;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use boatswain::core::chat::ModelRequest;
use boatswain::core::estimate::{Spend, estimate};
use boatswain::core::event::{CallEvent, Event, RunEnd, RunEvent, TaskEvent};

use crews::{SHAPES, THREE, crew};
use driver::{Bytes, End, Sim};
use random::Random;
use script::{Mood, Reply, ask};

const FAIR: Mood = Mood {
    fail: 0,
    busy: 0,
    final_fail: 0,
    lost: 0,
    unusable: 0,
    tools: 400,
    bad_tools: 0,
    tool_fail: 0,
    unknown_usage: 0,
    triple_usage: 0,
    full_usage: 0,
    approve: 500,
    crash: 0,
    pause: 0,
    cancel: 0,
    raise: 0,
    panic: 0,
    settle: 0,
    retry: 0,
    person: 300,
    cool: 0,
    tell: 0,
    file_fail: 0,
    accept: true,
    long: 200,
};

/// Moods by name: from a fair day to a hostile one.
const MOODS: &[(&str, Mood)] = &[
    ("fair", FAIR),
    ("long", Mood { long: 3000, tools: 600, ..FAIR }),
    ("nobody", Mood { person: 0, tools: 700, crash: 10, ..FAIR }),
    ("people", Mood { person: 60, tools: 800, crash: 40, pause: 20, tool_fail: 50, retry: 20, ..FAIR }),
    ("busy_hands", Mood { tools: 950, ..FAIR }),
    ("cooling", Mood { cool: 300, fail: 50, crash: 20, ..FAIR }),
    ("busy", Mood { busy: 550, ..FAIR }),
    ("failing", Mood { fail: 150, lost: 30, unusable: 150, bad_tools: 150, tool_fail: 150, ..FAIR }),
    ("broken", Mood { fail: 300, final_fail: 30, unusable: 500, tool_fail: 500, file_fail: 300, retry: 20, ..FAIR }),
    ("crashing", Mood { crash: 60, fail: 50, tool_fail: 50, ..FAIR }),
    ("meddling", Mood { pause: 25, raise: 5, panic: 30, settle: 30, retry: 30, crash: 15, lost: 30, ..FAIR }),
    ("cancelled", Mood { cancel: 15, pause: 10, crash: 15, lost: 30, ..FAIR }),
    ("told", Mood { tell: 120, unusable: 100, crash: 20, pause: 10, retry: 20, long: 600, ..FAIR }),
    ("lying", Mood { unknown_usage: 200, triple_usage: 30, raise: 10, ..FAIR }),
    (
        "hostile",
        Mood {
            fail: 100,
            final_fail: 10,
            lost: 50,
            unusable: 100,
            bad_tools: 100,
            tool_fail: 100,
            unknown_usage: 50,
            triple_usage: 10,
            crash: 20,
            pause: 10,
            cancel: 2,
            raise: 5,
            panic: 15,
            settle: 20,
            retry: 20,
            tell: 20,
            file_fail: 100,
            ..FAIR
        },
    ),
];

#[test]
fn three_tasks_run_to_their_end() {
    let crew = crew(&[("a.toml", THREE)]);
    let mut sim = Sim::new(&crew, &[], FAIR, 1);
    assert_eq!(sim.go(), End::Finished(RunEnd::Completed));
}

/// Every shape in every mood; all failures of a batch at once, one line each.
fn sweep(seeds: std::ops::Range<u64>) {
    let mut failures: BTreeMap<String, (u32, String)> = BTreeMap::new();
    let (mut runs, mut entries) = (0u64, 0u64);
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    let crews: Vec<_> = SHAPES.iter().map(|(shape, files)| (shape, crew(files))).collect();
    std::panic::set_hook(Box::new(|_| {}));
    for (shape, crew) in &crews {
        for (mood, chances) in MOODS {
            for seed in seeds.clone() {
                let mut sim = Sim::new(crew, &[], *chances, seed);
                let end = catch_unwind(AssertUnwindSafe(|| sim.go()));
                runs += 1;
                entries += sim.journal.len() as u64;
                sim.kinds().into_iter().for_each(|kind| *kinds.entry(kind).or_default() += 1);
                let (name, why) = match end {
                    Ok(End::Finished(end)) => (format!("{end:?}"), None),
                    Ok(End::Parked(_)) => ("Parked".into(), None),
                    Err(panic) => {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                        ("Broken".into(), text.or_else(|| Some("?".into())))
                    }
                };
                *ends.entry(name).or_default() += 1;
                if let Some(why) = why {
                    let line: String = why.lines().next().unwrap_or_default().chars().take(160).collect();
                    let entry =
                        failures.entry(format!("{shape} {mood}: {line}")).or_insert((0, format!("seed {seed}\n{why}")));
                    entry.0 += 1;
                }
            }
        }
    }
    let _ = std::panic::take_hook();
    println!("{runs} runs, {entries} entries, {ends:?}\n{kinds:?}");
    assert_eq!(kinds.len(), 49, "a kind of event that no run has: {kinds:?}");
    if let Ok(wanted) = std::env::var("SIMULATE_WHY")
        && let Some((line, (_, why))) = failures.iter().find(|(line, _)| line.contains(&wanted))
    {
        println!("{line}\n{why}");
    }
    let lines: Vec<String> = failures
        .iter()
        .map(|(line, (count, why))| format!("{count} x {line} ({})", why.lines().next().unwrap_or_default()))
        .collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn every_shape_in_every_mood_keeps_its_promises() {
    let seeds = std::env::var("SIMULATE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    sweep(0..seeds);
}

#[test]
#[ignore = "a minute or more: the wide sweep"]
fn a_thousand_seeds_of_every_shape_and_mood() {
    sweep(0..1000);
}

/// What runs use lies within what was foreseen. A token is a byte here, so that sizes bound usage.
#[test]
fn no_run_uses_more_than_the_worst_case() {
    let mood = Mood { fail: 100, unusable: 150, bad_tools: 100, tool_fail: 100, tools: 600, long: 15, ..FAIR };
    for (shape, files) in
        SHAPES.iter().filter(|(shape, _)| !shape.starts_with("broke") && *shape != "tight" && *shape != "finish")
    {
        let crew = crew(files);
        let foreseen = estimate(&crew, &BTreeMap::new());
        let mut most = Spend::default();
        for seed in 0..25 {
            let mut sim = Sim::new(&crew, &[], Mood { approve: 200, ..mood }, seed).resumes(0);
            sim.sizes = Bytes(1);
            sim.go();
            let used = used(&sim);
            let worst = foreseen.total.worst;
            let within = used.calls <= worst.calls && used.input <= worst.input;
            let within = within && used.output <= worst.output && used.usd <= worst.usd;
            assert!(within, "{shape} seed {seed}: used {used:?}, worst {worst:?}");
            most = Spend { calls: most.calls.max(used.calls), input: most.input.max(used.input), ..most };
        }
        println!(
            "{shape}: most {most:?} of {:?}, expected {:?}, smallest {:?}",
            foreseen.total.worst, foreseen.total.expected, foreseen.smallest
        );
        assert!(foreseen.total.expected.calls <= foreseen.total.worst.calls, "{shape}");
        assert!(foreseen.smallest.calls <= foreseen.total.expected.calls, "{shape}");
        assert!(
            foreseen.pause(foreseen.caps).is_some() || foreseen.caps.broken_by(foreseen.total.worst.amount()).is_none()
        );
    }
}

fn used(sim: &Sim) -> Spend {
    sim.events().fold(Spend::default(), |sum, event| match event {
        Event::Call(CallEvent::Answered(answered)) => {
            let (input, output) = answered.usage.known().unwrap_or_default();
            sum.plus(Spend { calls: 1, input, output, usd: answered.cost.usd })
        }
        _ => sum,
    })
}

/// Runs a crew with `says` and gives the kinds of events and the end; replay is checked on the way.
fn played(
    body: &str,
    mood: Mood,
    says: impl FnMut(&ModelRequest, &mut Random) -> Option<Reply> + 'static,
    meddle: impl FnOnce(&mut Sim),
) -> (Sim, End) {
    let crew = crew(&[("a.toml", body), ("rows.csv", "id\none\ntwo\n")]);
    let mut sim = Sim::new(&crew, &[], mood, 7).says(says).resumes(2);
    meddle(&mut sim);
    let end = sim.go();
    (sim, end)
}

fn step(request: &ModelRequest) -> String {
    request.call.step.to_string()
}

fn ends(sim: &Sim) -> BTreeMap<String, &'static str> {
    let ended = sim.events().filter_map(|event| match event {
        Event::Task(TaskEvent::Finished { step, result, .. }) => Some((step.to_string(), result.status.as_str())),
        Event::Task(TaskEvent::Skipped { step, .. }) => Some((step.to_string(), "skipped")),
        _ => None,
    });
    ended.collect()
}

const A: &str = "[agents]\na = { model = \"m\" }\nb = { model = \"small\" }\n";

/// The judge's list used to start when the judged one had ended, and its loops with it: nothing was reviewed.
#[test]
fn items_are_reviewed_one_by_one() {
    let body = format!(
        "{A}[tasks.x]\nagent = \"a\"\ndescription = \"X\"\nfor_each = \"rows.csv\"\nkey = \"id\"\nreview = {{ by = \"b\" }}\n"
    );
    let (sim, end) = played(&body, Mood { approve: 1000, ..FAIR }, |_, _| None, |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    assert_eq!(sim.kinds().iter().filter(|kind| **kind == "task.round_decided").count(), 2);
}

/// An item that failed used to start the stand-in, once for each item, and its list never ended.
#[test]
fn a_failed_item_is_a_gap_and_a_failed_list_is_stood_in_for() {
    let body = format!(
        "{A}[tasks.x]\nagent = \"a\"\ndescription = \"X\"\nfor_each = \"rows.csv\"\nkey = \"id\"\nattempts = 1\n\
         on_error = \"y\"\n[tasks.y]\nagent = \"b\"\ndescription = \"Y\"\n"
    );
    let fails = |prefix: &'static str| {
        move |request: &ModelRequest, _: &mut Random| {
            step(request).starts_with(prefix).then(|| Reply::Text(String::new()))
        }
    };
    let (sim, end) = played(&body, FAIR, fails("x[one]"), |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    assert_eq!((ends(&sim)["x[one]"], ends(&sim)["x"], ends(&sim).get("y")), ("failed", "partial", None));
    let (sim, end) = played(&body, FAIR, fails("x["), |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    assert_eq!((ends(&sim)["x"], ends(&sim)["y"]), ("failed", "done"));
}

/// A retry at the limit of a loop used to bring back the reviser alone: its judge never ran again.
#[test]
fn a_retry_at_the_limit_is_one_more_round() {
    let body = format!(
        "{A}[tasks.x]\nagent = \"a\"\ndescription = \"X\"\nreview = {{ by = \"b\", max_rounds = 1, on_limit = \"review\" }}\n"
    );
    let says = |request: &ModelRequest, _: &mut Random| {
        let verdict = if step(request) == "x_review#2" { "approve" } else { "revise" };
        step(request)
            .starts_with("x_review")
            .then(|| Reply::Text(format!("{{\"verdict\":\"{verdict}\",\"issues\":[]}}")))
    };
    let crew = crew(&[("a.toml", &body)]);
    for seed in 0..20 {
        let mut sim = Sim::new(&crew, &[], Mood { retry: 1000, accept: false, ..FAIR }, seed).says(says).resumes(5);
        assert_eq!(sim.go(), End::Finished(RunEnd::Completed));
        assert!(sim.kinds().contains(&"task.retried"));
        assert_eq!(ends(&sim)["x_review#2"], "done");
    }
}

/// A pause while a delegation was asked for used to refuse it for good.
#[test]
fn a_pause_changes_no_delegation() {
    let body = "[agents]\na = { model = \"m\", delegates = [\"b\"] }\nb = { model = \"small\" }\n\
                [tasks.x]\nagent = \"a\"\ndescription = \"X\"\n";
    let says = |request: &ModelRequest, _: &mut Random| {
        // By what it has seen: a pause may lose the first call.
        let first = request.call.step.as_str() == "x" && request.messages.len() == 2;
        first.then(|| Reply::Tools(vec![ask(0, "delegate", &serde_json::json!({"to": "b", "task": "t"}))]))
    };
    let crew = crew(&[("a.toml", body)]);
    for seed in 0..40 {
        let mut sim = Sim::new(&crew, &[], Mood { pause: 200, tools: 0, ..FAIR }, seed).says(says).resumes(50);
        assert_eq!(sim.go(), End::Finished(RunEnd::Completed));
        assert!(!sim.kinds().contains(&"task.delegation_refused"));
        assert_eq!(ends(&sim)["x/b[1]"], "done");
    }
}

/// A crash in the middle of a cancel used to take the cancel back.
#[test]
fn a_cancel_survives_the_process() {
    let (sim, end) = played(
        THREE,
        FAIR,
        |_, _| None,
        |sim| {
            sim.append(Event::Run(RunEvent::CancelAsked { by: "me".into() }));
            sim.crash();
        },
    );
    assert_eq!(end, End::Finished(RunEnd::Cancelled));
    assert!(!sim.kinds().contains(&"task.assigned"));
}

/// With one actor for both, the judge used to wait for the reviser and the reviser for the judge.
#[test]
fn an_agent_whose_memory_is_the_runs_may_judge_itself() {
    let body = "[agents]\na = { model = \"m\", memory = \"run\" }\n[tasks.x]\nagent = \"a\"\ndescription = \"X\"\n\
                review = { by = \"a\", max_rounds = 2 }\n";
    let (sim, end) = played(body, Mood { approve: 0, ..FAIR }, |_, _| None, |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    assert!(sim.run.agents.keys().all(|agent| agent.number == 1), "one actor");
}

/// When one branch of a loop failed, the other's task used to be ended under its agent.
#[test]
fn a_failed_branch_of_a_loop_lets_the_other_come_to_its_end() {
    let body = format!(
        "[crew]\noutput = \"draft\"\n{A}[tasks.draft]\nagent = \"a\"\ndescription = \"D\"\n[tasks.left]\nagent = \"b\"\n\
         description = \"L\"\ncontext = [\"draft\"]\nattempts = 1\noptional = true\n[tasks.right]\nagent = \"b\"\n\
         description = \"R\"\ncontext = [\"draft\"]\n[tasks.judge]\nagent = \"a\"\ndescription = \"J\"\n\
         context = [\"left\", \"right\"]\noutput_schema = {{ ok = \"bool\" }}\n\
         revise = {{ task = \"draft\", until = \"ok\", max_rounds = 2 }}\n\
         [tasks.more]\nagent = \"b\"\ndescription = \"M\"\nafter = [\"left\"]\n"
    );
    let crew = crew(&[("a.toml", &body)]);
    for seed in 0..40 {
        let says = |request: &ModelRequest, _: &mut Random| {
            step(request).starts_with("left").then(|| Reply::Text(String::new()))
        };
        let mut sim = Sim::new(&crew, &[], FAIR, seed).says(says);
        sim.go();
        assert_eq!((ends(&sim)["left#1"], ends(&sim)["more"]), ("failed", "done"), "seed {seed}");
    }
}
