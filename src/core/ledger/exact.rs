//! The bound of a request whose tokenizer is known. Invariant: never more than the bound in bytes, and never
//! less than what the provider counts.
//!
//! Only the *content* of a system, user or tool message goes from bytes to tokens: the provider decodes the
//! JSON and splits the content by itself, between tokens that no text can spell, so its count is that of the
//! whole content. The message around it (role, ids, JSON) stays a token a byte, which is several times what
//! any chat template adds, and [`rules`](crate::core::rules) adds its constants on top. Byte pair encoding is not
//! additive: two halves of a text may have fewer tokens than the whole. So a text is only ever counted whole, or
//! in pieces cut where the tokenizer itself always cuts; one that holds a secret's mark, whose value is not known
//! here, stays in bytes, and so do answers (their tool calls are laid out in no public way), tools and schemas.
//!
//! A count reads every byte, so it is made only where the bound in bytes does not fit.

use super::HoldRequest;
use crate::core::chat::{Message, SECRET_MARK};
use crate::core::crew::Tokenizer;
use crate::core::event::Msg;
use crate::core::machine::{MissingText, Sizes, Texts};
use crate::core::money::Tokens;

/// Bytes that [`Sizes`] counts as one text: longer ones it cuts where it likes.
const PIECE: usize = 128 * 1024;

/// New messages of a request that may be counted, with a tokenizer that is the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Countable {
    pub tokenizer: Tokenizer,
    pub messages: Vec<Msg>,
}

impl HoldRequest {
    /// The same request with its exact bound; `None` where that is no lower.
    pub fn counted(&self, texts: &dyn Texts, sizes: &dyn Sizes) -> Result<Option<HoldRequest>, MissingText> {
        let Some(Countable { tokenizer: Tokenizer::O200k, messages }) = &self.countable else { return Ok(None) };
        let mut saved = 0u64;
        for msg in messages {
            let text = texts.text(&msg.message)?;
            saved = saved.saturating_add(content(&text).map_or(0, |content| saving(&content, sizes)));
        }
        let input = Tokens(self.input.0.saturating_sub(saved));
        Ok((saved > 0).then(|| HoldRequest { input, countable: None, ..self.clone() }))
    }
}

/// What stands in a message beside its role and ids; `None` where it is not known as it will be sent.
fn content(text: &str) -> Option<String> {
    match Message::decode(text).ok()? {
        Message::Assistant { .. } => None,
        Message::System { content } | Message::User { content } | Message::Tool { content, .. } => {
            (!content.contains(SECRET_MARK)).then_some(content)
        }
    }
}

/// Tokens that the content has fewer than bytes, as JSON, in the byte bound.
fn saving(content: &str, sizes: &dyn Sizes) -> u64 {
    let Some(pieces) = pieces(content) else { return 0 };
    let tokens: u64 = pieces.into_iter().map(|piece| sizes.tokens(piece)).sum();
    // Escapes make the JSON longer, never shorter; its two quotes stay with the message.
    let bytes = serde_json::Value::from(content).to_string().len().saturating_sub(2) as u64;
    bytes.saturating_sub(tokens)
}

/// Pieces that are counted apart as they are counted together: o200k never joins a line break with a letter
/// or digit after it. `None` where a long text has no such place.
fn pieces(content: &str) -> Option<Vec<&str>> {
    let mut pieces = Vec::new();
    let mut rest = content;
    while rest.len() > PIECE {
        let bytes = rest.as_bytes();
        let at = (1..PIECE).rev().find(|at| bytes[at - 1] == b'\n' && bytes[*at].is_ascii_alphanumeric())?;
        let (head, tail) = rest.split_at(at);
        pieces.push(head);
        rest = tail;
    }
    pieces.push(rest);
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_before_a_line_that_begins_with_a_letter_or_not_at_all() {
        assert_eq!(pieces("short\ntext"), Some(vec!["short\ntext"]));
        let lines = "one line of the text\n".repeat(20_000);
        let cut = pieces(&lines).unwrap();
        assert!(cut.len() > 3 && cut.iter().all(|piece| piece.len() <= PIECE && piece.starts_with("one")));
        assert_eq!(cut.concat(), lines);
        for text in ["a".repeat(PIECE + 1), "\n ".repeat(PIECE), "é".repeat(PIECE)] {
            assert_eq!(pieces(&text), None);
        }
    }

    #[test]
    fn answers_and_secrets_are_not_counted() {
        let user = |content: &str| Message::User { content: content.into() }.encode().text;
        assert_eq!(content(&user("hello")).as_deref(), Some("hello"));
        assert_eq!(content(&user(&format!("key {SECRET_MARK}k⟧"))), None);
        let answer = Message::Assistant { content: "yes".into(), tool_calls: Vec::new() };
        assert_eq!(content(&answer.encode().text), None);
        assert_eq!(content("no message"), None);
    }
}
