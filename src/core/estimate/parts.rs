//! Caps of parts of a crew: of its tasks, agents and sub-crews. Invariant: figures are of what counts at a part's
//! node of the budget tree, under the caps that the ledger has in force there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Spend;
use super::step::{self, Inputs, Least};
use crate::core::crew::{Crew, NodeBudget, Who};
use crate::core::ids::{AgentRef, Segment, Step};
use crate::core::ledger::{NodeId, path};
use crate::core::money::Caps;

/// A part of the crew that its own caps do not let do all it may have to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub node: NodeId,
    /// In force there: its own, and its share of what is above it.
    pub caps: Caps,
    /// The smallest course, without what may be left out.
    pub smallest: Spend,
    /// Without what is delegated to an agent.
    pub worst: Spend,
}

/// Has some part of the crew caps of its own?
pub fn capped(crew: &Crew) -> bool {
    let own = crew.tasks.iter().map(|task| &task.budget).chain(crew.agents.values().map(|agent| &agent.budget));
    own.chain(crew.crews.values().map(|sub| &sub.budget)).any(|budget| *budget != NodeBudget::default())
        || crew.crews.values().any(|sub| !sub.crew.budget.caps.is_none() || capped(&sub.crew))
}

/// The parts whose worst case does not fit their caps, in the order of their nodes. `steps`: of `degrade`, that are
/// given up.
pub(super) fn parts(crew: &Arc<Crew>, inputs: &Inputs, steps: u32) -> Vec<Part> {
    if !capped(crew) {
        return Vec::new();
    }
    let mut found = Found { top: crew, steps, nodes: BTreeMap::new() };
    found.crew(crew, &Step::root(), inputs, &mut Vec::new());
    let parts = found.nodes.into_iter().map(|(node, (caps, least, worst))| {
        let smallest = least.whole();
        Part { node, caps, smallest, worst }
    });
    parts.filter(|part| part.caps.broken_by(part.worst.amount()).is_some() || part.is_too_small()).collect()
}

impl Part {
    /// Then no run gets a result of it.
    pub fn is_too_small(&self) -> bool {
        self.caps.broken_by(self.smallest.amount()).is_some()
    }
}

/// How often what is below a level runs: at least, zero where it may be left out, and at most.
type Times = (u64, u64);

struct Found<'a> {
    top: &'a Arc<Crew>,
    steps: u32,
    nodes: BTreeMap<NodeId, (Caps, Least, Spend)>,
}

impl Found<'_> {
    /// `above`: of each task of the steps above `scope`.
    fn crew(&mut self, crew: &Arc<Crew>, scope: &Step, inputs: &Inputs, above: &mut Vec<Times>) {
        for (index, task) in crew.tasks.iter().enumerate() {
            let at = scope.child(&Segment::task(task.name.clone()));
            match &task.who {
                Who::Tool { .. } => {}
                Who::Agent(name) => {
                    // What stands in for it needs none of its budget.
                    let must = task.on_error.is_none();
                    let least = must.then(|| step::least(crew, index, inputs, (self.top, self.steps)));
                    let made = step::task(crew, index, inputs);
                    let agent = AgentRef { scope: scope.clone(), name: name.clone(), number: 1 };
                    let worst = (made.range.worst, made.own.worst);
                    self.add(&at, &agent, above, (least.unwrap_or_default(), worst));
                }
                Who::Crew(name) => {
                    let Some(sub) = crew.crews.get(name) else { continue };
                    above.push(step::times(crew, index));
                    self.crew(&sub.crew, &at, &Inputs::new(), above);
                    above.pop();
                }
            }
        }
    }

    fn add(&mut self, at: &Step, agent: &AgentRef, above: &[Times], (least, (all, own)): (Least, (Spend, Spend))) {
        let nodes = path(self.top, self.top.budget.caps, at, agent).unwrap_or_default();
        for (node, caps) in nodes {
            // An item of a sub-crew has caps of its own, a task has them over all its items.
            let (from, worst) = match &node {
                NodeId::Crew(scope) if scope.is_root() => continue,
                NodeId::Crew(scope) => (scope.depth(), all),
                NodeId::Task(step) => (step.depth() - 1, all),
                NodeId::Agent(..) => (above.len(), own),
                NodeId::Day(_) => continue,
            };
            let below = above.get(from..).unwrap_or_default();
            let most = below.iter().fold(1, |n: u64, (_, most)| n.saturating_mul(*most));
            let least_times = match above.iter().all(|(least, _)| *least > 0) {
                true => below.iter().fold(1, |n: u64, (least, _)| n.saturating_mul(*least)),
                false => 0,
            };
            let (_, smallest, all) =
                self.nodes.entry(node).or_insert_with(|| (caps, Least::default(), Spend::default()));
            if least_times > 0 {
                *smallest = smallest.and(least.times(least_times));
            }
            *all = all.plus(worst.times(most));
        }
    }
}
