//! Who hears what a person says. Invariant: a message goes to actors that are at work, or to the one that
//! gets the next piece of work; where nobody would ever hear it, that is said and nothing is recorded.
//!
//! By the name of an agent it goes to every actor of that role with a task in hand or between two rounds of
//! one; if there is none, to the one that gets the role's next task; if none is ahead, an agent whose memory
//! is the run's keeps it, and any other refuses. By a step address it goes to whoever works on that step;
//! of a `for_each`, to everyone who works on an item.

use std::collections::BTreeSet;

use super::Run;
use crate::core::crew::{MemoryScope, Who};
use crate::core::ids::{AgentRef, Name, Step};
use crate::core::machine::Control;
use crate::core::plan::{Kind, Phase, Plan, Unit};

/// One that a message goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearer {
    pub agent: AgentRef,
    /// What it works on; `None`: it hears the message with its next task.
    pub step: Option<Step>,
}

/// Why nobody hears it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Deaf {
    #[error("the run is over or being cancelled: nobody listens any more")]
    Over,
    #[error("there is no agent and no step `{to}` in this run; its agents are: {known}")]
    Unknown { to: String, known: String },
    #[error("no task of `{name}` is running or ahead, and it forgets between tasks: nobody would hear it")]
    Idle { name: Name },
    #[error("{step} has ended")]
    Ended { step: Step },
    #[error("{step} has not begun; tell the agent `{agent}`, which gets it with its next task")]
    Ahead { step: Step, agent: Name },
    #[error("{step} is in round {now}")]
    Round { step: Step, now: u32 },
    #[error("{step} is {what}: tell one of its agents by name, or a step of it")]
    Nobody { step: Step, what: &'static str },
}

impl Run {
    /// Whom a message to `to` reaches now: the name of an agent, else the address of a step.
    ///
    /// # Errors
    /// In words, why nobody would hear it.
    pub fn hearers(&self, to: &str) -> Result<Vec<Hearer>, Deaf> {
        if matches!(self.control, Control::Cancelling | Control::Ended) {
            return Err(Deaf::Over);
        }
        if let Ok(name) = Name::new(to)
            && self.plans.values().any(|plan| plan.crew().agents.contains_key(&name))
        {
            return self.of_role(&name);
        }
        match to.parse::<Step>() {
            Ok(step) if !step.is_root() => self.at_step(to, &step),
            Ok(_) | Err(_) => Err(self.unknown(to)),
        }
    }

    /// Whose message it was, if it comes when nobody hears it any more.
    pub fn late(&self, to: &str) -> Option<AgentRef> {
        let name = Name::new(to).ok();
        let of_role = name.and_then(|name| {
            let plan = self.plans.values().find(|plan| plan.crew().agents.contains_key(&name))?;
            Some(plan.next_agent(&name))
        });
        let of_step = || {
            let address = to.parse::<Step>().ok()?.with_round(None);
            self.plans.get(&self.scopes.of(&address))?.state.units.get(&address)?.agent.clone()
        };
        of_role.or_else(of_step)
    }

    fn of_role(&self, name: &Name) -> Result<Vec<Hearer>, Deaf> {
        let plans = || self.plans.values().filter(|plan| plan.crew().agents.contains_key(name) && !self.is_past(plan));
        let live: Vec<Hearer> = plans().flat_map(|plan| live(plan, |unit| is_of(unit, name))).collect();
        if !live.is_empty() {
            return Ok(live);
        }
        let keeps = |plan: &&Plan| plan.crew().agents.get(name).is_some_and(|role| role.memory == MemoryScope::Run);
        let next = plans().find(|plan| is_ahead(plan, name)).or_else(|| plans().find(keeps));
        let next = next.ok_or_else(|| Deaf::Idle { name: name.clone() })?;
        Ok(vec![Hearer { agent: next.next_agent(name), step: None }])
    }

    fn at_step(&self, to: &str, step: &Step) -> Result<Vec<Hearer>, Deaf> {
        let address = step.with_round(None);
        let plan = self.plans.get(&self.scopes.of(&address)).ok_or_else(|| self.unknown(to))?;
        let unit = plan.state.units.get(&address).ok_or_else(|| self.unknown(to))?;
        let asked = step.last().and_then(|segment| segment.round);
        if unit.is_over() || unit.phase == Phase::Rescue || asked.is_some_and(|round| round < unit.round) {
            return Err(Deaf::Ended { step: step.clone() });
        }
        if asked.is_some_and(|round| round != unit.round) {
            return Err(Deaf::Round { step: address, now: unit.round });
        }
        let who = unit.task.and_then(|task| plan.crew().tasks.get(task as usize)).map(|task| &task.who);
        let role = match who {
            Some(Who::Tool { .. }) => return Err(Deaf::Nobody { step: address, what: "a tool's work" }),
            Some(Who::Crew(_)) => return Err(Deaf::Nobody { step: address, what: "a sub-crew's work" }),
            Some(Who::Agent(name)) => name.clone(),
            None => address.last().map_or_else(Name::unnamed, |segment| segment.name),
        };
        let list = matches!(unit.kind, Kind::List { .. });
        let own = |other: &Unit| match list {
            true => matches!(other.kind, Kind::Item { .. }) && other.task == unit.task,
            false => std::ptr::eq(other, &**unit),
        };
        let live: Vec<Hearer> = live(plan, own).collect();
        if live.is_empty() { Err(Deaf::Ahead { step: address, agent: role }) } else { Ok(live) }
    }

    /// Has the sub-crew ended?
    fn is_past(&self, plan: &Plan) -> bool {
        let scope = &plan.state.scope;
        let above = self.plans.get(&self.scopes.of(scope)).filter(|_| !scope.is_root());
        above.and_then(|above| above.state.units.get(&scope.with_round(None))).is_some_and(|unit| unit.is_over())
    }

    fn unknown(&self, to: &str) -> Deaf {
        let known: BTreeSet<&str> =
            self.plans.values().flat_map(|plan| plan.crew().agents.keys().map(Name::as_str)).collect();
        Deaf::Unknown { to: to.to_owned(), known: known.into_iter().collect::<Vec<_>>().join(", ") }
    }
}

fn is_of(unit: &Unit, name: &Name) -> bool {
    unit.agent.as_ref().is_some_and(|agent| agent.name == *name)
}

/// Actors with one of these units in hand, or between two rounds of it, each once.
fn live(plan: &Plan, wanted: impl Fn(&Unit) -> bool) -> impl Iterator<Item = Hearer> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    let units = plan.state.units.iter().filter(|(_, unit)| !unit.is_over() && unit.phase != Phase::Rescue);
    for (address, unit) in units.filter(|(_, unit)| wanted(unit)) {
        // A tool's work is done under the name of its task.
        let Some(agent) = unit.agent.as_ref().filter(|agent| plan.crew().agents.contains_key(&agent.name)) else {
            continue;
        };
        if seen.insert(agent.clone()) {
            all.push(Hearer { agent: agent.clone(), step: Some(unit.step(address)) });
        }
    }
    all.into_iter()
}

/// Is a task of the role still to begin?
fn is_ahead(plan: &Plan, name: &Name) -> bool {
    plan.state.units.values().filter(|unit| plan.counts(unit)).any(|unit| {
        let task = unit.task.and_then(|task| plan.crew().tasks.get(task as usize));
        unit.agent.is_none() && task.is_some_and(|task| matches!(&task.who, Who::Agent(who) if who == name))
    })
}
