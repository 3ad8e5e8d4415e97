//! The machine's clock and randomness. Invariant: read here and nowhere else, so that a test can
//! stand in for both.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ports::clock::Clock;

pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // A clock before 1970 is a broken clock; nothing decided depends on it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
    fn random(&self) -> u64 {
        // Without an entropy source the time must do: ids are also checked for uniqueness by the store.
        getrandom::u64().unwrap_or_else(|_| self.now_ms().wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}
