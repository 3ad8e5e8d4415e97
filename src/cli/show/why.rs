//! `show STEP --why`: which rule started a step, what it saw, and where each of its settings is from.

use std::sync::Arc;

use super::step::Wanted;
use crate::adapters::crewfile::yaml_states;
use crate::adapters::sizes::O200k;
use crate::cli::Context;
use crate::cli::crew;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::open::{Journal, Project, StoreTexts};
use crate::cli::screen::{clean, tokens};
use crate::cli::tally::StepState;
use crate::core::agent::Spec;
use crate::core::chat::Message;
use crate::core::crew::{Agent, Crew, Place, Task, TaskPrompt, Who};
use crate::core::event::{Event, RoundOutcome, TaskEvent, Work};
use crate::core::ids::{AgentRef, Name, Segment, Step};
use crate::core::machine::{Sizes, Texts};
use crate::ports::store::Store;

struct Why<'a> {
    journal: &'a Journal,
    crew: Arc<Crew>,
    texts: StoreTexts,
    sizes: O200k,
}

pub(super) fn print(
    context: &Context,
    project: &Project,
    store: Arc<dyn Store>,
    journal: &Journal,
    wanted: &Wanted,
) -> Outcome {
    let (crew, _) = crew::pinned(project, &*store, journal.started()?)?;
    let why = Why { journal, crew, texts: StoreTexts::new(store), sizes: O200k::new() };
    for step in wanted.steps() {
        context.out.line(step.as_str());
        for (word, text) in why.lines(&step) {
            context.out.line(&format!("  {word:<12} {text}"));
        }
    }
    Ok(Exit::Done)
}

impl Why<'_> {
    fn lines(&self, step: &Step) -> Vec<(&'static str, String)> {
        let places = self.crew.places(step).unwrap_or_default();
        let mut out: Vec<(&'static str, String)> = Vec::new();
        match places.last() {
            Some(Place::Task { crew, task }) => {
                let skipped = self.skipped(step);
                let word = if skipped.is_some() { "was skipped" } else { "ran because" };
                let because = self.because(step, crew, task, skipped);
                out.extend(because.into_iter().map(|text| (word, text)));
                out.extend(self.saw(step, task));
            }
            Some(Place::Delegated { .. } | Place::DelegatedCrew { .. }) => {
                let from = self.tasks().find_map(|event| {
                    let TaskEvent::Delegated { step: child, from, .. } = event else { return None };
                    (child == step).then(|| from.clone())
                });
                let from = from.map(|call| format!("{} delegated it in call {call}", call.step));
                out.push(("ran because", from.unwrap_or_else(|| "it was delegated".to_owned())));
            }
            None => {}
        }
        if let Some(place) = places.last() {
            out.extend(self.settings(step, place));
            out.extend(self.prompts(step, place));
        }
        out
    }

    fn tasks(&self) -> impl Iterator<Item = &TaskEvent> {
        self.journal.entries.iter().filter_map(|entry| match &entry.event {
            Event::Task(event) => Some(event),
            Event::Run(_) | Event::Call(_) | Event::Tool(_) => None,
            Event::Interrupt(_) | Event::Ledger(_) => None,
        })
    }

    /// Why the step was left out; `None`, if it was not.
    fn skipped(&self, step: &Step) -> Option<&str> {
        self.tasks().find_map(|event| {
            let TaskEvent::Skipped { step: of, because, .. } = event else { return None };
            (of == step).then_some(because.as_str())
        })
    }

    /// The rules that let the step start, or the one that left it out.
    fn because(&self, step: &Step, crew: &Arc<Crew>, task: &Task, skipped: Option<&str>) -> Vec<String> {
        if let Some(because) = skipped {
            let when = task.when.as_ref().filter(|when| because == format!("`{}` is false", when.0));
            let when = when.map(|when| format!("`when = {}` did not hold", clean(&when.0)));
            return vec![when.unwrap_or_else(|| clean(because))];
        }
        let mut out = Vec::new();
        if let Some(round) = step.round().filter(|round| *round > 1) {
            out.push(self.round(crew, task, round));
        }
        let scope = step.parent().unwrap_or_else(Step::root);
        let ended: Vec<String> = task.context.iter().chain(&task.after).map(|name| self.ended(&scope, name)).collect();
        if !ended.is_empty() {
            out.push(format!("{} (`context`, `after`)", ended.join(", ")));
        }
        if let Some(when) = &task.when {
            out.push(format!("`when = {}` held", clean(&when.0)));
        }
        if let Some(rescued) = &task.rescues {
            out.push(format!("`{rescued}` failed and names it in `on_error`"));
        }
        if out.is_empty() {
            out.push("it waits for nothing: it starts with the crew".to_owned());
        }
        out
    }

    /// The decision after the round before.
    fn round(&self, crew: &Arc<Crew>, task: &Task, round: u32) -> String {
        let rule = task.in_loop.and_then(|index| crew.loops.get(index));
        let judge = rule.map(|rule| crew.tasks[rule.judge].name.to_string()).unwrap_or_default();
        let decided = self.tasks().find_map(|event| {
            let TaskEvent::RoundDecided { judge: at, round: of, outcome } = event else { return None };
            let ours = at.last().is_some_and(|last| last.name.as_str() == judge);
            (ours && of + 1 == round).then_some((at.clone(), *outcome))
        });
        let most = rule.map_or(0, |rule| rule.max_rounds);
        let until = rule.map(|rule| clean(&rule.until.0)).unwrap_or_default();
        let by = decided.map(|(at, outcome)| match outcome {
            RoundOutcome::Again => format!("after {}, ", at.with_round(Some(round - 1))),
            RoundOutcome::Approved | RoundOutcome::Accepted | RoundOutcome::Failed | RoundOutcome::Review => {
                String::new()
            }
        });
        let by = by.unwrap_or_default();
        format!("{by}`until = {until}` did not hold: round {round} of {most} (a rule chose this, not a model)")
    }

    fn ended(&self, scope: &Step, name: &Name) -> String {
        let unit = scope.child(&Segment::task(name.clone()));
        let rows = self.journal.tally.order.iter().filter(|known| **known == unit || known.with_round(None) == unit);
        let last = rows.filter_map(|known| self.journal.tally.steps.get(known)).next_back();
        match last.map(|row| (&row.step, &row.state)) {
            Some((step, StepState::Ended(result))) => format!("{step} ended {}", result.status.as_str()),
            Some(_) | None => format!("{name} has not ended"),
        }
    }

    /// Results that it gets, with their size.
    fn saw(&self, step: &Step, task: &Task) -> Vec<(&'static str, String)> {
        let scope = step.parent().unwrap_or_else(Step::root);
        let mut seen = Vec::new();
        for name in &task.context {
            let unit = scope.child(&Segment::task(name.clone()));
            let rows =
                self.journal.tally.order.iter().filter(|known| **known == unit || known.with_round(None) == unit);
            let last = rows.filter_map(|known| self.journal.tally.steps.get(known)).next_back();
            if let Some(StepState::Ended(result)) = last.map(|row| &row.state)
                && let Some(text) = result.text.as_ref().and_then(|id| self.texts.text(id).ok())
            {
                seen.push(format!("{name} {}", tokens(self.sizes.tokens(&text))));
            }
        }
        if seen.is_empty() { Vec::new() } else { vec![("saw", seen.join(" · "))] }
    }

    fn settings(&self, step: &Step, place: &Place<'_>) -> Vec<(&'static str, String)> {
        let Some(row) = self.journal.tally.steps.get(step) else { return Vec::new() };
        let Some(agent) = &row.agent else { return Vec::new() };
        let Some(spec) = Spec::of(&self.crew, step, agent) else { return Vec::new() };
        let last = self.journal.tally.calls.values().rfind(|call| call.held.call.step == *step && !call.held.summary);
        let asked = last.map(|call| (call.held.model.as_str(), call.held.settings.max_output));
        let (spec, given_up) = self.given_up(spec, step, agent, asked);
        let Some(model) = &spec.model else { return vec![("model", "none: a tool is called directly".to_owned())] };
        let settings = last.map_or(&spec.settings, |call| &call.held.settings);
        let role = spec.role.as_deref();
        let origin = |key: &str, given_up: bool| match given_up {
            true => "`degrade` in [budget]".to_owned(),
            false => self.origin(place, role, key, &model.name),
        };
        let mut out = vec![
            ("model", format!("{} <- {}", model.full_id(), origin("model", given_up.0))),
            ("max_output", format!("{} <- {}", settings.max_output, origin("max_output", given_up.1))),
        ];
        let temperature = settings.temperature.map(|milli| milli.as_f64().to_string());
        let varied = settings.temperature != spec.settings.temperature;
        out.push((
            "temperature",
            match temperature {
                Some(value) if varied => format!("{value} <- the variation of attempt {}", row.attempt),
                Some(value) => format!("{value} <- {}", self.origin(place, role, "temperature", &model.name)),
                None => "not sent: the provider's default".to_owned(),
            },
        ));
        out
    }

    /// The spec that the last call was asked under, where the run had given something up by then; and whether
    /// its model and its `max_output` are from there.
    fn given_up(&self, own: Spec, step: &Step, agent: &AgentRef, asked: Option<(&str, u64)>) -> (Spec, (bool, bool)) {
        let steps = self.journal.tally.ledger.degraded();
        let after = Spec::of(&self.crew, step, agent).map(|spec| spec.after(&self.crew, steps, agent));
        let (Some(after), Some((model, output))) = (after, asked) else { return (own, (false, false)) };
        let shorter = output == after.most_output;
        let other = after.degraded && after.model.as_ref().is_some_and(|now| now.full_id() == model);
        (if other { after } else { own }, (other, shorter))
    }

    /// Which layer states a key: flag over task over agent over prompt over model.
    fn origin(&self, place: &Place<'_>, role: Option<&Agent>, key: &str, alias: &str) -> String {
        let started = self.journal.tally.started.as_deref();
        if let Some(overrides) = started.map(|started| &started.overrides) {
            match key {
                "model" if overrides.offline => return "--offline".to_owned(),
                "model" if overrides.model.is_some() => return "--model".to_owned(),
                "max_output" if overrides.max_output.is_some() => return "--max-output, if it is the lower".to_owned(),
                _ => {}
            }
        }
        let (crew, task) = match place {
            Place::Task { crew, task } => (crew, Some(&task.name)),
            Place::Delegated { crew, .. } | Place::DelegatedCrew { crew, .. } => (crew, None),
        };
        let file = self.pinned(&crew.file).and_then(|text| text.parse::<toml::Table>().ok()).unwrap_or_default();
        let states = |table: &str, name: &str| file.get(table)?.get(name)?.get(key).map(|_| ());
        let shown = clean(&crew.file);
        if let Some(task) = task.filter(|task| states("tasks", task.as_str()).is_some()) {
            return format!("{shown} [tasks.{task}]");
        }
        if let Some(role) = role {
            if states("agents", role.name.as_str()).is_some() {
                return format!("{shown} [agents.{}]", role.name);
            }
            let text = self.pinned(&role.system.0).unwrap_or_default();
            if yaml_states(&text, key) || front(&text).is_some_and(|front| front.contains_key(key)) {
                return format!("{} (front matter)", clean(&role.system.0));
            }
        }
        if states("models", alias).is_some() {
            return format!("{shown} [models.{alias}]");
        }
        if key == "model" { "the settings".to_owned() } else { "built-in default".to_owned() }
    }

    fn pinned(&self, path: &str) -> Option<Arc<str>> {
        let (_, blob) = super::pinned_file(self.journal, path)?;
        self.texts.text(&blob).ok()
    }

    /// The files that its messages come from, and how large they became.
    fn prompts(&self, step: &Step, place: &Place<'_>) -> Vec<(&'static str, String)> {
        let work = self.tasks().find_map(|event| {
            let TaskEvent::Assigned { step: of, work, .. } = event else { return None };
            let Work::Prompt { system, user, .. } = &**work else {
                return None;
            };
            (of == step).then_some((*system, *user))
        });
        let Some((system, user)) = work else { return Vec::new() };
        let size = |id| {
            let text = self.texts.text(id).ok()?;
            Some(self.sizes.tokens(Message::decode(&text).ok()?.content()))
        };
        let sized = |id| size(id).map(tokens).unwrap_or_default();
        let (role, task) = match place {
            Place::Task { crew, task } => match &task.who {
                Who::Agent(name) => (crew.agents.get(name).cloned(), Some(*task)),
                Who::Crew(_) | Who::Tool { .. } => (None, Some(*task)),
            },
            Place::Delegated { agent, .. } => (Some((*agent).clone()), None),
            Place::DelegatedCrew { .. } => (None, None),
        };
        let named = |name: &str| {
            let hash = super::pinned_file(self.journal, name).map(|(_, blob)| format!("@{}", blob.short()));
            format!("{}{}", clean(name), hash.unwrap_or_default())
        };
        let mut out = Vec::new();
        if let Some(role) = role {
            out.push(("system", format!("{} -> {}", named(&role.system.0), sized(&system.message))));
        }
        let told = task.and_then(|task| task.prompt.as_ref()).map_or("built-in", |prompt| match prompt {
            TaskPrompt::Fixed(name) | TaskPrompt::Chosen(name) => &*name.0,
        });
        out.push(("user", format!("{} -> {} (--prompt prints it)", named(told), sized(&user.message))));
        out
    }
}

/// The front matter of a prompt file: TOML between `+++`.
fn front(text: &str) -> Option<toml::Table> {
    let rest = text.trim_start_matches('\u{feff}').strip_prefix("+++")?;
    rest.split_once("\n+++").and_then(|(front, _)| front.parse().ok())
}
