//! `ask.human`: a question to a person. Invariant: the run waits for the answer, which is the result; the
//! tool itself never runs.

use serde_json::{Value, json};

use super::builtin::{Args, Stop};
use super::files::Places;

pub(super) const ABOUT: &str = "Asks a person one question and returns their answer in words. It may take hours: ask \
     only what you cannot find out or decide yourself, and all of it in one question.";

pub(super) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "question": { "type": "string", "minLength": 1, "description": "With all that one needs to answer it" },
            "choices": { "type": "array", "items": { "type": "string" }, "description": "Answers to choose from" },
        },
        "required": ["question"],
        "additionalProperties": false,
    })
}

pub(super) fn never(_: &Places, _: &Args, _: &Stop) -> Result<String, String> {
    Err("a question is put to a person by a run; it cannot be called".to_owned())
}
