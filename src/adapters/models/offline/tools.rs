//! Which tools the stand-in calls. Invariant: it calls what was offered, with arguments made of the
//! request, never twice the same, and nothing that changes anything but by `delegate`.

use serde_json::{Map, Value};

use super::fit::{self, Material};
use super::heard::Heard;
use super::write::PART;
use crate::core::chat::{Effect, ModelRequest, ToolAsk, ToolSpec, wire_name};
use crate::core::template::fence;

/// Delegations in one turn.
const AT_ONCE: usize = 4;
/// Files that are read.
const READS: usize = 3;
/// Folders that are listed or searched.
const LOOKS: usize = 3;
const TEXTS: [&str; 20] = [
    "md", "txt", "csv", "json", "jsonl", "toml", "yaml", "yml", "rst", "tex", "html", "xml", "log", "ini", "cfg", "rs",
    "py", "js", "ts", "go",
];

/// The calls of the next turn; empty when it is time to conclude.
pub fn next(request: &ModelRequest, heard: &Heard) -> Vec<ToolAsk> {
    let offered = |name: &str| request.tools.iter().find(|tool| tool.name == name);
    let files = Files { read: offered("files.read"), list: offered("files.list"), search: offered("files.search") };
    let known = files.read.or(files.list).or(files.search).or(offered("delegate")).is_some();
    let mut calls = Vec::new();
    if let Some(tool) = offered("delegate") {
        calls.extend(delegations(tool, heard));
    }
    if calls.is_empty() {
        calls = files.next(heard);
    }
    if calls.is_empty() && !known {
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

/// One delegation to each name: agents first, then the crews, which get what the agents have made.
fn delegations<'a>(tool: &'a ToolSpec, heard: &Heard) -> Calls<'a> {
    let names = tool.parameters.pointer("/properties/to/enum").and_then(Value::as_array);
    let done: Vec<(String, String)> = heard.delegated().collect();
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    let due: Vec<&str> = names.filter(|name| done.iter().all(|(done, _)| done != name)).collect();
    let agents: Vec<&str> = due.iter().copied().filter(|name| inputs_of(tool, name).is_none()).collect();
    let now = if agents.is_empty() { due } else { agents };
    let asked: String = heard.first_task().chars().take(1000).collect();
    // Whoever is asked sees nothing but the task: the material goes with it.
    let given = heard.material().into_iter().map(|block| fence(&block.name, &block.text));
    let given: String = given.map(|block| format!("\n\n{block}")).collect();
    let call = |to: &str| {
        let mut map = Map::new();
        map.insert("to".to_owned(), Value::from(to));
        map.insert("task".to_owned(), Value::from(format!("{PART}{to}: {asked}{given}")));
        for input in inputs_of(tool, to).into_iter().flatten() {
            if let Some(value) = input_value(tool, &input, &done, &asked) {
                map.insert(input, value);
            }
        }
        (tool, map)
    };
    now.into_iter().take(AT_ONCE).map(call).collect()
}

/// The open inputs of the crew `to`, as the tool's description names them; `None` of an agent.
fn inputs_of(tool: &ToolSpec, to: &str) -> Option<Vec<String>> {
    let line = tool.description.lines().find(|line| line.starts_with(&format!("{to}: a crew: ")))?;
    let inputs = line.rsplit_once("(give ").map(|(_, inputs)| inputs.trim_end_matches(')')).unwrap_or_default();
    Some(inputs.split(", ").filter(|input| !input.is_empty()).map(str::to_owned).collect())
}

/// What goes into an open input: one of its choices, else the last text at hand. An input that has a
/// default is left to it.
fn input_value(tool: &ToolSpec, input: &str, done: &[(String, String)], asked: &str) -> Option<Value> {
    let schema = tool.parameters.get("properties")?.get(input)?;
    if schema.get("default").is_some() {
        return None;
    }
    let texts = || done.iter().rev().map(|(_, text)| text.as_str()).find(|text| !text.trim().is_empty());
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if schema.get("enum").is_none() => Some(Value::from(texts().unwrap_or(asked))),
        Some(_) | None => {
            let words = |text: &str| vec![text.to_owned()];
            let material = Material {
                summary: asked.to_owned(),
                sentences: words(asked),
                issues: Vec::new(),
                task: asked.to_owned(),
                reason: String::new(),
            };
            Some(fit::value(schema, &material))
        }
    }
}

/// The file tools that are offered.
struct Files<'a> {
    read: Option<&'a ToolSpec>,
    list: Option<&'a ToolSpec>,
    search: Option<&'a ToolSpec>,
}

impl<'a> Files<'a> {
    fn next(&self, heard: &Heard) -> Calls<'a> {
        let task = heard.task();
        let read: Vec<String> = calls_of(heard, "files.read").filter_map(|(ask, _)| path_of(ask)).collect();
        let of = |tool, listed| {
            calls_of(heard, tool).map(move |(ask, back)| (path_of(ask).unwrap_or(".".into()), entries(back, listed)))
        };
        let looks: Vec<(String, Vec<String>)> = of("files.list", true).chain(of("files.search", false)).collect();
        let mut known = named(&task);
        let (mut wanted, mut others) = (known.clone(), Vec::new());
        for path in looks.iter().flat_map(|(folder, back)| back.iter().map(|path| within(folder, path))) {
            let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let mentioned = task.split(|c: char| c.is_whitespace() || ".,;:`\"'".contains(c)).any(|word| word == last);
            if mentioned {
                wanted.push(path.clone())
            } else {
                others.push(path.clone())
            }
            known.push(path);
        }
        let bare = |path: &str| path.trim_end_matches('/').to_owned();
        let fresh = |path: &&String| !is_text(path) && !looks.iter().any(|(folder, _)| bare(folder) == bare(path));
        let folder = if looks.len() < LOOKS { wanted.iter().find(fresh) } else { None };
        if let Some(look) = folder.and_then(|folder| self.look(heard, folder, looks.len())) {
            return vec![look];
        }
        // A named place that no look found anything in may be a file without a known ending.
        let empty = |path: &String| looks.iter().any(|(folder, found)| bare(folder) == bare(path) && found.is_empty());
        let files: Vec<String> = quoted(&task).into_iter().filter(|path| self.list.is_some() && empty(path)).collect();
        let texts = self.texts(heard, known.into_iter().filter(|path| is_text(path)).chain(files), &read);
        if !texts.is_empty() || !read.is_empty() || looks.len() >= LOOKS {
            return texts;
        }
        let here = ".".to_owned();
        let rest = [&here].into_iter().chain(&others).find(fresh);
        // Searching the same place again helps only with another pattern, which the second look has.
        let again = (looks.len() == 1 && self.list.is_none()).then(|| looks[0].0.clone());
        let rest = again.as_ref().or(rest);
        rest.and_then(|folder| self.look(heard, folder, looks.len())).into_iter().collect()
    }

    /// Reads of those of `known` that have not been read, [`READS`] in all.
    fn texts(&self, heard: &Heard, known: impl Iterator<Item = String>, read: &[String]) -> Calls<'a> {
        let Some(tool) = self.read else { return Vec::new() };
        let mut fresh: Vec<String> = Vec::new();
        for path in known.filter(|path| !read.contains(path)) {
            if !fresh.contains(&path) {
                fresh.push(path);
            }
        }
        let left = READS.saturating_sub(read.len());
        fresh.iter().take(left).map(|path| (tool, arguments(tool, heard, Some(path)))).collect()
    }

    /// What is in `folder`: by list, or by searching it for the topic, then for any word.
    fn look(&self, heard: &Heard, folder: &str, before: usize) -> Option<(&'a ToolSpec, Map<String, Value>)> {
        if let Some(tool) = self.list {
            return Some((tool, arguments(tool, heard, Some(folder))));
        }
        let tool = self.search?;
        let mut map = arguments(tool, heard, Some(folder));
        let pattern = topic(&heard.task()).filter(|_| before == 0).unwrap_or_else(|| "[a-z]{4}".to_owned());
        map.insert("pattern".to_owned(), Value::from(pattern));
        if tool.parameters.pointer("/properties/ignore_case").is_some() {
            map.insert("ignore_case".to_owned(), Value::from(true));
        }
        Some((tool, map))
    }
}

fn calls_of<'h>(heard: &'h Heard, tool: &'h str) -> impl Iterator<Item = (&'h ToolAsk, &'h str)> {
    let name = wire_name(tool);
    heard.asked.iter().filter(move |(ask, _)| ask.name == name).map(|(ask, back)| (ask, back.as_deref().unwrap_or("")))
}

/// The longest word after `about`, else of the task: what a search may find.
fn topic(task: &str) -> Option<String> {
    let subject = task.split_once("about ").map_or(task, |(_, rest)| rest);
    let subject = subject.split_once(" from ").map_or(subject, |(head, _)| head);
    let words = subject.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 3);
    // The first of the longest: `max_by_key` would take the last.
    words.rev().max_by_key(|word| word.chars().count()).map(str::to_owned)
}

/// Paths in a task: what reads like one, and the word after `from` that is no article.
fn named(task: &str) -> Vec<String> {
    const NO_PATH: [&str; 10] = ["the", "a", "an", "this", "that", "these", "your", "our", "its", "each"];
    let mut out = paths(task);
    let after = task.split_whitespace().skip_while(|word| *word != "from").nth(1);
    let word = after.map(|word| word.trim_matches(|c: char| "\"'`.,;:()".contains(c))).unwrap_or_default();
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_/.".contains(c));
    if plain && !NO_PATH.contains(&word) && !out.iter().any(|path| path.trim_end_matches('/') == word) {
        out.push(word.to_owned());
    }
    out
}

fn path_of(ask: &ToolAsk) -> Option<String> {
    let arguments: Map<String, Value> = serde_json::from_str(&ask.arguments).ok()?;
    arguments.get("path").and_then(Value::as_str).map(str::to_owned)
}

fn is_text(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(stem, ending)| !stem.is_empty() && TEXTS.contains(&ending))
}

/// Paths that a look found: the lines of a listing as they are, and what reads like one in a search's.
fn entries(back: &str, listed: bool) -> Vec<String> {
    if !listed {
        // `file:line: text`; what has another form is read as text.
        let file = |line: &str| {
            let (path, rest) = line.split_once(':')?;
            let (number, _) = rest.split_once(':')?;
            (is_text(path) && number.parse::<u64>().is_ok()).then(|| path.to_owned())
        };
        let mut found: Vec<String> =
            back.lines().flat_map(|line| file(line).map_or_else(|| paths(line), |p| vec![p])).collect();
        let mut seen = std::collections::HashSet::new();
        found.retain(|path| seen.insert(path.clone()));
        return found;
    }
    let lines = back.lines().map(str::trim).filter(|line| is_text(line) || line.ends_with('/'));
    lines.map(str::to_owned).collect()
}

/// Paths between backticks, spaces and all; after `read` or `from` a folder needs no slash.
fn quoted(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('`').collect();
    let inside = parts.windows(2).step_by(2).filter_map(|pair| {
        let path = pair[1].trim();
        let before = pair[0].split_whitespace().next_back().unwrap_or_default().to_lowercase();
        let is_path = is_text(path) || path.ends_with('/') || ["read", "from"].contains(&before.as_str());
        (is_path && !path.is_empty() && !path.contains('\n')).then(|| path.to_owned())
    });
    inside.collect()
}

/// What reads like a path in `text`: a known ending, or a slash at the end or after a leading dot.
fn paths(text: &str) -> Vec<String> {
    let mut out = quoted(text);
    // What stands between backticks has been read whole.
    let text = text.split('`').step_by(if out.iter().any(|path| path.contains(' ')) { 2 } else { 1 });
    let text = text.collect::<Vec<_>>().join(" ");
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
    if folder == "." || entry.starts_with('/') || entry.starts_with(&format!("{folder}/")) {
        return entry.to_owned();
    }
    format!("{folder}/{entry}")
}

/// Arguments that fit the tool's schema, about `path` where it takes one.
fn arguments(tool: &ToolSpec, heard: &Heard, path: Option<&str>) -> Map<String, Value> {
    let task = heard.task();
    let summary: String = task.split_whitespace().take(12).collect::<Vec<_>>().join(" ");
    let material =
        Material { sentences: vec![summary.clone()], summary, issues: Vec::new(), task, reason: String::new() };
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
