//! The journal's public vocabulary. Invariant: an event is a fact; it is written once, never
//! changed, and whoever folds it may not disagree.
//!
//! Kinds (`task.finished`) are the names of `--json`. A payload is `{"v":1,"type":KIND,…}`; texts are
//! blob ids. Events marked *outside* bring in what the world decided; every other one is what a
//! machine decided, and replay must derive its exact bytes again ([`Event::is_outside`]).

use super::ids::{AgentRef, Step};

mod call;
mod codec;
mod interrupt;
mod run;
mod subjects;
mod task;

pub use call::{AlertAt, Answered, CallEvent, Held, LedgerEvent, LostCause, Outcome, ToolEvent, ToolRefusal};
pub use codec::BadEvent;
pub use interrupt::{Decision, InterruptEvent, InterruptKind, Raised, Why};
pub use run::{ParkCause, PauseCause, RateLimited, RunEnd, RunEvent, Started};
pub use subjects::Scopes;
pub use task::{
    ErrorClass, Msg, OwnTurn, Replaced, Retold, RoundOutcome, TaskError, TaskEvent, TaskResult, TaskStatus, Variation,
    Work,
};

/// Format of payloads. A newer one is printed, never resumed.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Run(RunEvent),
    Task(TaskEvent),
    Call(CallEvent),
    Tool(ToolEvent),
    Interrupt(InterruptEvent),
    Ledger(LedgerEvent),
}

/// Who folds an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Every machine of the run.
    All,
    /// The coordinator of a scope.
    Plan(Step),
    Agent(AgentRef),
    Ledger,
}
