//! A server behind an address. Invariant: a header's value, and the token of a login, stand in the request at the socket
//! and in no text.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::child::Redact;
use super::oauth::{Account, Gate};
use super::{MESSAGE_MOST, Surroundings};
use crate::adapters::models::http::tls;
use crate::core::crew::OAuth;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at once: a turn's calls, and more.
const AT_ONCE: usize = 64;

pub(super) struct Address {
    url: String,
    headers: HashMap<HeaderName, HeaderValue>,
    account: Option<Arc<Account>>,
}

impl Address {
    pub(super) fn new(
        server: &str,
        url: &str,
        headers: &BTreeMap<String, String>,
        login: Option<&OAuth>,
        around: &Surroundings,
    ) -> Result<(Address, Redact), String> {
        let env = &around.env;
        let parsed = reqwest::Url::parse(url).map_err(|why| format!("`{url}` is no address: {why}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("`{url}` is neither http nor https"));
        }
        let mut all = HashMap::new();
        let mut secrets = Vec::new();
        for (name, variable) in headers {
            let value = env.get(variable).map(|value| value.trim()).filter(|value| !value.is_empty());
            let value =
                value.ok_or_else(|| format!("its header `{name}` needs the variable {variable}, which is not set"))?;
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header"))?;
            let bad = || format!("the variable {variable} holds characters that no header can carry");
            let mut sent = HeaderValue::from_str(value).map_err(|_| bad())?;
            sent.set_sensitive(true);
            all.insert(header, sent);
            // `Bearer abc`: what comes back may be the last word alone.
            secrets.extend(value.split_whitespace().map(str::to_owned).chain([value.to_owned()]));
        }
        secrets.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let redact = Redact::new(secrets);
        let (account, redact) = match (login, &around.logins) {
            (Some(oauth), Some(logins)) => {
                let account = Account::new(server, parsed, oauth, env, logins)?;
                (Some(Arc::new(account)), redact.and(logins.secrets()))
            }
            (Some(_), None) | (None, _) => (None, redact),
        };
        Ok((Address { url: url.to_owned(), headers: all, account }, redact))
    }

    /// The login there; `None`: headers say who asks.
    pub(super) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    pub(super) fn transport(&self) -> Result<StreamableHttpClientTransport<Gate>, String> {
        let tls = tls::config().map_err(|why| format!("TLS cannot be set up: {why}"))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // A redirect would carry the headers elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("bosun/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| format!("the HTTP client cannot be built: {why}"))?;
        let config = StreamableHttpClientTransportConfig::with_uri(self.url.clone())
            .custom_headers(self.headers.clone())
            .max_concurrent_requests(AT_ONCE)
            .max_sse_event_size(MESSAGE_MOST)
            // A call that a lost session may have served is not made again behind our back.
            .reinit_on_expired_session(false);
        let gate = Gate { http: client, account: self.account.clone() };
        Ok(StreamableHttpClientTransport::with_client(gate, config))
    }
}
