//! `ledger`: the budget tree of a run, and closing a hold that nobody can close but a person.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::crew;
use super::failure::{Exit, Failure, Outcome};
use super::open::{Journal, Project, find_run, now_ms, read_run, whoami};
use super::screen::{self, Side, Table, cap, usd};
use super::{Context, append};
use crate::core::crew::Crew;
use crate::core::event::{CallEvent, Event, LostCause};
use crate::core::ids::CallId;
use crate::core::ledger::{NodeId, path};
use crate::core::money::{Amount, Caps, NanoUsd, Tokens, grouped};
use crate::ports::store::Store;

#[derive(Clone, Debug, Subcommand)]
pub enum LedgerCommand {
    /// The budget tree: cap, settled, held, in doubt and overrun of every node, and the open holds
    Show {
        /// A prefix of the run's id, or latest
        #[arg(value_name = "RUN", default_value = "latest")]
        run: String,
    },
    /// Close a call that may have been billed, with the amount from the provider's invoice
    Settle(SettleArgs),
}

#[derive(Clone, Debug, Args)]
pub struct SettleArgs {
    /// A prefix of the run's id, or latest
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The call, such as draft#1.3: bosun ledger show RUN lists them
    #[arg(value_name = "CALL")]
    pub call: String,
    /// What was billed; 0 if nothing was
    #[arg(long, value_name = "X")]
    pub usd: String,
    /// Tokens that were billed; those of the hold unless stated
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
}

/// What `inbox` carries for the kind `settle`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Settle {
    pub call: CallId,
    pub cost: Amount,
}

pub fn ledger(context: &Context, command: LedgerCommand) -> Outcome {
    let project = Project::here(context)?;
    match command {
        LedgerCommand::Show { run } => show(context, &project, &run),
        LedgerCommand::Settle(args) => settle(context, &project, &args),
    }
}

fn show(context: &Context, project: &Project, run: &str) -> Outcome {
    let store = project.store_of(run)?;
    let mut journal = read_run(&*store, find_run(&*store, run)?)?;
    journal.tally.crew = pinned(project, &*store, &journal);
    let ledger = &journal.tally.ledger;
    let caps = caps(&journal);
    let columns = context.columns();
    let mut table = Table::new(&[
        ("NODE", Side::Left, 0),
        ("CAP", Side::Right, 3),
        ("SETTLED", Side::Right, 0),
        ("HELD", Side::Right, 1),
        ("IN DOUBT", Side::Right, 1),
        ("OVERRUN", Side::Right, 2),
        ("TOKENS", Side::Right, 4),
        ("CALLS", Side::Right, 5),
    ]);
    for (node, sums) in &ledger.nodes {
        let node_caps = caps.get(node).copied().unwrap_or_default();
        table.row(vec![
            node.to_string(),
            words(&node_caps),
            usd(sums.settled.usd),
            usd(sums.held.usd),
            usd(sums.ambiguous.usd),
            if sums.overrun.usd == NanoUsd::ZERO { String::new() } else { usd(sums.overrun.usd) },
            grouped(sums.used().tokens.0),
            grouped(sums.used().calls),
        ]);
    }
    if table.is_empty() {
        context.out.line(&format!("no hold yet; cap {}", words(&ledger.caps)));
    } else {
        table.lines(columns).iter().for_each(|line| context.out.line(line));
    }
    if let Some(words) = journal.tally.forecast_words() {
        context.out.line(&words);
    }
    for (call, hold) in &ledger.holds {
        let what =
            if hold.ambiguous { "in doubt: may have been billed" } else { "held: in flight, or its process is gone" };
        let amount = format!("{}, {} tokens", usd(hold.amount.usd), grouped(hold.amount.tokens.0));
        context.out.line(&format!("{call}  {amount}  {what}"));
    }
    if ledger.holds.values().any(|hold| hold.ambiguous) {
        let run = journal.called();
        context.out.say(&format!("close one with the invoice's amount: bosun ledger settle {run} CALL --usd X"));
    }
    match &journal.tally.illegal {
        Some(why) => Err(Failure::new(Exit::Audit, format!("the journal cannot be followed: {why}"))),
        None => Ok(Exit::Done),
    }
}

/// The crew of the run, if it still compiles.
fn pinned(project: &Project, store: &dyn Store, journal: &Journal) -> Option<Arc<Crew>> {
    let started = journal.started().ok()?;
    crew::pinned(project, store, started).ok().map(|(crew, _)| crew)
}

/// Caps of every node that a call has counted in, as the crew and the raises so far state them.
fn caps(journal: &Journal) -> BTreeMap<NodeId, Caps> {
    let root = journal.tally.ledger.caps;
    let mut out = BTreeMap::from([(NodeId::Crew(crate::core::ids::Step::root()), root)]);
    let Some(crew) = &journal.tally.crew else { return out };
    for call in journal.tally.calls.values() {
        out.extend(path(crew, root, &call.held.call.step, &call.held.agent).into_iter().flatten());
    }
    out
}

fn words(caps: &Caps) -> String {
    let parts = [
        caps.usd.map(cap),
        caps.tokens.map(|tokens| format!("{tokens} tok")),
        caps.calls.map(|calls| screen::count(calls, "call")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn settle(context: &Context, project: &Project, args: &SettleArgs) -> Outcome {
    let call: CallId = args.call.parse().map_err(|bad: crate::core::ids::BadId| Failure::usage(bad.to_string()))?;
    let usd_amount: NanoUsd =
        args.usd.parse().map_err(|bad: crate::core::money::BadMoney| Failure::usage(format!("--usd: {bad}")))?;
    let store = project.store_of(&args.run)?;
    let journal = read_run(&*store, find_run(&*store, &args.run)?)?;
    let run = journal.row.run.clone();
    let by = whoami(&context.env);
    let alive = store.owner(&run).is_some();
    let Some(hold) = journal.tally.ledger.hold(&call) else {
        let known: Vec<String> = journal.tally.ledger.holds.keys().map(ToString::to_string).collect();
        let known = if known.is_empty() { "none is open".to_owned() } else { known.join(", ") };
        return Err(Failure::usage(format!("{call} has no hold to settle in run {run}: {known}")));
    };
    if alive && !hold.ambiguous {
        return Err(Failure::usage(format!("{call} is in flight: the answer will settle it")));
    }
    let cost = Amount { tokens: args.tokens.map_or(hold.amount.tokens, Tokens), usd: usd_amount, calls: 1 };
    if alive {
        let message = Settle { call: call.clone(), cost };
        let payload = serde_json::to_string(&message)
            .map_err(|why| Failure::new(Exit::Internal, format!("the message cannot be written: {why}")))?;
        store.inbox_put(&run, "settle", &payload, &by, now_ms())?;
        context.out.say(&format!(
            "{call}: the process that runs {} will settle it at {}",
            journal.called(),
            usd(usd_amount)
        ));
        return Ok(Exit::Done);
    }
    let mut events = Vec::new();
    if !hold.ambiguous
        && let Some(held) = journal.tally.calls.get(&call)
    {
        // Its process is gone and nobody has said so yet: what a resume would record first.
        let (call, agent, cause) = (call.clone(), held.held.agent.clone(), LostCause::Died);
        events.push(Event::Call(CallEvent::Lost { call, agent, cause, elapsed_ms: 0 }));
    }
    events.push(Event::Call(CallEvent::Settled { call: call.clone(), cost, by }));
    append::outside(&*store, &run, &events)?;
    context.out.say(&format!("{call} of run {} is settled at {}", journal.called(), usd(usd_amount)));
    Ok(Exit::Done)
}
