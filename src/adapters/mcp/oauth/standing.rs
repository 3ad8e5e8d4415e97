//! What a command sees of the login at a server, and does with it. Invariant: no token is in it.

use std::sync::Arc;

use super::login::Say;
use super::token::Desk;
use super::{Account, Shut, now_ms};
use crate::core::crew::Grant;

/// What there is of a login, for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    None,
    /// `renews`: without a person. `expires_ms`: of the present token.
    Here {
        issuer: String,
        expires_ms: Option<u64>,
        renews: bool,
    },
    /// A person must log in again.
    Over(String),
}

/// What became of a login that is not wanted any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forgot {
    /// There was none.
    Nothing,
    /// On this machine; why it was not given back.
    Here(String),
    /// Also at its authorization server.
    Everywhere(String),
}

impl Account {
    /// Forgets every login at the server, and gives the present one back where that can be done.
    pub async fn forget(&self) -> Result<Forgot, Shut> {
        if self.logins.read(&self.server, self.url.as_str()).is_ok_and(|login| login.is_none()) {
            return Ok(Forgot::Nothing);
        }
        let held = self.lock().await?;
        // One that cannot be read can be forgotten all the same.
        let login = self.read().ok().flatten();
        let gone = self.logins.forget(&held, &self.server, self.url.as_str(), None);
        gone.map_err(|why| self.stuck(&why))?;
        let Some(login) = login else { return Ok(Forgot::Here("it could not be read".to_owned())) };
        let Some(endpoint) = &login.revocation_endpoint else {
            return Ok(Forgot::Here(format!("{} takes none back", login.issuer)));
        };
        let (wire, client, issuer) = (self.wire(), self.client(&login), &login.issuer);
        let desk = Desk { wire: &wire, issuer, endpoint, client: &client, hide: &self.logins.hide };
        // With it goes what was got by it.
        match desk.give_back(login.refresh_token.as_ref().unwrap_or(&login.access_token)).await {
            Ok(()) => Ok(Forgot::Everywhere(login.issuer)),
            Err(why) => Ok(Forgot::Here(format!("{issuer}: {why}"))),
        }
    }

    pub fn standing(&self) -> Result<Standing, Shut> {
        let Some(login) = self.read()? else { return Ok(Standing::None) };
        let renews = login.refresh_token.is_some() || self.oauth.grant == Grant::Client;
        if login.refused {
            return Ok(Standing::Over("has been taken back".to_owned()));
        }
        if !login.wanted.is_empty() && login.wanted.iter().any(|scope| !login.scopes.contains(scope)) {
            return Ok(Standing::Over(format!("lacks what the server has asked for, `{}`", login.wanted.join(" "))));
        }
        if login.has_ended(now_ms()) && !renews {
            return Ok(Standing::Over("has ended and cannot be renewed".to_owned()));
        }
        Ok(Standing::Here { issuer: login.issuer, expires_ms: login.expires_ms, renews })
    }
}

/// What a command knows of the logins at a server.
pub struct AtServer(Arc<Account>);

impl AtServer {
    pub(in crate::adapters::mcp) fn new(account: Arc<Account>) -> AtServer {
        AtServer(account)
    }
    pub fn standing(&self) -> Result<Standing, String> {
        self.0.standing().map_err(|why| why.0)
    }
    pub async fn forget(&self) -> Result<Forgot, String> {
        self.0.forget().await.map_err(|why| why.0)
    }
    /// Asks a person to say yes in a browser. `say` is told the address; whoever has no browser on this machine puts
    /// what it came to into `pasted`.
    pub async fn login(&self, say: Say<'_>, pasted: impl Future<Output = String>) -> Result<Standing, String> {
        self.0.login(say, pasted).await?;
        self.standing()
    }
    pub fn asks_a_person(&self) -> bool {
        self.0.oauth.grant == Grant::Person
    }
}
