//! Keys that were pasted into a file. Invariant: what is found has the opening, the alphabet and about
//! the length of a well-known kind of key; prose that only begins like one passes.

use std::ops::Range;
use std::sync::Arc;

use super::doc::{Node, Table, Val};
use super::problem::{At, Problem};

/// How a kind of key opens, how many characters follow at least, and what they may be besides letters and digits.
const KINDS: [(&str, usize, &[u8]); 13] = [
    ("sk-", 16, b"-_"),
    ("sk_live_", 16, b""),
    ("sk_test_", 16, b""),
    ("rk_live_", 16, b""),
    ("ghp_", 30, b""),
    ("gho_", 30, b""),
    ("ghs_", 30, b""),
    ("ghu_", 30, b""),
    ("github_pat_", 22, b"_"),
    ("AIza", 30, b"-_"),
    ("xoxb-", 20, b"-"),
    ("xoxp-", 20, b"-"),
    ("gsk_", 30, b""),
];

/// Where the first key of a text stands, in bytes.
pub(super) fn found(text: &str) -> Option<Range<usize>> {
    KINDS.iter().filter_map(|(opens, least, signs)| of_kind(text, opens, *least, signs)).min_by_key(|key| key.start)
}

pub(super) fn pasted(text: &str) -> bool {
    found(text).is_some()
}

fn of_kind(text: &str, opens: &str, least: usize, signs: &[u8]) -> Option<Range<usize>> {
    text.match_indices(opens).find_map(|(start, _)| {
        let before = text.as_bytes().get(start.wrapping_sub(1));
        // `task-…` and `desk-…` only end like one.
        let inside = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        let rest = text.get(start + opens.len()..)?;
        let body = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || signs.contains(byte)).count();
        (!inside && body >= least && drawn(opens, &rest[..body])).then(|| start..start + opens.len() + body)
    })
}

/// Drawn by lot, as keys are. After an opening that ends in `-` prose may follow: its words, joined by
/// signs, hold no long part of letters and digits mixed.
fn drawn(opens: &str, body: &str) -> bool {
    if !opens.ends_with('-') {
        return body.bytes().any(|byte| byte.is_ascii_digit());
    }
    body.split(['-', '_']).any(|part| {
        let digit = part.bytes().any(|byte| byte.is_ascii_digit());
        let letter = part.bytes().any(|byte| byte.is_ascii_alphabetic());
        part.len() >= 8 && digit && letter || part.len() >= 16 && digit || part.len() >= 20
    })
}

/// Reports every text of a table that holds a key, whatever the key of the table takes. `texts` are the
/// files as they were read.
pub(super) fn refuse(table: &Table, texts: &dyn Fn(&str) -> Option<Arc<str>>, problems: &mut Vec<Problem>) {
    for entry in &table.entries {
        // By its name the key was refused already.
        if !problems.iter().any(|said| said.code == "E0110" && at(said) == entry.key_at) {
            node(&entry.node, texts, problems);
        }
    }
}

fn at(problem: &Problem) -> At {
    At::new(&problem.file, problem.span.clone())
}

fn node(node: &Node, texts: &dyn Fn(&str) -> Option<Arc<str>>, problems: &mut Vec<Problem>) {
    match &node.value {
        Val::Text(text) if pasted(text) => problems.push(problem(&place(&node.at, texts))),
        Val::Text(_) | Val::Int(_) | Val::Float(_) | Val::Flag(_) | Val::Date(_) => {}
        Val::List(items) => items.iter().for_each(|item| self::node(item, texts, problems)),
        Val::Table(table) => refuse(table, texts, problems),
    }
}

/// The key itself in a text of many lines; the whole text where it is spelt with escapes, or on one line.
fn place(at: &At, texts: &dyn Fn(&str) -> Option<Arc<str>>) -> At {
    let text = texts(&at.file);
    let raw = text.as_deref().and_then(|text| text.get(at.span.start..at.span.end)).unwrap_or_default();
    match found(raw).filter(|_| raw.contains('\n')) {
        Some(key) => at.inner(0, &key),
        None => at.clone(),
    }
}

/// What is said of a key at `at`; the key itself is not.
pub(super) fn problem(at: &At) -> Problem {
    let help = "write the name of an environment variable instead, and replace the key";
    Problem::error("E0110", at, "this looks like an API key").help(help)
}

#[cfg(test)]
mod tests {
    use super::found;

    #[test]
    fn keys_are_found_inside_a_text_and_prose_is_not() {
        let keys = [
            "sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c",
            "sk-ant-api03-Ab1_Cd2-Ef3Gh4Ij5Kl6Mn7Op8Qr9St0",
            "sk-abcdefghijklmnopqrstuvwxyz",
            "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
            "github_pat_11ABCDEFG0123456789_abcdefghij",
            "AIzaSyA-1234567890_abcdefghijklmnopqrs",
            "gsk_0123456789abcdefghijklmnopqrstuvwxyz",
            "xoxb-123456789012-abcdef123456",
        ];
        for key in keys {
            for (before, after) in
                [("", ""), ("key is ", "."), ("http://h/v1?api_key=", "&x=1"), ("a/", "/b"), ("x:", ""), ("'", "'")]
            {
                let text = format!("{before}{key}{after}");
                assert_eq!(found(&text), Some(before.len()..before.len() + key.len()), "{text}");
            }
            assert_eq!(found(&format!("ta{key}")), None, "the end of another word");
        }
        for prose in [
            "sk-learn",
            "the sk- prefix",
            "pk-12",
            "use sk-learn-compatible-estimators-of-version-2 here",
            "sk-learn-nightly-20260101",
            "a task-0123456789abcdef0123456789",
            "gsk_ and ghp_ open keys, AIza too",
            "AIzakaya",
            "sk-… (yours)",
            "https://example.org/sk-slovakia/kosice-2013",
        ] {
            assert_eq!(found(prose), None, "{prose}");
        }
    }
}
