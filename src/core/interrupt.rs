//! The interrupts of a run. Invariant: one is open from the entry that raised it until it is decided, its
//! time is over, or what waited for it has ended; whatever is decided of one that is not open is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chat::Message;
use super::event::{Decision, Event, InterruptEvent, InterruptKind, Msg, Raised, RunEvent, TaskEvent, ToolEvent};
use super::ids::{InterruptId, Seq};
use super::machine::Decided;
use super::run::Entry;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    all: BTreeMap<InterruptId, Interrupt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    pub raised: Raised,
    pub seq: Seq,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    pub stand: Stand,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    Open,
    Decided {
        decision: Decision,
        by: String,
        at_ms: u64,
    },
    /// Nothing waits for it any more.
    Void(&'static str),
}

/// What a person says, on its way to the owner of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// With these arguments, or this text of a result, where a person changed them.
    Approve {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<String>,
    },
    Reject {
        reason: String,
    },
    Answer {
        text: String,
    },
}

/// A verdict with the interrupt it is about: the payload of an inbox row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    pub id: InterruptId,
    pub verdict: Verdict,
}

/// Inbox rows about interrupts begin so; the id follows: one row for each.
pub const RULING: &str = "decide:";
/// Kinds of entries that [`Interrupts::apply`] looks at.
const KINDS: [&str; 8] = [
    "interrupt.raised",
    "interrupt.decided",
    "task.finished",
    "tool.returned",
    "run.cancel_asked",
    "run.finished",
    "run.parked",
    "run.resumed",
];

/// Why a decision changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpen {
    #[error("there is no approval or question {0}")]
    Unknown(InterruptId),
    #[error("{id} was {what} by {by} already: a decision counts once")]
    Decided { id: InterruptId, what: &'static str, by: String },
    #[error("{id} was open for {} and its time is over", words(*.expires_ms))]
    Late { id: InterruptId, expires_ms: u64 },
    #[error("{id} is void: {why}")]
    Void { id: InterruptId, why: &'static str },
    #[error("{id} is {kind}: it can be {may}")]
    Unfit { id: InterruptId, kind: &'static str, may: &'static str },
}

impl Interrupt {
    /// When its time is over, in milliseconds since the epoch.
    pub fn ends_ms(&self) -> Option<u64> {
        self.raised.expires_ms.map(|time| self.at_ms.saturating_add(time))
    }
    pub fn is_late(&self, now_ms: u64) -> bool {
        self.ends_ms().is_some_and(|ends| now_ms >= ends)
    }
    pub fn is_open(&self) -> bool {
        self.stand == Stand::Open
    }
    /// The event that decides it.
    pub fn decided(&self, decision: Decision, by: String) -> Event {
        let Raised { id, step, agent, .. } = self.raised.clone();
        Event::Interrupt(InterruptEvent::Decided { id, step, agent, decision, by })
    }
}

impl Interrupts {
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Interrupt(InterruptEvent::Raised(raised)) => {
                let (raised, seq, at_ms) = (Raised::clone(raised), entry.seq, entry.at_ms);
                let id = raised.id.clone();
                self.all.insert(id, Interrupt { raised, seq, at_ms, stand: Stand::Open });
            }
            Event::Interrupt(InterruptEvent::Decided { id, decision, by, .. }) => {
                if let Some(one) = self.all.get_mut(id).filter(|one| one.is_open()) {
                    one.stand = Stand::Decided { decision: decision.clone(), by: by.clone(), at_ms: entry.at_ms };
                }
            }
            Event::Task(TaskEvent::Finished { step, .. }) => self.void("its task has ended", |of| of.step == *step),
            Event::Run(RunEvent::CancelAsked { .. }) => self.void("its run was cancelled", |_| true),
            Event::Run(RunEvent::Finished { .. }) => self.void("its run is over", |_| true),
            Event::Tool(ToolEvent::Returned { call, index, .. }) => self
                .void("the call that asked it has ended", |of| {
                    of.server().is_some() && of.call.as_ref() == Some(call) && of.index == *index
                }),
            Event::Run(RunEvent::Parked { .. } | RunEvent::Resumed { .. }) => self.process_ended(),
            Event::Run(_) | Event::Task(_) | Event::Call(_) | Event::Tool(_) | Event::Ledger(_) => {}
        }
    }

    fn void(&mut self, why: &'static str, of: impl Fn(&Raised) -> bool) {
        for one in self.all.values_mut().filter(|one| one.is_open() && of(&one.raised)) {
            one.stand = Stand::Void(why);
        }
    }

    /// The process that ran the calls under way is gone.
    pub fn process_ended(&mut self) {
        self.void("the process whose call asked it has ended", |of| of.server().is_some());
    }

    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Interrupts {
        let mut all = Interrupts::default();
        entries.into_iter().for_each(|entry| all.apply(entry));
        all
    }

    pub fn get(&self, id: &InterruptId) -> Option<&Interrupt> {
        self.all.get(id)
    }
    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Interrupt> {
        self.all.values()
    }
    /// What may still be decided, in the order it was raised.
    pub fn open(&self) -> Vec<&Interrupt> {
        let mut open: Vec<&Interrupt> = self.all.values().filter(|one| one.is_open()).collect();
        open.sort_by_key(|one| one.seq);
        open
    }

    /// Does an entry of this kind change anything here? Whoever only wants this fold need not read the rest.
    pub fn looks_at(kind: &str) -> bool {
        KINDS.contains(&kind)
    }

    /// The event of a ruling that was made at `at_ms`, and the texts it refers to.
    ///
    /// # Errors
    /// Why it changes nothing; then nothing is written.
    pub fn rule(&self, ruling: &Ruling, by: &str, at_ms: u64) -> Result<Decided, NotOpen> {
        let mut decided = Decided::default();
        let raised = self.all.get(&ruling.id).map(|one| &one.raised);
        let decision = match &ruling.verdict {
            Verdict::Approve { arguments } => {
                Decision::Approved { arguments: arguments.as_ref().map(|text| decided.keep(text.as_str())) }
            }
            Verdict::Reject { reason } => Decision::Rejected { reason: reason.clone() },
            Verdict::Answer { text } => {
                let tool_call_id = raised.map(|raised| raised.ask.clone()).unwrap_or_default();
                let content: Msg = decided.message(&Message::Tool { tool_call_id, content: text.clone() });
                Decision::Answered { content }
            }
        };
        let one = self.may(&ruling.id, &decision, at_ms)?;
        decided.events.push(one.decided(decision, by.to_owned()));
        Ok(decided)
    }

    /// What nobody decided in time, as the events that say so.
    pub fn expired(&self, now_ms: u64) -> Vec<Event> {
        let late = self.open().into_iter().filter(|one| one.is_late(now_ms));
        late.map(|one| one.decided(Decision::Expired, "time".to_owned())).collect()
    }

    /// The interrupt that this decision is about, if it may be decided so at this time.
    ///
    /// # Errors
    /// Why it may not; then nothing is written.
    pub fn may(&self, id: &InterruptId, decision: &Decision, now_ms: u64) -> Result<&Interrupt, NotOpen> {
        let one = self.all.get(id).ok_or_else(|| NotOpen::Unknown(id.clone()))?;
        let id = id.clone();
        match &one.stand {
            Stand::Open => {}
            Stand::Decided { decision, by, .. } => {
                return Err(NotOpen::Decided { id, what: decision.as_str(), by: by.clone() });
            }
            Stand::Void(why) => return Err(NotOpen::Void { id, why }),
        }
        let late = one.raised.expires_ms.filter(|_| one.is_late(now_ms) && *decision != Decision::Expired);
        if let Some(expires_ms) = late {
            return Err(NotOpen::Late { id, expires_ms });
        }
        let unfit = |kind, may| Err(NotOpen::Unfit { id: id.clone(), kind, may });
        match (one.raised.kind, decision) {
            (InterruptKind::Question, Decision::Approved { .. }) => unfit("a question", "answered or rejected"),
            (InterruptKind::Approval | InterruptKind::After, Decision::Answered { .. }) => {
                unfit("an approval", "approved, changed or rejected")
            }
            (InterruptKind::Before, Decision::Answered { .. } | Decision::Approved { arguments: Some(_) }) => {
                unfit("an approval of a task that has not begun", "approved as it is, or rejected")
            }
            (InterruptKind::Question, Decision::Answered { .. })
            | (InterruptKind::Approval | InterruptKind::After, Decision::Approved { .. })
            | (InterruptKind::Before, Decision::Approved { arguments: None })
            | (_, Decision::Rejected { .. } | Decision::Expired) => Ok(one),
        }
    }
}

/// A duration as a crew file writes it: the largest unit that is exact.
pub fn words(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let exact = units.iter().find(|(of, _)| ms >= *of && ms.is_multiple_of(*of));
    // A day is said in hours, as `expires` is.
    match exact {
        Some((_, "d")) if ms < 2 * 86_400_000 => format!("{}h", ms / 3_600_000),
        Some((of, unit)) => format!("{}{unit}", ms / of),
        None => format!("{ms}ms"),
    }
}
