//! Work under way in this process: model calls, tools, file writes. Invariant: each is registered
//! before it starts, and exactly one party records how it ended: the work itself, or whoever took it
//! out of the table to stop it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::{Instrument, Span, info_span};

mod tools;
pub use tools::{ToolRun, start_file, start_tool};

use super::Ports;
use super::crash::crash_point;
use super::durable::Broken;
use super::journal::JournalHandle;
use super::questions::Questions;
use super::streams::{Stream, Streams};
use super::texts::TextCache;
use super::throttle::{Ask, Outcome, Permit, Throttle, TooLong};
use crate::core::chat::{CallFailure, FailureClass, Message, ModelAnswer, ModelRequest};
use crate::core::crew::Crew;
use crate::core::event::{Answered, CallEvent, Event, Held, LostCause, OwnTurn, TaskEvent};
use crate::core::ids::{AgentRef, BlobId, CallId, Name, RunId, Seq, Step};
use crate::core::interrupt::Interrupts;
use crate::core::ledger::settlement;
use crate::core::machine::{Decided, World};
use crate::core::rates::{Limits, Need};
use crate::ports::model::Watch;

/// What every actor of a run shares.
pub struct Context {
    pub run: RunId,
    pub crew: Arc<Crew>,
    pub ports: Ports,
    pub texts: Arc<TextCache>,
    pub journal: JournalHandle,
    pub throttle: Arc<Throttle>,
    pub streams: Streams,
    pub flights: Arc<Flights>,
    /// What people had been asked when this process took the run up: their time runs on from then.
    pub interrupts: Interrupts,
    /// What servers ask in the middle of calls.
    pub questions: Questions,
    /// The run's span: those of its tasks, attempts and calls stand below it.
    pub span: Span,
}

impl Context {
    /// Spans of a call: run > task > attempt > call. They carry addresses, never text.
    fn call_span(&self, call: &CallId, attempt: Option<u32>) -> Span {
        let task = info_span!(parent: &self.span, "task", step = %call.step);
        let attempt = info_span!(parent: &task, "attempt", attempt);
        info_span!(parent: &attempt, "call", %call)
    }

    pub fn world(&self) -> World<'_> {
        World { run: &self.run, crew: &self.crew, texts: &*self.texts, sizes: &*self.ports.sizes }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    Call(CallId),
    Tool(CallId, u32),
    File(Step),
}

impl Work {
    fn call(&self) -> Option<&CallId> {
        match self {
            Work::Call(call) | Work::Tool(call, _) => Some(call),
            Work::File(_) => None,
        }
    }
}

struct Flight {
    agent: Option<AgentRef>,
    started: Instant,
    abort: Option<AbortHandle>,
    /// It has ended, and records so itself: too late to stop it.
    ended: bool,
}

/// The table of work under way.
#[derive(Default)]
pub struct Flights {
    table: DashMap<Work, Flight>,
    /// Of each agent's last call, what has ended. Its machine may not have folded that yet and still
    /// ask for it: a second start would send a call or run a tool twice.
    ended: DashMap<AgentRef, (CallId, Vec<Work>)>,
    /// Where the journal says what became of a step's output file.
    files: DashMap<Step, Seq>,
    /// Somebody waits for the table to be empty.
    awaited: AtomicBool,
    pub drained: Notify,
}

impl Flights {
    /// Is it under way, or has it ended as far as this process knows?
    pub fn has(&self, work: &Work, agent: Option<&AgentRef>) -> bool {
        let ended = |agent: &AgentRef| self.ended.get(agent).is_some_and(|last| last.1.contains(work));
        self.table.contains_key(work) || agent.is_some_and(ended)
    }

    /// Called before the end is recorded, so that the agent cannot be past this call yet.
    fn note_end(&self, work: &Work, agent: Option<&AgentRef>) {
        let (Some(call), Some(agent)) = (work.call(), agent) else { return };
        let mut last = self.ended.entry(agent.clone()).or_insert_with(|| (call.clone(), Vec::new()));
        if last.0 != *call {
            *last = (call.clone(), Vec::new());
        }
        last.1.push(work.clone());
    }
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
    /// From now on `drained` is notified whenever the table empties.
    pub fn await_empty(&self) {
        self.awaited.store(true, Ordering::SeqCst);
        if self.table.is_empty() {
            self.drained.notify_one();
        }
    }

    fn start(&self, work: Work, agent: Option<AgentRef>, task: impl Future<Output = ()> + Send + 'static) {
        self.table.insert(work.clone(), Flight { agent, started: Instant::now(), abort: None, ended: false });
        let abort = tokio::spawn(task).abort_handle();
        match self.table.get_mut(&work) {
            Some(mut flight) => flight.abort = Some(abort),
            // It has ended, or was dropped before it could be stopped.
            None => abort.abort(),
        }
    }

    /// What became of a step's output file stands at `seq`.
    pub fn told_of_file(&self, step: Step, seq: Seq) {
        self.files.insert(step, seq);
    }
    /// It is on record, in an entry that a plan which has folded up to `last` has not seen: that plan still asks for
    /// the file.
    pub fn is_told_of_file(&self, step: &Step, last: Seq) -> bool {
        self.files.get(step).is_some_and(|told| *told > last)
    }

    /// `true` if the work is the one party that records its end. It stays in the table until that is
    /// done, so that a run does not park without it.
    fn claim(&self, work: &Work) -> bool {
        let Some(mut flight) = self.table.get_mut(work) else { return false };
        if std::mem::replace(&mut flight.ended, true) {
            return false;
        }
        self.note_end(work, flight.agent.as_ref());
        true
    }

    fn finish(&self, work: &Work) {
        self.table.remove(work);
        if self.awaited.load(Ordering::SeqCst) && self.table.is_empty() {
            self.drained.notify_one();
        }
    }

    /// Stops everything. Calls are lost, not undone: the events say so. Tools likewise, by their effect.
    pub fn drop_all(&self) -> Vec<Event> {
        let keys: Vec<Work> = self.table.iter().map(|entry| entry.key().clone()).collect();
        let mut events = Vec::new();
        for work in keys {
            let dropped = self.table.remove_if(&work, |work, flight| {
                if !flight.ended {
                    self.note_end(work, flight.agent.as_ref());
                }
                !flight.ended
            });
            let Some((work, flight)) = dropped else { continue };
            if let Some(abort) = flight.abort {
                abort.abort();
            }
            let elapsed_ms = millis(flight.started.elapsed());
            if let (Work::Call(call), Some(agent)) = (work, flight.agent) {
                let cause = LostCause::Aborted;
                events.push(Event::Call(CallEvent::Lost { call, agent, cause, elapsed_ms }));
            }
        }
        if self.awaited.load(Ordering::SeqCst) && self.table.is_empty() {
            self.drained.notify_one();
        }
        events
    }
}

pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One model call that is held at `seq`.
pub struct Call {
    pub held: Box<Held>,
    pub seq: Seq,
    pub provider: Name,
    pub request: ModelRequest,
    pub permit: Option<Permit>,
    /// The name of its model, if another could take the call at once.
    pub replaceable: Option<String>,
    /// What is left of the attempt's running time.
    pub time: Duration,
}

/// Sends the request once its hold is durable, and records how it ended.
pub fn start_call(context: &Arc<Context>, call: Call) {
    let work = Work::Call(call.held.call.clone());
    let agent = call.held.agent.clone();
    let (shared, key) = (context.clone(), work.clone());
    context.flights.start(work, Some(agent), async move {
        let span = shared.call_span(&call.held.call, Some(call.held.attempt));
        let ended = make_call(&shared, call).instrument(span).await;
        let Ok((decided, permit)) = ended else {
            // The journal is broken: nothing was sent, nothing can be recorded.
            shared.flights.finish(&key);
            return;
        };
        if let Some((permit, outcome)) = permit {
            permit.ended(outcome);
        }
        if shared.flights.claim(&key) {
            shared.journal.record(decided).await;
            crash_point!(shared.ports.crash, "call_recorded");
        }
        shared.flights.finish(&key);
    });
}

/// What a call tells while it runs: limits to the gate it went through, its text to who looks.
struct Told<'a> {
    permit: &'a Permit,
    stream: Stream,
}

impl Watch for Told<'_> {
    fn text(&self, piece: &str) {
        self.stream.came(piece);
    }
    fn limits(&self, limits: Limits) {
        self.permit.limits(limits);
    }
}

/// Leave to send now: what the agent had, or anew. Its hold does not wait for a closed gate.
async fn leave(context: &Context, call: &mut Call) -> Result<Permit, TooLong> {
    let elsewhere = call.replaceable.is_some();
    let permit = match call.permit.take() {
        Some(permit) => permit,
        None => {
            let model = call.held.model.split_once('/').map_or(call.held.model.as_str(), |(_, model)| model);
            let total = call.held.amount.tokens.0;
            let output = call.request.settings.max_output;
            let need = Need { input: total.saturating_sub(output), output };
            let ask = Ask { provider: &call.provider, model, need, elsewhere, held: true };
            context.throttle.admit(&*context.ports.models, &ask).await?
        }
    };
    permit.sending(elsewhere).await
}

/// A held call that got no leave: its hold goes back, and its step goes on with another model, waits at the
/// gate, or parks.
fn given_back(call: &Call, long: TooLong) -> Decided {
    let (id, agent) = (call.held.call.clone(), call.held.agent.clone());
    let mut failure = CallFailure::of(FailureClass::NotSent, long.to_string());
    // The gate is where it waits.
    failure.retry_after_ms = Some(0);
    let mut decided = failed(id, agent.clone(), failure, 0);
    match call.replaceable.clone().filter(|_| long.left_alone()) {
        Some(model) => {
            let (step, until_ms) = (call.held.call.step.clone(), long.until_ms);
            decided.events.insert(0, Event::Task(TaskEvent::Cooling { step, agent, model, until_ms }));
        }
        None if long.parks => decided.events.extend(long.pauses().events),
        None => {}
    }
    decided
}

async fn make_call(context: &Context, mut call: Call) -> Result<(Decided, Option<(Permit, Outcome)>), Broken> {
    context.journal.durable.wait(call.seq).await?;
    let models = &*context.ports.models;
    let (id, agent) = (call.held.call.clone(), call.held.agent.clone());
    let permit = match leave(context, &mut call).await {
        Ok(permit) => permit,
        Err(long) => return Ok((given_back(&call, long), None)),
    };
    let started = Instant::now();
    let Some(model) = models.provider(&call.provider) else {
        let failure = CallFailure {
            class: FailureClass::NotFound,
            status: None,
            message: format!("there is no provider `{}`", call.provider),
            retry_after_ms: None,
            usage: None,
            param: None,
        };
        return Ok((failed(id, agent, failure, 0), Some((permit, Outcome::NotSent))));
    };
    tracing::debug!(model = %call.held.model, held = %call.held.amount.usd, "sent");
    crash_point!(context.ports.crash, "call_send");
    let told = Told { permit: &permit, stream: context.streams.of(&context.run, &id) };
    let answer = tokio::time::timeout(call.time, model.call(&call.request, &told)).await;
    drop(told);
    crash_point!(context.ports.crash, "call_answer");
    let elapsed_ms = millis(started.elapsed());
    let (decided, outcome) = match answer {
        Ok(Ok(answer)) => {
            tracing::info!(elapsed_ms, finish = ?answer.finish, "answered");
            let outcome = Outcome::answered(&answer.usage);
            (answered(&call.held, answer, elapsed_ms), outcome)
        }
        Ok(Err(failure)) => {
            tracing::warn!(elapsed_ms, class = ?failure.class, status = failure.status, "failed");
            let outcome = Outcome::of(&failure);
            (failed(id, agent, failure, elapsed_ms), outcome)
        }
        Err(_) => {
            tracing::warn!(elapsed_ms, "lost: the attempt's time is over");
            let cause = LostCause::Timeout;
            let lost = CallEvent::Lost { call: id, agent, cause, elapsed_ms };
            (Decided::one(Event::Call(lost)), Outcome::Failed)
        }
    };
    Ok((decided, Some((permit, outcome))))
}

fn failed(call: CallId, agent: AgentRef, failure: CallFailure, elapsed_ms: u64) -> Decided {
    Decided::one(Event::Call(CallEvent::Failed { call, agent, failure, elapsed_ms }))
}

fn answered(held: &Held, answer: ModelAnswer, elapsed_ms: u64) -> Decided {
    let settled = settlement(held, &answer.usage);
    let mut decided = Decided::default();
    let asks = u32::try_from(answer.tool_calls.len()).unwrap_or(u32::MAX);
    let turn = Message::Assistant { content: answer.text, tool_calls: answer.tool_calls };
    let mut message = decided.message(&turn);
    let mut native = answer.native.map(|raw| (raw.get().len() as u64, decided.keep(raw.get())));
    if answer.verbatim {
        let by = BlobId::of(held.model.as_bytes());
        message.own = native.take().map(|(bytes, turn)| OwnTurn { turn, bytes, by });
    }
    let raw_usage = answer.raw_usage.map(|raw| decided.keep(raw.get()));
    decided.events.push(Event::Call(CallEvent::Answered(Box::new(Answered {
        call: held.call.clone(),
        agent: held.agent.clone(),
        model: held.model.clone(),
        finish: answer.finish,
        asks,
        usage: answer.usage,
        cost: settled.cost,
        estimated: settled.estimated,
        overrun: settled.overrun,
        message,
        native: native.map(|(_, turn)| turn),
        served: answer.served,
        raw_usage,
        request_id: answer.request_id,
        elapsed_ms,
    }))));
    decided
}
