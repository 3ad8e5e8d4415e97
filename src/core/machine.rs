//! What every machine shares. Invariant: `decide` may say no and touches nothing; `apply` records a
//! fact and never evaluates a template, a condition or a schema; `next` is total and pure.

use std::sync::Arc;

use super::chat::{Blob, Message};
use super::crew::Crew;
use super::event::{Event, Msg, PauseCause, RunEvent};
use super::ids::{BlobId, RunId};

/// Texts by hash. A machine asks only for what an event of its own run refers to.
pub trait Texts: Send + Sync {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText>;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal refers to text {0}, which the store does not have")]
pub struct MissingText(pub BlobId);

/// Tokens of a text as sizes in crew files mean them (o200k), the same everywhere: of a model with another
/// tokenizer an estimate, never a hold. Never more than the text has bytes; exact up to 128 KiB.
pub trait Sizes: Send + Sync {
    fn tokens(&self, text: &str) -> u64;
}

/// What `decide` may look at beside the machine's own state.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub run: &'a RunId,
    /// The top crew.
    pub crew: &'a Arc<Crew>,
    pub texts: &'a dyn Texts,
    pub sizes: &'a dyn Sizes,
}

/// A decision: events that are appended together, and the texts they refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    pub events: Vec<Event>,
    pub blobs: Vec<Blob>,
}

impl Decided {
    pub fn one(event: Event) -> Decided {
        Decided { events: vec![event], blobs: Vec::new() }
    }
    /// Keeps the text with the decision and gives its id.
    pub fn keep(&mut self, text: impl Into<Arc<str>>) -> BlobId {
        let blob = Blob::new(text);
        let id = blob.id;
        self.blobs.push(blob);
        id
    }
    /// Keeps a message with the decision.
    pub fn message(&mut self, message: &Message) -> Msg {
        let blob = message.encode();
        let msg = Msg::of(message, &blob);
        self.blobs.push(blob);
        msg
    }
}

/// Why nothing is decided. A refusal changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the run is pausing or over")]
    Paused,
    #[error("the call still waits for its hold")]
    Waiting,
    #[error("not due: {0}")]
    NotDue(String),
    #[error(transparent)]
    Missing(#[from] MissingText),
}

/// The journal holds what no machine could have written: it is corrupt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{machine} cannot follow `{kind}`: {why}")]
pub struct IllegalEvent {
    pub machine: String,
    pub kind: &'static str,
    pub why: String,
}

/// What a person or the clock has asked of the whole run. Every machine folds it alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Control {
    #[default]
    Running,
    Pausing(PauseCause),
    /// A provider refused the key or the money.
    Refused {
        quota: bool,
        message: String,
    },
    Cancelling,
    Ended,
}

impl Control {
    /// Nothing new may start.
    pub fn is_halted(&self) -> bool {
        *self != Control::Running
    }
    pub fn apply(&mut self, event: &RunEvent) {
        match event {
            // A cancel is not taken back by the process that comes after.
            RunEvent::Resumed { .. } if matches!(self, Control::Cancelling | Control::Ended) => {}
            RunEvent::Resumed { .. } | RunEvent::Started(_) => *self = Control::Running,
            RunEvent::PauseAsked { cause, .. } if *self == Control::Running => *self = Control::Pausing(cause.clone()),
            // The first cause stands; a cancel is stronger than a pause.
            RunEvent::PauseAsked { .. } | RunEvent::Parked { .. } => {}
            RunEvent::CancelAsked { .. } if *self == Control::Ended => {}
            RunEvent::CancelAsked { .. } => *self = Control::Cancelling,
            RunEvent::Finished { .. } => *self = Control::Ended,
        }
    }
    pub fn refused(&mut self, quota: bool, message: &str) {
        if *self == Control::Running {
            *self = Control::Refused { quota, message: message.to_owned() };
        }
    }
}
