//! The built-in price table. Invariant: a price is a decimal text in `prices.toml` with the day it
//! was read; what is not there has no price, never a guessed one.

use serde::Deserialize;

use crate::core::money::{NanoUsd, Price};

const TABLE: &str = include_str!("prices.toml");

/// A model's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub price: Price,
    /// Tokens of input and output together.
    pub context_window: u64,
    /// The day the price was read, `2026-11-02`.
    pub dated: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table<'a> {
    #[serde(borrow)]
    price: Vec<Row<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    model: &'a str,
    dated: &'a str,
    input: NanoUsd,
    output: NanoUsd,
    cache_read: Option<NanoUsd>,
    cache_write: Option<NanoUsd>,
    context_window: u64,
}

impl Row<'static> {
    fn listed(&self) -> Listed {
        let price = Price {
            input: self.input.0,
            output: self.output.0,
            cache_read: self.cache_read.unwrap_or(self.input).0,
            cache_write: self.cache_write.unwrap_or(self.input).0,
        };
        Listed { price, context_window: self.context_window, dated: self.dated }
    }
}

fn rows() -> Vec<Row<'static>> {
    // A test reads the table; nothing is parsed before the first lookup.
    toml::from_str::<Table<'static>>(TABLE).map(|table| table.price).unwrap_or_default()
}

/// The list price of `model` (the provider's id of it) at `provider` (a built-in name), if the table
/// has it. Parses the table: tens of microseconds, so ask once per model and run.
pub fn lookup(provider: &str, model: &str) -> Option<Listed> {
    let is = |row: &&Row<'_>| row.model.split_once('/') == Some((provider, model));
    rows().iter().find(is).map(Row::listed)
}

/// Every entry, as `PROVIDER/MODEL`, in the table's order.
pub fn all() -> Vec<(&'static str, Listed)> {
    rows().iter().map(|row| (row.model, row.listed())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_its_figures_are_nano_usd_per_million() {
        let table: Table<'_> = toml::from_str(TABLE).unwrap();
        assert_eq!(table.price.len(), 5);
        for (model, listed) in all() {
            assert!(listed.price.input > 0 && listed.price.output > listed.price.input, "{model}");
            assert!(listed.price.cache_read < listed.price.input && listed.dated.len() == 10, "{model}");
        }
        let mini = lookup("openai", "gpt-4.1-mini").unwrap();
        let price =
            Price { input: 400_000_000, output: 1_600_000_000, cache_read: 100_000_000, cache_write: 400_000_000 };
        assert_eq!((mini.price, mini.context_window), (price, 1_047_576));
        assert_eq!(lookup("openai", "gpt-4o-mini").unwrap().price.cache_read, 75_000_000);
        assert_eq!(lookup("openai", "gpt-4.1-nano").unwrap().price.cache_read, 25_000_000);
    }

    #[test]
    fn what_is_not_listed_has_no_price() {
        for (provider, model) in [("openai", "gpt-9"), ("acme", "gpt-4.1"), ("", ""), ("openai", "gpt-4.1-MINI")] {
            assert_eq!(lookup(provider, model), None, "{provider}/{model}");
        }
    }
}
