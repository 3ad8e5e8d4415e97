//! The budget of a run. Invariant: at every node of the budget tree and after every event,
//! `settled + held + ambiguous <= cap`, except for what a provider billed beyond the bound that was
//! stated (an overrun, booked in full).
//!
//! ```text
//! (asked) --Held--> open --Answered--> settled        open --Failed, provably unbilled--> released
//!    |               open --Lost, Failed otherwise--> ambiguous --Settled (by hand)--> settled
//!    +--Queued--> waiting --Held | Exhausted
//! ```
//!
//! Holds are facts in the journal, never increments of a counter: the sums of every node are the
//! fold of the same events, so nothing can leak over a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::event::{AlertAt, CallEvent, Event, LedgerEvent, RunEvent, TaskEvent};
use super::ids::{BadId, CallId, Name, Step};
use super::machine::{Control, IllegalEvent};
use super::money::{Amount, Caps, NanoUsd};

mod aside;
mod day;
mod decide;
mod exact;
mod path;
mod settle;
pub use aside::{Asides, SetAside};
pub use day::{Day, DayAsk, DayShare, PotRow, divide};
pub use decide::HoldRequest;
pub use exact::Countable;
pub use path::path;
pub use settle::{Settlement, settlement};

/// A node of the budget tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeId {
    /// A crew or sub-crew, by the scope of its tasks (the root scope: the top crew).
    Crew(Step),
    /// A task of a crew file over all its items, rounds and attempts.
    Task(Step),
    /// An agent of a scope over all its tasks.
    Agent(Step, Name),
    /// A day of the top crew, over all its runs.
    Day(Day),
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeId::Crew(scope) if scope.is_root() => f.write_str("crew"),
            NodeId::Crew(scope) => write!(f, "crew {scope}"),
            NodeId::Task(step) => write!(f, "task {step}"),
            NodeId::Agent(scope, name) if scope.is_root() => write!(f, "agent {name}"),
            NodeId::Agent(scope, name) => write!(f, "agent {scope}:{name}"),
            NodeId::Day(day) => write!(f, "day {day}"),
        }
    }
}
impl FromStr for NodeId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<NodeId, BadId> {
        let wrong = || BadId {
            what: "budget node",
            found: text.to_owned(),
            expected: "crew, crew S, task S, agent S:N or day D",
        };
        match text.split_once(' ') {
            None if text == "crew" => Ok(NodeId::Crew(Step::root())),
            Some(("crew", step)) => Ok(NodeId::Crew(step.parse()?)),
            Some(("day", day)) => Ok(NodeId::Day(day.parse()?)),
            Some(("task", step)) => Ok(NodeId::Task(step.parse()?)),
            Some(("agent", who)) => {
                let (scope, name) = who.rsplit_once(':').unwrap_or(("", who));
                Ok(NodeId::Agent(scope.parse()?, name.parse()?))
            }
            _ => Err(wrong()),
        }
    }
}
impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The sums of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Sums {
    pub settled: Amount,
    /// Open holds: calls in flight.
    pub held: Amount,
    /// Holds of calls that may have been billed: at worst case until settled by hand.
    pub ambiguous: Amount,
    /// What was billed beyond holds; part of `settled`.
    pub overrun: Amount,
    alerted: BTreeSet<AlertAt>,
    /// Calls waiting for this node, first come first served.
    queue: Vec<CallId>,
}

impl Sums {
    /// Everything the cap must cover.
    pub fn used(&self) -> Amount {
        self.settled.plus(self.held).plus(self.ambiguous)
    }
    /// What stays used even if every open hold settles at zero.
    pub fn firm(&self) -> Amount {
        self.settled.plus(self.ambiguous)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Hold {
    pub amount: Amount,
    pub nodes: Vec<NodeId>,
    pub ambiguous: bool,
    /// The unit whose set-aside it stands for.
    covers: Option<Step>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Ledger {
    /// Of the top crew, after raises.
    pub caps: Caps,
    pub nodes: BTreeMap<NodeId, Sums>,
    /// Open and ambiguous holds.
    pub holds: BTreeMap<CallId, Hold>,
    /// Calls that wait, with the node that refused them and what they need.
    waiting: BTreeMap<CallId, (NodeId, Amount)>,
    /// Crews in which a provider billed beyond its bound: no new holds until the budget is raised.
    stopped: BTreeSet<Step>,
    asides: Asides,
    /// Steps of `degrade` that are given up.
    degraded: u32,
    /// What the run has of the latest day it asked for.
    day: Option<DayShare>,
    control: Control,
}

/// What the ledger's shell must do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerStep {
    /// Decide again on a call that waits.
    Try(CallId),
}

impl Ledger {
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        match event {
            Event::Run(event) => {
                self.control.apply(event);
                match event {
                    RunEvent::Started(started) => {
                        self.caps = started.caps;
                        self.asides.begin(&started.aside);
                    }
                    // At rest it gives back what it did not use.
                    RunEvent::Parked { .. } | RunEvent::Resumed { .. } | RunEvent::Finished { .. } => {
                        self.day = self.day.map(|share| DayShare { open: false, ..share });
                    }
                    RunEvent::PauseAsked { .. } | RunEvent::CancelAsked { .. } => {}
                }
                Ok(())
            }
            Event::Call(event) => self.apply_call(event),
            Event::Ledger(LedgerEvent::Raised { caps, .. }) => {
                self.caps = *caps;
                self.stopped.clear();
                self.asides.raised();
                Ok(())
            }
            Event::Ledger(LedgerEvent::Day { day, granted, most, .. }) => {
                self.day = Some(DayShare { day: *day, granted: *granted, most: *most, open: true });
                Ok(())
            }
            Event::Ledger(LedgerEvent::Alert { node, alert, .. }) => {
                self.nodes.entry(node.clone()).or_default().alerted.insert(*alert);
                Ok(())
            }
            Event::Ledger(LedgerEvent::Degraded { step, .. }) => {
                self.degraded = *step;
                Ok(())
            }
            Event::Ledger(LedgerEvent::Unguaranteed { node, never, .. }) => {
                self.asides.said(node, *never);
                Ok(())
            }
            Event::Task(event) => {
                self.apply_task(event);
                Ok(())
            }
            Event::Tool(_) | Event::Interrupt(_) => Ok(()),
        }
    }

    fn apply_task(&mut self, event: &TaskEvent) {
        match event {
            TaskEvent::Finished { step, .. } => {
                self.asides.over(step);
                let gone: Vec<CallId> = self.waiting.keys().filter(|call| &call.step == step).cloned().collect();
                gone.iter().for_each(|call| self.leave_queue(call));
            }
            TaskEvent::Skipped { step, .. } => self.asides.over(step),
            TaskEvent::FannedOut { step, keys, .. } => self.asides.fanned_out(step, keys.len() as u64),
            TaskEvent::CrewStarted { step, .. } => self.asides.crew_started(step),
            TaskEvent::AttemptFailed { step, .. } | TaskEvent::NeedsReview { step, .. } => self.asides.back(step),
            TaskEvent::Assigned { .. } | TaskEvent::Retried { .. } | TaskEvent::Accepted { .. } => {}
            TaskEvent::RoundDecided { .. } | TaskEvent::Delegated { .. } | TaskEvent::DelegationRefused { .. } => {}
            TaskEvent::Returned { .. } | TaskEvent::Parked { .. } | TaskEvent::Crashed { .. } => {}
            TaskEvent::FileWritten { .. } | TaskEvent::FileFailed { .. } | TaskEvent::Woken { .. } => {}
            TaskEvent::Cooling { .. } | TaskEvent::Cooled { .. } | TaskEvent::Told { .. } | TaskEvent::Heard { .. } => {
            }
            TaskEvent::Summarising { .. } | TaskEvent::Summarised { .. } => {}
            TaskEvent::Shrunk { .. } | TaskEvent::FellBack { .. } | TaskEvent::Concluding { .. } => {}
        }
    }

    fn apply_call(&mut self, event: &CallEvent) -> Result<(), IllegalEvent> {
        match event {
            CallEvent::Held(held) => {
                self.leave_queue(&held.call);
                let covers = held.ending.then(|| self.asides.covers(&held.call.step)).flatten();
                covers.iter().for_each(|unit| self.asides.taken(unit));
                let hold = Hold { amount: held.amount, nodes: held.nodes.clone(), ambiguous: false, covers };
                if self.holds.insert(held.call.clone(), hold).is_some() {
                    let why = format!("{} is already held", held.call);
                    return Err(IllegalEvent { machine: "ledger".into(), kind: "call.held", why });
                }
                self.each(&held.nodes, |sums| sums.held = sums.held.plus(held.amount));
            }
            CallEvent::Queued { call, node, need, .. } => {
                self.waiting.insert(call.clone(), (node.clone(), *need));
                self.nodes.entry(node.clone()).or_default().queue.push(call.clone());
            }
            CallEvent::Exhausted { call, .. } => self.leave_queue(call),
            CallEvent::Answered(answered) => {
                self.settle(&answered.call, answered.cost, "call.answered")?;
                if answered.overrun {
                    self.stopped.insert(answered.agent.scope.clone());
                }
            }
            CallEvent::Settled { call, cost, .. } => self.settle(call, *cost, "call.settled")?,
            CallEvent::Failed { call, failure, .. } => match failure.class.money() {
                super::failure::Money::Release => {
                    if let Some(hold) = self.holds.remove(call) {
                        hold.covers.iter().for_each(|unit| self.asides.back(unit));
                        self.each(&hold.nodes, |sums| {
                            let from = if hold.ambiguous { &mut sums.ambiguous } else { &mut sums.held };
                            *from = from.minus(hold.amount);
                        });
                    }
                    if failure.class.stops_the_run() {
                        let quota = failure.class != super::chat::FailureClass::Credentials;
                        self.control.refused(quota, &failure.message);
                    }
                }
                super::failure::Money::Hold => self.doubt(call),
                // No row of a failed call.
                super::failure::Money::Settle | super::failure::Money::None => {}
            },
            CallEvent::Lost { call, .. } => self.doubt(call),
        }
        Ok(())
    }

    /// Books `cost` for a hold, open or ambiguous; never clipped.
    fn settle(&mut self, call: &CallId, cost: Amount, kind: &'static str) -> Result<(), IllegalEvent> {
        let Some(hold) = self.holds.remove(call) else {
            let why = format!("{call} has no hold: terminal is final");
            return Err(IllegalEvent { machine: "ledger".into(), kind, why });
        };
        self.each(&hold.nodes, |sums| {
            let from = if hold.ambiguous { &mut sums.ambiguous } else { &mut sums.held };
            *from = from.minus(hold.amount);
            sums.settled = sums.settled.plus(cost);
            sums.overrun = sums.overrun.plus(cost.minus(hold.amount));
        });
        Ok(())
    }

    /// An open hold becomes ambiguous: it stays at its worst case.
    fn doubt(&mut self, call: &CallId) {
        let Some(hold) = self.holds.get_mut(call).filter(|hold| !hold.ambiguous) else { return };
        hold.ambiguous = true;
        let (amount, nodes, covers) = (hold.amount, hold.nodes.clone(), hold.covers.take());
        covers.iter().for_each(|unit| self.asides.back(unit));
        self.each(&nodes, |sums| {
            sums.held = sums.held.minus(amount);
            sums.ambiguous = sums.ambiguous.plus(amount);
        });
    }

    fn each(&mut self, nodes: &[NodeId], mut change: impl FnMut(&mut Sums)) {
        for node in nodes {
            match self.nodes.get_mut(node) {
                Some(sums) => change(sums),
                None => change(self.nodes.entry(node.clone()).or_default()),
            }
        }
    }

    fn leave_queue(&mut self, call: &CallId) {
        if let Some((node, _)) = self.waiting.remove(call)
            && let Some(sums) = self.nodes.get_mut(&node)
        {
            sums.queue.retain(|waiter| waiter != call);
        }
    }

    /// The first waiter of each node: what changed may have made room for it.
    pub fn next(&self) -> Vec<LedgerStep> {
        if self.control.is_halted() || self.waiting.is_empty() {
            return Vec::new();
        }
        let first = self.nodes.values().filter_map(|sums| sums.queue.first());
        first.map(|call| LedgerStep::Try(call.clone())).collect()
    }

    /// The sums of the whole run.
    pub fn total(&self) -> Sums {
        self.nodes.get(&NodeId::Crew(Step::root())).cloned().unwrap_or_default()
    }

    /// What is set aside for endings of tasks ahead, in the whole run.
    pub fn aside(&self) -> Amount {
        self.asides.at(&NodeId::Crew(Step::root()))
    }

    /// Steps of `degrade` that are given up.
    pub fn degraded(&self) -> u32 {
        self.degraded
    }

    /// Does an overrun keep whoever works in `scope` from new calls, until the budget is raised?
    pub fn is_stopped(&self, scope: &Step) -> bool {
        self.stopped.iter().any(|stopped| scope.is_within(stopped))
    }

    /// Is the call open or ambiguous?
    pub fn hold(&self, call: &CallId) -> Option<&Hold> {
        self.holds.get(call)
    }

    /// Open holds that are not ambiguous: calls in flight, or lost with their process.
    pub fn open(&self) -> impl Iterator<Item = &CallId> {
        self.holds.iter().filter(|(_, hold)| !hold.ambiguous).map(|(call, _)| call)
    }

    pub fn ambiguous_usd(&self) -> NanoUsd {
        self.total().ambiguous.usd
    }
}

#[cfg(test)]
mod tests;
