//! A person says yes in a browser: authorization code, PKCE, a listener on loopback. Invariant: a code is exchanged
//! only if it came with the state of this very question, from the authorization server that was asked.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::challenge::Challenge;
use super::client::Client;
use super::discover::{Found, Issuer};
use super::store::Login;
use super::token::Trouble;
use super::{Account, random, take};
use crate::adapters::tools::ansi;
use crate::core::crew::{Grant, OAuth};

/// How long a person has.
const PATIENCE: Duration = Duration::from_secs(600);
/// What a browser may take to send its request, and the most that is read of it.
const REQUEST_TIME: Duration = Duration::from_secs(5);
const REQUEST_MOST: usize = 16 << 10;
const PATH: &str = "/callback";
/// A scope that makes some servers give a token to renew by.
const OFFLINE: &str = "offline_access";

/// Told the address that a person opens.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// A renewal, as a form.
pub(super) fn refreshing(token: &SecretString, login: &Login) -> Vec<(&'static str, String)> {
    // For what it was given for: some servers refuse a list, though it be the same.
    vec![
        ("grant_type", "refresh_token".to_owned()),
        ("refresh_token", token.expose_secret().to_owned()),
        ("resource", login.resource.clone()),
    ]
}

/// Which scopes are asked for: the crew's, else the server's of this moment, else all that it `knows`; and `more`.
pub(super) fn scopes(
    oauth: &OAuth,
    challenge: Option<&Challenge>,
    knows: &[String],
    more: &[&[String]],
) -> Vec<String> {
    let said = challenge.map(|challenge| challenge.scopes.as_slice()).unwrap_or_default();
    let first = [oauth.scopes.as_slice(), said, knows].into_iter().find(|scopes| !scopes.is_empty());
    let mut all: Vec<String> = Vec::new();
    for scope in more.iter().copied().flatten().chain(first.unwrap_or_default()) {
        if !all.contains(scope) {
            all.push(scope.clone());
        }
    }
    all
}

impl Account {
    /// A new login, in place of whatever there was.
    pub(super) async fn login(&self, say: Say<'_>, pasted: impl Future<Output = String>) -> Result<(), String> {
        let mut known = self.known.lock().await;
        if self.oauth.grant == Grant::Client {
            let held = self.lock().await.map_err(|why| why.0)?;
            let before = self.read().ok().flatten();
            return self.fetch(&mut known, &held, before).await.map(drop).map_err(|why| why.0);
        }
        let found = self.find(&known).await?;
        let issuer = &found.issuer;
        if issuer.guessed && known.challenge.is_none() {
            return Err("it asks for no login, and says nowhere how one could log in".to_owned());
        }
        let name = &issuer.issuer;
        if !issuer.has_pkce() {
            return Err(format!("{name} does not know PKCE (S256), without which a code can be stolen"));
        }
        let endpoint = issuer.authorization_endpoint.as_ref();
        let endpoint = endpoint.ok_or_else(|| format!("{name} says nowhere that a person could log in"))?;
        let page = Url::parse(endpoint).map_err(|why| format!("{name}: `{endpoint}`: {why}"))?;
        self.wire().allowed(&page)?;
        let port = self.oauth.redirect_port.unwrap_or(0);
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.map_err(|why| format!("the loopback port {port} cannot be opened: {why}"))?;
        let port = listener.local_addr().map_err(|why| why.to_string())?.port();
        let redirect = format!("http://127.0.0.1:{port}{PATH}");
        let client = Client::of(&self.wire(), &self.oauth, &self.given, issuer, &redirect).await;
        let client = client.map_err(|why| match issuer.guessed {
            true => format!(
                "{why}; it describes no login: does it take a key? `headers = {{ Authorization = \"env:NAME\" }}`"
            ),
            false => why,
        })?;
        let mut login = self.begun(&found, &client);
        // One that cannot be read is replaced.
        let before = self.read().ok().flatten().filter(|before| before.issuer == *name);
        login.wanted = before.as_ref().map(|before| before.wanted.clone()).unwrap_or_default();
        login.scopes = self.wanted(&known.challenge, &found, before);
        let (state, verifier) = (random()?, random()?);
        let page = question(page, &login, &redirect, &state, &verifier);
        say(page.as_str());
        let answer = tokio::select! {
            answer = comes_back(&listener, &state) => answer,
            text = pasted => answer_in(text.trim(), &state).ok_or_else(|| {
                "this is not the address that the browser came to: it begins with http://127.0.0.1".to_owned()
            }),
            () = tokio::time::sleep(PATIENCE) => {
                Err(format!("nobody has logged in within {} minutes", PATIENCE.as_secs() / 60))
            }
        }?;
        let code = code(answer, issuer)?;
        let form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
            ("resource", login.resource.clone()),
        ];
        let tokens = self.ask(&login, form).await.map_err(Trouble::words)?;
        take(&mut login, tokens);
        let held = self.lock().await.map_err(|why| why.0)?;
        self.logins.write(&held, &login)?;
        self.logins.forget(&held, &self.server, self.url.as_str(), Some(&login))?;
        known.login = Some(login);
        Ok(())
    }

    /// The scopes of a new login: also those of the one before, where the server has asked for more since.
    fn wanted(&self, challenge: &Option<Challenge>, found: &Found, before: Option<Login>) -> Vec<String> {
        let before = before.filter(|login| !login.wanted.is_empty());
        let mut all = match &before {
            Some(before) => scopes(&self.oauth, challenge.as_ref(), &[], &[&before.scopes, &before.wanted]),
            None => scopes(&self.oauth, challenge.as_ref(), &found.scopes, &[]),
        };
        let knows = found.issuer.scopes_supported.iter().flatten().any(|scope| scope == OFFLINE);
        let ours = self.oauth.scopes.is_empty() && !all.is_empty() && !all.iter().any(|scope| scope == OFFLINE);
        if knows && ours {
            all.push(OFFLINE.to_owned());
        }
        all
    }
}

/// The address that a person opens.
fn question(mut page: Url, login: &Login, redirect: &str, state: &str, verifier: &str) -> Url {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let fields = [
        ("response_type", "code"),
        ("client_id", &login.client_id),
        ("redirect_uri", redirect),
        ("state", state),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("resource", &login.resource),
    ];
    page.query_pairs_mut().extend_pairs(fields);
    if !login.scopes.is_empty() {
        page.query_pairs_mut().append_pair("scope", &login.scopes.join(" "));
    }
    page
}

/// What a browser brought back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    code: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
}

/// The code, if it came from whom it should.
fn code(answer: Answer, issuer: &Issuer) -> Result<String, String> {
    let name = &issuer.issuer;
    // RFC 9207: compared as it is, before anything else that came with it counts.
    match answer.issuer {
        Some(from) if from != *name => {
            let from: String = ansi::plain(&from).chars().take(200).collect();
            return Err(format!("the answer came from {from}, and not from {name}; nothing was sent to either"));
        }
        None if issuer.authorization_response_iss_parameter_supported => {
            return Err(format!("the answer does not say that it came from {name}, which it should; it is not used"));
        }
        Some(_) | None => {}
    }
    if let Some(error) = answer.error {
        return Err(format!("{name} said no: {error}"));
    }
    answer.code.ok_or_else(|| format!("the answer of {name} holds no code"))
}

/// Serves the browser until it brings the answer to this question.
async fn comes_back(listener: &TcpListener, state: &str) -> Result<Answer, String> {
    let mut guests = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.map_err(|why| format!("nothing can come back: {why}"))?;
                let state = state.to_owned();
                // A browser opens connections that it does not use.
                guests.spawn(async move { tokio::time::timeout(REQUEST_TIME, serve(stream, &state)).await.ok().flatten() });
            }
            Some(served) = guests.join_next() => {
                if let Ok(Some(answer)) = served {
                    return Ok(answer);
                }
            }
        }
    }
}

/// One request, and the answer if it is the one.
async fn serve(mut stream: TcpStream, state: &str) -> Option<Answer> {
    let mut head = Vec::new();
    let mut part = [0; 2048];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < REQUEST_MOST {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => head.extend_from_slice(&part[..read]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let answer = answer_in(&format!("http://127.0.0.1{target}"), state);
    let (status, words) = match &answer {
        Some(_) => ("200 OK", "Bosun has your answer; the terminal says what came of it. This page can be closed."),
        None => ("404 Not Found", "Nothing is waiting for this."),
    };
    let page = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\
         \r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{words}",
        words.len()
    );
    // Whoever asked may be gone: the answer counts all the same.
    let _ = stream.write_all(page.as_bytes()).await;
    let _ = stream.shutdown().await;
    answer
}

/// The answer in an address, if it is to the question with this state.
fn answer_in(address: &str, state: &str) -> Option<Answer> {
    let url = Url::parse(address).ok().filter(|url| url.path() == PATH)?;
    let field = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    field("state").filter(|found| found == state)?;
    let error = field("error").map(|error| {
        let more = field("error_description").map(|more| format!(" ({more})")).unwrap_or_default();
        ansi::plain(&format!("{error}{more}")).chars().take(300).collect()
    });
    Some(Answer { code: field("code"), error, issuer: field("iss") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(says_so: bool) -> Issuer {
        let json = serde_json::json!({ "issuer": "https://a.example", "token_endpoint": "https://a.example/token",
            "authorization_response_iss_parameter_supported": says_so });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_answer_counts_with_its_state_alone() {
        let all = "http://127.0.0.1:9/callback?code=c&state=s&iss=https%3A%2F%2Fa.example";
        let answer = answer_in(all, "s").unwrap();
        assert_eq!(code(answer, &issuer(true)), Ok("c".to_owned()));
        for other in [
            "http://127.0.0.1/callback?code=c",
            "http://127.0.0.1/callback?code=c&state=t",
            "http://127.0.0.1/other?code=c&state=s",
            "c",
            "",
        ] {
            assert_eq!(answer_in(other, "s"), None, "{other}");
        }
    }

    #[test]
    fn an_answer_of_another_server_is_not_used() {
        let with = |issuer: Option<&str>, error: Option<&str>| Answer {
            code: Some("c".into()),
            error: error.map(Into::into),
            issuer: issuer.map(Into::into),
        };
        assert_eq!(code(with(None, None), &issuer(false)), Ok("c".to_owned()));
        for (from, says_so) in [(None, true), (Some("https://evil.example"), false), (Some("https://a.example/"), true)]
        {
            assert!(code(with(from, None), &issuer(says_so)).is_err(), "{from:?}");
        }
        let no = code(with(Some("https://a.example"), Some("access_denied")), &issuer(true)).unwrap_err();
        assert_eq!(no, "https://a.example said no: access_denied");
    }
}
