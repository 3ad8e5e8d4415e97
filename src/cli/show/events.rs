//! `show --events`: the journal, one line per entry. Invariant: a line says where, what, and the facts
//! that matter; what does not fit is left out by whole words, never cut inside one.

use std::sync::Arc;

use super::{ShowArgs, step};
use crate::cli::Context;
use crate::cli::ends;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::open::{StoreTexts, decode};
use crate::cli::progress;
use crate::cli::screen::{cap, caps, clean, clock, count, excerpt, rfc3339, span, tokens, usd, width};
use crate::core::event::{
    Answered, CallEvent, Decision, Event, Held, InterruptEvent, LedgerEvent, ParkCause, PauseCause, RateLimited,
    Replaced, RunEvent, TaskEvent, TaskResult, ToolEvent, Work,
};
use crate::core::ids::Seq;
use crate::core::interrupt;
use crate::core::money::Usage;
use crate::core::run::Entry;
use crate::ports::store::{RunRow, Store};

/// Characters of a foreign text that a line may show.
const MESSAGE: usize = 160;

/// As JSON lines with all there is, or as one line in words per entry.
pub(super) fn print(context: &Context, store: Arc<dyn Store>, row: RunRow, args: &ShowArgs) -> Outcome {
    let rows = store.read(&row.run, Seq(1))?;
    let concerns = |payload: &[u8]| args.step.as_ref().is_none_or(|text| step::named_in(payload, text));
    if args.json {
        // Undecoded: a newer format is printed too.
        for row_ in rows.iter().filter(|row| concerns(&row.payload)) {
            context.out.line(&progress::json_line(&row.run, row_.seq, row_.at_ms, &row_.payload));
        }
        return Ok(Exit::Done);
    }
    let entries = decode(&row.run, &rows)?;
    let texts = StoreTexts::new(store);
    let zone = jiff::tz::TimeZone::system();
    for (entry, _) in entries.iter().zip(&rows).filter(|(_, row)| concerns(&row.payload)) {
        let verdict = progress::verdict(&texts, &entry.event);
        let time = clock(entry.at_ms, &zone);
        context.out.line(&line(entry, &time, verdict.as_deref(), context.columns()));
    }
    Ok(Exit::Done)
}

/// One entry in at most `columns`, unless its step alone is wider.
fn line(entry: &Entry, time: &str, verdict: Option<&str>, columns: usize) -> String {
    let (place, mut facts) = facts(&entry.event);
    if let (Some(words), Event::Task(TaskEvent::Told { .. })) = (verdict, &entry.event) {
        facts.push(words.to_owned());
    } else if let Some(verdict) = verdict {
        facts.insert(facts.len().min(1), format!("verdict={verdict}"));
    }
    let head = format!("{:>5} {time} {:<19} {place}", entry.seq, entry.event.kind());
    let mut line = head.trim_end().to_owned();
    let all = facts.iter().filter(|fact| !fact.is_empty()).enumerate();
    let words = all.flat_map(|(n, fact)| (n > 0).then_some("·").into_iter().chain(fact.split(' ')));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    for (index, word) in words.iter().enumerate() {
        // The mark of what is left out needs two columns, unless this is all.
        let mark = if index + 1 == words.len() { 0 } else { 2 };
        if width(&line) + 1 + width(word) + mark > columns {
            return format!("{} …", line.trim_end_matches([' ', '·']));
        }
        line.push(' ');
        line.push_str(word);
    }
    line
}

/// The step or call that an event is about, and what there is to say of it, the most important first.
fn facts(event: &Event) -> (String, Vec<String>) {
    match event {
        Event::Run(event) => (String::new(), run(event)),
        Event::Task(event) => task(event),
        Event::Call(event) => call(event),
        Event::Tool(event) => tool(event),
        Event::Interrupt(event) => interrupt(event),
        Event::Ledger(event) => match event {
            LedgerEvent::Alert { node, alert, limit, used, caps } => {
                let at = ends::mark(*alert, *limit, *caps);
                (node.to_string(), vec![at, format!("{} used", usd(used.usd))])
            }
            LedgerEvent::Unguaranteed { node, limit, aside, .. } => {
                let kept = ends::in_unit(*limit, *aside);
                (node.to_string(), vec![format!("{kept} {limit} for the endings ahead")])
            }
            LedgerEvent::Raised { caps: raised, by } => {
                (String::new(), vec![format!("cap is now {}", caps(*raised)), format!("by {}", clean(by))])
            }
            LedgerEvent::Degraded { call, node, limit, step, of, gives_up, .. } => (
                call.to_string(),
                vec![clean(gives_up), format!("step {step} of {of}"), format!("no {limit} left at {node}")],
            ),
            LedgerEvent::Day { day, cap: most, granted, .. } => {
                (format!("day {day}"), vec![format!("{} granted", usd(*granted)), format!("cap {}", cap(*most))])
            }
        },
    }
}

/// The name that an enum of ours has in JSON, as words.
fn word(value: impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().replace('_', " ")
}

/// A provider, why it lets nothing through, and until when.
fn rate(limited: &RateLimited) -> String {
    format!("{}: {}, until {}", limited.provider, limited.why.words(), rfc3339(limited.until_ms))
}

fn causes(causes: &[ParkCause]) -> Vec<String> {
    let one = |cause: &ParkCause| match cause {
        ParkCause::Budget { step } => format!("budget: {step}"),
        ParkCause::Review { step } => format!("review: {step}"),
        ParkCause::Approval { step, id } => format!("approval {id}: {step}"),
        ParkCause::Question { step, id } => format!("question {id}: {step}"),
        ParkCause::Credentials { message } => format!("credentials: {}", excerpt(message, MESSAGE)),
        ParkCause::Quota { message } => format!("quota: {}", excerpt(message, MESSAGE)),
        ParkCause::Rate(limited) => format!("rate: {}", rate(limited)),
        ParkCause::Deadline => "deadline".to_owned(),
        ParkCause::Interrupted => "interrupted".to_owned(),
        ParkCause::Terminated => "terminated".to_owned(),
        ParkCause::Asked => "asked".to_owned(),
    };
    causes.iter().map(one).collect()
}

fn run(event: &RunEvent) -> Vec<String> {
    match event {
        RunEvent::Started(started) => {
            let offline = if started.offline { " [offline]" } else { "" };
            let name = format!("{}{offline}", clean(&started.crew));
            vec![name, format!("cap {}", caps(started.caps)), clean(&started.file)]
        }
        RunEvent::Resumed { by } => vec![format!("by {}", clean(by))],
        RunEvent::PauseAsked { cause: PauseCause::RateLimited(limited), .. } => vec![rate(limited)],
        RunEvent::PauseAsked { cause, by } => vec![word(cause), format!("by {}", clean(by))],
        RunEvent::CancelAsked { by } => vec![format!("by {}", clean(by))],
        RunEvent::Parked { causes: all } => causes(all),
        RunEvent::Finished { status, result } => {
            let mut facts = vec![word(status)];
            facts.extend(result.as_ref().into_iter().flat_map(result_facts));
            facts
        }
    }
}

fn result_facts(result: &TaskResult) -> Vec<String> {
    let error = result.error.as_ref().map(|error| excerpt(&error.message, MESSAGE));
    let spent = result.spent;
    let sums = match spent.calls {
        0 => String::new(),
        n => format!("{} {}", count(n, "call"), usd(spent.usd)),
    };
    let used = if spent.tokens.0 > 0 { tokens(spent.tokens.0) } else { String::new() };
    std::iter::once(word(result.status)).chain(error).chain([sums, used]).collect()
}

fn task(event: &TaskEvent) -> (String, Vec<String>) {
    let message = |text: &str| excerpt(text, MESSAGE);
    let (step, facts) = match event {
        TaskEvent::FannedOut { step, keys, .. } => (step.to_string(), vec![count(keys.len() as u64, "item")]),
        TaskEvent::Assigned { step, agent, work, .. } => {
            let what = match &**work {
                Work::Prompt { carries: true, .. } => "goes on from its turns".to_owned(),
                Work::Prompt { .. } => String::new(),
                Work::Tool { tool, .. } => format!("tool {}", clean(tool)),
            };
            (step.to_string(), vec![agent.to_string(), what])
        }
        TaskEvent::CrewStarted { step, inputs, .. } => (step.to_string(), vec![count(inputs.len() as u64, "input")]),
        TaskEvent::Skipped { step, because, .. } => (step.to_string(), vec![message(because)]),
        TaskEvent::AttemptFailed { step, attempt, class, message: why, .. } => {
            (step.to_string(), vec![format!("attempt {attempt}: {}", word(class)), message(why)])
        }
        TaskEvent::NeedsReview { step, class, message: why, .. } => (step.to_string(), vec![word(class), message(why)]),
        TaskEvent::FellBack { step, model, because, .. } => {
            (step.to_string(), vec![format!("to {}", clean(model)), clean(because)])
        }
        TaskEvent::Accepted { step, attempt, by, .. } => {
            (step.to_string(), vec![format!("answer of attempt {attempt}"), format!("by {}", clean(by))])
        }
        TaskEvent::Retried { step, by, .. } => (step.to_string(), vec![format!("by {}", clean(by))]),
        TaskEvent::Finished { step, agent, result } => {
            let mut facts = result_facts(result);
            facts.extend(agent.as_ref().map(ToString::to_string));
            (step.to_string(), facts)
        }
        TaskEvent::RoundDecided { judge, round, outcome } => {
            (judge.to_string(), vec![format!("round {round}: {}", word(outcome))])
        }
        TaskEvent::Delegated { step, from, .. } => (step.to_string(), vec![format!("asked by {from}")]),
        TaskEvent::DelegationRefused { from, agent, .. } => (from.to_string(), vec![agent.to_string()]),
        TaskEvent::Returned { step, from, spent, .. } => (step.to_string(), vec![format!("to {from}"), usd(spent.usd)]),
        TaskEvent::Parked { step, causes: all } => (step.to_string(), causes(all)),
        TaskEvent::FileWritten { step, path, .. } => (step.to_string(), vec![clean(path)]),
        TaskEvent::FileFailed { step, path, message: why } => (step.to_string(), vec![clean(path), message(why)]),
        TaskEvent::Crashed { step, agent, message: why } => (step.to_string(), vec![agent.to_string(), message(why)]),
        TaskEvent::Woken { step, agent } => (step.to_string(), vec![agent.to_string()]),
        TaskEvent::Shrunk { step, replaced, dropped, .. } => (step.to_string(), shrunk(replaced, *dropped)),
        TaskEvent::Cooling { step, model, until_ms, .. } => {
            let until = match until_ms {
                &u64::MAX => "until a trial call has ended".to_owned(),
                ms => format!("left alone until {}", rfc3339(*ms)),
            };
            (step.to_string(), vec![clean(model), until])
        }
        TaskEvent::Cooled { step, model, .. } => {
            (step.to_string(), vec![clean(model), "may be tried again".to_owned()])
        }
        TaskEvent::Summarising { step, turns: (from, to), .. } => {
            (step.to_string(), vec![format!("messages {from} to {to}")])
        }
        TaskEvent::Summarised { step, dropped: (from, to), .. } => {
            (step.to_string(), vec![format!("one message for {from} to {to}")])
        }
        TaskEvent::Told { agent, by, .. } => (agent.to_string(), vec![format!("by {}", clean(by))]),
        TaskEvent::Heard { step, agent, answered, .. } => {
            let more = if *answered { "one more turn" } else { "" };
            (step.to_string(), vec![agent.to_string(), more.to_owned()])
        }
        TaskEvent::Concluding { step, agent, .. } => (step.to_string(), vec![agent.to_string()]),
    };
    (step, facts)
}

fn shrunk(replaced: &[Replaced], dropped: Option<(u32, u32)>) -> Vec<String> {
    let gone = dropped.map(|(from, to)| format!("messages {from} to {to} left out"));
    let shorter = match replaced.len() as u64 {
        0 => String::new(),
        n => format!("{} shortened", count(n, "message")),
    };
    std::iter::once(shorter).chain(gone).collect()
}

fn used(usage: &Usage) -> String {
    let part = |count: crate::core::money::Count| count.reported().map_or("?".to_owned(), crate::core::money::grouped);
    format!("{} in, {} out", part(usage.input), part(usage.output))
}

fn call(event: &CallEvent) -> (String, Vec<String>) {
    match event {
        CallEvent::Held(held) => {
            let Held { call, attempt, model, amount, .. } = &**held;
            let what = if held.summary { "summary".to_owned() } else { String::new() };
            let again = if *attempt > 1 { format!("attempt {attempt}") } else { String::new() };
            (call.to_string(), vec![clean(model), format!("up to {}", usd(amount.usd)), again, what])
        }
        CallEvent::Queued { call, node, limit, need, .. } => {
            (call.to_string(), vec![format!("needs {} {limit}", ends::in_unit(*limit, *need)), format!("at {node}")])
        }
        CallEvent::Exhausted { call, node, limit, need, left, .. } => {
            let need = format!("needs {} {limit}", ends::in_unit(*limit, *need));
            (call.to_string(), vec![need, format!("{} left at {node}", ends::in_unit(*limit, *left))])
        }
        CallEvent::Answered(answered) => {
            let Answered { call, finish, asks, usage, cost, estimated, overrun, elapsed_ms, .. } = &**answered;
            let asks = if *asks > 0 { format!("asks {}", count(u64::from(*asks), "tool")) } else { word(finish) };
            let odd = match (overrun, estimated) {
                (true, _) => "OVERRUN",
                (false, true) => "usage unknown",
                (false, false) => "",
            };
            (call.to_string(), vec![usd(cost.usd), odd.to_owned(), asks, used(usage), span(*elapsed_ms)])
        }
        CallEvent::Failed { call, failure, elapsed_ms, .. } => {
            let why = excerpt(&failure.message, MESSAGE);
            (call.to_string(), vec![word(failure.class), why, span(*elapsed_ms)])
        }
        CallEvent::Lost { call, cause, .. } => (call.to_string(), vec![word(cause), "may be billed".to_owned()]),
        CallEvent::Settled { call, cost, by } => (call.to_string(), vec![usd(cost.usd), format!("by {}", clean(by))]),
    }
}

fn tool(event: &ToolEvent) -> (String, Vec<String>) {
    match event {
        ToolEvent::Started { call, tool, index, of, .. } => {
            let which = if *of > 1 { format!("{} of {of}", index + 1) } else { String::new() };
            (call.to_string(), vec![clean(tool), which])
        }
        ToolEvent::Refused { call, tool, refusal, .. } => (call.to_string(), vec![excerpt(tool, 60), word(refusal)]),
        ToolEvent::Returned { call, outcome, content, elapsed_ms, .. } => {
            let bytes = format!("{} bytes", crate::core::money::grouped(content.bytes));
            (call.to_string(), vec![word(outcome), bytes, span(*elapsed_ms)])
        }
    }
}

fn interrupt(event: &InterruptEvent) -> (String, Vec<String>) {
    match event {
        InterruptEvent::Raised(raised) => {
            let place = raised.call.as_ref().map_or_else(|| raised.step.to_string(), ToString::to_string);
            let time = raised.expires_ms.map(|ms| format!("open for {}", interrupt::words(ms))).unwrap_or_default();
            (place, vec![raised.id.to_string(), raised.kind.as_str().to_owned(), clean(&raised.tool), time])
        }
        InterruptEvent::Decided { id, step, decision, by, .. } => {
            let why = match decision {
                Decision::Rejected { reason } => excerpt(reason, MESSAGE),
                Decision::Approved { .. } | Decision::Answered { .. } | Decision::Expired => String::new(),
            };
            (step.to_string(), vec![id.to_string(), decision.as_str().to_owned(), why, format!("by {}", clean(by))])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::ErrorClass;
    use crate::core::ids::{AgentRef, Name, Step};

    fn entry(event: TaskEvent) -> Entry {
        Entry { seq: Seq(1234), at_ms: 0, event: Event::Task(event) }
    }

    #[test]
    fn what_does_not_fit_is_left_out_by_whole_words() {
        let agent = AgentRef { scope: Step::root(), name: Name::new("writer").unwrap(), number: 1 };
        let step: Step = "section[a-long-key]#2".parse().unwrap();
        let message = "the answer does not fit the schema: `/issues/0` is not a string".to_owned();
        let (class, variation) = (ErrorClass::Unusable, Default::default());
        let entry = entry(TaskEvent::AttemptFailed { step, agent, attempt: 2, class, message, variation });
        let whole = line(&entry, "12:00:21", None, usize::MAX);
        for columns in 60..140 {
            let line = line(&entry, "12:00:21", None, columns);
            let shown = line.strip_suffix(" …").unwrap_or(&line);
            assert!(width(&line) <= columns, "{columns}: {line}");
            assert!(whole.starts_with(shown), "{line}");
            let next = whole[shown.len()..].chars().next();
            assert!(matches!(next, None | Some(' ')), "cut inside a word: {line}");
        }
        let fits = line(&entry, "12:00:21", None, 80);
        assert!(fits.ends_with(" …") && fits.contains("section[a-long-key]#2 attempt 2: unusable"), "{fits}");
    }
}
