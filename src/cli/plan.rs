//! `plan`: the task graph and what a run of it may cost. Invariant: nothing is sent, spent or written;
//! a figure that is not known is said in words, never as $0.

mod figures;
mod graph;
mod json;
mod pace;
mod people;

use std::collections::BTreeMap;

use clap::Args;

use super::crew::{Classes, ModelClass};
use super::failure::{Exit, Failure, Outcome};
use super::open::Project;
use super::run::{InputArgs, LimitArgs, Written};
use super::screen::{clean, count, wrap};
use super::{Context, fit, run, wiring};
use crate::adapters::crewfile;
use crate::adapters::sizes::O200k;
use crate::core::crew::{Crew, Input, OnExhausted};
use crate::core::estimate::{Estimate, Money, Pace, Part, capped, estimate_with};
use crate::core::ids::Name;
use crate::core::money::{Limit, grouped};

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// A crew file, a folder with crew.toml, or a role prompt (prompts/NAME.md)
    #[arg(value_name = "CREW|PROMPT")]
    pub crew: std::path::PathBuf,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// The task graph alone
    #[arg(long)]
    pub graph: bool,
    /// Exit 3 if the worst case does not fit the budget
    #[arg(long)]
    pub require_fit: bool,
    /// The plan as JSON on stdout [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// A crew with its figures, ready to be printed.
struct Planned {
    crew: std::sync::Arc<Crew>,
    /// As the command line names it, below the root.
    file: String,
    made: Estimate,
    classes: Classes,
    /// Where the cap in USD comes from.
    origin: String,
    /// Inputs that have no value yet, with what they are for.
    lacking: Vec<(Name, String)>,
    notes: Vec<String>,
    /// The time that the providers' limits take.
    paces: Vec<Pace>,
}

pub fn plan(context: &Context, args: PlanArgs) -> Outcome {
    let root = crewfile::project_root(&context.cwd.join(&args.crew));
    let project = Project::at(context, root, args.limits.flags())?;
    let planned = planned(context, &project, &args)?;
    let columns = context.columns();
    if args.json {
        context.out.line(&json::plan(&planned).to_string());
    } else {
        let mut lines = graph::lines(&planned, columns);
        if !args.graph {
            lines.push(String::new());
            lines.extend(figures::lines(&planned, columns));
        }
        lines.extend(verdict(&planned, args.graph).iter().flat_map(|line| wrap(line, columns, 2)));
        lines.iter().for_each(|line| context.out.line(line));
    }
    if args.require_fit {
        require_fit(&planned)?;
    }
    Ok(Exit::Done)
}

fn planned(context: &Context, project: &Project, args: &PlanArgs) -> Result<Planned, Failure> {
    let Written { loaded, file, texts, typed, overrides } = run::read(context, project, &args.crew, &args.inputs)?;
    let Some(crew) = loaded.crew.clone() else { return Err(Failure::new(Exit::Crew, "the crew is not valid")) };
    let classes = Classes::new(&project.settings, Some(&loaded));
    let tables = loaded.providers.clone();
    let notes = loaded.notes.iter().map(|note| clean(note)).collect();
    let wrong = |wrong: Vec<String>| Failure::usage(wrong.join("\n")).hint("nothing was sent");
    let (bound, lacking) = crew.bind_known(&texts, &typed).map_err(wrong)?;
    let about = |input: &&Input| (input.name.clone(), clean(&input.description));
    let lacking: Vec<(Name, String)> = lacking.iter().map(about).collect();
    // With all inputs the figures are those that `run` takes, to the token.
    let inputs: BTreeMap<Name, serde_json::Value> = if lacking.is_empty() {
        wiring::bind(&project.root, &context.cwd, loaded, file.clone(), &texts, &typed, overrides)?.inputs
    } else {
        bound
    };
    let stated = project.settings.limits.max_usd.as_ref().map(|stated| stated.origin.clone());
    let origin = match (crew.budget.origin.as_str(), stated) {
        ("settings", Some(layer)) => layer,
        (origin, _) => origin.to_owned(),
    };
    let made = estimate_with(&crew, &inputs, &O200k::new());
    let paces = pace::paces(&made, &tables, &project.root, &context.env);
    Ok(Planned { crew, file, made, classes, origin, lacking, notes, paces })
}

/// What the figures mean, one line each.
fn verdict(planned: &Planned, graph_only: bool) -> Vec<String> {
    let Planned { crew, made, lacking, .. } = planned;
    let mut lines = Vec::new();
    if !graph_only {
        lines.extend(courses(planned));
        lines.extend(planned.made.parts.iter().map(part));
        lines.push(
            "smallest: one call of each task that must run, answered in a word, with room for the largest max_output; \
             a run starts only if that fits. expected: an estimate \
             from the texts and sizes, not from earlier runs. worst case: every item, round, \
             attempt, turn and delegation, each with its longest prompt and all of its max_output, at list price \
             without cache discount"
                .to_owned(),
        );
        lines.extend(pace::lines(&planned.paces));
        if made.money == Some(Money::Unknown) {
            lines.push(
                "? = no price is known: the dollars are a lower bound; tokens and calls are what bounds the run"
                    .to_owned(),
            );
        }
    }
    lines.extend(degrades(crew));
    lines.extend(
        crew.triggers.iter().map(|trigger| format!("bosun watch starts a run by {}", clean(&trigger.to_string()))),
    );
    lines.extend(people::line(crew));
    if !lacking.is_empty() {
        let one = |(name, about): &(Name, String)| match about.is_empty() {
            true => name.to_string(),
            false => format!("{name} ({about})"),
        };
        let names = lacking.iter().map(one).collect::<Vec<_>>().join(", ");
        let taken = if graph_only { "" } else { "; 2,000 bytes are taken for each" };
        lines.push(format!("inputs not given, which run needs: {names}{taken}"));
    }
    if uses(crew, &planned.classes, ModelClass::StandIn) {
        lines.push("[offline] is a stand-in, not a language model: it costs nothing and needs no network".to_owned());
    }
    lines.extend(planned.notes.iter().cloned());
    lines.push("nothing was sent, nothing was spent".to_owned());
    lines
}

/// Which courses fit, and what would make the others fit.
fn courses(planned: &Planned) -> Vec<String> {
    let Planned { crew, made, .. } = planned;
    let caps = crew.budget.caps;
    let worst = fit::over(caps, made.total.worst.amount());
    if worst.is_empty() {
        let more = match capped(crew) {
            true => "; the caps of single tasks, agents or sub-crews may still stop a part of it",
            false => ": no run is stopped by budget unless its process dies in calls or a provider bills too much",
        };
        return vec![format!("the worst case fits the crew's budget{more}")];
    }
    let mut lines = Vec::new();
    let smallest = fit::over(caps, made.smallest.amount());
    let expected = fit::over(caps, made.total.expected.amount());
    if !smallest.is_empty() {
        let (words, enough) = (fit::words(&smallest), fit::enough(&smallest));
        lines.push(format!(
            "! the smallest course does not fit, run refuses it (exit 3): {words}. Least that starts: {enough}"
        ));
    } else if !expected.is_empty() {
        let (words, enough) = (fit::words(&expected), fit::enough(&expected));
        lines.push(format!("! the expected course does not fit: {words}. To fit: {enough}"));
    }
    let mut line = format!("! the worst case does not fit: {}.", fit::words(&worst));
    if let Some(pause) = made.pause(caps).filter(|_| smallest.is_empty()) {
        let (need, left) = match pause.limit {
            Limit::Usd => (super::screen::usd(pause.need.usd), super::screen::cap(pause.left.usd)),
            Limit::Tokens => (count(pause.need.tokens.0, "token"), grouped(pause.left.tokens.0)),
            Limit::Calls => (count(pause.need.calls, "call"), grouped(pause.left.calls)),
        };
        let what = match crew.budget.on_exhausted {
            OnExhausted::Pause => "pause, with all results so far kept,",
            OnExhausted::Fail => "fail",
            OnExhausted::Finish => "go straight to the ending of every task",
        };
        line.push_str(&format!(" Such a run would {what} in {}: it needs up to {need}, {left} left.", pause.task));
    }
    line.push_str(&format!(" To fit: {}, or lower", fit::enough(&worst)));
    line.push_str(" context_tokens, max_turns, max_output, attempts, max_rounds or max_children");
    lines.push(line);
    lines
}

/// What a cap of a part of the crew does not pay for.
fn part(part: &Part) -> String {
    let node = &part.node;
    let least = fit::over(part.caps, part.smallest.amount());
    if !least.is_empty() {
        let (words, enough) = (fit::words(&least), fit::enough(&least));
        return format!(
            "! the smallest course of {node} does not fit its own budget, run refuses it (exit 3): {words}. \
             Least that starts: {enough}"
        );
    }
    let worst = fit::over(part.caps, part.worst.amount());
    let (words, enough) = (fit::words(&worst), fit::enough(&worst));
    format!("! the worst case of {node} does not fit its own budget, which no raise changes: {words}. To fit: {enough}")
}

/// What is given up when the budget is used up, in one line.
fn degrades(crew: &Crew) -> Option<String> {
    let steps: Vec<String> = crew.budget.degrade.iter().zip(1..).map(|(step, n)| format!("{n}. {step}")).collect();
    let then = match crew.budget.on_exhausted {
        OnExhausted::Pause => "the run pauses",
        OnExhausted::Fail => "the task fails",
        OnExhausted::Finish => "every task goes to its ending",
    };
    (!steps.is_empty()).then(|| format!("when the budget is used up: {}; then {then}", steps.join(", ")))
}

/// Does some agent of the crew, or of one below it, use such a model?
fn uses(crew: &Crew, classes: &Classes, class: ModelClass) -> bool {
    let own = crew.agents.values().any(|agent| graph::class(classes, &agent.model) == class);
    let narrowed = crew.tasks.iter().filter_map(|task| task.model.as_ref());
    own || narrowed.into_iter().any(|model| graph::class(classes, model) == class)
        || crew.crews.values().any(|sub| uses(&sub.crew, classes, class))
}

fn require_fit(planned: &Planned) -> Result<(), Failure> {
    let over = fit::over(planned.crew.budget.caps, planned.made.total.worst.amount());
    let part = planned.made.parts.first();
    if let Some(part) = part.filter(|_| over.is_empty()) {
        let (node, over) = (&part.node, fit::over(part.caps, part.worst.amount()));
        let message = format!("the worst case of {node} does not fit the budget of {node}: {}", fit::words(&over));
        let failure = Failure::new(Exit::Crew, message).hint(format!("to fit: {}", fit::enough(&over)));
        return Err(failure.hint("nothing was sent, nothing was spent"));
    }
    if over.is_empty() {
        return Ok(());
    }
    let message = format!("the worst case does not fit the budget: {}", fit::words(&over));
    Err(Failure::new(Exit::Crew, message)
        .hint(format!("to fit: {} (the cap in USD is from {})", fit::enough(&over), planned.origin))
        .hint("nothing was sent, nothing was spent"))
}
