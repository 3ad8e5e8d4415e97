//! Holds by the exact tokenizer (Ledger 3). Invariant: never less than the provider counts, never more than
//! bytes; a cap that bytes refuse and tokens allow is enough.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use boatswain::adapters::sizes::O200k;
use boatswain::core::chat::{Message, SECRET_MARK, Settings, ToolAsk};
use boatswain::core::crew::{Pricing, Tokenizer};
use boatswain::core::event::{CallEvent, Event, Msg, RunEvent};
use boatswain::core::ids::{AgentRef, BlobId, CallId, Step};
use boatswain::core::ledger::{Countable, HoldRequest};
use boatswain::core::machine::{MissingText, Texts};
use boatswain::core::money::Tokens;

use super::stand_in::Behaviour;
use super::support::{Dice, Folder, Provider};

struct Kept(BTreeMap<BlobId, Arc<str>>);
impl Texts for Kept {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
        self.0.get(id).cloned().ok_or(MissingText(*id))
    }
}

/// A request with these messages: its bound in bytes and its exact one.
fn bounds(messages: &[Message]) -> (u64, u64) {
    let blobs: Vec<_> = messages.iter().map(|message| (message, message.encode())).collect();
    let texts = Kept(blobs.iter().map(|(_, blob)| (blob.id, blob.text.clone())).collect());
    let messages: Vec<Msg> = blobs.iter().map(|(message, blob)| Msg::of(message, blob)).collect();
    let input = 32 + messages.iter().map(|msg| msg.bytes + 8).sum::<u64>();
    let request = HoldRequest {
        call: CallId { step: "t".parse().unwrap(), number: 1 },
        agent: AgentRef { scope: Step::root(), name: "a".parse().unwrap(), number: 1 },
        attempt: 1,
        model: "openai/gpt-4.1".into(),
        input: Tokens(input),
        price: Pricing::Local,
        settings: Settings::default(),
        messages: messages.len() as u32,
        tools: false,
        ending: true,
        summary: false,
        countable: Some(Countable { tokenizer: Tokenizer::O200k, messages }),
    };
    let counted = request.counted(&texts, &O200k::new()).unwrap();
    (input, counted.map_or(input, |counted| counted.input.0))
}

fn tokens(text: &str) -> u64 {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len() as u64
}

/// What OpenAI counts of messages, as its cookbook has it: three tokens and the role around each content,
/// the calls of an answer and the id of a result besides, three for the reply.
fn provider_counts(messages: &[Message]) -> u64 {
    let one = |message: &Message| match message {
        Message::System { content } => 3 + tokens("system") + tokens(content),
        Message::User { content } => 3 + tokens("user") + tokens(content),
        Message::Tool { tool_call_id, content } => 3 + tokens("tool") + tokens(tool_call_id) + tokens(content),
        Message::Assistant { content, tool_calls } => {
            let calls = tool_calls.iter().map(|call| 8 + tokens(&call.name) + tokens(&call.arguments));
            3 + tokens("assistant") + tokens(content) + calls.sum::<u64>()
        }
    };
    3 + messages.iter().map(one).sum::<u64>()
}

const PARTS: &[&str] = &[
    "the ",
    "budget",
    " holds",
    "\n",
    "\n\n",
    "\r\n",
    "  ",
    "\t",
    "'s",
    "\"",
    "\\",
    "{\"a\":1}",
    "1234567",
    "0.1",
    "é",
    "日本",
    "語",
    "🦀",
    "👩‍👩‍👧",
    "عربى",
    "ß",
    "<|endoftext|>",
    "<|start|>",
    "```rust\n",
    "fn main()",
    "//",
    "/*",
    "_x",
    "ZZ",
    "aB",
    "\u{200d}",
    "\u{0301}",
    "                    ",
    "=====",
    "naïve",
    "Привет",
    "\u{0}",
    "\u{7f}",
    "…",
];

fn random_text(dice: &mut Dice) -> String {
    let most = if dice.below(10) == 0 { 2_000 } else { 60 };
    let parts = dice.below(most);
    (0..parts)
        .map(|_| match dice.below(8) {
            0 => char::from_u32(dice.below(0x2_ffff) as u32).unwrap_or('x').to_string(),
            _ => PARTS[dice.below(PARTS.len() as u64) as usize].to_owned(),
        })
        .collect()
}

#[test]
fn the_exact_bound_is_a_bound_and_never_above_the_one_in_bytes() {
    let mut dice = Dice::new(41);
    let mut lower = 0;
    for number in 0..1_000 {
        let mut messages = vec![Message::System { content: random_text(&mut dice) }];
        for _ in 0..=dice.below(3) {
            let content = random_text(&mut dice);
            messages.push(match dice.below(4) {
                0 => Message::Tool { tool_call_id: format!("call_{}", dice.roll()), content },
                1 => {
                    let ask = ToolAsk { id: "call_1".into(), name: "files.read".into(), arguments: "{}".into() };
                    Message::Assistant { content, tool_calls: vec![ask] }
                }
                _ => Message::User { content },
            });
        }
        let (bytes, exact) = bounds(&messages);
        let counted = provider_counts(&messages);
        assert!(counted <= exact && exact <= bytes, "{number}: {counted} <= {exact} <= {bytes}: {messages:?}");
        lower += u32::from(exact < bytes);
    }
    assert!(lower > 900, "{lower} of 1,000 were worth a count");
}

#[test]
fn a_text_longer_than_the_counter_takes_at_once_is_counted_as_the_whole() {
    let mut dice = Dice::new(7);
    let mut text = String::new();
    while text.len() < 400_000 {
        text.push_str(&random_text(&mut dice));
        text.push_str("\nA line that begins with a letter\n2 and one with a digit");
    }
    let user = |content: &str| vec![Message::User { content: content.to_owned() }];
    let (bytes, exact) = bounds(&user(&text));
    let whole = tokens(&text);
    // 32 + 8 of the rules, and the JSON around the content.
    let around = 40 + user("")[0].encode().text.len() as u64;
    assert_eq!(exact, whole + around);
    assert!(exact < bytes / 2);
    // Without a place where it may be cut it stays in bytes.
    let (bytes, exact) = bounds(&user(&"日".repeat(100_000)));
    assert_eq!(bytes, exact);
}

/// A secret is put in at the socket: what stands there has no count here.
#[test]
fn a_message_with_a_secret_stays_in_bytes() {
    let user = |content: String| bounds(&[Message::User { content }]);
    let (bytes, exact) = user(format!("the key is {SECRET_MARK}token⟧, keep it to yourself"));
    assert_eq!(bytes, exact);
    assert!(bytes > 512 && user("no key at all in here, so this can be counted".into()).1 < bytes);
}

/// Answers with the usage that OpenAI would report.
fn honest(body: &str) -> Behaviour {
    let request: serde_json::Value = serde_json::from_str(body).unwrap();
    let of = |message: &serde_json::Value| {
        3 + tokens(message["role"].as_str().unwrap()) + tokens(message["content"].as_str().unwrap())
    };
    let input = 3 + request["messages"].as_array().unwrap().iter().map(of).sum::<u64>();
    let message = serde_json::json!({ "role": "assistant", "content": "Fine." });
    let usage = serde_json::json!({ "prompt_tokens": input, "completion_tokens": 3, "total_tokens": input + 3 });
    let choices = serde_json::json!([{ "index": 0, "message": message, "finish_reason": "stop" }]);
    Behaviour::Body(
        serde_json::json!({ "id": "1", "object": "chat.completion", "choices": choices, "usage": usage }).to_string(),
    )
}

fn crew(provider: &Provider, id: &str, cap: u64) -> Folder {
    let long = "All of this is to be taken to heart, word by word. ".repeat(400);
    let url = provider.server.base_url();
    let mut folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_tokens = {cap}\n\
         [providers.openai]\nkind = \"openai\"\nbase_url = \"{url}\"\napi_key_env = \"KEY\"\nstream = false\n\
         [models.m]\nid = \"openai/{id}\"\nprice = {{ input = 1, output = 1 }}\nmax_output = 100\n\
         [agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"{long}\"\n"
    ));
    folder.env("KEY", "secret-of-the-test");
    folder
}

#[test]
fn a_cap_that_bytes_refuse_and_tokens_allow_is_enough() {
    let provider = Provider::start();
    provider.server.respond(|body, _| (Duration::ZERO, honest(body)));
    // 20,400 bytes of prompt, some 5,000 tokens.
    let folder = crew(&provider, "gpt-4.1", 6_000);
    folder.bosun(&["check", "crew.toml"]).expect(0);
    let planned = folder.bosun(&["plan", "crew.toml"]).expect(0);
    assert!(!planned.out.contains("does not fit, run refuses"), "{}", planned.out);
    assert_eq!(folder.bosun(&["run", "crew.toml"]).expect(0).out.trim(), "Fine.");
    let events = folder.events();
    let held = events.iter().find_map(|event| match event {
        Event::Call(CallEvent::Held(held)) => Some(held.clone()),
        _ => None,
    });
    let answered = events.iter().find_map(|event| match event {
        Event::Call(CallEvent::Answered(answered)) => Some(answered.clone()),
        _ => None,
    });
    let (held, answered) = (held.unwrap(), answered.unwrap());
    assert!(held.input.0 < 5_900, "{}", held.input);
    let (used, _) = answered.usage.known().unwrap();
    assert!(used <= held.input.0 && !answered.overrun, "{used} of {}", held.input);
    let Event::Run(RunEvent::Started(started)) = &events[0] else { panic!("no start") };
    assert_eq!(started.tokenizers, BTreeMap::from([("openai/gpt-4.1".to_owned(), Tokenizer::O200k)]));
    folder.verify();
    // One that both allow is held in bytes: nothing is counted that need not be.
    let roomy = crew(&provider, "gpt-4.1", 100_000);
    roomy.bosun(&["run", "crew.toml", "-q"]).expect(0);
    let held = roomy.events().into_iter().find_map(|event| match event {
        Event::Call(CallEvent::Held(held)) => Some(held.input.0),
        _ => None,
    });
    assert!(held.unwrap() > 20_400);
    roomy.verify();
    // Of a model that is not known a token is a byte.
    let unknown = crew(&provider, "my-own-tune", 6_000);
    unknown.bosun(&["check", "crew.toml"]).expect(3);
    unknown.bosun(&["run", "crew.toml", "-q"]).expect(3);
}

/// Anthropic adds words of its own to a prompt with tools, and bills them.
#[test]
fn what_a_provider_adds_where_tools_are_offered_is_held() {
    let provider = Provider::start();
    let mut folder = Folder::new(&format!(
        "schema = 1\n[crew]\noutput = \"plain\"\n[providers.anthropic]\nbase_url = \"{}\"\n\
         [models.m]\nid = \"anthropic/claude-sonnet-4-5\"\nprice = {{ input = 3, output = 15 }}\n\
         [agents.plain]\nmodel = \"m\"\n[agents.armed]\nmodel = \"m\"\ntools = [\"text.stats\"]\n\
         [tasks.plain]\nagent = \"plain\"\ndescription = \"Hi\"\n[tasks.armed]\nagent = \"armed\"\ndescription = \"Hi\"\n",
        provider.server.base_url().trim_end_matches("/v1")
    ));
    folder.env("ANTHROPIC_API_KEY", "none");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(16);
    let held = |name: &str| {
        let inputs = folder.events().into_iter().filter_map(|event| match event {
            Event::Call(CallEvent::Held(held)) if held.agent.name.as_str() == name => Some(held.input.0),
            _ => None,
        });
        inputs.max().unwrap()
    };
    assert!(held("armed") >= held("plain") + 700, "{} and {}", held("armed"), held("plain"));
}
