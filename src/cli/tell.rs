//! `tell`: what a person says to an agent of a run, from any process. Invariant: a message that nobody would
//! hear is refused here and left nowhere; success means that it is on record, or waits for a run that rests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, called, find_run, now_ms, read_run, whoami};
use super::{Context, crew, runs};
use crate::actors::told::Telling;
use crate::adapters::sizes::O200k;
use crate::core::crew::Crew;
use crate::core::event::{Event, TaskEvent};
use crate::core::ids::RunId;
use crate::core::machine::Sizes;
use crate::core::run::{Deaf, Entry, Hearer, Run};
use crate::ports::store::{RunRow, Store};

#[derive(Clone, Debug, Args)]
pub struct TellArgs {
    /// A prefix of the run's id, or latest
    #[arg(value_name = "RUN")]
    pub run: String,
    /// An agent's name (everyone who plays it now, else whoever gets its next task), or a step address
    #[arg(value_name = "AGENT")]
    pub agent: String,
    /// What to say
    #[arg(value_name = "TEXT", required = true)]
    pub text: Vec<String>,
}

/// A message may take this part of the agent's context.
const PART: u64 = 4;

pub fn tell(context: &Context, args: TellArgs) -> Outcome {
    let text = args.text.join(" ");
    if text.trim().is_empty() {
        return Err(Failure::usage("there is nothing to tell: the text is empty"));
    }
    let project = Project::here(context)?;
    let store = project.store_of(&args.run)?;
    let row = find_run(&*store, &args.run)?;
    let short = called(&*store, &row.run);
    let Heard { hearers, waits } = say(&project, &*store, row, &args.agent, &text, &whoami(&context.env))?;
    let when = if waits { format!(" when the run goes on: bosun resume {short}") } else { String::new() };
    for Hearer { agent, step } in hearers {
        let said = match step {
            Some(step) => format!("{agent} ({step}) hears it at its next turn{when}"),
            None => format!("{agent} hears it with its next task{when}"),
        };
        context.out.say(&said);
    }
    Ok(Exit::Done)
}

/// Who hears a message.
pub struct Heard {
    pub hearers: Vec<Hearer>,
    /// It is in the inbox of a run that rests or is busy, and no entry of its journal yet.
    pub waits: bool,
}

/// Leaves a message for an agent of a run, and waits a while until the process that runs it has taken it.
///
/// # Errors
/// Why nobody would hear it: then it is left nowhere.
pub fn say(
    project: &Project,
    store: &dyn Store,
    row: RunRow,
    to: &str,
    text: &str,
    by: &str,
) -> Result<Heard, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::usage("there is nothing to tell: the text is empty"));
    }
    let short = called(store, &row.run);
    if row.state.is_final() {
        let status = runs::status(row.state, true);
        return Err(Failure::usage(format!("run {short} is over ({status}): nobody listens any more")));
    }
    let journal = read_run(store, row.clone())?;
    let (compiled, _) = crew::pinned(project, store, journal.started()?)?;
    let run = fold(compiled, &journal.entries, &short)?;
    let hearers = run.hearers(to).map_err(|deaf| refused(&short, &deaf))?;
    for hearer in &hearers {
        fits(&run, hearer, text)?;
    }
    let telling = Telling { to: to.to_owned(), text: project.secrets.hide(text).into_owned() };
    let payload = serde_json::to_string(&telling)
        .map_err(|why| Failure::new(Exit::Internal, format!("the message cannot be written: {why}")))?;
    let id = store.inbox_put(&row.run, "tell", &payload, by, now_ms())?;
    match taken(store, &row.run, id)? {
        Taken::OnRecord => Ok(Heard { hearers: recorded(project, store, row, (id, to))?, waits: false }),
        Taken::Waits => Ok(Heard { hearers, waits: true }),
        Taken::Over => {
            store.inbox_done(&row.run, id)?;
            Err(refused(&short, &Deaf::Over))
        }
    }
}

/// What has become of a message in the inbox.
enum Taken {
    OnRecord,
    /// No process runs the run, or it is busy: it is taken up later.
    Waits,
    /// The run ended before it was looked at.
    Over,
}

/// How long, and how often, it is looked whether the run's process has taken the message.
const PATIENCE: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_millis(20);

fn taken(store: &dyn Store, run: &RunId, id: u64) -> Result<Taken, Failure> {
    let begun = Instant::now();
    loop {
        // First: a process that ends has looked for the last time before it lets the run go.
        let alone = store.owner(run).is_none();
        if !store.inbox(run)?.iter().any(|row| row.id == id) {
            return Ok(Taken::OnRecord);
        }
        if find_run(store, run.as_str())?.state.is_final() && alone {
            return Ok(Taken::Over);
        }
        if alone || begun.elapsed() > PATIENCE {
            return Ok(Taken::Waits);
        }
        std::thread::sleep(EVERY);
    }
}

/// Who hears it, as it stands on record.
fn recorded(project: &Project, store: &dyn Store, row: RunRow, (id, to): (u64, &str)) -> Result<Vec<Hearer>, Failure> {
    let short = called(store, &row.run);
    let journal = read_run(store, row)?;
    let told = |entry: &Entry| matches!(&entry.event, Event::Task(TaskEvent::Told { id: of, .. }) if *of == id);
    let Some(at) = journal.entries.iter().position(told) else { return Err(refused(&short, &Deaf::Over)) };
    let (compiled, _) = crew::pinned(project, store, journal.started()?)?;
    let run = fold(compiled, &journal.entries[..at], &short)?;
    run.hearers(to).map_err(|deaf| refused(&short, &deaf))
}

fn fold(crew: Arc<Crew>, entries: &[Entry], short: &str) -> Result<Run, Failure> {
    Run::fold(crew, entries).map_err(|illegal| {
        Failure::new(Exit::Audit, format!("the journal of run {short} cannot be followed: {illegal}"))
            .hint(format!("bosun audit verify {short}"))
    })
}

fn refused(run: &str, deaf: &Deaf) -> Failure {
    let failure = Failure::usage(deaf.to_string());
    match deaf {
        Deaf::Ahead { agent, .. } => failure.hint(format!("bosun tell {run} {agent} \"…\"")),
        Deaf::Over | Deaf::Unknown { .. } | Deaf::Idle { .. } | Deaf::Ended { .. } => {
            failure.hint(format!("bosun show {run} says what is running"))
        }
        Deaf::Round { .. } | Deaf::Nobody { .. } => failure.hint(format!("bosun show {run} says what is running")),
    }
}

/// A prompt that a message alone fills would end the task.
fn fits(run: &Run, hearer: &Hearer, text: &str) -> Result<(), Failure> {
    let crew: Option<Arc<Crew>> = run.crew.of_scope(&hearer.agent.scope);
    let Some(role) = crew.and_then(|crew| crew.agents.get(&hearer.agent.name).cloned()) else { return Ok(()) };
    let context = role.context_tokens.min(role.max_prompt_tokens.unwrap_or(u64::MAX));
    let most = context / PART;
    if text.len() as u64 <= most {
        return Ok(());
    }
    let size = O200k::new().tokens(text);
    if size <= most {
        return Ok(());
    }
    let why = format!(
        "the message has {size} tokens; {} takes {most}, a quarter of its prompt of {context} (`context_tokens`)",
        hearer.agent
    );
    Err(Failure::usage(why).hint("put the text into a file that the agent can read, and tell it the path"))
}
