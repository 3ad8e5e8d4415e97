//! From the core's words to a generateContent request. Invariant: a turn that this model wrote goes back
//! as the content it was; a turn that was rebuilt carries no signature but the one that says so.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::adapters::models::body::{self, CannotSay};
use crate::adapters::models::capabilities::{Capabilities, Thinking};
use crate::adapters::models::secrets::{SecretInputs, unmark};
use crate::adapters::models::splice::{List, Object, merge};
use crate::core::chat::{Message, ModelRequest, ToolAsk, ToolSpec, wire_name};

/// Keys that `extra` may not set: the worst case of a call is computed without them, or they would
/// bring in a prompt that was not counted.
pub const FIXED: [&str; 6] = ["model", "contents", "systemInstruction", "tools", "cachedContent", "continuationToken"];
/// The same within `extra.generationConfig`.
pub const FIXED_CONFIG: [&str; 2] = ["maxOutputTokens", "candidateCount"];

/// How ids begin that were made up here, for calls that came without one. They are not sent.
pub const MADE_UP: &str = "bosun_call_";

/// What the vendor's guide says to send in place of the signature of a call that another model made.
const FOREIGN: &str = "skip_thought_signature_validator";

/// Tokens of thinking by effort, for the models before Gemini 3, which know no words (the vendor's
/// own table for its OpenAI-compatible endpoint).
const BUDGETS: [(&str, u64); 7] = [
    ("none", 0),
    ("minimal", 1024),
    ("low", 1024),
    ("medium", 8192),
    ("high", 24_576),
    ("xhigh", 24_576),
    ("max", 24_576),
];

/// Keywords of JSON Schema that a response schema may use (google-genai 3.4, `response_json_schema`).
const KEYWORDS: [&str; 20] = [
    "$id",
    "$defs",
    "$ref",
    "$anchor",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "properties",
    "additionalProperties",
    "required",
];

/// Keys of `extra` that a crew may not set, with what to say; empty where all is well.
pub fn refused_extra(extra: &Map<String, Value>) -> Vec<String> {
    let config = extra.get("generationConfig").and_then(Value::as_object);
    let within = FIXED_CONFIG.into_iter().filter(|key| config.is_some_and(|config| config.contains_key(*key)));
    let within = within.map(|key| CannotSay::Fixed(format!("generationConfig.{key}")));
    body::fixed(extra, &FIXED).chain(within).map(|why| why.to_string()).collect()
}

/// Models before Gemini 3: no signatures demanded, thinking by budget, a schema or tools but not both.
fn is_old(capable: &Capabilities) -> bool {
    match capable.thinking {
        Thinking::Budget | Thinking::None => true,
        Thinking::Effort | Thinking::Adaptive => false,
    }
}

/// `v1/models/MODEL`; a model that names its collection (`tunedModels/x`) is taken as it is.
pub fn path(model: &str, stream: bool) -> String {
    let place = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let verb = if stream { "streamGenerateContent" } else { "generateContent" };
    format!("v1/{place}:{verb}")
}

/// The body, or in words why there can be none.
pub fn body(request: &ModelRequest, capable: &Capabilities, secrets: &SecretInputs) -> Result<Vec<u8>, String> {
    if let Some(why) = refused_extra(&request.extra).into_iter().next() {
        return Err(why);
    }
    let (system, contents) = contents(request, capable, secrets)?;
    let mut body = Object::new(contents.len() + 1024);
    if !system.is_empty() {
        let parts: Vec<Value> = system.iter().map(|text| json!({"text": text})).collect();
        body.put("systemInstruction", &json!({"parts": parts}));
    }
    body.raw("contents", &contents);
    if !request.tools.is_empty() {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Tools<'a> {
            function_declarations: Vec<Declared<'a>>,
        }
        body.put("tools", &[Tools { function_declarations: request.tools.iter().map(declared).collect() }]);
    }
    let mut rest = Map::new();
    rest.insert("generationConfig".into(), Value::Object(config(request, capable)));
    merge(&mut rest, &request.extra);
    for (key, value) in &rest {
        body.put(key, value);
    }
    Ok(body.end())
}

fn config(request: &ModelRequest, capable: &Capabilities) -> Map<String, Value> {
    let set = capable.fit(&request.settings);
    let mut all = Map::new();
    all.insert("maxOutputTokens".into(), set.max_output.into());
    if let Some(temperature) = set.temperature {
        all.insert("temperature".into(), temperature.as_f64().into());
    }
    if let Some(top_p) = set.top_p {
        all.insert("topP".into(), top_p.as_f64().into());
    }
    if let Some(seed) = set.seed {
        all.insert("seed".into(), seed.into());
    }
    if let Some(effort) = &set.reasoning {
        all.insert("thinkingConfig".into(), thinking(capable, effort, set.max_output));
    }
    // The older models answer 400 to a response type beside tools; the schema is in the prompt anyway.
    let stated = capable.schema && (request.tools.is_empty() || !is_old(capable));
    if let Some(schema) = request.schema.as_ref().filter(|_| stated) {
        all.insert("responseMimeType".into(), "application/json".into());
        if is_known(&schema.schema) {
            all.insert("responseJsonSchema".into(), schema.schema.clone());
        }
    }
    all
}

/// By the words that all providers share; a number is a budget of tokens, and `auto` leaves it to the model.
fn thinking(capable: &Capabilities, effort: &str, max_output: u64) -> Value {
    if let Ok(budget) = effort.parse::<i64>() {
        return json!({"thinkingBudget": budget});
    }
    // Thoughts count against the output cap: an answer needs some of it too.
    let most = max_output / 4 * 3;
    let budget = BUDGETS.iter().find(|(word, _)| *word == effort).map(|(_, budget)| most.min(*budget));
    match effort {
        "auto" => json!({"thinkingBudget": -1}),
        _ if is_old(capable) => budget.map_or_else(|| json!({"thinkingBudget": -1}), |n| json!({"thinkingBudget": n})),
        // Thinking cannot be switched off there.
        "none" => json!({"thinkingLevel": "MINIMAL"}),
        "max" => json!({"thinkingLevel": "XHIGH"}),
        word => json!({"thinkingLevel": word.to_uppercase()}),
    }
}

/// Is every keyword of the schema one that the endpoint knows?
fn is_known(schema: &Value) -> bool {
    let Some(map) = schema.as_object() else { return schema.is_boolean() };
    map.iter().all(|(key, value)| match (&**key, value) {
        ("properties" | "$defs", Value::Object(named)) => named.values().all(is_known),
        ("anyOf" | "oneOf" | "prefixItems", Value::Array(all)) => all.iter().all(is_known),
        ("items" | "additionalProperties", value) => is_known(value),
        (key, _) => KEYWORDS.contains(&key),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declared<'a> {
    name: String,
    description: &'a str,
    parameters_json_schema: &'a Value,
}

fn declared(tool: &ToolSpec) -> Declared<'_> {
    let (name, description) = (wire_name(&tool.name), &*tool.description);
    Declared { name, description, parameters_json_schema: &tool.parameters }
}

#[derive(Serialize)]
struct Content<'a> {
    role: &'static str,
    parts: &'a [Value],
}

/// The texts of the system messages that come first, and the encoded contents of the rest.
fn contents(
    request: &ModelRequest,
    capable: &Capabilities,
    secrets: &SecretInputs,
) -> Result<(Vec<String>, Vec<u8>), String> {
    let mut system = Vec::new();
    let mut list = List::default();
    // Results of one turn's calls go back together, in the order of the calls.
    let mut results: Vec<Value> = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (i, text) in request.messages.iter().enumerate() {
        let message = Message::decode(&unmark(text, secrets))
            .map_err(|why| format!("message {i} of the conversation cannot be read: {why}"))?;
        if !results.is_empty() && !matches!(message, Message::Tool { .. }) {
            list.put(&Content { role: "user", parts: &std::mem::take(&mut results) });
        }
        match message {
            Message::System { content } if list.is_empty() => system.push(content),
            // There is no such role within the conversation.
            Message::System { content } | Message::User { content } => {
                list.put(&Content { role: "user", parts: &[json!({"text": content})] });
            }
            Message::Assistant { content, tool_calls } => {
                names.extend(tool_calls.iter().map(|ask| (ask.id.clone(), ask.name.clone())));
                match request.own_turns.get(&i) {
                    Some(own) => list.raw(own.as_bytes()),
                    None => list.put(&Content { role: "model", parts: &rebuilt(capable, &content, &tool_calls) }),
                }
            }
            Message::Tool { tool_call_id, content } => {
                let name = names.get(&tool_call_id).cloned().unwrap_or_default();
                let response = json!({"output": content});
                results.push(json!({"functionResponse": with_id(&tool_call_id, name, "response", response)}));
            }
        }
    }
    if !results.is_empty() {
        list.put(&Content { role: "user", parts: &results });
    }
    Ok((system, list.end()))
}

fn rebuilt(capable: &Capabilities, content: &str, asks: &[ToolAsk]) -> Vec<Value> {
    let mut parts = Vec::new();
    // A content without parts is refused.
    if !content.is_empty() || asks.is_empty() {
        parts.push(json!({"text": content}));
    }
    for (n, ask) in asks.iter().enumerate() {
        // What is no object was a mistake of the model, which it is shown as what it was.
        let parsed = serde_json::from_str(&ask.arguments).ok().filter(Value::is_object);
        let args = parsed.unwrap_or_else(|| json!({"arguments": ask.arguments}));
        let mut part = json!({"functionCall": with_id(&ask.id, ask.name.clone(), "args", args)});
        if n == 0 && !is_old(capable) {
            part["thoughtSignature"] = FOREIGN.into();
        }
        parts.push(part);
    }
    parts
}

fn with_id(id: &str, name: String, key: &str, value: Value) -> Value {
    let mut all = Map::new();
    if !id.starts_with(MADE_UP) {
        all.insert("id".into(), id.into());
    }
    all.insert("name".into(), name.into());
    all.insert(key.into(), value);
    Value::Object(all)
}
