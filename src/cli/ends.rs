//! Why a run rests or is over, in words. Invariant: every end that a command goes on from names it, and no other
//! does; the exit code is the most urgent cause's.

use super::failure::Exit;
use super::screen::{Part, cap, clean, count, fitting, rfc3339, tokens, usd};
use super::tally::{CallState, NoBudget, RunStand, StepState, Tally};
use crate::core::chat::{FailureClass, Finish};
use crate::core::event::{AlertAt, Answered, ErrorClass, InterruptKind, ParkCause, RateLimited, RunEnd};
use crate::core::ids::{InterruptId, Step};
use crate::core::ledger::NodeId;
use crate::core::money::{Amount, Caps, Limit, NanoUsd, grouped};

/// How a run stands, for its last lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub exit: Exit,
    /// `paused by budget before draft#3: …`, one line per cause.
    pub lines: Vec<String>,
    /// The command that goes on, where one does.
    pub command: Option<String>,
}

/// The end of a run that is parked or over; `None` while it runs (or its process died).
pub fn of(tally: &Tally) -> Option<End> {
    match &tally.stand {
        RunStand::Running | RunStand::Pausing | RunStand::Cancelling => None,
        RunStand::Ended(end, _) => Some(ended(tally, *end)),
        RunStand::Parked(causes) => Some(parked(tally, causes)),
    }
}

/// `3 calls`, `3 calls + 1 in doubt`.
pub fn calls(tally: &Tally) -> String {
    let sums = tally.ledger.total();
    let doubt = if sums.ambiguous.calls > 0 { format!(" + {} in doubt", sums.ambiguous.calls) } else { String::new() };
    format!("{}{doubt}", count(sums.settled.calls, "call"))
}

/// What goes on with a run whose process is gone.
pub fn resume(tally: &Tally) -> String {
    format!("bosun resume {}", tally.short())
}

fn ended(tally: &Tally, end: RunEnd) -> End {
    let failed = tally.steps.values().filter_map(|row| match &row.state {
        StepState::Ended(result) => result.error.as_ref().map(|error| (&row.step, error)),
        StepState::Running | StepState::WaitsBudget | StepState::WaitsPerson => None,
        StepState::NoBudget | StepState::Review { .. } => None,
    });
    let (exit, word) = match end {
        RunEnd::Completed => (Exit::Done, "completed"),
        RunEnd::Failed if rejected(tally) => (Exit::Rejected, "failed"),
        RunEnd::Failed => (Exit::Task, "failed"),
        RunEnd::Cancelled => (Exit::Cancelled, "cancelled"),
    };
    let mut lines = vec![word.to_owned()];
    if end == RunEnd::Failed {
        lines.extend(failed.take(10).map(|(step, error)| format!("{step} failed: {}", clean(&error.message))));
    }
    lines.extend(tally.limits_reached());
    if let Some(before) = tally.failed_at.filter(|_| end == RunEnd::Failed) {
        let after = tally.ledger.total().settled.minus(before);
        if after.calls > 0 {
            let (calls, all) = (count(after.calls, "call"), tokens(after.tokens.0));
            lines.push(format!("what went on after the first failure: {calls} · {all} · {}", usd(after.usd)));
        }
    }
    End { exit, lines, command: None }
}

/// Did it fail by a person's no, and by nothing else?
fn rejected(tally: &Tally) -> bool {
    let classes = tally.steps.values().filter_map(|row| match &row.state {
        StepState::Ended(result) => result.error.as_ref().map(|error| error.class),
        StepState::Running | StepState::WaitsBudget | StepState::WaitsPerson => None,
        StepState::NoBudget | StepState::Review { .. } => None,
    });
    let own: Vec<ErrorClass> = classes.filter(|class| *class != ErrorClass::Upstream).collect();
    !own.is_empty() && own.iter().all(|class| *class == ErrorClass::Rejected)
}

/// The exit code of a run that rests: of its most urgent cause.
pub fn exit(causes: &[ParkCause]) -> Exit {
    let exits: Vec<Exit> = causes.iter().map(exit_of).collect();
    Exit::first(&exits).unwrap_or(Exit::Interrupted)
}

fn parked(tally: &Tally, causes: &[ParkCause]) -> End {
    let exit = exit(causes);
    let mut lines: Vec<String> = causes.iter().map(|cause| words(tally, cause)).collect();
    let short = causes.iter().filter_map(budget);
    let own = |cause: &ParkCause| budget(cause).is_some_and(|step| tally.is_own_cap(step));
    let fixed = |cause: &ParkCause| matches!(cause, ParkCause::Review { step } if is_fixed(tally, step));
    // A run that goes on as it was would stop where it stopped.
    let stuck = !causes.is_empty() && causes.iter().all(|cause| own(cause) || fixed(cause));
    if stuck && causes.iter().any(own) {
        lines.push(own_cap(tally));
    }
    if causes.iter().any(fixed) {
        lines.push(stays(tally));
    }
    if stuck {
        return End { exit, lines, command: None };
    }
    let mut command = resume(tally);
    // One command for all that a flag can mend.
    let raises = tally.raises(short);
    for (limit, enough) in raises {
        command.push_str(&match limit {
            Limit::Usd => format!(" --raise-budget {}", NanoUsd(enough)),
            Limit::Tokens => format!(" --raise-budget {enough}tok"),
            Limit::Calls => format!(" --raise-budget {enough}calls"),
        });
    }
    if causes.contains(&ParkCause::Deadline) {
        command.push_str(" --more-time 10m");
    }
    for cause in causes {
        if let ParkCause::Review { step } = cause
            && !is_fixed(tally, step)
        {
            command.push_str(&format!(" --retry {}", quoted(step)));
        }
    }
    End { exit, lines, command: Some(command) }
}

fn exit_of(cause: &ParkCause) -> Exit {
    match cause {
        ParkCause::Credentials { .. } => Exit::Credentials,
        ParkCause::Quota { .. } | ParkCause::Budget { .. } => Exit::Budget,
        ParkCause::Deadline => Exit::Deadline,
        ParkCause::Rate(_) => Exit::Rate,
        ParkCause::Review { .. } => Exit::Review,
        ParkCause::Approval { .. } | ParkCause::Question { .. } => Exit::Person,
        ParkCause::Interrupted | ParkCause::Asked => Exit::Interrupted,
        ParkCause::Terminated => Exit::Terminated,
    }
}

pub fn words(tally: &Tally, cause: &ParkCause) -> String {
    match cause {
        ParkCause::Credentials { message } => {
            let key = tally.refused_key().map(|(provider, from)| format!("; the key of `{provider}` is {from}"));
            let model = refused(tally, message).map(|(model, _)| format!("{}: ", clean(model)));
            format!("paused: credentials: {}{}{}", model.unwrap_or_default(), clean(message), key.unwrap_or_default())
        }
        ParkCause::Quota { message } => {
            let (model, class) = refused(tally, message).unzip();
            let model = model.map_or("the provider refuses".to_owned(), |model| format!("{} is refused", clean(model)));
            let next = match class.filter(|class| **class == FailureClass::NotFound).and(tally.started.as_ref()) {
                Some(started) => format!(
                    "; a resume asks the same model again, for the run keeps its crew as it was: mend the address in \
                     bosun.toml, or mend the crew and start anew with bosun run {}",
                    clean(&started.file)
                ),
                None => String::new(),
            };
            format!("paused: {model}: {}{next}", clean(message))
        }
        ParkCause::Deadline => "paused: the crew's deadline has passed".to_owned(),
        ParkCause::Rate(RateLimited { provider, until_ms, why }) => {
            format!("paused: {provider} lets nothing through until {}: {}", rfc3339(*until_ms), why.words())
        }
        ParkCause::Interrupted => "paused by Ctrl-C".to_owned(),
        ParkCause::Terminated => "paused by SIGTERM or SIGHUP".to_owned(),
        ParkCause::Asked => "paused as asked".to_owned(),
        ParkCause::Budget { step } => match tally.no_budget.get(step) {
            Some(NoBudget { overrun: Some(call), .. }) => {
                format!("paused by budget before {step}: stopped by the overrun of {call}, until the budget is raised")
            }
            Some(why) => {
                let (need, left) = (in_unit(why.limit, why.need), in_unit(why.limit, why.left));
                let ends = match why.node {
                    NodeId::Day(_) => " (`per_day_usd` of all runs of the crew), which ends at 00:00 UTC",
                    NodeId::Crew(_) | NodeId::Task(_) | NodeId::Agent(..) if tally.is_own_cap(step) => {
                        ", a cap of the crew file that no raise changes"
                    }
                    NodeId::Crew(_) | NodeId::Task(_) | NodeId::Agent(..) => "",
                };
                format!("paused by budget before {step}: needs {need} {}, {left} left at {}{ends}", why.limit, why.node)
            }
            None => format!("paused by budget before {step}"),
        },
        ParkCause::Approval { step, id } | ParkCause::Question { step, id } => person(tally, step, id),
        ParkCause::Review { step } => {
            let message = tally.steps.get(step).map(|row| match &row.state {
                StepState::Review { message, .. } => clean(message),
                StepState::Running
                | StepState::WaitsBudget
                | StepState::WaitsPerson
                | StepState::NoBudget
                | StepState::Ended(_) => row.failures.last().map(|failure| clean(failure)).unwrap_or_default(),
            });
            let look = answered(tally, step).map(|attempt| {
                format!("; its answer: bosun show {} {} --attempt {attempt}", tally.short(), quoted(step))
            });
            format!("{step} needs review: {}{}", message.unwrap_or_default(), look.unwrap_or_default())
        }
    }
}

/// The model whose call was refused for good in these words, and how.
fn refused<'a>(tally: &'a Tally, message: &str) -> Option<(&'a str, &'a FailureClass)> {
    let refused = tally.calls.values().filter_map(|call| match &call.state {
        CallState::Failed { class, message: said } if said == message && class.stops_the_run() => Some((call, class)),
        CallState::Failed { .. } | CallState::Open | CallState::Answered | CallState::Lost(_) => None,
    });
    refused.max_by_key(|(call, _)| call.seq).map(|(call, class)| (call.held.model.as_str(), class))
}

/// The last attempt of a step that has an answer which asks for no tools: what `--accept` may take. What was no answer
/// at all has been quoted.
pub fn answered(tally: &Tally, step: &Step) -> Option<u32> {
    let own = tally.calls.values().filter(|call| call.held.call.step == *step && !call.held.summary);
    let plain = |answer: &Answered| answer.asks == 0 && answer.finish != Finish::Malformed;
    own.filter(|call| call.answer.as_deref().is_some_and(plain)).map(|call| call.held.attempt).max()
}

/// What a person is asked, and the commands that decide it.
fn person(tally: &Tally, step: &Step, id: &InterruptId) -> String {
    let Some(one) = tally.interrupts.get(id).filter(|one| one.is_open()) else {
        return format!("{step} waited for {id}, which is decided");
    };
    let show = format!("bosun approvals show {id}");
    match one.raised.kind {
        InterruptKind::Question => format!("{step} asks a question: {show}, then: bosun answer {id} TEXT"),
        InterruptKind::Approval => {
            let tool = clean(&one.raised.tool);
            format!(
                "{step} waits for a yes to {tool}: {show}, then: bosun approve {id}, or bosun reject {id} --reason WHY"
            )
        }
        InterruptKind::Before => {
            format!("{step} waits for a yes to begin: bosun approve {id}, or bosun reject {id} --reason WHY")
        }
        InterruptKind::After => {
            format!("{step} has a result: {show}, then: bosun approve {id}, or bosun reject {id} --reason WHY")
        }
    }
}

/// The step that no budget is left for.
fn budget(cause: &ParkCause) -> Option<&Step> {
    match cause {
        ParkCause::Budget { step } => Some(step),
        ParkCause::Credentials { .. } | ParkCause::Quota { .. } | ParkCause::Deadline | ParkCause::Rate(_) => None,
        ParkCause::Interrupted | ParkCause::Terminated | ParkCause::Asked => None,
        ParkCause::Approval { .. } | ParkCause::Question { .. } | ParkCause::Review { .. } => None,
    }
}

fn is_fixed(tally: &Tally, step: &Step) -> bool {
    matches!(tally.steps.get(step).map(|row| &row.state), Some(StepState::Review { fixed: true, .. }))
}

/// What can be done about a step that a retry cannot mend.
pub fn stays(tally: &Tally) -> String {
    format!(
        "a run keeps its crew, its inputs and the results it has: a retry stops there again. Mend them and start a new run; \
         give this one up: bosun cancel {}",
        tally.short()
    )
}

/// What can be done where a cap of a part of the crew is used up.
fn own_cap(tally: &Tally) -> String {
    format!(
        "such a cap stands in the crew file and holds for the whole run: a resume stops there again, and \
         --raise-budget raises the run's caps only. Start a new run with a larger cap, or with \
         on_exhausted = \"fail\" in [budget], which ends such tasks; give this one up: bosun cancel {}",
        tally.short()
    )
}

/// What an alert is for, with the cap it is measured by: `50 % of its cap of $0.25`.
pub fn mark(alert: AlertAt, limit: Limit, caps: Caps) -> String {
    let share = match alert {
        AlertAt::Usd(amount) => return cap(amount),
        AlertAt::Share(share) => share,
    };
    let of = match limit {
        Limit::Usd => caps.usd.map(cap),
        Limit::Tokens => caps.tokens.map(|tokens| format!("{} tokens", grouped(tokens.0))),
        Limit::Calls => caps.calls.map(|calls| format!("{} calls", grouped(calls))),
    };
    format!("{} % of {}", share / 10, of.map_or_else(|| limit.to_string(), |of| format!("its cap of {of}")))
}

/// An amount in the unit of the limit that it broke.
pub fn in_unit(limit: Limit, amount: Amount) -> String {
    match limit {
        Limit::Usd => usd(amount.usd),
        Limit::Tokens => grouped(amount.tokens.0),
        Limit::Calls => grouped(amount.calls),
    }
}

/// A step as a shell takes it whole.
pub fn quoted(step: &Step) -> String {
    let plain = step.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"_/.-".contains(&b));
    if plain { step.to_string() } else { format!("'{step}'") }
}

/// `spent $0.031 of $0.25`, with whatever is held, in doubt, or over.
pub fn money(tally: &Tally) -> String {
    fitting(money_parts(tally), usize::MAX)
}

/// As [`money`]; what is spent is never left out.
pub fn money_parts(tally: &Tally) -> Vec<Part> {
    let sums = tally.ledger.total();
    let local = tally.calls.values().all(|call| call.held.price.is_none());
    // Not zero dollars: nobody names any.
    if local && !tally.calls.is_empty() && sums.used().usd == NanoUsd::ZERO && sums.ambiguous.calls == 0 {
        return vec![Part::new(0, " · ", "no priced model")];
    }
    let mut parts = vec![Part::new(0, " · ", format!("spent {}", usd(sums.settled.usd)))];
    if sums.held.usd > NanoUsd::ZERO {
        parts.push(Part::new(2, " + ", format!("held {}", usd(sums.held.usd))));
    }
    if sums.ambiguous.calls > 0 {
        parts.push(Part::new(3, " + ", format!("in doubt {}", usd(sums.ambiguous.usd))));
    }
    parts.extend(tally.ledger.caps.usd.map(|usd| Part::new(4, " of ", cap(usd))));
    if sums.overrun.usd > NanoUsd::ZERO {
        parts.push(Part::new(1, " ", format!("(OVERRUN {})", usd(sums.overrun.usd))));
    }
    parts
}
