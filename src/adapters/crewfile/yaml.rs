//! YAML front matter of agent files that were written for other tools. Invariant: what is read is a plain
//! key with a plain value, a text block or a list; every other part of YAML is refused at its place, never guessed.
//!
//! Those files are often not strict YAML (a description with `: ` in it), so a line is a key and the rest of it.

use std::ops::Range;
use std::sync::Arc;

use super::doc::{Entry, Node, Table, Val};
use super::make::Making;
use super::problem::{At, Problem};
use super::{Loader, form, keys};

/// Does the text begin with front matter of this kind? A line alone is not enough: `---` is also a rule.
pub(super) fn begins(text: &str) -> bool {
    let mut lines = text.lines();
    let first = lines.next().is_some_and(|line| line.trim_end() == "---");
    let next = lines.find(|line| !line.trim().is_empty() && !line.starts_with('#'));
    first && next.is_some_and(|line| line.trim_end() == "---" || key(line).is_some())
}

/// `name: rest`: the key, and where the rest begins.
fn key(line: &str) -> Option<(&str, usize)> {
    let (name, rest) = line.split_once(':')?;
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    (plain && (rest.is_empty() || rest.starts_with([' ', '\t', '\r']))).then_some((name, name.len() + 1))
}

/// A line without its end, and where it stands in the file.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a str,
    at: usize,
}

impl Line<'_> {
    fn indented(&self) -> bool {
        self.text.starts_with([' ', '\t'])
    }
    fn blank(&self) -> bool {
        self.text.trim().is_empty() || self.text.trim_start().starts_with('#')
    }
}

/// The front matter of `text`, which [`begins`] with one, and where the text after it begins.
pub(super) fn front(file: &Arc<str>, text: &str, problems: &mut Vec<Problem>) -> (Table, usize) {
    let mut lines = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        if at > 0 && (bare.trim_end() == "---" || bare.trim_end() == "...") {
            let mut parser = Parser { file, lines: &lines, next: 0, problems };
            return (parser.table(), at + line.len());
        }
        if at > 0 {
            lines.push(Line { text: bare, at });
        }
        at += line.len();
    }
    let problem = Problem::error("E0405", &At::new(file, 0..3), "the front matter is not closed");
    problems.push(problem.help("end it with a line of `---`"));
    (Table::default(), text.len())
}

/// What such a file says, as front matter of this program; what has no place in it is named and left out.
pub(super) fn fitted(mut table: Table, problems: &mut Vec<Problem>) -> Table {
    let unused = |at: &At, what: String, help: &str| Problem::warning("W0702", at, what).help(help);
    table.entries.retain(|entry| {
        let known = keys::FRONT.keys.iter().any(|key| key.name == entry.key);
        // The prompt's name is that of its file. A key that is pasted in stays, to be refused.
        if !known && entry.key != "name" && !form::secret(&entry.key) {
            let all = keys::FRONT.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
            let what = format!("`{}` is not used", entry.key);
            problems.push(unused(&entry.key_at, what, &format!("keys that are: name, {all}")));
        }
        known || form::secret(&entry.key)
    });
    table.entries.retain(|entry| {
        let Some(model) = entry.node.text().filter(|model| entry.key == "model" && !model.contains('/')) else {
            return true;
        };
        let what = format!("the model `{model}` is not used: it names no provider");
        problems.push(unused(&entry.node.at, what, "write `provider/model-id` here, or `model` in the agent's table"));
        false
    });
    for entry in table.entries.iter_mut().filter(|entry| entry.key == "tools" || entry.key == "inputs") {
        let Val::Text(text) = &entry.node.value else { continue };
        let at = &entry.node.at;
        let mut start = at.span.start;
        let items = text.split(',').map(|part| {
            let from = start + part.len() - part.trim_start().len();
            start += part.len() + 1;
            // In quotes, or with a remark behind it, the places have moved.
            let exact = at.span.end - at.span.start == text.len();
            let span = if exact { from..from + part.trim().len() } else { at.span.start..at.span.end };
            Node { at: At::new(&at.file, span), value: Val::Text(part.trim().to_owned()) }
        });
        let items = items.filter(|item| item.text().is_some_and(|text| !text.is_empty())).collect();
        entry.node.value = Val::List(items);
    }
    table
}

/// Does a prompt file with such front matter state `key`, and is it used?
pub fn states(text: &str, key: &str) -> bool {
    let mut problems = Vec::new();
    begins(text) && fitted(front(&"".into(), text, &mut problems).0, &mut problems).get(key).is_some()
}

/// Tools of other programs, and what does about the same here. Nothing is offered by likeness.
const COUNTERPARTS: [(&str, &str); 5] = [
    ("Read", "files.read"),
    ("Grep", "files.search"),
    ("Glob", "files.list"),
    ("LS", "files.list"),
    ("Write", "files.write"),
];

/// Is the tool that a front matter names one of ours? Of YAML front matter another program's tool is named
/// and left out; any other front matter was written for this one, and its mistakes are errors.
pub(super) fn offered(loader: &mut Loader<'_>, making: &Making<'_>, tool: &str, at: &At) -> bool {
    if !loader.files.text(&at.file).is_ok_and(|text| begins(&text)) {
        return true;
    }
    let prefix = tool.strip_suffix('*').filter(|prefix| !prefix.is_empty());
    let own = making.doc.table("tools").is_some_and(|tools| tools.get(tool).is_some());
    let some = prefix.is_some_and(|prefix| making.tools.keys().any(|name| name.starts_with(prefix)));
    let unpinned = super::servers::unpinned(loader, &making.file, tool).is_some();
    if own || some || unpinned || making.tools.contains_key(tool) {
        return true;
    }
    let found: String = tool.chars().take(80).collect();
    let help = match COUNTERPARTS.iter().find(|(theirs, _)| *theirs == tool) {
        Some((_, ours)) => format!("write `{ours}` if the agent is to have it"),
        None => "name a tool of this program, or one of the crew's own: bosun tools list CREW".to_owned(),
    };
    let what = format!("there is no tool `{found}`, so the agent goes without it");
    loader.report(Problem::warning("W0702", at, what).help(help));
    false
}

struct Parser<'a, 'p> {
    file: &'a Arc<str>,
    lines: &'a [Line<'a>],
    next: usize,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Parser<'a, '_> {
    fn at(&self, range: Range<usize>) -> At {
        At::new(self.file, range)
    }
    fn refuse(&mut self, range: Range<usize>, what: &str) {
        let problem = Problem::error("E0405", &self.at(range), format!("the front matter cannot be read: {what}"));
        self.problems.push(problem.help("write `key: value` lines, lists as `[a, b]` or `- a`, or TOML between `+++`"));
    }

    fn table(&mut self) -> Table {
        let mut table = Table::default();
        while let Some(line) = self.lines.get(self.next).copied() {
            self.next += 1;
            if line.blank() {
                continue;
            }
            let Some((name, rest)) = key(line.text) else {
                self.refuse(line.at..line.at + line.text.len(), "expected a line `key: value`");
                continue;
            };
            let key_at = self.at(line.at..line.at + name.len());
            if table.get(name).is_some() {
                let message = format!("`{name}` is defined twice");
                self.problems.push(Problem::error("E0113", &key_at, message));
            }
            if let Some(node) = self.value(line, rest) {
                table.entries.push(Entry { key: name.to_owned(), key_at, node });
            }
        }
        table
    }

    /// The lines that belong to the key above: indented, blank, or of a list.
    fn below(&mut self, list: bool) -> &'a [Line<'a>] {
        let start = self.next;
        let more = |line: &Line<'_>| line.indented() || line.text.is_empty() || list && line.text.starts_with('-');
        while self.lines.get(self.next).is_some_and(more) {
            self.next += 1;
        }
        self.lines.get(start..self.next).unwrap_or_default()
    }

    fn value(&mut self, line: Line<'a>, rest: usize) -> Option<Node> {
        let text = line.text.get(rest..).unwrap_or_default();
        let start = line.at + rest + (text.len() - text.trim_start().len());
        let (text, range) = (text.trim(), start..line.at + line.text.trim_end().len());
        match text {
            "" => self.list(line),
            "|" | "|-" | "|+" | ">" | ">-" | ">+" => {
                let below = self.below(false);
                let end = below.last().map_or(range.end, |last| last.at + last.text.len());
                let glue = if text.starts_with('|') { "\n" } else { " " };
                let joined = below.iter().map(|line| line.text.trim()).collect::<Vec<_>>().join(glue);
                Some(Node { at: self.at(range.start..end), value: Val::Text(joined.trim().to_owned()) })
            }
            _ => {
                // A plain value may go on in indented lines, as a sentence.
                let below = self.below(false);
                let more: Vec<&str> =
                    below.iter().map(|line| line.text.trim()).filter(|text| !text.is_empty()).collect();
                if more.is_empty() {
                    return self.flow(text, range);
                }
                let whole = [&[text][..], &more].concat().join(" ");
                let end = below.last().map_or(range.end, |last| last.at + last.text.len());
                self.flow(&whole, range.start..end)
            }
        }
    }

    /// `- a` lines.
    fn list(&mut self, key: Line<'a>) -> Option<Node> {
        let mut items = Vec::new();
        for line in self.below(true).iter().filter(|line| !line.blank()) {
            let lead = line.text.len() - line.text.trim_start().len();
            let range = line.at + lead..line.at + line.text.trim_end().len();
            match line.text.trim().strip_prefix('-').filter(|rest| rest.starts_with([' ', '\t'])) {
                Some(rest) if self::key(rest.trim()).is_none() => {
                    let start = range.end - rest.trim().len();
                    items.extend(self.scalar(rest.trim(), start..range.end));
                }
                Some(_) | None => self.refuse(range, "expected `- value`; tables in tables are not read"),
            }
        }
        let at = self.at(key.at..key.at + key.text.len());
        // A key without a value says nothing.
        (!items.is_empty()).then_some(Node { at, value: Val::List(items) })
    }

    /// A scalar, or `[a, b]`.
    fn flow(&mut self, text: &str, range: Range<usize>) -> Option<Node> {
        let Some(inner) = text.strip_prefix('[') else { return self.scalar(text, range) };
        let Some(inner) = inner.strip_suffix(']').filter(|inner| !inner.contains(['[', '{'])) else {
            self.refuse(range, "expected a list of plain values in one pair of brackets");
            return None;
        };
        let mut items = Vec::new();
        for part in inner.split(',') {
            let lead = part.as_ptr().addr() - text.as_ptr().addr() + (part.len() - part.trim_start().len());
            // Of a list over several lines the places have moved: then the whole of it is shown.
            let exact = range.len() == text.len();
            let place = if exact { range.start + lead..range.start + lead + part.trim().len() } else { range.clone() };
            if !part.trim().is_empty() {
                items.extend(self.scalar(part.trim(), place));
            }
        }
        Some(Node { at: self.at(range), value: Val::List(items) })
    }

    fn scalar(&mut self, text: &str, range: Range<usize>) -> Option<Node> {
        let at = self.at(range.clone());
        let node = |value: Val| Some(Node { at: at.clone(), value });
        if let Some(inner) = text.strip_prefix('\'') {
            let inner = inner.strip_suffix('\'').filter(|inner| !inner.replace("''", "").contains('\''));
            match inner {
                Some(inner) => return node(Val::Text(inner.replace("''", "'"))),
                None => self.refuse(range, "the quote `'` is not closed, or text follows it"),
            }
            return None;
        }
        if text.starts_with('"') {
            // JSON's escapes are those that YAML's double quotes share with everyone.
            match serde_json::from_str(text) {
                Ok(text) => return node(Val::Text(text)),
                Err(_) => self.refuse(range, "the quote `\"` is not closed, text follows it, or an escape is unknown"),
            }
            return None;
        }
        if text.starts_with(['&', '*', '!', '{', '%', '@', '`', '|', '>']) {
            self.refuse(range, "anchors, tags, tables and the like are not read; quote the value if it is a text");
            return None;
        }
        let text = text.split_once(" #").map_or(text, |(text, _)| text.trim_end());
        let digits = text.strip_prefix('-').unwrap_or(text);
        let number = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && digits.bytes().any(|b| b.is_ascii_digit());
        node(match text {
            "true" | "True" => Val::Flag(true),
            "false" | "False" => Val::Flag(false),
            _ if number && !text.contains('.') => Val::Int(text.to_owned()),
            _ if number && text.parse::<f64>().is_ok() => Val::Float(text.to_owned()),
            _ => Val::Text(text.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests;
