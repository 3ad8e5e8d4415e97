//! The task tree of one crew (or sub-crew) in a run. Invariant: every unit of work ends exactly once,
//! with a typed result; what runs at once is bounded; every loop and fan-out has a limit.
//!
//! A *unit* is what others wait for: a task, a list (`for_each`), one of its items, a delegated child.
//! Its address is a step without a round; the rounds of a loop (`draft#1`, `draft#2`) are steps of one unit.
//!
//! ```text
//! Waiting --deps ended--> Ready --Assigned--> Running --Finished--> Ended
//!    ^                      |--CrewStarted--> Crew --Finished--> Ended     Running <--> Waits (budget, children)
//!    |                      |--FannedOut--> Items --all ended, Finished--> Ended
//!    |                      |--Skipped--> Ended                Running --NeedsReview--> Review --Retried--> Running
//!    '----RoundDecided again-- RoundOver --RoundDecided--> Ended      Ready, Running <--Raised, Decided--> Person
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::crew::{Crew, MemoryScope, Over};
use super::event::{ErrorClass, ParkCause, TaskResult};
use super::ids::{AgentRef, BlobId, CallId, InterruptId, Key, Name, Segment, Step};
use super::machine::Control;
use super::money::Amount;
use lists::Lists;

mod apply;
mod children;
mod debate;
mod decide;
mod ends;
mod lists;
mod loops;
mod park;
mod people;
mod prompt;
mod start;
mod taint;

/// Panics of one unit's agent after which its task fails.
pub const MAX_CRASHES: u32 = 3;

/// The plan of a scope: its crew, and the state that is the fold of its events.
#[derive(Clone, Debug)]
pub struct Plan {
    crew: Arc<Crew>,
    pub state: State,
    lists: Lists,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct State {
    pub scope: Step,
    pub inputs: BTreeMap<Name, serde_json::Value>,
    /// What the inputs come from that is not to be trusted.
    tainted: Option<String>,
    pub units: BTreeMap<Step, Box<Unit>>, // boxed: a node of the map keeps room for eleven
    /// Loops by the unit of their judge.
    loops: BTreeMap<Step, LoopRun>,
    /// Units that may be started, by rank, item and address: the order of work.
    ready: BTreeSet<(u32, u32, Step)>,
    /// Units that hold one of `max_parallel` slots.
    slots: u32,
    /// Units that wait and hold none.
    waits: BTreeSet<Step>,
    /// Units whose agent has panicked.
    crashed: BTreeSet<Step>,
    /// Numbers in use by agent name: an actor is kept over the rounds of a loop.
    busy: BTreeMap<Name, BTreeSet<u32>>,
    /// Actors that have a task in hand, by agent name.
    working: BTreeMap<Name, u32>,
    /// Delegations asked and not yet answered.
    asked: BTreeMap<(CallId, u32), Asked>,
    /// Children whose result is due to their parent.
    returns: BTreeSet<Step>,
    /// Units that a person did not let begin, and why.
    refused: BTreeMap<Step, String>,
    /// Judges whose round is over.
    rounds: BTreeSet<Step>,
    /// Lists whose items have all ended.
    full: BTreeSet<Step>,
    /// Units whose output file is due; `Some` is why it could not be written.
    files: BTreeMap<Step, Option<String>>,
    /// Children of a parent's step, by name: the next one's number; and what was asked, against repeats.
    children: BTreeMap<Step, u32>,
    delegated: BTreeMap<BlobId, Step>,
    /// Units that have not ended.
    open: u32,
    failed: bool,
    /// No budget was left for some call, and the run goes to its endings: no further rounds.
    finishing: bool,
    /// Steps of `degrade` that are given up.
    degraded: u32,
    parked: Option<Vec<ParkCause>>,
    over: bool,
    control: Control,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Unit {
    /// Index in the crew's tasks; `None` for a delegated child.
    pub task: Option<u32>,
    pub kind: Kind,
    pub phase: Phase,
    /// 0 outside loops, else from 1.
    pub round: u32,
    /// Of the unit once ended; of the round while its loop goes on.
    pub result: Option<TaskResult>,
    /// Of the last round, for the next one.
    pub previous: Option<TaskResult>,
    /// The actor that works on it, kept over the rounds of a loop.
    pub agent: Option<AgentRef>,
    /// What a person is asked about it; `true`: for words.
    people: BTreeMap<InterruptId, bool>,
    /// A person has let it begin.
    let_begin: bool,
    crashes: u32,
    open_children: u32,
    file_written: bool,
    /// Settled in earlier rounds of its loop.
    earlier: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Kind {
    Single,
    List { keys: Vec<Key>, items: Option<BlobId>, fanned: bool, ended: u32, running: u32 },
    Item { index: u32 },
    Child(Child),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Child {
    pub from: CallId,
    pub index: u32,
    /// The agent that asked.
    pub parent: AgentRef,
    pub task: BlobId,
    pub expected: Option<BlobId>,
    pub inputs: BTreeMap<Name, serde_json::Value>,
    ask: String,
    tainted: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Phase {
    Waiting,
    Ready,
    Running,
    /// Its agent waits for budget (`Queued`) or for children; holds no slot.
    Waits,
    /// It waits for a person, and has nothing else to do; holds no slot.
    Person,
    /// No budget until a resume.
    Blocked,
    /// A list whose items are at work.
    Items,
    /// A sub-crew is at work below it.
    Crew,
    /// The sub-crew cannot go on in this process.
    CrewParked(Vec<ParkCause>),
    /// Done for this round of its loop.
    RoundOver,
    /// Failed, and its `on_error` task is at work.
    Rescue,
    Review(ErrorClass, String),
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct LoopRun {
    index: u32,
    item: Option<u32>,
    round: u32,
    over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Asked {
    agent: AgentRef,
    arguments: BlobId,
    ask: String,
    tainted: Option<String>,
}

/// What the coordinator must do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanStep {
    Start(Step),
    /// All items of a list have ended.
    CloseList(Step),
    DecideRound(Step),
    Delegate {
        call: CallId,
        index: u32,
    },
    /// A child's result goes back.
    Return(Step),
    /// An agent panicked too often.
    FailCrashed(Step),
    /// A person did not let it begin.
    Reject(Step),
    /// Write the unit's output file, once its result is durable; append `FileWritten`.
    WriteFile(Step),
    Cancel,
    /// The crew is done.
    Finish,
    /// Nothing can go on in this process.
    Park,
}

impl Plan {
    /// An empty plan; it begins with `RunStarted` (the root) or `CrewStarted`.
    pub fn new(scope: Step, crew: Arc<Crew>) -> Plan {
        let state = State {
            scope,
            inputs: BTreeMap::new(),
            tainted: None,
            units: BTreeMap::new(),
            loops: BTreeMap::new(),
            ready: BTreeSet::new(),
            slots: 0,
            waits: BTreeSet::new(),
            crashed: BTreeSet::new(),
            busy: BTreeMap::new(),
            working: BTreeMap::new(),
            asked: BTreeMap::new(),
            returns: BTreeSet::new(),
            refused: BTreeMap::new(),
            rounds: BTreeSet::new(),
            full: BTreeSet::new(),
            files: BTreeMap::new(),
            children: BTreeMap::new(),
            delegated: BTreeMap::new(),
            open: 0,
            failed: false,
            finishing: false,
            degraded: 0,
            parked: None,
            over: false,
            control: Control::default(),
        };
        Plan { crew, state, lists: Lists::default() }
    }

    pub fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Everything that is due. Its cost is that of what is due, not of the crew.
    pub fn next(&self) -> Vec<PlanStep> {
        let state = &self.state;
        if state.over || state.units.is_empty() && state.open == 0 && !self.begun() {
            return Vec::new();
        }
        if state.control == Control::Cancelling {
            // Leaves first: a sub-crew ends its own tasks, then itself.
            if state.units.values().any(|unit| matches!(unit.phase, Phase::Crew | Phase::CrewParked(_))) {
                return Vec::new();
            }
            return vec![if state.open > 0 { PlanStep::Cancel } else { PlanStep::Finish }];
        }
        let mut steps: Vec<PlanStep> = state.returns.iter().cloned().map(PlanStep::Return).collect();
        steps.extend(state.full.iter().cloned().map(PlanStep::CloseList));
        steps.extend(state.rounds.iter().cloned().map(PlanStep::DecideRound));
        // What was asked before a pause is decided after it: a pause changes no result.
        let asked = state.asked.keys().filter(|_| !state.control.is_halted());
        steps.extend(asked.map(|(call, index)| PlanStep::Delegate { call: call.clone(), index: *index }));
        let due = state.files.iter().filter(|(_, failed)| failed.is_none());
        steps.extend(due.map(|(step, _)| PlanStep::WriteFile(step.clone())));
        steps.extend(self.crashed().map(PlanStep::FailCrashed));
        steps.extend(state.refused.keys().cloned().map(PlanStep::Reject));
        if !state.control.is_halted() {
            steps.extend(self.startable().into_iter().map(PlanStep::Start));
        }
        if steps.is_empty() {
            steps.extend(self.at_rest());
        }
        steps
    }

    /// What has been asked of the whole run.
    pub fn control(&self) -> &Control {
        &self.state.control
    }

    fn begun(&self) -> bool {
        !self.state.units.is_empty() || self.crew.tasks.is_empty()
    }

    /// `on_failure = "stop"`: nothing new starts after a failure.
    fn stopping(&self) -> bool {
        self.state.failed && self.crew.on_failure == super::crew::OnFailure::Stop
    }

    fn crashed(&self) -> impl Iterator<Item = Step> + '_ {
        let units = self.state.crashed.iter().filter_map(|step| Some((step, self.unit(step)?)));
        let often = units.filter(|(_, unit)| unit.crashes > MAX_CRASHES && unit.is_at_work());
        often.map(|(step, unit)| unit.step(step))
    }

    /// Nothing is due: the crew is done, or it waits for the world, or nothing can go on.
    fn at_rest(&self) -> Option<PlanStep> {
        let state = &self.state;
        if self.all_ended() && state.files.is_empty() {
            return Some(PlanStep::Finish);
        }
        if self.stopping() && !self.any_active() && state.files.is_empty() && !self.any_waiting_for_people() {
            return Some(PlanStep::Finish);
        }
        let halted = state.control.is_halted();
        if state.parked.is_none() && (halted && state.scope.is_root() || !self.any_active()) {
            return Some(PlanStep::Park);
        }
        None
    }

    fn all_ended(&self) -> bool {
        self.state.open == 0
    }

    fn any_active(&self) -> bool {
        let waits = || self.state.waits.iter().filter_map(|step| self.unit(step));
        self.state.slots > 0 || waits().any(|unit| unit.open_children == 0)
    }

    fn any_waiting_for_people(&self) -> bool {
        self.state.units.values().any(|unit| matches!(unit.phase, Phase::Review(..) | Phase::Blocked | Phase::Person))
    }

    /// Address of a task's unit, or of one of its items.
    fn address(&self, task: usize, item: Option<&Key>) -> Step {
        let name = self.crew.tasks[task].name.clone();
        self.state.scope.child(&Segment { name, key: item.cloned(), round: None })
    }

    fn unit(&self, address: &Step) -> Option<&Unit> {
        self.state.units.get(address).map(|unit| &**unit)
    }

    /// The keys of a task's list, once it has fanned out.
    fn keys(&self, task: usize) -> Option<&[Key]> {
        match &self.unit(&self.address(task, None))?.kind {
            Kind::List { keys, fanned: true, .. } => Some(keys),
            Kind::List { .. } | Kind::Single | Kind::Item { .. } | Kind::Child(_) => None,
        }
    }

    /// Do both tasks repeat over the same items? Then they are joined item by item.
    fn joined(&self, a: usize, b: usize) -> bool {
        let over = |index: usize| self.crew.tasks[index].repeat.as_ref().map(|repeat| &repeat.over);
        match (over(a), over(b)) {
            (Some(Over::Rows(a)), Some(Over::Rows(b))) => Arc::ptr_eq(a, b) || a == b,
            (Some(Over::Result { task: a, list: x }), Some(Over::Result { task: b, list: y })) => a == b && x == y,
            (Some(Over::Rows(_)), Some(Over::Result { .. })) | (Some(Over::Result { .. }), Some(Over::Rows(_))) => {
                false
            }
            (None, _) | (_, None) => false,
        }
    }
}

impl Unit {
    fn new(task: Option<u32>, kind: Kind) -> Unit {
        Unit {
            task,
            kind,
            phase: Phase::Waiting,
            round: 0,
            result: None,
            previous: None,
            agent: None,
            people: BTreeMap::new(),
            let_begin: false,
            crashes: 0,
            open_children: 0,
            file_written: false,
            earlier: Amount::default(),
        }
    }
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }
    /// Has it begun and not ended?
    fn is_busy(&self) -> bool {
        self.is_at_work() || matches!(self.phase, Phase::Items | Phase::Crew | Phase::CrewParked(_) | Phase::Rescue)
    }
    /// Does its agent have it in hand?
    fn is_at_work(&self) -> bool {
        let person = self.phase == Phase::Person && self.agent.is_some();
        person || matches!(self.phase, Phase::Running | Phase::Waits | Phase::Blocked | Phase::Review(..))
    }
    /// The step of the unit's present round.
    pub fn step(&self, address: &Step) -> Step {
        if self.round == 0 { address.clone() } else { address.with_round(Some(self.round)) }
    }
}

#[cfg(test)]
mod tests;
