//! What `check` prints. Invariant: every problem shows its file, line and column; control characters
//! of a file never reach the terminal.

use std::collections::{BTreeMap, BTreeSet};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::form::secret;
use super::pasted::found;
use super::source::Pin;
use super::{Loaded, Problem, Severity};

/// Longest line that is shown; of a longer one (a row, a pasted text) the part around the place.
const LINE_MAX: usize = 300;
/// Columns of a snippet, however wide a terminal is.
const COLUMNS_MAX: usize = 120;

/// Line and column, both from 1, of a byte of a text. Columns are characters.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..text.floor_char_boundary(byte)).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// All problems as rustc shows its own, in at most `columns` if that is possible, with the closing line.
pub fn text(loaded: &Loaded, colors: bool, columns: usize) -> String {
    let mut out = shown(loaded, &loaded.problems, colors, columns);
    out.push_str(&summary(loaded));
    out.push('\n');
    out
}

/// Problems of the files of `loaded`, without a closing line.
pub fn shown(loaded: &Loaded, problems: &[Problem], colors: bool, columns: usize) -> String {
    let masked: BTreeMap<&str, String> =
        loaded.pins.iter().map(|pin| (pin.path.as_str(), masked(pin, &loaded.problems))).collect();
    let renderer = if colors { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(columns.min(COLUMNS_MAX));
    let mut out = String::new();
    for problem in problems {
        out.push_str(&renderer.render(&groups(problem, &masked)));
        out.push_str("\n\n");
    }
    out
}

/// A file as it may be shown: of lines that hold a secret nothing after the `=`.
fn masked(pin: &Pin, problems: &[Problem]) -> String {
    let own = problems.iter().filter(|problem| problem.code == "E0110" && *problem.file == *pin.path);
    let line = |byte| position(&pin.text, byte).0;
    let spans: Vec<_> = own.map(|problem| line(problem.span.start)..=line(problem.span.end)).collect();
    let mut out = String::with_capacity(pin.text.len());
    for (index, line) in pin.text.split_inclusive('\n').enumerate() {
        let opens = spans.iter().any(|lines| *lines.start() == index + 1);
        let inside = spans.iter().any(|lines| *lines.start() <= index && lines.contains(&(index + 1)));
        let pasted = found(line).map(|key| key.start);
        let key = line.split('=').next().unwrap_or_default();
        let named = line.contains('=') && key.len() < 100 && secret(key.trim());
        if !opens && !inside && !named && pasted.is_none() {
            out.push_str(line);
            continue;
        }
        // Bytes are kept in number, so that places stay where they are.
        let from = match (line.find('=').filter(|_| !inside), pasted) {
            (Some(sign), key) => (sign + 1).min(key.unwrap_or(line.len())),
            (None, key) => key.filter(|_| !inside).unwrap_or(0),
        };
        out.push_str(&line[..from]);
        let hidden = line[from..].bytes().map(|byte| if byte == b'\n' || byte == b'\r' { byte as char } else { '*' });
        out.extend(hidden);
    }
    out
}

/// `4 errors in 5 files, nothing was sent to a model`.
pub fn summary(loaded: &Loaded) -> String {
    let count = |severity| loaded.problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut files: BTreeSet<&str> = loaded.pins.iter().map(|pin| pin.path.as_str()).collect();
    files.extend(loaded.problems.iter().map(|problem| &*problem.file));
    let many = |count: usize, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let warned = if warnings == 0 { String::new() } else { format!(" and {}", many(warnings, "warning")) };
    let errors = if errors == 0 { "no errors".to_owned() } else { many(errors, "error") };
    format!("{errors}{warned} in {}, nothing was sent to a model", many(files.len(), "file"))
}

fn groups<'a>(problem: &'a Problem, files: &'a BTreeMap<&'a str, String>) -> Vec<Group<'a>> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(clean(&problem.message)).id(problem.code);
    let mut places: Vec<(&str, std::ops::Range<usize>, &str, AnnotationKind)> =
        vec![(&problem.file, problem.span.clone(), &problem.label, AnnotationKind::Primary)];
    for (at, what) in &problem.secondary {
        places.push((&at.file, at.span.start..at.span.end, what, AnnotationKind::Context));
    }
    let mut group = Group::with_title(title);
    let mut shown: Vec<&str> = Vec::new();
    for (file, _, _, _) in places.clone() {
        if shown.contains(&file) {
            continue;
        }
        shown.push(file);
        let Some(text) = files.get(file).filter(|text| !text.is_empty()) else {
            group = group.element(annotate_snippets::Origin::path(file));
            continue;
        };
        let whole = problem.span.is_empty() && problem.span.start == 0 && file == &*problem.file;
        if whole {
            group = group.element(annotate_snippets::Origin::path(file).line(1).char_column(1));
            continue;
        }
        let own = places.iter().filter(|(other, _, _, _)| *other == file);
        group = snippets(group, file, text, own);
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(clean(help)));
    }
    vec![group]
}

/// One snippet per file, or one per place where the lines are too long to be shown whole.
fn snippets<'a, 'p>(
    mut group: Group<'a>,
    file: &'a str,
    text: &'a str,
    places: impl Iterator<Item = &'p (&'a str, std::ops::Range<usize>, &'a str, AnnotationKind)>,
) -> Group<'a>
where
    'a: 'p,
{
    // The renderer cuts the text at these bytes: a place inside a character or past the end ends the program.
    let whole = |span: &std::ops::Range<usize>| {
        let start = text.floor_char_boundary(span.start);
        start..text.ceil_char_boundary(span.end).max(start)
    };
    let places: Vec<_> = places.map(|(file, span, label, kind)| (file, whole(span), label, kind)).collect();
    let start = places.iter().map(|(_, span, _, _)| span.start).min().unwrap_or(0);
    let end = places.iter().map(|(_, span, _, _)| span.end).max().unwrap_or(0);
    let first = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let last = text.get(end..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| end + at);
    let lines = text.get(first..last).unwrap_or_default();
    let long = lines.lines().any(|line| line.len() > LINE_MAX);
    if long {
        let (line, column) = position(text, places.first().map_or(0, |(_, span, _, _)| span.start));
        return group.element(annotate_snippets::Origin::path(file).line(line).char_column(column));
    }
    let (line, _) = position(text, first);
    let mut snippet = Snippet::source(lines).path(file).line_start(line).fold(true);
    for (_, span, label, kind) in places {
        let range = span.start - first..span.end.min(last).saturating_sub(first).max(span.start - first);
        snippet = snippet.annotation(kind.span(range).label(clean(label)).highlight_source(false));
    }
    group = group.element(snippet);
    group
}

fn clean(text: &str) -> String {
    annotate_snippets::normalize_untrusted_str(text)
}

/// One JSON object per problem: `{code, severity, message, file, line, column, help}`.
pub fn json(loaded: &Loaded) -> Vec<serde_json::Value> {
    let text = |file: &str| loaded.pins.iter().find(|pin: &&Pin| pin.path == file).map_or("", |pin| &*pin.text);
    let one = |problem: &Problem| {
        let (line, column) = position(text(&problem.file), problem.span.start);
        serde_json::json!({
            "code": problem.code,
            "severity": match problem.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "message": problem.message,
            "file": &*problem.file,
            "line": line,
            "column": column,
            "help": problem.help,
        })
    };
    loaded.problems.iter().map(one).collect()
}
