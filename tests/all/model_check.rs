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

fn search(body: &str, left: Left, odd: &[Outcome], mutant: Option<Mutant>, every: usize) -> Result<Figures, Found> {
    let crew = crew(&[("a.toml", body)]);
    Explorer::new(World::new(&crew, odd, mutant)).exhaust(left, every)
}

#[test]
fn model_check_loop() {
    let left = Left { odd: 1, crashes: 1, pauses: 1, resumes: 1, raises: 1, settles: 0, early: 0 };
    let start = Instant::now();
    match search(LOOP, left, ODD, None, 500) {
        Ok(figures) => println!("{figures:?} in {:?}", start.elapsed()),
        Err(found) => panic!("{} after {} moves\n{}", found.why, found.moves, found.trace),
    }
}
