//! Names and addresses. Invariant: a value of one of these types has been checked; nothing
//! downstream checks again, and nothing here is ever renumbered between runs of the same journal.
//!
//! A task is known by its *step address*, which is stable over resume and fork:
//!
//! ```text
//! address = segment *( "/" segment ) [ "." call ]
//! segment = name [ "[" key "]" ] [ "#" round ]
//! key     = 1*80 characters, percent-encoded (UTF-8) outside [A-Za-z0-9_-. ]
//! ```
//!
//! There is one parser ([`Step::parse`], [`CallId::parse`]) and one printer (the canonical text itself).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod interrupt;
mod step;
pub use interrupt::{INTERRUPT_ID_LEN, InterruptId};
pub use step::{AgentRef, CallId, Segment, Step};

/// Longest name of an agent, task, input, model or crew.
pub const NAME_MAX: usize = 64;
/// Longest row key, in characters before encoding.
pub const KEY_MAX: usize = 80;

/// Why a text is not the id it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {what}: {expected}")]
pub struct BadId {
    pub what: &'static str,
    pub found: String,
    pub expected: &'static str,
}

fn bad(what: &'static str, found: &str, expected: &'static str) -> BadId {
    let found = found.chars().take(120).collect();
    BadId { what, found, expected }
}

macro_rules! text_id {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}
use text_id;

/// `[a-z][a-z0-9_]{0,63}`: an agent, task, input, model, crew, tool or provider.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    pub fn new(text: &str) -> Result<Name, BadId> {
        let mut chars = text.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
        let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if first && rest && text.len() <= NAME_MAX {
            return Ok(Name(text.into()));
        }
        Err(bad("name", text, "a name is a lower-case letter, then at most 63 of a-z, 0-9 and _"))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Stands where a name is demanded and none is known; no table bears it.
    pub fn unnamed() -> Name {
        Name("unnamed".into())
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for Name {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Name, BadId> {
        Name::new(text)
    }
}
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}
text_id!(Name);

/// The key of one item of a `for_each`, as its author wrote it; encoded only inside a step address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    pub fn new(text: &str) -> Result<Key, BadId> {
        if text.is_empty() || text.chars().count() > KEY_MAX {
            return Err(bad("row key", text, "a key is 1 to 80 characters"));
        }
        Ok(Key(text.into()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Two keys are the same item if their folded forms are equal: files on disk may not tell case apart.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
    fn encode(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"_-. ".contains(&byte) {
                out.push(byte as char);
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    }
    fn decode(text: &str) -> Result<Key, BadId> {
        let wrong = || bad("row key", text, "keys are percent-encoded UTF-8 outside [A-Za-z0-9_-. ]");
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte == b'%' {
                let hex = rest.get(..2).and_then(|h| std::str::from_utf8(h).ok());
                let value = hex.and_then(|h| u8::from_str_radix(h, 16).ok()).ok_or_else(wrong)?;
                bytes.push(value);
                rest = &rest[2..];
            } else {
                bytes.push(byte);
            }
        }
        let key = Key::new(&String::from_utf8(bytes).map_err(|_| wrong())?)?;
        // Only the canonical spelling is an address: `%41` for `A` would give one step two names.
        if key.encode() == text { Ok(key) } else { Err(wrong()) }
    }
}
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for Key {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Key, BadId> {
        Key::new(text)
    }
}
text_id!(Key);

/// Crockford base 32 without the letters that read like digits.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a run id: 50 bits.
pub const RUN_ID_LEN: usize = 10;

/// One run. Ten characters of Crockford base 32; any unique prefix names it on the command line.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Arc<str>);

impl RunId {
    /// Makes an id of 50 random bits.
    pub fn from_random(bits: u64) -> RunId {
        let digit = |i: usize| CROCKFORD[((bits >> (5 * i)) & 31) as usize] as char;
        RunId((0..RUN_ID_LEN).map(digit).collect::<String>().into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The four characters that people read; another run may begin with them.
    pub fn short(&self) -> &str {
        &self.0[..4]
    }
}
impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for RunId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<RunId, BadId> {
        let upper = text.to_ascii_uppercase();
        if upper.len() == RUN_ID_LEN && upper.bytes().all(|b| CROCKFORD.contains(&b)) {
            return Ok(RunId(upper.into()));
        }
        Err(bad("run id", text, "a run id is 10 characters of 0-9 A-Z without I L O U"))
    }
}
text_id!(RunId);

/// Position of an entry in its run's journal, from 1, without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}
impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// SHA-256 of a text that is stored once: messages, results, pinned files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(pub [u8; 32]);

impl BlobId {
    pub fn of(bytes: &[u8]) -> BlobId {
        use sha2::Digest;
        BlobId(sha2::Sha256::digest(bytes).into())
    }
    /// Six hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..6].to_owned()
    }
}
impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 64];
        for (i, byte) in self.0.iter().enumerate() {
            text[2 * i] = HEX[usize::from(byte >> 4)];
            text[2 * i + 1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}
impl FromStr for BlobId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<BlobId, BadId> {
        let wrong = || bad("blob id", text, "a blob id is 64 lower-case hex digits");
        let mut id = [0u8; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(wrong());
        }
        for (i, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(BlobId(id))
    }
}
text_id!(BlobId);

#[cfg(test)]
mod tests;
