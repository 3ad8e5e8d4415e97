//! A TOML document in the order of the file. Invariant: every value knows its place, and numbers
//! are kept as the decimal text that was written.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{At, Problem};

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub at: At,
    pub value: Val,
}

#[derive(Clone, Debug)]
pub(super) enum Val {
    Text(String),
    /// Decimal digits, perhaps with a sign.
    Int(String),
    Float(String),
    Flag(bool),
    Date(String),
    List(Vec<Node>),
    Table(Table),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_at: At,
    pub node: Node,
}

impl Val {
    /// The type, as messages name it.
    pub fn words(&self) -> &'static str {
        match self {
            Val::Text(_) => "a string",
            Val::Int(_) => "an integer",
            Val::Float(_) => "a number",
            Val::Flag(_) => "true or false",
            Val::Date(_) => "a date",
            Val::List(_) => "a list",
            Val::Table(_) => "a table",
        }
    }
}

impl Node {
    pub fn text(&self) -> Option<&str> {
        if let Val::Text(text) = &self.value { Some(text) } else { None }
    }
    pub fn table(&self) -> Option<&Table> {
        if let Val::Table(table) = &self.value { Some(table) } else { None }
    }
    pub fn list(&self) -> Option<&[Node]> {
        if let Val::List(list) = &self.value { Some(list) } else { None }
    }
    pub fn flag(&self) -> Option<bool> {
        if let Val::Flag(flag) = self.value { Some(flag) } else { None }
    }
    pub fn int(&self) -> Option<u64> {
        if let Val::Int(digits) = &self.value { digits.parse().ok() } else { None }
    }
    /// Digits of a number or of a string that stands for one.
    pub fn decimal(&self) -> Option<&str> {
        match &self.value {
            Val::Int(digits) | Val::Float(digits) | Val::Text(digits) => Some(digits),
            Val::Flag(_) | Val::Date(_) | Val::List(_) | Val::Table(_) => None,
        }
    }
    /// The value as JSON; dates are strings.
    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Val::Text(text) | Val::Date(text) => text.as_str().into(),
            Val::Int(digits) => digits.parse::<i64>().map_or_else(|_| digits.as_str().into(), Into::into),
            Val::Float(digits) => digits.parse::<f64>().map_or_else(|_| digits.as_str().into(), Into::into),
            Val::Flag(flag) => (*flag).into(),
            Val::List(list) => list.iter().map(Node::json).collect(),
            Val::Table(table) => {
                let fields = table.entries.iter().map(|entry| (entry.key.clone(), entry.node.json()));
                serde_json::Value::Object(fields.collect())
            }
        }
    }
    /// The node at a path of keys and list indices, or the nearest one above it.
    pub fn follow(&self, path: &[String]) -> &Node {
        let Some((first, rest)) = path.split_first() else { return self };
        let next = match &self.value {
            Val::Table(table) => table.get(first),
            Val::List(list) => first.parse::<usize>().ok().and_then(|index| list.get(index)),
            Val::Text(_) | Val::Int(_) | Val::Float(_) | Val::Flag(_) | Val::Date(_) => None,
        };
        next.map_or(self, |next| next.follow(rest))
    }
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
    pub fn table(&self, key: &str) -> Option<&Table> {
        self.get(key).and_then(Node::table)
    }
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }
    pub fn int(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Node::int)
    }
    /// The strings of a list, each with its place.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.flag()
    }
    pub fn texts(&self, key: &str) -> Vec<(&str, &At)> {
        let list = self.get(key).and_then(Node::list).unwrap_or_default();
        list.iter().filter_map(|node| Some((node.text()?, &node.at))).collect()
    }
}

/// Parses a file. What cannot be read is a problem; the rest is there.
pub(super) fn parse(file: &Arc<str>, text: &str, offset: usize, problems: &mut Vec<Problem>) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |span: std::ops::Range<usize>| At::new(file, span.start + offset..span.end + offset);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        problems.push(Problem::error("E0103", &place(span), error.message().to_owned()));
    }
    convert(table.get_ref(), &place)
}

fn convert(table: &DeTable<'_>, place: &dyn Fn(std::ops::Range<usize>) -> At) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_at: place(key.span()),
            node: node(value, place),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_at.span.start);
    Table { entries }
}

fn node(value: &Spanned<DeValue<'_>>, place: &dyn Fn(std::ops::Range<usize>) -> At) -> Node {
    let val = match value.get_ref() {
        DeValue::String(text) => Val::Text(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Val::Int(number.as_str().to_owned()),
        DeValue::Integer(number) => {
            let plain = i128::from_str_radix(number.as_str(), number.radix());
            Val::Int(plain.map_or_else(|_| number.as_str().to_owned(), |n| n.to_string()))
        }
        DeValue::Float(number) => Val::Float(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Val::Flag(*flag),
        DeValue::Datetime(date) => Val::Date(date.to_string()),
        DeValue::Array(items) => Val::List(items.iter().map(|item| node(item, place)).collect()),
        DeValue::Table(table) => Val::Table(convert(table, place)),
    };
    Node { at: place(value.span()), value: val }
}
