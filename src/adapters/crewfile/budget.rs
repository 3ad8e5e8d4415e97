//! `[budget]` and the budgets of nodes. Invariant: of the layers that state a limit the smallest
//! wins; a default counts only where no layer states one, and only for the top crew.

use super::Loader;
use super::doc::{Node, Table};
use super::problem::Problem;
use super::values::milli;
use crate::core::crew::{Budget, DEFAULT_CAPS, NodeBudget, OnExhausted};
use crate::core::money::{Caps, NanoUsd, Tokens};

pub(super) fn caps(table: Option<&Table>) -> Caps {
    let Some(table) = table else { return Caps::default() };
    Caps {
        usd: table.get("max_usd").and_then(money),
        tokens: table.int("max_tokens").map(Tokens),
        calls: table.int("max_calls"),
    }
}

pub(super) fn money(node: &Node) -> Option<NanoUsd> {
    node.decimal()?.parse().ok()
}

pub(super) fn node(table: &Table) -> NodeBudget {
    let budget = table.table("budget");
    let share = budget.and_then(|budget| milli(budget.get("share")?.decimal()?, 1000).ok());
    NodeBudget { caps: caps(budget), share: share.map(|share| share.0) }
}

pub(super) fn read(loader: &mut Loader<'_>, doc: &Table, file: &str, top: bool) -> Budget {
    let table = doc.table("budget");
    let stated = caps(table);
    if let Some(node) = table.and_then(|table| table.get("max_usd")).filter(|node| money(node) == Some(NanoUsd::ZERO)) {
        let problem = Problem::warning("E0302", &node.at, "with $0 only local models can be called");
        loader.report(problem.help("leave `max_usd` out if that is meant"));
    }
    let (caps, origin) = if top { layered(loader, stated, file) } else { (stated, file.to_owned()) };
    let list = |key: &str| table.and_then(|table| table.get(key)).and_then(Node::list);
    let mut warn_at: Vec<u32> = match list("warn_at") {
        Some(items) => items.iter().filter_map(|item| Some(milli(item.decimal()?, 1000).ok()?.0)).collect(),
        None => vec![500, 800, 900],
    };
    warn_at.sort_unstable();
    warn_at.dedup();
    let mut alert_usd: Vec<NanoUsd> = list("alert_usd").unwrap_or_default().iter().filter_map(money).collect();
    alert_usd.sort_unstable();
    alert_usd.dedup();
    let per_day = table.and_then(|table| table.get("per_day_usd"));
    if let Some(node) = per_day.filter(|_| !top) {
        let problem = Problem::error("E0107", &node.at, "not supported yet: `per_day_usd` of a sub-crew");
        loader.report(problem.help("state it in the crew that is run; its cap covers the sub-crews"));
    }
    Budget {
        caps,
        per_day: per_day.and_then(money),
        origin,
        warn_at,
        alert_usd,
        on_exhausted: match table.and_then(|table| table.text("on_exhausted")) {
            Some("fail") => OnExhausted::Fail,
            Some("finish") => OnExhausted::Finish,
            Some(_) | None => OnExhausted::Pause,
        },
        // It names agents and models, which are read later.
        degrade: Vec::new(),
        allow_unpriced: table.and_then(|table| table.text("unpriced")) == Some("allow"),
    }
}

/// The caps of the top crew, and where its money cap comes from.
fn layered(loader: &Loader<'_>, stated: Caps, file: &str) -> (Caps, String) {
    let flags = loader.options.overrides.caps;
    let limits = loader.options.limits;
    let least = stated.min(flags).min(limits);
    let caps = Caps {
        usd: least.usd.or(DEFAULT_CAPS.usd),
        tokens: least.tokens.or(DEFAULT_CAPS.tokens),
        calls: least.calls.or(DEFAULT_CAPS.calls),
    };
    let origin = match least.usd {
        None => "default",
        usd if stated.usd == usd => file,
        usd if limits.usd == usd => loader.options.limits_from,
        Some(_) => "--max-usd",
    };
    (caps, origin.to_owned())
}
