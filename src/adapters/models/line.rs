//! The line to one provider: its client, its key and what must not be said aloud. Invariant: a failure
//! says about money only what is evident (released only if nothing was written, or by a listed
//! status), and no key or secret input stands in its words.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use secrecy::SecretString;

use crate::adapters::models::failure::{Said, capped};
use crate::adapters::models::http::{Body, Client, Events, Reply, Streamed, Trouble};
use crate::adapters::models::limits;
use crate::adapters::models::secrets::{SecretInputs, redact};
use crate::core::chat::{CallFailure, FailureClass};
use crate::core::money::Usage;
use crate::ports::model::Watch;

pub struct Line {
    client: Client,
    key: Option<SecretString>,
    secrets: Arc<SecretInputs>,
}

/// The body of a 2xx.
pub struct Answer {
    pub status: u16,
    pub request_id: Option<String>,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    /// There was more than the limit, in words; then this is its first part.
    pub excess: Option<String>,
}

/// A 2xx to a request that asked for a stream.
pub enum Heard {
    /// The server answers whole all the same.
    Whole(Answer),
    Events(Box<Events>),
}

fn tell(headers: &HeaderMap, watch: &dyn Watch) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    watch.limits(limits::limits(text, SystemTime::now()));
}

/// What a line is made of.
pub struct LineSpec {
    /// As the vendor's SDK takes it: OpenAI's with `/v1`, Anthropic's and Gemini's without.
    pub base_url: String,
    /// None sends no key.
    pub key: Option<SecretString>,
    /// Of one request, until its last byte.
    pub timeout: Duration,
    /// Connections that are kept open.
    pub connections: usize,
    /// Ask for answers as they are written.
    pub stream: bool,
    pub secrets: Arc<SecretInputs>,
}

impl Line {
    /// To `path` below the base; `with_key` puts the key where this vendor wants it. Fails in words: an address
    /// that cannot be used, a key that no header can carry.
    pub fn open(
        spec: LineSpec,
        path: &str,
        with_key: impl FnOnce(Client, &SecretString) -> Result<Client, String>,
    ) -> Result<Line, String> {
        let mut client = Client::new(&spec.base_url, path, spec.timeout, spec.connections)?;
        if let Some(key) = &spec.key {
            client = with_key(client, key)?;
        }
        Ok(Line { client, key: spec.key, secrets: spec.secrets })
    }

    pub fn with_header(mut self, name: &'static str, value: &'static str) -> Line {
        self.client = self.client.with_header(name, value);
        self
    }

    pub fn secrets(&self) -> &SecretInputs {
        &self.secrets
    }

    /// One request to another path of the same base.
    pub fn at(&self, path: &str, query: Option<&str>) -> Result<Line, String> {
        let client = self.client.at(path, query)?;
        Ok(Line { client, key: self.key.clone(), secrets: self.secrets.clone() })
    }

    /// `watch` hears what the headers say about rates, whatever the status.
    pub async fn send(&self, body: Vec<u8>, watch: &dyn Watch) -> Result<Answer, CallFailure> {
        let reply = self.client.send(body).await.map_err(|trouble| self.trouble(trouble))?;
        tell(&reply.headers, watch);
        self.good(reply)
    }

    /// A look at what stands there ([`Client::get`]).
    pub async fn get(&self) -> Result<Answer, CallFailure> {
        let reply = self.client.get().await.map_err(|trouble| self.trouble(trouble))?;
        self.good(reply)
    }

    /// As [`Line::send`], of an answer that comes as it is written.
    pub async fn stream(&self, body: Vec<u8>, watch: &dyn Watch) -> Result<Heard, CallFailure> {
        match self.client.stream(body).await.map_err(|trouble| self.trouble(trouble))? {
            Streamed::Whole(reply) => {
                tell(&reply.headers, watch);
                self.good(reply).map(Heard::Whole)
            }
            Streamed::Events(events) => {
                tell(&events.headers, watch);
                Ok(Heard::Events(events))
            }
        }
    }

    /// An answer of which only a part came: it may have been billed. `usage` is what it had reported.
    pub fn broke_off(&self, status: u16, why: &str, usage: Option<Usage>) -> CallFailure {
        let words = format!("the answer broke off: {why}");
        CallFailure {
            status: Some(status),
            usage: usage.map(Box::new),
            ..self.failure(FailureClass::Ambiguous, &words)
        }
    }

    /// An error that came inside a stream, after a good status: it may have been billed, whatever its code.
    pub fn error_in_stream(&self, status: u16, data: &[u8], usage: Option<Usage>) -> CallFailure {
        let said = Said::read(data).failure(status, None, |text| self.hide(text));
        let words = format!("an error came in the stream: {}", said.message);
        CallFailure {
            status: Some(status),
            usage: usage.map(Box::new),
            ..self.failure(FailureClass::Ambiguous, &words)
        }
    }

    /// Before anything was sent: the request cannot be said.
    pub fn cannot_say(&self, why: &impl ToString) -> CallFailure {
        self.failure(FailureClass::OurFault, &why.to_string())
    }

    /// `text` without keys and secret inputs.
    pub fn hide(&self, text: &str) -> String {
        redact(text, self.key.iter().chain(self.secrets.values()))
    }

    fn good(&self, reply: Reply) -> Result<Answer, CallFailure> {
        let Reply { status, request_id, retry_after_ms, headers, body } = reply;
        if (200..300).contains(&status) {
            let (bytes, excess) = match body {
                Body::Whole(bytes) => (bytes, None),
                Body::TooLarge(bytes, words) => (bytes, Some(words)),
                Body::Cut(why) => return Err(self.broke_off(status, &why, None)),
            };
            return Ok(Answer { status, request_id, headers, bytes, excess });
        }
        let said = match body {
            Body::Whole(bytes) | Body::TooLarge(bytes, _) => Said::read(&bytes),
            Body::Cut(why) => Said { message: format!("(its words broke off: {why})"), ..Said::default() },
        };
        let failure = said.failure(status, retry_after_ms, |text| self.hide(text));
        // What pauses the run is mended by a person, who must know where it was asked.
        let place = failure.class.stops_the_run().then(|| capped(&self.hide(&self.client.place())));
        let message = place.map_or_else(|| failure.message.clone(), |place| format!("{} ({place})", failure.message));
        Err(CallFailure { message, ..failure })
    }

    fn trouble(&self, trouble: Trouble) -> CallFailure {
        let class = if trouble.not_sent { FailureClass::NotSent } else { FailureClass::Ambiguous };
        self.failure(class, &trouble.words)
    }

    fn failure(&self, class: FailureClass, words: &str) -> CallFailure {
        CallFailure::of(class, capped(&self.hide(words)))
    }
}
