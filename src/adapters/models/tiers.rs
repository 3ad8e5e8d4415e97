//! Limits by provider, usage tier and model class. Invariant: what a crew or the settings state counts
//! before what `tiers.toml` lists; what neither knows is no limit, and the provider's headers still count.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::secrets::{Env, KeySource};
use super::{ProviderKind, ProviderSpec};
use crate::core::rates::{MINUTE_MS, Rates};
use crate::ports::model::Tier;

const TABLE: &str = include_str!("tiers.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table<'a> {
    #[serde(borrow)]
    tier: Vec<Row<'a>>,
}

/// Milliseconds of a "minute", in debug builds.
const WINDOW: &str = "BOSUN_RATE_WINDOW_MS";

/// A preset, as listed on `dated`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row<'a> {
    /// `anthropic/1`.
    pub name: &'a str,
    /// Model ids begin so; all of them share the limits.
    pub models: &'a str,
    pub dated: &'a str,
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    pub itpm: Option<u64>,
    pub otpm: Option<u64>,
    pub rpd: Option<u64>,
}

fn rows() -> Vec<Row<'static>> {
    // A test reads the table; nothing is parsed unless a tier is named.
    toml::from_str::<Table<'static>>(TABLE).map(|table| table.tier).unwrap_or_default()
}

/// Names of all presets, each once.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = rows().iter().map(|row| row.name).collect();
    names.dedup();
    names
}

/// The row for a model; of several the longest class counts.
pub fn lookup(name: &str, model: &str) -> Option<Row<'static>> {
    let rows = rows();
    let fits = rows.iter().filter(|row| row.name == name && model.starts_with(row.models));
    fits.max_by_key(|row| row.models.len()).copied()
}

/// What a call of `model` is under.
pub fn tier(spec: &ProviderSpec, model: &str, env: &Env) -> Tier {
    let preset = spec.tier.as_deref().and_then(|name| lookup(name, model));
    let stated = spec.rpm.is_some() || spec.tpm.is_some() || spec.rpd.is_some();
    let row = preset.unwrap_or_default();
    let rates = Rates {
        rpm: spec.rpm.or(row.rpm),
        tpm: spec.tpm.or(row.tpm),
        itpm: row.itpm.filter(|_| spec.tpm.is_none()),
        otpm: row.otpm.filter(|_| spec.tpm.is_none()),
        rpd: spec.rpd.or(row.rpd),
    };
    // Stated limits are those of the whole provider; a preset's of its class; without either each model
    // is under what its own headers say.
    let class = match (stated, preset) {
        (true, _) => "",
        (false, Some(row)) => row.models,
        (false, None) => model,
    };
    let local = matches!(spec.kind, ProviderKind::Offline | ProviderKind::Scripted);
    Tier {
        key: key(spec, env),
        class: class.into(),
        rates,
        window_ms: window_ms(env),
        max_concurrency: u32::try_from(spec.max_concurrency.max(1)).unwrap_or(u32::MAX),
        max_wait_ms: spec.max_wait_ms,
        shared: !local,
    }
}

/// A minute. Debug builds may shorten it: tests run in accelerated time.
fn window_ms(env: &Env) -> u64 {
    let stated = env.get(WINDOW).filter(|_| cfg!(debug_assertions));
    stated.and_then(|text| text.parse().ok()).filter(|ms| (60..=MINUTE_MS).contains(ms)).unwrap_or(MINUTE_MS)
}

/// Who has the same host and key shares the limits. Half of a SHA-256: it names a file, and does not
/// give the key away.
fn key(spec: &ProviderSpec, env: &Env) -> String {
    let base = spec.base_url.as_deref().or(spec.kind.default_base());
    let Some(base) = base else { return format!("{}-{}", spec.kind, spec.name) };
    let host = base.split_once("://").map_or(base, |(_, rest)| rest);
    let host = host.split(['/', '?']).next().unwrap_or(host);
    let mut hash = Sha256::new();
    hash.update(b"bosun rates\0");
    hash.update(host.to_ascii_lowercase().as_bytes());
    hash.update(b"\0");
    match spec.key.read(env) {
        Ok(Some(key)) => hash.update(secrecy::ExposeSecret::expose_secret(&key).as_bytes()),
        // Without a key nothing will be sent; the name of its source is as good.
        Ok(None) => {}
        Err(_) => hash.update(match &spec.key {
            KeySource::Env(name) => name.as_bytes(),
            KeySource::File(_) | KeySource::None => b"",
        }),
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Name;

    fn spec(tier: Option<&str>) -> ProviderSpec {
        let name: Name = "acme".parse().unwrap();
        let mut spec = ProviderSpec::new(name, ProviderKind::OpenAiCompatible);
        spec.base_url = Some("https://acme.example/v1".into());
        spec.tier = tier.map(str::to_owned);
        spec
    }

    #[test]
    fn every_row_is_read_dated_and_limits_something() {
        let rows = toml::from_str::<Table<'_>>(TABLE).unwrap().tier;
        assert!(rows.len() > 10);
        assert_eq!(names(), crate::adapters::crewfile::TIERS);
        for row in &rows {
            assert!(row.rpm.is_some() && (row.tpm.is_some() || row.itpm.is_some()), "{row:?}");
            assert_eq!(row.dated.len(), "2026-11-20".len(), "{row:?}");
            assert_eq!(rows.iter().filter(|r| (r.name, r.models) == (row.name, row.models)).count(), 1, "{row:?}");
        }
    }

    #[test]
    fn the_longest_class_counts_and_stated_figures_come_first() {
        let env = Env::default();
        let mini = tier(&spec(Some("openai/1")), "gpt-4.1-mini", &env);
        let large = tier(&spec(Some("openai/1")), "gpt-4.1", &env);
        assert_eq!((&*mini.class, &*large.class), ("gpt-4.1-mini", "gpt-4.1"));
        assert!(mini.rates.tpm > large.rates.tpm);
        let mut stated = spec(Some("openai/1"));
        stated.rpm = Some(3);
        let stated = tier(&stated, "gpt-4.1", &env);
        assert_eq!((stated.rates.rpm, stated.rates.tpm, &*stated.class), (Some(3), large.rates.tpm, ""));
        let none = tier(&spec(None), "gpt-4.1", &env);
        assert_eq!((none.rates, &*none.class), (Rates::default(), "gpt-4.1"));
    }

    #[test]
    fn a_key_is_of_host_and_key_and_tells_neither() {
        let env = |value: &str| Env::from([("ACME".to_owned(), value.to_owned())]);
        let with = |url: &str, key: &str| {
            let mut spec = spec(None);
            spec.base_url = Some(url.into());
            spec.key = KeySource::Env("ACME".into());
            tier(&spec, "m", &env(key)).key
        };
        let one = with("https://acme.example/v1", "secret-one");
        assert_eq!(one, with("https://ACME.example/v2/", "secret-one"));
        assert_ne!(one, with("https://acme.example/v1", "secret-two"));
        assert_ne!(one, with("https://other.example/v1", "secret-one"));
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
    }
}
