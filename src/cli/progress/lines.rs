//! What an entry comes to in words. Invariant: one line per event that matters, and none that a person
//! could not act on or wait for.

use crate::actors::streams::Working;
use crate::cli::ends;
use crate::cli::out::{Out, Tone};
use crate::cli::screen::{cap, clean, count, excerpt, rfc3339, span, tokens, usd};
use crate::cli::tally::{StepState, StepTally, Tally};
use crate::core::chat::FailureClass;
use crate::core::crew::DEFAULT_CAPS;
use crate::core::event::{
    CallEvent, Decision, Event, InterruptEvent, InterruptKind, LedgerEvent, LostCause, Outcome, PauseCause, Raised,
    RoundOutcome, RunEvent, TaskEvent, TaskResult, TaskStatus, ToolEvent,
};
use crate::core::ids::Step;
use crate::core::money::{Caps, NanoUsd, grouped};
use crate::core::run::Entry;

/// Characters of a message that a line shows.
const MESSAGE: usize = 160;

/// One line about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The first word.
    pub word: &'static str,
    pub tone: Tone,
    pub text: String,
    /// The live region shows as much.
    pub in_region: bool,
}

impl Said {
    fn new(word: &'static str, tone: Tone, text: impl Into<String>) -> Said {
        Said { word, tone, text: text.into(), in_region: false }
    }
    pub fn plain(&self) -> String {
        format!("{} {}", self.word, self.text)
    }
    /// As it is printed to stderr, with the time in front if there is one.
    pub fn print(&self, out: &Out, time: Option<String>) -> String {
        let time = time.filter(|_| self.word != "run").map(|time| format!("{time} ")).unwrap_or_default();
        let line = out.folded(&format!("{time}{}", self.plain()));
        line.replacen(self.word, &out.paint_err(self.tone, self.word), 1)
    }
}

/// How far a tool is, for programs. It is no entry of the journal: it has no `seq`.
pub fn working(one: &Working, now_ms: u64) -> String {
    let Working { run, call, index, tool, progress } = one;
    serde_json::json!({
        "ts": rfc3339(now_ms), "type": "tool.progress", "run": run, "step": call.step, "call": call, "index": index,
        "tool": tool, "done": progress.done, "of": progress.of, "says": clean(&progress.says),
    })
    .to_string()
}

/// The lines of an entry that `tally` has just folded.
pub fn said(tally: &Tally, entry: &Entry, verdict: Option<&str>) -> Vec<Said> {
    match &entry.event {
        Event::Run(event) => run(tally, event).into_iter().collect(),
        Event::Task(event) => task(tally, event, verdict).into_iter().collect(),
        Event::Call(event) => call(tally, event).into_iter().collect(),
        Event::Tool(event) => match event {
            ToolEvent::Returned { call, outcome: Outcome::Unknown, .. } => {
                vec![Said::new("unknown", Tone::Bad, format!("{call}: whether a tool took effect is not known"))]
            }
            ToolEvent::Started { .. } | ToolEvent::Refused { .. } | ToolEvent::Returned { .. } => Vec::new(),
        },
        Event::Interrupt(event) => vec![interrupt(event)],
        Event::Ledger(event) => ledger(tally, event).into_iter().collect(),
    }
}

fn run(tally: &Tally, event: &RunEvent) -> Option<Said> {
    match event {
        RunEvent::Started(_) => Some(Said::new("run", Tone::Strong, head(tally)?)),
        RunEvent::Resumed { by } => {
            let done = tally.steps.values().filter(|row| matches!(row.state, StepState::Ended(_))).count() as u64;
            let text = format!(
                "{} by {} · {} reused · {}",
                tally.short(),
                clean(by),
                count(done, "ended step"),
                ends::money(tally)
            );
            Some(Said::new("resumed", Tone::Strong, text))
        }
        RunEvent::PauseAsked { cause, .. } => Some(Said::new("pausing", Tone::Warn, pausing(tally, cause))),
        RunEvent::CancelAsked { by } => Some(Said::new("cancelling", Tone::Warn, format!("asked by {}", clean(by)))),
        // The last lines say how it ended.
        RunEvent::Parked { .. } | RunEvent::Finished { .. } => None,
    }
}

/// `1 call and 2 tool calls`; `None`: nothing is in flight.
pub fn in_flight(tally: &Tally) -> Option<String> {
    let counts = [(tally.in_flight().len(), "call"), (tally.tools_in_flight().len(), "tool call")];
    let some = counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(n as u64, what));
    Some(some.collect::<Vec<_>>().join(" and ")).filter(|words| !words.is_empty())
}

fn pausing(tally: &Tally, cause: &PauseCause) -> String {
    let Some(flying) = in_flight(tally) else { return "no call is in flight".to_owned() };
    let calls = tally.in_flight();
    let steps: Vec<&Step> = calls.iter().map(|call| &call.step).chain(tally.tools_in_flight()).collect();
    let names: Vec<&str> = steps.iter().take(3).map(|step| step.as_str()).collect();
    let more = if steps.len() > 3 { ", …" } else { "" };
    let then = match cause {
        PauseCause::Interrupted | PauseCause::Terminated if calls.is_empty() => {
            "waiting up to 30 s. Ctrl-C again drops them (they may still take effect)"
        }
        PauseCause::Interrupted | PauseCause::Terminated => {
            "waiting up to 30 s. Ctrl-C again drops them (they may still be billed)"
        }
        PauseCause::Asked | PauseCause::RateLimited(_) => "waiting until they end",
        PauseCause::Deadline => "they are dropped",
    };
    format!("{flying} in flight ({}{more}); {then}", names.join(", "))
}

/// `7Q3M report · cap $0.25 (crews/report.toml) · 1,000,000 tokens (default) · 1,000 calls (default) · Ctrl-C …`.
fn head(tally: &Tally) -> Option<String> {
    let started = tally.started.as_deref()?;
    let Caps { usd, tokens, calls } = started.caps;
    let mut parts = vec![format!("{} {}", tally.short(), clean(&started.crew))];
    if started.offline {
        parts[0].push_str(" [offline]");
    }
    let money = usd.map_or("no cap in USD".to_owned(), |usd| format!("cap {}", cap(usd)));
    parts.push(format!("{money} ({})", clean(&started.cap_origin)));
    let usual = |is: bool| if is { " (default)" } else { "" };
    parts.extend(tokens.map(|most| format!("{most} tokens{}", usual(DEFAULT_CAPS.tokens == tokens))));
    parts.extend(calls.map(|most| format!("{}{}", count(most, "call"), usual(DEFAULT_CAPS.calls == calls))));
    parts.push("Ctrl-C pauses safely".to_owned());
    Some(parts.join(" · "))
}

fn agent_of(row: Option<&StepTally>) -> String {
    row.and_then(|row| row.agent.as_ref()).map(|agent| format!(" {agent}")).unwrap_or_default()
}

fn task(tally: &Tally, event: &TaskEvent, verdict: Option<&str>) -> Option<Said> {
    let message = |text: &str| excerpt(text, MESSAGE);
    Some(match event {
        TaskEvent::FannedOut { step, keys, .. } => {
            Said::new("split", Tone::Dim, format!("{step} into {}", count(keys.len() as u64, "item")))
        }
        TaskEvent::Assigned { step, agent, .. } => {
            Said { in_region: true, ..Said::new("start", Tone::Dim, format!("{step} {agent}")) }
        }
        TaskEvent::CrewStarted { step, .. } => Said::new("start", Tone::Dim, format!("{step} sub-crew")),
        TaskEvent::Skipped { step, because, .. } => {
            Said::new("skipped", Tone::Dim, format!("{step}: {}", message(because)))
        }
        TaskEvent::AttemptFailed { step, attempt, message: why, .. } => {
            Said::new("retry", Tone::Warn, format!("{step} attempt {attempt} failed: {}", message(why)))
        }
        TaskEvent::NeedsReview { step, message: why, .. } => {
            Said::new("review", Tone::Warn, format!("{step} needs a person: {}", message(why)))
        }
        TaskEvent::Retried { step, by, .. } => Said::new("again", Tone::Dim, format!("{step} by {}", clean(by))),
        TaskEvent::Finished { step, result, .. } => finished(tally, step, result, verdict),
        TaskEvent::RoundDecided { judge, round, outcome } => {
            let outcome = round_outcome(*outcome, tally.is_debate(judge) == Some(true));
            Said::new("round", Tone::Dim, format!("{round} of {}: {outcome}", judge.with_round(None)))
        }
        TaskEvent::Delegated { step, from, .. } => {
            Said::new("delegated", Tone::Dim, format!("{step} by {}", from.step))
        }
        TaskEvent::FileWritten { step, path, .. } => {
            Said::new("wrote", Tone::Good, format!("{} ({step})", clean(path)))
        }
        TaskEvent::FileFailed { step, path, message: why } => {
            Said::new("FAILED", Tone::Bad, format!("to write {} ({step}): {}", clean(path), message(why)))
        }
        TaskEvent::Crashed { step, agent, message: why } => {
            Said::new("crash", Tone::Bad, format!("{step} {agent}: {}", message(why)))
        }
        TaskEvent::Shrunk { step, .. } => {
            Said::new("shrunk", Tone::Dim, format!("{step}: older turns shortened to fit the context"))
        }
        TaskEvent::Summarised { step, dropped: (from, to), .. } => {
            let turns = count(u64::from(to - from), "message");
            Said::new("summary", Tone::Dim, format!("{step}: one message in place of {turns}, to fit the context"))
        }
        TaskEvent::Summarising { .. } | TaskEvent::Cooling { .. } | TaskEvent::Cooled { .. } => return None,
        TaskEvent::DelegationRefused { .. } | TaskEvent::Returned { .. } | TaskEvent::Parked { .. } => return None,
        TaskEvent::FellBack { step, model, because, .. } => {
            Said::new("fallback", Tone::Warn, format!("{step} goes on with {}: {}", clean(model), clean(because)))
        }
        TaskEvent::Accepted { step, attempt, by, .. } => {
            Said::new("accepted", Tone::Dim, format!("{step}: the answer of attempt {attempt}, by {}", clean(by)))
        }
        TaskEvent::Told { agent, by, .. } => {
            let words = verdict.unwrap_or_default();
            Said::new("told", Tone::Strong, format!("{agent} by {}: {words}", clean(by)))
        }
        TaskEvent::Heard { step, agent, answered, .. } => {
            let more = if *answered { ": it had answered, and takes one more turn" } else { "" };
            Said::new("heard", Tone::Dim, format!("{step} {agent}{more}"))
        }
        TaskEvent::Woken { .. } | TaskEvent::Concluding { .. } => return None,
    })
}

fn round_outcome(outcome: RoundOutcome, debate: bool) -> &'static str {
    match outcome {
        RoundOutcome::Approved if debate => "the debate is over",
        RoundOutcome::Accepted if debate => "limit reached, the debate is over",
        RoundOutcome::Again => "again",
        RoundOutcome::Approved => "approved",
        RoundOutcome::Accepted => "limit reached, the last result stands unapproved",
        RoundOutcome::Failed => "limit reached, failed",
        RoundOutcome::Review => "limit reached, a person decides",
    }
}

fn finished(tally: &Tally, step: &Step, result: &TaskResult, verdict: Option<&str>) -> Said {
    let row = tally.steps.get(step);
    let elapsed = row.map_or(0, |row| row.ended_ms.unwrap_or(row.started_ms).saturating_sub(row.started_ms));
    let mut text = format!("{step}{}", agent_of(row));
    if result.spent.calls > 0 {
        let (calls, used) = (count(result.spent.calls, "call"), tokens(result.spent.tokens.0));
        text.push_str(&format!(" {calls} {used}"));
        // Of models without a price there is no amount, not zero.
        if result.spent.usd > NanoUsd::ZERO {
            text.push_str(&format!(" {}", usd(result.spent.usd)));
        }
    }
    text.push_str(&format!(" {}", span(elapsed)));
    if let Some(verdict) = verdict {
        text.push_str(&format!(" verdict={verdict}"));
    }
    if let Some(error) = &result.error {
        text.push_str(&format!(": {}", excerpt(&error.message, MESSAGE)));
    }
    text.push_str(&format!(" · {}", ends::money(tally)));
    let (word, tone) = match result.status {
        TaskStatus::Done => ("done", Tone::Good),
        TaskStatus::Partial => ("partial", Tone::Warn),
        TaskStatus::Replaced => ("replaced", Tone::Warn),
        TaskStatus::Failed => ("failed", Tone::Bad),
        TaskStatus::Skipped => ("skipped", Tone::Dim),
        TaskStatus::Cancelled => ("cancelled", Tone::Warn),
        TaskStatus::OverBudget => ("over_budget", Tone::Bad),
    };
    Said::new(word, tone, text)
}

fn call(tally: &Tally, event: &CallEvent) -> Option<Said> {
    Some(match event {
        CallEvent::Held(_) => return None,
        CallEvent::Queued { call, node, limit, need, .. } => {
            let need = ends::in_unit(*limit, *need);
            let text = format!("{} for budget at {node}: the call needs up to {need} {limit}", call.step);
            Said { in_region: true, ..Said::new("waits", Tone::Dim, text) }
        }
        CallEvent::Exhausted { call, node, limit, summary: true, .. } => {
            let text = format!("{}: no {limit} budget of {node} for a summary, oldest turns are left out", call.step);
            Said::new("budget", Tone::Dim, text)
        }
        CallEvent::Exhausted { call, node, limit, finish: true, .. } => {
            let text = format!("{}: no {limit} budget of {node} for more turns, it goes to its ending", call.step);
            Said::new("budget", Tone::Warn, text)
        }
        CallEvent::Exhausted { call, .. } if tally.stopped_by(&call.step).is_some() => {
            let by = tally.stopped_by(&call.step).map(ToString::to_string).unwrap_or_default();
            Said::new("no budget", Tone::Warn, format!("{}: stopped by the overrun of {by}", call.step))
        }
        CallEvent::Exhausted { call, node, limit, need, left, .. } => {
            let (need, left) = (ends::in_unit(*limit, *need), ends::in_unit(*limit, *left));
            Said::new("no budget", Tone::Warn, format!("{}: needs {need} {limit}, {left} left at {node}", call.step))
        }
        CallEvent::Answered(answered) if answered.overrun => {
            let text = format!("{}: {} was billed, more than was held", answered.call, usd(answered.cost.usd));
            Said::new("OVERRUN", Tone::Bad, text)
        }
        CallEvent::Answered(answered) if answered.estimated => {
            let text = format!("{}: no usable usage reported, booked at the worst case", answered.call);
            Said::new("estimated", Tone::Warn, text)
        }
        CallEvent::Answered(_) => return None,
        CallEvent::Failed { call, failure, .. }
            if matches!(failure.class, FailureClass::Transient | FailureClass::NotSent) =>
        {
            let after = failure.retry_after_ms.map(|ms| format!(", it asks for {}", span(ms))).unwrap_or_default();
            let text = format!("{call} and is sent again: {}{after}", excerpt(&failure.message, MESSAGE));
            Said::new("waits", Tone::Dim, text)
        }
        CallEvent::Failed { call, failure, .. } => {
            let text = format!("{call} not answered: {}", excerpt(&failure.message, MESSAGE));
            Said::new("failed", Tone::Warn, text)
        }
        CallEvent::Lost { call, cause, .. } => {
            let why = match cause {
                LostCause::Died => "the process died in it",
                LostCause::Aborted => "dropped",
                LostCause::Timeout => "the task's time ran out",
            };
            let held = tally.calls.get(call).map(|call| usd(call.held.amount.usd)).unwrap_or_default();
            Said::new("lost", Tone::Warn, format!("{call}: {why}; it may be billed, {held} stays held"))
        }
        CallEvent::Settled { call, cost, by } => {
            Said::new("settled", Tone::Good, format!("{call} at {} by {}", usd(cost.usd), clean(by)))
        }
    })
}

fn ledger(tally: &Tally, event: &LedgerEvent) -> Option<Said> {
    Some(match event {
        // Part of a hold, which is not told either.
        LedgerEvent::Day { .. } => return None,
        LedgerEvent::Alert { node, alert, limit, used, caps } => {
            let at = ends::mark(*alert, *limit, *caps);
            let used = format!("{} and {} tokens spent or held", usd(used.usd), grouped(used.tokens.0));
            let forecast = tally.forecast_words().map(|words| format!("; {words}")).unwrap_or_default();
            Said::new("alert", Tone::Warn, format!("{node} has reached {at}: {used}{forecast}"))
        }
        LedgerEvent::Unguaranteed { node, limit, aside, used, never, .. } => {
            let kept = ends::in_unit(*limit, *aside);
            let spent = ends::in_unit(*limit, *used);
            let text = match never {
                true => format!(
                    "a result is not guaranteed: the endings of all tasks may need {kept} {limit}, more than {node} has"
                ),
                false => format!(
                    "a result is no longer guaranteed: {node} has {spent} {limit} spent or held, the endings ahead may need {kept}"
                ),
            };
            Said::new("budget", Tone::Bad, text)
        }
        LedgerEvent::Degraded { call, node, limit, step, of, gives_up, .. } => {
            let text =
                format!("{call} has no {limit} left at {node}: step {step} of {of}, {}, from now on", clean(gives_up));
            Said::new("degraded", Tone::Warn, text)
        }
        LedgerEvent::Raised { caps, by } => {
            let all = [
                caps.usd.map(cap),
                caps.tokens.map(|tokens| format!("{tokens} tokens")),
                caps.calls.map(|calls| count(calls, "call")),
            ];
            let all = all.into_iter().flatten().collect::<Vec<_>>().join(", ");
            Said::new("raised", Tone::Strong, format!("cap is now {all}, by {}", clean(by)))
        }
    })
}

/// What a person is asked, in one line.
pub fn asks(raised: &Raised) -> String {
    let Raised { id, step, tool, .. } = raised;
    match raised.kind {
        InterruptKind::Approval => format!("{step} wants {}: bosun approvals show {id}", clean(tool)),
        InterruptKind::Question => match raised.server() {
            Some(server) => {
                let server = clean(server);
                format!("the server {server} asks while {step} runs: bosun approvals show {id}, bosun answer {id} …")
            }
            None => format!("{step} asks a question: bosun approvals show {id}"),
        },
        InterruptKind::Before => format!("{step} may begin after a yes: bosun approvals show {id}"),
        InterruptKind::After => format!("{step} has a result to look at: bosun approvals show {id}"),
    }
}

fn interrupt(event: &InterruptEvent) -> Said {
    match event {
        InterruptEvent::Raised(raised) => Said::new("asks", Tone::Warn, asks(raised)),
        InterruptEvent::Decided { id, step, decision, by, .. } => {
            let (tone, why) = match decision {
                Decision::Rejected { reason } => (Tone::Warn, format!(": {}", excerpt(reason, MESSAGE))),
                Decision::Approved { .. } | Decision::Answered { .. } => (Tone::Good, String::new()),
                Decision::Expired => (Tone::Warn, String::new()),
            };
            Said::new("decided", tone, format!("{step} {id} {} by {}{why}", decision.as_str(), clean(by)))
        }
    }
}

/// What is still going on.
pub fn still(tally: &Tally, now_ms: u64) -> Vec<String> {
    let active: Vec<&StepTally> = super::region::active(tally).collect();
    let one = |row: &&StepTally| format!("{} {}", row.step, span(now_ms.saturating_sub(row.started_ms)));
    if active.is_empty() {
        return Vec::new();
    }
    let shown: Vec<String> = active.iter().take(4).map(one).collect();
    let more = if active.len() > 4 { format!(" and {} more", active.len() - 4) } else { String::new() };
    vec![format!("still {}{more} · {}", shown.join(", "), ends::money(tally))]
}
