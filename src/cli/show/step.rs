//! One step: its attempts, calls, tools and result.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ShowArgs, attempt, prompt, state, why};
use crate::cli::Context;
use crate::cli::crew::{self, Classes};
use crate::cli::ends;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::open::{Journal, Project, StoreTexts};
use crate::cli::progress::asks;
use crate::cli::screen::{Side, Table, clean, count, excerpt, span, usd};
use crate::cli::tally::{CallState, CallTally, StepState, StepTally};
use crate::core::event::{Event, LostCause, Outcome as ToolEnd, ToolEvent};
use crate::core::ids::{BadId, CallId, Step};
use crate::core::machine::Texts;
use crate::core::money::Count;
use crate::core::nearest::nearest;
use crate::ports::store::Store;

/// Steps that a refusal lists.
const SHOWN: usize = 12;

/// The steps that a text names, or the one call.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// A step; a unit without a round means all of its rounds.
    Steps(Vec<Step>),
    Call(CallId),
    /// The calls of one attempt, and the steps that they are of.
    Calls(Vec<Step>, BTreeSet<CallId>),
}

impl Wanted {
    pub fn has(&self, call: &CallId) -> bool {
        match self {
            Wanted::Steps(steps) => steps.contains(&call.step),
            Wanted::Call(one) => one == call,
            Wanted::Calls(_, calls) => calls.contains(call),
        }
    }
    pub fn steps(&self) -> Vec<Step> {
        match self {
            Wanted::Steps(steps) | Wanted::Calls(steps, _) => steps.clone(),
            Wanted::Call(call) => vec![call.step.clone()],
        }
    }
}

fn wanted(journal: &Journal, text: &str) -> Result<Wanted, Failure> {
    let tally = &journal.tally;
    let rounds = |step: &Step| -> Vec<Step> {
        tally.order.iter().filter(|known| *known == step || known.with_round(None) == *step).cloned().collect()
    };
    let steps = |step: Result<Step, BadId>| step.map(|step| rounds(&step)).ok().filter(|found| !found.is_empty());
    if let Some(found) = steps(Step::parse(text)) {
        return Ok(Wanted::Steps(found));
    }
    if let Ok(call) = CallId::parse(text)
        && tally.calls.contains_key(&call)
    {
        return Ok(Wanted::Call(call));
    }
    // A key as it stands in the list, with what an address encodes.
    if let Some(found) = steps(Step::typed(text)) {
        return Ok(Wanted::Steps(found));
    }
    let known: Vec<&str> = tally.order.iter().map(Step::as_str).collect();
    let sought = Step::typed(text).map_or_else(|_| text.to_owned(), |step| step.to_string());
    let near = nearest(&sought, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
    let run = journal.called();
    let failure = Failure::usage(format!("run {run} has no step `{text}`{}", near.unwrap_or_default()));
    let shown = known.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = known.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more (bosun show {run})") } else { String::new() };
    Err(failure.hint(format!("its steps so far: {shown}{more}")).hint("bosun help addresses"))
}

/// Does a payload name this step, or a call of it?
pub(super) fn named_in(payload: &[u8], text: &str) -> bool {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(payload) else { return false };
    let field = |key: &str| value.get(key).and_then(|value| value.as_str());
    let Ok(step) = Step::parse(text) else { return field("call") == Some(text) };
    let same = |found: &Step| *found == step || found.with_round(None) == step;
    let steps = ["step", "judge"].into_iter().filter_map(field).filter_map(|text| Step::parse(text).ok());
    let calls = ["call", "from"].into_iter().filter_map(field).filter_map(|text| CallId::parse(text).ok());
    steps.chain(calls.map(|call| call.step)).any(|found| same(&found))
}

pub(super) fn step(
    context: &Context,
    project: &Project,
    store: Arc<dyn Store>,
    journal: &Journal,
    text: &str,
    args: &ShowArgs,
) -> Outcome {
    let mut wanted = wanted(journal, text)?;
    if let Some(number) = args.attempt {
        wanted = attempt::narrowed(journal, &wanted, number)?;
    }
    if args.prompt {
        return prompt::print(context, project, store, journal, &wanted, args.json);
    }
    if args.why {
        return why::print(context, project, store, journal, &wanted);
    }
    let loaded = journal.started().ok().and_then(|started| crew::load_pinned(project, &*store, started).ok());
    let classes = Classes::new(&project.settings, loaded.as_ref());
    let texts = StoreTexts::new(store);
    if let Some(number) = args.attempt {
        return attempt::print(context, journal, &wanted, number, &classes, &texts, args.json);
    }
    for step in wanted.steps() {
        let Some(row) = journal.tally.steps.get(&step) else { continue };
        if args.json {
            context.out.line(&json(journal, row, &wanted, &texts).to_string());
        } else {
            print(context, journal, row, &wanted, &classes, &texts);
        }
    }
    Ok(Exit::Done)
}

fn print(context: &Context, journal: &Journal, row: &StepTally, wanted: &Wanted, classes: &Classes, texts: &dyn Texts) {
    let agent = row.agent.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
    let elapsed = row.ended_ms.unwrap_or(journal.tally.last_ms).saturating_sub(row.started_ms);
    context.out.line(&format!(
        "{} {}{agent} · attempt {} · {} · {} · {}",
        row.step,
        state(row),
        row.attempt,
        count(row.calls, "call"),
        usd(row.settled.usd),
        span(elapsed)
    ));
    let calls = journal.tally.calls.values().filter(|call| call.held.call.step == row.step);
    let calls: Vec<&CallTally> = calls.filter(|call| wanted.has(&call.held.call)).collect();
    table(context, &calls, classes);
    for line in tools(journal, row, wanted, texts) {
        context.out.line(&line);
    }
    for failure in &row.failures {
        context.out.line(&format!("failed: {}", excerpt(failure, 600)));
    }
    match &row.state {
        StepState::Review { message, fixed: true } => {
            context.out.line(&format!("needs a person: {}", clean(message)));
            context.out.line(&ends::stays(&journal.tally));
        }
        StepState::Review { message, fixed: false } => {
            let (run, step) = (journal.called(), ends::quoted(&row.step));
            let take = ends::answered(&journal.tally, &row.step).map(|attempt| {
                format!(
                    ", or --accept {step} --attempt {attempt} to take that answer as it is \
                     (bosun show {run} {step} --attempt {attempt} prints it)"
                )
            });
            context.out.line(&format!(
                "needs a person: {}\ngo on: bosun resume {run} --retry {step}{}",
                clean(message),
                take.unwrap_or_default()
            ));
        }
        StepState::Ended(result) => {
            if let Some(error) = &result.error {
                context.out.line(&format!("{}: {}", result.status.as_str(), clean(&error.message)));
            }
            match result.text.as_ref().map(|id| texts.text(id)) {
                Some(Ok(text)) => {
                    context.out.line("result:");
                    context.out.result(&text);
                }
                Some(Err(missing)) => context.out.line(&missing.to_string()),
                None => {}
            }
        }
        StepState::WaitsPerson => {
            for one in journal.tally.interrupts.open().into_iter().filter(|one| one.raised.step == row.step) {
                context.out.line(&format!("needs a person: {}", asks(&one.raised)));
            }
        }
        StepState::Running | StepState::WaitsBudget | StepState::NoBudget => {}
    }
}

/// A row per call.
pub(super) fn table(context: &Context, calls: &[&CallTally], classes: &Classes) {
    let mut table = Table::new(&[
        ("CALL", Side::Left, 0),
        ("MODEL", Side::Left, 2),
        ("STATUS", Side::Left, 1),
        ("IN", Side::Right, 5),
        ("OUT", Side::Right, 5),
        ("CACHED", Side::Right, 7),
        ("HELD", Side::Right, 6),
        ("USD", Side::Right, 3),
        ("TIME", Side::Right, 4),
    ]);
    calls.iter().for_each(|call| table.row(cells(call, classes)));
    if !table.is_empty() {
        context.table(&table);
    }
}

fn tokens(count: Option<Count>) -> String {
    match count {
        Some(Count::Reported(n)) => crate::core::money::grouped(n),
        Some(Count::Absent | Count::Unparsable) => "?".to_owned(),
        None => String::new(),
    }
}

/// How a call stands, in words.
fn status(call: &CallTally) -> String {
    match &call.state {
        CallState::Open => "held".to_owned(),
        CallState::Answered => match &call.answer {
            Some(answer) if answer.overrun => "answered, OVERRUN".to_owned(),
            Some(answer) if answer.estimated => "answered, usage unknown".to_owned(),
            Some(_) | None if call.held.summary => "answered, a summary".to_owned(),
            Some(_) | None => "answered".to_owned(),
        },
        CallState::Failed { message, .. } => format!("failed: {}", excerpt(message, 60)),
        CallState::Lost(cause) => {
            let why = match cause {
                LostCause::Died => "process died",
                LostCause::Aborted => "dropped",
                LostCause::Timeout => "timeout",
            };
            if call.by_hand { format!("lost ({why}), settled by hand") } else { format!("lost ({why}), in doubt") }
        }
    }
}

fn cells(call: &CallTally, classes: &Classes) -> Vec<String> {
    let usage = call.answer.as_ref().map(|answer| answer.usage);
    let class = classes.of(&call.held.model, call.held.price.is_some());
    let cached = usage.map(|usage| usage.cache_read).filter(|count| count.reported().is_some());
    let unknown = class == crew::ModelClass::Unpriced && !call.by_hand;
    vec![
        call.held.call.to_string(),
        format!("{}{}", clean(&call.held.model), class.mark()),
        status(call),
        tokens(usage.map(|usage| usage.input)),
        tokens(usage.map(|usage| usage.output)),
        tokens(cached),
        usd(call.held.amount.usd),
        call.cost.map(|cost| if unknown { "?".to_owned() } else { usd(cost.usd) }).unwrap_or_default(),
        span(call.elapsed_ms),
    ]
}

/// A line per tool call.
pub(super) fn tools(journal: &Journal, row: &StepTally, wanted: &Wanted, texts: &dyn Texts) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in &journal.entries {
        let Event::Tool(event) = &entry.event else { continue };
        match event {
            ToolEvent::Started { call, index, tool, arguments, .. } if call.step == row.step && wanted.has(call) => {
                let arguments = texts.text(arguments).map_or_else(|_| "?".to_owned(), |text| excerpt(&text, 100));
                let end = outcome(journal, call, *index);
                lines.push(format!("tool {call} {} {arguments} -> {end}", clean(tool)));
            }
            ToolEvent::Refused { call, tool, refusal, .. } if call.step == row.step && wanted.has(call) => {
                let why = serde_json::to_value(refusal).ok().and_then(|value| value.as_str().map(str::to_owned));
                lines.push(format!("tool {call} {} refused: {}", excerpt(tool, 60), why.unwrap_or_default()));
            }
            ToolEvent::Started { .. } | ToolEvent::Refused { .. } | ToolEvent::Returned { .. } => {}
        }
    }
    lines
}

fn outcome(journal: &Journal, of: &CallId, at: u32) -> String {
    let found = journal.entries.iter().find_map(|entry| match &entry.event {
        Event::Tool(ToolEvent::Returned { call, index, outcome, content, elapsed_ms, .. }) => {
            (call == of && *index == at).then_some((*outcome, content.bytes, *elapsed_ms))
        }
        Event::Tool(_) | Event::Run(_) | Event::Task(_) | Event::Call(_) => None,
        Event::Interrupt(_) | Event::Ledger(_) => None,
    });
    match found {
        Some((ToolEnd::Ok, bytes, ms)) => format!("ok, {bytes} bytes, {}", span(ms)),
        Some((ToolEnd::Error, bytes, ms)) => format!("error, {bytes} bytes, {}", span(ms)),
        Some((ToolEnd::Unknown, ..)) => "unknown: it may have taken effect".to_owned(),
        None => "not returned".to_owned(),
    }
}

/// The calls of a step as JSON.
pub(super) fn calls_json(journal: &Journal, row: &StepTally, wanted: &Wanted) -> Vec<serde_json::Value> {
    let calls = journal.tally.calls.values().filter(|call| call.held.call.step == row.step);
    let calls = calls.filter(|call| wanted.has(&call.held.call)).map(|call| {
        serde_json::json!({
            "call": call.held.call, "attempt": call.held.attempt, "model": call.held.model, "status": status(call),
            "held": call.held.amount, "settings": call.held.settings, "cost": call.cost, "by_hand": call.by_hand,
            "usage": call.answer.as_ref().map(|answer| answer.usage), "elapsed_ms": call.elapsed_ms,
            "request_id": call.answer.as_ref().and_then(|answer| answer.request_id.clone()),
        })
    });
    calls.collect()
}

fn json(journal: &Journal, row: &StepTally, wanted: &Wanted, texts: &dyn Texts) -> serde_json::Value {
    let calls = calls_json(journal, row, wanted);
    let result = match &row.state {
        StepState::Ended(result) => Some(result),
        StepState::Running | StepState::WaitsBudget | StepState::WaitsPerson => None,
        StepState::NoBudget | StepState::Review { .. } => None,
    };
    let text = result.and_then(|result| texts.text(result.text.as_ref()?).ok());
    serde_json::json!({
        "step": row.step, "status": state(row), "agent": row.agent, "attempt": row.attempt, "calls": calls,
        "tool_calls": row.tools, "settled": row.settled, "failures": row.failures, "result": result,
        "text": text.as_deref(),
    })
}
