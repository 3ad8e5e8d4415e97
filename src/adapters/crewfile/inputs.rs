//! `[inputs]`. Invariant: a default and every choice has the input's type.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Loader;
use super::doc::{Node, Table};
use super::problem::Problem;
use crate::core::crew::{Input, InputKind};
use crate::core::ids::Name;
use crate::core::template::Ty;

pub(super) fn read(loader: &mut Loader<'_>, doc: &Table) -> (Vec<Input>, BTreeMap<String, Ty>) {
    let mut inputs = Vec::new();
    let mut types = BTreeMap::new();
    for entry in doc.table("inputs").map(|table| table.entries.as_slice()).unwrap_or_default() {
        let (Ok(name), Some(table)) = (Name::new(&entry.key), entry.node.table()) else { continue };
        let kind = match table.text("type") {
            Some("int") => InputKind::Int,
            Some("number") => InputKind::Number,
            Some("bool") => InputKind::Bool,
            Some("path") => InputKind::Path,
            Some("json") => InputKind::Json,
            Some(_) | None => InputKind::String,
        };
        let choices = table.get("choices").and_then(Node::list).unwrap_or_default();
        for node in choices.iter().chain(table.get("default")) {
            if !fits(kind, &node.json()) {
                let message = format!("the input `{name}` takes {}, found {}", words(kind), node.value.words());
                loader.report(Problem::error("E0105", &node.at, message));
            }
        }
        if let Some(node) = table.get("choices").filter(|node| node.list().is_none_or(<[Node]>::is_empty)) {
            loader.report(Problem::error("E0105", &node.at, "`choices` is a list of values"));
        }
        let choices: Vec<Value> = choices.iter().map(Node::json).collect();
        let default = table.get("default");
        if let Some(node) = default.filter(|node| !choices.is_empty() && !choices.contains(&node.json())) {
            loader.report(Problem::error("E0111", &node.at, "the default is not one of the choices"));
        }
        let secret = table.get("secret").and_then(Node::flag).unwrap_or(false);
        if let Some(node) = default.filter(|_| secret) {
            let problem = Problem::error("E0110", &node.at, format!("the secret `{name}` is written in the file"));
            loader.report(problem.help("leave the default out; pass it when the crew is run"));
        }
        types.insert(entry.key.clone(), ty(kind, &choices));
        inputs.push(Input {
            name,
            kind,
            default: default.map(Node::json),
            choices,
            description: table.text("description").unwrap_or_default().to_owned(),
            secret,
        });
    }
    (inputs, types)
}

fn fits(kind: InputKind, value: &Value) -> bool {
    match kind {
        InputKind::String | InputKind::Path => value.is_string(),
        InputKind::Int => value.is_i64() || value.is_u64(),
        InputKind::Number => value.is_number(),
        InputKind::Bool => value.is_boolean(),
        InputKind::Json => true,
    }
}

fn words(kind: InputKind) -> &'static str {
    match kind {
        InputKind::String => "a string",
        InputKind::Path => "a path",
        InputKind::Int => "an integer",
        InputKind::Number => "a number",
        InputKind::Bool => "true or false",
        InputKind::Json => "any JSON",
    }
}

fn ty(kind: InputKind, choices: &[Value]) -> Ty {
    let words = choices.iter().map(|choice| choice.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    match kind {
        InputKind::String => words.filter(|words| !words.is_empty()).map_or(Ty::Text, Ty::OneOf),
        InputKind::Path => Ty::Text,
        InputKind::Int | InputKind::Number => Ty::Number,
        InputKind::Bool => Ty::Bool,
        InputKind::Json => Ty::Any,
    }
}
