//! Who can come to read what is not to be trusted, and change something then. Invariant: nobody is asked for a
//! yes because of taint who is not named here before the run begins.
//!
//! An upper bound, agent by agent: what the runtime asks follows from what was really read.

use std::collections::BTreeMap;
use std::fmt;

use super::{Crew, Loop, MemoryScope, Over, Task, TaskPrompt, ToolArg, TriggerSource, Who};
use crate::core::ids::Name;
use crate::core::template::TemplateName;

/// An agent (or a task that is one tool call) that may be tainted, with the tools it then needs a yes for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// `filer`, `task post`, `filer of the crew archive`.
    pub who: String,
    pub tools: Vec<String>,
    /// What taints it first.
    pub from: String,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tools = self.tools.join(", ");
        write!(
            f,
            "{} may read what is not to be trusted ({}); {tools} then waits for a person's yes",
            self.who, self.from
        )?;
        write!(f, " (exit 12 without a terminal), unless the table of the tool says `approval = \"never\"`")
    }
}

/// What may taint whom.
#[derive(Default, PartialEq)]
struct Flow {
    /// By task: before it begins, and its result.
    told: Vec<Option<String>>,
    result: Vec<Option<String>>,
    agents: BTreeMap<Name, Option<String>>,
    /// What sub-crews are given.
    crews: BTreeMap<Name, Option<String>>,
}

impl Crew {
    /// Everyone in this crew and its sub-crews whom taint may stop.
    pub fn exposed(&self) -> Vec<Exposed> {
        let files = |trigger: &&super::Trigger| match trigger.source {
            TriggerSource::Watch { .. } => {
                trigger.inputs.values().any(|one| self.templates.names(one).contains(super::EVENT))
            }
            TriggerSource::Cron { .. } => false,
        };
        self.exposed_by(self.triggers.iter().find(files).map(super::Trigger::brings))
    }

    fn exposed_by(&self, given: Option<String>) -> Vec<Exposed> {
        let flow = self.flow(&given);
        let mut out = Vec::new();
        for (name, from) in &flow.agents {
            let tools = self.tasks.iter().filter(|task| matches!(&task.who, Who::Agent(who) if who == name));
            let tools = tools.filter_map(|task| task.tools.as_ref()).chain(self.agents.get(name).map(|a| &a.tools));
            out.extend(self.asking(name.to_string(), tools.flatten(), from));
        }
        for (task, from) in self.tasks.iter().zip(&flow.told) {
            if let Who::Tool { tool, .. } = &task.who {
                out.extend(self.asking(format!("task {}", task.name), [tool], from));
            }
        }
        for (name, sub) in &self.crews {
            let below = sub.crew.exposed_by(flow.crews.get(name).cloned().flatten());
            out.extend(below.into_iter().map(|one| Exposed { who: format!("{} of {name}", one.who), ..one }));
        }
        out
    }

    fn asking<'a>(
        &self,
        who: String,
        tools: impl IntoIterator<Item = &'a String>,
        from: &Option<String>,
    ) -> Option<Exposed> {
        // What asks each time is named as such already.
        let asks =
            |tool: &&String| self.tools.get(*tool).is_some_and(|def| def.asks_if_tainted() && !def.approval.always);
        let mut tools: Vec<String> = tools.into_iter().filter(asks).cloned().collect();
        tools.sort();
        tools.dedup();
        let from = from.clone().filter(|_| !tools.is_empty())?;
        Some(Exposed { who, tools, from })
    }

    fn flow(&self, given: &Option<String>) -> Flow {
        let none = || vec![None; self.tasks.len()];
        let mut flow = Flow { told: none(), result: none(), ..Flow::default() };
        // Grows only: it ends after as many rounds as there are tasks and agents, at the latest.
        loop {
            let next = self.spread(&flow, given);
            if next == flow {
                return flow;
            }
            flow = next;
        }
    }

    fn spread(&self, before: &Flow, given: &Option<String>) -> Flow {
        let known = |of: &BTreeMap<Name, Option<String>>, name: &Name| of.get(name).cloned().flatten();
        // What a child or sub-crew hands back.
        let child = |name: &Name| match self.crews.get(name) {
            Some(sub) => sub.crew.result(&known(&before.crews, name)),
            None => known(&before.agents, name),
        };
        let mut next = Flow::default();
        for (name, agent) in &self.agents {
            let asked_by = self.agents.iter().filter(|(_, by)| by.delegates.contains(name));
            let above = asked_by.filter_map(|(by, _)| known(&before.agents, by)).next();
            let below = agent.delegates.iter().find_map(&child);
            let work = self.tasks.iter().zip(&before.result);
            let mut work = work.filter(|(task, _)| matches!(&task.who, Who::Agent(who) if who == name));
            let from = known(&before.agents, name).or_else(|| given.clone()).or_else(|| self.brings(&agent.tools));
            let from = from.or(above).or(below).or_else(|| work.find_map(|(_, from)| from.clone()));
            next.agents.insert(name.clone(), from);
        }
        for (index, task) in self.tasks.iter().enumerate() {
            let told = before.told[index].clone().or_else(|| given.clone());
            let told = told.or_else(|| self.feeds(task).into_iter().find_map(|other| before.result[other].clone()));
            let own = match &task.who {
                Who::Tool { tool, .. } => self.brings([tool]),
                Who::Crew(name) => child(name),
                Who::Agent(name) => {
                    let agent = self.agents.get(name);
                    let tools = task.tools.as_ref().or(agent.map(|agent| &agent.tools));
                    let keeps = agent.is_some_and(|agent| agent.memory == MemoryScope::Run);
                    let delegates = agent.map(|agent| agent.delegates.as_slice()).unwrap_or_default();
                    let kept = known(&before.agents, name).filter(|_| keeps);
                    tools.and_then(|tools| self.brings(tools)).or(kept).or_else(|| delegates.iter().find_map(&child))
                }
            };
            // The result of the one that stands in for it is its own.
            let rescue = task.on_error.as_ref().and_then(|name| before.result[self.index_of(name)?].clone());
            let result = before.result[index].clone().or_else(|| told.clone()).or(own).or(rescue);
            next.result.push(result);
            next.told.push(told);
        }
        for name in self.crews.keys() {
            let tasks = self.tasks.iter().zip(&before.told);
            let tasks = tasks.filter(|(task, _)| matches!(&task.who, Who::Crew(who) if who == name));
            let tasks = tasks.filter_map(|(_, from)| from.clone());
            let asked_by = self.agents.iter().filter(|(_, by)| by.delegates.contains(name));
            let asked = asked_by.filter_map(|(by, _)| known(&before.agents, by));
            next.crews.insert(name.clone(), known(&before.crews, name).or_else(|| tasks.chain(asked).next()));
        }
        next
    }

    /// What taints the result of the crew.
    fn result(&self, given: &Option<String>) -> Option<String> {
        self.flow(given).result.get(self.output).cloned().flatten()
    }

    /// The first of these tools whose words are not to be trusted.
    fn brings<'a>(&self, tools: impl IntoIterator<Item = &'a String>) -> Option<String> {
        tools.into_iter().find(|tool| self.tools.get(*tool).is_some_and(|def| def.taints)).cloned()
    }

    /// May the words of a task be those of another one that it only comes after? If a template names it.
    pub fn may_quote(&self, task: &Task, other: &Name) -> bool {
        let retries = task.retry.iter().filter_map(|retry| retry.prompt.as_ref());
        let prompts: Vec<&TaskPrompt> = task.prompt.iter().chain(retries).collect();
        // Which one it will be is not known here.
        if prompts.iter().any(|prompt| matches!(prompt, TaskPrompt::Chosen(_))) {
            return true;
        }
        let prompts = prompts.into_iter().filter_map(|prompt| match prompt {
            TaskPrompt::Fixed(template) => Some(template),
            TaskPrompt::Chosen(_) => None,
        });
        let who: Vec<&TemplateName> = match &task.who {
            Who::Agent(name) => self.agents.get(name).map(|agent| &agent.system).into_iter().collect(),
            Who::Crew(name) => self.crews.get(name).into_iter().flat_map(|sub| sub.inputs.values()).collect(),
            Who::Tool { args, .. } => {
                let templates = args.values().filter_map(|arg| match arg {
                    ToolArg::Template(template) => Some(template),
                    ToolArg::Value(_) => None,
                });
                templates.collect()
            }
        };
        let mut all = prompts.chain(&task.expected_output).chain(who);
        all.any(|template| self.templates.names(template).contains(other.as_str()))
    }

    /// Tasks whose results may be part of what this one is told.
    fn feeds(&self, task: &Task) -> Vec<usize> {
        let list = task.repeat.as_ref().and_then(|repeat| match &repeat.over {
            Over::Result { task, .. } => Some(task),
            Over::Rows(_) => None,
        });
        let after = task.after.iter().filter(|name| self.may_quote(task, name));
        let named = task.context.iter().chain(after).chain(list).chain(&task.rescues);
        let mut all: Vec<usize> = named.filter_map(|name| self.index_of(name)).collect();
        let own = task.in_loop.map(|at| &self.loops[at]);
        let closes =
            self.loops.iter().filter(|looped| looped.debate.is_some_and(|at| self.tasks[at].name == task.name));
        all.extend(own.into_iter().chain(closes).flat_map(|looped: &Loop| &looped.body));
        all
    }
}
