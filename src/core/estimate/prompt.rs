//! How long a prompt can get. Of texts that are known, a token a byte: no byte-level tokeniser counts
//! more. Of results, the `max_output` of whoever writes them.

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(test)]
use crate::core::builtin;
use crate::core::crew::{self, Crew, Loop, Over, Task, TaskPrompt, Who};
use crate::core::ids::Name;
use crate::core::template::{Scope, TemplateName, Templates};

/// Bytes taken for an input that is not known yet.
pub const UNKNOWN_INPUT: u64 = 2_000;
/// What a message, a tool or a request costs beside its text: JSON, roles, separators.
const OVERHEAD: u64 = 96;
/// Fences and headings around a result.
const FENCE: u64 = 160;

/// Sizes of a step's prompts, in tokens.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// The first prompt, at most.
    pub base: u64,
    /// What a turn adds, at most: the answer and its tools' results.
    pub growth: u64,
    /// What a second attempt or a conclusion adds.
    pub note: u64,
    /// No prompt is longer: `context_tokens` and what is sent beside the memory.
    pub cap: u64,
    /// The first prompt as it will probably be: four bytes a token, results half as long as they may be.
    pub expected: u64,
    pub growth_expected: u64,
}

impl Longest {
    pub fn of_task(
        crew: &Arc<Crew>,
        index: usize,
        role: &crew::Agent,
        tools: &[String],
        output: u64,
        inputs: &BTreeMap<Name, serde_json::Value>,
    ) -> Longest {
        let task = &crew.tasks[index];
        let sizes = Sizes { crew, index, inputs, per_token: 2 };
        let mut size = Size::default();
        size = size.plus(sizes.template(&role.system));
        let told = |prompt: Option<&TaskPrompt>| match prompt {
            Some(TaskPrompt::Fixed(name)) => sizes.template(name),
            // Any prompt file may be chosen.
            Some(TaskPrompt::Chosen(_)) => Size::endless(),
            None => Size::default(),
        };
        let own = told(task.prompt.as_ref());
        let later = task.retry.iter().map(|entry| told(entry.prompt.as_ref()).most).max();
        size = size.plus(Size { most: own.most.max(later.unwrap_or(0)), likely: own.likely });
        if let Some(expected) = &task.expected_output {
            size = size.plus(sizes.template(expected));
        }
        let schema = task.schema.as_ref().map_or(0, |schema| schema.json().to_string().len() as u64);
        size = size.plus(Size::text(schema.saturating_mul(4)));
        for name in &task.context {
            size = size.plus(sizes.result(name));
        }
        if let Some(window) = task.repeat.as_ref().and_then(|repeat| repeat.window) {
            size = size.plus(Size { most: window.saturating_add(FENCE), likely: window });
        }
        if let Some(looped) = debate(crew, index) {
            size = size.plus(sizes.voices(looped, output));
        } else if task.in_loop.is_some() {
            // `previous`, `feedback` and the words around them.
            let judge = task.in_loop.map_or(0, |at| sizes.output_of(&crew.tasks[crew.loops[at].judge]));
            let both = output.saturating_add(judge);
            size = size.plus(Size { most: both.saturating_mul(2).saturating_add(2_000), likely: both / 4 });
        }
        let extras = extras(crew, role, tools).saturating_add(schema);
        Longest::with(size, extras, role, crew, tools, output)
    }

    pub fn of_child(crew: &Arc<Crew>, role: &crew::Agent, output: u64) -> Longest {
        let index = usize::MAX;
        let inputs = BTreeMap::new();
        let sizes = Sizes { crew, index, inputs: &inputs, per_token: 2 };
        let size = sizes.template(&role.system).plus(Size { most: u64::MAX / 4, likely: 400 });
        Longest::with(size, extras(crew, role, &role.tools), role, crew, &role.tools, output)
    }

    fn with(size: Size, extras: u64, role: &crew::Agent, crew: &Arc<Crew>, tools: &[String], output: u64) -> Longest {
        let calls = u64::from(role.max_tool_calls);
        let named = tools.iter().filter_map(|name| crew.tools.get(name)).map(|tool| tool.spec.max_result);
        let delegates = if role.delegates.is_empty() { None } else { Some(role.context_tokens) };
        let result = named.chain(delegates).max();
        // Results of refused calls name the tools and the schema.
        let result = result.map_or(0, |most| most.max(extras).saturating_add(OVERHEAD));
        let growth = output.saturating_add(OVERHEAD).saturating_add(result.saturating_mul(calls));
        let messages = u64::from(role.max_turns).saturating_mul(calls + 2).saturating_add(8);
        let window = role.context_tokens.min(role.max_prompt_tokens.unwrap_or(u64::MAX));
        let beside = extras.saturating_add(OVERHEAD).saturating_add(messages.saturating_mul(8));
        Longest {
            base: size.most.saturating_add(extras).saturating_add(4 * OVERHEAD),
            growth,
            note: output.saturating_add(2_000),
            cap: window.saturating_add(beside),
            expected: size.likely.saturating_add(extras / 4).saturating_add(32),
            growth_expected: output / 4 + result / 4,
        }
    }
}

/// The debate that a task speaks in or closes.
fn debate(crew: &Crew, index: usize) -> Option<&Loop> {
    let part = |looped: &&Loop| looped.debate == Some(index) || looped.body.contains(&index);
    crew.loops.iter().filter(|looped| looped.debate.is_some()).find(part)
}

/// Bytes of a token of text that another model wrote, at most; what is longer takes free money first.
pub const BYTES_PER_TOKEN: u64 = 5;

/// Bound of the prompt of a task's ending: its own words and its inputs, nothing of the turns before. In
/// the ledger's terms: a token a byte.
pub fn ending(crew: &Arc<Crew>, index: usize, role: &crew::Agent, inputs: &BTreeMap<Name, serde_json::Value>) -> u64 {
    let task = &crew.tasks[index];
    let sizes = Sizes { crew, index, inputs, per_token: BYTES_PER_TOKEN };
    let told = match &task.prompt {
        Some(TaskPrompt::Fixed(name)) => sizes.template(name),
        Some(TaskPrompt::Chosen(path)) => sizes.chosen(path),
        None => Size::default(),
    };
    let mut size = sizes.template(&role.system).plus(told);
    size = task.expected_output.iter().fold(size, |size, name| size.plus(sizes.template(name)));
    let context = task.context.iter().map(|name| sizes.result(name).most).fold(0, u64::saturating_add);
    let window = task.repeat.as_ref().and_then(|repeat| repeat.window).unwrap_or(0);
    let window = window.saturating_mul(BYTES_PER_TOKEN).saturating_add(FENCE);
    // A longer prompt is made to fit, or not sent at all.
    let most = role.context_tokens.min(role.max_prompt_tokens.unwrap_or(u64::MAX)).saturating_mul(BYTES_PER_TOKEN);
    let said = debate(crew, index).map_or(0, |looped| sizes.voices(looped, 0).most);
    let words = size.most.saturating_add(context).saturating_add(said).saturating_add(window).min(most);
    // The schema in the prompt and beside it, the conclusion or what was wrong with the last answer.
    let schema = task.schema.as_ref().map_or(0, |schema| schema.json().to_string().len() as u64);
    let notes = 2_000 + 8 * OVERHEAD;
    words.saturating_add(schema.saturating_mul(5)).saturating_add(notes)
}

/// Tool definitions, which providers bill as input.
fn extras(crew: &Arc<Crew>, role: &crew::Agent, tools: &[String]) -> u64 {
    let one = |tool: &crew::ToolDef| {
        let spec = &tool.spec;
        (spec.name.len() + spec.description.len() + spec.parameters.to_string().len()) as u64 + OVERHEAD
    };
    let named: u64 = tools.iter().filter_map(|name| crew.tools.get(name)).map(|tool| one(tool)).sum();
    // `delegate`: a sentence for the tool and for each who may be asked, with the inputs of sub-crews.
    let about = |name: &Name| match (crew.agents.get(name), crew.crews.get(name)) {
        (Some(agent), _) => (agent.role.len() + agent.goal.len()) as u64 + OVERHEAD,
        (None, Some(sub)) => {
            let inputs =
                sub.crew.inputs.iter().map(|input| (input.description.len() + 2 * input.name.as_str().len()) as u64);
            sub.crew.description.len() as u64 + inputs.map(|bytes| bytes + 2 * OVERHEAD).sum::<u64>() + OVERHEAD
        }
        (None, None) => OVERHEAD,
    };
    let delegates: u64 = role.delegates.iter().map(|name| about(name) + name.as_str().len() as u64).sum();
    named + delegates + if role.delegates.is_empty() { 0 } else { 8 * OVERHEAD }
}

/// A size as it may be and as it will probably be.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    most: u64,
    likely: u64,
}

impl Size {
    /// Bytes of a text; as JSON, every one of them may take two.
    fn text(bytes: u64) -> Size {
        Size { most: bytes.saturating_mul(2), likely: bytes.div_ceil(4) }
    }
    /// A template that repeats parts of itself: only `context_tokens` bounds it.
    fn endless() -> Size {
        Size { most: u64::MAX / 4, likely: 500 }
    }
    fn plus(self, other: Size) -> Size {
        Size { most: self.most.saturating_add(other.most), likely: self.likely.saturating_add(other.likely) }
    }
}

/// Has the template a block that may print its parts more than once? The same words in its prose do not.
pub(super) fn repeats(source: &str) -> bool {
    let blocks = source.split("{%").skip(1).map(|rest| rest.split("%}").next().unwrap_or(rest));
    let mut words = blocks.flat_map(|block| block.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.any(|word| matches!(word, "for" | "macro" | "include" | "import" | "call"))
}

struct Sizes<'a> {
    crew: &'a Arc<Crew>,
    index: usize,
    inputs: &'a BTreeMap<Name, serde_json::Value>,
    /// What a token of a result counts in a prompt, at most: holds count bytes of what is new.
    per_token: u64,
}

impl Sizes<'_> {
    /// A template's own text, what it includes, and the values it prints.
    fn template(&self, name: &TemplateName) -> Size {
        let templates: &Templates = &self.crew.templates;
        let source = templates.source(name).unwrap_or_default();
        let mut size = Size::text(source.len() as u64);
        let uses = templates.uses(name);
        let mut from: Vec<&TemplateName> =
            uses.iter().map(|(place, _)| *place).filter(|place| *place != name).collect();
        from.sort_unstable();
        from.dedup();
        for included in &from {
            size = size.plus(Size::text(templates.source(included).unwrap_or_default().len() as u64));
        }
        if repeats(source) || from.iter().any(|place| repeats(templates.source(place).unwrap_or_default())) {
            return Size::endless().plus(size);
        }
        for (_, one) in &uses {
            size = size.plus(self.value(&one.name));
        }
        size
    }

    /// The longest of the prompts that the rows choose; of a list in a result, any prompt.
    fn chosen(&self, path: &TemplateName) -> Size {
        let repeat = self.crew.tasks.get(self.index).and_then(|task| task.repeat.as_ref());
        let Some(Over::Rows(rows)) = repeat.map(|repeat| &repeat.over) else { return Size::endless() };
        let mut found = std::collections::BTreeSet::new();
        for (index, row) in rows.iter().enumerate() {
            let mut scope = Scope::default();
            scope.shared("item", row.item.clone());
            scope.json("index", serde_json::Value::from(index + 1));
            scope.json("key", serde_json::Value::from(row.key.as_str()));
            let name =
                self.crew.templates.render(path, &scope).ok().and_then(|path| self.crew.templates.find(path.trim()));
            let Some(name) = name else { return Size::endless() };
            found.insert(name);
        }
        let each = found.iter().map(|name| self.template(name));
        each.reduce(|a, b| if a.most > b.most { a } else { b }).unwrap_or_default()
    }

    fn value(&self, name: &str) -> Size {
        if let Some(input) = self.crew.inputs.iter().find(|input| input.name.as_str() == name) {
            let known = self.inputs.get(name).or(input.default.as_ref());
            return Size::text(known.map_or(UNKNOWN_INPUT, |value| value.to_string().len() as u64));
        }
        if let Ok(name) = Name::new(name)
            && self.crew.task(&name).is_some()
        {
            return self.result(&name);
        }
        match name {
            "item" | "key" => self.item(),
            "window" => {
                let repeat = self.crew.tasks.get(self.index).and_then(|task| task.repeat.as_ref());
                let window = repeat.and_then(|repeat| repeat.window).unwrap_or(0);
                Size { most: window.saturating_add(FENCE), likely: window }
            }
            "index" | "attempt" | "round" => Size::text(10),
            "agent" | "crew" | "run" => Size::text(self.about()),
            // `previous`, `feedback`, `error` and names that an expression makes.
            _ => Size { most: self.largest_output().saturating_mul(2).saturating_add(4_000), likely: 200 },
        }
    }

    /// Role, goal, backstory, descriptions: of the longest.
    fn about(&self) -> u64 {
        let agents = self.crew.agents.values().map(|one| one.role.len() + one.goal.len() + one.backstory.len());
        agents.max().unwrap_or(0) as u64 + self.crew.description.len() as u64 + 200
    }

    fn item(&self) -> Size {
        let repeat = self.crew.tasks.get(self.index).and_then(|task| task.repeat.as_ref());
        match repeat.map(|repeat| &repeat.over) {
            Some(Over::Rows(rows)) => {
                Size::text(rows.iter().map(|row| row.item.to_string().len() as u64).max().unwrap_or(0))
            }
            Some(Over::Result { task, .. }) => self.result(task),
            None => Size::default(),
        }
    }

    fn result(&self, name: &Name) -> Size {
        let Some(task) = self.crew.task(name) else { return Size::default() };
        let one = self.output_of(task);
        let items = super::step::most_items(task);
        let most = one.saturating_mul(self.per_token).saturating_add(FENCE).saturating_mul(items);
        Size { most, likely: (one / 4).saturating_mul(items.min(20)) }
    }

    /// What the others of a debate said last, and the words around it; for templates that print it `own` too.
    fn voices(&self, looped: &Loop, own: u64) -> Size {
        let others = looped.body.iter().filter(|speaker| **speaker != self.index);
        let said = others.map(|speaker| self.result(&self.crew.tasks[*speaker].name)).fold(Size::default(), Size::plus);
        let names: u64 =
            looped.body.iter().map(|speaker| 2 * self.crew.tasks[*speaker].name.as_str().len() as u64).sum();
        said.plus(Size { most: own.saturating_mul(2).saturating_add(FENCE), likely: 0 }).plus(Size::text(1_000 + names))
    }

    /// Tokens of one result of a task, at most; of its `on_error` task where that one's is longer.
    fn output_of(&self, task: &Task) -> u64 {
        let own = match &task.who {
            Who::Agent(name) => {
                let role = self.crew.agents.get(name);
                role.map_or(0, |role| super::step::longest_answer(self.crew, task, role))
            }
            Who::Tool { tool, .. } => self.crew.tools.get(tool).map_or(0, |tool| tool.spec.max_result),
            Who::Crew(name) => self.crew.crews.get(name).map_or(0, |sub| {
                let inner =
                    Sizes { crew: &sub.crew, index: usize::MAX, inputs: self.inputs, per_token: self.per_token };
                let output = &sub.crew.tasks[sub.crew.output];
                inner.output_of(output).saturating_mul(super::step::most_items(output))
            }),
        };
        let rescue = task.on_error.as_ref().and_then(|name| self.crew.task(name));
        own.max(rescue.map_or(0, |task| self.output_of(task)))
    }

    fn largest_output(&self) -> u64 {
        self.crew.tasks.iter().map(|task| self.output_of(task)).max().unwrap_or(0)
    }
}

#[cfg(test)]
pub(super) fn builtin_bytes() -> u64 {
    builtin::ALL.iter().map(|(_, text)| text.len() as u64).max().unwrap_or(0)
}
