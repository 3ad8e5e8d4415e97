//! `help`: commands, topics and codes. Invariant: what it lists comes from the tables that the program
//! itself goes by.

use clap::Args;

use super::Context;
use super::failure::{Exit, Failure, Outcome, TABLE};
use crate::adapters::crewfile::CODES;
use crate::core::nearest::nearest;

#[derive(Clone, Debug, Args)]
pub struct HelpArgs {
    /// A command, a code (E0104, 11), or: all, exit-codes, environment, addresses
    #[arg(value_name = "TOPIC")]
    pub topic: Vec<String>,
}

const TOPICS: [&str; 4] = ["all", "exit-codes", "environment", "addresses"];

const ADDRESSES: &str = "\
A step address names one piece of work of a run. It stays the same over resume.

  draft                 a task
  draft#2               its second round, in a revise loop
  section[intro]        the item `intro` of a task with for_each
  section[intro]#2      its second round
  brief/analyst[1]      the first task that `brief` delegated to `analyst`
  topic_ann#2           the second turn of `ann` in the debate `topic`
  legal/review          the task `review` of the sub-crew at `legal`
  draft#1.3             the third model call of draft#1, over all its attempts

Names are a-z, 0-9 and _. Keys are percent-encoded outside letters, digits and `_-. `.
In a shell, quote an address with [ ] or #: bosun show latest 'section[intro]'
A run is any unique prefix of its id from four characters, or: latest
";

const ENVIRONMENT: &[(&str, &str)] = &[
    ("BOSUN_STATE_DIR", "the state folder; .bosun in the project unless stated (--state-dir)"),
    ("BOSUN_MODEL", "PROVIDER/MODEL for agents that name none"),
    ("BOSUN_MAX_USD", "most dollars of a run; of all layers the smallest limit counts (--max-usd)"),
    ("BOSUN_MAX_TOKENS", "most tokens of a run, input and output (--max-tokens)"),
    ("BOSUN_MAX_CALLS", "most model calls of a run"),
    ("BOSUN_MAX_TURNS", "most model calls of one attempt (--max-turns)"),
    ("BOSUN_MAX_OUTPUT", "most tokens of one call's output (--max-output)"),
    ("BOSUN_OFFLINE", "true replaces every model by the stand-in (--offline)"),
    ("BOSUN_OFFLINE_DELAY_MS", "how long the stand-in takes for an answer"),
    ("BOSUN_SCRIPT", "replies of the provider `scripted`, a TOML file"),
    ("BOSUN_JSON", "true: as --json, where a command has it"),
    ("BOSUN_QUIET", "true: as -q"),
    ("BOSUN_LOG", "a log filter such as info or boatswain=debug (-v)"),
    ("BOSUN_LOG_FORMAT", "text or json (--log-format)"),
    ("BOSUN_LOG_FILE", "log to this file, a new one each day (--log-file)"),
    ("NO_COLOR", "no colors (--color)"),
    ("COLUMNS", "width of tables where stdout is no terminal"),
    ("OPENAI_API_KEY", "the key of the built-in providers `openai` and `openai_responses`"),
    ("ANTHROPIC_API_KEY", "the key of the built-in provider `anthropic`"),
    ("GEMINI_API_KEY", "the key of the built-in provider `gemini`; others name theirs in api_key_env"),
    ("OPENAI_BASE_URL", "another address for the built-in provider `openai`"),
    ("ANTHROPIC_BASE_URL", "another address for the built-in provider `anthropic`"),
    ("XDG_CONFIG_HOME", "bosun/config.toml below it is the user's settings file (else ~/.config)"),
];

pub fn help(context: &Context, args: HelpArgs, mut command: clap::Command) -> Outcome {
    let colored = context.out.out_is_colored();
    let shown = |text: clap::builder::StyledStr| if colored { text.ansi().to_string() } else { text.to_string() };
    let topic: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    match topic.as_slice() {
        [] => context.out.print(&shown(command.render_help())),
        ["all"] => all(context, &command),
        ["exit-codes" | "exit-code" | "exits"] => exit_codes(context),
        ["environment" | "env"] => {
            let wide = ENVIRONMENT.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, means) in ENVIRONMENT {
                context.out.line(&format!("{name:wide$}  {means}"));
            }
            context.out.line("\nLayers, the later before the earlier: built-in, user file, bosun.toml, BOSUN_*, flag. bosun config shows them.");
        }
        ["addresses" | "address"] => context.out.print(ADDRESSES),
        [code] if is_code(code) => return of_code(context, code),
        names => {
            let mut found = &mut command;
            for name in names {
                found = match found.find_subcommand(name).is_some() {
                    true => found.find_subcommand_mut(name).ok_or_else(|| unknown(name))?,
                    false => return Err(unknown_in(found, name)),
                };
            }
            let full = format!("bosun {}", names.join(" "));
            let mut page = found.clone().bin_name(full);
            context.out.print(&shown(page.render_long_help()));
        }
    }
    Ok(Exit::Done)
}

fn unknown(name: &str) -> Failure {
    Failure::usage(format!("there is no help on `{name}`")).hint("bosun help all")
}

fn unknown_in(command: &clap::Command, name: &str) -> Failure {
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).chain(TOPICS).collect();
    match nearest(name, names) {
        Some(near) => {
            Failure::usage(format!("there is no help on `{name}`; did you mean `{near}`?")).hint("bosun help all")
        }
        None => unknown(name),
    }
}

fn is_code(text: &str) -> bool {
    let digits = text.trim_start_matches(['E', 'W', 'e', 'w']);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// `E0104` of `check`, or `11` of an exit.
fn of_code(context: &Context, code: &str) -> Outcome {
    let upper = code.to_ascii_uppercase();
    if let Some((code, means)) = CODES.iter().find(|(known, _)| *known == upper) {
        context.out.line(&format!("{code}: {means}"));
        return Ok(Exit::Done);
    }
    if let Some(row) = TABLE.iter().find(|row| code.parse() == Ok(row.code)) {
        exit_code(context, row);
        return Ok(Exit::Done);
    }
    let near = nearest(&upper, CODES.iter().map(|(code, _)| *code));
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(Failure::usage(format!("there is no code `{code}`{near}"))
        .hint("bosun help exit-codes, or a code that bosun check has printed"))
}

fn exit_codes(context: &Context) {
    for row in &TABLE {
        exit_code(context, row);
    }
    context.out.line("Several causes at once: the first of 6 4 14 11 15 12 16 10 is the code; all are printed.");
}

fn exit_code(context: &Context, row: &super::failure::Row) {
    let goes_on = if row.resumable { " (resumable)" } else { "" };
    context.out.line(&format!("{:>3} {}{goes_on}: {}", row.code, row.name, row.means));
    if !row.next.is_empty() {
        context.out.line(&format!("    do: {}", row.next));
    }
}

fn all(context: &Context, command: &clap::Command) {
    let groups: [(&str, &[&str]); 6] = [
        ("start", &["demo", "new", "doctor"]),
        ("define", &["check", "plan", "prompts"]),
        ("run", &["run", "resume", "pause", "cancel", "tell", "replay"]),
        ("look", &["runs", "show", "cost"]),
        ("govern", &["ledger", "audit"]),
        ("meta", &["config", "prices", "gc", "tools", "help"]),
    ];
    for (group, names) in groups {
        context.out.line(group);
        for name in names {
            let Some(one) = command.find_subcommand(name) else { continue };
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            context.out.line(&format!("  {name:<8} {about}"));
            for inner in one.get_subcommands() {
                let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
                context.out.line(&format!("    {name} {:<8} {about}", inner.get_name()));
            }
        }
    }
    context.out.line("topics");
    context.out.line("  bosun help exit-codes | environment | addresses | COMMAND | CODE");
}
