//! The order of tasks. Invariant: no task waits for itself, and one task's result is the crew's.

use std::collections::BTreeSet;

use super::Loader;
use super::agents::unknown;
use super::make::Making;
use super::problem::{At, Problem};
use crate::core::ids::Name;

/// `on_error`, then circles.
pub(super) fn check(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    rescues(loader, making);
    circles(loader, making);
}

fn rescues(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    for index in 0..making.drafts.len() {
        let draft = &making.drafts[index];
        let Some((text, at)) = draft.node("on_error").and_then(|node| Some((node.text()?.to_owned(), node.at.clone())))
        else {
            continue;
        };
        let name = draft.task.name.clone();
        let Some(other) = making.draft(&text) else {
            let known = making.drafts.iter().map(|draft| draft.task.name.as_str()).collect();
            unknown(loader, "E0202", "task", &text, &at, known);
            continue;
        };
        let rescue = &making.drafts[other].task;
        let wrong = if other == index {
            Some("a task cannot stand in for itself".to_owned())
        } else if making.drafts[other].debate.is_some() {
            Some("a debate stands in for nobody".to_owned())
        } else if let Some(first) = &rescue.rescues {
            Some(format!("`{text}` stands in for `{first}` already; a task stands in for one"))
        } else if rescue.context.contains(&name) || rescue.after.contains(&name) {
            Some(format!("`{text}` waits for the result of `{name}`, which there is not when it stands in"))
        } else if rescue.in_loop.is_some() || making.drafts[index].task.in_loop.is_some() {
            Some("a task in a revise loop has no `on_error` and stands in for nobody".to_owned())
        } else {
            None
        };
        if let Some(message) = wrong {
            let help = "the task that stands in sees the failure as `error`";
            loader.report(Problem::error("E0212", &at, message).help(help));
            continue;
        }
        let rescuer = making.drafts[other].task.name.clone();
        making.drafts[other].task.rescues = Some(name);
        making.drafts[index].task.on_error = Some(rescuer);
    }
}

/// Tasks that each task waits for, by index.
fn edges(making: &Making<'_>) -> Vec<Vec<usize>> {
    let waits = |index: usize| {
        let task = &making.drafts[index].task;
        let names = task.context.iter().chain(&task.after).chain(&task.rescues);
        names.filter_map(|name| making.draft(name.as_str())).collect::<Vec<_>>()
    };
    (0..making.drafts.len()).map(waits).collect()
}

fn circles(loader: &mut Loader<'_>, making: &Making<'_>) {
    let edges = edges(making);
    let mut state = vec![0u8; edges.len()];
    let mut said: BTreeSet<usize> = BTreeSet::new();
    for start in 0..edges.len() {
        // Depth first without recursion: thousands of tasks in a row are no danger to the stack.
        let mut path = vec![(start, 0usize)];
        if state[start] != 0 {
            continue;
        }
        state[start] = 1;
        while let Some((at, next)) = path.last_mut() {
            let at = *at;
            let Some(to) = edges[at].get(*next).copied() else {
                state[at] = 2;
                path.pop();
                continue;
            };
            *next += 1;
            match state[to] {
                0 => {
                    state[to] = 1;
                    path.push((to, 0));
                }
                1 if said.insert(to) => {
                    let from = path.iter().position(|(index, _)| *index == to).unwrap_or(0);
                    let circle: Vec<usize> = path[from..].iter().map(|(index, _)| *index).collect();
                    circle_at(loader, making, &circle);
                }
                _ => {}
            }
        }
    }
}

fn circle_at(loader: &mut Loader<'_>, making: &Making<'_>, circle: &[usize]) {
    let name = |index: usize| making.drafts[index].task.name.to_string();
    let Some((first, last)) = circle.first().zip(circle.last()) else { return };
    let mut names = circle.iter().map(|index| name(*index)).collect::<Vec<_>>();
    names.push(name(*first));
    let task = Name::new(&name(*first)).ok();
    let at: &At = task.and_then(|task| making.drafts[*last].named.get(&task)).unwrap_or(&making.drafts[*last].at);
    let message = format!("tasks wait for each other in a circle: {}", names.join(" -> "));
    let help = "take one of them out of `context` or `after`; to go round on purpose, use `review` or `revise`";
    loader.report(Problem::error("E0207", at, message).help(help));
}

/// The task whose result is the crew's.
pub(super) fn output(loader: &mut Loader<'_>, making: &Making<'_>) -> usize {
    let crew = making.doc.table("crew");
    if let Some((text, at)) = crew.and_then(|crew| crew.get("output")).and_then(|node| Some((node.text()?, &node.at))) {
        if let Some(index) = making.draft(text) {
            if making.drafts[index].task.rescues.is_some() {
                let message = format!("`{text}` only runs if another task fails");
                loader.report(Problem::error("E0208", at, message).help("name the task that it stands in for"));
            }
            return index;
        }
        let known = making.drafts.iter().map(|draft| draft.task.name.as_str()).collect();
        unknown(loader, "E0202", "task", text, at, known);
        return 0;
    }
    let loops = || making.loops.iter().filter(|one| one.debate.is_none());
    let judges: BTreeSet<usize> = loops().map(|one| one.judge).collect();
    let mut used: BTreeSet<usize> = BTreeSet::new();
    for (index, task) in making.drafts.iter().map(|draft| &draft.task).enumerate() {
        // A judge looks at its loop's tasks; that is no use of their results.
        let own = loops().find(|one| one.judge == index).map(|one| one.body.as_slice()).unwrap_or_default();
        let waits = task.context.iter().chain(&task.after).filter_map(|name| making.draft(name.as_str()));
        used.extend(waits.filter(|other| !own.contains(other)));
    }
    let free: Vec<usize> = (0..making.drafts.len())
        .filter(|index| !used.contains(index) && !judges.contains(index) && making.drafts[*index].judges.is_none())
        .filter(|index| making.drafts[*index].task.rescues.is_none())
        .collect();
    match free.as_slice() {
        [one] => *one,
        [] => making.drafts.len().saturating_sub(1),
        // A reference that cannot be followed was reported; what hangs on it would be noise.
        [_, second, ..] if making.unsure || loader.problems.iter().any(|p| p.code == "E0202") => *second,
        [_, second, ..] => {
            let names = free.iter().map(|index| making.drafts[*index].task.name.as_str()).collect::<Vec<_>>();
            let message = format!("which result is the crew's? No other task uses: {}", names.join(", "));
            let problem = Problem::error("E0208", &making.drafts[*second].at, message);
            loader.report(problem.help("write `output = \"TASK\"` in [crew]"));
            *second
        }
    }
}
