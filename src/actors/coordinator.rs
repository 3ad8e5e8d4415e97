//! Owns the task tree of one crew or sub-crew: assigns, collects, supervises. Invariant: an actor is
//! up and subscribed before the event that gives it work is written, so that it misses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

mod crowd;
mod fallen;
pub use fallen::fold;

use super::agent::{AgentActor, AgentArgs, AgentMsg};
use super::ledger::LedgerMsg;
use super::run::Drill;
use super::shell::{Commit, Fatal, Shell};
use super::work::{Context, start_file};
use crate::core::agent::Agent;
use crate::core::event::{Event, Subject, TaskEvent};
use crate::core::ids::{AgentRef, Seq, Step};
use crate::core::machine::{Decided, Refusal};
use crate::core::plan::{Phase, Plan, PlanStep};
use crate::core::run::Entry;

pub enum CoordinatorMsg {
    Committed(Arc<Entry>),
    /// Look again at what is due.
    Wake,
    /// Replies when this coordinator and everything below it has handled what came before.
    Quiet(oneshot::Sender<()>),
    /// Does nothing go on in the crew, as far as this coordinator has folded?
    IsParked(oneshot::Sender<bool>),
    /// Makes an agent that is at work, or this very actor, panic: a drill of supervision. Replies whether
    /// there was one.
    Drill(Drill, oneshot::Sender<bool>),
}

pub struct Coordinator;

pub struct CoordinatorArgs {
    pub context: Arc<Context>,
    pub ledger: ActorRef<LedgerMsg>,
    pub plan: Plan,
    /// The last entry the plan has folded.
    pub last: Seq,
    /// None of its entries can be later than that: the sub-crew begins, or the journal does.
    pub fresh: bool,
    /// What resumed machines this scope and those below it begin with.
    pub slices: Arc<Slices>,
}

/// Machines folded before the actors were up.
#[derive(Default)]
pub struct Slices {
    pub agents: BTreeMap<AgentRef, (Agent, Seq)>,
    pub plans: BTreeMap<Step, (Plan, Seq)>,
}

pub struct CoordinatorState {
    shell: Shell<Plan>,
    context: Arc<Context>,
    ledger: ActorRef<LedgerMsg>,
    slices: Arc<Slices>,
    agents: BTreeMap<AgentRef, ActorRef<AgentMsg>>,
    /// Agents that panicked with nothing to do: what they remember is in the journal.
    fallen: BTreeSet<AgentRef>,
    crews: BTreeMap<Step, ActorRef<CoordinatorMsg>>,
}

impl Actor for Coordinator {
    type Msg = CoordinatorMsg;
    type State = CoordinatorState;
    type Arguments = CoordinatorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<CoordinatorMsg>,
        args: CoordinatorArgs,
    ) -> Result<CoordinatorState, ActorProcessingErr> {
        let CoordinatorArgs { context, ledger, plan, last, fresh, slices } = args;
        let subject = Subject::Plan(plan.state.scope.clone());
        let mailbox = myself.clone();
        let deliver = Arc::new(move |entry| drop(mailbox.cast(CoordinatorMsg::Committed(entry))));
        context.journal.follow(&subject, last, fresh, deliver).await?;
        let shell = Shell::new(plan, last, subject, context.journal.clone());
        let (agents, fallen, crews) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let mut state = CoordinatorState { shell, context, ledger, slices, agents, fallen, crews };
        state.take_up(&myself).await?;
        // What was under way goes on once it is up.
        let _ = myself.cast(CoordinatorMsg::Wake);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<CoordinatorMsg>,
        message: CoordinatorMsg,
        state: &mut CoordinatorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CoordinatorMsg::Committed(entry) => {
                state.shell.fold(&entry)?;
                state.let_go(&entry);
                state.told(&entry);
            }
            // A sub-crew may be the one that waits for the last call in flight.
            CoordinatorMsg::Wake => state.crews.values().for_each(|crew| drop(crew.cast(CoordinatorMsg::Wake))),
            CoordinatorMsg::Quiet(reply) => {
                state.quiet(reply);
                return Ok(());
            }
            CoordinatorMsg::IsParked(reply) => {
                let _ = reply.send(state.shell.machine.is_parked());
                return Ok(());
            }
            CoordinatorMsg::Drill(Drill::Coordinator, reply) => {
                let _ = reply.send(true);
                std::panic::resume_unwind(Box::new("drill: this coordinator was told to panic"));
            }
            CoordinatorMsg::Drill(drill, reply) => {
                let agent = if drill == Drill::Idle { state.idle() } else { state.working() };
                let _ = reply.send(agent.is_some_and(|agent| agent.cast(AgentMsg::Drill).is_ok()));
                return Ok(());
            }
        }
        state.pump(&myself).await?;
        Ok(())
    }

    /// A child's end is not this actor's: an agent that panicked is taken up again from the journal.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<CoordinatorMsg>,
        event: SupervisionEvent,
        state: &mut CoordinatorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => state.failed(&myself, &who, &error).await?,
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ActorTerminated(..) => {}
            SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl CoordinatorState {
    /// After a resume: every agent with work or memory, and every sub-crew at work.
    async fn take_up(&mut self, myself: &ActorRef<CoordinatorMsg>) -> Result<(), Fatal> {
        let scope = self.shell.machine.state.scope.clone();
        let slices = self.slices.clone();
        for (agent, (machine, last)) in slices.agents.iter().filter(|(agent, _)| agent.scope == scope) {
            if machine.job.is_some() {
                self.raise_agent(myself, agent, (machine.clone(), *last, false)).await?;
            }
        }
        for (step, (plan, last)) in &slices.plans {
            let own = self.shell.machine.state.units.get(&step.with_round(None)).is_some_and(|unit| !unit.is_over());
            if own && *step != scope {
                self.raise_crew(myself, plan.clone(), *last, false).await?;
            }
        }
        Ok(())
    }

    async fn pump(&mut self, myself: &ActorRef<CoordinatorMsg>) -> Result<(), Fatal> {
        // What has moved is in the mailbox: everything is looked at again after it.
        while !self.shell.is_behind() {
            let mut moved = false;
            let due = self.shell.machine.next();
            if self.is_crowd(&due) {
                match self.start_crowd(myself, &due).await? {
                    Took::Moved => continue,
                    Took::Nothing | Took::Stale => return Ok(()),
                }
            }
            for step in due {
                match self.take(myself, step).await? {
                    Took::Moved => moved = true,
                    Took::Nothing => {}
                    // Its entries are in the mailbox: everything is looked at again after them.
                    Took::Stale => return Ok(()),
                }
            }
            if !moved {
                break;
            }
        }
        Ok(())
    }

    async fn take(&mut self, myself: &ActorRef<CoordinatorMsg>, step: PlanStep) -> Result<Took, Fatal> {
        match &step {
            PlanStep::WriteFile(unit) => return self.write_file(unit).await,
            // Calls in flight may still end: parked is what nothing moves any more.
            PlanStep::Park if !self.context.flights.is_empty() => {
                self.context.flights.await_empty();
                return Ok(Took::Nothing);
            }
            PlanStep::Park | PlanStep::Finish | PlanStep::Cancel => {}
            PlanStep::Start(_) | PlanStep::CloseList(_) | PlanStep::DecideRound(_) => {}
            PlanStep::Delegate { .. } | PlanStep::Return(_) | PlanStep::FailCrashed(_) => {}
            PlanStep::Reject(_) => {}
        }
        let Some(decided) = self.decide(&step)? else { return Ok(Took::Nothing) };
        self.prepare(myself, &decided).await?;
        match self.shell.commit(decided, None).await? {
            Commit::Done => Ok(Took::Moved),
            Commit::Stale(_) => Ok(Took::Stale),
        }
    }

    fn decide(&self, step: &PlanStep) -> Result<Option<Decided>, Fatal> {
        match self.shell.machine.decide(self.context.world(), step) {
            Ok(decided) => Ok((!decided.events.is_empty()).then_some(decided)),
            Err(Refusal::Missing(missing)) => {
                tracing::error!(%missing, "a text of the journal is gone");
                Err(missing.into())
            }
            Err(Refusal::Paused | Refusal::Waiting | Refusal::NotDue(_)) => Ok(None),
        }
    }

    /// Whoever the decision gives work must be up to hear of it.
    async fn prepare(&mut self, myself: &ActorRef<CoordinatorMsg>, decided: &Decided) -> Result<(), Fatal> {
        for event in &decided.events {
            let Event::Task(task) = event else { continue };
            if let TaskEvent::Assigned { agent, .. } = task
                && !self.agents.contains_key(agent)
            {
                let slice = self.slice(agent).await?;
                self.raise_agent(myself, agent, slice).await?;
            }
            if let TaskEvent::CrewStarted { step, .. } = task
                && !self.crews.contains_key(step)
                && let Some(crew) = self.context.crew.of_scope(step)
            {
                self.raise_crew(myself, Plan::new(step.clone(), crew), self.shell.last, true).await?;
            }
        }
        Ok(())
    }

    async fn raise_agent(
        &mut self,
        myself: &ActorRef<CoordinatorMsg>,
        who: &AgentRef,
        (machine, last, fresh): (Agent, Seq, bool),
    ) -> Result<(), Fatal> {
        let (context, ledger) = (self.context.clone(), self.ledger.clone());
        let args = AgentArgs { context, ledger, machine, last, fresh };
        let spawned = AgentActor::spawn_linked(None, AgentActor, args, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|error| Fatal::NotUp(error.to_string()))?;
        self.agents.insert(who.clone(), actor);
        Ok(())
    }

    // A sub-crew's coordinator is this very actor again: the future must be boxed to be finite.
    fn raise_crew<'a>(
        &'a mut self,
        myself: &'a ActorRef<CoordinatorMsg>,
        plan: Plan,
        last: Seq,
        fresh: bool,
    ) -> crate::ports::BoxFuture<'a, Result<(), Fatal>> {
        Box::pin(async move {
            let step = plan.state.scope.clone();
            let (context, ledger, slices) = (self.context.clone(), self.ledger.clone(), self.slices.clone());
            let args = CoordinatorArgs { context, ledger, plan, last, fresh, slices };
            let spawned = Coordinator::spawn_linked(None, Coordinator, args, myself.get_cell()).await;
            let (actor, _) = spawned.map_err(|error| Fatal::NotUp(error.to_string()))?;
            self.crews.insert(step, actor);
            Ok(())
        })
    }

    /// A sub-crew that is done takes its actors with it.
    fn let_go(&mut self, entry: &Entry) {
        if let Event::Task(TaskEvent::Finished { step, .. }) = &entry.event
            && let Some(crew) = self.crews.remove(step)
        {
            self.context.journal.unsubscribe(step.clone());
            crew.stop(None);
        }
    }

    /// An agent with nothing in hand may not have been up when it was told: it is raised from the journal.
    fn told(&mut self, entry: &Entry) {
        let Event::Task(TaskEvent::Told { agent, .. }) = &entry.event else { return };
        let hand = |phase: &Phase| matches!(phase, Phase::Running | Phase::Waits | Phase::Blocked | Phase::Review(..));
        let units = &self.shell.machine.state.units;
        if !units.values().any(|unit| unit.agent.as_ref() == Some(agent) && hand(&unit.phase)) {
            self.agents.remove(agent).into_iter().for_each(|actor| actor.stop(None));
            self.fallen.insert(agent.clone());
        }
    }

    async fn write_file(&mut self, unit: &Step) -> Result<Took, Fatal> {
        match self.shell.machine.output_file(self.context.world(), unit) {
            Ok((path, text)) => start_file(&self.context, unit.clone(), self.shell.last, path, text),
            Err(_) if self.context.flights.is_told_of_file(unit, self.shell.last) => {}
            Err(message) => {
                let event = TaskEvent::FileFailed { step: unit.clone(), path: String::new(), message };
                let recorded = self.context.journal.record(Decided::one(Event::Task(event))).await;
                self.context.flights.told_of_file(unit.clone(), recorded.ok_or(Fatal::NoJournal)?);
            }
        }
        Ok(Took::Nothing)
    }

    /// Asks everyone below, and answers once all have.
    fn quiet(&self, reply: oneshot::Sender<()>) {
        let mut answers = Vec::new();
        for agent in self.agents.values() {
            let (ask, answer) = oneshot::channel();
            if agent.cast(AgentMsg::Quiet(ask)).is_ok() {
                answers.push(answer);
            }
        }
        for crew in self.crews.values() {
            let (ask, answer) = oneshot::channel();
            if crew.cast(CoordinatorMsg::Quiet(ask)).is_ok() {
                answers.push(answer);
            }
        }
        tokio::spawn(async move {
            for answer in answers {
                // Whoever died meanwhile is quiet.
                let _ = answer.await;
            }
            let _ = reply.send(());
        });
    }

    /// An agent that has a task in its hands: not one that waits for its next round.
    fn working(&self) -> Option<&ActorRef<AgentMsg>> {
        let units = self.shell.machine.state.units.values().filter(|unit| unit.phase == Phase::Running);
        units.filter_map(|unit| unit.agent.as_ref()).find_map(|agent| self.agents.get(agent))
    }

    /// An agent that is up and has nothing to do.
    fn idle(&self) -> Option<&ActorRef<AgentMsg>> {
        let units = &self.shell.machine.state.units;
        let busy = |who: &AgentRef| units.values().any(|unit| !unit.is_over() && unit.agent.as_ref() == Some(who));
        self.agents.iter().find(|(who, _)| !busy(who)).map(|(_, agent)| agent)
    }
}

enum Took {
    Moved,
    Nothing,
    Stale,
}
