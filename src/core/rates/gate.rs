//! The gate of one (provider key, model class). Invariant: at most `max` calls are through at once, and
//! each is booked at what it is expected to use until its real use is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::meter::Refusal;
use super::ratio::Ratio;
use super::shared::{Bank, Ill, Offer, Reply};
use super::{Act, Cause, Limits, MINUTE_MS, Meter, Near, Rates, Said, Units, Wait};

/// Answers after which one more call may be out at once.
const STEADY: u32 = 20;

/// Worst case of one call, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Need {
    pub input: u64,
    pub output: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admit {
    Yes(Ticket),
    Wait(Wait),
}

/// How a call that was let through ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// `used`: input and output as reported; absent or absurd usage leaves what was booked.
    Answered { used: Option<(u64, u64)> },
    /// 429 (`rate`), 503, 529 and the like.
    Refused { retry_after_ms: Option<u64>, rate: bool },
    /// Refused for a reason that has nothing to do with rates: a request that used no tokens.
    Rejected,
    /// Sent, and no answer: it may count.
    Failed,
    /// Never sent.
    NotSent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Flight {
    at: u64,
    booked: Units,
    need: Need,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Source {
    Own(Box<Meter>),
    /// The meter is shared with other processes.
    Leased(Box<Bank>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gate {
    rates: Rates,
    window: u64,
    source: Source,
    /// As configured, and as adapted.
    max: u32,
    at_once: u32,
    answers: u32,
    halved_at: u64,
    /// After it was closed: so many at once, doubling with each answer.
    ramp: Option<u32>,
    closed_at: u64,
    flights: BTreeMap<u64, Flight>,
    next: u64,
    /// The freshest call whose headers were heard.
    heard: u64,
    input: Ratio,
    output: Ratio,
}

impl Gate {
    /// `max` calls at once. With `shared` it spends only what [`Gate::accept`] brings.
    pub fn new(rates: Rates, max: u32, shared: bool) -> Gate {
        Gate::with_window(rates, max, shared, MINUTE_MS)
    }

    /// `window`: milliseconds of a "minute".
    pub fn with_window(rates: Rates, max: u32, shared: bool, window: u64) -> Gate {
        let max = max.max(1);
        Gate {
            rates,
            window,
            source: if shared { Source::Leased(Box::default()) } else { Source::Own(Box::new(Meter::new(window))) },
            max,
            at_once: max,
            answers: 0,
            halved_at: 0,
            ramp: None,
            closed_at: 0,
            flights: BTreeMap::new(),
            next: 1,
            heard: 0,
            input: Ratio::default(),
            output: Ratio::default(),
        }
    }

    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }
    pub fn at_once(&self) -> u32 {
        self.ramp.unwrap_or(self.at_once).min(self.at_once)
    }
    /// Nobody leaves before then.
    pub fn closed_until(&self) -> u64 {
        match &self.source {
            Source::Own(meter) => meter.closed_until(),
            Source::Leased(bank) => bank.closed_until(),
        }
    }
    /// A limit of which 80 % are used, if that is news.
    pub fn near(&mut self, now: u64) -> Option<Near> {
        match &mut self.source {
            Source::Own(meter) => meter.near(now, &self.rates),
            Source::Leased(bank) => bank.take_near(),
        }
    }

    fn likely(&self, need: Need) -> Units {
        Units { requests: 1, input: self.input.likely(need.input), output: self.output.likely(need.output) }
    }

    /// One call's leave. Whoever asks keeps the order: first come, first asked.
    pub fn acquire(&mut self, now: u64, need: Need) -> Admit {
        if self.flights.len() >= self.at_once() as usize {
            return Admit::Wait(Wait { at: u64::MAX, cause: Cause::Concurrency });
        }
        let booked = self.likely(need);
        let gap = self.gap();
        let room = match &mut self.source {
            Source::Own(meter) => meter.room(now, &self.rates, booked, Units::ZERO),
            Source::Leased(bank) => bank.spend(now, gap, booked),
        };
        if let Err(wait) = room {
            return Admit::Wait(wait);
        }
        if let Source::Own(meter) = &mut self.source {
            meter.apply(now, &self.rates, &Act::Spent { at: now, units: booked });
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.flights.insert(ticket.0, Flight { at: now, booked, need });
        Admit::Yes(ticket)
    }

    fn act(&mut self, now: u64, act: Act) {
        match &mut self.source {
            Source::Own(meter) => meter.apply(now, &self.rates, &act),
            Source::Leased(bank) => bank.note(act),
        }
    }

    /// What the headers of this call's answer say. May come before its end.
    pub fn limits(&mut self, now: u64, ticket: Ticket, limits: Limits) {
        if let Some(flight) = self.flights.get(&ticket.0).copied().filter(|_| limits.any()) {
            self.hear(now, ticket, &flight, limits, None);
        }
    }

    fn hear(&mut self, now: u64, ticket: Ticket, flight: &Flight, limits: Limits, refused: Option<Refusal>) {
        // An answer that overtook this one knows better.
        let limits = if ticket.0 >= self.heard { limits } else { Limits::default() };
        self.heard = self.heard.max(ticket.0);
        let ahead = self.flights.range(ticket.0 + 1..).fold(Units::ZERO, |sum, (_, flight)| sum.plus(flight.booked));
        self.act(now, Act::Said(Box::new(Said { left: flight.at, limits, ahead, refused })));
    }

    /// A call's end. Every ticket ends once; a second end does nothing.
    pub fn end(&mut self, now: u64, ticket: Ticket, ended: Ended, limits: Limits, random: u64) {
        let Some(flight) = self.flights.get(&ticket.0).copied() else { return };
        match ended {
            Ended::Answered { used } => {
                self.limits(now, ticket, limits);
                self.answered(now, &flight, used);
            }
            Ended::Refused { retry_after_ms, rate } => {
                let units = Units { requests: 0, ..Units::ZERO.minus(flight.booked) };
                self.act(now, Act::Corrected { at: flight.at, units });
                let refusal = Refusal { retry_after_ms, rate, random };
                self.hear(now, ticket, &flight, limits, Some(refusal));
                if let Source::Leased(bank) = &mut self.source {
                    // The others hear of it with the next exchange, this process now.
                    let wait = retry_after_ms.unwrap_or(self.window / 30);
                    bank.close(now.saturating_add(wait).saturating_add(random % (wait / 10 + 1)));
                }
                self.slow_down(now, flight.at);
            }
            Ended::Rejected => {
                self.limits(now, ticket, limits);
                let units = Units { requests: 0, ..Units::ZERO.minus(flight.booked) };
                self.act(now, Act::Corrected { at: flight.at, units });
            }
            Ended::Failed => {}
            Ended::NotSent => {
                self.act(now, Act::Corrected { at: flight.at, units: Units::ZERO.minus(flight.booked) });
            }
        }
        self.flights.remove(&ticket.0);
    }

    fn answered(&mut self, now: u64, flight: &Flight, used: Option<(u64, u64)>) {
        if let Some((input, output)) = used {
            self.input.learn(flight.need.input, input);
            self.output.learn(flight.need.output, output);
            let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let real = Units { requests: flight.booked.requests, input: whole(input), output: whole(output) };
            self.act(now, Act::Corrected { at: flight.at, units: real.minus(flight.booked) });
        }
        self.act(now, Act::Answered { left: flight.at });
        // Answers of calls that left before it closed do not open it.
        let after = flight.at >= self.closed_at;
        self.ramp =
            self.ramp.map(|ramp| if after { ramp.saturating_mul(2) } else { ramp }).filter(|ramp| *ramp < self.at_once);
        self.answers += 1;
        if self.answers >= STEADY {
            (self.answers, self.at_once) = (0, self.at_once.saturating_add(1).min(self.max));
        }
    }

    /// Half as many at once, for the calls of one burst once; and one at a time at first.
    fn slow_down(&mut self, now: u64, left: u64) {
        if left >= self.halved_at {
            (self.at_once, self.answers, self.halved_at) = ((self.at_once / 2).max(1), 0, now);
        }
        (self.ramp, self.closed_at) = (Some(1), now);
    }

    /// Least time between two exchanges.
    pub fn gap(&self) -> u64 {
        (self.window / 600).max(1)
    }

    /// When the other processes must be asked; `None`: not now, or there are none.
    pub fn exchange_due(&self, waiting: bool) -> Option<u64> {
        match &self.source {
            Source::Own(_) => None,
            Source::Leased(bank) => bank.due(self.gap(), waiting),
        }
    }

    /// This model failed several times in a row: the others leave it alone too.
    pub fn opened(&mut self, now: u64, model: &str, until: u64) {
        self.act(now, Act::Opened { model: model.to_owned(), until });
    }
    /// The trial call of a model that had failed has ended: well, or in a way that says nothing.
    pub fn tried(&mut self, now: u64, model: &str, well: bool) {
        self.act(now, Act::Tried { model: model.to_owned(), well });
    }
    /// Models that fail, in all processes: what the last exchange has brought.
    pub fn take_ill(&mut self) -> Option<Ill> {
        match &mut self.source {
            Source::Own(_) => None,
            Source::Leased(bank) => bank.take_ill(),
        }
    }
    /// `true`: nobody else needs to be asked before this model is tried. Else they are asked, soon.
    pub fn may_try(&mut self, model: &str) -> bool {
        match &mut self.source {
            Source::Own(_) => true,
            Source::Leased(bank) => {
                bank.try_model(model);
                false
            }
        }
    }

    /// What to ask the others before the first call does. Where limits are stated it alone can say what it needs.
    pub fn ask_ahead(&mut self, now: u64) -> Option<(Rates, u64, Offer)> {
        match &mut self.source {
            Source::Leased(bank) if !self.rates.any() => bank.ask_ahead(now).map(|o| (self.rates, self.window, o)),
            Source::Own(_) | Source::Leased(_) => None,
        }
    }

    /// What this process must still say before it ends.
    pub fn farewell(&mut self, now: u64) -> Option<(Rates, u64, Offer)> {
        match &mut self.source {
            Source::Own(_) => None,
            Source::Leased(bank) => bank.farewell(now).map(|offer| (self.rates, self.window, offer)),
        }
    }
    /// An exchange is under way.
    pub fn is_away(&self) -> bool {
        match &self.source {
            Source::Own(_) => false,
            Source::Leased(bank) => bank.is_away(),
        }
    }

    /// Everything to tell them, and what the first calls in the queue need, the first since `since`.
    pub fn offer(&mut self, now: u64, queue: &[Need], since: u64) -> Option<(Rates, u64, Offer)> {
        let free = (self.at_once() as usize).saturating_sub(self.flights.len());
        let wants = queue.iter().take(free).map(|need| self.likely(*need)).collect();
        match &mut self.source {
            Source::Own(_) => None,
            Source::Leased(bank) => Some((self.rates, self.window, bank.offer(now, wants, since))),
        }
    }

    /// `Err`: the exchange failed. After three in a row the gate goes on by itself, with the full limits;
    /// `true` says so.
    pub fn accept(&mut self, now: u64, reply: Result<Reply, Offer>) -> bool {
        let Source::Leased(bank) = &mut self.source else { return false };
        let Some(acts) = bank.accept(reply) else { return false };
        let mut meter = Meter::new(self.window);
        acts.iter().for_each(|act| meter.apply(now, &self.rates, act));
        self.source = Source::Own(Box::new(meter));
        true
    }

    /// Of two statements of the same limits the smaller counts.
    pub fn narrow(&mut self, rates: &Rates, max: u32) {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        self.rates = Rates {
            rpm: least(self.rates.rpm, rates.rpm),
            tpm: least(self.rates.tpm, rates.tpm),
            itpm: least(self.rates.itpm, rates.itpm),
            otpm: least(self.rates.otpm, rates.otpm),
            rpd: least(self.rates.rpd, rates.rpd),
        };
        self.max = self.max.min(max.max(1));
        self.at_once = self.at_once.min(self.max);
    }
}
