//! What becomes of an event whose run rests. Invariant: what ends by itself (a day, a rate, a decision)
//! is gone on with by the watch; what only a person can mend is left to that person, and said.

use crate::cli::ends;
use crate::cli::tally::Tally;
use crate::core::event::ParkCause;
use crate::core::ledger::{Day, NodeId};

/// The first wait for a key or a quota to be mended, and the longest.
const MEND_MS: u64 = 60_000;
const MEND_MAX_MS: u64 = 15 * 60_000;

/// When a run that rests goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// At this time, in milliseconds since the epoch.
    At(u64),
    /// When a person has decided.
    Person,
    /// When a person resumes it.
    Left,
}

/// Events of a crew that wait, although the watch has room for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub until_ms: u64,
    pub why: String,
    /// Holds of this kind in a row.
    pub tries: u32,
}

/// When the run goes on; `tries`: holds of its crew in a row.
pub fn again(causes: &[ParkCause], tally: &Tally, now_ms: u64, tries: u32) -> Again {
    let one = |cause: &ParkCause| match cause {
        ParkCause::Rate(limited) => Again::At(limited.until_ms),
        ParkCause::Budget { step } => match tally.no_budget.get(step).map(|why| &why.node) {
            Some(NodeId::Day(day)) => Again::At(day.span_ms().1),
            Some(NodeId::Crew(_) | NodeId::Task(_) | NodeId::Agent(..)) | None => Again::Left,
        },
        ParkCause::Credentials { .. } | ParkCause::Quota { .. } => Again::At(now_ms.saturating_add(mend(tries))),
        ParkCause::Interrupted | ParkCause::Terminated => Again::At(now_ms),
        ParkCause::Deadline | ParkCause::Review { .. } | ParkCause::Asked => Again::Left,
    };
    let all: Vec<Again> = causes.iter().map(one).collect();
    // Somebody has paused it: nothing else counts.
    if causes.contains(&ParkCause::Asked) || all.is_empty() {
        return Again::Left;
    }
    let times = all.iter().filter_map(|again| match again {
        Again::At(at) => Some(*at),
        Again::Person | Again::Left => None,
    });
    if all.contains(&Again::Person) {
        return Again::Person;
    }
    times.max().map_or(Again::Left, Again::At)
}

fn mend(tries: u32) -> u64 {
    MEND_MS.saturating_mul(1 << tries.min(8)).min(MEND_MAX_MS)
}

/// What a run has met that every other event of its crew would meet too. `same_day`: the run has the cap
/// per day that the crew has now.
pub fn hold(causes: &[ParkCause], tally: &Tally, now_ms: u64, tries: u32, same_day: bool) -> Option<Hold> {
    let (until_ms, why) = causes
        .iter()
        .find_map(|cause| match cause {
            ParkCause::Rate(limited) => Some((limited.until_ms, ends::words(tally, cause))),
            ParkCause::Credentials { .. } | ParkCause::Quota { .. } => {
                Some((now_ms.saturating_add(mend(tries)), ends::words(tally, cause)))
            }
            ParkCause::Budget { .. } | ParkCause::Deadline | ParkCause::Review { .. } => None,
            ParkCause::Interrupted | ParkCause::Terminated | ParkCause::Asked => None,
        })
        .or_else(|| dry(tally).filter(|_| same_day))?;
    Some(Hold { until_ms, why, tries: tries + 1 })
}

/// The day's pot is dry: when it is filled again, and the words for it.
pub fn dry(tally: &Tally) -> Option<(u64, String)> {
    tally.no_budget.values().find_map(|why| match why.node {
        NodeId::Day(day) => Some((Day::span_ms(day).1, format!("the money of {day} (`per_day_usd`) is used up"))),
        NodeId::Crew(_) | NodeId::Task(_) | NodeId::Agent(..) => None,
    })
}

/// The provider's key is missing: the next events would not start either.
pub fn unstarted(why: &str, now_ms: u64, tries: u32) -> Hold {
    Hold { until_ms: now_ms.saturating_add(mend(tries)), why: why.to_owned(), tries: tries + 1 }
}
