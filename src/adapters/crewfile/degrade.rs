//! `degrade` of `[budget]`. Invariant: each step changes one thing, what it names exists and is priced, and
//! whoever wrote a step that saves nothing is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Loader;
use super::agents::unknown;
use super::doc::{Node, Table};
use super::make::Making;
use super::models::Layer;
use super::problem::Problem;
use crate::core::crew::{Degrade, Model, Pricing};
use crate::core::ids::Name;

/// The steps, in order; `top` is false for a sub-crew.
pub(super) fn read(loader: &mut Loader<'_>, making: &Making<'_>, top: bool) -> Vec<Degrade> {
    let Some(entry) = making.doc.table("budget").and_then(|budget| budget.entry("degrade")) else { return Vec::new() };
    if !top {
        let problem = Problem::error("E0107", &entry.key_at, "not supported yet: `degrade` of a sub-crew");
        loader
            .report(problem.help("state it in the crew that is run; its `max_output` and `skip` cover the sub-crews"));
        return Vec::new();
    }
    // What each agent calls before the step that is looked at.
    let mut now: BTreeMap<Name, Arc<Model>> =
        making.agents.iter().map(|(name, role)| (name.clone(), role.agent.model.clone())).collect();
    let mut least = u64::MAX;
    let mut steps = Vec::new();
    for node in entry.node.list().unwrap_or_default() {
        let Some(table) = node.table() else { continue };
        let Some(step) = step(loader, making, node, table) else { continue };
        match &step {
            Degrade::Model { models, .. } => {
                dearer(loader, node, &now, models);
                now.extend(models.iter().map(|(name, model)| (name.clone(), model.clone())));
            }
            Degrade::MaxOutput(tokens) => {
                let most = now.values().map(|model| model.settings.max_output).max().unwrap_or(0).min(least);
                if *tokens >= most {
                    let message = format!("this step saves nothing: no answer is longer than {most} tokens here");
                    let problem = Problem::warning("W0303", &node.at, message);
                    loader.report(problem.help("write a smaller `max_output`, or take the step out"));
                }
                least = least.min(*tokens);
            }
            Degrade::SkipOptional => {}
        }
        steps.push(step);
    }
    steps
}

fn step(loader: &mut Loader<'_>, making: &Making<'_>, node: &Node, table: &Table) -> Option<Degrade> {
    let has = |key: &str| table.get(key).is_some();
    let what = ["model", "max_output", "skip"].into_iter().filter(|key| has(key)).count();
    if what != 1 || has("agent") && !has("model") {
        let problem = Problem::error("E0111", &node.at, "a step of `degrade` gives up one thing");
        loader.report(problem.help(
            "write one of { model = \"alias\" }, { agent = \"name\", model = \"alias\" }, { max_output = N }, \
             { skip = \"optional\" }",
        ));
        return None;
    }
    if let Some(tokens) = table.int("max_output") {
        return Some(Degrade::MaxOutput(tokens));
    }
    let Some((alias, _)) = Layer::of(table).model else { return has("skip").then_some(Degrade::SkipOptional) };
    let agent = match table.get("agent").and_then(|node| Some((node.text()?, &node.at))) {
        None => None,
        Some((text, at)) => {
            let found = making.agents.keys().chain(&making.broken).find(|name| name.as_str() == text);
            if found.is_none() {
                let known = making.agents.keys().chain(&making.broken).map(Name::as_str).collect();
                unknown(loader, "E0201", "agent", text, at, known);
            }
            Some(found?.clone())
        }
    };
    let own = Layer { max_output: None, ..Layer::of(table) };
    let mut models = BTreeMap::new();
    for (name, role) in making.agents.iter().filter(|(name, _)| agent.as_ref().is_none_or(|agent| agent == *name)) {
        // What is wrong with the model is said once.
        let Some(model) = making.models.resolve(loader, &[&own, &role.layers[0], &role.layers[1]]) else { break };
        models.insert(name.clone(), model);
    }
    Some(Degrade::Model { alias, agent, models })
}

/// A step is there to save money: one that may cost more is pointed at, with the agent it is about.
fn dearer(loader: &mut Loader<'_>, node: &Node, now: &BTreeMap<Name, Arc<Model>>, then: &BTreeMap<Name, Arc<Model>>) {
    let overrides = loader.options.overrides;
    if overrides.offline || overrides.model.is_some() {
        return;
    }
    let found = then.iter().find_map(|(name, new)| {
        let old = now.get(name)?;
        let worse = match (old.price, new.price) {
            (Pricing::Priced(old), Pricing::Priced(new)) => new.input > old.input || new.output > old.output,
            (Pricing::Local, Pricing::Priced(_)) => true,
            (_, Pricing::Local | Pricing::Unknown) | (Pricing::Unknown, Pricing::Priced(_)) => false,
        };
        let same = old.full_id() == new.full_id() && old.settings == new.settings;
        (worse || same).then(|| (name.clone(), old.name.clone(), new.name.clone(), worse))
    });
    if let Some((agent, old, new, worse)) = found {
        let message = match worse {
            true => format!("this step does not save: for `{agent}` `{new}` is dearer than `{old}`"),
            false => format!("this step changes nothing for `{agent}`: it calls `{old}` already"),
        };
        let problem = Problem::warning("W0303", &node.at, message);
        loader.report(problem.help("name a cheaper model, or take the step out"));
    }
}
