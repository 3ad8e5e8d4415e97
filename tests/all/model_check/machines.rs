//! The shipped machines, folded once for each state and event that ever meet. Invariant: nothing is
//! decided or applied here but by the core's own `decide`, `apply` and `next`; all three are pure, so
//! that what they gave once is kept, and a state of the whole run is a handful of numbers.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use boatswain::core::agent::{Agent, AgentStep, Decision};
use boatswain::core::chat::{CallFailure, FailureClass};
use boatswain::core::crew::Crew;
use boatswain::core::event::{CallEvent, Event, Held, Subject};
use boatswain::core::ids::{AgentRef, RunId, Step};
use boatswain::core::ledger::{Ledger, NodeId, path};
use boatswain::core::machine::{Control, Decided, Refusal, World};
use boatswain::core::money::Amount;
use boatswain::core::plan::{Plan, PlanStep};

use super::world::Mutant;
use crate::simulate::driver::{Bytes, Shelf};

/// Number of a value in its table.
pub type Id = u32;

/// Values by number, each once.
pub struct Table<T> {
    ids: HashMap<Rc<T>, Id>,
    all: Vec<Rc<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { ids: HashMap::new(), all: Vec::new() }
    }
}

impl<T: Eq + Hash> Table<T> {
    pub fn id(&mut self, value: T) -> Id {
        if let Some(id) = self.ids.get(&value) {
            return *id;
        }
        let (value, id) = (Rc::new(value), self.all.len() as Id);
        self.all.push(value.clone());
        self.ids.insert(value, id);
        id
    }
    pub fn get(&self, id: Id) -> Rc<T> {
        self.all[id as usize].clone()
    }
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

/// A plan, the same where its state is: the crew beside it never changes.
pub struct Kept(pub Plan);

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        self.0.state == other.0.state
    }
}
impl Eq for Kept {}
impl Hash for Kept {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.0.state.hash(to);
    }
}

/// What is due of an agent, and what its decision comes to.
#[derive(Clone)]
pub enum Wants {
    Nothing,
    Record(Rc<[Id]>),
    /// The ledger decides.
    Hold,
}

type Decision_ = Result<Rc<[Id]>, Refusal>;

/// Which machine an event is applied to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Plan,
    Agent,
    Ledger,
    Control,
}

pub struct Machines {
    pub crew: Arc<Crew>,
    pub run: RunId,
    pub shelf: Shelf,
    pub sizes: Bytes,
    pub mutant: Option<Mutant>,
    pub plans: Table<Kept>,
    pub agents: Table<Agent>,
    pub ledgers: Table<Ledger>,
    pub controls: Table<Control>,
    pub events: Table<Event>,
    pub who: Table<AgentRef>,
    applied: HashMap<(At, Id, Id), Result<Id, String>>,
    subjects: HashMap<Id, Rc<[Subject]>>,
    plan_next: HashMap<Id, Rc<[PlanStep]>>,
    plan_decided: HashMap<(Id, usize), Decision_>,
    agent_next: HashMap<Id, Rc<[AgentStep]>>,
    agent_wants: HashMap<Id, Result<Wants, Refusal>>,
    holds: HashMap<(Id, Id), Decision_>,
    held: HashMap<Id, Rc<Held>>,
    /// Steps and agents that ever held: where the caps of their nodes are looked up.
    payers: Vec<(Step, AgentRef)>,
    sound: HashMap<(Id, usize), Option<String>>,
}

impl Machines {
    pub fn new(crew: Arc<Crew>, mutant: Option<Mutant>) -> Machines {
        Machines {
            crew,
            run: RunId::from_random(7),
            shelf: Shelf::default(),
            sizes: Bytes(4),
            mutant,
            plans: Table::default(),
            agents: Table::default(),
            ledgers: Table::default(),
            controls: Table::default(),
            events: Table::default(),
            who: Table::default(),
            applied: HashMap::new(),
            subjects: HashMap::new(),
            plan_next: HashMap::new(),
            plan_decided: HashMap::new(),
            agent_next: HashMap::new(),
            agent_wants: HashMap::new(),
            holds: HashMap::new(),
            held: HashMap::new(),
            payers: Vec::new(),
            sound: HashMap::new(),
        }
    }

    fn world(&self) -> World<'_> {
        World { run: &self.run, crew: &self.crew, texts: &self.shelf, sizes: &self.sizes }
    }

    pub fn keep(&mut self, decided: Decided) -> Rc<[Id]> {
        self.shelf.0.extend(decided.blobs.into_iter().map(|blob| (blob.id, blob.text)));
        decided.events.into_iter().map(|event| self.events.id(event)).collect()
    }

    /// Who folds an event, by the core's own table.
    pub fn subjects(&mut self, event: Id) -> Rc<[Subject]> {
        let events = &self.events;
        let of = || events.get(event).subjects(&Default::default()).into();
        self.subjects.entry(event).or_insert_with(of).clone()
    }

    fn once(
        &mut self,
        at: At,
        id: Id,
        event: Id,
        fold: impl FnOnce(&mut Machines, &Event) -> Result<Id, String>,
    ) -> Result<Id, String> {
        if let Some(known) = self.applied.get(&(at, id, event)) {
            return known.clone();
        }
        let body = self.events.get(event);
        let after = fold(self, &body);
        self.applied.insert((at, id, event), after.clone());
        after
    }

    pub fn apply_plan(&mut self, id: Id, event: Id) -> Result<Id, String> {
        self.once(At::Plan, id, event, |all, event| {
            let mut plan = all.plans.get(id).0.clone();
            plan.apply(event).map_err(|illegal| illegal.to_string())?;
            Ok(all.plans.id(Kept(plan)))
        })
    }

    pub fn apply_agent(&mut self, id: Id, event: Id) -> Result<Id, String> {
        self.once(At::Agent, id, event, |all, event| {
            let mut agent = (*all.agents.get(id)).clone();
            agent.apply(event).map_err(|illegal| illegal.to_string())?;
            Ok(all.agents.id(agent))
        })
    }

    pub fn apply_control(&mut self, id: Id, event: Id) -> Id {
        let after = self.once(At::Control, id, event, |all, event| {
            let mut control = (*all.controls.get(id)).clone();
            if let Event::Run(event) = event {
                control.apply(event);
            }
            Ok(all.controls.id(control))
        });
        after.unwrap_or(id)
    }

    /// The ledger's fold, and here the two mutants that live in it.
    pub fn apply_ledger(&mut self, id: Id, event: Id) -> Result<Id, String> {
        self.once(At::Ledger, id, event, |all, event| {
            let mut ledger = (*all.ledgers.get(id)).clone();
            let doubtful = match event {
                Event::Call(CallEvent::Lost { call, agent, .. }) => Some((call, agent)),
                Event::Call(CallEvent::Failed { call, agent, failure, .. })
                    if failure.class == FailureClass::Ambiguous =>
                {
                    Some((call, agent))
                }
                _ => None,
            };
            let release = doubtful.filter(|_| all.mutant == Some(Mutant::ReleasedAfterSend)).map(|(call, agent)| {
                let failure = CallFailure::of(FailureClass::NotSent, String::new());
                Event::Call(CallEvent::Failed { call: call.clone(), agent: agent.clone(), failure, elapsed_ms: 0 })
            });
            ledger.apply(release.as_ref().unwrap_or(event)).map_err(|illegal| illegal.to_string())?;
            if let (Event::Call(CallEvent::Held(held)), Some(Mutant::HeldTwice)) = (event, all.mutant) {
                for node in &held.nodes {
                    let sums = ledger.nodes.get_mut(node).unwrap();
                    sums.held = sums.held.plus(held.amount);
                }
            }
            Ok(all.ledgers.id(ledger))
        })
    }

    pub fn plan_next(&mut self, id: Id) -> Rc<[PlanStep]> {
        let plans = &self.plans;
        self.plan_next.entry(id).or_insert_with(|| plans.get(id).0.next().into()).clone()
    }

    pub fn decide_plan(&mut self, id: Id, index: usize) -> Decision_ {
        if let Some(known) = self.plan_decided.get(&(id, index)) {
            return known.clone();
        }
        let step = self.plan_next(id)[index].clone();
        let decided = self.plans.get(id).0.decide(self.world(), &step).map(|decided| self.keep(decided));
        self.plan_decided.insert((id, index), decided.clone());
        decided
    }

    pub fn agent_next(&mut self, id: Id) -> Rc<[AgentStep]> {
        let agents = &self.agents;
        self.agent_next.entry(id).or_insert_with(|| agents.get(id).next().into()).clone()
    }

    pub fn agent_wants(&mut self, id: Id) -> Result<Wants, Refusal> {
        if let Some(known) = self.agent_wants.get(&id) {
            return known.clone();
        }
        let wants = if self.agent_next(id).contains(&AgentStep::Decide) {
            match self.agents.get(id).decide(self.world()) {
                Ok(Decision::Record(decided)) => Ok(Wants::Record(self.keep(decided))),
                Ok(Decision::Ask(_)) => Ok(Wants::Hold),
                Err(refusal) => Err(refusal),
            }
        } else {
            Ok(Wants::Nothing)
        };
        self.agent_wants.insert(id, wants.clone());
        wants
    }

    /// What the ledger answers to the agent's request.
    pub fn decide_hold(&mut self, ledger: Id, agent: Id) -> Decision_ {
        if let Some(known) = self.holds.get(&(ledger, agent)) {
            return known.clone();
        }
        let decided = match self.agents.get(agent).decide(self.world()) {
            Ok(Decision::Ask(request)) => self.ledgers.get(ledger).decide(self.world(), &request),
            Ok(Decision::Record(_)) => Err(Refusal::NotDue("it asks for no hold".into())),
            Err(refusal) => Err(refusal),
        };
        let decided = decided.map(|decided| self.keep(decided));
        self.holds.insert((ledger, agent), decided.clone());
        decided
    }

    pub fn held(&mut self, event: Id) -> Rc<Held> {
        let events = &self.events;
        let held = self.held.entry(event).or_insert_with(|| match &*events.get(event) {
            Event::Call(CallEvent::Held(held)) => Rc::new((**held).clone()),
            other => panic!("{} is no hold", other.kind()),
        });
        held.clone()
    }

    pub fn pays(&mut self, held: &Held) {
        if !self.payers.iter().any(|(step, agent)| *step == held.call.step && *agent == held.agent) {
            self.payers.push((held.call.step.clone(), held.agent.clone()));
        }
    }

    /// The ledger against its own holds and the crew's caps: what is wrong with it, if anything.
    pub fn unsound(&mut self, id: Id) -> Option<String> {
        let key = (id, self.payers.len());
        if let Some(known) = self.sound.get(&key) {
            return known.clone();
        }
        let wrong = self.check_ledger(&self.ledgers.get(id));
        self.sound.insert(key, wrong.clone());
        wrong
    }

    fn check_ledger(&self, ledger: &Ledger) -> Option<String> {
        let mut caps: HashMap<NodeId, _> = HashMap::from([(NodeId::Crew(Step::root()), ledger.caps)]);
        for (step, agent) in &self.payers {
            caps.extend(path(&self.crew, ledger.caps, step, agent).unwrap());
        }
        for (node, sums) in &ledger.nodes {
            // More billed than held is booked in full: the cap covers what was held for it.
            let used = sums.used().minus(sums.overrun);
            let Some(cap) = caps.get(node) else { return Some(format!("{node} has no cap")) };
            if let Some(limit) = cap.broken_by(used) {
                return Some(format!("{node} is over its {limit} cap: {used:?}, cap {cap:?}"));
            }
            let of = |ambiguous| {
                let here = ledger.holds.values().filter(|hold| hold.ambiguous == ambiguous);
                let here = here.filter(|hold| hold.nodes.contains(node));
                here.fold(Amount::default(), |sum, hold| sum.plus(hold.amount))
            };
            if (sums.held, sums.ambiguous) != (of(false), of(true)) {
                return Some(format!("{node} counts {:?} as held, its open holds are {:?}", sums.held, of(false)));
            }
        }
        None
    }
}
