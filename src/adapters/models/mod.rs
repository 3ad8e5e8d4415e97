//! Model providers. Invariant: one call is one request; a provider is built at its first use and
//! says why it cannot be, before anything is sent.

pub mod anthropic;
pub mod body;
pub mod capabilities;
pub mod count;
pub mod failure;
pub mod gemini;
pub mod http;
pub mod limits;
pub mod line;
pub mod offline;
pub mod openai;
pub mod probe;
pub mod responses;
pub mod scripted;
pub mod secrets;
pub mod served;
pub mod splice;
pub mod sse;
pub mod streamed;
pub mod tiers;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;

use self::anthropic::Anthropic;
use self::capabilities::Api;
use self::gemini::Gemini;
use self::line::LineSpec;
use self::offline::Offline;
use self::openai::{Dialect, OpenAi};
use self::responses::Responses;
use self::scripted::Scripted;
use self::secrets::{Env, KeySource, SecretInputs};
use crate::core::chat::{CallFailure, FailureClass, ModelAnswer, ModelRequest};
use crate::core::ids::Name;
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Models, Tier, Watch};

/// `kind` of a `[providers.N]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    OpenAi,
    OpenAiResponses,
    OpenAiCompatible,
    Anthropic,
    Gemini,
    Ollama,
    Offline,
    Scripted,
}

/// Kinds by the word in files.
pub const KINDS: [(&str, ProviderKind); 8] = [
    ("openai", ProviderKind::OpenAi),
    ("openai-responses", ProviderKind::OpenAiResponses),
    ("openai-compatible", ProviderKind::OpenAiCompatible),
    ("anthropic", ProviderKind::Anthropic),
    ("gemini", ProviderKind::Gemini),
    ("ollama", ProviderKind::Ollama),
    ("offline", ProviderKind::Offline),
    ("scripted", ProviderKind::Scripted),
];

impl ProviderKind {
    /// The kind of that word, or in words what else it may be.
    pub fn parse(text: &str) -> Result<ProviderKind, String> {
        if let Some((_, kind)) = KINDS.iter().find(|(word, _)| *word == text) {
            return Ok(*kind);
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
            ProviderKind::OpenAi | ProviderKind::OpenAiResponses => Some("https://api.openai.com/v1"),
            ProviderKind::Anthropic => Some("https://api.anthropic.com"),
            ProviderKind::Gemini => Some("https://generativelanguage.googleapis.com"),
            ProviderKind::Ollama => Some("http://localhost:11434/v1"),
            ProviderKind::OpenAiCompatible | ProviderKind::Offline | ProviderKind::Scripted => None,
        }
    }
    /// Whose models these are, for the capability table; of a server that only speaks like one, nothing is known.
    pub fn api(self) -> Option<Api> {
        match self {
            ProviderKind::OpenAi | ProviderKind::OpenAiResponses => Some(Api::OpenAi),
            ProviderKind::Anthropic => Some(Api::Anthropic),
            ProviderKind::Gemini => Some(Api::Gemini),
            ProviderKind::OpenAiCompatible | ProviderKind::Ollama => None,
            ProviderKind::Offline | ProviderKind::Scripted => None,
        }
    }
    /// Are answers streamed unless the provider's `stream` says otherwise? At the vendors: text is seen as
    /// it comes, and an answer that dies shows it. Not at compatible servers: some of them drop the usage
    /// from a stream, or refuse to be asked for it.
    pub fn streams(self) -> bool {
        self.api().is_some()
    }
    /// Keys of `extra` that a crew may not set, with what to say; empty where all is well.
    pub fn refused_extra(self, extra: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
        match self {
            ProviderKind::OpenAi | ProviderKind::OpenAiCompatible | ProviderKind::Ollama => {
                openai::refused_extra(extra)
            }
            ProviderKind::OpenAiResponses => responses::refused_extra(extra),
            ProviderKind::Anthropic => anthropic::refused_extra(extra),
            ProviderKind::Gemini => gemini::refused_extra(extra),
            ProviderKind::Offline | ProviderKind::Scripted => Vec::new(),
        }
    }
    /// The variable with the vendor's key, for the built-in provider that has the kind's own name.
    pub fn usual_key(self) -> Option<&'static str> {
        match self {
            ProviderKind::OpenAi | ProviderKind::OpenAiResponses => Some("OPENAI_API_KEY"),
            ProviderKind::Anthropic => Some("ANTHROPIC_API_KEY"),
            ProviderKind::Gemini => Some("GEMINI_API_KEY"),
            ProviderKind::OpenAiCompatible | ProviderKind::Ollama => None,
            ProviderKind::Offline | ProviderKind::Scripted => None,
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
    /// Whether answers are streamed.
    pub stream: bool,
    /// Calls in flight at once.
    pub max_concurrency: usize,
    /// Requests per minute.
    pub rpm: Option<u64>,
    /// Tokens per minute.
    pub tpm: Option<u64>,
    /// Requests per day.
    pub rpd: Option<u64>,
    /// A row of `tiers.toml`: what it states applies where nothing above is stated.
    pub tier: Option<String>,
    /// Longest wait for a rate limit.
    pub max_wait_ms: u64,
    /// File of replies of the kind `scripted`.
    pub script: Option<PathBuf>,
}

impl ProviderSpec {
    /// With every default: 120 s, 8 at once, no rate limit, 10 minutes of waiting. No key, but for the
    /// built-in names (`openai`): another name may be another host, which is not sent that key unasked.
    pub fn new(name: Name, kind: ProviderKind) -> ProviderSpec {
        let own = kind.usual_key().filter(|_| name.as_str() == kind.as_str().replace('-', "_"));
        ProviderSpec {
            name,
            kind,
            base_url: None,
            key: own.map_or(KeySource::None, |variable| KeySource::Env(variable.to_owned())),
            timeout_ms: 120_000,
            stream: kind.streams(),
            max_concurrency: 8,
            rpm: None,
            tpm: None,
            rpd: None,
            tier: None,
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
    /// How long a request is on its way to the stand-in: of one whose sender dies meanwhile it knows nothing.
    pub offline_way: Duration,
}

/// The providers of a process by name.
pub struct Registry {
    around: Surroundings,
    entries: HashMap<Name, Entry>,
}

struct Entry {
    spec: ProviderSpec,
    /// By model.
    tiers: DashMap<String, Arc<Tier>>,
    built: OnceLock<Result<Arc<dyn Model>, CallFailure>>,
}

impl Registry {
    /// Of two specs with one name the later counts.
    pub fn new(specs: impl IntoIterator<Item = ProviderSpec>, around: Surroundings) -> Registry {
        let entry =
            |spec: ProviderSpec| (spec.name.clone(), Entry { spec, tiers: DashMap::new(), built: OnceLock::new() });
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
    fn tier(&self, provider: &Name, model: &str) -> Arc<Tier> {
        let Some(entry) = self.entries.get(provider) else { return Arc::new(Tier::at_once(provider.as_str(), 1)) };
        if let Some(tier) = entry.tiers.get(model) {
            return tier.clone();
        }
        let tier = Arc::new(tiers::tier(&entry.spec, model, &self.around.env));
        entry.tiers.entry(model.to_owned()).or_insert(tier).clone()
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
        ProviderKind::OpenAi => served(spec, around, |line| OpenAi::new(line, Dialect::OPENAI)),
        ProviderKind::OpenAiResponses => served(spec, around, Responses::new),
        ProviderKind::OpenAiCompatible | ProviderKind::Ollama => {
            served(spec, around, |line| OpenAi::new(line, Dialect::COMPATIBLE))
        }
        ProviderKind::Anthropic => served(spec, around, Anthropic::new),
        ProviderKind::Gemini => served(spec, around, Gemini::new),
        ProviderKind::Offline => {
            Ok(Arc::new(Offline::new(around.offline_way, around.offline_delay, around.count_file.clone())))
        }
        ProviderKind::Scripted => scripted(spec),
    }
}

/// A provider that is a server: its address and key are looked up, nothing is sent.
fn served<M: Model + 'static>(
    spec: &ProviderSpec,
    around: &Surroundings,
    make: impl FnOnce(LineSpec) -> Result<M, String>,
) -> Result<Arc<dyn Model>, CallFailure> {
    let name = &spec.name;
    let base_url = spec.base_url.clone().or_else(|| spec.kind.default_base().map(str::to_owned)).ok_or_else(|| {
        let say = format!("provider `{name}` has no base_url: state it in [providers.{name}], with /v1");
        refused(FailureClass::OurFault, say)
    })?;
    let key = spec.key.read(&around.env);
    let key = key.map_err(|why| refused(FailureClass::Credentials, format!("provider `{name}` has no key: {why}")))?;
    let line = LineSpec {
        base_url,
        key,
        timeout: Duration::from_millis(spec.timeout_ms),
        connections: spec.max_concurrency,
        stream: spec.stream,
        secrets: around.secrets.clone(),
    };
    let made = make(line).map_err(|why| refused(FailureClass::OurFault, format!("provider `{name}`: {why}")))?;
    Ok(Arc::new(made))
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
    CallFailure::of(class, message)
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
