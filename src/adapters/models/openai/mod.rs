//! Chat Completions, at OpenAI and at whoever speaks it. Invariant: one call is one
//! request, streamed or not, and both ways make the same answer.

mod map;
mod stream;
mod wire;

pub use map::{Dialect, is_strict, refused_extra};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::SecretString;

use self::map::Bodies;
use self::stream::{Assembly, Step};
use crate::adapters::models::failure::malformed;
use crate::adapters::models::http::{Client, Events, Next};
use crate::adapters::models::line::{Answer, Heard, Line};
use crate::adapters::models::secrets::SecretInputs;
use crate::core::chat::{CallFailure, FailureClass, ModelAnswer, ModelRequest};
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

/// What a client of this kind is made of.
pub struct OpenAiSpec {
    /// With `/v1`, as the vendor's SDK takes it.
    pub base_url: String,
    /// None sends no `Authorization`.
    pub key: Option<SecretString>,
    /// Of one request, until its last byte.
    pub timeout: Duration,
    /// Connections that are kept open.
    pub connections: usize,
    pub dialect: Dialect,
    /// Ask for a stream.
    pub stream: bool,
    pub secrets: Arc<SecretInputs>,
}

pub struct OpenAi {
    line: Line,
    bodies: Bodies,
    /// Turned off for good by a server that refuses to stream: its next call asks for a whole answer.
    stream: AtomicBool,
}

impl OpenAi {
    /// Fails in words: an address that cannot be used, a key that no header can carry.
    pub fn new(spec: OpenAiSpec) -> Result<OpenAi, String> {
        let mut client = Client::new(&spec.base_url, "chat/completions", spec.timeout, spec.connections)?;
        if let Some(key) = &spec.key {
            client = client.with_bearer(key)?;
        }
        let line = Line::new(client, spec.key, spec.secrets);
        Ok(OpenAi { line, bodies: Bodies::new(spec.dialect), stream: AtomicBool::new(spec.stream) })
    }

    async fn ask(&self, request: &ModelRequest, watch: &dyn Watch) -> Result<ModelAnswer, CallFailure> {
        let stream = self.stream.load(Ordering::Relaxed);
        let body = self.bodies.body(request, self.line.secrets(), stream).map_err(|why| self.line.cannot_say(&why))?;
        if !stream {
            return Ok(self.whole(self.line.send(body, watch).await?, request));
        }
        match self.line.stream(body, watch).await.map_err(|failure| self.or_whole(failure))? {
            Heard::Whole(answer) => Ok(self.whole(answer, request)),
            Heard::Events(events) => self.listen(events, request, watch).await,
        }
    }

    /// A server that refuses to stream has refused the form, not the request: it is asked again at once,
    /// for a whole answer.
    fn or_whole(&self, failure: CallFailure) -> CallFailure {
        if !refuses_streams(&failure) {
            return failure;
        }
        self.stream.store(false, Ordering::Relaxed);
        let message = format!("{}; from now on its answers are asked for whole (`stream = false`)", failure.message);
        CallFailure { class: FailureClass::Transient, message, retry_after_ms: Some(0), ..failure }
    }

    fn whole(&self, answer: Answer, request: &ModelRequest) -> ModelAnswer {
        let Answer { bytes, whole, request_id, .. } = answer;
        let hide = |text: &str| self.line.hide(text);
        match whole {
            true => map::answer(&bytes, asked(request), request_id, hide),
            false => malformed(&bytes, request_id, hide),
        }
    }

    async fn listen(
        &self,
        mut events: Box<Events>,
        request: &ModelRequest,
        watch: &dyn Watch,
    ) -> Result<ModelAnswer, CallFailure> {
        let status = events.status;
        let id = events.request_id.clone();
        let hide = |text: &str| self.line.hide(text);
        let mut so_far = Assembly::default();
        loop {
            let event = match events.next().await {
                Next::Event(event) => event,
                Next::End if so_far.is_whole() => return Ok(map::answer(&so_far.body(), asked(request), id, hide)),
                Next::End => return Err(self.line.broke_off(status, "it ended without [DONE]", so_far.usage())),
                Next::Cut(why) => return Err(self.line.broke_off(status, &why, so_far.usage())),
                Next::TooLarge => return Ok(malformed(&so_far.body(), id, hide)),
            };
            match so_far.take(&event.data) {
                Step::Quiet => {}
                Step::Text(piece) => watch.text(&piece),
                Step::Done => {
                    events.finish().await;
                    return Ok(map::answer(&so_far.body(), asked(request), id, hide));
                }
                Step::Error => {
                    return Err(self.line.error_in_stream(status, event.data.as_bytes(), so_far.usage()));
                }
                Step::Broken => return Ok(malformed(event.data.as_bytes(), id, hide)),
            }
        }
    }
}

/// Model and tier of a request.
fn asked(request: &ModelRequest) -> (&str, Option<&str>) {
    (&request.model, request.extra.get("service_tier").and_then(serde_json::Value::as_str))
}

/// A 4xx that names the keys which ask for a stream: some servers know no `stream_options`, and some
/// vendors stream certain models to verified organisations only. They are our words, not prose.
fn refuses_streams(failure: &CallFailure) -> bool {
    let names = |key: &str| failure.message.contains(key);
    failure.class == FailureClass::OurFault && (names("stream_options") || names("param `stream`"))
}

impl Model for OpenAi {
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        Box::pin(self.ask(request, watch))
    }
}
