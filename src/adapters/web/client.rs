//! The one client for addresses that a model or a page may have chosen. Invariant: `resolve once, look at
//! every address, connect to one of those`: there is no other resolver behind it, no proxy, no cookie and
//! no redirect that it does not look at again.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    TRANSFER_ENCODING,
};
use reqwest::{Method, Request, Response, Url};
use tokio::time::Instant;

use super::{Listed, inside};
use crate::adapters::models::http::tls;
use crate::ports::BoxFuture;

/// To an address that does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Redirects of one request.
const REDIRECTS: usize = 3;
/// Ports that need not be listed.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// Addresses of a name, asked once per request.
pub trait Resolve: Send + Sync {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, std::io::Result<Vec<IpAddr>>>;
}

/// As the system resolves.
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()) })
    }
}

/// What of an address keeps it from being reached ([`inside`]).
pub type Filter = fn(IpAddr) -> Option<&'static str>;

pub struct Web {
    resolver: Arc<dyn Resolve>,
    filter: Filter,
    tls: OnceLock<Result<rustls::ClientConfig, rustls::Error>>,
}

/// One request.
pub struct Ask<'a> {
    pub method: Method,
    pub url: Url,
    /// Sent to this address's origin only; a redirect to another one goes without them.
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
    pub listed: &'a Listed,
    /// The author of the crew chose this host and port, so that any port will do.
    pub own: bool,
    /// Bytes of the answer that are read.
    pub most: usize,
    /// Until the last byte.
    pub time: Duration,
}

/// What came back.
#[derive(Debug)]
pub struct Got {
    /// After redirects.
    pub url: Url,
    pub status: u16,
    /// `Content-Type`.
    pub kind: Option<String>,
    pub location: Option<String>,
    pub body: Vec<u8>,
    /// There was more, and the connection was cut.
    pub cut: bool,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The address is not one that may be reached; nothing was sent to it.
    Blocked(String),
    /// Provably nothing was sent.
    NotSent(String),
    /// It may have arrived.
    Lost(String),
}

impl Trouble {
    pub fn words(&self) -> &str {
        match self {
            Trouble::Blocked(words) | Trouble::NotSent(words) | Trouble::Lost(words) => words,
        }
    }
}

impl Default for Web {
    fn default() -> Web {
        Web::new(Arc::new(System), inside)
    }
}

impl Web {
    pub fn new(resolver: Arc<dyn Resolve>, filter: Filter) -> Web {
        Web { resolver, filter, tls: OnceLock::new() }
    }

    /// Sends it, follows at most three redirects of a GET, and reads the answer.
    pub async fn send(&self, mut ask: Ask<'_>) -> Result<Got, Trouble> {
        let end = Instant::now() + ask.time;
        let first = ask.url.clone();
        for hop in 0.. {
            let own = ask.own && same_origin(&ask.url, &first);
            let pinned = self.look(&ask.url, ask.listed, own, end).await?;
            let response = self.one(&ask, &pinned, end).await?;
            let Some(next) = redirect(&response, &ask.method)? else {
                return read(response, ask.most, end).await;
            };
            if hop == REDIRECTS {
                return Err(Trouble::Blocked(format!("{} redirects again, after {REDIRECTS}", shown(&ask.url))));
            }
            if !same_origin(&next, &first) {
                ask.headers.retain_public();
            }
            ask.url = next;
        }
        Err(Trouble::NotSent("no request was made".to_owned()))
    }

    /// The addresses that a request to `url` may go to.
    async fn look(&self, url: &Url, listed: &Listed, own: bool, end: Instant) -> Result<Vec<SocketAddr>, Trouble> {
        let blocked = |why: String| Err(Trouble::Blocked(format!("{} is refused: {why}", shown(url))));
        if !matches!(url.scheme(), "http" | "https") {
            return blocked(format!("its scheme is `{}`, and only http and https are fetched", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return blocked("it carries a user name or a password; leave them out".to_owned());
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return blocked("it names no host".to_owned());
        };
        let free = listed.has(url);
        if !free && !own && !USUAL_PORTS.contains(&port) {
            return blocked(format!("port {port} is neither 80 nor 443; the tool's `net` can list `{host}:{port}`"));
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let found = match literal {
            Ok(address) => vec![address],
            Err(_) => self.resolve(host, end).await?,
        };
        for address in found.iter().filter(|_| !free) {
            if let Some(what) = (self.filter)(*address) {
                let place =
                    if literal.is_ok() { String::new() } else { format!("{host} leads to {address}, which is ") };
                let say = format!("{place}{what}, and only public addresses are reached");
                return blocked(format!("{say}; the tool's `net` can list `{host}:{port}`"));
            }
        }
        Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    async fn resolve(&self, host: &str, end: Instant) -> Result<Vec<IpAddr>, Trouble> {
        let trouble = |why: &str| Trouble::NotSent(format!("the host {host} is not found: {why}; check its name"));
        match tokio::time::timeout_at(end, self.resolver.resolve(host)).await {
            Ok(Ok(found)) if found.is_empty() => Err(trouble("it has no address")),
            Ok(Ok(found)) => Ok(found),
            Ok(Err(why)) => Err(trouble(&why.to_string())),
            Err(_) => Err(trouble("no answer in time")),
        }
    }

    /// One request to one of `pinned`, and nowhere else.
    async fn one(&self, ask: &Ask<'_>, pinned: &[SocketAddr], end: Instant) -> Result<Response, Trouble> {
        let setup = |why: String| Trouble::NotSent(format!("the HTTP client cannot be built: {why}"));
        let tls = self.tls.get_or_init(tls::config).as_ref().map_err(|why| setup(why.to_string()))?;
        let host = ask.url.host_str().unwrap_or_default();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .dns_resolver(Nobody)
            .resolve_to_addrs(host, pinned)
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("bosun/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| setup(chain(&why)))?;
        let mut request = Request::new(ask.method.clone(), ask.url.clone());
        *request.headers_mut() = ask.headers.clone();
        *request.body_mut() = ask.body.clone().map(Into::into);
        let answer = tokio::time::timeout_at(end, client.execute(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(why)) => return Err(trouble(&ask.url, why)),
            Err(_) => return Err(late(&ask.url)),
        };
        match response.remote_addr() {
            Some(peer) if !pinned.contains(&peer) => {
                Err(Trouble::Lost(format!("{} was answered by {peer}, which was not looked at", shown(&ask.url))))
            }
            Some(_) | None => Ok(response),
        }
    }
}

/// Headers that say what is wanted, and nothing about who asks.
trait RetainPublic {
    fn retain_public(&mut self);
}

impl RetainPublic for HeaderMap {
    fn retain_public(&mut self) {
        let kept = [ACCEPT, ACCEPT_LANGUAGE].map(|name| (self.get(&name).cloned(), name));
        self.clear();
        for (value, name) in kept {
            value.map(|value| self.insert(name, value));
        }
    }
}

/// Behind the pinned names there is no other.
struct Nobody;

impl reqwest::dns::Resolve for Nobody {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let why = format!("{} was not looked at", name.as_str());
        Box::pin(std::future::ready(Err(why.into())))
    }
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Where a GET is sent on to. Other methods are not: their answer is what it is.
fn redirect(response: &Response, method: &Method) -> Result<Option<Url>, Trouble> {
    let on = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    if !on || !matches!(*method, Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let Some(to) = response.headers().get(LOCATION) else { return Ok(None) };
    let from = response.url();
    let next = to.to_str().ok().and_then(|to| from.join(to).ok());
    next.map(Some).ok_or_else(|| Trouble::Blocked(format!("{} redirects to something that is no address", shown(from))))
}

async fn read(mut response: Response, most: usize, end: Instant) -> Result<Got, Trouble> {
    let url = response.url().clone();
    let text = |name: &HeaderName| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    for name in [CONTENT_ENCODING, TRANSFER_ENCODING] {
        let how: String = text(&name).unwrap_or_default().to_ascii_lowercase().chars().take(40).collect();
        if !matches!(how.as_str(), "identity" | "chunked" | "") {
            return Err(Trouble::Lost(format!("{} came packed as `{how}`, which was not asked for", shown(&url))));
        }
    }
    let (kind, location) = (text(&CONTENT_TYPE).map(str::to_owned), text(&LOCATION).map(str::to_owned));
    let status = response.status().as_u16();
    let (mut body, mut cut) = (Vec::new(), false);
    while !cut {
        let chunk = tokio::time::timeout_at(end, response.chunk()).await.map_err(|_| late(&url))?;
        let Some(chunk) = chunk.map_err(|why| broke_off(&url, &why))? else { break };
        let room = most - body.len();
        cut = chunk.len() > room;
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(Got { url, status, kind, location, body, cut })
}

/// An address as messages name it: without its query, which may be long or private.
pub(super) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path: String = url.path().chars().take(80).collect();
    format!("{}://{}{port}{path}", url.scheme(), url.host_str().unwrap_or_default())
}

fn trouble(url: &Url, error: reqwest::Error) -> Trouble {
    let not_sent = error.is_connect() || error.is_builder();
    let words = format!("{}: {}", shown(url), chain(&error.without_url()));
    if not_sent { Trouble::NotSent(words) } else { Trouble::Lost(words) }
}

fn broke_off(url: &Url, error: &dyn Error) -> Trouble {
    Trouble::Lost(format!("the answer of {} broke off: {}", shown(url), chain(error)))
}

fn late(url: &Url) -> Trouble {
    Trouble::Lost(format!("no complete answer from {} in time", shown(url)))
}

/// Errors of HTTP crates say what happened only in their sources.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}
