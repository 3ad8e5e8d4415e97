//! JSON Schemas, compiled once. Invariant: a value that passed [`Schema::check`] has the shape its
//! author wrote, and what a failed one is told names the place in the value.

use std::sync::Arc;

/// A schema and its validator.
#[derive(Clone)]
pub struct Schema {
    json: Arc<serde_json::Value>,
    validator: Arc<jsonschema::Validator>,
}

impl Schema {
    /// Compiles a JSON Schema. The error is the validator's, in words.
    pub fn new(json: serde_json::Value) -> Result<Schema, String> {
        let validator = jsonschema::validator_for(&json).map_err(|error| error.to_string())?;
        Ok(Schema { json: Arc::new(json), validator: Arc::new(validator) })
    }
    pub fn json(&self) -> &serde_json::Value {
        &self.json
    }
    /// Every mismatch as `place: what is wrong`, at most ten.
    pub fn check(&self, value: &serde_json::Value) -> Result<(), String> {
        let mut problems = self.validator.iter_errors(value).take(10).map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the value".to_owned() } else { place };
            format!("{place}: {error}")
        });
        let Some(first) = problems.next() else { return Ok(()) };
        Err(problems.fold(first, |all, next| format!("{all}; {next}")))
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Schema({})", self.json)
    }
}
