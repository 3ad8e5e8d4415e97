//! `runs`: the runs of a project, newest first.

use clap::Args;

use super::failure::{Exit, Outcome};
use super::open::{Project, now_ms, read_run};
use super::screen::{self, Side, Table, ago, clean, span, usd};
use super::tally::{RunStand, StepState, Tally};
use super::{Context, ends};
use crate::core::event::{Event, LedgerEvent, ParkCause};
use crate::core::money::grouped;
use crate::ports::store::{RunFilter, RunRow, RunState, Store};

/// Runs whose journal is read for the column AT.
const LOOKED_INTO: usize = 20;
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
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

pub fn runs(context: &Context, args: RunsArgs) -> Outcome {
    let project = Project::here(context)?;
    let Some(store) = project.existing_store()? else {
        context.out.note("no runs yet; start one: bosun demo, or bosun run CREW");
        return Ok(Exit::Done);
    };
    let filter = RunFilter { crew: args.crew, limit: Some(args.limit), ..RunFilter::default() };
    let rows = store.runs(&filter)?;
    if rows.is_empty() {
        context.out.note("no runs yet; start one: bosun demo, or bosun run CREW");
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

fn json(store: &dyn Store, row: &RunRow) -> String {
    let cap = cap(store, row);
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
        ("CREW", Side::Left, 2),
        ("STATUS", Side::Left, 1),
        ("AT", Side::Left, 4),
        ("STARTED", Side::Left, 5),
        ("TIME", Side::Right, 6),
        ("TOKENS", Side::Right, 7),
        ("SPENT/BUDGET", Side::Right, 3),
    ]);
    let now = now_ms();
    let mut looked = 0;
    for row in rows {
        let look = !row.state.is_final() && looked < LOOKED_INTO;
        looked += usize::from(look);
        let tally = look.then(|| read_run(store, row.clone()).ok()).flatten().map(|journal| journal.tally);
        let offline = if row.offline { " [offline]" } else { "" };
        let alive = row.state.is_final() || store.owner(&row.run).is_some();
        let status = format!("{}{offline}", status(row.state, alive));
        let at = tally.as_ref().map(at).unwrap_or_default();
        let cap = cap(store, row);
        let budget = if cap.is_empty() { String::new() } else { format!("/{}", clean(&cap)) };
        table.row(vec![
            row.run.short().to_owned(),
            clean(&row.crew),
            status,
            at,
            ago(row.started_ms, now),
            span(row.updated_ms.saturating_sub(row.started_ms)),
            grouped(row.spent.tokens.0),
            format!("{}{budget}", usd(row.spent.usd)),
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
