//! What a server says with a 401 or 403 (`WWW-Authenticate`, RFC 6750 section 3, RFC 9728 section 5.1). Invariant:
//! whatever the header holds, what is read of it is a few short words.

use crate::adapters::tools::ansi;

/// Bytes of a header that are looked at.
const MOST: usize = 8 << 10;
/// Characters of what it says in words.
const SHOWN: usize = 200;

/// Why a request was not served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::adapters::mcp) struct Challenge {
    pub error: Option<String>,
    pub description: Option<String>,
    /// Scopes that the request needed.
    pub scopes: Vec<String>,
    /// Where the server describes itself; perhaps relative.
    pub resource_metadata: Option<String>,
}

impl Challenge {
    pub fn parse(header: &str) -> Challenge {
        let mut all = Challenge::default();
        for (name, value) in parameters(&header[..header.floor_char_boundary(MOST)]) {
            match name.as_str() {
                "error" => all.error.get_or_insert(value),
                "error_description" => all.description.get_or_insert(ansi::plain(&value).chars().take(SHOWN).collect()),
                "resource_metadata" => all.resource_metadata.get_or_insert(value),
                "scope" => {
                    if all.scopes.is_empty() {
                        all.scopes =
                            value.split_whitespace().filter(|scope| is_scope(scope)).map(str::to_owned).collect();
                    }
                    continue;
                }
                _ => continue,
            };
        }
        all
    }
}

/// As RFC 6749 section 3.3 has it.
fn is_scope(text: &str) -> bool {
    text.len() <= SHOWN && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

/// `name=value` and `name="value"` anywhere, whatever scheme they follow.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = header;
    while let Some(at) = rest.find('=') {
        let name = rest[..at].trim_end();
        let name = name.rsplit(|c: char| c.is_whitespace() || c == ',').next().unwrap_or_default();
        let (value, after) = value(rest[at + 1..].trim_start());
        if !name.is_empty() {
            out.push((name.to_ascii_lowercase(), value));
        }
        rest = after;
    }
    out
}

/// A token or a quoted string at the beginning of `text`, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &quoted[at + 1..]),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_says_is_read_however_it_is_laid_out() {
        let said = Challenge::parse(
            "Basic realm=\"a, b\", Bearer error=\"insufficient_scope\" , scope = \"read:a  write\",\
             resource_metadata=\"https://h/x?a=b\", error_description=\"say \\\"please\\\"\", error=other",
        );
        assert_eq!(said.error.as_deref(), Some("insufficient_scope"));
        assert_eq!(said.scopes, ["read:a", "write"]);
        assert_eq!(Challenge::parse("Bearer scope=\"a \u{1b}[2J b\u{e9} c\"").scopes, ["a", "c"]);
        assert_eq!(said.resource_metadata.as_deref(), Some("https://h/x?a=b"));
        assert_eq!(said.description.as_deref(), Some("say \"please\""));
        for nothing in ["", "Bearer", "=", "Bearer realm=\"open", "\"=\"", "a==b"] {
            let said = Challenge::parse(nothing);
            assert_eq!((said.error, said.scopes, said.resource_metadata), (None, vec![], None), "{nothing}");
        }
        let long = format!("Bearer error_description=\"{}\"", "é".repeat(9000));
        assert_eq!(Challenge::parse(&long).description.unwrap().chars().count(), SHOWN);
    }
}
