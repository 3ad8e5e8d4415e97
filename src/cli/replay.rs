//! `replay`: derives every decision of a run again, from its journal alone. Sends nothing, spends nothing.

use clap::Args;

use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, StoreTexts, find_run, read_run};
use super::{Context, crew};
use crate::adapters::sizes::O200k;
use crate::core::run::{Divergence, Replay};

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// A prefix of the run's id, or latest
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
}

pub fn replay(context: &Context, args: ReplayArgs) -> Outcome {
    let project = Project::here(context)?;
    let store = project.store_of(&args.run)?;
    let journal = read_run(&*store, find_run(&*store, &args.run)?)?;
    let (crew, _) = crew::pinned(&project, &*store, journal.started()?)?;
    let (texts, sizes) = (StoreTexts::new(store), O200k::new());
    let mut replay = Replay::new(journal.row.run.clone(), crew, &texts, &sizes);
    for (entry, row) in journal.entries.iter().zip(&journal.rows) {
        replay.step(entry, &row.payload).map_err(|at| diverged(&journal.row.run, &at))?;
    }
    let (derived, outside) = (replay.derived, replay.outside);
    // A run that stopped between two entries of one decision has not diverged; the store writes them together.
    replay.finish().map_err(|at| diverged(&journal.row.run, &at))?;
    context.out.line(&format!(
        "replayed {} entries: {derived} decisions identical, {outside} from outside · $0",
        journal.entries.len()
    ));
    Ok(Exit::Done)
}

fn diverged(run: &crate::core::ids::RunId, at: &Divergence) -> Failure {
    Failure::new(Exit::Diverged, format!("run {run} diverged at {at}"))
        .hint(format!("bosun audit verify {run} says whether the journal was changed"))
        .hint(format!("bosun show {run} --events shows the entries before it"))
}
