//! `run` and `resume`. Arguments only, here: the engine is wired elsewhere.

use clap::Args;

use super::Context;
use super::failure::{Exit, Failure, Outcome};
use crate::adapters::settings::Flags;

/// Limits that a command line may lower, of every command that starts a run.
#[derive(Clone, Debug, Default, Args)]
pub struct LimitArgs {
    /// Most dollars of the run [env: BOSUN_MAX_USD]
    #[arg(long, value_name = "USD")]
    pub max_usd: Option<String>,
    /// Most tokens of the run, input and output [env: BOSUN_MAX_TOKENS]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<String>,
    /// Most model calls of one task's attempt [env: BOSUN_MAX_TURNS]
    #[arg(long, value_name = "N")]
    pub max_turns: Option<String>,
    /// Most tokens of one call's output [env: BOSUN_MAX_OUTPUT]
    #[arg(long, value_name = "N")]
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
    #[arg(long)]
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
    #[command(flatten)]
    pub show: ShowArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ResumeArgs {
    /// A prefix of the run's id, or latest
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// A higher cap for the whole run; recorded with your name
    #[arg(long, value_name = "USD")]
    pub raise_budget: Option<String>,
    /// Let a step that needs review start over; may be given again
    #[arg(long, value_name = "STEP")]
    pub retry: Vec<String>,
    #[command(flatten)]
    pub show: ShowArgs,
}

pub fn run(_: &Context, _: RunArgs) -> Outcome {
    Err(Failure::new(Exit::Internal, "`run` is not built in this checkout"))
}

pub fn resume(_: &Context, _: ResumeArgs) -> Outcome {
    Err(Failure::new(Exit::Internal, "`resume` is not built in this checkout"))
}
