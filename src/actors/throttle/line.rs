//! One model class of a provider key. Invariant: nobody in the queue is kept there for longer than `max_wait`
//! where that is known, and nobody who keeps budget from others is kept behind a closed gate.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{NearLimit, Outcome, Permit, TooLong};
use crate::core::ids::Name;
use crate::core::rates::{Breaker, Cause, Gate, Ill, Need, Wait};
use crate::ports::model::Tier;

/// A call that is held waits for a closed gate so long: its hold goes back otherwise.
const HELD_MS: u64 = 1000;

/// One model class.
pub(super) struct Line {
    pub(super) gate: Gate,
    pub(super) tier: Arc<Tier>,
    pub(super) queue: VecDeque<Waiter>,
    pub(super) breakers: BTreeMap<Arc<str>, Breaker>,
    /// Why the first in the queue waits.
    pub(super) wait: Option<Wait>,
    /// News that nobody has asked for yet.
    pub(super) near: Option<NearLimit>,
    /// It has been said already.
    pub(super) told: Option<Wait>,
}

pub(super) struct Waiter {
    pub(super) need: Need,
    pub(super) model: Arc<str>,
    pub(super) since: u64,
    pub(super) tier: Arc<Tier>,
    pub(super) elsewhere: bool,
    pub(super) held: bool,
    pub(super) reply: oneshot::Sender<Result<Permit, TooLong>>,
}

/// Why a model may not be called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// It is left alone until then, or (`u64::MAX`) until a trial has ended.
    Until(u64),
    /// The other processes are asked, which takes about until then.
    Asks(u64),
}

/// Answers to give once the lock is open: a receiver that is gone gives its permit back.
pub(super) type Answers = Vec<(oneshot::Sender<Result<Permit, TooLong>>, Result<Permit, TooLong>)>;

pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Waiter {
    pub(super) fn too_long(&self, at: u64, now: u64) -> bool {
        at > now.saturating_add(self.tier.max_wait_ms)
    }
}

impl Line {
    pub(super) fn breaker(&self, model: &str) -> Breaker {
        self.breakers.get(model).copied().unwrap_or_default()
    }

    /// Does the first in the queue wait for room in the limits, not for another call's end?
    pub(super) fn waits_for_room(&self, room: bool) -> bool {
        room && !self.queue.is_empty() && self.gate.in_flight() < self.gate.at_once() as usize
    }

    pub(super) fn ended(&mut self, model: &Arc<str>, outcome: Outcome, now: u64) {
        let failed = match outcome {
            Outcome::Failed => true,
            Outcome::Refused { status, .. } => matches!(status, Some(503 | 529)),
            Outcome::Answered { .. } => {
                if self.breakers.remove(model).is_some_and(|breaker| breaker.has_opened()) {
                    self.gate.tried(now, model, true);
                }
                return;
            }
            Outcome::Rejected | Outcome::NotSent => false,
        };
        if failed {
            let opened = self.breakers.entry(model.clone()).or_default().failed(now, random());
            opened.into_iter().for_each(|until| self.gate.opened(now, model, until));
        } else if let Some(breaker) = self.breakers.get_mut(model) {
            let probed = breaker.is_probing();
            breaker.unsure();
            if probed {
                self.gate.tried(now, model, false);
            }
        }
    }

    /// May this model be called? Its trial is one call of all processes: whoever would make it asks the others.
    pub(super) fn may(&mut self, model: &str, now: u64) -> Result<(), Stop> {
        let Some(breaker) = self.breakers.get(model) else { return Ok(()) };
        breaker.may(now).map_err(Stop::Until)?;
        if breaker.needs_leave(now) && !self.gate.may_try(model) {
            return Err(Stop::Asks(now.saturating_add(self.gate.gap())));
        }
        Ok(())
    }

    /// What the last exchange says of models that fail elsewhere.
    pub(super) fn hear(&mut self, now: u64) {
        let Some(Ill { open, tries }) = self.gate.take_ill() else { return };
        for (model, breaker) in &mut self.breakers {
            if !open.contains_key(&**model) {
                breaker.hear_nothing(now);
            }
            match tries.get(&**model) {
                Some(until) if self.queue.iter().any(|waiter| waiter.model == *model) => breaker.grant(*until),
                // Whoever wanted it has gone: another process may.
                Some(_) => self.gate.tried(now, model, false),
                None => {}
            }
        }
        for (model, until) in open.into_iter().filter(|(_, until)| *until > now) {
            self.breakers.entry(Arc::from(model)).or_default().hear(until);
        }
    }

    /// Nobody waits for longer than `max_wait` when it is known beforehand, nor holding budget.
    pub(super) fn refuse_long(&mut self, provider: &Name, wait: Wait, now: u64, answers: &mut Answers) {
        let closed = self.gate.closed_until();
        // Behind a call in flight, too, the gate is closed.
        let known = wait.at != u64::MAX && wait.at >= closed;
        let Wait { at, cause } = if known { wait } else { Wait { at: closed, cause: Cause::Refused } };
        let goes_back = closed > now.saturating_add(HELD_MS);
        let leaves = |waiter: &Waiter| waiter.too_long(at, now) || (waiter.held && goes_back);
        if !self.queue.iter().any(leaves) {
            return;
        }
        for waiter in std::mem::take(&mut self.queue) {
            if leaves(&waiter) {
                let parks = waiter.too_long(at, now);
                let why = TooLong { provider: provider.clone(), until_ms: at, cause, parks };
                answers.push((waiter.reply, Err(why)));
            } else {
                self.queue.push_back(waiter);
            }
        }
    }
}
