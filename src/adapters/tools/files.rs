//! The builtin file tools. Invariant: they see only the places they were given, answer in text that is
//! valid UTF-8 and of bounded size, and never block the runtime.

pub(super) mod append;
pub(super) mod list;
pub(super) mod moving;
pub(super) mod places;
pub(super) mod read;
pub(super) mod search;
#[cfg(test)]
mod tests;
pub(super) mod walk;

use serde_json::{Value, json};

use super::builtin::{Args, Stop, flag, number, text};
pub use places::{Grant, Places};

pub(super) const WRITE_ABOUT: &str = "Write a text file, whole: an existing file of that name is replaced. Missing folders are made. \
    The path is relative to the project root and must lie in a folder this tool may write (out/ unless the crew says otherwise).";

pub(super) fn write_parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "path": { "type": "string", "minLength": 1, "description": "File to write, such as out/summary.md" },
            "text": { "type": "string", "description": "The whole content of the file" }
        },
        "required": ["path", "text"],
        "additionalProperties": false
    })
}

pub(super) fn write(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let content = text(args, "text")?;
    stop.check()?;
    let path = places.write(text(args, "path")?, content.as_bytes())?;
    Ok(format!("wrote {} bytes to {path}", content.len()))
}
