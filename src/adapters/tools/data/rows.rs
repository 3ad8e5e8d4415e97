//! Rows of a file, one after the other. Invariant: of a csv or jsonl file one row is held at a time; what
//! is wrong is named with its line.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use super::{Columns, Question, Row};
use crate::adapters::files::explain;
use crate::adapters::tools::builtin::Stop;
use crate::adapters::tools::files::Places;

/// Bytes of a csv or jsonl file.
const FILE_MOST: u64 = 256 << 20;
/// Bytes of a json file, which is held whole.
const JSON_MOST: u64 = 8 << 20;
/// Bytes of one row.
const ROW_MOST: usize = 1 << 20;

type Each<'a> = &'a mut dyn FnMut(u64, &Row) -> Result<(), String>;

/// Roughly the bytes of a row.
pub(super) fn size(row: &Row) -> usize {
    row.iter().map(|(name, value)| name.len() + weight(value) + 32).sum()
}

pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(|one| weight(one) + 32).sum(),
        Value::Object(fields) => size(fields),
    }
}

/// Calls `each` with the number of each row (from 1) and the row.
pub(super) fn each(
    places: &Places,
    question: &Question,
    columns: &mut Columns,
    stop: &Stop,
    each: Each<'_>,
) -> Result<(), String> {
    let path = question.path.as_str();
    let ending = path.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    let format = question.format.clone().or(ending).unwrap_or_default();
    if question.list.is_some() && format != "json" {
        return Err("`list` is of a json file only".to_owned());
    }
    let mut seen = |number: u64, row: &Row| {
        stop.check()?;
        columns.see(row);
        each(number, row)
    };
    match format.as_str() {
        "csv" => csv(places, path, &mut seen),
        "jsonl" | "ndjson" => jsonl(places, path, &mut seen),
        "json" => json(places, path, question.list.as_deref(), &mut seen),
        _ => Err(format!("`{path}` does not end in .csv, .json or .jsonl; say which it is with `format`")),
    }
}

fn csv(places: &Places, path: &str, each: Each<'_>) -> Result<(), String> {
    let file = Limited { inner: places.file(path, FILE_MOST)?, row: 0 };
    let mut reader = csv::ReaderBuilder::new().from_reader(file);
    let header = reader.headers().map_err(|why| broken(path, &why))?.clone();
    let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    if names.is_empty() {
        return Err(format!("`{path}` is empty; its first line must name the columns"));
    }
    let mut known = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !known.insert(name.as_str())) {
        return Err(format!("`{path}` has two columns `{twice}`; columns need names of their own"));
    }
    let mut record = csv::StringRecord::new();
    let mut number = 0;
    loop {
        reader.get_mut().row = 0;
        if !reader.read_record(&mut record).map_err(|why| broken(path, &why))? {
            return Ok(());
        }
        number += 1;
        let row: Row = names.iter().cloned().zip(record.iter().map(|cell| Value::from(cell.to_owned()))).collect();
        each(number, &row)?;
    }
}

/// Refuses a row that never ends (a quote that is not closed) before it fills the memory.
struct Limited<R> {
    inner: R,
    /// Bytes read since the row began.
    row: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.row > ROW_MOST {
            let why = format!("a row has more than {ROW_MOST} bytes; is a quote not closed?");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        }
        let count = self.inner.read(buffer)?;
        self.row += count;
        Ok(count)
    }
}

fn broken(path: &str, why: &csv::Error) -> String {
    let line = why.position().map(|place| format!(" line {}", place.line())).unwrap_or_default();
    match why.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!(
                "`{path}`{line}: expected {expected_len} cells as in the header, found {len}; quote cells that hold a comma"
            )
        }
        csv::ErrorKind::Utf8 { .. } => format!("`{path}`{line} is not UTF-8 text; convert the file"),
        csv::ErrorKind::Io(why) => explain(why, path),
        _ => format!("`{path}`{line}: {why}"),
    }
}

fn jsonl(places: &Places, path: &str, each: Each<'_>) -> Result<(), String> {
    let mut reader = BufReader::with_capacity(1 << 16, places.file(path, FILE_MOST)?);
    let (mut line, mut number, mut bytes) = (0u64, 0u64, Vec::new());
    loop {
        bytes.clear();
        let taken = reader.by_ref().take(ROW_MOST as u64 + 1).read_until(b'\n', &mut bytes);
        if taken.map_err(|why| explain(&why, path))? == 0 {
            return Ok(());
        }
        line += 1;
        if bytes.len() > ROW_MOST {
            return Err(format!("`{path}` line {line} has more than {ROW_MOST} bytes; a row is at most that"));
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").filter(|_| line == 1).unwrap_or(&bytes);
        if text.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(text) {
            Ok(Value::Object(row)) => {
                number += 1;
                each(number, &row)?;
            }
            Ok(other) => return Err(format!("`{path}` line {line}: expected an object, found {}", kind(&other))),
            Err(why) => return Err(format!("`{path}` line {line} is not JSON: {why}")),
        }
    }
}

fn json(places: &Places, path: &str, list: Option<&str>, each: Each<'_>) -> Result<(), String> {
    let text = places.whole_text(path, JSON_MOST)?;
    let whole: Value = serde_json::from_str(&text).map_err(|why| format!("`{path}` is not JSON: {why}"))?;
    let found = list.iter().flat_map(|list| list.split('.')).try_fold(&whole, |value, part| value.get(part));
    let at = list.map_or_else(|| format!("`{path}`"), |list| format!("`{list}` in `{path}`"));
    let Some(found) = found else { return Err(format!("{at} does not exist; {}", inside(&whole))) };
    let Value::Array(rows) = found else {
        return Err(format!("{at}: expected a list of objects, found {}; {}", kind(found), inside(&whole)));
    };
    for (number, row) in (1..).zip(rows) {
        let Value::Object(row) = row else {
            return Err(format!("{at}, row {number}: expected an object, found {}", kind(row)));
        };
        each(number, row)?;
    }
    Ok(())
}

/// What one could name with `list`.
fn inside(whole: &Value) -> String {
    let lists = whole.as_object().into_iter().flatten().filter(|(_, value)| value.is_array());
    let names: Vec<&str> = lists.map(|(name, _)| name.as_str()).take(20).collect();
    match names.is_empty() {
        true => "say where the list is with `list`, such as data.items".to_owned(),
        false => format!("`list` may be: {}", names.join(", ")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
