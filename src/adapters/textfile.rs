//! A text file that a person has named. Invariant: what cannot be read is said in words that a person can act
//! on, with the place of the first byte that is wrong and nothing of the content.

use std::fmt;
use std::io;
use std::path::Path;

/// Why a file is no text.
#[derive(Debug)]
pub enum NoText {
    Unreadable(io::Error),
    /// The first byte that is not UTF-8, its offset and its line, from 1.
    NotUtf8 {
        byte: u8,
        at: usize,
        line: usize,
    },
}

impl NoText {
    pub fn is_missing(&self) -> bool {
        matches!(self, NoText::Unreadable(why) if why.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for NoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoText::Unreadable(_) if self.is_missing() => f.write_str("there is no such file"),
            NoText::Unreadable(why) => write!(f, "cannot be read: {}", plain(why)),
            NoText::NotUtf8 { byte, at, line } => {
                write!(f, "not UTF-8: byte 0x{byte:02x} at offset {at}, line {line}: save the file as UTF-8")
            }
        }
    }
}

/// The file's text, without the mark that some editors put in front.
pub fn read(path: &Path) -> Result<String, NoText> {
    let text = String::from_utf8(std::fs::read(path).map_err(NoText::Unreadable)?).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        NoText::NotUtf8 { byte: bytes.get(at).copied().unwrap_or_default(), at, line }
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// What the system says, without its number.
pub fn plain(why: &io::Error) -> String {
    let text = why.to_string();
    text.split_once(" (os error").map_or_else(|| text.clone(), |(words, _)| words.to_owned())
}
