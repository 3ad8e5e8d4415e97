//! `review` and `revise`. Invariant: a loop has a bounded number of rounds, its body is what lies
//! between the revised task and the judge, and no task is in two loops.

use std::collections::BTreeMap;

use super::agents::unknown;
use super::doc::{Node, Table};
use super::make::Making;
use super::problem::{At, Problem};
use super::prompts::{Site, report};
use super::scope;
use super::{Loader, debate};
use crate::core::crew::{Loop, OnLimit};
use crate::core::template::{Condition, Ty, Typing};

pub(super) fn read(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    debate::loops(loader, making);
    for judge in 0..making.drafts.len() {
        if making.drafts[judge].debate.is_some() {
            continue;
        }
        if let Some(revised) = making.drafts[judge].judges {
            let table = making.drafts[judge].table.table("review");
            let at = making.drafts[judge].at.clone();
            if let Some(table) = table.cloned() {
                add(loader, making, judge, revised, &table, &at);
            }
        } else if let Some(entry) = making.drafts[judge].table.entry("revise").cloned() {
            revise(loader, making, judge, &entry.key_at, &entry.node);
        }
    }
}

fn revise(loader: &mut Loader<'_>, making: &mut Making<'_>, judge: usize, at: &At, node: &Node) {
    let Some(table) = node.table() else { return };
    for key in ["task", "until"].into_iter().filter(|key| table.get(key).is_none()) {
        loader.report(Problem::error("E0106", at, format!("`revise` has no `{key}`")));
    }
    let Some((text, place)) = table.get("task").and_then(|node| Some((node.text()?, &node.at))) else { return };
    let Some(revised) = making.draft(text) else {
        let known = making.drafts.iter().map(|draft| draft.task.name.as_str()).collect();
        return unknown(loader, "E0202", "task", text, place, known);
    };
    add(loader, making, judge, revised, table, at);
}

fn add(loader: &mut Loader<'_>, making: &mut Making<'_>, judge: usize, revised: usize, table: &Table, at: &At) {
    let name = |making: &Making<'_>, index: usize| making.drafts[index].task.name.to_string();
    let body = body(making, revised, judge);
    let wrong = |message: String, help: &str| Problem::error("E0210", at, message).help(help);
    if revised == judge {
        let message = format!("`{}` would judge itself", name(making, judge));
        return loader.report(wrong(message, "let another task judge, or use `review`"));
    }
    if body.is_empty() {
        let message = format!("`{}` does not get the result of `{}`", name(making, judge), name(making, revised));
        return loader.report(wrong(message, "put the revised task into the judge's `context`"));
    }
    if let Some(other) = body.iter().find(|index| making.drafts[**index].task.in_loop.is_some()) {
        let message = format!("`{}` is in two loops", name(making, *other));
        return loader.report(wrong(message, "a task is revised by one judge; let one loop go round both"));
    }
    let first = &making.drafts[revised].over;
    if let Some(other) = body.iter().find(|index| making.drafts[**index].over != *first) {
        let message =
            format!("`{}` and `{}` do not repeat over the same items", name(making, revised), name(making, *other));
        return loader.report(wrong(message, "every task of a loop has the same `for_each`, or none has one"));
    }
    let per_item = first.is_some();
    let index = making.loops.len();
    for member in &body {
        making.drafts[*member].task.in_loop = Some(index);
    }
    let rounds = table.int("max_rounds").and_then(|n| u32::try_from(n).ok()).unwrap_or(3);
    let on_limit = match table.text("on_limit") {
        Some("fail") => OnLimit::Fail,
        Some("review") => OnLimit::Review,
        Some(_) | None => OnLimit::Accept,
    };
    let (until_unread, debate) = (Condition("".into()), None);
    let made = Loop { body, revised, judge, until: until_unread, max_rounds: rounds, on_limit, per_item, debate };
    making.loops.push(made);
    if let Some(until) = until(loader, making, judge, index, table) {
        making.loops[index].until = until;
    }
}

/// The condition that ends the loop: over every result of the round, the judge's fields also bare.
fn until(
    loader: &mut Loader<'_>,
    making: &mut Making<'_>,
    judge: usize,
    index: usize,
    table: &Table,
) -> Option<Condition> {
    let mut names: BTreeMap<String, Ty> = making.input_types.clone();
    for member in &making.loops[index].body {
        let draft = &making.drafts[*member];
        names.insert(draft.task.name.to_string(), Ty::Result(Box::new(draft.ty.clone())));
    }
    names.insert("round".into(), Ty::Number);
    if let Some(item) = &making.drafts[judge].item {
        names.extend(scope::of(making, judge).into_iter().filter(|(name, _)| name == "index" || name == "key"));
        names.insert("item".into(), item.clone());
    }
    let typing = Typing { names, bare: Some(making.drafts[judge].task.name.to_string()) };
    let node = table.get("until");
    let text = match (node.and_then(Node::text), making.drafts[judge].judges) {
        (Some(text), _) => text,
        (None, Some(_)) => "verdict == 'approve'",
        (None, None) => return None,
    };
    match making.shelf.builder.condition(text, &typing) {
        Ok((condition, _)) => Some(condition),
        Err(faults) => {
            if let Some(node) = node {
                let site = Site::of(loader, node);
                report(loader, &site, faults);
            }
            None
        }
    }
}

/// Tasks on a path from `revised` to `judge`, in an order in which they can run; empty if there is none.
fn body(making: &Making<'_>, revised: usize, judge: usize) -> Vec<usize> {
    let waits = |index: usize| {
        let task = &making.drafts[index].task;
        task.context.iter().chain(&task.after).filter_map(|name| making.draft(name.as_str())).collect::<Vec<_>>()
    };
    let count = making.drafts.len();
    let before: Vec<Vec<usize>> = (0..count).map(waits).collect();
    let mut above = vec![false; count];
    let mut open = vec![judge];
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut above[at], true) {
            open.extend(&before[at]);
        }
    }
    let mut below = vec![false; count];
    below[revised] = true;
    // As many passes as the longest path: a circle is reported elsewhere and ends here too.
    for _ in 0..count {
        let mut changed = false;
        for index in 0..count {
            if !below[index] && before[index].iter().any(|one| below[*one]) {
                below[index] = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let mut rest: Vec<usize> = (0..count).filter(|index| above[*index] && below[*index]).collect();
    if !rest.contains(&judge) || !rest.contains(&revised) {
        return Vec::new();
    }
    let mut order = Vec::new();
    while !rest.is_empty() {
        let ready = rest.iter().position(|index| !before[*index].iter().any(|one| rest.contains(one) && one != index));
        order.push(rest.remove(ready.unwrap_or(0)));
    }
    order
}
