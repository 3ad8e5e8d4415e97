//! Where settings come from. Invariant: a value carries the file, variable or flag that states it,
//! and a key that no one knows is reported with the nearest one that is known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use crate::adapters::models::secrets::Env;
use crate::adapters::textfile;
use crate::core::money::NanoUsd;

/// Keys with the values that flags give them.
pub type Flags = BTreeMap<String, String>;

pub const KEYS: [&str; 15] = [
    "state_dir",
    "model",
    "max_usd",
    "max_tokens",
    "max_calls",
    "max_turns",
    "max_output",
    "log",
    "log_format",
    "log_file",
    "offline",
    "offline_delay_ms",
    "script",
    "providers",
    "prices",
];
pub const PROVIDER_KEYS: [&str; 13] = [
    "kind",
    "base_url",
    "api_key_env",
    "api_key_file",
    "rpm",
    "tpm",
    "rpd",
    "tier",
    "max_concurrency",
    "max_wait",
    "timeout",
    "stream",
    "script",
];
/// Keys whose value is a path relative to the file that states it.
const PATHS: [&str; 3] = ["api_key_file", "script", "log_file"];
const PREFIX: &str = "BOSUN_";
/// Keys that begin so are limits.
const LIMIT: &str = "max_";

/// One layer, as a source that `config` merges.
#[derive(Clone, Debug)]
pub struct Layer {
    pub values: Map<String, Value>,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.values.clone())
    }
}

impl Layer {
    /// Reports unknown keys and tables that are none.
    pub fn check(&self, problems: &mut Vec<String>) {
        for (key, value) in sorted(&self.values) {
            let origin = value.origin().unwrap_or_default();
            if !KEYS.contains(&key.as_str()) {
                problems.push(format!("{origin}: `{key}` is not a setting{}", nearest(key, &KEYS)));
            }
        }
        let Some(providers) = self.values.get("providers") else { return };
        let origin = providers.origin().unwrap_or_default();
        let ValueKind::Table(tables) = &providers.kind else {
            return problems.push(format!("{origin}: `providers` is not a table: write [providers.NAME]"));
        };
        for (name, value) in sorted(tables) {
            let ValueKind::Table(table) = &value.kind else {
                problems.push(format!("{origin}: `providers.{name}` is not a table: write [providers.{name}]"));
                continue;
            };
            for (key, _) in sorted(table) {
                if !PROVIDER_KEYS.contains(&key.as_str()) {
                    let hint = match key.as_str() {
                        "api_key" | "apikey" | "key" | "token" => {
                            "; keys do not belong into files: write api_key_env = \"NAME\", and replace the key".into()
                        }
                        _ => nearest(key, &PROVIDER_KEYS),
                    };
                    problems.push(format!("{origin}: `{key}` is not a key of [providers.{name}]{hint}"));
                }
            }
        }
    }
}

/// `config` keeps no order; messages need one.
pub fn sorted(map: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    map.iter().collect()
}

/// `; did you mean …`, or the list of what is known.
pub fn nearest(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), k)).min();
    match near.filter(|(distance, k)| *distance <= 2.max(k.len() / 3)) {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// The built-in providers.
pub fn built_in(env: &Env) -> Layer {
    let provider = |values: &[(&str, &str, &str)]| {
        let one = |(key, value, origin): &(&str, &str, &str)| (key.to_string(), stamped((*value).into(), origin));
        Value::new(Some(&"built-in".to_owned()), ValueKind::Table(values.iter().map(one).collect()))
    };
    let (base, from) = match env.get("OPENAI_BASE_URL").filter(|base| !base.trim().is_empty()) {
        Some(base) => (base.as_str(), "OPENAI_BASE_URL"),
        None => ("https://api.openai.com/v1", "built-in"),
    };
    let openai =
        [("kind", "openai", "built-in"), ("base_url", base, from), ("api_key_env", "OPENAI_API_KEY", "built-in")];
    let responses = [
        ("kind", "openai-responses", "built-in"),
        ("base_url", base, from),
        ("api_key_env", "OPENAI_API_KEY", "built-in"),
    ];
    let (claude, claude_from) = match env.get("ANTHROPIC_BASE_URL").filter(|base| !base.trim().is_empty()) {
        Some(base) => (base.as_str(), "ANTHROPIC_BASE_URL"),
        None => ("https://api.anthropic.com", "built-in"),
    };
    let anthropic = [
        ("kind", "anthropic", "built-in"),
        ("base_url", claude, claude_from),
        ("api_key_env", "ANTHROPIC_API_KEY", "built-in"),
    ];
    let gemini = [("kind", "gemini", "built-in"), ("api_key_env", "GEMINI_API_KEY", "built-in")];
    let tables: Map<String, Value> = [
        ("openai".to_owned(), provider(&openai)),
        ("openai_responses".to_owned(), provider(&responses)),
        ("anthropic".to_owned(), provider(&anthropic)),
        ("gemini".to_owned(), provider(&gemini)),
        ("ollama".to_owned(), provider(&[("kind", "ollama", "built-in")])),
        ("offline".to_owned(), provider(&[("kind", "offline", "built-in")])),
        ("scripted".to_owned(), provider(&[("kind", "scripted", "built-in")])),
    ]
    .into_iter()
    .collect();
    let providers = Value::new(Some(&"built-in".to_owned()), ValueKind::Table(tables));
    Layer { values: [("providers".to_owned(), providers)].into_iter().collect() }
}

/// A settings file; nothing where there is none.
pub fn file(path: &Path) -> Result<Option<Layer>, String> {
    let shown = path.display().to_string();
    let text = match textfile::read(path) {
        Ok(text) => text,
        Err(why) if why.is_missing() => return Ok(None),
        Err(why) => return Err(format!("{shown}: {why}")),
    };
    // The parser's own words quote the line, and the line may hold a key.
    if let Err(why) = toml::from_str::<toml::Table>(&text) {
        let line = why.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        return Err(format!("{shown}, line {line}: is not TOML: {}", why.message()));
    }
    let values = File::from_str(&text, FileFormat::Toml).collect();
    let values = values.map_err(|_| format!("{shown}: is not TOML"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let stamp = |(key, value): (String, Value)| {
        let value = resolved(&key, restamped(value, &shown), folder);
        (key, value)
    };
    Ok(Some(Layer { values: values.into_iter().map(stamp).collect() }))
}

/// `$XDG_CONFIG_HOME/bosun/config.toml`, else below `~/.config`.
pub fn user_file(env: &Env) -> Option<PathBuf> {
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("bosun").join("config.toml"))
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase())
}

/// `BOSUN_*`. A variable that misses a setting by a letter or two is a note; one that misses a limit is a
/// problem: whoever set it believes that spending is bounded.
pub fn environment(env: &Env, problems: &mut Vec<String>) -> (Layer, Vec<String>) {
    let known: Vec<(String, &str)> =
        KEYS.iter().filter(|key| !["providers", "prices"].contains(key)).map(|key| (variable(key), *key)).collect();
    let is_known = |name: &String| known.iter().any(|(variable, _)| variable == name);
    let (ours, others): (Vec<_>, Vec<_>) =
        env.iter().filter(|(name, _)| name.starts_with(PREFIX)).partition(|(name, _)| is_known(name));
    let source = ours.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let source = Environment::with_prefix("BOSUN").ignore_empty(true).source(Some(source));
    // Collecting from a map of strings has no way to fail.
    let collected = source.collect().unwrap_or_default();
    let stamp = |(key, value): (String, Value)| {
        let value = restamped(value, &variable(&key));
        (key, value)
    };
    let mut notes = Vec::new();
    for (name, _) in others {
        let near = known.iter().map(|(variable, key)| (strsim::damerau_levenshtein(variable, name), variable, key));
        let near = near.filter(|(distance, ..)| *distance <= 2).min();
        match near {
            Some((_, variable, key)) if key.starts_with(LIMIT) => problems.push(format!(
                "{name}: is not a setting, and as a limit it would hold nothing; did you mean {variable}?"
            )),
            Some((_, variable, _)) => notes.push(format!("{name} is not a setting of bosun; did you mean {variable}?")),
            None if name.starts_with(&variable(LIMIT)) => {
                let limits = known.iter().filter(|(_, key)| key.starts_with(LIMIT));
                let limits = limits.map(|(variable, _)| variable.as_str()).collect::<Vec<_>>().join(", ");
                notes.push(format!("{name} is not a setting of bosun and limits nothing; limits: {limits}"));
            }
            None => {}
        }
    }
    (Layer { values: collected.into_iter().map(stamp).collect() }, notes)
}

pub fn flags(flags: &Flags) -> Layer {
    let one = |(key, value): (&String, &String)| {
        let origin = format!("--{}", key.replace('_', "-"));
        (key.clone(), stamped(value.as_str().into(), &origin))
    };
    Layer { values: flags.iter().map(one).collect() }
}

fn stamped(kind: ValueKind, origin: &str) -> Value {
    Value::new(Some(&origin.to_owned()), kind)
}

/// `value` and all below it, from `origin`.
fn restamped(value: Value, origin: &str) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, value)| (key, restamped(value, origin))).collect())
        }
        ValueKind::Array(list) => ValueKind::Array(list.into_iter().map(|v| restamped(v, origin)).collect()),
        other => other,
    };
    stamped(kind, origin)
}

fn resolved(key: &str, value: Value, folder: &Path) -> Value {
    let origin = value.origin().unwrap_or_default().to_owned();
    let kind = match value.kind {
        ValueKind::String(path) if PATHS.contains(&key) => ValueKind::String(folder.join(path).display().to_string()),
        ValueKind::Table(table) => ValueKind::Table(
            table.into_iter().map(|(key, value)| (key.clone(), resolved(&key, value, folder))).collect(),
        ),
        other => other,
    };
    stamped(kind, &origin)
}

pub fn text(value: &Value) -> Result<String, String> {
    match &value.kind {
        ValueKind::String(text) if !text.trim().is_empty() => Ok(text.clone()),
        _ => Err(format!("is {}: expected a text", shown(value))),
    }
}

pub fn switch(value: &Value) -> Result<bool, String> {
    let wrong = |_| format!("is {}: expected true or false", shown(value));
    value.clone().into_bool().map_err(wrong)
}

pub fn count(value: &Value) -> Result<u64, String> {
    let number = match &value.kind {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::U64(number) => Some(*number),
        ValueKind::String(text) => text.trim().replace('_', "").parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| format!("is {}: expected a whole number from 0", shown(value)))
}

/// As [`count`], and not 0: a limit of nothing is a slip.
pub fn at_least_one(value: &Value) -> Result<u64, String> {
    count(value)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("is {}: expected a whole number from 1", shown(value)))
}

pub fn money(value: &Value) -> Result<NanoUsd, String> {
    let text = match &value.kind {
        ValueKind::String(text) => text.clone(),
        // `config` has made a float of it; the shortest text of that float is the decimal in the file.
        ValueKind::I64(_) | ValueKind::Float(_) => value.kind.to_string(),
        _ => return Err(format!("is {}: expected USD, such as 0.25", shown(value))),
    };
    text.parse().map_err(|why| format!("is wrong: {why}"))
}

fn shown(value: &Value) -> String {
    format!("`{}`", value.kind.to_string().chars().take(60).collect::<String>())
}
