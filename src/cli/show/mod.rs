//! `show`: a run, a step of it, its journal. Invariant: everything printed is read from the journal and
//! what it pins; nothing is guessed, nothing is sent.

mod attempt;
mod events;
mod prompt;
mod step;
mod why;

use std::path::PathBuf;

use clap::Args;

use super::failure::{Exit, Outcome};
use super::open::{Journal, Project, find_run, now_ms, read_run};
use super::out::Tone;
use super::screen::{self, Side, Table, clean, excerpt, span, tokens, usd};
use super::tally::{RunStand, StepState, StepTally, Tally};
use super::{Context, crew, ends, runs};
use crate::core::ids::BlobId;
use crate::ports::store::{RunRow, Store};

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// A prefix of the run's id, or latest
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// A step (draft#2) or a call (draft#2.1)
    #[arg(value_name = "STEP")]
    pub step: Option<String>,
    /// Why the step ran, and where each of its settings is from
    #[arg(long, requires = "step")]
    pub why: bool,
    /// The request of each call, as it was sent
    #[arg(long, requires = "step")]
    pub prompt: bool,
    /// Only this try of the step: its calls, prompts, answers and how it ended
    #[arg(long, value_name = "N", requires = "step", conflicts_with_all = ["why", "events"])]
    pub attempt: Option<u32>,
    /// The journal, entry by entry
    #[arg(long, conflicts_with_all = ["why", "prompt"])]
    pub events: bool,
    /// JSON [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

pub fn show(context: &Context, args: ShowArgs) -> Outcome {
    let project = Project::here(context)?;
    let store = project.store_of(&args.run)?;
    let row = find_run(&*store, &args.run)?;
    if args.events {
        return events::print(context, store, row, &args);
    }
    let journal = read_run(&*store, row)?;
    match &args.step {
        Some(step) => step::step(context, &project, store, &journal, step, &args),
        None => summary(context, &project, &*store, journal, args.json),
    }
}

fn summary(context: &Context, project: &Project, store: &dyn Store, mut journal: Journal, json: bool) -> Outcome {
    let loaded = journal.started().ok().and_then(|started| crew::load_pinned(project, store, started).ok());
    let classes = crew::Classes::new(&project.settings, loaded.as_ref());
    journal.tally.crew = loaded.as_ref().and_then(|loaded| loaded.crew.clone());
    journal.tally.keys = loaded.as_ref().map(crew::keys).unwrap_or_default();
    journal.tally.crew = loaded.as_ref().and_then(|loaded| loaded.crew.clone());
    let journal = &journal;
    let alive = store.owner(&journal.row.run);
    if json {
        context.out.line(&as_json(journal, alive.is_some()).to_string());
        return Ok(Exit::Done);
    }
    let (row, tally) = (&journal.row, &journal.tally);
    let now = now(tally, alive.is_some());
    let offline = if row.offline { " [offline]" } else { "" };
    let status = runs::status(row.state, alive.is_some() || row.state.is_final());
    context.out.line(&format!(
        "run {} {}{offline} {} · {} · {} · {} · {}",
        row.run,
        clean(&row.crew),
        context.out.paint(tone(row), status),
        span(tally.running_ms() + now.saturating_sub(tally.last_ms)),
        ends::calls(tally),
        tokens(tally.ledger.total().settled.tokens.0),
        ends::money(tally)
    ));
    if let Some(started) = tally.started.as_deref() {
        let inputs: Vec<String> =
            started.inputs.iter().map(|(name, value)| format!("{name}={}", excerpt(&value.to_string(), 60))).collect();
        let key = started.key.as_ref().map(|key| format!(" · key {}", clean(key))).unwrap_or_default();
        let inputs = if inputs.is_empty() { String::new() } else { format!(" · {}", inputs.join(" ")) };
        let zone = jiff::tz::TimeZone::system();
        context.out.line(&format!("{} · {}{key}{inputs}", clean(&started.file), screen::date(tally.first_ms, &zone)));
    }
    let mut table = Table::new(&[
        ("STEP", Side::Left, 0),
        ("STATUS", Side::Left, 1),
        ("AGENT", Side::Left, 4),
        ("MODEL", Side::Left, 7),
        ("CALLS", Side::Right, 5),
        ("TOKENS", Side::Right, 6),
        ("USD", Side::Right, 2),
        ("TIME", Side::Right, 3),
    ]);
    for step in tally.order.iter().filter_map(|step| tally.steps.get(step)) {
        table.row(cells(step, &classes, now, alive.is_some()));
    }
    if !table.is_empty() {
        context.table(&table);
    }
    for step in tally.order.iter().filter_map(|step| tally.steps.get(step)) {
        for failure in &step.failures {
            context.out.line(&format!("{}: {}", step.step, excerpt(failure, 300)));
        }
    }
    close(context, journal, alive.map(|owner| format!("process {} on {}", owner.pid, owner.host)));
    Ok(Exit::Done)
}

/// Until when times count: of a run that goes on until now, else until its last entry.
fn now(tally: &Tally, alive: bool) -> u64 {
    let rests = matches!(tally.stand, RunStand::Parked(_) | RunStand::Ended(..));
    if alive && !rests { now_ms().max(tally.last_ms) } else { tally.last_ms }
}

fn tone(row: &RunRow) -> Tone {
    use crate::ports::store::RunState;
    match row.state {
        RunState::Completed => Tone::Good,
        RunState::Failed => Tone::Bad,
        RunState::Running | RunState::Cancelled => Tone::Strong,
        RunState::WaitingPerson | RunState::WaitingRate | RunState::WaitingBudget => Tone::Warn,
        RunState::NeedsReview | RunState::Paused => Tone::Warn,
    }
}

/// What it waits for, the head, and the command that goes on.
fn close(context: &Context, journal: &Journal, owner: Option<String>) {
    let tally = &journal.tally;
    if let Some(end) = ends::of(tally) {
        let over = matches!(tally.stand, RunStand::Ended(..));
        let lines = if over { end.lines.get(1..).unwrap_or_default() } else { end.lines.as_slice() };
        lines.iter().for_each(|line| context.out.line(line));
    }
    let doubt = tally.ledger.holds.iter().filter(|(_, hold)| hold.ambiguous);
    for (call, hold) in doubt {
        let (run, most) = (journal.called(), usd(hold.amount.usd));
        context.out.line(&format!(
            "{call} may have been billed, up to {most} stays held; with the invoice: bosun ledger settle {run} '{call}' --usd X"
        ));
    }
    context.out.line(&format!("head {}", BlobId(journal.head())));
    match (owner, &tally.stand) {
        (_, RunStand::Ended(..)) => {}
        (Some(owner), _) => {
            context.out.line(&format!("it is running in {owner}; pause it: bosun pause {}", tally.short()))
        }
        (None, RunStand::Running | RunStand::Pausing | RunStand::Cancelling | RunStand::Parked(_)) => {
            if let Some(command) = runs::goes_on(tally) {
                context.out.line(&format!("go on: {command}"));
            }
        }
    }
}

/// A step's state in a word.
pub(super) fn state(row: &StepTally) -> &'static str {
    match &row.state {
        StepState::Running => "running",
        StepState::WaitsBudget => "waiting(budget)",
        StepState::WaitsPerson => "waiting(person)",
        StepState::NoBudget => "waiting(budget)",
        StepState::Review { .. } => "needs_review",
        StepState::Ended(result) => result.status.as_str(),
    }
}

fn cells(row: &StepTally, classes: &crew::Classes, now: u64, alive: bool) -> Vec<String> {
    let spent = match &row.state {
        // One that was cancelled has no sum of its own.
        StepState::Ended(result) if result.spent.calls < row.settled.calls => row.settled,
        StepState::Ended(result) => result.spent,
        StepState::Running | StepState::WaitsBudget | StepState::WaitsPerson => row.settled,
        StepState::NoBudget | StepState::Review { .. } => row.settled,
    };
    let model = row.model.as_deref().unwrap_or_default();
    let class = classes.of(model, true);
    let figures = row.calls > 0 || spent.calls > 0;
    let only = |text: String| if figures { text } else { String::new() };
    vec![
        row.step.to_string(),
        if matches!(row.state, StepState::Running) && !alive { "stopped" } else { state(row) }.to_owned(),
        row.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        if model.is_empty() { String::new() } else { format!("{}{}", clean(model), class.mark()) },
        only(spent.calls.max(row.calls).to_string()),
        only(crate::core::money::grouped(spent.tokens.0)),
        only(usd(spent.usd)),
        span(row.ended_ms.unwrap_or(now).saturating_sub(row.started_ms)),
    ]
}

fn as_json(journal: &Journal, alive: bool) -> serde_json::Value {
    let (row, tally) = (&journal.row, &journal.tally);
    let sums = tally.ledger.total();
    let end = ends::of(tally);
    let step = |row: &StepTally| {
        let result = match &row.state {
            StepState::Ended(result) => Some(result),
            StepState::Running | StepState::WaitsBudget | StepState::WaitsPerson => None,
            StepState::NoBudget | StepState::Review { .. } => None,
        };
        serde_json::json!({
            "step": row.step, "status": state(row), "agent": row.agent, "model": row.model, "attempt": row.attempt,
            "calls": row.calls, "tool_calls": row.tools, "settled": row.settled, "started": screen::rfc3339(row.started_ms),
            "ended": row.ended_ms.map(screen::rfc3339), "result": result, "failures": row.failures,
        })
    };
    let steps: Vec<_> = tally.order.iter().filter_map(|step| tally.steps.get(step)).map(step).collect();
    serde_json::json!({
        "run": row.run, "crew": row.crew, "key": row.key, "state": row.state, "alive": alive, "offline": row.offline,
        "started": screen::rfc3339(tally.first_ms), "running_ms": tally.running_ms(), "entries": row.last,
        "caps": tally.ledger.caps, "settled": sums.settled, "held": sums.held, "ambiguous": sums.ambiguous,
        "overrun": sums.overrun, "inputs": tally.started.as_ref().map(|started| &started.inputs),
        "steps": steps, "waits_for": end.as_ref().map(|end| &end.lines),
        "exit": end.as_ref().map(|end| end.exit.code()), "go_on": end.and_then(|end| end.command),
        "head": BlobId(journal.head()),
    })
}

/// A file that the run was started with, in its own words.
pub(super) fn pinned_file(journal: &Journal, path: &str) -> Option<(PathBuf, BlobId)> {
    let started = journal.tally.started.as_deref()?;
    started.pins.get(path).map(|blob| (PathBuf::from(path), *blob))
}
