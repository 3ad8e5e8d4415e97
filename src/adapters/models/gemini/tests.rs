use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::adapters::models::capabilities::{Capabilities, of};
use crate::adapters::models::secrets::SecretInputs;
use crate::adapters::models::sse::Parser;
use crate::adapters::models::tests::{request, schema, tool};
use crate::core::chat::{Effect, Finish, Message, Milli, Settings, ToolAsk};
use crate::core::money::{Count, Usage};

fn body(request: &ModelRequest, model: &str) -> String {
    String::from_utf8(map::body(request, &of(Api::Gemini, model), &SecretInputs::new()).unwrap()).unwrap()
}

fn text(message: Message) -> Arc<str> {
    message.encode().text
}

fn conversation() -> ModelRequest {
    let ask = |id: &str, name: &str| ToolAsk { id: id.into(), name: name.into(), arguments: "{\"p\":\"a\"}".into() };
    let result = |id: &str| text(Message::Tool { tool_call_id: id.into(), content: "A.".into() });
    let mut request = request("a", "t.1", "Hello");
    request.messages.insert(0, text(Message::System { content: "Be brief.".into() }));
    let first = vec![ask("c1", "read"), ask("bosun_call_2", "list")];
    request.messages.push(text(Message::Assistant { content: "I look.".into(), tool_calls: first }));
    request.messages.extend([result("c1"), result("bosun_call_2")]);
    let second = vec![ask("bosun_call_1", "find")];
    request.messages.push(text(Message::Assistant { content: String::new(), tool_calls: second }));
    request.messages.push(result("bosun_call_1"));
    request.own_turns = [(5, "{ \"parts\":[{\"thoughtSignature\" : \"é/=\"}]}".into())].into();
    request
}

#[test]
fn the_body_is_these_bytes() {
    assert_eq!(
        body(&request("a", "t.1", "Say \"é\"\n"), "gemini-3-pro"),
        r#"{"contents":[{"role":"user","parts":[{"text":"Say \"é\"\n"}]}],"generationConfig":{"maxOutputTokens":1000}}"#
    );
    let head = concat!(
        r#"{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[{"role":"user","parts":[{"text":"Hello"}]},"#,
        r#"{"role":"model","parts":[{"text":"I look."},{"functionCall":{"id":"c1","name":"read","args":{"p":"a"}}"#,
    );
    let tail = concat!(
        r#"},{"functionCall":{"name":"list","args":{"p":"a"}}}]},{"role":"user","parts":["#,
        r#"{"functionResponse":{"id":"c1","name":"read","response":{"output":"A."}}},"#,
        r#"{"functionResponse":{"name":"list","response":{"output":"A."}}}]},"#,
        r#"{ "parts":[{"thoughtSignature" : "é/="}]},"#,
        r#"{"role":"user","parts":[{"functionResponse":{"name":"find","response":{"output":"A."}}}]}],"#,
        r#""generationConfig":{"maxOutputTokens":1000}}"#,
    );
    assert_eq!(body(&conversation(), "gemini-2.5-flash"), format!("{head}{tail}"));
    let foreign = r#","thoughtSignature":"skip_thought_signature_validator""#;
    assert_eq!(body(&conversation(), "gemini-3-pro"), format!("{head}{foreign}{tail}"));
}

#[test]
fn settings_tools_and_schema_are_said_as_the_model_takes_them() {
    let known = json!({"type":"object","properties":{"a":{"type":"string","enum":["x"]}},"required":["a"],"additionalProperties":false});
    let mut request = request("a", "t.1", "x");
    request.schema = schema(known.clone());
    let (temperature, top_p) = (Some(Milli(700)), Some(Milli(950)));
    request.settings = Settings {
        max_output: 4096,
        temperature,
        top_p,
        seed: Some(3),
        reasoning: Some("high".into()),
        without: Vec::new(),
    };
    request.extra =
        Arc::new(json!({"generationConfig": {"topK": 5}, "safetySettings": []}).as_object().unwrap().clone());
    let of = |request: &ModelRequest, model: &str| serde_json::from_str::<Value>(&body(request, model)).unwrap();
    let plain = of(&request, "gemini-3-pro");
    let config = json!({"maxOutputTokens":4096,"temperature":0.7,"topP":0.95,"seed":3,"thinkingConfig":{"thinkingLevel":"HIGH"},
        "responseMimeType":"application/json","responseJsonSchema":known,"topK":5});
    assert_eq!((&plain["generationConfig"], &plain["safetySettings"]), (&config, &json!([])));
    assert_eq!(of(&request, "gemini-2.5-pro")["generationConfig"]["thinkingConfig"], json!({"thinkingBudget": 3072}));
    request.settings.reasoning = Some("512".into());
    assert_eq!(of(&request, "gemini-2.5-pro")["generationConfig"]["thinkingConfig"], json!({"thinkingBudget": 512}));
    assert_eq!(of(&request, "gemini-2.0-flash")["generationConfig"].get("thinkingConfig"), None);
    request.tools = vec![tool("files.read", known.clone(), Effect::Read)].into();
    let declared =
        json!([{"functionDeclarations":[{"name":"files__read","description":"d","parametersJsonSchema":known}]}]);
    assert_eq!(of(&request, "gemini-3-pro")["tools"], declared);
    assert_eq!(of(&request, "gemini-2.5-pro")["generationConfig"].get("responseMimeType"), None, "tools or a schema");
    request.schema = schema(json!({"type":"object","properties":{"pattern":{"type":"string","pattern":"a"}}}));
    let odd = &of(&request, "gemini-3-pro")["generationConfig"];
    assert_eq!((odd.get("responseJsonSchema"), &odd["responseMimeType"]), (None, &json!("application/json")));
    for extra in
        [json!({"cachedContent": "x"}), json!({"generationConfig": {"maxOutputTokens": 9}}), json!({"tools": []})]
    {
        assert_eq!(refused_extra(extra.as_object().unwrap()).len(), 1, "{extra}");
    }
    assert_eq!(map::path("gemini-3-pro", true), "v1/models/gemini-3-pro:streamGenerateContent");
    assert_eq!(map::path("tunedModels/x", false), "v1/tunedModels/x:generateContent");
}

fn answer(text: &str) -> ModelAnswer {
    let mut so_far = wire::Answer::default();
    assert!(matches!(so_far.chunk(text), Step::On | Step::Text(_)), "{text}");
    match so_far.end("m", None, true) {
        End::Answer(answer) => *answer,
        End::Cut => panic!("cut: {text}"),
    }
}

fn ended(reason: &str, parts: &str) -> ModelAnswer {
    let usage = r#"{"promptTokenCount":5,"candidatesTokenCount":2}"#;
    answer(&format!(
        r#"{{"candidates":[{{"content":{{"role":"model","parts":[{parts}]}},"finishReason":"{reason}"}}],"usageMetadata":{usage}}}"#
    ))
}

#[test]
fn every_finish_reason_has_its_end() {
    let filters = [
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "ESCALATION",
        "PUP_LIMITED_DISABLED",
        "MODEL_ARMOR",
    ];
    let wrong = [
        "FINISH_REASON_UNSPECIFIED",
        "OTHER",
        "IMAGE_OTHER",
        "NO_IMAGE",
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    ];
    assert_eq!(filters.len() + wrong.len() + 3, 24);
    for (reasons, finish) in [
        (&filters[..], Finish::Filter),
        (&wrong[..], Finish::Malformed),
        (&["MAX_TOKENS", "CONTINUATION"], Finish::Length),
    ] {
        for reason in reasons {
            let answer = ended(reason, r#"{"text":"x"}"#);
            assert_eq!((answer.finish, answer.usage.known()), (finish, Some((5, 2))), "{reason}: paid all the same");
        }
    }
    assert_eq!(ended("STOP", r#"{"text":"x"}"#).finish, Finish::Stop);
    assert_eq!(ended("BRAND_NEW", "").finish, Finish::Malformed);
    let blocked = answer(
        r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":5,"totalTokenCount":5}}"#,
    );
    assert_eq!((blocked.finish, blocked.usage.known()), (Finish::Filter, Some((5, 0))));
    assert!(blocked.text.contains("SAFETY"));
}

#[test]
fn calls_without_ids_get_one_each_and_thoughts_are_no_text() {
    let answer = ended(
        "STOP",
        r#"{"text":"hm","thought":true},{"text":"I look."},{"functionCall":{"name":"a","args": {"x" : 1}},"thoughtSignature":"s"},{"functionCall":{"id":"own","name":"b"}}"#,
    );
    let asks: Vec<_> = answer.tool_calls.iter().map(|ask| (&*ask.id, &*ask.name, &*ask.arguments)).collect();
    assert_eq!(asks, [("bosun_call_1", "a", "{\"x\" : 1}"), ("own", "b", "{}")]);
    assert_eq!((&*answer.text, answer.finish, answer.verbatim), ("I look.", Finish::Tool, true));
    assert!(!ended("STOP", r#"{"functionCall":{"name":"a"}}"#).verbatim);
}

#[test]
fn usage_is_made_inclusive_and_a_missing_number_is_zero_only_where_the_total_says_so() {
    let of =
        |usage: &str| answer(&format!(r#"{{"candidates":[{{"finishReason":"STOP"}}],"usageMetadata":{usage}}}"#)).usage;
    let full = of(
        r#"{"promptTokenCount":100,"toolUsePromptTokenCount":10,"candidatesTokenCount":20,"thoughtsTokenCount":30,"cachedContentTokenCount":64,"totalTokenCount":160}"#,
    );
    let count = Count::Reported;
    let expected = Usage {
        input: count(110),
        cache_read: count(64),
        cache_write: Count::Absent,
        output: count(50),
        reasoning: count(30),
    };
    assert_eq!(full, expected);
    assert_eq!(
        of(r#"{"promptTokenCount":100,"thoughtsTokenCount":30,"totalTokenCount":130}"#).known(),
        Some((100, 30))
    );
    assert_eq!(of(r#"{"promptTokenCount":100,"totalTokenCount":131}"#).known(), None);
    assert_eq!(of(r#"{"promptTokenCount":100}"#).known(), None);
    assert_eq!(
        of(r#"{"promptTokenCount":100,"candidatesTokenCount":2,"thoughtsTokenCount":"3"}"#).output,
        Count::Unparsable
    );
    assert_eq!(of("7").input, Count::Unparsable);
}

fn heard(stream: &str, piece: usize) -> (String, Option<ModelAnswer>) {
    let (mut parser, mut so_far, mut said) = (Parser::default(), wire::Answer::default(), String::new());
    stream.as_bytes().chunks(piece).for_each(|piece| parser.feed(piece).unwrap());
    parser.end();
    while let Some(event) = parser.take() {
        match so_far.chunk(&event.data) {
            Step::On => {}
            Step::Text(piece) => said.push_str(&piece),
            Step::Failed(_) | Step::Not => return (said, None),
        }
    }
    match so_far.end("m", None, false) {
        End::Answer(answer) => (said, Some(*answer)),
        End::Cut => (said, None),
    }
}

#[test]
fn a_stream_in_any_pieces_is_the_whole_answer() {
    let parts = [
        r#"{"text":"I look é"}"#,
        r#"{"text":".","thoughtSignature" : "a"}"#,
        r#"{"functionCall":{"name":"n","args":{}}, "thoughtSignature":"b"}"#,
    ];
    let chunk = |part: &str| format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{part}]}}}}]}}\r\n\r\n");
    let stream: String = parts.iter().map(|part| chunk(part)).collect();
    let usage = r#""usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2}"#;
    let last = format!("data: {{\"candidates\":[{{\"finishReason\":\"STOP\",\"content\":{{}}}}],{usage}}}\n\n");
    let native = format!(r#"{{"role":"model","parts":[{}]}}"#, parts.join(","));
    for piece in [1, 2, 7, 4096] {
        let (said, answer) = heard(&format!("{stream}{last}"), piece);
        let answer = answer.unwrap();
        assert_eq!((said, &*answer.text, answer.finish), ("I look é.".to_owned(), "I look é.", Finish::Tool));
        assert_eq!((answer.native.unwrap().get(), answer.usage.known()), (&*native, Some((5, 2))));
        assert!(heard(&stream, piece).1.is_none(), "cut before its end");
    }
    for bad in ["{\"error\":{\"message\":\"m\"}}", "{\"cand", "{}", "[]"] {
        assert!(heard(&format!("{stream}data: {bad}\n\n"), 5).1.is_none(), "{bad}");
    }
}

#[test]
fn a_turn_of_the_model_is_read_as_it_was_written() {
    let capable = Capabilities::default();
    let mut request = request("a", "t.1", "x");
    let ask = ToolAsk { id: "c".into(), name: "n".into(), arguments: "{\"pa".into() };
    request.messages.push(text(Message::Assistant { content: String::new(), tool_calls: vec![ask] }));
    let body = map::body(&request, &capable, &SecretInputs::new()).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["contents"][1]["parts"][0]["functionCall"]["args"], json!({"arguments": "{\"pa"}));
}
