//! Asking on the terminal that a run is started from. Invariant: a run is asked about only once it stands
//! still, so that nothing moves while a person reads; what is skipped stays open.

use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::view::lines;
use super::{Asked, decide, kind, open_of, still};
use crate::cli::Context;
use crate::cli::drive;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::open::{self, Project, now_ms, whoami};
use crate::cli::out::Tone;
use crate::cli::run::{ShowArgs, go_on_with};
use crate::cli::wiring::Engine;
use crate::core::event::InterruptKind;
use crate::core::ids::RunId;
use crate::core::interrupt::{RULING, Verdict};
use crate::ports::store::Store;

/// Longer arguments are shown in part, with the command that shows all.
const LINES: usize = 60;

/// Stays with a run that waits for people as long as somebody here decides, or has decided elsewhere while
/// it came to rest.
pub fn stay(
    context: &Context,
    project: &Project,
    engine: &Engine,
    run: &RunId,
    outcome: Outcome,
    show: &ShowArgs,
) -> Outcome {
    let mut outcome = outcome;
    while let Ok(Exit::Person) = outcome {
        let row = open::find_run(&*engine.store, run.as_str())?;
        let came = engine.store.inbox(run)?.iter().any(|row| row.kind.starts_with(RULING));
        if !came && !ask(context, project, &engine.store, row.clone(), show)? {
            return outcome;
        }
        outcome = go_on_with(context, project, engine, row, show);
    }
    outcome
}

/// Asks about everything that is open; `true` if something was decided.
fn ask(
    context: &Context,
    project: &Project,
    store: &Arc<dyn Store>,
    row: crate::ports::store::RunRow,
    show: &ShowArgs,
) -> Result<bool, Failure> {
    let terminal = std::io::stdin().is_terminal() && context.out.stderr_is_terminal();
    if !terminal || show.no_ask || show.json {
        return Ok(false);
    }
    let mut any = false;
    for asked in open_of(&**store, vec![row])? {
        if asked.coming.is_some() || asked.one.is_late(now_ms()) {
            continue;
        }
        match about(context, project, store, &asked)? {
            Said::Decided => any = true,
            Said::Skipped => {}
            Said::Left => return Ok(any),
        }
    }
    Ok(any)
}

enum Said {
    Decided,
    /// It stays open.
    Skipped,
    /// Ctrl-C, or the end of the input.
    Left,
}

fn about(context: &Context, project: &Project, store: &Arc<dyn Store>, asked: &Asked) -> Result<Said, Failure> {
    let out = &context.out;
    let all = lines(project, &**store, asked)?;
    out.note("");
    for (index, line) in all.iter().take(LINES).enumerate() {
        out.note(&if index == 0 { out.paint_err(Tone::Strong, line) } else { line.clone() });
    }
    if all.len() > LINES {
        let (more, id) = (all.len() - LINES, &asked.one.raised.id);
        out.note(&format!("… {more} more lines: bosun approvals show {id}"));
    }
    let question = asked.one.raised.kind == InterruptKind::Question;
    let edits = matches!(asked.one.raised.kind, InterruptKind::Approval | InterruptKind::After);
    loop {
        out.err(match (question, edits) {
            (true, _) => "answer (empty to skip): ",
            (false, true) => "y yes · n no · e edit · r no, with a reason · s skip: ",
            (false, false) => "y yes · n no · r no, with a reason · s skip: ",
        });
        let Some(line) = read_line()? else { return Ok(Said::Left) };
        let line = line.trim();
        let verdict = match line {
            "" | "s" | "skip" if !question || line.is_empty() => return Ok(Said::Skipped),
            text if question => Verdict::Answer { text: text.to_owned() },
            "y" | "yes" => Verdict::Approve { arguments: None },
            "n" | "no" => Verdict::Reject { reason: "no".to_owned() },
            "r" => {
                out.err("why: ");
                let Some(reason) = read_line()? else { return Ok(Said::Left) };
                let reason = if reason.trim().is_empty() { "no" } else { reason.trim() };
                Verdict::Reject { reason: reason.to_owned() }
            }
            "e" | "edit" if edits => match edited(context, &**store, asked)? {
                Some(text) => Verdict::Approve { arguments: Some(text) },
                None => continue,
            },
            _ => continue,
        };
        match decide::decide(project, store.clone(), asked, verdict, &whoami(&context.env)) {
            Ok(()) => return Ok(Said::Decided),
            // Somebody else was faster, or what was typed does not fit: said, and asked again while it is open.
            Err(failure) => {
                out.err(&failure.text());
                if !still_open(&**store, asked)? {
                    return Ok(Said::Decided);
                }
            }
        }
    }
}

fn still_open(store: &dyn Store, asked: &Asked) -> Result<bool, Failure> {
    let run = &asked.row.run;
    let coming = store.inbox(run)?.iter().any(|row| row.kind == kind(&asked.one));
    let all = still(store, run)?;
    Ok(!coming && all.get(&asked.one.raised.id).is_some_and(|one| one.is_open() && !one.is_late(now_ms())))
}

/// The next line of the input; `None` at its end, or after Ctrl-C. A run before this has taken the signal from
/// the process, so that it must be heard here.
fn read_line() -> Result<Option<String>, Failure> {
    drive::block_on(async {
        let no_signal = |why: std::io::Error| Failure::new(Exit::Internal, format!("no signals: {why}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
        let read = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
        });
        tokio::select! {
            line = read => match line {
                Ok(Ok(line)) => Ok(line),
                Ok(Err(why)) => Err(Failure::usage(format!("the input cannot be read: {why}"))),
                Err(why) => Err(Failure::new(Exit::Internal, why.to_string())),
            },
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    })
}

/// What a person makes of the arguments in their editor; `None` if nothing was changed.
fn edited(context: &Context, store: &dyn Store, asked: &Asked) -> Result<Option<String>, Failure> {
    let raised = &asked.one.raised;
    let whole = super::text(store, &raised.arguments)?;
    let pretty = serde_json::from_str::<serde_json::Value>(&whole)
        .ok()
        .filter(|_| raised.kind == InterruptKind::Approval)
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or(whole);
    let suffix = if raised.kind == InterruptKind::Approval { "json" } else { "md" };
    let path = std::env::temp_dir().join(format!("bosun-{}-{}.{suffix}", raised.id, std::process::id()));
    let wrong = |why: std::io::Error| Failure::usage(format!("{}: {why}", path.display()));
    private(&path, &pretty).map_err(wrong)?;
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| context.env.get(*name)).map_or("vi", String::as_str);
    let mut words = editor.split_whitespace();
    let ended = std::process::Command::new(words.next().unwrap_or("vi")).args(words).arg(&path).status();
    let text = std::fs::read_to_string(&path);
    // What it was for is over, whatever came of it.
    let _ = std::fs::remove_file(&path);
    match ended {
        Err(why) => {
            context.out.note(&format!("the editor `{editor}` does not start: {why}; set EDITOR"));
            Ok(None)
        }
        Ok(status) if !status.success() => Ok(None),
        Ok(_) => Ok(Some(text.map_err(wrong)?).filter(|text| *text != pretty)),
    }
}

/// A new file that only its owner may read.
fn private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
