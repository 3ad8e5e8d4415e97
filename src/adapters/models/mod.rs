//! Model providers. Invariant: one call is one request; a provider is built at its first use and
//! says why it cannot be, before anything is sent.

pub mod failure;
pub mod http;
pub mod offline;
pub mod openai;
pub mod scripted;
pub mod secrets;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use self::offline::Offline;
use self::openai::{Dialect, OpenAi, OpenAiSpec};
use self::scripted::Scripted;
use self::secrets::{Env, KeySource, SecretInputs};
use crate::core::chat::{CallFailure, FailureClass, ModelAnswer, ModelRequest};
use crate::core::ids::Name;
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Models, Watch};

/// `kind` of a `[providers.N]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    OpenAi,
    OpenAiCompatible,
    Ollama,
    Offline,
    Scripted,
}

/// Kinds by the word in files.
pub const KINDS: [(&str, ProviderKind); 5] = [
    ("openai", ProviderKind::OpenAi),
    ("openai-compatible", ProviderKind::OpenAiCompatible),
    ("ollama", ProviderKind::Ollama),
    ("offline", ProviderKind::Offline),
    ("scripted", ProviderKind::Scripted),
];
const LATER: [&str; 3] = ["openai-responses", "anthropic", "gemini"];

impl ProviderKind {
    /// The kind of that word, or in words what else it may be.
    pub fn parse(text: &str) -> Result<ProviderKind, String> {
        if let Some((_, kind)) = KINDS.iter().find(|(word, _)| *word == text) {
            return Ok(*kind);
        }
        if LATER.contains(&text) {
            return Err(format!("not supported yet: provider kind `{text}`"));
        }
        let known: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
        Err(format!("unknown provider kind `{text}`: expected one of {}", known.join(", ")))
    }
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
    /// Runs here: shown as local, needs no price, bounded by `max_tokens`.
    pub fn is_local(self) -> bool {
        matches!(self, ProviderKind::Ollama | ProviderKind::Offline | ProviderKind::Scripted)
    }
    /// Not a language model, and always marked as such.
    pub fn is_stand_in(self) -> bool {
        matches!(self, ProviderKind::Offline | ProviderKind::Scripted)
    }
    /// `base_url` where none is stated.
    pub fn default_base(self) -> Option<&'static str> {
        match self {
            ProviderKind::OpenAi => Some("https://api.openai.com/v1"),
            ProviderKind::Ollama => Some("http://localhost:11434/v1"),
            ProviderKind::OpenAiCompatible | ProviderKind::Offline | ProviderKind::Scripted => None,
        }
    }
}
impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A provider as `[providers.N]` states it, from a crew file or the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSpec {
    pub name: Name,
    pub kind: ProviderKind,
    pub base_url: Option<String>,
    pub key: KeySource,
    /// Of one request.
    pub timeout_ms: u64,
    /// Calls in flight at once.
    pub max_concurrency: usize,
    /// Requests per minute.
    pub rpm: Option<u64>,
    /// Tokens per minute.
    pub tpm: Option<u64>,
    /// Longest wait for a rate limit.
    pub max_wait_ms: u64,
    /// File of replies of the kind `scripted`.
    pub script: Option<PathBuf>,
}

impl ProviderSpec {
    /// With every default: 120 s, 8 at once, no rate limit, 10 minutes of waiting. No key, but for the
    /// built-in name `openai`: another name may be another host, which is not sent that key unasked.
    pub fn new(name: Name, kind: ProviderKind) -> ProviderSpec {
        let own = kind == ProviderKind::OpenAi && name.as_str() == "openai";
        ProviderSpec {
            name,
            kind,
            base_url: None,
            key: if own { KeySource::Env("OPENAI_API_KEY".to_owned()) } else { KeySource::None },
            timeout_ms: 120_000,
            max_concurrency: 8,
            rpm: None,
            tpm: None,
            max_wait_ms: 600_000,
            script: None,
        }
    }
}

/// What providers need from the process, given once.
#[derive(Clone, Default)]
pub struct Surroundings {
    pub env: Arc<Env>,
    /// Values that replace the run's marks in bodies.
    pub secrets: Arc<SecretInputs>,
    /// How long an offline answer takes.
    pub offline_delay: Duration,
    /// Where the kind `offline` counts its requests.
    pub count_file: Option<PathBuf>,
}

/// The providers of a process by name.
pub struct Registry {
    around: Surroundings,
    entries: HashMap<Name, Entry>,
}

struct Entry {
    spec: ProviderSpec,
    built: OnceLock<Result<Arc<dyn Model>, CallFailure>>,
}

impl Registry {
    /// Of two specs with one name the later counts.
    pub fn new(specs: impl IntoIterator<Item = ProviderSpec>, around: Surroundings) -> Registry {
        let entry = |spec: ProviderSpec| (spec.name.clone(), Entry { spec, built: OnceLock::new() });
        Registry { around, entries: specs.into_iter().map(entry).collect() }
    }

    pub fn spec(&self, name: &Name) -> Option<&ProviderSpec> {
        self.entries.get(name).map(|entry| &entry.spec)
    }

    /// Builds the provider now: what would be wrong with its first call before it is sent (no key, no
    /// usable address, no script). Nothing is sent. An unknown name is [`FailureClass::OurFault`].
    pub fn check(&self, name: &Name) -> Result<(), CallFailure> {
        let unknown = || refused(FailureClass::OurFault, format!("there is no provider `{name}`"));
        self.entries.get(name).ok_or_else(unknown)?.built(&self.around).as_ref().map(|_| ()).map_err(Clone::clone)
    }
}

impl Models for Registry {
    fn provider(&self, name: &Name) -> Option<Arc<dyn Model>> {
        let built = self.entries.get(name)?.built(&self.around);
        Some(match built {
            Ok(model) => model.clone(),
            Err(why) => Arc::new(Refused(why.clone())),
        })
    }
    fn concurrency(&self, name: &Name) -> usize {
        self.spec(name).map_or(1, |spec| spec.max_concurrency.max(1))
    }
}

impl Entry {
    fn built(&self, around: &Surroundings) -> &Result<Arc<dyn Model>, CallFailure> {
        self.built.get_or_init(|| build(&self.spec, around))
    }
}

/// One line per kind.
fn build(spec: &ProviderSpec, around: &Surroundings) -> Result<Arc<dyn Model>, CallFailure> {
    match spec.kind {
        ProviderKind::OpenAi => openai(spec, around, Dialect::OPENAI),
        ProviderKind::OpenAiCompatible | ProviderKind::Ollama => openai(spec, around, Dialect::COMPATIBLE),
        ProviderKind::Offline => Ok(Arc::new(Offline::new(around.offline_delay, around.count_file.clone()))),
        ProviderKind::Scripted => scripted(spec),
    }
}

fn openai(spec: &ProviderSpec, around: &Surroundings, dialect: Dialect) -> Result<Arc<dyn Model>, CallFailure> {
    let name = &spec.name;
    let base_url = spec.base_url.clone().or_else(|| spec.kind.default_base().map(str::to_owned)).ok_or_else(|| {
        let say = format!("provider `{name}` has no base_url: state it in [providers.{name}], with /v1");
        refused(FailureClass::OurFault, say)
    })?;
    let key = spec
        .key
        .read(&around.env)
        .map_err(|why| refused(FailureClass::Credentials, format!("provider `{name}` has no key: {why}")))?;
    let spec = OpenAiSpec {
        base_url,
        key,
        timeout: Duration::from_millis(spec.timeout_ms),
        connections: spec.max_concurrency,
        dialect,
        secrets: around.secrets.clone(),
    };
    let client = OpenAi::new(spec);
    let client = client.map_err(|why| refused(FailureClass::OurFault, format!("provider `{name}`: {why}")))?;
    Ok(Arc::new(client))
}

fn scripted(spec: &ProviderSpec) -> Result<Arc<dyn Model>, CallFailure> {
    let name = &spec.name;
    let path = spec.script.as_ref().ok_or_else(|| {
        let say = format!("provider `{name}` has no `script`: name a TOML file of replies, or set BOSUN_SCRIPT");
        refused(FailureClass::OurFault, say)
    })?;
    let model = Scripted::load(path).map_err(|why| refused(FailureClass::OurFault, why))?;
    Ok(Arc::new(model))
}

fn refused(class: FailureClass, message: String) -> CallFailure {
    CallFailure { class, status: None, message, retry_after_ms: None, param: None }
}

/// A provider that cannot be built: every call fails with the reason, and nothing is sent.
struct Refused(CallFailure);

impl Model for Refused {
    fn call<'a>(&'a self, _: &'a ModelRequest, _: &'a dyn Watch) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        Box::pin(std::future::ready(Err(self.0.clone())))
    }
}

#[cfg(test)]
pub(crate) mod tests;
