//! Conditions and order. Invariant: any two cells compare, and always the same way.

use std::cmp::Ordering;

use serde::Deserialize;
use serde_json::Value;

use super::number::Num;
use super::{Row, cell};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Contains,
    In,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Condition {
    pub column: String,
    op: Op,
    value: Value,
}

impl Condition {
    pub fn check(&self) -> Result<(), String> {
        let fits = match self.op {
            Op::Eq | Op::Ne => !self.value.is_array() && !self.value.is_object(),
            Op::Lt | Op::Le | Op::Gt | Op::Ge => self.value.is_number() || self.value.is_string(),
            Op::Contains => self.value.is_string(),
            Op::In => self.value.as_array().is_some_and(|list| list.len() <= 1_000),
        };
        let expected = match self.op {
            Op::Eq | Op::Ne => "a string, a number, true, false or null",
            Op::Lt | Op::Le | Op::Gt | Op::Ge => "a number or a string",
            Op::Contains => "a string",
            Op::In => "a list of at most 1000 values",
        };
        let op = format!("{:?}", self.op).to_lowercase();
        if fits { Ok(()) } else { Err(format!("where: `{op}` on `{}` takes {expected}", self.column)) }
    }

    /// An empty or missing cell equals null only, and is above or below nothing.
    pub fn holds(&self, row: &Row) -> bool {
        let cell = cell(row, &self.column).unwrap_or(&Value::Null);
        match self.op {
            Op::Eq => equal(cell, &self.value),
            Op::Ne => !equal(cell, &self.value),
            Op::Lt => self.order(cell) == Some(Ordering::Less),
            Op::Le => matches!(self.order(cell), Some(Ordering::Less | Ordering::Equal)),
            Op::Gt => self.order(cell) == Some(Ordering::Greater),
            Op::Ge => matches!(self.order(cell), Some(Ordering::Greater | Ordering::Equal)),
            Op::Contains => self.value.as_str().is_some_and(|part| !empty(cell) && text(cell).contains(part)),
            Op::In => self.value.as_array().is_some_and(|list| list.iter().any(|one| equal(cell, one))),
        }
    }
    fn order(&self, cell: &Value) -> Option<Ordering> {
        if empty(cell) {
            return None;
        }
        match (Num::of(cell), Num::of(&self.value), self.value.is_number()) {
            (Some(a), Some(b), _) => Some(a.compare(b)),
            (None, _, true) => None,
            (_, _, _) => Some(text(cell).cmp(&text(&self.value))),
        }
    }
}

pub(super) fn empty(cell: &Value) -> bool {
    cell.is_null() || cell.as_str().is_some_and(str::is_empty)
}

fn equal(cell: &Value, value: &Value) -> bool {
    match value {
        Value::Null => empty(cell),
        Value::Number(_) => Num::of(cell).zip(Num::of(value)).is_some_and(|(a, b)| a.compare(b).is_eq()),
        Value::Bool(flag) => text(cell).eq_ignore_ascii_case(if *flag { "true" } else { "false" }),
        Value::String(_) | Value::Array(_) | Value::Object(_) => !cell.is_null() && text(cell) == text(value),
    }
}

/// A cell as text: a string as it is, anything else as JSON.
pub(super) fn text(cell: &Value) -> String {
    cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    #[default]
    Asc,
    Desc,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub column: String,
    #[serde(default)]
    order: Direction,
}

/// Numbers before texts; empty cells last, whichever way it is sorted.
pub(super) fn by(sort: &[Order], a: &Row, b: &Row) -> Ordering {
    let cells = |order: &Order| {
        let (a, b) = (cell(a, &order.column).unwrap_or(&Value::Null), cell(b, &order.column).unwrap_or(&Value::Null));
        match (empty(a), empty(b), order.order) {
            (false, false, Direction::Asc) => compare(a, b),
            (false, false, Direction::Desc) => compare(b, a),
            (a, b, _) => a.cmp(&b),
        }
    };
    sort.iter().map(cells).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    match (Num::of(a), Num::of(b)) {
        (Some(a), Some(b)) => a.compare(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => text(a).cmp(&text(b)),
    }
}
