//! Events that start runs. Invariant: an event has one key, made of what it is and not of when it was
//! seen; the store's unique (crew, key) makes sure that it is run once, whoever is killed when.
//!
//! A file's event is its path and its content: the same bytes under the same path are one event for
//! good, another content or another path is another event. A tick's event is its time.

use super::ids::{BlobId, Name};

mod deaths;
mod queue;
mod settle;
mod ticks;

pub use deaths::{DEATHS_MAX, deaths};
pub use queue::{Added, Item, Queue, Rule};
pub use settle::{Settling, Sight};
pub use ticks::{Calendar, Due, LATE_MS, Ticks};

/// `scan:inbox/a.pdf:3f2a…`, with 32 hex digits of the content's SHA-256.
pub fn file_key(trigger: &Name, path: &str, content: &BlobId) -> String {
    format!("{trigger}:{path}:{}", &content.to_string()[..32])
}

/// `daily@2026-11-20T07:00:00Z`; `at` is the tick in UTC.
pub fn tick_key(trigger: &Name, at: &str) -> String {
    format!("{trigger}@{at}")
}

/// The time of a tick's key.
pub fn tick_of<'k>(trigger: &Name, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(trigger.as_str())?.strip_prefix('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_path_and_content_or_the_time_and_nothing_else() {
        let (scan, content) = (Name::new("scan").unwrap(), BlobId::of(b"text"));
        let key = file_key(&scan, "inbox/a.pdf", &content);
        assert_eq!(key, format!("scan:inbox/a.pdf:{}", &content.to_string()[..32]));
        assert_ne!(key, file_key(&scan, "inbox/b.pdf", &content));
        assert_ne!(key, file_key(&scan, "inbox/a.pdf", &BlobId::of(b"text ")));
        let tick = tick_key(&scan, "2026-11-20T07:00:00Z");
        assert_eq!(tick_of(&scan, &tick), Some("2026-11-20T07:00:00Z"));
        assert_eq!(tick_of(&scan, &key), None);
        assert_eq!(tick_of(&Name::new("sca").unwrap(), &tick), None);
    }
}
