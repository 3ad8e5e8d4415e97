//! The day's money, between the ledger and the store. Invariant: at every instant the store's row of
//! this run is at or above what its durable journal says was granted: a grant is taken in the store
//! before `budget.day` records it, and given back there only after that event is durable.
//!
//! One request to the store at a time, so that what is given back cannot overtake what is taken. After a
//! crash in between, the row is too high and the next ask sets it right; it is never too low.

use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::oneshot;

use super::{LedgerMsg, LedgerState};
use crate::actors::crash::crash_point;
use crate::actors::shell::Fatal;
use crate::core::event::{CallEvent, Event, LedgerEvent, RunEvent};
use crate::core::ids::{CallId, Seq};
use crate::core::ledger::{Day, DayAsk, LedgerStep};
use crate::core::machine::Decided;
use crate::core::money::NanoUsd;
use crate::core::run::Entry;
use crate::ports::store::{Epoch, PotAsk, PotShare, StoreError};

/// How long a call that waits for other runs' money waits before it asks again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a grant lies idle before it is given back: the next call of an agent comes sooner.
const IDLE: Duration = Duration::from_secs(1);

/// Why the store is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// This call does not fit into the grant.
    Hold(CallId),
    /// To give back what is not used.
    Rest,
}

pub struct DayWork {
    epoch: Epoch,
    /// The store is being asked.
    busy: bool,
    /// What was asked last.
    asked: Option<DayAsk>,
    /// Calls to be decided once it has answered.
    behind: Vec<CallId>,
    /// The call that was asked for and whose `budget.day` is being folded, with that entry.
    recorded: Option<(CallId, Seq)>,
    /// The call that is decided with what the store has just said.
    pub answered: Option<CallId>,
    /// A `Look` is on its way.
    armed: bool,
    /// What had been used when the grant was last found larger than that.
    idle: Option<DayAsk>,
    /// The run is at rest: everything unused goes back.
    closing: bool,
    /// Who waits for that.
    quiet: Vec<oneshot::Sender<()>>,
}

impl DayWork {
    pub fn new(epoch: Epoch) -> DayWork {
        let (behind, quiet) = (Vec::new(), Vec::new());
        let (busy, armed, closing) = (false, false, false);
        DayWork { epoch, busy, asked: None, behind, recorded: None, answered: None, armed, idle: None, closing, quiet }
    }
}

impl LedgerState {
    pub(super) fn today(&self) -> Day {
        Day::of_ms(self.context.ports.clock.now_ms())
    }

    /// Does the call wait for more than the run was granted?
    pub(super) fn beyond_the_day(&self, call: &CallId) -> bool {
        let request = self.asked.get(call);
        request.is_some_and(|(r, _)| self.shell.machine.day_ask(&self.context.crew, r, self.today()).is_some())
    }

    pub(super) fn ask_day(&mut self, call: &CallId, ask: DayAsk) {
        if self.day.busy || self.day.closing || self.day.recorded.is_some() {
            if !self.day.behind.contains(call) {
                self.day.behind.push(call.clone());
            }
            return;
        }
        self.ask_store(Purpose::Hold(call.clone()), ask, None);
    }

    /// Asks in a task of its own; `after` is the entry that must be durable before.
    fn ask_store(&mut self, purpose: Purpose, ask: DayAsk, after: Option<Seq>) {
        self.day.busy = true;
        self.day.asked = Some(ask);
        let (crew, run, epoch) = (self.context.crew.name.clone(), self.context.run.clone(), self.day.epoch);
        let pot = PotAsk { crew, run, epoch, as_of: self.shell.last.max(after.unwrap_or_default()), ask };
        let (store, durable, myself) =
            (self.context.ports.store.clone(), self.context.journal.durable.clone(), self.myself.clone());
        #[cfg(debug_assertions)]
        let crash = self.context.ports.crash.clone();
        tokio::spawn(async move {
            if let Some(seq) = after
                && durable.wait(seq).await.is_err()
            {
                // The run ends with its journal; what was granted stays in the row.
                return;
            }
            crash_point!(crash, "pot_ask");
            let asked = tokio::task::spawn_blocking(move || store.pot(&pot)).await;
            crash_point!(crash, "pot_asked");
            let failed = |why: tokio::task::JoinError| Err(StoreError::WriteFailed { why: why.to_string() });
            let answer = asked.unwrap_or_else(failed);
            let _ = myself.cast(LedgerMsg::Pot { purpose, ask, answer });
        });
    }

    pub(super) async fn pot(
        &mut self,
        purpose: Purpose,
        ask: DayAsk,
        answer: Result<PotShare, StoreError>,
    ) -> Result<(), Fatal> {
        self.day.busy = false;
        let share = answer.map_err(|error| Fatal::Below(format!("the day's budget: {error}")))?;
        if self.day.closing {
            if let Purpose::Hold(call) = purpose {
                self.day.behind.push(call);
                return self.close().await;
            }
            self.at_rest();
            return self.go_on().await;
        }
        let Purpose::Hold(call) = purpose else { return self.go_on().await };
        if self.shell.machine.day_news(&ask, share.granted, share.most) {
            let PotShare { granted, most } = share;
            let event = Event::Ledger(LedgerEvent::Day { day: ask.day, cap: ask.cap, granted, most });
            let seq = self.context.journal.record(Decided::one(event)).await.ok_or(Fatal::NoJournal)?;
            self.day.recorded = Some((call, seq));
            return Ok(());
        }
        self.decide_day(call).await
    }

    /// Decides the call on what is known now, enough or not.
    async fn decide_day(&mut self, call: CallId) -> Result<(), Fatal> {
        self.day.answered = Some(call.clone());
        let decided = self.hold(&call).await;
        self.day.answered = None;
        decided?;
        self.try_waiting().await?;
        self.go_on().await
    }

    async fn go_on(&mut self) -> Result<(), Fatal> {
        for call in std::mem::take(&mut self.day.behind) {
            self.hold(&call).await?;
        }
        Ok(())
    }

    /// An entry has been folded.
    pub(super) async fn day_moved(&mut self, entry: &Entry) -> Result<(), Fatal> {
        if self.context.crew.budget.per_day.is_none() {
            return Ok(());
        }
        if let Some((call, seq)) = self.day.recorded.take() {
            if self.shell.last >= seq && self.day.closing {
                self.day.behind.push(call);
                self.close().await?;
            } else if self.shell.last >= seq {
                self.decide_day(call).await?;
            } else {
                self.day.recorded = Some((call, seq));
            }
        }
        match &entry.event {
            Event::Run(RunEvent::Parked { .. } | RunEvent::Finished { .. }) => {
                self.day.closing = true;
                self.close().await
            }
            Event::Call(CallEvent::Answered(_) | CallEvent::Failed { .. } | CallEvent::Settled { .. }) => {
                if self.day.idle.is_none() {
                    self.day.idle = self.shell.machine.day_rest(&self.context.crew);
                    self.arm(IDLE);
                }
                Ok(())
            }
            Event::Run(_) | Event::Task(_) | Event::Call(_) | Event::Tool(_) => Ok(()),
            Event::Interrupt(_) | Event::Ledger(_) => Ok(()),
        }
    }

    /// At rest: the row falls to what was used. No event says so: whoever goes on asks anew; unless one
    /// that was on its way has opened the grant again.
    async fn close(&mut self) -> Result<(), Fatal> {
        if self.day.busy || self.day.recorded.is_some() {
            return Ok(());
        }
        if let Some(ask) = self.shell.machine.day_rest(&self.context.crew) {
            return self.give_back(ask).await;
        }
        // A day that was asked for and of which no event tells: nothing of it was used.
        let none = |ask: DayAsk| DayAsk { want: NanoUsd::ZERO, firm: NanoUsd::ZERO, ..ask };
        let used = self.shell.machine.day_used(&self.context.crew);
        let untold = self.day.asked.filter(|asked| used.is_none_or(|used| asked.day > used.day)).map(none);
        match untold.or(used) {
            Some(ask) => self.ask_store(Purpose::Rest, ask, Some(self.shell.last)),
            None => self.at_rest(),
        }
        Ok(())
    }

    fn at_rest(&mut self) {
        self.day.closing = false;
        for reply in self.day.quiet.drain(..) {
            let _ = reply.send(());
        }
    }

    pub(super) fn quiet(&mut self, reply: oneshot::Sender<()>) {
        if self.day.closing {
            self.day.quiet.push(reply);
        } else {
            let _ = reply.send(());
        }
    }

    /// A call waits; if it is for the day's money, the store is asked again in a while.
    pub(super) fn wait_for_day(&mut self) {
        if self.context.crew.budget.per_day.is_some() {
            self.arm(AGAIN);
        }
    }

    fn arm(&mut self, time: Duration) {
        if !std::mem::replace(&mut self.day.armed, true) {
            let myself: ActorRef<LedgerMsg> = self.myself.clone();
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                let _ = myself.cast(LedgerMsg::Look);
            });
        }
    }

    pub(super) async fn look(&mut self) -> Result<(), Fatal> {
        self.day.armed = false;
        if self.day.busy || self.day.closing || self.day.recorded.is_some() {
            self.arm(AGAIN);
            return Ok(());
        }
        let waiting: Vec<CallId> = self.shell.machine.next().into_iter().map(|LedgerStep::Try(call)| call).collect();
        let waiting = waiting.into_iter().find(|call| self.beyond_the_day(call));
        let rest = self.shell.machine.day_rest(&self.context.crew);
        // Two runs that both keep a little and wait for more would wait for ever.
        let idle = rest.is_some() && (waiting.is_some() || rest == self.day.idle);
        self.day.idle = rest;
        if let Some(ask) = rest.filter(|_| idle) {
            self.day.idle = None;
            self.give_back(ask).await?;
            self.arm(AGAIN);
        } else if let Some(call) = waiting {
            self.hold(&call).await?;
            self.arm(AGAIN);
        } else if rest.is_some() {
            self.arm(IDLE);
        }
        Ok(())
    }

    async fn give_back(&mut self, ask: DayAsk) -> Result<(), Fatal> {
        let most = ask.want.max(self.shell.machine.day_most().unwrap_or_default());
        let event = LedgerEvent::Day { day: ask.day, cap: ask.cap, granted: ask.want, most };
        let event = Decided::one(Event::Ledger(event));
        let seq = self.context.journal.record(event).await.ok_or(Fatal::NoJournal)?;
        self.ask_store(Purpose::Rest, ask, Some(seq));
        Ok(())
    }
}
