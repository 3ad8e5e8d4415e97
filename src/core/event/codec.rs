//! Events as bytes. Invariant: encoding is deterministic, so that replay can compare bytes, and
//! decoding refuses what it does not know by name.

use serde::de::DeserializeOwned;

use super::{CallEvent, Event, InterruptEvent, LedgerEvent, RunEvent, TaskEvent, ToolEvent, VERSION};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    #[error("payload format {found}; this bosun reads formats up to {VERSION}: use the newer bosun that wrote it")]
    Newer { found: u32 },
    #[error("unknown kind of event `{0}`")]
    UnknownKind(String),
    #[error("{kind}: {why}")]
    Malformed { kind: String, why: String },
}

impl Event {
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Run(event) => match event {
                RunEvent::Started(_) => "run.started",
                RunEvent::Resumed { .. } => "run.resumed",
                RunEvent::PauseAsked { .. } => "run.pause_asked",
                RunEvent::CancelAsked { .. } => "run.cancel_asked",
                RunEvent::Parked { .. } => "run.parked",
                RunEvent::Finished { .. } => "run.finished",
            },
            Event::Task(event) => match event {
                TaskEvent::FannedOut { .. } => "task.fanned_out",
                TaskEvent::Assigned { .. } => "task.assigned",
                TaskEvent::CrewStarted { .. } => "task.crew_started",
                TaskEvent::Skipped { .. } => "task.skipped",
                TaskEvent::AttemptFailed { .. } => "task.attempt_failed",
                TaskEvent::NeedsReview { .. } => "task.needs_review",
                TaskEvent::Retried { .. } => "task.retried",
                TaskEvent::Finished { .. } => "task.finished",
                TaskEvent::RoundDecided { .. } => "task.round_decided",
                TaskEvent::Delegated { .. } => "task.delegated",
                TaskEvent::DelegationRefused { .. } => "task.delegation_refused",
                TaskEvent::Returned { .. } => "task.returned",
                TaskEvent::Parked { .. } => "task.parked",
                TaskEvent::FileWritten { .. } => "task.file_written",
                TaskEvent::FileFailed { .. } => "task.file_failed",
                TaskEvent::Crashed { .. } => "task.crashed",
                TaskEvent::Woken { .. } => "task.woken",
                TaskEvent::Shrunk { .. } => "task.shrunk",
                TaskEvent::Concluding { .. } => "task.concluding",
                TaskEvent::Summarising { .. } => "task.summarising",
                TaskEvent::Summarised { .. } => "task.summarised",
                TaskEvent::FellBack { .. } => "task.fell_back",
                TaskEvent::Cooling { .. } => "task.cooling",
                TaskEvent::Cooled { .. } => "task.cooled",
                TaskEvent::Accepted { .. } => "task.accepted",
                TaskEvent::Told { .. } => "agent.told",
                TaskEvent::Heard { .. } => "agent.heard",
            },
            Event::Call(event) => match event {
                CallEvent::Held(_) => "call.held",
                CallEvent::Queued { .. } => "call.queued",
                CallEvent::Exhausted { .. } => "call.exhausted",
                CallEvent::Answered(_) => "call.answered",
                CallEvent::Failed { .. } => "call.failed",
                CallEvent::Lost { .. } => "call.lost",
                CallEvent::Settled { .. } => "call.settled",
            },
            Event::Tool(event) => match event {
                ToolEvent::Started { .. } => "tool.started",
                ToolEvent::Refused { .. } => "tool.refused",
                ToolEvent::Returned { .. } => "tool.returned",
            },
            Event::Interrupt(event) => match event {
                InterruptEvent::Raised(_) => "interrupt.raised",
                InterruptEvent::Decided { .. } => "interrupt.decided",
            },
            Event::Ledger(event) => match event {
                LedgerEvent::Alert { .. } => "budget.alert",
                LedgerEvent::Raised { .. } => "budget.raised",
                LedgerEvent::Unguaranteed { .. } => "budget.unguaranteed",
                LedgerEvent::Day { .. } => "budget.day",
                LedgerEvent::Degraded { .. } => "budget.degraded",
            },
        }
    }

    /// The payload: `{"v":1,"type":…,…}`.
    pub fn encode(&self) -> Vec<u8> {
        const HEAD: &[u8] = b"{\"v\":1";
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(HEAD);
        // Events hold strings, integers and maps with string keys: serialisation cannot fail.
        let written = match self {
            Event::Run(event) => serde_json::to_writer(&mut out, event),
            Event::Task(event) => serde_json::to_writer(&mut out, event),
            Event::Call(event) => serde_json::to_writer(&mut out, event),
            Event::Tool(event) => serde_json::to_writer(&mut out, event),
            Event::Interrupt(event) => serde_json::to_writer(&mut out, event),
            Event::Ledger(event) => serde_json::to_writer(&mut out, event),
        };
        debug_assert!(written.is_ok());
        // The event's own `{` becomes the `,` after the version.
        out[HEAD.len()] = b',';
        out
    }

    pub fn decode(kind: &str, payload: &[u8]) -> Result<Event, BadEvent> {
        fn read<T: DeserializeOwned>(kind: &str, payload: &[u8]) -> Result<T, BadEvent> {
            serde_json::from_slice(payload)
                .map_err(|error| BadEvent::Malformed { kind: kind.to_owned(), why: error.to_string() })
        }
        #[derive(serde::Deserialize)]
        struct Head {
            v: u32,
        }
        if !payload.starts_with(b"{\"v\":1,") {
            let Head { v } = read(kind, payload)?;
            if v > VERSION {
                return Err(BadEvent::Newer { found: v });
            }
        }
        match kind.split_once('.').map(|(family, _)| family) {
            Some("run") => read(kind, payload).map(Event::Run),
            Some("task" | "agent") => read(kind, payload).map(Event::Task),
            Some("call") => read(kind, payload).map(Event::Call),
            Some("tool") => read(kind, payload).map(Event::Tool),
            Some("interrupt") => read(kind, payload).map(Event::Interrupt),
            Some("budget") => read(kind, payload).map(Event::Ledger),
            _ => Err(BadEvent::UnknownKind(kind.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Step;

    #[test]
    fn a_payload_says_its_version_and_kind_and_reads_back() {
        let event = Event::Task(TaskEvent::Skipped {
            step: Step::parse("draft").unwrap(),
            because: "`when`".into(),
            upstream: false,
        });
        let bytes = event.encode();
        assert_eq!(
            std::str::from_utf8(&bytes).unwrap(),
            r#"{"v":1,"type":"task.skipped","step":"draft","because":"`when`","upstream":false}"#
        );
        assert_eq!(Event::decode(event.kind(), &bytes).unwrap(), event);
    }

    #[test]
    fn what_is_newer_or_unknown_is_refused_by_name() {
        let newer = br#"{"v":2,"type":"task.skipped","step":"draft","because":""}"#;
        assert_eq!(Event::decode("task.skipped", newer), Err(BadEvent::Newer { found: 2 }));
        assert_eq!(Event::decode("dream.began", b"{\"v\":1,}"), Err(BadEvent::UnknownKind("dream.began".into())));
        assert!(matches!(
            Event::decode("task.skipped", b"{\"v\":1,\"type\":\"task.skipped\"}"),
            Err(BadEvent::Malformed { .. })
        ));
    }
}
