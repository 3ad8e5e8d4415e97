//! A value that fits a schema, made of real material. Invariant: required properties are there, of
//! their type, within their lengths and enums. `pattern` and `format` are beyond it.

use serde_json::{Map, Number, Value};

pub struct Material {
    pub summary: String,
    pub sentences: Vec<String>,
    /// What a critique found; empty is approval.
    pub issues: Vec<String>,
    pub task: String,
    /// Why it was judged so.
    pub reason: String,
}

/// Deepest nesting that is followed: a schema may refer to itself.
const DEEPEST: usize = 12;

pub fn value(schema: &Value, material: &Material) -> Value {
    Fit { root: schema, material }.value(schema, "", 0, 0)
}

struct Fit<'a> {
    root: &'a Value,
    material: &'a Material,
}

impl Fit<'_> {
    /// `name` is the property, `index` the place in its list.
    fn value(&self, schema: &Value, name: &str, index: usize, depth: usize) -> Value {
        let Some(map) = schema.as_object().filter(|_| depth < DEEPEST) else { return Value::Null };
        if let Some(Value::String(to)) = map.get("$ref") {
            let target = to.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.value(target, name, index, depth + 1));
        }
        if let Some(fixed) = map.get("const") {
            return fixed.clone();
        }
        if let Some(Value::Array(choices)) = map.get("enum") {
            return self.choice(choices);
        }
        if let Some(Value::Array(ways)) = map.get("anyOf").or_else(|| map.get("oneOf")) {
            let way = ways.iter().find(|way| way.get("type") != Some(&Value::from("null")));
            return way.map_or(Value::Null, |way| self.value(way, name, index, depth + 1));
        }
        match kind(map) {
            "object" => self.object(map, index, depth),
            "array" => self.list(map, name, depth),
            "string" => Value::from(self.string(map, name, index)),
            "integer" | "number" => number(map),
            "boolean" => Value::from(self.material.issues.is_empty()),
            _ => Value::Null,
        }
    }

    fn choice(&self, choices: &[Value]) -> Value {
        let find = |words: &[&str]| choices.iter().find(|c| c.as_str().is_some_and(|c| words.contains(&c)));
        let good = find(&["approve", "approved", "accept", "pass", "ok", "yes", "clear"]);
        let bad = find(&["revise", "reject", "rejected", "fail", "changes", "change", "no"]);
        let verdict = match (good, bad) {
            (Some(good), Some(bad)) => Some(if self.material.issues.is_empty() { good } else { bad }),
            _ => None,
        };
        verdict.or(choices.first()).cloned().unwrap_or(Value::Null)
    }

    fn object(&self, map: &Map<String, Value>, index: usize, depth: usize) -> Value {
        let required = map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let property = |name: &str| map.get("properties").and_then(|properties| properties.get(name));
        let any = Value::Object(Map::from_iter([("type".to_owned(), Value::from("string"))]));
        let value = |name: &str| self.value(property(name).unwrap_or(&any), name, index, depth + 1);
        Value::Object(required.map(|name| (name.to_owned(), value(name))).collect())
    }

    fn list(&self, map: &Map<String, Value>, name: &str, depth: usize) -> Value {
        let bound = |key: &str| map.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let (least, most) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(usize::MAX));
        let usual = if is_issues(name) { self.material.issues.len() } else { self.material.sentences.len() };
        let count = usual.max(least).min(most);
        let any = Value::Object(Map::from_iter([("type".to_owned(), Value::from("string"))]));
        let items = map.get("items").unwrap_or(&any);
        (0..count).map(|i| self.value(items, name, i, depth + 1)).collect()
    }

    fn string(&self, map: &Map<String, Value>, name: &str, index: usize) -> String {
        let material = self.material;
        let bound = |key: &str| map.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let nth = |list: &[String]| list.get(index % list.len().max(1)).cloned();
        let text = if is_issues(name) {
            nth(&material.issues).or_else(|| Some("No issue was found.".to_owned()))
        } else if ["reason", "rationale", "why", "explanation"].contains(&name) {
            Some(material.reason.clone())
        } else if ["title", "name", "headline", "heading", "id", "key"].contains(&name) {
            nth(&material.sentences).map(|s| s.split_whitespace().take(8).collect::<Vec<_>>().join(" "))
        } else if ["task", "brief", "question", "query"].contains(&name) {
            Some(material.task.clone())
        } else if ["summary", "body", "content", "article", "answer", "result", "report"].contains(&name) {
            Some(material.summary.clone())
        } else {
            nth(&material.sentences)
        };
        let mut text = text.unwrap_or_else(|| material.summary.clone());
        if let Some(most) = bound("maxLength") {
            text = text.chars().take(most).collect();
        }
        while bound("minLength").is_some_and(|least| text.chars().count() < least) {
            text.push('.');
        }
        text
    }
}

fn is_issues(name: &str) -> bool {
    ["issue", "change", "problem", "fault", "feedback", "comment", "objection"]
        .iter()
        .any(|word| name.starts_with(word))
}

fn kind(map: &Map<String, Value>) -> &str {
    match map.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|k| *k != "null").unwrap_or("null"),
        Some(_) | None if map.contains_key("properties") => "object",
        Some(_) | None if map.contains_key("items") => "array",
        Some(_) | None => "string",
    }
}

fn number(map: &Map<String, Value>) -> Value {
    let bound = |key: &str| map.get(key).and_then(Value::as_i64);
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|n| n.saturating_add(1)));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|n| n.saturating_sub(1)));
    Value::Number(Number::from(least.unwrap_or(1).min(most.unwrap_or(i64::MAX))))
}
