//! `pause` and `cancel`: what one process may ask of a run in another.

use clap::Args;

use super::failure::{Exit, Outcome};
use super::open::{Project, called, find_run, now_ms, whoami};
use super::{Context, append, runs};

#[derive(Clone, Debug, Args)]
pub struct ControlArgs {
    /// A prefix of the run's id, or latest
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
}

pub fn pause(context: &Context, args: ControlArgs) -> Outcome {
    let project = Project::here(context)?;
    let store = project.store_of(&args.run)?;
    let row = find_run(&*store, &args.run)?;
    let short = called(&*store, &row.run);
    let Some(owner) = store.owner(&row.run) else {
        let status = runs::status(row.state, false);
        context.out.say(&format!("run {short} is not running ({status}): there is nothing to pause"));
        return Ok(Exit::Done);
    };
    store.inbox_put(&row.run, "pause", "{}", &whoami(&context.env), now_ms())?;
    context.out.say(&format!(
        "run {short} in process {} on {} pauses when its calls in flight have ended; go on: bosun resume {short}",
        owner.pid, owner.host
    ));
    Ok(Exit::Done)
}

pub fn cancel(context: &Context, args: ControlArgs) -> Outcome {
    let project = Project::here(context)?;
    let store = project.store_of(&args.run)?;
    let row = find_run(&*store, &args.run)?;
    let short = called(&*store, &row.run);
    if row.state.is_final() {
        let status = runs::status(row.state, true);
        context.out.say(&format!("run {short} is over ({status}): there is nothing to cancel"));
        return Ok(Exit::Done);
    }
    let by = whoami(&context.env);
    if let Some(owner) = store.owner(&row.run) {
        store.inbox_put(&row.run, "cancel", "{}", &by, now_ms())?;
        context.out.say(&format!("run {short} in process {} on {} will cancel", owner.pid, owner.host));
        return Ok(Exit::Done);
    }
    append::cancel(&project, store, &row, by)?;
    context.out.say(&format!("run {short} is cancelled; what it has made and spent stays on record"));
    Ok(Exit::Done)
}
