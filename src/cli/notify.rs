//! Which entries a person is told about outside the terminal. Invariant: a pure function of the entry
//! and the fold before it; the id is `RUN:SEQ`, the same however often it is sent.

use super::ends;
use super::progress::asks;
use super::progress::json_line;
use super::screen::usd;
use super::tally::Tally;
use crate::core::chain::Hash;
use crate::core::event::{CallEvent, Event, InterruptEvent, LedgerEvent, RunEnd, RunEvent, TaskEvent};
use crate::core::ids::{BlobId, Seq};
use crate::core::run::Entry;

/// The kinds that `on` of `[notify]` may name.
pub const KINDS: [&str; 6] = ["alert", "review", "approval", "paused", "finished", "failed"];

/// What the command is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// `RUN:SEQ`.
    pub id: String,
    pub seq: Seq,
    /// The entry is the end of the run's stay: it is sent with the journal's head.
    pub ends: bool,
    /// The entry as `--json` prints it, with the notice under `notice`.
    pub json: serde_json::Value,
}

impl Notice {
    /// One line of JSON; `hash` is the chain's up to and with the entry.
    pub fn line(&self, hash: &Hash) -> String {
        let mut json = self.json.clone();
        if let Some(map) = json.as_object_mut().filter(|_| self.ends) {
            map.insert("head".to_owned(), BlobId(*hash).to_string().into());
        }
        json.to_string()
    }
}

/// The notice of an entry that `tally` has just folded, if it is one. The caller leaves out the kinds
/// that the crew has not asked for.
pub fn of(tally: &Tally, entry: &Entry) -> Option<Notice> {
    let (kind, text) = match &entry.event {
        Event::Run(RunEvent::Parked { .. }) => ("paused", ends::of(tally)?.lines.join("; ")),
        Event::Run(RunEvent::Finished { status, .. }) => {
            let text = format!("{} · {}", ends::of(tally)?.lines.join("; "), ends::money(tally));
            match status {
                RunEnd::Completed | RunEnd::Cancelled => ("finished", text),
                RunEnd::Failed => ("failed", text),
            }
        }
        Event::Run(RunEvent::Started(_) | RunEvent::Resumed { .. }) => return None,
        Event::Run(RunEvent::PauseAsked { .. } | RunEvent::CancelAsked { .. }) => return None,
        Event::Task(TaskEvent::NeedsReview { step, message, .. }) => ("review", format!("{step}: {message}")),
        Event::Task(TaskEvent::FileFailed { step, path, message }) => {
            ("review", format!("{step}: {path} could not be written: {message}"))
        }
        Event::Task(_) => return None,
        Event::Call(CallEvent::Answered(answered)) if answered.overrun => {
            ("alert", format!("{}: {} was billed, more than was held", answered.call, usd(answered.cost.usd)))
        }
        Event::Ledger(LedgerEvent::Alert { node, used, .. }) => {
            let forecast = tally.forecast_words().map(|words| format!("; {words}")).unwrap_or_default();
            ("alert", format!("{node}: {} spent or held{forecast}", usd(used.usd)))
        }
        Event::Ledger(LedgerEvent::Unguaranteed { node, aside, .. }) => {
            let text =
                format!("{node}: a result is no longer guaranteed: the endings ahead may need {}", usd(aside.usd));
            ("alert", text)
        }
        Event::Ledger(LedgerEvent::Degraded { node, limit, gives_up, .. }) => {
            ("alert", format!("{node} has no {limit} left for a call: from now on {gives_up}"))
        }
        Event::Ledger(LedgerEvent::Raised { .. } | LedgerEvent::Day { .. }) => return None,
        Event::Interrupt(InterruptEvent::Raised(raised)) => ("approval", asks(raised)),
        Event::Call(_) | Event::Tool(_) | Event::Interrupt(InterruptEvent::Decided { .. }) => return None,
    };
    let started = tally.started.as_deref()?;
    let id = format!("{}:{}", started.run, entry.seq);
    let line = json_line(&started.run, entry.seq, entry.at_ms, &entry.event.encode());
    let mut json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    json["notice"] = serde_json::json!({
        "id": id, "kind": kind, "crew": started.crew, "offline": started.offline, "text": text,
        "go_on": ends::of(tally).and_then(|end| end.command),
    });
    let ends = matches!(entry.event, Event::Run(_));
    Some(Notice { kind, id, seq: entry.seq, ends, json })
}
