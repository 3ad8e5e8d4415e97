//! Chat Completions, at OpenAI and at whoever speaks it. Invariant: one call is one
//! request, streamed or not, and both ways make the same answer.

mod map;
mod stream;
mod wire;

pub use map::{Dialect, is_strict, refused_extra};

use std::sync::atomic::{AtomicBool, Ordering};

use self::map::Bodies;
use self::stream::Assembly;
use crate::adapters::models::failure::too_large;
use crate::adapters::models::http::Client;
use crate::adapters::models::line::{Answer, Heard, Line, LineSpec};
use crate::adapters::models::streamed::listen;
use crate::core::chat::{CallFailure, FailureClass, ModelAnswer, ModelRequest};
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

pub struct OpenAi {
    line: Line,
    bodies: Bodies,
    /// Turned off for good by a server that refuses to stream: its next call asks for a whole answer.
    stream: AtomicBool,
}

impl OpenAi {
    /// Fails as [`Line::open`].
    pub fn new(spec: LineSpec, dialect: Dialect) -> Result<OpenAi, String> {
        let stream = AtomicBool::new(spec.stream);
        let line = Line::open(spec, "chat/completions", Client::with_bearer)?;
        Ok(OpenAi { line, bodies: Bodies::new(dialect), stream })
    }

    async fn ask(&self, request: &ModelRequest, watch: &dyn Watch) -> Result<ModelAnswer, CallFailure> {
        let stream = self.stream.load(Ordering::Relaxed);
        let body = self.bodies.body(request, self.line.secrets(), stream).map_err(|why| self.line.cannot_say(&why))?;
        if !stream {
            return Ok(self.whole(self.line.send(body, watch).await?, request));
        }
        match self.line.stream(body, watch).await.map_err(|failure| self.or_whole(failure))? {
            Heard::Whole(answer) => Ok(self.whole(answer, request)),
            Heard::Events(events) => {
                let read = |body: &[u8], id| map::answer(body, asked(request), id, |text| self.line.hide(text));
                listen(&self.line, events, watch, Assembly::default(), read).await
            }
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
        let Answer { bytes, excess, request_id, .. } = answer;
        match excess {
            None => map::answer(&bytes, asked(request), request_id, |text| self.line.hide(text)),
            Some(words) => too_large(&words, request_id),
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
