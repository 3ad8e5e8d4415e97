//! Bosun runs crews of LLM role agents.
#![deny(unsafe_code)]

pub mod actors;
pub mod adapters;
pub mod cli;
pub mod core;
pub mod ports;

/// Bosun inside another program: open a folder, start its crews, watch them.
///
/// ```no_run
/// # async fn run() -> Result<(), boatswain::engine::Failure> {
/// use boatswain::engine::Options;
/// let engine = Options::folder(".").open()?;
/// let run = engine.crew("crews/quickstart.toml").input("source", "README.md").offline().start().await?;
/// let report = run.wait().await?;
/// # Ok(()) }
/// ```
pub mod engine {
    pub use crate::cli::embed::{Engine, Options, Report, Run, Start};
    pub use crate::cli::failure::{Exit, Failure};
    pub use crate::core::chat::{
        CallFailure, Effect, FailureClass, Finish, Message, ModelAnswer, ModelRequest, ToolSpec,
    };
    pub use crate::core::event::Event;
    pub use crate::core::money::{Caps, Usage};
    pub use crate::core::run::Entry;
    pub use crate::ports::BoxFuture;
    pub use crate::ports::model::Model;
    pub use crate::ports::tool::{Tool, ToolCall, ToolOutcome};
}
