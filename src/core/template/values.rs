//! Values, filters and fences. Invariant: what is fenced cannot close its fence, and nothing is
//! ever escaped for HTML.

use std::sync::{Arc, OnceLock};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior};

use super::super::ids::Key;
use super::{FUEL, ResultView, Scope, Seen};

/// Puts `text` between `<name>` marks. If the text holds the closing mark, in any case, the name is
/// numbered until it does not.
pub fn fence(name: &str, text: &str) -> String {
    let folded = text.to_ascii_lowercase();
    let mut tag = name.to_owned();
    let mut number = 1;
    while folded.contains(&format!("</{}", tag.to_ascii_lowercase())) {
        number += 1;
        tag = format!("{name}-{number}");
    }
    let lines = text.contains('\n');
    let gap = if lines { "\n" } else { "" };
    let end = if lines && !text.ends_with('\n') { "\n" } else { "" };
    format!("<{tag}>{gap}{text}{end}</{tag}>")
}

/// Names under which the text and status of a result stand in the scope: `x.text` is rewritten to
/// them, so that `x` itself can be a plain value.
pub(super) fn hidden(attribute: &str, name: &str) -> String {
    format!("__{attribute}_{name}")
}

pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_path_join_callback(|name, _| super::build::prompt_path(name).into());
    environment.set_formatter(|out, _: &mut State, value| Ok(out.write_str(&plain(value)?)?));
    // Nothing of these is of use in a prompt; a namespace would let a loop grow a text without bound.
    for name in ["debug", "namespace"] {
        environment.remove_global(name);
    }
    environment.add_filter("raw", |value: Value| value);
    environment.add_filter("words", |value: Value| plain(&value).map(|text| text.split_whitespace().count()));
    environment.add_filter("bullets", bullets);
    environment.add_filter("json", |value: Value| json_text(&value));
    environment.add_filter("fenced", |value: Value, name: Option<String>| {
        plain(&value).map(|text| fence(name.as_deref().unwrap_or("data"), &text))
    });
    environment.add_filter("__fence", |value: Value, name: String, whole: bool| -> Result<Value, Error> {
        if value.is_none() || (!whole && short(&value)) {
            return Ok(value);
        }
        plain(&value).map(|text| Value::from(fence(&name, &text)))
    });
    environment
}

/// Numbers, booleans, and single words: nothing that could pass for an instruction.
fn short(value: &Value) -> bool {
    match value.as_str() {
        Some(text) => {
            let word = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
            text.len() <= 40 && text.chars().all(word)
        }
        None => matches!(value.kind(), ValueKind::Bool | ValueKind::Number | ValueKind::None),
    }
}

/// A value as a prompt prints it: texts as they are, lists and objects as JSON.
fn plain(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    match value.kind() {
        ValueKind::Undefined => Err(Error::new(ErrorKind::UndefinedError, "a name or field in it does not exist")),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => json_text(value),
        ValueKind::Invalid => Err(Error::new(ErrorKind::InvalidOperation, value.to_string())),
        ValueKind::None => Ok("none".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        // `ValueKind` is not exhaustive: numbers print as themselves.
        _ => Ok(value.to_string()),
    }
}

fn json_text(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "it cannot be written as JSON").with_source(error))
}

fn bullets(value: Value) -> Result<String, Error> {
    let mut out = String::new();
    for item in value.try_iter()?.checked() {
        let text = plain(&item?)?;
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str("- ");
        out.push_str(&text.trim_end().replace('\n', "\n  "));
    }
    Ok(out)
}

fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), _, _) => Value::from(n),
            (None, Some(n), _) => Value::from(n),
            (None, None, n) => n.map_or_else(|| Value::from(()), Value::from),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (key.as_str(), from_json(value))))
        }
    }
}

pub(super) fn to_json(value: &Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
}

/// What kind of JSON a value is, in words.
pub(super) fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "none",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

/// The engine's error in the project's words, with what caused it.
pub(super) fn say(error: &Error) -> String {
    let own = match error.kind() {
        ErrorKind::OutOfFuel => "the template takes too many steps; does a loop in it repeat too much?".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
    };
    match std::error::Error::source(error) {
        Some(source) => format!("{own}: {source}"),
        None => own,
    }
}

impl Scope {
    pub(super) fn value(&self) -> Value {
        let mut out: Vec<(String, Value)> = Vec::with_capacity(self.values.len() * 2);
        for (name, seen) in &self.values {
            let (value, text, status) = seen.parts();
            if let Some(text) = text {
                out.push((hidden("text", name), text));
            }
            if let Some(status) = status {
                out.push((hidden("status", name), status));
            }
            out.push((name.clone(), value));
        }
        Value::from_pairs(out)
    }
}

impl Seen {
    /// Value, text and status as templates see them.
    fn parts(&self) -> (Value, Option<Value>, Option<Value>) {
        let none = || Value::from(());
        match self {
            Seen::Json(value) => (from_json(value), None, None),
            Seen::Text(text) => (Value::from(text.clone()), Some(Value::from(text.clone())), None),
            Seen::None => (none(), Some(none()), Some(Value::from("none"))),
            Seen::Result(view) => (one(view), Some(Value::from(view.text.clone())), Some(Value::from(&*view.status))),
            Seen::Typed { status, json } => {
                (late(json), Some(Value::from(json.clone())), Some(Value::from(status.as_str())))
            }
            Seen::Items { status, items } => {
                let texts = items.iter().filter_map(|(key, view)| Some(format!("## {key}\n\n{}", view.as_ref()?.text)));
                let text = texts.collect::<Vec<_>>().join("\n\n");
                let items = items.iter().map(|(key, view)| (key.clone(), view.as_ref().map_or_else(none, one)));
                let list = Value::from_object(Items(items.collect()));
                (list, Some(Value::from(text)), Some(Value::from(status.as_str())))
            }
        }
    }
}

fn one(view: &ResultView) -> Value {
    match &view.value {
        Some(value) => from_json(value),
        None => Value::from(view.text.clone()),
    }
}

/// A list or an object when it is looked into; anything else at once.
fn late(json: &Arc<str>) -> Value {
    match json.trim_start().as_bytes().first() {
        Some(b'[') => Value::from_object(Late { json: json.clone(), repr: ObjectRepr::Seq, value: OnceLock::new() }),
        Some(b'{') => Value::from_object(Late { json: json.clone(), repr: ObjectRepr::Map, value: OnceLock::new() }),
        Some(_) | None => parsed(json),
    }
}

fn parsed(json: &Arc<str>) -> Value {
    serde_json::from_str(json).map_or_else(|_| Value::from(json.clone()), |value| from_json(&value))
}

#[derive(Debug)]
struct Late {
    json: Arc<str>,
    repr: ObjectRepr,
    value: OnceLock<Value>,
}

impl Late {
    fn value(&self) -> &Value {
        self.value.get_or_init(|| parsed(&self.json))
    }
}

impl Object for Late {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        self.repr
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.value().as_object()?.get_value(key)
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.value().as_object().map_or(Enumerator::NonEnumerable, |value| value.enumerate())
    }
}

/// A list whose items are also found by key.
#[derive(Debug)]
struct Items(Vec<(Key, Value)>);

impl Object for Items {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        if let Some(index) = key.as_usize().filter(|_| key.is_integer()) {
            return self.0.get(index).map(|(_, value)| value.clone());
        }
        let wanted = key.as_str()?;
        self.0.iter().find(|(key, _)| key.as_str() == wanted).map(|(_, value)| value.clone())
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}
