//! Replay: the proof that state is the fold. Invariant: events from outside are taken as they are;
//! every other entry must be, byte for byte, what the machine named by its kind would write on the
//! prefix before it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Entry, Run};
use crate::core::crew::Crew;
use crate::core::event::{CallEvent, Event, InterruptEvent, LedgerEvent, RunEvent, TaskEvent, ToolEvent};
use crate::core::ids::{RunId, Seq, Step};
use crate::core::machine::{Decided, Refusal, Sizes, Texts, World};
use crate::core::plan::PlanStep;

/// The first entry that its machine would not have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} ({kind}): {why}")]
pub struct Divergence {
    pub seq: Seq,
    pub kind: &'static str,
    pub why: String,
}

/// A run being replayed, entry by entry.
pub struct Replay<'a> {
    run: Run,
    id: RunId,
    texts: &'a dyn Texts,
    sizes: &'a dyn Sizes,
    /// The rest of the decision whose first event was the last entry checked: appended together.
    due: VecDeque<Vec<u8>>,
    /// Entries derived again, and taken from outside.
    pub derived: u64,
    pub outside: u64,
}

impl<'a> Replay<'a> {
    pub fn new(id: RunId, crew: Arc<Crew>, texts: &'a dyn Texts, sizes: &'a dyn Sizes) -> Replay<'a> {
        Replay { run: Run::new(crew), id, texts, sizes, due: VecDeque::new(), derived: 0, outside: 0 }
    }

    /// Checks one entry against its stored payload, then folds it.
    pub fn step(&mut self, entry: &Entry, payload: &[u8]) -> Result<(), Divergence> {
        let diverged = |why: String| Divergence { seq: entry.seq, kind: entry.event.kind(), why };
        if let Some(expected) = self.due.pop_front() {
            if expected != payload {
                return Err(diverged(differs(&expected, payload)));
            }
            self.derived += 1;
        } else if entry.event.is_outside() {
            self.outside += 1;
        } else {
            let decided = self.derive(&entry.event).map_err(|refusal| diverged(format!("not willing: {refusal}")))?;
            let mut batch: VecDeque<Vec<u8>> = decided.events.iter().map(Event::encode).collect();
            let first = batch.pop_front().ok_or_else(|| diverged("nothing would be written".into()))?;
            if first != payload {
                return Err(diverged(differs(&first, payload)));
            }
            self.due = batch;
            self.derived += 1;
        }
        self.run.apply(entry).map_err(|illegal| diverged(illegal.to_string()))
    }

    /// At the end of the journal: no decision may be half there.
    pub fn finish(self) -> Result<Run, Divergence> {
        match self.due.front() {
            None => Ok(self.run),
            Some(rest) => Err(Divergence {
                seq: self.run.last.next(),
                kind: "end of journal",
                why: format!("a decision is cut off before {}", String::from_utf8_lossy(rest)),
            }),
        }
    }

    /// What the machine named by the event's kind decides on this prefix.
    fn derive(&self, event: &Event) -> Result<Decided, Refusal> {
        let world = World { run: &self.id, crew: &self.run.crew, texts: self.texts, sizes: self.sizes };
        let plan = |step: &Step, what: PlanStep| self.run.decide_plan(world, &self.run.scopes.of(step), &what);
        match event {
            Event::Run(event) => match event {
                RunEvent::Parked { .. } => self.run.decide_plan(world, &Step::root(), &PlanStep::Park),
                RunEvent::Finished { .. } => self.run.decide_plan(world, &Step::root(), &PlanStep::Finish),
                RunEvent::Started(_) | RunEvent::Resumed { .. } => Err(outside()),
                RunEvent::PauseAsked { .. } | RunEvent::CancelAsked { .. } => Err(outside()),
            },
            Event::Task(event) => self.derive_task(world, event, plan),
            Event::Call(event) => match event {
                CallEvent::Held(held) => self.run.decide_agent(world, &held.agent),
                CallEvent::Queued { agent, .. } | CallEvent::Exhausted { agent, .. } => {
                    self.run.decide_agent(world, agent)
                }
                CallEvent::Answered(_) | CallEvent::Failed { .. } => Err(outside()),
                CallEvent::Lost { .. } | CallEvent::Settled { .. } => Err(outside()),
            },
            Event::Tool(event) => match event {
                ToolEvent::Started { agent, .. } | ToolEvent::Refused { agent, .. } => {
                    self.run.decide_agent(world, agent)
                }
                ToolEvent::Returned { .. } => Err(outside()),
            },
            Event::Interrupt(event) => match event {
                InterruptEvent::Raised(raised) => match &raised.agent {
                    _ if raised.server().is_some() => Err(outside()),
                    Some(agent) => self.run.decide_agent(world, agent),
                    None => plan(&raised.step, PlanStep::Start(raised.step.with_round(None))),
                },
                InterruptEvent::Decided { .. } => Err(outside()),
            },
            Event::Ledger(event) => match event {
                LedgerEvent::Alert { .. } => Err(Refusal::NotDue("an alert follows its hold".into())),
                LedgerEvent::Unguaranteed { .. } => Err(Refusal::NotDue("it follows the ledger's decision".into())),
                LedgerEvent::Degraded { agent, .. } => self.run.decide_agent(world, agent),
                LedgerEvent::Raised { .. } | LedgerEvent::Day { .. } => Err(outside()),
            },
        }
    }

    fn derive_task(
        &self,
        world: World<'_>,
        event: &TaskEvent,
        plan: impl Fn(&Step, PlanStep) -> Result<Decided, Refusal>,
    ) -> Result<Decided, Refusal> {
        let start = |step: &Step| plan(step, PlanStep::Start(step.with_round(None)));
        match event {
            TaskEvent::FannedOut { step, .. } | TaskEvent::Assigned { step, .. } => start(step),
            TaskEvent::CrewStarted { step, .. } | TaskEvent::Skipped { step, .. } => start(step),
            TaskEvent::NeedsReview { step, agent: None, .. } => start(step),
            TaskEvent::NeedsReview { agent: Some(agent), .. } | TaskEvent::AttemptFailed { agent, .. } => {
                self.run.decide_agent(world, agent)
            }
            TaskEvent::Shrunk { agent, .. }
            | TaskEvent::Concluding { agent, .. }
            | TaskEvent::Summarising { agent, .. }
            | TaskEvent::Summarised { agent, .. }
            | TaskEvent::FellBack { agent, .. }
            | TaskEvent::Heard { agent, .. } => self.run.decide_agent(world, agent),
            TaskEvent::Finished { step, agent, result } => self.derive_end(world, step, agent.as_ref(), result, plan),
            TaskEvent::RoundDecided { judge, .. } => plan(judge, PlanStep::DecideRound(judge.with_round(None))),
            TaskEvent::Delegated { from, index, agent, .. }
            | TaskEvent::DelegationRefused { from, index, agent, .. } => {
                let step = PlanStep::Delegate { call: from.clone(), index: *index };
                self.run.decide_plan(world, &agent.scope, &step)
            }
            TaskEvent::Returned { step, agent, .. } => {
                self.run.decide_plan(world, &agent.scope, &PlanStep::Return(step.clone()))
            }
            TaskEvent::Parked { step, .. } => self.run.decide_plan(world, step, &PlanStep::Park),
            TaskEvent::Retried { .. } | TaskEvent::FileWritten { .. } | TaskEvent::FileFailed { .. } => Err(outside()),
            TaskEvent::Cooling { .. } | TaskEvent::Cooled { .. } => Err(outside()),
            TaskEvent::Crashed { .. } | TaskEvent::Woken { .. } | TaskEvent::Accepted { .. } => Err(outside()),
            TaskEvent::Told { .. } => Err(outside()),
        }
    }

    /// An end is decided by the agent, by the coordinator of the step, or by that of the sub-crew.
    fn derive_end(
        &self,
        world: World<'_>,
        step: &Step,
        agent: Option<&crate::core::ids::AgentRef>,
        result: &crate::core::event::TaskResult,
        plan: impl Fn(&Step, PlanStep) -> Result<Decided, Refusal>,
    ) -> Result<Decided, Refusal> {
        use crate::core::event::{ErrorClass, TaskStatus};
        let class = result.error.as_ref().map(|error| error.class);
        if result.status == TaskStatus::Cancelled && !self.run.scopes.contains(step) {
            // The first of a cancelled tree: whichever coordinator would cancel exactly this.
            return plan(step, PlanStep::Cancel);
        }
        match agent {
            Some(_) if class == Some(ErrorClass::Crashed) => plan(step, PlanStep::FailCrashed(step.clone())),
            Some(agent) => self.run.decide_agent(world, agent),
            None if self.run.scopes.contains(step) => self.run.decide_plan(world, step, &PlanStep::Finish),
            // A list may fail with its items' error, of whatever class.
            None if class == Some(ErrorClass::Template) => plan(step, PlanStep::CloseList(step.clone()))
                .or_else(|_| plan(step, PlanStep::Start(step.with_round(None)))),
            None if class == Some(ErrorClass::Rejected) => plan(step, PlanStep::Reject(step.with_round(None)))
                .or_else(|_| plan(step, PlanStep::CloseList(step.clone()))),
            None => plan(step, PlanStep::CloseList(step.clone())),
        }
    }
}

fn outside() -> Refusal {
    Refusal::NotDue("it comes from outside".into())
}

fn differs(expected: &[u8], found: &[u8]) -> String {
    let (expected, found) = (String::from_utf8_lossy(expected), String::from_utf8_lossy(found));
    format!("the machine would write {expected}, the journal has {found}")
}
