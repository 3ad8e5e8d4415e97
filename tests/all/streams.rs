//! Streams at the client's edge. Invariant: one call is one request, and whatever a server makes of the
//! wish for a stream, the answer is the same.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use boatswain::adapters::models::anthropic::Anthropic;
use boatswain::adapters::models::line::LineSpec;
use boatswain::adapters::models::openai::{Dialect, OpenAi};
use boatswain::core::chat::{CallFailure, FailureClass, Finish, Message, ModelAnswer, ModelRequest, Settings};
use boatswain::core::event::{CallEvent, ErrorClass, Event};
use boatswain::core::ids::{CallId, Name, RunId};
use boatswain::core::money::{Count, Usage};
use boatswain::ports::model::{Model, Watch};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::failures::{Row, Seen, done};
use super::speech::{End, Tongue, Wire};
use super::stand_in::{Behaviour, StandIn};
use super::support::{Folder, Provider};

const KEY: &str = "sk-test-0123456789abcdef";
const CHAT: Tongue = Tongue { wire: Wire::Chat, stream: true };
const CLAUDE: Tongue = Tongue { wire: Wire::Anthropic, stream: true };

/// Keeps the pieces that it was told.
#[derive(Default)]
struct Pieces(Mutex<Vec<String>>);
impl Watch for Pieces {
    fn text(&self, piece: &str) {
        self.0.lock().unwrap().push(piece.to_owned());
    }
}

fn client(tongue: Tongue, server: &StandIn) -> Box<dyn Model> {
    let (key, timeout, connections) = (Some(SecretString::from(KEY)), Duration::from_secs(5), 2);
    let (stream, secrets) = (tongue.stream, Arc::default());
    let mut base_url = server.base_url();
    if tongue.wire == Wire::Anthropic {
        base_url = base_url.trim_end_matches("/v1").to_owned();
    }
    let line = LineSpec { base_url, key, timeout, connections, stream, secrets };
    match tongue.wire {
        Wire::Anthropic => Box::new(Anthropic::new(line).unwrap()),
        Wire::Chat | Wire::Responses | Wire::Gemini => Box::new(OpenAi::new(line, Dialect::OPENAI).unwrap()),
    }
}

fn request() -> ModelRequest {
    ModelRequest {
        run: RunId::from_random(1),
        call: CallId::parse("draft.1").unwrap(),
        agent: Name::new("writer").unwrap(),
        attempt: 1,
        model: "m".into(),
        messages: vec![Message::User { content: "Go".into() }.encode().text],
        own_turns: Default::default(),
        tools: Vec::new().into(),
        schema: None,
        settings: Settings { max_output: 64, ..Settings::default() },
        extra: Arc::default(),
    }
}

/// The outcome of one call, the pieces it told, and its request.
async fn one(tongue: Tongue, behaviour: Behaviour) -> (Result<ModelAnswer, CallFailure>, Vec<String>, Value) {
    let server = StandIn::start().await;
    server.push(behaviour);
    let pieces = Pieces::default();
    let outcome = client(tongue, &server).call(&request(), &pieces).await;
    assert_eq!(server.requests(), 1);
    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.headers["authorization"], format!("Bearer {KEY}"));
    if tongue.wire == Wire::Anthropic {
        assert_eq!(
            (seen.path.as_str(), &seen.headers["anthropic-version"].to_str().unwrap()),
            ("/v1/messages", &"2026-10-21")
        );
    }
    (outcome, pieces.0.into_inner().unwrap(), serde_json::from_str(&seen.body).unwrap())
}

#[tokio::test]
async fn text_is_told_as_it_comes_and_the_answer_is_that_of_the_whole() {
    for tongue in [CHAT, CLAUDE] {
        let (streamed, pieces, body) = one(tongue, tongue.answer("Héllo wörld")).await;
        let whole = Tongue { stream: false, ..tongue };
        let (answer, silence, plain) = one(whole, whole.answer("Héllo wörld")).await;
        let (streamed, answer) = (streamed.unwrap(), answer.unwrap());
        assert_eq!(pieces, ["Hél", "lo ", "wör", "ld"]);
        assert!(silence.is_empty());
        assert_eq!((&streamed.text, streamed.finish, streamed.usage), (&answer.text, answer.finish, answer.usage));
        assert_eq!((streamed.usage, streamed.served), (Usage { ..answer.usage }, None));
        assert_eq!(streamed.request_id.as_deref(), Some("req_1"));
        let value = |raw: Option<Box<serde_json::value::RawValue>>| -> Value {
            serde_json::from_str(raw.unwrap().get()).unwrap()
        };
        assert_eq!(value(streamed.native), value(answer.native));
        assert_eq!((&body["stream"], plain.get("stream")), (&json!(true), None));
        if tongue.wire == Wire::Chat {
            assert_eq!(body["stream_options"], json!({"include_usage": true, "include_obfuscation": false}));
        }
    }
}

#[tokio::test]
async fn a_server_may_answer_whole_all_the_same() {
    for tongue in [CHAT, CLAUDE] {
        let whole = Tongue { stream: false, ..tongue };
        let (answer, pieces, _) = one(tongue, whole.answer("Fine.")).await;
        let answer = answer.unwrap();
        assert_eq!((answer.text.as_str(), answer.usage.input, pieces.len()), ("Fine.", Count::Reported(50), 0));
    }
}

#[tokio::test]
async fn a_connection_serves_the_call_after_a_stream() {
    for tongue in [CHAT, CLAUDE] {
        let server = StandIn::start().await;
        let client = client(tongue, &server);
        for _ in 0..3 {
            server.push(tongue.answer("Fine."));
            assert_eq!(client.call(&request(), &Pieces::default()).await.unwrap().text, "Fine.");
        }
        assert_eq!(server.requests(), 3);
    }
}

#[tokio::test]
async fn what_a_broken_stream_had_reported_is_kept() {
    let turn = CLAUDE.turn("Some words", &[], End::Whole, Some(CLAUDE.counts(json!(50), json!(7))));
    let text = CLAUDE.events(&turn);
    // Cut before the end's count, and after it: both are ambiguous, whatever was counted.
    let at = text.find("event: message_delta").unwrap();
    let end = text.find("event: message_stop").unwrap();
    for (to, output) in [(at, 1), (end, 7)] {
        let cut = Behaviour::Events { text: text[..to].to_owned(), piece: 40, cut: true };
        let (outcome, pieces, _) = one(CLAUDE, cut).await;
        let failure = outcome.unwrap_err();
        assert_eq!((failure.class, failure.status), (FailureClass::Ambiguous, Some(200)));
        let usage = failure.usage.unwrap();
        assert_eq!((usage.input, usage.output), (Count::Reported(50), Count::Reported(output)));
        assert_eq!(pieces.concat(), "Some words");
    }
    let (outcome, ..) = one(CLAUDE, CLAUDE.error_in_stream()).await;
    let failure = outcome.unwrap_err();
    assert_eq!((failure.class, failure.usage.is_some()), (FailureClass::Ambiguous, true));
    assert!(failure.message.contains("as told"), "{}", failure.message);
    // Of Chat the usage comes last: cut before it, nothing was said.
    let failure = one(CHAT, CHAT.cut_stream()).await.0.unwrap_err();
    assert_eq!((failure.class, failure.usage), (FailureClass::Ambiguous, None));
}

#[tokio::test]
async fn a_stream_is_whole_with_its_end_and_its_usage() {
    let text = CHAT.events(&CHAT.turn("Fine.", &[], End::Whole, Some(CHAT.counts(json!(50), json!(7)))));
    let without = text.replace("data: [DONE]\n\n", "");
    let ended = one(CHAT, Behaviour::Events { text: without.clone(), piece: 9, cut: false }).await.0.unwrap();
    assert_eq!((ended.text.as_str(), ended.finish), ("Fine.", Finish::Stop));
    let cut = one(CHAT, Behaviour::Events { text: without, piece: 9, cut: true }).await.0.unwrap_err();
    assert_eq!(cut.class, FailureClass::Ambiguous, "a broken connection is no end");
    // The last event without its blank line, as some servers leave it.
    let bare = text.trim_end().to_owned();
    let answer = one(CHAT, Behaviour::Events { text: bare, piece: 1000, cut: false }).await.0.unwrap();
    assert_eq!(answer.usage, Usage::reported(50, 7));
}

#[tokio::test]
async fn keys_do_not_leave_by_an_error_in_a_stream() {
    let error = json!({"type": "error", "error": {"type": "t", "message": format!("bad key {KEY}")}});
    let text = format!("event: error\ndata: {error}\n\n");
    let failure = one(CLAUDE, Behaviour::Events { text, piece: 3, cut: false }).await.0.unwrap_err();
    assert!(!failure.message.contains(KEY) && failure.message.contains("[redacted]"), "{}", failure.message);
}

/// A crew of one agent whose compatible server is asked to stream.
fn compatible(behaviours: &[Behaviour]) -> Row {
    let provider = Provider::start();
    behaviours.iter().for_each(|behaviour| provider.push(behaviour.clone()));
    let tables = provider.tables("stream = true");
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n"
    ));
    Row { provider, folder }
}

#[test]
fn a_server_that_refuses_to_stream_is_asked_for_a_whole_answer_next() {
    let known = json!({"error": {"message": "m", "param": "stream_options", "code": null}});
    let loc = json!({"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "no"}]});
    let verified = json!({"error": {"message": "m", "param": "stream", "code": "unsupported_value"}});
    for (status, body) in [(400, known), (422, loc), (400, verified)] {
        let row = compatible(&[Behaviour::Status(status, Vec::new(), body.to_string())]);
        assert_eq!(row.run(), Seen { released: 1, waits: 1, ..done(2, 1) }, "no attempt is lost on it");
        assert!(row.body(1).contains("\"stream_options\":{\"include_usage\":true}"));
        assert!(!row.body(2).contains("stream"), "{}", row.body(2));
    }
}

#[test]
fn a_broken_streams_count_is_in_the_journal_and_its_hold_stays() {
    let provider = Provider::start();
    provider.push(CLAUDE.cut_stream());
    provider.server.respond(|_, _| (Duration::ZERO, CLAUDE.answer("Fine.")));
    let tables = CLAUDE.tables(&provider.server.base_url());
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n"
    ));
    let row = Row { provider, folder };
    assert_eq!(row.run(), Seen { doubtful: 1, attempts: vec![ErrorClass::Ambiguous], ..done(2, 1) });
    let usage = row.folder.events().into_iter().find_map(|event| match event {
        Event::Call(CallEvent::Failed { failure, .. }) => failure.usage,
        _ => None,
    });
    assert_eq!(usage.map(|usage| usage.input), Some(Count::Reported(50)));
}
