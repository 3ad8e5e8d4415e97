//! Paths below a project's root, as text. Invariant: what passes names a place below the root on every
//! file system; whether a link leads out of it is decided where it is opened.

use std::collections::BTreeMap;

use super::crew::Row;
use super::ids::{Key, Name};
use super::template::{Scope, TemplateName, Templates};

/// Names that begin so are Bosun's own: the state folder and unfinished temporary files.
pub const OWN: &str = ".bosun";
/// What servers say of their tools, as it was approved: whoever writes it approves.
pub const LOCK: &str = "bosun.lock";
/// Bytes of a path, as Linux has it.
const PATH_MAX: usize = 4096;

/// The names of a relative path without `..`, `\`, `~`, control characters or names of Bosun's own.
/// `.` and empty parts are dropped, so there may be none: the root itself.
pub fn parts(path: &str) -> Result<Vec<&str>, String> {
    let refuse = |why: &str| Err(format!("path `{}` is refused: {why}", path.escape_debug()));
    if path.is_empty() {
        return refuse("it is empty; name a file or folder relative to the project root");
    }
    if path.len() > PATH_MAX {
        return Err(format!("a path of {} bytes is refused: at most {PATH_MAX} are allowed", path.len()));
    }
    if path.contains(|c: char| c.is_control() || is_direction_mark(c)) {
        return refuse("it holds control characters");
    }
    if path.contains('\\') {
        return refuse("folders are separated by `/`");
    }
    if path.starts_with('~') {
        return refuse("`~` is not expanded; write the path relative to the project root");
    }
    if path.starts_with('/') {
        return refuse("it is absolute; write the path relative to the project root");
    }
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return refuse("`..` is not allowed; write the path relative to the project root");
    }
    if names.iter().any(|name| is_own(name)) {
        return refuse("`bosun.lock` and names that begin with `.bosun` are Bosun's own");
    }
    Ok(names)
}

/// A path that an `output_file` came to: as [`parts`], and it names a file. An empty part is refused
/// too: some value in it begins with `/`, and its author meant another place.
pub fn output(path: &str) -> Result<(), String> {
    let names = parts(path)?;
    if path.contains("//") {
        let why = "it has an empty part (`//`): a value in it is empty or begins with `/`";
        return Err(format!("path `{}` is refused: {why}", path.escape_debug()));
    }
    if names.is_empty() || path.ends_with('/') {
        return Err(format!("path `{}` is refused: it names a folder, not a file", path.escape_debug()));
    }
    Ok(())
}

/// A name no tool shows, reads or writes. Case is ignored because some file systems ignore it.
pub fn is_own(name: &str) -> bool {
    name.get(..OWN.len()).is_some_and(|head| head.eq_ignore_ascii_case(OWN)) || name.eq_ignore_ascii_case(LOCK)
}

/// Marks that make a name read otherwise than it is.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Where results of one task may not be written, each with the key of its item. Only what is known
/// before the run is looked at: a template that names more than `inputs` and the row gives nothing.
pub fn misplaced(
    templates: &Templates,
    template: &TemplateName,
    rows: Option<&[Row]>,
    inputs: &BTreeMap<Name, serde_json::Value>,
) -> Vec<(Option<Key>, String)> {
    let of_item = |name: &str| rows.is_some() && matches!(name, "item" | "index" | "key");
    let known = |name: &String| of_item(name) || inputs.keys().any(|input| input.as_str() == name);
    if !templates.names(template).iter().all(known) {
        return Vec::new();
    }
    let mut scope = Scope::default();
    inputs.iter().for_each(|(name, value)| scope.json(name.to_string(), value.clone()));
    let wrong = |scope: &Scope| match templates.render(template, scope) {
        Ok(path) => output(path.trim()).err(),
        Err(error) => Some(error.message),
    };
    let Some(rows) = rows else { return wrong(&scope).map(|why| (None, why)).into_iter().collect() };
    let mut all = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        scope.shared("item", row.item.clone());
        scope.json("index", (index + 1).into());
        scope.json("key", row.key.as_str().into());
        all.extend(wrong(&scope).map(|why| (Some(row.key.clone()), why)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_written_below_the_root_or_not_at_all() {
        for good in ["a.md", "out/a.md", "./out/./a.md", "out/a..b.md"] {
            assert_eq!(output(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("../x", "`..`"),
            ("out/../../x", "`..`"),
            ("/etc/x", "absolute"),
            ("out//etc/x", "empty part"),
            ("out/", "folder"),
            (".", "folder"),
            ("", "empty"),
            ("~/x", "`~`"),
            ("out\\x", "separated by `/`"),
            (".bosun/journal.db", "Bosun's own"),
            ("bosun.lock", "Bosun's own"),
            ("docs/Bosun.LOCK", "Bosun's own"),
            ("a\u{202e}b", "control characters"),
        ] {
            assert!(output(bad).unwrap_err().contains(why), "{bad}: {:?}", output(bad));
        }
    }
}
