//! Is a provider there? Invariant: one `GET` of the list of models, which no provider bills; no prompt, no
//! completion, no retry, no redirect.

use std::collections::BTreeSet;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::gemini::GOOGLE_KEY;
use super::http::{Body, Client, Reply};
use super::secrets::Env;
use super::{ProviderKind, ProviderSpec, anthropic};

/// Of the whole request: who waits longer is not there.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a provider answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Ids of the models it lists; empty where it gives no list.
    Models(BTreeSet<String>),
    /// It refuses the key.
    Refused(u16),
    Status(u16),
    /// No answer, in words.
    Silent(String),
}

/// Where a kind lists its models, below its base; `None` for a kind that is no server.
fn path(kind: ProviderKind) -> Option<&'static str> {
    match kind {
        ProviderKind::OpenAi | ProviderKind::OpenAiResponses => Some("models"),
        ProviderKind::OpenAiCompatible | ProviderKind::Ollama => Some("models"),
        ProviderKind::Anthropic | ProviderKind::Gemini => Some("v1/models"),
        ProviderKind::Offline | ProviderKind::Scripted => None,
    }
}

/// The address that is asked; `None` for a kind that is no server.
pub fn address(spec: &ProviderSpec) -> Option<String> {
    let path = path(spec.kind)?;
    let base = spec.base_url.as_deref().or_else(|| spec.kind.default_base())?;
    Some(format!("{}/{path}", base.trim_end_matches('/')))
}

/// Asks for the list once, with the provider's key if it has one. Of a kind that is no server: silence.
pub async fn ask(spec: &ProviderSpec, env: &Env) -> Answer {
    match client(spec, env) {
        Ok(client) => match client.get().await {
            Ok(reply) => heard(reply),
            // Addresses stand in its words; the key does not.
            Err(trouble) => Answer::Silent(trouble.words),
        },
        Err(why) => Answer::Silent(why),
    }
}

fn client(spec: &ProviderSpec, env: &Env) -> Result<Client, String> {
    let base = spec.base_url.as_deref().or_else(|| spec.kind.default_base());
    let (Some(base), Some(path)) = (base, path(spec.kind)) else { return Err("it has no address".to_owned()) };
    let client = Client::new(base, path, TIMEOUT, 1)?;
    let Some(key) = spec.key.read(env)? else { return Ok(client) };
    match spec.kind {
        ProviderKind::Gemini => client.with_secret(GOOGLE_KEY, key.expose_secret()),
        ProviderKind::Anthropic => client.with_header("anthropic-version", anthropic::VERSION).with_bearer(&key),
        ProviderKind::OpenAi | ProviderKind::OpenAiResponses => client.with_bearer(&key),
        ProviderKind::OpenAiCompatible | ProviderKind::Ollama => client.with_bearer(&key),
        ProviderKind::Offline | ProviderKind::Scripted => Ok(client),
    }
}

fn heard(reply: Reply) -> Answer {
    match reply.status {
        401 | 403 => return Answer::Refused(reply.status),
        200..300 => {}
        status => return Answer::Status(status),
    }
    let list: serde_json::Value = match &reply.body {
        Body::Whole(bytes) => serde_json::from_slice(bytes).unwrap_or_default(),
        // A list too long to read is a list all the same.
        Body::TooLarge(..) => serde_json::Value::Null,
        Body::Cut(why) => return Answer::Silent(why.clone()),
    };
    // `data[].id`, or Gemini's `models[].name`, which begins with `models/`.
    let ids = list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
    let names = list["models"].as_array().into_iter().flatten().filter_map(|model| model["name"].as_str());
    let names = names.map(|name| name.trim_start_matches("models/"));
    Answer::Models(ids.chain(names).map(str::to_owned).collect())
}
