//! Which entries a person is told about outside the terminal. Invariant: a pure function of the entry
//! and the fold before it; the id is `RUN:SEQ`, the same however often it is sent.

use super::ends;
use super::screen::{rfc3339, usd};
use super::tally::Tally;
use crate::core::event::{CallEvent, Event, LedgerEvent, RunEnd, RunEvent, TaskEvent};
use crate::core::run::Entry;

/// The kinds that `on` of `[notify]` may name. `approval` has no event yet.
pub const KINDS: [&str; 6] = ["alert", "review", "approval", "paused", "finished", "failed"];

/// What the command is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// `RUN:SEQ`.
    pub id: String,
    /// One JSON object.
    pub json: String,
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
            ("alert", format!("{node}: {} spent or held", usd(used.usd)))
        }
        Event::Call(_) | Event::Tool(_) | Event::Ledger(LedgerEvent::Raised { .. }) => return None,
    };
    let started = tally.started.as_deref()?;
    let id = format!("{}:{}", started.run, entry.seq);
    let event: serde_json::Value = serde_json::from_slice(&entry.event.encode()).unwrap_or_default();
    let json = serde_json::json!({
        "v": 1, "id": id, "kind": kind, "run": started.run, "crew": started.crew, "offline": started.offline,
        "seq": entry.seq, "ts": rfc3339(entry.at_ms), "text": text,
        "go_on": ends::of(tally).and_then(|end| end.command), "event": event,
    });
    Some(Notice { kind, id, json: json.to_string() })
}
