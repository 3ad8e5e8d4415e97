//! `audit`: is the journal what was written, and what have people done to a run?

use std::collections::BTreeSet;

use clap::Subcommand;

use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, decode, find_run, read_run};
use super::screen::{self, Side, Table, cap, clean, usd};
use super::{Context, runs};
use crate::core::chain::verify;
use crate::core::event::{CallEvent, Decision, Event, InterruptEvent, LedgerEvent, PauseCause, RunEvent, TaskEvent};
use crate::core::ids::{BlobId, Seq};
use crate::core::money::Amount;
use crate::core::run::Entry;
use crate::ports::author::implied;
use crate::ports::store::{Row, RunFilter, RunRow, Store, StoreError};

#[derive(Clone, Debug, Subcommand)]
pub enum AuditCommand {
    /// Check the hash chain, the count of entries and every text of a run
    Verify {
        /// A prefix of the run's id, or latest
        #[arg(value_name = "RUN", default_value = "latest")]
        run: String,
        /// The head that the run printed, or the first 16 or more digits of it, kept outside this machine
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
    /// Who resumed, raised, paused, cancelled or settled, and when
    List {
        /// A prefix of the run's id, or latest
        #[arg(value_name = "RUN", default_value = "latest")]
        run: String,
    },
}

pub fn audit(context: &Context, command: AuditCommand) -> Outcome {
    let project = Project::here(context)?;
    match command {
        AuditCommand::Verify { run, head } => check(context, &project, &run, head.as_deref()),
        AuditCommand::List { run } => list(context, &project, &run),
    }
}

/// Fewest digits of a head that say anything.
const HEAD_MIN: usize = 16;
/// How often a run that is being written is read again, until nothing came between its record and its entries.
const LOOKS: usize = 50;

fn check(context: &Context, project: &Project, run: &str, head: Option<&str>) -> Outcome {
    let head = head.map(|head| head.trim().to_ascii_lowercase());
    if let Some(head) = &head
        && !((HEAD_MIN..=64).contains(&head.len()) && head.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err(Failure::usage(format!("--head: expected {HEAD_MIN} to 64 hex digits, found `{head}`")));
    }
    let store = project.store_of(run)?;
    let row = find_run(&*store, run)?;
    let broken = |why: String| {
        Failure::new(Exit::Audit, format!("run {}: {why}", row.run))
            .hint("the journal is not what was written: restore the state folder from a backup")
    };
    let (row, rows) = at_once(&*store, &row).map_err(|error| damaged(error, &broken))?;
    let last = verify(&row.run, &rows).map_err(|bad| broken(bad.to_string()))?;
    if rows.len() as u64 != row.last.0 {
        let (found, expected) = (rows.len(), row.last);
        return Err(broken(format!(
            "the journal has {found} entries, the run's record says {expected}: its end is gone"
        )));
    }
    recorded(&row, &decode(&row.run, &rows)?).map_err(|why| {
        broken(why).hint("the entries themselves are as they were written: `bosun show` and `bosun cost` go by them")
    })?;
    let texts = texts_of(&rows);
    for id in &texts {
        match store.blob(id) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(broken(format!("text {id}, which the journal refers to, is gone"))),
            Err(error) => return Err(damaged(error, &broken)),
        }
    }
    let found = BlobId(last).to_string();
    if let Some(head) = &head
        && !found.starts_with(head.as_str())
    {
        return Err(broken(format!("its head is {found}, not {head}: it was rewritten, or went on since")));
    }
    context.out.line(&format!(
        "run {}: {} entries and {} texts are as they were written",
        row.run,
        rows.len(),
        texts.len()
    ));
    context.out.line(&format!("head {found}"));
    if head.is_none() {
        context.out.line(
            "without --head this finds every change to an entry or a text, but no journal that was rewritten, or cut off \
             at its end, as a whole. Keep the head that a run prints somewhere else, and give it here.",
        );
    }
    Ok(Exit::Done)
}

/// The run's record and its entries as of one moment: its process may be writing.
fn at_once(store: &dyn Store, row: &RunRow) -> Result<(RunRow, Vec<Row>), StoreError> {
    let (id, mut row) = (row.run.as_str().to_owned(), row.clone());
    for _ in 0..LOOKS {
        let rows = store.read(&row.run, Seq(1))?;
        let filter = RunFilter { prefix: Some(id.clone()), ..RunFilter::default() };
        let again = store.runs(&filter)?.into_iter().next();
        let again = again.ok_or_else(|| StoreError::NoRun { run: id.clone() })?;
        if again == row {
            return Ok((row, rows));
        }
        row = again;
    }
    let rows = store.read(&row.run, Seq(1))?;
    Ok((row, rows))
}

/// Does the run's record, which lists and budgets of other commands go by, say what the entries do? Else what differs.
fn recorded(row: &RunRow, entries: &[Entry]) -> Result<(), String> {
    let (spent, state) = implied(entries.iter().map(|entry| &entry.event));
    let amount = |amount: Amount| format!("{}, {} tokens, {} calls", amount.usd, amount.tokens, amount.calls);
    let differs = |what: &str, record: String, entries: String| {
        Err(format!("the run's record says {what} {record}, its entries say {entries}"))
    };
    if row.spent != spent {
        return differs("spent", amount(row.spent), amount(spent));
    }
    if state.is_some_and(|state| state != row.state) {
        let word = |state| runs::status(state, true).to_owned();
        return differs("state", word(row.state), state.map(word).unwrap_or_default());
    }
    let started = entries.iter().find_map(|entry| match &entry.event {
        Event::Run(RunEvent::Started(started)) => Some(started),
        Event::Run(_) | Event::Task(_) | Event::Call(_) | Event::Tool(_) => None,
        Event::Interrupt(_) | Event::Ledger(_) => None,
    });
    match started {
        Some(started) if started.crew != row.crew => differs("crew", clean(&row.crew), clean(&started.crew)),
        Some(started) if started.key != row.key => {
            let word = |key: &Option<String>| key.as_deref().map_or("none".to_owned(), clean);
            differs("key", word(&row.key), word(&started.key))
        }
        Some(_) | None => Ok(()),
    }
}

fn damaged(error: StoreError, broken: &dyn Fn(String) -> Failure) -> Failure {
    match error {
        StoreError::Damaged { .. } => broken(error.to_string()),
        StoreError::Unusable { .. } | StoreError::Newer { .. } | StoreError::NoRun { .. } => error.into(),
        StoreError::Owned { .. } | StoreError::Fenced { .. } | StoreError::Moved { .. } => error.into(),
        StoreError::KeyTaken { .. } | StoreError::WriteFailed { .. } => error.into(),
    }
}

/// Every 64-digit hash in a payload is a text that the journal refers to.
fn texts_of(rows: &[Row]) -> BTreeSet<BlobId> {
    fn walk(value: &serde_json::Value, out: &mut BTreeSet<BlobId>) {
        match value {
            serde_json::Value::String(text) => out.extend(text.parse::<BlobId>().ok()),
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, out)),
            serde_json::Value::Object(fields) => fields.values().for_each(|field| walk(field, out)),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
    }
    let mut out = BTreeSet::new();
    for row in rows {
        if let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(&row.payload) {
            // Of what people and providers have written, only the fields of ours name texts.
            for foreign in ["inputs", "key", "ask", "by", "request_id", "because", "path"] {
                if let Some(fields) = value.as_object_mut() {
                    fields.remove(foreign);
                }
            }
            walk(&value, &mut out);
        }
    }
    out
}

fn list(context: &Context, project: &Project, run: &str) -> Outcome {
    let store = project.store_of(run)?;
    let journal = read_run(&*store, find_run(&*store, run)?)?;
    let mut table = Table::new(&[
        ("ENTRY", Side::Right, 2),
        ("WHEN", Side::Left, 1),
        ("WHO", Side::Left, 0),
        ("WHAT", Side::Left, 0),
    ]);
    let zone = jiff::tz::TimeZone::system();
    for entry in &journal.entries {
        if let Some((who, what)) = deed(entry) {
            table.row(vec![entry.seq.to_string(), screen::date(entry.at_ms, &zone), clean(&who), what]);
        }
    }
    context.table(&table);
    Ok(Exit::Done)
}

/// Who did what, if a person did.
fn deed(entry: &Entry) -> Option<(String, String)> {
    match &entry.event {
        Event::Run(event) => match event {
            RunEvent::Started(started) => {
                let what = format!("started {} with bosun {}", clean(&started.crew), clean(&started.version));
                Some((String::new(), what))
            }
            RunEvent::Resumed { by } => Some((by.clone(), "resumed".to_owned())),
            RunEvent::PauseAsked { cause, by } => {
                let how = match cause {
                    PauseCause::Interrupted => "paused by Ctrl-C",
                    PauseCause::Terminated => "paused by a signal",
                    PauseCause::Asked => "paused",
                    PauseCause::Deadline => "paused at the deadline",
                    PauseCause::RateLimited(_) => "paused by a rate limit",
                };
                Some((by.clone(), how.to_owned()))
            }
            RunEvent::CancelAsked { by } => Some((by.clone(), "cancelled".to_owned())),
            RunEvent::Parked { .. } | RunEvent::Finished { .. } => None,
        },
        Event::Task(TaskEvent::Accepted { step, attempt, by, .. }) => {
            Some((by.clone(), format!("took the answer of attempt {attempt} for the result of {step}")))
        }
        Event::Task(TaskEvent::Told { agent, by, .. }) => Some((by.clone(), format!("told {agent} something"))),
        Event::Task(TaskEvent::Retried { step, by, .. }) => Some((by.clone(), format!("let {step} start over"))),
        Event::Call(CallEvent::Settled { call, cost, by }) => {
            Some((by.clone(), format!("settled {call} at {}", usd(cost.usd))))
        }
        Event::Ledger(LedgerEvent::Raised { caps, by }) => {
            let usd = caps.usd.map_or("none".to_owned(), cap);
            Some((by.clone(), format!("raised the cap to {usd}")))
        }
        Event::Interrupt(InterruptEvent::Decided { id, step, decision, by, .. }) => {
            let why = match decision {
                Decision::Rejected { reason } => format!(": {}", clean(reason)),
                Decision::Approved { .. } | Decision::Answered { .. } | Decision::Expired => String::new(),
            };
            Some((by.clone(), format!("{} {id} of {step}{why}", decision.as_str())))
        }
        Event::Task(_) | Event::Call(_) | Event::Tool(_) | Event::Interrupt(_) | Event::Ledger(_) => None,
    }
}
