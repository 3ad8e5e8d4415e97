//! What a run may cost, before it costs anything. Invariant: integers only; the worst case exists for
//! every crew, and no run uses more of anything, as long as no provider bills beyond its bound, no
//! process dies in a call and no person lets a step start over or tells an agent something.
//!
//! Worst case of a step: attempts x turns x (the longest prompt it can have + `max_output`), at the
//! dearest price, without any discount for cached input. The longest prompt is what its texts, its
//! inputs, the results it is given and its tools' results can come to, at most `context_tokens`.
//! Sizes are tokens; of texts that are known, a token a byte, as holds count them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crew::{Crew, Pricing, Who};
use super::ids::Name;
use super::machine::Sizes;
use super::money::{Amount, Caps, Limit, NanoUsd, Tokens};

mod aside;
mod first;
mod pace;
mod parts;
mod prompt;
mod step;
pub use aside::set_aside;
pub use pace::{Floor, Pace, Under, paces};
pub use parts::{Part, capped};

/// Calls, tokens and money of some part of a run. Sums saturate: a figure at `u64::MAX` is "beyond counting".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    pub calls: u64,
    /// Tokens of prompts, cached ones included.
    pub input: u64,
    /// Tokens of answers, reasoning included.
    pub output: u64,
    /// Of priced models only: read it with [`Money`].
    pub usd: NanoUsd,
}

impl Spend {
    pub fn plus(self, other: Spend) -> Spend {
        Spend {
            calls: self.calls.saturating_add(other.calls),
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            usd: self.usd.plus(other.usd),
        }
    }
    pub fn times(self, n: u64) -> Spend {
        Spend {
            calls: self.calls.saturating_mul(n),
            input: self.input.saturating_mul(n),
            output: self.output.saturating_mul(n),
            usd: NanoUsd(self.usd.0.saturating_mul(n)),
        }
    }
    /// As the ledger counts it.
    pub fn amount(self) -> Amount {
        Amount { tokens: Tokens(self.input.saturating_add(self.output)), usd: self.usd, calls: self.calls }
    }
}

/// What the money of a figure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Money {
    /// Every call has a price.
    Priced,
    /// No call has one, because it is made on this machine or to a stand-in: print "local", never $0.
    Local,
    /// Some model has no known price (`unpriced = "allow"`): print `>=` before the figure, `?` where it is zero.
    Unknown,
}

impl Money {
    fn of(price: Pricing) -> Money {
        match price {
            Pricing::Priced(_) => Money::Priced,
            Pricing::Local => Money::Local,
            Pricing::Unknown => Money::Unknown,
        }
    }
    fn and(self, other: Money) -> Money {
        match (self, other) {
            (Money::Unknown, Money::Priced | Money::Local | Money::Unknown) => Money::Unknown,
            (Money::Priced | Money::Local, Money::Unknown) => Money::Unknown,
            (Money::Priced, Money::Priced | Money::Local) | (Money::Local, Money::Priced) => Money::Priced,
            (Money::Local, Money::Local) => Money::Local,
        }
    }
}

/// What is expected, and what it cannot be more than.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub expected: Spend,
    pub worst: Spend,
}

impl Range {
    fn plus(self, other: Range) -> Range {
        Range { expected: self.expected.plus(other.expected), worst: self.worst.plus(other.worst) }
    }
}

/// How often the items of a list run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Items {
    /// Rows of a file: exactly so many.
    Rows(u64),
    /// A list in a result: at most so many (`max_items`).
    AtMost(u64),
}

/// Work that an agent may give out while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    pub to: Vec<Name>,
    /// Of one step.
    pub max_children: u32,
    pub max_depth: u32,
}

/// One task of the file, over all its items, rounds and attempts, with everything below it.
#[derive(Clone, Debug)]
pub struct TaskEstimate {
    pub name: Name,
    pub who: Who,
    /// `provider/model-id`; none of a tool or a sub-crew.
    pub model: Option<String>,
    /// `None`: it runs once.
    pub items: Option<Items>,
    /// `max_rounds` of its loop, 1 outside of one.
    pub rounds: u32,
    pub attempts: u32,
    /// Calls of one attempt, at most.
    pub turns: u32,
    pub delegation: Option<Delegation>,
    /// It may not run at all: a condition, or it only stands in for another.
    pub conditional: bool,
    /// `None` where no model is called.
    pub money: Option<Money>,
    pub range: Range,
    /// Of `range` the calls of the task's own agent: those of its delegates are not in it.
    pub own: Range,
    /// How often it runs over all items and rounds, as expected and at most.
    pub times: (u64, u64),
    /// The sub-crew's own estimate, for one item.
    pub below: Option<Box<Estimate>>,
}

/// Where the worst case meets a cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The first task, in document order, whose worst case does not fit what the tasks before it leave.
    pub task: Name,
    pub limit: Limit,
    pub need: Amount,
    pub left: Amount,
}

#[derive(Clone, Debug)]
pub struct Estimate {
    /// In document order.
    pub tasks: Vec<TaskEstimate>,
    pub total: Range,
    /// `None` where no model is called at all.
    pub money: Option<Money>,
    /// The smallest course: one call for each task that must run (each row of a file, no item of a
    /// result), each with its expected prompt and one token of output, and room for the largest
    /// `max_output` among them: without it that call cannot be held, however little the others use. Never
    /// less than the largest hold among the first calls, as far as they can be prepared now.
    pub smallest: Spend,
    /// Of the crew, as compiled: pass others to [`Estimate::pause`].
    pub caps: Caps,
    /// Tasks, agents and sub-crews that their own caps may stop; of [`estimate_with`] only.
    pub parts: Vec<Part>,
    /// Inputs whose size is not known: [`prompt::UNKNOWN_INPUT`] bytes are taken for each.
    pub assumed: Vec<Name>,
}

impl Estimate {
    /// The limit the smallest course is over, if any: then no run can get a result.
    pub fn too_small(&self, caps: Caps) -> Option<Limit> {
        caps.broken_by(self.smallest.amount())
    }

    /// Where a run of the worst case would pause under `caps`; `None` if it fits.
    pub fn pause(&self, caps: Caps) -> Option<Pause> {
        let mut used = Amount::default();
        for task in &self.tasks {
            let need = task.range.worst.amount();
            if let Some(limit) = caps.broken_by(used.plus(need)) {
                let left = Amount {
                    tokens: Tokens(caps.tokens.map_or(u64::MAX, |cap| cap.0).saturating_sub(used.tokens.0)),
                    usd: caps.usd.map_or(NanoUsd(u64::MAX), |cap| cap.minus(used.usd)),
                    calls: caps.calls.unwrap_or(u64::MAX).saturating_sub(used.calls),
                };
                return Some(Pause { task: task.name.clone(), limit, need, left });
            }
            used = used.plus(need);
        }
        None
    }
}

/// The estimate of a crew; `inputs` as far as they are known.
pub fn estimate(crew: &Arc<Crew>, inputs: &BTreeMap<Name, serde_json::Value>) -> Estimate {
    figures(crew, inputs, None, 0)
}

/// As [`estimate`]; where the smallest course does not fit the crew's caps, its holds are counted as the ledger
/// counts them then, and if need be with everything given up that `degrade` names.
pub fn estimate_with(crew: &Arc<Crew>, inputs: &BTreeMap<Name, serde_json::Value>, sizes: &dyn Sizes) -> Estimate {
    let mut made = figures(crew, inputs, None, 0);
    if made.too_small(made.caps).is_some() {
        made = figures(crew, inputs, Some(sizes), 0);
    }
    let steps = crew.budget.steps();
    if made.too_small(made.caps).is_some() && steps > 0 {
        let less = figures(crew, inputs, Some(sizes), steps);
        let (a, b) = (less.smallest.amount(), made.smallest.amount());
        if a.usd <= b.usd && a.tokens <= b.tokens {
            made = less;
        }
    }
    made.parts = parts::parts(crew, inputs, 0);
    if steps > 0 && made.parts.iter().any(Part::is_too_small) {
        made.parts = parts::parts(crew, inputs, steps);
    }
    made
}

fn figures(
    crew: &Arc<Crew>,
    inputs: &BTreeMap<Name, serde_json::Value>,
    count: Option<&dyn Sizes>,
    steps: u32,
) -> Estimate {
    let known = |name: &Name| inputs.contains_key(name);
    let assumed = crew.inputs.iter().filter(|input| !known(&input.name) && input.default.is_none());
    let assumed = assumed.map(|input| input.name.clone()).collect();
    let tasks: Vec<TaskEstimate> = (0..crew.tasks.len()).map(|index| step::task(crew, index, inputs)).collect();
    let total = tasks.iter().fold(Range::default(), |sum, task| sum.plus(task.range));
    let money = tasks.iter().filter_map(|task| task.money).reduce(Money::and);
    // The first calls are known to the byte: a run that could not hold them would begin only to pause.
    let smallest = first::at_least(
        step::Least::of(crew, inputs, (crew, steps)).whole(),
        first::largest(crew, &with_defaults(crew, inputs), count, steps),
    );
    Estimate { tasks, total, money, smallest, caps: crew.budget.caps, parts: Vec::new(), assumed }
}

fn with_defaults(crew: &Crew, inputs: &BTreeMap<Name, serde_json::Value>) -> BTreeMap<Name, serde_json::Value> {
    let defaults = crew.inputs.iter().filter_map(|input| Some((input.name.clone(), input.default.clone()?)));
    defaults.chain(inputs.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
}

#[cfg(test)]
mod tests;
