//! JSON strings. Invariant: the bytes are those that `serde_json` writes, whatever the text.

use std::fmt::Write;

/// Bytes that are looked at together: most of a text needs no escape, and that is seen many at a time.
const STRIDE: usize = 64;

/// Appends `text` as a JSON string, quotes included.
pub fn write(out: &mut String, text: &str) {
    out.push('"');
    let bytes = text.as_bytes();
    // `text[done..]` is still to be written; all that is escaped is ASCII, so cuts are at characters.
    let mut done = 0;
    let mut at = 0;
    while at < bytes.len() {
        let chunk = &bytes[at..bytes.len().min(at + STRIDE)];
        if chunk.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
            for (i, byte) in chunk.iter().enumerate().filter(|(_, byte)| needs_escape(**byte)) {
                out.push_str(&text[done..at + i]);
                escape(out, *byte);
                done = at + i + 1;
            }
        }
        at += chunk.len();
    }
    out.push_str(&text[done..]);
    out.push('"');
}

fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn escape(out: &mut String, byte: u8) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        // Into a string: it cannot fail.
        other => drop(write!(out, "\\u{other:04x}")),
    }
}
