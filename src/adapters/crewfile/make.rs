//! Making a crew out of its document. Invariant: every step goes on after a mistake, so that one
//! pass finds all; only a crew without mistakes is given out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::agents::{self, Role, unknown};
use super::doc::{Node, Table};
use super::models::Models;
use super::problem::{At, Problem, Severity};
use super::prompts::Shelf;
use super::source::{below, beside};
use super::tasks::Draft;
use super::values::time;
use super::{
    Loader, approval, budget, debate, degrade, files, graph, inputs, loops, repeat, scope, tasks, tools, triggers,
};
use crate::core::crew::{Crew, Input, Loop, Notify, OnFailure, SubCrew, ToolDef};
use crate::core::ids::Name;
use crate::core::template::{Builder, Fences, Ty};

/// A crew in the making.
pub(super) struct Making<'d> {
    pub file: Arc<str>,
    pub doc: &'d Table,
    pub inputs: Vec<Input>,
    pub input_types: BTreeMap<String, Ty>,
    pub shelf: Shelf,
    pub models: Models<'d>,
    pub tools: BTreeMap<String, Arc<ToolDef>>,
    pub agents: BTreeMap<Name, Role>,
    /// Agents that exist and have problems of their own.
    pub broken: BTreeSet<Name>,
    /// Who is named in some `delegates`.
    pub delegated: BTreeSet<Name>,
    pub crews: BTreeMap<Name, SubCrew>,
    pub drafts: Vec<Draft<'d>>,
    pub loops: Vec<Loop>,
    /// Some task names what it waits for in a way that could not be read: the graph is not known.
    pub unsure: bool,
}

impl Making<'_> {
    pub fn draft(&self, name: &str) -> Option<usize> {
        self.drafts.iter().position(|draft| draft.task.name.as_str() == name)
    }
}

/// The crew in `path`; `None` if it or a file of it has an error.
pub(super) fn crew(loader: &mut Loader<'_>, path: &str, top: bool) -> Option<Arc<Crew>> {
    let before = errors(loader);
    let doc = files::document(loader, path, &At::file(path))?;
    let root = if top { String::new() } else { root(loader, path) };
    loader.stack.push(path.to_owned());
    let made = make(loader, path, &doc, root, top);
    loader.stack.pop();
    (errors(loader) == before).then(|| Arc::new(made))
}

fn errors(loader: &Loader<'_>) -> usize {
    loader.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
}

/// The nearest folder at or above a sub-crew's file that holds `prompts/` or `bosun.toml`.
fn root(loader: &Loader<'_>, path: &str) -> String {
    let own = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut at = own;
    loop {
        let marked = |name: &str| below(at, name).is_some_and(|path| loader.files.exists(&path));
        if marked("prompts") || marked("bosun.toml") {
            return at.to_owned();
        }
        match at.rsplit_once('/') {
            Some((up, _)) => at = up,
            None if at.is_empty() => return own.to_owned(),
            None => at = "",
        }
    }
}

fn make(loader: &mut Loader<'_>, path: &str, doc: &Table, root: String, top: bool) -> Crew {
    let task_names = tasks::names(doc);
    let voices = debate::voices(doc);
    let results = task_names.iter().chain(&voices).map(String::as_str);
    let results = results.chain(["previous", "feedback", "window", "output"]);
    let (inputs, input_types) = inputs::read(loader, doc);
    let mut budget = budget::read(loader, doc, path, top);
    let models = Models::read(loader, doc, budget.allow_unpriced);
    let mut making = Making {
        file: path.into(),
        doc,
        inputs,
        input_types,
        shelf: Shelf::new(Builder::new(results), root),
        models,
        tools: tools::read(loader, doc, path),
        agents: BTreeMap::new(),
        broken: BTreeSet::new(),
        delegated: BTreeSet::new(),
        crews: BTreeMap::new(),
        drafts: Vec::new(),
        loops: Vec::new(),
        unsure: false,
    };
    making.shelf.replacements(loader);
    approval::conditions(loader, &mut making);
    agents::read(loader, &mut making);
    budget.degrade = degrade::read(loader, &making, top);
    sub_crews(loader, &mut making, &task_names);
    tasks::read(loader, &mut making);
    lead(loader, &making);
    repeat::read(loader, &mut making);
    scope::conditions(loader, &mut making);
    loops::read(loader, &mut making);
    graph::check(loader, &mut making);
    scope::templates(loader, &mut making);
    let triggers = triggers::read(loader, &mut making);
    let output = graph::output(loader, &making);
    Crew { triggers, ..finish(loader, making, budget, output) }
}

fn finish(loader: &mut Loader<'_>, making: Making<'_>, budget: crate::core::crew::Budget, output: usize) -> Crew {
    let empty = Table::default();
    let table = making.doc.table("crew").unwrap_or(&empty);
    unused(loader, &making);
    let notify = notify(loader, making.doc);
    let stem = making.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".toml");
    let folder = making.file.rsplit('/').nth(1).unwrap_or(stem);
    let stem = if stem == "crew" { folder } else { stem }.to_owned();
    let Making { file, doc: _, inputs, shelf, mut tools, agents, crews, drafts, loops, .. } = making;
    let tasks: Vec<_> = drafts.into_iter().map(|draft| draft.task).collect();
    let agents = agents::finish(agents);
    let used: BTreeSet<&String> = agents
        .values()
        .flat_map(|agent| &agent.tools)
        .chain(tasks.iter().flat_map(|task| task.tools.iter().flatten()))
        .chain(tasks.iter().filter_map(|task| match &task.who {
            crate::core::crew::Who::Tool { tool, .. } => Some(tool),
            crate::core::crew::Who::Agent(_) | crate::core::crew::Who::Crew(_) => None,
        }))
        .collect();
    tools.retain(|name, _| used.contains(name));
    Crew {
        name: table.text("name").unwrap_or(&stem).to_owned(),
        file: file.to_string(),
        description: table.text("description").unwrap_or_default().to_owned(),
        inputs,
        budget,
        max_parallel: table.int("max_parallel").and_then(|n| usize::try_from(n).ok()).unwrap_or(4),
        deadline_ms: table.text("deadline").and_then(|text| time(text).ok()),
        on_failure: match table.text("on_failure") {
            Some("stop") => OnFailure::Stop,
            Some(_) | None => OnFailure::Continue,
        },
        output,
        tasks,
        loops,
        agents,
        crews,
        tools,
        notify,
        triggers: Vec::new(),
        templates: shelf.builder.finish(),
        summaries: loader.sums_up(),
        rules: loader.rules(),
    }
}

/// The lead exists, even if every task names somebody.
fn lead(loader: &mut Loader<'_>, making: &Making<'_>) {
    let Some(node) = making.doc.table("crew").and_then(|crew| crew.get("lead")) else { return };
    let Some(text) = node.text() else { return };
    let all = making.doc.table("agents").map(|t| t.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>());
    let all = all.unwrap_or_default();
    if !all.contains(&text) {
        unknown(loader, "E0201", "agent", text, &node.at, all);
    }
}

fn unused(loader: &mut Loader<'_>, making: &Making<'_>) {
    for (name, role) in making.agents.iter().filter(|(name, role)| !role.used && !making.delegated.contains(*name)) {
        let problem = Problem::warning("W0701", &role.at, format!("the agent `{name}` has no task"));
        loader.report(problem.help("name it with `agent = ` in a task or in some `delegates`"));
    }
}

const EVENTS: [&str; 6] = ["alert", "review", "approval", "paused", "finished", "failed"];

fn notify(loader: &mut Loader<'_>, doc: &Table) -> Option<Notify> {
    let entry = doc.entry("notify")?;
    let table = entry.node.table()?;
    let command: Vec<String> = table.texts("command").into_iter().map(|(text, _)| text.to_owned()).collect();
    if table.get("command").is_none_or(|node| node.list().is_some_and(<[Node]>::is_empty)) {
        loader.report(Problem::error("E0106", &entry.key_at, "[notify] has no `command`"));
    }
    for (event, at) in table.texts("on").into_iter().filter(|(event, _)| !EVENTS.contains(event)) {
        unknown(loader, "E0111", "event", event, at, EVENTS.to_vec());
    }
    let on =
        table.get("on").and_then(Node::list).map(|_| table.texts("on").iter().map(|(t, _)| (*t).to_owned()).collect());
    Some(Notify { command, on: on.unwrap_or_else(|| EVENTS.map(str::to_owned).to_vec()) })
}

fn sub_crews(loader: &mut Loader<'_>, making: &mut Making<'_>, task_names: &[String]) {
    let doc = making.doc;
    for entry in doc.table("crews").map(|table| table.entries.as_slice()).unwrap_or_default() {
        let (Ok(name), Some(table)) = (Name::new(&entry.key), entry.node.table()) else { continue };
        let Some(node) = table.get("file") else {
            loader.report(Problem::error("E0106", &entry.key_at, format!("the sub-crew `{name}` has no `file`")));
            continue;
        };
        let Some(path) = node.text() else { continue };
        let Some(full) = beside(&node.at.file, path) else {
            loader.report(Problem::error("E0101", &node.at, format!("`{path}` leaves the project")));
            continue;
        };
        if loader.stack.contains(&full) {
            let circle = loader.stack.iter().chain([&full]).map(String::as_str).collect::<Vec<_>>().join(" -> ");
            loader.report(Problem::error("E0115", &node.at, format!("crews call each other in a circle: {circle}")));
            continue;
        }
        if files::text(loader, &full, &node.at, "E0101").is_none() {
            continue;
        }
        let Some(crew) = crew(loader, &full, false) else { continue };
        let fixed = sub_inputs(loader, making, &name, table, &crew, task_names);
        let budget = budget::node(table);
        making.crews.insert(name, SubCrew { crew, inputs: fixed, budget });
    }
}

/// Inputs that a calling crew fixes; the names are the sub-crew's, the values templates of the caller.
fn sub_inputs(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    name: &Name,
    table: &Table,
    crew: &Crew,
    task_names: &[String],
) -> BTreeMap<Name, crate::core::template::TemplateName> {
    let mut out = BTreeMap::new();
    let items = items_of(making.doc, name);
    making.shelf.builder.item_is_data(items.contains(&Items::Result));
    for entry in table.table("inputs").map(|table| table.entries.as_slice()).unwrap_or_default() {
        let Some(input) = crew.inputs.iter().find(|input| input.name.as_str() == entry.key) else {
            let known = crew.inputs.iter().map(|input| input.name.as_str()).collect();
            unknown(loader, "E0205", &format!("input of `{}`", crew.file), &entry.key, &entry.key_at, known);
            continue;
        };
        let text = match entry.node.text() {
            Some(text) => text.to_owned(),
            None => entry.node.json().to_string(),
        };
        let node = Node { at: entry.node.at.clone(), value: super::doc::Val::Text(text) };
        let fences = if input.kind == crate::core::crew::InputKind::String { Fences::Put } else { Fences::None };
        let place = format!("crews.{name}.inputs.{}", entry.key);
        let Some(template) = making.shelf.inline(loader, &place, &node, fences) else { continue };
        // Which task calls the sub-crew decides what is in scope; a name must at least exist.
        let mut known = scope::base(making);
        known.extend(task_names.iter().map(|task| (task.clone(), Ty::Any)));
        if !items.is_empty() {
            known.extend(["item", "index", "key"].map(|name| (name.to_owned(), Ty::Any)));
        }
        scope::check(loader, &making.shelf, &template, &known, "this input", &[]);
        out.insert(input.name.clone(), template);
    }
    making.shelf.builder.item_is_data(false);
    out
}

/// What a task repeats over.
#[derive(PartialEq)]
enum Items {
    Rows,
    /// Another agent's words.
    Result,
}

/// What the tasks that a sub-crew does repeat over; empty, if none of them does.
fn items_of(doc: &Table, crew: &Name) -> Vec<Items> {
    let tasks = doc.table("tasks").map(|table| table.entries.as_slice()).unwrap_or_default();
    let own = tasks.iter().filter_map(|entry| entry.node.table());
    let own = own.filter(|task| task.text("crew") == Some(crew.as_str()));
    let items = own.filter_map(|task| task.text("for_each"));
    items.map(|text| if repeat::names_a_file(text) { Items::Rows } else { Items::Result }).collect()
}
