//! Is a provider there? Invariant: one `GET` of the list of models, which no provider bills; no prompt, no
//! completion, no retry, no redirect.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use rustls_platform_verifier::BuilderVerifierExt;
use secrecy::{ExposeSecret, SecretString};

use super::{ProviderKind, ProviderSpec};
use crate::adapters::models::secrets::Env;

/// Of the whole request: who waits longer is not there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a list of models.
const LIST_MAX: usize = 8 << 20;

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

/// The address that is asked; `None` for a kind that is no server.
pub fn address(spec: &ProviderSpec) -> Option<String> {
    match spec.kind {
        ProviderKind::OpenAi | ProviderKind::OpenAiCompatible | ProviderKind::Ollama => {
            let base = spec.base_url.as_deref().or_else(|| spec.kind.default_base())?;
            Some(format!("{}/models", base.trim_end_matches('/')))
        }
        ProviderKind::Offline | ProviderKind::Scripted => None,
    }
}

/// Asks `address` once, with the provider's key if it has one.
pub async fn ask(spec: &ProviderSpec, address: &str, env: &Env) -> Answer {
    let key = match spec.key.read(env) {
        Ok(key) => key,
        Err(why) => return Answer::Silent(why),
    };
    match get(address, key.as_ref()).await {
        Ok(answer) => answer,
        // Addresses stand in errors of the client; the key does not.
        Err(why) => Answer::Silent(why),
    }
}

async fn get(address: &str, key: Option<&SecretString>) -> Result<Answer, String> {
    let mut response = client()?.get(address);
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(|_| "the key holds characters that no header can carry".to_owned())?;
        value.set_sensitive(true);
        response = response.header(AUTHORIZATION, value);
    }
    let mut response = response.send().await.map_err(|error| words(&error))?;
    let status = response.status().as_u16();
    if matches!(status, 401 | 403) {
        return Ok(Answer::Refused(status));
    }
    if !response.status().is_success() {
        return Ok(Answer::Status(status));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| words(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > LIST_MAX {
            return Ok(Answer::Models(BTreeSet::new()));
        }
    }
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let ids = list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
    Ok(Answer::Models(ids.map(str::to_owned).collect()))
}

fn client() -> Result<reqwest::Client, String> {
    let tls = || {
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()
            .map(|builder| builder.with_no_client_auth())
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls().map_err(|why| format!("TLS cannot be set up: {why}"))?)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .timeout(TIMEOUT)
        .user_agent(concat!("bosun/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|why| words(&why))
}

/// The error and its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        out.push_str(&format!(": {error}"));
        cause = error.source();
    }
    out
}
