//! The limits of a key and what is left of them. Invariant: of the stated limit, the provider's headers
//! and what its refusals taught, the smallest counts.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::breaker::OPEN_MAX_MS;
use super::{Cause, Limits, Log, Rates, Resource, Stand, Units, Wait};

/// So many calls may leave at once whatever a limit per minute is by the second.
const FREE: i64 = 4;
const DAY_MS: u64 = 24 * 3_600_000;
const HOUR_MS: u64 = 3_600_000;
const WHOLE: u64 = 1000;
const LEAST: u64 = 4;
/// Fewer requests in a window say nothing about a limit per window.
const GUESS_LEAST: u64 = 8;
/// Of what the headers miss, so many steps come back until their reset.
const STEPS: u64 = 4;

/// What happened, as a meter takes it in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Act {
    /// A call was let through.
    Spent {
        at: u64,
        units: Units,
    },
    /// What a call that was let through `at` used, less what was booked for it.
    Corrected {
        at: u64,
        units: Units,
    },
    Answered {
        left: u64,
    },
    Said(Box<Said>),
    /// This model failed several times in a row: nobody calls it until then.
    Opened {
        model: String,
        until: u64,
    },
    /// The trial call of such a model has ended: well, or in a way that says nothing.
    Tried {
        model: String,
        well: bool,
    },
}

/// A provider's words about its limits. `left` is when the call was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Said {
    pub left: u64,
    pub limits: Limits,
    /// Let through after that call, so perhaps not counted in these limits.
    pub ahead: Units,
    /// `Some`: it refused the call.
    pub refused: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    pub retry_after_ms: Option<u64>,
    /// Because of a rate, not because it is overloaded.
    pub rate: bool,
    /// For the jitter.
    pub random: u64,
}

/// A limit of which 80 % are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Near {
    pub resource: Resource,
    pub used: u64,
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Meter {
    log: Log,
    /// Limits that headers stated.
    learned: Rates,
    /// Requests per minute where nothing is known, after a refusal.
    guess: Option<u64>,
    /// Requests by hour.
    day: VecDeque<(u64, u64)>,
    /// Thousandths of the limits that are used: less after refusals that nothing explains.
    part: u64,
    /// The part that lasted.
    good: u64,
    since: u64,
    /// Before the next try with a larger part.
    hold_ms: u64,
    cut_at: u64,
    /// One second's worth per second.
    strict: bool,
    closed_until: u64,
    /// Models that are left alone, and until when.
    #[serde(default)]
    open: BTreeMap<String, u64>,
    /// Refusals without an answer between them, of calls that left after one another.
    hits: u32,
    refused_at: u64,
    near_at: u64,
}

impl Meter {
    pub fn new(window: u64) -> Meter {
        let (part, good) = (WHOLE, WHOLE);
        Meter { log: Log::new(window), part, good, hold_ms: window, ..Meter::default() }
    }

    pub fn is_sane(&self, now: u64, window: u64) -> bool {
        self.log.window() == window && self.log.newest() <= now.saturating_add(2 * window)
    }

    pub fn closed_until(&self) -> u64 {
        self.closed_until
    }

    /// Models that are left alone now.
    pub fn open(&mut self, now: u64) -> &BTreeMap<String, u64> {
        // Nothing stays open for so long: a clock was set back.
        let absurd = now.saturating_add(2 * OPEN_MAX_MS);
        self.open.retain(|_, until| *until > now && *until < absurd);
        &self.open
    }

    /// Is any limit known?
    pub fn limited(&self, rates: &Rates) -> bool {
        rates.any() || self.learned.any() || self.guess.is_some()
    }

    /// The limit in force.
    fn cap(&self, rates: &Rates, resource: Resource) -> Option<i64> {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        let mut cap = least(rates.of(resource), self.learned.of(resource));
        if resource == Resource::Requests && cap.is_none() {
            cap = self.guess;
        }
        let cap = u128::from(cap?) * u128::from(self.part) / u128::from(WHOLE);
        Some(i64::try_from(cap.max(1)).unwrap_or(i64::MAX))
    }

    /// May a call that uses `need` leave now, beside `extra` that may leave too?
    pub fn room(&mut self, now: u64, rates: &Rates, need: Units, extra: Units) -> Result<(), Wait> {
        self.log.prune(now);
        self.climb(now);
        let mut wait = Wait { at: 0, cause: Cause::Requests };
        if now < self.closed_until {
            wait = wait.later(Wait { at: self.closed_until, cause: Cause::Refused });
        }
        if let Some(at) = rates.rpd.and_then(|rpd| self.day_free(now, rpd, need, extra)) {
            wait = wait.later(Wait { at, cause: Cause::Day });
        }
        for resource in Resource::ALL {
            let Some(cap) = self.cap(rates, resource) else { continue };
            // A call larger than the limit itself leaves when nothing else counts.
            let want = need.of(resource).min(cap);
            let fits = |used: Units| used.plus(extra).of(resource).saturating_add(want) <= cap;
            if !fits(self.log.used()) {
                let at = self.log.free_at(fits).max(now + 1);
                wait = wait.later(Wait { at, cause: resource.into() });
            }
            let free = if self.strict { 1 } else { FREE };
            let second = (cap / 60).max(1);
            let calm = |used: Units| {
                let used = used.plus(extra);
                used.requests < free || used.of(resource).saturating_add(want) <= second
            };
            if !calm(self.log.recent(now)) {
                let at = self.log.recent_free_at(now, calm).max(now + 1);
                wait = wait.later(Wait { at, cause: resource.into() });
            }
        }
        if wait.at > now { Err(wait) } else { Ok(()) }
    }

    fn day_free(&mut self, now: u64, rpd: u64, need: Units, extra: Units) -> Option<u64> {
        while self.day.front().is_some_and(|(hour, _)| hour + HOUR_MS + DAY_MS <= now) {
            self.day.pop_front();
        }
        let wanted = u64::try_from(need.plus(extra).requests).unwrap_or(0);
        let mut used = self.day.iter().map(|(_, count)| count).sum::<u64>().saturating_add(wanted);
        let mut at = None;
        for (hour, count) in &self.day {
            if used <= rpd {
                break;
            }
            used = used.saturating_sub(*count);
            at = Some(hour + HOUR_MS + DAY_MS);
        }
        at
    }

    /// A larger part of the limits, once the present one has lasted.
    fn climb(&mut self, now: u64) {
        if (self.part >= WHOLE && self.guess.is_none()) || now.saturating_sub(self.since) < self.hold_ms {
            return;
        }
        self.good = self.part;
        if self.part < WHOLE {
            self.part = (self.part * 5 / 4 + 1).min(WHOLE);
        } else {
            self.guess = self.guess.map(|guess| guess.saturating_mul(5) / 4 + 1);
        }
        self.since = now;
    }

    pub fn apply(&mut self, now: u64, rates: &Rates, act: &Act) {
        self.log.prune(now);
        match act {
            Act::Spent { at, units } => {
                self.log.add(*at, *units);
                self.count_day(*at, units.requests);
            }
            Act::Corrected { at, units } => {
                self.log.correct(now, *at, *units);
                self.count_day(*at, units.requests);
            }
            Act::Answered { left } => {
                if *left >= self.refused_at {
                    self.hits = 0;
                }
            }
            Act::Opened { model, until } => {
                let known = self.open.entry(model.clone()).or_insert(*until);
                *known = (*known).max(*until);
            }
            Act::Tried { model, well } => {
                if *well {
                    self.open.remove(model);
                }
            }
            Act::Said(said) => {
                for resource in Resource::ALL {
                    self.hear(now, rates, resource, said.limits.of(resource), said.ahead.of(resource));
                }
                if let Some(refusal) = said.refused {
                    self.refuse(now, rates, said, refusal);
                }
            }
        }
    }

    fn count_day(&mut self, at: u64, requests: i64) {
        let hour = at / HOUR_MS * HOUR_MS;
        if requests == 0 {
            return;
        }
        if self.day.back().is_none_or(|(last, _)| *last < hour) {
            self.day.push_back((hour, 0));
        }
        if let Some((_, count)) = self.day.iter_mut().rev().find(|(of, _)| *of <= hour) {
            *count = count.saturating_add_signed(requests);
        }
    }

    /// Takes the smaller of the local figure and the provider's.
    fn hear(&mut self, now: u64, rates: &Rates, resource: Resource, stand: Stand, ahead: i64) {
        let window = self.log.window();
        let reset = stand.reset_ms.unwrap_or(window);
        if reset > 2 * window {
            // A limit of a longer time, such as a day's: all that matters is that it is used up.
            if stand.remaining == Some(0) {
                self.closed_until = self.closed_until.max(now.saturating_add(reset.min(DAY_MS)));
            }
            return;
        }
        if let Some(limit) = stand.limit.filter(|limit| *limit > 0) {
            match resource {
                Resource::Requests => self.learned.rpm = Some(limit),
                Resource::Tokens => self.learned.tpm = Some(limit),
                Resource::Input => self.learned.itpm = Some(limit),
                Resource::Output => self.learned.otpm = Some(limit),
            }
        }
        let (Some(remaining), Some(cap)) = (stand.remaining, self.cap(rates, resource)) else { return };
        let theirs = i64::try_from(remaining).unwrap_or(i64::MAX).saturating_sub(ahead).max(0);
        let ours = cap.saturating_sub(self.log.used().of(resource));
        let missing = ours.saturating_sub(theirs);
        if missing <= 0 {
            return;
        }
        for step in 1..=STEPS {
            let back = now.saturating_add(reset * step / STEPS);
            let (before, after) = (missing * (step as i64 - 1) / STEPS as i64, missing * step as i64 / STEPS as i64);
            let part = after - before;
            let units = match resource {
                Resource::Requests => Units { requests: part, ..Units::ZERO },
                Resource::Tokens | Resource::Input => Units { input: part, ..Units::ZERO },
                Resource::Output => Units { output: part, ..Units::ZERO },
            };
            // So that it leaves the window when it is back.
            self.log.add(back.saturating_sub(self.log.span()).min(now), units);
        }
    }

    fn refuse(&mut self, now: u64, rates: &Rates, said: &Said, refusal: Refusal) {
        let window = self.log.window();
        let anew = said.left >= self.refused_at;
        if anew {
            self.hits = self.hits.saturating_add(1);
            self.refused_at = now;
        }
        let doubled = (window / 30).max(1).saturating_mul(1 << self.hits.saturating_sub(1).min(16));
        // After a day it asks again: the whole host, and every later run, keeps to this.
        let wait = refusal.retry_after_ms.unwrap_or(doubled.min(window)).min(DAY_MS);
        let jitter = refusal.random % (wait / 10 + window / 240 + 1);
        self.closed_until = self.closed_until.max(now.saturating_add(wait).saturating_add(jitter));
        // A provider that names a time, or headers that leave no room, explain themselves.
        let told = refusal.retry_after_ms.is_some() && self.hits < 2;
        if refusal.rate && said.left >= self.cut_at && !told {
            let closed = std::mem::take(&mut self.closed_until);
            let one = Units { requests: 1, input: 1, output: 0 };
            if self.room(now, rates, one, Units::ZERO).is_ok() || !said.limits.any() {
                self.cut(now, rates);
            }
            self.closed_until = closed;
        }
    }

    /// The limits are not what they were thought to be.
    fn cut(&mut self, now: u64, rates: &Rates) {
        let used = self.log.used();
        let half = |resource| self.cap(rates, resource).is_some_and(|cap| used.of(resource).saturating_mul(2) >= cap);
        if !self.limited(rates) {
            self.guess = u64::try_from(used.requests / 2).ok().filter(|guess| *guess >= GUESS_LEAST);
        } else if !self.strict && !Resource::ALL.into_iter().any(half) {
            // Far from the limit per minute: it is enforced in smaller portions.
            self.strict = true;
        } else if self.part > self.good {
            self.part = self.good;
            self.hold_ms = self.hold_ms.saturating_mul(2).min(self.log.window().saturating_mul(30));
        } else {
            self.part = (self.part / 2).max(LEAST);
            self.good = self.part;
        }
        (self.since, self.cut_at) = (now, now);
    }

    /// The first limit of which 80 % are used: once per window.
    pub fn near(&mut self, now: u64, rates: &Rates) -> Option<Near> {
        if now < self.near_at {
            return None;
        }
        let used = self.log.used();
        let near = Resource::ALL.into_iter().find_map(|resource| {
            let (used, cap) = (used.of(resource), self.cap(rates, resource)?);
            let full = used.saturating_mul(5) >= cap.saturating_mul(4);
            let whole = |n: i64| u64::try_from(n).unwrap_or(0);
            full.then(|| Near { resource, used: whole(used), limit: whole(cap) })
        })?;
        self.near_at = now.saturating_add(self.log.window());
        Some(near)
    }
}
