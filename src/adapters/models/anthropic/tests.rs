use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::map::{self, Asked, Bodies};
use super::stream::Assembly;
use crate::adapters::models::secrets::SecretInputs;
use crate::adapters::models::streamed::{Step, Streamed};
use crate::adapters::models::tests::{request, schema, tool};
use crate::core::chat::{Effect, Finish, Message, Milli, ModelAnswer, ModelRequest, Settings, ToolAsk};
use crate::core::money::{Count, Usage};

const MODEL: &str = "claude-sonnet-4-5";

fn of(model: &str, messages: &[Message]) -> ModelRequest {
    let messages = messages.iter().map(|message| message.encode().text).collect();
    ModelRequest { model: model.into(), messages, ..request("a", "t.1", "") }
}

fn user(text: &str) -> Message {
    Message::User { content: text.into() }
}
fn system(text: &str) -> Message {
    Message::System { content: text.into() }
}
fn result(id: &str, content: &str) -> Message {
    Message::Tool { tool_call_id: id.into(), content: content.into() }
}
fn calls(text: &str, asks: &[(&str, &str)]) -> Message {
    let ask = |(id, arguments): &(&str, &str)| ToolAsk {
        id: (*id).into(),
        name: "files__read".into(),
        arguments: (*arguments).into(),
    };
    Message::Assistant { content: text.into(), tool_calls: asks.iter().map(ask).collect() }
}
fn reads() -> crate::core::chat::ToolSpec {
    tool("files.read", json!({"type": "object", "properties": {"path": {"type": "string"}}}), Effect::Read)
}

fn text_of(request: &ModelRequest) -> String {
    let (body, _) = Bodies::new().body(request, &SecretInputs::new(), false).unwrap();
    String::from_utf8(body).unwrap()
}
fn body(request: &ModelRequest) -> Value {
    serde_json::from_str(&text_of(request)).unwrap()
}

#[test]
fn the_body_is_these_bytes() {
    let plain = of(MODEL, &[system("Be brief."), user("Say \"é\"\n")]);
    assert_eq!(
        text_of(&plain),
        r#"{"model":"claude-sonnet-4-5","max_tokens":1000,"system":"Be brief.","messages":[{"role":"user","content":[{"type":"text","text":"Say \"é\"\n"}]}]}"#
    );
    let settings =
        Settings { temperature: Some(Milli(700)), top_p: Some(Milli(1)), seed: Some(1), ..plain.settings.clone() };
    let odd = ModelRequest { settings, ..plain.clone() };
    assert_eq!(text_of(&odd), text_of(&plain), "sampling is refused, even at its defaults");
    let (streamed, _) = Bodies::new().body(&plain, &SecretInputs::new(), true).unwrap();
    assert!(String::from_utf8(streamed).unwrap().ends_with(r#"}],"stream":true}"#));
}

#[test]
fn results_stand_in_one_message_and_roles_alternate() {
    let turns = [
        user("Go"),
        calls("I look.", &[("a", "{\"path\": \"x\"}"), ("b!", "")]),
        result("a", "A"),
        result("b!", ""),
        user("Answer now"),
        calls("", &[]),
        user("  "),
    ];
    let with_tools = ModelRequest { tools: vec![reads()].into(), ..of(MODEL, &turns) };
    let body = body(&with_tools);
    let uses = json!([{"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "a", "name": "files__read", "input": {"path": "x"}},
        {"type": "tool_use", "id": "b_", "name": "files__read", "input": {}}]);
    let results = json!([{"type": "tool_result", "tool_use_id": "a", "content": "A"},
        {"type": "tool_result", "tool_use_id": "b_"}, {"type": "text", "text": "Answer now"}]);
    assert_eq!(
        body["messages"],
        json!([{"role": "user", "content": [{"type": "text", "text": "Go"}]},
            {"role": "assistant", "content": uses}, {"role": "user", "content": results}])
    );
    assert_eq!(body["tools"][0]["name"], "files__read");
    assert_eq!(body["tools"][0]["input_schema"]["type"], "object");
    assert_eq!(body.get("tool_choice"), None);
    assert!(text_of(&with_tools).contains(r#""input":{"path": "x"}"#), "an input goes back as its bytes came");
    let broken = body_of_calls("{\"pa");
    assert_eq!(broken["messages"][1]["content"][0]["input"], json!({"INVALID_JSON": "{\"pa"}));
}

fn body_of_calls(arguments: &str) -> Value {
    body(&of(MODEL, &[user("Go"), calls("", &[("a", arguments)]), result("a", "no")]))
}

#[test]
fn once_tools_are_off_those_that_were_called_are_named_and_barred() {
    let body = body_of_calls("{}");
    assert_eq!(body["tools"], json!([{"name": "files__read", "input_schema": {"type": "object"}}]));
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
}

#[test]
fn an_own_turn_goes_back_byte_for_byte() {
    let own = r#"[ {"type":"thinking" ,"thinking":"é","signature":"s=="} ]"#;
    let turns = [user("Go"), calls("rebuilt", &[]), user("More")];
    let own_turns = BTreeMap::from([(1, own.into())]);
    let text = text_of(&ModelRequest { own_turns, ..of(MODEL, &turns) });
    assert!(text.contains(&format!(r#"{{"role":"assistant","content":{own}}}"#)) && !text.contains("rebuilt"));
}

fn thinks(model: &str, word: &str, max_output: u64) -> Value {
    let settings = Settings { max_output, reasoning: Some(word.into()), ..Settings::default() };
    body(&ModelRequest { settings, ..of(model, &[user("Go")]) })
}

#[test]
fn thinking_is_told_as_each_model_takes_it() {
    let budget = |word: &str, cap: u64| thinks(MODEL, word, cap)["thinking"].clone();
    let enabled = |tokens: u64| json!({"type": "enabled", "budget_tokens": tokens});
    assert_eq!([budget("low", 8192), budget("medium", 8192), budget("high", 8192)], [2048, 4096, 6144].map(enabled));
    assert_eq!([budget("low", 2048), budget("5000", 8192), budget("9000", 4096)], [1024, 5000, 3072].map(enabled));
    assert_eq!([budget("none", 8192), budget("high", 2047), budget("xhigh", 8192)], [const { Value::Null }; 3]);
    let adaptive = thinks("claude-opus-5", "xhigh", 4096);
    assert_eq!(adaptive["thinking"], json!({"type": "adaptive"}));
    assert_eq!(adaptive["output_config"], json!({"effort": "xhigh"}));
    let off = thinks("claude-opus-5", "none", 4096);
    assert_eq!((&off["thinking"], off.get("output_config")), (&json!({"type": "disabled"}), None));
    let old = thinks("claude-3-5-haiku-20241022", "low", 8192);
    assert_eq!((old.get("thinking"), old.get("output_config")), (None, None));
}

#[test]
fn a_schema_is_stated_natively_else_by_a_tool_else_by_the_prompt() {
    let closed = json!({"type": "object", "additionalProperties": false, "required": ["a"],
        "properties": {"a": {"type": "string", "minLength": 3}}});
    let open = json!({"type": "object"});
    let with = |model: &str, value: &Value| ModelRequest { schema: schema(value.clone()), ..of(model, &[user("Go")]) };
    let native = body(&with(MODEL, &closed));
    let format = json!({"type": "object", "properties": {"a": {"type": "string", "description": "{minLength: 3}"}},
        "additionalProperties": false, "required": ["a"]});
    assert_eq!(native["output_config"], json!({"format": {"type": "json_schema", "schema": format}}));
    assert_eq!(native.get("tools"), None);
    // A model without formats, and a schema that no format can say.
    for (model, value) in [("claude-3-5-haiku-20241022", &closed), (MODEL, &open)] {
        let by_tool = body(&with(model, value));
        assert_eq!(by_tool["tools"], json!([{"name": "out", "input_schema": value}]), "{model}");
        assert_eq!(by_tool["tool_choice"], json!({"type": "tool", "name": "out"}));
        let own = body(&ModelRequest { tools: vec![reads()].into(), ..with(model, value) });
        assert_eq!((&own["tools"][1]["name"], &own["tool_choice"]), (&json!("out"), &json!({"type": "any"})));
    }
    // What thinks cannot be forced, and says it in words.
    let settings = Settings { max_output: 4096, reasoning: Some("low".into()), ..Settings::default() };
    for model in [MODEL, "claude-opus-5"] {
        let prompt = body(&ModelRequest { settings: settings.clone(), ..with(model, &open) });
        assert_eq!((prompt.get("tools"), prompt["output_config"].get("format")), (None, None), "{model}");
    }
    let both = body(&ModelRequest { settings, ..with("claude-opus-5", &closed) });
    assert_eq!(both["output_config"]["effort"], "low");
    assert_eq!(both["output_config"]["format"]["type"], "json_schema");
    let taken = ModelRequest { tools: vec![tool("out", open.clone(), Effect::Read)].into(), ..with(MODEL, &open) };
    assert_eq!(body(&taken)["tools"][1]["name"], "final_out");
}

#[test]
fn stable_prefixes_are_marked_where_it_pays() {
    let mark = json!({"type": "ephemeral"});
    let long = "word ".repeat(1000);
    let turns = [system(&long), user("One"), calls("", &[("a", "{}")]), result("a", &long), user("Two")];
    let with_tools = |model: &str, turns: &[Message]| ModelRequest { tools: vec![reads()].into(), ..of(model, turns) };
    let marked = body(&with_tools(MODEL, &turns));
    assert_eq!(marked["system"], json!([{"type": "text", "text": long, "cache_control": mark}]));
    let messages = &marked["messages"];
    assert_eq!(messages[0]["content"][0]["cache_control"], mark, "the turn before: where this one reads");
    assert_eq!(messages[2]["content"][1]["cache_control"], mark, "this turn: where the next one reads");
    assert_eq!(messages[2]["content"][0].get("cache_control"), None);
    let marks = |body: &Value| body.to_string().matches("cache_control").count();
    assert_eq!(marks(&marked), 3);
    assert_eq!(marks(&body(&of(MODEL, &turns))), 2, "without tools nothing comes after this turn");
    assert_eq!(marks(&body(&with_tools("claude-haiku-4-5", &turns))), 0, "4,096 tokens there");
    assert_eq!(marks(&body(&with_tools(MODEL, &[system("Short"), user("One")]))), 0);
}

#[test]
fn what_the_worst_case_depends_on_cannot_be_set_by_extra() {
    for key in map::FIXED {
        let extra = std::sync::Arc::new([(key.to_owned(), json!(9))].into_iter().collect());
        let request = ModelRequest { extra, ..of(MODEL, &[user("Go")]) };
        let why = Bodies::new().body(&request, &SecretInputs::new(), false).map(|_| ()).unwrap_err();
        assert!(why.to_string().contains(key), "{why}");
    }
    let extra =
        json!({"metadata": {"user_id": "u"}, "thinking": {"type": "disabled"}, "output_config": {"effort": "max"}});
    let extra = std::sync::Arc::new(extra.as_object().unwrap().clone());
    let settings = Settings { max_output: 4096, reasoning: Some("low".into()), ..Settings::default() };
    let body = body(&ModelRequest { extra, settings, ..of("claude-opus-5", &[user("Go")]) });
    assert_eq!(body["metadata"]["user_id"], "u");
    assert_eq!(body["thinking"]["type"], "disabled", "extra has the last word");
    assert_eq!(body["output_config"], json!({"effort": "max"}));
}

fn asked(result_tool: Option<&str>) -> Asked {
    Asked { model: MODEL.into(), result_tool: result_tool.map(str::to_owned) }
}
fn read(value: &Value, result_tool: Option<&str>) -> ModelAnswer {
    map::answer(value.to_string().as_bytes(), &asked(result_tool), Some("r".into()), str::to_owned)
}

#[test]
fn every_stop_reason_has_its_word() {
    let said = json!([{"type": "text", "text": "x"}]);
    for (sent, finish) in [
        ("end_turn", Finish::Stop),
        ("stop_sequence", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("pause_turn", Finish::Length),
        ("refusal", Finish::Refusal),
        ("something_new", Finish::Stop),
    ] {
        let answer = read(&json!({"content": said, "stop_reason": sent}), None);
        assert_eq!((answer.finish, answer.text.as_str(), answer.verbatim), (finish, "x", false), "{sent}");
    }
    let details = json!({"type": "refusal", "category": "cyber", "explanation": "Not this."});
    let refused = read(&json!({"content": [], "stop_reason": "refusal", "stop_details": details}), None);
    assert_eq!((refused.finish, refused.text.as_str()), (Finish::Refusal, "Not this."));
}

#[test]
fn calls_and_what_is_sealed_are_told_apart() {
    let content = json!([{"type": "text", "text": "I "}, {"type": "text", "text": "look."},
        {"type": "tool_use", "id": "t1", "name": "files__read", "input": {"path": "x"}},
        {"type": "tool_use", "id": "t2", "name": "files__read", "input": {"INVALID_JSON": "{\"pa"}}]);
    let usage =
        json!({"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 10, "service_tier": "priority"});
    let answer =
        read(&json!({"content": content, "stop_reason": "tool_use", "usage": usage, "model": "claude-opus-5"}), None);
    let asks: Vec<_> = answer.tool_calls.iter().map(|ask| (&*ask.id, &*ask.arguments)).collect();
    assert_eq!(asks, [("t1", r#"{"path":"x"}"#), ("t2", "{\"pa")]);
    assert_eq!((answer.finish, answer.text.as_str(), answer.verbatim), (Finish::Tool, "I look.", false));
    assert_eq!(answer.usage, Usage { cache_read: Count::Reported(10), ..Usage::reported(15, 2) });
    assert_eq!(answer.native.unwrap().get(), content.to_string());
    let served = answer.served.unwrap();
    assert_eq!((served.model.as_deref(), served.tier.as_deref()), (Some("claude-opus-5"), Some("priority")));
    for sealed in [
        json!({"type": "thinking", "thinking": "", "signature": "s"}),
        json!({"type": "redacted_thinking", "data": "x"}),
        json!({"type": "something_new"}),
        json!({"type": "text", "text": "x", "citations": [{"cited_text": "y"}]}),
    ] {
        assert!(read(&json!({"content": [sealed]}), None).verbatim, "{sealed}");
    }
    assert!(!read(&json!({"content": [{"type": "text", "text": "x", "citations": null}]}), None).verbatim);
}

#[test]
fn a_result_given_by_its_tool_is_the_text() {
    let by_tool = json!({"type": "tool_use", "id": "t", "name": "out", "input": {"a": "b"}});
    let other = json!({"type": "tool_use", "id": "u", "name": "files__read", "input": {}});
    let alone = read(&json!({"content": [by_tool], "stop_reason": "tool_use"}), Some("out"));
    assert_eq!((alone.text.as_str(), alone.finish, alone.tool_calls.len()), (r#"{"a":"b"}"#, Finish::Stop, 0));
    let both = read(&json!({"content": [by_tool, other], "stop_reason": "tool_use"}), Some("out"));
    assert_eq!((both.text.as_str(), both.finish, both.tool_calls.len()), ("", Finish::Tool, 1), "the work goes first");
    let cut = read(&json!({"content": [by_tool], "stop_reason": "max_tokens"}), Some("out"));
    assert_eq!(cut.finish, Finish::Length);
}

#[test]
fn what_is_no_answer_is_malformed_and_keeps_what_it_said_of_usage() {
    let usage = json!({"input_tokens": 5, "output_tokens": 2});
    for odd in [
        json!({"content": "text", "usage": usage}),
        json!({"usage": usage}),
        json!({"content": [{"type": "text"}], "usage": usage}),
        json!({"content": [{"type": "tool_use", "name": "x"}], "usage": usage}),
        json!({"content": [7], "usage": usage}),
    ] {
        let answer = read(&odd, None);
        assert_eq!((answer.finish, answer.usage), (Finish::Malformed, Usage::reported(5, 2)), "{odd}");
    }
    assert_eq!(read(&json!([1]), None).usage, Usage::ABSENT);
}

fn streamed(events: &[Value]) -> (ModelAnswer, String) {
    let (mut so_far, mut shown) = (Assembly::default(), String::new());
    for event in events {
        match so_far.take(&event.to_string()) {
            Step::Text(piece) => shown.push_str(&piece),
            Step::Quiet | Step::Done => {}
            other @ (Step::Error | Step::Broken) => panic!("{other:?}: {event}"),
        }
    }
    (map::answer(&so_far.body(), &asked(None), None, str::to_owned), shown)
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}
fn start(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

#[test]
fn a_stream_is_put_together_as_the_whole_would_be() {
    let message = json!({"model": MODEL, "content": [], "stop_reason": null,
        "usage": {"input_tokens": 25, "cache_read_input_tokens": 10, "cache_creation_input_tokens": null, "output_tokens": 1}});
    let (answer, shown) = streamed(&[
        json!({"type": "message_start", "message": message}),
        start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        json!({"type": "ping"}),
        delta(0, json!({"type": "thinking_delta", "thinking": "Hm"})),
        delta(0, json!({"type": "thinking_delta", "thinking": "m"})),
        delta(0, json!({"type": "signature_delta", "signature": "s=="})),
        json!({"type": "content_block_stop", "index": 0}),
        start(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "I "})),
        delta(1, json!({"type": "text_delta", "text": "look"})),
        start(2, json!({"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": ""})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"n\": 1"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": ".50}"})),
        start(3, json!({"type": "tool_use", "id": "u", "name": "g", "input": {}})),
        delta(3, json!({"type": "something_new", "x": 1})),
        json!({"type": "something_new"}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"},
            "usage": {"input_tokens": null, "output_tokens": 15, "output_tokens_details": {"thinking_tokens": 3}}}),
        json!({"type": "message_stop"}),
    ]);
    assert_eq!(shown, "I look");
    let native = r#"[{"type":"thinking","thinking":"Hmm","signature":"s=="},{"type":"text","text":"I look"},{"type":"tool_use","id":"t","name":"f","caller":{"type":"direct"},"input":{"n": 1.50}},{"type":"tool_use","id":"u","name":"g","input":{}}]"#;
    assert_eq!(answer.native.unwrap().get(), native);
    let asks: Vec<_> = answer.tool_calls.iter().map(|ask| &*ask.arguments).collect();
    assert_eq!(asks, [r#"{"n": 1.50}"#, "{}"]);
    assert_eq!((answer.finish, answer.verbatim, answer.served), (Finish::Tool, true, None));
    let usage = Usage { cache_read: Count::Reported(10), reasoning: Count::Reported(3), ..Usage::reported(35, 15) };
    assert_eq!(answer.usage, usage);
}

#[test]
fn an_input_that_was_cut_off_is_told_as_it_came() {
    let (answer, _) = streamed(&[
        json!({"type": "message_start", "message": {}}),
        start(0, json!({"type": "tool_use", "id": "t", "name": "f", "input": {}})),
        delta(0, json!({"type": "input_json_delta", "partial_json": "{\"path\": \"no"})),
        json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 9}}),
    ]);
    assert_eq!(answer.tool_calls[0].arguments, "{\"path\": \"no");
    assert_eq!((answer.finish, answer.usage.input), (Finish::Length, Count::Absent));
}

#[test]
fn the_first_count_of_output_is_not_the_last() {
    let begun = json!({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}});
    let mut so_far = Assembly::default();
    assert_eq!(so_far.usage(), None);
    so_far.take(&begun.to_string());
    assert_eq!(so_far.usage(), Some(Usage::reported(25, 1)), "what a broken stream had said");
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
    assert_eq!(streamed(&[begun.clone(), end]).0.usage.known(), None, "nobody said what the output came to");
    let null = json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": null}});
    assert_eq!(streamed(&[begun, null]).0.usage.output, Count::Unparsable);
    for broken in ["<html>", "{\"type\":\"content_block_delta\",\"index\":4}", "[]"] {
        assert_eq!(Assembly::default().take(broken), Step::Broken, "{broken}");
    }
}
