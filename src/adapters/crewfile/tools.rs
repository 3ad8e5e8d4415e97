//! `[tools]` and the tools that agents name. Invariant: a tool that is offered exists, and its
//! arguments have a validator.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::agents::unknown;
use super::doc::{Entry, Node, Table};
use super::make::Making;
use super::problem::{At, Problem};
use super::values::time;
use super::{Loader, approval, budget, servers};
use crate::adapters::tools::is_builtin;
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::{ToolDef, ToolPlaces, ToolSource, Who};
use crate::core::money::NanoUsd;
use crate::core::schema::{Schema, expand, is_json_schema};

/// The builtin whose words always come from outside.
const WEB: &str = "web.fetch";
/// Builtins that are known and not built yet.
pub(super) const LATER: &[&str] = &["shell.run", "code.python", "memory.save", "memory.search", "knowledge.search"];

/// The tools of a crew by name: the builtins, and its own.
pub(super) fn read(loader: &mut Loader<'_>, doc: &Table, file: &str) -> BTreeMap<String, Arc<ToolDef>> {
    let mut all = BTreeMap::new();
    for spec in loader.options.builtin_tools {
        let source = ToolSource::Builtin { name: spec.name.clone(), places: ToolPlaces::default() };
        // Those of a host program may be anything.
        let own = is_builtin(&spec.name).then(|| Schema::known(spec.parameters.clone()));
        if let Some(arguments) = own.or_else(|| Schema::new(spec.parameters.clone()).ok()) {
            let (spec, approval) = (spec.clone(), approval::unstated(loader, spec));
            let cost_per_call = NanoUsd::ZERO;
            let taints = loader.taints() && spec.name == WEB;
            let def = ToolDef { spec, arguments, max_calls: None, cost_per_call, approval, taints, source };
            all.insert(def.spec.name.clone(), Arc::new(def));
        }
    }
    for entry in doc.table("tools").map(|table| table.entries.as_slice()).unwrap_or_default() {
        let Some(table) = entry.node.table() else { continue };
        strangers(loader, table);
        let made = match (table.text("use"), table.text("kind")) {
            (Some(_), Some(kind @ ("command" | "http" | "mcp"))) => {
                let what = match kind {
                    "mcp" => "server",
                    "http" => "request",
                    _ => "command",
                };
                let message = format!("the tool `{}` is a {what} and a builtin at once", entry.key);
                loader.report(Problem::error("E0203", &entry.key_at, message).help("leave out `use` or `kind`"));
                None
            }
            (Some(_), _) | (None, Some("builtin")) => builtin(loader, entry, table),
            (None, Some("command")) => command(loader, entry, table, file),
            (None, Some("http")) => super::http::tool(loader, entry, table, file),
            (None, Some("mcp")) => {
                servers::read(loader, entry, table, file, &mut all);
                None
            }
            (None, Some(_)) => None,
            (None, None) => {
                let message = format!("the tool `{}` has neither `use` nor `kind`", entry.key);
                let help = "write `use = \"files.write\"` for a builtin, `kind = \"command\"` or `kind = \"http\"`";
                loader.report(Problem::error("E0106", &entry.key_at, message).help(help));
                None
            }
        };
        if let Some(def) = made {
            all.insert(entry.key.clone(), Arc::new(def));
        }
    }
    all
}

fn builtin(loader: &mut Loader<'_>, entry: &Entry, table: &Table) -> Option<ToolDef> {
    let Some(node) = table.get("use") else {
        let message = format!("the tool `{}` does not say which builtin it is", entry.key);
        loader.report(Problem::error("E0106", &entry.key_at, message).help("write `use = \"files.write\"`"));
        return None;
    };
    let name = node.text()?;
    let Some(spec) = loader.options.builtin_tools.iter().find(|spec| spec.name == name).cloned() else {
        missing(loader, name, &node.at, &[]);
        return None;
    };
    meaningless(loader, table, &spec.name);
    let mut folders = |key: &str| paths(loader, table, key);
    let (read, write, from, to) = (folders("read"), folders("write"), folders("from"), folders("to"));
    let places = ToolPlaces { read, write, from, to, net: super::http::net(loader, table) };
    let source = ToolSource::Builtin { name: spec.name.clone(), places };
    let own = ToolSpec { name: entry.key.clone(), ..limits(table, spec) };
    let arguments = Schema::new(own.parameters.clone()).ok()?;
    let (max_calls, approval) = (table.int("max_calls"), approval::read(loader, table, &source, own.effect));
    let taints = untrusted(loader, table, &source);
    Some(ToolDef { spec: own, arguments, max_calls, cost_per_call: cost(table), approval, taints, source })
}

/// Is what a tool says not to be trusted? Its table may say otherwise: a builtin's that its files come from
/// outside, another's that its owner vouches for what it says.
pub(super) fn untrusted(loader: &mut Loader<'_>, table: &Table, source: &ToolSource) -> bool {
    let (usual, web) = match source {
        ToolSource::Builtin { name, .. } => (name == WEB, name == WEB),
        ToolSource::Command { .. } | ToolSource::Http(_) | ToolSource::Mcp { .. } => (true, false),
    };
    let stated = table.flag("untrusted");
    if let (Some(entry), true, Some(false)) = (table.entry("untrusted"), web, stated) {
        let problem =
            Problem::error("E0203", &entry.key_at, "nobody can vouch for every page that `web.fetch` may read");
        loader.report(problem.help("leave it out; for one service that you trust write a tool of `kind = \"http\"`"));
    }
    loader.taints() && stated.unwrap_or(usual)
}

pub(super) fn cost(table: &Table) -> NanoUsd {
    table.get("cost_per_call").and_then(budget::money).unwrap_or(NanoUsd::ZERO)
}

pub(super) fn limits(table: &Table, spec: ToolSpec) -> ToolSpec {
    ToolSpec {
        description: table.text("description").map_or(spec.description, str::to_owned),
        effect: match table.text("effect") {
            Some("read") => Effect::Read,
            Some("idempotent") => Effect::Idempotent,
            Some("once") => Effect::Once,
            Some(_) | None => spec.effect,
        },
        timeout_ms: table.text("timeout").and_then(|text| time(text).ok()).unwrap_or(spec.timeout_ms),
        max_result: table.int("max_result").unwrap_or(spec.max_result),
        ..spec
    }
}

/// Keys of another kind of tool: their author believes that they say something.
fn strangers(loader: &mut Loader<'_>, table: &Table) {
    let request: &[&str] = &["url", "method", "headers", "query", "body", "result", "allow", "auth"];
    let program: &[&str] = &["command", "args", "env", "isolation"];
    let (foreign, of): (Vec<&str>, _) = match (table.text("use"), table.text("kind")) {
        (Some(_), None) | (None, Some("builtin")) => ([request, program, &["schema"]].concat(), "a builtin"),
        (None, Some("command")) => ([request, &["net"]].concat(), "a command"),
        (None, Some("http")) => ([program, &["allow", "auth", "read", "write", "from", "to"]].concat(), "a request"),
        (Some(_) | None, Some(_)) | (None, None) => return,
    };
    for entry in foreign.into_iter().filter_map(|key| table.entry(key)) {
        let problem = Problem::error("E0203", &entry.key_at, format!("`{}` means nothing to {of}", entry.key));
        loader.report(problem.help("leave it out"));
    }
}

/// Folders that a builtin has no use for: its author believes that they limit something.
fn meaningless(loader: &mut Loader<'_>, table: &Table, builtin: &str) {
    let uses: &[&str] = match builtin {
        "files.read" | "files.list" | "files.search" | "text.stats" | "data.query" => &["read"],
        "files.write" | "files.append" => &["write"],
        "files.move" => &["write", "from", "to"],
        "web.fetch" => &["net"],
        // What the host program brings along has no folders of ours.
        _ => &[],
    };
    for key in ["read", "write", "from", "to", "net"].into_iter().filter(|key| !uses.contains(key)) {
        let Some(entry) = table.entry(key) else { continue };
        let help = match uses {
            [] => format!("`{builtin}` takes no folders: leave it out"),
            uses => format!("what limits `{builtin}`: {}", uses.join(", ")),
        };
        let problem = Problem::error("E0203", &entry.key_at, format!("`{key}` limits nothing of `{builtin}`"));
        loader.report(problem.help(help));
    }
}

/// Folders of a tool, which stay inside the project.
fn paths(loader: &mut Loader<'_>, table: &Table, key: &str) -> Vec<String> {
    let Some(node) = table.get(key) else { return Vec::new() };
    let all = node.list().unwrap_or(std::slice::from_ref(node));
    let mut out = Vec::new();
    for one in all.iter().filter(|one| one.text().is_some()) {
        match super::source::below("", one.text().unwrap_or_default()) {
            Some(path) => out.push(if path.is_empty() { ".".to_owned() } else { path }),
            None => {
                let problem = Problem::error("E0111", &one.at, "this folder is not inside the project");
                loader.report(problem.help("write it relative to the project's root, without `..`"));
            }
        }
    }
    out
}

fn command(loader: &mut Loader<'_>, entry: &Entry, table: &Table, file: &str) -> Option<ToolDef> {
    for key in ["from", "to"] {
        if let Some(entry) = table.entry(key) {
            let problem = Problem::error("E0203", &entry.key_at, format!("`{key}` limits nothing of a command"));
            loader.report(problem.help("it is a key of `use = \"files.move\"`"));
        }
    }
    if table.get("isolation").is_none() {
        let message = format!("the command `{}` does not say how it is isolated", entry.key);
        let help = "isolation is not built yet: write `isolation = \"none\"` if it may do all that you may do";
        loader.report(Problem::error("E0106", &entry.key_at, message).help(help));
    }
    let Some(node) = table.get("command") else {
        loader.report(Problem::error("E0106", &entry.key_at, format!("the tool `{}` has no `command`", entry.key)));
        return None;
    };
    let argv = argv(loader, node, table);
    not_isolated(loader, &format!("the command {} ({})", entry.key, argv.first().map_or("", String::as_str)));
    let holes = argv.iter().flat_map(|text| placeholders(text)).collect::<Vec<_>>();
    let schema = match table.get("schema") {
        Some(node) => super::checks::schema(loader, node, file, false)?,
        None => {
            let fields = holes.iter().map(|hole| (hole.clone(), json!({"type": "string"})));
            let properties: serde_json::Map<String, Value> = fields.collect();
            let names = properties.keys().cloned().collect::<Vec<_>>();
            let made = json!({"type": "object", "properties": properties, "required": names,
                "additionalProperties": false});
            Schema::new(made).ok()?
        }
    };
    let known = schema.json().get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(hole) = holes.iter().find(|hole| !known.contains_key(*hole)) {
        let message = format!("`{{{hole}}}` in the command is not in the tool's `schema`");
        loader.report(Problem::error("E0203", &node.at, message));
    }
    if table.get("description").is_none() {
        let message = format!("the tool `{}` has no `description`, which is all that a model knows of it", entry.key);
        loader.report(Problem::error("E0106", &entry.key_at, message));
    }
    let spec = ToolSpec {
        name: entry.key.clone(),
        description: String::new(),
        parameters: schema.json().clone(),
        effect: Effect::Once,
        timeout_ms: 60_000,
        max_result: 4000,
    };
    let env = table.texts("env").into_iter().map(|(name, _)| name.to_owned()).collect();
    let source = ToolSource::Command { argv, env };
    let spec = limits(table, spec);
    let (max_calls, approval) = (table.int("max_calls"), approval::read(loader, table, &source, spec.effect));
    let taints = untrusted(loader, table, &source);
    Some(ToolDef { spec, arguments: schema, max_calls, cost_per_call: cost(table), approval, taints, source })
}

/// A program and its arguments.
pub(super) fn argv(loader: &mut Loader<'_>, node: &Node, table: &Table) -> Vec<String> {
    let mut argv: Vec<String> = match node.text() {
        Some(program) => vec![program.to_owned()],
        None => table.texts("command").into_iter().map(|(text, _)| text.to_owned()).collect(),
    };
    let shell = node.text().is_some_and(|program| program.contains(char::is_whitespace));
    if shell || argv.first().is_none_or(String::is_empty) {
        let problem = Problem::error("E0111", &node.at, "a command is a program and its arguments, there is no shell");
        loader.report(problem.help("write `command = [\"program\", \"argument\", \"{placeholder}\"]`"));
    }
    argv.extend(table.texts("args").into_iter().map(|(text, _)| text.to_owned()));
    argv
}

/// What `isolation = "none"` means: `check` says it of each.
pub(super) fn not_isolated(loader: &mut Loader<'_>, what: &str) {
    loader.notes.insert(format!(
        "{what} is not isolated: whatever you may read, write, run and reach over the network, it may too"
    ));
}

/// Names in `{name}`.
fn placeholders(text: &str) -> Vec<String> {
    let parts = text.split('{').skip(1).filter_map(|part| part.split_once('}'));
    let plain = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    parts.map(|(name, _)| name).filter(plain).map(str::to_owned).collect()
}

fn missing(loader: &mut Loader<'_>, name: &str, at: &At, own: &[&str]) {
    if LATER.contains(&name) {
        return loader.report(Problem::error("E0107", at, format!("not supported yet: the tool `{name}`")));
    }
    let builtin = loader.options.builtin_tools.iter().map(|spec| spec.name.as_str());
    let known = builtin.chain(own.iter().copied()).collect();
    unknown(loader, "E0203", "tool", name, at, known);
}

/// `tools` of a task narrow its agent's: what the agent may not call, no task lets it call.
pub(super) fn narrowed(loader: &mut Loader<'_>, making: &Making<'_>, table: &Table, who: &Who) -> Option<Vec<String>> {
    table.get("tools")?;
    let names: Vec<_> = table.texts("tools").into_iter().map(|(tool, at)| (tool.to_owned(), at.clone())).collect();
    // A run that is read again was checked when it was started.
    let agent = match who {
        Who::Agent(agent) => making.agents.get(agent).filter(|_| !loader.options.pinned),
        Who::Crew(_) | Who::Tool { .. } => None,
    };
    for (role, (name, at)) in agent.into_iter().flat_map(|role| names.iter().map(move |named| (role, named))) {
        let (agent, own) = (&role.agent.name, &role.agent.tools);
        let found = named(making, name);
        let Some(beyond) = found.iter().find(|tool| !own.contains(tool)) else { continue };
        let has = if own.is_empty() { "it has none".to_owned() } else { format!("its tools: {}", own.join(", ")) };
        let message = format!("`tools` of a task narrow its agent's, and the agent `{agent}` has no tool `{beyond}`");
        let help = format!("{has}; take `{name}` out here, or add it to `tools` of [agents.{agent}]");
        loader.report(Problem::error("E0203", at, message).help(help));
    }
    Some(offered(loader, making, &names))
}

/// The tools that a name stands for: of `files.*` all that begin so.
pub(super) fn named(making: &Making<'_>, name: &str) -> Vec<String> {
    match name.strip_suffix('*') {
        Some(prefix) => making.tools.keys().filter(|tool| tool.starts_with(prefix)).cloned().collect(),
        None => making.tools.keys().filter(|tool| *tool == name).cloned().collect(),
    }
}

/// The tools that a list names, `files.*` spelt out, in the order of the list.
pub(super) fn offered(loader: &mut Loader<'_>, making: &Making<'_>, names: &[(String, At)]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (name, at) in names {
        let found = named(making, name);
        if found.is_empty() && servers::unpinned(loader, &making.file, name).is_none() {
            let own = making.doc.table("tools").map(|t| t.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>());
            let own = own.unwrap_or_default();
            // A table with problems of its own is not also unknown.
            if !own.contains(&name.as_str()) {
                let of_servers = making.tools.values().filter(|def| matches!(def.source, ToolSource::Mcp { .. }));
                let own: Vec<&str> = own.into_iter().chain(of_servers.map(|def| def.spec.name.as_str())).collect();
                missing(loader, name, at, &own);
            }
        }
        for tool in found {
            if !out.contains(&tool) {
                out.push(tool);
            }
        }
    }
    out
}

/// Arguments of a tool that is called without a model: all that are required, and none that it lacks.
pub(super) fn arguments(loader: &mut Loader<'_>, def: &ToolDef, args: &[(String, At, Option<&Node>)], at: &At) {
    let parameters = def.arguments.json();
    let properties = parameters.get("properties").and_then(Value::as_object);
    let required = parameters.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in required.filter(|name| !args.iter().any(|(arg, _, _)| arg == name)) {
        let message = format!("the tool `{}` needs the argument `{name}`", def.spec.name);
        loader.report(Problem::error("E0203", at, message).help(format!("write `args = {{ {name} = … }}`")));
    }
    let closed = parameters.get("additionalProperties") == Some(&Value::Bool(false));
    let Some(properties) = properties.filter(|_| closed) else { return };
    for (name, at, _) in args.iter().filter(|(name, _, _)| !properties.contains_key(name)) {
        unknown(loader, "E0203", "argument", name, at, properties.keys().map(String::as_str).collect());
    }
}

/// A schema as JSON Schema, whatever form it was written in.
pub(super) fn full(value: Value) -> Result<Value, (Vec<String>, String)> {
    if is_json_schema(&value) {
        return Ok(value);
    }
    expand(&value).map_err(|bad| (bad.path, bad.message))
}
