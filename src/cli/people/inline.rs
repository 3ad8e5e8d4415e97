//! Asking on the terminal that a run is started from. Invariant: at most one question stands there, and nothing else is
//! printed while it does; what is skipped stays open, and is not asked again by this process.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::keys::{Keys, Leave, Line};
use super::view::lines;
use super::{Asked, decide, kind, open_of, still};
use crate::adapters::models::secrets::Env;
use crate::cli::Context;
use crate::cli::drive::{self, Signals};
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::open::{self, Project, now_ms, whoami};
use crate::cli::out::{Out, Tone};
use crate::cli::run::{ShowArgs, go_on_with};
use crate::cli::wiring::Engine;
use crate::core::event::InterruptKind;
use crate::core::ids::{InterruptId, RunId};
use crate::core::interrupt::{RULING, Verdict};
use crate::ports::store::{RunRow, Store};

/// Longer arguments are shown in part, with the command that shows all.
const LINES: usize = 60;

/// The terminal of a run in the foreground, and whoever sits at it.
pub struct Desk {
    pub show: ShowArgs,
    pub(super) out: Arc<Out>,
    env: Arc<Env>,
    project: Arc<Project>,
    /// There is somebody to ask.
    pub(super) asks: bool,
    pub(super) keys: Keys,
    pub(super) seen: Mutex<Seen>,
}

/// What whoever sits there did not want to decide.
#[derive(Default)]
pub(super) struct Seen {
    skipped: BTreeSet<InterruptId>,
    /// Asked no more.
    left: bool,
}

pub enum Said {
    Decided,
    /// It stays open.
    Skipped,
    /// Taken back while it stood there.
    Gone,
    /// Ctrl-C, or the end of the input.
    Left,
}

impl Desk {
    pub fn of(context: &Context, project: &Arc<Project>, show: &ShowArgs) -> Arc<Desk> {
        let terminal = std::io::stdin().is_terminal() && context.out.stderr_is_terminal();
        Arc::new(Desk {
            show: *show,
            out: context.out.clone(),
            env: context.env.clone(),
            project: project.clone(),
            asks: terminal && !show.no_ask && !show.json,
            keys: Keys::default(),
            seen: Mutex::default(),
        })
    }

    /// Is this to be asked here?
    pub(super) fn wants(&self, id: &InterruptId) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.asks && !seen.left && !seen.skipped.contains(id)
    }

    /// Somebody here has decided, or elsewhere, and the run has not taken it up yet.
    pub fn is_decided(&self, store: &dyn Store, run: &RunId) -> Result<bool, Failure> {
        Ok(self.asks && store.inbox(run)?.iter().any(|row| row.kind.starts_with(RULING)))
    }

    /// One question to its end, on a thread of its own: the work of the run goes on.
    pub(super) fn talk(&self, store: &Arc<dyn Store>, asked: &Asked, leave: &Leave) -> Result<Said, Failure> {
        self.keys.forget();
        let said = about(self, store, asked, leave)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Said::Decided | Said::Gone => {}
            Said::Skipped => drop(seen.skipped.insert(asked.one.raised.id.clone())),
            Said::Left => seen.left = true,
        }
        Ok(said)
    }

    /// Asks about everything that is open in a run that stands still; `true` if something was decided.
    fn ask(self: &Arc<Desk>, store: &Arc<dyn Store>, row: RunRow) -> Result<bool, Failure> {
        let mut any = false;
        for asked in open_of(&**store, vec![row])? {
            let open = asked.coming.is_none() && !asked.one.is_late(now_ms());
            if open && self.wants(&asked.one.raised.id) {
                any |= matches!(self.alone(store, asked)?, Said::Decided);
            }
        }
        Ok(any)
    }

    /// Nothing else is at work. A run before this has taken the signals from the process, so that they must be heard
    /// here.
    fn alone(self: &Arc<Desk>, store: &Arc<dyn Store>, asked: Asked) -> Result<Said, Failure> {
        let (desk, store, leave) = (self.clone(), store.clone(), Arc::new(Leave::default()));
        let stop = leave.clone();
        drive::block_on(async {
            let mut signals = Signals::new().map_err(drive::no_signals)?;
            let mut talk = tokio::task::spawn_blocking(move || desk.talk(&store, &asked, &leave));
            let died = |why: tokio::task::JoinError| Failure::new(Exit::Internal, why.to_string());
            tokio::select! {
                said = &mut talk => said.map_err(died)?,
                _ = signals.next() => {
                    stop.now();
                    let said = talk.await.map_err(died)??;
                    self.leave();
                    Ok(said)
                }
            }
        })
    }

    /// Whoever sits there wants to go.
    pub(super) fn leave(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).left = true;
    }
}

/// Stays with a run that waits for people as long as somebody here decides, or has decided elsewhere while
/// it came to rest.
pub fn stay(
    context: &Context,
    project: &Project,
    engine: &Engine,
    run: &RunId,
    outcome: Outcome,
    desk: &Arc<Desk>,
) -> Outcome {
    let mut outcome = outcome;
    while let Ok(Exit::Person) = outcome {
        let row = open::find_run(&*engine.store, run.as_str())?;
        let came = engine.store.inbox(run)?.iter().any(|row| row.kind.starts_with(RULING));
        if !came && !desk.ask(&engine.store, row.clone())? {
            return outcome;
        }
        outcome = go_on_with(context, project, engine, row, desk);
    }
    outcome
}

fn about(desk: &Desk, store: &Arc<dyn Store>, asked: &Asked, leave: &Leave) -> Result<Said, Failure> {
    let (out, raised) = (&desk.out, &asked.one.raised);
    let all = lines(&desk.project, &**store, asked)?;
    out.note("");
    for (index, line) in all.iter().take(LINES).enumerate() {
        out.note(&if index == 0 { out.paint_err(Tone::Strong, line) } else { line.clone() });
    }
    if all.len() > LINES {
        out.note(&format!("… {} more lines: bosun approvals show {}", all.len() - LINES, raised.id));
    }
    let question = raised.kind == InterruptKind::Question;
    let edits = matches!(raised.kind, InterruptKind::Approval | InterruptKind::After);
    let read = || match desk.keys.line(leave) {
        Ok(Line::Typed(line)) => Ok(Ok(line.trim().to_owned())),
        Ok(Line::End) => Ok(Err(Said::Left)),
        Ok(Line::Left) => {
            out.note("");
            Ok(Err(Said::Gone))
        }
        Err(why) => Err(Failure::usage(format!("the input cannot be read: {why}"))),
    };
    loop {
        out.err(match (question, raised.server(), edits) {
            (true, Some(_), _) => "answer (JSON, or text for one field; empty to skip, ! to decline): ",
            (true, None, _) => "answer (empty to skip): ",
            (false, _, true) => "y yes · n no · e edit · r no, with a reason · s skip: ",
            (false, _, false) => "y yes · n no · r no, with a reason · s skip: ",
        });
        let line = match read()? {
            Ok(line) => line,
            Err(said) => return Ok(said),
        };
        let verdict = match line.as_str() {
            "" | "s" | "skip" if !question || line.is_empty() => return Ok(Said::Skipped),
            "!" if raised.server().is_some() => super::no(asked, None)?,
            text if question => Verdict::Answer { text: text.to_owned() },
            "y" | "yes" => Verdict::Approve { arguments: None },
            "n" | "no" => Verdict::Reject { reason: "no".to_owned() },
            "r" => {
                out.err("why: ");
                match read()? {
                    Ok(reason) if reason.is_empty() => Verdict::Reject { reason: "no".to_owned() },
                    Ok(reason) => Verdict::Reject { reason },
                    Err(said) => return Ok(said),
                }
            }
            "e" | "edit" if edits => match edited(desk, &**store, asked)? {
                Some(text) => Verdict::Approve { arguments: Some(text) },
                None => continue,
            },
            _ => continue,
        };
        match decide(&desk.project, store.clone(), asked, verdict, &whoami(&desk.env)) {
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

/// What a person makes of the arguments in their editor; `None` if nothing was changed.
fn edited(desk: &Desk, store: &dyn Store, asked: &Asked) -> Result<Option<String>, Failure> {
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
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| desk.env.get(*name)).map_or("vi", String::as_str);
    let mut words = editor.split_whitespace();
    let ended = std::process::Command::new(words.next().unwrap_or("vi")).args(words).arg(&path).status();
    let text = std::fs::read_to_string(&path);
    // What it was for is over, whatever came of it.
    let _ = std::fs::remove_file(&path);
    match ended {
        Err(why) => {
            desk.out.note(&format!("the editor `{editor}` does not start: {why}; set EDITOR"));
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
