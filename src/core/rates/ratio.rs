//! What a call is expected to use of its worst case. Invariant: between nothing and the worst case;
//! without experience it is the worst case.

use serde::{Deserialize, Serialize};

/// Mean and mean deviation of use over bound, in thousandths, each a running average over the last
/// eight or so calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ratio {
    seen: bool,
    mean: i64,
    deviation: i64,
}

impl Ratio {
    /// Rather too much than too little: the mean and two mean deviations.
    pub fn likely(&self, bound: u64) -> i64 {
        let bound = i64::try_from(bound).unwrap_or(i64::MAX);
        if !self.seen {
            return bound;
        }
        let part = self.mean.saturating_add(self.deviation.saturating_mul(2)).saturating_add(5).clamp(0, 1000);
        bound.saturating_mul(part) / 1000
    }

    pub fn learn(&mut self, bound: u64, used: u64) {
        if bound == 0 {
            return;
        }
        let part = u128::from(used).saturating_mul(1000) / u128::from(bound);
        let part = i64::try_from(part.min(4000)).unwrap_or(4000);
        if !self.seen {
            *self = Ratio { seen: true, mean: part, deviation: part / 4 };
            return;
        }
        let off = part - self.mean;
        self.mean += off / 8;
        self.deviation += (off.abs() - self.deviation) / 4;
    }
}
