//! The figures of a plan as tables. Invariant: rounded up, never down; what has no price says so.

use super::{Planned, graph};
use crate::cli::crew::ModelClass;
use crate::cli::screen::{Side, Table, cap, usd, wrap};
use crate::core::crew::Who;
use crate::core::estimate::{Money, Spend};
use crate::core::money::{Limit, NanoUsd, grouped};

/// Columns from which on tokens are printed to the last digit.
const WIDE: usize = 110;

pub fn lines(planned: &Planned, columns: usize) -> Vec<String> {
    let made = &planned.made;
    let mut table = Table::new(&[
        ("TASK", Side::Left, 0),
        ("CALLS", Side::Right, 4),
        ("MAX", Side::Right, 3),
        ("IN", Side::Right, 8),
        ("MAX IN", Side::Right, 6),
        ("OUT", Side::Right, 7),
        ("MAX OUT", Side::Right, 5),
        ("EXPECTED", Side::Right, 1),
        ("WORST CASE", Side::Right, 0),
    ]);
    let count = |n: u64| if columns >= WIDE { exact(n) } else { compact(n) };
    let mut row = |name: String, money: &Price, expected: Spend, worst: Spend| {
        table.row(vec![
            name,
            count(expected.calls),
            count(worst.calls),
            count(expected.input),
            count(worst.input),
            count(expected.output),
            count(worst.output),
            money.cell(expected.usd),
            money.cell(worst.usd),
        ]);
    };
    for (index, task) in made.tasks.iter().enumerate() {
        let mark = if task.conditional { " (if)" } else { "" };
        let (name, range) = (format!("{}{mark}", task.name), task.range);
        row(name, &price(planned, index, task.money), range.expected, range.worst);
    }
    let total = Price { money: made.money, offline: only_stand_ins(planned) };
    row("total".to_owned(), &total, made.total.expected, made.total.worst);
    row("smallest".to_owned(), &total, made.smallest, made.smallest);
    let mut lines = table.lines(columns);
    lines.push(String::new());
    lines.extend(budget(planned, &total, columns));
    lines
}

/// The caps, and how much of each a course takes.
fn budget(planned: &Planned, total: &Price, columns: usize) -> Vec<String> {
    let (made, caps) = (&planned.made, planned.crew.budget.caps);
    let mut table = Table::new(&[
        ("BUDGET", Side::Left, 0),
        ("CAP", Side::Right, 1),
        ("SMALLEST", Side::Right, 3),
        ("EXPECTED", Side::Right, 2),
        ("WORST CASE", Side::Right, 0),
    ]);
    let courses = [made.smallest, made.total.expected, made.total.worst];
    let parts = |cap: u64, of: &dyn Fn(Spend) -> u64| courses.map(|course| percent(of(course), cap));
    if let Some(most) = caps.usd {
        let cells = courses.map(|course| total.share(course.usd, most));
        table.row([Limit::Usd.to_string(), cap(most)].into_iter().chain(cells).collect());
    }
    if let Some(most) = caps.tokens {
        let cells = parts(most.0, &|course| course.amount().tokens.0);
        table.row([Limit::Tokens.to_string(), grouped(most.0)].into_iter().chain(cells).collect());
    }
    if let Some(most) = caps.calls {
        let cells = parts(most, &|course| course.calls);
        table.row([Limit::Calls.to_string(), grouped(most)].into_iter().chain(cells).collect());
    }
    let mut lines = if table.is_empty() { vec!["budget: no cap".to_owned()] } else { table.lines(columns) };
    if caps.usd.is_some() {
        lines.extend(wrap(&format!("the cap in USD is from: {}", planned.origin), columns, 2));
    }
    lines
}

/// `27 %`, rounded up.
pub fn percent(part: u64, whole: u64) -> String {
    match (u128::from(part) * 100).checked_div(u128::from(whole)) {
        None if part == 0 => "0 %".to_owned(),
        None => "over".to_owned(),
        Some(_) => {
            let percent = (u128::from(part) * 100).div_ceil(u128::from(whole));
            format!("{} %", grouped(u64::try_from(percent).unwrap_or(u64::MAX)))
        }
    }
}

/// What the dollars of a row mean.
pub struct Price {
    pub money: Option<Money>,
    /// Only stand-ins are called.
    pub offline: bool,
}

impl Price {
    fn cell(&self, amount: NanoUsd) -> String {
        match (self.money, amount) {
            (None, _) => "no model".to_owned(),
            (Some(Money::Local), _) if self.offline => "offline".to_owned(),
            (Some(Money::Local), _) => "local".to_owned(),
            (Some(Money::Unknown), NanoUsd::ZERO) => "?".to_owned(),
            (Some(Money::Unknown), amount) => format!(">={}", usd(amount)),
            (Some(Money::Priced), NanoUsd(u64::MAX)) => "uncountable".to_owned(),
            (Some(Money::Priced), NanoUsd::ZERO) => "-".to_owned(),
            (Some(Money::Priced), amount) => usd(amount),
        }
    }
    fn share(&self, amount: NanoUsd, cap: NanoUsd) -> String {
        match self.money {
            None | Some(Money::Local) => self.cell(amount),
            Some(Money::Unknown) if amount == NanoUsd::ZERO => "?".to_owned(),
            Some(Money::Unknown) => format!(">={}", percent(amount.0, cap.0)),
            Some(Money::Priced) => percent(amount.0, cap.0),
        }
    }
}

fn price(planned: &Planned, index: usize, money: Option<Money>) -> Price {
    let crew = &planned.crew;
    let task = &crew.tasks[index];
    let model = match &task.who {
        Who::Agent(name) => task.model.as_ref().or_else(|| crew.agents.get(name).map(|agent| &agent.model)),
        Who::Crew(_) | Who::Tool { .. } => None,
    };
    let offline = match model {
        Some(model) => graph::class(&planned.classes, model) == ModelClass::StandIn,
        None => only_stand_ins(planned),
    };
    Price { money, offline }
}

fn only_stand_ins(planned: &Planned) -> bool {
    let uses = |class| super::uses(&planned.crew, &planned.classes, class);
    uses(ModelClass::StandIn) && ![ModelClass::Local, ModelClass::Priced, ModelClass::Unpriced].into_iter().any(uses)
}

fn exact(n: u64) -> String {
    if n == u64::MAX { "uncountable".to_owned() } else { grouped(n) }
}

/// `9,120`, `12.1k`, `1.3M`: rounded up.
fn compact(n: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = n.div_ceil(unit / 10);
        (grouped(tenths / 10), tenths % 10)
    };
    match n {
        0..=9_999 => grouped(n),
        10_000..=999_900 => format!("{}.{}k", tenths(1_000).0, tenths(1_000).1),
        999_901..=999_900_000 => format!("{}.{}M", tenths(1_000_000).0, tenths(1_000_000).1),
        999_900_001..=999_900_000_000 => format!("{}.{}G", tenths(1_000_000_000).0, tenths(1_000_000_000).1),
        _ => "uncountable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_up() {
        let all = [0, 9_999, 10_000, 10_001, 999_900, 999_901, 12_345_678].map(compact);
        assert_eq!(all, ["0", "9,999", "10.0k", "10.1k", "999.9k", "1.0M", "12.4M"]);
        assert_eq!(compact(u64::MAX), "uncountable");
        assert_eq!(
            [percent(1, 1000), percent(1001, 1000), percent(0, 0), percent(1, 0)],
            ["1 %", "101 %", "0 %", "over"]
        );
    }

    #[test]
    fn what_has_no_price_is_never_zero_dollars() {
        let cell = |money, nano| Price { money, offline: false }.cell(NanoUsd(nano));
        assert_eq!(cell(Some(Money::Unknown), 0), "?");
        assert_eq!(cell(Some(Money::Unknown), 31_400_000), ">=$0.0314");
        assert_eq!(cell(Some(Money::Local), 0), "local");
        assert_eq!(cell(None, 0), "no model");
        assert_eq!(cell(Some(Money::Priced), 31_400_000), "$0.0314");
        assert_eq!(Price { money: Some(Money::Local), offline: true }.cell(NanoUsd(0)), "offline");
    }
}
