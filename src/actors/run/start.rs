//! What a run's root starts. Invariant: whoever decides is subscribed before anything is decided.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;

use super::RunMsg;
use crate::actors::coordinator::{Coordinator, CoordinatorArgs, CoordinatorMsg, Slices};
use crate::actors::ledger::{LedgerActor, LedgerArgs, LedgerMsg};
use crate::actors::shell::Fatal;
use crate::actors::work::{Context, Flights};
use crate::core::event::{Event, PauseCause, RunEvent};
use crate::core::run::Run;
use crate::ports::store::Epoch;

/// `fresh`: the journal begins where the fold ends, and nobody else knows it yet.
pub(super) async fn start_machines(
    myself: &ActorRef<RunMsg>,
    context: &Arc<Context>,
    epoch: Epoch,
    (run, fresh): (Run, bool),
) -> Result<(ActorRef<CoordinatorMsg>, ActorRef<LedgerMsg>), ActorProcessingErr> {
    let last = run.last;
    let args = LedgerArgs { context: context.clone(), epoch, machine: run.ledger, last, fresh };
    let (ledger, _) = LedgerActor::spawn_linked(None, LedgerActor, args, myself.get_cell()).await?;
    let mut plans = run.plans;
    let root = plans.remove(&crate::core::ids::Step::root()).ok_or(Fatal::NoJournal)?;
    let slices = Slices {
        agents: run.agents.into_iter().map(|(who, agent)| (who, (agent, last))).collect(),
        plans: plans.into_iter().map(|(step, plan)| (step, (plan, last))).collect(),
    };
    let slices = Arc::new(slices);
    let (context, plan) = (context.clone(), root);
    let args = CoordinatorArgs { context, ledger: ledger.clone(), plan, last, fresh, slices };
    let (coordinator, _) = Coordinator::spawn_linked(None, Coordinator, args, myself.get_cell()).await?;
    Ok((coordinator, ledger))
}

pub(super) fn watch_flights(myself: &ActorRef<RunMsg>, flights: Arc<Flights>) -> AbortHandle {
    let mailbox = myself.clone();
    let watch = tokio::spawn(async move {
        loop {
            flights.drained.notified().await;
            if mailbox.cast(RunMsg::Drained).is_err() {
                return;
            }
        }
    });
    watch.abort_handle()
}

/// The deadline pauses the run and drops its calls: they are ambiguous, and it resumes later.
pub(super) fn watch_deadline(myself: &ActorRef<RunMsg>, time: Duration) -> AbortHandle {
    let mailbox = myself.clone();
    let watch = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        let event = RunEvent::PauseAsked { cause: PauseCause::Deadline, by: "deadline".into() };
        let _ = mailbox.cast(RunMsg::Record(vec![Event::Run(event)]));
        let _ = mailbox.cast(RunMsg::DropCalls);
    });
    watch.abort_handle()
}
