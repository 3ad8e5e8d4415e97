//! A clock that does not jump. Invariant: it never goes back within a process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the epoch as of the start, then by the monotonic clock: so that processes agree, and
/// a clock that is set does not open or close a gate.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    start: Instant,
    start_ms: u64,
}

impl Time {
    pub fn start() -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let start_ms = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        Time { start: Instant::now(), start_ms }
    }
    pub fn now(&self) -> u64 {
        self.start_ms.saturating_add(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
    /// A moment that is not reached yet: rounded up, so that whoever sleeps until then finds it passed.
    pub fn instant(&self, at: u64) -> Instant {
        let later = Duration::from_millis(at.saturating_sub(self.start_ms));
        self.start.checked_add(later).unwrap_or_else(|| self.start + Duration::from_secs(86_400 * 365))
    }
}
