//! Output schemas. Invariant: the result of a typed task is an object whose field names are free.

use serde_json::Value;

use super::Loader;
use super::doc::{Node, Val};
use super::problem::{At, Problem};
use super::source::beside;
use super::tools::full;
use crate::core::schema::Schema;

/// A schema in any of its forms: a table, the short form, or the path of a JSON file beside `file`.
/// Of a `result`, `text` and `status` are reserved.
pub(super) fn schema(loader: &mut Loader<'_>, node: &Node, file: &str, result: bool) -> Option<Schema> {
    let (value, at) = match &node.value {
        Val::Text(path) => (from_file(loader, path, &node.at, file)?, node.at.clone()),
        _ => (node.json(), node.at.clone()),
    };
    let value = match full(value) {
        Ok(value) => value,
        Err((path, message)) => {
            let place = node.follow(&path).at.clone();
            let name = if path.is_empty() { String::new() } else { format!("`{}`: ", path.join(".")) };
            loader.report(Problem::error("E0501", &place, format!("{name}{message}")));
            return None;
        }
    };
    if result {
        for name in ["text", "status"] {
            if value.get("properties").and_then(|all| all.get(name)).is_some() {
                let place = node.table().and_then(|t| t.entry(name)).map_or(&at, |entry| &entry.key_at);
                let problem = Problem::error("E0502", place, format!("a result cannot have a field `{name}`"));
                loader.report(problem.help(format!("every result has `.{name}` already; give the field another name")));
            }
        }
        if value.get("type").and_then(Value::as_str) != Some("object") {
            let problem = Problem::error("E0501", &at, "the schema of a result is an object");
            loader.report(problem.help("put a list or value into a field: `{ items = \"string[]\" }`"));
            return None;
        }
    }
    match Schema::new(value) {
        Ok(schema) => Some(schema),
        Err(message) => {
            loader.report(Problem::error("E0501", &at, format!("the schema cannot be used: {message}")));
            None
        }
    }
}

fn from_file(loader: &mut Loader<'_>, path: &str, at: &At, file: &str) -> Option<Value> {
    let Some(full) = beside(file, path) else {
        loader.report(Problem::error("E0101", at, format!("`{path}` leaves the project")));
        return None;
    };
    let text = super::files::text(loader, &full, at, "E0101")?;
    match serde_json::from_str(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            let start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
            let place = (start + error.column().saturating_sub(1)).min(text.len());
            let at = At::new(&full.as_str().into(), place..place);
            loader.report(Problem::error("E0501", &at, format!("the schema is not JSON: {error}")));
            None
        }
    }
}
