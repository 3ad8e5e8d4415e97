//! Leave to call a provider. Invariant: waiting here is free and holds nothing; what was let through is
//! given back exactly once, however the call ended, a dropped permit included.
//!
//! Not an actor: the usual case is leave at once, asked for in the middle of an agent's handler, and a
//! message there and back would cost more than the decision. One lock per provider key guards what
//! `core::rates` decides; a timer task per key runs while somebody waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;

use crate::core::chat::{CallFailure, FailureClass};
use crate::core::event::{Event, PauseCause, RateLimited, RunEvent};
use crate::core::ids::Name;
use crate::core::machine::Decided;
use crate::core::money::Usage;
use crate::core::rates::{Cause, Ended, Limits, Need, Ticket};
use crate::ports::model::{Models, Tier};
use crate::ports::rates::SharedRates;

mod desk;
mod line;
#[cfg(test)]
mod tests;
mod time;
mod timer;

use desk::{Desk, Place};
use time::Time;

/// One per process, shared by all its runs.
#[derive(Default)]
pub struct Throttle {
    desks: DashMap<String, Arc<Desk>>,
    time: OnceLock<Time>,
    shared: Option<Arc<dyn SharedRates>>,
}

/// What asks for leave.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub provider: &'a Name,
    /// The provider's id of the model.
    pub model: &'a str,
    /// Worst case of the call.
    pub need: Need,
    /// Another model can take the call: nothing is waited for while this one is left alone.
    pub elsewhere: bool,
    /// Its hold keeps budget from others: it does not wait for a closed gate or a model that is left alone.
    pub held: bool,
}

/// No leave: the provider cannot be called for longer than its `max_wait`; or the call need not, or must not,
/// wait until it can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{provider} lets nothing through until {until_ms}: {}", cause.words())]
pub struct TooLong {
    pub provider: Name,
    /// Milliseconds since the epoch.
    pub until_ms: u64,
    pub cause: Cause,
    /// Longer than `max_wait`: where no other model takes the call, the run parks.
    pub parks: bool,
}

impl TooLong {
    /// Is the model left alone, so that another one may take its place? A limit that is used up, such as a
    /// day's, is no such reason: nobody could say when to go back.
    pub fn left_alone(&self) -> bool {
        self.cause == Cause::Breaker || (self.parks && self.cause == Cause::Refused)
    }

    /// The fact that parks the run.
    pub fn pauses(self) -> Decided {
        let TooLong { provider, until_ms, cause, parks: _ } = self;
        let cause = PauseCause::RateLimited(RateLimited { provider, until_ms, why: cause });
        Decided::one(Event::Run(RunEvent::PauseAsked { cause, by: "rates".to_owned() }))
    }
}

/// Calls that wait, for whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub provider: Name,
    /// Model class of the limit; empty: all.
    pub class: String,
    pub calls: usize,
    pub cause: Cause,
    /// Milliseconds since the epoch; `None`: when a call in flight ends.
    pub until_ms: Option<u64>,
    /// Since when the first of them waits.
    pub since_ms: u64,
}

/// A limit of which 80 % are used: `rate.near`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearLimit {
    pub provider: Name,
    pub class: String,
    pub cause: Cause,
    pub used: u64,
    pub limit: u64,
}

/// How a call that had leave ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `used`: input and output tokens as reported, less what the limit does not count (cached input,
    /// where the limit is for input alone).
    Answered {
        used: Option<(u64, u64)>,
    },
    /// 408, 425, 429, 503, 529.
    Refused {
        status: Option<u16>,
        retry_after_ms: Option<u64>,
    },
    /// Any other final refusal: it says nothing about rates.
    Rejected,
    /// Timeout, reset, 5xx: it may count, and the model may be ill.
    Failed,
    NotSent,
}

impl Outcome {
    /// Of an answer: the reported input and output.
    pub fn answered(usage: &Usage) -> Outcome {
        Outcome::Answered { used: usage.known() }
    }

    pub fn of(failure: &CallFailure) -> Outcome {
        match failure.class {
            FailureClass::NotSent => Outcome::NotSent,
            FailureClass::Transient => {
                Outcome::Refused { status: failure.status, retry_after_ms: failure.retry_after_ms }
            }
            FailureClass::Ambiguous => Outcome::Failed,
            FailureClass::Credentials | FailureClass::Quota | FailureClass::NotFound => Outcome::Rejected,
            FailureClass::TooLong | FailureClass::OurFault => Outcome::Rejected,
        }
    }

    fn ended(self) -> Ended {
        match self {
            Outcome::Answered { used } => Ended::Answered { used },
            Outcome::Refused { status, retry_after_ms } => {
                Ended::Refused { retry_after_ms, rate: !matches!(status, Some(408 | 425 | 503 | 529)) }
            }
            Outcome::Rejected => Ended::Rejected,
            Outcome::Failed => Ended::Failed,
            Outcome::NotSent => Ended::NotSent,
        }
    }
}

impl Throttle {
    /// With `shared`, limits are those of all processes that use the same.
    pub fn new(shared: Option<Arc<dyn SharedRates>>) -> Throttle {
        Throttle { shared, ..Throttle::default() }
    }

    fn time(&self) -> Time {
        *self.time.get_or_init(Time::start)
    }

    fn desk(&self, models: &dyn Models, provider: &Name, model: &str) -> (Arc<Desk>, Arc<Tier>) {
        let tier = models.tier(provider, model);
        if let Some(desk) = self.desks.get(&tier.key) {
            return (desk.clone(), tier);
        }
        let shared = self.shared.clone().filter(|_| tier.shared);
        let desk = || Arc::new(Desk::new(tier.key.clone(), provider.clone(), self.time(), shared));
        let desk = self.desks.entry(tier.key.clone()).or_insert_with(desk).clone();
        (desk, tier)
    }

    /// This model is about to be called.
    pub fn ask_ahead(&self, models: &dyn Models, provider: &Name, model: &str) {
        let (desk, tier) = self.desk(models, provider, model);
        Desk::ask_ahead(&desk, &tier);
    }

    /// Leave at once, or nothing.
    pub fn try_admit(&self, models: &dyn Models, ask: &Ask<'_>) -> Option<Permit> {
        let (desk, tier) = self.desk(models, ask.provider, ask.model);
        Desk::enter(&desk, &tier, ask)
    }

    /// Leave in turn. Dropping the future gives the place up.
    pub async fn admit(&self, models: &dyn Models, ask: &Ask<'_>) -> Result<Permit, TooLong> {
        let (desk, tier) = self.desk(models, ask.provider, ask.model);
        if let Some(permit) = Desk::enter(&desk, &tier, ask) {
            return Ok(permit);
        }
        let place = Desk::queue(&desk, &tier, ask, Place::Last);
        place.await.unwrap_or_else(|_| Err(gone(ask.provider)))
    }

    /// Until when (milliseconds since the epoch) a model is left alone, after failures in a row or behind a
    /// closed gate; a fallback may take its place meanwhile.
    pub fn cooling(&self, models: &dyn Models, ask: &Ask<'_>) -> Option<u64> {
        let (desk, tier) = self.desk(models, ask.provider, ask.model);
        desk.cooling(&tier.class, ask.model)
    }

    /// Limits that were nearly used up since this was asked last, each at most once a minute.
    pub fn near(&self) -> Vec<NearLimit> {
        self.desks.iter().flat_map(|desk| desk.value().take_near()).collect()
    }

    /// Before the process ends: what the other processes do not know yet.
    pub async fn farewell(&self) {
        let desks: Vec<Arc<Desk>> = self.desks.iter().map(|desk| desk.value().clone()).collect();
        for desk in desks {
            desk.farewell().await;
        }
    }

    /// Every queue there is.
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut all = BTreeMap::new();
        for desk in &self.desks {
            all.insert(desk.key().clone(), desk.value().waiting());
        }
        all.into_values().flatten().collect()
    }
}

/// The desk answers every place in its queue, and lives as long as who asked: this cannot be.
fn gone(provider: &Name) -> TooLong {
    TooLong { provider: provider.clone(), until_ms: u64::MAX, cause: Cause::Concurrency, parks: false }
}

/// Leave for one call.
#[derive(Debug)]
pub struct Permit {
    desk: Arc<Desk>,
    tier: Arc<Tier>,
    model: Arc<str>,
    need: Need,
    ticket: Ticket,
    sent: AtomicBool,
    ended: bool,
}

impl Permit {
    /// To be called right before the request is sent: if the gate has closed, or the model is left alone,
    /// since leave was given, this goes back and the call asks again, before all others. From then on a
    /// dropped permit counts as a call that was sent.
    pub async fn sending(mut self, elsewhere: bool) -> Result<Permit, TooLong> {
        while self.desk.is_closed(&self.tier.class, &self.model) {
            let (desk, provider) = (self.desk.clone(), self.desk.provider.clone());
            let ask = Ask { provider: &provider, model: &self.model, need: self.need, elsewhere, held: true };
            let place = Desk::queue(&desk, &self.tier, &ask, Place::First);
            self.end(Outcome::NotSent);
            self = place.await.unwrap_or_else(|_| Err(gone(&provider)))?;
        }
        self.sent.store(true, Ordering::Relaxed);
        Ok(self)
    }

    /// What the headers of the answer say, as soon as they are there.
    pub fn limits(&self, limits: Limits) {
        self.desk.limits(&self.tier.class, self.ticket, limits);
    }

    pub fn ended(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.ended, true) {
            Desk::end(&self.desk, &self.tier.class, &self.model, self.ticket, outcome);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let sent = self.sent.load(Ordering::Relaxed);
        self.end(if sent { Outcome::Failed } else { Outcome::NotSent });
    }
}
