//! Machine settings in layers: built-in < user file < `bosun.toml` < `BOSUN_*` < flag. Invariant:
//! every value knows the layer it is from; of a limit the smallest layer counts, of all else the last.

mod layers;
mod prices;
mod providers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Value};

use self::layers::Layer;
pub use self::layers::{Flags, user_file};
use crate::adapters::models::ProviderSpec;
use crate::adapters::models::secrets::Env;
use crate::core::ids::Name;
use crate::core::money::{NanoUsd, Price};

/// The file in a project's root.
pub const PROJECT_FILE: &str = "bosun.toml";

/// A value and the layer that states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated<T> {
    pub value: T,
    pub origin: String,
}

/// Limits of every run on this machine; `None` where no layer states one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub max_usd: Option<Stated<NanoUsd>>,
    /// Input and output together.
    pub max_tokens: Option<Stated<u64>>,
    pub max_calls: Option<Stated<u64>>,
    pub max_turns: Option<Stated<u64>>,
    /// Tokens of one call's output.
    pub max_output: Option<Stated<u64>>,
}

impl Limits {
    /// The layer of each limit that is in force.
    fn origins(&self) -> impl Iterator<Item = (String, String)> {
        let of = |stated: &Option<Stated<u64>>| stated.as_ref().map(|stated| stated.origin.clone());
        let all = [
            ("max_usd", self.max_usd.as_ref().map(|stated| stated.origin.clone())),
            ("max_tokens", of(&self.max_tokens)),
            ("max_calls", of(&self.max_calls)),
            ("max_turns", of(&self.max_turns)),
            ("max_output", of(&self.max_output)),
        ];
        all.into_iter().filter_map(|(key, origin)| Some((key.to_owned(), origin?)))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// The state folder, below the project root unless it is stated absolute.
    pub state_dir: PathBuf,
    /// `PROVIDER/MODEL` for agents that name none.
    pub model: Option<String>,
    pub limits: Limits,
    /// A filter as `BOSUN_LOG` takes it.
    pub log: Option<String>,
    pub log_format: LogFormat,
    pub log_file: Option<PathBuf>,
    /// Every model is replaced by the stand-in.
    pub offline: bool,
    pub offline_delay: Duration,
    /// The built-in providers and those of `[providers.N]`. A crew file's tables come before these.
    pub providers: BTreeMap<Name, ProviderSpec>,
    /// `[prices]`, by `provider/model-id`: before the price table, behind a crew file's own.
    pub prices: BTreeMap<String, Stated<Price>>,
    /// The layer of each value that is in force, by dotted key (`providers.acme.base_url`).
    pub origins: BTreeMap<String, String>,
    /// Variables that look like a misspelt setting.
    pub notes: Vec<String>,
}

/// Everything that is wrong in the layers, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct BadSettings {
    pub problems: Vec<String>,
}

/// Reads the layers of a project. `flags` are keys of this file with the values given on the command line.
pub fn load(root: &Path, env: &Env, flags: &Flags) -> Result<Settings, BadSettings> {
    let mut problems = Vec::new();
    let mut layers = vec![layers::built_in(env)];
    let files = [user_file(env), Some(root.join(PROJECT_FILE))];
    for path in files.into_iter().flatten() {
        match layers::file(&path) {
            Ok(layer) => layers.extend(layer),
            Err(why) => problems.push(why),
        }
    }
    let (from_env, notes) = layers::environment(env, &mut problems);
    layers.push(from_env);
    layers.push(layers::flags(flags));
    for layer in &layers {
        layer.check(&mut problems);
    }
    let builder = layers.iter().cloned().fold(Config::builder(), |builder, layer| builder.add_source(layer));
    let merged = match builder.build() {
        Ok(merged) => merged.cache,
        Err(why) => return Err(BadSettings { problems: vec![format!("the settings cannot be merged: {why}")] }),
    };
    let mut read = Reader { layers: &layers, problems };
    let limits = read.limits();
    let providers = providers::all(&layers, &mut read.problems);
    let prices = prices::all(&layers, &mut read.problems);
    let log_format = match read.text("log_format").as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            let origin = read.origin("log_format");
            read.problems.push(format!("{origin}: `log_format` is `{other}`: expected text or json"));
            LogFormat::Text
        }
    };
    let mut origins = origins(&merged);
    origins.extend(limits.origins());
    let settings = Settings {
        state_dir: root.join(read.text("state_dir").unwrap_or_else(|| ".bosun".to_owned())),
        model: read.text("model"),
        limits,
        log: read.text("log"),
        log_format,
        log_file: read.text("log_file").map(PathBuf::from),
        offline: read.last("offline", layers::switch).unwrap_or(false),
        offline_delay: Duration::from_millis(read.last("offline_delay_ms", layers::count).unwrap_or(0)),
        providers,
        prices,
        origins,
        notes,
    };
    let mut problems = read.problems;
    problems.dedup();
    if problems.is_empty() { Ok(settings) } else { Err(BadSettings { problems }) }
}

struct Reader<'a> {
    layers: &'a [Layer],
    problems: Vec<String>,
}

type Read<T> = fn(&Value) -> Result<T, String>;

impl Reader<'_> {
    fn limits(&mut self) -> Limits {
        Limits {
            max_usd: self.least("max_usd", layers::money),
            max_tokens: self.least("max_tokens", layers::at_least_one),
            max_calls: self.least("max_calls", layers::at_least_one),
            max_turns: self.least("max_turns", layers::at_least_one),
            max_output: self.least("max_output", layers::at_least_one),
        }
    }

    /// All layers' values of a key that can be read, in order; the others are problems.
    fn each<T>(&mut self, key: &str, read: Read<T>) -> Vec<Stated<T>> {
        let mut found = Vec::new();
        for value in self.layers.iter().filter_map(|layer| layer.values.get(key)) {
            let origin = value.origin().unwrap_or_default().to_owned();
            match read(value) {
                Ok(value) => found.push(Stated { value, origin }),
                Err(why) => self.problems.push(format!("{origin}: `{key}` {why}")),
            }
        }
        found
    }
    fn last<T>(&mut self, key: &str, read: Read<T>) -> Option<T> {
        self.each(key, read).pop().map(|stated| stated.value)
    }
    fn text(&mut self, key: &str) -> Option<String> {
        self.last(key, layers::text)
    }
    /// The smallest; of equal ones the first layer's.
    fn least<T: Ord + Clone>(&mut self, key: &str, read: Read<T>) -> Option<Stated<T>> {
        self.each(key, read).into_iter().min_by(|a, b| a.value.cmp(&b.value))
    }
    fn origin(&self, key: &str) -> String {
        let last = self.layers.iter().rev().find_map(|layer| layer.values.get(key));
        last.and_then(Value::origin).unwrap_or_default().to_owned()
    }
}

fn origins(merged: &Value) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: &str, out: &mut BTreeMap<String, String>) {
        match &value.kind {
            config::ValueKind::Table(table) => {
                for (key, value) in table {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(value, &path, out);
                }
            }
            _ => {
                out.insert(path.to_owned(), value.origin().unwrap_or_default().to_owned());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(merged, "", &mut out);
    out
}

#[cfg(test)]
mod tests;
