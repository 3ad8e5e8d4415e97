//! A crew, valid by construction. Invariant: every name in a [`Crew`] resolves, every loop and
//! fan-out is bounded, every template compiles and knows its variables; whoever holds a `Crew`
//! never meets a mistake of its author again.
//!
//! Built by `adapters::crewfile`, which reports every problem of all files in one pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chat::Settings;
use super::failure::{Parameter, Refuses};
use super::ids::Name;
use super::money::{Caps, NanoUsd, Price};
use super::rules::Table;
use super::schema::Schema;
use super::template::{Condition, TemplateName, Templates};

mod approval;
mod bind;
mod degrade;
mod http;
mod overrides;
mod place;
mod repeat;
mod retry;
mod server;
mod taint;
mod tool;
mod trigger;
pub use approval::{ASK_HUMAN, Approval, TaskApproval};
pub use degrade::Degrade;
pub use http::{HttpCall, variable};
pub use overrides::Overrides;
pub use place::Place;
pub use repeat::{Loop, OnLimit, Over, Repeat, Row};
pub use retry::{Retry, retries};
pub use server::{Grant, Link, OAuth, Server};
pub use taint::Exposed;
pub use tool::{ToolDef, ToolPlaces, ToolSource};
pub use trigger::{EVENT, Notify, Overlap, Trigger, TriggerSource};

/// Budget a crew has where nobody states one.
pub const DEFAULT_CAPS: Caps =
    Caps { usd: Some(NanoUsd(1_000_000_000)), tokens: Some(super::money::Tokens(1_000_000)), calls: Some(1000) };

#[derive(Debug)]
pub struct Crew {
    pub name: String,
    /// The file it was read from, as its author would name it.
    pub file: String,
    pub description: String,
    pub inputs: Vec<Input>,
    pub budget: Budget,
    /// Tasks at once in this crew, waiting ones not counted.
    pub max_parallel: usize,
    /// Running time of the run, in milliseconds. Of the top crew only.
    pub deadline_ms: Option<u64>,
    pub on_failure: OnFailure,
    /// The task whose result is the crew's: an index into `tasks`.
    pub output: usize,
    /// In document order; `tasks` made by `review` follow the task they judge.
    pub tasks: Vec<Task>,
    pub loops: Vec<Loop>,
    pub agents: BTreeMap<Name, Arc<Agent>>,
    pub crews: BTreeMap<Name, SubCrew>,
    /// Every tool that some agent or task of this crew may call, by name, with its validator.
    pub tools: BTreeMap<String, Arc<ToolDef>>,
    pub notify: Option<Notify>,
    /// Of the top crew only.
    pub triggers: Vec<Trigger>,
    pub templates: Templates,
    /// Turns that no longer fit are summed up before they go. Not in runs of before there were summaries.
    pub summaries: bool,
    /// The rules that its runs go by.
    pub rules: Table,
}

#[derive(Clone, Debug)]
pub struct Input {
    pub name: Name,
    pub kind: InputKind,
    pub default: Option<serde_json::Value>,
    pub choices: Vec<serde_json::Value>,
    pub description: String,
    /// The value is never stored: prompts hold a mark, the client puts it in at the socket.
    pub secret: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    String,
    Int,
    Number,
    Bool,
    Path,
    Json,
}

/// Limits and their warnings of one crew.
#[derive(Clone, Debug)]
pub struct Budget {
    pub caps: Caps,
    /// Where the caps come from, for the first line of `run`: `default`, `crews/x.toml`, `--max-usd`.
    pub origin: String,
    /// Thousandths of each cap at which an alert is raised, ascending.
    pub warn_at: Vec<u32>,
    /// Amounts at which an alert is raised, ascending.
    pub alert_usd: Vec<NanoUsd>,
    pub on_exhausted: OnExhausted,
    /// Money of a UTC day over all runs of the (top) crew in a state folder.
    pub per_day: Option<NanoUsd>,
    /// What is given up, in this order, before `on_exhausted` counts. Of the top crew only.
    pub degrade: Vec<Degrade>,
    /// Models without a price may be called (then only tokens and calls bound them).
    pub allow_unpriced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhausted {
    Pause,
    /// Every task goes straight to its ending, which is set aside for.
    Finish,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    Continue,
    Stop,
}

/// Caps of a task, agent or sub-crew; `share` is in thousandths of the parent's cap, re-read at each hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeBudget {
    pub caps: Caps,
    pub share: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct Model {
    /// How crew and lists name it: an alias, or `provider/model-id`.
    pub name: String,
    pub provider: Name,
    /// The provider's id of the model.
    pub id: Arc<str>,
    pub price: Pricing,
    pub context_window: Option<u64>,
    /// Of its prompts; `None`: a token a byte.
    pub tokenizer: Option<Tokenizer>,
    pub settings: Settings,
    /// Models to go on with where this one refuses; they have none of their own.
    pub fallback: Vec<Arc<Model>>,
    pub extra: Arc<serde_json::Map<String, serde_json::Value>>,
    /// As the table of models knew when the run was started.
    pub refuses: Refuses,
}

impl Model {
    /// `provider/model-id`.
    pub fn full_id(&self) -> String {
        format!("{}/{}", self.provider, self.id)
    }
    /// Would setting a temperature change nothing, because its provider answers 400 to any?
    pub fn refuses_temperature(&self) -> bool {
        self.refuses.refuses(Parameter::Temperature, &self.settings)
    }
}

/// How a model counts its prompt, where that is known to the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenizer {
    O200k,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pricing {
    Priced(Price),
    /// Runs on this machine or is a stand-in: no money, bounded by tokens.
    Local,
    /// No price is known and the crew says `unpriced = "allow"`: money cannot bound it.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryScope {
    /// Each task starts clean; the rounds of a loop carry on.
    Task,
    /// One actor, its turns carried over its tasks.
    Run,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub name: Name,
    pub role: String,
    pub goal: String,
    pub backstory: String,
    /// System message: the agent's prompt file, or the built-in one.
    pub system: TemplateName,
    /// With every setting that the agent and its prompt's front matter state laid over the model's.
    pub model: Arc<Model>,
    /// Names in [`Crew::tools`], in the order they are offered.
    pub tools: Vec<String>,
    pub delegates: Vec<Name>,
    pub memory: MemoryScope,
    pub max_turns: u32,
    pub max_tool_calls: u32,
    pub max_children: u32,
    pub max_depth: u32,
    /// Tokens (o200k) of a prompt before it is shrunk.
    pub context_tokens: u64,
    pub max_prompt_tokens: Option<u64>,
    pub max_parallel: Option<usize>,
    pub budget: NodeBudget,
    /// Running time of one attempt, in milliseconds.
    pub timeout_ms: u64,
}

#[derive(Debug)]
pub struct SubCrew {
    pub crew: Arc<Crew>,
    /// Inputs that the calling crew fixes, templates over its own scope.
    pub inputs: BTreeMap<Name, TemplateName>,
    pub budget: NodeBudget,
}

#[derive(Debug)]
pub struct Task {
    pub name: Name,
    pub who: Who,
    /// The user message. `None` only for `Who::Tool` and `Who::Crew`.
    pub prompt: Option<TaskPrompt>,
    pub expected_output: Option<TemplateName>,
    pub schema: Option<Arc<Schema>>,
    /// Path relative to the project root.
    pub output_file: Option<TemplateName>,
    pub guardrails: Vec<Guardrail>,
    /// Tasks whose results it gets.
    pub context: Vec<Name>,
    /// Tasks whose end it waits for: `after`, and what `when` names.
    pub after: Vec<Name>,
    pub when: Option<Condition>,
    pub optional: bool,
    /// The task that runs with this one's failure and whose result stands in.
    pub on_error: Option<Name>,
    /// Set on a task that some `on_error` names: it runs only then.
    pub rescues: Option<Name>,
    pub repeat: Option<Repeat>,
    /// Index into [`Crew::loops`] of the loop whose body this task is in.
    pub in_loop: Option<usize>,
    pub approval: TaskApproval,
    /// Counted attempts, then `on_error` or review.
    pub attempts: u32,
    /// Entry k (from 1) applies to attempt k + 1.
    pub retry: Arc<[Retry]>,
    /// Running time of one attempt, in milliseconds; the agent's where the task states none.
    pub timeout_ms: Option<u64>,
    pub budget: NodeBudget,
    /// What the task narrows: the agent's model with the task's settings laid over it.
    pub model: Option<Arc<Model>>,
    pub max_output: Option<u64>,
    pub tools: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
pub enum Who {
    Agent(Name),
    /// A sub-crew of [`Crew::crews`].
    Crew(Name),
    /// A tool called without a model; each argument is a template or a plain value.
    Tool {
        tool: String,
        args: BTreeMap<String, ToolArg>,
    },
}

#[derive(Clone, Debug)]
pub enum ToolArg {
    Template(TemplateName),
    Value(serde_json::Value),
}

#[derive(Clone, Debug)]
pub enum TaskPrompt {
    /// A description or a prompt file, known when the crew was compiled.
    Fixed(TemplateName),
    /// The path of a prompt file is itself a template over the item (`section/{{ item.kind }}`). For
    /// rows of a file each is resolved and checked at compile time; for a list in a result the
    /// rendered path must be one of [`Templates`]' names, else the item fails with the names there are.
    Chosen(TemplateName),
}

#[derive(Clone, Debug)]
pub struct Guardrail {
    /// Sees `output` and the task's scope.
    pub check: Condition,
    /// What the next attempt reads.
    pub say: String,
}

impl Crew {
    pub fn task(&self, name: &Name) -> Option<&Task> {
        self.tasks.iter().find(|task| &task.name == name)
    }
    pub fn index_of(&self, name: &Name) -> Option<usize> {
        self.tasks.iter().position(|task| &task.name == name)
    }
}
