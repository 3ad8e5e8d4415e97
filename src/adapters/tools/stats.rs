//! `text.stats`: how large a text is. Invariant: the same text has the same figures on every machine, and
//! words are counted as the filter `words` counts them.

use serde_json::{Value, json};

use super::builtin::{Args, Stop};
use super::files::Places;
use crate::adapters::sizes::O200k;
use crate::core::machine::Sizes;

/// Bytes of a file that is counted.
const MOST: u64 = 8 << 20;

pub(super) const ABOUT: &str = "Count the words, characters, sentences, lines and tokens (o200k) of a text, or of a text file of at most 8 MiB. \
    Give either `text` or `path`. Answers with a JSON object.";

pub(super) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "text": { "type": "string", "description": "The text itself" },
            "path": { "type": "string", "minLength": 1, "description": "A text file instead, relative to the project root or exactly as the task gives it" }
        },
        "additionalProperties": false
    })
}

pub(super) fn stats(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let given = |name: &str| args.get(name).and_then(Value::as_str);
    let text = match (given("text"), given("path")) {
        (Some(text), None) => text.to_owned(),
        (None, Some(path)) => places.whole_text(path, MOST)?,
        (Some(_), Some(_)) => return Err("both `text` and `path` are given; give one of them".to_owned()),
        (None, None) => return Err("neither `text` nor `path` is given; give one of them".to_owned()),
    };
    stop.check()?;
    let figures = json!({
        "words": text.split_whitespace().count(),
        "characters": text.chars().count(),
        "sentences": sentences(&text),
        "lines": text.lines().count(),
        "tokens": O200k::new().tokens(&text),
    });
    Ok(format!("{figures}\n"))
}

/// Pieces with a letter or digit in them that end in a mark followed by white space, in an empty line, or
/// with the text. Abbreviations count as ends: no list of them is right for every language.
fn sentences(text: &str) -> u64 {
    let (mut count, mut begun, mut marked, mut breaks) = (0, false, false, 0);
    for c in text.chars() {
        match c {
            '。' | '！' | '？' if begun => (count, begun) = (count + 1, false),
            '.' | '!' | '?' | '…' => marked = true,
            // What closes around a mark does not undo it.
            '"' | '\'' | '”' | '’' | '»' | ')' | ']' => {}
            c if c.is_whitespace() => {
                breaks += u32::from(c == '\n');
                if begun && (marked || breaks > 1) {
                    (count, begun) = (count + 1, false);
                }
                marked = false;
                continue;
            }
            c => {
                begun = begun || c.is_alphanumeric();
                marked = false;
            }
        }
        breaks = 0;
    }
    count + u64::from(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_counted_by_their_marks_and_by_empty_lines() {
        for (text, expected) in [
            ("", 0),
            (" \n . ! ", 0),
            ("One. Two! Three?", 3),
            ("no mark", 1),
            ("He said \"stop.\" She did (at once.) Then…", 3),
            ("3.14 is one number. v1.2.3 too", 2),
            ("A heading\n\nA line\nof a paragraph.", 2),
            ("第一句。第二句！", 2),
            ("What?! Really... yes", 3),
        ] {
            assert_eq!(sentences(text), expected, "{text:?}");
        }
    }
}
