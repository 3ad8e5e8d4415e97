//! Tools and file writes under way. Invariant: an effect starts once its entry is durable, and what may
//! be repeated is repeated with the same key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Instrument;

use super::{Context, Work, millis};
use crate::actors::crash::crash_point;
use crate::actors::patience::{Late, Patience};
use crate::actors::questions::Asker;
use crate::core::chat::{Effect, Message};
use crate::core::event::{Event, Msg, Outcome, TaskEvent, ToolEvent};
use crate::core::ids::{AgentRef, BlobId, CallId, Seq, Step};
use crate::core::machine::{Decided, Sizes, Texts};
use crate::ports::tool::{Tool, ToolCall, ToolOutcome};

/// One tool call that was started at `seq`.
pub struct ToolRun {
    pub call: CallId,
    pub index: u32,
    pub agent: AgentRef,
    pub seq: Seq,
    /// File of the crew whose tool it is, and the tool's name there.
    pub crew: String,
    pub tool: String,
    pub arguments: BlobId,
    pub key: String,
    /// The model's id of the call; empty for a task that is one tool call.
    pub ask: String,
    pub time: Duration,
}

/// Tries of a tool that may be repeated with the same key.
const IDEMPOTENT_TRIES: u32 = 3;

pub fn start_tool(context: &Arc<Context>, run: ToolRun) {
    let work = Work::Tool(run.call.clone(), run.index);
    let (shared, key) = (context.clone(), work.clone());
    context.flights.start(work, Some(run.agent.clone()), async move {
        if shared.journal.durable.wait(run.seq).await.is_ok() {
            let started = Instant::now();
            let span = shared.call_span(&run.call, None);
            let people = Arc::new(Patience::with(Arc::new(asker(&shared, &run))));
            let (outcome, max_result) = run_tool(&shared, &run, &people).instrument(span).await;
            // What a person took to answer is nobody's running time.
            let elapsed_ms = millis(started.elapsed().saturating_sub(people.waited()));
            let decided = returned(&*shared.ports.sizes, run, outcome, max_result, elapsed_ms);
            if shared.flights.claim(&key) {
                shared.journal.record(decided).await;
                crash_point!(shared.ports.crash, "tool_recorded");
            }
        }
        shared.flights.finish(&key);
    });
}

fn asker(context: &Arc<Context>, run: &ToolRun) -> Asker {
    let (context, call, index, agent) = (context.clone(), run.call.clone(), run.index, run.agent.clone());
    let stream = context.streams.of_tool(&context.run, &call, index, &run.tool);
    Asker { context, call, index, agent, tool: run.tool.clone(), ask: run.ask.clone(), stream }
}

async fn run_tool(context: &Context, run: &ToolRun, people: &Arc<Patience>) -> (ToolOutcome, u64) {
    let Some(tool) = context.ports.tools.tool(&run.crew, &run.tool) else {
        return (ToolOutcome::Error(format!("the tool {} cannot be reached", run.tool)), u64::MAX);
    };
    let text = context.texts.text(&run.arguments);
    let arguments = text.ok().and_then(|text| serde_json::from_str(&text).ok());
    let Some(serde_json::Value::Object(arguments)) = arguments else {
        return (ToolOutcome::Error("the arguments cannot be read from the journal".into()), u64::MAX);
    };
    let call = ToolCall { arguments, idempotency_key: run.key.clone() };
    let max_result = tool.spec().max_result;
    let limit = run.time.min(Duration::from_millis(tool.spec().timeout_ms).saturating_add(Duration::from_secs(1)));
    crash_point!(context.ports.crash, "tool_run");
    let outcome = people.within(limit, try_tool(&*tool, call, people)).await;
    crash_point!(context.ports.crash, "tool_ran");
    match outcome {
        Ok(outcome) => (outcome, max_result),
        Err(Late) if tool.spec().effect == Effect::Once => {
            (ToolOutcome::Unknown(format!("{} did not end in {} s", run.tool, limit.as_secs())), max_result)
        }
        Err(Late) => (ToolOutcome::Error(format!("{} did not end in {} s", run.tool, limit.as_secs())), max_result),
    }
}

async fn try_tool(tool: &dyn Tool, call: ToolCall, people: &Arc<Patience>) -> ToolOutcome {
    let tries = if tool.spec().effect == Effect::Idempotent { IDEMPOTENT_TRIES } else { 1 };
    let mut outcome = tool.call_near(call.clone(), people.clone()).await;
    for _ in 1..tries {
        if matches!(outcome, ToolOutcome::Ok(_)) {
            break;
        }
        outcome = tool.call_near(call.clone(), people.clone()).await;
    }
    outcome
}

fn returned(sizes: &dyn Sizes, run: ToolRun, outcome: ToolOutcome, max_result: u64, elapsed_ms: u64) -> Decided {
    let (outcome, text) = match outcome {
        ToolOutcome::Ok(text) => (Outcome::Ok, text),
        ToolOutcome::Error(text) => (Outcome::Error, text),
        ToolOutcome::Unknown(text) => (Outcome::Unknown, text),
    };
    let mut decided = Decided::default();
    // A tool task's result is the task's: whole.
    let (shown, full) = if run.ask.is_empty() { (text, None) } else { cap(sizes, text, max_result, &mut decided) };
    let content: Msg = decided.message(&Message::Tool { tool_call_id: run.ask, content: shown });
    let ToolRun { call, index, agent, .. } = run;
    let event = ToolEvent::Returned { call, index, agent, outcome, content, full, elapsed_ms };
    decided.events.push(Event::Tool(event));
    decided
}

/// At most `max` tokens of a result; the whole is kept as a blob.
fn cap(sizes: &dyn Sizes, text: String, max: u64, decided: &mut Decided) -> (String, Option<BlobId>) {
    if text.len() as u64 <= max {
        return (text, None);
    }
    let total = sizes.tokens(&text);
    if total <= max {
        return (text, None);
    }
    let mut end = usize::try_from(text.len() as u64 * max / total).unwrap_or(text.len());
    loop {
        end = text.floor_char_boundary(end);
        if end == 0 || sizes.tokens(&text[..end]) <= max {
            break;
        }
        end = end * 9 / 10;
    }
    let shown = format!("{}\n[cut here: {max} of {total} tokens are shown]", &text[..end]);
    (shown, Some(decided.keep(text)))
}

/// Writes a task's output file once its result is durable, and records that it is there.
pub fn start_file(context: &Arc<Context>, step: Step, seq: Seq, path: String, text: BlobId) {
    let work = Work::File(step.clone());
    if context.flights.has(&work, None) || context.flights.is_told_of_file(&step, seq) {
        return;
    }
    let (shared, key) = (context.clone(), work.clone());
    context.flights.start(work, None, async move {
        if shared.journal.durable.wait(seq).await.is_ok() {
            let content = shared.texts.text(&text).map_err(|error| error.to_string());
            crash_point!(shared.ports.crash, "file_write");
            let written = match content {
                Ok(content) => shared.ports.files.write(&path, &content).await,
                Err(error) => Err(error),
            };
            crash_point!(shared.ports.crash, "file_written");
            if shared.flights.claim(&key) {
                let event = match written {
                    Ok(()) => TaskEvent::FileWritten { step: step.clone(), path, text },
                    Err(message) => TaskEvent::FileFailed { step: step.clone(), path, message },
                };
                if let Some(seq) = shared.journal.record(Decided::one(Event::Task(event))).await {
                    shared.flights.told_of_file(step, seq);
                }
                crash_point!(shared.ports.crash, "file_recorded");
            }
        }
        shared.flights.finish(&key);
    });
}
