//! What a task tells its agent. Invariant: every task of an agent has a user message, and every
//! prompt that an item can choose exists and knows its names.

use std::collections::{BTreeMap, BTreeSet};

use super::Loader;
use super::doc::Node;
use super::make::Making;
use super::places;
use super::problem::{At, Problem};
use super::prompts::{Site, report};
use super::repeat::rows;
use super::scope::{check, uses};
use crate::core::crew::{TaskPrompt, Who};
use crate::core::template::{Builder, Fences, Scope, TemplateName, Ty};

pub(super) fn read(loader: &mut Loader<'_>, making: &mut Making<'_>, index: usize, known: &BTreeMap<String, Ty>) {
    let draft = &making.drafts[index];
    if draft.judges.is_some() {
        return judge(loader, making, index);
    }
    let name = draft.task.name.clone();
    let who = format!("the task `{name}`");
    let table = draft.table;
    let part = draft.debate.clone();
    let inline = |loader: &mut Loader<'_>, making: &mut Making<'_>, key: &str, fences| {
        let node = making.drafts[index].node(key).filter(|node| node.text().is_some())?;
        let template = making.shelf.inline(loader, &format!("tasks.{name}.{key}"), node, fences)?;
        check(loader, &making.shelf, &template, known, &who, &[]);
        Some(template)
    };
    let description = inline(loader, making, "description", Fences::Put);
    let expected = inline(loader, making, "expected_output", Fences::Put);
    let output_file = inline(loader, making, "output_file", Fences::None);
    if let Some(node) = making.drafts[index].node("output_file")
        && output_path(loader, making, index, node)
        && output_file.is_some()
    {
        places::rendered(loader, making, index, node);
    }
    let task = &mut making.drafts[index].task;
    (task.expected_output, task.output_file) = (expected, output_file);
    let prompt = match table.get("prompt").filter(|node| node.text().is_some()) {
        Some(node) => prompt(loader, making, index, (node, "prompt"), description.as_ref(), known),
        None => description.clone().map(TaskPrompt::Fixed),
    };
    super::retry::read(loader, making, index, description.as_ref(), known);
    let tells = table.get("prompt").is_some() || table.get("description").is_some();
    let draft = &mut making.drafts[index];
    let agent = matches!(draft.task.who, Who::Agent(_)) && table.get("tool").or(table.get("crew")).is_none();
    if agent && !tells && part.is_none_or(|part| part.closes) {
        let problem = Problem::error("E0404", &draft.at, format!("the task `{name}` tells its agent nothing"));
        loader.report(problem.help("write a `description`, or name a prompt file with `prompt`"));
    } else if !agent && let Some(entry) = table.entry("prompt").or(table.entry("description")) {
        let problem =
            Problem::warning("W0701", &entry.key_at, format!("nobody reads the `{}` of this task", entry.key));
        loader.report(problem.help("a sub-crew gets `inputs`, a tool gets `args`"));
    }
    draft.task.prompt = prompt;
}

/// Several items must not write one file, and no file leaves the project. False if something is wrong.
fn output_path(loader: &mut Loader<'_>, making: &Making<'_>, index: usize, node: &Node) -> bool {
    let Some(text) = node.text() else { return false };
    let plain = text.split("{{").next().unwrap_or_default();
    let leaves = text.starts_with('/') || plain.split('/').any(|part| part == "..");
    if leaves {
        let problem = Problem::error("E0111", &node.at, "`output_file` is not inside the project");
        loader.report(problem.help("write a path relative to the project's root, without `..`"));
    }
    let varies = ["item", "index", "key"].iter().any(|name| text.contains(name)) && text.contains("{{");
    if making.drafts[index].item.is_some() && !varies {
        let problem = Problem::error("E0111", &node.at, "every item would write the same file");
        loader.report(problem.help("put `{{ key }}` into the path"));
    }
    !leaves
}

/// A prompt file, or a template that gives the name of one per item.
pub(super) fn prompt(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    index: usize,
    (node, key): (&Node, &str),
    description: Option<&TemplateName>,
    known: &BTreeMap<String, Ty>,
) -> Option<TaskPrompt> {
    let path = node.text()?;
    if !path.contains("{{") {
        let file = making.shelf.prompt(loader, path, &node.at)?;
        let who = format!("the task `{}`", making.drafts[index].task.name);
        check(loader, &making.shelf, &file, known, &who, &[]);
        return both(loader, making, index, &file, description, &node.at).map(TaskPrompt::Fixed);
    }
    let paths = match rows(making.drafts[index].task.repeat.as_ref()) {
        Some(rows) => chosen(loader, node, known, &rows)?,
        None => {
            let folder = path.split("{{").next().unwrap_or_default();
            let all = making.shelf.below(loader, folder);
            if all.is_empty() && making.drafts[index].item.is_some() {
                let message = format!("there is no prompt in `prompts/{folder}`");
                loader.report(Problem::error("E0401", &node.at, message));
            }
            all.into_iter().collect()
        }
    };
    let who = format!("the task `{}`", making.drafts[index].task.name);
    for path in &paths {
        let Some(file) = making.shelf.prompt(loader, path, &node.at) else { continue };
        check(loader, &making.shelf, &file, known, &who, &[]);
        both(loader, making, index, &file, description, &node.at);
    }
    let name = making.drafts[index].task.name.clone();
    let text = if description.is_some() { format!("@{name}/{path}") } else { path.to_owned() };
    let made = Node { at: node.at.clone(), value: super::doc::Val::Text(text) };
    let template = making.shelf.inline(loader, &format!("tasks.{name}.{key}"), &made, Fences::None)?;
    check(loader, &making.shelf, &template, known, &who, &[]);
    Some(TaskPrompt::Chosen(template))
}

/// The prompt paths that rows choose. What a row has wrong is shown at the template, once.
fn chosen(
    loader: &mut Loader<'_>,
    node: &Node,
    known: &BTreeMap<String, Ty>,
    rows: &[crate::core::crew::Row],
) -> Option<BTreeSet<String>> {
    let mut builder = Builder::new([]);
    let name = TemplateName("prompt".into());
    let site = Site::of(loader, node);
    if let Err(faults) = builder.add(&name, node.text()?, Fences::None) {
        report(loader, &site, faults);
        return None;
    }
    if !uses(loader, builder.uses(&name), &site, known, "the path of a prompt") {
        return None;
    }
    let per_item: BTreeMap<String, Ty> = known
        .iter()
        .filter(|(name, _)| ["item", "index", "key"].contains(&name.as_str()))
        .map(|(n, t)| (n.clone(), t.clone()))
        .collect();
    if let Some(other) = builder.uses(&name).iter().find(|one| !per_item.contains_key(&one.name)) {
        let message = format!("the prompt of an item is chosen by the item, not by `{}`", other.name);
        loader.report(Problem::error("E0402", &site.place(&other.range), message));
        return None;
    }
    let templates = builder.finish();
    let mut out = BTreeSet::new();
    for (index, row) in rows.iter().enumerate() {
        let mut scope = Scope::default();
        scope.shared("item", row.item.clone());
        scope.json("index", (index + 1).into());
        scope.json("key", row.key.as_str().into());
        match templates.render(&name, &scope) {
            Ok(path) => drop(out.insert(path)),
            Err(error) => {
                let message = format!("row {}: {}", index + 1, error.message);
                loader.report(Problem::error("E0403", &node.at, message));
                return None;
            }
        }
    }
    Some(out)
}

/// A prompt file with the task's description below it, as one template.
fn both(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    index: usize,
    file: &TemplateName,
    description: Option<&TemplateName>,
    at: &At,
) -> Option<TemplateName> {
    if description.is_none() {
        return Some(file.clone());
    }
    let draft = &making.drafts[index];
    let text = draft.table.text("description").unwrap_or_default();
    let path = file.0.strip_prefix("prompts/").unwrap_or(&file.0);
    let name = format!("prompts/@{}/{path}", draft.task.name);
    let known = TemplateName(name.as_str().into());
    if making.shelf.site(&known).is_some() {
        return Some(known);
    }
    let text = format!("{{% include {path:?} %}}\n\n{text}");
    let optional = making.shelf.builder.optional_of(file).cloned().unwrap_or_default();
    let made = making.shelf.made(loader, &name, &text, at)?;
    making.shelf.builder.optional(&made, optional);
    Some(made)
}

/// What a judge made by `review` reads: the built-in text over what the author was told and had.
fn judge(loader: &mut Loader<'_>, making: &mut Making<'_>, index: usize) {
    let Some(judged) = making.drafts[index].judges else { return };
    let author = &making.drafts[judged];
    let told = match (author.table.text("description"), &author.task.prompt) {
        // What is wrong with the author's text was said where it stands.
        (_, None) => return,
        (Some(text), _) => text.to_owned(),
        (None, Some(TaskPrompt::Fixed(file))) if file.0.starts_with("prompts/") => {
            let rounds = ["previous", "feedback", "window"];
            let clean = making.shelf.builder.uses(file).iter().all(|one| !rounds.contains(&one.name.as_str()));
            let path = file.0.strip_prefix("prompts/").unwrap_or(&file.0);
            if clean { format!("{{% include {path:?} %}}") } else { author.task.name.to_string() }
        }
        (None, Some(_)) => author.task.name.to_string(),
    };
    let expected = match (author.table.text("expected_output"), &author.task.expected_output) {
        (Some(text), Some(_)) => format!("{{% set expected %}}{text}{{% endset %}}"),
        (_, _) => "{% set expected = none %}".to_owned(),
    };
    let source = |name: &crate::core::ids::Name| format!("{{'name': '{name}', 'value': {name}}}");
    let sources = author.task.context.iter().map(source).collect::<Vec<_>>().join(", ");
    let name = &author.task.name;
    let frame = making.shelf.builtin_text(loader, "review");
    let text = format!(
        "{{% set name = '{name}' %}}{{% set asked %}}{told}{{% endset %}}{expected}\
         {{% set sources = [{sources}] %}}{{% set answer = {name} %}}{frame}"
    );
    let (own, at) = (making.drafts[index].task.name.clone(), making.drafts[index].at.clone());
    let place = format!("{} tasks.{own}.description", making.file);
    let made = making.shelf.made(loader, &place, &text, &at);
    making.drafts[index].task.prompt = made.map(TaskPrompt::Fixed);
}
