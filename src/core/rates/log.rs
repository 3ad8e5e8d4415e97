//! What was used, and when. Invariant: an amount counts from the moment it was let through until a
//! window and its margin later; `sum` is the sum of the slots.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Units;

/// A window is kept in so many slots at most.
const GRAINS: u64 = 2400;
/// A request leaves a little before the server counts it: an amount stays this part of a window longer.
const MARGIN: u64 = 120;
/// The short window is this part of the long one: providers enforce a limit per minute also per second.
const SHORT: u64 = 60;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Log {
    window: u64,
    slots: VecDeque<Slot>,
    sum: Units,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Slot {
    at: u64,
    #[serde(flatten)]
    units: Units,
}

impl Log {
    pub fn new(window: u64) -> Log {
        Log { window: window.max(1), slots: VecDeque::new(), sum: Units::ZERO }
    }

    pub fn window(&self) -> u64 {
        self.window
    }
    /// How long an amount counts.
    pub fn span(&self) -> u64 {
        self.window + self.window / MARGIN
    }
    fn short(&self) -> u64 {
        (self.window / SHORT).max(1)
    }

    /// The end of the slot that `at` falls in: an amount never counts for less than its span.
    fn stamp(&self, at: u64) -> u64 {
        let grain = (self.window / GRAINS).max(1);
        at.div_ceil(grain).saturating_mul(grain)
    }

    /// When the last amount was booked.
    pub fn newest(&self) -> u64 {
        self.slots.back().map_or(0, |slot| slot.at)
    }

    pub fn prune(&mut self, now: u64) {
        let span = self.span();
        while let Some(slot) = self.slots.front().filter(|slot| slot.at.saturating_add(span) <= now) {
            self.sum = self.sum.minus(slot.units);
            self.slots.pop_front();
        }
    }

    /// Books an amount, or corrects what was booked at `at`.
    pub fn add(&mut self, at: u64, units: Units) {
        let at = self.stamp(at);
        self.sum = self.sum.plus(units);
        match self.slots.back_mut() {
            Some(last) if last.at == at => {
                last.units = last.units.plus(units);
                return;
            }
            Some(last) if last.at > at => {}
            Some(_) | None => {
                self.slots.push_back(Slot { at, units });
                return;
            }
        }
        match self.slots.binary_search_by_key(&at, |slot| slot.at) {
            Ok(found) => self.slots[found].units = self.slots[found].units.plus(units),
            Err(place) => self.slots.insert(place, Slot { at, units }),
        }
    }

    /// Corrects an amount that still counts; what has left the window needs no correction.
    pub fn correct(&mut self, now: u64, at: u64, units: Units) {
        if self.stamp(at).saturating_add(self.span()) > now {
            self.add(at, units);
        }
    }

    /// In the window that ends now. Call [`Log::prune`] first.
    pub fn used(&self) -> Units {
        self.sum
    }

    /// In the short window that ends now.
    pub fn recent(&self, now: u64) -> Units {
        let short = self.short();
        let slots = self.slots.iter().rev().take_while(|slot| slot.at.saturating_add(short) > now);
        slots.fold(Units::ZERO, |sum, slot| sum.plus(slot.units))
    }

    /// When what is left in the window satisfies `fits`. An empty window is the last offer.
    pub fn free_at(&self, fits: impl Fn(Units) -> bool) -> u64 {
        Self::when(self.slots.iter(), self.sum, self.span(), fits)
    }

    /// The same for the short window.
    pub fn recent_free_at(&self, now: u64, fits: impl Fn(Units) -> bool) -> u64 {
        let short = self.short();
        let first = self.slots.partition_point(|slot| slot.at.saturating_add(short) <= now);
        Self::when(self.slots.range(first..), self.recent(now), short, fits)
    }

    fn when<'a>(slots: impl Iterator<Item = &'a Slot>, mut sum: Units, span: u64, fits: impl Fn(Units) -> bool) -> u64 {
        let mut at = 0;
        for slot in slots {
            if fits(sum) {
                break;
            }
            sum = sum.minus(slot.units);
            at = slot.at.saturating_add(span);
        }
        at
    }
}
