//! What the headers of an answer say about the provider's limits. Invariant: a header that is absent or
//! cannot be read says nothing; it never makes a limit larger than it is.
//!
//! Names: OpenAI `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, resets as durations (`12ms`, `6m0s`);
//! Anthropic `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`,
//! resets as RFC 3339. Gemini and Ollama send none. Compatible servers use either, or seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::rates::{Limits, Stand};

/// `header` gives a header's value by its lower-case name. `now` is the machine's clock, for resets
/// that are dates.
pub fn limits<'a>(header: impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Limits {
    let openai = |what: &str| {
        let of = |part: &str| header(&format!("x-ratelimit-{part}-{what}"));
        stand(of("remaining"), of("limit"), of("reset"), now)
    };
    let anthropic = |what: &str| {
        let of = |part: &str| header(&format!("anthropic-ratelimit-{what}-{part}"));
        stand(of("remaining"), of("limit"), of("reset"), now)
    };
    // Eighteen names are only looked up where the first of a family is there.
    let has = |names: [&str; 4]| names.iter().any(|name| header(name).is_some());
    if has([
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-output-tokens-remaining",
    ]) {
        return Limits {
            requests: anthropic("requests"),
            tokens: anthropic("tokens"),
            input: anthropic("input-tokens"),
            output: anthropic("output-tokens"),
        };
    }
    if has([
        "x-ratelimit-remaining-requests",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-limit-requests",
        "x-ratelimit-limit-tokens",
    ]) {
        return Limits { requests: openai("requests"), tokens: openai("tokens"), ..Limits::default() };
    }
    Limits::default()
}

fn stand(remaining: Option<&str>, limit: Option<&str>, reset: Option<&str>, now: SystemTime) -> Stand {
    let whole = |text: &str| text.trim().parse::<u64>().ok();
    Stand {
        remaining: remaining.and_then(whole),
        limit: limit.and_then(whole),
        reset_ms: reset.and_then(|text| reset_ms(text.trim(), now)),
    }
}

/// Milliseconds from `12ms`, `1.5s`, `6m0s`, `1h2m`, plain seconds, or a date; a date that has passed is 0.
fn reset_ms(text: &str, now: SystemTime) -> Option<u64> {
    if text.contains(['T', 't']) && text.contains(':') {
        let at: jiff::Timestamp = text.parse().ok()?;
        let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
        return Some(u64::try_from(at.as_millisecond().saturating_sub(now)).unwrap_or(0));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite() && *n < 1e9)?;
        let unit_end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, after) = unit.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| u64::try_from(total.as_nanos().div_ceil(1_000_000)).ok())?
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(headers: &[(&str, &str)], now: SystemTime) -> Limits {
        let map: BTreeMap<&str, &str> = headers.iter().copied().collect();
        limits(|name| map.get(name).copied(), now)
    }

    #[test]
    fn openai_says_requests_and_tokens_with_durations() {
        let headers = [
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "12ms"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ];
        let found = read(&headers, UNIX_EPOCH);
        assert_eq!(found.requests, Stand { remaining: Some(59), limit: Some(60), reset_ms: Some(12) });
        assert_eq!(found.tokens, Stand { remaining: Some(149_984), limit: Some(150_000), reset_ms: Some(360_000) });
        assert_eq!((found.input, found.output), Default::default());
    }

    #[test]
    fn anthropic_says_input_and_output_with_dates() {
        let now = UNIX_EPOCH + Duration::from_secs(1_793_000_000);
        let headers = [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2026-10-26T07:33:30Z"),
            ("anthropic-ratelimit-input-tokens-limit", "40000"),
            ("anthropic-ratelimit-input-tokens-remaining", "39000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-10-26T07:33:20+00:00"),
            ("anthropic-ratelimit-output-tokens-remaining", "8000"),
            ("anthropic-ratelimit-output-tokens-reset", "2020-01-01T00:00:00Z"),
        ];
        let found = read(&headers, now);
        assert_eq!(found.requests, Stand { remaining: Some(0), limit: Some(50), reset_ms: Some(10_000) });
        assert_eq!(found.input, Stand { remaining: Some(39_000), limit: Some(40_000), reset_ms: Some(0) });
        assert_eq!(found.output, Stand { remaining: Some(8000), limit: None, reset_ms: Some(0) });
        assert_eq!(found.tokens, Stand::default());
    }

    #[test]
    fn durations_in_every_form_and_junk_in_none() {
        let good = [
            ("0s", 0),
            ("12ms", 12),
            ("1.5s", 1500),
            ("6m0s", 360_000),
            ("1h2m3s", 3_723_000),
            ("1m0.25s", 60_250),
            ("7", 7000),
            ("17.2", 17_200),
            ("300µs", 1),
            ("1d", 86_400_000),
        ];
        for (text, ms) in good {
            assert_eq!(reset_ms(text, UNIX_EPOCH), Some(ms), "{text}");
        }
        for junk in ["", "soon", "-1s", "1x", "s", "1..2s", "99999999999999999999h", "2026-99-99T99:99:99Z", "NaN"] {
            assert_eq!(reset_ms(junk, UNIX_EPOCH), None, "{junk}");
        }
        assert_eq!(read(&[("x-ratelimit-remaining-requests", "many")], UNIX_EPOCH), Limits::default());
        assert_eq!(read(&[("content-type", "text/html")], UNIX_EPOCH), Limits::default());
    }
}
