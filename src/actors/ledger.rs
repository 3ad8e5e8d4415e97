//! The ledger's shell. Invariant: a hold is decided on everything that was booked before it, and on
//! the state of the agent that asks; whoever waits is tried again whenever something settles.
//! Money of a day is asked of the store first (`day`).

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use self::day::{DayWork, Purpose};
use super::shell::{Commit, Fatal, Shell};
use super::work::Context;
use crate::core::event::{CallEvent, Event, Subject};
use crate::core::ids::{CallId, Seq};
use crate::core::ledger::{DayAsk, HoldRequest, Ledger, LedgerStep};
use crate::core::machine::{Decided, Refusal};
use crate::core::run::Entry;
use crate::ports::store::{Epoch, PotShare, StoreError};

mod day;

pub enum LedgerMsg {
    /// `as_of`: the last entry the agent has folded. If it has moved, the request is void.
    Hold {
        request: Box<HoldRequest>,
        as_of: Seq,
    },
    /// `call.settled`, from a person. Void unless the call is in doubt. Replies with the entry as of
    /// which it is booked or void.
    Settle {
        event: Box<Event>,
        booked: oneshot::Sender<Seq>,
    },
    Committed(Arc<Entry>),
    /// What the store says of the day's money.
    Pot {
        purpose: Purpose,
        ask: DayAsk,
        answer: Result<PotShare, StoreError>,
    },
    /// Time to look after the day's money again.
    Look,
    /// Replies when everything before it has been handled, and the day's money is where it belongs.
    Quiet(oneshot::Sender<()>),
    /// Fails, on purpose: a drill of supervision.
    Drill,
}

pub struct LedgerActor;

pub struct LedgerArgs {
    pub context: Arc<Context>,
    pub epoch: Epoch,
    pub machine: Ledger,
    /// The last entry the machine has folded.
    pub last: Seq,
    /// None of its entries can be later than that.
    pub fresh: bool,
}

pub struct LedgerState {
    shell: Shell<Ledger>,
    context: Arc<Context>,
    /// Requests that wait or met a ledger that had moved.
    asked: BTreeMap<CallId, (Box<HoldRequest>, Seq)>,
    stale: Vec<CallId>,
    /// Settlements that met a ledger that had moved.
    settles: Vec<(Event, oneshot::Sender<Seq>)>,
    day: DayWork,
    myself: ActorRef<LedgerMsg>,
}

impl Actor for LedgerActor {
    type Msg = LedgerMsg;
    type State = LedgerState;
    type Arguments = LedgerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<LedgerMsg>,
        args: LedgerArgs,
    ) -> Result<LedgerState, ActorProcessingErr> {
        let LedgerArgs { context, epoch, machine, last, fresh } = args;
        let mailbox = myself.clone();
        let deliver = Arc::new(move |entry| drop(mailbox.cast(LedgerMsg::Committed(entry))));
        let subject = Subject::Ledger;
        context.journal.follow(&subject, last, fresh, deliver).await?;
        let shell = Shell::new(machine, last, subject, context.journal.clone());
        let (asked, stale, settles) = (BTreeMap::new(), Vec::new(), Vec::new());
        Ok(LedgerState { shell, context, asked, stale, settles, day: DayWork::new(epoch), myself })
    }

    async fn handle(
        &self,
        _: ActorRef<LedgerMsg>,
        message: LedgerMsg,
        state: &mut LedgerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LedgerMsg::Hold { request, as_of } => {
                let call = request.call.clone();
                state.asked.insert(call.clone(), (request, as_of));
                state.hold(&call).await?;
            }
            LedgerMsg::Committed(entry) => {
                state.shell.fold(&entry)?;
                state.day_moved(&entry).await?;
                // Many answers that come at once are folded first, and not each met with every hold that waits.
                if !state.shell.is_behind() {
                    state.settle().await?;
                    for call in std::mem::take(&mut state.stale) {
                        state.hold(&call).await?;
                    }
                    state.try_waiting().await?;
                }
            }
            LedgerMsg::Settle { event, booked } => {
                state.settles.push((*event, booked));
                if !state.shell.is_behind() {
                    state.settle().await?;
                    state.try_waiting().await?;
                }
            }
            LedgerMsg::Pot { purpose, ask, answer } => state.pot(purpose, ask, answer).await?,
            LedgerMsg::Look => state.look().await?,
            LedgerMsg::Quiet(reply) => state.quiet(reply),
            LedgerMsg::Drill => return Err("drill: the ledger was told to fail".into()),
        }
        Ok(())
    }
}

impl LedgerState {
    /// Books what people settled, each on a hold that is in doubt now: a second settlement is void.
    async fn settle(&mut self) -> Result<(), Fatal> {
        while let Some(event) = self.settles.first().map(|(event, _)| event.clone()) {
            let call = match &event {
                Event::Call(CallEvent::Settled { call, .. }) => Some(call),
                Event::Call(_) | Event::Run(_) | Event::Task(_) | Event::Tool(_) => None,
                Event::Interrupt(_) | Event::Ledger(_) => None,
            };
            let hold = call.and_then(|call| self.shell.machine.hold(call));
            if !hold.is_some_and(|hold| hold.ambiguous) {
                tracing::warn!(?call, "a settlement of a call that is not in doubt is void");
            } else if self.shell.commit(Decided::one(event), None).await? != Commit::Done {
                return Ok(());
            }
            let (_, booked) = self.settles.remove(0);
            let _ = booked.send(self.shell.last);
        }
        Ok(())
    }

    async fn hold(&mut self, call: &CallId) -> Result<(), Fatal> {
        let Some((request, as_of)) = self.asked.get(call) else { return Ok(()) };
        if self.shell.is_behind() {
            self.stale.push(call.clone());
            return Ok(());
        }
        if let Some(ask) = self.shell.machine.day_ask(&self.context.crew, request, self.today())
            && self.day.answered.as_ref() != Some(call)
        {
            self.ask_day(call, ask);
            return Ok(());
        }
        let decided = match self.shell.machine.decide(self.context.world(), request) {
            Ok(decided) => decided,
            // It keeps its place in the queue; a settlement tries it again.
            Err(Refusal::Waiting) => {
                self.wait_for_day();
                return Ok(());
            }
            // A text of the journal is gone: nobody could go on.
            Err(Refusal::Missing(missing)) => return Err(missing.into()),
            Err(Refusal::Paused | Refusal::NotDue(_)) => {
                self.asked.remove(call);
                return Ok(());
            }
        };
        let waits = matches!(&decided.events[..], [Event::Call(CallEvent::Queued { .. })]);
        let agent = Subject::Agent(request.agent.clone());
        match self.shell.commit(decided, Some((agent, *as_of))).await? {
            // The agent hears of the queue, and its request is from then on as of that.
            Commit::Done if waits => {
                let last = self.shell.last;
                if let Some((_, as_of)) = self.asked.get_mut(call) {
                    *as_of = last;
                }
                self.wait_for_day();
            }
            Commit::Done => drop(self.asked.remove(call)),
            Commit::Stale(Subject::Agent(_)) => drop(self.asked.remove(call)),
            Commit::Stale(_) => self.stale.push(call.clone()),
        }
        Ok(())
    }

    /// First waiters, again and again, until none of them moves.
    async fn try_waiting(&mut self) -> Result<(), Fatal> {
        loop {
            let before = self.shell.last;
            for LedgerStep::Try(call) in self.shell.machine.next() {
                // Beyond the grant the store is asked at intervals, not at every entry.
                if !self.beyond_the_day(&call) {
                    self.hold(&call).await?;
                }
            }
            if self.shell.last == before {
                return Ok(());
            }
        }
    }
}
