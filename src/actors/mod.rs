//! Shells around the machines. Invariant: an actor's state is its machine's fold plus handles of work
//! under way in this process; nothing else may be lost with it.
//!
//! ```text
//! Services (one per process: its MCP servers)
//!  '- service.rs      one per server: reached with the first call, again if it ends
//! Host (one per process: throttle, live runs, inbox.rs over other processes' commands)
//!  '- keeper.rs       stays with one run: takes it up, again if its actors fail
//!      '- run.rs          root of one run: start order, abort handles, end of the run
//!          |- journal.rs      single writer: order, hash chain, fan-out by subject; calls nobody
//!          |- ledger.rs       decides holds
//!          '- coordinator.rs  decides assignments; supervises
//!              |- agent.rs        one per agent that works (`writer`, `writer~2`); tools run beside it, and
//!              |                  what their servers ask goes through questions.rs and the inbox
//!              '- coordinator.rs  one per sub-crew at work
//! ```

pub mod agent;
pub mod coordinator;
pub mod crash;
pub mod durable;
pub mod host;
pub mod inbox;
pub mod journal;
mod keeper;
pub mod ledger;
mod patience;
mod questions;
pub mod run;
pub mod service;
pub mod shell;
pub mod streams;
pub mod texts;
pub mod throttle;
pub mod told;
pub mod work;

use std::sync::Arc;

use crate::core::machine::Sizes;
use crate::ports::clock::Clock;
use crate::ports::files::Files;
use crate::ports::model::Models;
use crate::ports::store::Store;
use crate::ports::tool::Tools;

/// What a run needs from the world.
#[derive(Clone)]
pub struct Ports {
    pub store: Arc<dyn Store>,
    pub models: Arc<dyn Models>,
    pub tools: Arc<dyn Tools>,
    pub files: Arc<dyn Files>,
    pub clock: Arc<dyn Clock>,
    pub sizes: Arc<dyn Sizes>,
    /// Somebody sits before this process: a server's question may wait for them as long as the crew says.
    pub attended: bool,
    /// Where a debug build dies when it is told to.
    pub crash: crash::CrashPoints,
}
