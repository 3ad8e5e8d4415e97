//! Which nodes of the budget tree a call counts in. Pure in the crew and the step.

use std::sync::Arc;

use super::{Caps, NodeId};
use crate::core::crew::{Crew, NodeBudget, Place, Who};
use crate::core::ids::{AgentRef, Segment, Step};
use crate::core::money::{NanoUsd, Tokens};

/// The nodes a call of `agent` on `step` counts in, from the top down, each with its caps in force.
/// `root` is the top crew's cap after raises; shares are read from it anew. `None`: no such step.
pub fn path(crew: &Arc<Crew>, root: Caps, step: &Step, agent: &AgentRef) -> Option<Vec<(NodeId, Caps)>> {
    let mut nodes = vec![(NodeId::Crew(Step::root()), root)];
    // Caps of the nearest crew or task above, limit by limit: what a share is a share of.
    let mut above = root;
    let mut scope_caps = root;
    // Addresses are made for the few nodes that cap anything.
    let crew_at = |level: usize| NodeId::Crew(unit_at(step, level, true));
    for (level, place) in crew.places(step)?.iter().enumerate() {
        match place {
            Place::Task { crew, task } => {
                push(&mut nodes, || NodeId::Task(unit_at(step, level, false)), task.budget, &mut above);
                if let Who::Crew(name) = &task.who {
                    let sub = crew.crews.get(name)?;
                    push(&mut nodes, || crew_at(level), with_own(sub.budget, &sub.crew), &mut above);
                    scope_caps = above;
                }
            }
            Place::Delegated { .. } => {}
            Place::DelegatedCrew { sub, .. } => {
                push(&mut nodes, || crew_at(level), with_own(sub.budget, &sub.crew), &mut above);
                scope_caps = above;
            }
        }
    }
    let role = crew.of_scope(&agent.scope)?.agents.get(&agent.name).cloned();
    if let Some(role) = role {
        let id = || NodeId::Agent(agent.scope.clone(), agent.name.clone());
        push(&mut nodes, id, role.budget, &mut scope_caps);
    }
    Some(nodes)
}

/// The address of `step` down to `level`, rounds left out: of one item, or of the task as a whole.
fn unit_at(step: &Step, level: usize, keyed: bool) -> Step {
    let mut at = Step::root();
    for (i, segment) in step.segments().into_iter().take(level + 1).enumerate() {
        let whole = i == level && !keyed;
        at = at.child(&Segment { round: None, key: segment.key.filter(|_| !whole), name: segment.name });
    }
    at
}

fn with_own(budget: NodeBudget, crew: &Crew) -> NodeBudget {
    NodeBudget { caps: budget.caps.min(crew.budget.caps), ..budget }
}

/// Adds a node if it caps anything, and lowers `above` to what now bounds the levels below.
fn push(nodes: &mut Vec<(NodeId, Caps)>, id: impl FnOnce() -> NodeId, budget: NodeBudget, above: &mut Caps) {
    let part = |n: u64, share: u32| (u128::from(n) * u128::from(share) / 1000) as u64;
    let shared = budget.share.map_or(Caps::default(), |share| Caps {
        tokens: above.tokens.map(|n| Tokens(part(n.0, share))),
        usd: above.usd.map(|n| NanoUsd(part(n.0, share))),
        calls: above.calls.map(|n| part(n, share)),
    });
    let caps = budget.caps.min(shared);
    if !caps.is_none() {
        *above = above.min(caps);
        nodes.push((id(), caps));
    }
}
