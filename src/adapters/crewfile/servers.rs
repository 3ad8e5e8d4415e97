//! `[tools.N]` of kind `mcp`. Invariant: a tool of a server that is offered was approved: it stands in the lock
//! file, which is pinned with the run like any other file that the crew is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::doc::{Entry, Table};
use super::make::Making;
use super::problem::{At, Problem};
use super::tools::{LATER, cost, limits, untrusted};
use super::{Loader, approval};
use crate::adapters::lockfile::Lock;
use crate::adapters::models::secrets::is_variable;
use crate::core::chat::{Effect, ToolSpec, wire_name};
use crate::core::crew::{Approval, Link, Server, ToolDef, ToolSource};
use crate::core::place::LOCK;
use crate::core::schema::Schema;

const TIMEOUT_MS: u64 = 60_000;
const MAX_RESULT: u64 = 4_000;
/// Letters of a tool's name that every provider takes.
const WIRE_NAME_MAX: usize = 64;

/// A server of a crew file that is being read, and what its table says of each of its tools.
#[derive(Clone)]
pub(super) struct Known {
    pub file: String,
    pub server: Arc<Server>,
    spec: ToolSpec,
}

/// Reads the table of a server; its tools, where they are pinned, are added to `all`.
pub(super) fn read(
    loader: &mut Loader<'_>,
    entry: &Entry,
    table: &Table,
    file: &str,
    all: &mut BTreeMap<String, Arc<ToolDef>>,
) {
    for key in
        ["schema", "read", "write", "from", "to", "use", "method", "query", "body", "result", "net", "description"]
    {
        if let Some(entry) = table.entry(key) {
            let problem = Problem::error("E0203", &entry.key_at, format!("`{key}` means nothing to a server"));
            loader.report(problem.help("a server defines its tools itself; `allow` says which of them count"));
        }
    }
    let prefix = format!("{}.", entry.key);
    let builtin = loader.options.builtin_tools.iter().map(|spec| spec.name.as_str()).chain(LATER.iter().copied());
    if let Some(taken) = builtin.into_iter().find(|name| name.starts_with(&prefix)) {
        let message = format!("a server cannot be called `{}`: `{taken}` is a builtin", entry.key);
        loader.report(Problem::error("E0114", &entry.key_at, message).help("give it another name"));
        return;
    }
    let Some(link) = link(loader, entry, table) else { return };
    let spec = limits(table, silent(&entry.key));
    let allow: Vec<String> = table.texts("allow").into_iter().map(|(text, _)| text.to_owned()).collect();
    let mut server = Server { name: entry.key.clone(), link, allow, timeout_ms: spec.timeout_ms, pins: None };
    let approved = lock(loader).and_then(|lock| lock.0.get(&server.name).cloned());
    if let Some(approved) = approved {
        if approved.link != server.link.text() {
            let message = format!("the server `{}` was approved as {}", server.name, approved.link);
            let help = format!("if this one is meant: bosun tools approve {}", server.name);
            loader.report(Problem::error("E0116", &entry.key_at, message).help(help));
        }
        let pins = approved.tools.iter().map(|(name, tool)| (name.clone(), tool.hash));
        server.pins = Some(pins.collect());
        let server = Arc::new(server.clone());
        for (name, tool) in approved.tools.iter().filter(|(name, _)| server.allows(name)) {
            let spec = ToolSpec {
                name: format!("{}.{name}", server.name),
                description: tool.description().to_owned(),
                parameters: tool.parameters().clone(),
                ..spec.clone()
            };
            let arguments = match wire_name(&spec.name).len() {
                0..=WIRE_NAME_MAX => Schema::new(spec.parameters.clone()),
                long => Err(format!("with its server's its name has {long} letters, providers take {WIRE_NAME_MAX}")),
            };
            match arguments {
                Ok(arguments) => {
                    let def = def(loader, table, spec, arguments, &server, name);
                    all.insert(def.spec.name.clone(), Arc::new(def));
                }
                Err(why) => {
                    let message = format!("the tool `{}` cannot be offered: {why}", spec.name);
                    let help = format!("leave the tool out: `allow = […]` in [tools.{}]", server.name);
                    loader.report(Problem::warning("W0704", &entry.key_at, message).help(help));
                }
            }
        }
        let nothing = approved.tools.keys().all(|name| !server.allows(name));
        if nothing && !server.allow.is_empty() {
            let at = table.get("allow").map_or(&entry.key_at, |node| &node.at);
            let names: Vec<&str> = approved.tools.keys().map(String::as_str).collect();
            let message = format!("`allow` lets no tool of `{}` in", server.name);
            loader.report(Problem::error("E0203", at, message).help(format!("it has: {}", names.join(", "))));
        }
    }
    loader.servers.push(Known { file: file.to_owned(), server: Arc::new(server), spec });
}

fn def(
    loader: &mut Loader<'_>,
    table: &Table,
    spec: ToolSpec,
    arguments: Schema,
    server: &Arc<Server>,
    tool: &str,
) -> ToolDef {
    let source = ToolSource::Mcp { server: server.clone(), tool: tool.to_owned() };
    let (max_calls, approval) = (table.int("max_calls"), approval::read(loader, table, &source, spec.effect));
    let taints = untrusted(loader, table, &source);
    ToolDef { spec, arguments, max_calls, cost_per_call: cost(table), approval, taints, source }
}

/// What a table that says nothing says.
fn silent(name: &str) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: String::new(),
        parameters: json!({"type": "object"}),
        effect: Effect::Once,
        timeout_ms: TIMEOUT_MS,
        max_result: MAX_RESULT,
    }
}

fn link(loader: &mut Loader<'_>, entry: &Entry, table: &Table) -> Option<Link> {
    let name = &entry.key;
    match (table.get("command"), table.get("url")) {
        (Some(node), None) => {
            for entry in ["headers", "auth"].into_iter().filter_map(|key| table.entry(key)) {
                let message = format!("`{}` means nothing to a program", entry.key);
                let problem = Problem::error("E0203", &entry.key_at, message);
                loader.report(problem.help("variables it is given: `env = [\"NAME\"]`"));
            }
            if table.get("isolation").is_none() {
                let message = format!("the server `{name}` does not say how it is isolated");
                let help = "isolation is not built yet: write `isolation = \"none\"` if it may do all that you may do";
                loader.report(Problem::error("E0106", &entry.key_at, message).help(help));
            }
            let argv = super::tools::argv(loader, node, table);
            super::tools::not_isolated(loader, &format!("the server {name} ({})", argv.join(" ")));
            let mut env = Vec::new();
            for (variable, at) in table.texts("env") {
                if is_variable(variable) {
                    env.push(variable.to_owned());
                } else {
                    let problem = Problem::error("E0111", at, "this is no name of an environment variable");
                    loader.report(problem.help("name the variable; its value stays out of the file"));
                }
            }
            Some(Link::Stdio { argv, env })
        }
        (None, Some(node)) => {
            for key in ["args", "env"] {
                if let Some(entry) = table.entry(key) {
                    loader.report(Problem::error(
                        "E0203",
                        &entry.key_at,
                        format!("`{key}` means nothing to an address"),
                    ));
                }
            }
            let url = node.text()?.to_owned();
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                let problem = Problem::error("E0111", &node.at, "an address begins with http:// or https://");
                loader.report(problem);
            }
            if crate::adapters::models::secrets::has_login(&url) {
                let problem = Problem::error("E0110", &node.at, "a password is written in the address");
                loader.report(problem.help("name a variable: `headers = { Authorization = \"env:NAME\" }`"));
            }
            let headers = headers(loader, table);
            let login = super::oauth::read(loader, table, &headers);
            Some(Link::Http { url, headers, login })
        }
        (Some(_), Some(node)) => {
            let message = format!("the server `{name}` is a program and an address at once");
            loader.report(Problem::error("E0203", &node.at, message).help("leave out `command` or `url`"));
            None
        }
        (None, None) => {
            let message = format!("the server `{name}` has neither `command` nor `url`");
            let help = "write `command = \"npx\"` and `args = [\"-y\", \"…\"]`, or `url = \"https://…\"`";
            loader.report(Problem::error("E0106", &entry.key_at, message).help(help));
            None
        }
    }
}

fn headers(loader: &mut Loader<'_>, table: &Table) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for entry in table.table("headers").map(|table| table.entries.as_slice()).unwrap_or_default() {
        let variable = entry.node.text().and_then(|text| text.strip_prefix("env:")).filter(|name| is_variable(name));
        match variable {
            Some(variable) => drop(out.insert(entry.key.clone(), variable.to_owned())),
            None => {
                let message = format!("the value of the header `{}` is not the name of a variable", entry.key);
                let help = format!("write `{} = \"env:NAME\"`: the value stays out of the file", entry.key);
                loader.report(Problem::error("E0110", &entry.node.at, message).help(help));
            }
        }
    }
    out
}

/// The project's lock file, read once; what is wrong with it is said once.
fn lock(loader: &mut Loader<'_>) -> Option<Lock> {
    if let Some(known) = &loader.lock {
        return known.clone();
    }
    let read = if loader.files.exists(LOCK) {
        let text = super::files::text(loader, LOCK, &At::file(LOCK), "E0116");
        text.and_then(|text| match Lock::parse(&text) {
            Ok(lock) => Some(lock),
            Err(why) => {
                let help = "restore it from version control; or look at every server anew: bosun tools approve";
                loader.report(Problem::error("E0116", &At::file(LOCK), why).help(help));
                None
            }
        })
    } else {
        None
    };
    loader.lock = Some(read.clone());
    read
}

/// The server whose tool `name` would be, if nothing of it is pinned yet. It counts as used from now on.
pub(super) fn unpinned(loader: &mut Loader<'_>, file: &str, name: &str) -> Option<Known> {
    let server = name.split_once('.')?.0;
    let known = loader.servers.iter().find(|known| known.file == file && known.server.name == server)?.clone();
    if known.server.pins.is_some() {
        return None;
    }
    if !loader.unpinned.contains(&known.server.name) {
        loader.unpinned.push(known.server.name.clone());
        let name = &known.server.name;
        loader.notes.insert(format!(
            "the server {name} is not in {LOCK} yet: what its tools are is not known here; \
             the first run pins them, or: bosun tools approve {name}"
        ));
    }
    Some(known)
}

/// Stands for one tool of a server of which nothing is known yet: no run begins with it.
pub(super) fn stand_in(making: &mut Making<'_>, known: &Known, name: &str) {
    let Some((_, tool)) = name.split_once('.') else { return };
    let spec = ToolSpec { name: name.to_owned(), ..known.spec.clone() };
    let Ok(arguments) = Schema::new(spec.parameters.clone()) else { return };
    let source = ToolSource::Mcp { server: known.server.clone(), tool: tool.to_owned() };
    let cost_per_call = crate::core::money::NanoUsd::ZERO;
    let approval = Approval::default();
    let def = ToolDef { spec, arguments, max_calls: None, cost_per_call, approval, taints: true, source };
    making.tools.insert(name.to_owned(), Arc::new(def));
}
