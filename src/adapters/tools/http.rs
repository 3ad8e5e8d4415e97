//! Tools of kind `http`: one request to a service that the crew's author names. Invariant: arguments fill
//! values and never structure (host, path segments, JSON); a secret stands in the request alone, and in
//! nothing that comes back.

mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::Value;

use super::ansi::plain;
use super::fetch::{readable, value};
use crate::adapters::models::secrets::redact;
use crate::adapters::web::{Ask, Got, Trouble, Web};
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::HttpCall;
use crate::ports::BoxFuture;
use crate::ports::tool::{Tool, ToolCall, ToolOutcome};
use request::Compiled;
pub use request::{Wrong, placeholders, problems};

/// Bytes of an answer that are read.
const MOST: usize = 4 << 20;
/// Characters of an error's body, or of an answer without the result, that are shown.
const WORDS: usize = 1000;
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A `[tools.N]` table of kind `http`.
#[derive(Clone, Debug)]
pub struct HttpSpec {
    pub spec: ToolSpec,
    pub call: HttpCall,
    /// Values of the variables it names, those that are set.
    pub keys: BTreeMap<String, SecretString>,
}

pub(super) struct Http {
    spec: ToolSpec,
    request: Compiled,
    keys: BTreeMap<String, SecretString>,
    web: Arc<Web>,
}

impl Http {
    pub(super) fn new(from: HttpSpec, web: Arc<Web>) -> Result<Http, String> {
        let HttpSpec { spec, call, keys } = from;
        let request = Compiled::new(&call, &spec.parameters).map_err(|wrong| {
            wrong.into_iter().map(|wrong| format!("`{}`: {}", wrong.key, wrong.message)).collect::<Vec<_>>().join("; ")
        })?;
        Ok(Http { spec, request, keys, web })
    }

    async fn run(&self, call: ToolCall) -> ToolOutcome {
        let mut ask = match self.ask(&call) {
            Ok(ask) => ask,
            Err(why) => return ToolOutcome::Error(why),
        };
        if self.spec.effect != Effect::Read {
            match HeaderValue::from_bytes(call.idempotency_key.as_bytes()) {
                Ok(key) => drop(ask.headers.insert(KEY, key)),
                Err(_) => return ToolOutcome::Error("the idempotency key is no header's value".to_owned()),
            }
        }
        match self.web.send(ask).await {
            Ok(got) => self.answered(got).await,
            Err(Trouble::Blocked(why) | Trouble::NotSent(why)) => ToolOutcome::Error(why),
            Err(Trouble::Lost(why)) => self.undecided(why),
        }
    }

    fn ask(&self, call: &ToolCall) -> Result<Ask<'_>, String> {
        let (url, body) = (self.request.url(&call.arguments, &self.keys)?, self.request.body(&call.arguments)?);
        Ok(Ask {
            method: self.request.method.clone(),
            url,
            headers: self.request.headers(&self.keys)?,
            body: body.map(String::into_bytes),
            listed: &self.request.listed,
            own: true,
            most: MOST,
            time: Duration::from_millis(self.spec.timeout_ms),
        })
    }

    async fn answered(&self, mut got: Got) -> ToolOutcome {
        // Before it is turned into something else, in which a value would read otherwise.
        got.body = self.hide_bytes(&got.body);
        let (status, cut, location) = (got.status, got.cut, got.location.clone());
        let empty = got.body.is_empty();
        match status {
            200..=299 if cut => ToolOutcome::Error(format!(
                "the answer has more than {MOST} bytes and was cut; ask for less{}",
                if self.spec.effect == Effect::Read { "" } else { "; what it was to do is done" }
            )),
            200..=299 if empty => ToolOutcome::Ok(format!("[HTTP {status}, without content]\n")),
            200..=299 => match &self.request.result {
                Some(pointer) => at(&got.body, pointer).map_or_else(ToolOutcome::Error, ToolOutcome::Ok),
                None => match readable(got).await {
                    Ok(text) => ToolOutcome::Ok(text),
                    Err(why) => ToolOutcome::Error(format!("the answer cannot be shown: {why}")),
                },
            },
            300..=399 => {
                let to = location.map(|to| format!(" to {to}")).unwrap_or_default();
                ToolOutcome::Error(format!("HTTP {status}: the service sends on{to}, which is not followed"))
            }
            _ => {
                let words = readable(got).await.unwrap_or_else(|why| why);
                let words =
                    format!("HTTP {status}: {}", self.hide(&words).trim().chars().take(WORDS).collect::<String>());
                if status >= 500 || status == 408 { self.undecided(words) } else { ToolOutcome::Error(words) }
            }
        }
    }

    /// It may have come as far as its effect.
    fn undecided(&self, why: String) -> ToolOutcome {
        match self.spec.effect {
            Effect::Once => ToolOutcome::Unknown(why),
            Effect::Read | Effect::Idempotent => ToolOutcome::Error(why),
        }
    }

    /// Keys are ASCII: each byte as a character of its own keeps the others as they are.
    fn hide_bytes(&self, body: &[u8]) -> Vec<u8> {
        let text: String = body.iter().copied().map(char::from).collect();
        self.hide(&text).chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
    }

    fn hide(&self, text: &str) -> String {
        redact(text, self.keys.values())
    }
}

/// What stands at `pointer` in a JSON answer.
fn at(body: &[u8], pointer: &str) -> Result<String, String> {
    let begin = || String::from_utf8_lossy(body).chars().take(WORDS).collect::<String>();
    let all: Value =
        serde_json::from_slice(body).map_err(|why| format!("the answer is no JSON ({why}); it begins: {}", begin()))?;
    let found = all.pointer(pointer);
    found.map(value).ok_or_else(|| format!("the answer has nothing at `{pointer}`; it begins: {}", begin()))
}

impl Tool for Http {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }
    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolOutcome> {
        Box::pin(async move {
            let clean = |text: String| plain(&self.hide(&text));
            match self.run(call).await {
                ToolOutcome::Ok(text) => ToolOutcome::Ok(clean(text)),
                ToolOutcome::Error(text) => ToolOutcome::Error(clean(text)),
                ToolOutcome::Unknown(text) => ToolOutcome::Unknown(clean(text)),
            }
        })
    }
}
