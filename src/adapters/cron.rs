//! Cron schedules in civil time. Invariant: a schedule that was read has a next tick; a clock change
//! neither skips nor repeats a tick of a fixed time.
//!
//! When clocks go forward, a fixed time that does not exist (`30 2 * * *`) is met at the first moment
//! after the gap; when they go back, it is met once, the first time. `*` and steps in the hours or
//! minutes mean every such moment, so they are met in both halves of a repeated hour.

use std::str::FromStr;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::core::trigger::Calendar;

pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Five fields (minute, hour, day of month, month, day of week) or six with seconds in front; the
    /// machine's time zone unless one is named.
    pub fn new(schedule: &str, timezone: Option<&str>) -> Result<Schedule, String> {
        let cron = Cron::from_str(schedule).map_err(|why| {
            format!("`{schedule}` is not a schedule: {why}; five fields, minute to day of week, such as `0 7 * * 1-5`")
        })?;
        let schedule = Schedule { cron, zone: zone(timezone)? };
        match schedule.after(Timestamp::now().as_millisecond().try_into().unwrap_or(0)) {
            Some(_) => Ok(schedule),
            None => Err("there is no such time: the schedule never comes due".to_owned()),
        }
    }

    /// The ticks after `from`, up to and with `to`.
    fn between(&self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let next = move |at: u64| self.after(at).filter(|next| *next <= to);
        std::iter::successors(next(from), move |at| next(*at))
    }

    fn at(&self, ms: u64) -> Option<Zoned> {
        let stamp = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        Some(stamp.to_zoned(self.zone.clone()))
    }
}

fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else { return Ok(TimeZone::system()) };
    TimeZone::get(name).map_err(|_| {
        format!("`{name}` is not a time zone that this machine knows; write it like `Europe/Berlin`, or `UTC`")
    })
}

fn ms_of(time: &Zoned) -> Option<u64> {
    u64::try_from(time.timestamp().as_millisecond()).ok()
}

impl Calendar for Schedule {
    fn after(&self, ms: u64) -> Option<u64> {
        // Whole seconds: a search from 07:00:00.5 must not find 07:00:00 again.
        let from = self.at(ms / 1000 * 1000)?;
        ms_of(&self.cron.find_next_occurrence(&from, false).ok()?)
    }
    fn upto(&self, ms: u64) -> Option<u64> {
        // The last before the next second is the last up to this one. Looking back, a tick that a gap has
        // moved is not found at its moment; looking forward it is.
        let from = self.at(ms / 1000 * 1000)?;
        let found = ms_of(&self.cron.find_previous_occurrence(&from, true).ok()?)?;
        Some(self.between(found, ms).last().unwrap_or(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::trigger::{Due, Ticks};

    fn ms(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }
    /// The ticks after a moment up to another, in UTC.
    fn between(schedule: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let schedule = Schedule::new(schedule, Some(zone)).unwrap();
        let ticks = schedule.between(ms(from), ms(to)).inspect(|tick| {
            assert_eq!(schedule.upto(*tick), Some(*tick), "a tick is the last up to itself");
            assert_eq!(schedule.upto(*tick + 999), Some(*tick));
        });
        ticks.map(text).collect()
    }
    fn text(ms: u64) -> String {
        Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap().to_string()
    }
    /// As a watch meets them that looks every minute.
    fn met(schedule: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let schedule = Schedule::new(schedule, Some(zone)).unwrap();
        let (mut ticks, mut now, mut found) = (Ticks::new(ms(from), None, false), ms(from), Vec::new());
        while now <= ms(to) {
            let Due { tick, missed } = ticks.look(&schedule, now);
            assert_eq!(missed, 0);
            found.extend(tick.map(text));
            now += 60_000;
        }
        found
    }

    #[test]
    fn working_days_at_seven_are_civil_time_over_a_clock_change() {
        // Berlin: UTC+1 until Sunday 2026-03-29, then UTC+2.
        let found = between("0 7 * * 1-5", "Europe/Berlin", "2026-03-26T12:00:00Z", "2026-04-01T12:00:00Z");
        assert_eq!(
            found,
            ["2026-03-27T06:00:00Z", "2026-03-30T05:00:00Z", "2026-03-31T05:00:00Z", "2026-04-01T05:00:00Z"]
        );
        // New York: UTC-4 until Sunday 2026-11-01, then UTC-5.
        let found = between("0 7 * * *", "America/New_York", "2026-10-31T00:00:00Z", "2026-11-02T23:00:00Z");
        assert_eq!(found, ["2026-10-31T11:00:00Z", "2026-11-01T12:00:00Z", "2026-11-02T12:00:00Z"]);
    }

    #[test]
    fn a_time_that_does_not_exist_is_met_after_the_gap_and_one_that_comes_twice_once() {
        for how in [between, met] {
            // 02:30 on 2026-03-29: clocks go from 02:00 to 03:00 at 01:00 UTC.
            let found = how("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
            assert_eq!(found, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
            // 02:30 on 2026-10-25: clocks go from 03:00 to 02:00 at 01:00 UTC, it is 02:30 at 00:30 and 01:30 UTC.
            let found = how("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
            assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        }
    }

    #[test]
    fn every_half_hour_stays_every_half_hour_over_both_changes() {
        for day in ["2026-03-29", "2026-10-25"] {
            let found =
                between("*/30 * * * *", "Europe/Berlin", &format!("{day}T00:00:00Z"), &format!("{day}T03:00:00Z"));
            let halves: Vec<String> = ["00:30", "01:00", "01:30", "02:00", "02:30", "03:00"]
                .iter()
                .map(|at| format!("{day}T{at}:00Z"))
                .collect();
            assert_eq!(found, halves);
        }
    }

    #[test]
    fn month_ends_and_leap_days_are_those_of_the_calendar() {
        let found = between("0 0 31 * *", "UTC", "2026-01-01T00:00:00Z", "2026-08-01T00:00:00Z");
        assert_eq!(
            found,
            ["2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z", "2026-07-31T00:00:00Z"]
        );
        let found = between("0 12 L * *", "UTC", "2027-12-15T00:00:00Z", "2028-03-15T00:00:00Z");
        assert_eq!(found, ["2027-12-31T12:00:00Z", "2028-01-31T12:00:00Z", "2028-02-29T12:00:00Z"]);
        let found = between("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2033-01-01T00:00:00Z");
        assert_eq!(found, ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_what_to_write() {
        let wrong = |schedule: &str, zone: Option<&str>| Schedule::new(schedule, zone).err().unwrap();
        for schedule in ["", "7 o'clock", "61 * * * *", "* * * *", "0 7 * * 9"] {
            assert!(wrong(schedule, None).contains("such as `0 7 * * 1-5`"), "{schedule}");
        }
        assert!(wrong("0 0 30 2 *", Some("UTC")).contains("never comes due"));
        assert!(wrong("0 7 * * *", Some("Berlin/Europe")).contains("Europe/Berlin"));
    }
}
