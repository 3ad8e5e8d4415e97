//! `cost`: what runs have used, by agent, model or task. Invariant: a figure that is not known is `?`
//! or a lower bound, never zero; what is held or in doubt stands apart from what is settled.

use std::collections::BTreeMap;

use clap::Args;

use super::Context;
use super::crew::{self, Classes, ModelClass};
use super::failure::{Exit, Outcome};
use super::open::{Journal, Project, find_run, read_one_of_many, read_run};
use super::screen::{self, Side, Table, cap, clean, usd};
use super::tally::{CallState, CallTally};
use crate::core::money::{Amount, Count, NanoUsd, grouped};
use crate::ports::store::{RunFilter, Store};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    #[default]
    Agent,
    Model,
    Task,
}

#[derive(Clone, Debug, Args)]
pub struct CostArgs {
    /// A prefix of a run's id, or latest; every run of the project unless stated
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// What to add up by
    #[arg(long, value_enum, default_value = "agent")]
    pub by: By,
    /// One JSON object per row, then the total [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// A sum of which a part may be unknown.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    known: u64,
    unknown: bool,
}

impl Sum {
    fn add(&mut self, count: Count) {
        match count {
            Count::Reported(n) => self.known = self.known.saturating_add(n),
            Count::Absent | Count::Unparsable => self.unknown = true,
        }
    }
    fn merge(&mut self, other: Sum) {
        self.known = self.known.saturating_add(other.known);
        self.unknown |= other.unknown;
    }
    fn text(self) -> String {
        match (self.unknown, self.known) {
            (true, 0) => "?".to_owned(),
            (true, n) => format!(">={}", grouped(n)),
            (false, n) => grouped(n),
        }
    }
    fn json(self) -> serde_json::Value {
        serde_json::json!({"known": self.known, "complete": !self.unknown})
    }
}

/// One line of the table.
#[derive(Clone, Debug, Default)]
struct Line {
    calls: u64,
    input: Sum,
    output: Sum,
    cached: Sum,
    settled: Amount,
    held: Amount,
    doubt: Amount,
    overrun: NanoUsd,
    /// Calls booked at their hold, as no usable usage came back.
    estimated: u64,
    /// Answered calls of models without a price.
    unpriced: u64,
    classes: Vec<ModelClass>,
}

impl Line {
    fn add(&mut self, call: &CallTally, class: ModelClass) {
        self.calls += 1;
        if !self.classes.contains(&class) {
            self.classes.push(class);
        }
        if let Some(cost) = call.cost {
            self.settled = self.settled.plus(cost);
            self.overrun = self.overrun.plus(cost.usd.minus(call.held.amount.usd));
            // Settled by hand, the dollars are the invoice's.
            self.unpriced += u64::from(class == ModelClass::Unpriced && !call.by_hand);
        } else {
            match &call.state {
                CallState::Open => self.held = self.held.plus(call.held.amount),
                CallState::Lost(_) => self.doubt = self.doubt.plus(call.held.amount),
                CallState::Failed { class, .. } => {
                    if class.money() == crate::core::failure::Money::Hold {
                        self.doubt = self.doubt.plus(call.held.amount);
                    }
                }
                CallState::Answered => {}
            }
        }
        if let Some(answer) = &call.answer {
            self.input.add(answer.usage.input);
            self.output.add(answer.usage.output);
            // Absent means that the provider has no such figure, which is no cache.
            if let Count::Reported(n) = answer.usage.cache_read {
                self.cached.known = self.cached.known.saturating_add(n);
            }
            self.estimated += u64::from(answer.estimated);
        }
    }
    fn merge(&mut self, other: &Line) {
        self.calls += other.calls;
        self.input.merge(other.input);
        self.output.merge(other.output);
        self.cached.merge(other.cached);
        self.settled = self.settled.plus(other.settled);
        self.held = self.held.plus(other.held);
        self.doubt = self.doubt.plus(other.doubt);
        self.overrun = self.overrun.plus(other.overrun);
        self.estimated += other.estimated;
        self.unpriced += other.unpriced;
        for class in &other.classes {
            if !self.classes.contains(class) {
                self.classes.push(*class);
            }
        }
    }
    fn dollars(&self) -> String {
        let amount = usd(self.settled.usd);
        let about = if self.estimated > 0 { "~" } else { "" };
        match (self.unpriced > 0, self.settled.usd == NanoUsd::ZERO) {
            (true, true) => "?".to_owned(),
            (true, false) => format!(">={about}{amount}"),
            (false, true) if self.classes.as_slice() == [ModelClass::Local] => "local".to_owned(),
            (false, _) => format!("{about}{amount}"),
        }
    }
    fn marks(&self) -> String {
        let all: Vec<&str> = self.classes.iter().map(|class| class.mark()).collect();
        all.concat()
    }
    fn apart(amount: Amount) -> String {
        if amount.calls == 0 { String::new() } else { usd(amount.usd) }
    }
    fn json(&self, name: &str) -> String {
        let known = self.unpriced == 0;
        serde_json::json!({
            "name": name,
            "calls": self.calls,
            "input_tokens": self.input.json(),
            "output_tokens": self.output.json(),
            "cache_read_tokens": self.cached.json(),
            "settled_usd": if known { Some(self.settled.usd) } else { None },
            "settled_usd_at_least": self.settled.usd,
            "held_usd": self.held.usd,
            "ambiguous_usd": self.doubt.usd,
            "ambiguous_calls": self.doubt.calls,
            "overrun_usd": self.overrun,
            "estimated_calls": self.estimated,
            "unpriced_calls": self.unpriced,
            "classes": self.classes.iter().map(|class| class.as_str()).collect::<Vec<_>>(),
        })
        .to_string()
    }
}

pub fn cost(context: &Context, args: CostArgs) -> Outcome {
    let project = Project::here(context)?;
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    let mut title = String::new();
    let mut forecast = None;
    match &args.run {
        Some(run) => {
            let store = project.store_of(run)?;
            let mut journal = read_run(&*store, find_run(&*store, run)?)?;
            let started = journal.started().ok();
            journal.tally.crew =
                started.and_then(|started| crew::pinned(&project, &*store, started).ok()).map(|(crew, _)| crew);
            forecast = journal.tally.forecast_words();
            title = format!("run {} {}", journal.row.run, clean(&journal.row.crew));
            add(&project, &*store, &journal, args.by, &mut lines);
        }
        None => {
            if let Some(store) = project.existing_store()? {
                let rows = store.runs(&RunFilter::default())?;
                title = screen::count(rows.len() as u64, "run");
                for row in rows {
                    add(&project, &*store, &read_one_of_many(&*store, row)?, args.by, &mut lines);
                }
            }
        }
    }
    if lines.is_empty() {
        context.out.say("no model call yet");
        return Ok(Exit::Done);
    }
    print(context, &args, &title, &lines);
    if let Some(words) = forecast.filter(|_| !args.json) {
        context.out.line(&words);
    }
    Ok(Exit::Done)
}

fn add(project: &Project, store: &dyn Store, journal: &Journal, by: By, lines: &mut BTreeMap<String, Line>) {
    let loaded = journal.started().ok().and_then(|started| crew::load_pinned(project, store, started).ok());
    let classes = Classes::new(&project.settings, loaded.as_ref());
    for call in journal.tally.calls.values() {
        let held = &call.held;
        let class = classes.of(&held.model, held.price.is_some());
        let name = match by {
            By::Agent => held.agent.name.to_string(),
            By::Model => held.model.clone(),
            By::Task => held.call.step.segments().first().map_or(String::new(), |first| first.name.to_string()),
        };
        lines.entry(name).or_default().add(call, class);
    }
}

fn print(context: &Context, args: &CostArgs, title: &str, lines: &BTreeMap<String, Line>) {
    let mut total = Line::default();
    lines.values().for_each(|line| total.merge(line));
    if args.json {
        for (name, line) in lines {
            context.out.line(&line.json(name));
        }
        return context.out.line(&total.json("total"));
    }
    let head = match args.by {
        By::Agent => "AGENT",
        By::Model => "MODEL",
        By::Task => "TASK",
    };
    let mut table = Table::new(&[
        (head, Side::Left, 0),
        ("CALLS", Side::Right, 4),
        ("IN", Side::Right, 6),
        ("OUT", Side::Right, 7),
        ("CACHED", Side::Right, 8),
        ("USD", Side::Right, 0),
        ("SHARE", Side::Right, 5),
        ("HELD", Side::Right, 3),
        ("IN DOUBT", Side::Right, 1),
        ("OVERRUN", Side::Right, 2),
    ]);
    let all: Vec<(String, &Line)> = lines.iter().map(|(name, line)| (clean(name), line)).collect();
    for (name, line) in all.into_iter().chain([("total".to_owned(), &total)]) {
        let share = u128::from(line.settled.usd.0) * 100;
        let share = share.checked_div(u128::from(total.settled.usd.0)).map(|share| format!("{share}%"));
        let overrun = if line.overrun == NanoUsd::ZERO { String::new() } else { usd(line.overrun) };
        table.row(vec![
            format!("{name}{}", line.marks()),
            grouped(line.calls),
            line.input.text(),
            line.output.text(),
            line.cached.text(),
            line.dollars(),
            share.unwrap_or_default(),
            Line::apart(line.held),
            Line::apart(line.doubt),
            overrun,
        ]);
    }
    let columns = context.columns();
    context.out.line(title);
    table.lines(columns).iter().for_each(|line| context.out.line(line));
    if total.estimated > 0 {
        let calls = screen::count(total.estimated, "call");
        context.out.line(&format!("~ {calls} without usable usage, booked at the worst case"));
    }
    if total.unpriced > 0 {
        let calls = screen::count(total.unpriced, "call");
        context.out.line(&format!("? {calls} of models without a known price: the dollars are a lower bound"));
    }
    if total.doubt.calls > 0 {
        context.out.line(&format!(
            "in doubt: {} may have been billed, up to {}; close one with: bosun ledger settle RUN CALL --usd X",
            screen::count(total.doubt.calls, "call"),
            cap(total.doubt.usd)
        ));
    }
}
