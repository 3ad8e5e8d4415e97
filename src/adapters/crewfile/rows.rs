//! Rows of a csv or jsonl file. Invariant: every row has all columns, and a key that no other row
//! has, whatever a file system thinks of upper and lower case.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Loader;
use super::problem::{At, Problem};
use crate::core::ids::Key;
use crate::core::template::Ty;

/// Problems of one file that are reported; the rest is counted.
const SHOWN: usize = 20;

/// One row with the place of its line.
pub(super) struct Line {
    pub item: Value,
    pub at: At,
}

pub(super) struct Lines {
    pub rows: Vec<Line>,
    /// Type of an item.
    pub ty: Ty,
}

/// Reads the rows of `path`, named at `at`.
pub(super) fn read(loader: &mut Loader<'_>, path: &str, at: &At) -> Option<Lines> {
    let text = super::files::text(loader, path, at, "E0601")?;
    let file: Arc<str> = path.into();
    let before = loader.problems.len();
    let lines = if path.ends_with(".csv") { csv(loader, &file, &text) } else { jsonl(loader, &file, &text) };
    let more = loader.problems.len().saturating_sub(before + SHOWN);
    if more > 0 {
        loader.problems.truncate(before + SHOWN);
        loader.report(Problem::error("E0601", &At::file(path), format!("and {more} more problems in this file")));
    }
    if loader.problems.len() > before {
        return None;
    }
    if lines.rows.is_empty() {
        loader.report(Problem::error("E0601", &At::file(path), "the file has no rows"));
        return None;
    }
    Some(lines)
}

fn csv(loader: &mut Loader<'_>, file: &Arc<str>, text: &str) -> Lines {
    // Of a run that has begun, the rows are what they were.
    if let Some(open) = unclosed(text).filter(|_| !loader.options.pinned) {
        let at = At::new(file, open..open + 1);
        let help = "close it; a quote inside of a quoted field is written as two";
        loader.report(Problem::error("E0601", &at, "the quote that opens here is never closed").help(help));
        return Lines { rows: Vec::new(), ty: Ty::Any };
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let headers = reader.headers().cloned().unwrap_or_default();
    let header = At::new(file, 0..text.lines().next().map_or(0, str::len));
    let mut fields = BTreeMap::new();
    for (index, name) in headers.iter().enumerate() {
        if name.trim().is_empty() {
            loader.report(Problem::error("E0601", &header, format!("column {} of the header has no name", index + 1)));
        } else if fields.insert(name.to_owned(), Ty::Text).is_some() {
            loader.report(Problem::error("E0601", &header, format!("the header names `{name}` twice")));
        }
    }
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    let mut number = 0;
    loop {
        let start = usize::try_from(reader.position().byte()).unwrap_or(text.len());
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let place = At::new(file, start.min(text.len())..start.min(text.len()));
                loader.report(Problem::error("E0601", &place, format!("this row cannot be read: {error}")));
                break;
            }
        }
        number += 1;
        let at = line(file, text, start);
        if record.len() != headers.len() {
            let message = format!("row {number} has {} fields, the header has {}", record.len(), headers.len());
            loader.report(Problem::error("E0601", &at, message).help("quote fields that contain a comma"));
            continue;
        }
        let item: Map<String, Value> =
            headers.iter().zip(record.iter()).map(|(name, field)| (name.to_owned(), field.into())).collect();
        rows.push(Line { item: Value::Object(item), at });
    }
    Lines { rows, ty: Ty::Object { fields, open: false } }
}

/// Where the quote opens that swallows the rest of a csv text, in bytes.
fn unclosed(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().peekable();
    let mut fresh = true;
    while let Some((open, byte)) = bytes.next() {
        if byte != b'"' || !fresh {
            fresh = b",\r\n".contains(&byte);
            continue;
        }
        fresh = false;
        loop {
            match bytes.next() {
                None => return Some(open),
                Some((_, b'"')) if bytes.next_if(|(_, next)| *next == b'"').is_none() => break,
                Some(_) => {}
            }
        }
    }
    None
}

/// The line at or after `start`, blank lines skipped.
fn line(file: &Arc<str>, text: &str, start: usize) -> At {
    let rest = text.get(start..).unwrap_or_default();
    let start = start + (rest.len() - rest.trim_start_matches(['\r', '\n']).len());
    let len = text.get(start..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
    At::new(file, start..start + len)
}

fn jsonl(loader: &mut Loader<'_>, file: &Arc<str>, text: &str) -> Lines {
    let mut rows: Vec<Line> = Vec::new();
    let mut common: Option<BTreeMap<String, Ty>> = None;
    let mut start = 0;
    for raw in text.split_inclusive('\n') {
        let at = At::new(file, start..start + raw.trim_end().len());
        start += raw.len();
        if raw.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Value>(raw) {
            Ok(item) => {
                let names = item.as_object().map(|all| all.keys().map(|key| (key.clone(), Ty::Any)).collect());
                let names: BTreeMap<String, Ty> = names.unwrap_or_default();
                common = Some(match common {
                    Some(known) => known.into_iter().filter(|(key, _)| names.contains_key(key)).collect(),
                    None => names,
                });
                rows.push(Line { item, at });
            }
            Err(error) => {
                let message = format!("row {} is not JSON: {error}", rows.len() + 1);
                loader.report(Problem::error("E0601", &at, message).help("write one JSON value per line"));
            }
        }
    }
    let objects = rows.iter().all(|row| row.item.is_object());
    let fields = common.unwrap_or_default();
    Lines { rows, ty: if objects { Ty::Object { fields, open: false } } else { Ty::Any } }
}

/// Makes the rows' keys; two that fold to the same are an error that shows both.
pub(super) fn keyed(loader: &mut Loader<'_>, rows: &[Line], texts: Vec<String>) -> Option<Vec<Key>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut keys = Vec::with_capacity(rows.len());
    let mut wrong = 0;
    for (index, (row, text)) in rows.iter().zip(texts).enumerate() {
        match Key::new(&text) {
            Ok(key) => {
                if let Some(first) = seen.get(&key.folded()).copied() {
                    wrong += 1;
                    if wrong <= SHOWN {
                        let message = format!("rows {} and {} have the same key `{key}`", first + 1, index + 1);
                        let problem = Problem::error("E0603", &row.at, message).also(&rows[first].at, "the first one");
                        loader.report(problem.help("keys must differ in more than upper and lower case"));
                    }
                } else {
                    seen.insert(key.folded(), index);
                }
                keys.push(key);
            }
            Err(error) => {
                wrong += 1;
                if wrong <= SHOWN {
                    let found = match text.chars().count() {
                        0 => "this one is empty".to_owned(),
                        many => format!("this one has {many}"),
                    };
                    let message = format!("row {}: {}, {found}", index + 1, error.expected);
                    let help = "name another column in `key`, or a template such as `key = \"{{ index }}\"`";
                    loader.report(Problem::error("E0602", &row.at, message).help(help));
                }
            }
        }
    }
    (wrong == 0).then_some(keys)
}
