//! Values, filters and fences. Invariant: what is fenced cannot close its fence, and nothing is
//! ever escaped for HTML.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// The attribute and name of a [`hidden`] name.
fn shown(hidden: &str) -> Option<(&'static str, &str)> {
    let rest = hidden.strip_prefix("__")?;
    ["text", "status"]
        .into_iter()
        .find_map(|attribute| Some((attribute, rest.strip_prefix(attribute)?.strip_prefix('_')?)))
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
        Value::from_object(Lazy(self.values.clone()))
    }
}

/// A scope as the engine sees it.
struct Lazy(Arc<BTreeMap<Cow<'static, str>, Seen>>);

impl std::fmt::Debug for Lazy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Object for Lazy {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if let Some(seen) = self.0.get(key) {
            return Some(seen.value());
        }
        let (attribute, name) = shown(key)?;
        let seen = self.0.get(name)?;
        if attribute == "text" { seen.text() } else { seen.status() }
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(|name| Value::from(name.as_ref())).collect())
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.value())
    }
}

/// Value, text and status as templates see them.
impl Seen {
    fn value(&self) -> Value {
        match self {
            Seen::Json(value) => from_json(value),
            Seen::Late(value) => from_json(&value()),
            Seen::Text(text) => Value::from(text.clone()),
            Seen::None | Seen::Gone { .. } => Value::from(()),
            Seen::Result(view) => one(view),
            Seen::Typed { json, .. } => parsed(json),
            Seen::Items { items, .. } => {
                let none = || Value::from(());
                let items = items.iter().map(|(key, view)| (key.clone(), view.as_ref().map_or_else(none, one)));
                Value::from_object(Items(items.collect()))
            }
        }
    }
    fn text(&self) -> Option<Value> {
        match self {
            Seen::Json(_) | Seen::Late(_) => None,
            Seen::Text(text) => Some(Value::from(text.clone())),
            Seen::None | Seen::Gone { .. } => Some(Value::from(())),
            Seen::Result(view) => Some(Value::from(view.text.clone())),
            Seen::Typed { json, .. } => Some(Value::from(json.clone())),
            Seen::Items { items, .. } => {
                let texts = items.iter().filter_map(|(key, view)| Some(format!("## {key}\n\n{}", view.as_ref()?.text)));
                Some(Value::from(texts.collect::<Vec<_>>().join("\n\n")))
            }
        }
    }
    fn status(&self) -> Option<Value> {
        match self {
            Seen::Json(_) | Seen::Late(_) | Seen::Text(_) => None,
            Seen::None => Some(Value::from("none")),
            Seen::Result(view) => Some(Value::from(&*view.status)),
            Seen::Gone { status } | Seen::Typed { status, .. } | Seen::Items { status, .. } => {
                Some(Value::from(status.as_str()))
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

fn parsed(json: &Arc<str>) -> Value {
    serde_json::from_str(json).map_or_else(|_| Value::from(json.clone()), |value| from_json(&value))
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
