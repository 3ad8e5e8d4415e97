//! What becomes of an event whose run rests. Invariant: what ends by itself (a day, a rate, a decision)
//! is gone on with by the watch; what only a person can mend is left to that person, and said.

use crate::cli::ends;
use crate::cli::tally::Tally;
use crate::core::event::ParkCause;
use crate::core::ledger::{Day, NodeId};

/// The first wait for a key or a quota to be mended, and the longest.
const MEND_MS: u64 = 60_000;
const MEND_MAX_MS: u64 = 15 * 60_000;

/// When a run that rests goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// At this time, in milliseconds since the epoch.
    At(u64),
    /// When a person has decided, or at the latest when the first approval's time is over, in milliseconds
    /// since the epoch.
    Person(Option<u64>),
    /// When a person resumes it.
    Left,
}

/// Events of a crew that wait, although the watch has room for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub until_ms: u64,
    pub why: String,
    /// Holds of this kind in a row.
    pub tries: u32,
}

/// When the run goes on; `tries`: holds of its crew in a row.
pub fn again(causes: &[ParkCause], tally: &Tally, now_ms: u64, tries: u32) -> Again {
    let one = |cause: &ParkCause| match cause {
        ParkCause::Rate(limited) => Again::At(limited.until_ms),
        ParkCause::Budget { step } => match tally.no_budget.get(step).map(|why| &why.node) {
            Some(NodeId::Day(day)) => Again::At(day.span_ms().1),
            Some(NodeId::Crew(_) | NodeId::Task(_) | NodeId::Agent(..)) | None => Again::Left,
        },
        ParkCause::Credentials { .. } | ParkCause::Quota { .. } => Again::At(now_ms.saturating_add(mend(tries))),
        ParkCause::Interrupted | ParkCause::Terminated => Again::At(now_ms),
        ParkCause::Approval { .. } | ParkCause::Question { .. } => Again::Person(None),
        ParkCause::Deadline | ParkCause::Review { .. } | ParkCause::Asked => Again::Left,
    };
    let all: Vec<Again> = causes.iter().map(one).collect();
    // Somebody has paused it: nothing else counts.
    if causes.contains(&ParkCause::Asked) || all.is_empty() {
        return Again::Left;
    }
    let times = all.iter().filter_map(|again| match again {
        Again::At(at) => Some(*at),
        Again::Person(_) | Again::Left => None,
    });
    if all.contains(&Again::Person(None)) {
        return Again::Person(None);
    }
    times.max().map_or(Again::Left, Again::At)
}

fn mend(tries: u32) -> u64 {
    MEND_MS.saturating_mul(1 << tries.min(8)).min(MEND_MAX_MS)
}

/// What a run has met that every other event of its crew would meet too. `same_day`: the run has the cap
/// per day that the crew has now.
pub fn hold(causes: &[ParkCause], tally: &Tally, now_ms: u64, tries: u32, same_day: bool) -> Option<Hold> {
    let (until_ms, why) = causes
        .iter()
        .find_map(|cause| match cause {
            ParkCause::Rate(limited) => Some((limited.until_ms, ends::words(tally, cause))),
            ParkCause::Credentials { .. } | ParkCause::Quota { .. } => {
                Some((now_ms.saturating_add(mend(tries)), ends::words(tally, cause)))
            }
            ParkCause::Budget { .. } | ParkCause::Deadline | ParkCause::Review { .. } => None,
            ParkCause::Interrupted | ParkCause::Terminated | ParkCause::Asked => None,
            ParkCause::Approval { .. } | ParkCause::Question { .. } => None,
        })
        .or_else(|| dry(tally).filter(|_| same_day))?;
    Some(Hold { until_ms, why, tries: tries + 1 })
}

/// The day's pot is dry: when it is filled again, and the words for it.
pub fn dry(tally: &Tally) -> Option<(u64, String)> {
    tally.no_budget.values().find_map(|why| match why.node {
        NodeId::Day(day) => Some((Day::span_ms(day).1, format!("the money of {day} (`per_day_usd`) is used up"))),
        NodeId::Crew(_) | NodeId::Task(_) | NodeId::Agent(..) => None,
    })
}

/// The provider's key is missing: the next events would not start either.
pub fn unstarted(why: &str, now_ms: u64, tries: u32) -> Hold {
    Hold { until_ms: now_ms.saturating_add(mend(tries)), why: why.to_owned(), tries: tries + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tally::NoBudget;
    use crate::core::event::RateLimited;
    use crate::core::ids::Step;
    use crate::core::money::{Amount, Limit};
    use crate::core::rates::Cause;

    const NOON: u64 = 1_795_176_000_000;
    const MIDNIGHT: u64 = 1_795_219_200_000;

    fn short_of(node: NodeId) -> (ParkCause, Tally) {
        let step: Step = "draft".parse().unwrap();
        let mut tally = Tally::default();
        let (need, left, agent) = (Amount::default(), Amount::default(), "writer".parse().unwrap());
        let why = NoBudget { node, agent, limit: Limit::Usd, need, left, overrun: None };
        tally.no_budget.insert(step.clone(), why);
        (ParkCause::Budget { step }, tally)
    }
    fn rate(until_ms: u64) -> ParkCause {
        ParkCause::Rate(RateLimited { provider: "acme".parse().unwrap(), until_ms, why: Cause::Requests })
    }

    #[test]
    fn a_dry_day_holds_the_crew_until_it_ends_and_a_budget_of_its_own_only_the_run() {
        let (day, tally) = short_of(NodeId::Day(Day::of_ms(NOON)));
        assert_eq!(again(std::slice::from_ref(&day), &tally, NOON, 0), Again::At(MIDNIGHT));
        let held = hold(std::slice::from_ref(&day), &tally, NOON, 0, true).unwrap();
        assert_eq!(held.until_ms, MIDNIGHT);
        assert!(held.why.contains("2026-11-20 (`per_day_usd`)"), "{}", held.why);
        assert_eq!(hold(&[day], &tally, NOON, 0, false), None, "the crew has another cap per day by now");
        let (own, tally) = short_of(NodeId::Crew(Step::root()));
        assert_eq!(again(std::slice::from_ref(&own), &tally, NOON, 0), Again::Left);
        assert_eq!(hold(&[own], &tally, NOON, 0, true), None);
        // One that failed for want of the day's money, and did not pause.
        let (_, tally) = short_of(NodeId::Day(Day::of_ms(NOON)));
        assert_eq!(hold(&[], &tally, NOON, 0, true).map(|hold| hold.until_ms), Some(MIDNIGHT));
    }

    #[test]
    fn what_ends_by_itself_goes_on_by_itself_and_the_rest_is_left() {
        let tally = Tally::default();
        assert_eq!(again(&[rate(NOON + 5)], &tally, NOON, 0), Again::At(NOON + 5));
        assert_eq!(hold(&[rate(NOON + 5)], &tally, NOON, 0, true).map(|hold| hold.until_ms), Some(NOON + 5));
        assert_eq!(again(&[ParkCause::Terminated], &tally, NOON, 0), Again::At(NOON));
        let review = ParkCause::Review { step: "draft".parse().unwrap() };
        for cause in [ParkCause::Deadline, ParkCause::Asked, review.clone()] {
            assert_eq!(again(std::slice::from_ref(&cause), &tally, NOON, 0), Again::Left);
            assert_eq!(hold(&[cause], &tally, NOON, 0, true), None);
        }
        assert_eq!(again(&[review, rate(NOON + 5)], &tally, NOON, 0), Again::At(NOON + 5));
        assert_eq!(again(&[ParkCause::Asked, rate(NOON + 5)], &tally, NOON, 0), Again::Left, "somebody paused it");
    }

    #[test]
    fn a_key_that_is_refused_is_tried_again_less_and_less_often() {
        let refused = ParkCause::Credentials { message: "401".into() };
        let waits: Vec<u64> = (0..7)
            .map(|tries| {
                hold(std::slice::from_ref(&refused), &Tally::default(), 0, tries, true).unwrap().until_ms / 1000
            })
            .collect();
        assert_eq!(waits, [60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(unstarted("no key", 0, 1).until_ms, 120_000);
    }
}
