//! The Chat Completions answer as it is on the wire. Invariant: nothing is guessed; a field that is
//! missing, null or of another type stays distinguishable.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::adapters::models::count::Field;
use crate::core::money::{Count, Usage};

#[derive(Deserialize)]
pub struct Completion<'a> {
    #[serde(borrow, default)]
    pub choices: Vec<Choice<'a>>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub service_tier: Option<String>,
}

#[derive(Deserialize)]
pub struct Choice<'a> {
    #[serde(borrow)]
    pub message: &'a RawValue,
    #[serde(default)]
    pub finish_reason: Option<String>,
}

#[derive(Deserialize)]
pub struct Turn<'a> {
    /// A string, null, or (some compatible servers) a list of parts.
    #[serde(borrow, default)]
    pub content: Option<&'a RawValue>,
    #[serde(default)]
    pub refusal: Option<String>,
    #[serde(borrow, default)]
    pub tool_calls: Option<Vec<Asked<'a>>>,
}

#[derive(Deserialize)]
pub struct Asked<'a> {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(borrow)]
    pub function: AskedFunction<'a>,
}

#[derive(Deserialize)]
pub struct AskedFunction<'a> {
    pub name: String,
    /// A string of JSON; some compatible servers send the object itself.
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

/// The text of a `content`, whichever of its shapes it has.
pub fn content_text(content: Option<&RawValue>) -> Option<String> {
    let Some(raw) = content else { return Some(String::new()) };
    match raw.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw.get()).ok(),
        Some(b'[') => {
            let parts: Vec<Part> = serde_json::from_str(raw.get()).ok()?;
            Some(parts.into_iter().map(|part| part.text).collect())
        }
        _ => None,
    }
}

/// A string's content, or the JSON text of anything else.
pub fn string_or_raw(raw: Option<&RawValue>) -> String {
    let Some(raw) = raw else { return String::new() };
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => text,
        Err(_) => raw.get().to_owned(),
    }
}

#[derive(Deserialize, Default)]
struct WireUsage<'a> {
    #[serde(borrow, default)]
    prompt_tokens: Field<'a>,
    #[serde(borrow, default)]
    completion_tokens: Field<'a>,
    #[serde(borrow, default)]
    prompt_tokens_details: Field<'a>,
    #[serde(borrow, default)]
    completion_tokens_details: Field<'a>,
}

#[derive(Deserialize, Default)]
struct InputDetails<'a> {
    #[serde(borrow, default)]
    cached_tokens: Field<'a>,
    #[serde(borrow, default)]
    cache_write_tokens: Field<'a>,
}

#[derive(Deserialize, Default)]
struct OutputDetails<'a> {
    #[serde(borrow, default)]
    reasoning_tokens: Field<'a>,
}

/// Both totals are inclusive on this wire. A usage that is not an object is unparsable, not absent.
pub fn usage(raw: Option<&RawValue>) -> Usage {
    let Some(raw) = raw else { return Usage::ABSENT };
    let broken = Usage { input: Count::Unparsable, output: Count::Unparsable, ..Usage::ABSENT };
    let Ok(wire) = serde_json::from_str::<WireUsage<'_>>(raw.get()) else { return broken };
    let (cache_read, cache_write) = match wire.prompt_tokens_details {
        // Whole details of null are what servers without a cache send.
        Field::Absent | Field::Present("null") => (Count::Absent, Count::Absent),
        Field::Present(text) => match serde_json::from_str::<InputDetails<'_>>(text) {
            Ok(details) => (details.cached_tokens.count(), details.cache_write_tokens.count()),
            Err(_) => (Count::Unparsable, Count::Unparsable),
        },
    };
    let reasoning = match wire.completion_tokens_details {
        Field::Absent | Field::Present("null") => Count::Absent,
        Field::Present(text) => {
            serde_json::from_str::<OutputDetails<'_>>(text).map_or(Count::Unparsable, |d| d.reasoning_tokens.count())
        }
    };
    Usage {
        input: wire.prompt_tokens.count(),
        output: wire.completion_tokens.count(),
        cache_read,
        cache_write,
        reasoning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Usage {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        usage(Some(&raw))
    }

    #[test]
    fn each_bucket_has_three_states() {
        let full = of(r#"{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,
            "prompt_tokens_details":{"cached_tokens":64,"cache_write_tokens":8},
            "completion_tokens_details":{"reasoning_tokens":5}}"#);
        let seen = [full.input, full.output, full.cache_read, full.cache_write, full.reasoning];
        assert_eq!(seen, [100, 20, 64, 8, 5].map(Count::Reported));
        for bad in [r#""10""#, "-3", "1e30", "null", "1.0", "99999999999999999999", "[]", "true"] {
            let text = format!(
                r#"{{"prompt_tokens":{bad},"completion_tokens":2,"prompt_tokens_details":{{"cached_tokens":{bad}}}}}"#
            );
            let usage = of(&text);
            assert_eq!((usage.input, usage.cache_read), (Count::Unparsable, Count::Unparsable), "{bad}");
            assert_eq!((usage.output, usage.cache_write), (Count::Reported(2), Count::Absent), "{bad}");
        }
    }

    #[test]
    fn no_usage_is_absent_and_a_wrong_one_is_unparsable() {
        assert_eq!(usage(None), Usage::ABSENT);
        assert_eq!(of("{}"), Usage::ABSENT);
        assert_eq!(of("7").input, Count::Unparsable);
        assert_eq!(of(r#"{"prompt_tokens_details":null,"completion_tokens_details":null}"#), Usage::ABSENT);
        assert_eq!(of(r#"{"prompt_tokens_details":3}"#).cache_read, Count::Unparsable);
    }
}
