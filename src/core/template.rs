//! Templates and conditions. Invariant: no code, no file system, bounded work (fuel), and a name
//! that has no value is an error, never an empty string.
//!
//! What another agent, a tool or a file said is *fenced* wherever a prompt prints it: between
//! `<name>` marks that its content cannot close ([`fence`]), unless the author writes `| raw`. Fields
//! of a typed result are fenced too; numbers, booleans and single words (a verdict) are printed as
//! they are. Inputs and rows of files are the author's and are printed as they are.

mod build;
mod known;
mod size;
mod syntax;
mod typing;
mod values;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use minijinja::value::Value;

use super::builtin;
use super::ids::Key;

pub use build::{Builder, Fault, FaultKind, Fences};
pub use syntax::Use;
pub use typing::{Ty, Typing};
pub use values::fence;

/// Most bytes that one template may render to.
pub const OUTPUT_MAX: usize = 8 * 1024 * 1024;
/// Most steps of the template machine for one template.
pub(crate) const FUEL: u64 = 2_000_000;

/// Names a compiled template: a prompt file (`prompts/writer.md`), or a place in a crew file
/// (`crews/x.toml tasks.draft.description`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateName(pub Arc<str>);

/// A compiled expression that is true or false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(pub Arc<str>);

/// A compiled expression that gives a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression(pub Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{template}{}: {message}", .line.map(|n| format!(":{n}")).unwrap_or_default())]
pub struct TemplateError {
    pub template: String,
    pub line: Option<usize>,
    pub message: String,
}

/// The compiled templates and conditions of one crew. Made by [`Builder`].
pub struct Templates {
    pub(super) environment: minijinja::Environment<'static>,
    pub(super) compiled: BTreeMap<TemplateName, Compiled>,
    /// Names that a prompt says it can do without: none where the scope has no value.
    pub(super) optional: BTreeMap<TemplateName, BTreeSet<String>>,
    /// What an expression's text is evaluated as, by the text.
    pub(super) expressions: BTreeMap<Arc<str>, String>,
}

pub(super) struct Compiled {
    /// As its author wrote it, front matter left out.
    pub source: Arc<str>,
    /// Names it uses itself, in order of appearance.
    pub uses: Vec<Use>,
    /// Root variables it uses, includes followed.
    pub names: BTreeSet<String>,
    /// Those of them of which it uses more than the `status`.
    pub values: BTreeSet<String>,
    pub includes: Vec<TemplateName>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.compiled.keys()).finish()
    }
}

impl Default for Templates {
    fn default() -> Templates {
        Builder::new([]).finish()
    }
}

impl Templates {
    /// The text of a template over `scope`, at most [`OUTPUT_MAX`] bytes.
    pub fn render(&self, template: &TemplateName, scope: &Scope) -> Result<String, TemplateError> {
        let compiled = self.environment.get_template(&template.0).map_err(|error| failed(&template.0, &error))?;
        let mut out = Capped(Vec::new());
        let filled = self.optional.get(template).map(|names| scope.filled(names));
        compiled
            .render_captured_to(filled.as_ref().unwrap_or(scope).value(), &mut out)
            .map_err(|error| failed(&template.0, &error))?;
        // Only whole strings are written to it.
        String::from_utf8(out.0).map_err(|error| TemplateError {
            template: template.0.to_string(),
            line: None,
            message: error.to_string(),
        })
    }

    pub fn test(&self, condition: &Condition, scope: &Scope) -> Result<bool, TemplateError> {
        self.eval(&condition.0, scope).map(|value| value.is_true())
    }

    /// The items of a list; anything else is an error that says what was found.
    pub fn list(&self, expression: &Expression, scope: &Scope) -> Result<Vec<serde_json::Value>, TemplateError> {
        let value = self.eval(&expression.0, scope)?;
        match values::to_json(&value) {
            serde_json::Value::Array(items) => Ok(items),
            other => Err(TemplateError {
                template: expression.0.to_string(),
                line: None,
                message: format!("expected a list, found {}", values::kind(&other)),
            }),
        }
    }

    fn eval(&self, text: &Arc<str>, scope: &Scope) -> Result<Value, TemplateError> {
        let source = self.expressions.get(text).map_or(&**text, |rewritten| rewritten.as_str());
        let value = self.environment.compile_expression(source).and_then(|expression| expression.eval(scope.value()));
        match value {
            Ok(value) if value.is_undefined() => Err(TemplateError {
                template: text.to_string(),
                line: None,
                message: "it has no value: a name or field in it does not exist".to_owned(),
            }),
            Ok(value) => Ok(value),
            Err(error) => Err(failed(text, &error)),
        }
    }

    /// Root variables the template uses, includes followed. Of an unknown template: none.
    pub fn names(&self, template: &TemplateName) -> &BTreeSet<String> {
        const NONE: &BTreeSet<String> = &BTreeSet::new();
        self.compiled.get(template).map_or(NONE, |compiled| &compiled.names)
    }

    /// Root variables of which the template uses the value, its text or a field, includes followed: not those of
    /// which it asks only the `status`. Of an unknown template: none.
    pub fn values(&self, template: &TemplateName) -> &BTreeSet<String> {
        const NONE: &BTreeSet<String> = &BTreeSet::new();
        self.compiled.get(template).map_or(NONE, |compiled| &compiled.values)
    }

    /// Every use of a name in the template itself and in what it includes, with its place.
    pub fn uses(&self, template: &TemplateName) -> Vec<(&TemplateName, &Use)> {
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        let mut open = vec![template];
        while let Some(name) = open.pop() {
            if let Some((name, compiled)) = self.compiled.get_key_value(name).filter(|_| seen.insert(name)) {
                out.extend(compiled.uses.iter().map(|one| (name, one)));
                open.extend(&compiled.includes);
            }
        }
        out
    }

    /// A prompt file by the path that `prompt = ` takes (`section/intro`), with or without `.md`.
    pub fn find(&self, path: &str) -> Option<TemplateName> {
        let path = format!("prompts/{}", path.strip_suffix(".md").unwrap_or(path));
        let name = TemplateName(format!("{path}.md").into());
        self.compiled.get_key_value(&name).map(|(name, _)| name.clone())
    }

    /// A built-in prompt over `scope`: the project's own `prompts/builtin/NAME.md` where it has one.
    /// A template of the project that fails gives its source, so that a run never stops on it.
    pub fn builtin(&self, name: &str, scope: &Scope) -> String {
        let own = TemplateName(format!("prompts/builtin/{name}.md").into());
        let name = if self.compiled.contains_key(&own) { own } else { builtin::template(name) };
        let text = self.render(&name, scope);
        text.unwrap_or_else(|_| self.source(&name).unwrap_or_default().to_owned()).trim_end().to_owned()
    }

    /// The template as written, without front matter.
    pub fn source(&self, template: &TemplateName) -> Option<&str> {
        self.compiled.get(template).map(|compiled| &*compiled.source)
    }
}

fn failed(template: &str, error: &minijinja::Error) -> TemplateError {
    let place = error.name().filter(|name| !name.starts_with('<')).unwrap_or(template);
    TemplateError { template: place.to_owned(), line: error.line(), message: values::say(error) }
}

/// A buffer that refuses to grow beyond [`OUTPUT_MAX`].
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_MAX {
            return Err(std::io::Error::other("the text grew over 8 MiB; does a loop in it repeat too much?"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The result of a task as templates see it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultView {
    /// `done`, `partial`, `replaced`, `failed` …
    pub status: String,
    /// The typed value; `None` where the result is a text.
    pub value: Option<serde_json::Value>,
    pub text: Arc<str>,
}

/// What a template or condition sees.
///
/// A value is made for the engine only when a template asks for it: most templates use few of the names
/// they could.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    values: Arc<BTreeMap<Cow<'static, str>, Seen>>,
}

#[derive(Clone)]
pub(super) enum Seen {
    Json(Arc<serde_json::Value>),
    Late(Arc<dyn Fn() -> serde_json::Value + Send + Sync>),
    Text(Arc<str>),
    None,
    /// A task that ended without a result.
    Gone {
        status: String,
    },
    Result(ResultView),
    /// The JSON of a typed result, parsed when a template looks into it.
    Typed {
        status: String,
        json: Arc<str>,
    },
    Items {
        status: String,
        items: Vec<(Key, Option<ResultView>)>,
    },
}

impl Scope {
    fn put(&mut self, name: impl Into<Cow<'static, str>>, seen: Seen) {
        Arc::make_mut(&mut self.values).insert(name.into(), seen);
    }
    pub fn json(&mut self, name: impl Into<Cow<'static, str>>, value: serde_json::Value) {
        self.shared(name, Arc::new(value));
    }
    pub fn shared(&mut self, name: impl Into<Cow<'static, str>>, value: Arc<serde_json::Value>) {
        self.put(name, Seen::Json(value));
    }
    /// Made when it is asked for, if ever.
    pub fn late(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) {
        self.put(name, Seen::Late(Arc::new(value)));
    }
    pub fn text(&mut self, name: impl Into<Cow<'static, str>>, text: Arc<str>) {
        self.put(name, Seen::Text(text));
    }
    /// The name is known and has no value (a skipped or failed task): `{% if x %}` is false.
    pub fn none(&mut self, name: impl Into<Cow<'static, str>>) {
        self.put(name, Seen::None);
    }
    /// The name of a task that ended without a result: none, as with [`Scope::none`], and `x.status` is how it ended.
    pub fn gone(&mut self, name: impl Into<Cow<'static, str>>, status: &str) {
        self.put(name, Seen::Gone { status: status.to_owned() });
    }
    /// `x` is the value (text or typed object), `x.text` always the text, `x.status` its status.
    pub fn result(&mut self, name: impl Into<Cow<'static, str>>, result: ResultView) {
        self.put(name, Seen::Result(result));
    }
    /// As [`Scope::result`] of a typed one, from its JSON: that is parsed only if a template looks into it,
    /// which matters where each of ten thousand items has the list they come from in its scope.
    pub fn typed(&mut self, name: impl Into<Cow<'static, str>>, status: &str, json: Arc<str>) {
        self.put(name, Seen::Typed { status: status.to_owned(), json });
    }
    /// The result of a `for_each`: a list in item order, none for a failed item; `x['intro']` is
    /// one; `x.status` is the list's status, `x.text` the items' texts joined under their keys.
    pub fn items(&mut self, name: impl Into<Cow<'static, str>>, status: &str, items: Vec<(Key, Option<ResultView>)>) {
        self.put(name, Seen::Items { status: status.to_owned(), items });
    }
    fn filled(&self, optional: &BTreeSet<String>) -> Scope {
        let mut scope = self.clone();
        for name in optional.iter().filter(|name| !self.has(name)) {
            scope.none(name.clone());
        }
        scope
    }
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
    /// The text that stands for a name where no template places it; `None` where it has no value.
    pub fn plain(&self, name: &str) -> Option<String> {
        match self.values.get(name)? {
            Seen::Json(value) => Some(value.to_string()),
            Seen::Late(value) => Some(value().to_string()),
            Seen::Text(text) => Some(text.to_string()),
            Seen::None | Seen::Gone { .. } => None,
            Seen::Result(result) => Some(result.text.to_string()),
            Seen::Typed { json, .. } => Some(json.to_string()),
            Seen::Items { items, .. } => {
                let done = items.iter().filter_map(|(key, result)| result.as_ref().map(|result| (key, result)));
                Some(done.map(|(key, result)| format!("{key}\n\n{}", result.text)).collect::<Vec<_>>().join("\n\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
