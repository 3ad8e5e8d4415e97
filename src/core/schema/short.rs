//! The short form of schemas: `{ verdict = "approve | revise", issues = "string[]" }`. Invariant:
//! every field is required unless it ends in `?`, and no other field is allowed.

use serde_json::{Map, Value, json};

use super::super::nearest::nearest;

/// What is wrong with a short schema, and the path of the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadShort {
    pub path: Vec<String>,
    pub message: String,
}

const TYPES: [(&str, &str); 4] = [("string", "string"), ("int", "integer"), ("number", "number"), ("bool", "boolean")];

/// A table with one of these keys is a JSON Schema already.
pub fn is_json_schema(value: &Value) -> bool {
    ["type", "properties", "$ref", "$schema"].iter().any(|key| value.get(key).is_some())
}

/// The JSON Schema that a table in the short form stands for.
pub fn expand(value: &Value) -> Result<Value, BadShort> {
    let mut path = Vec::new();
    match value {
        Value::Object(fields) if fields.is_empty() => {
            Err(BadShort { path, message: "a schema has at least one field".to_owned() })
        }
        Value::Object(fields) => object(fields, &mut path),
        _ => Err(BadShort { path, message: "a schema is a table of fields".to_owned() }),
    }
}

fn object(fields: &Map<String, Value>, path: &mut Vec<String>) -> Result<Value, BadShort> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, spec) in fields {
        path.push(name.clone());
        let (schema, optional) = field(spec, path)?;
        path.pop();
        if !optional {
            required.push(Value::from(name.as_str()));
        }
        properties.insert(name.clone(), schema);
    }
    Ok(json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false}))
}

fn field(spec: &Value, path: &mut Vec<String>) -> Result<(Value, bool), BadShort> {
    match spec {
        Value::String(text) => word(text.trim(), path),
        Value::Object(fields) if fields.is_empty() => Err(bad(path, "a nested table has at least one field")),
        Value::Object(fields) => Ok((object(fields, path)?, false)),
        Value::Array(items) => match items.as_slice() {
            [one] => Ok((json!({"type": "array", "items": field(one, path)?.0}), false)),
            _ => Err(bad(path, "a list of tables is written with the one table its items have")),
        },
        _ => Err(bad(path, "write a type such as \"string\", \"int[]\" or \"yes | no\", or a table of fields")),
    }
}

fn bad(path: &[String], message: impl Into<String>) -> BadShort {
    BadShort { path: path.to_vec(), message: message.into() }
}

fn word(text: &str, path: &[String]) -> Result<(Value, bool), BadShort> {
    if let Some(inner) = text.strip_suffix('?') {
        let (schema, _) = word(inner.trim_end(), path)?;
        return Ok((json!({"anyOf": [schema, {"type": "null"}]}), true));
    }
    if let Some(inner) = text.strip_suffix("[]") {
        return Ok((json!({"type": "array", "items": word(inner.trim_end(), path)?.0}), false));
    }
    if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        return word(inner.trim(), path);
    }
    let parts: Vec<&str> = text.split('|').map(str::trim).collect();
    let known = |part: &str| TYPES.iter().find(|(short, _)| *short == part).map(|(_, long)| *long);
    if let [one] = parts.as_slice() {
        let Some(long) = known(one) else {
            let near = nearest(one, TYPES.iter().map(|(short, _)| *short));
            let near =
                near.map_or_else(|| "string, int, number, bool".to_owned(), |near| format!("did you mean {near}?"));
            return Err(bad(path, format!("`{one}` is not a type ({near}); choices are written `a | b`")));
        };
        return Ok((json!({"type": long}), false));
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Err(bad(path, "a choice is empty"));
    }
    let types = parts.iter().filter_map(|part| known(part)).collect::<Vec<_>>();
    if types.is_empty() {
        let mut sorted = parts.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() < parts.len() {
            return Err(bad(path, "a choice is named twice"));
        }
        return Ok((json!({"type": "string", "enum": parts}), false));
    }
    if types.len() < parts.len() {
        return Err(bad(path, "types and words cannot be mixed in one choice"));
    }
    Ok((json!({"type": types}), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_become_json_schema() {
        let short =
            json!({"verdict": "approve | revise", "issues": "string[]", "score": "int?", "by": {"name": "string"}});
        let full = expand(&short).unwrap();
        assert_eq!(full["properties"]["verdict"]["enum"], json!(["approve", "revise"]));
        assert_eq!(full["properties"]["issues"], json!({"type": "array", "items": {"type": "string"}}));
        assert_eq!(full["required"], json!(["verdict", "issues", "by"]));
        assert_eq!(full["additionalProperties"], json!(false));
        assert_eq!(full["properties"]["by"]["required"], json!(["name"]));
        for (wrong, says) in [
            (json!({"a": "strng"}), "did you mean string"),
            (json!({"a": "string | yes"}), "mixed"),
            (json!({"a": "x | | y"}), "empty"),
            (json!({"a": 3}), "write a type"),
            (json!({}), "at least one field"),
        ] {
            let message = expand(&wrong).unwrap_err().message;
            assert!(message.contains(says), "{wrong}: {message}");
        }
    }
}
