//! `demo`. Arguments only, here: the engine is wired elsewhere.

use clap::Args;

use super::Context;
use super::failure::{Exit, Failure, Outcome};
use super::run::{LimitArgs, ShowArgs};

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Folder that the demo is put into
    #[arg(value_name = "FOLDER", default_value = "bosun-demo")]
    pub folder: std::path::PathBuf,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub show: ShowArgs,
}

pub fn demo(_: &Context, _: DemoArgs) -> Outcome {
    Err(Failure::new(Exit::Internal, "`demo` is not built in this checkout"))
}
