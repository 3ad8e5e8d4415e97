//! What is said to a model and what it says back, in no provider's words. Invariant: a message is
//! encoded once; what is stored, hashed, sent and shown are the same bytes.
//!
//! A message is a JSON object in the field's most common shape (`role`, `content`, `tool_calls`,
//! `tool_call_id`), so that an adapter for Chat Completions splices it into a request as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use super::failure::Parameter;
use super::ids::{BlobId, CallId, Name, RunId};
use super::json_text;
use super::money::Usage;

/// How the mark of a secret input begins: prompts, events and blobs hold the mark, the client puts the
/// value in at the socket.
pub const SECRET_MARK: &str = "⟦secret:";
/// Most bytes of a secret as JSON: what a hold counts for each mark.
pub const SECRET_MAX: usize = 512;

/// A text with its id: whatever an event refers to by hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub id: BlobId,
    pub text: Arc<str>,
}

impl Blob {
    pub fn new(text: impl Into<Arc<str>>) -> Blob {
        let text = text.into();
        Blob { id: BlobId::of(text.as_bytes()), text }
    }
}

/// One message, parsed. [`Message::encode`] gives the canonical bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Message {
    System {
        content: String,
    },
    User {
        content: String,
    },
    Assistant {
        content: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolAsk>,
    },
    Tool {
        tool_call_id: String,
        content: String,
    },
}

impl Message {
    pub fn encode(&self) -> Blob {
        let (role, content) = match self {
            Message::System { content } => ("system", content),
            Message::User { content } => ("user", content),
            Message::Assistant { content, tool_calls } if tool_calls.is_empty() => ("assistant", content),
            // Strings and string vectors only: serialisation of this type cannot fail.
            Message::Assistant { .. } | Message::Tool { .. } => {
                return Blob::new(serde_json::to_string(self).unwrap_or_default());
            }
        };
        // The long texts, with every call: the same bytes, written faster.
        let mut out = String::with_capacity(content.len() + content.len() / 16 + 48);
        out.push_str("{\"role\":\"");
        out.push_str(role);
        out.push_str("\",\"content\":");
        json_text::write(&mut out, content);
        out.push('}');
        Blob::new(out)
    }
    pub fn decode(text: &str) -> Result<Message, serde_json::Error> {
        serde_json::from_str(text)
    }
    pub fn content(&self) -> &str {
        match self {
            Message::System { content } | Message::User { content } => content,
            Message::Assistant { content, .. } | Message::Tool { content, .. } => content,
        }
    }
}

/// A tool call that a model asked for. `arguments` is the text as it came: it may not be JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolAsk {
    /// The provider's id of this call, sent back with the result.
    pub id: String,
    /// Name on the wire, where a dot is `__` ([`wire_name`]).
    pub name: String,
    pub arguments: String,
}

/// The nested form that goes over the wire: `{id, type: "function", function: {name, arguments}}`.
#[derive(Serialize, Deserialize)]
struct WireAsk<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(default, rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    function: WireFunction<'a>,
}
#[derive(Serialize, Deserialize)]
struct WireFunction<'a> {
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    arguments: std::borrow::Cow<'a, str>,
}
impl Serialize for ToolAsk {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let function = WireFunction { name: (&*self.name).into(), arguments: (&*self.arguments).into() };
        WireAsk { id: (&*self.id).into(), kind: "function".into(), function }.serialize(to)
    }
}
impl<'de> Deserialize<'de> for ToolAsk {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wire = WireAsk::deserialize(from)?;
        let WireFunction { name, arguments } = wire.function;
        Ok(ToolAsk { id: wire.id.into_owned(), name: name.into_owned(), arguments: arguments.into_owned() })
    }
}

/// `files.read` as providers allow it: letters, digits, `_`, `-`.
pub fn wire_name(tool: &str) -> String {
    tool.replace('.', "__")
}

/// May a call be repeated?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Changes nothing: repeat freely.
    Read,
    /// Repeat with the same idempotency key.
    Idempotent,
    /// Never repeated by itself: an unknown outcome goes to a person.
    Once,
}

/// A tool as an agent and its model see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// `files.read`, or the name of a `[tools.N]` table.
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments: an object schema.
    pub parameters: serde_json::Value,
    pub effect: Effect,
    /// Of one call, in milliseconds.
    pub timeout_ms: u64,
    /// Tokens (o200k) of a result that the model is shown; the rest is kept as a blob.
    pub max_result: u64,
}

/// Settings of one call. Fractions are thousandths: state holds no floats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Most tokens of output, reasoning included.
    pub max_output: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Milli>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Milli>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// The provider's word for reasoning effort, passed as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// What the provider has refused in an earlier attempt: an adapter leaves it out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Parameter>,
}

/// Thousandths: 0.7 is `Milli(700)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Milli(pub u32);

impl Milli {
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// What an answer must be: a JSON Schema with the name it has on the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSchema {
    pub name: String,
    pub schema: serde_json::Value,
}

/// One model call, complete: an adapter needs nothing else but its key.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    pub run: RunId,
    pub call: CallId,
    pub agent: Name,
    /// Attempt of the step, from 1: stand-ins may answer by it.
    pub attempt: u32,
    /// The provider's id of the model (`gpt-4.1-mini`).
    pub model: Arc<str>,
    /// Encoded [`Message`]s in order.
    pub messages: Vec<Arc<str>>,
    /// Turns that this very model wrote and must get back byte for byte, in the provider's own JSON, by
    /// the index of the message they stand for.
    pub own_turns: BTreeMap<usize, Arc<str>>,
    /// Empty: no tools are offered.
    pub tools: Arc<[ToolSpec]>,
    pub schema: Option<Arc<OutputSchema>>,
    pub settings: Settings,
    /// `extra` of the model: keys merged into the request body as they are.
    pub extra: Arc<serde_json::Map<String, serde_json::Value>>,
}

/// Why an answer ended, normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Stop,
    /// Cut off at `max_output`.
    Length,
    Tool,
    Refusal,
    /// A content filter of the provider.
    Filter,
    /// A 2xx whose body is not an answer: HTML, cut JSON, too large. It may have been billed.
    Malformed,
}

/// A model's answer as it came.
#[derive(Clone, Debug)]
pub struct ModelAnswer {
    pub text: String,
    pub tool_calls: Vec<ToolAsk>,
    pub finish: Finish,
    pub usage: Usage,
    /// The provider's own turn, byte for byte, as it is kept for audit.
    pub native: Option<Box<RawValue>>,
    /// `native` must go back with the next request as it came: signatures, reasoning items.
    pub verbatim: bool,
    /// The model and the service tier that served it, as reported, where they are not what was asked for.
    pub served: Option<Served>,
    /// The usage object as it came, whatever `usage` made of it; `None` where there was none.
    pub raw_usage: Option<Box<RawValue>>,
    pub request_id: Option<String>,
}

impl ModelAnswer {
    /// A plain answer, whole.
    pub fn of(text: String, usage: Usage) -> ModelAnswer {
        ModelAnswer { text, finish: Finish::Stop, usage, ..ModelAnswer::unusable(None) }
    }
    /// An answer of which nothing is known but that it came.
    pub fn unusable(request_id: Option<String>) -> ModelAnswer {
        ModelAnswer {
            text: String::new(),
            tool_calls: Vec::new(),
            finish: Finish::Malformed,
            usage: Usage::ABSENT,
            native: None,
            verbatim: false,
            served: None,
            raw_usage: None,
            request_id,
        }
    }
}

/// Who answered, in the provider's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Served {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
}

/// Why there is no answer: what the failure table needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallFailure {
    pub class: FailureClass,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The provider's words or the transport's; keys and prompts never.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What a stream had reported before it broke off: kept for whoever reconciles the call, never booked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// The parameter of the request that the provider names as what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<Parameter>,
}

impl CallFailure {
    /// Nothing known but the class and the words.
    pub fn of(class: FailureClass, message: String) -> CallFailure {
        CallFailure { class, status: None, message, retry_after_ms: None, usage: None, param: None }
    }
}

/// Rows of the failure table that a client can tell apart. What each does to money and attempts is in
/// [`failure`](super::failure).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// DNS, connect, TLS: nothing was written to the socket.
    NotSent,
    /// 408 425 429 503 529.
    Transient,
    /// 401 403: the key is missing or refused.
    Credentials,
    /// 402, quota and spend codes, also as 429.
    Quota,
    /// 404: the model or the address does not exist. Final, as [`FailureClass::Quota`], but no money helps.
    NotFound,
    /// The provider's own overflow code.
    TooLong,
    /// Any other 4xx.
    OurFault,
    /// Timeout after send, reset, any 5xx that is in no list of unbilled ones, any status in no list.
    Ambiguous,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_encoded_as_the_json_library_would() {
        let odd: String = (0..=0x90).filter_map(char::from_u32).chain("ü→𝄞\u{2028}\u{FEFF}".chars()).collect();
        for content in
            [String::new(), "plain ".repeat(40), odd.clone(), format!("{}{odd}{}", "x".repeat(61), "y".repeat(70))]
        {
            let answer = Message::Assistant { content: content.clone(), tool_calls: Vec::new() };
            for message in [answer, Message::User { content: content.clone() }, Message::System { content }] {
                assert_eq!(*message.encode().text, *serde_json::to_string(&message).unwrap());
            }
        }
    }

    #[test]
    fn a_message_is_its_own_wire_form() {
        let ask = ToolAsk { id: "c1".into(), name: "files__read".into(), arguments: "{\"path\":\"a\"}".into() };
        let turn = Message::Assistant { content: "ok".into(), tool_calls: vec![ask] };
        let blob = turn.encode();
        assert_eq!(
            &*blob.text,
            r#"{"role":"assistant","content":"ok","tool_calls":[{"id":"c1","type":"function","function":{"name":"files__read","arguments":"{\"path\":\"a\"}"}}]}"#
        );
        assert_eq!(Message::decode(&blob.text).unwrap(), turn);
    }
}
