//! What is asked, whole. Invariant: what a person agrees to is what they have seen: nothing that a model
//! wrote can hide a part of it, move the cursor or turn the text around.

use std::sync::Arc;

use serde_json::{Value, json};
use similar::TextDiff;

use super::{Asked, tally, text, wants};
use crate::adapters::crewfile::{DiskSource, Source};
use crate::adapters::tools::ansi;
use crate::cli::Context;
use crate::cli::crew as crews;
use crate::cli::ends;
use crate::cli::failure::Failure;
use crate::cli::open::{self, Project, now_ms};
use crate::cli::screen::{clean, rfc3339, span};
use crate::core::agent::Spec;
use crate::core::crew::ToolSource;
use crate::core::event::{InterruptKind, Why};
use crate::core::interrupt::{Interrupt, Stand};
use crate::core::question::Question;
use crate::ports::store::Store;

/// Lines of context around a change.
const AROUND: usize = 3;

/// Why a person is asked.
pub(super) fn why(why: &Why) -> String {
    match why {
        Why::Always => "the tool always needs a yes".to_owned(),
        Why::Condition(condition) => format!("`approve_when = {}`", clean(condition)),
        Why::Tainted(from) => format!("not to be trusted: {}", clean(from)),
        Why::Task => "the task says `approval`".to_owned(),
        Why::Question => "the agent asks".to_owned(),
        Why::Server(name) => format!("the server {} asks", clean(name)),
    }
}

pub(super) fn json(store: &dyn Store, asked: &Asked) -> Result<Value, Failure> {
    let Asked { row, one, coming } = asked;
    let raised = &one.raised;
    let arguments = text(store, &raised.arguments)?;
    let arguments = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
    let tally = tally(store, row)?;
    Ok(json!({
        "id": raised.id, "run": row.run, "crew": row.crew, "step": raised.step, "kind": raised.kind.as_str(),
        "agent": raised.agent, "call": raised.call, "index": raised.index, "tool": raised.tool,
        "arguments": arguments, "why": raised.why, "usd": tally.ledger.total().settled.usd,
        "raised": rfc3339(one.at_ms), "expires": one.ends_ms().map(rfc3339), "decided": coming.is_some(),
    }))
}

pub(super) fn show(context: &Context, project: &Project, store: Arc<dyn Store>, asked: &Asked) -> Result<(), Failure> {
    lines(project, &*store, asked)?.iter().for_each(|line| context.out.line(line));
    commands(asked).iter().for_each(|line| context.out.line(line));
    Ok(())
}

/// Everything one must know to decide.
pub(super) fn lines(project: &Project, store: &dyn Store, asked: &Asked) -> Result<Vec<String>, Failure> {
    let Asked { row, one, coming } = asked;
    let raised = &one.raised;
    let tally = tally(store, row)?;
    let who = raised.agent.as_ref().map(|agent| format!(" ({agent})")).unwrap_or_default();
    let mut out = vec![format!("{}  {}{who} of {} wants {}", raised.id, raised.step, clean(&row.crew), wants(one))];
    let why_asked: Vec<String> = raised.why.iter().map(why).collect();
    out.push(format!("why      {}", why_asked.join("; ")));
    out.push(format!("run      {} · {}", tally.short(), ends::money(&tally)));
    out.push(format!("time     {}", time(one)));
    match (&one.stand, coming) {
        (Stand::Open, None) => {}
        (Stand::Open, Some(coming)) => {
            let by = clean(&coming.by);
            out.push(format!("stands   decided by {by}; it takes effect with: bosun resume {}", tally.short()));
        }
        (Stand::Decided { decision, by, .. }, _) => {
            out.push(format!("stands   {} by {}", decision.as_str(), clean(by)));
        }
        (Stand::Void(why), _) => out.push(format!("stands   void: {why}")),
    }
    out.extend(body(project, store, asked)?);
    Ok(out)
}

fn time(one: &Interrupt) -> String {
    let asked = format!("asked {}", rfc3339(one.at_ms));
    match one.ends_ms() {
        Some(ends) if ends <= now_ms() => format!("{asked}, open until {}: over", rfc3339(ends)),
        Some(ends) => format!("{asked}, open for {} more", span(ends - now_ms())),
        None => format!("{asked}, open until it is decided"),
    }
}

/// The exact arguments, and what a file would become.
fn body(project: &Project, store: &dyn Store, asked: &Asked) -> Result<Vec<String>, Failure> {
    let raised = &asked.one.raised;
    let whole = text(store, &raised.arguments)?;
    let value: Option<Value> = serde_json::from_str(&whole).ok();
    let mut out = Vec::new();
    match (raised.kind, value) {
        (InterruptKind::Before, _) => {}
        (InterruptKind::Question, Some(value)) => {
            out.push(String::new());
            out.extend(safe(value["question"].as_str().unwrap_or_default()));
            let choices = value["choices"].as_array().into_iter().flatten().filter_map(Value::as_str);
            out.extend(choices.map(|choice| format!("- {}", safe(choice).join(" "))));
            let fields = raised.server().and_then(|_| Question::read(&whole)).map(|asked| asked.fields());
            out.extend(fields.into_iter().flatten().map(|field| format!("- {}", safe(&field).join(" "))));
        }
        (InterruptKind::Approval, Some(value)) => {
            out.push(String::new());
            let pretty = serde_json::to_string_pretty(&value).unwrap_or(whole);
            out.extend(safe(&pretty));
            out.extend(change(project, store, asked, &value)?);
        }
        (InterruptKind::After | InterruptKind::Question | InterruptKind::Approval, _) => {
            out.push(String::new());
            out.extend(safe(&whole));
        }
    }
    Ok(out)
}

/// What a file tool would do to the files that are there now.
fn change(project: &Project, store: &dyn Store, asked: &Asked, arguments: &Value) -> Result<Vec<String>, Failure> {
    let raised = &asked.one.raised;
    let journal = open::read_run(store, asked.row.clone())?;
    let (crew, _) = crews::pinned(project, store, journal.started()?)?;
    let spec = raised.agent.as_ref().and_then(|agent| Spec::of(&crew, &raised.step, agent));
    let def = spec.and_then(|spec| spec.crew.tools.get(&raised.tool).cloned());
    let Some(ToolSource::Builtin { name, .. }) = def.as_ref().map(|def| &def.source) else { return Ok(Vec::new()) };
    let word = |key: &str| arguments.get(key).and_then(Value::as_str).unwrap_or_default();
    let disk = DiskSource::new(&project.root);
    let now = |path: &str| disk.read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(match name.as_str() {
        "files.write" => diff(word("path"), &now(word("path")).unwrap_or_default(), word("text")),
        "files.append" => {
            let old = now(word("path")).unwrap_or_default();
            diff(word("path"), &old, &format!("{old}{}", word("text")))
        }
        "files.move" => {
            let (from, to) = (word("from"), word("to"));
            let state = |path: &str| match disk.read(path) {
                Ok(bytes) => format!("{} bytes", bytes.len()),
                Err(why) => why,
            };
            let line = |mark: &str, path: &str| format!("{mark} {} ({})", safe(path).join(" "), state(path));
            vec![String::new(), line("-", from), line("+", to)]
        }
        _ => Vec::new(),
    })
}

/// A unified diff of the file that is there and the one that would be.
pub(super) fn diff(path: &str, old: &str, new: &str) -> Vec<String> {
    if old == new {
        return vec![String::new(), "the file is so already".to_owned()];
    }
    let path = safe(path).join(" ");
    let (from, to) = if old.is_empty() { ("/dev/null".to_owned(), path) } else { (path.clone(), path) };
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(AROUND).header(&from, &to).to_string();
    std::iter::once(String::new()).chain(safe(&text)).collect()
}

/// Foreign text as lines: no terminal sequences, and what is not to be seen is written out.
pub(super) fn safe(text: &str) -> Vec<String> {
    let visible = |line: &str| line.chars().flat_map(written_out).collect::<String>();
    ansi::plain(text).lines().map(visible).collect()
}

/// Characters that are drawn as nothing or turn the text around, as their numbers.
fn written_out(c: char) -> Vec<char> {
    let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    if hidden { c.escape_unicode().collect() } else { vec![c] }
}

/// What one may type now.
fn commands(asked: &Asked) -> Vec<String> {
    let id = &asked.one.raised.id;
    if !asked.one.is_open() || asked.coming.is_some() || asked.one.is_late(now_ms()) {
        return Vec::new();
    }
    let all = match asked.one.raised.kind {
        InterruptKind::Question => match asked.one.raised.server() {
            Some(_) => vec![format!("bosun answer {id} '{{\"FIELD\": VALUE, …}}'"), format!("bosun reject {id}")],
            None => vec![format!("bosun answer {id} TEXT"), format!("bosun reject {id} --reason WHY")],
        },
        InterruptKind::Before => vec![format!("bosun approve {id}"), format!("bosun reject {id} --reason WHY")],
        InterruptKind::Approval | InterruptKind::After => vec![
            format!("bosun approve {id}"),
            format!("bosun approve {id} --edit-file FILE"),
            format!("bosun reject {id} --reason WHY"),
        ],
    };
    std::iter::once(String::new()).chain(all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_model_wrote_hides_a_part_of_it() {
        let lines = safe("rm \u{1b}[2K\u{1b}]0;title\u{7}-rf\r/\u{202e}txt.exe\u{200b}");
        assert_eq!(lines, ["rm -rf", "/\\u{202e}txt.exe\\u{200b}"]);
    }

    #[test]
    fn a_diff_says_what_a_file_becomes() {
        let lines = diff("out/a.md", "one\ntwo\n", "one\n2\n");
        assert_eq!(lines, ["", "--- out/a.md", "+++ out/a.md", "@@ -1,2 +1,2 @@", " one", "-two", "+2"]);
        assert_eq!(diff("a", "", "x\n")[1], "--- /dev/null");
        assert_eq!(diff("a", "x", "x")[1], "the file is so already");
    }
}
