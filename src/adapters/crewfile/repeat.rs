//! `for_each`. Invariant: what a task repeats over is known and bounded before anything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Loader;
use super::doc::Node;
use super::make::Making;
use super::problem::{At, Problem};
use super::prompts::{Site, report};
use super::rows::{self, Lines};
use super::source::beside;
use crate::core::crew::{Over, Repeat, Row};
use crate::core::ids::Name;
use crate::core::template::{Builder, Fences, Scope, TemplateName, Ty, Typing};

/// Keys that mean nothing without `for_each`.
const ONLY: [&str; 4] = ["key", "max_items", "max_parallel", "window"];

pub(super) fn read(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    // Judges made by `review` repeat as the task they judge, so that one is done first.
    for index in 0..making.drafts.len() {
        if let Some(judged) = making.drafts[index].judges {
            alike(making, index, judged);
            continue;
        }
        // A debate is not repeated, which was said where it stands.
        if making.drafts[index].debate.is_some() {
            continue;
        }
        let table = making.drafts[index].table;
        let Some(node) = table.get("for_each").filter(|node| node.text().is_some()) else {
            for entry in ONLY.iter().filter_map(|key| table.entry(key)) {
                let message = format!("`{}` means nothing without `for_each`", entry.key);
                loader.report(Problem::error("E0211", &entry.key_at, message));
            }
            continue;
        };
        if let Some(entry) = table.entry("max_parallel").filter(|_| table.get("window").is_some()) {
            let message = "`window` hands each item the results before it, so items run one at a time";
            loader.report(Problem::error("E0211", &entry.key_at, message).help("take `max_parallel` out"));
        }
        let text = node.text().unwrap_or_default();
        if names_a_file(text) {
            over_rows(loader, making, index, node, text);
        } else if let Some(problem) = other_file(loader, making, node, text) {
            loader.report(problem);
            (making.drafts[index].item, making.unsure) = (Some(Ty::Any), true);
        } else {
            over_result(loader, making, index, node, text);
        }
    }
}

/// Endings of files that may hold a list, as people name them.
const ENDINGS: [&str; 12] =
    ["csv", "jsonl", "json", "ndjson", "tsv", "txt", "xls", "xlsx", "yaml", "yml", "toml", "md"];

/// What is wrong with a text that names a file, but none of rows; a task's result comes first.
fn other_file(loader: &Loader<'_>, making: &Making<'_>, node: &Node, text: &str) -> Option<Problem> {
    let first = text.split(['.', '|', '[', ' ']).next().unwrap_or_default();
    if text.is_empty() || making.draft(first).is_some() {
        return None;
    }
    let there = beside(&node.at.file, text).is_some_and(|path| !path.is_empty() && loader.files.exists(&path));
    let (stem, ending) = text.rsplit_once('.').unwrap_or((text, ""));
    let folded = ending.to_lowercase();
    if !there && !ENDINGS.contains(&folded.as_str()) && !text.contains('/') {
        return None;
    }
    let found: String = text.chars().take(80).collect();
    let help = match folded.as_str() {
        "csv" | "jsonl" => format!("rename it to `{stem}.{folded}`"),
        "json" | "ndjson" => format!("write one JSON value per line, and call it `{stem}.jsonl`"),
        _ => "write it as csv with a header, or as jsonl with one JSON value per line".to_owned(),
    };
    let message = format!("a list file ends in .csv or .jsonl, found `{found}`");
    Some(Problem::error("E0211", &node.at, message).help(help))
}

/// Is that the path of a file of rows, not a list in a result?
pub(super) fn names_a_file(for_each: &str) -> bool {
    for_each.ends_with(".csv") || for_each.ends_with(".jsonl")
}

fn alike(making: &mut Making<'_>, judge: usize, judged: usize) {
    let of = &making.drafts[judged];
    let Some(repeat) = &of.task.repeat else { return };
    let over = match &repeat.over {
        Over::Rows(rows) => Over::Rows(rows.clone()),
        Over::Result { task, list } => Over::Result { task: task.clone(), list: list.clone() },
    };
    let key = repeat.key.clone();
    let copy = Repeat { over, key, max_items: repeat.max_items, max_parallel: repeat.max_parallel, window: None };
    let (item, data, source) = (of.item.clone(), of.item_is_data, of.over.clone());
    let draft = &mut making.drafts[judge];
    (draft.item, draft.item_is_data, draft.over) = (item, data, source);
    draft.task.repeat = Some(copy);
}

fn bounds(making: &Making<'_>, index: usize) -> (Option<u32>, Option<usize>, Option<u64>) {
    let table = making.drafts[index].table;
    let small = |key: &str| table.int(key).and_then(|n| u32::try_from(n).ok());
    let window = table.table("window").and_then(|window| window.int("tokens"));
    (small("max_items"), small("max_parallel").and_then(|n| usize::try_from(n).ok()), window)
}

fn over_rows(loader: &mut Loader<'_>, making: &mut Making<'_>, index: usize, node: &Node, path: &str) {
    let Some(full) = beside(&node.at.file, path) else {
        return loader.report(Problem::error("E0601", &node.at, format!("`{path}` leaves the project")));
    };
    let (max_items, max_parallel, window) = bounds(making, index);
    if let Some(entry) = making.drafts[index]
        .table
        .entry("window")
        .filter(|entry| entry.node.table().is_some_and(|window| window.get("tokens").is_none()))
    {
        loader.report(Problem::error("E0106", &entry.key_at, "`window` has no `tokens`"));
    }
    let lines = rows::read(loader, &full, &node.at);
    let draft = &mut making.drafts[index];
    draft.over = Some(full);
    // Without its rows the task still repeats; its items are then unknown.
    draft.item = Some(lines.as_ref().map_or(Ty::Any, |lines| lines.ty.clone()));
    let Some(lines) = lines else { return };
    if let Some(most) = max_items.filter(|most| lines.rows.len() > *most as usize) {
        let message = format!("the file has {} rows, `max_items` is {most}", lines.rows.len());
        loader.report(Problem::error("E0604", &node.at, message));
    }
    let Some(texts) = keys(loader, making, index, &lines) else { return };
    let Some(keys) = rows::keyed(loader, &lines.rows, texts) else { return };
    let rows: Vec<Row> =
        keys.into_iter().zip(lines.rows).map(|(key, line)| Row { key, item: line.item.into() }).collect();
    let over = Over::Rows(rows.into());
    making.drafts[index].task.repeat = Some(Repeat { over, key: None, max_items, max_parallel, window });
}

/// The keys of rows: a column if one matches, else a template, else the index.
fn keys(loader: &mut Loader<'_>, making: &Making<'_>, index: usize, lines: &Lines) -> Option<Vec<String>> {
    let Some(node) = making.drafts[index].table.get("key") else {
        return Some((1..=lines.rows.len()).map(|n| n.to_string()).collect());
    };
    let text = node.text()?;
    let column = |row: &rows::Line| match row.item.get(text) {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => Some(value.to_string()),
        Some(_) | None => None,
    };
    if !text.contains("{{") {
        if let Ty::Object { fields, .. } = &lines.ty
            && !fields.contains_key(text)
        {
            let known = fields.keys().map(String::as_str).collect();
            super::agents::unknown(loader, "E0602", "column", text, &node.at, known);
            return None;
        }
        let all = lines.rows.iter().map(column);
        return Some(all.map(Option::unwrap_or_default).collect());
    }
    let mut builder = Builder::new([]);
    let name = TemplateName("key".into());
    let site = Site::of(loader, node);
    if let Err(faults) = builder.add(&name, text, Fences::None) {
        report(loader, &site, faults);
        return None;
    }
    let known: BTreeMap<String, Ty> = [("item".to_owned(), lines.ty.clone()), ("index".to_owned(), Ty::Number)].into();
    if !super::scope::uses(loader, builder.uses(&name), &site, &known, "the key") {
        return None;
    }
    let templates = builder.finish();
    let mut out = Vec::with_capacity(lines.rows.len());
    for (index, row) in lines.rows.iter().enumerate() {
        let mut scope = Scope::default();
        scope.json("item", row.item.clone());
        scope.json("index", (index + 1).into());
        match templates.render(&name, &scope) {
            Ok(key) => out.push(key),
            Err(error) => {
                loader.report(Problem::error("E0602", &row.at, format!("row {}: {}", index + 1, error.message)));
                return None;
            }
        }
    }
    Some(out)
}

fn over_result(loader: &mut Loader<'_>, making: &mut Making<'_>, index: usize, node: &Node, text: &str) {
    let names = making.drafts.iter().map(|draft| (draft.task.name.to_string(), draft.result())).collect();
    let site = Site::of(loader, node);
    let (max_items, max_parallel, window) = bounds(making, index);
    making.drafts[index].item = Some(Ty::Any);
    making.drafts[index].item_is_data = true;
    if max_items.is_none() {
        let problem = Problem::error("E0211", &node.at, "a list in a result has no known length");
        loader.report(problem.help("write `max_items`: more is a question to you, never a cut"));
    }
    let found = making.shelf.builder.expression(text, &Typing { names, bare: None });
    let (list, uses, ty) = match found {
        Ok(found) => found,
        Err(faults) => {
            making.unsure = true;
            report(loader, &site, faults);
            return;
        }
    };
    let item = match ty {
        Ty::List(item) => *item,
        Ty::Result(inner) => match *inner {
            Ty::List(item) => *item,
            Ty::Any => Ty::Any,
            other => return not_a_list(loader, &node.at, text, &other),
        },
        Ty::Any => Ty::Any,
        other => return not_a_list(loader, &node.at, text, &other),
    };
    let Some(task) = uses.first().and_then(|one| Name::new(&one.name).ok()) else { return };
    if task == making.drafts[index].task.name {
        return loader.report(Problem::error("E0211", &node.at, "a task cannot repeat over its own result"));
    }
    let draft = &mut making.drafts[index];
    if !draft.task.context.contains(&task) && !draft.task.after.contains(&task) {
        draft.task.after.push(task.clone());
        draft.named.insert(task.clone(), node.at.clone());
    }
    draft.item = Some(item.clone());
    draft.over = Some(text.to_owned());
    let key = key_template(loader, making, index, &item);
    making.drafts[index].task.repeat =
        Some(Repeat { over: Over::Result { task, list }, key, max_items, max_parallel, window });
}

fn not_a_list(loader: &mut Loader<'_>, at: &At, text: &str, ty: &Ty) {
    let found = match ty {
        Ty::Text | Ty::OneOf(_) => "a text",
        Ty::Number => "a number",
        Ty::Bool => "true or false",
        Ty::Object { .. } => "an object",
        Ty::Any | Ty::List(_) | Ty::Result(_) => "something else",
    };
    let message = format!("`{text}` is {found}, `for_each` needs a list");
    let help = "give the earlier task an `output_schema` with a list, such as `{ items = \"string[]\" }`, and name it: \
                `for_each = \"plan.items\"`";
    loader.report(Problem::error("E0211", at, message).help(help));
}

/// The key of an item of a result: a field, or a template over `item` and `index`.
fn key_template(loader: &mut Loader<'_>, making: &mut Making<'_>, index: usize, item: &Ty) -> Option<TemplateName> {
    let draft = &making.drafts[index];
    let node = draft.table.get("key")?;
    let text = node.text()?;
    let place = format!("tasks.{}.key", draft.task.name);
    let source = if text.contains("{{") { text.to_owned() } else { format!("{{{{ item.{text} }}}}") };
    let made = Node { at: node.at.clone(), value: super::doc::Val::Text(source) };
    let name = making.shelf.inline(loader, &place, &made, Fences::None)?;
    let known: BTreeMap<String, Ty> = [("item".to_owned(), item.clone()), ("index".to_owned(), Ty::Number)].into();
    super::scope::check(loader, &making.shelf, &name, &known, "the key", &[]);
    Some(name)
}

/// Are the rows of a task known, and which are they?
pub(super) fn rows(repeat: Option<&Repeat>) -> Option<Arc<[Row]>> {
    match repeat.map(|repeat| &repeat.over) {
        Some(Over::Rows(rows)) => Some(rows.clone()),
        Some(Over::Result { .. }) | None => None,
    }
}
