//! What is wrong with a crew's files. Invariant: a problem names its place, and every code it can
//! bear is in [`CODES`].

use std::ops::Range;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// Where something stands: bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub file: Arc<str>,
    pub span: Bytes,
}

/// A span that can be ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes {
    pub start: usize,
    pub end: usize,
}

impl From<Range<usize>> for Bytes {
    fn from(range: Range<usize>) -> Bytes {
        Bytes { start: range.start, end: range.end }
    }
}

impl At {
    pub fn new(file: &Arc<str>, span: Range<usize>) -> At {
        At { file: file.clone(), span: span.into() }
    }
    /// The whole file: nothing in it can be pointed at.
    pub fn file(file: &str) -> At {
        At { file: file.into(), span: Bytes::default() }
    }
    /// Bytes of the text that stands at this place, `skip` bytes into it.
    pub fn inner(&self, skip: usize, range: &Range<usize>) -> At {
        let start = (self.span.start + skip + range.start).min(self.span.end);
        let end = (self.span.start + skip + range.end).clamp(start, self.span.end);
        At { file: self.file.clone(), span: (start..end).into() }
    }
}

/// One problem, with all that a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub code: &'static str,
    pub severity: Severity,
    pub message: String,
    /// Relative to the project root, as its author would name it.
    pub file: Arc<str>,
    /// Bytes of the file; empty and at 0 where the file as a whole is meant.
    pub span: Range<usize>,
    /// What is said at the caret.
    pub label: String,
    /// Other places that have to do with it, each with what it is.
    pub secondary: Vec<(At, String)>,
    pub help: Option<String>,
}

impl Problem {
    pub fn error(code: &'static str, at: &At, message: impl Into<String>) -> Problem {
        Problem {
            code,
            severity: Severity::Error,
            message: message.into(),
            file: at.file.clone(),
            span: at.span.start..at.span.end,
            label: String::new(),
            secondary: Vec::new(),
            help: None,
        }
    }
    pub fn warning(code: &'static str, at: &At, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(code, at, message) }
    }
    pub fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = label.into();
        self
    }
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
    pub fn maybe_help(mut self, help: Option<String>) -> Problem {
        self.help = help.or(self.help);
        self
    }
    pub fn also(mut self, at: &At, what: impl Into<String>) -> Problem {
        self.secondary.push((at.clone(), what.into()));
        self
    }
}

/// Every code with what it means: `bosun help E0104`.
pub const CODES: &[(&str, &str)] = &[
    (
        "E0101",
        "A file that the crew is made of cannot be read: it is missing, a folder, too large, or outside the root.",
    ),
    ("E0102", "A file is not UTF-8. Save it as UTF-8; the byte that is not is named."),
    ("E0103", "The file is not TOML at this place."),
    ("E0104", "A key that no table has. Unknown keys are refused, so that a slip never switches something off."),
    ("E0105", "A value of another type than the key takes."),
    ("E0106", "A key that must be there is missing."),
    ("E0107", "Bosun knows this key or value, but what it does is not built yet; it is refused rather than ignored."),
    ("E0108", "A table stands inside another one. In TOML, keys below a `[header]` belong to that header."),
    ("E0109", "A word of another tool. The message says what Bosun calls it."),
    (
        "E0110",
        "A key or password is written in the file. Name the environment variable instead, and replace the key: it may be known by now.",
    ),
    ("E0111", "A value that its key cannot have: out of range, not one of the choices, not a time or an amount."),
    ("E0112", "The crew file's `schema` is missing or newer than this Bosun."),
    ("E0113", "The same name is defined twice."),
    ("E0114", "Not a name, or a reserved one. A name is a lower-case letter, then at most 63 of a-z, 0-9 and _."),
    ("E0115", "Files include each other in a circle."),
    (
        "E0116",
        "`bosun.lock` cannot be read, or a server was approved as another one: look at what it is now, then `bosun tools approve`.",
    ),
    ("E0201", "An agent that does not exist."),
    ("E0202", "A task that does not exist."),
    ("E0203", "A tool that does not exist, or arguments that do not fit it."),
    ("E0204", "A model or provider that does not exist."),
    ("E0205", "A sub-crew that does not exist, or inputs that do not fit it."),
    ("E0206", "A task must be done by exactly one: an agent, a sub-crew, a tool, or the crew's lead."),
    ("E0207", "Tasks wait for each other in a circle."),
    ("E0208", "Which task's result is the crew's is not clear: set `output` in [crew]."),
    ("E0209", "An input and a task share a name; templates could not tell them apart."),
    ("E0210", "A revise loop that cannot run."),
    ("E0211", "A `for_each` that cannot run."),
    ("E0212", "An `on_error` that cannot run."),
    ("E0213", "A trigger that cannot start a run of its crew."),
    ("E0214", "A debate that cannot run."),
    ("E0301", "A model has no price, so its calls cannot be held to the budget."),
    ("E0302", "A budget that can never be met."),
    ("E0401", "A prompt file that does not exist."),
    ("E0402", "A prompt or condition uses a name that has no value there."),
    ("E0403", "A template or condition that cannot be read."),
    ("E0404", "A task tells its agent nothing: it needs a `description` or a `prompt`."),
    ("E0405", "The front matter of a prompt is wrong."),
    ("E0406", "A prompt includes a file outside the prompts, or in a circle."),
    ("E0407", "A condition compares what can never be equal."),
    ("E0408", "A field that a typed result, row or value does not have."),
    ("E0501", "An output schema that cannot be used."),
    ("E0502", "A field name that results use themselves: `text` or `status`."),
    ("E0601", "A file of rows that cannot be read."),
    ("E0602", "A row's key is empty, too long or missing."),
    ("E0603", "Two rows have the same key."),
    ("E0604", "More rows than `max_items`."),
    (
        "E0605",
        "A value makes an `output_file` leave the project or name no file. Every row is looked at before anything is sent.",
    ),
    ("W0303", "A step of `degrade` that saves nothing."),
    ("W0701", "Something is defined and never used."),
    (
        "W0702",
        "An agent file with YAML front matter names a key, tool or model that Bosun does not have; it is left out.",
    ),
    ("W0703", "What a crew writes may start it again."),
    ("W0704", "A tool of a server that no agent can be offered."),
];

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
    }
}
