//! Anthropic Messages. Invariant: one call is one request, streamed or not, and both ways make the same
//! answer.

mod map;
mod schema;
mod stream;
mod turns;
mod wire;

pub use map::refused_extra;

use self::map::{Asked, Bodies};
use self::stream::Assembly;
use crate::adapters::models::failure::too_large;
use crate::adapters::models::http::Client;
use crate::adapters::models::line::{Answer, Heard, Line, LineSpec};
use crate::adapters::models::streamed::listen;
use crate::core::chat::{CallFailure, ModelAnswer, ModelRequest};
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

/// The version whose rules the capability table states.
pub const VERSION: &str = "2026-10-21";

pub struct Anthropic {
    line: Line,
    bodies: Bodies,
    stream: bool,
}

impl Anthropic {
    /// Fails as [`Line::open`].
    pub fn new(spec: LineSpec) -> Result<Anthropic, String> {
        let stream = spec.stream;
        let line = Line::open(spec, "v1/messages", Client::with_bearer)?.with_header("anthropic-version", VERSION);
        Ok(Anthropic { line, bodies: Bodies::new(), stream })
    }

    async fn ask(&self, request: &ModelRequest, watch: &dyn Watch) -> Result<ModelAnswer, CallFailure> {
        let written = self.bodies.body(request, self.line.secrets(), self.stream);
        let (body, asked) = written.map_err(|why| self.line.cannot_say(&why))?;
        if !self.stream {
            return Ok(self.whole(self.line.send(body, watch).await?, &asked));
        }
        match self.line.stream(body, watch).await? {
            Heard::Whole(answer) => Ok(self.whole(answer, &asked)),
            Heard::Events(events) => {
                let read = |body: &[u8], id| map::answer(body, &asked, id, |text| self.line.hide(text));
                listen(&self.line, events, watch, Assembly::default(), read).await
            }
        }
    }

    fn whole(&self, answer: Answer, asked: &Asked) -> ModelAnswer {
        let Answer { bytes, excess, request_id, .. } = answer;
        match excess {
            None => map::answer(&bytes, asked, request_id, |text| self.line.hide(text)),
            Some(words) => too_large(&words, request_id),
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
