//! JSON Schemas, compiled once. Invariant: a value that passed [`Schema::check`] has the shape its
//! author wrote, and what a failed one is told names the place in the value.

mod short;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::chat::OutputSchema;
use super::template::Ty;

pub use short::{BadShort, expand, is_json_schema};

/// Longest message of one mismatch: the value that is wrong is part of it.
const MESSAGE_MAX: usize = 300;

/// A schema and its validator.
#[derive(Clone)]
pub struct Schema {
    json: Arc<serde_json::Value>,
    validator: Arc<OnceLock<Result<jsonschema::Validator, String>>>,
}

impl Schema {
    /// Compiles a JSON Schema. The error is the validator's, in words.
    pub fn new(json: serde_json::Value) -> Result<Schema, String> {
        let validator = Ok(compiled(&json)?);
        Ok(Schema { json: Arc::new(json), validator: Arc::new(validator.into()) })
    }
    /// One that compiles, as a test has shown: a crew that never uses it does not pay for it.
    pub fn known(json: serde_json::Value) -> Schema {
        Schema { json: Arc::new(json), validator: Arc::default() }
    }
    pub fn json(&self) -> &serde_json::Value {
        &self.json
    }
    /// What is known of a value that passes, for the types of conditions.
    pub fn ty(&self) -> Ty {
        ty(&self.json)
    }
    /// The schema as an adapter sends it.
    pub fn on_wire(&self, name: &str) -> OutputSchema {
        OutputSchema { name: name.to_owned(), schema: self.json().clone() }
    }
    /// Every mismatch as `place: what is wrong`, at most ten.
    pub fn check(&self, value: &serde_json::Value) -> Result<(), String> {
        let validator = self.validator.get_or_init(|| compiled(&self.json)).as_ref().map_err(Clone::clone)?;
        let mut problems = validator.iter_errors(value).take(10).map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the value".to_owned() } else { place };
            let message = error.to_string();
            let short: String = message.chars().take(MESSAGE_MAX).collect();
            let dots = if short.len() < message.len() { "…" } else { "" };
            format!("{place}: {short}{dots}")
        });
        let Some(first) = problems.next() else { return Ok(()) };
        Err(problems.fold(first, |all, next| format!("{all}; {next}")))
    }
}

fn compiled(json: &serde_json::Value) -> Result<jsonschema::Validator, String> {
    jsonschema::validator_for(json).map_err(|error| error.to_string())
}

fn ty(schema: &serde_json::Value) -> Ty {
    use serde_json::Value;
    if let Some(Value::Array(choices)) = schema.get("enum") {
        let words = choices.iter().map(|choice| choice.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        return words.map_or(Ty::Any, Ty::OneOf);
    }
    if let Some(Value::Array(either)) = schema.get("anyOf") {
        // `T?` is T or null; any value may be none anyway.
        let real = either.iter().filter(|one| one.get("type") != Some(&Value::from("null"))).collect::<Vec<_>>();
        return if let [one] = real.as_slice() { ty(one) } else { Ty::Any };
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => Ty::Text,
        Some("integer" | "number") => Ty::Number,
        Some("boolean") => Ty::Bool,
        Some("array") => Ty::List(Box::new(schema.get("items").map_or(Ty::Any, ty))),
        Some("object") => {
            let fields = schema.get("properties").and_then(Value::as_object);
            let fields: BTreeMap<String, Ty> =
                fields.map(|all| all.iter().map(|(name, one)| (name.clone(), ty(one))).collect()).unwrap_or_default();
            Ty::Object { fields, open: schema.get("additionalProperties") != Some(&Value::Bool(false)) }
        }
        Some(_) | None => Ty::Any,
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Schema({})", self.json)
    }
}
