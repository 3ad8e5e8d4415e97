//! What may start. Invariant: no more runs at once than the crew, its lists and its agents allow, and
//! what has begun is never kept from its end by what has not.

use super::*;
use crate::core::crew::{Task, Who};
use crate::core::event::{Event, TaskEvent, Work};
use crate::core::machine::World;

impl Plan {
    /// Ready units that fit the limits, in order: at most as many as there are free slots.
    pub(super) fn startable(&self) -> Vec<Step> {
        let state = &self.state;
        let mut free = (self.crew.max_parallel as u32).saturating_sub(state.slots);
        let mut chosen = Vec::new();
        // Agents that this very batch takes; lists likewise.
        let mut taken: BTreeMap<&Name, usize> = BTreeMap::new();
        let mut started: BTreeMap<u32, u32> = BTreeMap::new();
        let mut from = (0, 0, Step::root());
        while free > 0 {
            let Some((rank, item, step)) = state.ready.range(from.clone()..).next() else { break };
            let Some(unit) = state.units.get(step) else { break };
            // Children are part of work that has begun; nothing else is.
            if self.stopping() && unit.task.is_some() {
                break;
            }
            let open = self.room_in_list(unit, started.get(rank).copied().unwrap_or(0));
            // A full list: none of its items can start, so the next rank is looked at.
            let Some(()) = open else {
                from = (rank + 1, 0, Step::root());
                continue;
            };
            from = (*rank, *item, step.just_after());
            if let Some(role) = self.role_of(step, unit) {
                let used = self.working(role) + taken.get(role).copied().unwrap_or(0);
                if used >= self.agent_limit(role) {
                    continue;
                }
                *taken.entry(role).or_default() += 1;
            }
            *started.entry(*rank).or_default() += 1;
            chosen.push(step.clone());
            free -= 1;
        }
        chosen
    }

    /// An optional task of a run that has given such tasks up is skipped.
    pub(super) fn given_up(&self, world: World<'_>, task: &Task, step: &Step) -> Option<Event> {
        let skipped = task.optional && world.crew.budget.skips_after(self.state.degraded);
        let because = "the budget is short: optional tasks are given up".to_owned();
        skipped.then(|| Event::Task(TaskEvent::Skipped { step: step.clone(), because, upstream: false }))
    }

    pub(super) fn assigned(&self, step: Step, unit: &Unit, agent: AgentRef, work: Box<Work>) -> Event {
        let (degraded, tainted) = (self.state.degraded, self.taint_of(unit));
        Event::Task(TaskEvent::Assigned { step, agent, work, degraded, tainted })
    }

    /// The actor of a unit: the one of its last round, else the next of its role.
    pub(super) fn free_agent(&self, name: &Name, unit: &Unit) -> AgentRef {
        unit.agent.clone().unwrap_or_else(|| self.next_agent(name))
    }

    /// The actor of a role that gets its next piece of work: the lowest number that is free.
    pub fn next_agent(&self, name: &Name) -> AgentRef {
        let run = self.crew.agents.get(name).is_some_and(|role| role.memory == MemoryScope::Run);
        let busy = self.state.busy.get(name).filter(|_| !run);
        // The first that is free: the busy ones come in order.
        let taken = |busy: &BTreeSet<u32>| (1..).zip(busy).take_while(|(number, busy)| number == *busy).count();
        let number = u32::try_from(busy.map_or(0, taken)).unwrap_or(u32::MAX).saturating_add(1);
        AgentRef { scope: self.state.scope.clone(), name: name.clone(), number }
    }

    fn room_in_list(&self, unit: &Unit, started: u32) -> Option<()> {
        let Kind::Item { .. } = unit.kind else { return Some(()) };
        let task = self.crew.tasks.get(unit.task? as usize)?;
        let repeat = task.repeat.as_ref()?;
        let list = self.state.units.get(&self.address(unit.task? as usize, None))?;
        let Kind::List { running, .. } = &list.kind else { return None };
        let most = if repeat.window.is_some() { 1 } else { repeat.max_parallel.unwrap_or(usize::MAX) };
        ((*running + started) < u32::try_from(most).unwrap_or(u32::MAX)).then_some(())
    }

    pub(super) fn agent_limit(&self, role: &Name) -> usize {
        let Some(agent) = self.crew.agents.get(role) else { return usize::MAX };
        match agent.memory {
            MemoryScope::Run => 1,
            MemoryScope::Task => agent.max_parallel.unwrap_or(usize::MAX),
        }
    }

    /// Actors of a role with a task in hand.
    fn working(&self, role: &Name) -> usize {
        self.state.working.get(role).copied().unwrap_or(0) as usize
    }

    /// Is every actor that the role may have waiting for work it gave out itself? Then one more piece
    /// of work for it could wait for its own end.
    pub(super) fn all_wait_for_children(&self, role: &Name) -> bool {
        let limit = self.agent_limit(role);
        if self.working(role) < limit {
            return false;
        }
        let of_role = |unit: &Unit| unit.agent.as_ref().is_some_and(|agent| agent.name == *role) && unit.is_at_work();
        let waiting = |unit: &Unit| unit.phase == Phase::Waits && unit.open_children > 0;
        self.state.units.values().filter(|unit| of_role(unit) && waiting(unit)).count() >= limit
    }

    /// The agent name a unit needs, if it needs one.
    fn role_of<'a>(&'a self, step: &Step, unit: &'a Unit) -> Option<&'a Name> {
        match unit.task {
            Some(index) => match &self.crew.tasks.get(index as usize)?.who {
                Who::Agent(name) if !matches!(unit.kind, Kind::List { .. }) => Some(name),
                Who::Agent(_) | Who::Crew(_) | Who::Tool { .. } => None,
            },
            None => {
                let name = step.last()?.name;
                self.crew.agents.get_key_value(&name).map(|(name, _)| name)
            }
        }
    }
}
