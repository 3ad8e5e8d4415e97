//! Reading crew files with what they include. Invariant: a file is read once, and a name defined
//! twice is an error that shows both places.

use std::sync::Arc;

use super::doc::{self, Entry, Table, Val};
use super::problem::{At, Problem};
use super::source::{Unreadable, beside};
use super::{Loader, keys};

/// Reads a file; what stops it is a problem at `at`, or in the file itself.
pub(super) fn text(loader: &mut Loader<'_>, path: &str, at: &At, code: &'static str) -> Option<Arc<str>> {
    match loader.files.text(path) {
        Ok(text) => Some(text),
        Err(Unreadable::No(why)) => {
            loader.report(Problem::error(code, at, format!("`{path}` cannot be read: {why}")));
            None
        }
        Err(Unreadable::NotUtf8 { byte, at, line }) => {
            let message = format!("not UTF-8: byte 0x{byte:02x} at offset {at}, line {line}");
            let problem = Problem::error("E0102", &At::file(path), message).help("save the file as UTF-8");
            loader.report(problem);
            None
        }
    }
}

/// The tables of a crew file and all it includes.
pub(super) fn document(loader: &mut Loader<'_>, path: &str, at: &At) -> Option<Table> {
    let mut all = Table::default();
    let mut stack = Vec::new();
    read(loader, path, at, &mut all, &mut stack)?;
    Some(all)
}

fn read(loader: &mut Loader<'_>, path: &str, at: &At, all: &mut Table, stack: &mut Vec<String>) -> Option<()> {
    let text = text(loader, path, at, "E0101")?;
    let file: Arc<str> = path.into();
    let mut table = doc::parse(&file, &text, 0, &mut loader.problems);
    loader.form(&table, &keys::ROOT);
    prune(&mut table);
    version(loader, &table, &file, stack.is_empty());
    stack.push(path.to_owned());
    let includes: Vec<(String, At)> =
        table.texts("include").into_iter().map(|(path, at)| (path.to_owned(), at.clone())).collect();
    merge(loader, all, table);
    for (include, at) in includes {
        let Some(inner) = beside(path, &include) else {
            loader.report(Problem::error("E0101", &at, format!("`{include}` leaves the project")));
            continue;
        };
        if stack.contains(&inner) {
            let circle = stack.iter().chain([&inner]).map(String::as_str).collect::<Vec<_>>().join(" -> ");
            loader.report(Problem::error("E0115", &at, format!("files include each other: {circle}")));
            continue;
        }
        read(loader, &inner, &at, all, stack);
    }
    stack.pop();
    Some(())
}

/// Takes out root tables that stand inside another one: they were reported, and are no agents or tasks.
fn prune(table: &mut Table) {
    for entry in &mut table.entries {
        let named = keys::ROOT.keys.iter().any(|key| key.name == entry.key && matches!(key.kind, keys::Kind::Named(_)));
        if let Val::Table(inner) = &mut entry.node.value
            && named
        {
            inner.entries.retain(|one| !keys::ROOT.keys.iter().any(|key| key.name == one.key));
        }
    }
}

fn version(loader: &mut Loader<'_>, table: &Table, file: &Arc<str>, needed: bool) {
    match table.get("schema") {
        None if needed && !loader.problems.iter().any(|p| p.code == "E0103" && p.file == *file) => {
            let problem = Problem::error("E0112", &At::file(file), "`schema` is missing");
            loader.report(problem.help("write `schema = 1` in the first line"));
        }
        Some(node) if node.int().is_some_and(|n| n > 1) => {
            let found = node.int().unwrap_or_default();
            let message = format!("this file is written for `schema = {found}`, this Bosun knows 1");
            loader.report(Problem::error("E0112", &node.at, message).help("use a newer bosun, or write `schema = 1`"));
        }
        None | Some(_) => {}
    }
}

/// Tables of named things are joined; anything else may stand in one file only.
fn merge(loader: &mut Loader<'_>, all: &mut Table, table: Table) {
    for entry in table.entries {
        if entry.key == "include" || entry.key == "schema" {
            continue;
        }
        let Some(known) = all.entries.iter_mut().find(|known| known.key == entry.key) else {
            all.entries.push(entry);
            continue;
        };
        if let (Val::Table(known), Val::Table(more)) = (&mut known.node.value, &entry.node.value) {
            for one in &more.entries {
                twice(loader, known, one);
                known.entries.push(one.clone());
            }
        } else {
            let problem = Problem::error("E0113", &entry.key_at, format!("`{}` is defined twice", entry.key));
            loader.problems.push(problem.also(&known.key_at, "first defined here"));
        }
    }
}

fn twice(loader: &mut Loader<'_>, known: &Table, one: &Entry) {
    if let Some(first) = known.entry(&one.key) {
        let problem = Problem::error("E0113", &one.key_at, format!("`{}` is defined twice", one.key));
        loader.problems.push(problem.also(&first.key_at, "first defined here"));
    }
}
