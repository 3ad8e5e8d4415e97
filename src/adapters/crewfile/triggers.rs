//! `[triggers]`. Invariant: a trigger that compiles has a source that can be looked at, and gives every
//! input that its crew needs.

use std::collections::BTreeMap;

use super::Loader;
use super::agents::unknown;
use super::doc::{Entry, Node, Table, Val};
use super::keys::TRIGGER_ONLY;
use super::make::Making;
use super::problem::{At, Problem};
use super::scope;
use super::values::time;
use crate::adapters::cron::Schedule;
use crate::adapters::tools::Glob;
use crate::core::crew::{Input, InputKind, Overlap, Trigger, TriggerSource};
use crate::core::ids::Name;
use crate::core::place;
use crate::core::template::{Fences, TemplateName, Ty};

const SETTLE_MS: u64 = 2000;
const PARALLEL: usize = 4;

pub(super) fn read(loader: &mut Loader<'_>, making: &mut Making<'_>) -> Vec<Trigger> {
    let doc = making.doc;
    let entries = doc.table("triggers").map(|table| table.entries.as_slice()).unwrap_or_default();
    entries.iter().filter_map(|entry| trigger(loader, making, entry)).collect()
}

fn trigger(loader: &mut Loader<'_>, making: &mut Making<'_>, entry: &Entry) -> Option<Trigger> {
    let (name, table) = (Name::new(&entry.key).ok()?, entry.node.table()?);
    let Some(kind) = table.get("kind") else {
        let problem = Problem::error("E0106", &entry.key_at, format!("the trigger `{name}` has no `kind`"));
        loader.report(problem.help("write `kind = \"watch\"` for files, or `kind = \"cron\"` for times"));
        return None;
    };
    let kind = kind.text()?;
    for (key, of) in TRIGGER_ONLY.iter().filter(|(_, of)| *of != kind && ["watch", "cron"].contains(&kind)) {
        if let Some(other) = table.entry(key) {
            let message = format!("`{key}` is a key of triggers of kind {of}, and `{name}` is of kind {kind}");
            loader.report(Problem::error("E0213", &other.key_at, message).help("take it out"));
        }
    }
    let source = match kind {
        "watch" => watch(loader, entry, table),
        "cron" => cron(loader, entry, table),
        // Refused with the form of the file.
        _ => None,
    };
    if let Some(TriggerSource::Watch { path, glob, .. }) = &source {
        feeds_itself(loader, making, entry, path, glob);
    }
    let event = if kind == "cron" { &["name", "time"][..] } else { &["path", "name", "size", "time"][..] };
    let inputs = inputs(loader, making, entry, table, event);
    let overlap = match table.text("overlap") {
        Some("skip") => Overlap::Skip,
        Some("parallel") => Overlap::Parallel,
        Some(_) | None => Overlap::Queue,
    };
    if let Some(most) = table.entry("max_parallel").filter(|_| overlap != Overlap::Parallel) {
        let problem = Problem::error("E0213", &most.key_at, "`max_parallel` needs `overlap = \"parallel\"`");
        loader.report(problem.help("otherwise the runs of a trigger follow each other"));
    }
    let most = table.int("max_parallel").and_then(|most| usize::try_from(most).ok());
    let max_parallel = if overlap == Overlap::Parallel { most.unwrap_or(PARALLEL) } else { 1 };
    Some(Trigger { name, source: source?, inputs, overlap, max_parallel })
}

/// A crew that writes where it is watched starts itself again and again.
fn feeds_itself(loader: &mut Loader<'_>, making: &Making<'_>, entry: &Entry, path: &str, glob: &str) {
    let deep = glob.contains('/') || glob.contains("**");
    let (Ok(watched), Ok(glob)) = (place::parts(path), Glob::new(glob)) else { return };
    for draft in &making.drafts {
        let Some((node, text)) = draft.node("output_file").and_then(|node| Some((node, node.text()?))) else {
            continue;
        };
        // Whatever stands for its templates, the folder and the ending stay.
        let example = without_templates(text);
        let Ok(parts) = place::parts(&example) else { continue };
        let below = parts.strip_prefix(watched.as_slice()).map(|below| below.join("/"));
        if below.is_some_and(|below| !below.is_empty() && glob.matches(&below)) {
            let message = format!("the result of `{}` is an event of the trigger `{}`", draft.task.name, entry.key);
            let help = "the crew would start itself again and again: write to another folder, or narrow `glob`";
            loader.report(Problem::error("E0213", &node.at, message).also(&entry.key_at, "watches it").help(help));
        }
    }
    for tool in making.doc.table("tools").map(|table| table.entries.as_slice()).unwrap_or_default() {
        let Some(table) = tool.node.table() else { continue };
        for key in ["write", "to"] {
            let one = table.get(key).and_then(|node| Some((node.text()?, &node.at)));
            let all = table.texts(key).into_iter().chain(one);
            for (folder, at) in all {
                let reaches = |parts: Vec<&str>| watched.starts_with(&parts) || deep && parts.starts_with(&watched);
                if place::parts(folder).is_ok_and(reaches) {
                    let message =
                        format!("the tool `{}` may write where the trigger `{}` watches", tool.key, entry.key);
                    let help = "what it writes there starts another run; `per_day_usd` is what bounds that";
                    loader.report(Problem::warning("W0703", at, message).help(help));
                }
            }
        }
    }
}

/// A template with `x` for whatever it puts in.
fn without_templates(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once("{{") {
        out.push_str(head);
        out.push('x');
        rest = tail.split_once("}}").map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

fn required<'t>(loader: &mut Loader<'_>, entry: &Entry, table: &'t Table, key: &str, such: &str) -> Option<&'t Node> {
    let found = table.get(key);
    if found.is_none() {
        let problem = Problem::error("E0106", &entry.key_at, format!("the trigger `{}` has no `{key}`", entry.key));
        loader.report(problem.help(format!("write `{key} = \"{such}\"`")));
    }
    found.filter(|node| node.text().is_some())
}

fn watch(loader: &mut Loader<'_>, entry: &Entry, table: &Table) -> Option<TriggerSource> {
    let node = required(loader, entry, table, "path", "inbox")?;
    let path = node.text()?;
    if let Err(why) = place::parts(path) {
        loader.report(Problem::error("E0213", &node.at, why).help("a trigger watches a folder of the project"));
    }
    let glob = table.get("glob").and_then(|node| Some((node.text()?, &node.at)));
    if let Some((text, at)) = glob {
        let hidden = text.split('/').any(|part| part.starts_with('.'));
        match Glob::new(text) {
            Err(why) => loader.report(Problem::error("E0213", at, why)),
            Ok(_) if hidden || text.is_empty() || text.starts_with('/') => {
                let problem = Problem::error("E0213", at, format!("the glob `{text}` matches no file"));
                loader.report(problem.help("it is matched below `path`; hidden files are never events"));
            }
            Ok(_) => {}
        }
    }
    let settle_ms = table.text("settle").and_then(|text| time(text).ok()).unwrap_or(SETTLE_MS);
    let glob = glob.map_or("*", |(text, _)| text).to_owned();
    Some(TriggerSource::Watch { path: path.to_owned(), glob, settle_ms })
}

fn cron(loader: &mut Loader<'_>, entry: &Entry, table: &Table) -> Option<TriggerSource> {
    let node = required(loader, entry, table, "schedule", "0 7 * * 1-5")?;
    let schedule = node.text()?.to_owned();
    let timezone = table.text("timezone").map(str::to_owned);
    // A run that was begun does not need its schedule any more.
    if !loader.options.pinned
        && let Err(why) = Schedule::new(&schedule, timezone.as_deref())
    {
        let zone = table.get("timezone").filter(|_| why.contains("time zone"));
        loader.report(Problem::error("E0213", zone.map_or(&node.at, |zone| &zone.at), why));
    }
    Some(TriggerSource::Cron { schedule, timezone, catch_up: table.flag("catch_up").unwrap_or(false) })
}

fn inputs(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    entry: &Entry,
    table: &Table,
    event: &[&str],
) -> BTreeMap<Name, TemplateName> {
    let mut out = BTreeMap::new();
    let field = |name: &str| (name.to_owned(), if name == "size" { Ty::Number } else { Ty::Text });
    let fields = event.iter().map(|name| field(name)).collect();
    let known = BTreeMap::from([("event".to_owned(), Ty::Object { fields, open: false })]);
    let given = table.table("inputs").map(|table| table.entries.as_slice()).unwrap_or_default();
    for one in given {
        let Some(input) = making.inputs.iter().find(|input| input.name.as_str() == one.key).cloned() else {
            let names = making.inputs.iter().map(|input| input.name.as_str()).collect();
            unknown(loader, "E0213", "input of this crew", &one.key, &one.key_at, names);
            continue;
        };
        if let Some(template) = value(loader, making, entry, &input, &one.node) {
            let who = format!("the trigger `{}`", entry.key);
            scope::check(loader, &making.shelf, &template, &known, &who, &[]);
            out.insert(input.name, template);
        }
    }
    for input in making.inputs.iter().filter(|input| input.default.is_none() && !input.secret) {
        if !given.iter().any(|one| one.key == input.name.as_str()) {
            let such = if event.contains(&"path") { "{{ event.path }}" } else { "{{ event.time }}" };
            let message = format!("the trigger `{}` does not give the input `{}`", entry.key, input.name);
            let help = format!("write `inputs = {{ {} = \"{such}\" }}`, or give the input a default", input.name);
            loader.report(Problem::error("E0213", &entry.key_at, message).help(help));
        }
    }
    out
}

/// The template of one input; a value without a template in it is checked here and now.
fn value(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    entry: &Entry,
    input: &Input,
    node: &Node,
) -> Option<TemplateName> {
    let text = node.text().map_or_else(|| node.json().to_string(), str::to_owned);
    let wrong = |loader: &mut Loader<'_>, at: &At, why: String| loader.report(Problem::error("E0213", at, why));
    if input.secret {
        let variable = format!("BOSUN_INPUT_{}", input.name.as_str().to_ascii_uppercase());
        wrong(
            loader,
            &node.at,
            format!("the secret `{}` comes from the variable {variable}, not from a file", input.name),
        );
        return None;
    }
    if !text.contains("{{") && !text.contains("{%") {
        if let Err(why) = input.parse(&text) {
            wrong(loader, &node.at, why);
        } else if let (InputKind::Path, Err(why)) = (input.kind, place::parts(&text)) {
            wrong(loader, &node.at, why);
        }
    }
    let node = Node { at: node.at.clone(), value: Val::Text(text) };
    making.shelf.inline(loader, &format!("triggers.{}.inputs.{}", entry.key, input.name), &node, Fences::None)
}
