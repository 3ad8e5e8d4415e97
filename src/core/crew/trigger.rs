//! What starts runs, and who is told of them. Invariant: a trigger's templates see the event and nothing else, so that
//! what an event comes to is known from the event alone.

use std::collections::BTreeMap;
use std::fmt;

use super::Crew;
use crate::core::ids::Name;
use crate::core::template::TemplateName;

/// `[triggers.N]`.
#[derive(Clone, Debug)]
pub struct Trigger {
    pub name: Name,
    pub source: TriggerSource,
    /// Inputs of the run, as templates over `event`.
    pub inputs: BTreeMap<Name, TemplateName>,
    pub overlap: Overlap,
    /// Runs of the trigger at once, from 1; more than one under [`Overlap::Parallel`] only.
    pub max_parallel: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerSource {
    /// A file in a folder.
    Watch {
        /// Relative to the project root.
        path: String,
        /// Over paths below the folder; without `/` only files directly in it.
        glob: String,
        /// How long size and time of a file must not have changed, in milliseconds.
        settle_ms: u64,
    },
    /// A time.
    Cron {
        schedule: String,
        /// IANA name; `None`: the machine's.
        timezone: Option<String>,
        /// The latest tick that was missed while nobody watched is run once.
        catch_up: bool,
    },
}

/// What becomes of an event while a run of the same trigger is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It waits for its turn.
    Queue,
    /// It is not run.
    Skip,
    /// It is run at once, up to `max_parallel`.
    Parallel,
}

/// The name under which its templates see what happened.
pub const EVENT: &str = "event";

impl Trigger {
    /// What a run of it has read from the beginning, where it is given anything of a file.
    pub fn brings(&self) -> String {
        format!("the file of the trigger {}", self.name)
    }
}

impl fmt::Display for Trigger {
    /// `scan: files inbox/*.pdf, unchanged for 2000 ms, one after the other`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match &self.source {
            TriggerSource::Watch { path, glob, settle_ms } => {
                write!(f, "files {}/{glob}, unchanged for {settle_ms} ms", path.trim_end_matches('/'))?;
            }
            TriggerSource::Cron { schedule, timezone, catch_up } => {
                let zone = timezone.as_deref().unwrap_or("the machine's time");
                let missed = if *catch_up { ", the latest that was missed is run" } else { "" };
                write!(f, "at `{schedule}` in {zone}{missed}")?;
            }
        }
        match self.overlap {
            Overlap::Queue => f.write_str(", one after the other"),
            Overlap::Skip => f.write_str(", none while one is at work"),
            Overlap::Parallel => write!(f, ", at most {} at once", self.max_parallel),
        }
    }
}

/// `[notify]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    pub command: Vec<String>,
    pub on: Vec<String>,
}

impl Crew {
    /// The trigger that a run with this `--key` belongs to ([`crate::core::trigger::file_key`]).
    pub fn trigger_of(&self, key: &str) -> Option<&Trigger> {
        let name = &key[..key.find([':', '@'])?];
        self.triggers.iter().find(|trigger| trigger.name.as_str() == name)
    }
}
