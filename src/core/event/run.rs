//! Events of a whole run. Invariant: every machine of the run folds each of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TaskResult;
use crate::core::crew::{Overrides, Tokenizer};
use crate::core::failure::Refuses;
use crate::core::ids::{BlobId, InterruptId, Name, RunId, Step};
use crate::core::ledger::SetAside;
use crate::core::money::{Caps, Price};
use crate::core::rates::Cause as WaitCause;
use crate::core::rules;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum RunEvent {
    /// Outside: the run begins; everything it is made of is pinned here.
    #[serde(rename = "run.started")]
    Started(Box<Started>),
    /// Outside: a process takes the run up again. Pauses are over.
    #[serde(rename = "run.resumed")]
    Resumed { by: String },
    /// Outside: nothing new is to start; calls in flight may end.
    #[serde(rename = "run.pause_asked")]
    PauseAsked { cause: PauseCause, by: String },
    /// Outside.
    #[serde(rename = "run.cancel_asked")]
    CancelAsked { by: String },
    /// The root coordinator: nothing can go on in this process.
    #[serde(rename = "run.parked")]
    Parked { causes: Vec<ParkCause> },
    #[serde(rename = "run.finished")]
    Finished { status: RunEnd, result: Option<TaskResult> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Started {
    pub run: RunId,
    pub crew: String,
    /// Path of the crew file (or of the role prompt that is run as a crew of one).
    pub file: String,
    /// Every file the crew is made of.
    pub pins: BTreeMap<String, BlobId>,
    /// Values by name; a secret's value is its mark.
    pub inputs: BTreeMap<Name, serde_json::Value>,
    pub overrides: Overrides,
    /// The prices in force, by `provider/model-id`.
    pub prices: BTreeMap<String, Price>,
    /// Who states each of them: a crew file, a settings file, or the price table with its version and day.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub price_from: BTreeMap<String, String>,
    /// Context windows that the table gave, in tokens, by `provider/model-id`: a later table must not
    /// change what is shrunk.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<String, u64>,
    /// Tokenizers that holds may count by, by `provider/model-id`. Absent: a token a byte.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokenizers: BTreeMap<String, Tokenizer>,
    /// What models are known to refuse, by `provider/model-id`: a later table must not change a retry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refuses: BTreeMap<String, Refuses>,
    /// Of the top crew, after every layer.
    pub caps: Caps,
    /// What is set aside for the endings of tasks, where the crew says `on_exhausted = "finish"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<SetAside>,
    /// Where the caps come from, in words.
    pub cap_origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Every model is a stand-in.
    pub offline: bool,
    /// Of the program that started it.
    pub version: String,
    /// The tools that were there without a table of the crew: a JSON list of their specs. Absent in runs
    /// of before it was pinned, which take those of the program that reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BlobId>,
    /// Number of the constants in force ([`rules`]).
    #[serde(default = "rules::first")]
    pub rules: u32,
    /// What its inputs come from that is not to be trusted, in words: the file of a trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tainted: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM, SIGHUP.
    Terminated,
    /// `bosun pause`.
    Asked,
    Deadline,
    /// No call may leave for longer than the provider's `max_wait`.
    RateLimited(RateLimited),
}

/// A provider that lets nothing through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RateLimited {
    pub provider: Name,
    /// Milliseconds since the epoch.
    pub until_ms: u64,
    pub why: WaitCause,
}

/// Why a run waits, each with the words its last line needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum ParkCause {
    Credentials {
        message: String,
    },
    Quota {
        message: String,
    },
    Deadline,
    Rate(RateLimited),
    Budget {
        step: Step,
    },
    Review {
        step: Step,
    },
    /// A person's yes is waited for.
    Approval {
        step: Step,
        id: InterruptId,
    },
    /// A person's answer is waited for.
    Question {
        step: Step,
        id: InterruptId,
    },
    Interrupted,
    Terminated,
    Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    Completed,
    Failed,
    Cancelled,
}
