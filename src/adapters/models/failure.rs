//! From a provider's refusal to a row of the failure table. Invariant: a status alone decides unless
//! the body carries one of the codes listed here; no rule reads a provider's prose, but for the quoted
//! name of a parameter it refuses.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::core::chat::{CallFailure, FailureClass, ModelAnswer};
use crate::core::failure::Parameter;
use crate::core::malformed::Due;

/// Bytes of a body that is no answer that are kept.
const MALFORMED_MAX: usize = 2048;
/// Characters of a provider's words that a failure keeps.
pub const WORDS_MAX: usize = 500;

/// Codes that mean "no money left", whatever status they come with (OpenAI's error guide; Anthropic's SDK
/// 2.11.0, `error.details.error_code`; Nov 2026).
const QUOTA_CODES: [&str; 10] = [
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "insufficient_quota",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached",
    "linked_organization_billing_unavailable",
    "billing_error",
];
/// Codes that mean the prompt is too long.
const TOO_LONG: [&str; 2] = ["context_length_exceeded", "request_too_large"];

/// Google's reason for a key that is none, which comes as a 400.
const NO_KEY: &str = "API_KEY_INVALID";

/// The row for a non-2xx status. `codes` are the body's `error.code` and `error.type`.
pub fn classify(status: u16, codes: &[&str]) -> FailureClass {
    let has = |wanted: &[&str]| codes.iter().any(|code| wanted.contains(code));
    match status {
        400..=499 if has(&QUOTA_CODES) => FailureClass::Quota,
        400 | 413 if has(&TOO_LONG) => FailureClass::TooLong,
        400 if has(&[NO_KEY]) => FailureClass::Credentials,
        401 | 403 => FailureClass::Credentials,
        402 => FailureClass::Quota,
        404 => FailureClass::NotFound,
        408 | 425 | 429 | 503 | 529 => FailureClass::Transient,
        400..=499 => FailureClass::OurFault,
        _ => FailureClass::Ambiguous,
    }
}

/// What a provider said in an error body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub message: String,
    pub param: Option<String>,
    pub code: Option<String>,
    pub kind: Option<String>,
    /// How long to wait, where the body says it.
    pub retry_after_ms: Option<u64>,
}

impl Said {
    /// `{"error":{message,type,param,code}}`, `{"error":"words"}`, or any text.
    pub fn read(body: &[u8]) -> Said {
        let text = String::from_utf8_lossy(body);
        let words = || Said { message: text.trim().to_owned(), ..Said::default() };
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return words() };
        let field = |of: &Value, key: &str| match of.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
        };
        // Google's streams put an error into a list of one.
        let value = match value {
            Value::Array(mut all) if all.len() == 1 => all.remove(0),
            value => value,
        };
        match value.get("error") {
            Some(Value::String(message)) => Said { message: message.clone(), ..Said::default() },
            Some(error @ Value::Object(_)) => Said {
                message: field(error, "message").unwrap_or_else(|| error.to_string()),
                param: field(error, "param"),
                // Anthropic's codes stand one level deeper, Google's in a list.
                code: error
                    .get("details")
                    .and_then(|of| field(of, "error_code").or_else(|| detail(of, "reason").map(str::to_owned)))
                    .or_else(|| field(error, "code")),
                kind: field(error, "type").or_else(|| field(error, "status")),
                retry_after_ms: error
                    .get("details")
                    .and_then(|of| detail(of, "retryDelay"))
                    .and_then(|text| retry_after(None, text.strip_suffix('s'), UNIX_EPOCH)),
            },
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => words(),
        }
    }

    /// The failure that a status and these words make. `hide` takes keys out of any text.
    pub fn failure(self, status: u16, retry_after_ms: Option<u64>, hide: impl Fn(&str) -> String) -> CallFailure {
        let codes: Vec<&str> = self.code.as_deref().into_iter().chain(self.kind.as_deref()).collect();
        let class = classify(status, &codes);
        let words = if self.message.is_empty() { "no words in the body" } else { &self.message };
        let mut message = format!("HTTP {status}: {words}");
        let named: Vec<String> = [("param", &self.param), ("code", &self.code)]
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} `{value}`")))
            .collect();
        // Hidden before it is capped: a cut in the middle of a key would leave a part that no search finds.
        message = capped(&hide(&message));
        if !named.is_empty() {
            message = format!("{message} ({})", capped(&hide(&named.join(", "))));
        }
        let retry_after_ms = retry_after_ms.or(self.retry_after_ms);
        let ours = class == FailureClass::OurFault;
        let param =
            ours.then(|| self.param.as_deref().and_then(Parameter::of).or(Parameter::in_words(words))).flatten();
        CallFailure { status: Some(status), retry_after_ms, param, ..CallFailure::of(class, capped(&message)) }
    }
}

/// A text of one of Google's error details (`google.rpc.ErrorInfo`, `google.rpc.RetryInfo`).
fn detail<'a>(details: &'a Value, key: &str) -> Option<&'a str> {
    details.as_array()?.iter().find_map(|detail| detail.get(key)?.as_str())
}

/// A 2xx that is no answer: kept in part, for the person who has to find out why.
pub fn malformed(wanted: Due, body: &[u8], request_id: Option<String>, hide: impl Fn(&str) -> String) -> ModelAnswer {
    // Hidden before the cut: half a key is not found by value.
    let clean = hide(&String::from_utf8_lossy(body));
    let text = wanted.keep(&clean[..clean.floor_char_boundary(MALFORMED_MAX)]);
    ModelAnswer { text, ..ModelAnswer::unusable(request_id) }
}

/// A 2xx whose body was not read to its end, because there is too much of it; what is, in words.
pub fn too_large(words: &str, request_id: Option<String>) -> ModelAnswer {
    ModelAnswer { text: crate::core::malformed::too_large(words), ..ModelAnswer::unusable(request_id) }
}

/// At most [`WORDS_MAX`] characters, on one line.
pub fn capped(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect();
    if text.chars().nth(WORDS_MAX).is_some() {
        out.pop();
        out.push('…');
    }
    out
}

/// Milliseconds to wait, from `retry-after-ms` or `retry-after` (seconds, or an HTTP date).
pub fn retry_after(ms: Option<&str>, seconds_or_date: Option<&str>, now: SystemTime) -> Option<u64> {
    let whole = |text: &str, unit: f64| {
        let number: f64 = text.trim().parse().ok()?;
        let valid = number.is_finite() && (0.0..1e9).contains(&number);
        // The range was checked, so the cast neither wraps nor loses more than a fraction.
        valid.then(|| (number * unit).ceil() as u64)
    };
    if let Some(wait) = ms.and_then(|text| whole(text, 1.0)) {
        return Some(wait);
    }
    let text = seconds_or_date?;
    whole(text, 1000.0).or_else(|| {
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
        let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
        Some(u64::try_from(at.as_millisecond().saturating_sub(now)).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_status_of_the_table_has_its_row() {
        let row = |status| classify(status, &[]);
        for status in [408, 425, 429, 503, 529] {
            assert_eq!(row(status), FailureClass::Transient, "{status}");
        }
        for status in [401, 403] {
            assert_eq!(row(status), FailureClass::Credentials, "{status}");
        }
        for status in [400, 405, 409, 413, 418, 422, 451] {
            assert_eq!(row(status), FailureClass::OurFault, "{status}");
        }
        for status in [302, 500, 501, 502, 504, 520, 599, 999] {
            assert_eq!(row(status), FailureClass::Ambiguous, "{status}");
        }
        assert_eq!(row(402), FailureClass::Quota);
        assert_eq!(row(404), FailureClass::NotFound);
    }

    #[test]
    fn codes_count_and_prose_does_not() {
        for code in QUOTA_CODES {
            assert_eq!(classify(429, &[code]), FailureClass::Quota, "{code}");
        }
        assert_eq!(classify(429, &["rate_limit_exceeded", "requests"]), FailureClass::Transient);
        assert_eq!(classify(400, &["context_length_exceeded"]), FailureClass::TooLong);
        assert_eq!(classify(500, &["insufficient_quota"]), FailureClass::Ambiguous);
        let said = Said::read(br#"{"error":{"message":"insufficient_quota context_length_exceeded","code":null}}"#);
        assert_eq!(said.failure(400, None, str::to_owned).class, FailureClass::OurFault);
    }

    #[test]
    fn waits_are_read_in_every_form() {
        let now = UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        let date = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(retry_after(Some("300"), Some("9"), now), Some(300));
        assert_eq!(retry_after(None, Some("2"), now), Some(2000));
        assert_eq!(retry_after(None, Some("0.5"), now), Some(500));
        assert_eq!(retry_after(None, date, now), Some(10_000));
        assert_eq!(retry_after(None, date, now + Duration::from_secs(60)), Some(0), "a date in the past is now");
        for junk in ["", "-1", "soon", "NaN", "1e300"] {
            assert_eq!(retry_after(None, Some(junk), now), None, "{junk}");
        }
    }

    #[test]
    fn words_are_capped_after_the_key_is_gone() {
        let body = format!("{}KEY{}", "x".repeat(WORDS_MAX - 12), "y".repeat(90));
        let failure = Said::read(body.as_bytes()).failure(418, None, |text| text.replace("KEY", "[redacted]"));
        assert!(!failure.message.contains('K'), "{}", failure.message);
        assert_eq!(failure.message.chars().count(), WORDS_MAX);
    }
}
