//! `retry` of a task. Invariant: every entry that is kept can be used by some attempt, and its model and
//! prompt exist and know their names, for every row.

use std::collections::BTreeMap;

use super::doc::Table;
use super::instructions::prompt;
use super::make::Making;
use super::models::Layer;
use super::problem::Problem;
use super::{Loader, doc::Node};
use crate::core::crew::{Retry, Who};
use crate::core::template::{TemplateName, Ty};

pub(super) fn read(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    index: usize,
    description: Option<&TemplateName>,
    known: &BTreeMap<String, Ty>,
) {
    let table: &Table = making.drafts[index].table;
    let Some(entry) = table.entry("retry") else { return };
    let Some(entries) = entry.node.list().filter(|entries| !entries.is_empty()) else { return };
    let task = &making.drafts[index].task;
    if !matches!(task.who, Who::Agent(_)) {
        let problem = Problem::error("E0206", &entry.key_at, "`retry` belongs to a task with an agent");
        return loader.report(problem.help("a tool gets the same arguments again, a sub-crew its own `retry`"));
    }
    let attempts = task.attempts as usize;
    let mut out = Vec::with_capacity(entries.len());
    for (number, node) in entries.iter().enumerate() {
        if number + 1 >= attempts {
            let message =
                format!("entry {} of `retry` is of attempt {}, and there are {attempts}", number + 1, number + 2);
            let problem = Problem::error("E0111", &node.at, message);
            loader.report(problem.help("take it out, or raise `attempts`"));
            break;
        }
        out.push(one(loader, making, index, (node, number + 1), description, known));
    }
    making.drafts[index].task.retry = out.into();
}

fn one(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    index: usize,
    (node, number): (&Node, usize),
    description: Option<&TemplateName>,
    known: &BTreeMap<String, Ty>,
) -> Retry {
    let Some(table) = node.table() else { return Retry::default() };
    if table.entries.is_empty() {
        loader.report(
            Problem::error("E0111", &node.at, "an entry of `retry` that changes nothing")
                .help("name at least one of: temperature, model, prompt, max_output"),
        );
    }
    let own = Layer::of(table);
    let model = own.model.is_some().then(|| {
        let task = Layer { model: None, ..Layer::of(making.drafts[index].table) };
        let Who::Agent(agent) = &making.drafts[index].task.who else { return None };
        let role = making.agents.get(agent)?;
        making.models.resolve(loader, &[&own, &task, &role.layers[0], &role.layers[1]])
    });
    let template = table.get("prompt").filter(|node| node.text().is_some());
    let key = format!("retry.{number}.prompt");
    let prompt = template.and_then(|node| prompt(loader, making, index, (node, &key), description, known));
    let most = loader.options.overrides.max_output.unwrap_or(u64::MAX);
    let max_output = own.max_output.map(|output| output.min(most));
    Retry { temperature: own.temperature, model: model.flatten(), prompt, max_output }
}
