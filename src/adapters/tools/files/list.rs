//! `files.list`: names in a folder. Invariant: each line is a path that `files.read` or `files.list`
//! takes as it stands; order is by path, the same on every machine.

use serde_json::{Value, json};

use super::places::{Opened, Places};
use super::walk::{Glob, join, walk};
use super::{Args, Stop, flag, text};

/// Most lines of one answer.
pub(super) const MOST: usize = 1_000;

pub(in crate::adapters::tools) const ABOUT: &str = "List the files and folders in a folder, one path per line, sorted; folders end in `/`. \
    Links that lead out of the folder are left out. Paths are relative to the project root, or exactly as the task gives them.";

pub(in crate::adapters::tools) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "path": { "type": "string", "minLength": 1, "description": "Folder to list (default: the project root)" },
            "glob": { "type": "string", "minLength": 1, "description": "Only paths that match, such as *.md or docs/**/*.txt" },
            "recursive": { "type": "boolean", "description": "Also list what is in the folders below (default false)" }
        },
        "additionalProperties": false
    })
}

pub(in crate::adapters::tools) fn list(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let path = text(args, "path").unwrap_or(".");
    let glob = args.get("glob").and_then(Value::as_str).map(Glob::new).transpose()?;
    let target = places.find(path)?;
    let folder = match target.open(path)? {
        Opened::Folder(folder) => folder,
        // The path of a task may be either; the answer to "what is there" is then the file.
        Opened::File(..) => return Ok(format!("{}\n", target.shown)),
    };
    let found = walk(folder, path, flag(args, "recursive"), stop)?;
    let wanted: Vec<_> =
        found.entries.iter().filter(|entry| glob.as_ref().is_none_or(|glob| glob.matches(&entry.path))).collect();
    let mut out = String::new();
    for entry in wanted.iter().take(MOST) {
        out.push_str(&join(&target.shown, &entry.path));
        out.push_str(if entry.folder { "/\n" } else { "\n" });
    }
    if wanted.is_empty() {
        out.push_str("[nothing here matches]\n");
    }
    if wanted.len() > MOST || found.cut {
        let all = if found.cut { "more than 100000".to_owned() } else { wanted.len().to_string() };
        out.push_str(&format!("[{} of {all} shown; narrow with path or glob]\n", wanted.len().min(MOST)));
    }
    if found.unnamable > 0 {
        out.push_str(&format!("[{} names that are not plain UTF-8 are left out]\n", found.unnamable));
    }
    Ok(out)
}
