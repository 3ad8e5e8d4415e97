//! An http table, compiled. Invariant: the host is fixed before any argument is seen, and a value can
//! neither end the place it stands in nor climb out of it.

use std::collections::BTreeMap;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::super::template::{Template, given, plain};
use crate::adapters::web::Listed;
use crate::core::crew::{HttpCall, variable};

type Args = Map<String, Value>;
type Keys = BTreeMap<String, SecretString>;

/// Headers that are the client's own business.
const OURS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "accept-encoding",
    "idempotency-key",
    "te",
    "upgrade",
];
/// Parts of a header's name that say its value is a key.
const SECRET: [&str; 6] = ["authorization", "cookie", "token", "secret", "api-key", "apikey"];

/// What is wrong with a table, and in which of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub key: &'static str,
    /// Of a table: which of its entries.
    pub entry: Option<String>,
    pub message: String,
    /// A key stands in the file.
    pub secret: bool,
}

/// Everything wrong with the table; `parameters` is the schema of the arguments.
pub fn problems(call: &HttpCall, parameters: &Value) -> Vec<Wrong> {
    Compiled::new(call, parameters).err().unwrap_or_default()
}

/// The names of all placeholders, where they can be read, each with the key that it stands in first.
pub fn placeholders(call: &HttpCall) -> Vec<(&'static str, String)> {
    let mut texts = vec![("url", call.url.clone())];
    let query = call.query.iter().filter(|(_, text)| variable(text).is_none());
    texts.extend(query.map(|(_, text)| ("query", text.clone())));
    let mut inside = Vec::new();
    call.body.iter().for_each(|body| leaves(body, &mut inside));
    texts.extend(inside.into_iter().map(|text| ("body", text)));
    let mut names: Vec<(&'static str, String)> = Vec::new();
    for (key, template) in texts.iter().filter_map(|(key, text)| Some((key, Template::parse(text).ok()?))) {
        names.extend(template.names().map(|name| (*key, name.to_owned())));
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|(_, name)| seen.insert(name.clone()));
    names
}

fn leaves(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|one| leaves(one, out)),
        Value::Object(map) => map.values().for_each(|one| leaves(one, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

pub(super) struct Compiled {
    pub(super) method: Method,
    pub(super) result: Option<String>,
    pub(super) listed: Listed,
    path: Template,
    /// What follows `?` in the address.
    tail: Option<Template>,
    headers: Vec<(HeaderName, Filled)>,
    query: Vec<(String, Filled)>,
    body: Option<Body>,
}

enum Filled {
    Template(Template),
    Fixed(String),
    /// What stands before it, and the variable.
    Variable(String, String),
}

enum Body {
    /// The text of a JSON value, with values as JSON.
    Text(Template),
    Tree(Tree),
}

enum Tree {
    Leaf(Value),
    Text(Template),
    List(Vec<Tree>),
    Table(Vec<(String, Tree)>),
}

/// Collects what is wrong, so that all of it is said at once.
#[derive(Default)]
struct Problems(Vec<Wrong>);

impl Problems {
    fn say(&mut self, key: &'static str, message: impl Into<String>) {
        self.0.push(Wrong { key, entry: None, message: message.into(), secret: false });
    }
    fn of(&mut self, key: &'static str, entry: &str, message: impl Into<String>, secret: bool) {
        self.0.push(Wrong { key, entry: Some(entry.to_owned()), message: message.into(), secret });
    }
    fn template(&mut self, key: &'static str, text: &str) -> Option<Template> {
        Template::parse(text).map_err(|why| self.say(key, why)).ok()
    }
}

impl Compiled {
    pub(super) fn new(call: &HttpCall, parameters: &Value) -> Result<Compiled, Vec<Wrong>> {
        let mut problems = Problems::default();
        let method = Method::from_bytes(call.method.as_bytes()).unwrap_or(Method::GET);
        if method == Method::GET && call.body.is_some() {
            problems.say("body", "a GET has no body; write `method = \"POST\"`");
        }
        let address = address(call, &mut problems);
        let headers = call.headers.iter().filter_map(|(name, value)| header(name, value, &mut problems)).collect();
        let query = call.query.iter().filter_map(|(name, text)| parameter(name, text, &mut problems)).collect();
        let body = call.body.as_ref().and_then(|body| compile_body(body, &mut problems));
        if call.result.as_ref().is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            problems.say("result", "a JSON pointer begins with `/`: write `\"/results/0/text\"`");
        }
        let listed = Listed::parse(&call.net).map_err(|why| problems.say("net", why)).unwrap_or_default();
        let known = parameters.get("properties").and_then(Value::as_object);
        for (key, name) in placeholders(call) {
            if !known.is_some_and(|known| known.contains_key(&name)) {
                problems.say(key, format!("placeholder `{{{name}}}` is no argument of the tool's `schema`"));
            }
        }
        match (address, problems.0) {
            (Some((path, tail)), wrong) if wrong.is_empty() => {
                Ok(Compiled { method, result: call.result.clone(), listed, path, tail, headers, query, body })
            }
            (_, wrong) => Err(wrong),
        }
    }

    pub(super) fn url(&self, arguments: &Args, keys: &Keys) -> Result<Url, String> {
        let path = self.path.fill_with(arguments, |name, value| match value.map(plain) {
            Some(text) if !text.is_empty() => Ok(encoded(&text)),
            Some(_) | None => Err(format!("argument `{name}` is empty, and it is part of the address's path")),
        })?;
        if climbs(&path) {
            return Err("an argument makes a `.` or `..` of the address's path, which names another place".to_owned());
        }
        let mut text = path;
        if let Some(tail) = &self.tail {
            let fill = |_: &str, value: Option<&Value>| Ok::<_, String>(encoded(&value.map(plain).unwrap_or_default()));
            text = format!("{text}?{}", tail.fill_with(arguments, fill)?);
        }
        let mut url = Url::parse(&text).map_err(|why| format!("the arguments make no address: {why}"))?;
        let pairs = self.pairs(arguments, keys)?;
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Ok(url)
    }

    /// An argument that is not given takes its pair with it; a list is a pair for each.
    fn pairs(&self, arguments: &Args, keys: &Keys) -> Result<Vec<(String, String)>, String> {
        let mut pairs = Vec::new();
        for (name, filled) in &self.query {
            let mut pair = |text: String| pairs.push((name.clone(), text));
            match filled {
                Filled::Fixed(text) => pair(text.clone()),
                Filled::Variable(before, of) => pair(format!("{before}{}", key(keys, of)?)),
                Filled::Template(template) => match template.alone().map(|name| given(arguments, name)) {
                    Some(None) => {}
                    Some(Some(Value::Array(list))) => list.iter().map(plain).for_each(pair),
                    Some(Some(value)) => pair(plain(value)),
                    None => pair(with_texts(template, arguments)?),
                },
            }
        }
        Ok(pairs)
    }

    pub(super) fn headers(&self, keys: &Keys) -> Result<HeaderMap, String> {
        let mut all = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"))]);
        if self.body.is_some() {
            all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, filled) in &self.headers {
            let text = match filled {
                Filled::Fixed(text) => text.clone(),
                Filled::Variable(before, of) => format!("{before}{}", key(keys, of)?),
                Filled::Template(_) => continue,
            };
            let value = HeaderValue::from_str(&text);
            let mut value = value.map_err(|_| format!("the header {name} cannot carry its value"))?;
            value.set_sensitive(true);
            all.insert(name, value);
        }
        Ok(all)
    }

    pub(super) fn body(&self, arguments: &Args) -> Result<Option<String>, String> {
        match &self.body {
            None => Ok(None),
            Some(Body::Tree(tree)) => Ok(Some(grow(tree, arguments)?.unwrap_or(Value::Null).to_string())),
            Some(Body::Text(template)) => template.fill_with(arguments, as_json).map(Some),
        }
    }
}

/// The value of a variable; the message names it.
fn key<'a>(keys: &'a Keys, name: &str) -> Result<&'a str, String> {
    let value = keys.get(name).map(|value| value.expose_secret());
    value.ok_or_else(|| format!("the environment variable {name} is not set, and the request needs its value"))
}

fn as_json(_: &str, value: Option<&Value>) -> Result<String, String> {
    Ok(value.unwrap_or(&Value::Null).to_string())
}

fn with_texts(template: &Template, arguments: &Args) -> Result<String, String> {
    template.fill_with(arguments, |_, value| Ok(value.map(plain).unwrap_or_default()))
}

/// The address up to `?`, and what follows it.
fn address(call: &HttpCall, problems: &mut Problems) -> Option<(Template, Option<Template>)> {
    let text = call.url.as_str();
    let (path, tail) = text.split_once('?').map_or((text, None), |(path, tail)| (path, Some(tail)));
    let path = problems.template("url", path)?;
    let tail = tail.map(|tail| problems.template("url", tail));
    let fixed = path.head();
    let authority = fixed.split_once("://").map(|(_, rest)| rest);
    let varies = path.names().next().is_some();
    if varies && !authority.is_some_and(|rest| rest.contains('/')) {
        problems.say("url", "scheme and host are fixed: a placeholder stands in the path or the query");
        return None;
    }
    let url = match Url::parse(fixed) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => url,
        Ok(_) | Err(_) => {
            problems.say("url", "this is no http or https address such as \"https://api.example.com/v1/search\"");
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        problems.say("url", "an address carries no user name or password; use `headers` with \"env:NAME\"");
    }
    if text.contains('#') || text.contains('\\') || climbs(fixed) {
        problems.say("url", "an address has no `#`, no `\\` and no `..`");
    }
    match tail {
        Some(tail) => Some((path, Some(tail?))),
        None => Some((path, None)),
    }
}

/// Has the path a segment that an address parser takes for a step up?
fn climbs(address: &str) -> bool {
    let segments = address.split('/').map(|part| part.to_ascii_lowercase().replace("%2e", "."));
    segments.into_iter().any(|part| part == "." || part == "..")
}

fn header(name: &str, value: &str, problems: &mut Problems) -> Option<(HeaderName, Filled)> {
    let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
        problems.of("headers", name, "this is no name of a header", false);
        return None;
    };
    if OURS.contains(&known.as_str()) {
        problems.of("headers", name, "this header is set by Bosun itself", false);
        return None;
    }
    if let Some((before, variable)) = variable(value) {
        if !crate::adapters::models::secrets::is_variable(variable) || HeaderValue::from_str(before).is_err() {
            problems.of("headers", name, "write `\"env:NAME\"` with the name of an environment variable", false);
            return None;
        }
        return Some((known, Filled::Variable(before.to_owned(), variable.to_owned())));
    }
    if SECRET.iter().any(|part| known.as_str().contains(part)) {
        problems.of("headers", name, "this header holds a key, and keys do not belong into files", true);
        return None;
    }
    if HeaderValue::from_str(value).is_err() {
        problems.of("headers", name, "no header can carry this value", false);
        return None;
    }
    Some((known, Filled::Fixed(value.to_owned())))
}

fn parameter(name: &str, text: &str, problems: &mut Problems) -> Option<(String, Filled)> {
    if let Some((before, variable)) = variable(text).filter(|(before, _)| before.is_empty()) {
        return Some((name.to_owned(), Filled::Variable(before.to_owned(), variable.to_owned())));
    }
    let template = Template::parse(text).map_err(|why| problems.of("query", name, why, false)).ok()?;
    Some((name.to_owned(), Filled::Template(template)))
}

fn compile_body(body: &Value, problems: &mut Problems) -> Option<Body> {
    let Value::String(text) = body else { return plant(body, problems).map(Body::Tree) };
    let template = problems.template("body", text)?;
    // Two values of different kinds: a placeholder inside quotes would break with one of them.
    let fits = |probe: Value| {
        let filled = template.fill_with(&Args::new(), |_, _| Ok::<_, String>(probe.to_string()));
        filled.is_ok_and(|text| serde_json::from_str::<Value>(&text).is_ok())
    };
    if !fits(Value::from("a\"b")) || !fits(Value::from(1)) {
        let say = "with values in place of its placeholders this is no JSON; write `{name}` without quotes, or a table";
        problems.say("body", say);
        return None;
    }
    Some(Body::Text(template))
}

fn plant(value: &Value, problems: &mut Problems) -> Option<Tree> {
    Some(match value {
        Value::String(text) => {
            let template = problems.template("body", text)?;
            if template.names().next().is_some() {
                Tree::Text(template)
            } else {
                Tree::Leaf(template.constant()?.into())
            }
        }
        Value::Array(list) => Tree::List(list.iter().filter_map(|one| plant(one, problems)).collect()),
        Value::Object(map) => {
            let entries = map.iter().filter_map(|(name, one)| Some((name.clone(), plant(one, problems)?)));
            Tree::Table(entries.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Tree::Leaf(value.clone()),
    })
}

/// `None`: it is one placeholder whose argument was not given, and its entry goes with it.
fn grow(tree: &Tree, arguments: &Args) -> Result<Option<Value>, String> {
    Ok(Some(match tree {
        Tree::Leaf(value) => value.clone(),
        Tree::Text(template) => match template.alone() {
            Some(name) => return Ok(given(arguments, name).cloned()),
            None => with_texts(template, arguments)?.into(),
        },
        Tree::List(list) => {
            let grown = list.iter().filter_map(|one| grow(one, arguments).transpose());
            Value::Array(grown.collect::<Result<_, _>>()?)
        }
        Tree::Table(entries) => {
            let grown = entries.iter().filter_map(|(name, one)| {
                grow(one, arguments).transpose().map(|value| value.map(|value| (name.clone(), value)))
            });
            Value::Object(grown.collect::<Result<_, _>>()?)
        }
    }))
}

/// Everything but letters, digits and `-._~` as `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
