//! A generateContent answer, whole or in chunks: a whole one is a stream of one chunk. Invariant: the
//! parts of a turn stay as they came, so that its signatures stay true.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::map::MADE_UP;
use crate::adapters::models::count::Field;
use crate::adapters::models::served::served;
use crate::core::chat::{Finish, ModelAnswer, ToolAsk};
use crate::core::money::{Count, Usage};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    #[serde(default)]
    prompt_feedback: Option<Feedback>,
    #[serde(borrow, default)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(default)]
    model_version: Option<String>,
    #[serde(default)]
    response_id: Option<String>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    finish_message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    #[serde(default)]
    block_reason: Option<String>,
    #[serde(default)]
    block_reason_message: Option<String>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    #[serde(borrow, default)]
    function_call: Option<Called<'a>>,
    #[serde(borrow, default)]
    thought_signature: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Called<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

/// What a chunk comes to.
pub enum Step {
    On,
    /// The next piece of the text.
    Text(String),
    /// The provider gave up in mid-answer; its words.
    Failed(String),
    /// This is no chunk.
    Not,
}

/// How an answer ends that nothing broke off.
pub enum End {
    Answer(Box<ModelAnswer>),
    /// No chunk said that it is over.
    Cut,
}

/// An answer that is coming.
#[derive(Default)]
pub struct Answer {
    /// The contents as they came, and their parts.
    contents: Vec<Box<RawValue>>,
    parts: Vec<Box<RawValue>>,
    text: String,
    asks: Vec<ToolAsk>,
    verbatim: bool,
    finish: Option<String>,
    finish_words: Option<String>,
    blocked: Option<String>,
    usage: Option<Box<RawValue>>,
    model: Option<String>,
    id: Option<String>,
}

impl Answer {
    pub fn chunk(&mut self, text: &str) -> Step {
        let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(text) else { return Step::Not };
        if let Some(error) = chunk.error {
            let say = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
            return Step::Failed(format!("the provider gave up: {} (status `{}`)", say("message"), say("status")));
        }
        if chunk.candidates.is_empty() && chunk.prompt_feedback.is_none() && chunk.usage_metadata.is_none() {
            return Step::Not;
        }
        // Cumulative: the last one counts.
        self.usage = chunk.usage_metadata.map(RawValue::to_owned).or(self.usage.take());
        self.model = chunk.model_version.or(self.model.take());
        self.id = chunk.response_id.or(self.id.take());
        if let Some((reason, words)) =
            chunk.prompt_feedback.and_then(|f| Some((f.block_reason?, f.block_reason_message)))
        {
            let words = words.map(|words| format!(": {words}")).unwrap_or_default();
            self.blocked = Some(format!("the prompt was blocked ({reason}){words}"));
        }
        let Some(candidate) = chunk.candidates.into_iter().next() else { return Step::On };
        self.finish = candidate.finish_reason.or(self.finish.take());
        self.finish_words = candidate.finish_message.or(self.finish_words.take());
        match candidate.content.map(|content| self.content(content)) {
            None => Step::On,
            Some(None) => Step::Not,
            Some(Some(piece)) if piece.is_empty() => Step::On,
            Some(Some(piece)) => Step::Text(piece),
        }
    }

    /// The text of the content, which may have no parts: the last chunk often brings none.
    fn content(&mut self, raw: &RawValue) -> Option<String> {
        let content: Content<'_> = serde_json::from_str(raw.get()).ok()?;
        let mut piece = String::new();
        for part in &content.parts {
            let read: Part<'_> = serde_json::from_str(part.get()).ok()?;
            self.verbatim |= read.thought_signature.is_some();
            if let Some(text) = read.text.filter(|_| !read.thought) {
                piece.push_str(&text);
            }
            if let Some(called) = read.function_call {
                // Results are matched by id, so a call that has none gets one, by its place.
                let made_up = || format!("{MADE_UP}{}", self.asks.len() + 1);
                let id = called.id.filter(|id| !id.is_empty()).unwrap_or_else(made_up);
                let arguments = called.args.map_or("{}", RawValue::get).to_owned();
                self.asks.push(ToolAsk { id, name: called.name, arguments });
            }
            self.parts.push((*part).to_owned());
        }
        if !content.parts.is_empty() {
            self.contents.push(raw.to_owned());
        }
        self.text.push_str(&piece);
        Some(piece)
    }

    /// Has a finish or a block been seen?
    pub fn is_over(&self) -> bool {
        self.finish.is_some() || self.blocked.is_some()
    }

    /// What was reported as used so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage.as_deref().map(|raw| usage(Some(raw)))
    }

    /// `whole`: the body ended by itself, so that a missing finish is no sign of a cut.
    pub fn end(mut self, model: &str, request_id: Option<String>, whole: bool) -> End {
        if !self.is_over() && !whole {
            return End::Cut;
        }
        if !self.is_over() && self.contents.is_empty() {
            return End::Answer(Box::new(self.settled(model, request_id)));
        }
        let native = self.native();
        let finish = match (&self.blocked, self.finish.as_deref()) {
            (Some(_), None) => Finish::Filter,
            (_, reason) => finish(reason.unwrap_or("STOP"), self.asks.is_empty()),
        };
        let why = self.blocked.take().or(self.finish_words.take());
        let text = std::mem::take(&mut self.text);
        // The provider's reason is all there is to show of an answer that brought nothing.
        let text = match (text.is_empty() && finish != Finish::Stop && finish != Finish::Tool, why) {
            (true, Some(why)) => why,
            (true, None) | (false, _) => text,
        };
        let (tool_calls, verbatim) = (std::mem::take(&mut self.asks), self.verbatim && native.is_some());
        let settled = self.settled(model, request_id);
        End::Answer(Box::new(ModelAnswer { text, tool_calls, finish, native, verbatim, ..settled }))
    }

    fn settled(&mut self, model: &str, request_id: Option<String>) -> ModelAnswer {
        let usage = usage(self.usage.as_deref());
        let served = served((model, None), self.model.take(), None, "");
        let raw_usage = self.usage.take();
        let request_id = request_id.or(self.id.take());
        ModelAnswer { usage, raw_usage, served, ..ModelAnswer::unusable(request_id) }
    }

    /// One content as it came, or the parts of several, each as it came, in one.
    fn native(&mut self) -> Option<Box<RawValue>> {
        if self.contents.len() == 1 {
            return self.contents.pop();
        }
        let parts: Vec<&str> = self.parts.iter().map(|part| part.get()).collect();
        let joined = || RawValue::from_string(format!("{{\"role\":\"model\",\"parts\":[{}]}}", parts.join(","))).ok();
        if parts.is_empty() { None } else { joined() }
    }
}

/// Of the 24 values (google-genai 3.4) those with an answer, those where a filter stopped it, and those,
/// known or new, where something went wrong.
fn finish(reason: &str, no_calls: bool) -> Finish {
    match reason {
        "STOP" if no_calls => Finish::Stop,
        "STOP" => Finish::Tool,
        "MAX_TOKENS" | "CONTINUATION" => Finish::Length,
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" => {
            Finish::Filter
        }
        "IMAGE_PROHIBITED_CONTENT" | "IMAGE_RECITATION" | "ESCALATION" | "PUP_LIMITED_DISABLED" | "MODEL_ARMOR" => {
            Finish::Filter
        }
        // OTHER, IMAGE_OTHER, NO_IMAGE, MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, TOO_MANY_TOOL_CALLS,
        // MISSING_THOUGHT_SIGNATURE, MALFORMED_RESPONSE, FINISH_REASON_UNSPECIFIED.
        _ => Finish::Malformed,
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct WireUsage<'a> {
    #[serde(borrow, default)]
    prompt_token_count: Field<'a>,
    #[serde(borrow, default)]
    tool_use_prompt_token_count: Field<'a>,
    #[serde(borrow, default)]
    candidates_token_count: Field<'a>,
    #[serde(borrow, default)]
    thoughts_token_count: Field<'a>,
    #[serde(borrow, default)]
    cached_content_token_count: Field<'a>,
    #[serde(borrow, default)]
    total_token_count: Field<'a>,
}

/// The candidates leave out the thoughts and the prompt leaves out what server-side tools added: both are
/// added here. A number that is zero is left out on this wire; it is read as zero only where the total
/// says so.
fn usage(raw: Option<&RawValue>) -> Usage {
    let Some(raw) = raw else { return Usage::ABSENT };
    let broken = Usage { input: Count::Unparsable, output: Count::Unparsable, ..Usage::ABSENT };
    let Ok(wire) = serde_json::from_str::<WireUsage<'_>>(raw.get()) else { return broken };
    let thoughts = wire.thoughts_token_count.count();
    let input = plus(wire.prompt_token_count.count(), wire.tool_use_prompt_token_count.count());
    let named = input.reported().and_then(|input| input.checked_add(thoughts.reported().unwrap_or(0)));
    let said = match (wire.candidates_token_count.count(), wire.total_token_count.count(), named) {
        (Count::Absent, Count::Reported(total), Some(named)) if total == named => Count::Reported(0),
        (said, _, _) => said,
    };
    let cache_read = wire.cached_content_token_count.count();
    Usage { input, output: plus(said, thoughts), cache_read, cache_write: Count::Absent, reasoning: thoughts }
}

/// The first with what the second adds to it, if anything.
fn plus(base: Count, more: Count) -> Count {
    match (base, more) {
        (Count::Reported(base), Count::Reported(more)) => {
            base.checked_add(more).map_or(Count::Unparsable, Count::Reported)
        }
        (base, Count::Absent) => base,
        (_, Count::Unparsable) | (Count::Unparsable, _) => Count::Unparsable,
        (Count::Absent, Count::Reported(_)) => Count::Absent,
    }
}
