//! `watch`: serves the triggers of crews. Invariant: an event is one run of its crew under a key made of
//! what the event is; the store knows which have been run, so that a watch that is killed and started
//! again loses none and runs none twice.

mod after;
mod face;
mod one;
mod sentry;
mod serve;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::failure::{Exit, Failure, Outcome};
use super::open::{self, Project};
use super::run::{self, InputArgs, LimitArgs, ShowArgs, Written};
use super::wiring::Engine;
use super::{Context, check, drive, notifier};
use crate::adapters::crewfile::{self, Loaded};
use crate::core::crew::{Crew, Overrides};
use crate::ports::store::RunFilter;

/// Latest runs of a crew whose notices are looked at.
const OVERDUE: usize = 100;

#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// Crew files, or folders with crew.toml; crew.toml and every crews/*.toml with triggers unless stated
    #[arg(value_name = "CREW")]
    pub crew: Vec<PathBuf>,
    /// Serve what is there now, then end
    #[arg(long)]
    pub once: bool,
    /// Replaces every model of the crews, such as openai/gpt-4.1-mini [env: BOSUN_MODEL, for agents that name none]
    #[arg(long, value_name = "PROVIDER/MODEL")]
    pub model: Option<String>,
    /// Replaces every model by the stand-in, which needs no key and no network and is no AI model [env: BOSUN_OFFLINE]
    #[arg(long, conflicts_with = "model")]
    pub offline: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub show: ShowArgs,
}

/// A crew whose triggers are served.
pub struct Served {
    pub crew: Arc<Crew>,
    pub loaded: Arc<Loaded>,
    /// Path of the crew file below the root.
    pub file: String,
    pub overrides: Overrides,
}

pub fn watch(context: &Context, args: WatchArgs) -> Outcome {
    let stated = !args.crew.is_empty();
    let paths: Vec<PathBuf> = if stated {
        args.crew.iter().map(|path| context.cwd.join(path)).collect()
    } else {
        check::crews(&context.cwd)?
    };
    let roots: Vec<PathBuf> = paths.iter().map(|path| crewfile::project_root(path)).collect();
    let Some(root) = roots.first().cloned() else { return Err(Failure::usage("there is no crew to watch for")) };
    if let Some(other) = roots.iter().find(|other| **other != root) {
        let message = format!("the crews stand in two projects: {} and {}", root.display(), other.display());
        return Err(Failure::usage(message).hint("start one bosun watch in each: a project has one state folder"));
    }
    let project = Project::at(context, root, args.limits.flags())?;
    let served = served(context, &project, &paths, &args, stated)?;
    let engine = Engine::open(&project, context.env.clone())?;
    served.iter().try_for_each(|served| overdue(context, &project, &engine, &served.crew))?;
    drive::block_on(serve::serve(context, project, engine, served, &args))
}

/// Runs of events that ended with their process, before their last notice was taken.
fn overdue(context: &Context, project: &Project, engine: &Engine, crew: &Crew) -> Result<(), Failure> {
    let told = |kind: &String| ["finished", "failed"].contains(&kind.as_str());
    if !crew.notify.as_ref().is_some_and(|notify| notify.on.iter().any(told)) {
        return Ok(());
    }
    let filter = RunFilter { crew: Some(crew.name.clone()), limit: Some(OVERDUE), ..RunFilter::default() };
    for row in engine.store.runs(&filter)?.into_iter().rev().filter(|row| row.state.is_final()) {
        let ours = row.key.as_deref().is_some_and(|key| crew.trigger_of(key).is_some());
        if ours && engine.store.notified(&row.run)? < row.last {
            notifier::overdue(context, project, engine.store.clone(), &open::read_run(&*engine.store, row)?);
        }
    }
    Ok(())
}

fn served(
    context: &Context,
    project: &Project,
    paths: &[PathBuf],
    args: &WatchArgs,
    stated: bool,
) -> Result<Vec<Served>, Failure> {
    let inputs = InputArgs { model: args.model.clone(), offline: args.offline, ..InputArgs::default() };
    let mut served: Vec<Served> = Vec::new();
    for path in paths {
        let Written { loaded, file, overrides, .. } = run::read(context, project, path, &inputs)?;
        let Some(crew) = loaded.crew.clone() else { return Err(Failure::new(Exit::Crew, "the crew is not valid")) };
        if crew.triggers.is_empty() {
            if stated {
                return Err(Failure::usage(format!("{file} has no [triggers]: nothing would ever start it"))
                    .hint("write [triggers.scan] with kind = \"watch\" and path = \"inbox\", or use bosun run"));
            }
            continue;
        }
        if let Some(other) = served.iter().find(|other| other.crew.name == crew.name) {
            let message = format!("{} and {file} are both named `{}`", other.file, crew.name);
            return Err(Failure::usage(message)
                .hint("events are told apart by the crew's name: give one of them another `name` in [crew]"));
        }
        served.push(Served { crew, loaded: Arc::new(loaded), file, overrides });
    }
    if served.is_empty() {
        return Err(Failure::usage("no crew here has [triggers]")
            .hint("write [triggers.scan] with kind = \"watch\" and path = \"inbox\" into a crew file"));
    }
    Ok(served)
}
