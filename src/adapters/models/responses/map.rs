//! From the core's words to a Responses request. Invariant: a turn that this model wrote goes back as
//! the items it was, and nothing is stored at the provider unless the crew asks for it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::adapters::models::body::fixed;
use crate::adapters::models::capabilities::{Capabilities, Thinking};
use crate::adapters::models::openai::is_strict;
use crate::adapters::models::secrets::{SecretInputs, unmark};
use crate::adapters::models::splice::{List, Object, items, merge};
use crate::core::chat::{Message, ModelRequest, OutputSchema, ToolSpec, wire_name};

/// Keys that `extra` may not set: the worst case of a call is computed without them, or they would
/// bring in a prompt that was not counted.
pub const FIXED: [&str; 11] = [
    "model",
    "instructions",
    "input",
    "tools",
    "max_output_tokens",
    "stream",
    "stream_options",
    "background",
    "previous_response_id",
    "conversation",
    "prompt",
];

/// Keys of `extra` that a crew may not set, with what to say; empty where all is well.
pub fn refused_extra(extra: &Map<String, Value>) -> Vec<String> {
    fixed(extra, &FIXED).map(|why| why.to_string()).collect()
}

/// The body, or in words why there can be none.
pub fn body(
    request: &ModelRequest,
    capable: &Capabilities,
    secrets: &SecretInputs,
    stream: bool,
) -> Result<Vec<u8>, String> {
    if let Some(why) = fixed(&request.extra, &FIXED).next() {
        return Err(why.to_string());
    }
    let (instructions, input) = input(request, secrets)?;
    let mut body = Object::new(input.len() + instructions.as_ref().map_or(0, String::len) + 1024);
    body.put("model", &*request.model);
    if let Some(instructions) = &instructions {
        body.put("instructions", instructions);
    }
    body.raw("input", &input);
    if !request.tools.is_empty() {
        body.put("tools", &request.tools.iter().map(tool).collect::<Vec<_>>());
    }
    for (key, value) in &settings(request, capable) {
        body.put(key, value);
    }
    if stream {
        body.put("stream", &true);
        // The padding hides lengths from whoever watches the wire, at the price of every byte of it.
        body.put("stream_options", &json!({"include_obfuscation": false}));
    }
    Ok(body.end())
}

/// Everything but the conversation and its tools, with the crew's own keys merged in.
fn settings(request: &ModelRequest, capable: &Capabilities) -> Map<String, Value> {
    let set = capable.fit(&request.settings);
    let mut all = Map::new();
    all.insert("max_output_tokens".into(), set.max_output.into());
    all.insert("store".into(), false.into());
    if capable.thinking != Thinking::None {
        // What the model thought comes back sealed and can be sent again without being stored there. A
        // model that does not think answers 400 to it.
        all.insert("include".into(), json!(["reasoning.encrypted_content"]));
    }
    if !request.tools.is_empty() && capable.parallel {
        all.insert("parallel_tool_calls".into(), true.into());
    }
    if let Some(temperature) = set.temperature {
        all.insert("temperature".into(), temperature.as_f64().into());
    }
    if let Some(top_p) = set.top_p {
        all.insert("top_p".into(), top_p.as_f64().into());
    }
    if let Some(effort) = &set.reasoning {
        all.insert("reasoning".into(), json!({"effort": effort}));
    }
    if let Some(schema) = request.schema.as_ref().filter(|_| capable.schema) {
        all.insert("text".into(), json!({"format": format(schema)}));
    }
    merge(&mut all, &request.extra);
    all
}

#[derive(Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    description: &'a str,
    parameters: &'a Value,
    /// Where it is not said, this endpoint takes any schema for a strict one.
    strict: bool,
}

fn tool(tool: &ToolSpec) -> Tool<'_> {
    Tool {
        kind: "function",
        name: wire_name(&tool.name),
        description: &tool.description,
        parameters: &tool.parameters,
        strict: is_strict(&tool.parameters),
    }
}

fn format(output: &OutputSchema) -> Value {
    let strict = is_strict(&output.schema);
    json!({"type": "json_schema", "name": output.name, "schema": output.schema, "strict": strict})
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item<'a> {
    FunctionCall { call_id: &'a str, name: &'a str, arguments: &'a str },
    FunctionCallOutput { call_id: &'a str, output: &'a str },
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: &'a str,
}

/// The instructions, which are the system messages that come first, and the encoded items of the rest.
fn input(request: &ModelRequest, secrets: &SecretInputs) -> Result<(Option<String>, Vec<u8>), String> {
    let mut instructions: Option<String> = None;
    let mut list = List::default();
    for (i, text) in request.messages.iter().enumerate() {
        if let Some(own) = request.own_turns.get(&i) {
            if let Some(inner) = items(own) {
                list.raw(inner.as_bytes());
            }
            continue;
        }
        let message = Message::decode(&unmark(text, secrets))
            .map_err(|why| format!("message {i} of the conversation cannot be read: {why}"))?;
        match &message {
            Message::System { content } if list.is_empty() => match &mut instructions {
                Some(all) => {
                    all.push_str("\n\n");
                    all.push_str(content);
                }
                None => instructions = Some(content.clone()),
            },
            Message::System { content } => list.put(&Said { role: "developer", content }),
            Message::User { content } => list.put(&Said { role: "user", content }),
            Message::Assistant { content, tool_calls } => {
                if !content.is_empty() {
                    list.put(&Said { role: "assistant", content });
                }
                for ask in tool_calls {
                    list.put(&Item::FunctionCall { call_id: &ask.id, name: &ask.name, arguments: &ask.arguments });
                }
            }
            Message::Tool { tool_call_id, content } => {
                list.put(&Item::FunctionCallOutput { call_id: tool_call_id, output: content });
            }
        }
    }
    Ok((instructions, list.end()))
}
