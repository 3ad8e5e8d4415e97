//! What a server sent, as text that a model can read. Invariant: what comes out is plain text without
//! control characters, made from a body whose size is capped, on a tree whose depth is.

mod html;
#[cfg(test)]
mod tests;

use reqwest::Url;

use crate::adapters::tools::ansi::plain;

/// Bytes in which a page says how it is encoded.
const HEAD: usize = 1024;
/// The characters of 0x80 to 0x9f in windows-1252, which is also what pages mean by latin-1.
const LATIN: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// A page as Markdown, text and JSON as they are. `kind` is the `Content-Type`; `base` is where the
/// page's links lead from. Fails in words on what is no text.
pub fn text(kind: Option<&str>, body: &[u8], base: &Url) -> Result<String, String> {
    let stated = kind.unwrap_or_default().to_ascii_lowercase();
    let (mime, rest) = stated.split_once(';').map_or((stated.as_str(), ""), |(mime, rest)| (mime, rest));
    let head = String::from_utf8_lossy(&body[..body.len().min(HEAD)]).to_ascii_lowercase();
    let markup = ["<!doctype html", "<html"].iter().any(|tag| head.trim_start().starts_with(tag));
    let html = match mime.trim() {
        "text/html" | "application/xhtml+xml" => true,
        "" if body.contains(&0) => return Err("it does not say what it is, and it is no text".to_owned()),
        "" => markup,
        mime if is_text(mime) => false,
        mime => {
            let mime: String = plain(mime).chars().take(80).collect();
            return Err(format!("it is of the type `{mime}`; pages, text and JSON are read"));
        }
    };
    let named = charset(rest).or_else(|| if html { charset(&head) } else { None });
    let decoded = decode(body, named.as_deref())?;
    Ok(plain(&if html { html::markdown(&decoded, base) } else { decoded }))
}

fn is_text(mime: &str) -> bool {
    let data = ["json", "xml", "yaml", "x-yaml", "toml", "javascript", "x-ndjson", "jsonl", "csv", "graphql", "sql"];
    let named = mime.strip_prefix("application/").is_some_and(|kind| data.contains(&kind));
    named || mime.starts_with("text/") || mime.ends_with("+json") || mime.ends_with("+xml")
}

fn charset(text: &str) -> Option<String> {
    let (_, after) = text.split_once("charset=")?;
    let name = after.trim_start_matches(['"', '\'']);
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.:".contains(c))).unwrap_or(name.len());
    Some(name[..end].to_owned()).filter(|name| !name.is_empty())
}

fn decode(body: &[u8], charset: Option<&str>) -> Result<String, String> {
    let utf8 = || String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).into_owned();
    let latin = |byte: &u8| match byte {
        0x80..=0x9f => LATIN[usize::from(byte - 0x80)],
        byte => char::from(*byte),
    };
    match charset {
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => Ok(utf8()),
        Some("iso-8859-1" | "latin1" | "latin-1" | "windows-1252" | "cp1252") => Ok(body.iter().map(latin).collect()),
        Some(name) => {
            // What is UTF-8 after all is read, whatever it is called.
            let known = std::str::from_utf8(body).map(str::to_owned);
            known.map_err(|_| format!("it is encoded as `{name}`; UTF-8 and Latin-1 are read"))
        }
    }
}
