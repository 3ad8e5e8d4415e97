//! The token endpoint (RFC 6749 section 5). Invariant: what it answers is tokens, a refusal in its words, or nothing
//! that can be relied on; a token stands in none of the words.

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::client::Client;
use super::wire::{Reply, Wire};
use crate::adapters::redaction::Redactor;
use crate::adapters::tools::ansi;

/// Characters of a refusal that are shown.
const SHOWN: usize = 300;

/// Where tokens are asked for.
pub(super) struct Desk<'a> {
    pub wire: &'a Wire,
    pub issuer: &'a str,
    pub endpoint: &'a str,
    pub client: &'a Client,
    pub hide: &'a Redactor,
}

pub(super) struct Tokens {
    pub access: SecretString,
    pub refresh: Option<SecretString>,
    /// Seconds.
    pub expires_in: Option<u64>,
    /// None: as asked.
    pub scopes: Option<Vec<String>>,
}

/// Why there are none.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server said no: it will again.
    No(String),
    /// It may do better later.
    Lost(String),
}

impl Trouble {
    pub fn words(self) -> String {
        match self {
            Trouble::No(words) | Trouble::Lost(words) => words,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<serde_json::Value>,
    scope: Option<String>,
}

impl Desk<'_> {
    /// Takes a token back (RFC 7009), at `endpoint`.
    pub async fn give_back(&self, token: &SecretString) -> Result<(), String> {
        let url = Url::parse(self.endpoint).map_err(|why| why.to_string())?;
        let mut form = vec![("token", token.expose_secret().to_owned())];
        let authorization = self.client.prove(self.issuer, &mut form)?;
        let reply = self.wire.form(&url, &form, authorization).await?;
        if reply.status == 200 { Ok(()) } else { Err(refusal(&reply)) }
    }

    pub async fn ask(&self, mut form: Vec<(&str, String)>) -> Result<Tokens, Trouble> {
        let name = self.issuer;
        let no = |why: String| Trouble::No(format!("{name}: {why}"));
        let url = Url::parse(self.endpoint).map_err(|why| no(format!("`{}`: {why}", self.endpoint)))?;
        let authorization = self.client.prove(self.issuer, &mut form).map_err(no)?;
        // Whoever repeats a request must not repeat it into a log.
        let secret = ["code", "code_verifier", "refresh_token", "client_secret", "client_assertion"];
        form.iter().filter(|(key, _)| secret.contains(key)).for_each(|(_, value)| self.hide.learn_now(value));
        let reply = self.wire.form(&url, &form, authorization).await;
        let reply = reply.map_err(|why| Trouble::Lost(format!("{name} cannot be asked for a token: {why}")))?;
        if reply.status != 200 {
            let words = format!("{name}: {}", self.hide.hide(&refusal(&reply)));
            let definite = matches!(reply.status, 400 | 401 | 403) && error(&reply).is_some_and(is_definite);
            return Err(if definite { Trouble::No(words) } else { Trouble::Lost(words) });
        }
        let answer = reply.json.and_then(|json| serde_json::from_value::<Answer>(json).ok());
        let Some(answer) = answer else { return Err(Trouble::Lost(format!("{name}: its answer holds no token"))) };
        for token in [Some(&answer.access_token), answer.refresh_token.as_ref()].into_iter().flatten() {
            self.hide.learn_now(token);
        }
        if let Some(kind) = answer.token_type.filter(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            let kind: String = ansi::plain(&kind).chars().take(20).collect();
            return Err(no(format!("its tokens are of the type `{kind}`; Bosun knows `Bearer`")));
        }
        if !answer.access_token.bytes().all(|byte| byte.is_ascii_graphic()) || answer.access_token.is_empty() {
            return Err(Trouble::Lost(format!("{name}: its token is one that no header can carry")));
        }
        let seconds = |value: serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        Ok(Tokens {
            access: answer.access_token.into(),
            refresh: answer.refresh_token.filter(|token| !token.is_empty()).map(SecretString::from),
            expires_in: answer.expires_in.and_then(seconds),
            scopes: answer.scope.map(|text| text.split_whitespace().map(str::to_owned).collect()),
        })
    }
}

fn error(reply: &Reply) -> Option<&str> {
    reply.json.as_ref()?.get("error")?.as_str()
}

fn is_definite(error: &str) -> bool {
    !matches!(error, "server_error" | "temporarily_unavailable" | "slow_down")
}

/// A refusal, in the server's words.
pub(super) fn refusal(reply: &Reply) -> String {
    let text = |key: &str| reply.json.as_ref().and_then(|json| json.get(key)?.as_str()).map(ansi::plain);
    let words = match (text("error"), text("error_description")) {
        (Some(error), Some(more)) => format!("{error} ({more})"),
        (Some(error), None) => error,
        (None, _) => String::new(),
    };
    let words: String = words.chars().take(SHOWN).collect();
    format!("HTTP {} {words}", reply.status).trim_end().to_owned()
}
