//! When a person is asked. Invariant: what a crew says of it is decided by the runtime, never by a prompt.

use super::{ToolDef, ToolSource};
use crate::core::chat::Effect;
use crate::core::template::Condition;

/// The builtin that asks a person. It never runs: the answer is its result.
pub const ASK_HUMAN: &str = "ask.human";

/// Which calls of a tool need a person's yes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approval {
    pub always: bool,
    /// Its table says so in so many words: nobody is asked for taint either.
    pub never: bool,
    /// Sees `args`, `tool`, `agent` and `step`.
    pub when: Option<Condition>,
    /// How long a person has, in milliseconds; `None`: for ever.
    pub expires_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskApproval {
    #[default]
    Never,
    /// A person lets the task begin.
    Before,
    /// A person takes the result, or says what is wrong with it.
    After,
}

impl ToolDef {
    /// Is it a question to a person?
    pub fn is_question(&self) -> bool {
        match &self.source {
            ToolSource::Builtin { name, .. } => name == ASK_HUMAN,
            ToolSource::Command { .. } | ToolSource::Http(_) | ToolSource::Mcp { .. } => false,
        }
    }
    /// Is a person asked if whoever calls it has read what is not to be trusted?
    pub fn asks_if_tainted(&self) -> bool {
        self.spec.effect != Effect::Read && !self.approval.never && !self.is_question()
    }
    /// May a run wait for a person because of it, whatever has been read?
    pub fn may_ask(&self) -> bool {
        self.is_question() || self.approval.always || self.approval.when.is_some()
    }
}
