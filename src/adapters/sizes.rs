//! Sizes in tokens (o200k), as crew files state them. Invariant: an estimate that is the same on every
//! machine, never a hold; the table is loaded when the first text is counted, and not before.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::core::ids::BlobId;
use crate::core::machine::Sizes;

/// Counts kept per generation; two generations are kept.
const KEPT: usize = 8192;
/// Shorter texts are counted faster than they are looked up.
const WORTH_KEEPING: usize = 128;
/// Bytes that are counted at once. The splitter's steps for one run of white space are bounded, and one
/// of this length stays far below that bound.
const CHUNK: usize = 128 * 1024;

/// Counts with o200k; each text once, as far as memory allows.
#[derive(Default)]
pub struct O200k {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    young: HashMap<BlobId, u64>,
    old: HashMap<BlobId, u64>,
}

impl Known {
    fn get(&mut self, id: &BlobId) -> Option<u64> {
        let count = self.young.get(id).or_else(|| self.old.get(id)).copied()?;
        self.put(*id, count);
        Some(count)
    }
    fn put(&mut self, id: BlobId, count: u64) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, count);
    }
}

impl O200k {
    pub fn new() -> O200k {
        O200k::default()
    }
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sizes for O200k {
    fn tokens(&self, text: &str) -> u64 {
        if text.len() < WORTH_KEEPING {
            return count(text);
        }
        let id = BlobId::of(text.as_bytes());
        if let Some(count) = self.known().get(&id) {
            return count;
        }
        // Not under the lock: others count meanwhile.
        let count = count(text);
        self.known().put(id, count);
        count
    }
}

fn count(text: &str) -> u64 {
    let mut rest = text;
    let mut sum = 0;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(rest.floor_char_boundary(CHUNK));
        sum += tiktoken_rs::o200k_base_singleton().encode_ordinary(head).len() as u64;
        rest = tail;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_o200k_s_and_the_same_the_second_time() {
        let sizes = O200k::new();
        assert_eq!([sizes.tokens(""), sizes.tokens("hello world"), sizes.tokens("tiktoken is great!")], [0, 2, 6]);
        let long = "All work and no play makes Jack a dull boy. ".repeat(50);
        let first = sizes.tokens(&long);
        assert!(first > 400 && first <= long.len() as u64);
        assert_eq!(sizes.tokens(&long), first);
    }

    #[test]
    fn texts_that_are_hard_to_split_are_counted_too() {
        for text in [" ".repeat(3_000_000), "a".repeat(300_000), "日".repeat(100_000)] {
            let tokens = O200k::new().tokens(&text);
            assert!(tokens > 0 && tokens <= text.len() as u64);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut known = Known::default();
        for i in 0..3 * KEPT {
            known.put(BlobId::of(&i.to_be_bytes()), i as u64);
        }
        assert!(known.young.len() + known.old.len() <= 2 * KEPT);
        assert_eq!(known.get(&BlobId::of(&(3 * KEPT - 1).to_be_bytes())), Some(3 * KEPT as u64 - 1));
        assert_eq!(known.get(&BlobId::of(&0usize.to_be_bytes())), None);
    }
}
