//! Why a run rests or is over, in words. Invariant: every resumable end names the command that goes
//! on, and the exit code is the most urgent cause's.

use std::collections::BTreeMap;

use super::failure::Exit;
use super::screen::{Part, cap, clean, fitting, rfc3339, usd};
use super::tally::{RunStand, StepState, Tally};
use crate::core::event::{ErrorClass, InterruptKind, ParkCause, RateLimited, RunEnd};
use crate::core::ids::{InterruptId, Step};
use crate::core::ledger::NodeId;
use crate::core::money::{Amount, Limit, NANO, NanoUsd, grouped};

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
    let lines = causes.iter().map(|cause| words(tally, cause)).collect();
    let mut command = resume(tally);
    // One command for all that a flag can mend.
    // The most that any of the refused calls needs, limit by limit.
    let mut raises: BTreeMap<Limit, u64> = BTreeMap::new();
    for (limit, enough) in causes.iter().filter_map(|cause| raise(tally, cause)) {
        let most = raises.entry(limit).or_default();
        *most = enough.max(*most);
    }
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
        if let ParkCause::Review { step } = cause {
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
            format!("paused: credentials: {}{}", clean(message), key.unwrap_or_default())
        }
        ParkCause::Quota { message } => format!("paused: the provider refuses: {}", clean(message)),
        ParkCause::Deadline => "paused: the crew's deadline has passed".to_owned(),
        ParkCause::Rate(RateLimited { provider, until_ms, why }) => {
            format!("paused: {provider} lets nothing through until {}: {}", rfc3339(*until_ms), why.words())
        }
        ParkCause::Interrupted => "paused by Ctrl-C".to_owned(),
        ParkCause::Terminated => "paused by SIGTERM or SIGHUP".to_owned(),
        ParkCause::Asked => "paused as asked".to_owned(),
        ParkCause::Budget { step } => match tally.no_budget.get(step) {
            Some(why) => {
                let (need, left) = (in_unit(why.limit, why.need), in_unit(why.limit, why.left));
                let ends = match why.node {
                    NodeId::Day(_) => " (`per_day_usd` of all runs of the crew), which ends at 00:00 UTC",
                    NodeId::Crew(_) | NodeId::Task(_) | NodeId::Agent(..) => "",
                };
                format!("paused by budget before {step}: needs {need} {}, {left} left at {}{ends}", why.limit, why.node)
            }
            None => format!("paused by budget before {step}"),
        },
        ParkCause::Approval { step, id } | ParkCause::Question { step, id } => person(tally, step, id),
        ParkCause::Review { step } => {
            let message = tally.steps.get(step).map(|row| match &row.state {
                StepState::Review { message } => clean(message),
                StepState::Running
                | StepState::WaitsBudget
                | StepState::WaitsPerson
                | StepState::NoBudget
                | StepState::Ended(_) => row.failures.last().map(|failure| clean(failure)).unwrap_or_default(),
            });
            format!("{step} needs review: {}", message.unwrap_or_default())
        }
    }
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

/// The cap with which the refused call would fit, as `--raise-budget` takes it: dollars rounded up to a
/// cent, tokens to a thousand; only the root's caps can be raised.
fn raise(tally: &Tally, cause: &ParkCause) -> Option<(Limit, u64)> {
    let ParkCause::Budget { step } = cause else { return None };
    let why = tally.no_budget.get(step)?;
    if why.node != NodeId::Crew(Step::root()) {
        return None;
    }
    let caps = tally.ledger.caps;
    // Always more than there is: after an overrun nothing is missing, and only a raise lets the run go on.
    let more = |need: u64, left: u64| need.saturating_sub(left).max(1);
    let up = |cap: u64, need: u64, left: u64, unit: u64| cap.saturating_add(more(need, left)).div_ceil(unit) * unit;
    let enough = match why.limit {
        Limit::Usd => up(caps.usd?.0, why.need.usd.0, why.left.usd.0, NANO / 100),
        Limit::Tokens => up(caps.tokens?.0, why.need.tokens.0, why.left.tokens.0, 1000),
        Limit::Calls => up(caps.calls?, why.need.calls, why.left.calls, 1),
    };
    Some((why.limit, enough))
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
