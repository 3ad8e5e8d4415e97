use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use genai_prices::{Calculator, PriceRequest, Usage, UsageKey};
use serde_json::Value;

use super::*;

/// Not what a text call of Bosun is billed by.
const HARMLESS: [&str; 14] = [
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "web_searches_kcount",
    "storage_searches_kcount",
    "input_audio_mtok",
    "input_image_mtok",
    "cache_audio_read_mtok",
    "cache_image_read_mtok",
    "output_audio_mtok",
    "output_image_mtok",
    "input_video_mtok",
];

/// Dollars per million tokens, as JSON has them, to nano-USD per million tokens: up, never through a float.
fn nano(number: &Value) -> u64 {
    let text = number.to_string();
    let (digits, exponent) = text.split_once(['e', 'E']).map_or((text.as_str(), 0), |(d, e)| (d, e.parse().unwrap()));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all: u128 = format!("{whole}{part}").parse().unwrap();
    let shift: i32 = 9 + exponent - part.len() as i32;
    let scaled = if shift >= 0 { all * 10u128.pow(shift as u32) } else { all.div_ceil(10u128.pow(-shift as u32)) };
    u64::try_from(scaled).unwrap()
}

/// Base and, where there are tiers, the first one's start and the dearest one's price.
fn value(price: &Value) -> (u64, Option<(u64, u64)>) {
    let Value::Object(tiered) = price else { return (nano(price), None) };
    let tiers = tiered["tiers"].as_array().unwrap();
    let start = tiers.iter().map(|tier| tier["start"].as_u64().unwrap()).min().unwrap();
    (nano(&tiered["base"]), Some((start, tiers.iter().map(|tier| nano(&tier["price"])).max().unwrap())))
}

fn since(first: Option<&Value>, prices: &Value) -> Option<Since> {
    let prices = prices.as_object().unwrap();
    let known = |key: &String| HARMLESS.contains(&key.as_str()) || key == "output_video_mtok";
    if !prices.keys().all(|key| known(key) || key == "output_reasoning_mtok") {
        return None;
    }
    let of = |key: &str| prices.get(key).map(value);
    let (input, mut output) = (of("input_mtok")?, of("output_mtok")?);
    if let Some((reasoning, _)) = of("output_reasoning_mtok") {
        output.0 = output.0.max(reasoning);
    }
    let (read, write) = (of("cache_read_mtok"), of("cache_write_mtok"));
    let rates = Rates {
        input: input.0,
        output: output.0,
        cache_read: read.map(|value| value.0),
        cache_write: write.map(|value| value.0),
    };
    let high = |value: (u64, Option<(u64, u64)>)| value.1.map_or(value.0, |(_, price)| price);
    let tokens = [Some(input), Some(output), read, write].into_iter().flatten().filter_map(|v| v.1).map(|t| t.0).min();
    let above = tokens.and_then(NonZeroU64::new).map(|tokens| Longer {
        tokens,
        rates: Rates {
            input: high(input),
            output: high(output),
            cache_read: read.map(high),
            cache_write: write.map(high),
        },
    });
    let since = first.map(|day| day.as_str().unwrap().to_owned());
    (input.0 + output.0 > 0).then_some(Since { since, rates, above })
}

fn dearest(a: Since, b: Since) -> Since {
    assert!(a.above.is_none() && b.above.is_none());
    let most = |of: fn(Rates) -> Option<u64>| of(a.rates).max(of(b.rates));
    let (input, output) = (a.rates.input.max(b.rates.input), a.rates.output.max(b.rates.output));
    let rates = Rates { input, output, cache_read: most(|r| r.cache_read), cache_write: most(|r| r.cache_write) };
    Since { rates, ..a }
}

/// Models that search the web whether they are asked to or not: each search is billed apart.
fn searches(id: &str) -> bool {
    id.contains("sonar") || id.contains("search")
}

fn history(prices: &Value) -> Vec<Since> {
    let Value::Array(list) = prices else { return since(None, prices).into_iter().collect() };
    let mut by_day: BTreeMap<Option<String>, Since> = BTreeMap::new();
    for entry in list {
        // What is billed otherwise at any time has no price.
        let Some(one) = since(entry.get("constraint").and_then(|c| c.get("start_date")), &entry["prices"]) else {
            return Vec::new();
        };
        // Prices by the time of day: the dearest.
        let merged = match by_day.remove(&one.since) {
            Some(other) => dearest(other, one),
            None => one,
        };
        by_day.insert(merged.since.clone(), merged);
    }
    by_day.into_values().collect()
}

/// Texts are compared in lower case.
fn folded(rule: Rule) -> Rule {
    let all = |rules: Vec<Rule>| rules.into_iter().map(folded).collect();
    match rule {
        Rule::Or(rules) => Rule::Or(all(rules)),
        Rule::And(rules) => Rule::And(all(rules)),
        Rule::Equals(text) => Rule::Equals(text.to_lowercase()),
        Rule::StartsWith(text) => Rule::StartsWith(text.to_lowercase()),
        Rule::EndsWith(text) => Rule::EndsWith(text.to_lowercase()),
        Rule::Contains(text) => Rule::Contains(text.to_lowercase()),
        Rule::Regex(pattern) => Rule::Regex(pattern),
    }
}

/// Writes the table from the data file of the crate's source, `data/prices.json`:
/// `GENAI_PRICES_JSON=… GENAI_PRICES_VERSION=0.2.1 GENAI_PRICES_DATED=2026-10-30 cargo test --lib
/// prices::tests::write -- --ignored`. The day is that of the release in the registry's index.
#[test]
#[ignore = "writes a source file"]
fn write_the_table() {
    let env = |name: &str| std::env::var(name).unwrap();
    let data: Value = serde_json::from_str(&std::fs::read_to_string(env("GENAI_PRICES_JSON")).unwrap()).unwrap();
    let head = Source {
        source: "genai-prices".into(),
        version: env("GENAI_PRICES_VERSION"),
        dated: env("GENAI_PRICES_DATED"),
    };
    let mut text = serde_json::to_string(&head).unwrap() + "\n";
    for provider in data.as_array().unwrap() {
        for model in provider["models"].as_array().unwrap() {
            let row = Row {
                model: format!("{}/{}", provider["id"].as_str().unwrap(), model["id"].as_str().unwrap()),
                is: folded(serde_json::from_str(&model["match"].to_string()).unwrap()),
                window: model["context_window"].as_u64(),
                prices: match searches(model["id"].as_str().unwrap()) {
                    true => Vec::new(),
                    false => history(&model["prices"]),
                },
            };
            text += &(serde_json::to_string(&row).unwrap() + "\n");
        }
    }
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/src/adapters/prices/table.jsonl");
    std::fs::write(place, text).unwrap();
}

const DAY: &str = "2026-11-20";

/// 2026-11-20, noon UTC.
fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_176_000)
}

#[test]
fn every_entry_costs_what_the_crate_says() {
    let (crate_, mut checked, mut free) = (Calculator::bundled(), 0, 0);
    let (mut dearer, mut unnamed) = (std::collections::BTreeSet::new(), 0);
    for provider in crate_.providers() {
        for model in provider.models() {
            // Some entries are not named by their own id.
            let Some(row) = lookup(provider.id(), model.id()) else {
                unnamed += 1;
                continue;
            };
            let Some(price) = row.price(DAY) else {
                free += 1;
                continue;
            };
            for (input, read, write, output) in
                [(1000, 0, 0, 1000), (1000, 400, 0, 10), (1000, 0, 300, 10), (900_000, 100, 0, 7)]
            {
                let usage: Usage = [
                    (UsageKey::from_static("input_tokens"), input),
                    (UsageKey::from_static("cache_read_tokens"), read),
                    (UsageKey::from_static("cache_write_tokens"), write),
                    (UsageKey::from_static("output_tokens"), output),
                ]
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .map(|(key, n)| (key, n as f64))
                .collect();
                let request =
                    PriceRequest::new(model.id(), &usage).with_provider_id(provider.id()).with_timestamp(noon());
                let Ok(theirs) = crate_.calculate(&request) else { continue };
                let count = crate::core::money::Count::Reported;
                let usage = crate::core::money::Usage {
                    cache_read: count(read),
                    cache_write: count(write),
                    ..crate::core::money::Usage::reported(input, output)
                };
                let ours = price.cost(&usage).unwrap().0 as f64;
                let theirs = theirs.total_price * 1e9;
                let what = format!("{}/{} {row:?}: {ours} against {theirs}", provider.id(), model.id());
                assert!(ours >= theirs - 1.0 - theirs * 1e-9, "never less: {what}");
                if ours > theirs + 1.0 + theirs * 1e-9 {
                    dearer.insert(row.model.clone());
                }
                checked += 1;
            }
        }
    }
    // Tiers beyond the first, reasoning and hours of the day are taken at their dearest.
    assert!(dearer.len() < 20, "{dearer:?}");
    assert!(checked > 5000 && free < 500 && unnamed < 100, "{checked} checked, {free} free, {unnamed} unnamed");
}

#[test]
fn figures_are_whole_nano_usd_per_million_and_rounded_up() {
    for (json, expected) in [("0.4", 400_000_000), ("15", 15_000_000_000), ("0.0375", 37_500_000), ("1e-9", 1)] {
        assert_eq!(nano(&serde_json::from_str(json).unwrap()), expected, "{json}");
    }
    assert_eq!(nano(&serde_json::from_str("0.00000000001").unwrap()), 1, "never to nothing");
    let mini = lookup("openai", "gpt-4.1-mini").unwrap();
    let price = Price {
        input: 400_000_000,
        output: 1_600_000_000,
        cache_read: 100_000_000,
        cache_write: 400_000_000,
        above: None,
    };
    assert_eq!((mini.price(DAY), mini.window), (Some(price), Some(1_000_000)));
    assert_eq!(lookup("openai", "gpt-4.1-mini-2025-04-14").unwrap().model, "openai/gpt-4.1-mini");
    let tiered = lookup("gemini", "gemini-2.5-pro").unwrap().price(DAY).unwrap();
    let above = tiered.above.unwrap();
    assert_eq!(
        (tiered.input, above.tokens.get(), above.input, above.output),
        (1_250_000_000, 200_000, 2_500_000_000, 15_000_000_000)
    );
}

#[test]
fn what_is_not_listed_has_no_price() {
    for (provider, model) in [("openai", "gpt-99-x"), ("acme", "gpt-4.1"), ("", ""), ("a\"b", "x"), ("openai", "")] {
        assert_eq!(lookup(provider, model), None, "{provider}/{model}");
    }
    let per_request = lookup("perplexity", "sonar").unwrap();
    assert_eq!(per_request.price(DAY), None, "a fee per request is not in a price of tokens");
}

#[test]
fn the_table_says_what_it_is_and_every_line_reads() {
    let source = source();
    assert_eq!((source.source.as_str(), source.dated.len()), ("genai-prices", 10));
    assert_eq!(all().count(), TABLE.lines().count() - 1);
    let locked = include_str!("../../../Cargo.lock");
    let version = format!("name = \"genai-prices\"\nversion = \"{}\"", source.version);
    assert!(locked.contains(&version), "the table is of {source}: write it anew from the crate in Cargo.lock");
}

#[test]
fn a_price_is_that_of_its_day() {
    let line = r#"{"model":"a/b","is":{"equals":"b"},"prices":[{"input":3,"output":4},{"since":"2026-12-01","input":1,"output":2}]}"#;
    let row: Row = serde_json::from_str(line).unwrap();
    assert_eq!([row.price("2026-11-30").unwrap().input, row.price("2026-12-01").unwrap().input], [3, 1]);
}
