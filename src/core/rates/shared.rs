//! One meter for all processes of a host. Invariant: what any process may spend without asking is on
//! lease here, counts as used, and ends by itself; a lease that runs out counts as spent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Act, Cause, Meter, Near, Rates, Units, Wait};

/// What lies in the state folder, per key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shared {
    /// Of this form; another form is not read.
    pub v: u32,
    pub meter: Meter,
    /// By process.
    pub leases: BTreeMap<u64, Lease>,
    /// Models that one process tries, after they had failed: which, and until when that is left to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trials: BTreeMap<String, (u64, u64)>,
}

/// Exchanges in a row that may fail.
const FAILURES: u32 = 3;
/// A trial call is left to one process for so long: a process that dies must not keep it.
const TRIAL_MS: u64 = 60_000;

/// Version of [`Shared`].
pub const FORM: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    pub until: u64,
    pub units: Units,
    /// What its first waiting call still lacks, and since when it waits.
    pub lacks: Option<(u64, Units)>,
}

/// What a process brings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Offer {
    pub acts: Vec<Act>,
    /// What its waiting calls need, first come first.
    pub wants: Vec<Units>,
    /// Since when the first of them waits.
    pub since: u64,
    /// What it would like for calls to come, where there is plenty.
    pub ahead: Units,
    /// Models that it would try.
    pub tries: BTreeSet<String>,
}

/// What it takes home.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reply {
    /// All that it may spend, until then. What it had before is in here.
    pub have: Units,
    pub until: u64,
    /// Why and how long the first call that got nothing waits.
    pub wait: Option<Wait>,
    pub closed_until: u64,
    /// Models that are left alone, and until when.
    pub open: BTreeMap<String, u64>,
    /// Models whose trial call is its own, and until when.
    pub tries: BTreeMap<String, u64>,
    pub near: Option<Near>,
}

/// More than anybody spends on one lease: no limit is known.
const PLENTY: i64 = 1 << 60;

impl Shared {
    pub fn new(window: u64) -> Shared {
        Shared { v: FORM, meter: Meter::new(window), leases: BTreeMap::new(), trials: BTreeMap::new() }
    }

    /// Milliseconds that a lease lasts. A process renews it well before.
    pub fn lease_ms(window: u64) -> u64 {
        (window / 30).max(4)
    }

    /// One process's turn, alone with this state. Whatever it had on lease comes back with the offer.
    pub fn exchange(&mut self, now: u64, window: u64, owner: u64, rates: &Rates, offer: &Offer) -> Reply {
        if !self.is_sane(now, window) {
            *self = Shared::new(window);
        }
        self.leases.remove(&owner);
        self.end_leases(now, rates);
        for act in &offer.acts {
            if let Act::Opened { model, .. } | Act::Tried { model, .. } = act {
                self.trials.remove(model);
            }
            self.meter.apply(now, rates, act);
        }
        let (tries, open) = self.trials(now, owner, &offer.tries);
        let others = self.leases.values().fold(Units::ZERO, |sum, lease| sum.plus(lease.units));
        // Who waits longer comes first: room is kept for it.
        let mine = (offer.since, owner);
        let older = self.leases.iter().filter_map(|(who, lease)| lease.lacks.map(|lacks| (lacks, *who)));
        let older = older.filter(|((since, _), who)| !offer.wants.is_empty() && (*since, *who) < mine);
        let before = older.fold(others, |sum, ((_, units), _)| sum.plus(units));
        let (mut have, mut wait, mut lacks) = (Units::ZERO, None, None);
        for want in &offer.wants {
            match self.meter.room(now, rates, *want, before.plus(have)) {
                Ok(()) => have = have.plus(*want),
                Err(later) => {
                    (wait, lacks) = (Some(later), Some((offer.since, *want)));
                    break;
                }
            }
        }
        let limited = self.meter.limited(rates);
        if limited && wait.is_none() && offer.ahead != Units::ZERO {
            let plenty = (0..4).fold(before.plus(have), |sum, _| sum.plus(offer.ahead));
            if self.meter.room(now, rates, offer.ahead, plenty).is_ok() {
                have = have.plus(offer.ahead);
            }
        }
        let until = now.saturating_add(Self::lease_ms(window));
        if have != Units::ZERO || lacks.is_some() {
            self.leases.insert(owner, Lease { until, units: have, lacks });
        }
        if !limited && wait.is_none() && (have != Units::ZERO || offer.ahead != Units::ZERO) {
            // Of no limit nothing is taken from the others: all that it asks for is whether the gate is closed.
            have = Units { requests: PLENTY, input: PLENTY, output: PLENTY };
            self.leases.remove(&owner);
        }
        let near = self.meter.near(now, rates);
        Reply { have, until, wait, closed_until: self.meter.closed_until(), open, tries, near }
    }

    /// Models whose trial call is this owner's, and those that are left alone: the others' trials among them.
    fn trials(
        &mut self,
        now: u64,
        owner: u64,
        wants: &BTreeSet<String>,
    ) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let mut open = self.meter.open(now).clone();
        // Clocks of two processes differ a little; one that was set back says nothing.
        self.trials.retain(|_, (_, until)| *until > now && *until < now.saturating_add(2 * TRIAL_MS));
        let mut tries = BTreeMap::new();
        for model in wants.iter().filter(|model| !open.contains_key(*model)) {
            let (who, until) = *self.trials.entry(model.clone()).or_insert((owner, now.saturating_add(TRIAL_MS)));
            if who == owner {
                tries.insert(model.clone(), until);
            }
        }
        let others = self.trials.iter().filter(|(_, (who, _))| *who != owner);
        open.extend(others.map(|(model, (_, until))| (model.clone(), *until)));
        (tries, open)
    }

    /// A state from the future (the clock was set back), or of other windows, says nothing.
    fn is_sane(&self, now: u64, window: u64) -> bool {
        let newest = self.leases.values().map(|lease| lease.until).max().unwrap_or(0);
        self.v == FORM && self.meter.is_sane(now, window) && newest <= now.saturating_add(2 * window)
    }

    /// A process that is gone, or asleep, has perhaps spent what it had.
    fn end_leases(&mut self, now: u64, rates: &Rates) {
        let ended: Vec<Lease> = self.leases.values().copied().filter(|lease| lease.until <= now).collect();
        self.leases.retain(|_, lease| lease.until > now);
        for lease in ended.into_iter().filter(|lease| lease.units != Units::ZERO) {
            self.meter.apply(now, rates, &Act::Spent { at: lease.until, units: lease.units });
        }
    }
}

/// A process's side of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bank {
    have: Units,
    until: u64,
    acts: Vec<Act>,
    wait: Option<Wait>,
    closed_until: u64,
    near: Option<Near>,
    /// Spent since the last exchange.
    spent: Units,
    last: u64,
    /// An exchange is under way: there is nothing to spend.
    away: bool,
    /// Exchanges in a row that failed.
    failures: u32,
    /// Calls waited at the last exchange.
    wanted: bool,
    /// The others must hear of a refusal or a breaker now.
    urgent: bool,
    /// What the last exchange said of models that fail.
    ill: Option<Ill>,
    /// Models that this process would try.
    tries: BTreeSet<String>,
}

/// Models that fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ill {
    /// All that are left alone, and until when.
    pub open: BTreeMap<String, u64>,
    /// Those whose trial call is this process's, and until when.
    pub tries: BTreeMap<String, u64>,
}

impl Bank {
    pub fn spend(&mut self, now: u64, gap: u64, units: Units) -> Result<(), Wait> {
        if now < self.closed_until {
            return Err(Wait { at: self.closed_until, cause: Cause::Refused });
        }
        if now < self.until && self.have.covers(units) {
            self.have = self.have.minus(units);
            self.spent = self.spent.plus(units);
            self.acts.push(Act::Spent { at: now, units });
            return Ok(());
        }
        let soon = self.last.saturating_add(gap).max(now + 1);
        Err(self.wait.filter(|wait| wait.at > now).unwrap_or(Wait { at: soon, cause: Cause::Share }))
    }

    pub fn note(&mut self, act: Act) {
        self.urgent |= match &act {
            Act::Said(said) => said.refused.is_some(),
            Act::Opened { .. } | Act::Tried { .. } => true,
            Act::Spent { .. } | Act::Corrected { .. } | Act::Answered { .. } => false,
        };
        self.acts.push(act);
    }
    pub fn closed_until(&self) -> u64 {
        self.closed_until
    }
    pub fn take_near(&mut self) -> Option<Near> {
        self.near.take()
    }

    pub fn take_ill(&mut self) -> Option<Ill> {
        self.ill.take()
    }
    /// Asks for the trial call of a model.
    pub fn try_model(&mut self, model: &str) {
        if !self.away {
            self.tries.insert(model.to_owned());
        }
    }

    /// When the next exchange is due; `None` while nothing happens. `gap` between two for the same calls at
    /// least.
    pub fn due(&self, gap: u64, waiting: bool) -> Option<u64> {
        if self.away {
            return None;
        }
        if self.urgent || !self.tries.is_empty() || (waiting && !self.wanted) {
            return Some(self.last);
        }
        let soon = self.last.saturating_add(gap);
        if waiting {
            // A place among those who wait must be renewed, too.
            let wait = self.wait.map_or(0, |wait| wait.at);
            return Some(wait.min(self.last.saturating_add(gap * 8)).max(soon));
        }
        (!self.acts.is_empty() || self.have != Units::ZERO).then_some(soon.saturating_add(gap))
    }

    pub fn offer(&mut self, now: u64, wants: Vec<Units>, since: u64) -> Offer {
        (self.away, self.last, self.have) = (true, now, Units::ZERO);
        (self.wanted, self.urgent) = (!wants.is_empty(), false);
        let ahead = std::mem::take(&mut self.spent);
        let (acts, tries) = (std::mem::take(&mut self.acts), std::mem::take(&mut self.tries));
        Offer { acts, wants, since, ahead, tries }
    }

    /// Asks before anybody waits, for whoever is about to call. `None`: what was answered still holds, or is under way.
    pub fn ask_ahead(&mut self, now: u64) -> Option<Offer> {
        if self.away || now < self.until {
            return None;
        }
        // One request: where nothing is limited, the answer to it is as good as any.
        let offer = self.offer(now, vec![Units { requests: 1, ..Units::ZERO }], now);
        // Whoever comes meanwhile has not been spoken for.
        self.wanted = false;
        Some(offer)
    }

    /// The last words of a process that ends: what it had goes back. `None`: there is nothing to say.
    pub fn farewell(&mut self, now: u64) -> Option<Offer> {
        self.tries.clear();
        let silent = self.acts.is_empty() && self.have == Units::ZERO;
        (!self.away && !silent).then(|| Offer { ahead: Units::ZERO, ..self.offer(now, Vec::new(), 0) })
    }
    /// An exchange is under way.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// `Err`: the exchange failed; its acts are told next time, and nothing may be spent. Some acts come
    /// back if that was once too often.
    pub fn accept(&mut self, reply: Result<Reply, Offer>) -> Option<Vec<Act>> {
        self.away = false;
        let reply = match reply {
            Ok(reply) => reply,
            Err(mut offer) => {
                offer.acts.append(&mut self.acts);
                self.acts = offer.acts;
                self.failures += 1;
                return (self.failures >= FAILURES).then(|| std::mem::take(&mut self.acts));
            }
        };
        self.failures = 0;
        (self.have, self.until) = (reply.have, reply.until);
        (self.wait, self.closed_until) = (reply.wait, self.closed_until.max(reply.closed_until));
        (self.near, self.ill) = (reply.near.or(self.near), Some(Ill { open: reply.open, tries: reply.tries }));
        None
    }

    /// Closes at once, before the others have been told.
    pub fn close(&mut self, until: u64) {
        self.closed_until = self.closed_until.max(until);
    }
}
