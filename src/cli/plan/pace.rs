//! The time that a run takes by its providers' limits alone. Invariant: only limits that somebody stated, or that
//! a stated tier has, are spoken of.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::adapters::crewfile::ProviderTable;
use crate::adapters::models::secrets::Env;
use crate::adapters::models::tiers;
use crate::cli::screen::count;
use crate::cli::wiring;
use crate::core::estimate::{self, Estimate, Floor, Pace, Under};
use crate::core::ids::Name;
use crate::core::money::grouped;
use crate::core::rates::Cause;

/// Of the providers for which a limit is stated.
pub(super) fn paces(made: &Estimate, tables: &BTreeMap<Name, ProviderTable>, root: &Path, env: &Env) -> Vec<Pace> {
    let under = |model: &str| {
        let (provider, id) = model.split_once('/')?;
        let name: Name = provider.parse().ok()?;
        let spec = wiring::provider(&name, tables.get(&name)?, root).ok()?;
        let tier = tiers::tier(&spec, id, env);
        let label = if tier.class.is_empty() { provider.to_owned() } else { format!("{provider}/{}", tier.class) };
        let (key, at_once) = (format!("{}/{}", tier.key, tier.class), u64::from(tier.max_concurrency));
        tier.rates.any().then_some(Under { key, label, rates: tier.rates, at_once })
    };
    estimate::paces(made, &under)
}

/// One line for each provider, or model class, with a limit.
pub(super) fn lines(paces: &[Pace]) -> Vec<String> {
    paces.iter().filter(|pace| pace.worst.rounds > 0).map(line).collect()
}

fn line(pace: &Pace) -> String {
    let Pace { under, expected, worst } = pace;
    let rounds = if expected.rounds == worst.rounds {
        count(worst.rounds, "time")
    } else {
        format!("{} to {}", grouped(expected.rounds), count(worst.rounds, "time"))
    };
    let least = match (floor(expected), floor(worst)) {
        (None, None) => "nothing has to wait for its limits".to_owned(),
        (expected, None) => expected.unwrap_or_default(),
        (None, Some(worst)) => format!("expected no wait, worst case {worst}"),
        (Some(expected), Some(worst)) if expected == worst => expected,
        (Some(expected), Some(worst)) => format!("expected {expected}, worst case {worst}"),
    };
    let at_once = count(under.at_once, "call");
    format!("time by the limits of {}: {least}; with {at_once} at once it is {rounds} as long as a call", under.label)
}

/// `at least 3 min at 60 requests a minute`.
fn floor(floor: &Floor) -> Option<String> {
    let (cause, limit) = floor.by?;
    Some(format!("at least {} at {}", minutes(floor.ms), limit_of(cause, limit)))
}

fn limit_of(cause: Cause, limit: u64) -> String {
    let (what, window) = match cause {
        Cause::Requests => ("request", "minute"),
        Cause::Tokens => ("token", "minute"),
        Cause::Input => ("input token", "minute"),
        Cause::Output => ("output token", "minute"),
        Cause::Day => ("request", "day"),
        // No limit of a provider's has these.
        Cause::Concurrency | Cause::Refused | Cause::Breaker | Cause::Share => ("call", "minute"),
    };
    format!("{} a {window}", count(limit, what))
}

/// Floors are whole minutes.
fn minutes(ms: u64) -> String {
    let all = ms / 60_000;
    let (days, hours, minutes) = (all / 1440, all / 60 % 24, all % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min")];
    let parts: Vec<String> =
        parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{} {unit}", grouped(n))).collect();
    parts.join(" ")
}

pub(super) fn json(paces: &[Pace]) -> Vec<Value> {
    let floor = |floor: &Floor| {
        let by = floor.by.map(|(cause, limit)| json!({"limit": cause, "of": limit}));
        json!({"at_least_ms": floor.ms, "by": by, "rounds": floor.rounds})
    };
    let one = |pace: &Pace| {
        let Pace { under, expected, worst } = pace;
        json!({
            "of": under.label, "limits": under.rates, "max_concurrency": under.at_once,
            "expected": floor(expected), "worst": floor(worst),
        })
    };
    paces.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rates::Rates;

    #[test]
    fn a_line_says_how_long_and_why() {
        let under = Under { key: String::new(), label: "p".into(), rates: Rates::default(), at_once: 8 };
        let floor = |minutes: u64, by, rounds| Floor { ms: minutes * 60_000, by, rounds };
        let (rpm, rpd) = (Some((Cause::Requests, 60)), Some((Cause::Day, 1_000)));
        let pace = |expected, worst| Pace { under: under.clone(), expected, worst };
        let lines = lines(&[
            pace(floor(3, rpm, 25), floor(3000, rpd, 126)),
            pace(floor(0, None, 1), floor(3, rpm, 25)),
            pace(floor(3, rpm, 25), floor(3, rpm, 25)),
            pace(floor(0, None, 1), floor(0, None, 1)),
            pace(floor(0, None, 0), floor(0, None, 0)),
        ]);
        assert_eq!(
            lines,
            [
                "time by the limits of p: expected at least 3 min at 60 requests a minute, worst case at least 2 d 2 h at \
             1,000 requests a day; with 8 calls at once it is 25 to 126 times as long as a call",
                "time by the limits of p: expected no wait, worst case at least 3 min at 60 requests a minute; with 8 calls \
             at once it is 1 to 25 times as long as a call",
                "time by the limits of p: at least 3 min at 60 requests a minute; with 8 calls at once it is 25 times as \
             long as a call",
                "time by the limits of p: nothing has to wait for its limits; with 8 calls at once it is 1 time as long as \
             a call",
            ]
        );
    }
}
