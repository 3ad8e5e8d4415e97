//! `[tasks]`. Invariant: every task has exactly one who does it, and waits only for tasks there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::agents::unknown;
use super::debate::{self, Part};
use super::doc::{Entry, Node, Table};
use super::make::Making;
use super::models::Layer;
use super::problem::{At, Problem};
use super::values::time;
use super::{Loader, budget, checks, servers, tools};
use crate::core::crew::{Task, TaskApproval, ToolArg, Who};
use crate::core::ids::Name;
use crate::core::schema::{Schema, expand};
use crate::core::template::{Fences, Ty};

/// A task in the making.
pub(super) struct Draft<'d> {
    pub task: Task,
    /// Its name in the file; of a judge made by `review`, that key.
    pub at: At,
    pub table: &'d Table,
    /// Made by `review` of the task at this index.
    pub judges: Option<usize>,
    /// Made by `debate`.
    pub debate: Option<Part>,
    /// Type of its result (of one item).
    pub ty: Ty,
    /// Type of `item`, on a `for_each` task.
    pub item: Option<Ty>,
    /// Are the items another agent's words?
    pub item_is_data: bool,
    /// Source of the items, for tasks that must repeat alike.
    pub over: Option<String>,
    /// Places where it names other tasks.
    pub named: BTreeMap<Name, At>,
}

impl<'d> Draft<'d> {
    /// What other tasks see of it.
    pub fn result(&self) -> Ty {
        let one = self.ty.clone();
        Ty::Result(Box::new(if self.item.is_some() { Ty::List(Box::new(one)) } else { one }))
    }
    pub fn node(&self, key: &str) -> Option<&'d Node> {
        let own = self.judges.is_none() && self.debate.as_ref().is_none_or(|part| part.has(key));
        self.table.get(key).filter(|_| own)
    }
}

/// Names of all tasks, those made by `review` and `debate` included.
pub(super) fn names(doc: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for entry in doc.table("tasks").map(|table| table.entries.as_slice()).unwrap_or_default() {
        names.push(entry.key.clone());
        if entry.node.table().is_some_and(|table| table.get("review").is_some()) {
            names.push(format!("{}_review", entry.key));
        }
        names.extend(entry.node.table().map(|table| debate::names(&entry.key, table)).unwrap_or_default());
    }
    names
}

pub(super) fn read<'d>(loader: &mut Loader<'_>, making: &mut Making<'d>) {
    let doc: &'d Table = making.doc;
    let known = names(doc);
    let entries = doc.table("tasks").map(|table| table.entries.as_slice()).unwrap_or_default();
    if entries.is_empty() {
        let at = doc.entry("tasks").map_or_else(|| At::file(&making.file), |entry| entry.key_at.clone());
        loader.report(Problem::error("E0106", &at, "the crew has no tasks").help("write `[tasks.NAME]`"));
    }
    for entry in entries {
        let (Ok(name), Some(table)) = (Name::new(&entry.key), entry.node.table()) else { continue };
        if making.input_types.contains_key(&entry.key) {
            let mut problem = Problem::error("E0209", &entry.key_at, format!("`{name}` is an input and a task"));
            if let Some(input) = doc.table("inputs").and_then(|inputs| inputs.entry(&entry.key)) {
                problem = problem.also(&input.key_at, "the input");
            }
            loader.report(problem);
        }
        if let Some(debate) = table.entry("debate") {
            debate::read(loader, making, &known, (name, entry, table), debate);
            continue;
        }
        let draft = task(loader, making, &known, name, entry, table);
        making.drafts.push(draft);
        if let Some(review) = table.entry("review") {
            judge(loader, making, entry, table, review);
        }
    }
}

fn task<'d>(
    loader: &mut Loader<'_>,
    making: &mut Making<'d>,
    known: &[String],
    name: Name,
    entry: &'d Entry,
    table: &'d Table,
) -> Draft<'d> {
    let mut named = BTreeMap::new();
    let context = others(loader, known, table, "context", &mut named);
    let after = others(loader, known, table, "after", &mut named);
    let schema = table.get("output_schema").and_then(|node| {
        let file = node.at.file.clone();
        checks::schema(loader, node, &file, true)
    });
    let who = who(loader, making, &name, entry, table);
    let ty = match (&schema, &who) {
        (Some(schema), _) => schema.ty(),
        (None, Who::Crew(_)) => Ty::Any,
        (None, Who::Agent(_) | Who::Tool { .. }) => Ty::Text,
    };
    let own = Layer::of(table);
    let model = model(loader, making, &who, &own);
    let narrowed = tools::narrowed(loader, making, table, &who);
    let sub = matches!(who, Who::Crew(_));
    let task = Task {
        who,
        prompt: None,
        expected_output: None,
        schema: schema.map(Arc::new),
        output_file: None,
        guardrails: Vec::new(),
        context,
        after,
        when: None,
        optional: table.get("optional").and_then(Node::flag).unwrap_or(false),
        on_error: None,
        rescues: None,
        repeat: None,
        in_loop: None,
        retry: Arc::default(),
        approval: approval(loader, table, sub),
        attempts: table.int("attempts").and_then(|n| u32::try_from(n).ok()).unwrap_or(3),
        timeout_ms: table.text("timeout").and_then(|text| time(text).ok()),
        budget: budget::node(table),
        model,
        max_output: own.max_output,
        tools: narrowed,
        name,
    };
    Draft {
        task,
        at: entry.key_at.clone(),
        table,
        judges: None,
        debate: None,
        ty,
        item: None,
        item_is_data: false,
        over: None,
        named,
    }
}

/// Of a sub-crew's result its own tasks decide.
fn approval(loader: &mut Loader<'_>, table: &Table, sub: bool) -> TaskApproval {
    match table.get("approval").and_then(|node| Some((node.text()?, node))) {
        Some(("before", _)) => TaskApproval::Before,
        Some(("after", node)) if sub => {
            let problem = Problem::error("E0203", &node.at, "a sub-crew's result cannot wait for a yes");
            loader.report(problem.help("write `approval = \"after\"` in the task of its file that is its `output`"));
            TaskApproval::Never
        }
        Some(("after", _)) => TaskApproval::After,
        Some(_) | None => TaskApproval::Never,
    }
}

/// The tasks that a list names, each once, and where.
pub(super) fn others(
    loader: &mut Loader<'_>,
    known: &[String],
    table: &Table,
    key: &str,
    named: &mut BTreeMap<Name, At>,
) -> Vec<Name> {
    let mut out: Vec<Name> = Vec::new();
    for (other, at) in table.texts(key) {
        if !known.iter().any(|known| known == other) {
            unknown(loader, "E0202", "task", other, at, known.iter().map(String::as_str).collect());
        } else if let Some(name) = Name::new(other).ok().filter(|name| !out.contains(name)) {
            named.entry(name.clone()).or_insert_with(|| at.clone());
            out.push(name);
        }
    }
    out
}

/// The agent's model with what the task states laid over it.
pub(super) fn model(
    loader: &mut Loader<'_>,
    making: &Making<'_>,
    who: &Who,
    own: &Layer,
) -> Option<Arc<crate::core::crew::Model>> {
    let Who::Agent(agent) = who else { return None };
    if own.model.is_none() && own.max_output.is_none() {
        return None;
    }
    let role = making.agents.get(agent)?;
    making.models.resolve(loader, &[own, &role.layers[0], &role.layers[1]])
}

fn who(loader: &mut Loader<'_>, making: &mut Making<'_>, name: &Name, entry: &Entry, table: &Table) -> Who {
    let nobody = Who::Agent(name.clone());
    let said: Vec<&Entry> = ["agent", "crew", "tool"].iter().filter_map(|key| table.entry(key)).collect();
    if let [first, second, ..] = said.as_slice() {
        let message = format!("the task `{name}` has both `{}` and `{}`", first.key, second.key);
        let problem = Problem::error("E0206", &second.key_at, message).also(&first.key_at, "one of them is enough");
        loader.report(problem);
        return nobody;
    }
    if let Some(args) = table.entry("args").filter(|_| table.get("tool").is_none()) {
        let message = "`args` belong to a task with `tool`";
        loader.report(Problem::error("E0206", &args.key_at, message));
    }
    let Some(said) = said.first() else {
        let lead = making.doc.table("crew").and_then(|crew| crew.get("lead"));
        let Some(lead) = lead.filter(|lead| lead.text().is_some()) else {
            let problem = Problem::error("E0206", &entry.key_at, format!("nobody does the task `{name}`"));
            loader.report(problem.help("write `agent = `, `crew = ` or `tool = `, or give the crew a `lead`"));
            return nobody;
        };
        return agent(loader, making, lead).unwrap_or(nobody);
    };
    let Some(text) = said.node.text() else { return nobody };
    match said.key.as_str() {
        "agent" => agent(loader, making, &said.node).unwrap_or(nobody),
        "crew" => {
            let all = making.doc.table("crews").map(|t| t.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>());
            let all = all.unwrap_or_default();
            if !all.contains(&text) {
                unknown(loader, "E0205", "sub-crew", text, &said.node.at, all);
            }
            Name::new(text).map_or(nobody, Who::Crew)
        }
        _ => tool(loader, making, name, table, &said.node).unwrap_or(nobody),
    }
}

pub(super) fn agent(loader: &mut Loader<'_>, making: &mut Making<'_>, node: &Node) -> Option<Who> {
    let text = node.text()?;
    if let Some(role) = making.agents.get_mut(text) {
        role.used = true;
    } else if !making.broken.contains(text) {
        let all = making.doc.table("agents").map(|t| t.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>());
        unknown(loader, "E0201", "agent", text, &node.at, all.unwrap_or_default());
        return None;
    }
    Name::new(text).ok().map(Who::Agent)
}

fn tool(loader: &mut Loader<'_>, making: &mut Making<'_>, name: &Name, table: &Table, node: &Node) -> Option<Who> {
    let text = node.text()?;
    if let Some(known) = servers::unpinned(loader, &making.file, text) {
        servers::stand_in(making, &known, text);
    }
    let found = tools::offered(loader, making, &[(text.to_owned(), node.at.clone())]);
    let [tool] = found.as_slice() else {
        if found.len() > 1 {
            loader.report(Problem::error("E0203", &node.at, "a task calls one tool, not several"));
        }
        return None;
    };
    let given = table.table("args").map(|table| table.entries.as_slice()).unwrap_or_default();
    let listed: Vec<_> = given.iter().map(|arg| (arg.key.clone(), arg.key_at.clone(), Some(&arg.node))).collect();
    if let Some(def) = making.tools.get(tool).cloned() {
        tools::arguments(loader, &def, &listed, &node.at);
    }
    let mut args = BTreeMap::new();
    for arg in given {
        let template = arg.node.text().is_some_and(|text| text.contains("{{") || text.contains("{%"));
        let value = if template {
            let place = format!("tasks.{name}.args.{}", arg.key);
            let Some(template) = making.shelf.inline(loader, &place, &arg.node, Fences::None) else { continue };
            ToolArg::Template(template)
        } else {
            ToolArg::Value(arg.node.json())
        };
        args.insert(arg.key.clone(), value);
    }
    Some(Who::Tool { tool: tool.clone(), args })
}

/// The judging task that `review = { by = … }` stands for.
fn judge<'d>(loader: &mut Loader<'_>, making: &mut Making<'d>, entry: &Entry, table: &'d Table, review: &'d Entry) {
    let index = making.drafts.len() - 1;
    let Some(settings) = review.node.table() else { return };
    let Some(by) = settings.get("by") else {
        let problem = Problem::error("E0106", &review.key_at, "`review` does not say who judges");
        return loader.report(problem.help("write `review = { by = \"AGENT\" }`"));
    };
    let who = agent(loader, making, by);
    let Ok(name) = Name::new(&format!("{}_review", entry.key)) else {
        let message = format!("`{}_review` is too long for a name", entry.key);
        return loader.report(Problem::error("E0114", &entry.key_at, message));
    };
    if let Some(other) = making.doc.table("tasks").and_then(|tasks| tasks.entry(name.as_str())) {
        let problem = Problem::error("E0113", &other.key_at, format!("`review` makes a task `{name}` already"));
        return loader.report(problem.also(&review.key_at, "made here"));
    }
    let short = serde_json::json!({"verdict": "approve | revise", "issues": "string[]"});
    let schema = expand(&short).map_err(|bad| bad.message).and_then(Schema::new);
    let Ok(schema) = schema else { return };
    let judged = &making.drafts[index].task;
    // It reads what the author read, so that it can hold the result against it.
    let after = judged.context.iter().chain(&judged.after).cloned().collect();
    let task = Task {
        who: who.unwrap_or_else(|| Who::Agent(name.clone())),
        prompt: None,
        expected_output: None,
        output_file: None,
        guardrails: Vec::new(),
        context: vec![judged.name.clone()],
        after,
        when: None,
        optional: false,
        on_error: None,
        rescues: None,
        repeat: None,
        in_loop: None,
        approval: TaskApproval::Never,
        attempts: 3,
        retry: Arc::default(),
        timeout_ms: None,
        budget: Default::default(),
        model: None,
        max_output: None,
        tools: None,
        name,
        schema: None,
    };
    let ty = schema.ty();
    let task = Task { schema: Some(Arc::new(schema)), ..task };
    making.drafts.push(Draft {
        task,
        at: review.key_at.clone(),
        table,
        judges: Some(index),
        debate: None,
        ty,
        item: None,
        item_is_data: false,
        over: None,
        named: BTreeMap::new(),
    });
}
