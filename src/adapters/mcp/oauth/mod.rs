//! Logins at servers behind an address: OAuth 2.1 as the protocol has it (2025-03-26 to 2026-07-28). Invariant: a
//! token is sent to the server that it was given for and to nobody else; of all processes one at a time renews it;
//! where a person is needed, the words say the command.
//!
//! The crate `rmcp` has a client of its own for this. It is not used: kept over a restart it asks for a token of
//! another resource than the server named, it loses the secret of a client that was registered, two processes with
//! one login each renew it, and its signed assertions need a second TLS library (aws-lc).

mod challenge;
mod client;
mod discover;
mod gate;
mod login;
mod standing;
mod store;
mod token;
mod wire;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use secrecy::SecretString;

use crate::adapters::clock::SystemClock;
use crate::adapters::models::secrets::Env;
use crate::core::crew::{Grant, OAuth};
use crate::ports::clock::Clock;
pub(super) use challenge::Challenge;
use client::{Client, Given};
use discover::Found;
pub(super) use gate::{Gate, shut};
pub use standing::{AtServer, Forgot, Standing};
pub use store::Logins;
use store::{Held, Login};
use token::{Desk, Tokens, Trouble};
use wire::Wire;

/// The command that a person is asked for, up to the server's name.
const COMMAND: &str = "bosun tools login ";

/// Scopes of a server that are remembered.
const SCOPES_MOST: usize = 64;

/// Do words of a failure ask a person to log in?
pub fn wants_login(words: &str) -> bool {
    words.contains(COMMAND)
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// 256 bits that nobody can guess, in letters that an address may hold.
fn random() -> Result<String, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|why| format!("this machine has no randomness: {why}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Why a request was not made, or not answered as it should: words for whoever reads the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shut(pub String);

impl std::fmt::Display for Shut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Shut {}

/// The login at one server, as all sessions of this process share it.
pub(super) struct Account {
    server: String,
    url: Url,
    oauth: OAuth,
    given: Given,
    logins: Logins,
    known: tokio::sync::Mutex<Known>,
}

#[derive(Default)]
struct Known {
    login: Option<Login>,
    /// What the server said last when it was asked without a token, or with one that it does not take.
    challenge: Option<Challenge>,
}

impl Account {
    /// Fails in words on a variable that is not set.
    pub fn new(server: &str, url: Url, oauth: &OAuth, env: &Env, logins: &Logins) -> Result<Account, String> {
        let value = |name: &Option<String>, what: &str| {
            let Some(name) = name else { return Ok(None) };
            let value = env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| format!("its {what} needs the variable {name}, which is not set"))?;
            logins.hide.learn_now(value);
            Ok::<_, String>(Some(SecretString::from(value)))
        };
        let secret = value(&oauth.client_secret, "client secret")?;
        let key = value(&oauth.private_key, "private key")?;
        let (server, oauth, logins) = (server.to_owned(), oauth.clone(), logins.clone());
        Ok(Account { server, url, oauth, given: Given { secret, key }, logins, known: Default::default() })
    }

    fn wire(&self) -> Wire {
        Wire { web: self.logins.web.clone(), server: self.url.clone(), net: self.oauth.net.clone() }
    }
    fn command(&self) -> String {
        format!("{COMMAND}{}", self.server)
    }
    fn shut(&self, why: &str) -> Shut {
        Shut(format!("the server {} {why}: {}", self.server, self.command()))
    }
    /// No person can help by logging in.
    fn stuck(&self, why: &str) -> Shut {
        Shut(format!("the server {}: {why}", self.server))
    }

    /// The login on disk, if it is the crew's.
    fn read(&self) -> Result<Option<Login>, Shut> {
        let found = self.logins.read(&self.server, self.url.as_str()).map_err(|why| self.stuck(&why))?;
        let ours = |login: &Login| self.oauth.client_id.as_ref().is_none_or(|id| *id == login.client_id);
        Ok(found.filter(ours))
    }
    async fn lock(&self) -> Result<Held, Shut> {
        self.logins.lock(&self.server, self.url.as_str()).await.map_err(|why| self.stuck(&why))
    }

    /// What a request is sent with; `None`: there is no login, and perhaps none is needed.
    pub async fn token(self: &Arc<Account>) -> Result<Option<SecretString>, Shut> {
        let good = |login: &Login| !login.refused && !login.is_due(now_ms());
        let mut known = self.known.lock().await;
        if !known.login.as_ref().is_some_and(good) {
            // A person may have logged in, another process renewed it.
            known.login = self.read()?;
        }
        match &known.login {
            None => Ok(None),
            Some(login) if good(login) => Ok(Some(login.access_token.clone())),
            Some(_) => {
                drop(known);
                let account = self.clone();
                let renewed = async move { account.renew(&mut *account.known.lock().await, None).await };
                self.apart(renewed).await.map(Some)
            }
        }
    }

    /// Does it to its end, also if the call that it is for is given up: tokens that were given and not kept are lost.
    async fn apart(
        &self,
        act: impl Future<Output = Result<SecretString, Shut>> + Send + 'static,
    ) -> Result<SecretString, Shut> {
        let done = tokio::spawn(act).await;
        done.unwrap_or_else(|why| Err(self.stuck(&format!("its login was not looked after: {why}"))))
    }

    /// After a 401 to a request with `sent`: the token to try next.
    pub async fn unknown(
        self: &Arc<Account>,
        sent: Option<SecretString>,
        challenge: Challenge,
    ) -> Result<SecretString, Shut> {
        let account = self.clone();
        self.apart(async move { account.after_unknown(sent.as_ref(), challenge).await }).await
    }

    /// After a 403: the token to try next.
    pub async fn short(
        self: &Arc<Account>,
        sent: Option<SecretString>,
        challenge: Challenge,
    ) -> Result<SecretString, Shut> {
        let account = self.clone();
        self.apart(async move { account.after_short(sent.as_ref(), challenge).await }).await
    }

    async fn after_unknown(&self, sent: Option<&SecretString>, challenge: Challenge) -> Result<SecretString, Shut> {
        let mut known = self.known.lock().await;
        known.challenge = Some(challenge);
        if let (Some(login), Some(sent)) = (&known.login, sent)
            && !login.is(sent)
            && !login.refused
        {
            // Another call has got it meanwhile.
            return Ok(login.access_token.clone());
        }
        match (self.oauth.grant, sent) {
            (Grant::Person, None) => Err(self.shut("wants a login")),
            (Grant::Person, Some(_)) | (Grant::Client, _) => self.renew(&mut known, sent).await,
        }
    }

    /// After a 401 to a token that was new.
    pub fn unwelcome(&self) -> Shut {
        match self.oauth.grant {
            Grant::Person => self.shut("does not take the token of its login"),
            Grant::Client => self.stuck("it does not take the token that its authorization server gave"),
        }
    }

    async fn after_short(&self, sent: Option<&SecretString>, challenge: Challenge) -> Result<SecretString, Shut> {
        let said = challenge.description.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
        let mut known = self.known.lock().await;
        let Some(sent) = sent else {
            known.challenge = Some(challenge);
            return Err(self.shut(&format!("refuses who is not logged in{said}")));
        };
        let held = self.lock().await?;
        let Some(mut login) = self.read()? else { return Err(self.shut("wants a login")) };
        if !login.is(sent) && !login.refused {
            // Meanwhile there is another one, which may be good for more.
            known.login = Some(login.clone());
            return Ok(login.access_token);
        }
        let lacks: Vec<String> = challenge.scopes.into_iter().filter(|scope| !login.scopes.contains(scope)).collect();
        if challenge.error.as_deref() != Some("insufficient_scope") || lacks.is_empty() {
            let has = login.scopes.join(" ");
            return Err(self.stuck(&format!("it refuses this{said}; its login has the scopes `{has}`, as it asked")));
        }
        let names = lacks.join(" ");
        login.wanted.extend(lacks);
        login.wanted.sort();
        login.wanted.dedup();
        login.wanted.truncate(SCOPES_MOST);
        match self.oauth.grant {
            Grant::Person => {
                self.keep(&held, &login);
                known.login = Some(login);
                Err(self.shut(&format!("wants more than its login allows, `{names}`{said}")))
            }
            Grant::Client => self.fetch(&mut known, &held, Some(login)).await,
        }
    }

    /// A new token, unless another process has got one since; `bad` is one that the server does not take.
    async fn renew(&self, known: &mut Known, bad: Option<&SecretString>) -> Result<SecretString, Shut> {
        let held = self.lock().await?;
        let login = self.read()?;
        let good = |login: &&Login| !login.refused && !login.is_due(now_ms()) && bad.is_none_or(|bad| !login.is(bad));
        if let Some(login) = login.as_ref().filter(good) {
            let token = login.access_token.clone();
            known.login = Some(login.clone());
            return Ok(token);
        }
        match (self.oauth.grant, login) {
            (Grant::Client, login) => self.fetch(known, &held, login).await,
            (Grant::Person, Some(login)) => self.refresh(known, &held, login, bad.is_some()).await,
            (Grant::Person, None) => Err(self.shut("wants a login")),
        }
    }

    /// The token of a person's login, anew.
    async fn refresh(&self, known: &mut Known, held: &Held, mut login: Login, bad: bool) -> Result<SecretString, Shut> {
        let last = (!bad && !login.refused && !login.has_ended(now_ms())).then(|| login.access_token.clone());
        let refresh = login.refresh_token.clone().filter(|_| !login.refused);
        let Some(refresh) = refresh else {
            known.login = Some(login.clone());
            let why = match (login.refused, bad) {
                (true, _) => "has had its login taken back",
                (false, true) => "does not take the token of its login any more, which cannot be renewed",
                (false, false) => "has a login that has ended and cannot be renewed",
            };
            return last.ok_or_else(|| self.shut(why));
        };
        let form = login::refreshing(&refresh, &login);
        match self.ask(&login, form).await {
            Ok(tokens) => {
                take(&mut login, tokens);
                self.keep(held, &login);
                let token = login.access_token.clone();
                known.login = Some(login);
                Ok(token)
            }
            Err(Trouble::No(why)) => {
                login.refused = true;
                self.keep(held, &login);
                known.login = Some(login);
                Err(self.shut(&format!("has had its login taken back ({why})")))
            }
            Err(Trouble::Lost(why)) => {
                tracing::warn!(server = self.server, why, "a login is not renewed");
                known.login = Some(login);
                last.ok_or_else(|| self.stuck(&format!("its login is not renewed: {why}")))
            }
        }
    }

    /// Writes it down, in place of every other one. Where that fails, this process goes on with what it has.
    fn keep(&self, held: &Held, login: &Login) {
        let written = self.logins.write(held, login);
        let alone = written.and_then(|()| self.logins.forget(held, &self.server, self.url.as_str(), Some(login)));
        if let Err(why) = alone {
            tracing::warn!(server = self.server, why, "a login is not kept for other processes");
        }
    }

    async fn ask(&self, login: &Login, form: Vec<(&str, String)>) -> Result<Tokens, Trouble> {
        let (wire, client, issuer, endpoint) = (self.wire(), self.client(login), &login.issuer, &login.token_endpoint);
        Desk { wire: &wire, issuer, endpoint, client: &client, hide: &self.logins.hide }.ask(form).await
    }

    /// Who the login was given to.
    fn client(&self, login: &Login) -> Client {
        let proof = match login.registered {
            true => login.client_secret.clone(),
            false => self.given.key.clone().or_else(|| self.given.secret.clone()),
        };
        Client { id: login.client_id.clone(), method: login.method, proof, registered: login.registered }
    }

    /// A token for the client itself: where it was got last, else where the server says.
    async fn fetch(&self, known: &mut Known, held: &Held, before: Option<Login>) -> Result<SecretString, Shut> {
        let failed = |why: String| self.stuck(&format!("no token for it: {why}"));
        let found = self.find(known).await.map_err(failed)?;
        let client = Client::stated(&self.oauth, &self.given, &found.issuer)
            .ok_or_else(|| failed("`auth` names no `client_id`".to_owned()))?;
        let mut login = self.begun(&found, &client);
        let before = before.filter(|before| before.issuer == login.issuer);
        let wanted = before.map(|before| before.wanted).unwrap_or_default();
        login.scopes = login::scopes(&self.oauth, known.challenge.as_ref(), &found.scopes, &[wanted.as_slice()]);
        login.wanted = wanted;
        let mut form = vec![("grant_type", "client_credentials".to_owned()), ("resource", login.resource.clone())];
        if !login.scopes.is_empty() {
            form.push(("scope", login.scopes.join(" ")));
        }
        let tokens = self.ask(&login, form).await.map_err(|trouble| failed(trouble.words()))?;
        take(&mut login, tokens);
        self.keep(held, &login);
        let token = login.access_token.clone();
        known.login = Some(login);
        Ok(token)
    }

    async fn find(&self, known: &Known) -> Result<Found, String> {
        let none = Challenge::default();
        discover::find(&self.wire(), known.challenge.as_ref().unwrap_or(&none)).await
    }
    fn begun(&self, found: &Found, client: &Client) -> Login {
        Login::new(&self.server, self.url.as_str(), &found.resource, &found.issuer, client)
    }
}

/// Puts new tokens into a login.
fn take(login: &mut Login, tokens: Tokens) {
    login.access_token = tokens.access;
    // A server that gives no other one leaves the old one as it is (RFC 6749 section 6).
    login.refresh_token = tokens.refresh.or(login.refresh_token.take());
    login.received_ms = now_ms();
    login.expires_ms = tokens.expires_in.map(|seconds| login.received_ms.saturating_add(seconds.saturating_mul(1000)));
    login.refused = false;
    if let Some(scopes) = tokens.scopes {
        login.scopes = scopes;
    }
}
