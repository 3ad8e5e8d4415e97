//! One task, its items, rounds, attempts, turns and children.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::prompt::{self, Longest};
use super::{Delegation, Items, Money, Range, Spend, TaskEstimate, estimate};
use crate::core::agent::SUMMARIES;
use crate::core::crew::{self, Crew, MemoryScope, Model, Over, Task, Who};
use crate::core::ids::Name;
use crate::core::money::Tokens;

/// Attempts of a delegated task.
const CHILD_ATTEMPTS: u64 = 3;

pub(super) type Inputs = BTreeMap<Name, serde_json::Value>;

pub(super) fn task(crew: &Arc<Crew>, index: usize, inputs: &Inputs) -> TaskEstimate {
    let task = &crew.tasks[index];
    let rounds = task.in_loop.map_or(1, |at| crew.loops[at].max_rounds);
    let items = task.repeat.as_ref().map(items_of);
    let conditional = task.when.is_some() || task.rescues.is_some();
    let mut made = TaskEstimate {
        name: task.name.clone(),
        who: task.who.clone(),
        model: None,
        items,
        rounds,
        attempts: task.attempts,
        turns: 0,
        delegation: None,
        conditional,
        money: None,
        range: Range::default(),
        own: Range::default(),
        times: (0, 0),
        below: None,
    };
    let one = match &task.who {
        Who::Tool { .. } => Range::default(),
        Who::Crew(name) => below(crew, name, &mut made),
        Who::Agent(name) => match crew.agents.get(name) {
            Some(role) => agent(crew, index, role, inputs, &mut made),
            None => Range::default(),
        },
    };
    let (expected, worst) = match items {
        None => (1, 1),
        Some(Items::Rows(n)) => (n, n),
        Some(Items::AtMost(n)) => (n.div_ceil(2), n),
    };
    // Half of what is judged is approved at once: two rounds are what one sees.
    let all = task.in_loop.is_some_and(|at| crew.loops[at].takes_all_rounds());
    let usual = if all { rounds } else { rounds.min(2) };
    let expected_rounds = if task.rescues.is_some() { 0 } else { u64::from(usual) };
    // For agents, the rounds of the worst case are in its prompts already.
    let worst_rounds = if matches!(task.who, Who::Agent(_)) { 1 } else { u64::from(rounds) };
    made.times = (expected.saturating_mul(expected_rounds), worst.saturating_mul(worst_rounds));
    let times = |one: Range| Range { expected: one.expected.times(made.times.0), worst: one.worst.times(made.times.1) };
    (made.range, made.own) = (times(one), times(made.own));
    made
}

fn items_of(repeat: &crew::Repeat) -> Items {
    match &repeat.over {
        Over::Rows(rows) => Items::Rows(rows.len() as u64),
        Over::Result { .. } => Items::AtMost(repeat.max_items.map_or(u64::from(u32::MAX), u64::from)),
    }
}

/// Items of a task, at most; 1 where it is no list.
pub(super) fn most_items(task: &Task) -> u64 {
    match task.repeat.as_ref().map(items_of) {
        None => 1,
        Some(Items::Rows(n) | Items::AtMost(n)) => n,
    }
}

fn below(crew: &Arc<Crew>, name: &Name, made: &mut TaskEstimate) -> Range {
    let Some(sub) = crew.crews.get(name) else { return Range::default() };
    let inner = estimate(&sub.crew, &Inputs::new());
    made.money = inner.money;
    let range = inner.total;
    made.below = Some(Box::new(inner));
    range
}

fn agent(crew: &Arc<Crew>, index: usize, role: &crew::Agent, inputs: &Inputs, made: &mut TaskEstimate) -> Range {
    let task = &crew.tasks[index];
    let model = task.model.as_ref().unwrap_or(&role.model);
    let output = task.max_output.unwrap_or(model.settings.max_output);
    let tools = task.tools.as_ref().unwrap_or(&role.tools);
    made.model = Some(model.full_id());
    made.turns = turns(role, tools);
    if !role.delegates.is_empty() {
        let (to, max_children, max_depth) = (role.delegates.clone(), role.max_children, role.max_depth);
        made.delegation = Some(Delegation { to, max_children, max_depth });
    }
    let calls =
        |(model, output)| Calls { model, output, turns: u64::from(made.turns), attempts: u64::from(task.attempts) };
    let mut expected = calls((model, output)).expected(&Longest::of_task(crew, index, role, tools, output, inputs));
    let all = variants(crew, role, (model, task.max_output), &task.retry);
    let most = all.iter().map(|(_, output)| *output).max().unwrap_or(output);
    let longest = Longest::of_task(crew, index, role, tools, most, inputs);
    let mut worst = Spend::default();
    for round in 1..=u64::from(made.rounds.min(100)) {
        let whole = role.memory == MemoryScope::Run;
        let each = all.iter().map(|one| calls(*one).worst(&longest, round - 1, whole));
        worst = worst.plus(each.reduce(larger).unwrap_or_default());
    }
    made.money = all.iter().map(|(model, _)| Money::of(model.price)).reduce(Money::and);
    made.own = Range { expected, worst };
    let mut known = BTreeMap::new();
    if let Some(children) = children(crew, role, 0, &mut known) {
        made.money = made.money.map(|money| money.and(children.money));
        expected = expected.plus(children.range.expected);
        worst = worst.plus(children.range.worst.times(u64::from(made.rounds)));
    }
    Range { expected, worst }
}

/// Every model that some attempt may call, with the longest answer it may give: the task's own, the
/// entries of its `retry`, what `degrade` may put in their place, and what stands in for each.
fn variants<'a>(
    crew: &'a Crew,
    role: &'a crew::Agent,
    (model, stated): (&'a Arc<Model>, Option<u64>),
    retry: &'a [crew::Retry],
) -> Vec<(&'a Model, u64)> {
    let mut all = Vec::new();
    let output = stated.unwrap_or(model.settings.max_output);
    let own = std::iter::once((model, output));
    let given = crew.budget.models_of(role).map(|model| (model, stated.unwrap_or(model.settings.max_output)));
    let listed = retry.iter().map(|entry| {
        let (model, usual) = match &entry.model {
            Some(model) => (model, model.settings.max_output),
            None => (model, output),
        };
        (model, entry.max_output.unwrap_or(usual))
    });
    for (model, output) in own.chain(listed).chain(given) {
        all.push((&**model, output));
        // An entry's own limit holds for whoever stands in.
        all.extend(model.fallback.iter().map(|other| (&**other, output.max(other.settings.max_output))));
    }
    all
}

/// Calls of one attempt: with tools or delegates as many as turns, without them one.
fn turns(role: &crew::Agent, tools: &[String]) -> u32 {
    if tools.is_empty() && role.delegates.is_empty() { 1 } else { role.max_turns.max(1) }
}

struct Calls<'a> {
    model: &'a Model,
    output: u64,
    turns: u64,
    attempts: u64,
}

impl Calls<'_> {
    fn spend(&self, calls: u64, input: u64, output: u64) -> Spend {
        let usd = match self.model.price {
            crew::Pricing::Priced(price) => price.worst(Tokens(input), Tokens(output)),
            crew::Pricing::Local | crew::Pricing::Unknown => Default::default(),
        };
        // Each call is rounded up by itself.
        let usd = usd.plus(crate::core::money::NanoUsd(if usd.0 > 0 { calls } else { 0 }));
        Spend { calls, input, output, usd }
    }

    /// One call without tools; with them three, or as many as there are. Answers come to half of what they may.
    fn expected(&self, longest: &Longest) -> Spend {
        let calls = self.turns.min(3);
        let grown = longest.growth_expected.saturating_mul(calls * (calls - 1) / 2);
        let input = longest.expected.saturating_mul(calls).saturating_add(grown).min(longest.cap.saturating_mul(calls));
        self.spend(calls, input, self.output.div_ceil(2).saturating_mul(calls))
    }

    /// Every attempt takes every turn and summary, each prompt as long as it can be. `carried`: earlier rounds whose
    /// turns are in the memory.
    fn worst(&self, longest: &Longest, carried: u64, whole: bool) -> Spend {
        let round = longest.base.saturating_add(longest.growth.saturating_mul(self.turns));
        let before = round.saturating_mul(carried);
        let mut input: u64 = 0;
        for turn in 0..self.turns {
            let grown = longest.growth.saturating_mul(turn).saturating_add(longest.note);
            let prompt = longest.base.saturating_add(grown).saturating_add(before);
            let prompt = if whole { longest.cap } else { prompt.min(longest.cap) };
            input = input.saturating_add(prompt);
        }
        // A summary is due before a call that has two turns behind it, and fits the same window.
        let summaries = self.turns.saturating_sub(2).min(u64::from(SUMMARIES));
        input = input.saturating_add(longest.cap.saturating_mul(summaries));
        let calls = self.turns.saturating_add(summaries).saturating_mul(self.attempts);
        self.spend(calls, input.saturating_mul(self.attempts), self.output.saturating_mul(calls))
    }
}

#[derive(Clone, Copy)]
struct Below {
    range: Range,
    money: Money,
}

/// Everything that one step of `role` may give out: `max_children` of its dearest delegate.
fn children(
    crew: &Arc<Crew>,
    role: &crew::Agent,
    depth: u32,
    known: &mut BTreeMap<(Name, u32), Below>,
) -> Option<Below> {
    if role.delegates.is_empty() || depth >= role.max_depth || role.max_children == 0 {
        return None;
    }
    let mut all: Option<Below> = None;
    for name in &role.delegates {
        let Some(one) = child(crew, name, depth + 1, known) else { continue };
        all = Some(match all {
            None => one,
            Some(other) => Below {
                range: Range {
                    expected: larger(one.range.expected, other.range.expected),
                    worst: larger(one.range.worst, other.range.worst),
                },
                money: one.money.and(other.money),
            },
        });
    }
    let all = all?;
    let range = Range {
        expected: all.range.expected.times(u64::from(role.max_children.min(2))),
        worst: all.range.worst.times(u64::from(role.max_children)),
    };
    Some(Below { range, ..all })
}

fn child(crew: &Arc<Crew>, name: &Name, depth: u32, known: &mut BTreeMap<(Name, u32), Below>) -> Option<Below> {
    if let Some(found) = known.get(&(name.clone(), depth)) {
        return Some(*found);
    }
    let found = match (crew.crews.get(name), crew.agents.get(name)) {
        (Some(sub), _) => {
            let inner = estimate(&sub.crew, &Inputs::new());
            Below { range: inner.total, money: inner.money.unwrap_or(Money::Local) }
        }
        (None, Some(role)) => {
            let all = variants(crew, role, (&role.model, None), &[]);
            let longest = Longest::of_child(crew, role, all.iter().map(|(_, output)| *output).max().unwrap_or(0));
            let turns = u64::from(turns(role, &role.tools));
            let calls = |(model, output)| Calls { model, output, turns, attempts: CHILD_ATTEMPTS };
            // What it is told is written by whoever asks: as long as their answer, or as a prompt may be.
            let whole = true;
            let worst = all.iter().map(|one| calls(*one).worst(&longest, 0, whole)).reduce(larger);
            let own = Range { expected: calls(all[0]).expected(&longest), worst: worst.unwrap_or_default() };
            let inner = children(crew, role, depth, known);
            let money = all.iter().map(|(model, _)| Money::of(model.price)).reduce(Money::and).unwrap_or(Money::Local);
            match inner {
                Some(inner) => Below { range: own.plus(inner.range), money: money.and(inner.money) },
                None => Below { range: own, money },
            }
        }
        (None, None) => return None,
    };
    known.insert((name.clone(), depth), found);
    Some(found)
}

/// Most tokens of one answer of a task's agent, whoever gives it.
pub(super) fn longest_answer(crew: &Crew, task: &Task, role: &crew::Agent) -> u64 {
    let model = task.model.as_ref().unwrap_or(&role.model);
    let all = variants(crew, role, (model, task.max_output), &task.retry);
    all.iter().map(|(_, output)| *output).max().unwrap_or(0)
}

/// The larger of each figure.
fn larger(a: Spend, b: Spend) -> Spend {
    Spend {
        calls: a.calls.max(b.calls),
        input: a.input.max(b.input),
        output: a.output.max(b.output),
        usd: a.usd.max(b.usd),
    }
}

/// The smallest course of a crew: calls that each answer with one token, and the most room that one of
/// them must find for its hold. Room is needed once: what a call does not use is there for the next.
#[derive(Clone, Copy, Default)]
pub(super) struct Least {
    sum: Spend,
    room: Spend,
}

impl Least {
    /// `top` has given up so many steps.
    pub(super) fn of(crew: &Arc<Crew>, inputs: &Inputs, top: (&Arc<Crew>, u32)) -> Least {
        let all = (0..crew.tasks.len()).map(|index| least(crew, index, inputs, top));
        all.fold(Least::default(), Least::and)
    }
    pub(super) fn and(self, other: Least) -> Least {
        Least { sum: self.sum.plus(other.sum), room: larger(self.room, other.room) }
    }
    pub(super) fn times(self, n: u64) -> Least {
        Least { sum: self.sum.times(n), ..self }
    }
    pub(super) fn whole(self) -> Spend {
        self.sum.plus(self.room)
    }
}

/// How often a task's sub-crew runs: at least, zero where the run can do without it, and at most.
pub(super) fn times(crew: &Crew, index: usize) -> (u64, u64) {
    let task = &crew.tasks[index];
    let rounds = task.in_loop.map_or(1, |at| u64::from(crew.loops[at].max_rounds));
    let least = match task.repeat.as_ref().map(items_of) {
        None => 1,
        Some(Items::Rows(n)) => n,
        Some(Items::AtMost(_)) => 0,
    };
    let free = task.when.is_some() || task.rescues.is_some() || task.optional || task.on_error.is_some();
    (if free { 0 } else { least }, most_items(task).saturating_mul(rounds))
}

pub(super) fn least(crew: &Arc<Crew>, index: usize, inputs: &Inputs, (top, steps): (&Arc<Crew>, u32)) -> Least {
    let task = &crew.tasks[index];
    if task.when.is_some() || task.rescues.is_some() || task.optional {
        return Least::default();
    }
    let times = match task.repeat.as_ref().map(items_of) {
        None => 1,
        Some(Items::Rows(n)) => n,
        Some(Items::AtMost(_)) => 0,
    };
    if times == 0 {
        return Least::default();
    }
    match &task.who {
        Who::Tool { .. } => Least::default(),
        Who::Crew(name) => {
            let inner =
                crew.crews.get(name).map(|sub| Least::of(&sub.crew, &Inputs::new(), (top, steps))).unwrap_or_default();
            inner.times(times)
        }
        Who::Agent(name) => {
            let Some(role) = crew.agents.get(name) else { return Least::default() };
            let given = top.budget.model_after(steps, name).filter(|_| Arc::ptr_eq(crew, top));
            let model = given.or(task.model.as_ref()).unwrap_or(&role.model);
            let output = task.max_output.unwrap_or(model.settings.max_output).min(top.budget.output_after(steps));
            let tools = task.tools.as_ref().unwrap_or(&role.tools);
            let longest = prompt::Longest::of_task(crew, index, role, tools, output, inputs);
            let calls = Calls { model, output, turns: 1, attempts: 1 };
            let room = calls.spend(0, 0, output.saturating_sub(1));
            Least { sum: calls.spend(1, longest.expected, 1).times(times), room }
        }
    }
}
