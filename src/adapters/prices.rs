//! List prices. Invariant: a figure is the decimal of the `genai-prices` release that the table names,
//! as an integer of nano-USD per million tokens (rounded up where it is finer); what the table has no
//! token price for has no price, never zero.
//!
//! The table is that release's data, reduced to what a text call is billed by, and not the crate: the
//! crate gives sums as floats and no rates, says nothing of tiers, and takes 30 ms to load; this takes
//! the lines of one provider, when a model is first looked up. `tests.rs` writes it and holds every
//! entry against the crate. Not in it: service tiers other than the provider's default, batches, cache
//! writes of one hour, audio, images and searches, fees per request or per
//! search (a model with one has no price here).

use std::borrow::Cow;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::core::money::{Above, Price};

const TABLE: &str = include_str!("prices/table.jsonl");

/// Where the table is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `genai-prices`.
    pub source: String,
    pub version: String,
    /// The day of that release, `2026-10-30`.
    pub dated: String,
}

/// One model of one provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `provider/model-id`, as genai-prices names them.
    pub model: String,
    /// Which ids of the provider mean it.
    is: Rule,
    /// Tokens of input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// By their first day, ascending. Empty: it is billed by something other than tokens, or it is free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prices: Vec<Since>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Or(Vec<Rule>),
    And(Vec<Rule>),
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Since {
    /// From midnight UTC; none: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(flatten)]
    rates: Rates,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    above: Option<Longer>,
}

/// Nano-USD per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rates {
    input: u64,
    output: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_write: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Longer {
    tokens: NonZeroU64,
    #[serde(flatten)]
    rates: Rates,
}

impl Rates {
    fn price(self) -> Price {
        let Rates { input, output, cache_read, cache_write } = self;
        let (cache_read, cache_write) = (cache_read.unwrap_or(input), cache_write.unwrap_or(input));
        Price { input, output, cache_read, cache_write, above: None }
    }
}

impl Row {
    /// The price in force on `day` (`2026-11-20`, UTC).
    pub fn price(&self, day: &str) -> Option<Price> {
        let begun = |since: &&Since| since.since.as_deref().is_none_or(|first| first <= day);
        let Since { rates, above, .. } = self.prices.iter().rev().find(begun)?;
        let above = above.map(|Longer { tokens, rates }| {
            let Price { input, output, cache_read, cache_write, .. } = rates.price();
            Above { tokens, input, output, cache_read, cache_write }
        });
        Some(Price { above, ..rates.price() })
    }
}

impl Rule {
    /// `folded` is `id` in lower case; only expressions look at the id as it was written.
    fn matches(&self, id: &str, folded: &str) -> bool {
        match self {
            Rule::Or(rules) => rules.iter().any(|rule| rule.matches(id, folded)),
            Rule::And(rules) => rules.iter().all(|rule| rule.matches(id, folded)),
            Rule::Equals(text) => folded == text,
            Rule::StartsWith(text) => folded.starts_with(text.as_str()),
            Rule::EndsWith(text) => folded.ends_with(text.as_str()),
            Rule::Contains(text) => folded.contains(text.as_str()),
            Rule::Regex(pattern) => fancy_regex::Regex::new(pattern).is_ok_and(|it| it.is_match(id).unwrap_or(false)),
        }
    }
}

/// Which release the table is of. The default, without a name, cannot be: a test reads it.
pub fn source() -> Source {
    let head = TABLE.lines().next().and_then(|line| serde_json::from_str(line).ok());
    head.unwrap_or_else(|| Source { source: String::new(), version: String::new(), dated: String::new() })
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} of {}", self.source, self.version, self.dated)
    }
}

/// Rows whose model begins with `head`, in the source's order.
fn rows(head: &str) -> impl Iterator<Item = Row> {
    let begin = format!("{{\"model\":\"{head}");
    let lines = TABLE.lines().skip(1).filter(move |line| line.starts_with(&begin));
    lines.filter_map(|line| serde_json::from_str(line).ok())
}

/// The entry of `model` (the provider's id of it) at `provider`, if there is one. Reads the lines of
/// that provider: a millisecond at most, so ask once per model and run.
pub fn lookup(provider: &str, model: &str) -> Option<Row> {
    let provider = match provider {
        "gemini" => "google",
        "openai_responses" => "openai",
        other => other,
    };
    if provider.is_empty() || provider.contains(['"', '\\', '/']) {
        return None;
    }
    let folded = if model.bytes().any(|b| !b.is_ascii() || b.is_ascii_uppercase()) {
        Cow::Owned(model.to_lowercase())
    } else {
        Cow::Borrowed(model)
    };
    rows(&format!("{provider}/")).find(|row| row.is.matches(model, &folded))
}

/// Every entry, in the table's order.
pub fn all() -> impl Iterator<Item = Row> {
    rows("")
}

#[cfg(test)]
mod tests;
