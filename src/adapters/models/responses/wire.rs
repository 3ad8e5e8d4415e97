//! A response object as it is on the wire, whole or as the end of a stream. Invariant: what was
//! reported as used is paid for, whatever became of the answer.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::adapters::models::count::Field;
use crate::adapters::models::served::served;
use crate::core::chat::{Finish, ModelAnswer, ToolAsk};
use crate::core::money::{Count, Usage};

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(default)]
    status: Option<String>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Fault>,
    #[serde(default)]
    incomplete_details: Option<Incomplete>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    service_tier: Option<String>,
}

#[derive(Deserialize)]
struct Incomplete {
    #[serde(default)]
    reason: Option<String>,
}

/// An error that a response object or an `error` event carries.
#[derive(Deserialize, Default)]
pub struct Fault {
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
}

impl Fault {
    pub fn words(&self) -> String {
        let message = self.message.as_deref().unwrap_or("no words");
        match &self.code {
            Some(code) => format!("the provider gave up: {message} (code `{code}`)"),
            None => format!("the provider gave up: {message}"),
        }
    }
}

#[derive(Deserialize)]
struct Item {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// What was asked for, where the answer may say otherwise.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub model: &'a str,
    pub tier: Option<&'a str>,
}

/// What a response object comes to.
pub enum Outcome {
    Answer(Box<ModelAnswer>),
    /// It failed there and nothing says whether it was billed; why, in the provider's words.
    Failed(String),
    /// This is no response object.
    Not,
}

/// `items`: the output as its items came one by one, for a final object that leaves them out.
pub fn outcome(text: &str, items: Option<Box<RawValue>>, asked: Asked<'_>, request_id: Option<String>) -> Outcome {
    let Ok(response) = serde_json::from_str::<Response<'_>>(text) else { return Outcome::Not };
    let usage = usage(response.usage);
    let raw_usage = response.usage.map(RawValue::to_owned);
    let tier = response.service_tier.clone();
    let served = served((asked.model, asked.tier), response.model.clone(), tier, "default");
    let settled = ModelAnswer { usage, raw_usage, served, ..ModelAnswer::unusable(request_id) };
    if matches!(response.status.as_deref(), Some("failed" | "cancelled")) {
        let words = response.error.unwrap_or_default().words();
        // Its price is known: it is paid, and the answer is of no use.
        return match usage.known() {
            Some(_) => Outcome::Answer(Box::new(ModelAnswer { text: words, ..settled })),
            None => Outcome::Failed(words),
        };
    }
    let listed = response.output.filter(|output| output.get() != "[]").map(RawValue::to_owned);
    let native = listed.or(items).or_else(|| response.output.map(RawValue::to_owned));
    let Some((native, turn)) = native.and_then(|native| turn(&native).map(|turn| (native, turn))) else {
        return if response.usage.is_some() { Outcome::Answer(Box::new(settled)) } else { Outcome::Not };
    };
    let cut = match (response.status.as_deref(), response.incomplete_details.and_then(|why| why.reason).as_deref()) {
        (None | Some("completed"), _) => None,
        (Some("incomplete"), Some("content_filter")) => Some(Finish::Filter),
        (Some("incomplete"), _) => Some(Finish::Length),
        // It is still being made.
        (Some(_), _) => return Outcome::Answer(Box::new(settled)),
    };
    let whole = match (turn.refused, turn.asks.is_empty()) {
        (true, _) => Finish::Refusal,
        (false, true) => Finish::Stop,
        (false, false) => Finish::Tool,
    };
    let (text, tool_calls, verbatim) = (turn.text, turn.asks, turn.verbatim);
    let finish = cut.unwrap_or(whole);
    Outcome::Answer(Box::new(ModelAnswer { text, tool_calls, finish, native: Some(native), verbatim, ..settled }))
}

#[derive(Default)]
struct Turn {
    text: String,
    refused: bool,
    asks: Vec<ToolAsk>,
    verbatim: bool,
}

fn turn(output: &RawValue) -> Option<Turn> {
    let items: Vec<Item> = serde_json::from_str(output.get()).ok()?;
    let mut turn = Turn::default();
    let mut refusal = String::new();
    for (i, item) in items.into_iter().enumerate() {
        match &*item.kind {
            "message" => {
                turn.verbatim |= item.phase.is_some();
                for part in item.content.as_ref().and_then(Value::as_array).into_iter().flatten() {
                    let said = |key: &str| part.get(key).and_then(Value::as_str).unwrap_or_default();
                    turn.text.push_str(said("text"));
                    refusal.push_str(said("refusal"));
                }
            }
            "function_call" => turn.asks.push(ToolAsk {
                // Results are matched by id, so a server that sends none still gets one per call.
                id: item.call_id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}", i + 1)),
                name: item.name?,
                arguments: item.arguments.unwrap_or_default(),
            }),
            // Reasoning, and whatever is new: what is not understood is not taken apart.
            _ => turn.verbatim = true,
        }
    }
    if !refusal.is_empty() {
        turn.text = refusal;
        turn.refused = true;
    }
    Some(turn)
}

#[derive(Deserialize, Default)]
struct WireUsage<'a> {
    #[serde(borrow, default)]
    input_tokens: Field<'a>,
    #[serde(borrow, default)]
    output_tokens: Field<'a>,
    #[serde(borrow, default)]
    input_tokens_details: Field<'a>,
    #[serde(borrow, default)]
    output_tokens_details: Field<'a>,
}

#[derive(Deserialize, Default)]
struct Details<'a> {
    #[serde(borrow, default)]
    cached_tokens: Field<'a>,
    #[serde(borrow, default)]
    cache_write_tokens: Field<'a>,
    #[serde(borrow, default)]
    reasoning_tokens: Field<'a>,
}

/// Both totals are inclusive on this wire. A usage that is not an object is unparsable, not absent.
fn usage(raw: Option<&RawValue>) -> Usage {
    let Some(raw) = raw else { return Usage::ABSENT };
    let broken = Usage { input: Count::Unparsable, output: Count::Unparsable, ..Usage::ABSENT };
    let Ok(wire) = serde_json::from_str::<WireUsage<'_>>(raw.get()) else { return broken };
    let details = |field: Field<'_>, read: fn(&Details<'_>) -> Count| match field {
        // Whole details of null are what servers without them send.
        Field::Absent | Field::Present("null") => Count::Absent,
        Field::Present(text) => serde_json::from_str(text).map_or(Count::Unparsable, |details| read(&details)),
    };
    Usage {
        input: wire.input_tokens.count(),
        output: wire.output_tokens.count(),
        cache_read: details(wire.input_tokens_details, |of| of.cached_tokens.count()),
        cache_write: details(wire.input_tokens_details, |of| of.cache_write_tokens.count()),
        reasoning: details(wire.output_tokens_details, |of| of.reasoning_tokens.count()),
    }
}
