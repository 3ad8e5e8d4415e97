//! A conversation as Messages takes it. Invariant: roles alternate, every result of a turn's tools
//! stands in the one user message after it, and a turn that must go back verbatim does.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::adapters::models::body::{Body, CannotSay};
use crate::adapters::models::secrets::{SecretInputs, unmark};
use crate::core::chat::{Message, ModelRequest, ToolAsk};

/// Under this key goes a tool's input that is no JSON object, both ways.
pub const INVALID: &str = "INVALID_JSON";
const MARK: &str = ",\"cache_control\":{\"type\":\"ephemeral\"}";

/// Blocks are JSON objects that want their closing brace: a mark may come before it.
enum Turn {
    User(Vec<String>),
    Assistant(Vec<String>),
    /// The whole `content`.
    Own(Arc<str>),
}

pub struct Turns {
    system: String,
    turns: Vec<Turn>,
    /// Names of tools that were called, as they are on the wire.
    pub called: BTreeSet<String>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        content: &'a str,
    },
}

impl Block<'_> {
    fn open(&self) -> String {
        // Strings and JSON into memory: it cannot fail.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.pop();
        text
    }
}

impl Turns {
    pub fn of(request: &ModelRequest, secrets: &SecretInputs) -> Result<Turns, CannotSay> {
        let mut all = Turns { system: String::new(), turns: Vec::new(), called: BTreeSet::new() };
        for (at, encoded) in request.messages.iter().enumerate() {
            let message = Message::decode(&unmark(encoded, secrets))
                .map_err(|why| CannotSay::Message { number: at + 1, why: why.to_string() })?;
            match request.own_turns.get(&at) {
                Some(own) => all.own(own, &message),
                None => all.push(message),
            }
        }
        Ok(all)
    }

    fn own(&mut self, own: &Arc<str>, message: &Message) {
        if let Message::Assistant { tool_calls, .. } = message {
            self.called.extend(tool_calls.iter().map(|ask| ask.name.clone()));
        }
        self.turns.push(Turn::Own(own.clone()));
    }

    fn push(&mut self, message: Message) {
        match message {
            Message::System { content } => {
                let joint = if self.system.is_empty() { "" } else { "\n\n" };
                self.system.push_str(joint);
                self.system.push_str(&content);
            }
            // An empty text is refused.
            Message::User { content } if content.trim().is_empty() => {}
            Message::User { content } => self.user(Block::Text { text: &content }.open()),
            Message::Tool { tool_call_id, content } => {
                let tool_use_id = &*clean(&tool_call_id);
                self.user(Block::ToolResult { tool_use_id, content: &content }.open());
            }
            Message::Assistant { content, tool_calls } => {
                let text = (!content.trim().is_empty()).then(|| Block::Text { text: &content }.open());
                let blocks: Vec<String> = text.into_iter().chain(tool_calls.iter().map(tool_use)).collect();
                self.called.extend(tool_calls.into_iter().map(|ask| ask.name));
                // A turn without anything in it is refused.
                if blocks.is_empty() {
                    return;
                }
                match self.turns.last_mut() {
                    Some(Turn::Assistant(before)) => before.extend(blocks),
                    Some(Turn::User(_) | Turn::Own(_)) | None => self.turns.push(Turn::Assistant(blocks)),
                }
            }
        }
    }

    fn user(&mut self, block: String) {
        match self.turns.last_mut() {
            Some(Turn::User(blocks)) => blocks.push(block),
            Some(Turn::Assistant(_) | Turn::Own(_)) | None => self.turns.push(Turn::User(vec![block])),
        }
    }

    pub fn system_bytes(&self) -> usize {
        self.system.len()
    }

    /// Bytes of the conversation, more or less.
    pub fn bytes(&self) -> usize {
        let of = |turn: &Turn| match turn {
            Turn::User(blocks) | Turn::Assistant(blocks) => blocks.iter().map(|block| block.len() + 40).sum(),
            Turn::Own(content) => content.len() + 40,
        };
        self.system.len() + self.turns.iter().map(of).sum::<usize>()
    }

    /// The top-level `system`, if there is one.
    pub fn write_system(&self, body: &mut Body<'_>, marked: bool) {
        if self.system.trim().is_empty() {
            return;
        }
        body.raw(",\"system\":");
        if marked {
            body.raw("[");
            body.raw(&Block::Text { text: &self.system }.open());
            body.raw(MARK);
            body.raw("}]");
        } else {
            body.json(&self.system);
        }
    }

    /// `marks`: how many user turns, from the last one back, end a prefix that is worth keeping;
    /// `skip`: those at the end that do not.
    pub fn write_messages(&self, body: &mut Body<'_>, marks: usize, skip: usize) {
        let users: Vec<usize> = (0..self.turns.len()).filter(|at| matches!(self.turns[*at], Turn::User(_))).collect();
        let marked: Vec<usize> = users.into_iter().rev().skip(skip).take(marks).collect();
        body.raw(",\"messages\":[");
        for (at, turn) in self.turns.iter().enumerate() {
            body.raw(if at > 0 { "," } else { "" });
            match turn {
                Turn::User(blocks) => write(body, "user", blocks, marked.contains(&at)),
                Turn::Assistant(blocks) => write(body, "assistant", blocks, false),
                Turn::Own(content) => {
                    body.raw("{\"role\":\"assistant\",\"content\":");
                    body.raw(content);
                    body.raw("}");
                }
            }
        }
        body.raw("]");
    }
}

fn write(body: &mut Body<'_>, role: &str, blocks: &[String], marked: bool) {
    body.raw("{\"role\":\"");
    body.raw(role);
    body.raw("\",\"content\":[");
    for (at, block) in blocks.iter().enumerate() {
        body.raw(if at > 0 { "," } else { "" });
        body.raw(block);
        body.raw(if marked && at + 1 == blocks.len() { MARK } else { "" });
        body.raw("}");
    }
    body.raw("]}");
}

fn tool_use(ask: &ToolAsk) -> String {
    let id = &*clean(&ask.id);
    let object = serde_json::from_str::<&RawValue>(&ask.arguments).ok().filter(|raw| raw.get().starts_with('{'));
    let wrapped;
    let input = match object {
        Some(raw) => raw,
        None if ask.arguments.trim().is_empty() => empty(),
        None => {
            let value = Value::Object([(INVALID.to_owned(), ask.arguments.clone().into())].into_iter().collect());
            wrapped = serde_json::value::to_raw_value(&value);
            wrapped.as_deref().unwrap_or(empty())
        }
    };
    Block::ToolUse { id, name: &ask.name, input }.open()
}

fn empty() -> &'static RawValue {
    serde_json::from_str("{}").unwrap_or(RawValue::NULL)
}

/// Ids of other providers may hold what this one refuses: the same change on both sides of a pair.
fn clean(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect()
}
