//! `files.search`: lines that match. Invariant: time is linear in what is read, whatever the pattern
//! is; the answer is in order of path and line, and says what was left out.

use std::io::Read;
use std::path::Path;

use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};

use super::places::{Opened, Places, open_any};
use super::walk::{Glob, join, walk};
use super::{Args, Stop, flag, text};

/// Most lines of one answer.
pub(super) const MOST: usize = 200;
/// Characters of a line that are shown.
const LINE: usize = 300;
/// Larger files are data, not text to quote from.
const LARGEST: u64 = 16 << 20;

pub(in crate::adapters::tools) const ABOUT: &str = "Search text files for a pattern (a regular expression; set literal for plain text). \
    Each match is one line, `file:line: text`, sorted. Searches a file, or a folder with all folders below it.";

pub(in crate::adapters::tools) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "pattern": { "type": "string", "minLength": 1, "description": "Regular expression, matched within one line" },
            "path": { "type": "string", "minLength": 1, "description": "File or folder to search (default: the project root)" },
            "glob": { "type": "string", "minLength": 1, "description": "Only files that match, such as *.md" },
            "literal": { "type": "boolean", "description": "The pattern is plain text (default false)" },
            "ignore_case": { "type": "boolean", "description": "Upper and lower case are the same (default false)" }
        },
        "required": ["pattern"],
        "additionalProperties": false
    })
}

pub(in crate::adapters::tools) fn search(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let path = text(args, "path").unwrap_or(".");
    let pattern = pattern(text(args, "pattern")?, flag(args, "literal"), flag(args, "ignore_case"))?;
    let glob = args.get("glob").and_then(Value::as_str).map(Glob::new).transpose()?;
    let target = places.find(path)?;
    let mut hits = Hits { pattern, lines: Vec::new(), more: false, skipped: 0 };
    match target.open(path)? {
        Opened::File(file, bytes) => hits.search(&target.shown, file, bytes, stop)?,
        Opened::Folder(folder) => {
            let start = folder.try_clone().map_err(|why| format!("`{path}`: {why}"))?;
            let found = walk(start, path, true, stop)?;
            hits.more = found.cut;
            let files = found.entries.iter().filter(|entry| !entry.folder);
            for entry in files.filter(|entry| glob.as_ref().is_none_or(|glob| glob.matches(&entry.path))) {
                match open_any(&folder, Path::new(&entry.path), false) {
                    Ok(Some(Opened::File(file, bytes))) => {
                        hits.search(&join(&target.shown, &entry.path), file, bytes, stop)?
                    }
                    // It has changed since the walk, or may not be read.
                    Ok(Some(Opened::Folder(_)) | None) | Err(_) => hits.skipped += 1,
                }
                if hits.lines.len() >= MOST {
                    hits.more = true;
                    break;
                }
            }
        }
    }
    Ok(hits.print())
}

fn pattern(text: &str, literal: bool, ignore_case: bool) -> Result<Regex, String> {
    let source = if literal { regex::escape(text) } else { text.to_owned() };
    let built = RegexBuilder::new(&source).case_insensitive(ignore_case).size_limit(1 << 20).build();
    built.map_err(|why| {
        format!("pattern `{text}` is not a regular expression: {why}; set literal = true to search for it as text")
    })
}

struct Hits {
    pattern: Regex,
    lines: Vec<String>,
    more: bool,
    /// Files that are not text, too large, or could not be opened.
    skipped: usize,
}

impl Hits {
    fn search(&mut self, shown: &str, file: cap_std::fs::File, bytes: u64, stop: &Stop) -> Result<(), String> {
        stop.check()?;
        let mut content = String::new();
        // Non-UTF-8 is an error of read_to_string: such a file is data.
        if bytes > LARGEST || file.take(LARGEST).read_to_string(&mut content).is_err() || content.contains('\0') {
            self.skipped += 1;
            return Ok(());
        }
        let content = content.trim_start_matches('\u{feff}');
        for (number, line) in content.lines().enumerate().filter(|(_, line)| self.pattern.is_match(line)) {
            if self.lines.len() >= MOST {
                self.more = true;
                break;
            }
            let end = line.char_indices().nth(LINE).map_or(line.len(), |(at, _)| at);
            let mark = if end < line.len() { " […]" } else { "" };
            self.lines.push(format!("{shown}:{}: {}{mark}\n", number + 1, &line[..end]));
        }
        Ok(())
    }

    fn print(self) -> String {
        let mut out = self.lines.concat();
        if self.lines.is_empty() {
            out.push_str("[no line matches]\n");
        }
        if self.more {
            out.push_str(&format!("[the first {} lines; narrow with path, glob or pattern]\n", self.lines.len()));
        }
        if self.skipped > 0 {
            out.push_str(&format!("[{} files that are not UTF-8 text or too large were skipped]\n", self.skipped));
        }
        out
    }
}
