//! Every provider's wire through real runs, streamed or not, against a server that counts. Invariant:
//! whatever the wire, a run ends as the failure table says, and what the model wrote goes back as it was.

use std::time::Duration;

use boatswain::core::event::{CallEvent, ErrorClass, Event, TaskEvent};
use serde_json::{Value, json};

use super::failures::{Row, Seen, done};
use super::speech::{ALL, End, Tongue, Wire};
use super::stand_in::Behaviour;
use super::support::{Folder, Provider, size};

const RESPONSES: Tongue = Tongue { wire: Wire::Responses, stream: true };
const GEMINI: Tongue = Tongue { wire: Wire::Gemini, stream: true };

/// One agent, one task; `agent` and `task` are further lines.
fn row(tongue: Tongue, behaviours: &[Behaviour], agent: &str, task: &str) -> Row {
    let provider = Provider::start();
    behaviours.iter().for_each(|behaviour| provider.push(behaviour.clone()));
    provider.server.respond(move |_, _| (Duration::ZERO, tongue.answer("Fine.")));
    let tables = tongue.tables(&provider.server.base_url());
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\n{agent}\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n{task}\n"
    ));
    folder.file("notes.txt", "Some notes.\n");
    Row { provider, folder }
}

/// Each wire in both forms, once or as often as asked: `BOSUN_TEST_TABLE=50 cargo test --test all wires::`.
fn each(check: impl Fn(Tongue)) {
    (0..size("TABLE", 1)).for_each(|_| ALL.into_iter().for_each(&check));
}

fn answered(row: &Row) -> Vec<boatswain::core::event::Answered> {
    let of = |event| match event {
        Event::Call(CallEvent::Answered(answered)) => Some(*answered),
        _ => None,
    };
    row.folder.events().into_iter().filter_map(of).collect()
}

#[test]
fn refused_transient_waits_and_is_no_attempt() {
    each(|tongue| {
        let codes = [408, 425, 429, 503, 529];
        let waits: Vec<_> = codes.iter().map(|code| tongue.status(*code, "RESOURCE_EXHAUSTED", Some(5))).collect();
        let row = row(tongue, &waits, "", "");
        assert_eq!(row.run(), Seen { released: 5, waits: 5, ..done(6, 1) }, "{tongue:?}");
    });
}

#[test]
fn without_a_retry_after_it_waits_two_seconds_but_gemini_says_it_in_the_body() {
    let tongue = RESPONSES;
    let patient = row(tongue, &[tongue.status(429, "rate_limit_exceeded", None)], "", "");
    let begun = std::time::Instant::now();
    assert_eq!(patient.run(), Seen { released: 1, waits: 1, ..done(2, 1) });
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    let info = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.25s"});
    let body = json!({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [info]}});
    let told = row(GEMINI, &[Behaviour::Status(429, Vec::new(), body.to_string())], "", "");
    assert_eq!(told.run(), Seen { released: 1, waits: 1, ..done(2, 1) });
    let waits = told.folder.events().into_iter().find_map(|event| match event {
        Event::Call(CallEvent::Failed { failure, .. }) => failure.retry_after_ms,
        _ => None,
    });
    assert_eq!(waits, Some(250));
}

#[test]
fn refused_finally_pauses_the_run() {
    each(|tongue| {
        let quota = match tongue.wire {
            Wire::Chat | Wire::Responses => (429, "credit_balance_exhausted", 11),
            Wire::Anthropic => (429, "enforced_spend_limit_reached", 11),
            Wire::Gemini => (402, "RESOURCE_EXHAUSTED", 11),
        };
        for (status, code, exit) in [(401, "x", 4), (403, "x", 4), (402, "x", 11), (404, "x", 11), quota] {
            let row = row(tongue, &[tongue.status(status, code, None)], "", "");
            assert_eq!(row.run(), Seen { exit, released: 1, ..done(1, 0) }, "{tongue:?} {status}");
            assert_eq!(row.seen(&["resume", "-q"]), Seen { released: 1, ..done(2, 1) }, "{tongue:?} {status}");
        }
    });
    // A key that is no key is a 400 there, and says so by a reason.
    let info = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"});
    let body = json!({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": [info]}});
    let row = row(GEMINI, &[Behaviour::Status(400, Vec::new(), body.to_string())], "", "");
    assert_eq!(row.run(), Seen { exit: 4, released: 1, ..done(1, 0) });
}

#[test]
fn too_long_is_shrunk_once_and_our_fault_goes_to_a_person() {
    each(|tongue| {
        for status in [400, 422] {
            let row = row(tongue, &[tongue.status(status, "INVALID_ARGUMENT", None)], "", "");
            let review = Some(ErrorClass::OurFault);
            assert_eq!(row.run(), Seen { exit: 16, released: 1, review, ..done(1, 0) }, "{tongue:?}");
        }
        if matches!(tongue.wire, Wire::Chat | Wire::Responses) {
            let row = row(tongue, &[tongue.status(400, "context_length_exceeded", None)], "", "");
            assert_eq!(row.run(), Seen { released: 1, attempts: vec![ErrorClass::TooLong], ..done(2, 1) });
        }
    });
}

#[test]
fn what_may_have_been_billed_stays_held_and_counts() {
    each(|tongue| {
        let whole = tongue.turn("BADBADBAD", &[], End::Whole, None).to_string();
        let mut kinds = vec![
            tongue.status(500, "INTERNAL", None),
            tongue.status(502, "x", None),
            tongue.status(504, "x", None),
            Behaviour::Cut(whole[..whole.len() / 2].to_owned()),
            Behaviour::Cut(String::new()),
            Behaviour::Reset,
            Behaviour::Hang,
        ];
        if tongue.stream {
            kinds.extend([tongue.cut_stream(), tongue.short_stream(), tongue.error_in_stream()]);
        }
        for kind in kinds {
            let row = row(tongue, std::slice::from_ref(&kind), "", "");
            if matches!(kind, Behaviour::Hang) {
                let text = row.folder.read("crew.toml").replace("20s", "1500ms");
                row.folder.file("crew.toml", &text);
            }
            let attempts = vec![ErrorClass::Ambiguous];
            assert_eq!(row.run(), Seen { doubtful: 1, attempts, ..done(2, 1) }, "{tongue:?} {kind:?}");
            assert!(!row.body(2).contains(tongue.own_role()), "what broke off is no turn");
        }
    });
}

#[test]
fn an_answer_too_large_to_be_read_is_paid_once_and_goes_to_a_person() {
    each(|tongue| {
        let large = tongue.turn(&"y".repeat(9 << 20), &[], End::Whole, tongue.usage()).to_string();
        let mut kinds = vec![Behaviour::Body(large)];
        if tongue.stream {
            let text = format!("data: {}\n\n", "y".repeat(9 << 20));
            kinds.push(Behaviour::Events { text, piece: 1 << 20, cut: false });
        }
        for kind in kinds {
            let row = row(tongue, &[kind], "", "");
            let review = Some(ErrorClass::Unusable);
            assert_eq!(row.run(), Seen { exit: 16, review, ..done(1, 1) }, "{tongue:?}");
            let why = row.folder.events().into_iter().find_map(|event| match event {
                Event::Task(TaskEvent::NeedsReview { message, .. }) => Some(message),
                _ => None,
            });
            let why = why.unwrap();
            assert!(why.contains("larger than 8 MiB") && why.contains("`max_output`"), "{tongue:?}: {why}");
            assert!(answered(&row).iter().all(|answer| answer.estimated), "it is booked at its worst case");
        }
    });
}

#[test]
fn an_unusable_answer_is_paid_replaced_and_told() {
    each(|tongue| {
        let whole = tongue.turn("BADBADBAD", &[], End::Whole, None).to_string();
        let mut kinds = vec![
            Behaviour::Body("<html>gateway</html>".into()),
            Behaviour::Body(whole[..whole.len() / 2].to_owned()),
            Behaviour::Body("{\"error\": 7}".into()),
            tongue.answer(""),
            tongue.answer(" \n "),
            tongue.says("BADBADBAD", End::Length),
            tongue.says("BADBADBAD", End::Filter),
            tongue.says("BADBADBAD", End::Refusal),
        ];
        if tongue.stream {
            let text = "data: {\"BADBADBAD\n\n".to_owned();
            kinds.push(Behaviour::Events { text, piece: 5, cut: false });
        }
        for kind in kinds {
            let row = row(tongue, std::slice::from_ref(&kind), "", "");
            let attempts = vec![ErrorClass::Unusable];
            // An error in a whole 200 says nothing of money: it stays held.
            let doubtful =
                u64::from(tongue.wire == Wire::Gemini && matches!(&kind, Behaviour::Body(b) if b.contains("error")));
            let expected = match doubtful {
                0 => Seen { attempts, ..done(2, 2) },
                _ => Seen { doubtful, attempts: vec![ErrorClass::Ambiguous], ..done(2, 1) },
            };
            assert_eq!(row.run(), expected, "{tongue:?} {kind:?}");
            assert!(!row.body(2).contains(tongue.own_role()), "the bad answer is replaced, not appended");
        }
    });
}

#[test]
fn usage_that_is_absent_or_absurd_settles_at_the_hold() {
    each(|tongue| {
        let absurd = [
            None,
            Some(json!(7)),
            Some(json!({})),
            Some(tongue.counts(json!(0), json!(5))),
            Some(tongue.counts(json!(-3), json!(5))),
            Some(tongue.counts(json!("50"), json!(5))),
            Some(tongue.counts(json!(1e30), json!(5))),
            Some(tongue.counts(json!(50), Value::Null)),
        ];
        for usage in absurd {
            let row = row(tongue, &[tongue.used("Fine.", usage.clone())], "", "");
            assert_eq!(row.run(), done(1, 1), "{tongue:?} {usage:?}");
            let answered = answered(&row).remove(0);
            assert!(answered.estimated, "{usage:?}");
            assert!(answered.cost.tokens.0 > 100, "the hold, not what was said: {answered:?}");
        }
        let row = row(tongue, &[tongue.answer("Fine.")], "", "");
        assert_eq!(row.run(), done(1, 1));
        let answered = answered(&row).remove(0);
        assert_eq!((answered.estimated, answered.cost.tokens.0), (false, 57), "{tongue:?}");
    });
}

#[test]
fn unknown_tools_and_bad_arguments_are_told() {
    each(|tongue| {
        let reads = "tools = [\"files.read\"]";
        let good = tongue.calls(&[("files__read", "{\"path\":\"notes.txt\"}")]);
        for bad in [tongue.calls(&[("nope", "{}")]), tongue.calls(&[("files__read", "{\"pa")])] {
            let once = row(tongue, std::slice::from_ref(&bad), reads, "");
            assert_eq!(once.run(), done(2, 2), "{tongue:?}");
            let twice = row(tongue, &[bad.clone(), bad.clone()], reads, "");
            assert_eq!(twice.run(), Seen { attempts: vec![ErrorClass::UnknownTool], ..done(3, 3) }, "{tongue:?}");
            let between = row(tongue, &[bad.clone(), good.clone(), bad], reads, "");
            assert_eq!(between.run(), done(4, 4), "{tongue:?}");
        }
    });
}

/// Two calls at once, sealed; then the results; then the answer.
const SEALED: &str = r#"[ {"type":"reasoning","id":"rs_1","summary":[] , "encrypted_content":"gAAA+\/é=="},
  {"id":"fc_1","type":"function_call","call_id":"call_a","name":"files__read","arguments":"{\"path\": \"notes.txt\"}","status":"completed"},
  {"id":"fc_2","type":"function_call","call_id":"call_b","name":"files__read","arguments":"{\"path\":\"more.txt\"}","status":"completed"} ]"#;
const SIGNED: [&str; 2] = [
    r#"{"functionCall" : {"name":"files__read","args":{"path": "notes.txt"}}, "thoughtSignature":"AbC+\/é=="}"#,
    r#"{"functionCall":{"name":"files__read","args":{"path":"more.txt"}}}"#,
];

/// With spaces where nobody would put them: rebuilt, they would be gone.
const THOUGHT: &str = r#"[ {"type":"thinking","thinking":"Hm é \n" , "signature":"EqQB+\/=="},
  {"type":"redacted_thinking","data":"x+\/y=="}, {"type":"text","text":"I look."},
  {"type":"tool_use","id":"toolu_a","name":"files__read","input":{"path": "notes.txt"},"caller":{"type":"direct"}},
  {"type":"tool_use","id":"toolu_b","name":"files__read","input":{ "path":"more.txt" }} ]"#;

/// `None`: the wire has nothing that is sealed.
fn own_turn(tongue: Tongue) -> Option<(Behaviour, String)> {
    Some(match (tongue.wire, tongue.stream) {
        (Wire::Chat, _) => return None,
        (Wire::Anthropic, false) => {
            let usage = r#"{"input_tokens":50,"output_tokens":7}"#;
            let body = format!(r#"{{"type":"message","content":{THOUGHT},"stop_reason":"tool_use","usage":{usage}}}"#);
            (Behaviour::Body(body), THOUGHT.to_owned())
        }
        (Wire::Anthropic, true) => {
            let content: Value = serde_json::from_str(THOUGHT).unwrap();
            let usage = json!({"input_tokens": 50, "output_tokens": 7});
            let whole =
                json!({"type": "message", "model": "m", "content": content, "stop_reason": "tool_use", "usage": usage});
            // The input is the model's own bytes, whatever they are; the rest is put together again.
            let text = tongue.events(&whole);
            let mut blocks = content.as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>();
            blocks[3] = r#"{"type":"tool_use","id":"toolu_a","name":"files__read","caller":{"type":"direct"},"input":{"path":"notes.txt"}}"#.into();
            (Behaviour::Events { text, piece: 1, cut: false }, format!("[{}]", blocks.join(",")))
        }
        (Wire::Responses, stream) => {
            let usage = r#"{"input_tokens":50,"output_tokens":7}"#;
            let whole = format!(r#"{{"id":"resp_1","status":"completed","output":{SEALED},"usage":{usage}}}"#);
            let line = whole.replace('\n', " ");
            let body = match stream {
                true => Behaviour::Events {
                    text: format!(
                        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{line}}}\n\n"
                    ),
                    piece: 1,
                    cut: false,
                },
                false => Behaviour::Body(line),
            };
            (body, SEALED.replace('\n', " ")[1..].trim().trim_end_matches(']').trim().to_owned())
        }
        (Wire::Gemini, false) => {
            let content = format!(r#"{{"parts" : [{}, {}],"role":"model"}}"#, SIGNED[0], SIGNED[1]);
            let usage = r#"{"promptTokenCount":50,"candidatesTokenCount":3,"thoughtsTokenCount":4}"#;
            let body =
                format!(r#"{{"candidates":[{{"content":{content},"finishReason":"STOP"}}],"usageMetadata":{usage}}}"#);
            (Behaviour::Body(body), content)
        }
        (Wire::Gemini, true) => {
            let chunk = |part: &str, rest: &str| {
                format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{part}]}}{rest}}}]")
            };
            let text = format!(
                "{}}}\r\n\r\n{},\"usageMetadata\":{{\"promptTokenCount\":50,\"candidatesTokenCount\":7}}}}\r\n\r\n",
                chunk(SIGNED[0], ""),
                chunk(SIGNED[1], ",\"finishReason\":\"STOP\"")
            );
            let whole = format!(r#"{{"role":"model","parts":[{},{}]}}"#, SIGNED[0], SIGNED[1]);
            (Behaviour::Events { text, piece: 1, cut: false }, whole)
        }
    })
}

#[test]
fn what_the_model_sealed_goes_back_byte_for_byte() {
    each(|tongue| {
        let Some((first, own)) = own_turn(tongue) else { return };
        let row = row(tongue, &[first], "tools = [\"files.read\"]", "");
        row.folder.file("more.txt", "More notes.\n");
        assert_eq!(row.run(), done(2, 2), "{tongue:?}");
        let second = row.body(2);
        assert!(second.contains(&own), "{tongue:?}\n{own}\n{second}");
        let parsed: Value = serde_json::from_str(&second).unwrap();
        match tongue.wire {
            Wire::Chat => {}
            Wire::Anthropic => {
                let turns = parsed["messages"].as_array().unwrap();
                let roles: Vec<_> = turns.iter().map(|turn| turn["role"].as_str().unwrap()).collect();
                assert_eq!(roles, ["user", "assistant", "user"], "all results in one message");
                let results = turns[2]["content"].as_array().unwrap();
                let ids: Vec<_> = results.iter().map(|result| &result["tool_use_id"]).collect();
                assert_eq!(ids, [&json!("toolu_a"), &json!("toolu_b")]);
                assert!(results[1]["content"].as_str().unwrap().contains("More notes."), "{second}");
            }
            Wire::Responses => {
                let input = parsed["input"].as_array().unwrap();
                let results: Vec<_> = input.iter().filter(|item| item["type"] == "function_call_output").collect();
                assert_eq!(
                    (results[0]["call_id"].as_str(), results[1]["call_id"].as_str()),
                    (Some("call_a"), Some("call_b"))
                );
                assert!(results[1]["output"].as_str().unwrap().contains("More notes."), "{second}");
                assert_eq!(
                    (&parsed["store"], &parsed["include"][0]),
                    (&json!(false), &json!("reasoning.encrypted_content"))
                );
            }
            Wire::Gemini => {
                let last = parsed["contents"].as_array().unwrap().last().unwrap();
                assert_eq!(
                    (last["role"].as_str(), last["parts"].as_array().unwrap().len()),
                    (Some("user"), 2),
                    "{last}"
                );
                let result = &last["parts"][1]["functionResponse"];
                // The call came without an id, so its result has none, and stands in its place.
                assert_eq!((result.get("id"), result["name"].as_str()), (None, Some("files__read")));
                assert!(result["response"]["output"].as_str().unwrap().contains("More notes."), "{second}");
            }
        }
        assert!(answered(&row)[0].message.own.is_some());
        let paths: Vec<String> = row.provider.seen().into_iter().map(|seen| seen.path).collect();
        let path = match (tongue.wire, tongue.stream) {
            (Wire::Chat, _) => "/v1/chat/completions",
            (Wire::Anthropic, _) => "/v1/messages",
            (Wire::Responses, _) => "/v1/responses",
            (Wire::Gemini, false) => "/v1/models/m:generateContent",
            (Wire::Gemini, true) => "/v1/models/m:streamGenerateContent?alt=sse",
        };
        assert_eq!(paths, [path, path]);
    });
}

#[test]
fn a_stored_response_whose_stream_broke_is_asked_after_once() {
    let tongue = RESPONSES;
    let whole = tongue.turn("Found again.", &[], End::Whole, Some(tongue.counts(json!(50), json!(7))));
    for (look_up, expected) in [
        (Behaviour::Body(whole.to_string()), done(1, 1)),
        (
            Behaviour::Body("{\"id\":\"resp_1\",\"status\":\"in_progress\",\"output\":[]}".into()),
            Seen { doubtful: 1, attempts: vec![ErrorClass::Ambiguous], ..done(2, 1) },
        ),
        (tongue.status(404, "x", None), Seen { doubtful: 1, attempts: vec![ErrorClass::Ambiguous], ..done(2, 1) }),
    ] {
        let row = row(tongue, &[tongue.cut_stream(), look_up], "", "");
        let text =
            row.folder.read("crew.toml").replace("max_output = 100", "max_output = 100\nextra = { store = true }");
        row.folder.file("crew.toml", &text);
        // The look-up is a request that the server counts, and no call.
        let ran = row.folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
        let figures = row.folder.verify().remove(0);
        assert_eq!(
            (figures.answered, figures.sums.ambiguous.calls),
            (expected.answered, expected.doubtful),
            "{}",
            ran.err
        );
        let seen = row.provider.seen();
        assert_eq!(seen.len(), expected.requests + 1);
        assert_eq!(&*seen[1].path, "/v1/responses/resp_1?include[]=reasoning.encrypted_content");
        assert_eq!(seen[1].body, "");
        if expected.requests == 1 {
            assert!(ran.out.contains("Found again."), "{}", ran.out);
        }
    }
}
