//! The times of a schedule, as they come due. Invariant: a tick is given out at most once by one
//! [`Ticks`], never before its time, and only the latest of those that were missed.

/// A tick that is at most so late counts as met: a process was killed and started again in between.
pub const LATE_MS: u64 = 60_000;
/// Missed ticks that are counted; then there are "at least" so many.
const COUNTED: u64 = 1000;

/// When a schedule's ticks are, in milliseconds since the epoch.
pub trait Calendar {
    /// The first after `ms`; `None` if there is none any more.
    fn after(&self, ms: u64) -> Option<u64>;
    /// The last up to `ms`, that included.
    fn upto(&self, ms: u64) -> Option<u64>;
}

/// What is due at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The tick to be run.
    pub tick: Option<u64>,
    /// Ticks that went by and are not run; 1000 means at least so many.
    pub missed: u64,
}

/// One schedule, as its ticks come due.
#[derive(Debug)]
pub struct Ticks {
    /// The tick that was looked at last, or the moment the watch began.
    last_ms: u64,
    catch_up: bool,
    /// The tick that is waited for, once it was looked up.
    next: Option<Option<u64>>,
}

impl Ticks {
    /// `served_ms` is the latest tick that has a run; without one, nothing before `now_ms` counts.
    pub fn new(now_ms: u64, served_ms: Option<u64>, catch_up: bool) -> Ticks {
        Ticks { last_ms: served_ms.unwrap_or(now_ms), catch_up, next: None }
    }

    /// What has come due. A clock that jumps back gives nothing twice.
    pub fn look(&mut self, calendar: &dyn Calendar, now_ms: u64) -> Due {
        let next = *self.next.get_or_insert_with(|| calendar.after(self.last_ms));
        if next.is_none_or(|next| next > now_ms) {
            return Due::default();
        }
        let Some(latest) = calendar.upto(now_ms).filter(|tick| *tick > self.last_ms) else { return Due::default() };
        let (mut gone, mut at) = (0, self.last_ms);
        while let Some(tick) = calendar.after(at).filter(|tick| *tick < latest && gone < COUNTED) {
            gone += 1;
            at = tick;
        }
        (self.last_ms, self.next) = (latest, None);
        let met = self.catch_up || now_ms.saturating_sub(latest) <= LATE_MS;
        Due { tick: met.then_some(latest), missed: (gone + u64::from(!met)).min(COUNTED) }
    }

    pub fn next(&self, calendar: &dyn Calendar) -> Option<u64> {
        calendar.after(self.last_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tick each minute.
    struct Minutes;
    impl Calendar for Minutes {
        fn after(&self, ms: u64) -> Option<u64> {
            Some((ms / 60_000 + 1) * 60_000)
        }
        fn upto(&self, ms: u64) -> Option<u64> {
            Some(ms / 60_000 * 60_000)
        }
    }
    const M: u64 = 60_000;

    fn due(tick: Option<u64>, missed: u64) -> Due {
        Due { tick, missed }
    }

    #[test]
    fn each_tick_is_given_out_once_and_not_before_its_time() {
        let mut ticks = Ticks::new(10 * M + 1, None, false);
        assert_eq!(ticks.look(&Minutes, 10 * M + 2), due(None, 0), "what was before the start does not count");
        assert_eq!(ticks.look(&Minutes, 11 * M - 1), due(None, 0));
        assert_eq!(ticks.look(&Minutes, 11 * M), due(Some(11 * M), 0));
        assert_eq!(ticks.look(&Minutes, 11 * M + 9), due(None, 0));
        assert_eq!(ticks.look(&Minutes, 9 * M), due(None, 0), "the clock jumped back");
        assert_eq!(ticks.look(&Minutes, 11 * M + 30), due(None, 0));
        assert_eq!(ticks.look(&Minutes, 12 * M + 5), due(Some(12 * M), 0));
        assert_eq!(ticks.next(&Minutes), Some(13 * M));
    }

    #[test]
    fn of_missed_ticks_the_latest_is_run_if_it_is_fresh_or_asked_for() {
        let mut ticks = Ticks::new(100 * M, Some(90 * M), false);
        assert_eq!(ticks.look(&Minutes, 100 * M + 5), due(Some(100 * M), 9), "killed and started again at the tick");
        struct Hours;
        impl Calendar for Hours {
            fn after(&self, ms: u64) -> Option<u64> {
                Some((ms / (60 * M) + 1) * 60 * M)
            }
            fn upto(&self, ms: u64) -> Option<u64> {
                Some(ms / (60 * M) * 60 * M)
            }
        }
        let (start, now) = (Some(60 * M), 60 * M * 5 + 10 * M);
        assert_eq!(Ticks::new(now, start, false).look(&Hours, now), due(None, 4));
        assert_eq!(Ticks::new(now, start, true).look(&Hours, now), due(Some(300 * M), 3));
        assert_eq!(Ticks::new(now, None, true).look(&Hours, now), due(None, 0), "never served: nothing was missed");
        let long = 60 * M * 5000;
        assert_eq!(Ticks::new(long, start, false).look(&Hours, long + LATE_MS + 1).missed, 1000);
    }
}
