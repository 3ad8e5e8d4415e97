//! Approvals and questions on the command line: `approvals`, `approve`, `reject`, `answer`, and the same asked
//! on a terminal. Invariant: nothing here appends to a run; a decision is one row for the run's owner, refused
//! here with the reason if it could change nothing.

mod beside;
mod decide;
mod inline;
mod keys;
mod near;
mod view;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};

pub use beside::Beside;
pub use decide::{AnswerArgs, ApproveArgs, RejectArgs, answer, approve, decide, no, reject, words as answered};
pub use inline::{Desk, stay};
pub use near::near;

use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, now_ms};
use super::screen::{Side, Table, clean, excerpt, span, usd};
use super::tally::Tally;
use super::{Context, open};
use crate::actors::inbox::interrupts;
use crate::core::ids::{BlobId, RunId};
use crate::core::interrupt::{Interrupt, Interrupts, RULING};
use crate::core::money::NanoUsd;
use crate::ports::store::{InboxRow, RunFilter, RunRow, Store, StoreError};

/// Characters of arguments that a list shows.
const ARGUMENTS: usize = 60;
/// The kind of the entry that asks.
const RAISED: &str = "interrupt.raised";
/// Fewer characters of an id name nothing.
const PREFIX: usize = 3;

#[derive(Clone, Debug, Args)]
pub struct ApprovalsArgs {
    #[command(subcommand)]
    pub command: Option<ApprovalsCommand>,
    /// Only of this run: a prefix of its id, or latest
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// One JSON object per approval or question [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ApprovalsCommand {
    /// One of them whole: exact arguments, what a file would become, why a person is asked
    Show {
        /// A prefix of its id: bosun approvals lists them
        #[arg(value_name = "ID")]
        id: String,
        /// It must be of this run
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
    },
}

/// Something that was asked, with its run.
pub struct Asked {
    pub row: RunRow,
    pub one: Interrupt,
    /// A decision that the run has not taken yet.
    pub coming: Option<InboxRow>,
}

pub fn approvals(context: &Context, args: ApprovalsArgs) -> Outcome {
    let project = Project::here(context)?;
    if let Some(ApprovalsCommand::Show { id, run }) = &args.command {
        let store = project.store_of(id)?;
        let asked = find(&*store, id, run.as_deref().or(args.run.as_deref()))?;
        view::show(context, &project, store, &asked)?;
        return Ok(Exit::Done);
    }
    let rows = match (project.existing_store()?, &args.run) {
        (None, None) => Vec::new(),
        (None, Some(run)) => return project.store_of(run).map(|_| Exit::Done),
        (Some(store), run) => {
            let rows = match run {
                Some(run) => vec![open::find_run(&*store, run)?],
                None => store.runs(&RunFilter::default())?,
            };
            open_of(&*store, rows)?.into_iter().map(|asked| (store.clone(), asked)).collect()
        }
    };
    if args.json {
        for (store, asked) in &rows {
            context.out.line(&view::json(&**store, asked)?.to_string());
        }
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        context.out.note("nothing waits for a person");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("ID", Side::Left, 0),
        ("RUN", Side::Left, 1),
        ("STEP", Side::Left, 0),
        ("WANTS", Side::Left, 0),
        ("WITH", Side::Left, 4),
        ("WHY", Side::Left, 3),
        ("SPENT", Side::Right, 5),
        ("OPEN FOR", Side::Right, 2),
    ]);
    let mut costs = BTreeMap::new();
    for (store, asked) in &rows {
        // One fold for each run, not for each thing it asks.
        let spent = match costs.get(&asked.row.run) {
            Some(spent) => *spent,
            None => tally(&**store, &asked.row)?.ledger.total().settled.usd,
        };
        costs.insert(asked.row.run.clone(), spent);
        table.row(line(&**store, asked, spent)?);
    }
    context.table(&table);
    Ok(Exit::Done)
}

fn line(store: &dyn Store, asked: &Asked, spent: NanoUsd) -> Result<Vec<String>, Failure> {
    let Asked { row, one, coming } = asked;
    let left = match one.ends_ms() {
        _ if coming.is_some() => "decided".to_owned(),
        Some(ends) if ends <= now_ms() => "over".to_owned(),
        Some(ends) => span(ends - now_ms()),
        None => "ever".to_owned(),
    };
    let why: Vec<String> = one.raised.why.iter().map(view::why).collect();
    Ok(vec![
        one.raised.id.to_string(),
        open::called(store, &row.run),
        one.raised.step.to_string(),
        wants(one),
        excerpt(&text(store, &one.raised.arguments)?, ARGUMENTS),
        why.join(", "),
        usd(spent),
        left,
    ])
}

/// What would happen, in a word or two.
pub fn wants(one: &Interrupt) -> String {
    use crate::core::event::InterruptKind;
    match one.raised.kind {
        InterruptKind::Approval => clean(&one.raised.tool),
        InterruptKind::Question => "an answer".to_owned(),
        InterruptKind::Before => "to begin".to_owned(),
        InterruptKind::After => "its result to count".to_owned(),
    }
}

fn tally(store: &dyn Store, row: &RunRow) -> Result<Tally, Failure> {
    Ok(open::read_run(store, row.clone())?.tally)
}

/// A text that the journal refers to.
pub fn text(store: &dyn Store, id: &BlobId) -> Result<String, Failure> {
    let found = store.blob(id)?.map(|text| text.to_string());
    found.ok_or_else(|| Failure::new(Exit::Audit, format!("the text {} is gone", id.short())))
}

/// Was anything ever asked in it? Looks at one row.
fn ever_asked(store: &dyn Store, row: &RunRow) -> Result<bool, Failure> {
    Ok(store.last_of(&row.run, RAISED)?.is_some())
}

/// What is open in these runs.
pub fn open_of(store: &dyn Store, rows: Vec<RunRow>) -> Result<Vec<Asked>, Failure> {
    let mut out = Vec::new();
    for row in rows.into_iter().filter(|row| !row.state.is_final()) {
        if ever_asked(store, &row)? {
            out.extend(asked(store, &row, &still(store, &row.run)?, Interrupt::is_open)?);
        }
    }
    Ok(out)
}

fn asked(
    store: &dyn Store,
    row: &RunRow,
    all: &Interrupts,
    wanted: impl Fn(&Interrupt) -> bool,
) -> Result<Vec<Asked>, Failure> {
    let inbox = store.inbox(&row.run)?;
    let coming = |one: &Interrupt| inbox.iter().find(|row| row.kind == kind(one)).cloned();
    let mut found: Vec<&Interrupt> = all.iter().filter(|one| wanted(one)).collect();
    found.sort_by_key(|one| one.seq);
    Ok(found.into_iter().map(|one| Asked { row: row.clone(), coming: coming(one), one: one.clone() }).collect())
}

/// What is open on disk: a server's question is so only while the process is there that runs its call.
fn still(store: &dyn Store, run: &RunId) -> Result<Interrupts, StoreError> {
    let mut all = interrupts(store, run)?;
    if store.owner(run).is_none() {
        all.process_ended();
    }
    Ok(all)
}

/// The kind of the one inbox row that may be about it.
fn kind(one: &Interrupt) -> String {
    format!("{RULING}{}", one.raised.id)
}

/// The interrupt that a command line names: of those that are open, else of all there ever were.
pub fn find(store: &dyn Store, text: &str, run: Option<&str>) -> Result<Asked, Failure> {
    let prefix = text.to_ascii_uppercase();
    let wrong = |why: String| Failure::usage(why).hint("bosun approvals lists what is open");
    if prefix.len() < PREFIX || !prefix.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(wrong(format!("`{text}` is no id: expected the first {PREFIX} or more of its 8 characters")));
    }
    let within = run.map(|run| open::find_run(store, run)).transpose()?;
    let mut found = Vec::new();
    for row in store.runs(&RunFilter::default())? {
        if ever_asked(store, &row)? {
            let all = still(store, &row.run)?;
            found.extend(asked(store, &row, &all, |one| one.raised.id.as_str().starts_with(&prefix))?);
        }
    }
    if let Some(within) = &within
        && let Some(other) = found.first().filter(|_| found.iter().all(|asked| asked.row.run != within.run))
    {
        let (id, of) = (&other.one.raised.id, open::called(store, &other.row.run));
        return Err(wrong(format!("{id} is of run {of}, not of run {}", open::called(store, &within.run))));
    }
    found.retain(|asked| within.as_ref().is_none_or(|within| asked.row.run == within.run));
    if found.iter().any(|asked| asked.one.is_open()) {
        found.retain(|asked| asked.one.is_open());
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(wrong(format!("there is no approval or question `{text}`"))),
        _ => {
            let ids: Vec<String> = found
                .iter()
                .take(5)
                .map(|asked| format!("{} (run {})", asked.one.raised.id, open::called(store, &asked.row.run)))
                .collect();
            Err(wrong(format!("{} begin with `{text}`: {}; type one more character", found.len(), ids.join(", "))))
        }
    }
}
