//! OpenAI Responses. Invariant: one call is one POST, streamed or not, and both ways make the same
//! answer; a stream that broke off is asked after once, by a GET that costs nothing, and only where the
//! crew had the response stored.

mod map;
mod stream;
mod wire;

pub use map::refused_extra;

use std::time::Duration;

use serde_json::Value;

use self::stream::{Events, Step};
use self::wire::{Asked, Outcome, outcome};
use crate::adapters::models::capabilities::{Api, Known};
use crate::adapters::models::failure::{malformed, too_large};
use crate::adapters::models::http::{self, Client, Next};
use crate::adapters::models::line::{Answer, Heard, Line, LineSpec};
use crate::core::chat::{CallFailure, ModelAnswer, ModelRequest};
use crate::core::malformed::Due;
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

const PATH: &str = "responses";
/// How long the provider may take to say what became of a response.
const LOOK_UP: Duration = Duration::from_secs(10);

pub struct Responses {
    line: Line,
    known: Known,
    stream: bool,
}

impl Responses {
    /// Fails as [`Line::open`].
    pub fn new(spec: LineSpec) -> Result<Responses, String> {
        let stream = spec.stream;
        let line = Line::open(spec, PATH, Client::with_bearer)?;
        Ok(Responses { line, known: Known::new(Some(Api::OpenAi)), stream })
    }

    async fn ask(&self, request: &ModelRequest, watch: &dyn Watch) -> Result<ModelAnswer, CallFailure> {
        let (capable, secrets) = (self.known.of(&request.model), self.line.secrets());
        let body = map::body(request, &capable, secrets, self.stream).map_err(|why| self.line.cannot_say(&why))?;
        if !self.stream {
            let answer = self.line.send(body, watch).await?;
            return self.whole(request, answer);
        }
        match self.line.stream(body, watch).await? {
            Heard::Whole(answer) => self.whole(request, answer),
            Heard::Events(events) => self.events(request, events, watch).await,
        }
    }

    fn whole(&self, request: &ModelRequest, answer: Answer) -> Result<ModelAnswer, CallFailure> {
        let Answer { bytes, excess, request_id, status, .. } = answer;
        if let Some(words) = excess {
            return Ok(too_large(&words, request_id));
        }
        let text = std::str::from_utf8(&bytes).ok();
        let outcome = text.map_or(Outcome::Not, |text| outcome(text, None, asked(request), request_id.clone()));
        self.ended(outcome, &bytes, status, request_id)
    }

    async fn events(
        &self,
        request: &ModelRequest,
        mut events: Box<http::Events>,
        watch: &dyn Watch,
    ) -> Result<ModelAnswer, CallFailure> {
        let (status, request_id) = (events.status, events.request_id.clone());
        let mut so_far = Events::default();
        let why = loop {
            match events.next().await {
                Next::Event(event) => match so_far.event(&event.data, asked(request), request_id.as_deref()) {
                    Step::On => {}
                    Step::Text(piece) => watch.text(&piece),
                    Step::End(outcome) => {
                        events.finish().await;
                        return self.ended(outcome, event.data.as_bytes(), status, request_id);
                    }
                },
                Next::TooLarge(words) => return Ok(too_large(&words, request_id)),
                Next::End => break "the stream ended before the response did".to_owned(),
                Next::Cut(why) => break why,
            }
        };
        match self.look_up(request, so_far.id.as_deref()).await {
            Some(answer) => Ok(answer),
            None => Err(self.line.broke_off(status, &why, None)),
        }
    }

    /// The response that a broken stream was about, if it is stored and has ended.
    async fn look_up(&self, request: &ModelRequest, id: Option<&str>) -> Option<ModelAnswer> {
        let id = id.filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')))?;
        if request.extra.get("store") != Some(&Value::Bool(true)) {
            return None;
        }
        let line = self.line.at(&format!("{PATH}/{id}"), Some("include[]=reasoning.encrypted_content")).ok()?;
        let answer = tokio::time::timeout(LOOK_UP, line.get()).await.ok()?.ok()?;
        let text = std::str::from_utf8(&answer.bytes).ok().filter(|_| answer.excess.is_none())?;
        match outcome(text, None, asked(request), answer.request_id) {
            // One whose usage is not known leaves the call as doubtful as it was.
            Outcome::Answer(answer) => answer.usage.known().map(|_| *answer),
            Outcome::Failed(_) | Outcome::Not => None,
        }
    }

    fn ended(
        &self,
        outcome: Outcome,
        body: &[u8],
        status: u16,
        request_id: Option<String>,
    ) -> Result<ModelAnswer, CallFailure> {
        match outcome {
            Outcome::Answer(answer) => Ok(*answer),
            Outcome::Failed(words) => Err(self.line.broke_off(status, &words, None)),
            Outcome::Not => Ok(malformed(Due::Response, body, request_id, |text| self.line.hide(text))),
        }
    }
}

fn asked(request: &ModelRequest) -> Asked<'_> {
    Asked { model: &request.model, tier: request.extra.get("service_tier").and_then(Value::as_str) }
}

impl Model for Responses {
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
