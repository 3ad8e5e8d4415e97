//! What an agent is told. Invariant: every word comes from a file that can be printed (a prompt, a
//! crew file, a built-in), and the same state gives the same words, resumed or not.

use super::*;
use crate::core::chat::Message;
use crate::core::crew::{self, Task, TaskPrompt, ToolArg};
use crate::core::event::{Retold, Work};
use crate::core::machine::{Decided, MissingText, World};
use crate::core::place;
use crate::core::template::{ResultView, Scope, TemplateError, TemplateName, fence};

/// Why a prompt cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPrompt {
    #[error(transparent)]
    Missing(#[from] MissingText),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("{0}")]
    Wrong(String),
}

impl Plan {
    /// What templates and conditions of a unit see.
    pub(super) fn scope_of(&self, world: World<'_>, unit: &Unit) -> Result<Scope, MissingText> {
        let mut scope = Scope::default();
        for input in &self.crew.inputs {
            match self.state.inputs.get(&input.name) {
                Some(value) => scope.json(input.name.to_string(), value.clone()),
                None => scope.none(input.name.to_string()),
            }
        }
        let (crew, run) = (self.crew.clone(), world.run.clone());
        scope.late("crew", move || serde_json::json!({ "name": crew.name, "description": crew.description }));
        scope.late("run", move || serde_json::json!({ "id": run.as_str() }));
        let Some(index) = unit.task.map(|index| index as usize) else { return Ok(scope) };
        let task = &self.crew.tasks[index];
        let list = task.repeat.as_ref().and_then(|repeat| match &repeat.over {
            Over::Result { task, .. } => Some(task),
            Over::Rows(_) => None,
        });
        for name in task.context.iter().chain(&task.after).chain(list) {
            if let Some(other) = self.crew.index_of(name) {
                self.put_result(world, &mut scope, name.as_str(), unit, (index, other))?;
            }
        }
        if let Some((step, error)) = self.rescued_error(index) {
            let class = serde_json::to_value(error.class).unwrap_or_default();
            scope.json(
                "error",
                serde_json::json!({
                    "step": step.as_str(), "class": class, "message": error.message, "attempts": error.attempts,
                }),
            );
        }
        if let Kind::Item { index: item } = unit.kind {
            self.put_item(world, &mut scope, index, item as usize)?;
        }
        if unit.round > 0 {
            self.put_round(world, &mut scope, unit)?;
        } else {
            scope.none("previous");
            scope.none("feedback");
            scope.none("round");
        }
        self.put_voices(world, &mut scope, index)?;
        Ok(scope)
    }

    fn put_result(
        &self,
        world: World<'_>,
        scope: &mut Scope,
        name: &str,
        unit: &Unit,
        (index, other): (usize, usize),
    ) -> Result<(), MissingText> {
        let Some(dep) = self.dependency(unit, index, other) else {
            scope.none(name.to_owned());
            return Ok(());
        };
        if let (Kind::List { keys, .. }, Some(result)) = (&dep.kind, &dep.result) {
            let mut items = Vec::with_capacity(keys.len());
            for key in keys {
                let item = self.unit(&self.address(other, Some(key))).and_then(|unit| unit.result.as_ref());
                items.push((key.clone(), view(world, item)?));
            }
            scope.items(name.to_owned(), result.status.as_str(), items);
            return Ok(());
        }
        let typed = dep.result.as_ref().filter(|result| result.typed && result.status.has_result());
        if let Some((result, id)) = typed.and_then(|result| Some((result, result.text.as_ref()?))) {
            scope.typed(name.to_owned(), result.status.as_str(), world.texts.text(id)?);
            return Ok(());
        }
        let ended = dep.result.as_ref().filter(|_| self.crew.rules.ends_have_status);
        match (view(world, dep.result.as_ref())?, ended) {
            (Some(view), _) => scope.result(name.to_owned(), view),
            (None, Some(result)) => scope.gone(name.to_owned(), result.status.as_str()),
            (None, None) => scope.none(name.to_owned()),
        }
        Ok(())
    }

    fn put_item(&self, world: World<'_>, scope: &mut Scope, task: usize, item: usize) -> Result<(), MissingText> {
        let key = self.keys(task).and_then(|keys| keys.get(item));
        scope.shared("item", self.item_value(world, task, item)?);
        scope.json("index", (item + 1).into());
        scope.json("key", key.map_or(serde_json::Value::Null, |key| key.as_str().into()));
        let tokens = self.crew.tasks[task].repeat.as_ref().and_then(|repeat| repeat.window);
        if let Some(tokens) = tokens {
            scope.text("window", self.window(world, task, item, tokens)?.into());
        }
        Ok(())
    }

    pub(super) fn item_value(
        &self,
        world: World<'_>,
        task: usize,
        item: usize,
    ) -> Result<Arc<serde_json::Value>, MissingText> {
        if let Some(Over::Rows(rows)) = self.crew.tasks[task].repeat.as_ref().map(|repeat| &repeat.over) {
            return Ok(rows.get(item).map(|row| row.item.clone()).unwrap_or_default());
        }
        let list = self.unit(&self.address(task, None)).map(|unit| &unit.kind);
        let Some(Kind::List { items: Some(items), .. }) = list else { return Ok(Arc::default()) };
        Ok(self.lists.items(world.texts, items)?.get(item).cloned().unwrap_or_default())
    }

    /// The tail of the results so far, at most `tokens`, cut at a paragraph, else at a sentence.
    fn window(&self, world: World<'_>, task: usize, item: usize, tokens: u64) -> Result<String, MissingText> {
        let mut parts: Vec<String> = Vec::new();
        let mut left = tokens;
        let keys = self.keys(task).unwrap_or_default();
        for key in keys[..item.min(keys.len())].iter().rev() {
            let unit = self.unit(&self.address(task, Some(key)));
            let text = unit.and_then(|unit| unit.result.as_ref()).and_then(|result| result.text);
            let Some(text) = text.map(|text| world.texts.text(&text)).transpose()? else { continue };
            let (tail, whole) = tail(&text, left, world.sizes);
            left = left.saturating_sub(if tail.is_empty() { 0 } else { world.sizes.tokens(&tail) + 1 });
            let empty = tail.is_empty();
            parts.push(tail);
            if !whole || empty || left == 0 {
                break;
            }
        }
        parts.retain(|part| !part.is_empty());
        parts.reverse();
        Ok(parts.join("\n\n"))
    }

    /// `previous` (the unit's own last result) and `feedback` (the judge's of the last round).
    fn put_round(&self, world: World<'_>, scope: &mut Scope, unit: &Unit) -> Result<(), MissingText> {
        scope.json("round", unit.round.into());
        match view(world, unit.previous.as_ref())? {
            Some(view) => scope.result("previous", view),
            None => scope.none("previous"),
        }
        let judge = self.judge_of(unit).and_then(|judge| judge.previous.as_ref());
        match view(world, judge)? {
            Some(view) => scope.result("feedback", view),
            None => scope.none("feedback"),
        }
        Ok(())
    }

    pub(super) fn judge_of(&self, unit: &Unit) -> Option<&Unit> {
        let index = unit.task? as usize;
        let looped = &self.crew.loops[self.crew.tasks[index].in_loop?];
        self.dependency(unit, index, looped.judge)
    }

    /// Scope for `until`: every result of the round, the judge's fields by their bare names, `round`.
    pub(super) fn round_scope(&self, world: World<'_>, judge: &Step) -> Result<Scope, MissingText> {
        let Some(unit) = self.unit(judge) else { return Ok(Scope::default()) };
        let mut scope = self.scope_of(world, unit)?;
        // Whoever debates is known by the agent's name, which the scope of a unit has.
        let debate = unit.task.is_some_and(|task| self.debate_of(task as usize).is_some());
        for address in self.body(judge).into_iter().filter(|_| !debate) {
            let result = self.unit(&address).and_then(|unit| unit.result.as_ref());
            let name = address.last().map(|segment| segment.name.to_string()).unwrap_or_default();
            let Some(view) = view(world, result)? else { continue };
            if let (true, Some(serde_json::Value::Object(fields))) = (address == *judge, &view.value) {
                fields.iter().for_each(|(field, value)| scope.json(field.clone(), value.clone()));
            }
            scope.result(name, view);
        }
        Ok(scope)
    }

    /// System and user message of an agent's task.
    pub(super) fn prompt(
        &self,
        world: World<'_>,
        unit: &Unit,
        role: &Arc<crew::Agent>,
        decided: &mut Decided,
    ) -> Result<Work, NoPrompt> {
        let mut scope = self.scope_of(world, unit)?;
        let about = role.clone();
        scope.late("agent", move || {
            let crew::Agent { name, role, goal, backstory, .. } = &*about;
            serde_json::json!({ "name": name.as_str(), "role": role, "goal": goal, "backstory": backstory })
        });
        scope.json("attempt", 1.into());
        let system = self.crew.templates.render(&role.system, &scope)?;
        let mut told = Vec::new();
        let user = match (&unit.kind, unit.task.map(|index| &self.crew.tasks[index as usize])) {
            (Kind::Child(child), _) => self.delegated_prompt(world, child, scope)?,
            (_, Some(task)) => {
                let user = self.task_prompt(world, unit, task.prompt.as_ref(), &scope)?;
                let own = task.model.as_ref().unwrap_or(&role.model);
                told = self.told_later(world, unit, (task, own), scope)?;
                user
            }
            (_, None) => return Err(NoPrompt::Wrong("a unit without a task is a child".into())),
        };
        let system = decided.message(&Message::System { content: system });
        let user = decided.message(&Message::User { content: user });
        let told = told.into_iter().map(|(attempt, content)| (attempt, decided.message(&Message::User { content })));
        let retry = told.filter(|(_, told)| *told != user).map(|(attempt, user)| Retold { attempt, user }).collect();
        let carries = self.is_revised(unit) || role.memory == MemoryScope::Run;
        Ok(Work::Prompt { system, user, carries, retry })
    }

    /// User messages of the attempts whose `retry` entry names a prompt: made now, while their values are
    /// what the first attempt sees.
    fn told_later(
        &self,
        world: World<'_>,
        unit: &Unit,
        (task, own): (&Task, &crew::Model),
        mut scope: Scope,
    ) -> Result<Vec<(u32, String)>, NoPrompt> {
        let mut out = Vec::new();
        for (attempt, entry) in crew::retries(&task.retry, own) {
            let Some(prompt) = &entry.prompt else { continue };
            scope.json("attempt", serde_json::Value::from(attempt));
            out.push((attempt, self.task_prompt(world, unit, Some(prompt), &scope)?));
        }
        Ok(out)
    }

    fn delegated_prompt(&self, world: World<'_>, child: &Child, mut scope: Scope) -> Result<String, NoPrompt> {
        scope.text("task", world.texts.text(&child.task)?);
        match &child.expected {
            Some(expected) => scope.text("expected", world.texts.text(expected)?),
            None => scope.none("expected"),
        }
        Ok(self.crew.templates.builtin("delegated", &scope))
    }

    fn task_prompt(
        &self,
        world: World<'_>,
        unit: &Unit,
        prompt: Option<&TaskPrompt>,
        scope: &Scope,
    ) -> Result<String, NoPrompt> {
        let index = unit.task.ok_or_else(|| NoPrompt::Wrong("a unit without a task is a child".into()))? as usize;
        let task = &self.crew.tasks[index];
        let template = match prompt {
            Some(TaskPrompt::Fixed(template)) => template.clone(),
            Some(TaskPrompt::Chosen(path)) => self.chosen_prompt(path, scope)?,
            None => return Err(NoPrompt::Wrong(format!("task {} tells its agent nothing", task.name))),
        };
        let templates = &self.crew.templates;
        let names = templates.names(&template);
        let mut parts = Vec::new();
        // From the second round on the revised task's agent still has its task before it: it is told
        // what to change, unless its own prompt has words for that.
        let again = self.is_revised(unit);
        let debate = self.debate_words(world, index, names)?;
        if again && debate.is_some() {
            // Its task stands in its turns: what is new is what the others said.
        } else if again && self.debate_of(index).is_none() && !names.contains("feedback") {
            parts.push(templates.builtin("revise", scope));
        } else {
            parts.push(templates.render(&template, scope)?);
        }
        if !again {
            if let Some(window) = scope.plain("window").filter(|text| !text.is_empty() && !names.contains("window")) {
                parts.push(fence("window", &window));
            }
            let spoken = |name: &Name| self.is_voice(index, name);
            let placed = if self.crew.rules.status_places_nothing { templates.values(&template) } else { names };
            for name in task.context.iter().filter(|name| !placed.contains(name.as_str()) && !spoken(name)) {
                if let Some(text) = scope.plain(name.as_str()) {
                    parts.push(fence(name.as_str(), &text));
                }
            }
        }
        parts.extend(debate);
        if let Some(expected) = &task.expected_output {
            parts.push(templates.render(expected, scope)?);
        }
        if let Some(schema) = &task.schema {
            let mut scope = Scope::default();
            scope.json("schema", schema.json().clone());
            parts.push(templates.builtin("schema", &scope));
        }
        Ok(parts.iter().map(|part| part.trim()).collect::<Vec<_>>().join("\n\n"))
    }

    /// In a later round the task that is revised goes on from its turns, and whoever debates. The judge, and whoever works
    /// between the two, begin anew: they are told of the round's results, not of their own last one.
    fn is_revised(&self, unit: &Unit) -> bool {
        let Some(index) = unit.task.map(|index| index as usize).filter(|_| unit.round > 1) else { return false };
        let looped = self.crew.tasks[index].in_loop.map(|looped| &self.crew.loops[looped]);
        looped.is_some_and(|looped| looped.revised == index || looped.debate.is_some())
    }

    fn chosen_prompt(&self, path: &TemplateName, scope: &Scope) -> Result<TemplateName, NoPrompt> {
        let chosen = self.crew.templates.render(path, scope)?;
        let found = self.crew.templates.find(chosen.trim());
        found.ok_or_else(|| NoPrompt::Wrong(format!("there is no prompt file `{}` under prompts/", chosen.trim())))
    }

    /// Arguments of a tool task.
    pub(super) fn tool_arguments(
        &self,
        world: World<'_>,
        unit: &Unit,
        args: &BTreeMap<String, ToolArg>,
    ) -> Result<serde_json::Value, NoPrompt> {
        let scope = self.scope_of(world, unit)?;
        let mut fields = serde_json::Map::new();
        for (name, arg) in args {
            let value = match arg {
                ToolArg::Template(template) => self.crew.templates.render(template, &scope)?.into(),
                ToolArg::Value(value) => value.clone(),
            };
            fields.insert(name.clone(), value);
        }
        Ok(serde_json::Value::Object(fields))
    }

    /// Is the place of the unit's `output_file` below the root? Asked before anything is paid for it.
    pub(super) fn may_be_written(&self, world: World<'_>, unit: &Unit, task: &Task) -> Result<(), NoPrompt> {
        let Some(template) = task.output_file.as_ref().filter(|_| unit.round <= 1) else { return Ok(()) };
        // What a later round says is not known before the first.
        let of_rounds = |name: &String| matches!(name.as_str(), "previous" | "feedback" | "round");
        if task.in_loop.is_some() && self.crew.templates.names(template).iter().any(of_rounds) {
            return Ok(());
        }
        let path = self.crew.templates.render(template, &self.scope_of(world, unit)?)?;
        place::output(path.trim()).map_err(|why| NoPrompt::Wrong(format!("output_file: {why}")))
    }

    /// Path and text of a unit's output file.
    pub fn output_file(&self, world: World<'_>, address: &Step) -> Result<(String, BlobId), String> {
        let unit = self.unit(address).ok_or_else(|| format!("there is no task {address}"))?;
        let task = unit.task.map(|index| &self.crew.tasks[index as usize]);
        let template = task.and_then(|task| task.output_file.as_ref());
        let text = unit.result.as_ref().and_then(|result| result.text);
        let (Some(template), Some(text)) = (template, text) else { return Err(format!("{address} writes no file")) };
        let scope = self.scope_of(world, unit).map_err(|error| error.to_string())?;
        let path = self.crew.templates.render(template, &scope).map_err(|error| error.to_string())?;
        Ok((path.trim().to_owned(), text))
    }
}

/// A result as templates see it; `None` where there is none.
pub(super) fn view(world: World<'_>, result: Option<&TaskResult>) -> Result<Option<ResultView>, MissingText> {
    let Some(result) = result.filter(|result| result.status.has_result()) else { return Ok(None) };
    let Some(id) = result.text else { return Ok(None) };
    let text = world.texts.text(&id)?;
    let value = if result.typed { serde_json::from_str(&text).ok() } else { None };
    Ok(Some(ResultView { status: result.status.as_str().to_owned(), value, text }))
}

/// The end of `text`, at most `tokens`, and whether that is all of it.
fn tail(text: &str, tokens: u64, sizes: &dyn crate::core::machine::Sizes) -> (String, bool) {
    let fits = |part: &str| part.len() as u64 <= tokens || sizes.tokens(part) <= tokens;
    if fits(text) {
        return (text.to_owned(), true);
    }
    let cut = |separators: &[&str]| {
        let mut starts: Vec<usize> = Vec::new();
        for separator in separators {
            starts.extend(text.match_indices(separator).map(|(at, found)| at + found.len()));
        }
        starts.sort_unstable();
        // The longest tail that fits: sizes fall from left to right.
        let first = starts.partition_point(|start| !fits(&text[*start..]));
        starts.get(first).map(|start| text[*start..].trim().to_owned()).filter(|tail| !tail.is_empty())
    };
    let tail = cut(&["\n\n"]).or_else(|| cut(&[". ", "! ", "? ", "\n"]));
    (tail.unwrap_or_default(), false)
}
