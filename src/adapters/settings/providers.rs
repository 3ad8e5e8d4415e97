//! `[providers.N]` of all layers made one spec each. Invariant: of each key the last layer that
//! states it counts; a provider without a kind is refused, not guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use config::{Map, Value, ValueKind};

use super::layers::{self, Layer};
use crate::adapters::models::scripted::duration;
use crate::adapters::models::secrets::{KeySource, has_login, is_variable};
use crate::adapters::models::{ProviderKind, ProviderSpec, tiers};
use crate::core::ids::Name;

pub fn all(layers: &[Layer], problems: &mut Vec<String>) -> BTreeMap<Name, ProviderSpec> {
    let names: BTreeSet<&String> =
        layers.iter().flat_map(|layer| tables(layer).into_iter().flatten()).map(|(n, _)| n).collect();
    let mut out = BTreeMap::new();
    for text in names {
        let parts: Vec<&Map<String, Value>> = layers.iter().filter_map(|layer| table(layer, text)).collect();
        let origin = layers.iter().rev().find_map(|layer| tables(layer)?.get(text)?.origin()).unwrap_or_default();
        let name = match Name::new(text) {
            Ok(name) => name,
            Err(why) => {
                problems.push(format!("{origin}: [providers.{text}]: {why}"));
                continue;
            }
        };
        let mut merge = Merge { name: text, parts, problems };
        let Some(kind) = merge.last("kind", kind) else {
            if !merge.parts.iter().any(|part| part.contains_key("kind")) {
                let hint = "state a kind, such as kind = \"openai-compatible\"";
                merge.problems.push(format!("{origin}: [providers.{text}] has no kind: {hint}"));
            }
            continue;
        };
        let script = layers.iter().rev().find_map(|layer| layer.values.get("script"));
        let spec = merge.spec(ProviderSpec::new(name.clone(), kind), script);
        out.insert(name, spec);
    }
    out
}

fn tables(layer: &Layer) -> Option<&Map<String, Value>> {
    match &layer.values.get("providers")?.kind {
        ValueKind::Table(tables) => Some(tables),
        _ => None,
    }
}

fn table<'a>(layer: &'a Layer, name: &str) -> Option<&'a Map<String, Value>> {
    match &tables(layer)?.get(name)?.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

struct Merge<'a> {
    name: &'a str,
    /// The provider's table in each layer that has one.
    parts: Vec<&'a Map<String, Value>>,
    problems: &'a mut Vec<String>,
}

impl Merge<'_> {
    fn last<T>(&mut self, key: &str, read: fn(&Value) -> Result<T, String>) -> Option<T> {
        let value = self.parts.iter().rev().find_map(|part| part.get(key))?;
        match read(value) {
            Ok(value) => Some(value),
            Err(why) => {
                let origin = value.origin().unwrap_or_default();
                self.problems.push(format!("{origin}: `providers.{}.{key}` {why}", self.name));
                None
            }
        }
    }

    fn spec(mut self, spec: ProviderSpec, script: Option<&Value>) -> ProviderSpec {
        let own_script = self.last("script", layers::text);
        // BOSUN_SCRIPT and `script` at the top are for the provider that is built in.
        let general = script.filter(|_| self.name == "scripted").and_then(|value| layers::text(value).ok());
        ProviderSpec {
            base_url: self.last("base_url", address),
            key: self.key(spec.key),
            timeout_ms: self.last("timeout", span).unwrap_or(spec.timeout_ms),
            max_wait_ms: self.last("max_wait", span).unwrap_or(spec.max_wait_ms),
            stream: self.last("stream", layers::switch).unwrap_or(spec.stream),
            max_concurrency: self.last("max_concurrency", at_least_one).unwrap_or(spec.max_concurrency),
            rpm: self.last("rpm", layers::count),
            tpm: self.last("tpm", layers::count),
            rpd: self.last("rpd", layers::count),
            tier: self.last("tier", tier),
            script: general.or(own_script).map(PathBuf::from),
            ..spec
        }
    }

    /// The last layer that names a key counts, whichever way it does.
    fn key(&mut self, usual: KeySource) -> KeySource {
        let mut key = usual;
        for part in self.parts.clone() {
            let (env, file) = (part.get("api_key_env"), part.get("api_key_file"));
            if let (Some(both), Some(_)) = (env, file) {
                let origin = both.origin().unwrap_or_default();
                let name = self.name;
                self.problems.push(format!("{origin}: [providers.{name}] has api_key_env and api_key_file: keep one"));
            }
            if env.is_some() {
                self.last("api_key_env", variable);
            }
            if let Some(Ok(variable)) = env.map(variable) {
                key = KeySource::Env(variable);
            }
            if let Some(Ok(path)) = file.map(layers::text) {
                key = KeySource::File(PathBuf::from(path));
            }
        }
        key
    }
}

fn kind(value: &Value) -> Result<ProviderKind, String> {
    let kind = ProviderKind::parse(&layers::text(value)?);
    kind.map_err(|why| format!("is wrong: {why}"))
}

/// The name of a variable. What is none is not repeated: it may be the key.
fn variable(value: &Value) -> Result<String, String> {
    let text = layers::text(value).map_err(|_| "is not a text: expected the name of an environment variable")?;
    if is_variable(&text) {
        return Ok(text);
    }
    Err("is not the name of an environment variable; if this is the key itself, replace that key".to_owned())
}

fn address(value: &Value) -> Result<String, String> {
    let text = layers::text(value)?;
    if has_login(&text) {
        return Err("holds a user name or password: take it out and name a variable in `api_key_env`".to_owned());
    }
    Ok(text)
}

fn tier(value: &Value) -> Result<String, String> {
    let text = layers::text(value)?;
    let known = tiers::names();
    let wrong = || format!("is no preset: found `{text}`, expected one of {}", known.join(", "));
    if known.contains(&text.as_str()) { Ok(text) } else { Err(wrong()) }
}

fn span(value: &Value) -> Result<u64, String> {
    let wrong = |why| format!("is wrong: {why}");
    let span = duration(&layers::text(value)?).map_err(wrong)?;
    u64::try_from(span.as_millis()).map_err(|_| "is wrong: longer than this machine will live".to_owned())
}

fn at_least_one(value: &Value) -> Result<usize, String> {
    let count = layers::count(value)?;
    usize::try_from(count).ok().filter(|n| *n > 0).ok_or_else(|| "is 0: expected a whole number from 1".to_owned())
}
