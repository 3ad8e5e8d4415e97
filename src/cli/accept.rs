//! `resume --accept STEP --attempt N`. Invariant: what a person takes for a result was answered in that very
//! attempt, is whole enough to be one, and fits the step's schema; else nothing is recorded.

use super::failure::Failure;
use super::open::{Journal, Project};
use super::{crew, ends, tally::StepState};
use crate::core::agent::{Phase, Spec, usable};
use crate::core::chat::Message;
use crate::core::event::{CallEvent, Event, Msg, TaskEvent};
use crate::core::ids::{CallId, Step};
use crate::core::run::Run;
use crate::ports::store::Store;

/// The fact that a person took the last answer of an attempt.
///
/// # Errors
/// Usage, in words: no such step waits, nothing was answered in that attempt, or it cannot be the result.
pub fn accepted(
    project: &Project,
    store: &dyn Store,
    journal: &Journal,
    (step, attempt): (&str, u32),
    by: String,
) -> Result<Event, Failure> {
    let wrong = |why: String| Failure::usage(format!("--accept {step} --attempt {attempt}: {why}"));
    let show = format!("bosun show {} '{step}'", journal.called());
    let address: Step = step.parse().map_err(|error| wrong(format!("{error}")))?;
    let waiting = journal.tally.steps.get(&address).filter(|row| matches!(row.state, StepState::Review { .. }));
    let row = waiting.ok_or_else(|| wrong("no such step waits for review".into()).hint(show.clone()))?;
    let (compiled, _) = crew::pinned(project, store, journal.started()?)?;
    let run = Run::fold(compiled, &journal.entries).map_err(|illegal| wrong(illegal.to_string()))?;
    let machine = row.agent.as_ref().and_then(|agent| run.agents.get(agent));
    let job = machine.and_then(|machine| machine.job.as_ref()).filter(|job| job.step == address);
    let (Some(agent), Some(_)) = (&row.agent, job.filter(|job| job.phase == Phase::Review)) else {
        let why = "nobody's answer is judged there: it waits for another reason".to_owned();
        let fixed = matches!(row.state, StepState::Review { fixed: true, .. });
        let retry = || format!("bosun resume {} --retry '{step}'", journal.called());
        let hint = if fixed { ends::stays(&journal.tally) } else { retry() };
        return Err(wrong(why).hint(hint));
    };
    let answers = answers(journal, &address);
    let Some((_, answer)) = answers.iter().rev().find(|(of, _)| *of == attempt) else {
        let mut there: Vec<u32> = answers.iter().map(|(of, _)| *of).collect();
        there.dedup();
        let there: Vec<String> = there.iter().map(u32::to_string).collect();
        let why = match there.is_empty() {
            true => "no attempt of it has an answer".to_owned(),
            false => format!("no answer came in that attempt; there are answers in {}", there.join(", ")),
        };
        return Err(wrong(why).hint(show));
    };
    let text = store.blob(&answer.message)?.ok_or_else(|| wrong("the text of the answer is gone".into()))?;
    let content = Message::decode(&text).map(|message| message.content().to_owned()).unwrap_or_default();
    let spec = Spec::of(&run.crew, &address, agent).ok_or_else(|| wrong("the crew has no such step".into()))?;
    usable(&spec, &content).map_err(|why| wrong(why).hint(show))?;
    let (step, agent, answer) = (address, agent.clone(), Box::new(*answer));
    Ok(Event::Task(TaskEvent::Accepted { step, agent, attempt, answer, by }))
}

/// Answers of a step that asked for no tools, with their attempts, in the order they came.
fn answers(journal: &Journal, step: &Step) -> Vec<(u32, Msg)> {
    let mut held: Vec<(&CallId, u32)> = Vec::new();
    let mut out = Vec::new();
    for entry in &journal.entries {
        match &entry.event {
            // The answer to a summary is nobody's result.
            Event::Call(CallEvent::Held(call)) if call.call.step == *step && !call.summary => {
                held.push((&call.call, call.attempt))
            }
            Event::Call(CallEvent::Answered(answered)) if answered.call.step == *step && answered.asks == 0 => {
                let attempt = held.iter().find(|(call, _)| **call == answered.call).map(|(_, attempt)| *attempt);
                out.extend(attempt.map(|attempt| (attempt, answered.message)));
            }
            Event::Call(_) | Event::Run(_) | Event::Task(_) | Event::Tool(_) => {}
            Event::Interrupt(_) | Event::Ledger(_) => {}
        }
    }
    out
}
