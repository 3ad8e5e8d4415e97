//! The command line. Invariant: one file per command; a command gets plain arguments and a
//! [`Context`], returns an [`Outcome`], and decides nothing about tasks, money or retries.

pub mod accept;
pub mod append;
pub mod approve;
pub mod audit;
pub mod check;
pub mod config;
pub mod control;
pub mod cost;
pub mod crew;
pub mod demo;
pub mod doctor;
pub mod drive;
pub mod embed;
pub mod ends;
pub mod failure;
pub mod fit;
pub mod gc;
pub mod help;
pub mod inputs;
pub mod ledger;
pub mod logging;
pub mod login;
pub mod new;
pub mod notifier;
pub mod notify;
pub mod open;
pub mod out;
pub mod people;
pub mod plan;
pub mod progress;
pub mod prompts;
pub mod raise;
pub mod replay;
pub mod run;
pub mod runs;
pub mod screen;
pub mod show;
pub mod tally;
pub mod tell;
pub mod tools;
pub mod watch;
pub mod wiring;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::failure::{Exit, Failure, Outcome};
use self::out::{Color, Out, Tone};
use crate::adapters::mcp::leash;
use crate::adapters::models::secrets::Env;
use crate::adapters::redaction::Redactor;
use crate::adapters::settings::Flags;

const AFTER: &str = "\
More: bosun help all (every command), bosun help exit-codes, bosun help environment, bosun help addresses.
It works without a key and without a network: bosun demo";

/// Runs crews of LLM role agents on a budget that cannot be overspent, from a journal that survives kill -9.
#[derive(Debug, Parser)]
#[command(name = "bosun", version, after_help = AFTER, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Log to stderr: -v what happens, -vv how, -vvv everything [env: BOSUN_LOG]
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Everywhere")]
    pub verbose: u8,
    /// text or json [env: BOSUN_LOG_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT", hide_short_help = true, help_heading = "Everywhere")]
    pub log_format: Option<String>,
    /// Log to this file, a new one each day [env: BOSUN_LOG_FILE]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true, help_heading = "Everywhere")]
    pub log_file: Option<String>,
    /// The state folder, .bosun in the project unless stated [env: BOSUN_STATE_DIR]
    #[arg(long, global = true, value_name = "FOLDER", hide_short_help = true, help_heading = "Everywhere")]
    pub state_dir: Option<String>,
    /// Colors; auto is on a terminal unless NO_COLOR is set [env: NO_COLOR]
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        hide_short_help = true,
        help_heading = "Everywhere"
    )]
    pub color: Color,
}

impl Global {
    /// As the last layer of the settings.
    pub fn flags(&self) -> Flags {
        let stated = [("log_format", &self.log_format), ("log_file", &self.log_file), ("state_dir", &self.state_dir)];
        stated.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect()
    }
}

/// What every command gets.
pub struct Context {
    pub out: Arc<Out>,
    pub global: Global,
    pub env: Arc<Env>,
    pub cwd: PathBuf,
}

impl Context {
    /// Columns that data on stdout is laid out for.
    pub fn columns(&self) -> usize {
        let real = if self.out.stdout_is_terminal() { screen::columns() } else { None };
        let stated = || self.env.get("COLUMNS")?.trim().parse().ok().filter(|columns| *columns > 0);
        real.or_else(stated).unwrap_or(usize::MAX)
    }
    /// Columns that a text on stderr is laid out for.
    pub fn err_columns(&self) -> usize {
        screen::columns().filter(|_| self.out.stderr_is_terminal()).unwrap_or(usize::MAX)
    }
    /// A table on stdout, as wide as fits.
    pub fn table(&self, table: &screen::Table) {
        table.lines(self.columns()).iter().for_each(|line| self.out.line(line));
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill, starve and crash a small crew, and count: no key, no network, no cost
    Demo(demo::DemoArgs),
    /// Make a small project that runs as it is
    New(new::NewArgs),
    /// Find everything that is wrong with a crew; nothing is sent
    Check(check::CheckArgs),
    /// Show the task graph, the expected cost and the worst case; nothing is spent
    Plan(plan::PlanArgs),
    /// Run a crew, or a role prompt as a crew of one
    Run(run::RunArgs),
    /// Serve the triggers of crews: a run for each file that arrives, at each time that comes
    #[command(hide = true)]
    Watch(watch::WatchArgs),
    /// Go on with a run from its last recorded event
    Resume(run::ResumeArgs),
    /// Finish the calls in flight, start nothing new
    #[command(hide = true)]
    Pause(control::ControlArgs),
    /// End a run for good
    #[command(hide = true)]
    Cancel(control::ControlArgs),
    /// Say something to an agent of a run: it hears it at its next turn
    #[command(hide = true)]
    Tell(tell::TellArgs),
    /// Derive every decision of a run again from its journal; sends nothing, costs nothing
    #[command(hide = true)]
    Replay(replay::ReplayArgs),
    /// Print a run or a step of it: what it did, why, with which prompt, at what cost
    Show(show::ShowArgs),
    /// List the runs, newest first
    Runs(runs::RunsArgs),
    /// What waits for a person, over all runs
    #[command(hide = true)]
    Approvals(people::ApprovalsArgs),
    /// Say yes to what a run asks, as it is or changed
    #[command(hide = true)]
    Approve(people::ApproveArgs),
    /// Say no, and why: the agent reads it
    #[command(hide = true)]
    Reject(people::RejectArgs),
    /// Answer a question of an agent
    #[command(hide = true)]
    Answer(people::AnswerArgs),
    /// What runs have used, by agent, model or task
    #[command(hide = true)]
    Cost(cost::CostArgs),
    /// The budget tree, and closing holds in doubt
    #[command(hide = true, subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Is the journal what was written, and who did what
    #[command(hide = true, subcommand)]
    Audit(audit::AuditCommand),
    /// Every prompt: list, print, or copy out a built-in one
    #[command(hide = true, subcommand)]
    Prompts(prompts::PromptsCommand),
    /// What agents may call: list, show, or call it by hand
    #[command(hide = true, subcommand)]
    Tools(tools::ToolsCommand),
    /// The settings in force and where each is from
    #[command(hide = true)]
    Config(config::ListArgs),
    /// Is this machine fit to run crews, and this crew in particular
    #[command(hide = true)]
    Doctor(doctor::DoctorArgs),
    /// What models cost, and who says so
    #[command(hide = true)]
    Prices(config::PricesArgs),
    /// Remove runs that are over and old
    #[command(hide = true)]
    Gc(gc::GcArgs),
    /// Help on a command, a code such as E0104, or: all, exit-codes, environment, addresses
    #[command(hide = true)]
    Help(help::HelpArgs),
}

impl Command {
    fn execute(self, context: &Context) -> Outcome {
        match self {
            Command::Demo(args) => demo::demo(context, args),
            Command::New(args) => new::new(context, args),
            Command::Check(args) => check::check(context, args),
            Command::Plan(args) => plan::plan(context, args),
            Command::Run(args) => run::run(context, args),
            Command::Watch(args) => watch::watch(context, args),
            Command::Resume(args) => run::resume(context, args),
            Command::Pause(args) => control::pause(context, args),
            Command::Cancel(args) => control::cancel(context, args),
            Command::Tell(args) => tell::tell(context, args),
            Command::Replay(args) => replay::replay(context, args),
            Command::Show(args) => show::show(context, args),
            Command::Runs(args) => runs::runs(context, args),
            Command::Approvals(args) => people::approvals(context, args),
            Command::Approve(args) => people::approve(context, args),
            Command::Reject(args) => people::reject(context, args),
            Command::Answer(args) => people::answer(context, args),
            Command::Cost(args) => cost::cost(context, args),
            Command::Ledger(command) => ledger::ledger(context, command),
            Command::Audit(command) => audit::audit(context, command),
            Command::Prompts(command) => prompts::prompts(context, command),
            Command::Tools(command) => tools::tools(context, command),
            Command::Config(args) => config::config(context, args),
            Command::Doctor(args) => doctor::doctor(context, args),
            Command::Prices(args) => config::prices(context, args),
            Command::Gc(args) => gc::gc(context, args),
            Command::Help(args) => help::help(context, args, Cli::command()),
        }
    }
}

/// The whole program: parses, executes, and turns the outcome into words and an exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|word| word == leash::WORD) {
        return ExitCode::from(leash::run(args.into_iter().skip(2)));
    }
    let env: Env =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let no_color = env.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let parsed = Cli::command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return explain(&error, &Out::new(Color::Auto, no_color)),
    };
    let out = Arc::new(Out::new(cli.global.color, no_color).hiding(Redactor::of_env(&env)));
    say_panics(out.clone());
    let cwd = match std::env::current_dir() {
        Ok(cwd) => cwd,
        Err(why) => return end(&out, Err(Failure::usage(format!("the present folder cannot be read: {why}")))),
    };
    if let Err(why) = drive::outlive_file_limits() {
        tracing::debug!(%why, "a file that meets its limit ends the process");
    }
    let context = Context { out: out.clone(), global: cli.global, env: Arc::new(env), cwd };
    end(&out, guarded(|| cli.command.execute(&context)))
}

/// A command that panics has ended by a bug, and says so with the exit code of one.
fn guarded(command: impl FnOnce() -> Outcome) -> Outcome {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(command));
    done.unwrap_or_else(|_| {
        let row = Exit::Internal.row();
        Err(Failure::new(Exit::Internal, format!("this is {}", row.means)).hint(row.next))
    })
}

/// A panic's words pass where every other line does: they may quote anything.
pub fn say_panics(out: Arc<Out>) {
    std::panic::set_hook(Box::new(move |info| {
        let trace = std::backtrace::Backtrace::capture();
        let captured = trace.status() == std::backtrace::BacktraceStatus::Captured;
        let shown = if captured { named(&trace.to_string()) } else { String::new() };
        out.note(format!("bosun: internal error: {info}\n{shown}").trim_end());
    }));
}

/// The frames of a trace that say anything: a program without symbols knows none of their names.
fn named(trace: &str) -> String {
    trace.split_inclusive('\n').filter(|line| !line.trim_end().ends_with(": <unknown>")).collect()
}

/// What clap has to say: help and version on stdout, errors on stderr.
fn explain(error: &clap::Error, out: &Out) -> ExitCode {
    let text = error.render();
    if error.use_stderr() {
        out.err(&if out.err_is_colored() { text.ansi().to_string() } else { text.to_string() });
        return ExitCode::from(Exit::Usage.code());
    }
    out.print(&if out.out_is_colored() { text.ansi().to_string() } else { text.to_string() });
    end(out, Ok(Exit::Done))
}

fn end(out: &Out, outcome: Outcome) -> ExitCode {
    let exit = match outcome {
        Ok(exit) => exit,
        Err(failure) => {
            let message = out.folded(&format!("bosun: {}", failure.message.trim_end()));
            let (first, rest) = message.split_once('\n').unwrap_or((&message, ""));
            let message = format!("{}\n{rest}", out.paint_err(Tone::Bad, first));
            out.note(message.trim_end());
            failure.hints.iter().for_each(|hint| out.say(&format!("  {hint}")));
            failure.exit
        }
    };
    match out.broken() {
        Some(why) if exit == Exit::Done => {
            out.say(&format!("bosun: the output could not be written: {why}"));
            ExitCode::from(Exit::Internal.code())
        }
        Some(_) | None => ExitCode::from(exit.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Outcome, guarded, named};

    #[test]
    fn a_panic_ends_as_an_internal_error() {
        let ended: Outcome = guarded(|| panic!("a drill"));
        let failure = ended.unwrap_err();
        assert_eq!((failure.exit, failure.exit.code()), (Exit::Internal, 1));
        assert!(failure.text().contains("a bug of Bosun") && failure.text().contains("bosun resume RUN"));
        assert_eq!(guarded(|| Ok(Exit::Done)), Ok(Exit::Done));
        let trace =
            "   0: <unknown>\n   1: boatswain::cli::main\n             at src/cli/mod.rs:2:1\n   2: <unknown>\n";
        assert_eq!(named(trace), "   1: boatswain::cli::main\n             at src/cli/mod.rs:2:1\n");
    }
}
