//! One HTTP request. Invariant: exactly one request leaves per call, to the host that was
//! configured; nothing is retried and no redirect is followed.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Response, Url};
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use secrecy::{ExposeSecret, SecretString};

use crate::adapters::models::{failure, limits};
use crate::core::rates::Limits;

/// To an address that does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a kept connection: servers close theirs sooner or later, and a request that meets the closing
/// one may be ambiguous.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer, beyond which it is not read on.
pub const ANSWER_MAX: usize = 8 << 20;
/// Bytes of an error's body that are read.
const ERROR_MAX: usize = 64 << 10;

pub struct Client {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
}

/// What came back.
pub struct Reply {
    pub status: u16,
    pub request_id: Option<String>,
    pub retry_after_ms: Option<u64>,
    /// What the headers say about rates.
    pub limits: Limits,
    pub body: Body,
}

pub enum Body {
    Whole(Bytes),
    /// More than the limit; the first part.
    TooLarge(Bytes),
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
        let tls = tls().map_err(|why| format!("TLS cannot be set up: {why}"))?;
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
        Ok(Client { http, url, headers, timeout })
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

    pub async fn send(&self, body: Vec<u8>) -> Result<Reply, Trouble> {
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = Some(body.into());
        let mut response = self.http.execute(request).await.map_err(|error| self.trouble(error))?;
        let status = response.status().as_u16();
        let good = response.status().is_success();
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let request_id = header(HeaderName::from_static("x-request-id")).map(failure::capped);
        let retry_after_ms = match good {
            true => None,
            false => {
                let ms = header(HeaderName::from_static("retry-after-ms"));
                failure::retry_after(ms, header(RETRY_AFTER), SystemTime::now())
            }
        };
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let limits = limits::limits(text, SystemTime::now());
        let body = self.read(&mut response, if good { ANSWER_MAX } else { ERROR_MAX }).await;
        Ok(Reply { status, request_id, retry_after_ms, limits, body })
    }

    async fn read(&self, response: &mut Response, limit: usize) -> Body {
        // The common answer is one chunk, which is not copied.
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
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
                Err(error) => return Body::Cut(self.trouble(error).words),
            }
            if all.len().max(first.len()) > limit {
                return Body::TooLarge(if all.is_empty() { first } else { all.freeze() });
            }
        }
    }

    fn trouble(&self, error: reqwest::Error) -> Trouble {
        let not_sent = error.is_connect() || error.is_builder();
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        let words = if error.is_timeout() && !not_sent {
            format!("no complete answer from {host}:{port} within {} ms", self.timeout.as_millis())
        } else {
            format!("{host}:{port}: {}", chain(&error.without_url()))
        };
        Trouble { not_sent, words }
    }
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

fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let roots = LateRoots { provider: provider.clone(), verifier: OnceLock::new() };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The platform's verifier, made at the first handshake: it reads every root of the system.
#[derive(Debug)]
struct LateRoots {
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<rustls_platform_verifier::Verifier, rustls::Error>>,
}

impl LateRoots {
    fn verifier(&self) -> Result<&rustls_platform_verifier::Verifier, rustls::Error> {
        let make = || rustls_platform_verifier::Verifier::new(self.provider.clone());
        self.verifier.get_or_init(make).as_ref().map_err(Clone::clone)
    }
}

impl ServerCertVerifier for LateRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
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
