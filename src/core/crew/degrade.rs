//! What a run gives up when its budget is used up (`degrade`). Invariant: steps are given up in the order of
//! the file, for good, each at the first call that has no budget left; what the first `n` of them change is a
//! pure function of the crew and `n`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Agent, Budget, Model};
use crate::core::ids::Name;

#[derive(Clone, Debug)]
pub enum Degrade {
    /// Agents of the crew's own file call this model, whatever their tasks and `retry` say. `models` has it
    /// for each of them, with the agent's settings laid over it.
    Model { alias: String, agent: Option<Name>, models: BTreeMap<Name, Arc<Model>> },
    /// No answer is longer, in tokens; sub-crews' too.
    MaxOutput(u64),
    /// Optional tasks that have not begun are skipped; sub-crews' too.
    SkipOptional,
}

impl fmt::Display for Degrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Degrade::Model { alias, agent: None, .. } => write!(f, "model = \"{alias}\""),
            Degrade::Model { alias, agent: Some(agent), .. } => write!(f, "agent = \"{agent}\", model = \"{alias}\""),
            Degrade::MaxOutput(tokens) => write!(f, "max_output = {tokens}"),
            Degrade::SkipOptional => f.write_str("skip = \"optional\""),
        }
    }
}

impl Budget {
    fn given_up(&self, steps: u32) -> &[Degrade] {
        &self.degrade[..self.degrade.len().min(steps as usize)]
    }

    /// The model that an agent of the crew's own file calls after so many steps; `None`: its own.
    pub fn model_after(&self, steps: u32, agent: &Name) -> Option<&Arc<Model>> {
        self.given_up(steps).iter().rev().find_map(|step| match step {
            Degrade::Model { models, .. } => models.get(agent),
            Degrade::MaxOutput(_) | Degrade::SkipOptional => None,
        })
    }

    /// The longest answer after so many steps, in tokens.
    pub fn output_after(&self, steps: u32) -> u64 {
        let limits = self.given_up(steps).iter().filter_map(|step| match step {
            Degrade::MaxOutput(tokens) => Some(*tokens),
            Degrade::Model { .. } | Degrade::SkipOptional => None,
        });
        limits.min().unwrap_or(u64::MAX)
    }

    /// Are optional tasks skipped after so many steps?
    pub fn skips_after(&self, steps: u32) -> bool {
        self.given_up(steps).iter().any(|step| matches!(step, Degrade::SkipOptional))
    }

    /// Every step given up.
    pub fn steps(&self) -> u32 {
        u32::try_from(self.degrade.len()).unwrap_or(u32::MAX)
    }

    /// Models that some step may give to an agent.
    pub fn models_of<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = &'a Arc<Model>> {
        self.degrade.iter().filter_map(|step| match step {
            Degrade::Model { models, .. } => models.get(&agent.name),
            Degrade::MaxOutput(_) | Degrade::SkipOptional => None,
        })
    }
}
