//! Anthropic Messages. Invariant: one call is one request, streamed or not, and both ways make the same
//! answer.

mod map;
mod schema;
mod stream;
mod turns;
mod wire;

pub use map::refused_extra;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use self::map::{Asked, Bodies};
use self::stream::{Assembly, Step};
use crate::adapters::models::failure::malformed;
use crate::adapters::models::http::{Client, Events, Next};
use crate::adapters::models::line::{Answer, Heard, Line};
use crate::adapters::models::secrets::SecretInputs;
use crate::core::chat::{CallFailure, ModelAnswer, ModelRequest};
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

/// The version whose rules the capability table states.
pub const VERSION: &str = "2026-10-21";

/// What a client of this kind is made of.
pub struct AnthropicSpec {
    /// Without `/v1`, as the vendor's SDK takes it.
    pub base_url: String,
    pub key: Option<SecretString>,
    /// Of one request, until its last byte.
    pub timeout: Duration,
    /// Connections that are kept open.
    pub connections: usize,
    /// Ask for a stream.
    pub stream: bool,
    pub secrets: Arc<SecretInputs>,
}

pub struct Anthropic {
    line: Line,
    bodies: Bodies,
    stream: bool,
}

impl Anthropic {
    /// Fails in words: an address that cannot be used, a key that no header can carry.
    pub fn new(spec: AnthropicSpec) -> Result<Anthropic, String> {
        let mut client = Client::new(&spec.base_url, "v1/messages", spec.timeout, spec.connections)?
            .with_header("anthropic-version", VERSION);
        if let Some(key) = &spec.key {
            client = client.with_bearer(key)?;
        }
        let line = Line::new(client, spec.key, spec.secrets);
        Ok(Anthropic { line, bodies: Bodies::new(), stream: spec.stream })
    }

    async fn ask(&self, request: &ModelRequest, watch: &dyn Watch) -> Result<ModelAnswer, CallFailure> {
        let written = self.bodies.body(request, self.line.secrets(), self.stream);
        let (body, asked) = written.map_err(|why| self.line.cannot_say(&why))?;
        if !self.stream {
            return Ok(self.whole(self.line.send(body, watch).await?, &asked));
        }
        match self.line.stream(body, watch).await? {
            Heard::Whole(answer) => Ok(self.whole(answer, &asked)),
            Heard::Events(events) => self.listen(events, &asked, watch).await,
        }
    }

    fn whole(&self, answer: Answer, asked: &Asked) -> ModelAnswer {
        let Answer { bytes, whole, request_id, .. } = answer;
        let hide = |text: &str| self.line.hide(text);
        if whole { map::answer(&bytes, asked, request_id, hide) } else { malformed(&bytes, request_id, hide) }
    }

    async fn listen(
        &self,
        mut events: Box<Events>,
        asked: &Asked,
        watch: &dyn Watch,
    ) -> Result<ModelAnswer, CallFailure> {
        let status = events.status;
        let id = events.request_id.clone();
        let hide = |text: &str| self.line.hide(text);
        let mut so_far = Assembly::default();
        loop {
            let event = match events.next().await {
                Next::Event(event) => event,
                Next::End => return Err(self.line.broke_off(status, "it ended without message_stop", so_far.usage())),
                Next::Cut(why) => return Err(self.line.broke_off(status, &why, so_far.usage())),
                Next::TooLarge => return Ok(malformed(&so_far.body(), id, hide)),
            };
            match so_far.take(&event.data) {
                Step::Quiet => {}
                Step::Text(piece) => watch.text(&piece),
                Step::Done => {
                    events.finish().await;
                    return Ok(map::answer(&so_far.body(), asked, id, hide));
                }
                Step::Error => {
                    return Err(self.line.error_in_stream(status, event.data.as_bytes(), so_far.usage()));
                }
                Step::Broken => return Ok(malformed(event.data.as_bytes(), id, hide)),
            }
        }
    }
}

impl Model for Anthropic {
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        Box::pin(self.ask(request, watch))
    }
}

#[cfg(test)]
mod tests;
