//! An answer that comes as it is written, put together again. Invariant: what was put together is read by the
//! code that reads whole answers, so that both ways make the same one; what broke off is no answer.

use crate::adapters::models::failure::{malformed, too_large};
use crate::adapters::models::http::{Events, Next};
use crate::adapters::models::line::Line;
use crate::core::chat::{CallFailure, ModelAnswer};
use crate::core::malformed::Due;
use crate::core::money::Usage;
use crate::ports::model::Watch;

/// What an event did.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to show.
    Quiet,
    /// The next piece of the text.
    Text(String),
    /// The protocol's last event.
    Done,
    /// The provider gave up in the middle.
    Error,
    /// It is no event of this protocol.
    Broken,
}

/// An answer that is being put together.
pub trait Streamed {
    /// What the protocol ends a stream with.
    const END: &'static str;
    /// What it is when it is whole.
    const WANTED: Due;

    fn take(&mut self, data: &str) -> Step;
    /// The body that a whole answer would have had, so far.
    fn body(self) -> Vec<u8>;
    /// What was reported so far.
    fn usage(&self) -> Option<Usage>;
    /// Nothing is missing but the end.
    fn is_whole(&self) -> bool {
        false
    }
}

/// Listens to the end. `answer` reads a whole body.
pub async fn listen<S: Streamed + Send>(
    line: &Line,
    mut events: Box<Events>,
    watch: &dyn Watch,
    mut so_far: S,
    answer: impl Fn(&[u8], Option<String>) -> ModelAnswer,
) -> Result<ModelAnswer, CallFailure> {
    let (status, id) = (events.status, events.request_id.clone());
    loop {
        let event = match events.next().await {
            Next::Event(event) => event,
            Next::End if so_far.is_whole() => return Ok(answer(&so_far.body(), id)),
            Next::End => return Err(line.broke_off(status, &format!("it ended without {}", S::END), so_far.usage())),
            Next::Cut(why) => return Err(line.broke_off(status, &why, so_far.usage())),
            Next::TooLarge(words) => return Ok(too_large(&words, id)),
        };
        match so_far.take(&event.data) {
            Step::Quiet => {}
            Step::Text(piece) => watch.text(&piece),
            Step::Done => {
                events.finish().await;
                return Ok(answer(&so_far.body(), id));
            }
            Step::Error => return Err(line.error_in_stream(status, event.data.as_bytes(), so_far.usage())),
            Step::Broken => return Ok(malformed(S::WANTED, event.data.as_bytes(), id, |text| line.hide(text))),
        }
    }
}
