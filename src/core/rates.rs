//! How fast a provider may be called. Invariant: what was let through in any window of a limit, as far
//! as it is known, is within that limit; a call that waits here holds nothing.
//!
//! ```text
//! Gate    one per (provider key, model class): concurrency, expected use of a call, a meter or a share of one
//! Meter   limits, what was used in the last window, what the provider said, when it opens again
//! Shared  a meter that the processes of one host have in common: each takes a short lease of what it needs next
//! Breaker one per (provider, model)
//! ```
//!
//! Time is milliseconds since the epoch on a clock that does not jump; a window is a minute unless a
//! test makes it shorter. Limits hold over every window of that length, not per calendar minute: this
//! is the strictest form, so it also satisfies token buckets and fixed windows.

use serde::{Deserialize, Serialize};

mod breaker;
mod gate;
mod log;
mod meter;
mod ratio;
mod shared;

pub use breaker::Breaker;
pub use gate::{Admit, Ended, Gate, Need, Ticket};
pub use log::Log;
pub use meter::{Act, Meter, Near, Said};
pub use shared::{Ill, Lease, Offer, Reply, Shared};

/// Milliseconds of the window that limits per minute are about.
pub const MINUTE_MS: u64 = 60_000;

/// An amount of what limits count. May be negative: a correction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Units {
    #[serde(rename = "r")]
    pub requests: i64,
    #[serde(rename = "i")]
    pub input: i64,
    #[serde(rename = "o")]
    pub output: i64,
}

impl Units {
    pub const ZERO: Units = Units { requests: 0, input: 0, output: 0 };

    pub fn plus(self, other: Units) -> Units {
        Units {
            requests: self.requests.saturating_add(other.requests),
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
        }
    }
    pub fn minus(self, other: Units) -> Units {
        Units {
            requests: self.requests.saturating_sub(other.requests),
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
        }
    }
    /// Nothing below zero.
    pub fn floored(self) -> Units {
        Units { requests: self.requests.max(0), input: self.input.max(0), output: self.output.max(0) }
    }
    pub fn covers(self, need: Units) -> bool {
        self.requests >= need.requests && self.input >= need.input && self.output >= need.output
    }
    pub fn of(self, resource: Resource) -> i64 {
        match resource {
            Resource::Requests => self.requests,
            Resource::Tokens => self.input.saturating_add(self.output),
            Resource::Input => self.input,
            Resource::Output => self.output,
        }
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    Requests,
    /// Input and output together.
    Tokens,
    Input,
    Output,
}

impl Resource {
    pub const ALL: [Resource; 4] = [Resource::Requests, Resource::Tokens, Resource::Input, Resource::Output];
}

/// Limits of a key: per window, but for `rpd`. `None`: no limit is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rates {
    pub rpm: Option<u64>,
    /// Input and output jointly.
    pub tpm: Option<u64>,
    pub itpm: Option<u64>,
    pub otpm: Option<u64>,
    /// Requests in 24 hours.
    pub rpd: Option<u64>,
}

impl Rates {
    pub fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Requests => self.rpm,
            Resource::Tokens => self.tpm,
            Resource::Input => self.itpm,
            Resource::Output => self.otpm,
        }
    }
    /// Is any limit known?
    pub fn any(&self) -> bool {
        *self != Rates::default()
    }
}

/// What a provider's headers say. Everything is optional; resets are milliseconds from now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    pub requests: Stand,
    pub tokens: Stand,
    pub input: Stand,
    pub output: Stand,
}

impl Limits {
    pub fn of(&self, resource: Resource) -> Stand {
        match resource {
            Resource::Requests => self.requests,
            Resource::Tokens => self.tokens,
            Resource::Input => self.input,
            Resource::Output => self.output,
        }
    }
    pub fn any(&self) -> bool {
        *self != Limits::default()
    }
}

/// How one limit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stand {
    pub remaining: Option<u64>,
    pub limit: Option<u64>,
    /// Until it is whole again.
    pub reset_ms: Option<u64>,
}

/// Why a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Requests,
    Tokens,
    Input,
    Output,
    /// Requests per day.
    Day,
    Concurrency,
    /// The provider refused and said, or did not say, when to come back.
    Refused,
    /// Failures in a row of this model.
    Breaker,
    /// Other processes use the same key: the next exchange with them.
    Share,
}

impl Cause {
    pub fn words(self) -> &'static str {
        match self {
            Cause::Requests => "requests per minute",
            Cause::Tokens => "tokens per minute",
            Cause::Input => "input tokens per minute",
            Cause::Output => "output tokens per minute",
            Cause::Day => "requests per day",
            Cause::Concurrency => "calls at once",
            Cause::Refused => "refused by the provider, which asks to wait",
            Cause::Breaker => "the model failed several times in a row",
            Cause::Share => "the limit is shared with other processes",
        }
    }
}

impl From<Resource> for Cause {
    fn from(resource: Resource) -> Cause {
        match resource {
            Resource::Requests => Cause::Requests,
            Resource::Tokens => Cause::Tokens,
            Resource::Input => Cause::Input,
            Resource::Output => Cause::Output,
        }
    }
}

/// Not before `at`; `u64::MAX` if only another call's end can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wait {
    pub at: u64,
    pub cause: Cause,
}

impl Wait {
    fn later(self, other: Wait) -> Wait {
        if other.at > self.at { other } else { self }
    }
}

#[cfg(test)]
mod tests;
