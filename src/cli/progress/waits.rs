//! Waits for a provider's limits. Invariant: a wait of a second or more is on screen with its cause and
//! its end while it lasts; in a plain log each cause is said when it begins.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::actors::throttle::{NearLimit, Waiting};
use crate::cli::screen::{clock, count, span};
use crate::core::money::grouped;
use crate::core::rates::Cause;

/// A wait shorter than this is nobody's business.
const SHOWN_MS: u64 = 1000;

#[derive(Debug, Default)]
pub struct Waits {
    now: Vec<Waiting>,
    /// What a plain log has said, by provider and class.
    told: BTreeMap<(String, String), Cause>,
}

impl Waits {
    /// Takes in what waits at a moment; what there is to say about it that is new.
    pub fn look(&mut self, waiting: Vec<Waiting>, near: &[NearLimit], now_ms: u64, zone: &TimeZone) -> Vec<String> {
        // Full concurrency is how a busy provider always looks: each call's end is near.
        let long = |wait: &Waiting| {
            let end = wait.until_ms.is_some_and(|until| until >= now_ms.saturating_add(SHOWN_MS));
            wait.cause != Cause::Concurrency && (end || now_ms.saturating_sub(wait.since_ms) >= SHOWN_MS)
        };
        self.now = waiting.into_iter().filter(long).collect();
        let mut told = BTreeMap::new();
        let mut news = self.above(near);
        for wait in &self.now {
            let key = (wait.provider.to_string(), wait.class.clone());
            if self.told.get(&key) != Some(&wait.cause) {
                let until = wait.until_ms.map(|until| format!(" until {}", clock(until, zone))).unwrap_or_default();
                news.push(format!("waiting    {}{until}", words(wait)));
            }
            told.insert(key, wait.cause);
        }
        self.told = told;
        news
    }

    /// Lines for the scrollback.
    pub fn above(&self, near: &[NearLimit]) -> Vec<String> {
        let line = |near: &NearLimit| {
            let (used, limit) = (grouped(near.used), grouped(near.limit));
            let who = name(near.provider.as_str(), &near.class);
            format!("rate.near  {who}: {used} of {limit} {} used", near.cause.words())
        };
        near.iter().map(line).collect()
    }

    /// Rows of the live region.
    pub fn rows(&self, now_ms: u64) -> Vec<String> {
        let row = |wait: &Waiting| {
            let left = wait.until_ms.map(|until| span(until.saturating_sub(now_ms)));
            let left = left.map(|left| format!(", {left} left")).unwrap_or_default();
            format!("  waits for {}{left}", words(wait))
        };
        self.now.iter().map(row).collect()
    }
}

fn name(provider: &str, class: &str) -> String {
    if class.is_empty() { provider.to_owned() } else { format!("{provider}/{class}") }
}

fn words(wait: &Waiting) -> String {
    let who = name(wait.provider.as_str(), &wait.class);
    format!("{who}: {}, {}", wait.cause.words(), count(wait.calls as u64, "call"))
}

/// A limit that is nearly used up, for programs. It is no entry of the journal: it has no `seq`.
pub fn json_line(near: &NearLimit, now_ms: u64) -> String {
    let NearLimit { provider, class, cause, used, limit } = near;
    let ts = crate::cli::screen::rfc3339(now_ms);
    serde_json::json!({"ts": ts, "type": "rate.near", "provider": provider, "class": class, "cause": cause, "used": used, "limit": limit}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(cause: Cause, since_ms: u64, until_ms: Option<u64>) -> Waiting {
        Waiting { provider: "acme".parse().unwrap(), class: String::new(), calls: 3, cause, until_ms, since_ms }
    }

    #[test]
    fn a_wait_is_said_once_with_cause_and_end_and_shown_while_it_lasts() {
        let (mut waits, zone) = (Waits::default(), TimeZone::UTC);
        let long = || vec![wait(Cause::Tokens, 10_000, Some(40_000))];
        let said = waits.look(long(), &[], 10_000, &zone);
        assert_eq!(said, ["waiting    acme: tokens per minute, 3 calls until 00:00:40"]);
        assert!(waits.look(long(), &[], 10_200, &zone).is_empty());
        assert_eq!(waits.rows(10_200), ["  waits for acme: tokens per minute, 3 calls, 29s left"]);
        assert_eq!(waits.look(vec![wait(Cause::Refused, 10_000, Some(40_000))], &[], 10_400, &zone).len(), 1);
        assert!(waits.look(Vec::new(), &[], 10_600, &zone).is_empty());
        assert!(waits.rows(10_600).is_empty());
    }

    #[test]
    fn short_waits_and_full_concurrency_are_not_said() {
        let (mut waits, zone) = (Waits::default(), TimeZone::UTC);
        let short = vec![wait(Cause::Requests, 10_000, Some(10_500)), wait(Cause::Concurrency, 0, None)];
        assert!(waits.look(short, &[], 10_000, &zone).is_empty());
        assert!(waits.rows(10_000).is_empty());
    }

    #[test]
    fn a_limit_that_is_nearly_used_up_is_said() {
        let near = NearLimit {
            provider: "acme".parse().unwrap(),
            class: "large".into(),
            cause: Cause::Tokens,
            used: 8_200,
            limit: 10_000,
        };
        let line: serde_json::Value = serde_json::from_str(&json_line(&near, 0)).unwrap();
        assert_eq!(
            (&line["type"], &line["cause"], &line["used"]),
            (&"rate.near".into(), &"tokens".into(), &8_200.into())
        );
        let said = Waits::default().look(Vec::new(), &[near], 0, &TimeZone::UTC);
        assert_eq!(said, ["rate.near  acme/large: 8,200 of 10,000 tokens per minute used"]);
    }
}
