//! `runs`: the runs of a project, newest first.

use std::collections::BTreeSet;

use clap::Args;

use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, called, now_ms, read_one_of_many};
use super::screen::{self, Side, Table, ago, clean, span, usd};
use super::tally::{RunStand, StepState, Tally};
use super::{Context, ends};
use crate::core::event::{Event, LedgerEvent, ParkCause};
use crate::core::money::grouped;
use crate::ports::store::{RunFilter, RunRow, RunState, Store};

/// Runs whose journal is read for the column AT.
const LOOKED_INTO: usize = 20;
/// The kinds of [`CallEvent`] that leave a call's cost open.
const UNANSWERED: [&str; 2] = ["call.lost", "call.failed"];
/// The kind of [`LedgerEvent::Raised`].
const RAISED: &str = "budget.raised";

#[derive(Clone, Debug, Args)]
pub struct RunsArgs {
    /// One JSON object per run [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
    /// Only runs of this crew
    #[arg(long, value_name = "NAME")]
    pub crew: Option<String>,
    /// How many, the newest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
}

pub fn runs(context: &Context, args: RunsArgs) -> Outcome {
    let project = Project::here(context)?;
    let Some(store) = project.existing_store()? else {
        context.out.say("no runs yet; start one: bosun demo, or bosun run CREW");
        return Ok(Exit::Done);
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let filter = RunFilter { crew: args.crew, limit: Some(limit), ..RunFilter::default() };
    let rows = store.runs(&filter)?;
    if rows.is_empty() {
        context.out.say(&nothing(&*store, filter.crew.as_deref())?);
    }
    if args.json {
        for row in &rows {
            context.out.line(&json(&*store, row));
        }
        return Ok(Exit::Done);
    }
    let columns = context.columns();
    if !rows.is_empty() {
        table(&*store, &rows).lines(columns).iter().for_each(|line| context.out.line(line));
    }
    Ok(Exit::Done)
}

/// Why the list is empty.
fn nothing(store: &dyn Store, crew: Option<&str>) -> Result<String, Failure> {
    let all = store.runs(&RunFilter::default())?;
    let crews: BTreeSet<String> = all.iter().map(|row| clean(&row.crew)).collect();
    Ok(match crew.filter(|_| !crews.is_empty()) {
        Some(crew) => {
            let there = crews.into_iter().collect::<Vec<_>>().join(", ");
            format!("no run of crew `{}`; there are runs of: {there}", clean(crew))
        }
        None => "no runs yet; start one: bosun demo, or bosun run CREW".to_owned(),
    })
}

/// The run's journal, if it may hold a call of which nobody knows what it cost.
fn doubtful(store: &dyn Store, row: &RunRow) -> Option<Tally> {
    let any = UNANSWERED.iter().any(|kind| store.last_of(&row.run, kind).is_ok_and(|last| last.is_some()));
    any.then(|| read_one_of_many(store, row.clone()).ok()).flatten().map(|journal| journal.tally)
}

fn json(store: &dyn Store, row: &RunRow) -> String {
    let cap = cap(store, row);
    let doubt = doubtful(store, row).map(|tally| tally.ledger.total().ambiguous).unwrap_or_default();
    serde_json::json!({
        "run": row.run,
        "crew": row.crew,
        "key": row.key,
        "state": row.state,
        "alive": store.owner(&row.run).is_some(),
        "offline": row.offline,
        "started": screen::rfc3339(row.started_ms),
        "updated": screen::rfc3339(row.updated_ms),
        "entries": row.last,
        "tokens": row.spent.tokens,
        "calls": row.spent.calls,
        "usd": row.spent.usd,
        "ambiguous_usd": doubt.usd,
        "ambiguous_calls": doubt.calls,
        "budget": cap.strip_prefix('$').map_or_else(|| cap.clone(), |usd| usd.replace(',', "")),
    })
    .to_string()
}

/// The cap in force: the one of the start, or what it was last raised to. The list keeps only the first.
fn cap(store: &dyn Store, row: &RunRow) -> String {
    let raised = store.last_of(&row.run, RAISED).ok().flatten();
    match raised.and_then(|row| Event::decode(&row.kind, &row.payload).ok()) {
        Some(Event::Ledger(LedgerEvent::Raised { caps, .. })) => screen::caps(caps),
        Some(_) | None => row.cap.clone(),
    }
}

fn table(store: &dyn Store, rows: &[RunRow]) -> Table {
    let mut table = Table::new(&[
        ("RUN", Side::Left, 0),
        ("CREW", Side::Left, 3),
        ("STATUS", Side::Left, 0),
        ("AT", Side::Left, 4),
        ("STARTED", Side::Left, 5),
        ("TIME", Side::Right, 6),
        ("TOKENS", Side::Right, 7),
        ("SPENT/BUDGET", Side::Right, 1),
        ("IN DOUBT", Side::Right, 2),
    ]);
    let now = now_ms();
    let mut looked = 0;
    for row in rows {
        let look = !row.state.is_final() && looked < LOOKED_INTO;
        looked += usize::from(look);
        let tally = look.then(|| read_one_of_many(store, row.clone()).ok()).flatten().map(|journal| journal.tally);
        let tally = tally.or_else(|| doubtful(store, row));
        let offline = if row.offline { " [offline]" } else { "" };
        let alive = row.state.is_final() || store.owner(&row.run).is_some();
        let status = format!("{}{offline}", status(row.state, alive));
        let at = tally.as_ref().filter(|_| look).map(at).unwrap_or_default();
        let doubt = tally.map(|tally| tally.ledger.total().ambiguous).filter(|doubt| doubt.calls > 0 && !row.offline);
        let running = row.state == RunState::Running && alive;
        let until = if running { now.max(row.updated_ms) } else { row.updated_ms };
        let cap = cap(store, row);
        let budget = if cap.is_empty() { String::new() } else { format!("/{}", clean(&cap)) };
        table.row(vec![
            called(store, &row.run),
            clean(&row.crew),
            status,
            at,
            ago(row.started_ms, now),
            span(until.saturating_sub(row.started_ms)),
            grouped(row.spent.tokens.0),
            format!("{}{budget}", usd(row.spent.usd)),
            doubt.map(|doubt| usd(doubt.usd)).unwrap_or_default(),
        ]);
    }
    table
}

/// A run's state in words. A run that should be running and has no process is said to be so.
pub fn status(state: RunState, alive: bool) -> &'static str {
    match state {
        RunState::Running if !alive => "stopped",
        RunState::Running => "running",
        RunState::WaitingPerson => "waiting: person",
        RunState::WaitingRate => "waiting: rate",
        RunState::WaitingBudget => "waiting: budget",
        RunState::NeedsReview => "needs review",
        RunState::Paused => "paused",
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    }
}

/// Where a run is: the step it waits for, else the last one at work.
fn at(tally: &Tally) -> String {
    if let RunStand::Parked(causes) = &tally.stand {
        let steps = causes.iter().filter_map(|cause| match cause {
            ParkCause::Budget { step } | ParkCause::Review { step } => Some(step.to_string()),
            ParkCause::Approval { step, .. } | ParkCause::Question { step, .. } => Some(step.to_string()),
            ParkCause::Credentials { .. } | ParkCause::Quota { .. } | ParkCause::Deadline | ParkCause::Rate(_) => None,
            ParkCause::Interrupted | ParkCause::Terminated | ParkCause::Asked => None,
        });
        if let Some(step) = steps.into_iter().next() {
            return step;
        }
    }
    let open = tally.order.iter().rev().filter_map(|step| tally.steps.get(step));
    let mut open = open.filter(|row| row.agent.is_some() && !matches!(row.state, StepState::Ended(_)));
    open.next().map(|row| row.step.to_string()).unwrap_or_default()
}

/// The command that goes on with a run, if one does.
pub fn goes_on(tally: &Tally) -> Option<String> {
    match ends::of(tally) {
        Some(end) => end.command,
        None => Some(ends::resume(tally)),
    }
}
