//! Where results are written. Invariant: a path that a row or an input would lead out of the project
//! is found before anything is sent, and shown at its `output_file` with the row's key.

use std::collections::BTreeMap;

use super::doc::Node;
use super::make::Making;
use super::problem::{At, Problem};
use super::repeat::rows;
use super::{Loaded, Loader};
use crate::core::ids::{Key, Name};
use crate::core::place;
use crate::core::template::{Builder, Fences, TemplateName};

/// Rows of one task that are shown; the rest is counted.
const SHOWN: usize = 5;

/// Where the `output_file` of a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputAt {
    pub task: Name,
    pub at: At,
}

/// Renders an `output_file` for every row, with the inputs' defaults in the crew that is run.
pub(super) fn rendered(loader: &mut Loader<'_>, making: &Making<'_>, index: usize, node: &Node) {
    let top = loader.stack.len() == 1;
    let draft = &making.drafts[index];
    if top {
        loader.outputs.push(OutputAt { task: draft.task.name.clone(), at: node.at.clone() });
    }
    // A run that was begun is gone on with: an item that has no place is told so when it starts.
    if loader.options.pinned {
        return;
    }
    let mut builder = Builder::new([]);
    let name = TemplateName("output_file".into());
    if builder.add(&name, node.text().unwrap_or_default(), Fences::None).is_err() {
        return;
    }
    let defaults = making.inputs.iter().filter(|input| top && !input.secret);
    let defaults = defaults.filter_map(|input| Some((input.name.clone(), input.default.clone()?))).collect();
    let rows = rows(draft.task.repeat.as_ref());
    let wrong = place::misplaced(&builder.finish(), &name, rows.as_deref(), &defaults);
    problems(&draft.task.name, &node.at, wrong).into_iter().for_each(|problem| loader.report(problem));
}

/// What the inputs of a run make of the top crew's `output_file`s. Secrets are not looked at.
pub fn misplaced(loaded: &Loaded, inputs: &BTreeMap<Name, serde_json::Value>) -> Vec<Problem> {
    let Some(crew) = &loaded.crew else { return Vec::new() };
    let secret = |name: &Name| crew.inputs.iter().any(|input| input.secret && input.name == *name);
    let plain = inputs.iter().filter(|(name, _)| !secret(name));
    let plain = plain.map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut all = Vec::new();
    for output in &loaded.outputs {
        let Some(task) = crew.task(&output.task) else { continue };
        let Some(template) = &task.output_file else { continue };
        let rows = rows(task.repeat.as_ref());
        let wrong = place::misplaced(&crew.templates, template, rows.as_deref(), &plain);
        all.extend(problems(&output.task, &output.at, wrong));
    }
    all
}

fn problems(task: &Name, at: &At, wrong: Vec<(Option<Key>, String)>) -> Vec<Problem> {
    let more = wrong.len().saturating_sub(SHOWN);
    let one = |(key, why): (Option<Key>, String)| {
        let who = key.map_or_else(|| task.to_string(), |key| format!("{task}[{key}]"));
        let problem = Problem::error("E0605", at, format!("the result of `{who}` has no place: {why}"));
        problem.help("every value in the path must keep it below the project's root; `{{ key }}` is one that differs")
    };
    let mut all: Vec<Problem> = wrong.into_iter().take(SHOWN).map(one).collect();
    if more > 0 {
        all.push(Problem::error("E0605", at, format!("and {more} more items of `{task}` have no place")));
    }
    all
}
