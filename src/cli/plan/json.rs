//! A plan as one JSON object. Invariant: money is a decimal string, and null where it is not known;
//! `usd_at_least` is then what is.

use serde_json::{Value, json};

use super::{Planned, graph, pace, people};
use crate::cli::fit;
use crate::core::crew::{Crew, Trigger, TriggerSource, Who};
use crate::core::estimate::{Estimate, Items, Money, Part, Range, Spend, TaskEstimate};
use crate::core::money::Caps;

pub fn plan(planned: &Planned) -> Value {
    let Planned { crew, made, .. } = planned;
    let caps = crew.budget.caps;
    let fits = |spend: Spend| caps.broken_by(spend.amount()).is_none();
    let enough = |spend: Spend| fit::over(caps, spend.amount()).into_iter().map(|over| over.enough).collect::<Vec<_>>();
    let pause = made.pause(caps).map(
        |pause| json!({"task": pause.task, "limit": pause.limit.to_string(), "need": pause.need, "left": pause.left}),
    );
    let lacking: Vec<Value> =
        planned.lacking.iter().map(|(name, about)| json!({"name": name, "description": about})).collect();
    json!({
        "v": 1, "type": "plan", "crew": crew.name, "file": planned.file, "max_parallel": crew.max_parallel,
        "tasks": tasks(crew, made, planned),
        "loops": loops(crew),
        "money": made.money.map(word),
        "expected": spend(made.total.expected, made.money),
        "worst": spend(made.total.worst, made.money),
        "smallest": spend(made.smallest, made.money),
        "budget": {"caps": caps_of(caps), "origin": planned.origin, "degrade": degrade(crew)},
        "fits": {
            "smallest": fits(made.smallest), "expected": fits(made.total.expected), "worst": fits(made.total.worst),
        },
        "to_fit_worst": enough(made.total.worst),
        "pauses": pause,
        "parts": made.parts.iter().map(part).collect::<Vec<_>>(),
        "rates": pace::json(&planned.paces),
        "triggers": crew.triggers.iter().map(trigger).collect::<Vec<_>>(),
        "inputs_missing": lacking,
        "people": people::all(crew),
        "notes": planned.notes,
        "sent": false,
    })
}

/// A task, agent or sub-crew that its own caps may stop.
fn part(part: &Part) -> Value {
    let fits = |spend: Spend| part.caps.broken_by(spend.amount()).is_none();
    let to_fit = fit::over(part.caps, part.worst.amount()).into_iter().map(|over| over.enough);
    json!({
        "node": part.node, "caps": caps_of(part.caps),
        "fits": {"smallest": fits(part.smallest), "worst": fits(part.worst)},
        "to_fit_worst": to_fit.collect::<Vec<_>>(),
    })
}

fn trigger(trigger: &Trigger) -> Value {
    let source = match &trigger.source {
        TriggerSource::Watch { path, glob, settle_ms } => {
            json!({"kind": "watch", "path": path, "glob": glob, "settle_ms": settle_ms})
        }
        TriggerSource::Cron { schedule, timezone, catch_up } => {
            json!({"kind": "cron", "schedule": schedule, "timezone": timezone, "catch_up": catch_up})
        }
    };
    json!({"name": trigger.name, "source": source, "max_parallel": trigger.max_parallel})
}

fn degrade(crew: &Crew) -> Vec<String> {
    crew.budget.degrade.iter().map(ToString::to_string).collect()
}

fn caps_of(caps: Caps) -> Value {
    json!({"max_usd": caps.usd, "max_tokens": caps.tokens, "max_calls": caps.calls})
}

fn word(money: Money) -> &'static str {
    match money {
        Money::Priced => "priced",
        Money::Local => "local",
        Money::Unknown => "unknown",
    }
}

fn spend(spend: Spend, money: Option<Money>) -> Value {
    let known = money == Some(Money::Priced);
    let least = (known || money == Some(Money::Unknown)).then_some(spend.usd);
    json!({
        "calls": spend.calls, "input_tokens": spend.input, "output_tokens": spend.output,
        "usd": known.then_some(spend.usd), "usd_at_least": least,
    })
}

fn tasks(crew: &Crew, made: &Estimate, planned: &Planned) -> Vec<Value> {
    made.tasks.iter().enumerate().map(|(index, task)| one(crew, index, task, planned)).collect()
}

fn one(crew: &Crew, index: usize, made: &TaskEstimate, planned: &Planned) -> Value {
    let task = &crew.tasks[index];
    let needs: Vec<&str> = graph::needs(crew, task).into_iter().map(|need| crew.tasks[need].name.as_str()).collect();
    let (who, below) = match &made.who {
        Who::Agent(name) => (json!({"agent": name}), None),
        Who::Tool { tool, .. } => (json!({"tool": tool}), None),
        Who::Crew(name) => (json!({"crew": name}), crew.crews.get(name)),
    };
    let below = below.zip(made.below.as_ref()).map(|(sub, inner)| {
        json!({"crew": sub.crew.name, "file": sub.crew.file, "tasks": tasks(&sub.crew, inner, planned),
            "loops": loops(&sub.crew)})
    });
    let items = made.items.map(|items| match items {
        Items::Rows(n) => json!({"rows": n}),
        Items::AtMost(n) => json!({"at_most": n}),
    });
    let delegation = made
        .delegation
        .as_ref()
        .map(|given| json!({"to": given.to, "max_children": given.max_children, "max_depth": given.max_depth}));
    let Range { expected, worst } = made.range;
    json!({
        "name": made.name, "who": who, "model": made.model, "needs": needs, "items": items, "rounds": made.rounds,
        "attempts": made.attempts, "turns": made.turns, "delegation": delegation, "conditional": made.conditional,
        "money": made.money.map(word), "expected": spend(expected, made.money), "worst": spend(worst, made.money),
        "below": below,
    })
}

fn loops(crew: &Crew) -> Vec<Value> {
    let name = |index: usize| crew.tasks[index].name.as_str();
    let one = |found: &crate::core::crew::Loop| {
        let body: Vec<&str> = found.body.iter().map(|index| name(*index)).collect();
        json!({"body": body, "from": name(found.revised), "judge": name(found.judge), "until": *found.until.0,
            "max_rounds": found.max_rounds, "per_item": found.per_item})
    };
    crew.loops.iter().map(one).collect()
}
