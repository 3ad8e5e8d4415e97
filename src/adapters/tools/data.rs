//! `data.query`: rows of a csv, json or jsonl file. Invariant: a question is a table of typed arguments,
//! never a language; memory and answer are bounded, whatever the file holds.

mod groups;
mod number;
mod rows;
mod test;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::builtin::{Args, Stop};
use super::files::Places;
use groups::{Aggregate, Groups};
use test::{Condition, Order, by};

type Row = Map<String, Value>;

/// Rows of an answer where the call does not say.
const LIMIT: usize = 50;
/// Most rows of an answer.
const LIMIT_MOST: usize = 1_000;
/// Bytes of an answer; then rows are left out, and it says so.
const ANSWER_MOST: usize = 256 << 10;
/// Bytes of the rows that are kept while the file is read.
const KEPT_MOST: usize = 32 << 20;

pub(super) const ABOUT: &str = "Query the rows of a .csv (with a header), .json (a list of objects) or .jsonl file: choose columns, filter, sort, \
    or count, sum, min, max and mean by group. A column of a nested object is written a.b. Answers with one JSON object per row. \
    A number in a condition compares as a number, a string as text; text is case-sensitive.";

pub(super) fn parameters() -> Value {
    let column = json!({ "type": "string", "minLength": 1 });
    let columns = json!({ "type": "array", "items": column, "minItems": 1, "maxItems": 50 });
    json!({
        "type": "object",
        "properties": {
            "path": { "type": "string", "minLength": 1, "description": "File with the rows" },
            "format": { "type": "string", "enum": ["csv", "json", "jsonl"], "description": "Default: as the file's name ends" },
            "list": { "type": "string", "minLength": 1, "description": "Of a json file: where its list is, such as data.items (default: the file is the list)" },
            "select": { "type": "array", "items": column, "minItems": 1, "maxItems": 50, "description": "Columns of the answer (default: all)" },
            "where": {
                "type": "array", "maxItems": 20, "description": "Conditions that a row must all meet",
                "items": {
                    "type": "object",
                    "properties": {
                        "column": column,
                        "op": { "type": "string", "enum": ["eq", "ne", "lt", "le", "gt", "ge", "contains", "in"] },
                        "value": { "description": "A string, number, true, false, or null for an empty cell; of `in` a list of them" }
                    },
                    "required": ["column", "op", "value"],
                    "additionalProperties": false
                }
            },
            "group_by": columns,
            "aggregate": {
                "type": "array", "minItems": 1, "maxItems": 20, "description": "One row per group (or one in all) with columns such as count, sum(amount)",
                "items": {
                    "type": "object",
                    "properties": {
                        "fn": { "type": "string", "enum": ["count", "sum", "min", "max", "mean"] },
                        "column": { "type": "string", "minLength": 1, "description": "Needed by all but count" }
                    },
                    "required": ["fn"],
                    "additionalProperties": false
                }
            },
            "sort": {
                "type": "array", "maxItems": 5,
                "items": {
                    "type": "object",
                    "properties": { "column": column, "order": { "type": "string", "enum": ["asc", "desc"] } },
                    "required": ["column"],
                    "additionalProperties": false
                }
            },
            "limit": { "type": "integer", "minimum": 1, "maximum": LIMIT_MOST, "description": "Most rows of the answer (default 50)" }
        },
        "required": ["path"],
        "additionalProperties": false
    })
}

/// The arguments, as the schema has them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    path: String,
    format: Option<String>,
    list: Option<String>,
    select: Option<Vec<String>>,
    #[serde(default, rename = "where")]
    conditions: Vec<Condition>,
    #[serde(default)]
    group_by: Vec<String>,
    #[serde(default)]
    aggregate: Vec<Aggregate>,
    #[serde(default)]
    sort: Vec<Order>,
    limit: Option<usize>,
}

impl Question {
    fn grouped(&self) -> bool {
        !self.group_by.is_empty() || !self.aggregate.is_empty()
    }
    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MOST)
    }
    /// Columns of the file that it names. What is sorted after grouping is a column of the answer.
    fn columns(&self) -> Vec<&str> {
        let sorted = self.sort.iter().filter(|_| !self.grouped()).map(|order| order.column.as_str());
        let aggregated = self.aggregate.iter().filter_map(|aggregate| aggregate.column.as_deref());
        let plain = self.select.iter().flatten().chain(&self.group_by).map(String::as_str);
        plain
            .chain(self.conditions.iter().map(|condition| condition.column.as_str()))
            .chain(sorted)
            .chain(aggregated)
            .collect()
    }
    fn check(&self) -> Result<(), String> {
        if self.grouped() && self.select.is_some() {
            return Err("`select` has no meaning with `group_by` or `aggregate`: the answer's columns are the groups' and the figures".to_owned());
        }
        self.aggregate.iter().try_for_each(Aggregate::check)?;
        self.conditions.iter().try_for_each(Condition::check)?;
        let made = self.answer_columns();
        match self.sort.iter().find(|order| self.grouped() && !made.contains(&order.column)) {
            Some(order) => {
                Err(format!("sort: the answer has no column `{}`; it has {}", order.column, made.join(", ")))
            }
            None => Ok(()),
        }
    }
    fn answer_columns(&self) -> Vec<String> {
        self.group_by.iter().cloned().chain(groups::figures(&self.aggregate).iter().map(Aggregate::name)).collect()
    }
}

pub(super) fn query(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let question: Question = serde_json::from_value(Value::Object(args.clone()))
        .map_err(|why| format!("the arguments do not fit: {why}"))?;
    question.check()?;
    let mut columns = Columns::new(&question);
    let mut groups = Groups::new(&question.group_by, &question.aggregate);
    let mut kept = Kept::new(&question);
    rows::each(places, &question, &mut columns, stop, &mut |number, row| {
        if !question.conditions.iter().all(|condition| condition.holds(row)) {
            return Ok(());
        }
        if question.grouped() { groups.add(number, row) } else { kept.add(row) }
    })?;
    columns.all_seen()?;
    if question.grouped() {
        for row in groups.finish() {
            kept.put(row)?;
        }
    }
    Ok(kept.answer())
}

/// `a.b` of a row: a column of that name, else a field of a nested object.
fn cell<'a>(row: &'a Row, column: &str) -> Option<&'a Value> {
    if let Some(found) = row.get(column) {
        return Some(found);
    }
    let mut parts = column.split('.');
    let first = row.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

/// The columns that a question names, crossed off as rows have them.
struct Columns {
    missing: BTreeSet<String>,
    /// Some that there are, for the message.
    known: BTreeSet<String>,
    rows: u64,
}

impl Columns {
    const KNOWN_MOST: usize = 50;

    fn new(question: &Question) -> Columns {
        let missing = question.columns().into_iter().map(str::to_owned).collect();
        Columns { missing, known: BTreeSet::new(), rows: 0 }
    }
    fn see(&mut self, row: &Row) {
        self.rows += 1;
        if self.missing.is_empty() {
            return;
        }
        self.missing.retain(|column| cell(row, column).is_none());
        for name in row.keys().take(Self::KNOWN_MOST) {
            if self.known.len() < Self::KNOWN_MOST && !self.known.contains(name) {
                self.known.insert(name.clone());
            }
        }
    }
    fn all_seen(&self) -> Result<(), String> {
        let Some(column) = self.missing.first().filter(|_| self.rows > 0) else { return Ok(()) };
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        Err(format!("no row has the column `{column}`; there are: {}", known.join(", ")))
    }
}

/// The rows of the answer while the file is read: never more than twice the limit.
struct Kept<'a> {
    question: &'a Question,
    rows: Vec<Row>,
    bytes: usize,
    matched: u64,
}

impl Kept<'_> {
    fn new(question: &Question) -> Kept<'_> {
        Kept { question, rows: Vec::new(), bytes: 0, matched: 0 }
    }
    fn add(&mut self, row: &Row) -> Result<(), String> {
        if self.question.sort.is_empty() && self.rows.len() >= self.question.limit() {
            self.matched += 1;
            return Ok(());
        }
        let Some(select) = &self.question.select else { return self.put(row.clone()) };
        // What is sorted by is needed until the end.
        let names = select.iter().chain(self.question.sort.iter().map(|order| &order.column));
        let some = names.map(|name| (name.clone(), cell(row, name).cloned().unwrap_or(Value::Null)));
        self.put(some.collect())
    }
    fn put(&mut self, row: Row) -> Result<(), String> {
        self.matched += 1;
        self.bytes += rows::size(&row);
        self.rows.push(row);
        if self.rows.len() >= 2 * LIMIT_MOST || self.bytes > KEPT_MOST {
            self.trim();
        }
        if self.bytes > KEPT_MOST {
            return Err(
                "the rows of the answer are too large together; select fewer columns, or lower the limit".to_owned()
            );
        }
        Ok(())
    }
    fn trim(&mut self) {
        let sort = &self.question.sort;
        if !sort.is_empty() {
            self.rows.sort_by(|a, b| by(sort, a, b));
        }
        self.rows.truncate(self.question.limit());
        self.bytes = self.rows.iter().map(rows::size).sum();
    }
    fn answer(mut self) -> String {
        self.trim();
        let mut out = String::new();
        let mut shown = 0;
        for mut row in self.rows {
            if let Some(select) = &self.question.select {
                row.retain(|name, _| select.contains(name));
            }
            let line = Value::Object(row).to_string();
            if out.len() + line.len() > ANSWER_MOST {
                break;
            }
            out.push_str(&line);
            out.push('\n');
            shown += 1;
        }
        match (self.matched, shown) {
            (0, _) => out.push_str("[no row matches]\n"),
            (matched, shown) if shown < matched => {
                out.push_str(&format!(
                    "[{shown} of {matched} rows; raise limit, select fewer columns, or narrow with where]\n"
                ));
            }
            (_, _) => {}
        }
        out
    }
}
