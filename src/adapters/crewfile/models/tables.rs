//! Tables of models and providers as values. Invariant: what a table leaves out is what the layer below it
//! said, or the default.

use crate::adapters::crewfile::doc::Table;
use crate::adapters::crewfile::values::{milli, time};
use crate::adapters::crewfile::{ProviderTable, budget};
use crate::adapters::models::secrets::{has_login, is_variable};
use crate::core::chat::Settings;
use crate::core::ids::Name;
use crate::core::money::Price;

/// Most tokens of one call where nobody says.
const MAX_OUTPUT: u64 = 4096;

pub(super) fn merged(known: ProviderTable, table: &Table) -> ProviderTable {
    // Whether to stream is the kind's business: another kind has its own usual way.
    let same = table.text("kind").is_none_or(|kind| kind == known.kind);
    let text = |key: &str, known: Option<String>| table.text(key).map(str::to_owned).or(known);
    // Of limits the smallest that is stated counts.
    let least = |key: &str, known: Option<u64>| table.int(key).into_iter().chain(known).min();
    ProviderTable {
        kind: table.text("kind").map_or(known.kind, str::to_owned),
        base_url: text("base_url", known.base_url),
        api_key_env: text("api_key_env", known.api_key_env),
        api_key_file: text("api_key_file", known.api_key_file),
        file: text("file", known.file),
        max_concurrency: table.int("max_concurrency").or(known.max_concurrency),
        timeout_ms: table.text("timeout").and_then(|text| time(text).ok()).or(known.timeout_ms),
        rpm: least("rpm", known.rpm),
        tpm: least("tpm", known.tpm),
        rpd: least("rpd", known.rpd),
        tier: text("tier", known.tier),
        max_wait_ms: table.text("max_wait").and_then(|text| time(text).ok()).or(known.max_wait_ms),
        stream: table.flag("stream").or(known.stream.filter(|_| same)),
    }
}

pub(super) fn price(table: &Table, kind: &str) -> Option<Price> {
    let of = |key: &str| table.get(key).and_then(budget::money).map(|money| money.0);
    let (input, output) = (of("input")?, of("output")?);
    // Stable prefixes are marked for Anthropic's cache, and what is written there for 5 minutes costs 1.25 x input.
    let usual = if kind == "anthropic" { input.saturating_add(input.div_ceil(4)) } else { input };
    let (read, write) = (of("cache_read").unwrap_or(input), of("cache_write").unwrap_or(usual));
    Some(Price { input, output, cache_read: read, cache_write: write, above: None })
}

/// Which key goes to which host: a crew file is trusted like a Makefile, and says so.
pub(super) fn key_note(table: &ProviderTable, provider: &Name) -> Option<String> {
    let place = match (&table.base_url, &table.kind) {
        (Some(url), _) => url.clone(),
        (None, kind) => format!("the address of `{kind}`"),
    };
    // What is no variable's name may be a key: it has been reported, and is not printed.
    let named = |key: &&String| table.api_key_env.is_none() || is_variable(key);
    let key = table.api_key_env.as_ref().or(table.api_key_file.as_ref()).filter(named)?;
    (!has_login(&place)).then(|| format!("the key in {key} goes to {place} (provider `{provider}`)"))
}

pub(super) fn settings(table: Option<&Table>) -> Settings {
    let Some(table) = table else { return Settings { max_output: MAX_OUTPUT, ..Settings::default() } };
    let fraction = |key: &str, most| table.get(key).and_then(|node| milli(node.decimal()?, most).ok());
    Settings {
        max_output: table.int("max_output").unwrap_or(MAX_OUTPUT),
        temperature: fraction("temperature", 2000),
        top_p: fraction("top_p", 1000),
        seed: table.get("seed").and_then(|node| node.decimal()?.parse().ok()),
        reasoning: table.text("reasoning").map(str::to_owned),
        without: Vec::new(),
    }
}
