//! `[agents]`. Invariant: an agent's model, prompt, tools and delegates exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::doc::{Entry, Table};
use super::make::Making;
use super::models::Layer;
use super::problem::{At, Problem};
use super::values::time;
use super::{Loader, budget};
use crate::core::crew::{Agent, MemoryScope};
use crate::core::ids::Name;
use crate::core::nearest::nearest;
use crate::core::template::TemplateName;

/// An agent before its crew is complete.
pub(super) struct Role {
    pub at: At,
    pub agent: Arc<Agent>,
    /// What the agent and its prompt's front matter state about its model, nearest first.
    pub layers: [Layer; 2],
    pub used: bool,
}

const CONTEXT_TOKENS: u64 = 32_000;

pub(super) fn read(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    let doc = making.doc;
    let entries = doc.table("agents").map(|table| table.entries.as_slice()).unwrap_or_default();
    for entry in entries {
        if let (Ok(name), Some(table)) = (Name::new(&entry.key), entry.node.table()) {
            role(loader, making, &name, entry, table);
        }
    }
    delegates(loader, making, entries);
}

fn role(loader: &mut Loader<'_>, making: &mut Making<'_>, name: &Name, entry: &Entry, table: &Table) {
    let system = system(loader, making, name, table);
    let front = system.as_ref().and_then(|system| making.shelf.front(system)).cloned().unwrap_or_default();
    let text = |key: &str| table.text(key).or(front.text(key)).unwrap_or_default().to_owned();
    for key in ["role", "goal", "backstory"] {
        if let Some(node) = table.get(key).filter(|node| node.text().is_some_and(|text| text.contains("{{"))) {
            let problem = Problem::error("E0403", &node.at, format!("`{key}` is plain text, not a template"));
            loader.report(problem.help("put it into a prompt file, or into a task's `description`"));
        }
    }
    let layers = [Layer::of(table), Layer::of(&front)];
    let Some(model) = making.models.resolve(loader, &[&layers[0], &layers[1]]) else {
        let overrides = loader.options.overrides;
        let instead = overrides.offline || overrides.model.is_some() || overrides.usual_model.is_some();
        let stated = table.get("model").or(front.get("model")).is_some();
        if !instead && !stated {
            let problem = Problem::error("E0106", &entry.key_at, format!("the agent `{name}` has no `model`"));
            loader.report(problem.help("write `model = \"provider/model-id\"`, or an alias of [models]"));
        }
        making.broken.insert(name.clone());
        return;
    };
    let stated = table.get("tools").is_some();
    let tools = if stated { table.texts("tools") } else { front.texts("tools") };
    let mut tools: Vec<(String, At)> = tools.into_iter().map(|(tool, at)| (tool.to_owned(), at.clone())).collect();
    if !stated {
        tools.retain(|(tool, at)| super::yaml::offered(loader, making, tool, at));
    }
    let tools = super::tools::offered(loader, making, &tools);
    let int = |key: &str, default: u64| u32::try_from(table.int(key).unwrap_or(default)).unwrap_or(u32::MAX);
    let mut max_turns = int("max_turns", 12);
    if let Some(most) = loader.options.overrides.max_turns {
        max_turns = max_turns.min(most.max(1));
    }
    let window = model.context_window.map(|window| window.saturating_sub(model.settings.max_output));
    let stated = table.get("role").is_some() || front.get("role").is_some();
    let agent = Agent {
        name: name.clone(),
        role: if stated { text("role") } else { words(name) },
        goal: text("goal"),
        backstory: text("backstory"),
        system: system.unwrap_or(TemplateName("".into())),
        tools,
        delegates: Vec::new(),
        memory: if table.text("memory") == Some("run") { MemoryScope::Run } else { MemoryScope::Task },
        max_turns,
        max_tool_calls: int("max_tool_calls", 8),
        max_children: int("max_children", 8),
        max_depth: int("max_depth", 2),
        context_tokens: table.int("context_tokens").or(window.filter(|n| *n > 0)).unwrap_or(CONTEXT_TOKENS),
        max_prompt_tokens: front.int("max_prompt_tokens"),
        max_parallel: table.int("max_parallel").and_then(|n| usize::try_from(n).ok()),
        budget: budget::node(table),
        timeout_ms: table.text("timeout").and_then(|text| time(text).ok()).unwrap_or(600_000),
        model,
    };
    let role = Role { at: entry.key_at.clone(), agent: Arc::new(agent), layers, used: false };
    making.agents.insert(name.clone(), role);
}

/// `senior_writer` as `senior writer`.
fn words(name: &Name) -> String {
    name.as_str().replace('_', " ")
}

/// The agent's prompt file, else the built-in one.
fn system(loader: &mut Loader<'_>, making: &mut Making<'_>, name: &Name, table: &Table) -> Option<TemplateName> {
    if let Some((path, at)) = table.get("prompt").and_then(|node| Some((node.text()?, &node.at))) {
        return making.shelf.prompt(loader, path, at);
    }
    if making.shelf.exists(loader, name.as_str()) {
        return making.shelf.prompt(loader, name.as_str(), &At::file(&making.file));
    }
    Some(making.shelf.builtin("role"))
}

fn delegates(loader: &mut Loader<'_>, making: &mut Making<'_>, entries: &[Entry]) {
    let known: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    let crews: Vec<String> =
        making.doc.table("crews").map(|t| t.entries.iter().map(|e| e.key.clone()).collect()).unwrap_or_default();
    for entry in entries {
        if crews.contains(&entry.key) {
            let message = format!("an agent and a sub-crew are both called `{}`", entry.key);
            loader.report(Problem::error("E0113", &entry.key_at, message));
        }
        let mut names = Vec::new();
        for (to, at) in entry.node.table().map(|table| table.texts("delegates")).unwrap_or_default() {
            if to == entry.key {
                loader.report(Problem::error("E0201", at, format!("`{to}` delegates to itself")));
            } else if known.iter().chain(&crews).any(|known| known == to) {
                names.extend(Name::new(to));
                making.delegated.extend(Name::new(to));
            } else {
                let all = known.iter().chain(&crews).map(String::as_str);
                unknown(loader, "E0201", "agent or sub-crew", to, at, all.collect());
            }
        }
        if let Some(role) = making.agents.get_mut(entry.key.as_str()) {
            let agent = Agent { delegates: names, ..(*role.agent).clone() };
            role.agent = Arc::new(agent);
        }
    }
}

/// Reports a name that nothing has.
pub(super) fn unknown(loader: &mut Loader<'_>, code: &'static str, what: &str, name: &str, at: &At, known: Vec<&str>) {
    // A table whose name is none is refused where it stands, and nothing to suggest.
    let named = ["E0201", "E0202"].contains(&code);
    let known: Vec<&str> = known.into_iter().filter(|name| !named || Name::new(name).is_ok()).collect();
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there is no {what} at all"),
        None => format!("there are: {}", known.join(", ")),
    };
    let found: String = name.chars().take(80).collect();
    loader.report(Problem::error(code, at, format!("there is no {what} `{found}`")).help(help));
}

/// Agents as the crew holds them.
pub(super) fn finish(roles: BTreeMap<Name, Role>) -> BTreeMap<Name, Arc<Agent>> {
    roles.into_iter().map(|(name, role)| (name, role.agent)).collect()
}
