//! The money of a day, shared by every run of a crew in a state folder. Invariant: what a run has
//! settled, held and in doubt of a day never passes what it was granted of it, and what all runs were
//! granted never passes the day's cap (except by an overrun, which is booked in full).
//!
//! ```text
//! shell: what the next hold needs beyond the grant -> Store::pot (one transaction over all runs)
//!        -> budget.day {granted, most}, from outside -> this machine decides the hold within it
//! ```
//!
//! What other runs have is not in this run's journal, so it comes from outside, as an event, before
//! the hold that relies on it. A grant is an absolute figure and never an increment: after a crash the
//! store's row is at or above what the journal tells, and asking again leaks nothing. Days are UTC.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{HoldRequest, Ledger, NodeId, Sums};
use crate::core::crew::Crew;
use crate::core::ids::BadId;
use crate::core::machine::{Control, Refusal};
use crate::core::money::{Amount, NanoUsd};

const DAY_MS: u64 = 86_400_000;

/// A day of the UTC calendar: days since 1970-01-01. As text, `2026-11-20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(u32);

impl Day {
    pub fn of_ms(at_ms: u64) -> Day {
        Day(u32::try_from(at_ms / DAY_MS).unwrap_or(u32::MAX))
    }
    /// Its first moment and the next day's.
    pub fn span_ms(self) -> (u64, u64) {
        (u64::from(self.0) * DAY_MS, (u64::from(self.0) + 1) * DAY_MS)
    }
}

/// Days before each month of a year that begins in March.
fn march(month: u64) -> u64 {
    (153 * month + 2) / 5
}

impl fmt::Display for Day {
    /// The civil calendar from a count of days; a year begins in March, so that leap days come last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = u64::from(self.0) + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let (day, civil) = (of_year - march(month) + 1, if month < 10 { month + 3 } else { month - 9 });
        write!(f, "{:04}-{civil:02}-{day:02}", era * 400 + year + u64::from(civil <= 2))
    }
}

impl FromStr for Day {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Day, BadId> {
        let read = || {
            let mut parts = text.split('-').map(|part| part.parse::<u64>().ok());
            let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
            let moved = year.checked_sub(u64::from(month <= 2)).filter(|_| (1..=12).contains(&month))?;
            let (era, of_era) = (moved / 400, moved % 400);
            let of_year = march((month + 9) % 12) + day.checked_sub(1)?;
            let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
            let day = Day(u32::try_from(days.checked_sub(719_468)?).ok()?);
            (day.to_string() == text).then_some(day)
        };
        let wrong = || BadId { what: "day", found: text.to_owned(), expected: "a day such as 2026-11-20" };
        read().ok_or_else(wrong)
    }
}
impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the run has of a day, as `budget.day` last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct DayShare {
    pub day: Day,
    /// The run's holds and bookings of the day may reach this.
    pub granted: NanoUsd,
    /// The most it could be granted if every open hold of the other runs settled at zero.
    pub most: NanoUsd,
    /// False after a pause: the grant was given back, and the store is asked anew.
    pub open: bool,
}

/// What to ask the store for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayAsk {
    pub day: Day,
    pub cap: NanoUsd,
    /// Settled and in doubt: what the run will have used of the day in any case.
    pub firm: NanoUsd,
    /// What the grant is to be.
    pub want: NanoUsd,
}

/// A run's row of a day's pot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PotRow {
    pub granted: NanoUsd,
    pub firm: NanoUsd,
}

/// How a pot is divided: the asking run's row after the ask, and the most it could be granted.
/// `others` are the other runs' rows; true where a live process may still give some of it back.
pub fn divide(ask: &DayAsk, own: PotRow, others: impl IntoIterator<Item = (PotRow, bool)>) -> (PotRow, NanoUsd) {
    let (mut granted, mut least) = (NanoUsd::ZERO, NanoUsd::ZERO);
    for (row, alive) in others {
        granted = granted.plus(row.granted);
        least = least.plus(if alive { row.firm } else { row.granted });
    }
    let fits = ask.want <= own.granted || granted.plus(ask.want) <= ask.cap;
    let reach = if fits { ask.want } else { own.granted };
    // What is booked is booked, within the cap or not.
    (PotRow { granted: reach.max(ask.firm), firm: ask.firm }, ask.cap.minus(least))
}

impl Ledger {
    fn day_sums(&self, day: Day) -> Sums {
        self.nodes.get(&NodeId::Day(day)).cloned().unwrap_or_default()
    }

    /// What must be asked before the request can be decided; `None` if its crew has no cap per day, it
    /// costs no money, or the grant is large enough. The clock may jump back, the day does not.
    pub fn day_ask(&self, crew: &Crew, request: &HoldRequest, today: Day) -> Option<DayAsk> {
        let (cap, need) = (crew.budget.per_day?, request.need().usd);
        if need == NanoUsd::ZERO || self.control.is_halted() || self.holds.contains_key(&request.call) {
            return None;
        }
        let day = self.day.map_or(today, |share| share.day.max(today));
        let sums = self.day_sums(day);
        let want = sums.used().usd.plus(need);
        let granted = self.day.filter(|share| share.open && share.day == day).map(|share| share.granted);
        granted.is_none_or(|granted| want > granted).then(|| DayAsk { day, cap, firm: sums.firm().usd, want })
    }

    /// What the run could give back of its grant, as the ask that does so.
    pub fn day_rest(&self, crew: &Crew) -> Option<DayAsk> {
        let open = |share: &DayShare| share.open && self.control != Control::Ended;
        let (cap, share) = (crew.budget.per_day?, self.day.filter(open)?);
        let sums = self.day_sums(share.day);
        let (firm, want) = (sums.firm().usd, sums.used().usd);
        (want < share.granted).then_some(DayAsk { day: share.day, cap, firm, want })
    }

    pub fn day_most(&self) -> Option<NanoUsd> {
        self.day.map(|share| share.most)
    }

    /// What the run has used of its latest day, whatever it was granted.
    pub fn day_used(&self, crew: &Crew) -> Option<DayAsk> {
        let (cap, share) = (crew.budget.per_day?, self.day?);
        let sums = self.day_sums(share.day);
        Some(DayAsk { day: share.day, cap, firm: sums.firm().usd, want: sums.used().usd })
    }

    /// Does an answer of the store change what is decided, now or for `ask`?
    pub fn day_news(&self, ask: &DayAsk, granted: NanoUsd, most: NanoUsd) -> bool {
        let Some(old) = self.day.filter(|old| old.open && old.day == ask.day) else { return true };
        let need = ask.want.minus(self.day_sums(ask.day).used().usd);
        let over = |most: NanoUsd| ask.firm.plus(need) > most;
        granted > old.granted || over(most) != over(old.most)
    }

    /// The share that a call of `need` is decided by.
    ///
    /// # Errors
    /// `NotDue` while the store has not been asked: the shell does so first.
    pub(super) fn day_share(&self, crew: &Crew, need: Amount) -> Result<Option<DayShare>, Refusal> {
        if crew.budget.per_day.is_none() || need.usd == NanoUsd::ZERO {
            return Ok(None);
        }
        let unknown = || Refusal::NotDue("nothing is known of the day's budget".into());
        self.day.filter(|share| share.open).map(Some).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar_and_read_back() {
        for (ms, text) in [(0, "1970-01-01"), (951_782_400_000, "2000-02-29"), (1_795_219_199_999, "2026-11-20")] {
            assert_eq!(Day::of_ms(ms).to_string(), text);
        }
        for day in (0..200_000).step_by(17).map(Day) {
            assert_eq!(day.to_string().parse::<Day>().unwrap(), day);
        }
        for text in ["2026-02-29", "2026-13-01", "2026-1-1", "1969-12-31", "", "today", "2026-11-20-1"] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
        assert_eq!(Day::of_ms(1_795_176_045_123).span_ms(), (1_795_132_800_000, 1_795_219_200_000));
    }

    #[test]
    fn a_pot_is_never_divided_beyond_its_cap() {
        let row = |granted, firm| PotRow { granted: NanoUsd(granted), firm: NanoUsd(firm) };
        let ask = |want, firm| DayAsk { day: Day(1), cap: NanoUsd(100), firm: NanoUsd(firm), want: NanoUsd(want) };
        let others = || [(row(40, 10), true), (row(20, 5), false)];
        assert_eq!(divide(&ask(40, 3), row(0, 0), others()), (row(40, 3), NanoUsd(70)));
        assert_eq!(divide(&ask(41, 3), row(7, 0), others()), (row(7, 3), NanoUsd(70)), "one too many");
        assert_eq!(divide(&ask(3, 3), row(7, 0), others()), (row(3, 3), NanoUsd(70)), "given back");
        assert_eq!(divide(&ask(60, 60), row(40, 0), others()), (row(60, 60), NanoUsd(70)), "an overrun is booked");
        assert_eq!(divide(&ask(30, 0), row(50, 0), [(row(90, 0), true)]).0, row(30, 0), "less is always allowed");
    }
}
