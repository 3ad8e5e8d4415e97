//! The figures of a run by step and call. Invariant: a fold of the journal, like everything else that
//! is shown; money is the ledger machine's own sums, never added up a second way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::chat::FailureClass;
use crate::core::crew::Crew;
use crate::core::event::{
    Answered, CallEvent, ErrorClass, Event, Held, InterruptEvent, LedgerEvent, LostCause, ParkCause, RoundOutcome,
    RunEnd, RunEvent, Started, TaskEvent, TaskResult, TaskStatus, ToolEvent,
};
use crate::core::forecast::{Forecast, forecast};
use crate::core::ids::{AgentRef, CallId, Step};
use crate::core::interrupt::Interrupts;
use crate::core::ledger::Ledger;
use crate::core::money::{Amount, NanoUsd};
use crate::core::run::Entry;

mod loops;
mod refused;
mod waits;
pub use refused::NoBudget;

/// What a step is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepState {
    Running,
    WaitsBudget,
    /// For an approval or an answer.
    WaitsPerson,
    /// No budget until a resume.
    NoBudget,
    /// `fixed`: a retry would stop at the same.
    Review {
        message: String,
        fixed: bool,
    },
    Ended(TaskResult),
}

/// One step.
#[derive(Clone, Debug)]
pub struct StepTally {
    pub step: Step,
    pub agent: Option<AgentRef>,
    /// Of the last call.
    pub model: Option<String>,
    pub state: StepState,
    /// The last attempt, from 1.
    pub attempt: u32,
    /// Model calls begun.
    pub calls: u64,
    pub tools: u64,
    /// The tool that was last begun and has not returned.
    pub tool: Option<String>,
    /// Settled by the step's own calls.
    pub settled: Amount,
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
    /// Attempts that failed, in words.
    pub failures: Vec<String>,
}

/// How a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallState {
    Open,
    Answered,
    Failed { class: FailureClass, message: String },
    Lost(LostCause),
}

/// One model call.
#[derive(Clone, Debug)]
pub struct CallTally {
    pub seq: u64,
    pub held: Held,
    pub state: CallState,
    pub answer: Option<Box<Answered>>,
    /// What was booked, and whether by hand.
    pub cost: Option<Amount>,
    pub by_hand: bool,
    pub elapsed_ms: u64,
}

/// Where the run stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RunStand {
    #[default]
    Running,
    Pausing,
    Cancelling,
    Parked(Vec<ParkCause>),
    Ended(RunEnd, Option<TaskResult>),
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub started: Option<Box<Started>>,
    pub ledger: Ledger,
    /// What people were asked.
    pub interrupts: Interrupts,
    pub steps: BTreeMap<Step, StepTally>,
    /// Steps in the order they began.
    pub order: Vec<Step>,
    pub calls: BTreeMap<CallId, CallTally>,
    pub no_budget: BTreeMap<Step, NoBudget>,
    pub stand: RunStand,
    /// The crew, where whoever shows the run has it.
    pub crew: Option<Arc<Crew>>,
    /// Judges whose last round was not approved, and what waits for a person because of it: with its result.
    limits: BTreeMap<Step, u32>,
    unapproved: BTreeMap<Step, TaskResult>,
    /// Loops that came to their round limit without a person: the judge's last step, and what became of it.
    pub limited: BTreeMap<Step, (u32, RoundOutcome)>,
    /// What had been spent when the first task failed.
    pub failed_at: Option<Amount>,
    /// Messages that agents have been told and not heard.
    pub unheard: BTreeMap<AgentRef, u64>,
    /// Tool calls under way, with their place in the turn.
    tools: BTreeSet<(CallId, u32)>,
    /// Sizes of the lists, by the address of their task.
    lists: BTreeMap<Step, u64>,
    pub first_ms: u64,
    pub last_ms: u64,
    /// Milliseconds between start or resume and the last entry before a rest.
    rested_ms: u64,
    since_ms: u64,
    /// Why the ledger could not follow, if it could not.
    pub illegal: Option<String>,
    /// Where each provider's key comes from, in words: not of the journal, told by whoever knows it.
    pub keys: BTreeMap<String, String>,
    /// What the run is called in its store, where its first four characters may name another one too.
    pub called: Option<String>,
}

impl Tally {
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Tally {
        let mut tally = Tally::default();
        entries.into_iter().for_each(|entry| tally.apply(entry));
        tally
    }

    /// Running time, waits included, without the time that no process ran it.
    pub fn running_ms(&self) -> u64 {
        self.rested_ms + self.last_ms.saturating_sub(self.since_ms)
    }

    /// What the run will have cost at the end, at the rate so far; while it is under way.
    pub fn forecast(&self) -> Option<Forecast> {
        let going = !matches!(self.stand, RunStand::Ended(..));
        let ended = self.steps.values().filter(|row| matches!(row.state, StepState::Ended(_))).map(|row| &row.step);
        forecast(self.crew.as_deref().filter(|_| going)?, ended, &self.lists, self.ledger.total().settled)
    }

    /// The forecast against the cap: `at this rate $0.41 of $0.25 (3 of 9 tasks done)`.
    pub fn forecast_words(&self) -> Option<String> {
        let made = self.forecast().filter(|made| made.settled.usd > NanoUsd::ZERO)?;
        let of = self.ledger.caps.usd.map(|most| format!(" of {}", super::screen::cap(most))).unwrap_or_default();
        let (finished, all) = (made.finished, made.all);
        Some(format!("at this rate {}{of} ({finished} of {all} tasks done)", super::screen::usd(made.at_end.usd)))
    }

    pub fn apply(&mut self, entry: &Entry) {
        let at = entry.at_ms;
        self.interrupts.apply(entry);
        if let Err(illegal) = self.ledger.apply(&entry.event) {
            self.illegal.get_or_insert(format!("entry {}: {illegal}", entry.seq));
        }
        if self.first_ms == 0 {
            (self.first_ms, self.since_ms) = (at, at);
        }
        match &entry.event {
            Event::Run(event) => self.run(event, at),
            Event::Task(event) => self.task(event, at),
            Event::Call(event) => self.call(event, entry.seq.0, at),
            Event::Tool(ToolEvent::Started { call, index, tool, .. }) => {
                self.tools.insert((call.clone(), *index));
                if let Some(row) = self.steps.get_mut(&call.step) {
                    row.tools += 1;
                    row.tool = Some(tool.clone());
                }
            }
            Event::Tool(ToolEvent::Returned { call, index, .. }) => {
                self.tools.remove(&(call.clone(), *index));
                if let Some(row) = self.steps.get_mut(&call.step) {
                    row.tool = None;
                }
                // What it asked has ended with it.
                self.decided(&call.step);
            }
            Event::Tool(ToolEvent::Refused { .. }) => {}
            Event::Interrupt(InterruptEvent::Raised(raised)) => {
                self.step(&raised.step, raised.agent.as_ref(), at).state = StepState::WaitsPerson;
            }
            Event::Interrupt(InterruptEvent::Decided { step, .. }) => self.decided(step),
            Event::Ledger(LedgerEvent::Alert { .. } | LedgerEvent::Unguaranteed { .. }) => {}
            Event::Ledger(LedgerEvent::Raised { .. } | LedgerEvent::Day { .. } | LedgerEvent::Degraded { .. }) => {}
        }
        self.last_ms = at;
    }

    fn run(&mut self, event: &RunEvent, at: u64) {
        self.stand = match event {
            RunEvent::Started(started) => {
                self.started = Some(started.clone());
                RunStand::Running
            }
            RunEvent::Resumed { .. } => {
                self.rested_ms = self.running_ms();
                self.since_ms = at;
                self.no_budget.clear();
                RunStand::Running
            }
            RunEvent::PauseAsked { .. } => RunStand::Pausing,
            RunEvent::CancelAsked { .. } => RunStand::Cancelling,
            RunEvent::Parked { causes } => {
                self.not_approved(causes);
                RunStand::Parked(causes.clone())
            }
            RunEvent::Finished { status, result } => RunStand::Ended(*status, result.clone()),
        };
    }

    fn step(&mut self, step: &Step, agent: Option<&AgentRef>, at: u64) -> &mut StepTally {
        if !self.steps.contains_key(step) {
            self.order.push(step.clone());
        }
        self.steps.entry(step.clone()).or_insert_with(|| StepTally {
            step: step.clone(),
            agent: agent.cloned(),
            model: None,
            state: StepState::Running,
            attempt: 1,
            calls: 0,
            tools: 0,
            tool: None,
            settled: Amount::default(),
            started_ms: at,
            ended_ms: None,
            failures: Vec::new(),
        })
    }

    fn task(&mut self, event: &TaskEvent, at: u64) {
        match event {
            TaskEvent::Assigned { step, agent, .. } => {
                let row = self.step(step, Some(agent), at);
                row.agent = Some(agent.clone());
            }
            TaskEvent::FannedOut { step, keys, .. } => {
                self.lists.insert(step.with_round(None), keys.len() as u64);
                self.step(step, None, at);
            }
            TaskEvent::CrewStarted { step, .. } => {
                self.step(step, None, at);
            }
            TaskEvent::Delegated { step, agent, .. } => {
                self.step(step, Some(agent), at);
            }
            TaskEvent::Skipped { step, because, upstream } => {
                let status = TaskStatus::Skipped;
                let row = self.step(step, None, at);
                row.ended_ms = Some(at);
                row.failures.extend(upstream.then(|| because.clone()));
                let result = TaskResult { status, ..TaskResult::done(None, false, Amount::default()) };
                row.state = StepState::Ended(result);
            }
            TaskEvent::AttemptFailed { step, agent, attempt, message, .. } => {
                let row = self.step(step, Some(agent), at);
                row.failures.push(message.clone());
                row.attempt = attempt + 1;
            }
            TaskEvent::NeedsReview { step, agent, class, message } => {
                let row = self.step(step, agent.as_ref(), at);
                let fixed = matches!(class, ErrorClass::TooManyItems | ErrorClass::Template);
                row.state = StepState::Review { message: message.clone(), fixed };
            }
            TaskEvent::Retried { step, agent, .. } => {
                // Of a loop that is given another round the last one stays as it ended.
                let ended = self.unapproved.remove(step).map(StepState::Ended);
                self.step(step, agent.as_ref(), at).state = ended.unwrap_or(StepState::Running);
            }
            TaskEvent::Finished { step, agent, result } => {
                let row = self.step(step, agent.as_ref(), at);
                row.ended_ms = Some(at);
                row.state = StepState::Ended(result.clone());
                if result.status == TaskStatus::Failed {
                    self.failed_at.get_or_insert(self.ledger.total().settled);
                }
            }
            TaskEvent::FileFailed { step, path, message } => {
                self.step(step, None, at).failures.push(format!("{path} could not be written: {message}"));
            }
            TaskEvent::Crashed { step, agent, message } => {
                self.step(step, Some(agent), at).failures.push(format!("the agent crashed: {message}"));
            }
            TaskEvent::RoundDecided { judge, round, outcome } => self.round_decided(judge, *round, *outcome),
            TaskEvent::DelegationRefused { .. } | TaskEvent::Returned { .. } => {}
            TaskEvent::Parked { .. } | TaskEvent::FileWritten { .. } | TaskEvent::Woken { .. } => {}
            TaskEvent::Cooling { .. } | TaskEvent::Cooled { .. } => {}
            TaskEvent::Told { agent, .. } => *self.unheard.entry(agent.clone()).or_default() += 1,
            TaskEvent::Heard { agent, .. } => drop(self.unheard.remove(agent)),
            TaskEvent::Summarising { .. } | TaskEvent::Summarised { .. } => {}
            TaskEvent::Shrunk { .. } | TaskEvent::Concluding { .. } | TaskEvent::FellBack { .. } => {}
            TaskEvent::Accepted { step, agent, .. } => self.step(step, Some(agent), at).state = StepState::Running,
        }
    }

    fn call(&mut self, event: &CallEvent, seq: u64, at: u64) {
        match event {
            CallEvent::Held(held) => {
                self.no_budget.remove(&held.call.step);
                let row = self.step(&held.call.step, Some(&held.agent), at);
                row.calls += 1;
                row.attempt = held.attempt;
                row.model = Some(held.model.clone());
                row.state = StepState::Running;
                let state = CallState::Open;
                let held = Held::clone(held);
                let call = CallTally { seq, held, state, answer: None, cost: None, by_hand: false, elapsed_ms: 0 };
                self.calls.insert(call.held.call.clone(), call);
            }
            CallEvent::Queued { call, agent, .. } => {
                self.step(&call.step, Some(agent), at).state = StepState::WaitsBudget;
            }
            // It goes to its ending at once.
            CallEvent::Exhausted { finish: true, .. } | CallEvent::Exhausted { summary: true, .. } => {}
            CallEvent::Exhausted { call, agent, node, limit, need, left, .. } => {
                self.step(&call.step, Some(agent), at).state = StepState::NoBudget;
                let (node, agent, overrun) = (node.clone(), agent.clone(), self.overrun(&agent.scope));
                let why = NoBudget { node, agent, limit: *limit, need: *need, left: *left, overrun };
                self.no_budget.insert(call.step.clone(), why);
            }
            CallEvent::Answered(answered) => {
                self.settle(&answered.call, answered.cost);
                if let Some(call) = self.calls.get_mut(&answered.call) {
                    call.state = CallState::Answered;
                    call.elapsed_ms = answered.elapsed_ms;
                    call.answer = Some(answered.clone());
                }
            }
            CallEvent::Failed { call, failure, elapsed_ms, .. } => {
                if let Some(call) = self.calls.get_mut(call) {
                    call.state = CallState::Failed { class: failure.class, message: failure.message.clone() };
                    call.elapsed_ms = *elapsed_ms;
                }
            }
            CallEvent::Lost { call, cause, elapsed_ms, .. } => {
                if let Some(call) = self.calls.get_mut(call) {
                    call.state = CallState::Lost(*cause);
                    call.elapsed_ms = *elapsed_ms;
                }
            }
            CallEvent::Settled { call, cost, .. } => {
                self.settle(call, *cost);
                if let Some(call) = self.calls.get_mut(call) {
                    call.by_hand = true;
                }
            }
        }
    }

    fn settle(&mut self, call: &CallId, cost: Amount) {
        if let Some(row) = self.steps.get_mut(&call.step) {
            row.settled = row.settled.plus(cost);
        }
        if let Some(call) = self.calls.get_mut(call) {
            call.cost = Some(cost);
        }
    }

    /// Calls in flight: open holds that are not in doubt.
    pub fn in_flight(&self) -> Vec<CallId> {
        self.ledger.open().cloned().collect()
    }

    /// The steps of the tool calls in flight, one for each.
    pub fn tools_in_flight(&self) -> Vec<&Step> {
        let over = |step| self.steps.get(step).is_some_and(|row| matches!(row.state, StepState::Ended(_)));
        self.tools.iter().map(|(call, _)| &call.step).filter(|step| !over(step)).collect()
    }

    /// The provider that last refused its key, and where that key comes from.
    pub fn refused_key(&self) -> Option<(&str, &str)> {
        let refused = self.calls.values().filter(|call| match &call.state {
            CallState::Failed { class, .. } => *class == FailureClass::Credentials,
            CallState::Open | CallState::Answered | CallState::Lost(_) => false,
        });
        let (provider, _) = refused.max_by_key(|call| call.seq)?.held.model.split_once('/')?;
        Some((provider, self.keys.get(provider)?))
    }

    /// Short id of the run, as people type it.
    pub fn short(&self) -> &str {
        let short = || self.started.as_ref().map(|started| started.run.short());
        self.called.as_deref().or_else(short).unwrap_or("?")
    }
}
