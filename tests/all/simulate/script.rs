//! What the models and tools of a simulated run say.

use boatswain::core::agent::DELEGATE;
use boatswain::core::chat::{FailureClass, Finish, ModelRequest, Parameter, ToolAsk, wire_name};
use boatswain::core::event::LostCause;
use serde_json::{Map, Value, json};

use super::random::Random;

/// How likely each thing is, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    pub fail: u32,
    /// A model that refuses for now.
    pub busy: u32,
    pub final_fail: u32,
    pub lost: u32,
    pub unusable: u32,
    pub tools: u32,
    pub bad_tools: u32,
    pub tool_fail: u32,
    pub unknown_usage: u32,
    pub triple_usage: u32,
    /// Every call uses all that was held for it.
    pub full_usage: u32,
    pub approve: u32,
    pub crash: u32,
    pub pause: u32,
    pub cancel: u32,
    pub raise: u32,
    pub panic: u32,
    pub settle: u32,
    pub retry: u32,
    /// A person decides on something that is asked.
    pub person: u32,
    /// A model with a fallback is left alone for a while.
    pub cool: u32,
    /// A person says something to an agent.
    pub tell: u32,
    pub file_fail: u32,
    /// A person who looks may take an answer as it is.
    pub accept: bool,
    /// Bytes of a text answer, at most.
    pub long: u64,
}

pub enum Reply {
    Text(String),
    Tools(Vec<ToolAsk>),
    Finish(Finish),
    Fail(FailureClass),
    /// Our fault, and this parameter is named.
    Refuse(Option<Parameter>),
    Lost(LostCause),
}

pub fn ask(id: usize, name: &str, arguments: &Value) -> ToolAsk {
    ToolAsk { id: format!("c{id}"), name: wire_name(name), arguments: arguments.to_string() }
}

/// A random reply to a request.
pub fn reply(request: &ModelRequest, mood: &Mood, random: &mut Random) -> Reply {
    if random.per_mille(mood.fail) {
        let classes = [
            FailureClass::NotSent,
            FailureClass::Transient,
            FailureClass::TooLong,
            FailureClass::OurFault,
            FailureClass::Ambiguous,
        ];
        return Reply::Fail(*random.pick(&classes));
    }
    if random.per_mille(mood.busy) {
        return Reply::Fail(FailureClass::Transient);
    }
    if random.per_mille(mood.final_fail) {
        let classes = [FailureClass::Credentials, FailureClass::Quota, FailureClass::NotFound];
        return Reply::Fail(*random.pick(&classes));
    }
    if random.per_mille(mood.lost) {
        return Reply::Lost(*random.pick(&[LostCause::Aborted, LostCause::Timeout]));
    }
    if random.per_mille(mood.unusable) {
        let ends = [Finish::Length, Finish::Refusal, Finish::Filter, Finish::Malformed];
        return match random.below(3) {
            0 => Reply::Text(String::new()),
            1 => Reply::Text("not what was asked {".into()),
            _ => Reply::Finish(*random.pick(&ends)),
        };
    }
    if !request.tools.is_empty() && random.per_mille(mood.tools) {
        return Reply::Tools(asks(request, mood, random));
    }
    if request.tools.is_empty() && random.per_mille(mood.bad_tools) {
        return Reply::Tools(vec![ask(0, "nothing.such", &json!({}))]);
    }
    match &request.schema {
        Some(schema) => Reply::Text(value(&schema.schema, mood, random).to_string()),
        None => Reply::Text(words(mood.long, random)),
    }
}

pub fn words(most: u64, random: &mut Random) -> String {
    let words = ["pump", "never", "fails", "at 40 degrees.", "It", "runs.\n\n", "Facts", "first"];
    let mut out = String::from("Answer");
    let length = 10 + random.below(most.max(1));
    while (out.len() as u64) < length {
        out.push(' ');
        out.push_str(words[random.below(words.len() as u64) as usize]);
    }
    out
}

fn asks(request: &ModelRequest, mood: &Mood, random: &mut Random) -> Vec<ToolAsk> {
    let count = 1 + random.below(3) as usize;
    (0..count)
        .map(|id| {
            if random.per_mille(mood.bad_tools) {
                return match random.below(3) {
                    0 => ask(id, "nothing.such", &json!({})),
                    1 => ask(id, &random.pick(&request.tools).name, &json!({ "unknown": [1] })),
                    _ => ToolAsk {
                        id: format!("c{id}"),
                        name: wire_name(&random.pick(&request.tools).name),
                        arguments: "{".into(),
                    },
                };
            }
            let tool = random.pick(&request.tools);
            let mut arguments = value(&tool.parameters, mood, random);
            if tool.name == DELEGATE {
                arguments["task"] = format!("piece {}", random.below(4)).into();
            }
            ask(id, &tool.name, &arguments)
        })
        .collect()
}

/// A value that fits a schema of the shapes that crew files make.
pub fn value(schema: &Value, mood: &Mood, random: &mut Random) -> Value {
    if let Some(Value::Array(choices)) = schema.get("enum") {
        if choices.iter().any(|choice| choice == "approve") {
            return if random.per_mille(mood.approve) { "approve".into() } else { "revise".into() };
        }
        return random.pick(choices).clone();
    }
    if let Some(Value::Array(any)) = schema.get("anyOf") {
        return value(&any[0], mood, random);
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {
            let mut fields = Map::new();
            if let Some(Value::Object(properties)) = schema.get("properties") {
                for (name, inner) in properties {
                    fields.insert(name.clone(), value(inner, mood, random));
                }
            }
            Value::Object(fields)
        }
        Some("array") => {
            let items = schema.get("items").cloned().unwrap_or(json!({ "type": "string" }));
            let mut all: Vec<Value> = Vec::new();
            for _ in 0..random.below(5) {
                all.push(value(&items, mood, random));
            }
            Value::Array(all)
        }
        Some("integer" | "number") => random.below(5).into(),
        Some("boolean") => (random.below(2) == 0).into(),
        Some(_) | None => format!("word {}", random.below(40)).into(),
    }
}
