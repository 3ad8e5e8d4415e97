//! Where a run of the crew will wait for people. Invariant: whatever may ask one is named here before
//! anything runs.

use crate::cli::screen::clean;
use crate::core::crew::{Crew, Exposed, TaskApproval, ToolDef, Who};

/// Each place in words: `before draft`, `file_it in filing (each call)`.
fn places(crew: &Crew) -> Vec<String> {
    let mut out = Vec::new();
    for task in &crew.tasks {
        match task.approval {
            TaskApproval::Never => {}
            TaskApproval::Before => out.push(format!("before {}", task.name)),
            TaskApproval::After => out.push(format!("with the result of {}", task.name)),
        }
        let own = match &task.who {
            Who::Tool { tool, .. } => vec![tool],
            Who::Agent(name) => {
                let role = crew.agents.get(name).map(|agent| &agent.tools);
                task.tools.as_ref().or(role).into_iter().flatten().collect()
            }
            Who::Crew(_) => Vec::new(),
        };
        let asking = own.into_iter().filter_map(|tool| crew.tools.get(tool)).filter(|def| def.may_ask());
        out.extend(asking.map(|def| format!("{} in {} ({})", clean(&def.spec.name), task.name, when(def))));
    }
    // Agents that only others call.
    let named =
        |name: &crate::core::ids::Name| crew.tasks.iter().any(|task| matches!(&task.who, Who::Agent(n) if n == name));
    for agent in crew.agents.values().filter(|agent| !named(&agent.name)) {
        let asking = agent.tools.iter().filter_map(|tool| crew.tools.get(tool)).filter(|def| def.may_ask());
        out.extend(asking.map(|def| format!("{} by {} ({})", clean(&def.spec.name), agent.name, when(def))));
    }
    for (name, sub) in &crew.crews {
        out.extend(places(&sub.crew).into_iter().map(|place| format!("{place} of {name}")));
    }
    out
}

/// Each place in words, and whom taint may stop.
pub(super) fn all(crew: &Crew) -> Vec<String> {
    places(crew).into_iter().chain(tainted(crew)).collect()
}

/// Whoever may read what is not to be trusted, and what it then asks for.
fn tainted(crew: &Crew) -> Vec<String> {
    let exposed = crew.exposed();
    let line = |one: &Exposed| {
        format!("{} by {} (once it has read what is not to be trusted: {})", one.tools.join(", "), one.who, one.from)
    };
    exposed.iter().map(|one| clean(&line(one))).collect()
}

fn when(def: &ToolDef) -> String {
    match &def.approval.when {
        _ if def.is_question() => "a question".to_owned(),
        _ if def.approval.always => "each call".to_owned(),
        Some(condition) => format!("if {}", clean(&condition.0)),
        None => String::new(),
    }
}

/// All of them in one line.
pub(super) fn line(crew: &Crew) -> Option<String> {
    let places = all(crew);
    let all = places.join("; ");
    (!places.is_empty()).then(|| format!("waits for a person (exit 12 without a terminal): {all}"))
}
