//! Agents whose actor is gone. Invariant: one is taken up again from what is on disk, and hears whatever
//! came since.

use std::sync::Arc;

use ractor::{ActorCell, ActorProcessingErr, ActorRef};

use super::{CoordinatorMsg, CoordinatorState};
use crate::actors::shell::Fatal;
use crate::core::agent::Agent;
use crate::core::crew::Crew;
use crate::core::event::{Event, TaskEvent};
use crate::core::ids::{AgentRef, RunId, Seq};
use crate::core::machine::Decided;
use crate::core::run::{Entry, Run};
use crate::ports::store::{Row, Store};

impl CoordinatorState {
    /// What an agent that is not up begins with, up to which entry, and whether it has no past.
    pub(super) async fn slice(&mut self, agent: &AgentRef) -> Result<(Agent, Seq, bool), Fatal> {
        if self.fallen.contains(agent) {
            let (head, _) = self.context.journal.head().await.ok_or(Fatal::NoJournal)?;
            let (machine, last) = self.refold(agent, head).await?;
            self.fallen.remove(agent);
            return Ok((machine, last, false));
        }
        Ok(match self.slices.agents.get(agent).cloned() {
            Some((machine, last)) => (machine, last, false),
            None => (Agent::begun(agent.clone(), self.shell.machine.control().clone()), self.shell.last, true),
        })
    }

    /// An agent's actor is gone: the fact is recorded, and it is taken up again from the journal. Its
    /// call, if one is in flight, runs on.
    pub(super) async fn failed(
        &mut self,
        myself: &ActorRef<CoordinatorMsg>,
        who: &ActorCell,
        error: &ActorProcessingErr,
    ) -> Result<(), Fatal> {
        let gone = self.agents.iter().find(|(_, actor)| actor.get_id() == who.get_id());
        let Some(agent) = gone.map(|(agent, _)| agent.clone()) else {
            // A sub-crew's coordinator, or one that is no longer ours: the run starts over from the fold.
            tracing::error!(%error, "a coordinator failed");
            return Err(Fatal::Below(error.to_string()));
        };
        self.agents.remove(&agent);
        tracing::warn!(%agent, %error, "an agent panicked; it is taken up again from the journal");
        let units = &self.shell.machine.state.units;
        let at_work = units.iter().find(|(_, unit)| !unit.is_over() && unit.agent.as_ref() == Some(&agent));
        let Some(step) = at_work.map(|(address, unit)| unit.step(address)) else {
            self.fallen.insert(agent);
            return Ok(());
        };
        let message = error.to_string().lines().next().unwrap_or_default().to_owned();
        let event = Event::Task(TaskEvent::Crashed { step, agent: agent.clone(), message });
        let seq = self.context.journal.record(Decided::one(event)).await.ok_or(Fatal::NoJournal)?;
        let (machine, last) = self.refold(&agent, seq).await?;
        self.raise_agent(myself, &agent, (machine, last, false)).await
    }

    /// The agent's machine from the journal as far as it is on disk; what came since is delivered when
    /// it subscribes.
    async fn refold(&self, agent: &AgentRef, seq: Seq) -> Result<(Agent, Seq), Fatal> {
        self.context.journal.durable.wait(seq).await.map_err(|_| Fatal::NoJournal)?;
        let (store, run, crew) =
            (self.context.ports.store.clone(), self.context.run.clone(), self.context.crew.clone());
        let folded = tokio::task::spawn_blocking(move || fold(&*store, &run, crew));
        let run = folded.await.ok().flatten().ok_or(Fatal::NoJournal)?;
        let machine =
            run.agents.get(agent).cloned().unwrap_or_else(|| Agent::begun(agent.clone(), run.control.clone()));
        Ok((machine, run.last))
    }
}

/// The run as far as it is on disk; `None` if it cannot be read.
pub fn fold(store: &dyn Store, run: &RunId, crew: Arc<Crew>) -> Option<Run> {
    let rows = store.read(run, Seq(1)).ok()?;
    let decode = |row: &Row| Entry::decode(row.seq, row.at_ms, &row.kind, &row.payload);
    let entries: Vec<Entry> = rows.iter().map(decode).collect::<Result<_, _>>().ok()?;
    Run::fold(crew, &entries).ok()
}
