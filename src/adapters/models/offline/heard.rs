//! What a request says, taken apart. Invariant: nothing is lost that a rule may need; a message that
//! cannot be read is taken as plain text.

use serde_json::Value;

use crate::core::chat::{Message, ModelRequest, ToolAsk, wire_name};

pub struct Heard {
    /// Texts of the user messages in order.
    users: Vec<String>,
    /// Tool calls that were asked for, with their result where it is there.
    pub asked: Vec<(ToolAsk, Option<String>)>,
}

/// A fenced part of a message: what names it, and its text.
struct Block {
    label: String,
    text: String,
}

impl Heard {
    pub fn of(request: &ModelRequest) -> Heard {
        let mut heard = Heard { users: Vec::new(), asked: Vec::new() };
        for encoded in &request.messages {
            match Message::decode(encoded) {
                Ok(Message::User { content }) => heard.users.push(content),
                Ok(Message::Assistant { tool_calls, .. }) => {
                    heard.asked.extend(tool_calls.into_iter().map(|ask| (ask, None)));
                }
                Ok(Message::Tool { tool_call_id, content }) => {
                    // The latest call of that id: providers count ids anew in each conversation.
                    let ask = heard.asked.iter_mut().rev().find(|(ask, _)| ask.id == tool_call_id);
                    if let Some((_, result)) = ask {
                        *result = Some(content);
                    }
                }
                Ok(Message::System { .. }) => {}
                Err(_) => heard.users.push(encoded.to_string()),
            }
        }
        heard
    }

    /// The words outside of fences: what is asked for.
    pub fn task(&self) -> String {
        let open: Vec<String> = self.users.iter().map(|text| split(text).0).collect();
        open.join("\n\n").trim().to_owned()
    }

    /// The text to work on: tool results and fenced parts, else all that was said.
    pub fn source(&self) -> String {
        // What a look at a folder says is where texts are, and lines of texts that have been read since.
        let has_read = self.asked.iter().any(|(ask, _)| ask.name == wire_name("files.read"));
        let is_text = |name: &str| {
            let search = name == wire_name("files.search") && has_read;
            name != "delegate" && name != wire_name("files.list") && !search
        };
        let results = self.asked.iter().filter(|(ask, _)| is_text(&ask.name)).filter_map(|(_, r)| r.clone());
        let done = self.delegated().map(|(_, result)| result);
        let blocks: Vec<Block> = self.users.iter().flat_map(|text| split(text).1).collect();
        let is = |block: &Block, word: &str| block.label.to_lowercase().contains(word);
        // A judge's feedback says what to change; it is not what to write about.
        let fresh: Vec<&Block> = blocks.iter().filter(|b| !is(b, "feedback") && !is(b, "previous")).collect();
        let kept: Vec<&Block> = match fresh.is_empty() {
            true => blocks.iter().filter(|b| !is(b, "feedback")).collect(),
            false => fresh,
        };
        let parts: Vec<String> = kept.into_iter().map(|b| b.text.clone()).chain(results).chain(done).collect();
        let all = parts.join("\n\n");
        if all.trim().is_empty() { self.users.join("\n\n") } else { all }
    }

    /// Delegated tasks that have come back: to whom, and the result or what went wrong.
    pub fn delegated(&self) -> impl Iterator<Item = (String, String)> {
        let back = self.asked.iter().filter(|(ask, _)| ask.name == "delegate");
        back.filter_map(|(ask, result)| Some((delegate(ask)?, outcome(result.as_deref()?))))
    }
}

/// Whom a `delegate` call is for.
pub fn delegate(ask: &ToolAsk) -> Option<String> {
    let arguments: Value = serde_json::from_str(&ask.arguments).ok()?;
    arguments.get("to").and_then(Value::as_str).map(str::to_owned)
}

/// The `result` of `{status, result or error, …}`, or the text as it is.
fn outcome(text: &str) -> String {
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    match (map.get("result"), map.get("error"), map.get("status")) {
        (Some(Value::String(result)), _, _) => result.clone(),
        (Some(result), _, _) if !result.is_null() => result.to_string(),
        (_, Some(error), status) => {
            let status = status.and_then(Value::as_str).unwrap_or("failed");
            let words = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            format!("({status}: {words})")
        }
        _ => text.to_owned(),
    }
}

/// The words outside of fences, and the fenced parts. A fence is a line of at least three backticks
/// or tildes, or a line with a tag (`<research>`), up to the line that closes it.
fn split(text: &str) -> (String, Vec<Block>) {
    let (mut open, mut blocks) = (String::new(), Vec::new());
    let mut lines = text.lines();
    let mut before = String::new();
    while let Some(line) = lines.next() {
        let rest = lines.clone();
        let body = closer(line).and_then(|close| {
            let count = rest.clone().position(|line| line.trim() == close)?;
            Some((count, rest.take(count).collect::<Vec<_>>().join("\n")))
        });
        match body {
            Some((count, text)) => {
                blocks.push(Block { label: format!("{before} {line}"), text });
                lines.nth(count);
            }
            None => {
                open.push_str(line);
                open.push('\n');
            }
        }
        if !line.trim().is_empty() {
            before = line.to_owned();
        }
    }
    (open, blocks)
}

/// The line that closes the fence that `line` opens.
fn closer(line: &str) -> Option<String> {
    let line = line.trim();
    for mark in ['`', '~'] {
        let width = line.chars().take_while(|c| *c == mark).count();
        if width >= 3 {
            return Some(mark.to_string().repeat(width));
        }
    }
    let tag = line.strip_prefix('<')?.strip_suffix('>')?;
    let name: String = tag.chars().take_while(|c| c.is_alphanumeric() || "_-".contains(*c)).collect();
    (!name.is_empty()).then(|| format!("</{name}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_of_every_form_are_taken_apart() {
        let text =
            "Do it.\n\nresearch:\n````\nOne.\n```\nTwo.\n````\n<feedback kind=\"x\">\nWorse.\n</feedback>\nEnd. <b>";
        let (open, blocks) = split(text);
        assert_eq!(open, "Do it.\n\nresearch:\nEnd. <b>\n");
        let texts: Vec<&str> = blocks.iter().map(|block| block.text.as_str()).collect();
        assert_eq!(texts, ["One.\n```\nTwo.", "Worse."]);
        assert!(blocks[0].label.contains("research") && blocks[1].label.contains("feedback"));
        assert_eq!(split("```\nnever closed").1.len(), 0);
    }

    #[test]
    fn a_delegate_that_failed_says_so() {
        assert_eq!(outcome(r#"{"status":"done","result":"ok","usd":"0"}"#), "ok");
        assert_eq!(outcome(r#"{"status":"over_budget","error":"no money"}"#), "(over_budget: no money)");
        assert_eq!(outcome(r#"{"status":"done","result":{"a":1}}"#), r#"{"a":1}"#);
        assert_eq!(outcome("plain"), "plain");
    }
}
