//! What every template and condition may name. Invariant: a name that passes here has a value (or
//! is none) whenever the template is rendered.

use std::collections::{BTreeMap, BTreeSet};

use super::Loader;
use super::doc::Node;
use super::make::Making;
use super::problem::Problem;
use super::prompts::{Shelf, Site, report};
use crate::core::crew::{Guardrail, Who};
use crate::core::ids::Name;
use crate::core::nearest::nearest;
use crate::core::template::{TemplateName, Ty, Typing, Use};

fn object(fields: &[&str]) -> Ty {
    Ty::Object { fields: fields.iter().map(|field| ((*field).to_owned(), Ty::Text)).collect(), open: false }
}

/// Names that every template of the crew sees.
pub(super) fn base(making: &Making<'_>) -> BTreeMap<String, Ty> {
    let mut names = making.input_types.clone();
    names.insert("agent".into(), object(&["name", "role", "goal", "backstory"]));
    names.insert("crew".into(), object(&["name", "description"]));
    names.insert("run".into(), object(&["id"]));
    names.insert("attempt".into(), Ty::Number);
    names
}

/// Names that the templates of one task see.
pub(super) fn of(making: &Making<'_>, index: usize) -> BTreeMap<String, Ty> {
    let draft = &making.drafts[index];
    let mut names = base(making);
    for name in draft.task.context.iter().chain(&draft.task.after) {
        let Some(other) = making.draft(name.as_str()).map(|at| &making.drafts[at]) else { continue };
        let joined = draft.over.is_some() && draft.over == other.over && draft.task.context.contains(name);
        let ty = if joined { Ty::Result(Box::new(other.ty.clone())) } else { other.result() };
        names.insert(name.to_string(), ty);
    }
    if let Some(item) = &draft.item {
        names.insert("item".into(), item.clone());
        names.insert("index".into(), Ty::Number);
        names.insert("key".into(), Ty::Text);
    }
    if draft.node("window").is_some() {
        names.insert("window".into(), Ty::Result(Box::new(Ty::Text)));
    }
    if let Some(at) = draft.task.in_loop.and_then(|at| making.loops.get(at)) {
        names.insert("previous".into(), Ty::Result(Box::new(draft.ty.clone())));
        names.insert("feedback".into(), Ty::Result(Box::new(making.drafts[at.judge].ty.clone())));
        names.insert("round".into(), Ty::Number);
    }
    super::debate::scope(making, index, &mut names);
    if draft.task.rescues.is_some() {
        let mut fields = object(&["step", "class", "message"]);
        if let Ty::Object { fields, .. } = &mut fields {
            fields.insert("attempts".into(), Ty::Number);
        }
        names.insert("error".into(), fields);
    }
    names
}

/// `when`: sees inputs and every result; what it names is waited for.
pub(super) fn conditions(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    for index in 0..making.drafts.len() {
        let Some(node) = making.drafts[index].node("when").filter(|node| node.text().is_some()) else { continue };
        let mut names = making.input_types.clone();
        names.extend(making.drafts.iter().map(|draft| (draft.task.name.to_string(), draft.result())));
        let own = making.drafts[index].task.name.clone();
        names.remove(own.as_str());
        let site = Site::of(loader, node);
        match making.shelf.builder.condition(node.text().unwrap_or_default(), &Typing { names, bare: None }) {
            Ok((condition, uses)) => {
                let tasks: BTreeSet<Name> = uses.iter().filter_map(|one| Name::new(&one.name).ok()).collect();
                let tasks = tasks.into_iter().filter(|name| making.draft(name.as_str()).is_some()).collect::<Vec<_>>();
                let draft = &mut making.drafts[index];
                draft.task.when = Some(condition);
                for name in tasks {
                    if !draft.task.context.contains(&name) && !draft.task.after.contains(&name) {
                        draft.named.insert(name.clone(), node.at.clone());
                        draft.task.after.push(name);
                    }
                }
            }
            Err(faults) => {
                making.unsure = true;
                report(loader, &site, faults);
            }
        }
    }
}

/// Everything that templates say, against what they may say.
pub(super) fn templates(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    for index in 0..making.drafts.len() {
        let known = of(making, index);
        let data = making.drafts[index].item_is_data;
        making.shelf.builder.item_is_data(data);
        super::instructions::read(loader, making, index, &known);
        guardrails(loader, making, index, &known);
        let name = making.drafts[index].task.name.clone();
        match making.drafts[index].task.who.clone() {
            Who::Agent(agent) => {
                let Some(role) = making.agents.get(&agent) else { continue };
                let system = role.agent.system.clone();
                check(loader, &making.shelf, &system, &known, &format!("the task `{name}`"), &[]);
            }
            Who::Crew(crew) => sub_crew(loader, making, index, &crew, &known),
            Who::Tool { args, .. } => {
                for template in args.values() {
                    if let crate::core::crew::ToolArg::Template(template) = template {
                        check(loader, &making.shelf, template, &known, &format!("the task `{name}`"), &[]);
                    }
                }
            }
        }
    }
    let known = base(making);
    let delegated: Vec<Name> = making.delegated.iter().cloned().collect();
    for name in delegated {
        if let Some(role) = making.agents.get(&name) {
            let who = format!("work delegated to `{name}`");
            check(loader, &making.shelf, &role.agent.system, &known, &who, &[]);
        }
    }
}

/// A task that is a sub-crew gives it all it needs.
fn sub_crew(loader: &mut Loader<'_>, making: &Making<'_>, index: usize, crew: &Name, known: &BTreeMap<String, Ty>) {
    let Some(sub) = making.crews.get(crew) else { return };
    let draft = &making.drafts[index];
    let who = format!("the task `{}`", draft.task.name);
    for template in sub.inputs.values() {
        check(loader, &making.shelf, template, known, &who, &[]);
    }
    for input in &sub.crew.inputs {
        if input.default.is_none() && !sub.inputs.contains_key(&input.name) {
            let message = format!("the sub-crew `{crew}` needs the input `{}`", input.name);
            let help = format!("write `inputs = {{ {} = \"…\" }}` in [crews.{crew}]", input.name);
            loader.report(Problem::error("E0205", &draft.at, message).help(help));
        }
    }
}

fn guardrails(loader: &mut Loader<'_>, making: &mut Making<'_>, index: usize, known: &BTreeMap<String, Ty>) {
    let Some(nodes) = making.drafts[index].node("guardrails").and_then(Node::list).map(<[Node]>::to_vec) else {
        return;
    };
    let mut names = known.clone();
    names.insert("output".into(), Ty::Result(Box::new(making.drafts[index].ty.clone())));
    let typing = Typing { names, bare: Some("output".into()) };
    for node in &nodes {
        let (check, say) = match node.table() {
            Some(table) => (table.get("if"), table.text("say")),
            None => (Some(node), None),
        };
        let Some((check, text)) = check.and_then(|check| Some((check, check.text()?))) else {
            if node.table().is_some_and(|table| table.get("if").is_none()) {
                let problem = Problem::error("E0106", &node.at, "a guardrail has no `if`");
                loader.report(problem.help("write a condition, or `{ if = \"…\", say = \"…\" }`"));
            }
            continue;
        };
        let site = Site::of(loader, check);
        match making.shelf.builder.condition(text, &typing) {
            Ok((condition, _)) => {
                let say = say.map_or_else(|| format!("The result does not pass this check: {text}"), str::to_owned);
                making.drafts[index].task.guardrails.push(Guardrail { check: condition, say });
            }
            Err(faults) => report(loader, &site, faults),
        }
    }
}

/// Reports what a template and its includes use and `known` does not have.
pub(super) fn check(
    loader: &mut Loader<'_>,
    shelf: &Shelf,
    template: &TemplateName,
    known: &BTreeMap<String, Ty>,
    who: &str,
    optional: &[String],
) {
    let mut open = vec![template.clone()];
    let mut seen = BTreeSet::new();
    let mut free: BTreeSet<String> = optional.iter().cloned().collect();
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        free.extend(shelf.builder.optional_of(&name).into_iter().flatten().cloned());
        let Some(site) = shelf.site(&name) else { continue };
        let used: Vec<Use> = shelf
            .builder
            .uses(&name)
            .iter()
            .filter(|one| known.contains_key(&one.name) || !free.contains(&one.name))
            .cloned()
            .collect();
        uses(loader, &used, site, known, who);
        open.extend(shelf.builder.includes(&name).iter().cloned());
    }
}

/// Reports uses that `known` does not have; true if there are none.
pub(super) fn uses(
    loader: &mut Loader<'_>,
    uses: &[Use],
    site: &Site,
    known: &BTreeMap<String, Ty>,
    who: &str,
) -> bool {
    let mut clean = true;
    for one in uses {
        let at = site.place(&one.range);
        let Some(ty) = known.get(&one.name) else {
            clean = false;
            let near = nearest(&one.name, known.keys().map(String::as_str));
            let own = ["agent", "crew", "run", "attempt"];
            let listed = known.keys().map(String::as_str).filter(|name| !own.contains(name)).collect::<Vec<_>>();
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if listed.is_empty() => "there are no inputs, and no task is in its `context`".to_owned(),
                None => {
                    format!("known there: {}; a task's result is known by naming it in `context`", listed.join(", "))
                }
            };
            let message = format!("`{}` has no value in {who}", one.name);
            loader.report(Problem::error("E0402", &at, message).help(help));
            continue;
        };
        if let Some((field, help)) = ty.missing(&one.path) {
            clean = false;
            let message = format!("`{}` has no field `{field}`", one.name);
            loader.report(Problem::error("E0408", &at, message).help(help));
        }
    }
    clean
}
