//! `show STEP --attempt N`: one try of a step. Invariant: its calls, what they answered, and what came of
//! it are those that the journal counts under this number; a step that was let start over has more.

use std::collections::BTreeSet;

use super::step::{self, Wanted};
use crate::cli::Context;
use crate::cli::crew::Classes;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::open::Journal;
use crate::cli::screen::{clean, count, excerpt};
use crate::cli::tally::{CallState, CallTally};
use crate::core::chat::Message;
use crate::core::event::{CallEvent, Event, TaskEvent};
use crate::core::ids::Step;
use crate::core::machine::Texts;

/// The calls of attempt `number` of the wanted steps.
pub(super) fn narrowed(journal: &Journal, wanted: &Wanted, number: u32) -> Result<Wanted, Failure> {
    let (steps, tally) = (wanted.steps(), &journal.tally);
    let last = steps.iter().filter_map(|step| tally.steps.get(step)).map(|row| row.attempt).max().unwrap_or(0);
    let name = steps.first().map(|step| step.with_round(None).to_string()).unwrap_or_default();
    if !(1..=last).contains(&number) {
        let known = if last == 1 { "1 attempt".to_owned() } else { format!("attempts 1 to {last}") };
        return Err(Failure::usage(format!("`{name}` has no attempt {number}: it has had {known}"))
            .hint(format!("bosun show {} '{name}'", journal.called())));
    }
    let calls = tally.calls.values().map(|call| &call.held).filter(|held| held.attempt == number);
    let calls: BTreeSet<_> = calls.map(|held| held.call.clone()).filter(|call| wanted.has(call)).collect();
    Ok(Wanted::Calls(steps, calls))
}

/// How the attempt ended, in words, once for each time that the step was begun anew.
fn ends(journal: &Journal, of: &Step, number: u32) -> Vec<String> {
    let (mut now, mut out) = (1, Vec::new());
    for entry in &journal.entries {
        match &entry.event {
            Event::Call(CallEvent::Held(held)) if held.call.step == *of => now = held.attempt,
            Event::Task(TaskEvent::AttemptFailed { step, attempt, message, .. }) if step == of => {
                if *attempt == number {
                    out.push(format!("failed: {}", excerpt(message, 600)));
                }
                now = attempt + 1;
            }
            Event::Task(TaskEvent::NeedsReview { step, message, .. }) if step == of && now == number => {
                out.push(format!("needs a person: {}", clean(message)));
            }
            Event::Task(TaskEvent::Retried { step, .. }) if step == of => now = 1,
            Event::Task(TaskEvent::Finished { step, result, .. }) if step == of && now == number => {
                let error = result.error.as_ref().map(|error| format!(": {}", clean(&error.message)));
                out.push(format!("{}{}", result.status.as_str(), error.unwrap_or_default()));
            }
            Event::Run(_) | Event::Task(_) | Event::Call(_) | Event::Tool(_) => {}
            Event::Interrupt(_) | Event::Ledger(_) => {}
        }
    }
    out
}

/// What a call answered, or the message that says why it did not.
fn answer(call: &CallTally, texts: &dyn Texts) -> Result<Message, String> {
    match (&call.answer, &call.state) {
        (Some(answer), _) => {
            let text = texts.text(&answer.message.message).map_err(|missing| missing.to_string())?;
            Message::decode(&text).map_err(|_| text.to_string())
        }
        (None, CallState::Failed { message, .. }) => Err(format!("not answered: {}", clean(message))),
        (None, CallState::Lost(_)) => Err("no answer: it may have been billed".to_owned()),
        (None, CallState::Open | CallState::Answered) => Err("no answer yet".to_owned()),
    }
}

pub(super) fn print(
    context: &Context,
    journal: &Journal,
    wanted: &Wanted,
    number: u32,
    classes: &Classes,
    texts: &dyn Texts,
    json: bool,
) -> Outcome {
    for step in wanted.steps() {
        let Some(row) = journal.tally.steps.get(&step) else { continue };
        let calls = journal.tally.calls.values().filter(|call| call.held.call.step == step);
        let calls: Vec<&CallTally> = calls.filter(|call| wanted.has(&call.held.call)).collect();
        let ends = ends(journal, &step, number);
        if json {
            let answers = calls.iter().map(|call| match answer(call, texts) {
                Ok(message) => serde_json::to_value(&message).unwrap_or_default(),
                Err(why) => serde_json::json!({ "error": why }),
            });
            let answers: Vec<_> = answers.collect();
            let calls = step::calls_json(journal, row, wanted);
            let value = serde_json::json!({
                "step": step, "attempt": number, "calls": calls, "answers": answers, "ends": ends,
            });
            context.out.line(&value.to_string());
            continue;
        }
        let agent = row.agent.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
        let made = count(calls.len() as u64, "call");
        context.out.line(&format!("{step}{agent} · attempt {number} of {} · {made}", row.attempt));
        step::table(context, &calls, classes);
        for call in &calls {
            context.out.line(&format!("--- answer of {}", call.held.call));
            match answer(call, texts) {
                Ok(message) => said(context, &message),
                Err(why) => context.out.line(&clean(&why)),
            }
        }
        step::tools(journal, row, wanted, texts).iter().for_each(|line| context.out.line(line));
        ends.iter().for_each(|line| context.out.line(line));
    }
    Ok(Exit::Done)
}

fn said(context: &Context, message: &Message) {
    context.out.result(message.content());
    if let Message::Assistant { tool_calls, .. } = message {
        tool_calls.iter().for_each(|ask| context.out.result(&format!("[asks {} {}]", ask.name, ask.arguments)));
    }
}
