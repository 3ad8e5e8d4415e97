//! The Messages answer as it is on the wire. Invariant: nothing is guessed; a field that is missing,
//! null or of another type stays distinguishable.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::adapters::models::count::Field;
use crate::core::money::{Count, Usage};

#[derive(Deserialize)]
pub struct Reply<'a> {
    /// A list of [`Block`]s.
    #[serde(borrow)]
    pub content: &'a RawValue,
    #[serde(default)]
    pub stop_reason: Option<String>,
    #[serde(default)]
    pub stop_details: Option<StopDetails>,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub struct StopDetails {
    #[serde(default)]
    pub explanation: Option<String>,
    #[serde(default)]
    pub category: Option<String>,
}

#[derive(Deserialize)]
pub struct Block<'a> {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
    /// A text with citations goes back as it came.
    #[serde(borrow, default)]
    pub citations: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct WireUsage<'a> {
    #[serde(borrow, default)]
    input_tokens: Field<'a>,
    #[serde(borrow, default)]
    output_tokens: Field<'a>,
    #[serde(borrow, default)]
    cache_read_input_tokens: Field<'a>,
    #[serde(borrow, default)]
    cache_creation_input_tokens: Field<'a>,
    #[serde(borrow, default)]
    output_tokens_details: Field<'a>,
}

#[derive(Deserialize, Default)]
struct OutputDetails<'a> {
    #[serde(borrow, default)]
    thinking_tokens: Field<'a>,
}

/// The tier by which a call is priced, where it is not the usual one.
#[derive(Deserialize, Default)]
pub struct Tier {
    #[serde(default)]
    service_tier: Option<String>,
    #[serde(default)]
    speed: Option<String>,
}

impl Tier {
    pub fn of(raw: Option<&RawValue>) -> Option<String> {
        let tier: Tier = serde_json::from_str(raw?.get()).ok()?;
        let fast = tier.speed.filter(|speed| speed != "standard");
        fast.or(tier.service_tier.filter(|tier| tier != "standard"))
    }
}

/// These fields may be null where there is nothing to say.
fn optional(field: Field<'_>) -> Count {
    match field {
        Field::Present("null") => Count::Absent,
        other => other.count(),
    }
}

/// `input_tokens` leaves both cache buckets out: the inclusive total is made here.
pub fn usage(raw: Option<&RawValue>) -> Usage {
    let Some(raw) = raw else { return Usage::ABSENT };
    let broken = Usage { input: Count::Unparsable, output: Count::Unparsable, ..Usage::ABSENT };
    let Ok(wire) = serde_json::from_str::<WireUsage<'_>>(raw.get()) else { return broken };
    let cache_read = optional(wire.cache_read_input_tokens);
    let cache_write = optional(wire.cache_creation_input_tokens);
    let reasoning = match wire.output_tokens_details {
        Field::Absent | Field::Present("null") => Count::Absent,
        Field::Present(text) => {
            serde_json::from_str::<OutputDetails<'_>>(text).map_or(Count::Unparsable, |d| optional(d.thinking_tokens))
        }
    };
    let cached = [cache_read, cache_write].map(|count| count.reported().unwrap_or(0));
    let input = match wire.input_tokens.count() {
        Count::Reported(plain) => {
            let total = plain.checked_add(cached[0]).and_then(|sum| sum.checked_add(cached[1]));
            total.map_or(Count::Unparsable, Count::Reported)
        }
        unknown @ (Count::Absent | Count::Unparsable) => unknown,
    };
    Usage { input, output: wire.output_tokens.count(), cache_read, cache_write, reasoning }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Usage {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        usage(Some(&raw))
    }

    #[test]
    fn the_total_includes_both_cache_buckets() {
        let full = of(r#"{"input_tokens":10,"cache_read_input_tokens":600,"cache_creation_input_tokens":30,
            "cache_creation":{"ephemeral_5m_input_tokens":30,"ephemeral_1h_input_tokens":0},
            "output_tokens":20,"output_tokens_details":{"thinking_tokens":12},"service_tier":"standard"}"#);
        let seen = [full.input, full.cache_read, full.cache_write, full.output, full.reasoning];
        assert_eq!(seen, [640, 600, 30, 20, 12].map(Count::Reported));
        let none = of(r#"{"input_tokens":10,"cache_read_input_tokens":null,"output_tokens":2}"#);
        assert_eq!(none, Usage::reported(10, 2));
    }

    #[test]
    fn each_bucket_has_three_states() {
        assert_eq!(usage(None), Usage::ABSENT);
        assert_eq!(of("{}"), Usage::ABSENT);
        assert_eq!(of("7").input, Count::Unparsable);
        for bad in [r#""10""#, "-3", "1e30", "1.0", "[]", "true", "99999999999999999999"] {
            let text = format!(r#"{{"input_tokens":{bad},"output_tokens":2,"cache_read_input_tokens":{bad}}}"#);
            let usage = of(&text);
            assert_eq!((usage.input, usage.cache_read), (Count::Unparsable, Count::Unparsable), "{bad}");
            assert_eq!((usage.output, usage.known()), (Count::Reported(2), None), "{bad}");
        }
        assert_eq!(of(r#"{"input_tokens":null,"output_tokens":1}"#).input, Count::Unparsable);
        let much = u64::MAX;
        let over = of(&format!(r#"{{"input_tokens":{much},"cache_read_input_tokens":{much},"output_tokens":1}}"#));
        assert_eq!(over.input, Count::Unparsable);
    }

    #[test]
    fn only_an_unusual_tier_is_told() {
        let tier = |text: &str| Tier::of(Some(&serde_json::from_str::<Box<RawValue>>(text).unwrap()));
        assert_eq!(tier(r#"{"service_tier":"standard","speed":"standard"}"#), None);
        assert_eq!(tier(r#"{"service_tier":"priority"}"#).as_deref(), Some("priority"));
        assert_eq!(tier(r#"{"service_tier":"standard","speed":"fast"}"#).as_deref(), Some("fast"));
    }
}
