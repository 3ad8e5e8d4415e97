//! Texts of a run by hash. Invariant: a text is readable from the moment an event that refers to it is
//! ordered, even before it is on disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dashmap::{DashMap, Entry};

use crate::core::chat::Blob;
use crate::core::ids::{BlobId, Seq};
use crate::core::machine::{MissingText, Texts};
use crate::ports::store::Store;

/// Bytes of one generation. A text stays for one whole generation after its own; then it is read from
/// the store.
const GENERATION: usize = 32 << 20;

type Generation = Arc<DashMap<BlobId, Arc<str>>>;

/// The texts that the runs of a process wrote or read lately: what they have in common is there once, and
/// all of them together have the bytes.
pub struct Lately {
    young: RwLock<Generation>,
    old: RwLock<Generation>,
    bytes: AtomicUsize,
}

impl Default for Lately {
    fn default() -> Lately {
        // One shard per generation would serialise readers; the default follows the core count.
        let empty = || RwLock::new(Arc::new(DashMap::with_shard_amount(8)));
        Lately { young: empty(), old: empty(), bytes: AtomicUsize::new(0) }
    }
}

impl Lately {
    fn generation(of: &RwLock<Generation>) -> Generation {
        of.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn get(&self, id: &BlobId) -> Option<Arc<str>> {
        if let Some(text) = Lately::generation(&self.young).get(id) {
            return Some(text.clone());
        }
        let text = Lately::generation(&self.old).get(id).map(|text| text.clone())?;
        self.insert(*id, &text);
        Some(text)
    }

    fn insert(&self, id: BlobId, text: &Arc<str>) {
        match Lately::generation(&self.young).entry(id) {
            // Another run has brought it.
            Entry::Occupied(_) => return,
            Entry::Vacant(place) => drop(place.insert(text.clone())),
        }
        let bytes = self.bytes.fetch_add(text.len(), Ordering::Relaxed) + text.len();
        if bytes > GENERATION && self.bytes.swap(0, Ordering::Relaxed) > GENERATION {
            let fresh = Arc::new(DashMap::with_shard_amount(8));
            let mut young = self.young.write().unwrap_or_else(PoisonError::into_inner);
            let full = std::mem::replace(&mut *young, fresh);
            *self.old.write().unwrap_or_else(PoisonError::into_inner) = full;
        }
    }
}

/// The texts of one run, over the store.
pub struct TextCache {
    store: Arc<dyn Store>,
    lately: Arc<Lately>,
    /// Not on disk yet, each until the durable mark has passed this Seq.
    pinned: Mutex<HashMap<BlobId, (Seq, Arc<str>)>>,
}

impl TextCache {
    pub fn new(store: Arc<dyn Store>, lately: Arc<Lately>) -> TextCache {
        TextCache { store, lately, pinned: Mutex::default() }
    }

    fn pinned(&self) -> MutexGuard<'_, HashMap<BlobId, (Seq, Arc<str>)>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn keep(&self, blob: &Blob) {
        self.lately.insert(blob.id, &blob.text);
    }

    /// Keeps a text whose event is `seq` or earlier, whatever else comes, until that is durable.
    pub fn pin(&self, blob: &Blob, seq: Seq) {
        self.pinned().insert(blob.id, (seq, blob.text.clone()));
        self.keep(blob);
    }

    /// Everything up to `seq` is on disk.
    pub fn durable(&self, seq: Seq) {
        self.pinned().retain(|_, (last, _)| *last > seq);
    }
}

impl Texts for TextCache {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
        if let Some(text) = self.lately.get(id) {
            return Ok(text);
        }
        let pinned = self.pinned().get(id).map(|pinned| pinned.1.clone());
        let text = match pinned {
            Some(text) => text,
            None => self.store.blob(id).ok().flatten().ok_or(MissingText(*id))?,
        };
        self.lately.insert(*id, &text);
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
