//! The time that rates alone take. Invariant: a floor: no run with these calls is over sooner, however fast the
//! provider answers; what is not known (how long a call takes, calls of delegates, of fallbacks and of `retry`
//! models) adds nothing.
//!
//! The throttle keeps every window of a minute, or of a day, within its limit. So `n` calls at `rpm` take
//! `ceil(n / rpm) - 1` whole minutes: the first limit's worth may leave at once, and nothing after the last
//! call's leave is counted. Tokens likewise; a call that is larger than the limit leaves in a window of its own.

use std::collections::BTreeMap;

use super::{Estimate, Range, Spend};
use crate::core::rates::{Cause, MINUTE_MS, Rates};

const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// What the calls of some models are under together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Under {
    /// Models with the same share the limits.
    pub key: String,
    /// For people: the provider.
    pub label: String,
    pub rates: Rates,
    /// Calls in flight at once.
    pub at_once: u64,
}

/// At least so long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    pub ms: u64,
    /// The limit that takes it, if any does: requests or tokens in a minute, or requests in a day.
    pub by: Option<(Cause, u64)>,
    /// Times that `at_once` calls must end before others may leave, with the last of them: the run takes so
    /// many times as long as its shortest call, too.
    pub rounds: u64,
}

/// The floors of one set of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    pub under: Under,
    pub expected: Floor,
    pub worst: Floor,
}

/// For each set of limits that some model of the estimate is under, in the order of their keys. `under`: by
/// `provider/model-id`.
pub fn paces(made: &Estimate, under: &dyn Fn(&str) -> Option<Under>) -> Vec<Pace> {
    let mut all: BTreeMap<String, (Under, Vec<Range>)> = BTreeMap::new();
    collect(made, (1, 1), under, &mut all);
    let pace = |(under, ranges): (Under, Vec<Range>)| {
        let expected: Vec<Spend> = ranges.iter().map(|range| range.expected).collect();
        let worst: Vec<Spend> = ranges.iter().map(|range| range.worst).collect();
        let [expected, worst] = [expected, worst].map(|spends| floor(&spends, &under.rates, under.at_once));
        Pace { under, expected, worst }
    };
    all.into_values().map(pace).collect()
}

fn collect(
    made: &Estimate,
    (expected, worst): (u64, u64),
    under: &dyn Fn(&str) -> Option<Under>,
    all: &mut BTreeMap<String, (Under, Vec<Range>)>,
) {
    for task in &made.tasks {
        if let Some(under) = task.model.as_deref().and_then(under) {
            let own = Range { expected: task.own.expected.times(expected), worst: task.own.worst.times(worst) };
            all.entry(under.key.clone()).or_insert_with(|| (under, Vec::new())).1.push(own);
        }
        if let Some(below) = &task.below {
            let times = (expected.saturating_mul(task.times.0), worst.saturating_mul(task.times.1));
            collect(below, times, under, all);
        }
    }
}

/// The floor for these calls, each entry so many alike.
pub fn floor(calls: &[Spend], rates: &Rates, at_once: u64) -> Floor {
    let sum = |of: &dyn Fn(&Spend) -> u64| calls.iter().fold(0u64, |sum, spend| sum.saturating_add(of(spend)));
    let number = sum(&|spend| spend.calls);
    // A larger call than the limit takes all of it once.
    let tokens =
        |limit: u64, of: &dyn Fn(&Spend) -> u64| sum(&|spend| of(spend).min(spend.calls.saturating_mul(limit)));
    let both = |spend: &Spend| spend.input.saturating_add(spend.output);
    let limits = [
        (Cause::Day, rates.rpd, DAY_MS, number),
        (Cause::Requests, rates.rpm, MINUTE_MS, number),
        (Cause::Tokens, rates.tpm, MINUTE_MS, tokens(rates.tpm.unwrap_or(0), &both)),
        (Cause::Input, rates.itpm, MINUTE_MS, tokens(rates.itpm.unwrap_or(0), &|spend| spend.input)),
        (Cause::Output, rates.otpm, MINUTE_MS, tokens(rates.otpm.unwrap_or(0), &|spend| spend.output)),
    ];
    let mut floor = Floor { rounds: number.div_ceil(at_once.max(1)), ..Floor::default() };
    for (cause, limit, window, amount) in limits {
        let Some(limit) = limit.filter(|limit| *limit > 0) else { continue };
        let ms = (amount.saturating_sub(1) / limit).saturating_mul(window);
        if ms > floor.ms {
            (floor.ms, floor.by) = (ms, Some((cause, limit)));
        }
    }
    floor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(calls: u64, input: u64, output: u64) -> Spend {
        Spend { calls, input: calls * input, output: calls * output, ..Spend::default() }
    }
    fn seconds(calls: &[Spend], rates: Rates) -> u64 {
        floor(calls, &rates, 8).ms / 1000
    }

    #[test]
    fn the_first_limit_s_worth_leaves_at_once_and_the_rest_a_window_later_each() {
        let rpm = Rates { rpm: Some(60), ..Rates::default() };
        assert_eq!(
            [0, 1, 60, 61, 120, 121, 200, 241].map(|n| seconds(&[calls(n, 9, 9)], rpm)),
            [0, 0, 0, 60, 60, 120, 180, 240]
        );
        assert_eq!(
            floor(&[calls(150, 1, 1), calls(50, 1, 1)], &rpm, 8),
            Floor { ms: 180_000, by: Some((Cause::Requests, 60)), rounds: 25 }
        );
        assert_eq!(floor(&[calls(1000, 9, 9)], &Rates::default(), 0), Floor { ms: 0, by: None, rounds: 1000 });
    }

    #[test]
    fn the_limit_that_takes_longest_counts() {
        let rates = Rates { rpm: Some(60), tpm: Some(10_000), rpd: Some(1000), ..Rates::default() };
        assert_eq!(floor(&[calls(100, 900, 100)], &rates, 8).by, Some((Cause::Tokens, 10_000)));
        assert_eq!(seconds(&[calls(100, 900, 100)], rates), 9 * 60);
        assert_eq!(seconds(&[calls(100, 10, 10)], rates), 60);
        assert_eq!(
            floor(&[calls(1001, 10, 10)], &rates, 8),
            Floor { ms: DAY_MS, by: Some((Cause::Day, 1000)), rounds: 126 }
        );
        let apart = Rates { itpm: Some(1000), otpm: Some(100), ..Rates::default() };
        assert_eq!(floor(&[calls(10, 100, 100)], &apart, 8).by, Some((Cause::Output, 100)));
    }

    #[test]
    fn a_call_larger_than_the_limit_leaves_in_a_window_of_its_own() {
        let tpm = Rates { tpm: Some(1000), ..Rates::default() };
        assert_eq!(seconds(&[calls(1, 50_000, 0)], tpm), 0);
        assert_eq!(seconds(&[calls(2, 50_000, 0), calls(1, 100, 0)], tpm), 120);
    }

    #[test]
    fn nothing_overflows() {
        let most = Spend { calls: u64::MAX, input: u64::MAX, output: u64::MAX, ..Spend::default() };
        let rates = Rates { rpd: Some(1), tpm: Some(1), ..Rates::default() };
        assert_eq!(floor(&[most, most], &rates, 1).ms, u64::MAX);
    }
}
