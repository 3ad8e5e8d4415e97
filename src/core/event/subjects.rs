//! Who folds what. Invariant: every machine whose state depends on an event is named here; the
//! journal's routing, the conditional appends and the slices of a fold all read this table.

use std::collections::BTreeSet;

use super::{
    CallEvent, ErrorClass, Event, InterruptEvent, LedgerEvent, RunEvent, Subject, TaskEvent, TaskStatus, ToolEvent,
};
use crate::core::agent::DELEGATE;
use crate::core::ids::{AgentRef, Step};

/// The scopes of a run: the root, and every sub-crew that has begun. Itself a fold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scopes {
    crews: BTreeSet<Step>,
    /// Money is set aside for the endings of tasks: the ledger must know which are ahead.
    aside: bool,
}

impl Scopes {
    pub fn apply(&mut self, event: &Event) {
        if let Event::Task(TaskEvent::CrewStarted { step, .. }) = event {
            self.crews.insert(step.clone());
        }
        if let Event::Run(RunEvent::Started(started)) = event {
            self.aside = !started.aside.is_empty();
        }
    }
    pub fn contains(&self, step: &Step) -> bool {
        self.crews.contains(step)
    }
    /// `scope` and every scope above it.
    fn upwards(&self, scope: Step) -> Vec<Step> {
        let mut all = vec![scope];
        while let Some(last) = all.last().filter(|last| !last.is_root()) {
            all.push(self.of(last));
        }
        all
    }
    /// The scope whose coordinator owns `step`: the nearest sub-crew strictly above it, else the root.
    pub fn of(&self, step: &Step) -> Step {
        let mut above = step.parent();
        while let Some(step) = above {
            if step.is_root() || self.crews.contains(&step) {
                return step;
            }
            above = step.parent();
        }
        Step::root()
    }
}

impl TaskEvent {
    fn subjects(&self, scopes: &Scopes) -> Vec<Subject> {
        let plan = |step: &Step| Subject::Plan(scopes.of(step));
        let agent = |agent: &AgentRef| Subject::Agent(agent.clone());
        // What a run with money set aside tells its ledger besides.
        let and_ledger = |mut all: Vec<Subject>| {
            if scopes.aside && !all.contains(&Subject::Ledger) {
                all.push(Subject::Ledger);
            }
            all
        };
        // A sub-crew's own coordinator folds the beginning, parking and end of its task.
        let with_inner = |step: &Step| vec![plan(step), Subject::Plan(step.clone())];
        match self {
            TaskEvent::FannedOut { step, .. } | TaskEvent::Skipped { step, .. } => and_ledger(vec![plan(step)]),
            TaskEvent::FileWritten { step, .. } | TaskEvent::FileFailed { step, .. } => vec![plan(step)],
            TaskEvent::Crashed { step, .. } => vec![plan(step)],
            TaskEvent::RoundDecided { judge, .. } => vec![plan(judge)],
            TaskEvent::CrewStarted { step, .. } => and_ledger(with_inner(step)),
            TaskEvent::Parked { step, .. } => with_inner(step),
            TaskEvent::Assigned { step, agent: who, .. } => vec![plan(step), agent(who)],
            TaskEvent::AttemptFailed { agent: who, .. } => and_ledger(vec![agent(who)]),
            TaskEvent::Woken { agent: who, .. } => vec![agent(who)],
            TaskEvent::Shrunk { agent: who, .. } | TaskEvent::Concluding { agent: who, .. } => vec![agent(who)],
            TaskEvent::FellBack { agent: who, .. } => vec![agent(who)],
            TaskEvent::Summarising { agent: who, .. } | TaskEvent::Summarised { agent: who, .. } => vec![agent(who)],
            TaskEvent::Cooling { agent: who, .. } | TaskEvent::Cooled { agent: who, .. } => vec![agent(who)],
            TaskEvent::Accepted { step, agent: who, .. } => vec![plan(step), agent(who)],
            // Whether it is at work is the coordinator's to know, and an agent that is not up is raised by it.
            TaskEvent::Told { agent: who, .. } => vec![Subject::Plan(who.scope.clone()), agent(who)],
            TaskEvent::Heard { agent: who, .. } => vec![agent(who)],
            TaskEvent::NeedsReview { step, agent: who, .. } => {
                and_ledger(std::iter::once(plan(step)).chain(who.as_ref().map(agent)).collect())
            }
            TaskEvent::Retried { step, agent: who, .. } => {
                std::iter::once(plan(step)).chain(who.as_ref().map(agent)).collect()
            }
            TaskEvent::Finished { step, agent: who, result } => {
                let mut all = if scopes.contains(step) { with_inner(step) } else { vec![plan(step)] };
                all.extend(who.as_ref().map(agent));
                // Ended from above: a call of it may stand in a queue.
                let crashed = result.error.as_ref().is_some_and(|error| error.class == ErrorClass::Crashed);
                if result.status == TaskStatus::Cancelled || crashed {
                    all.push(Subject::Ledger);
                }
                and_ledger(all)
            }
            TaskEvent::Delegated { step, .. } => vec![plan(step)],
            TaskEvent::DelegationRefused { agent: who, .. } | TaskEvent::Returned { agent: who, .. } => {
                vec![Subject::Plan(who.scope.clone()), agent(who)]
            }
        }
    }
}

impl InterruptEvent {
    fn subjects(&self, scopes: &Scopes) -> Vec<Subject> {
        let scope =
            |step: &Step, who: &Option<AgentRef>| who.as_ref().map_or_else(|| scopes.of(step), |who| who.scope.clone());
        let agent = |who: &Option<AgentRef>| who.clone().map(Subject::Agent);
        match self {
            InterruptEvent::Raised(raised) => {
                std::iter::once(Subject::Plan(scope(&raised.step, &raised.agent))).chain(agent(&raised.agent)).collect()
            }
            // Whatever stood still for it, up to the top crew, may go on.
            InterruptEvent::Decided { step, agent: who, .. } => {
                let plans = scopes.upwards(scope(step, who)).into_iter().map(Subject::Plan);
                plans.chain(agent(who)).collect()
            }
        }
    }
}

impl Event {
    /// Whoever folds this event. `scopes` has folded every earlier one.
    pub fn subjects(&self, scopes: &Scopes) -> Vec<Subject> {
        let agent = |agent: &AgentRef| Subject::Agent(agent.clone());
        match self {
            Event::Run(_) => vec![Subject::All],
            Event::Task(event) => event.subjects(scopes),
            Event::Call(event) => match event {
                CallEvent::Held(held) if held.waited => {
                    vec![Subject::Ledger, agent(&held.agent), Subject::Plan(held.agent.scope.clone())]
                }
                CallEvent::Held(held) => vec![Subject::Ledger, agent(&held.agent)],
                CallEvent::Queued { agent: who, .. } | CallEvent::Exhausted { agent: who, .. } => {
                    vec![Subject::Ledger, agent(who), Subject::Plan(who.scope.clone())]
                }
                CallEvent::Answered(answered) => vec![Subject::Ledger, agent(&answered.agent)],
                // Nobody's key or quota works any more: the whole run pauses.
                CallEvent::Failed { failure, .. } if failure.class.stops_the_run() => vec![Subject::All],
                CallEvent::Failed { agent: who, .. } | CallEvent::Lost { agent: who, .. } => {
                    vec![Subject::Ledger, agent(who)]
                }
                CallEvent::Settled { .. } => vec![Subject::Ledger],
            },
            Event::Tool(event) => match event {
                ToolEvent::Started { agent: who, tool, .. } if tool == DELEGATE => {
                    vec![Subject::Plan(who.scope.clone()), agent(who)]
                }
                ToolEvent::Started { agent: who, .. } => vec![agent(who)],
                ToolEvent::Refused { agent: who, .. } | ToolEvent::Returned { agent: who, .. } => vec![agent(who)],
            },
            Event::Interrupt(event) => event.subjects(scopes),
            Event::Ledger(event) => match event {
                LedgerEvent::Alert { .. } | LedgerEvent::Unguaranteed { .. } => vec![Subject::Ledger],
                LedgerEvent::Day { .. } => vec![Subject::Ledger],
                // Every agent asks otherwise, every plan may skip.
                LedgerEvent::Raised { .. } | LedgerEvent::Degraded { .. } => vec![Subject::All],
            },
        }
    }

    /// Decided by the world, not by a machine: replay takes it as an input.
    pub fn is_outside(&self) -> bool {
        match self {
            Event::Run(event) => match event {
                RunEvent::Started(_) | RunEvent::Resumed { .. } => true,
                RunEvent::PauseAsked { .. } | RunEvent::CancelAsked { .. } => true,
                RunEvent::Parked { .. } | RunEvent::Finished { .. } => false,
            },
            Event::Task(event) => match event {
                TaskEvent::FileWritten { .. } | TaskEvent::FileFailed { .. } | TaskEvent::Retried { .. } => true,
                TaskEvent::Cooling { .. } | TaskEvent::Cooled { .. } => true,
                TaskEvent::Crashed { .. } | TaskEvent::Woken { .. } | TaskEvent::Accepted { .. } => true,
                TaskEvent::Told { .. } => true,
                TaskEvent::FannedOut { .. } | TaskEvent::Assigned { .. } | TaskEvent::CrewStarted { .. } => false,
                TaskEvent::Skipped { .. } | TaskEvent::AttemptFailed { .. } | TaskEvent::NeedsReview { .. } => false,
                TaskEvent::Finished { .. } | TaskEvent::RoundDecided { .. } | TaskEvent::Delegated { .. } => false,
                TaskEvent::DelegationRefused { .. } | TaskEvent::Returned { .. } => false,
                TaskEvent::Parked { .. } | TaskEvent::Shrunk { .. } | TaskEvent::Concluding { .. } => false,
                TaskEvent::FellBack { .. } | TaskEvent::Heard { .. } => false,
                TaskEvent::Summarising { .. } | TaskEvent::Summarised { .. } => false,
            },
            Event::Call(event) => match event {
                CallEvent::Answered(_) | CallEvent::Failed { .. } | CallEvent::Lost { .. } => true,
                CallEvent::Settled { .. } => true,
                CallEvent::Held(_) | CallEvent::Queued { .. } | CallEvent::Exhausted { .. } => false,
            },
            Event::Tool(event) => match event {
                ToolEvent::Returned { .. } => true,
                ToolEvent::Started { .. } | ToolEvent::Refused { .. } => false,
            },
            Event::Interrupt(event) => match event {
                InterruptEvent::Decided { .. } => true,
                InterruptEvent::Raised(raised) => raised.server().is_some(),
            },
            Event::Ledger(event) => match event {
                LedgerEvent::Raised { .. } | LedgerEvent::Day { .. } => true,
                LedgerEvent::Alert { .. } | LedgerEvent::Unguaranteed { .. } => false,
                LedgerEvent::Degraded { .. } => false,
            },
        }
    }
}
