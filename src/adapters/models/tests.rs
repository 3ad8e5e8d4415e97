use serde_json::json;

use super::*;
use crate::core::chat::{Effect, Message, OutputSchema, Settings, ToolSpec};
use crate::core::ids::{CallId, RunId};
use crate::ports::model::Unwatched;

/// A request of `call` (`draft#1.1`) by `agent` with one user message.
pub fn request(agent: &str, call: &str, user: &str) -> ModelRequest {
    ModelRequest {
        run: RunId::from_random(7),
        call: CallId::parse(call).unwrap(),
        agent: Name::new(agent).unwrap(),
        attempt: 1,
        model: "stand-in".into(),
        messages: vec![Message::User { content: user.into() }.encode().text],
        own_turns: Default::default(),
        tools: Vec::new().into(),
        schema: None,
        settings: Settings { max_output: 1000, ..Settings::default() },
        extra: Arc::default(),
    }
}

pub fn tool(name: &str, parameters: serde_json::Value, effect: Effect) -> ToolSpec {
    ToolSpec { name: name.into(), description: "d".into(), parameters, effect, timeout_ms: 1000, max_result: 100 }
}

pub fn schema(value: serde_json::Value) -> Option<Arc<OutputSchema>> {
    Some(Arc::new(OutputSchema { name: "out".into(), schema: value }))
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

async fn fails(registry: &Registry, provider: &str) -> CallFailure {
    let model = registry.provider(&name(provider)).unwrap();
    let failure = model.call(&request("a", "t.1", "hello"), &Unwatched).await.unwrap_err();
    assert_eq!(registry.check(&name(provider)), Err(failure.clone()));
    failure
}

#[test]
fn kinds_are_read_and_others_refused() {
    for (word, kind) in KINDS {
        assert_eq!(ProviderKind::parse(word), Ok(kind));
        assert_eq!(kind.to_string(), word);
    }
    assert!(ProviderKind::parse("opnai").unwrap_err().contains("openai-compatible"));
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_is_sent() {
    let key = KeySource::Env("NO_SUCH_KEY".into());
    let specs = [
        ProviderSpec { key, ..ProviderSpec::new(name("openai"), ProviderKind::OpenAi) },
        ProviderSpec::new(name("acme"), ProviderKind::OpenAiCompatible),
        ProviderSpec {
            base_url: Some("ftp://x".into()),
            ..ProviderSpec::new(name("odd"), ProviderKind::OpenAiCompatible)
        },
        ProviderSpec::new(name("script"), ProviderKind::Scripted),
    ];
    let registry = Registry::new(specs, Surroundings::default());
    let failure = fails(&registry, "openai").await;
    assert_eq!(failure.class, FailureClass::Credentials);
    assert!(failure.message.contains("NO_SUCH_KEY"), "{}", failure.message);
    for (provider, word) in [("acme", "base_url"), ("odd", "ftp"), ("script", "BOSUN_SCRIPT")] {
        let failure = fails(&registry, provider).await;
        assert_eq!(failure.class, FailureClass::OurFault);
        assert!(failure.message.contains(word), "{}", failure.message);
    }
    assert!(registry.provider(&name("nobody")).is_none());
    assert!(registry.check(&name("nobody")).is_err());
}

#[tokio::test]
async fn a_provider_is_built_once() {
    let registry = Registry::new([ProviderSpec::new(name("offline"), ProviderKind::Offline)], Surroundings::default());
    let one = registry.provider(&name("offline")).unwrap();
    assert!(Arc::ptr_eq(&one, &registry.provider(&name("offline")).unwrap()));
    assert_eq!(registry.tier(&name("offline"), "any").max_concurrency, 8);
    assert!(one.call(&request("a", "t.1", "Some words to sum up."), &Unwatched).await.is_ok());
}

#[test]
fn strict_is_claimed_only_for_schemas_that_qualify() {
    let closed = json!({"type":"object","additionalProperties":false,"required":["a"],
        "properties":{"a":{"type":"array","items":{"type":"string"}}}});
    assert!(openai::is_strict(&closed));
    let nested = json!({"type":"object","additionalProperties":false,"required":["a"],"properties":{"a":closed}});
    assert!(openai::is_strict(&nested));
    for open in [
        json!({"type":"object","required":["a"],"properties":{"a":{"type":"string"}}}),
        json!({"type":"object","additionalProperties":false,"properties":{"a":{"type":"string"}}}),
        json!({"type":"object","additionalProperties":false,"required":["a"],
            "properties":{"a":{"type":"array","items":{"type":"object"}}}}),
        json!({"type":"string"}),
        json!({"type":"object","additionalProperties":false,"oneOf":[]}),
        json!(true),
    ] {
        assert!(!openai::is_strict(&open), "{open}");
    }
}
