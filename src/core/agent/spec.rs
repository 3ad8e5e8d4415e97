//! What a step demands of the agent that works on it, read from the crew. Pure in crew and step.

use std::sync::Arc;

use crate::core::chat::Settings;
use crate::core::crew::{self, Crew, Guardrail, Model, Place, Retry, TaskApproval, Who};
use crate::core::ids::{AgentRef, Step};
use crate::core::schema::Schema;

/// Settings in force: task over agent over model.
#[derive(Debug)]
pub struct Spec {
    pub crew: Arc<Crew>,
    /// `None` for a task that is one tool call.
    pub role: Option<Arc<crew::Agent>>,
    pub model: Option<Arc<Model>>,
    pub settings: Settings,
    pub tools: Vec<String>,
    pub schema: Option<Arc<Schema>>,
    pub guardrails: Vec<Guardrail>,
    /// A person says whether the result counts.
    pub asks_after: bool,
    pub attempts: u32,
    pub retry: Arc<[Retry]>,
    /// Running time of one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// A failure is handed on (a child's to its parent, or `on_error` to its task), not put to a person.
    pub failure_returns: bool,
    /// Levels below a task of the file.
    pub depth: u32,
    /// The task's own `max_output`.
    stated_output: Option<u64>,
    /// No answer is longer, whichever model gives it, in tokens.
    pub most_output: u64,
    /// The model is one that the run went on with when its budget was used up.
    pub degraded: bool,
}

/// Attempts of a delegated task, which has no table of its own.
const CHILD_ATTEMPTS: u32 = 3;
/// Running time of a tool task that states none: the tool's own limit is what binds.
const TOOL_TASK_TIMEOUT_MS: u64 = 600_000;

impl Spec {
    /// `None` if the crew has no such step or agent: the journal is another crew's.
    pub fn of(crew: &Arc<Crew>, step: &Step, agent: &AgentRef) -> Option<Spec> {
        let places = crew.places(step)?;
        let depth = places.iter().rev().take_while(|place| matches!(place, Place::Delegated { .. })).count() as u32;
        match places.last()? {
            Place::Task { crew, task } => {
                let role = crew.agents.get(&agent.name).filter(|_| matches!(task.who, Who::Agent(_))).cloned();
                let model = task.model.clone().or_else(|| role.as_ref().map(|role| role.model.clone()));
                let mut settings = model.as_ref().map(|model| model.settings.clone()).unwrap_or_default();
                settings.max_output = task.max_output.unwrap_or(settings.max_output);
                let tools = task.tools.clone().or_else(|| role.as_ref().map(|role| role.tools.clone()));
                let timeout_ms = task.timeout_ms.or(role.as_ref().map(|role| role.timeout_ms));
                Some(Spec {
                    crew: (*crew).clone(),
                    model,
                    settings,
                    tools: tools.unwrap_or_default(),
                    schema: task.schema.clone(),
                    guardrails: task.guardrails.clone(),
                    asks_after: task.approval == TaskApproval::After,
                    attempts: task.attempts,
                    retry: task.retry.clone(),
                    timeout_ms: timeout_ms.unwrap_or(TOOL_TASK_TIMEOUT_MS),
                    failure_returns: task.on_error.is_some() || task.optional,
                    depth,
                    role,
                    stated_output: task.max_output,
                    most_output: u64::MAX,
                    degraded: false,
                })
            }
            Place::Delegated { crew, agent: role } => Some(Spec {
                crew: (*crew).clone(),
                role: Some((*role).clone()),
                model: Some(role.model.clone()),
                settings: role.model.settings.clone(),
                tools: role.tools.clone(),
                schema: None,
                guardrails: Vec::new(),
                asks_after: false,
                attempts: CHILD_ATTEMPTS,
                retry: Arc::default(),
                timeout_ms: role.timeout_ms,
                failure_returns: true,
                depth,
                stated_output: None,
                most_output: u64::MAX,
                degraded: false,
            }),
            Place::DelegatedCrew { .. } => None,
        }
    }

    /// The same after so many steps of the top crew's `degrade`.
    pub fn after(mut self, top: &Arc<Crew>, steps: u32, who: &AgentRef) -> Spec {
        // Models are given to the agents of that file; a sub-crew's agent of the same name is another.
        let own = steps > 0 && Arc::ptr_eq(&self.crew, top);
        if let Some(model) = top.budget.model_after(steps, &who.name).filter(|_| own && self.model.is_some()) {
            self.settings = model.settings.clone();
            self.settings.max_output = self.stated_output.unwrap_or(self.settings.max_output);
            self.model = Some(model.clone());
            self.retry = self.retry.iter().map(|entry| Retry { model: None, ..entry.clone() }).collect();
            self.degraded = true;
        }
        self.most_output = top.budget.output_after(steps);
        self.settings.max_output = self.settings.max_output.min(self.most_output);
        self
    }
}
