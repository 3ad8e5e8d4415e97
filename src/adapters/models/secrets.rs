//! Keys and late-bound inputs. Invariant: a secret value exists in the request's bytes and headers
//! at the socket, and in no text that leaves an adapter.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::core::ids::Name;

/// The process environment, or what a test puts in its place.
pub type Env = BTreeMap<String, String>;

/// Values of secret inputs by their marks.
pub type SecretInputs = BTreeMap<String, SecretString>;

/// Where a provider's key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// An environment variable.
    Env(String),
    /// A file whose trimmed content is the key.
    File(PathBuf),
    #[default]
    None,
}

impl KeySource {
    /// The key, or in words why there is none and what to do.
    pub fn read(&self, env: &Env) -> Result<Option<SecretString>, String> {
        let (text, from) = match self {
            KeySource::None => return Ok(None),
            KeySource::Env(name) => match env.get(name) {
                Some(text) => (text.clone(), format!("the environment variable {name}")),
                None => {
                    return Err(format!("the environment variable {name} is not set: set it to the provider's key"));
                }
            },
            KeySource::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => (text, format!("the key file {}", path.display())),
                Err(why) => return Err(format!("the key file {} cannot be read: {why}", path.display())),
            },
        };
        let key = text.trim();
        if key.is_empty() {
            return Err(format!("{from} is empty: put the provider's key there"));
        }
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("{from} holds characters that no key has: expected one line of printable ASCII"));
        }
        Ok(Some(SecretString::from(key)))
    }
}

/// Can a text be the name of an environment variable? What cannot may be a key in the wrong place.
pub fn is_variable(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Does an address carry a user name or password (`https://user:key@host`)?
pub fn has_login(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

const MARK: &str = "⟦secret:";
const MARK_END: char = '⟧';

/// The mark that stands for the secret input `name` in prompts, events and blobs. It is drawn anew for
/// each run: whoever writes a file, a page or a tool's result cannot know it, so that only a prompt that
/// was rendered from the run's inputs holds one.
pub fn mark(name: &Name, drawn: u64) -> String {
    format!("{MARK}{name}:{drawn:016x}{MARK_END}")
}

/// The mark of an input that is bound and belongs to no run yet. It stands for no value.
pub fn unbound(name: &Name) -> String {
    format!("{MARK}{name}{MARK_END}")
}

/// `json` (encoded JSON) with the marks of `inputs` replaced by their values, escaped for the JSON string
/// they stand in; other text that looks like a mark goes out as it is. Borrowed where there is none.
pub fn unmark<'a>(json: &'a str, inputs: &SecretInputs) -> Cow<'a, str> {
    if inputs.is_empty() || !json.contains(MARK) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find(MARK) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let whole = from.find(MARK_END).map(|end| from.split_at(end + MARK_END.len_utf8()));
        let known = whole.and_then(|(mark, tail)| Some((inputs.get(mark)?, tail)));
        rest = match known {
            Some((value, tail)) => {
                out.push_str(&escaped(value.expose_secret()));
                tail
            }
            None => {
                out.push_str(MARK);
                &from[MARK.len()..]
            }
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A value as it is, as it stands in JSON (and in JSON within JSON: arguments of tools), and as addresses
/// and forms spell it.
pub fn spellings(value: &str) -> [String; 7] {
    let [path, path_low] = [true, false].map(|upper| percent(value, false, upper));
    let [form, form_low] = [true, false].map(|upper| percent(value, true, upper));
    let json = escaped(value);
    [value.to_owned(), escaped(&json), json, path, path_low, form, form_low]
}

/// As it stands in an address, or in a form: there a space is `+`.
fn percent(value: &str, form: bool, upper: bool) -> String {
    let code = |byte: u8| match byte {
        b' ' if form => "+".to_owned(),
        b'~' if form => if upper { "%7E" } else { "%7e" }.to_owned(),
        b'*' if !form => if upper { "%2A" } else { "%2a" }.to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte) => char::from(byte).to_string(),
        byte if upper => format!("%{byte:02X}"),
        byte => format!("%{byte:02x}"),
    };
    value.bytes().map(code).collect()
}

fn escaped(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// `text` without any of `values` (as they are, as JSON escapes them, or as addresses do) and without what follows `Bearer`.
pub fn redact<'a>(text: &str, values: impl Iterator<Item = &'a SecretString>) -> String {
    const GONE: &str = "[redacted]";
    let mut out = text.to_owned();
    let mut values: Vec<&str> = values.map(|value| value.expose_secret()).collect();
    // The longer first: a value within another would leave the other's rest standing.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for value in values {
        // An empty value is in every text; there is nothing to hide.
        if !value.is_empty() {
            out = spellings(value).iter().fold(out, |out, spelling| out.replace(spelling, GONE));
        }
    }
    for scheme in ["Bearer ", "bearer ", "Basic ", "basic "] {
        let mut parts = out.split(scheme);
        let mut clean = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/=".contains(c))).unwrap_or(part.len());
            clean.push_str(scheme);
            // A word of prose ("Bearer token") is not a credential.
            clean.push_str(if end >= 8 { GONE } else { &part[..end] });
            clean.push_str(&part[end..]);
        }
        out = clean;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(drawn: u64) -> String {
        mark(&Name::new("pin").unwrap(), drawn)
    }

    fn inputs() -> SecretInputs {
        [(pin(7), SecretString::from("a\"b\\c\n"))].into()
    }

    #[test]
    fn marks_become_json_escaped_values() {
        let text = format!("{{\"content\":\"x {} y {0}\"}}", pin(7));
        let out = unmark(&text, &inputs());
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["content"], "x a\"b\\c\n y a\"b\\c\n");
        assert!(matches!(unmark("plain", &inputs()), Cow::Borrowed("plain")));
    }

    #[test]
    fn a_mark_that_is_not_the_runs_own_is_text() {
        let unbound = unbound(&Name::new("pin").unwrap());
        for text in [&*unbound, &pin(8), "⟦secret:other⟧", "⟦secret: x⟧ ⟦secret:", "⟦secret:pin:"] {
            assert_eq!(unmark(text, &inputs()), text);
        }
        assert_eq!(unmark(&format!("⟦secret:{}", pin(7)), &inputs()), "⟦secret:a\\\"b\\\\c\\n");
    }

    #[test]
    fn keys_go_by_value_and_bearers_by_shape() {
        let key = SecretString::from("sk-123456");
        let text = "no sk-123456; Authorization: Bearer abcdefgh.ijk, bad Bearer token";
        let out = redact(text, [&key].into_iter());
        let longer = SecretString::from("sk-1234567890");
        assert_eq!(redact("sk-1234567890", [&key, &longer].into_iter()), "[redacted]");
        assert_eq!(out, "no [redacted]; Authorization: Bearer [redacted], bad Bearer token");
    }

    #[test]
    fn what_cannot_be_a_variable_or_carries_a_login_is_known() {
        assert!(is_variable("ACME_KEY") && is_variable("_a1"));
        assert!(!is_variable("sk-live-123") && !is_variable("") && !is_variable("1A") && !is_variable("A B"));
        assert!(has_login("https://me:pw@host/v1") && has_login("https://me@host"));
        assert!(!has_login("https://host/v1?mail=a@b") && !has_login("http://host:1/@x"));
    }

    #[test]
    fn a_missing_key_says_which_variable() {
        let wrong = KeySource::Env("ACME_KEY".into()).read(&Env::new()).unwrap_err();
        assert!(wrong.contains("ACME_KEY"), "{wrong}");
        let env =
            Env::from([("ACME_KEY".into(), " k1 \n".into()), ("E".into(), " ".into()), ("B".into(), "a\nb".into())]);
        let key = KeySource::Env("ACME_KEY".into()).read(&env).unwrap().unwrap();
        assert_eq!(key.expose_secret(), "k1");
        assert!(KeySource::Env("E".into()).read(&env).unwrap_err().contains("is empty"));
        let wrong = KeySource::Env("B".into()).read(&env).unwrap_err();
        assert!(wrong.contains("printable") && !wrong.contains("a\nb"), "{wrong}");
    }
}
