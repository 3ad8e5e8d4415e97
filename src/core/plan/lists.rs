//! Lists of results, parsed once. Invariant: what is remembered follows from the hash of a text alone, so
//! that a plan that remembers and one that does not decide the same; it is no part of the state.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::core::ids::BlobId;
use crate::core::machine::{MissingText, Texts};

/// Lists that are at work at once are few; of more, the oldest is parsed again.
const KEPT: usize = 4;

type Items = Arc<Vec<Arc<Value>>>;

#[derive(Debug, Default)]
pub(super) struct Lists(Mutex<Vec<(BlobId, Items)>>);

/// A plan that is copied begins to remember anew.
impl Clone for Lists {
    fn clone(&self) -> Lists {
        Lists::default()
    }
}

impl Lists {
    /// The items of the JSON list `id`; none of a text that is no list.
    pub fn items(&self, texts: &dyn Texts, id: &BlobId) -> Result<Items, MissingText> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, items)) = kept.iter().find(|(known, _)| known == id) {
            return Ok(items.clone());
        }
        let items: Items = Arc::new(serde_json::from_str(&texts.text(id)?).unwrap_or_default());
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((*id, items.clone()));
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counted(AtomicUsize);
    impl Texts for Counted {
        fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let known = (0..9).map(|n| format!("[{n}, \"x\"]")).find(|text| BlobId::of(text.as_bytes()) == *id);
            known.map(Arc::from).ok_or(MissingText(*id))
        }
    }

    #[test]
    fn a_list_is_read_and_parsed_once_however_many_items_ask() {
        let (lists, texts) = (Lists::default(), Counted(AtomicUsize::new(0)));
        let id = |n: u32| BlobId::of(format!("[{n}, \"x\"]").as_bytes());
        for _ in 0..10_000 {
            assert_eq!(lists.items(&texts, &id(3)).unwrap()[0].as_u64(), Some(3));
        }
        assert_eq!(texts.0.load(Ordering::Relaxed), 1);
        // More lists than are kept: right all the same.
        for n in (0..9).chain(0..9) {
            assert_eq!(lists.items(&texts, &id(n)).unwrap()[0].as_u64(), Some(n.into()));
        }
        assert!(lists.items(&texts, &BlobId::of(b"gone")).is_err());
    }
}
