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
mod tests {
    use super::*;
    use crate::core::ids::RunId;
    use crate::ports::store as port;
    use port::StoreError;

    /// Has nothing and takes nothing.
    struct Empty;
    impl Store for Empty {
        fn create(&self, _: port::NewRun, _: port::Batch) -> Result<port::Epoch, StoreError> {
            Ok(port::Epoch(1))
        }
        fn claim(&self, _: &RunId) -> Result<port::Epoch, StoreError> {
            Ok(port::Epoch(1))
        }
        fn release(&self, _: &RunId) {}
        fn owner(&self, _: &RunId) -> Option<port::Owner> {
            None
        }
        fn append(&self, _: port::Batch, _: port::Done) {}
        fn read(&self, _: &RunId, _: Seq) -> Result<Vec<port::Row>, StoreError> {
            Ok(Vec::new())
        }
        fn blob(&self, _: &BlobId) -> Result<Option<Arc<str>>, StoreError> {
            Ok(None)
        }
        fn runs(&self, _: &port::RunFilter) -> Result<Vec<port::RunRow>, StoreError> {
            Ok(Vec::new())
        }
        fn inbox_put(&self, _: &RunId, _: &str, _: &str, _: &str, _: u64) -> Result<u64, StoreError> {
            Ok(1)
        }
        fn inbox(&self, _: &RunId) -> Result<Vec<port::InboxRow>, StoreError> {
            Ok(Vec::new())
        }
        fn inbox_done(&self, _: &RunId, _: u64) -> Result<(), StoreError> {
            Ok(())
        }
        fn version(&self) -> Result<u64, StoreError> {
            Ok(1)
        }
        fn notified(&self, _: &RunId) -> Result<Seq, StoreError> {
            Ok(Seq(0))
        }
        fn set_notified(&self, _: &RunId, _: Seq) -> Result<(), StoreError> {
            Ok(())
        }
        fn gc(&self, _: u64, _: bool) -> Result<port::Garbage, StoreError> {
            Ok(port::Garbage::default())
        }
    }

    #[test]
    fn a_text_that_is_not_on_disk_yet_outlives_every_generation() {
        let texts = TextCache::new(Arc::new(Empty));
        let blob = Blob::new("a text");
        texts.pin(&blob, Seq(7));
        let rotate = || (0..5).for_each(|n| texts.keep(&Blob::new(n.to_string().repeat(GENERATION / 2))));
        rotate();
        texts.durable(Seq(6));
        assert_eq!(texts.text(&blob.id).as_deref(), Ok("a text"));
        rotate();
        texts.durable(Seq(7));
        assert!(texts.text(&blob.id).is_err(), "from here on the store has it");
    }
}
