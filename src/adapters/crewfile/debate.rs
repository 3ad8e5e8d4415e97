//! `debate`. Invariant: a debate is made of ordinary tasks, so that budget, resume, replay and the rules for
//! failures are those of tasks; its rounds are bounded, and nobody in it has two voices.
//!
//! `[tasks.topic]` with `debate = { agents = ["a", "b"], max_rounds = 3, judge = "c" }` becomes the tasks
//! `topic_a` and `topic_b`, which speak in this order in each round of one loop (`topic_a#1`, `topic_b#1`,
//! `topic_a#2`, …), and `topic`, which the judge does when the loop is over. Without a judge the last
//! speaker's task is `topic` itself: its last message is the result. What the task says of its result
//! (`output_schema`, `expected_output`, `guardrails`, `output_file`) is the judge's; without one each message
//! has to meet it, and the last is written. `description`, `prompt`, `context`, `after`, `when`, `optional`,
//! `model`, `max_output`, `tools`, `attempts`, `retry` and `timeout` hold for everyone in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::doc::{Entry, Node, Table};
use super::make::Making;
use super::models::Layer;
use super::problem::{At, Problem};
use super::prompts::{Site, report};
use super::tasks::{self, Draft};
use super::values::time;
use super::{Loader, checks, tools};
use crate::core::crew::{Loop, OnLimit, Task, TaskApproval, Who};
use crate::core::ids::Name;
use crate::core::schema::Schema;
use crate::core::template::{Condition, Ty, Typing};

/// A draft that is part of a debate. All of one debate stand in a row.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Index of the first speaker's draft.
    first: usize,
    /// How many speak.
    speakers: usize,
    /// Its result is the debate's.
    pub closes: bool,
    /// What the task says of its result is said of this one's.
    result: bool,
}

impl Part {
    /// Does a key of the task's table hold for this part?
    pub fn has(&self, key: &str) -> bool {
        match key {
            "output_file" => self.closes,
            "expected_output" | "guardrails" => self.result,
            _ => true,
        }
    }
}

/// What a debate does otherwise, and why.
const REFUSED: [(&str, &str); 14] = [
    ("agent", "a debate names its agents itself"),
    ("crew", "a debate names its agents itself"),
    ("tool", "a debate names its agents itself"),
    ("args", "a debate names its agents itself"),
    ("for_each", "let a sub-crew debate, and repeat that"),
    ("key", "a debate is not repeated"),
    ("max_items", "a debate is not repeated"),
    ("max_parallel", "a debate is not repeated"),
    ("window", "a debate is not repeated"),
    ("review", "a debate has a `judge`; let another task review its result"),
    ("revise", "a debate has a `judge`; let another task judge"),
    ("approval", "put it on the task that uses the result"),
    ("on_error", "write `optional = true`, and a task that does without the result"),
    ("budget", "limit its agents, or make it a sub-crew with a `budget`"),
];

/// Names of the tasks that a debate makes beside its own.
pub(super) fn names(task: &str, table: &Table) -> Vec<String> {
    let Some(debate) = table.table("debate") else { return Vec::new() };
    let mut all: Vec<String> = debate.texts("agents").into_iter().map(|(name, _)| format!("{task}_{name}")).collect();
    if debate.get("judge").is_none() {
        all.pop();
    }
    all
}

/// Names by which templates know what somebody in a debate has said.
pub(super) fn voices(doc: &Table) -> Vec<String> {
    let tasks = doc.table("tasks").map(|table| table.entries.as_slice()).unwrap_or_default();
    let debates = tasks.iter().filter_map(|entry| entry.node.table()?.table("debate"));
    debates.flat_map(|debate| debate.texts("agents")).map(|(name, _)| name.to_owned()).collect()
}

pub(super) fn read<'d>(
    loader: &mut Loader<'_>,
    making: &mut Making<'d>,
    known: &[String],
    (name, entry, table): (Name, &'d Entry, &'d Table),
    debate: &'d Entry,
) {
    for (key, help) in REFUSED {
        if let Some(other) = table.entry(key) {
            let problem = Problem::error("E0214", &other.key_at, format!("`{key}` does not go with `debate`"));
            loader.report(problem.also(&debate.key_at, "the debate").help(help));
        }
    }
    let Some(settings) = debate.node.table() else { return };
    let voices = agents(loader, making, debate, settings);
    let judge = judge(loader, making, settings, &voices);
    if settings.get("max_rounds").is_none() {
        let problem = Problem::error("E0106", &debate.key_at, "`debate` has no `max_rounds`");
        loader.report(problem.help("write `max_rounds = 3`: what a run may cost is known before it starts"));
    }
    let schemas = schemas(loader, table, settings, judge.is_some());
    let mut named = BTreeMap::new();
    let context = tasks::others(loader, known, table, "context", &mut named);
    let after = tasks::others(loader, known, table, "after", &mut named);
    let (first, speakers) = (making.drafts.len(), voices.len());
    let mut spoken = context;
    let mut made = Vec::new();
    for (number, voice) in voices.iter().enumerate() {
        let closes = judge.is_none() && number + 1 == speakers;
        let own = if closes { Some(name.clone()) } else { part_name(loader, making, &name, voice, entry) };
        let Some(own) = own else { continue };
        let part = Part { first, speakers, closes, result: judge.is_none() };
        let (who, context) = (Who::Agent(voice.0.clone()), spoken.clone());
        made.push(Made { part, name: own.clone(), who, schema: schemas.0.clone(), context });
        spoken.push(own);
    }
    if let Some(judge) = judge {
        let part = Part { first, speakers, closes: true, result: true };
        made.push(Made { part, name, who: Who::Agent(judge), schema: schemas.1, context: spoken });
    }
    for one in made {
        let draft = draft(loader, making, table, one, (&after, &named, &entry.key_at));
        making.drafts.push(draft);
    }
}

/// One part as its task is to be.
struct Made {
    part: Part,
    name: Name,
    who: Who,
    schema: Option<Schema>,
    /// What comes before it: of the task, and who speaks before.
    context: Vec<Name>,
}

/// Those who argue, each once.
fn agents<'d>(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    debate: &'d Entry,
    settings: &'d Table,
) -> Vec<(Name, &'d At)> {
    let Some(list) = settings.get("agents") else {
        let problem = Problem::error("E0106", &debate.key_at, "`debate` does not say who argues");
        loader.report(problem.help("write `agents = [\"a\", \"b\"]`"));
        return Vec::new();
    };
    let mut all: Vec<(Name, &At)> = Vec::new();
    for node in list.list().unwrap_or_default() {
        let Some(Who::Agent(name)) = tasks::agent(loader, making, node) else { continue };
        if let Some((_, before)) = all.iter().find(|(other, _)| *other == name) {
            let problem = Problem::error("E0214", &node.at, format!("`{name}` argues twice"));
            loader.report(problem.also(before, "here already").help("let another agent take the other side"));
            continue;
        }
        let (inputs, tasks) = (&making.input_types, making.doc.table("tasks"));
        let taken = inputs.contains_key(name.as_str()) || tasks.is_some_and(|tasks| tasks.get(name.as_str()).is_some());
        if taken {
            let message = format!("`{name}` is also an input or a task: prompts and `until` could not tell them apart");
            loader.report(Problem::error("E0214", &node.at, message).help("give the agent another name"));
        }
        all.push((name, &node.at));
    }
    if list.list().is_some_and(|list| list.len() < 2) {
        let problem = Problem::error("E0214", &list.at, "a debate takes two agents or more");
        loader.report(problem.help("name whoever takes the other side"));
    }
    all
}

fn judge(loader: &mut Loader<'_>, making: &mut Making<'_>, settings: &Table, voices: &[(Name, &At)]) -> Option<Name> {
    let node = settings.get("judge")?;
    let Some(Who::Agent(judge)) = tasks::agent(loader, making, node) else {
        // Said where it stands; the debate keeps its shape.
        return node.text().and_then(|text| Name::new(text).ok());
    };
    if let Some((_, at)) = voices.iter().find(|(voice, _)| *voice == judge) {
        let problem =
            Problem::error("E0214", &node.at, format!("`{judge}` would judge a debate that it takes part in"));
        loader.report(problem.also(at, "it argues").help("let another agent judge, or leave `judge` out"));
    }
    Some(judge)
}

/// Schemas of a message and of the result.
fn schemas(loader: &mut Loader<'_>, table: &Table, settings: &Table, judged: bool) -> (Option<Schema>, Option<Schema>) {
    let mut read = |node: &Node| {
        let file = node.at.file.clone();
        checks::schema(loader, node, &file, true)
    };
    let result = table.get("output_schema").and_then(&mut read);
    let says = settings.get("says").and_then(&mut read);
    if let Some(entry) = settings.entry("says").filter(|_| !judged) {
        let problem = Problem::error("E0214", &entry.key_at, "`says` belongs to a debate with a `judge`");
        loader.report(problem.help("without one, each message has the `output_schema` of the task"));
    }
    (if judged { says } else { result.clone() }, result)
}

fn part_name(
    loader: &mut Loader<'_>,
    making: &Making<'_>,
    task: &Name,
    (voice, at): &(Name, &At),
    entry: &Entry,
) -> Option<Name> {
    let text = format!("{task}_{voice}");
    let Ok(name) = Name::new(&text) else {
        loader.report(Problem::error("E0114", &entry.key_at, format!("`{text}` is too long for a name")));
        return None;
    };
    if let Some(other) = making.doc.table("tasks").and_then(|tasks| tasks.entry(&text)) {
        let problem = Problem::error("E0113", &other.key_at, format!("`debate` makes a task `{name}` already"));
        loader.report(problem.also(at, "made for this agent"));
    }
    Some(name)
}

fn draft<'d>(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    table: &'d Table,
    made: Made,
    (after, named, at): (&[Name], &BTreeMap<Name, At>, &At),
) -> Draft<'d> {
    let Made { part, name, who, schema, context } = made;
    let (after, named, at) = (after.to_vec(), named.clone(), at.clone());
    let own = Layer::of(table);
    let narrowed = tools::narrowed(loader, making, table, &who);
    let ty = schema.as_ref().map_or(Ty::Text, Schema::ty);
    let task = Task {
        prompt: None,
        expected_output: None,
        output_file: None,
        guardrails: Vec::new(),
        context,
        after,
        when: None,
        optional: table.flag("optional").unwrap_or(false),
        on_error: None,
        rescues: None,
        repeat: None,
        in_loop: None,
        approval: TaskApproval::default(),
        attempts: table.int("attempts").and_then(|n| u32::try_from(n).ok()).unwrap_or(3),
        retry: Arc::default(),
        timeout_ms: table.text("timeout").and_then(|text| time(text).ok()),
        budget: Default::default(),
        model: tasks::model(loader, making, &who, &own),
        max_output: own.max_output,
        tools: narrowed,
        schema: schema.map(Arc::new),
        who,
        name,
    };
    let (judges, item, item_is_data, over) = (None, None, false, None);
    Draft { task, at, table, judges, debate: Some(part), ty, item, item_is_data, over, named }
}

/// The loop of each debate.
pub(super) fn loops(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    for closing in 0..making.drafts.len() {
        let draft = &making.drafts[closing];
        let Some(Part { first, speakers, .. }) = draft.debate.clone().filter(|part| part.closes) else { continue };
        let Some(settings) = draft.table.table("debate").filter(|_| speakers > 1) else { continue };
        let body: Vec<usize> = (first..first + speakers).collect();
        if body.iter().any(|speaker| making.drafts.get(*speaker).is_none_or(|draft| draft.debate.is_none())) {
            continue;
        }
        let max_rounds = settings.int("max_rounds").and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
        let Some(until) = until(loader, making, &body, settings, max_rounds) else { continue };
        let index = making.loops.len();
        body.iter().for_each(|speaker| making.drafts[*speaker].task.in_loop = Some(index));
        let (revised, judge) = (first, first + speakers - 1);
        let (on_limit, per_item, debate) = (OnLimit::Accept, false, Some(closing));
        making.loops.push(Loop { body, revised, judge, until, max_rounds, on_limit, per_item, debate });
    }
}

/// The condition that ends it: over each one's message of the round, and `round`.
fn until(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    body: &[usize],
    settings: &Table,
    max_rounds: u32,
) -> Option<Condition> {
    let mut names: BTreeMap<String, Ty> = making.input_types.clone();
    names.extend(body.iter().filter_map(|speaker| voice(&making.drafts[*speaker])));
    names.insert("round".into(), Ty::Number);
    let typing = Typing { names, bare: None };
    let node = settings.get("until");
    let all = Loop::all_rounds(max_rounds);
    let text = node.map_or(Some(all.as_str()), Node::text)?;
    match making.shelf.builder.condition(text, &typing) {
        Ok((condition, _)) => Some(condition),
        Err(faults) => {
            if let Some(node) = node {
                let site = Site::of(loader, node);
                report(loader, &site, faults);
            }
            None
        }
    }
}

/// What a speaker's words are called, and what they are.
fn voice(draft: &Draft<'_>) -> Option<(String, Ty)> {
    let Who::Agent(name) = &draft.task.who else { return None };
    Some((name.to_string(), Ty::Result(Box::new(draft.ty.clone()))))
}

/// Names that templates of a part of a debate see besides: what each has said last, and `round`.
pub(super) fn scope(making: &Making<'_>, index: usize, names: &mut BTreeMap<String, Ty>) {
    let Some(part) = &making.drafts[index].debate else { return };
    let speakers = making.drafts.iter().skip(part.first).take(part.speakers);
    names.extend(speakers.filter_map(voice));
    names.insert("round".into(), Ty::Number);
    names.insert("previous".into(), Ty::Result(Box::new(making.drafts[index].ty.clone())));
    names.remove("feedback");
}
