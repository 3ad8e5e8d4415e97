//! What a request says, taken apart. Invariant: instructions and material are kept apart: what stands
//! in a fence or came back from a tool is material, everything else is what was asked.

use serde_json::Value;

use super::passage::{self, Passage};
use crate::core::chat::{Message, ModelRequest, ToolAsk, wire_name};

pub struct Heard {
    /// Texts of the user messages in order.
    users: Vec<String>,
    /// Tool calls that were asked for, with their result where it is there.
    pub asked: Vec<(ToolAsk, Option<String>)>,
}

/// A fenced part of a message: what names it, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub name: String,
    pub text: String,
}

/// Fences that hold no material: what was asked, and what belongs to a revision.
const ABOUT: [&str; 6] = ["asked", "expected", "previous", "feedback", "error", "window"];

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

    /// What was asked for at first: the first message, without what stands in its fences.
    pub fn first_task(&self) -> String {
        self.users.first().map(|text| split(text).0.trim().to_owned()).unwrap_or_default()
    }

    /// The fenced parts of all messages, each text once.
    fn blocks(&self) -> Vec<Block> {
        let mut out: Vec<Block> = Vec::new();
        for block in self.users.iter().flat_map(|text| split(text).1) {
            if !out.iter().any(|known| known.text == block.text) {
                out.push(block);
            }
        }
        out
    }

    /// The last fence of that name.
    pub fn fenced(&self, name: &str) -> Option<String> {
        self.blocks().into_iter().rev().find(|block| block.is(name)).map(|block| block.text)
    }

    /// The fences that hold material to work on.
    pub fn material(&self) -> Vec<Block> {
        self.blocks().into_iter().filter(|block| !ABOUT.iter().any(|name| block.is(name))).collect()
    }

    /// What a review asks to be put right, one issue per line, and the text that it is about.
    pub fn revision(&self) -> Option<(String, Vec<String>)> {
        let (open, blocks) = split(self.users.last()?);
        let previous = blocks.iter().find(|block| block.is("previous"))?.text.clone();
        let listed = open.lines().filter_map(|line| line.trim().strip_prefix("- ")).map(str::to_owned);
        let fenced = blocks.iter().filter(|block| block.is("feedback")).flat_map(|block| block.text.lines());
        let bare = |line: &str| line.trim().trim_start_matches("- ").to_owned();
        let issues = listed.chain(fenced.map(bare)).filter(|issue| !issue.is_empty()).collect();
        Some((previous, issues))
    }

    /// The material, sentence by sentence, each with the place it is from: what was read, else what was
    /// found by searching, else other tools' results; and before that what stands in fences.
    pub fn passages(&self) -> Vec<Passage> {
        let mut out: Vec<Passage> = Vec::new();
        for block in self.material() {
            out.extend(passage::of_material(&block.name, &block.text));
        }
        let back = |tool: &str| {
            let name = wire_name(tool);
            self.asked.iter().filter(move |(ask, _)| ask.name == name)
        };
        for (ask, result) in back("files.read") {
            let (path, first) = read_of(ask);
            out.extend(passage::of_file(&path, first, result.as_deref().unwrap_or_default()));
        }
        if back("files.read").next().is_none() {
            for (_, result) in back("files.search") {
                out.extend(passage::of_search(result.as_deref().unwrap_or_default()));
            }
        }
        let files = ["files.read", "files.search", "files.list", "delegate"].map(wire_name);
        for (ask, result) in self.asked.iter().filter(|(ask, _)| !files.contains(&ask.name)) {
            out.extend(passage::of_material(&ask.name, result.as_deref().unwrap_or_default()));
        }
        let mut seen = std::collections::HashSet::new();
        out.retain(|passage| seen.insert(passage.text.to_lowercase()));
        out
    }

    /// Files that were read.
    pub fn read(&self) -> Vec<String> {
        let name = wire_name("files.read");
        let read = self.asked.iter().filter(|(ask, result)| ask.name == name && result.is_some());
        read.map(|(ask, _)| read_of(ask).0).collect()
    }

    /// Delegated tasks that have come back: to whom, and the result or what went wrong.
    pub fn delegated(&self) -> impl Iterator<Item = (String, String)> {
        let back = self.asked.iter().filter(|(ask, _)| ask.name == "delegate");
        back.filter_map(|(ask, result)| Some((delegate(ask)?, outcome(result.as_deref()?))))
    }
}

impl Block {
    /// `<previous>`, `<previous-2>`, `<feedback kind="x">`.
    pub fn is(&self, name: &str) -> bool {
        self.name == name || self.name.strip_prefix(name).is_some_and(|rest| rest.starts_with(['-', '.', ' ']))
    }
}

/// Path and first line of a `files.read` call.
fn read_of(ask: &ToolAsk) -> (String, usize) {
    let arguments: Value = serde_json::from_str(&ask.arguments).unwrap_or_default();
    let path = arguments.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
    let first = arguments.get("offset").and_then(Value::as_u64).unwrap_or(1);
    (path, usize::try_from(first).unwrap_or(1))
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

/// The words outside of fences, and the fenced parts. A fence is `<name>…</name>`, anywhere, or what
/// stands between lines of at least three backticks or tildes.
pub fn split(text: &str) -> (String, Vec<Block>) {
    let (mut open, mut blocks) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '`', '~']) {
        let (before, from) = rest.split_at(at);
        open.push_str(before);
        let at_line = open.is_empty() || open.ends_with('\n');
        match tagged(from).or_else(|| at_line.then(|| ticked(from, &open)).flatten()) {
            Some((block, after)) => {
                blocks.push(block);
                rest = after.strip_prefix('\n').unwrap_or(after);
            }
            None => {
                // All of a run of marks, or a line of them would be taken up in its middle.
                let mark = &from[..1];
                let run = from.len() - from.trim_start_matches(mark).len();
                open.push_str(&from[..run]);
                rest = &from[run..];
            }
        }
    }
    open.push_str(rest);
    (open, blocks)
}

/// `<name>…</name>` at the start of `from`, and what follows it.
fn tagged(from: &str) -> Option<(Block, &str)> {
    let (tag, rest) = from.strip_prefix('<')?.split_once('>')?;
    let name: String = tag.chars().take_while(|c| c.is_alphanumeric() || "_-.".contains(*c)).collect();
    if name.is_empty() || tag.contains('\n') {
        return None;
    }
    let (body, after) = rest.split_once(&format!("</{name}>"))?;
    Some((Block { name, text: body.trim_matches('\n').to_owned() }, after))
}

/// Lines between two lines of backticks or tildes, named by the line before.
fn ticked<'a>(from: &'a str, open: &str) -> Option<(Block, &'a str)> {
    let (first, rest) = from.split_once('\n')?;
    let mark = first.chars().next()?;
    let width = first.chars().take_while(|c| *c == mark).count();
    if width < 3 {
        return None;
    }
    let close = mark.to_string().repeat(width);
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim() == close {
            let before = open.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let label = format!("{before} {}", &first[width..]);
            let name = label.split(|c: char| !c.is_alphanumeric()).rfind(|word| !word.is_empty()).unwrap_or("text");
            let text = rest[..end].trim_end_matches('\n').to_owned();
            return Some((Block { name: name.to_lowercase(), text }, &rest[end + line.len()..]));
        }
        end += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_of_every_form_are_taken_apart() {
        let text = "Do it.\n\nresearch:\n````\nOne.\n```\nTwo.\n````\n<feedback kind=\"x\">\nWorse.\n</feedback>\n\
                    Read <copy>Short <i>one</i>.</copy> now. a < b ``c`` <b>";
        let (open, blocks) = split(text);
        assert_eq!(open, "Do it.\n\nresearch:\nRead  now. a < b ``c`` <b>");
        let texts: Vec<&str> = blocks.iter().map(|block| block.text.as_str()).collect();
        assert_eq!(texts, ["One.\n```\nTwo.", "Worse.", "Short <i>one</i>."]);
        let names: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
        assert_eq!(names, ["research", "feedback", "copy"]);
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
