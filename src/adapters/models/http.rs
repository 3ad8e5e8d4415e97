//! One HTTP request. Invariant: exactly one request leaves per call, to the host that was
//! configured; nothing is retried and no redirect is followed.

pub(crate) mod tls;

use std::error::Error;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Response, Url};
use secrecy::{ExposeSecret, SecretString};

use crate::adapters::models::failure;
use crate::adapters::models::sse::{EVENT_MAX, Event, Parser};

/// To an address that does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a kept connection: servers close theirs sooner or later, and a request that meets the closing
/// one may be ambiguous.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer, beyond which it is not read on.
pub const ANSWER_MAX: usize = 8 << 20;
/// Bytes of a stream, likewise: each token comes in some 300 bytes of its own.
pub const STREAM_MAX: usize = 64 << 20;
/// How long a stream that has said its last word may take to end: then its connection can be used again.
const LINGER: Duration = Duration::from_millis(100);
/// Bytes of an error's body that are read.
const ERROR_MAX: usize = 64 << 10;

pub struct Client {
    http: reqwest::Client,
    base: String,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
}

/// What came back.
pub struct Reply {
    pub status: u16,
    pub request_id: Option<String>,
    pub retry_after_ms: Option<u64>,
    pub headers: HeaderMap,
    pub body: Body,
}

/// What came back to a request that asked for a stream.
pub enum Streamed {
    /// An error, or a server that answers whole although it was asked to stream.
    Whole(Reply),
    Events(Box<Events>),
}

/// A stream of events under way.
pub struct Events {
    pub status: u16,
    pub request_id: Option<String>,
    pub headers: HeaderMap,
    response: Response,
    parser: Parser,
    read: usize,
    ended: bool,
    timeout: Duration,
}

/// What a stream gives next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Event(Event),
    /// The body ended as a body ends. Whether the answer did, its events say.
    End,
    /// The connection ended or time ran out first; why.
    Cut(String),
    /// More than [`STREAM_MAX`], or one event of more than [`EVENT_MAX`]: which, in words.
    TooLarge(String),
}

pub enum Body {
    Whole(Bytes),
    /// More than the limit; the first part, and how much it is in words.
    TooLarge(Bytes, String),
    /// The connection ended or time ran out first; why.
    Cut(String),
}

/// Why nothing came back.
pub struct Trouble {
    /// Provably nothing of the request was written.
    pub not_sent: bool,
    pub words: String,
}

impl Client {
    /// `path` is appended to `base`. Fails in words on an address that cannot be used.
    pub fn new(base: &str, path: &str, timeout: Duration, connections: usize) -> Result<Client, String> {
        let url = endpoint(base, path)?;
        let tls = tls::config().map_err(|why| format!("TLS cannot be set up: {why}"))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(connections.max(1))
            .user_agent(concat!("bosun/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| format!("the HTTP client cannot be built: {}", chain(&why)))?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Ok(Client { http, base: base.to_owned(), url, headers, timeout })
    }

    /// `Authorization: Bearer KEY`.
    pub fn with_bearer(self, key: &SecretString) -> Result<Client, String> {
        self.with_secret(AUTHORIZATION, &format!("Bearer {}", key.expose_secret()))
    }

    /// A header whose value is never printed.
    pub fn with_secret(mut self, name: HeaderName, value: &str) -> Result<Client, String> {
        let value = HeaderValue::from_str(value);
        let mut value = value.map_err(|_| "the key holds characters that no header can carry".to_owned())?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    pub fn with_header(mut self, name: &'static str, value: &'static str) -> Client {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Where it sends to, without the query.
    pub fn place(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }

    /// The same client for another path and query (`alt=sse`) of the same base.
    pub fn at(&self, path: &str, query: Option<&str>) -> Result<Client, String> {
        let mut url = endpoint(&self.base, path)?;
        if query.is_some() {
            url.set_query(query);
        }
        let (http, base, headers) = (self.http.clone(), self.base.clone(), self.headers.clone());
        Ok(Client { http, base, url, headers, timeout: self.timeout })
    }

    pub async fn send(&self, body: Vec<u8>) -> Result<Reply, Trouble> {
        let response = self.execute(Method::POST, body).await?;
        Ok(self.whole(response).await)
    }

    /// Asks what stands at this address: never a call of a model, and never billed.
    pub async fn get(&self) -> Result<Reply, Trouble> {
        let response = self.execute(Method::GET, Vec::new()).await?;
        Ok(self.whole(response).await)
    }

    /// Sends a request that asks for a stream. Whatever comes back that is no stream is read whole.
    pub async fn stream(&self, body: Vec<u8>) -> Result<Streamed, Trouble> {
        let mut response = self.execute(Method::POST, body).await?;
        let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let events = kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
        if !events || !response.status().is_success() {
            return Ok(Streamed::Whole(self.whole(response).await));
        }
        let headers = std::mem::take(response.headers_mut());
        Ok(Streamed::Events(Box::new(Events {
            status: response.status().as_u16(),
            request_id: request_id(&headers),
            headers,
            response,
            parser: Parser::default(),
            read: 0,
            ended: false,
            timeout: self.timeout,
        })))
    }

    async fn execute(&self, method: Method, body: Vec<u8>) -> Result<Response, Trouble> {
        let mut request = Request::new(method, self.url.clone());
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = Some(body.into());
        self.http.execute(request).await.map_err(|error| trouble(error, &self.url, self.timeout))
    }

    async fn whole(&self, mut response: Response) -> Reply {
        let headers = std::mem::take(response.headers_mut());
        let status = response.status().as_u16();
        let good = response.status().is_success();
        let retry_after_ms = match good {
            true => None,
            false => {
                let (ms, wait) = (text(&headers, "retry-after-ms"), text(&headers, RETRY_AFTER.as_str()));
                failure::retry_after(ms, wait, SystemTime::now())
            }
        };
        let body = self.read(&mut response, if good { ANSWER_MAX } else { ERROR_MAX }).await;
        Reply { status, request_id: request_id(&headers), retry_after_ms, headers, body }
    }

    async fn read(&self, response: &mut Response, limit: usize) -> Body {
        // The common answer is one chunk, which is not copied.
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        let announced = response.content_length();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if first.is_empty() => first = chunk,
                Ok(Some(chunk)) => {
                    if all.is_empty() {
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(&chunk);
                }
                Ok(None) if all.is_empty() => return Body::Whole(first),
                Ok(None) => return Body::Whole(all.freeze()),
                Err(error) => return Body::Cut(trouble(error, &self.url, self.timeout).words),
            }
            if all.len().max(first.len()) > limit {
                let announced = announced.map(|bytes| format!(" ({bytes} bytes were announced)"));
                let words = format!("the answer is larger than {}{}", mib(limit), announced.unwrap_or_default());
                return Body::TooLarge(if all.is_empty() { first } else { all.freeze() }, words);
            }
        }
    }
}

impl Events {
    /// Dropped between two pieces it loses nothing, but the connection.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(event) = self.parser.take() {
                return Next::Event(event);
            }
            if self.ended {
                return Next::End;
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => {
                    self.read = self.read.saturating_add(chunk.len());
                    if self.parser.feed(&chunk).is_err() {
                        return Next::TooLarge(format!("one event of the answer is larger than {}", mib(EVENT_MAX)));
                    }
                    if self.read > STREAM_MAX {
                        return Next::TooLarge(format!("the stream of the answer is larger than {}", mib(STREAM_MAX)));
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    self.parser.end();
                }
                Err(error) => {
                    let url = self.response.url().clone();
                    return Next::Cut(trouble(error, &url, self.timeout).words);
                }
            }
        }
    }

    /// After the last event that matters: lets the body end, so that the connection is kept. What still
    /// comes is not read.
    pub async fn finish(mut self: Box<Self>) {
        if !self.ended {
            let _ =
                tokio::time::timeout(LINGER, async { while let Ok(Some(_)) = self.response.chunk().await {} }).await;
        }
    }
}

fn mib(bytes: usize) -> String {
    format!("{} MiB", bytes >> 20)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// OpenAI and those who follow it say `x-request-id`, Anthropic says `request-id`.
fn request_id(headers: &HeaderMap) -> Option<String> {
    text(headers, "x-request-id").or_else(|| text(headers, "request-id")).map(failure::capped)
}

fn trouble(error: reqwest::Error, url: &Url, timeout: Duration) -> Trouble {
    let not_sent = error.is_connect() || error.is_builder();
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let words = if error.is_timeout() && !not_sent {
        format!("no complete answer from {host}:{port} within {} ms", timeout.as_millis())
    } else {
        format!("{host}:{port}: {}", chain(&error.without_url()))
    };
    Trouble { not_sent, words }
}

/// `BASE/path`, with or without a slash at the end of `BASE`.
fn endpoint(base: &str, path: &str) -> Result<Url, String> {
    let expected = "expected an http or https address such as https://api.openai.com/v1";
    let mut url = Url::parse(base.trim()).map_err(|why| format!("base_url cannot be read ({why}): {expected}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("base_url has the scheme `{}`: {expected}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("base_url holds a user name or password: name a variable in `api_key_env`; {expected}"));
    }
    let path = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// Errors of HTTP crates say what happened only in their sources.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_takes_a_slash_or_none() {
        for base in ["https://h/v1", "https://h/v1/", " https://h/v1// "] {
            assert_eq!(endpoint(base, "chat/completions").unwrap().as_str(), "https://h/v1/chat/completions");
        }
        assert_eq!(
            endpoint("https://h/v1?api=2", "chat/completions").unwrap().as_str(),
            "https://h/v1/chat/completions?api=2"
        );
        for base in ["", "h/v1", "ftp://h", "https://user:pw@h/v1", "file:///x"] {
            let wrong = endpoint(base, "x").unwrap_err();
            assert!(wrong.contains("expected") && !wrong.contains("pw"), "{base}: {wrong}");
        }
    }
}
