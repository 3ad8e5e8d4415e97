//! The kind `scripted`: replies from a TOML file, for tests. Invariant: which reply a call gets
//! depends on the file and the call alone wherever the entry names an exact step, so that a run
//! resumed by another process hears the same.
//!
//! ```toml
//! [[reply]]
//! step = "draft#1"            # exact: entries of one exact step answer its calls 1, 2, … in file order
//! text = "A draft."
//! [[reply]]
//! agent = "critic"            # not an exact step: each entry answers once (`repeat = true`: always)
//! json = { verdict = "approve", issues = [] }
//! [default]
//! text = "Nothing to add."
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::failure::{Said, classify};
use super::offline::estimate;
use crate::core::chat::{CallFailure, FailureClass, Finish, Message, ModelAnswer, ModelRequest, ToolAsk, wire_name};
use crate::core::money::{Count, Usage};
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    reply: Vec<toml::Spanned<Reply>>,
    default: Option<toml::Spanned<Reply>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    agent: Option<String>,
    /// A step address, or a pattern in which `*` stands for anything.
    step: Option<String>,
    call: Option<u32>,
    attempt: Option<u32>,
    /// Part of the last message.
    contains: Option<String>,
    #[serde(default)]
    repeat: bool,
    text: Option<String>,
    json: Option<Value>,
    #[serde(default)]
    tool_calls: Vec<Ask>,
    finish: Option<Finish>,
    usage: Option<Used>,
    fail: Option<Fail>,
    delay: Option<String>,
    #[serde(default)]
    hang: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    id: Option<String>,
    name: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "usage is { input = N, output = N }, \"absent\" or \"unparsable\"")]
enum Used {
    Word(UsedWord),
    Counts(UsedCounts),
}
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UsedWord {
    Absent,
    Unparsable,
}
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsedCounts {
    input: u64,
    output: u64,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    reasoning: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    class: Option<FailureClass>,
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    retry_after: Option<String>,
}

struct Entry {
    reply: Reply,
    delay: Duration,
    retry_after_ms: Option<u64>,
    /// The call of its step that an entry of an exact step answers: stated, or its place among them.
    call: Option<u32>,
    used: AtomicBool,
}

pub struct Scripted {
    path: String,
    entries: Vec<Entry>,
    default: Option<Entry>,
}

impl Scripted {
    /// Reads a script. Fails in words that name file, line and key.
    pub fn load(path: &Path) -> Result<Scripted, String> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|why| format!("script {shown} cannot be read: {why}"))?;
        Scripted::parse(&shown, &text)
    }

    /// `path` is for messages.
    pub fn parse(path: &str, text: &str) -> Result<Scripted, String> {
        let script: Script = toml::from_str(text).map_err(|why| {
            let line = why.span().map_or(1, |span| line_of(text, span.start));
            format!("script {path}, line {line}: {}", why.message())
        })?;
        let mut entries: Vec<Entry> = Vec::with_capacity(script.reply.len());
        for reply in script.reply {
            let mut entry = entry(path, text, reply)?;
            if entry.call.is_none() && in_order(&entry.reply) {
                let before = entries.iter().filter(|e| e.reply.call.is_none() && in_order(&e.reply));
                let same = before.filter(|e| e.reply.step == entry.reply.step && e.reply.agent == entry.reply.agent);
                entry.call = u32::try_from(same.count() + 1).ok();
            }
            entries.push(entry);
        }
        let default = script.default.map(|reply| entry(path, text, reply)).transpose()?;
        Ok(Scripted { path: path.to_owned(), entries, default })
    }

    fn pick(&self, request: &ModelRequest) -> Option<&Entry> {
        let last = request.messages.last().and_then(|text| Message::decode(text).ok());
        let last = last.as_ref().map_or("", |message| message.content());
        let matching = self.entries.iter().filter(|entry| entry.matches(request, last));
        let mut free = matching.filter(|entry| {
            // A call that is pinned to its number is the same call whenever it is asked.
            let pinned = entry.call.is_some() && is_exact(&entry.reply);
            pinned || entry.reply.repeat || !entry.used.swap(true, Ordering::SeqCst)
        });
        free.next().or(self.default.as_ref())
    }

    async fn play(&self, request: &ModelRequest) -> Result<ModelAnswer, CallFailure> {
        let Some(entry) = self.pick(request) else {
            let ModelRequest { call, agent, attempt, .. } = request;
            let message = format!(
                "no reply in {} for call {call} of agent {agent} (attempt {attempt}): add a [[reply]] for it, or a [default]",
                self.path
            );
            return Err(CallFailure::of(FailureClass::OurFault, message));
        };
        if !entry.delay.is_zero() {
            tokio::time::sleep(entry.delay).await;
        }
        if entry.reply.hang {
            std::future::pending::<()>().await;
        }
        match &entry.reply.fail {
            Some(fail) => Err(failure(fail, entry.retry_after_ms)),
            None => Ok(answer(&entry.reply, request)),
        }
    }
}

impl Model for Scripted {
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        _: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        Box::pin(self.play(request))
    }
}

impl Entry {
    fn matches(&self, request: &ModelRequest, last: &str) -> bool {
        let number = request.call.number;
        let turn = self.call.is_none_or(|call| number == call || self.reply.repeat && number > call);
        let reply = &self.reply;
        reply.agent.as_ref().is_none_or(|agent| agent == request.agent.as_str())
            && reply.step.as_ref().is_none_or(|step| glob(step, request.call.step.as_str()))
            && turn
            && reply.attempt.is_none_or(|attempt| attempt == request.attempt)
            && reply.contains.as_ref().is_none_or(|part| last.contains(part.as_str()))
    }
}

fn is_exact(reply: &Reply) -> bool {
    reply.step.as_ref().is_some_and(|step| !step.contains('*'))
}

/// Entries that answer the calls of their step in file order: no other condition could skip one.
fn in_order(reply: &Reply) -> bool {
    is_exact(reply) && reply.attempt.is_none() && reply.contains.is_none()
}

/// `*` is any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).any(|i| rest.is_char_boundary(i) && glob(tail, &rest[i..]))),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn entry(path: &str, text: &str, reply: toml::Spanned<Reply>) -> Result<Entry, String> {
    let line = line_of(text, reply.span().start);
    let reply = reply.into_inner();
    let wrong = |key: &str, why: String| format!("script {path}, reply at line {line}, `{key}`: {why}");
    let span = |key: &str, text: Option<&String>| match text {
        None => Ok(None),
        Some(text) => duration(text).map(Some).map_err(|why| wrong(key, why)),
    };
    if reply.text.is_some() && reply.json.is_some() {
        return Err(wrong("json", "`text` is there too: keep one of them".to_owned()));
    }
    if let Some(fail) = &reply.fail
        && fail.class.is_none()
        && fail.status.is_none()
    {
        return Err(wrong("fail", "expected `class` (such as \"ambiguous\") or `status` (such as 429)".to_owned()));
    }
    let says = reply.text.is_some() || reply.json.is_some() || !reply.tool_calls.is_empty();
    if !says && reply.fail.is_none() && !reply.hang && reply.finish.is_none() {
        return Err(wrong("reply", "it says nothing: add text, json, tool_calls, finish, fail or hang".to_owned()));
    }
    let delay = span("delay", reply.delay.as_ref())?.unwrap_or_default();
    let retry_after = span("fail.retry_after", reply.fail.as_ref().and_then(|fail| fail.retry_after.as_ref()))?;
    let retry_after_ms = retry_after.and_then(|wait| u64::try_from(wait.as_millis()).ok());
    let call = reply.call;
    Ok(Entry { reply, delay, retry_after_ms, call, used: AtomicBool::new(false) })
}

/// `"100ms"`, `"90s"`, `"10m"`, `"2h"`; or in words what was expected.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration: write a number and a unit, such as \"100ms\", \"90s\", \"10m\"");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

fn failure(fail: &Fail, retry_after_ms: Option<u64>) -> CallFailure {
    let message = fail.message.clone().unwrap_or_else(|| "as scripted".to_owned());
    match (fail.class, fail.status) {
        (None, Some(status)) => {
            let said = Said { message, code: fail.code.clone(), ..Said::default() };
            said.failure(status, retry_after_ms, str::to_owned)
        }
        (class, status) => {
            let by_status = status.map(|status| classify(status, &[]));
            let class = class.or(by_status).unwrap_or(FailureClass::Ambiguous);
            CallFailure { status, retry_after_ms, ..CallFailure::of(class, message) }
        }
    }
}

fn answer(reply: &Reply, request: &ModelRequest) -> ModelAnswer {
    let json = reply.json.as_ref().map(Value::to_string);
    let text = reply.text.clone().or(json).unwrap_or_default();
    let tool_calls: Vec<ToolAsk> = reply
        .tool_calls
        .iter()
        .enumerate()
        .map(|(i, ask)| ToolAsk {
            id: ask.id.clone().unwrap_or_else(|| format!("scripted_{}_{}", request.call.number, i + 1)),
            name: wire_name(&ask.name),
            arguments: match &ask.arguments {
                Value::String(text) => text.clone(),
                Value::Null => "{}".to_owned(),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => ask.arguments.to_string(),
            },
        })
        .collect();
    let usual = if tool_calls.is_empty() { Finish::Stop } else { Finish::Tool };
    let usage = match &reply.usage {
        None => estimate(request, &text, &tool_calls),
        Some(Used::Word(UsedWord::Absent)) => Usage::ABSENT,
        Some(Used::Word(UsedWord::Unparsable)) => {
            Usage { input: Count::Unparsable, output: Count::Unparsable, ..Usage::ABSENT }
        }
        Some(Used::Counts(counts)) => {
            let count = |n: Option<u64>| n.map_or(Count::Absent, Count::Reported);
            Usage {
                cache_read: count(counts.cache_read),
                cache_write: count(counts.cache_write),
                reasoning: count(counts.reasoning),
                ..Usage::reported(counts.input, counts.output)
            }
        }
    };
    let finish = reply.finish.unwrap_or(usual);
    ModelAnswer { text, tool_calls, finish, usage, ..ModelAnswer::unusable(None) }
}

#[cfg(test)]
mod tests;
