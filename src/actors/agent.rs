//! Drives one agent's machine. Invariant: its handler waits for the journal and for nothing else:
//! models, tools and timers run beside it, so it can be told something at any moment.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorName, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

mod people;
use people::People;

use super::ledger::LedgerMsg;
use super::shell::{Commit, Fatal, Shell};
use super::throttle::{Ask, Permit, TooLong};
use super::work::{Call, Context, ToolRun, Work, start_call, start_tool};
use crate::core::agent::{Agent, AgentStep, Decision, Phase, Spec};
use crate::core::chat::{CallFailure, FailureClass};
use crate::core::event::{CallEvent, Event, Subject, TaskEvent};
use crate::core::ids::{CallId, Name, Seq};
use crate::core::ledger::HoldRequest;
use crate::core::machine::{Decided, Refusal};
use crate::core::rates::Need;
use crate::core::run::Entry;

pub enum AgentMsg {
    Committed(Arc<Entry>),
    /// Look again at what is due.
    Wake,
    /// The throttle lets one call through, or will not for too long.
    Admitted(Result<Permit, TooLong>),
    /// The model is left alone for a while, which is on record: another can take the call.
    Elsewhere,
    /// Replies when everything before it has been handled.
    Quiet(oneshot::Sender<()>),
    /// Panics, on purpose: a drill of supervision.
    Drill,
}

pub struct AgentActor;

pub struct AgentArgs {
    pub context: Arc<Context>,
    pub ledger: ActorRef<LedgerMsg>,
    pub machine: Agent,
    /// The last entry the machine has folded.
    pub last: Seq,
    /// It has no past: no entry is its own yet, and its first is written after this.
    pub fresh: bool,
}

pub struct AgentState {
    shell: Shell<Agent>,
    context: Arc<Context>,
    ledger: ActorRef<LedgerMsg>,
    /// The call a hold was asked for, and on which state.
    asked: Option<(CallId, Seq)>,
    permit: Option<Permit>,
    /// The model that leave was asked for.
    gate: String,
    admitting: bool,
    timer: Option<AbortHandle>,
    people: People,
}

impl Drop for AgentState {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

impl Actor for AgentActor {
    type Msg = AgentMsg;
    type State = AgentState;
    type Arguments = AgentArgs;

    /// What starting takes is put aside: a coordinator holds it once, not in every state of its own work, which
    /// takes memory as long as its crew is up.
    async fn spawn_linked(
        name: Option<ActorName>,
        handler: AgentActor,
        args: AgentArgs,
        supervisor: ActorCell,
    ) -> Result<(ActorRef<AgentMsg>, JoinHandle<()>), SpawnErr> {
        Box::pin(ActorRuntime::spawn_linked(name, handler, args, supervisor)).await
    }

    async fn pre_start(&self, myself: ActorRef<AgentMsg>, args: AgentArgs) -> Result<AgentState, ActorProcessingErr> {
        let AgentArgs { context, ledger, machine, last, fresh } = args;
        let subject = Subject::Agent(machine.who.clone());
        let mailbox = myself.clone();
        let deliver = Arc::new(move |entry| drop(mailbox.cast(AgentMsg::Committed(entry))));
        context.journal.follow(&subject, last, fresh, deliver).await?;
        if !fresh {
            // What it was doing goes on once it is up.
            let _ = myself.cast(AgentMsg::Wake);
        }
        let shell = Shell::new(machine, last, subject, context.journal.clone());
        Ok(AgentState {
            shell,
            context,
            ledger,
            asked: None,
            permit: None,
            gate: String::new(),
            admitting: false,
            timer: None,
            people: People::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<AgentMsg>,
        message: AgentMsg,
        state: &mut AgentState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AgentMsg::Committed(entry) => {
                state.shell.fold(&entry)?;
                state.asked = None;
                state.give_back(&entry).await?;
            }
            AgentMsg::Wake => {}
            AgentMsg::Admitted(permit) => {
                state.admitting = false;
                match permit {
                    Ok(permit) => state.permit = Some(permit),
                    Err(long) => drop(state.context.journal.record(long.pauses()).await.ok_or(Fatal::NoJournal)?),
                }
            }
            AgentMsg::Elsewhere => state.admitting = false,
            AgentMsg::Quiet(reply) => {
                let _ = reply.send(());
                return Ok(());
            }
            // A real unwind, without the hook's message on the terminal.
            AgentMsg::Drill => std::panic::resume_unwind(Box::new("drill: this agent was told to panic")),
        }
        state.pump(&myself).await?;
        state.watch_people();
        state.leave_the_gate();
        Ok(())
    }
}

impl AgentState {
    fn watch_people(&mut self) {
        let machine = &self.shell.machine;
        let step = machine.job.as_ref().map(|job| &job.step);
        self.people.watch(&self.context, &machine.who, step, &machine.expiring());
    }

    /// Leave to call is kept only while a hold is asked for: an agent that is out of budget or done must
    /// not keep others from the provider.
    fn leave_the_gate(&mut self) {
        let phase = self.shell.machine.job.as_ref().map(|job| &job.phase);
        if !matches!(phase, Some(Phase::Ready)) {
            self.permit = None;
        }
    }

    /// Does everything that is due, until only the world can move on.
    async fn pump(&mut self, myself: &ActorRef<AgentMsg>) -> Result<(), Fatal> {
        loop {
            let mut again = false;
            for step in self.shell.machine.next() {
                again |= match step {
                    AgentStep::Decide => self.decide(myself).await?,
                    AgentStep::Send(call) => self.send(call),
                    AgentStep::RunTool { call, index } => self.run_tool(call, index),
                    AgentStep::Wake { ms } => self.wake_after(myself, ms),
                };
            }
            if !again {
                return Ok(());
            }
        }
    }

    /// A hold that came after the task's end is never sent: it goes back at once.
    async fn give_back(&self, entry: &Entry) -> Result<(), Fatal> {
        let Event::Call(CallEvent::Held(held)) = &entry.event else { return Ok(()) };
        let phase = self.shell.machine.job.as_ref().map(|job| &job.phase);
        if matches!(phase, Some(Phase::Calling { held: open }) if open.call == held.call) {
            return Ok(());
        }
        let (class, message) = (FailureClass::NotSent, "its task had ended".to_owned());
        let failure = CallFailure::of(class, message);
        let (call, agent) = (held.call.clone(), held.agent.clone());
        let event = Event::Call(CallEvent::Failed { call, agent, failure, elapsed_ms: 0 });
        self.context.journal.record(Decided::one(event)).await.ok_or(Fatal::NoJournal).map(drop)
    }

    /// `true` if the machine has moved and should be looked at again.
    async fn decide(&mut self, myself: &ActorRef<AgentMsg>) -> Result<bool, Fatal> {
        match self.shell.machine.decide(self.context.world()) {
            Ok(Decision::Record(decided)) => Ok(self.shell.commit(decided, None).await? == Commit::Done),
            Ok(Decision::Ask(request)) => {
                if !self.go_back(&request).await? {
                    self.ask(myself, request);
                }
                Ok(false)
            }
            Err(Refusal::Missing(missing)) => {
                tracing::error!(agent = %self.shell.machine.who, %missing, "a text of the journal is gone");
                Err(missing.into())
            }
            Err(Refusal::Paused | Refusal::Waiting | Refusal::NotDue(_)) => Ok(false),
        }
    }

    /// `true` if a model that this step had left may be tried again: the machine goes back to it.
    async fn go_back(&mut self, request: &HoldRequest) -> Result<bool, Fatal> {
        let mark = (request.call.clone(), self.shell.last);
        if self.admitting || self.permit.is_some() || self.asked.as_ref() == Some(&mark) {
            return Ok(false);
        }
        let machine = &self.shell.machine;
        let need = Need { input: request.input.0, output: request.settings.max_output };
        let cooled = machine.left_alone(&self.context.crew).into_iter().find(|model| {
            let ask = Ask { provider: &model.provider, model: &model.id, need, elsewhere: true, held: false };
            self.context.throttle.cooling(&*self.context.ports.models, &ask).is_none()
        });
        let Some(model) = cooled else { return Ok(false) };
        let (step, agent, model) = (request.call.step.clone(), machine.who.clone(), model.name.clone());
        self.asked = Some(mark);
        let event = Event::Task(TaskEvent::Cooled { step, agent, model });
        self.context.journal.record(Decided::one(event)).await.ok_or(Fatal::NoJournal)?;
        Ok(true)
    }

    /// The throttle first (waiting there holds nothing), then the ledger.
    fn ask(&mut self, myself: &ActorRef<AgentMsg>, request: HoldRequest) {
        let mark = (request.call.clone(), self.shell.last);
        if self.admitting || self.asked.as_ref() == Some(&mark) {
            return;
        }
        // Another model has another gate.
        self.permit = self.permit.take().filter(|_| self.gate == request.model);
        let queued = matches!(self.shell.machine.job.as_ref().map(|job| &job.phase), Some(Phase::Queued));
        if queued {
            // While it waits for budget others may use the provider.
            self.permit = None;
        } else if self.permit.is_none() {
            self.gate = request.model.clone();
            let (provider, model) = names_of(&request.model);
            let need = Need { input: request.input.0, output: request.settings.max_output };
            let replaceable = self.shell.machine.replaceable(&self.context.crew);
            let elsewhere = replaceable.is_some();
            let ask = Ask { provider: &provider, model, need, elsewhere, held: false };
            self.permit = self.context.throttle.try_admit(&*self.context.ports.models, &ask);
            if self.permit.is_none() {
                self.admitting = true;
                let (context, mailbox, model) = (self.context.clone(), myself.clone(), model.to_owned());
                let (step, agent) = (request.call.step, self.shell.machine.who.clone());
                tokio::spawn(async move {
                    let ask = Ask { provider: &provider, model: &model, need, elsewhere, held: false };
                    let permit = context.throttle.admit(&*context.ports.models, &ask).await;
                    if let (Some(model), Some(long)) = (replaceable, permit.as_ref().err().filter(|l| l.left_alone())) {
                        let event = TaskEvent::Cooling { step, agent, model, until_ms: long.until_ms };
                        context.journal.record(Decided::one(Event::Task(event))).await;
                        let _ = mailbox.cast(AgentMsg::Elsewhere);
                        return;
                    }
                    // An agent that has ended needs no leave: the permit goes back with the message.
                    let _ = mailbox.cast(AgentMsg::Admitted(permit));
                });
                return;
            }
        }
        self.asked = Some(mark);
        let _ = self.ledger.cast(LedgerMsg::Hold { request: Box::new(request), as_of: self.shell.last });
    }

    fn send(&mut self, call: CallId) -> bool {
        let Some(job) = &self.shell.machine.job else { return false };
        let Phase::Calling { held } = &job.phase else { return false };
        if self.context.flights.has(&Work::Call(call.clone()), Some(&self.shell.machine.who)) {
            return false;
        }
        let world = self.context.world();
        let spec = Spec::of(&self.context.crew, &job.step, &self.shell.machine.who);
        let request = self.shell.machine.request(world, &call);
        let (Some(spec), Ok(request)) = (spec, request) else {
            tracing::error!(%call, "the request cannot be made from the journal");
            return false;
        };
        let call = Call {
            held: held.clone(),
            seq: self.shell.last,
            provider: names_of(&held.model).0,
            request,
            permit: self.permit.take(),
            replaceable: self.shell.machine.replaceable(&self.context.crew),
            time: Duration::from_millis(spec.timeout_ms.saturating_sub(job.active_ms)),
        };
        start_call(&self.context, call);
        false
    }

    fn run_tool(&mut self, call: CallId, index: u32) -> bool {
        let machine = &self.shell.machine;
        let Some(job) = &machine.job else { return false };
        let Some((tool, arguments, key, ask)) = machine.tool_run(&call, index) else { return false };
        if self.context.flights.has(&Work::Tool(call.clone(), index), Some(&machine.who)) {
            return false;
        }
        let Some(spec) = Spec::of(&self.context.crew, &job.step, &machine.who) else { return false };
        let run = ToolRun {
            call,
            index,
            agent: machine.who.clone(),
            seq: self.shell.last,
            crew: spec.crew.file.clone(),
            tool: tool.to_owned(),
            arguments,
            key: key.to_owned(),
            ask: ask.to_owned(),
            time: Duration::from_millis(spec.timeout_ms.saturating_sub(job.active_ms)),
        };
        start_tool(&self.context, run);
        false
    }

    /// `Woken` after so long, with up to a quarter more: many agents that met the same refusal must
    /// not come back at once.
    fn wake_after(&mut self, myself: &ActorRef<AgentMsg>, ms: u64) -> bool {
        let Some(job) = &self.shell.machine.job else { return false };
        if self.timer.as_ref().is_some_and(|timer| !timer.is_finished()) {
            return false;
        }
        let jitter = self.context.ports.clock.random() % (ms / 4 + 1);
        let (step, agent) = (job.step.clone(), self.shell.machine.who.clone());
        let (context, mailbox) = (self.context.clone(), myself.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms.saturating_add(jitter))).await;
            context.journal.record(Decided::one(Event::Task(TaskEvent::Woken { step, agent }))).await;
            let _ = mailbox.cast(AgentMsg::Wake);
        });
        self.timer = Some(timer.abort_handle());
        false
    }
}

/// Both parts of `provider/model-id`. Names were checked when the crew was compiled.
fn names_of(model: &str) -> (Name, &str) {
    let (provider, model) = model.split_once('/').unwrap_or((model, model));
    (provider.parse().unwrap_or_else(|_| Name::unnamed()), model)
}
