//! `run` and `resume`. Invariant: everything that can be wrong is found before anything is sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;

use super::failure::{Exit, Failure, Outcome};
use super::notifier::Handed;
use super::open::{self, Journal, Project};
use super::people::Desk;
use super::screen::clean;
use super::tally::StepState;
use super::wiring::{self, Engine, Ready};
use super::{Context, accept, approve, crew as crews, drive, ends, fit, inputs, notifier, people, raise, runs};
use crate::adapters::crewfile::{self, Loaded};
use crate::adapters::settings::{Flags, Stated};
use crate::core::crew::Overrides;
use crate::core::event::{Event, LedgerEvent, RunEvent, TaskEvent};
use crate::core::ids::Step;
use crate::core::money::Caps;
use crate::ports::store::RunRow;

/// Limits that a command line may lower, of every command that starts a run.
#[derive(Clone, Debug, Default, Args)]
pub struct LimitArgs {
    /// Most dollars of the run [env: BOSUN_MAX_USD]
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub max_usd: Option<String>,
    /// Most tokens of the run, input and output [env: BOSUN_MAX_TOKENS]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens: Option<String>,
    /// Most model calls of one task's attempt [env: BOSUN_MAX_TURNS]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_turns: Option<String>,
    /// Most tokens of one call's output [env: BOSUN_MAX_OUTPUT]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_output: Option<String>,
}

impl LimitArgs {
    pub fn flags(&self) -> Flags {
        let stated = [
            ("max_usd", &self.max_usd),
            ("max_tokens", &self.max_tokens),
            ("max_turns", &self.max_turns),
            ("max_output", &self.max_output),
        ];
        stated.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect()
    }
}

/// The inputs of a crew, and what replaces its models.
#[derive(Clone, Debug, Default, Args)]
pub struct InputArgs {
    /// An input of the crew; may be given again
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    pub input: Vec<String>,
    /// Inputs from a TOML or JSON file; --input comes before it
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<std::path::PathBuf>,
    /// Replaces every model of the crew, such as openai/gpt-4.1-mini [env: BOSUN_MODEL, for agents that name none]
    #[arg(long, value_name = "PROVIDER/MODEL")]
    pub model: Option<String>,
    /// Replaces every model by the stand-in, which needs no key and no network and is no AI model [env: BOSUN_OFFLINE]
    #[arg(long, conflicts_with = "model")]
    pub offline: bool,
}

/// How a run shows itself.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ShowArgs {
    /// Events as JSON lines on stdout, in place of the result [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
    /// No progress, only the result [env: BOSUN_QUIET]
    #[arg(short, long, env = "BOSUN_QUIET", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,
    /// Do not ask on the terminal: park and leave approvals and questions open [env: BOSUN_NO_ASK]
    #[arg(long, env = "BOSUN_NO_ASK", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub no_ask: bool,
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A crew file, a folder with crew.toml, or a role prompt (prompts/NAME.md)
    #[arg(value_name = "CREW|PROMPT")]
    pub crew: std::path::PathBuf,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Start or go on: the run of this crew with this key; a finished one prints its result again
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Refuse to start if the expected course does not fit the budget
    #[arg(long)]
    pub require_fit: bool,
    /// Refuse to start if an MCP server is not in bosun.lock yet
    #[arg(long)]
    pub locked: bool,
    #[command(flatten)]
    pub show: ShowArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ResumeArgs {
    /// A prefix of the run's id, or latest
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// A higher cap for the whole run, recorded with your name: 0.40, 20000tok, 50calls; may be given again
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub raise_budget: Vec<String>,
    /// Running time on top of the crew's deadline: 90s, 10m, 2h
    #[arg(long, value_name = "TIME")]
    pub more_time: Option<String>,
    /// Let a step that needs review start over; may be given again
    #[arg(long, value_name = "STEP")]
    pub retry: Vec<String>,
    /// Take an earlier answer of a step that needs review for its result; with --attempt
    #[arg(long, value_name = "STEP", requires = "attempt")]
    pub accept: Option<String>,
    /// Which attempt's answer --accept takes
    #[arg(long, value_name = "N", requires = "accept")]
    pub attempt: Option<u32>,
    #[command(flatten)]
    pub show: ShowArgs,
}

/// Starts a run, or goes on with the one its key names.
pub fn run(context: &Context, args: RunArgs) -> Outcome {
    if args.key.as_ref().is_some_and(|key| key.trim().is_empty()) {
        return Err(Failure::usage("--key is empty: expected a name, such as order-1234")
            .hint("a variable that is not set would make all orders one run; nothing was sent"));
    }
    let root = crewfile::project_root(&context.cwd.join(&args.crew));
    let project = Arc::new(Project::at(context, root, args.limits.flags())?);
    let desk = Desk::of(context, &project, &args.show);
    let mut ready = prepare(context, &project, &args)?;
    let engine = Engine::open(&project, context.env.clone())?;
    if let Some(row) = wiring::keyed(&*engine.store, &ready)? {
        return go_on(context, &project, &engine, row, &desk);
    }
    if !ready.loaded.unpinned.is_empty() {
        approve::meet(context, &project, &ready.loaded, args.locked)?;
        ready = prepare(context, &project, &args)?;
    }
    fit::may_start(&ready, args.require_fit)?;
    let (mut refused, mut run) = (false, None);
    let outcome = drive::block_on(async {
        let (watcher, entries) = mpsc::unbounded_channel();
        let keys = crews::keys(&ready.loaded);
        let live = engine.start(ready, Some(watcher)).await.inspect_err(|_| refused = true)?;
        run = Some(live.id.clone());
        drive::drive(context, &engine, live, entries, Vec::new(), keys, &desk).await
    });
    if let Some(run) = run {
        return people::stay(context, &project, &engine, &run, outcome, &desk);
    }
    if !refused || args.key.is_none() {
        return outcome;
    }
    // A key that was free a moment ago: another process has started its run in between.
    match wiring::keyed(&*engine.store, &prepare(context, &project, &args)?)? {
        Some(row) => go_on(context, &project, &engine, row, &desk),
        None => outcome,
    }
}

/// The crew of the command line with its inputs, checked; nothing is sent.
pub fn prepare(context: &Context, project: &Project, args: &RunArgs) -> Result<Ready, Failure> {
    let Written { loaded, file, texts, typed, overrides } = read(context, project, &args.crew, &args.inputs)?;
    let needs = |failure: Failure| failure.hint(format!("what it needs: bosun plan {}", args.crew.display()));
    let ready = wiring::bind(&project.root, &context.cwd, loaded, file, &texts, &typed, overrides);
    let mut ready = ready.map_err(needs)?;
    ready.key = args.key.clone();
    Ok(ready)
}

/// A crew that compiles, and the inputs as they were typed.
pub struct Written {
    pub loaded: Loaded,
    /// Path of the crew file below the root.
    pub file: String,
    pub texts: BTreeMap<String, String>,
    pub typed: BTreeMap<String, serde_json::Value>,
    pub overrides: Overrides,
}

/// Reads what a command line names; inputs may be missing.
pub fn read(context: &Context, project: &Project, crew: &Path, args: &InputArgs) -> Result<Written, Failure> {
    let overrides = Overrides {
        usual_model: project.settings.model.clone(),
        model: args.model.clone(),
        offline: args.offline || project.settings.offline,
        caps: Caps::default(),
        max_turns: limit(&project.settings.limits.max_turns),
        max_output: project.settings.limits.max_output.as_ref().map(|stated| stated.value),
    };
    let texts = inputs::pairs(&args.input)?;
    let typed = inputs::table(&context.cwd, args.inputs.as_deref())?;
    let path = crews::place(&project.root, &context.cwd, crew)?;
    let (loaded, file) = if path.ends_with(".md") {
        solo(context, project, &path, &texts, &overrides)
    } else {
        let loaded = crews::load(project, &path, &overrides);
        let folder = loaded.crew.as_ref().map(|crew| crew.file.clone());
        (loaded, folder.unwrap_or(path))
    };
    if loaded.crew.is_none() {
        let text = crewfile::text(&loaded, context.out.err_is_colored(), context.err_columns());
        return Err(Failure::new(Exit::Crew, text.trim_end()));
    }
    // What an agent goes without is not only for those who `check`.
    for left in loaded.problems.iter().filter(|problem| problem.code == "W0702") {
        context.out.say(&format!("warning: {}: {}", clean(&left.file), clean(&left.message)));
    }
    Ok(Written { loaded, file, texts, typed, overrides })
}

/// A role prompt as a crew of one, and the name of the crew file that is made for it.
fn solo(
    context: &Context,
    project: &Project,
    path: &str,
    texts: &BTreeMap<String, String>,
    overrides: &Overrides,
) -> (Loaded, String) {
    // An input whose value names something on disk is a path: the agent may read it.
    let on_disk = |value: &str| !value.is_empty() && context.cwd.join(value).exists();
    let given: Vec<(String, bool)> = texts.iter().map(|(name, value)| (name.clone(), on_disk(value))).collect();
    let loaded = crews::load_prompt(project, path, &given, overrides);
    let file = loaded.crew.as_ref().map_or_else(|| path.to_owned(), |crew| crew.file.clone());
    (loaded, file)
}

fn limit(stated: &Option<Stated<u64>>) -> Option<u32> {
    stated.as_ref().map(|stated| u32::try_from(stated.value).unwrap_or(u32::MAX))
}

/// A run that its key names: done, running elsewhere, or to be gone on with.
fn go_on(context: &Context, project: &Project, engine: &Engine, row: RunRow, desk: &Arc<Desk>) -> Outcome {
    if row.state.is_final() {
        let journal = open::read_run(&*engine.store, row)?;
        drive::say_changed(context, project, &journal)?;
        let exit = drive::print_again(context, engine, &journal, &desk.show);
        notifier::overdue(context, project, engine.store.clone(), &journal);
        return exit;
    }
    let run = row.run.clone();
    let taken = take_up(context, project, engine, row, Vec::new(), Duration::ZERO, desk);
    // Whoever ran it may have finished it while this process made ready.
    match taken {
        Err(failure) if failure.exit == Exit::Usage => {
            let row = open::find_run(&*engine.store, run.as_str())?;
            if !row.state.is_final() {
                return Err(failure);
            }
            drive::print_again(context, engine, &open::read_run(&*engine.store, row)?, &desk.show)
        }
        taken => taken,
    }
}

/// Goes on with a run from its last recorded event.
pub fn resume(context: &Context, args: ResumeArgs) -> Outcome {
    let project = Arc::new(Project::here(context)?);
    let desk = Desk::of(context, &project, &args.show);
    let store = project.store_of(&args.run)?;
    let row = open::find_run(&*store, &args.run)?;
    drop(store);
    let engine = Engine::open(&project, context.env.clone())?;
    if row.state.is_final() {
        return over(context, &project, &engine, row, &args);
    }
    let journal = open::read_run(&*engine.store, row.clone())?;
    let mut opening = opening(context, &journal, &args)?;
    if let (Some(step), Some(attempt)) = (&args.accept, args.attempt) {
        let by = open::whoami(&context.env);
        opening.push(accept::accepted(&project, &*engine.store, &journal, (step, attempt), by)?);
    }
    take_up(context, &project, &engine, row, opening, more_time(&args)?, &desk)
}

/// Nothing is left of the run but, maybe, notices that its last process did not get rid of: they are what a resume
/// is asked for then.
fn over(context: &Context, project: &Project, engine: &Engine, row: RunRow, args: &ResumeArgs) -> Outcome {
    let run = open::called(&*engine.store, &row.run);
    let state = runs::status(row.state, true);
    let told = notifier::overdue(context, project, engine.store.clone(), &open::read_run(&*engine.store, row)?);
    let asks_more = !args.raise_budget.is_empty() || args.more_time.is_some();
    let asks_more = asks_more || !args.retry.is_empty() || args.accept.is_some();
    match told {
        Some(Handed { asked, taken }) if taken == asked && !asks_more => {
            let many = if asked == 1 { "notification was" } else { "notifications were" };
            context.out.note(&format!("run {run} is {state}; {asked} {many} still due and is delivered now"));
            Ok(Exit::Done)
        }
        Some(_) | None => Err(Failure::usage(format!("run {run} is {state}: there is nothing to go on with"))
            .hint(format!("bosun show {run}"))),
    }
}

/// What a resume brings with it: a higher cap, steps that start over.
fn opening(context: &Context, journal: &Journal, args: &ResumeArgs) -> Result<Vec<Event>, Failure> {
    let by = open::whoami(&context.env);
    let mut events = Vec::new();
    if !args.raise_budget.is_empty() {
        let caps = journal.tally.ledger.caps;
        let raised = args.raise_budget.iter().try_fold(caps, |caps, text| raise::raised(caps, text));
        let caps = raised.map_err(Failure::usage)?;
        events.push(Event::Ledger(LedgerEvent::Raised { caps, by: by.clone() }));
    }
    for text in &args.retry {
        let step: Step = text.parse().map_err(|error| Failure::usage(format!("--retry: {error}")))?;
        let waiting = journal.tally.steps.get(&step);
        let Some(row) = waiting.filter(|row| matches!(row.state, StepState::Review { .. })) else {
            return Err(Failure::usage(format!("--retry {step}: no such step waits for review"))
                .hint(format!("bosun show {}", journal.called())));
        };
        if let StepState::Review { message, fixed: true } = &row.state {
            return Err(Failure::usage(format!("--retry {step}: {message}")).hint(ends::stays(&journal.tally)));
        }
        events.push(Event::Task(TaskEvent::Retried { step, agent: row.agent.clone(), by: by.clone() }));
    }
    Ok(events)
}

fn more_time(args: &ResumeArgs) -> Result<Duration, Failure> {
    let Some(text) = &args.more_time else { return Ok(Duration::ZERO) };
    crewfile::time(text).map(Duration::from_millis).map_err(|why| Failure::usage(format!("--more-time: {why}")))
}

fn take_up(
    context: &Context,
    project: &Project,
    engine: &Engine,
    row: RunRow,
    opening: Vec<Event>,
    more_time: Duration,
    desk: &Arc<Desk>,
) -> Outcome {
    let run = row.run.clone();
    let outcome = taken_up(context, project, engine, row, opening, more_time, desk);
    people::stay(context, project, engine, &run, outcome, desk)
}

/// Goes on with a run that people have decided something of.
pub fn go_on_with(context: &Context, project: &Project, engine: &Engine, row: RunRow, desk: &Arc<Desk>) -> Outcome {
    taken_up(context, project, engine, row, Vec::new(), Duration::ZERO, desk)
}

fn taken_up(
    context: &Context,
    project: &Project,
    engine: &Engine,
    row: RunRow,
    opening: Vec<Event>,
    more_time: Duration,
    desk: &Arc<Desk>,
) -> Outcome {
    let journal = open::read_run(&*engine.store, row)?;
    let mut ready = wiring::pinned(project, &*engine.store, journal.started()?, &context.env)?;
    ready.more_time = more_time;
    drive::say_changed(context, project, &journal)?;
    let resumed = Event::Run(RunEvent::Resumed { by: open::whoami(&context.env) });
    let opening = std::iter::once(resumed).chain(opening).collect();
    let run = journal.row.run.clone();
    drive::block_on(async {
        let (watcher, entries) = mpsc::unbounded_channel();
        let keys = crews::keys(&ready.loaded);
        let live = engine.resume(&run, ready, opening, Some(watcher)).await?;
        drive::drive(context, engine, live, entries, journal.entries, keys, desk).await
    })
}
