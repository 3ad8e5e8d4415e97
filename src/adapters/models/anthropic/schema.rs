//! A schema as `output_config.format` takes it. Invariant: whatever fits the schema made here and its
//! notes fits the one it is made from; what cannot be said is not said by halves.
//!
//! The subset is that of the vendor's SDK (`transform_schema`, anthropic 2.11.0): constraints it does
//! not know become a note in the description, and the answer is validated here anyway.

use serde_json::{Map, Value, json};

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// `None`: it cannot be said natively (a map of free keys, a schema that is no object, unknown words).
pub fn native(schema: &Value) -> Option<Value> {
    let map = schema.as_object()?;
    let mut from = map.clone();
    from.shift_remove("$schema");
    let mut out = Map::new();
    for key in ["$defs", "definitions"] {
        if let Some(Value::Object(defs)) = from.shift_remove(key) {
            out.insert(key.to_owned(), each(&defs)?);
        }
    }
    if let Some(reference) = from.shift_remove("$ref") {
        out.insert("$ref".to_owned(), reference);
        return Some(Value::Object(out));
    }
    let kinds = from.shift_remove("type");
    if let Some(Value::Array(kinds)) = &kinds {
        let one = |kind: &Value| {
            let mut of = from.clone();
            of.insert("type".to_owned(), kind.clone());
            native(&Value::Object(of))
        };
        out.insert("anyOf".to_owned(), kinds.iter().map(one).collect::<Option<Vec<_>>>()?.into());
        return Some(Value::Object(out));
    }
    let literal = ["enum", "const"].into_iter().filter(|key| keep(&mut from, &mut out, key)).count() > 0;
    let mut branches = false;
    for (key, as_key) in [("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")] {
        if let Some(Value::Array(all)) = from.shift_remove(key) {
            out.insert(as_key.to_owned(), all.iter().map(native).collect::<Option<Vec<_>>>()?.into());
            branches = true;
        }
    }
    match kinds.as_ref().and_then(Value::as_str) {
        Some(_) if literal => {}
        Some(kind) => {
            out.insert("type".to_owned(), kind.into());
            of_kind(kind, &mut from, &mut out)?;
        }
        // A schema that allows anything cannot be said.
        None if !literal && !branches => return None,
        None => {}
    }
    for key in ["not", "if", "patternProperties", "dependentSchemas", "prefixItems", "$dynamicRef"] {
        if from.contains_key(key) {
            return None;
        }
    }
    keep(&mut from, &mut out, "title");
    describe(&mut from, &mut out);
    Some(Value::Object(out))
}

fn of_kind(kind: &str, from: &mut Map<String, Value>, out: &mut Map<String, Value>) -> Option<()> {
    match kind {
        "object" => {
            let open = from.shift_remove("additionalProperties");
            let properties = match from.shift_remove("properties") {
                Some(Value::Object(properties)) => properties,
                Some(_) | None => Map::new(),
            };
            // A map of free keys is not an object without any.
            if open.as_ref().is_some_and(Value::is_object) || properties.is_empty() && open != Some(json!(false)) {
                return None;
            }
            out.insert("properties".to_owned(), each(&properties)?);
            out.insert("additionalProperties".to_owned(), json!(false));
            keep(from, out, "required");
        }
        "array" => {
            if let Some(items) = from.shift_remove("items") {
                out.insert("items".to_owned(), native(&items)?);
            }
            if from.get("minItems").is_some_and(|least| [json!(0), json!(1)].contains(least)) {
                keep(from, out, "minItems");
            }
        }
        "string" if from.get("format").and_then(Value::as_str).is_some_and(|known| FORMATS.contains(&known)) => {
            keep(from, out, "format");
        }
        _ => {}
    }
    Some(())
}

fn each(of: &Map<String, Value>) -> Option<Value> {
    let all = of.iter().map(|(name, schema)| Some((name.clone(), native(schema)?)));
    Some(Value::Object(all.collect::<Option<Map<_, _>>>()?))
}

fn keep(from: &mut Map<String, Value>, out: &mut Map<String, Value>, key: &str) -> bool {
    let Some(value) = from.shift_remove(key) else { return false };
    out.insert(key.to_owned(), value);
    true
}

/// What is left is a note after the description.
fn describe(from: &mut Map<String, Value>, out: &mut Map<String, Value>) {
    let said = from.shift_remove("description");
    let rest: Vec<String> = from.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    let note = (!rest.is_empty()).then(|| format!("{{{}}}", rest.join(", ")));
    let said = said.as_ref().and_then(Value::as_str).map(str::to_owned);
    if let Some(text) = match (said, note) {
        (Some(said), Some(note)) => Some(format!("{said}\n\n{note}")),
        (said, note) => said.or(note),
    } {
        out.insert("description".to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_stays_and_the_rest_is_a_note() {
        let schema = json!({"type":"object","additionalProperties":false,"required":["n","s"],"properties":{
            "n":{"type":"integer","minimum":1,"maximum":5,"description":"How many"},
            "s":{"type":"string","format":"date"}, "t":{"type":"string","format":"odd"},
            "v":{"enum":["a","b"]}, "m":{"anyOf":[{"type":"string"},{"type":"null"}]},
            "u":{"type":["string","null"]}, "l":{"type":"array","minItems":1,"maxItems":3,"items":{"type":"string"}}}});
        let expected = json!({"type":"object","properties":{
            "n":{"type":"integer","description":"How many\n\n{minimum: 1, maximum: 5}"},
            "s":{"type":"string","format":"date"}, "t":{"type":"string","description":"{format: \"odd\"}"},
            "v":{"enum":["a","b"]}, "m":{"anyOf":[{"type":"string"},{"type":"null"}]},
            "u":{"anyOf":[{"type":"string"},{"type":"null"}]},
            "l":{"type":"array","items":{"type":"string"},"minItems":1,"description":"{maxItems: 3}"}},
            "additionalProperties":false,"required":["n","s"]});
        assert_eq!(native(&schema).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_said_is_not_said_by_halves() {
        for schema in [
            json!({"type":"object"}),
            json!({"type":"object","additionalProperties":{"type":"string"}}),
            json!({"type":"object","properties":{"a":{}}}),
            json!({"type":"object","properties":{"a":{"type":"object"}}}),
            json!({"not":{"type":"string"},"type":"string"}),
            json!(true),
            json!({}),
        ] {
            assert_eq!(native(&schema), None, "{schema}");
        }
        assert!(native(&json!({"type":"object","additionalProperties":false})).is_some());
    }
}
