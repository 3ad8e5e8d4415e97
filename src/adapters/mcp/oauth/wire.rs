//! Requests to authorization servers. Invariant: over https, or to this machine where the server itself is on it; to
//! an address that is public or that the crew's author named; what comes from another origin than was asked counts
//! for nothing.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;

use crate::adapters::web::{Ask, Listed, Web};

/// Bytes of an answer.
const MOST: usize = 256 << 10;
const TIME: Duration = Duration::from_secs(20);

pub(super) struct Wire {
    pub web: Arc<Web>,
    /// The server whose login it is about.
    pub server: Url,
    /// `host:port` that may be reached although they are not public.
    pub net: Vec<String>,
}

pub(super) struct Reply {
    pub status: u16,
    /// What it said, if that was JSON.
    pub json: Option<Value>,
}

impl Wire {
    /// Is it an address that a login may go through? What may be reached for it although it is not public.
    pub fn allowed(&self, url: &Url) -> Result<Listed, String> {
        let here = is_loopback(url) && is_loopback(&self.server);
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            return Err(format!("{} is refused: a login goes over https only", shown(url)));
        }
        let mut listed = self.net.clone();
        for known in [Some(&self.server), Some(url).filter(|_| here)].into_iter().flatten() {
            if let (Some(host), Some(port)) = (known.host_str(), known.port_or_known_default()) {
                listed.push(format!("{host}:{port}"));
            }
        }
        Listed::parse(&listed)
    }

    /// A JSON document, or `None` where there is none.
    pub async fn document(&self, url: &Url) -> Result<Option<Value>, String> {
        let reply = self.send(Method::GET, url, HeaderMap::new(), None).await?;
        Ok(reply.json.filter(|_| reply.status == 200))
    }

    pub async fn json(&self, url: &Url, body: &Value) -> Result<Reply, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.send(Method::POST, url, headers, Some(body.to_string().into_bytes())).await
    }

    pub async fn form(
        &self,
        url: &Url,
        fields: &[(&str, String)],
        authorization: Option<String>,
    ) -> Result<Reply, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(text) = authorization {
            let mut value = HeaderValue::from_str(&text).map_err(|_| "a client secret that no header can carry")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        self.send(Method::POST, url, headers, Some(encoded(fields).into_bytes())).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Reply, String> {
        let listed = self.allowed(url)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let ask = Ask { method, url: url.clone(), headers, body, listed: &listed, own: true, most: MOST, time: TIME };
        let got = self.web.send(ask).await.map_err(|trouble| {
            // The client speaks of the tools that it was made for.
            trouble.words().replace("the tool's `net`", "`auth.net`")
        })?;
        if got.url.origin() != url.origin() {
            return Err(format!("{} sends on to another host, {}", shown(url), shown(&got.url)));
        }
        if got.cut {
            return Err(format!("the answer of {} is larger than {MOST} bytes", shown(url)));
        }
        Ok(Reply { status: got.status, json: serde_json::from_slice(&got.body).ok() })
    }
}

/// `a=b&c=d`, as a form is sent.
pub(super) fn encoded(fields: &[(&str, String)]) -> String {
    let url = Url::parse_with_params("http://form/", fields);
    url.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

/// Is it this machine, by its name alone?
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    literal.map_or_else(|_| host == "localhost" || host.ends_with(".localhost"), |address| address.is_loopback())
}

/// An address as messages name it, without its query.
pub(super) fn shown(url: &Url) -> String {
    let path: String = url.path().chars().take(80).collect();
    format!("{}{path}", url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_goes_over_https_or_stays_on_this_machine() {
        let wire = |server: &str| Wire {
            web: Arc::default(),
            server: Url::parse(server).unwrap(),
            net: vec!["sso.corp:8443".to_owned()],
        };
        let allowed = |server: &str, url: &str| wire(server).allowed(&Url::parse(url).unwrap());
        for url in ["http://localhost:9/", "http://127.0.0.1/", "http://[::1]:9/", "https://a.example"] {
            let found = allowed("http://127.0.0.1:1/mcp", url).unwrap();
            // What is reached although it is not public.
            assert_eq!(found.has(&Url::parse(url).unwrap()), !url.starts_with("https"), "{url}");
        }
        for url in ["http://127.0.0.1/", "http://localhost/", "http://a.example", "ftp://a.example", "javascript:x"] {
            assert!(allowed("https://mcp.example", url).is_err(), "{url}");
        }
        for url in ["https://127.0.0.1/", "https://10.0.0.1/", "https://sso.corp/"] {
            assert!(!allowed("https://mcp.example", url).unwrap().has(&Url::parse(url).unwrap()), "{url}");
        }
        // What the crew's author wrote: the server itself, and `net`.
        assert!(
            allowed("https://10.0.0.7/mcp", "https://10.0.0.7/token")
                .unwrap()
                .has(&Url::parse("https://10.0.0.7").unwrap())
        );
        let sso = "https://sso.corp:8443/token";
        assert!(allowed("https://mcp.example", sso).unwrap().has(&Url::parse(sso).unwrap()));
    }
}
