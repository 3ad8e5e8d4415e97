//! Bosun runs crews of LLM role agents, defined in TOML, as actors: on a budget that cannot be
//! overspent, from a journal that survives `kill -9`. This page is the architecture.
//!
//! # The rule
//!
//! **The state of a run is always the fold of the journal prefix that was seen. Nothing else changes
//! it.** Every machine in [`core`] has three functions:
//!
//! - `decide` may refuse; it touches nothing and gives the events that would happen, with everything
//!   they were decided on (a rendered prompt, a skipped condition, the items of a list) inside them;
//! - `apply` folds an event that has been written; it may not disagree;
//! - `next` says what is due now: a call to send, a tool to run, a task to assign.
//!
//! A fresh run folds one event, a resumed run many, and that is the only difference. `bosun replay`
//! proves it: for every event that a machine decided, the machine folded over the events before it
//! must write exactly those bytes again. What the world decided (an answer, a tool's result, a crash)
//! is taken as it is recorded.
//!
//! # The words
//!
//! A **crew** is a TOML file and the **agents** it defines: roles, each a prompt, a model, tools. A
//! **task** is one piece of work with one typed result; tasks form a tree, owned by a **coordinator**,
//! an actor and never a model. A task is tried in **attempts**, an attempt goes on in **turns** (a model
//! call and the tool calls it asked for). A **run** is one execution and outlives processes. Its
//! **journal** is the append-only list of its events, hash-chained; the **ledger** is the sums: for every
//! node of the budget tree `settled + held + in doubt <= cap`. A **hold** reserves a call's worst case
//! before it is sent; a call that may have been billed and was not answered stays **in doubt** at that
//! worst case. A **step address** (`draft#2`, `section[intro]`, `brief/analyst[1]`) names a piece of
//! work, the same over resume and replay.
//!
//! # The layers
//!
//! | room | what it is | may use |
//! |---|---|---|
//! | [`core`] | decisions: what a crew is, what happens next, what fits the budget | no clock, no files, no threads |
//! | [`ports`] | what the decisions need of the world, as traits | `core` |
//! | [`actors`] | shells around the machines: journal, ledger, coordinators, agents, the run's root | `core`, `ports`, ractor |
//! | [`adapters`] | ports made real: providers, tools, SQLite, crew files, settings | `core`, `ports` |
//! | [`cli`] | one file per command; `wiring` alone names both actors and adapters | everything |
//!
//! A test reads `src/` and enforces the table.
//!
//! # How a run flows
//!
//! 1. [`adapters::crewfile`] reads the crew with the place of every value; everything wrong is found at
//!    once, with line and caret. `cli::wiring` checks keys and files. Nothing has been sent.
//! 2. The store creates the run with its first event, `run.started`, which pins every file the crew is
//!    made of, the prices and the limits. From here on the run is what its journal says. (The actors go up
//!    while that entry is synced: whatever they would send waits for entries behind it.)
//! 3. The run's root actor starts journal, ledger and coordinator. State-changing news reaches an actor
//!    only as a committed entry, in order; an append names the last entry its author has seen, and is
//!    refused if that has moved on.
//! 4. The coordinator assigns a task; an agent's actor folds the assignment and wants a call. First the
//!    throttle admits it (waiting is free), then the ledger writes `call.held`, and when that is on disk
//!    the request leaves. There is no other way to call a model.
//! 5. A task of its own awaits the answer and appends `call.answered` whatever has become of the agent:
//!    one fact, folded by the agent (its memory grows) and by the ledger (the hold settles).
//!    What a person says to an agent (`agent.told`) enters its memory between two turns (`agent.heard`).
//! 6. Tool calls, delegations, checks and revisions go the same way: decided, written, then done. An
//!    output file is written when the result is durable, and written again on resume until that is
//!    recorded.
//!    What needs a person (`approval`, `approve_when`, `ask.human`) is raised as an interrupt instead of
//!    started; the decision is a row in the run's inbox, from any process, and becomes an event if the
//!    interrupt is still open. A run that only waits for people parks. What tools bring in from outside
//!    taints the agent that reads it, its results and whoever is told them, by the fold alone; a tool with
//!    effect needs a yes then (`core/agent/taint.rs`, `core/plan/taint.rs`).
//! 7. An agent that panics is started again from the fold, its siblings untouched, its call still
//!    running. A process that dies leaves open holds: on resume they are in doubt, at their worst case.
//! 8. Nothing is left to do: `run.finished`. Result to stdout, figures to stderr, an exit code.
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
    pub use crate::cli::embed::{Engine, Options, Report, Run, Start, Then, Told, Waiting};
    pub use crate::cli::failure::{Exit, Failure};
    pub use crate::core::chat::{
        CallFailure, Effect, FailureClass, Finish, Message, ModelAnswer, ModelRequest, ToolSpec,
    };
    pub use crate::core::event::{Event, InterruptKind, Why};
    pub use crate::core::ids::{AgentRef, InterruptId, RunId, Step};
    pub use crate::core::money::{Caps, Usage};
    pub use crate::core::run::{Entry, Hearer};
    pub use crate::ports::BoxFuture;
    pub use crate::ports::model::{Model, Watch};
    pub use crate::ports::tool::{Tool, ToolCall, ToolOutcome};
}
