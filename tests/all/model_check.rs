//! Every state of small crews: the shipped machines against an outside that fails, lies, crashes,
//! pauses and raises. Invariant: no state that can be reached breaks a promise, and mistakes that are
//! planted in the wrapper are found.
//!
//! The search is our own. stateright 0.31 judges states and not moves, knows "eventually" only on
//! ways without cycles (its own words), where "from here the run can still end" is what is promised
//! here, and keeps 64-bit hashes of states where these are compared whole.

mod explore;
mod machines;
mod world;

use std::time::Instant;

use boatswain::core::chat::FailureClass;
use boatswain::core::event::LostCause;

use crate::simulate::crews::crew;
use explore::{Explorer, Figures, Found};
use world::{Bill, Left, Mutant, Outcome, Say, World};

const ODD: &[Outcome] = &[
    Outcome::Answered(Say::Text, Bill::Equal),
    Outcome::Answered(Say::Text, Bill::More),
    Outcome::Answered(Say::Text, Bill::Absent),
    Outcome::Answered(Say::Nothing, Bill::Less),
    Outcome::Failed(FailureClass::NotSent),
    Outcome::Failed(FailureClass::Transient),
    Outcome::Failed(FailureClass::Ambiguous),
    Outcome::Failed(FailureClass::Quota),
    Outcome::Lost(LostCause::Aborted),
    Outcome::Lost(LostCause::Timeout),
];

/// A revise loop of two rounds and a delegation: three agents in one task.
const TRIO: &str = r#"
[budget]
max_usd = 0.04
[agents]
writer = { model = "m", delegates = ["analyst"], max_turns = 3, budget = { share = 0.7 } }
analyst = { model = "m" }
critic = { model = "small" }
[tasks.draft]
agent = "writer"
description = "Draft"
review = { by = "critic", max_rounds = 2 }
"#;

/// A revise loop of two rounds; the writer may use most of the crew's money.
const LOOP: &str = r#"
[budget]
max_usd = 0.04
[agents]
writer = { model = "m", budget = { share = 0.7 } }
critic = { model = "small" }
[tasks.draft]
agent = "writer"
description = "Draft"
review = { by = "critic", max_rounds = 2 }
"#;

/// Three agents at once on money for two, and a task with a cap of its own; then one that gathers.
const TIGHT: &str = r#"
[crew]
max_parallel = 3
output = "last"
[budget]
max_usd = 0.018
[agents]
one = { model = "m" }
two = { model = "m" }
three = { model = "m" }
[tasks.a]
agent = "one"
description = "A"
[tasks.b]
agent = "two"
description = "B"
budget = { share = 0.9 }
[tasks.last]
agent = "three"
description = "Last"
context = ["a"]
"#;

fn search(body: &str, left: Left, odd: &[Outcome], mutant: Option<Mutant>, every: usize) -> Result<Figures, Found> {
    let crew = crew(&[("a.toml", body)]);
    Explorer::new(World::new(&crew, odd, mutant)).exhaust(left, every)
}

struct Case {
    name: &'static str,
    body: &'static str,
    left: Left,
    odd: &'static [Outcome],
}

const NOTHING: Left = Left { odd: 0, crashes: 0, pauses: 0, resumes: 0, raises: 0, settles: 0, early: 0 };

const CASES: &[Case] = &[
    Case { name: "loop", body: LOOP, left: Left { odd: 1, crashes: 1, resumes: 1, raises: 1, ..NOTHING }, odd: ODD },
    Case {
        name: "trio, crash",
        body: TRIO,
        left: Left { odd: 1, crashes: 1, resumes: 1, raises: 1, ..NOTHING },
        odd: ODD,
    },
    Case {
        name: "trio, pause",
        body: TRIO,
        left: Left { odd: 1, pauses: 1, resumes: 1, raises: 1, ..NOTHING },
        odd: ODD,
    },
    Case { name: "trio, early", body: TRIO, left: Left { odd: 1, early: 1, ..NOTHING }, odd: ODD },
    Case {
        name: "tight, crash",
        body: TIGHT,
        left: Left { odd: 1, crashes: 1, resumes: 1, raises: 1, ..NOTHING },
        odd: ODD,
    },
    Case {
        name: "tight, pause",
        body: TIGHT,
        left: Left { odd: 1, pauses: 1, resumes: 1, raises: 1, ..NOTHING },
        odd: ODD,
    },
    Case {
        name: "tight, early",
        body: TIGHT,
        left: Left { odd: 1, early: 1, resumes: 1, raises: 1, ..NOTHING },
        odd: ODD,
    },
];

fn all(cases: &[Case], every: usize) {
    std::thread::scope(|threads| {
        let jobs: Vec<_> = cases
            .iter()
            .map(|case| {
                threads.spawn(move || {
                    let start = Instant::now();
                    match search(case.body, case.left, case.odd, None, every) {
                        Ok(figures) => println!("{}: {figures:?} in {:?}", case.name, start.elapsed()),
                        Err(found) => {
                            panic!("{}: {} after {} moves\n{}", case.name, found.why, found.moves, found.trace)
                        }
                    }
                })
            })
            .collect();
        jobs.into_iter().for_each(|job| job.join().unwrap());
    });
}

#[test]
fn model_check_all() {
    all(CASES, 2000);
}

const BIG: &[Case] = &[
    Case {
        name: "loop",
        body: LOOP,
        left: Left { odd: 2, crashes: 1, pauses: 1, resumes: 2, raises: 1, ..NOTHING },
        odd: ODD,
    },
    Case {
        name: "trio",
        body: TRIO,
        left: Left { odd: 1, crashes: 1, pauses: 1, resumes: 2, raises: 1, ..NOTHING },
        odd: ODD,
    },
    Case { name: "trio, early", body: TRIO, left: Left { odd: 1, crashes: 1, early: 1, ..NOTHING }, odd: ODD },
    Case {
        name: "tight",
        body: TIGHT,
        left: Left { odd: 2, crashes: 1, pauses: 0, resumes: 1, raises: 1, settles: 1, ..NOTHING },
        odd: ODD,
    },
    Case {
        name: "tight, early",
        body: TIGHT,
        left: Left { odd: 1, crashes: 1, pauses: 1, early: 1, resumes: 1, raises: 1, ..NOTHING },
        odd: ODD,
    },
];

#[test]
#[ignore]
fn model_check_big() {
    all(BIG, 5000);
}

#[test]
fn model_check_mutants() {
    for mutant in [Mutant::HeldTwice, Mutant::ReleasedAfterSend, Mutant::RepliesFirst, Mutant::Unconditional] {
        let left = Left { odd: 1, crashes: 1, early: 1, ..NOTHING };
        let found = search(TIGHT, left, ODD, Some(mutant), usize::MAX).unwrap_err();
        println!("{mutant:?}: {} after {} moves\n{}", found.why, found.moves, found.trace);
    }
}
