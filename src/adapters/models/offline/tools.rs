//! Which tools the stand-in calls. Invariant: it calls what was offered, with arguments made of the
//! request, never twice the same, and nothing that changes anything but by `delegate`.

use serde_json::{Map, Value};

use super::fit::{self, Material};
use super::heard::{Heard, delegate};
use crate::core::chat::{Effect, ModelRequest, ToolAsk, ToolSpec, wire_name};

/// Delegations in one turn.
const AT_ONCE: usize = 4;
/// Files that are read, folders that are listed.
const READS: usize = 3;
const TEXTS: [&str; 20] = [
    "md", "txt", "csv", "json", "jsonl", "toml", "yaml", "yml", "rst", "tex", "html", "xml", "log", "ini", "cfg", "rs",
    "py", "js", "ts", "go",
];

/// The calls of the next turn; empty when it is time to conclude.
pub fn next(request: &ModelRequest, heard: &Heard) -> Vec<ToolAsk> {
    let offered = |name: &str| request.tools.iter().find(|tool| tool.name == name);
    let mut calls = Vec::new();
    if let Some(tool) = offered("delegate") {
        calls.extend(delegations(tool, heard));
    }
    if calls.is_empty() {
        calls = files(offered("files.read"), offered("files.list"), heard);
    }
    let files_offered = offered("files.read").or(offered("files.list")).or(offered("delegate")).is_some();
    if calls.is_empty() && !files_offered {
        let reads = request.tools.iter().filter(|tool| tool.effect == Effect::Read);
        let fresh = reads.filter(|tool| heard.asked.iter().all(|(ask, _)| ask.name != wire_name(&tool.name)));
        calls.extend(fresh.take(1).map(|tool| (tool, arguments(tool, heard, None))));
    }
    let id = |i: usize| format!("offline_{}_{}", request.call.number, i + 1);
    let ask = |(i, (tool, arguments)): (usize, (&ToolSpec, Map<String, Value>))| ToolAsk {
        id: id(i),
        name: wire_name(&tool.name),
        arguments: Value::Object(arguments).to_string(),
    };
    calls.into_iter().enumerate().map(ask).collect()
}

type Calls<'a> = Vec<(&'a ToolSpec, Map<String, Value>)>;

fn delegations<'a>(tool: &'a ToolSpec, heard: &Heard) -> Calls<'a> {
    let names = tool.parameters.pointer("/properties/to/enum").and_then(Value::as_array);
    let done: Vec<String> = heard.asked.iter().filter_map(|(ask, _)| delegate(ask)).collect();
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    let task: String = heard.task().chars().take(1000).collect();
    let call = |to: &str| {
        let mut arguments = arguments(tool, heard, None);
        arguments.insert("to".to_owned(), Value::from(to));
        arguments.insert("task".to_owned(), Value::from(format!("Your part, as {to}, of this: {task}")));
        (tool, arguments)
    };
    names.filter(|name| !done.iter().any(|done| done == name)).take(AT_ONCE).map(call).collect()
}

fn files<'a>(read: Option<&'a ToolSpec>, list: Option<&'a ToolSpec>, heard: &Heard) -> Calls<'a> {
    let asked = |tool: &str| -> Vec<String> {
        let of = heard.asked.iter().filter(|(ask, _)| ask.name == wire_name(tool));
        of.filter_map(|(ask, _)| path_of(ask)).collect()
    };
    let (seen, listed) = (asked("files.read"), asked("files.list"));
    let listings = heard.asked.iter().filter(|(ask, _)| ask.name == wire_name("files.list"));
    let found = listings.filter_map(|(ask, result)| Some((path_of(ask)?, result.as_deref()?)));
    let named = heard.task();
    let mut candidates = paths(&named);
    for (folder, listing) in found {
        candidates.extend(paths(listing).into_iter().map(|path| within(&folder, &path)));
    }
    candidates.dedup();
    if let Some(read) = read {
        let fresh = candidates.iter().filter(|path| is_text(path) && !seen.contains(path));
        let calls: Calls<'a> = fresh
            .take(READS.saturating_sub(seen.len()))
            .map(|path| (read, arguments(read, heard, Some(path))))
            .collect();
        if !calls.is_empty() {
            return calls;
        }
    }
    let Some(list) = list.filter(|_| listed.len() < READS && seen.is_empty()) else { return Vec::new() };
    let folder = candidates.iter().find(|path| !is_text(path) && !listed.contains(path)).cloned();
    let here = || (listed.is_empty()).then(|| ".".to_owned());
    let folder = folder.or_else(here);
    folder.map(|folder| (list, arguments(list, heard, Some(&folder)))).into_iter().collect()
}

fn path_of(ask: &ToolAsk) -> Option<String> {
    let arguments: Map<String, Value> = serde_json::from_str(&ask.arguments).ok()?;
    arguments.get("path").and_then(Value::as_str).map(str::to_owned)
}

fn is_text(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(stem, ending)| !stem.is_empty() && TEXTS.contains(&ending))
}

/// What reads like a path in `text`: a known ending, or a slash at the end or after a leading dot.
fn paths(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let tokens = text.split(|c: char| c.is_whitespace() || "\"'`,;:()[]{}<>*".contains(c));
    for token in tokens.map(|token| token.trim_end_matches(['.', '!', '?'])) {
        let folder = token.len() > 1 && token.ends_with('/') || token.starts_with("./") || token.starts_with("../");
        if (is_text(token) || folder) && !token.contains("//") && !out.iter().any(|known| known == token) {
            out.push(token.to_owned());
        }
    }
    out
}

/// An entry of a listing of `folder`, whether it is printed with its folder or without.
fn within(folder: &str, entry: &str) -> String {
    let folder = folder.trim_end_matches('/');
    if folder == "." || entry.starts_with(&format!("{folder}/")) {
        return entry.to_owned();
    }
    format!("{folder}/{entry}")
}

/// Arguments that fit the tool's schema, about `path` where it takes one.
fn arguments(tool: &ToolSpec, heard: &Heard, path: Option<&str>) -> Map<String, Value> {
    let task = heard.task();
    let summary: String = task.split_whitespace().take(12).collect::<Vec<_>>().join(" ");
    let material = Material { sentences: vec![summary.clone()], summary, issues: Vec::new(), task };
    let mut map = match fit::value(&tool.parameters, &material) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let guessed = path.map(str::to_owned).or_else(|| paths(&material.task).into_iter().next());
    let takes_path = tool.parameters.pointer("/properties/path").is_some();
    if let Some(path) = guessed.filter(|_| takes_path) {
        map.insert("path".to_owned(), Value::from(path));
    }
    map
}
