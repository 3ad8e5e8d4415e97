//! Tools of kind `http`. Invariant: host and port are fixed, every placeholder is an argument, and no key
//! stands in the file.

use serde_json::{Map, Value, json};

use super::Loader;
use super::doc::{Entry, Node, Table, Val};
use super::problem::Problem;
use super::tools::{cost, limits};
use crate::adapters::tools::{Wrong, placeholders, problems};
use crate::adapters::web;
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::{HttpCall, ToolDef, ToolSource};
use crate::core::schema::Schema;

pub(super) fn tool(loader: &mut Loader<'_>, entry: &Entry, table: &Table, file: &str) -> Option<ToolDef> {
    for (key, why) in [("url", "which is where it goes"), ("description", "which is all that a model knows of it")] {
        if table.get(key).is_none() {
            let message = format!("the tool `{}` has no `{key}`, {why}", entry.key);
            loader.report(Problem::error("E0106", &entry.key_at, message));
        }
    }
    let body = table.get("body").map(Node::json);
    let usual = if body.is_some() { "POST" } else { "GET" };
    let call = HttpCall {
        method: table.text("method").unwrap_or(usual).to_owned(),
        url: table.text("url")?.to_owned(),
        headers: pairs(loader, table, "headers"),
        query: pairs(loader, table, "query"),
        body,
        result: table.text("result").map(str::to_owned),
        net: net(loader, table),
    };
    let schema = match table.get("schema") {
        Some(node) => super::checks::schema(loader, node, file, false)?,
        None => {
            let names: Vec<String> = placeholders(&call).into_iter().map(|(_, name)| name).collect();
            let fields = names.iter().map(|name| (name.clone(), json!({ "type": "string" })));
            let properties: Map<String, Value> = fields.collect();
            let made = json!({ "type": "object", "properties": properties, "required": names,
                "additionalProperties": false });
            Schema::new(made).ok()?
        }
    };
    let wrong = problems(&call, schema.json());
    for wrong in wrong.iter().filter(|wrong| wrong.key != "net") {
        report(loader, entry, table, wrong);
    }
    if !wrong.is_empty() {
        return None;
    }
    // As with the keys of providers: a crew file is trusted like a Makefile, and says so.
    let host = call.url.split(['?', '{']).next().unwrap_or_default();
    for variable in call.variables() {
        loader.notes.insert(format!("the value of {variable} goes to {host} (tool `{}`)", entry.key));
    }
    let effect = if call.method == "GET" { Effect::Read } else { Effect::Once };
    let spec = ToolSpec {
        name: entry.key.clone(),
        description: String::new(),
        parameters: schema.json().clone(),
        effect,
        timeout_ms: 60_000,
        max_result: 4000,
    };
    let spec = limits(table, spec);
    let (max_calls, cost_per_call) = (table.int("max_calls"), cost(table));
    let source = ToolSource::Http(Box::new(call));
    let approval = super::approval::read(loader, table, &source, spec.effect);
    let taints = super::tools::untrusted(loader, table, &source);
    Some(ToolDef { spec, arguments: schema, max_calls, cost_per_call, approval, taints, source })
}

fn report(loader: &mut Loader<'_>, entry: &Entry, table: &Table, wrong: &Wrong) {
    let node = table.entry(wrong.key).map(|entry| &entry.node);
    let inner = wrong.entry.as_ref().and_then(|name| node?.table()?.get(name));
    let at = inner.or(node).map_or(&entry.key_at, |node| &node.at);
    let place = wrong.entry.as_ref().map(|name| format!("`{name}`: ")).unwrap_or_default();
    let code = if wrong.secret { "E0110" } else { "E0111" };
    let problem = Problem::error(code, at, format!("{place}{}", wrong.message));
    loader.report(match wrong.secret {
        true => problem.help("write `\"env:NAME\"` with the name of an environment variable, and replace the key"),
        false => problem,
    });
}

/// The strings of a table; a number or flag is its text.
fn pairs(loader: &mut Loader<'_>, table: &Table, key: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in table.table(key).map(|inner| inner.entries.as_slice()).unwrap_or_default() {
        match &entry.node.value {
            Val::Text(text) | Val::Int(text) | Val::Float(text) => all.push((entry.key.clone(), text.clone())),
            Val::Flag(flag) => all.push((entry.key.clone(), flag.to_string())),
            Val::Date(_) | Val::List(_) | Val::Table(_) => {
                let message = format!("`{}` of `{key}` takes a string, found {}", entry.key, entry.node.value.words());
                loader.report(Problem::error("E0105", &entry.node.at, message));
            }
        }
    }
    all
}

/// Hosts that a tool may reach although they are not public; each with its port.
pub(super) fn net(loader: &mut Loader<'_>, table: &Table) -> Vec<String> {
    let mut all = Vec::new();
    for (text, at) in table.texts("net") {
        match web::host_port(text) {
            Ok(_) => all.push(text.to_owned()),
            Err(why) => loader.report(Problem::error("E0111", at, why)),
        }
    }
    all
}
