//! Secrets by value, kept out of whatever is written. Invariant: a text that passed a [`Redactor`] holds
//! no value it knows, neither as it is nor as JSON or an address would spell it.
//!
//! Whatever comes into a run from outside (answers of models, results of tools, failures) passes one before
//! it becomes an event; so does every writer of a stream of this process.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;

use crate::adapters::models::secrets::{Env, SecretInputs, spellings, unmark};
use crate::core::chat::{CallFailure, ModelAnswer, ModelRequest, ToolSpec};
use crate::core::ids::Name;
use crate::core::question::Question;
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Models, Tier, Watch};
use crate::ports::tool::{Answer, Nobody, People, Progress, Tool, ToolCall, ToolOutcome, Tools};

/// Characters of the shortest value that is looked for: a shorter one is in half of all texts.
const SHORTEST: usize = 4;
/// The same of a variable that is a secret by its name alone.
const SHORTEST_NAMED: usize = 8;
const GONE: &str = "[redacted]";
/// How names of variables with secrets end.
const NAMES: [&str; 8] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS", "BEARER", "PAT"];

/// What is looked for, and what stands in its place; the longest first.
type Known = Vec<(SecretString, String)>;

/// Values that must not be written. Clones know the same.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Known>>,
    /// What came up since: also of use to those that were made for a run before.
    later: Arc<RwLock<Known>>,
}

impl Redactor {
    /// Of the environment: what is a secret by its name.
    pub fn of_env(env: &Env) -> Redactor {
        let all = Redactor::default();
        env.iter().filter(|(name, _)| is_secret_name(name)).for_each(|(_, value)| {
            if value.trim().chars().count() >= SHORTEST_NAMED {
                all.learn(value);
            }
        });
        all
    }

    pub fn learn(&self, value: &str) {
        stand_in(&self.known, value, GONE);
    }

    /// A secret that is born while runs are under way: they do not write it either.
    pub fn learn_now(&self, value: &str) {
        stand_in(&self.later, value, GONE);
    }

    /// The same, with the marks of a run's secret inputs in place of their values.
    pub fn of_run(&self, inputs: &SecretInputs) -> Redactor {
        let copy = |(text, instead): &(SecretString, String)| (text.expose_secret().into(), instead.clone());
        let known: Known = self.known.read().unwrap_or_else(PoisonError::into_inner).iter().map(copy).collect();
        let all = Redactor { known: Arc::new(RwLock::new(known)), later: self.later.clone() };
        inputs.iter().for_each(|(mark, value)| stand_in(&all.known, value.expose_secret(), mark));
        all
    }

    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut out = Cow::Borrowed(text);
        for known in [&self.known, &self.later] {
            for (value, instead) in known.read().unwrap_or_else(PoisonError::into_inner).iter() {
                if out.contains(value.expose_secret()) {
                    out = Cow::Owned(out.replace(value.expose_secret(), instead));
                }
            }
        }
        out
    }

    fn own(&self, text: String) -> String {
        match self.hide(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(hidden) => hidden,
        }
    }

    /// JSON stays JSON: what stands in for a value needs no escape.
    fn raw(&self, json: Box<RawValue>) -> Option<Box<RawValue>> {
        match self.hide(json.get()) {
            Cow::Borrowed(_) => Some(json),
            Cow::Owned(hidden) => RawValue::from_string(hidden).ok(),
        }
    }

    fn answer(&self, mut answer: ModelAnswer) -> ModelAnswer {
        answer.text = self.own(answer.text);
        for ask in &mut answer.tool_calls {
            for text in [&mut ask.id, &mut ask.name, &mut ask.arguments] {
                *text = self.own(std::mem::take(text));
            }
        }
        answer.native = answer.native.and_then(|json| self.raw(json));
        answer.raw_usage = answer.raw_usage.and_then(|json| self.raw(json));
        answer.request_id = answer.request_id.map(|id| self.own(id));
        if let Some(served) = &mut answer.served {
            served.model = served.model.take().map(|text| self.own(text));
            served.tier = served.tier.take().map(|text| self.own(text));
        }
        answer
    }
}

/// `instead` takes the place of the value itself; of its other spellings nothing is left.
fn stand_in(known: &RwLock<Known>, value: &str, instead: &str) {
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    for text in [value, value.trim()].into_iter().filter(|text| text.chars().count() >= SHORTEST) {
        for (at, spelling) in spellings(text).into_iter().enumerate() {
            // Only what every place spells alike can be put in again where the mark stands.
            let instead = if at == 0 { instead } else { GONE };
            if at > 0 && spelling == text {
                continue;
            }
            known.retain(|(old, _)| old.expose_secret() != spelling);
            known.push((spelling.into(), instead.to_owned()));
        }
    }
    // A text may be laid out anew on its way: each line of a long value is one too many.
    for line in value.lines().map(str::trim).filter(|line| line.chars().count() >= SHORTEST_NAMED) {
        if !known.iter().any(|(old, _)| old.expose_secret() == line) {
            known.push((line.into(), GONE.to_owned()));
        }
    }
    known.sort_by_key(|(text, _)| std::cmp::Reverse(text.expose_secret().len()));
}

/// Is a variable of this name a secret?
pub fn is_secret_name(name: &str) -> bool {
    let last = name.rsplit('_').next().unwrap_or_default().to_ascii_uppercase();
    NAMES.contains(&last.as_str()) || last.ends_with("APIKEY")
}

/// A writer of lines: what it is given at once is looked at as a whole.
pub struct Hiding<W>(pub W, pub Redactor);

impl<W: io::Write> io::Write for Hiding<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.1.hide(&String::from_utf8_lossy(bytes)) {
            Cow::Borrowed(_) => self.0.write_all(bytes)?,
            Cow::Owned(hidden) => self.0.write_all(hidden.as_bytes())?,
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Models whose answers and failures hold no secret.
pub struct RedactedModels(pub Arc<dyn Models>, pub Redactor);

impl Models for RedactedModels {
    fn provider(&self, name: &Name) -> Option<Arc<dyn Model>> {
        Some(Arc::new(RedactedModel(self.0.provider(name)?, self.1.clone())))
    }
    fn tier(&self, provider: &Name, model: &str) -> Arc<Tier> {
        self.0.tier(provider, model)
    }
}

struct RedactedModel(Arc<dyn Model>, Redactor);

impl Model for RedactedModel {
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        Box::pin(async move {
            match self.0.call(request, watch).await {
                Ok(answer) => Ok(self.1.answer(answer)),
                Err(failure) => Err(CallFailure { message: self.1.own(failure.message), ..failure }),
            }
        })
    }
}

/// Tools that are given a run's secrets where their arguments hold the marks, and whose results hold none.
pub struct RedactedTools {
    pub tools: Arc<dyn Tools>,
    pub hide: Redactor,
    pub inputs: Arc<SecretInputs>,
}

impl Tools for RedactedTools {
    fn tool(&self, crew: &str, name: &str) -> Option<Arc<dyn Tool>> {
        let tool = self.tools.tool(crew, name)?;
        Some(Arc::new(RedactedTool { tool, hide: self.hide.clone(), inputs: self.inputs.clone() }))
    }
}

struct RedactedTool {
    tool: Arc<dyn Tool>,
    hide: Redactor,
    inputs: Arc<SecretInputs>,
}

impl Tool for RedactedTool {
    fn spec(&self) -> &ToolSpec {
        self.tool.spec()
    }
    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolOutcome> {
        self.call_near(call, Arc::new(Nobody))
    }
    fn call_near(&self, mut call: ToolCall, people: Arc<dyn People>) -> BoxFuture<'_, ToolOutcome> {
        let people = Arc::new(RedactedPeople { people, hide: self.hide.clone() });
        Box::pin(async move {
            if !self.inputs.is_empty()
                && let Ok(text) = serde_json::to_string(&call.arguments)
                && let Cow::Owned(whole) = unmark(&text, &self.inputs)
                && let Ok(arguments) = serde_json::from_str(&whole)
            {
                call.arguments = arguments;
            }
            match self.tool.call_near(call, people).await {
                ToolOutcome::Ok(text) => ToolOutcome::Ok(self.hide.own(text)),
                ToolOutcome::Error(text) => ToolOutcome::Error(self.hide.own(text)),
                ToolOutcome::Unknown(text) => ToolOutcome::Unknown(self.hide.own(text)),
            }
        })
    }
}

/// A server may repeat in a question what it was given.
struct RedactedPeople {
    people: Arc<dyn People>,
    hide: Redactor,
}

impl People for RedactedPeople {
    fn ask(&self, question: Question) -> BoxFuture<'_, Answer> {
        match Question::read(&self.hide.own(question.text())) {
            Some(question) => self.people.ask(question),
            None => Box::pin(async { Answer::Nobody("it holds a secret where none can be taken out".to_owned()) }),
        }
    }
    fn watch(&self, progress: Progress) {
        self.people.watch(Progress { says: self.hide.own(progress.says), ..progress });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn every_spelling_goes_and_the_longest_first() {
        let hide = Redactor::default();
        ["a b&\"c", "hunter2", "hunter22", "pin", "grüße/1"].iter().for_each(|value| hide.learn(value));
        let cases = [
            ("say hunter22 and hunter2", "say [redacted] and [redacted]"),
            ("{\"k\":\"a b&\\\"c\"} a b&\"c", "{\"k\":\"[redacted]\"} [redacted]"),
            ("?k=a+b%26%22c&l=a%20b%26%22c", "?k=[redacted]&l=[redacted]"),
            ("gr%C3%BC%C3%9Fe%2F1 gr%c3%bc%c3%9fe%2f1 grüße/1", "[redacted] [redacted] [redacted]"),
            ("a pin is too short to be looked for", "a pin is too short to be looked for"),
        ];
        for (text, hidden) in cases {
            assert_eq!(hide.hide(text), hidden);
        }
    }

    #[test]
    fn an_input_becomes_its_mark_and_the_mark_its_value_again() {
        let hide = Redactor::default();
        let mark = "⟦secret:pin:0000000000000007⟧";
        for (value, said) in [("hunter2/x", mark), ("hunter2\"", GONE)] {
            hide.learn(value);
            let inputs = SecretInputs::from([(mark.to_owned(), value.into())]);
            let run = hide.of_run(&inputs);
            assert_eq!(run.hide(&format!("it is {value}.")), format!("it is {mark}."));
            // Within JSON, and within JSON of JSON, only what needs no escape can be put in again.
            for json in
                [serde_json::json!({ "text": value }), serde_json::json!(serde_json::json!([value]).to_string())]
            {
                let (json, hidden) = (json.to_string(), run.hide(&json.to_string()).into_owned());
                assert!(hidden.contains(said), "{hidden}");
                assert!(said == GONE || unmark(&hidden, &inputs) == json, "{hidden}");
            }
            assert_eq!(hide.hide(&format!("it is {value}.")), "it is [redacted].");
        }
    }

    #[test]
    fn variables_are_secrets_by_their_names() {
        for name in
            ["OPENAI_API_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "TOKEN", "my_secret", "ACME_APIKEY", "AWS_CREDENTIALS"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PATH", "HOME", "SSH_AUTH_SOCK", "KEYBOARD", "TOKENS", "BOSUN_JSON"] {
            assert!(!is_secret_name(name), "{name}");
        }
        let env = Env::from([("A_KEY".into(), "long-enough ".into()), ("B_KEY".into(), "short".into())]);
        assert_eq!(Redactor::of_env(&env).hide("long-enough, short"), "[redacted], short");
    }

    #[test]
    fn a_writer_keeps_bytes_as_they_are_where_there_is_nothing_to_hide() {
        let hide = Redactor::default();
        hide.learn("hunter2");
        let mut out = Hiding(Vec::new(), hide);
        out.write_all(b"\xff\x00 plain\n").unwrap();
        out.write_all(b"key=hunter2\n").unwrap();
        assert_eq!(out.0, b"\xff\x00 plain\nkey=[redacted]\n");
    }
}
