//! A run: the fold of its journal, and the slice of it that each actor needs. Invariant: there is one
//! fold; a fresh run folds one entry, a resumed run many, replay every prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::agent::{Agent, Decision};
use super::crew::Crew;
use super::event::{Event, RunEvent, Scopes, Subject, TaskEvent};
use super::ids::{AgentRef, CallId, RunId, Seq, Step};
use super::interrupt::Interrupts;
use super::ledger::Ledger;
use super::machine::{Control, Decided, IllegalEvent, Refusal, World};
use super::plan::{Plan, PlanStep};

mod replay;
mod tell;
pub use replay::{Divergence, Replay};
pub use tell::{Deaf, Hearer};

/// An event in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seq: Seq,
    pub at_ms: u64,
    pub event: Event,
}

impl Entry {
    /// An entry from its stored form.
    pub fn decode(seq: Seq, at_ms: u64, kind: &str, payload: &[u8]) -> Result<Entry, super::event::BadEvent> {
        Ok(Entry { seq, at_ms, event: Event::decode(kind, payload)? })
    }
}

#[derive(Clone, Debug)]
pub struct Run {
    pub crew: Arc<Crew>,
    pub scopes: Scopes,
    pub plans: BTreeMap<Step, Plan>,
    pub agents: BTreeMap<AgentRef, Agent>,
    pub ledger: Ledger,
    pub control: Control,
    pub last: Seq,
    /// The last entry each machine has folded.
    pub seen: BTreeMap<Subject, Seq>,
    /// Calls that are open: held, and neither answered, failed nor lost.
    pub open_calls: BTreeMap<CallId, AgentRef>,
    /// What people were asked, with its times: whoever appends a decision judges by them.
    pub interrupts: Interrupts,
    pub id: Option<RunId>,
    /// Messages of the inbox that are on record.
    pub taken: BTreeSet<u64>,
}

impl Run {
    pub fn new(crew: Arc<Crew>) -> Run {
        Run {
            plans: BTreeMap::from([(Step::root(), Plan::new(Step::root(), crew.clone()))]),
            crew,
            scopes: Scopes::default(),
            agents: BTreeMap::new(),
            ledger: Ledger::default(),
            control: Control::default(),
            last: Seq(0),
            seen: BTreeMap::new(),
            open_calls: BTreeMap::new(),
            interrupts: Interrupts::default(),
            id: None,
            taken: BTreeSet::new(),
        }
    }

    pub fn fold<'a>(crew: Arc<Crew>, entries: impl IntoIterator<Item = &'a Entry>) -> Result<Run, IllegalEvent> {
        let mut run = Run::new(crew);
        for entry in entries {
            run.apply(entry)?;
        }
        Ok(run)
    }

    pub fn apply(&mut self, entry: &Entry) -> Result<(), IllegalEvent> {
        let event = &entry.event;
        if entry.seq != self.last.next() {
            let why = format!("entry {} does not follow entry {}", entry.seq, self.last);
            return Err(IllegalEvent { machine: "journal".into(), kind: event.kind(), why });
        }
        if let Event::Run(run) = event {
            self.control.apply(run);
            if let RunEvent::Started(started) = run {
                self.id = Some(started.run.clone());
            }
        }
        self.make_room(event)?;
        self.note_call(event);
        self.interrupts.apply(entry);
        let subjects = event.subjects(&self.scopes);
        for subject in &subjects {
            self.apply_to(subject, event)?;
            self.seen.insert(subject.clone(), entry.seq);
        }
        self.last = entry.seq;
        Ok(())
    }

    /// A sub-crew's plan and an agent's machine begin with the first event that names them.
    fn make_room(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        match event {
            Event::Task(TaskEvent::CrewStarted { step, .. }) => {
                self.scopes.apply(event);
                let crew = self.crew.of_scope(step).ok_or_else(|| IllegalEvent {
                    machine: "run".into(),
                    kind: event.kind(),
                    why: format!("the crew has no sub-crew at {step}"),
                })?;
                self.plans.insert(step.clone(), Plan::new(step.clone(), crew));
            }
            Event::Task(TaskEvent::Assigned { agent, .. }) => self.meet(agent),
            Event::Task(TaskEvent::Told { agent, id, .. }) => {
                self.taken.insert(*id);
                self.meet(agent);
            }
            Event::Run(_) => self.scopes.apply(event),
            Event::Task(_) | Event::Call(_) | Event::Tool(_) => {}
            Event::Interrupt(_) | Event::Ledger(_) => {}
        }
        Ok(())
    }

    fn meet(&mut self, agent: &AgentRef) {
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.clone(), Agent::begun(agent.clone(), self.control.clone()));
        }
    }

    fn note_call(&mut self, event: &Event) {
        use super::event::CallEvent;
        let Event::Call(call) = event else { return };
        match call {
            CallEvent::Held(held) => {
                self.open_calls.insert(held.call.clone(), held.agent.clone());
            }
            CallEvent::Answered(answered) => drop(self.open_calls.remove(&answered.call)),
            CallEvent::Failed { call, .. } | CallEvent::Lost { call, .. } => drop(self.open_calls.remove(call)),
            CallEvent::Queued { .. } | CallEvent::Exhausted { .. } | CallEvent::Settled { .. } => {}
        }
    }

    fn apply_to(&mut self, subject: &Subject, event: &Event) -> Result<(), IllegalEvent> {
        match subject {
            Subject::All => {
                for plan in self.plans.values_mut() {
                    plan.apply(event)?;
                }
                for agent in self.agents.values_mut() {
                    agent.apply(event)?;
                }
                self.ledger.apply(event)
            }
            Subject::Plan(scope) => self.plans.get_mut(scope).map_or(Ok(()), |plan| plan.apply(event)),
            Subject::Agent(agent) => self.agents.get_mut(agent).map_or(Ok(()), |agent| agent.apply(event)),
            Subject::Ledger => self.ledger.apply(event),
        }
    }

    /// The last entry that the machine of `subject` has folded.
    pub fn seen(&self, subject: &Subject) -> Seq {
        let all = self.seen.get(&Subject::All).copied().unwrap_or_default();
        self.seen.get(subject).copied().unwrap_or_default().max(all)
    }

    pub fn root(&self) -> Option<&Plan> {
        self.plans.get(&Step::root())
    }

    /// Decides a plan's step, as its coordinator would.
    pub fn decide_plan(&self, world: World<'_>, scope: &Step, step: &PlanStep) -> Result<Decided, Refusal> {
        let plan = self.plans.get(scope).ok_or_else(|| Refusal::NotDue(format!("no crew runs at {scope}")))?;
        plan.decide(world, step)
    }

    /// Decides for an agent, as it and the ledger would together.
    pub fn decide_agent(&self, world: World<'_>, agent: &AgentRef) -> Result<Decided, Refusal> {
        let machine = self.agents.get(agent).ok_or_else(|| Refusal::NotDue(format!("no agent {agent}")))?;
        match machine.decide(world)? {
            Decision::Record(decided) => Ok(decided),
            Decision::Ask(request) => self.ledger.decide(world, &request),
        }
    }
}
