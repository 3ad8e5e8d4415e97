//! Gemini, by generateContent. Invariant: one call is one request, streamed or not, and both ways make
//! the same answer; what the SDK would send again by itself (a continuation) is a cut-off answer here.

mod map;
mod wire;

pub use map::refused_extra;

use reqwest::header::HeaderName;
use secrecy::ExposeSecret;

use self::wire::{End, Step};
use crate::adapters::models::capabilities::{Api, Known};
use crate::adapters::models::failure::{malformed, too_large};
use crate::adapters::models::http::{Events, Next};
use crate::adapters::models::line::{Answer, Heard, Line, LineSpec};
use crate::core::chat::{CallFailure, ModelAnswer, ModelRequest};
use crate::core::malformed::Due;
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

/// Where the key goes.
pub const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

pub struct Gemini {
    line: Line,
    known: Known,
    stream: bool,
}

impl Gemini {
    /// Fails as [`Line::open`].
    pub fn new(spec: LineSpec) -> Result<Gemini, String> {
        let stream = spec.stream;
        let line = Line::open(spec, "v1", |client, key| client.with_secret(GOOGLE_KEY, key.expose_secret()))?;
        Ok(Gemini { line, known: Known::new(Some(Api::Gemini)), stream })
    }

    async fn ask(&self, request: &ModelRequest, watch: &dyn Watch) -> Result<ModelAnswer, CallFailure> {
        let capable = self.known.of(&request.model);
        let body = map::body(request, &capable, self.line.secrets()).map_err(|why| self.line.cannot_say(&why))?;
        let query = self.stream.then_some("alt=sse");
        let line = self.line.at(&map::path(&request.model, self.stream), query);
        let line = line.map_err(|why| self.line.cannot_say(&why))?;
        if !self.stream {
            let answer = line.send(body, watch).await?;
            return self.whole(request, answer);
        }
        match line.stream(body, watch).await? {
            Heard::Whole(answer) => self.whole(request, answer),
            Heard::Events(events) => self.events(request, events, watch).await,
        }
    }

    fn whole(&self, request: &ModelRequest, answer: Answer) -> Result<ModelAnswer, CallFailure> {
        let Answer { bytes, excess, request_id, status, .. } = answer;
        if let Some(words) = excess {
            return Ok(too_large(&words, request_id));
        }
        let mut so_far = wire::Answer::default();
        match std::str::from_utf8(&bytes).map_or(Step::Not, |text| so_far.chunk(text)) {
            Step::On | Step::Text(_) => match so_far.end(&request.model, request_id, true) {
                End::Answer(answer) => Ok(*answer),
                End::Cut => Err(self.line.broke_off(status, "it has no finish", None)),
            },
            Step::Failed(words) => Err(self.line.broke_off(status, &words, so_far.usage())),
            Step::Not => Ok(malformed(Due::Content, &bytes, request_id, |text| self.line.hide(text))),
        }
    }

    async fn events(
        &self,
        request: &ModelRequest,
        mut events: Box<Events>,
        watch: &dyn Watch,
    ) -> Result<ModelAnswer, CallFailure> {
        let (status, request_id) = (events.status, events.request_id.clone());
        let mut so_far = wire::Answer::default();
        // There is no last event on this wire: the usage may come after the finish.
        let why = loop {
            match events.next().await {
                Next::Event(event) => match so_far.chunk(&event.data) {
                    Step::On => {}
                    Step::Text(piece) => watch.text(&piece),
                    Step::Failed(words) => return Err(self.line.broke_off(status, &words, so_far.usage())),
                    Step::Not => {
                        let broken =
                            malformed(Due::Content, event.data.as_bytes(), request_id, |text| self.line.hide(text));
                        return Ok(broken);
                    }
                },
                Next::End => break "the stream ended before the answer did".to_owned(),
                Next::TooLarge(words) => return Ok(too_large(&words, request_id)),
                Next::Cut(why) if so_far.is_over() && so_far.usage().is_some() => break why,
                Next::Cut(why) => return Err(self.line.broke_off(status, &why, so_far.usage())),
            }
        };
        let usage = so_far.usage();
        match so_far.end(&request.model, request_id, false) {
            End::Answer(answer) => Ok(*answer),
            End::Cut => Err(self.line.broke_off(status, &why, usage)),
        }
    }
}

impl Model for Gemini {
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
