//! Failures in a row of one model. Invariant: while it is open nobody calls; when its time is over
//! exactly one call tries, of all processes of a host, and only that call's end decides.

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// First time it stays open; doubles with every probe that fails.
const OPEN_MS: u64 = 5_000;
pub(super) const OPEN_MAX_MS: u64 = 60_000;
/// Clocks of two processes differ by less: what is over by one of them may not be by the other.
const SKEW_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Breaker {
    failures: u32,
    /// Open until then.
    until: Option<u64>,
    last_ms: u64,
    /// A probe is under way.
    probing: bool,
    /// The other processes leave the probe to this one, until then.
    leave: Option<u64>,
    /// They know that it is open, or have said so.
    shared: bool,
}

impl Breaker {
    /// `Err`: not before then; `u64::MAX` while a probe is under way.
    pub fn may(&self, now: u64) -> Result<(), u64> {
        match self.until {
            None => Ok(()),
            Some(until) if now < until => Err(until),
            Some(_) if self.probing => Err(u64::MAX),
            Some(_) => Ok(()),
        }
    }
    /// A call leaves.
    pub fn left(&mut self, now: u64) {
        self.probing |= self.until.is_some_and(|until| now >= until);
        self.leave = None;
    }
    pub fn answered(&mut self) {
        *self = Breaker::default();
    }
    /// 5xx, 529, timeout, reset. `Some`: that has opened it, until then.
    pub fn failed(&mut self, now: u64, random: u64) -> Option<u64> {
        self.failures = self.failures.saturating_add(1);
        // Failures of calls that left before it opened say nothing new.
        if self.until.is_some_and(|until| now < until) || self.failures < FAILURES {
            return None;
        }
        self.last_ms = if self.last_ms == 0 { OPEN_MS } else { (self.last_ms * 2).min(OPEN_MAX_MS) };
        self.until = Some(now.saturating_add(self.last_ms).saturating_add(random % (self.last_ms / 10 + 1)));
        (self.probing, self.leave, self.shared) = (false, None, false);
        self.until
    }
    /// All processes know that it is open until then, or that another one tries.
    pub fn hear(&mut self, until: u64) {
        self.shared |= self.until.is_none_or(|known| known <= until);
        if self.until.is_none_or(|known| known < until) {
            self.failures = self.failures.max(FAILURES);
            self.last_ms = self.last_ms.max(OPEN_MS);
            (self.until, self.probing, self.leave) = (Some(until), false, None);
        }
    }
    /// Nobody speaks of it any more, well before its time is over: another process has tried, and was answered.
    pub fn hear_nothing(&mut self, now: u64) {
        if self.shared && self.is_shut(now.saturating_add(SKEW_MS)) {
            *self = Breaker::default();
        }
    }
    /// The probe of all processes is this one's, until then.
    pub fn grant(&mut self, until: u64) {
        self.leave = Some(until);
    }
    /// Its time is over, and whoever tries needs the leave of the other processes.
    pub fn needs_leave(&self, now: u64) -> bool {
        let half = self.until.is_some_and(|until| now >= until) && !self.probing;
        half && self.leave.is_none_or(|until| now >= until)
    }
    pub fn is_probing(&self) -> bool {
        self.probing
    }
    /// It has opened, and nobody was answered since.
    pub fn has_opened(&self) -> bool {
        self.until.is_some()
    }
    /// A call ended in a way that says nothing about the model.
    pub fn unsure(&mut self) {
        self.probing = false;
    }
    /// Nobody may call, not even to try.
    pub fn is_shut(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}
