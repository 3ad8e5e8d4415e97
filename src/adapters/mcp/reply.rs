//! What a tool of a server came to, as text. Invariant: everything that came is in it, in words where a model
//! cannot read it.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::Value;

use crate::adapters::tools::ansi;

/// Bytes of a result that are kept, as of a command's output.
const TEXT_MOST: usize = 1 << 20;

pub(super) fn plain(text: &str) -> String {
    ansi::plain(text)
}

pub(super) fn text(result: &CallToolResult) -> String {
    let mut parts: Vec<String> = result.content.iter().map(block).collect();
    if let Some(value) = &result.structured_content {
        // A server says it once more as text, for clients that do not know the field.
        let said = |part: &String| serde_json::from_str::<Value>(part).is_ok_and(|part| part == *value);
        if !parts.iter().any(said) {
            let json = serde_json::to_string_pretty(value).unwrap_or_default();
            parts.push(if parts.is_empty() { json } else { format!("[structured result]\n{json}") });
        }
    }
    let mut text = plain(&parts.join("\n"));
    if text.len() > TEXT_MOST {
        let all = text.len();
        text.truncate(text.floor_char_boundary(TEXT_MOST));
        text.push_str(&format!("\n[cut: the first {TEXT_MOST} of {all} bytes]"));
    }
    if text.trim().is_empty() { "[the tool returned nothing]".to_owned() } else { text }
}

fn block(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => came("an image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => came("a sound", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { uri, mime_type, text, .. } => {
                let kind = mime_type.as_deref().unwrap_or("text");
                format!("[resource {uri}, {kind}, {} bytes]\n{text}", text.len())
            }
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let kind = mime_type.as_deref().unwrap_or("of no stated type");
                came(&format!("the resource {uri}"), kind, blob)
            }
            other => format!("[a resource of a kind that is not known: {}]", json(other)),
        },
        ContentBlock::ResourceLink(link) => {
            let size = link.size.map(|size| format!(", {size} bytes")).unwrap_or_default();
            let kind = link.mime_type.as_ref().map(|kind| format!(", {kind}")).unwrap_or_default();
            let says = link.description.as_ref().map(|says| format!(": {says}")).unwrap_or_default();
            format!("[link to the resource {} ({}{kind}{size}){says}]", link.uri, link.name)
        }
        other => format!("[content of a kind that is not known: {}]", json(other)),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().chars().take(2000).collect()
}

/// What cannot be shown, with its size.
fn came(what: &str, kind: &str, base64: &str) -> String {
    let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
    let bytes = (base64.len() / 4 * 3).saturating_sub(padding);
    format!("[{what} came, {kind}, {bytes} bytes; it is not shown]")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(result: Value) -> String {
        text(&serde_json::from_value(result).unwrap())
    }

    #[test]
    fn every_content_type_becomes_text() {
        let all = of(json!({"content": [
            {"type": "text", "text": "plain \u{1b}[31mred\u{1b}[0m"},
            {"type": "image", "mimeType": "image/png", "data": "aGVsbG8="},
            {"type": "audio", "mimeType": "audio/wav", "data": "aGVsbG8h"},
            {"type": "resource", "resource": {"uri": "a://1", "mimeType": "text/plain", "text": "inside"}},
            {"type": "resource", "resource": {"uri": "a://2", "blob": "aGk="}},
            {"type": "resource_link", "uri": "a://3", "name": "three", "size": 7, "description": "More"},
        ], "structuredContent": {"n": 1}}));
        assert_eq!(
            all,
            "plain red\n[an image came, image/png, 5 bytes; it is not shown]\n\
             [a sound came, audio/wav, 6 bytes; it is not shown]\n[resource a://1, text/plain, 6 bytes]\ninside\n\
             [the resource a://2 came, of no stated type, 2 bytes; it is not shown]\n\
             [link to the resource a://3 (three, 7 bytes): More]\n[structured result]\n{\n  \"n\": 1\n}"
        );
    }

    #[test]
    fn a_long_result_is_cut() {
        let long = of(json!({"content": [{"type": "text", "text": "ü".repeat(600_000)}]}));
        assert!(long.ends_with("\n[cut: the first 1048576 of 1200000 bytes]"), "{} bytes", long.len());
    }

    #[test]
    fn a_structured_result_is_said_once() {
        let said = json!({"content": [{"type": "text", "text": "{\"n\":1}"}], "structuredContent": {"n": 1}});
        assert_eq!(of(said), "{\"n\":1}");
        assert_eq!(of(json!({"content": [], "structuredContent": {"n": 1}})), "{\n  \"n\": 1\n}");
        assert_eq!(of(json!({"content": []})), "[the tool returned nothing]");
    }
}
