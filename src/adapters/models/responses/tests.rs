use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::adapters::models::capabilities::{Capabilities, of};
use crate::adapters::models::secrets::SecretInputs;
use crate::adapters::models::sse::Parser;
use crate::adapters::models::tests::{request, schema, tool};
use crate::core::chat::{Effect, Finish, Message, Milli, Settings, ToolAsk};
use crate::core::money::{Count, Usage};

fn body(request: &ModelRequest, capable: &Capabilities, stream: bool) -> String {
    String::from_utf8(map::body(request, capable, &SecretInputs::new(), stream).unwrap()).unwrap()
}

fn text(message: Message) -> Arc<str> {
    message.encode().text
}

fn conversation() -> ModelRequest {
    let ask = |id: &str| ToolAsk { id: id.into(), name: "files__read".into(), arguments: "{\"path\":\"a\"}".into() };
    let result = |id: &str| text(Message::Tool { tool_call_id: id.into(), content: "A.".into() });
    let mut request = request("a", "t.1", "Hello");
    request.messages.insert(0, text(Message::System { content: "Be brief.".into() }));
    let first = vec![ask("c1"), ask("c2")];
    request.messages.push(text(Message::Assistant { content: "I look.".into(), tool_calls: first }));
    request.messages.extend([result("c1"), result("c2")]);
    let second = vec![ask("c3")];
    request.messages.push(text(Message::Assistant { content: String::new(), tool_calls: second }));
    request.messages.push(result("c3"));
    request.messages.push(text(Message::System { content: "Conclude.".into() }));
    request.own_turns = [(5, "[ {\"type\":\"reasoning\", \"id\":\"rs\"} ,{\"é\":1}]".into())].into();
    request
}

#[test]
fn the_body_is_these_bytes() {
    let plain = body(&request("a", "t.1", "Say \"é\"\n"), &of(Api::OpenAi, "gpt-4.1"), false);
    assert_eq!(
        plain,
        r#"{"model":"stand-in","input":[{"role":"user","content":"Say \"é\"\n"}],"max_output_tokens":1000,"store":false}"#
    );
    let input = concat!(
        r#""instructions":"Be brief.","input":[{"role":"user","content":"Hello"},"#,
        r#"{"role":"assistant","content":"I look."},"#,
        r#"{"type":"function_call","call_id":"c1","name":"files__read","arguments":"{\"path\":\"a\"}"},"#,
        r#"{"type":"function_call","call_id":"c2","name":"files__read","arguments":"{\"path\":\"a\"}"},"#,
        r#"{"type":"function_call_output","call_id":"c1","output":"A."},"#,
        r#"{"type":"function_call_output","call_id":"c2","output":"A."},"#,
        r#"{"type":"reasoning", "id":"rs"} ,{"é":1},"#,
        r#"{"type":"function_call_output","call_id":"c3","output":"A."},"#,
        r#"{"role":"developer","content":"Conclude."}],"#,
    );
    let full = body(&conversation(), &Capabilities::default(), true);
    assert!(full.contains(input), "{full}");
    assert!(full.ends_with(r#""stream":true,"stream_options":{"include_obfuscation":false}}"#), "{full}");
}

#[test]
fn settings_tools_and_schema_are_said_as_the_model_takes_them() {
    let closed =
        json!({"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false});
    let open = json!({"type":"object","properties":{}});
    let mut request = request("a", "t.1", "x");
    request.tools = vec![tool("files.read", closed.clone(), Effect::Read), tool("b", open, Effect::Read)].into();
    request.schema = schema(closed.clone());
    let (temperature, top_p) = (Some(Milli(700)), Some(Milli(950)));
    request.settings = Settings {
        max_output: 64,
        temperature,
        top_p,
        seed: Some(3),
        reasoning: Some("high".into()),
        without: Vec::new(),
    };
    let extra =
        json!({"text": {"verbosity": "low"}, "reasoning": {"summary": "auto"}, "store": true, "service_tier": "flex"});
    request.extra = Arc::new(extra.as_object().unwrap().clone());
    let of = |capable: &Capabilities| serde_json::from_str::<Value>(&body(&request, capable, false)).unwrap();
    let all = of(&Capabilities::default());
    assert_eq!(
        all["tools"][0],
        json!({"type":"function","name":"files__read","description":"d","parameters":closed,"strict":true})
    );
    assert_eq!(all["tools"][1]["strict"], false);
    assert_eq!(all["text"]["format"], json!({"type":"json_schema","name":"out","schema":closed,"strict":true}));
    assert_eq!(
        (&all["text"]["verbosity"], &all["store"], &all["service_tier"]),
        (&json!("low"), &json!(true), &json!("flex"))
    );
    assert_eq!(all["reasoning"], json!({"effort":"high","summary":"auto"}));
    assert_eq!(
        (&all["temperature"], &all["top_p"], &all["parallel_tool_calls"]),
        (&json!(0.7), &json!(0.95), &json!(true))
    );
    assert_eq!(all.get("seed"), None, "this endpoint has none");
    let six = of(&capabilities("gpt-6"));
    assert_eq!((six.get("temperature"), &six["include"]), (None, &json!(["reasoning.encrypted_content"])));
    let old = of(&capabilities("o3"));
    assert_eq!(old.get("parallel_tool_calls"), None);
    let plain = of(&capabilities("gpt-4.1"));
    assert_eq!((plain.get("include"), &plain["reasoning"]), (None, &json!({"summary": "auto"})));
}

fn capabilities(model: &str) -> Capabilities {
    of(Api::OpenAi, model)
}

#[test]
fn what_would_bring_in_an_uncounted_prompt_is_refused() {
    for key in ["previous_response_id", "conversation", "prompt", "background", "stream", "max_output_tokens"] {
        let extra = json!({key: 1}).as_object().unwrap().clone();
        let said = refused_extra(&extra);
        assert!(said.len() == 1 && said[0].contains(key), "{said:?}");
        let request = ModelRequest { extra: Arc::new(extra), ..request("a", "t.1", "x") };
        assert!(map::body(&request, &Capabilities::default(), &SecretInputs::new(), true).unwrap_err().contains(key));
    }
}

const ASKED: Asked<'_> = Asked { model: "gpt-5", tier: Some("priority") };

fn answer(text: &str) -> ModelAnswer {
    match outcome(text, None, ASKED, None) {
        Outcome::Answer(answer) => *answer,
        Outcome::Failed(why) => panic!("{why}"),
        Outcome::Not => panic!("not an answer: {text}"),
    }
}

const OUTPUT: &str = r#"[{"type":"reasoning","id":"rs","encrypted_content":"g+/="},
    {"type":"message","phase":"commentary","content":[{"type":"output_text","text":"I "},{"type":"output_text","text":"look é."}]},
    {"type":"function_call","call_id":"c1","name":"n","arguments":"{\"a\":1}"}]"#;

fn whole() -> String {
    format!(
        r#"{{"id":"resp_1","status":"completed","error":null,"model":"gpt-5-2025-08-07","service_tier":"default","output":{OUTPUT},
        "usage":{{"input_tokens":100,"input_tokens_details":{{"cached_tokens":64,"cache_write_tokens":8}},"output_tokens":20,
        "output_tokens_details":{{"reasoning_tokens":5}},"total_tokens":120}}}}"#
    )
}

#[test]
fn a_whole_answer_is_read() {
    let answer = answer(&whole());
    assert_eq!((&*answer.text, answer.finish, answer.verbatim), ("I look é.", Finish::Tool, true));
    assert_eq!((&*answer.tool_calls[0].id, &*answer.tool_calls[0].arguments), ("c1", "{\"a\":1}"));
    assert_eq!(answer.native.unwrap().get(), OUTPUT);
    let count = Count::Reported;
    let usage = Usage {
        input: count(100),
        cache_read: count(64),
        cache_write: count(8),
        output: count(20),
        reasoning: count(5),
    };
    assert_eq!(answer.usage, usage);
    assert_eq!(answer.served.unwrap().tier.as_deref(), Some("default"), "priority was asked for");
}

#[test]
fn every_status_has_its_end() {
    let of = |status: &str, rest: &str| {
        let message = r#"[{"type":"message","content":[{"type":"output_text","text":"x"}]}]"#;
        answer(&format!(
            r#"{{"status":"{status}","output":{message},"usage":{{"input_tokens":1,"output_tokens":1}}{rest}}}"#
        ))
    };
    let cut = |reason: &str| of("incomplete", &format!(r#","incomplete_details":{{"reason":"{reason}"}}"#)).finish;
    assert_eq!(of("completed", "").finish, Finish::Stop);
    assert!(!of("completed", "").verbatim);
    assert_eq!(
        (cut("max_output_tokens"), cut("content_filter"), cut("new")),
        (Finish::Length, Finish::Filter, Finish::Length)
    );
    assert_eq!(of("in_progress", "").finish, Finish::Malformed);
    let failed = of("failed", r#","error":{"code":"server_error","message":"as told"}"#);
    assert_eq!((failed.finish, failed.usage.known()), (Finish::Malformed, Some((1, 1))), "billed, and no answer");
    let words = r#"{"status":"failed","output":[],"error":{"code":"server_error","message":"as told"},"usage":null}"#;
    assert!(matches!(outcome(words, None, ASKED, None), Outcome::Failed(why) if why.contains("as told")));
    let refused =
        r#"{"status":"completed","output":[{"type":"message","content":[{"type":"refusal","refusal":"No."}]}]}"#;
    assert_eq!((answer(refused).finish, &*answer(refused).text), (Finish::Refusal, "No."));
    let broken = answer(
        r#"{"status":"completed","output":[{"type":"function_call"}],"usage":{"input_tokens":9,"output_tokens":2}}"#,
    );
    assert_eq!((broken.finish, broken.usage.known()), (Finish::Malformed, Some((9, 2))), "unusable, and paid");
    for text in ["{}", "[]", "7", "{\"output\":null}", "{\"status\":3,\"output\":[]}"] {
        assert!(matches!(outcome(text, None, ASKED, None), Outcome::Not), "{text}");
    }
}

fn heard(stream: &str, piece: usize) -> (String, Option<ModelAnswer>) {
    let (mut parser, mut events, mut said) = (Parser::default(), Events::default(), String::new());
    for piece in stream.as_bytes().chunks(piece) {
        parser.feed(piece).unwrap();
    }
    parser.end();
    while let Some(event) = parser.take() {
        match events.event(&event.data, ASKED, None) {
            Step::On => {}
            Step::Text(piece) => said.push_str(&piece),
            Step::End(Outcome::Answer(answer)) => return (said, Some(*answer)),
            Step::End(Outcome::Failed(_) | Outcome::Not) => return (said, None),
        }
    }
    assert_eq!(events.id.as_deref(), Some("resp_1"));
    (said, None)
}

#[test]
fn a_stream_in_any_pieces_is_the_whole_answer() {
    let mut stream =
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n"
            .to_owned();
    for piece in ["I ", "look ", "é."] {
        stream += &format!(
            "data: {{\"type\":\"response.output_text.delta\",\"delta\":\"{piece}\",\"obfuscation\":\"x\"}}\r\n\r\n"
        );
    }
    let items = OUTPUT.replace('\n', " ");
    let whole = whole().replace('\n', " ");
    let last = format!("data: {{\"type\":\"response.completed\",\"response\":{whole}}}\n\n");
    for piece in [1, 2, 7, 4096] {
        let (said, answer) = heard(&format!("{stream}{last}"), piece);
        let answer = answer.unwrap();
        assert_eq!(
            (said, &*answer.native.unwrap().get().replace('\n', " ")),
            ("I look é.".to_owned(), &*items),
            "{piece}"
        );
        let (said, answer) = heard(&stream, piece);
        assert!(said == "I look é." && answer.is_none(), "cut before its end");
    }
    // A last object without the items that came before it.
    let one = r#"{"type":"message","content":[{"text":"I look é."}]}"#;
    let done = format!("data: {{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{one}}}\n\n");
    let bare = "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[]}}\n\n";
    let (_, answer) = heard(&format!("{stream}{done}{bare}"), 3);
    assert_eq!(answer.unwrap().native.unwrap().get(), format!("[{one}]"));
    for bad in ["{\"type\":\"error\",\"message\":\"m\"}", "{\"type\":\"resp", "{\"type\":\"response.completed\"}"] {
        assert!(heard(&format!("{stream}data: {bad}\n\n"), 5).1.is_none(), "{bad}");
    }
}
