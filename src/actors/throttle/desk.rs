//! One provider key. Invariant: at most `max` calls are out over all model classes, and within a class
//! leave is given in the order in which it was asked for, models with an open breaker aside.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, oneshot};

use super::line::{Answers, Line, Stop, Waiter, random};
use super::time::Time;
use super::{Ask, NearLimit, Outcome, Permit, TooLong, Waiting};
use crate::core::ids::Name;
use crate::core::rates::{Admit, Cause, Gate, Limits, Need, Ticket, Wait};
use crate::ports::model::Tier;
use crate::ports::rates::SharedRates;

/// A wait shorter than this is nobody's business.
const SHOWN_MS: u64 = 1000;
pub struct Desk {
    pub(super) key: String,
    pub(super) provider: Name,
    pub(super) time: Time,
    pub(super) shared: Option<Arc<dyn SharedRates>>,
    /// This process among those that share the key.
    pub(super) owner: u64,
    state: Mutex<State>,
    /// The timer must look again.
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct State {
    /// Calls out, and how many may be.
    out: usize,
    max: usize,
    pub(super) lines: BTreeMap<Arc<str>, Line>,
    /// A timer task runs.
    pub(super) timed: bool,
}

/// Where in a queue.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Who had leave already.
    First,
    Last,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("key", &self.key).field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Desk {
    pub fn new(key: String, provider: Name, time: Time, shared: Option<Arc<dyn SharedRates>>) -> Desk {
        let (state, changed) = (Mutex::default(), Notify::new());
        Desk { key, provider, time, shared, owner: random(), state, changed }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can be half done: a poisoned state is as good as any.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Leave at once for whoever finds no queue.
    pub fn enter(desk: &Arc<Desk>, tier: &Arc<Tier>, ask: &Ask<'_>) -> Option<Permit> {
        let mut state = desk.state();
        let now = desk.time.now();
        let line = state.line(desk, tier);
        if !line.queue.is_empty() || line.may(ask.model, now).is_err() {
            return None;
        }
        let model: Arc<str> = Arc::from(ask.model);
        let permit = state.admit(desk, tier, &model, ask.need, now).ok()?;
        state.report(desk, now);
        let due = state.next_due(now);
        drop(state);
        if due.is_some() {
            Desk::wind(desk);
        }
        Some(permit)
    }

    /// A place in the queue. The receiver gets an answer in any case.
    pub fn queue(
        desk: &Arc<Desk>,
        tier: &Arc<Tier>,
        ask: &Ask<'_>,
        place: Place,
    ) -> oneshot::Receiver<Result<Permit, TooLong>> {
        let (reply, answer) = oneshot::channel();
        let mut state = desk.state();
        let (need, since, model) = (ask.need, desk.time.now(), Arc::from(ask.model));
        let (elsewhere, held) = (ask.elsewhere, ask.held);
        let waiter = Waiter { need, model, since, tier: tier.clone(), elsewhere, held, reply };
        let queue = &mut state.line(desk, tier).queue;
        match place {
            Place::First => queue.push_front(waiter),
            Place::Last => queue.push_back(waiter),
        }
        drop(state);
        Desk::pump(desk);
        answer
    }

    /// Leave for everybody whose turn it is, now and whenever time brings it.
    pub fn pump(desk: &Arc<Desk>) {
        if Desk::let_through(desk) {
            Desk::wind(desk);
        }
    }

    /// Leave for everybody whose turn it is. `true`: a later moment matters.
    pub(super) fn let_through(desk: &Arc<Desk>) -> bool {
        let mut answers = Answers::new();
        let mut state = desk.state();
        let now = desk.time.now();
        state.pump(desk, now, &mut answers);
        state.report(desk, now);
        let due = state.next_due(now);
        drop(state);
        for (reply, answer) in answers {
            let _ = reply.send(answer);
        }
        due.is_some()
    }

    pub fn end(desk: &Arc<Desk>, class: &Arc<str>, model: &Arc<str>, ticket: Ticket, outcome: Outcome) {
        let mut state = desk.state();
        let now = desk.time.now();
        state.out = state.out.saturating_sub(1);
        if let Some(line) = state.lines.get_mut(class) {
            line.gate.end(now, ticket, outcome.ended(), Limits::default(), random());
            line.ended(model, outcome, now);
        }
        drop(state);
        Desk::pump(desk);
    }

    pub fn limits(&self, class: &Arc<str>, ticket: Ticket, limits: Limits) {
        let now = self.time.now();
        if let Some(line) = self.state().lines.get_mut(class) {
            line.gate.limits(now, ticket, limits);
        }
    }

    /// Is the gate closed for everyone, or this model's breaker open? Its trial call may go.
    pub fn is_closed(&self, class: &Arc<str>, model: &str) -> bool {
        let now = self.time.now();
        let closed = |line: &Line| line.gate.closed_until() > now || line.breaker(model).is_shut(now);
        self.state().lines.get(class).is_some_and(closed)
    }

    pub fn cooling(&self, class: &str, model: &str) -> Option<u64> {
        let now = self.time.now();
        let state = self.state();
        let line = state.lines.get(class)?;
        let closed = Some(line.gate.closed_until()).filter(|until| *until > now);
        line.breaker(model).may(now).err().max(closed)
    }

    pub fn take_near(&self) -> Vec<NearLimit> {
        self.state().lines.values_mut().filter_map(|line| line.near.take()).collect()
    }

    pub fn waiting(&self) -> Vec<Waiting> {
        let state = self.state();
        let lines = state.lines.iter().filter(|(_, line)| !line.queue.is_empty());
        let waiting = |(class, line): (&Arc<str>, &Line)| {
            let wait = line.wait?;
            Some(Waiting {
                provider: self.provider.clone(),
                class: class.to_string(),
                calls: line.queue.len(),
                cause: wait.cause,
                until_ms: (wait.at != u64::MAX).then_some(wait.at),
                since_ms: line.queue.front().map_or(0, |first| first.since),
            })
        };
        lines.filter_map(waiting).collect()
    }
}

impl State {
    pub(super) fn line(&mut self, desk: &Desk, tier: &Arc<Tier>) -> &mut Line {
        let max = usize::try_from(tier.max_concurrency).unwrap_or(usize::MAX).max(1);
        self.max = if self.max == 0 { max } else { self.max.min(max) };
        let line = self.lines.entry(tier.class.clone()).or_insert_with(|| {
            let shared = desk.shared.is_some();
            let gate = Gate::with_window(tier.rates, tier.max_concurrency, shared, tier.window_ms);
            let (queue, breakers, tier) = (VecDeque::new(), BTreeMap::new(), tier.clone());
            Line { gate, tier, queue, breakers, wait: None, near: None, told: None }
        });
        if !Arc::ptr_eq(&line.tier, tier) {
            // Another run states the limits of the same key: the smaller count.
            line.gate.narrow(&tier.rates, tier.max_concurrency);
            line.tier = tier.clone();
        }
        line
    }

    fn admit(
        &mut self,
        desk: &Arc<Desk>,
        tier: &Arc<Tier>,
        model: &Arc<str>,
        need: Need,
        now: u64,
    ) -> Result<Permit, Wait> {
        let full = Wait { at: u64::MAX, cause: Cause::Concurrency };
        if self.out >= self.max {
            return Err(full);
        }
        let line = self.lines.get_mut(&tier.class).ok_or(full)?;
        let ticket = match line.gate.acquire(now, need) {
            Admit::Yes(ticket) => ticket,
            Admit::Wait(wait) => return Err(wait),
        };
        self.out += 1;
        if let Some(breaker) = line.breakers.get_mut(model) {
            breaker.left(now);
        }
        let (desk, tier, model) = (desk.clone(), tier.clone(), model.clone());
        Ok(Permit { desk, tier, model, need, ticket, sent: false.into(), ended: false })
    }

    fn pump(&mut self, desk: &Arc<Desk>, now: u64, answers: &mut Answers) {
        let first = |(class, line): (&Arc<str>, &Line)| Some((line.queue.front()?.since, class.clone()));
        let mut classes: Vec<(u64, Arc<str>)> = self.lines.iter().filter_map(first).collect();
        classes.sort();
        for (_, class) in classes {
            self.pump_line(desk, &class, now, answers);
        }
    }

    fn pump_line(&mut self, desk: &Arc<Desk>, class: &Arc<str>, now: u64, answers: &mut Answers) {
        let (mut place, mut first, mut held_up) = (0, None, None);
        loop {
            let Some(line) = self.lines.get_mut(class) else { return };
            let Some(waiter) = line.queue.get(place) else { break };
            if waiter.reply.is_closed() {
                line.queue.remove(place);
                continue;
            }
            let model = waiter.model.clone();
            if let Err(stop) = line.may(&model, now) {
                let Some(waiter) = line.queue.get(place) else { break };
                let (at, asks) = match stop {
                    Stop::Until(at) => (at, false),
                    Stop::Asks(at) => (at, true),
                };
                let parks = at != u64::MAX && waiter.too_long(at, now);
                if !asks && (waiter.elsewhere || waiter.held || parks) {
                    let why = TooLong { provider: desk.provider.clone(), until_ms: at, cause: Cause::Breaker, parks };
                    answers.extend(line.queue.remove(place).map(|waiter| (waiter.reply, Err(why))));
                    continue;
                }
                // Others of the class need not wait for an ill model.
                let wait = Wait { at, cause: Cause::Breaker };
                first = first.filter(|first: &Wait| first.at <= at).or(Some(wait));
                place += 1;
                continue;
            }
            let Some(waiter) = line.queue.get(place) else { break };
            let (need, tier) = (waiter.need, waiter.tier.clone());
            match self.admit(desk, &tier, &model, need, now) {
                Ok(permit) => {
                    let waiter = self.lines.get_mut(class).and_then(|line| line.queue.remove(place));
                    if let Some(waiter) = waiter {
                        answers.push((waiter.reply, Ok(permit)));
                    }
                }
                Err(wait) => {
                    first = first.filter(|first: &Wait| first.at <= wait.at).or(Some(wait));
                    held_up = Some(wait);
                    break;
                }
            }
        }
        let Some(line) = self.lines.get_mut(class) else { return };
        line.wait = first;
        if let Some(wait) = held_up {
            line.refuse_long(&desk.provider, wait, now, answers);
        }
    }

    /// When the timer must look again.
    pub(super) fn next_due(&self, now: u64) -> Option<u64> {
        let room = self.out < self.max;
        let due = |line: &Line| {
            let exchange = line.gate.exchange_due(line.waits_for_room(room));
            let wait = line.wait.filter(|wait| wait.at != u64::MAX && !line.queue.is_empty()).map(|wait| wait.at);
            // A share is waited for by exchanges.
            let wait = wait.filter(|_| exchange.is_none());
            exchange.into_iter().chain(wait).min()
        };
        self.lines.values().filter_map(due).min().map(|at| at.max(now))
    }

    pub(super) fn has_room(&self) -> bool {
        self.out < self.max
    }

    /// News for whoever reads the log: a limit that is nearly used up, a wait that is worth a word.
    fn report(&mut self, desk: &Desk, now: u64) {
        for (class, line) in &mut self.lines {
            if let Some(near) = line.gate.near(now) {
                let (used, limit, cause) = (near.used, near.limit, Cause::from(near.resource));
                tracing::warn!(provider = %desk.provider, %class, used, limit, what = cause.words(), "rate.near");
                let (provider, class) = (desk.provider.clone(), class.to_string());
                line.near = Some(NearLimit { provider, class, cause, used, limit });
            }
            let long = line.wait.filter(|wait| !line.queue.is_empty() && wait.at > now.saturating_add(SHOWN_MS));
            if long.is_some() && long.map(|wait| wait.cause) != line.told.map(|wait| wait.cause) {
                let calls = line.queue.len();
                if let Some(Wait { at, cause }) = long.filter(|wait| wait.at != u64::MAX) {
                    let seconds = at.saturating_sub(now) / 1000;
                    tracing::info!(provider = %desk.provider, %class, calls, cause = cause.words(), seconds, "waiting");
                }
            }
            line.told = long;
        }
    }
}
