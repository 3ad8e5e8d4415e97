//! How a run comes to rest in this process: parked or finished. Invariant: it is told outside only once
//! everything that was written is on disk and nothing is in flight.

use ractor::ActorRef;
use tokio::sync::oneshot;

use super::{Outcome, RootState, RunMsg};
use crate::actors::coordinator::CoordinatorMsg;
use crate::actors::crash::crash_point;
use crate::actors::ledger::LedgerMsg;
use crate::core::event::{RunEnd, TaskResult};
use crate::core::ids::Seq;
use crate::core::machine::Decided;

impl RootState {
    /// `seq` is the entry that says so.
    pub(super) async fn finished(
        &mut self,
        myself: &ActorRef<RunMsg>,
        seq: Seq,
        status: RunEnd,
        result: Option<TaskResult>,
    ) {
        // A cancelled call or one of an agent that was given up: its hold has an end as well.
        let events = self.context.flights.drop_all();
        let last = match events.is_empty() {
            true => Some(seq),
            false => self.context.journal.record(Decided { events, blobs: Vec::new() }).await,
        };
        crash_point!(self.context.ports.crash, "finished");
        let Some(last) = last else { return drop(myself.cast(RunMsg::Broken)) };
        // While the disk is busy: what the other processes do not know yet of this one's calls.
        let farewell = async {
            if (self.alone)() {
                self.context.throttle.farewell().await;
            }
        };
        let (written, ()) = tokio::join!(self.context.journal.durable.wait(last), farewell);
        if written.is_err() {
            let _ = myself.cast(RunMsg::Broken);
            return;
        }
        crash_point!(self.context.ports.crash, "finished_durable");
        if self.context.crew.budget.per_day.is_some() {
            // What it did not use of the day is the other runs'.
            let (ask, answer) = oneshot::channel();
            let _ = self.ledger.cast(LedgerMsg::Quiet(ask));
            let _ = answer.await;
        }
        crash_point!(self.context.ports.crash, "finished_at_rest");
        let head = self.head().await;
        self.end(myself, Outcome::Finished { status, result, head });
    }

    /// Has everyone handled what was in their mailboxes when the run was parked? Two rounds: what one
    /// actor wrote in the first may be another's mail in the second.
    pub(super) fn ask_quiet(&self, myself: &ActorRef<RunMsg>) {
        let (coordinator, ledger, journal) =
            (self.coordinator.clone(), self.ledger.clone(), self.context.journal.clone());
        let mailbox = myself.clone();
        tokio::spawn(async move {
            for _ in 0..2 {
                let (ask, answer) = oneshot::channel();
                if coordinator.cast(CoordinatorMsg::Quiet(ask)).is_ok() {
                    let _ = answer.await;
                }
                let (ask, answer) = oneshot::channel();
                if ledger.cast(LedgerMsg::Quiet(ask)).is_ok() {
                    let _ = answer.await;
                }
            }
            let (ask, answer) = oneshot::channel();
            let asked = coordinator.cast(CoordinatorMsg::IsParked(ask)).is_ok();
            // One that has died is replaced, and parks anew.
            let parked = !asked || answer.await.unwrap_or(true);
            if let Some((head, _)) = journal.head().await {
                let _ = mailbox.cast(RunMsg::Settled { head, parked });
            }
        });
    }

    pub(super) async fn settled(&mut self, myself: &ActorRef<RunMsg>, head: Seq, parked: bool) {
        let Some((seq, causes)) = self.parked.take() else { return };
        if !parked {
            // A decision came meanwhile, and something goes on: at a gate, or after a pause. It parks again, or ends.
            return;
        }
        if head != seq || !self.context.flights.is_empty() {
            // Something moved meanwhile. If it concerns the coordinator, that parks again; if it is an
            // agent's alone (a failed attempt, a settlement), the run is at rest once nothing more comes.
            self.parked = Some((head, causes));
            match self.context.flights.is_empty() {
                true => self.ask_quiet(myself),
                false => self.context.flights.await_empty(),
            }
            return;
        }
        if self.context.journal.durable.wait(seq).await.is_err() {
            let _ = myself.cast(RunMsg::Broken);
            return;
        }
        crash_point!(self.context.ports.crash, "parked");
        let head = self.head().await;
        self.end(myself, Outcome::Parked { causes, head });
    }

    pub(super) fn end(&mut self, myself: &ActorRef<RunMsg>, outcome: Outcome) {
        // A run that goes on elsewhere must not be billed for what this process still had in flight.
        self.context.flights.drop_all();
        if !matches!(outcome, Outcome::Crashed(_) | Outcome::GaveUp(_)) {
            self.context.ports.store.release(&self.context.run);
        }
        if let Some(waiter) = self.outcome.take() {
            // Nobody may be waiting any more; the journal has it all.
            let _ = waiter.send(outcome);
        }
        myself.stop(None);
    }
}
