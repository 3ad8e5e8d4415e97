//! What is set aside for the ending of each mandatory task: see [`ledger`](crate::core::ledger::SetAside).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::prompt;
use super::step::most_items;
use crate::core::crew::{Crew, OnExhausted, Pricing, Task, Who};
use crate::core::ids::{Name, Segment, Step};
use crate::core::ledger::{NodeId, SetAside};
use crate::core::money::{Amount, Tokens};

/// One ending of every task that must have a result: what the run sets aside. Empty for a crew that does
/// not finish when its budget is used up. `inputs` as the run is given them.
pub fn set_aside(crew: &Arc<Crew>, inputs: &BTreeMap<Name, serde_json::Value>) -> Vec<SetAside> {
    let mut out = Vec::new();
    if crew.budget.on_exhausted == OnExhausted::Finish {
        let above =
            Above { top: crew, scope: Step::root(), items: Vec::new(), nodes: vec![NodeId::Crew(Step::root())] };
        add(crew, &above, inputs, &mut out);
    }
    out
}

struct Above<'a> {
    top: &'a Arc<Crew>,
    scope: Step,
    items: Vec<u64>,
    nodes: Vec<NodeId>,
}

/// Must it have a result, whatever the others come to?
fn mandatory(task: &Task) -> bool {
    task.when.is_none() && task.rescues.is_none() && !task.optional
}

fn add(crew: &Arc<Crew>, above: &Above<'_>, inputs: &BTreeMap<Name, serde_json::Value>, out: &mut Vec<SetAside>) {
    for (index, task) in crew.tasks.iter().enumerate().filter(|(_, task)| mandatory(task)) {
        let address = above.scope.child(&Segment::task(task.name.clone()));
        let mut items = above.items.clone();
        items.push(most_items(task));
        let mut nodes = above.nodes.clone();
        if above.scope.is_root() {
            nodes.push(NodeId::Task(address.clone()));
        }
        match &task.who {
            Who::Tool { .. } => {}
            Who::Crew(name) => {
                let Some(sub) = crew.crews.get(name) else { continue };
                add(&sub.crew, &Above { top: above.top, scope: address, items, nodes }, &BTreeMap::new(), out);
            }
            Who::Agent(name) => {
                let Some(role) = crew.agents.get(name) else { continue };
                if above.scope.is_root() {
                    nodes.push(NodeId::Agent(Step::root(), name.clone()));
                }
                // By then every step of `degrade` is given up.
                let (budget, steps) = (&above.top.budget, above.top.budget.steps());
                let given = budget.model_after(steps, name).filter(|_| above.scope.is_root());
                let model = given.or(task.model.as_ref()).unwrap_or(&role.model);
                let output = task.max_output.unwrap_or(model.settings.max_output).min(budget.output_after(steps));
                let input = prompt::ending(crew, index, role, inputs);
                let usd = match model.price {
                    Pricing::Priced(price) => price.worst(Tokens(input), Tokens(output)),
                    Pricing::Local | Pricing::Unknown => Default::default(),
                };
                let amount = Amount { tokens: Tokens(input.saturating_add(output)), usd, calls: 1 };
                out.push(SetAside { task: address, items, amount, nodes });
            }
        }
    }
}
