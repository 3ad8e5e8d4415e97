//! Between the core's words and Chat Completions. Invariant: encoded messages go into the body as
//! the bytes they are; what is stored of a call is what was sent.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::wire::{self, Completion, Turn};
use crate::adapters::models::body::{self, Body, CannotSay, Encoded};
use crate::adapters::models::capabilities::{Api, Known};
use crate::adapters::models::failure::malformed;
use crate::adapters::models::secrets::{SecretInputs, unmark};
use crate::adapters::models::served::served;
use crate::core::chat::{Finish, ModelAnswer, ModelRequest, OutputSchema, ToolAsk, ToolSpec, wire_name};
use crate::core::failure::Parameter;
use crate::core::malformed::Due;

/// How servers that speak Chat Completions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// `max_completion_tokens`, or `max_tokens` where only that is known.
    pub output_cap: &'static str,
    /// Whether `parallel_tool_calls` is a known key.
    pub parallel: bool,
    /// `stream_options`: usage is asked for.
    pub stream_options: &'static str,
    /// Whose models these are, where that is known.
    pub api: Option<Api>,
}

impl Dialect {
    pub const OPENAI: Dialect = Dialect {
        output_cap: "max_completion_tokens",
        parallel: true,
        // Padding of every chunk, against whoever counts bytes on an encrypted line: not needed here.
        stream_options: "{\"include_usage\":true,\"include_obfuscation\":false}",
        api: Some(Api::OpenAi),
    };
    pub const COMPATIBLE: Dialect =
        Dialect { output_cap: "max_tokens", parallel: false, stream_options: "{\"include_usage\":true}", api: None };
}

/// Keys that `extra` may not set: the worst case of a call is computed without them.
pub const FIXED: [&str; 8] =
    ["model", "messages", "tools", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options"];

/// Writes bodies for one provider.
pub struct Bodies {
    dialect: Dialect,
    known: Known,
    tools: Encoded<[ToolSpec]>,
    schemas: Encoded<OutputSchema>,
}

impl Bodies {
    pub fn new(dialect: Dialect) -> Bodies {
        let known = Known::new(dialect.api);
        Bodies { dialect, known, tools: Encoded::default(), schemas: Encoded::default() }
    }

    pub fn body(&self, request: &ModelRequest, secrets: &SecretInputs, stream: bool) -> Result<Vec<u8>, CannotSay> {
        let known = self.known.of(&request.model);
        let size: usize = request.messages.iter().map(|message| message.len() + 1).sum();
        let mut body = Body::new(size + 512, &request.extra, &FIXED)?;
        body.raw("{\"model\":");
        body.json(&*request.model);
        body.raw(",\"messages\":[");
        for (i, message) in request.messages.iter().enumerate() {
            if i > 0 {
                body.raw(",");
            }
            body.raw(&unmark(message, secrets));
        }
        body.raw("]");
        if !request.tools.is_empty() {
            body.raw(",\"tools\":");
            body.raw(&self.tools.get(&request.tools, encode_tools));
            let refused = request.settings.without.contains(&Parameter::ParallelTools);
            if self.dialect.parallel && known.parallel && !refused {
                body.put("parallel_tool_calls", &true);
            }
        }
        // What the provider does not enforce is asked for by the prompt and checked here anyway.
        if let Some(schema) = &request.schema
            && known.schema
            && !request.settings.without.contains(&Parameter::Schema)
            && !request.extra.contains_key("response_format")
        {
            body.raw(",\"response_format\":");
            body.raw(&self.schemas.get(schema, encode_schema));
        }
        let settings = known.fit(&request.settings);
        body.put(self.dialect.output_cap, &settings.max_output);
        body.put_some("temperature", &settings.temperature.map(|milli| milli.as_f64()));
        body.put_some("top_p", &settings.top_p.map(|milli| milli.as_f64()));
        body.put_some("seed", &settings.seed);
        body.put_some("reasoning_effort", &settings.reasoning);
        if stream {
            body.raw(",\"stream\":true,\"stream_options\":");
            body.raw(self.dialect.stream_options);
        }
        body.extra();
        body.raw("}");
        Ok(body.into_bytes())
    }
}

fn encode_tools(tools: &[ToolSpec]) -> String {
    #[derive(Serialize)]
    struct Function<'a> {
        name: String,
        description: &'a str,
        parameters: &'a Value,
    }
    #[derive(Serialize)]
    struct Tool<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Function<'a>,
    }
    let all: Vec<Tool<'_>> = tools
        .iter()
        .map(|tool| Tool {
            kind: "function",
            function: Function {
                name: wire_name(&tool.name),
                description: &tool.description,
                parameters: &tool.parameters,
            },
        })
        .collect();
    serde_json::to_string(&all).unwrap_or_default()
}

fn encode_schema(output: &OutputSchema) -> String {
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
        schema: &'a Value,
        strict: bool,
    }
    #[derive(Serialize)]
    struct Format<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        json_schema: Named<'a>,
    }
    let strict = is_strict(&output.schema);
    let json_schema = Named { name: &output.name, schema: &output.schema, strict };
    serde_json::to_string(&Format { kind: "json_schema", json_schema }).unwrap_or_default()
}

/// Does `schema` meet the conditions of strict mode? The root is an object; every object refuses
/// further properties and requires all of its own; no keyword that strict mode does not know.
pub fn is_strict(schema: &Value) -> bool {
    const UNKNOWN: [&str; 8] =
        ["oneOf", "allOf", "not", "if", "patternProperties", "dependentSchemas", "dependentRequired", "prefixItems"];
    fn walk(schema: &Value) -> bool {
        // `true` and `false` are schemas, but not of strict mode.
        let Some(map) = schema.as_object() else { return false };
        if UNKNOWN.iter().any(|key| map.contains_key(*key)) {
            return false;
        }
        let below = |key: &str| map.get(key).and_then(Value::as_object).into_iter().flat_map(|m| m.values());
        let any_of = map.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        let children = below("properties").chain(below("$defs")).chain(below("definitions")).chain(any_of);
        closed(map) && children.chain(map.get("items")).all(walk)
    }
    fn closed(map: &Map<String, Value>) -> bool {
        if !is_object(map) {
            return true;
        }
        let required: Vec<&str> =
            map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = map.get("properties").and_then(Value::as_object);
        map.get("additionalProperties") == Some(&Value::Bool(false))
            && properties.into_iter().flat_map(Map::keys).all(|key| required.contains(&key.as_str()))
    }
    fn is_object(map: &Map<String, Value>) -> bool {
        match map.get("type") {
            Some(Value::String(kind)) => kind == "object",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
            Some(_) | None => map.contains_key("properties"),
        }
    }
    schema.as_object().is_some_and(is_object) && walk(schema)
}

/// The answer in a 2xx body that was read whole. `hide` takes keys out of a body that is no answer.
pub fn answer(
    body: &[u8],
    asked: (&str, Option<&str>),
    request_id: Option<String>,
    hide: impl Fn(&str) -> String,
) -> ModelAnswer {
    let parsed = std::str::from_utf8(body).ok().and_then(|text| serde_json::from_str::<Completion<'_>>(text).ok());
    let raw = parsed.as_ref().and_then(|completion| completion.usage);
    let usage = wire::usage(raw);
    let raw_usage = raw.map(RawValue::to_owned);
    let choice = parsed.as_ref().and_then(|completion| completion.choices.first());
    if let Some(choice) = choice
        && let Some(said) = turn(choice.message, choice.finish_reason.as_deref())
    {
        let (text, tool_calls, finish) = said;
        let native = Some(choice.message.to_owned());
        let (model, tier) =
            parsed.as_ref().map(|all| (all.model.clone(), all.service_tier.clone())).unwrap_or_default();
        let served = served(asked, model, tier, "default");
        // Chat Completions rebuilds a turn from its text and calls: nothing must go back as it came.
        return ModelAnswer {
            text,
            tool_calls,
            finish,
            native,
            served,
            usage,
            raw_usage,
            ..ModelAnswer::unusable(request_id)
        };
    }
    ModelAnswer { usage, raw_usage, ..malformed(Due::Completion, body, request_id, hide) }
}

fn turn(message: &RawValue, finish_reason: Option<&str>) -> Option<(String, Vec<ToolAsk>, Finish)> {
    let turn: Turn<'_> = serde_json::from_str(message.get()).ok()?;
    let text = wire::content_text(turn.content)?;
    let asked = turn.tool_calls.unwrap_or_default();
    let tool_calls: Vec<ToolAsk> = asked
        .into_iter()
        .enumerate()
        .map(|(i, asked)| ToolAsk {
            // Results are matched by id, so a server that sends none still gets one per call.
            id: asked.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}", i + 1)),
            name: asked.function.name,
            arguments: wire::string_or_raw(asked.function.arguments),
        })
        .collect();
    if let Some(refusal) = turn.refusal.filter(|refusal| !refusal.is_empty()) {
        return Some((refusal, tool_calls, Finish::Refusal));
    }
    let finish = match finish_reason {
        Some("length") => Finish::Length,
        Some("content_filter") => Finish::Filter,
        // Some servers say `stop` although they ask for tools, or the reverse: the calls decide.
        Some(_) | None if tool_calls.is_empty() => Finish::Stop,
        Some(_) | None => Finish::Tool,
    };
    Some((text, tool_calls, finish))
}

/// Keys of `extra` that a crew may not set, with what to say; empty where all is well.
pub fn refused_extra(extra: &Map<String, Value>) -> Vec<String> {
    body::fixed(extra, &FIXED).map(|why| why.to_string()).collect()
}
