//! Between the core's words and Messages. Invariant: the output cap holds thinking too; a turn with
//! more in it than text and calls goes back verbatim; an answer given through the result's own tool is
//! the answer's text.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::schema::native;
use super::turns::{INVALID, Turns};
use super::wire::{self, Block, Reply, Tier};
use crate::adapters::models::body::{self, Body, CannotSay, Encoded};
use crate::adapters::models::capabilities::{Api, BUDGET_MIN, Capabilities, Known, Thinking};
use crate::adapters::models::failure::malformed;
use crate::adapters::models::secrets::SecretInputs;
use crate::adapters::models::served::served;
use crate::core::chat::{Finish, ModelAnswer, ModelRequest, OutputSchema, Settings, ToolAsk, ToolSpec, wire_name};
use crate::core::malformed::Due;

/// Keys that `extra` may not set: the worst case of a call is computed without them.
pub const FIXED: [&str; 7] = ["model", "messages", "system", "tools", "max_tokens", "stream", "cache_control"];

/// Bytes of a token, for what is worth caching: nothing is spent on a prefix that proves too short.
const BYTES_PER_TOKEN: usize = 4;

/// Writes bodies for one provider.
pub struct Bodies {
    known: Known,
    tools: Encoded<[ToolSpec]>,
    schemas: Encoded<OutputSchema>,
}

/// What was asked, as far as the answer depends on it.
pub struct Asked {
    pub model: Arc<str>,
    /// The tool that takes the result.
    pub result_tool: Option<String>,
}

/// How the output's schema is put.
enum Output {
    /// The encoded `output_config.format`.
    Native(Arc<str>),
    /// A tool of that name takes the result.
    Tool(String, Arc<OutputSchema>),
    /// The prompt says it, and the answer is validated.
    Prompt,
}

impl Bodies {
    pub fn new() -> Bodies {
        Bodies { known: Known::new(Some(Api::Anthropic)), tools: Encoded::default(), schemas: Encoded::default() }
    }

    pub fn body(
        &self,
        request: &ModelRequest,
        secrets: &SecretInputs,
        stream: bool,
    ) -> Result<(Vec<u8>, Asked), CannotSay> {
        let known = self.known.of(&request.model);
        let settings = known.fit(&request.settings);
        let turns = Turns::of(request, secrets)?;
        let thinking = thinking(&known, &settings);
        let output = self.output(request, &known, &settings, thinking.is_some());
        let tools = (!request.tools.is_empty()).then(|| self.tools.get(&request.tools, encode_tools));

        let mut body = Body::new(turns.bytes() + 1024, &request.extra, &FIXED)?;
        body.raw("{\"model\":");
        body.json(&*request.model);
        body.raw(",\"max_tokens\":");
        body.json(&settings.max_output);
        let worth = |bytes: usize| known.cache_min.is_some_and(|least| (bytes / BYTES_PER_TOKEN) as u64 >= least);
        let prefix = turns.system_bytes() + tools.as_ref().map_or(0, |tools| tools.len());
        turns.write_system(&mut body, worth(prefix));
        let loops = tools.is_some();
        // An agent with tools comes back: this turn's end is the next one's prefix. The end of the turn
        // before is where this one finds what was kept.
        let (marks, skip) = if loops { (2, 0) } else { (1, 1) };
        turns.write_messages(&mut body, if worth(prefix + turns.bytes()) { marks } else { 0 }, skip);
        write_tools(&mut body, tools.as_deref(), &output, &turns.called);
        if let Some(thinking) = &thinking {
            body.put("thinking", thinking);
        }
        write_output(&mut body, request, &output, effort(&known, &settings));
        if stream {
            body.raw(",\"stream\":true");
        }
        body.extra();
        body.raw("}");
        let result_tool = match output {
            Output::Tool(name, _) => Some(name),
            Output::Native(_) | Output::Prompt => None,
        };
        Ok((body.into_bytes(), Asked { model: request.model.clone(), result_tool }))
    }

    fn output(&self, request: &ModelRequest, known: &Capabilities, settings: &Settings, thinks: bool) -> Output {
        let Some(schema) = request.schema.as_ref().filter(|_| !request.extra.contains_key("output_config")) else {
            return Output::Prompt;
        };
        if known.schema {
            // An empty text stands for a schema that cannot be said.
            let text = self.schemas.get(schema, |output| native(&output.schema).map_or(String::new(), format));
            if !text.is_empty() {
                return Output::Native(text);
            }
        }
        // Whether a model thinks that is not told to is its own business, and a thinking one refuses to be forced.
        let still = match known.thinking {
            Thinking::Adaptive => settings.reasoning.as_deref() == Some("none"),
            Thinking::Budget | Thinking::None | Thinking::Effort => !thinks,
        };
        let object = schema.schema.get("type").is_some_and(|kind| kind == "object");
        match known.forced_tool && still && object && !request.extra.contains_key("tool_choice") {
            true => Output::Tool(result_tool(schema, &request.tools), schema.clone()),
            false => Output::Prompt,
        }
    }
}

fn format(schema: Value) -> String {
    json!({"type": "json_schema", "schema": schema}).to_string()
}

/// A name that none of the agent's tools has.
fn result_tool(schema: &OutputSchema, tools: &[ToolSpec]) -> String {
    let mut name = wire_name(&schema.name);
    while tools.iter().any(|tool| wire_name(&tool.name) == name) {
        name.insert_str(0, "final_");
    }
    name
}

/// `thinking`, where the settings ask for it. Its tokens count against the output cap.
fn thinking(known: &Capabilities, settings: &Settings) -> Option<Value> {
    let word = settings.reasoning.as_deref()?;
    match (known.thinking, word) {
        (Thinking::Adaptive, "none") => Some(json!({"type": "disabled"})),
        (Thinking::Adaptive, _) => Some(json!({"type": "adaptive"})),
        (Thinking::Budget, "none") | (Thinking::None | Thinking::Effort, _) => None,
        (Thinking::Budget, word) => {
            let cap = settings.max_output;
            let wanted = match word {
                "low" => cap / 4,
                "high" => cap / 4 * 3,
                word => word.parse().unwrap_or(cap / 2),
            };
            let most = cap.saturating_sub(BUDGET_MIN);
            // Room for less than the least: thinking cannot be had at this cap, which `check` says.
            (most >= BUDGET_MIN).then(|| json!({"type": "enabled", "budget_tokens": wanted.clamp(BUDGET_MIN, most)}))
        }
    }
}

fn effort<'a>(known: &Capabilities, settings: &'a Settings) -> Option<&'a str> {
    let word = settings.reasoning.as_deref().filter(|word| *word != "none");
    word.filter(|_| known.thinking == Thinking::Adaptive)
}

fn write_output(body: &mut Body<'_>, request: &ModelRequest, output: &Output, effort: Option<&str>) {
    let format = match output {
        Output::Native(format) => Some(format),
        Output::Tool(..) | Output::Prompt => None,
    };
    if request.extra.contains_key("output_config") || format.is_none() && effort.is_none() {
        return;
    }
    body.raw(",\"output_config\":{");
    if let Some(effort) = effort {
        body.raw("\"effort\":");
        body.json(effort);
        body.raw(if format.is_some() { "," } else { "" });
    }
    if let Some(format) = format {
        body.raw("\"format\":");
        body.raw(format);
    }
    body.raw("}");
}

fn encode_tools(tools: &[ToolSpec]) -> String {
    let all = tools.iter().map(
        |tool| json!({"name": wire_name(&tool.name), "description": tool.description, "input_schema": tool.parameters}),
    );
    Value::Array(all.collect()).to_string()
}

/// `tools` and `tool_choice`. A conversation with calls in it is refused without tools: once they are
/// off, those that were called are named and none may be used.
fn write_tools(body: &mut Body<'_>, tools: Option<&str>, output: &Output, called: &BTreeSet<String>) {
    let result = match output {
        Output::Tool(name, schema) => Some((name, schema)),
        Output::Native(_) | Output::Prompt => None,
    };
    let mut all: Vec<String> = match tools {
        Some(tools) => vec![tools[1..tools.len() - 1].to_owned()],
        None => {
            let past = called.iter().filter(|name| result.is_none_or(|(result, _)| result != *name));
            past.map(|name| json!({"name": name, "input_schema": {"type": "object"}}).to_string()).collect()
        }
    };
    all.extend(result.map(|(name, output)| json!({"name": name, "input_schema": output.schema}).to_string()));
    if all.is_empty() {
        return;
    }
    body.raw(",\"tools\":[");
    body.raw(&all.join(","));
    body.raw("]");
    match (tools, result) {
        (Some(_), Some(_)) => body.put("tool_choice", &json!({"type": "any"})),
        (None, Some((name, _))) => body.put("tool_choice", &json!({"type": "tool", "name": name})),
        (None, None) => body.put("tool_choice", &json!({"type": "none"})),
        (Some(_), None) => {}
    }
}

/// The answer in a 2xx body that was read whole, or was put together from a stream. `hide` takes keys
/// out of a body that is no answer.
pub fn answer(body: &[u8], asked: &Asked, request_id: Option<String>, hide: impl Fn(&str) -> String) -> ModelAnswer {
    let text = std::str::from_utf8(body).ok();
    let Some(reply) = text.and_then(|text| serde_json::from_str::<Reply<'_>>(text).ok()) else {
        // What was used may be said all the same.
        let raw = text.and_then(|text| serde_json::from_str::<OnlyUsage<'_>>(text).ok()).and_then(|only| only.usage);
        let (usage, raw_usage) = (wire::usage(raw), raw.map(RawValue::to_owned));
        return ModelAnswer { usage, raw_usage, ..malformed(Due::Message, body, request_id, hide) };
    };
    let (usage, raw_usage) = (wire::usage(reply.usage), reply.usage.map(RawValue::to_owned));
    let Some(said) = read(reply.content, asked) else {
        return ModelAnswer { usage, raw_usage, ..malformed(Due::Message, body, request_id, hide) };
    };
    let finish = match reply.stop_reason.as_deref() {
        Some("refusal") => Finish::Refusal,
        // A turn that the provider paused is as unfinished as one that was cut off.
        Some("max_tokens" | "model_context_window_exceeded" | "pause_turn") => Finish::Length,
        Some(_) | None if said.tool_calls.is_empty() => Finish::Stop,
        Some(_) | None => Finish::Tool,
    };
    let why = reply.stop_details.and_then(|details| details.explanation.or(details.category));
    let text = match why {
        Some(why) if finish == Finish::Refusal && said.text.is_empty() => why,
        Some(_) | None => said.text,
    };
    ModelAnswer {
        text,
        tool_calls: said.tool_calls,
        finish,
        usage,
        native: Some(reply.content.to_owned()),
        verbatim: said.verbatim,
        served: served((&asked.model, None), reply.model, Tier::of(reply.usage), "standard"),
        raw_usage,
        request_id,
    }
}

#[derive(serde::Deserialize)]
struct OnlyUsage<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

struct Said {
    text: String,
    tool_calls: Vec<ToolAsk>,
    verbatim: bool,
}

fn read(content: &RawValue, asked: &Asked) -> Option<Said> {
    let blocks: Vec<Block<'_>> = serde_json::from_str(content.get()).ok()?;
    let mut said = Said { text: String::new(), tool_calls: Vec::new(), verbatim: false };
    let mut result = None;
    for block in blocks {
        match block.kind.as_str() {
            "text" => {
                said.verbatim |= block.citations.is_some_and(|cited| cited.get() != "null");
                said.text.push_str(&block.text?);
            }
            "tool_use" => {
                let (id, name, arguments) = (block.id?, block.name?, arguments(block.input));
                match asked.result_tool.as_ref() == Some(&name) {
                    true => result = Some(arguments),
                    false => said.tool_calls.push(ToolAsk { id, name, arguments }),
                }
            }
            // Thinking and its signature, and whatever else only its author understands.
            _ => said.verbatim = true,
        }
    }
    if let Some(result) = result {
        // A call without a result cannot go back: this turn is rebuilt from its text.
        said.verbatim = false;
        if said.tool_calls.is_empty() {
            said.text = result;
        }
    }
    Some(said)
}

fn arguments(input: Option<&RawValue>) -> String {
    let Some(input) = input else { return String::new() };
    let wrapped = input.get().contains(INVALID).then(|| serde_json::from_str::<Map<String, Value>>(input.get()).ok());
    match wrapped.flatten().as_ref().and_then(|map| map.get(INVALID)) {
        Some(Value::String(text)) => text.clone(),
        Some(_) | None => input.get().to_owned(),
    }
}

/// Keys of `extra` that a crew may not set, with what to say; empty where all is well.
pub fn refused_extra(extra: &Map<String, Value>) -> Vec<String> {
    body::fixed(extra, &FIXED).map(|why| why.to_string()).collect()
}
