//! Texts of a run by hash. Invariant: a text is readable from the moment an event that refers to it is
//! ordered, even before it is on disk.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use dashmap::DashMap;

use crate::core::chat::Blob;
use crate::core::ids::{BlobId, Seq};
use crate::core::machine::{MissingText, Texts};
use crate::ports::store::Store;

/// Bytes of one generation. A text stays for one whole generation after its own; then it is read from
/// the store.
const GENERATION: usize = 32 << 20;

/// A cache of the texts that were written or read lately, over the store.
pub struct TextCache {
    store: Arc<dyn Store>,
    young: RwLock<Arc<DashMap<BlobId, Arc<str>>>>,
    old: RwLock<Arc<DashMap<BlobId, Arc<str>>>>,
    bytes: AtomicUsize,
    /// Not on disk yet, each until the durable mark has passed this Seq.
    pinned: DashMap<BlobId, (Seq, Arc<str>)>,
}

impl TextCache {
    pub fn new(store: Arc<dyn Store>) -> TextCache {
        // One shard per generation would serialise readers; the default follows the core count.
        let empty = || RwLock::new(Arc::new(DashMap::with_shard_amount(8)));
        let (bytes, pinned) = (AtomicUsize::new(0), DashMap::with_shard_amount(8));
        TextCache { store, young: empty(), old: empty(), bytes, pinned }
    }

    fn generation(of: &RwLock<Arc<DashMap<BlobId, Arc<str>>>>) -> Arc<DashMap<BlobId, Arc<str>>> {
        of.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub fn keep(&self, blob: &Blob) {
        self.insert(blob.id, blob.text.clone());
    }

    /// Keeps a text whose event is `seq` or earlier, whatever else comes, until that is durable.
    pub fn pin(&self, blob: &Blob, seq: Seq) {
        self.pinned.insert(blob.id, (seq, blob.text.clone()));
        self.keep(blob);
    }

    /// Everything up to `seq` is on disk.
    pub fn durable(&self, seq: Seq) {
        self.pinned.retain(|_, (last, _)| *last > seq);
    }

    fn insert(&self, id: BlobId, text: Arc<str>) {
        let bytes = self.bytes.fetch_add(text.len(), Ordering::Relaxed) + text.len();
        TextCache::generation(&self.young).insert(id, text);
        if bytes > GENERATION && self.bytes.swap(0, Ordering::Relaxed) > GENERATION {
            let fresh = Arc::new(DashMap::with_shard_amount(8));
            let mut young = self.young.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let full = std::mem::replace(&mut *young, fresh);
            *self.old.write().unwrap_or_else(std::sync::PoisonError::into_inner) = full;
        }
    }
}

impl Texts for TextCache {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
        if let Some(text) = TextCache::generation(&self.young).get(id) {
            return Ok(text.clone());
        }
        let old = TextCache::generation(&self.old).get(id).map(|text| text.clone());
        let pinned = || self.pinned.get(id).map(|pinned| pinned.1.clone());
        let text = match old.or_else(pinned) {
            Some(text) => text,
            None => self.store.blob(id).ok().flatten().ok_or(MissingText(*id))?,
        };
        self.insert(*id, text.clone());
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
