//! A run in the foreground: its events to a face, its signals to the run, its end to an exit code.
//! Invariant: stdout carries the result, or the events asked for, and nothing else.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::failure::{Exit, Failure, Outcome};
use super::notifier::Notifier;
use super::open::{self, Journal, Project, StoreTexts, now_ms};
use super::people::{Beside, Desk};
use super::progress::{Mode, Progress};
use super::run::ShowArgs;
use super::tally::{StepState, StepTally, Tally};
use super::wiring::Engine;
use super::{Context, ends};
use crate::actors::host::Live;
use crate::actors::run::Outcome as RunOutcome;
use crate::adapters::crewfile;
use crate::adapters::crewfile::Source;
use crate::core::event::{CallEvent, Event, PauseCause, Started, TaskResult};
use crate::core::ids::{BlobId, RunId};
use crate::core::run::Entry;

/// How long calls in flight may take to end after the first Ctrl-C.
const GRACE: Duration = Duration::from_secs(30);
/// How often the live region is drawn anew, entries or not.
const TICK: Duration = Duration::from_millis(200);

/// Runs the future on the program's one runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // One thread: measured with 32 calls in flight at 171 us of CPU per call, against 191 with two workers;
    // one at a time 550 against 650. The store writes on a thread of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| Failure::new(Exit::Internal, format!("no runtime: {why}")))?;
    let done = runtime.block_on(future);
    // A tool that does not end must not keep the process: whatever it was is recorded as open.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

/// A write beyond `ulimit -f` is then an error like that of a full disk, which is said and leaves the journal
/// whole; the signal would end the process without a word. Only its having a handler matters, and one of tokio's
/// stays as long as the process; what a tool starts begins without it.
pub fn outlive_file_limits() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _guard = runtime.enter();
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
    /// The next one that asks the process to stop.
    pub async fn next(&mut self) -> PauseCause {
        tokio::select! {
            _ = self.interrupt.recv() => PauseCause::Interrupted,
            _ = self.terminate.recv() => PauseCause::Terminated,
            _ = self.hangup.recv() => PauseCause::Terminated,
        }
    }
}

pub fn no_signals(why: std::io::Error) -> Failure {
    Failure::new(Exit::Internal, format!("no signals: {why}"))
}

/// What hears of every entry.
struct Face {
    progress: Progress,
    notifier: Option<Notifier>,
}

impl Face {
    fn entry(&mut self, entry: &Entry) {
        self.progress.entry(entry);
        self.tell(entry);
    }
    /// It was there before this stay.
    fn seen(&mut self, entry: &Entry) {
        self.progress.seen(entry);
        self.tell(entry);
    }
    fn tell(&self, entry: &Entry) {
        if let Some(notifier) = &self.notifier {
            notifier.entry(self.progress.tally(), entry);
        }
    }
    /// What moves on without an event: elapsed times, waits for rates.
    fn beat(&mut self, engine: &Engine) {
        self.progress.rates(engine.host.waiting(), &engine.host.near(), now_ms());
        self.progress.writing(engine.host.writing());
        self.progress.working(engine.host.working(), now_ms());
        self.progress.tick(now_ms());
    }
}

/// Stays with a run until it leaves this process.
pub async fn drive(
    context: &Context,
    engine: &Engine,
    mut live: Live,
    mut entries: mpsc::UnboundedReceiver<Arc<Entry>>,
    before: Vec<Entry>,
    keys: BTreeMap<String, String>,
    desk: &Arc<Desk>,
) -> Outcome {
    let mut signals = Signals::new().map_err(no_signals)?;
    let mode = Mode::choose(&context.out, desk.show.json, desk.show.quiet);
    let progress = Progress::new(context.out.clone(), mode, live.texts.clone()).of(live.crew.clone(), keys);
    let progress = progress.called(open::called(&*engine.store, &live.id));
    let notifier = Notifier::start(engine.store.clone(), &engine.root, &live.id, &live.crew);
    let mut face = Face { progress, notifier };
    before.iter().for_each(|entry| face.seen(entry));
    let mut beside = Beside::new(desk, engine.store.clone(), live.id.clone());
    let followed = follow(engine, &mut live, &mut entries, &mut face, &mut beside, &mut signals).await;
    let Some(outcome) = followed else { return Ok(Exit::Interrupted) };
    while let Ok(entry) = entries.try_recv() {
        face.entry(&entry);
    }
    let parked = matches!(outcome, RunOutcome::Parked { .. });
    beside.finish(parked, &mut signals).await;
    let Face { mut progress, notifier } = face;
    progress.go_on(now_ms());
    let exit = if parked && goes_on(engine, &progress, &live.id, desk)? {
        progress.clear();
        Ok(Exit::Person)
    } else {
        end(context, engine, progress, outcome, &desk.show)
    };
    if let Some(notifier) = notifier {
        tokio::select! {
            said = notifier.end() => said.iter().for_each(|line| context.out.say(line)),
            // Whoever does not want to wait for it gets it with the next resume.
            _ = signals.next() => {}
        }
    }
    engine.store.release(&live.id);
    exit
}

/// Until the run has left; `None`: a third Ctrl-C waits for nothing.
async fn follow(
    engine: &Engine,
    live: &mut Live,
    entries: &mut mpsc::UnboundedReceiver<Arc<Entry>>,
    face: &mut Face,
    beside: &mut Beside<'_>,
    signals: &mut Signals,
) -> Option<RunOutcome> {
    let (mut asked, mut drill) = (0u32, engine.drill.clone());
    let mut tick = tokio::time::interval(TICK);
    let mut give_up: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            biased;
            cause = signals.next() => {
                asked += 1;
                beside.leave();
                match asked {
                    1 => {
                        live.pause(cause, "signal");
                        give_up = Some(tokio::time::Instant::now() + GRACE);
                    }
                    2 => live.drop_calls(),
                    _ => return None,
                }
            }
            Some(entry) = entries.recv() => {
                face.entry(&entry);
                beside.look(&mut face.progress);
                if drill.as_deref().is_some_and(|step| begins(&entry, step)) {
                    drill = None;
                    live.drill().await;
                }
            }
            outcome = live.wait() => return Some(outcome),
            () = beside.ended() => face.progress.go_on(now_ms()),
            _ = tick.tick() => {
                face.beat(engine);
                beside.look(&mut face.progress);
            }
            () = until(give_up) => {
                give_up = None;
                live.drop_calls();
            }
        }
    }
}

/// It waits for nothing but what has been decided since: it is taken up again, and nobody needs to be told how.
fn goes_on(engine: &Engine, progress: &Progress, run: &RunId, desk: &Desk) -> Result<bool, Failure> {
    let person = ends::of(progress.tally()).is_some_and(|end| end.exit == Exit::Person);
    Ok(person && desk.is_decided(&*engine.store, run)?)
}

/// Is it a call of `step` that begins?
fn begins(entry: &Entry, step: &str) -> bool {
    matches!(&entry.event, Event::Call(CallEvent::Held(held)) if held.call.step.as_str() == step)
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn end(context: &Context, engine: &Engine, mut progress: Progress, outcome: RunOutcome, show: &ShowArgs) -> Outcome {
    let (result, head) = match &outcome {
        RunOutcome::Finished { result, head, .. } => (result.clone(), head),
        RunOutcome::Parked { head, .. } => (None, head),
        RunOutcome::StoreFailed(error) => {
            let go_on = ends::resume(progress.tally());
            drop(progress);
            return Err(Failure::from(error.clone())
                .hint("nothing was sent after the failed write")
                .hint(format!("go on: {go_on}")));
        }
        RunOutcome::Crashed(why) | RunOutcome::GaveUp(why) => {
            drop(progress);
            return Err(Failure::new(Exit::Internal, why.clone()).hint("bosun resume goes on from the journal"));
        }
    };
    let exit = progress.end(Some(head));
    if !show.json {
        print_result(context, engine, progress.tally(), result.as_ref())?;
    }
    let started = progress.tally().started.as_deref();
    if let (Some(started), false, true) =
        (started.filter(|started| started.offline), show.json || show.quiet, exit == Exit::Done)
    {
        context.out.say(&real_model(started));
    } else if show.quiet && !show.json && result.is_some() {
        mark_stand_in(context, started);
    }
    Ok(exit)
}

/// The result of a stand-in never stands without a word, however quiet a command is asked to be.
fn mark_stand_in(context: &Context, started: Option<&Started>) {
    if started.is_some_and(|started| started.offline) {
        context.out.say(STAND_IN);
    }
}

const STAND_IN: &str = "[offline] A stand-in made this text, not a language model.";

/// What stands under the result of a run without a language model.
fn real_model(started: &Started) -> String {
    let place = if started.overrides.offline { "in place of --offline" } else { "to the command" };
    format!(
        "{STAND_IN} For a real one add {place}:\n\
         \x20 --model openai/gpt-4.1-mini   (first: export OPENAI_API_KEY=...)\n\
         \x20 --model ollama/llama3.1       (on this machine: ollama pull llama3.1)"
    )
}

fn print_result(context: &Context, engine: &Engine, tally: &Tally, result: Option<&TaskResult>) -> Result<(), Failure> {
    let Some(id) = result.and_then(|result| result.text) else { return Ok(()) };
    let text = engine.store.blob(&id)?.ok_or_else(|| Failure::new(Exit::Audit, "the result's text is gone"))?;
    context.out.result(&text);
    if context.out.broken().is_some() {
        let made = |row: &&StepTally| matches!(&row.state, StepState::Ended(made) if made.text == Some(id));
        let step = tally.steps.values().rev().find(made).map(|row| format!(" {}", ends::quoted(&row.step)));
        let (run, step) = (tally.short(), step.unwrap_or_default());
        context.out.say(&format!("run {run} is over and its result is kept; print it with: bosun show {run}{step}"));
    }
    Ok(())
}

/// The result of a run that is over, at no cost.
pub fn print_again(context: &Context, engine: &Engine, journal: &Journal, show: &ShowArgs) -> Outcome {
    let mode = if show.json { Mode::Json } else { Mode::Quiet };
    let texts = Arc::new(StoreTexts::new(engine.store.clone()));
    let mut progress = Progress::new(context.out.clone(), mode, texts).called(journal.called().to_owned());
    journal.entries.iter().for_each(|entry| progress.entry(entry));
    if !show.quiet {
        let run = journal.called();
        context.out.say(&format!("run {run} is over; its result is printed again, nothing is spent"));
    }
    let result = match &journal.tally.stand {
        super::tally::RunStand::Ended(_, result) => result.clone(),
        super::tally::RunStand::Running | super::tally::RunStand::Pausing => None,
        super::tally::RunStand::Cancelling | super::tally::RunStand::Parked(_) => None,
    };
    let exit = progress.end(Some(&journal.head()));
    if !show.json {
        print_result(context, engine, progress.tally(), result.as_ref())?;
        if result.is_some() {
            mark_stand_in(context, progress.tally().started.as_deref());
        }
    }
    Ok(exit)
}

/// Files that have changed since the run began: its own are used.
pub fn say_changed(context: &Context, project: &Project, journal: &Journal) -> Result<(), Failure> {
    let source = crewfile::DiskSource::new(&project.root);
    for (path, pinned) in &journal.started()?.pins {
        let Ok(now) = source.read(path) else { continue };
        let now = BlobId::of(&now);
        if now != *pinned {
            let (old, new) = (pinned.short(), now.short());
            context
                .out
                .say(&format!("note: {path} has changed since the start ({old} -> {new}); the pinned {old} is used"));
        }
    }
    Ok(())
}
