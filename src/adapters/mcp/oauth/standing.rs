//! What a command sees of the login at a server, and does with it. Invariant: no token is in it.

use std::sync::Arc;

use super::login::Say;
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

impl Account {
    /// Forgets every login at the server. Was there one?
    pub async fn forget(&self) -> Result<bool, Shut> {
        if self.logins.read(&self.server, self.url.as_str()).is_ok_and(|login| login.is_none()) {
            return Ok(false);
        }
        let held = self.lock().await?;
        let gone = self.logins.forget(&held, &self.server, self.url.as_str(), None);
        Ok(gone.map_err(|why| self.stuck(&why))? > 0)
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
    pub async fn forget(&self) -> Result<bool, String> {
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
