//! The task graph as indented lines. Invariant: every task is there once, below the last of those it
//! waits for; every bound that the worst case rests on is written beside it.

use std::sync::Arc;

use super::Planned;
use crate::cli::crew::{Classes, ModelClass};
use crate::cli::screen::{cap, clean, count, excerpt, wrap};
use crate::core::crew::{Crew, Loop, Model, NodeBudget, OnLimit, Over, Pricing, Task, Who};
use crate::core::estimate::{Estimate, Items, TaskEstimate, estimate};
use crate::core::ids::Name;
use crate::core::money::grouped;

/// Levels that are indented on a wide screen; deeper ones name what they wait for.
const LEVELS: usize = 8;
/// Characters of a condition that are shown.
const CONDITION: usize = 60;

pub fn lines(planned: &Planned, columns: usize) -> Vec<String> {
    let crew = &planned.crew;
    let mut head = format!("crew {} · {} · {}", clean(&crew.name), planned.file, tasks(crew));
    if let Some(ms) = crew.deadline_ms {
        head.push_str(&format!(" · deadline {}", crate::cli::screen::span(ms)));
    }
    let mut lines = wrap(&head, columns, 2);
    below(crew, &planned.made, &planned.classes, 1, columns, &mut lines);
    lines
}

fn tasks(crew: &Crew) -> String {
    let output = crew.tasks.get(crew.output).map(|task| format!(" · result of {}", task.name)).unwrap_or_default();
    let parts = |task: &Task| task.repeat.as_ref().is_some_and(|repeat| repeat.window.is_none());
    let alone = crew.tasks.len() == 1 && !crew.tasks.iter().any(parts);
    let alone = alone && crew.agents.values().all(|agent| agent.delegates.is_empty());
    let most = if alone { String::new() } else { format!(", at most {} at once", crew.max_parallel) };
    format!("{}{most}{output}", count(crew.tasks.len() as u64, "task"))
}

/// The tasks of one crew, each below the one it waits for, then the crews that are only delegated to.
fn below(crew: &Arc<Crew>, made: &Estimate, classes: &Classes, level: usize, columns: usize, lines: &mut Vec<String>) {
    let needs: Vec<Vec<usize>> = crew.tasks.iter().map(|task| needs(crew, task)).collect();
    let depths = depths(&needs);
    let parent = |index: usize| needs[index].iter().copied().max_by_key(|need| (depths[*need], *need));
    let parents: Vec<Option<usize>> = (0..needs.len()).map(parent).collect();
    let most = if columns < 60 { LEVELS / 2 } else { LEVELS };
    // Depth first; of siblings the first of the file is on top.
    let mut open: Vec<(usize, usize)> =
        (0..needs.len()).rev().filter(|index| parents[*index].is_none()).map(|index| (index, level)).collect();
    while let Some((index, at)) = open.pop() {
        let task = &crew.tasks[index];
        let near = parents[index].filter(|_| at <= most);
        let others: Vec<&Name> =
            needs[index].iter().filter(|need| Some(**need) != near).map(|need| &crew.tasks[*need].name).collect();
        let indent = "  ".repeat(at.min(most));
        let mark = if parents[index].is_some() { "└ " } else { "" };
        if let Some(one) = made.tasks.get(index) {
            let text = format!("{indent}{mark}{}", words(crew, task, one, &others, classes));
            lines.extend(wrap(&text, columns, 2 * at.min(most) + 4));
        }
        if let (Who::Crew(name), Some(inner)) = (&task.who, made.tasks.get(index).and_then(|one| one.below.as_ref()))
            && let Some(sub) = crew.crews.get(name)
        {
            below(&sub.crew, inner, classes, at + 2, columns, lines);
        }
        open.extend((0..needs.len()).rev().filter(|next| parents[*next] == Some(index)).map(|next| (next, at + 1)));
    }
    let called = |name: &Name| crew.tasks.iter().any(|task| matches!(&task.who, Who::Crew(crew) if crew == name));
    for (name, sub) in crew.crews.iter().filter(|(name, _)| !called(name)) {
        let indent = "  ".repeat(level.min(most));
        let text = format!("{indent}{name} · crew {}, when delegated to{}", sub.crew.file, budget(&sub.budget));
        lines.extend(wrap(&text, columns, 2 * level.min(most) + 4));
        below(&sub.crew, &estimate(&sub.crew, &Default::default()), classes, level + 1, columns, lines);
    }
}

/// The tasks that a task waits for.
pub fn needs(crew: &Crew, task: &Task) -> Vec<usize> {
    let over = task.repeat.as_ref().and_then(|repeat| match &repeat.over {
        Over::Rows(_) => None,
        Over::Result { task, .. } => Some(task),
    });
    let names = task.context.iter().chain(&task.after).chain(&task.rescues).chain(over);
    let mut found: Vec<usize> = names.filter_map(|name| crew.index_of(name)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// How many tasks stand before each, on the longest way.
fn depths(needs: &[Vec<usize>]) -> Vec<usize> {
    let mut depths = vec![0; needs.len()];
    // No way is longer than there are tasks.
    for _ in 0..needs.len() {
        let mut moved = false;
        for (index, needs) in needs.iter().enumerate() {
            let depth = needs.iter().map(|need| depths[*need] + 1).max().unwrap_or(0);
            moved |= depth != depths[index];
            depths[index] = depth;
        }
        if !moved {
            break;
        }
    }
    depths
}

pub fn class(classes: &Classes, model: &Model) -> ModelClass {
    let priced = matches!(model.price, Pricing::Priced(_));
    classes.of(&model.full_id(), priced)
}

/// `draft  writer openai/gpt-4.1 · tools … · at most 3 rounds … · out/article.md`.
fn words(crew: &Crew, task: &Task, made: &TaskEstimate, others: &[&Name], classes: &Classes) -> String {
    let mut parts = vec![format!("{}: {}", task.name, who(crew, task, classes))];
    if let Who::Agent(name) = &task.who {
        let tools = task.tools.as_ref().or_else(|| crew.agents.get(name).map(|agent| &agent.tools));
        if let Some(tools) = tools.filter(|tools| !tools.is_empty()) {
            parts.push(format!("tools {}", tools.join(" ")));
        }
    }
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|name| name.as_str()).collect();
        parts.push(format!("after {}", names.join(", ")));
    }
    parts.extend(made.items.map(|items| repeats(task, items)));
    if let Some(index) = task.in_loop
        && let Some(found) = crew.loops.get(index)
    {
        parts.push(rounds(crew, task, found));
    }
    if made.turns > 1 {
        parts.push(format!("at most {}", count(u64::from(made.turns), "turn")));
    }
    if matches!(task.who, Who::Agent(_)) && task.attempts != 3 {
        parts.push(format!("at most {}", count(u64::from(task.attempts), "attempt")));
    }
    if let Some(given) = &made.delegation {
        let to: Vec<&str> = given.to.iter().map(|name| name.as_str()).collect();
        let children = count(u64::from(given.max_children), "delegation");
        parts.push(format!("delegates to {}: at most {children}, {} deep", to.join(", "), given.max_depth));
    }
    if let Some(when) = &task.when {
        parts.push(format!("only if {}", excerpt(&when.0, CONDITION)));
    }
    parts.extend(task.rescues.as_ref().map(|of| format!("only if {of} fails")));
    if task.optional {
        parts.push("optional".to_owned());
    }
    let file = task.output_file.as_ref().and_then(|name| crew.templates.source(name));
    parts.extend(file.map(|path| format!("writes {}", excerpt(path, CONDITION))));
    let own = budget(&task.budget);
    parts.join(" · ") + &own
}

fn who(crew: &Crew, task: &Task, classes: &Classes) -> String {
    match &task.who {
        Who::Tool { tool, .. } => format!("tool {tool}, no model"),
        Who::Crew(name) => {
            let sub = crew.crews.get(name);
            let file = sub.map(|sub| format!(" ({})", sub.crew.file)).unwrap_or_default();
            format!("crew {name}{file}{}", sub.map(|sub| budget(&sub.budget)).unwrap_or_default())
        }
        Who::Agent(name) => {
            let agent = crew.agents.get(name);
            let model = task.model.as_ref().or_else(|| agent.map(|agent| &agent.model));
            let model =
                model.map(|model| format!(" {}/{}{}", model.provider, clean(&model.id), class(classes, model).mark()));
            let own = agent.map(|agent| budget(&agent.budget)).unwrap_or_default();
            format!("{name}{}{own}", model.unwrap_or_default())
        }
    }
}

fn repeats(task: &Task, items: Items) -> String {
    let over = task.repeat.as_ref().map(|repeat| &repeat.over);
    let mut text = match (items, over) {
        (Items::Rows(n), _) => format!("for each of {}", count(n, "row")),
        (Items::AtMost(n), Some(Over::Result { list, .. })) => {
            format!("for each of {}, at most {}", excerpt(&list.0, CONDITION), grouped(n))
        }
        (Items::AtMost(n), Some(Over::Rows(_)) | None) => format!("for each of at most {}", count(n, "item")),
    };
    let repeat = task.repeat.as_ref();
    if let Some(window) = repeat.and_then(|repeat| repeat.window) {
        text.push_str(&format!(", one at a time, with the last {} tokens", grouped(window)));
    } else if let Some(most) = repeat.and_then(|repeat| repeat.max_parallel) {
        text.push_str(&format!(", {most} at once"));
    }
    text
}

fn rounds(crew: &Crew, task: &Task, found: &Loop) -> String {
    let (revised, judge) = (&crew.tasks[found.revised].name, &crew.tasks[found.judge].name);
    let most = found.max_rounds;
    if found.debate.is_some() {
        let names: Vec<&str> = found.body.iter().map(|index| crew.tasks[*index].name.as_str()).collect();
        let rounds = count(u64::from(most), "round");
        return match judge == &task.name {
            true if found.takes_all_rounds() => format!("debate of {}, {rounds}", names.join(", ")),
            true => {
                let until = excerpt(&found.until.0, CONDITION);
                format!("debate of {} until {until}, at most {rounds}", names.join(", "))
            }
            false => format!("at most {rounds} with {judge}"),
        };
    }
    if judge != &task.name {
        return format!("at most {} with {judge}", count(u64::from(most), "round"));
    }
    let limit = match found.on_limit {
        OnLimit::Accept => "the last is accepted",
        OnLimit::Fail => "it fails",
        OnLimit::Review => "a person decides",
    };
    let each = if found.per_item { " for each item" } else { "" };
    let until = excerpt(&found.until.0, CONDITION);
    format!("loop from {revised} until {until}{each}, max_rounds {most}, then {limit}")
}

fn budget(own: &NodeBudget) -> String {
    let mut parts = Vec::new();
    parts.extend(own.caps.usd.map(cap));
    parts.extend(own.caps.tokens.map(|tokens| count(tokens.0, "token")));
    parts.extend(own.share.map(|share| format!("{}.{} % of the budget above", share / 10, share % 10)));
    if parts.is_empty() { String::new() } else { format!(" · budget {}", parts.join(", ").replace(".0 %", " %")) }
}
