//! `plan`. Arguments only, here.

use clap::Args;

use super::Context;
use super::failure::{Exit, Failure, Outcome};
use super::run::{InputArgs, LimitArgs};

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// A crew file, a folder with crew.toml, or a role prompt (prompts/NAME.md)
    #[arg(value_name = "CREW|PROMPT")]
    pub crew: std::path::PathBuf,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Exit 3 if the worst case does not fit the budget
    #[arg(long)]
    pub require_fit: bool,
    /// The plan as JSON on stdout [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

pub fn plan(_: &Context, _: PlanArgs) -> Outcome {
    Err(Failure::new(Exit::Internal, "`plan` is not built in this checkout"))
}
