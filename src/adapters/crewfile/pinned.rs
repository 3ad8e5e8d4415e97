//! What a run pins of its crew. Invariant: it is hashed and copied once, however many runs of the crew begin.

use std::collections::BTreeMap;

use super::Loaded;
use crate::core::builtin;
use crate::core::chat::Blob;
use crate::core::ids::BlobId;

/// Texts that go into the journal with a run's first entry.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// By path: every file the crew is made of, and the built-in prompts of this very program, so that a
    /// newer one that resumes the run says the same words.
    pub files: BTreeMap<String, Blob>,
    /// The tools that the crew was compiled with: another program's may read otherwise.
    pub tools: Blob,
}

impl Pinned {
    fn of(loaded: &Loaded) -> Pinned {
        let builtin = builtin::ALL.iter().map(|(name, text)| (format!("prompts/builtin/{name}.md"), Blob::new(*text)));
        let own = loaded.pins.iter().map(|pin| (pin.path.clone(), Blob::new(pin.text.clone())));
        let tools = Blob::new(serde_json::to_string(&loaded.tools).unwrap_or_default());
        Pinned { files: builtin.chain(own).collect(), tools }
    }

    pub fn ids(&self) -> BTreeMap<String, BlobId> {
        self.files.iter().map(|(path, blob)| (path.clone(), blob.id)).collect()
    }
    pub fn blobs(&self) -> impl Iterator<Item = Blob> {
        self.files.values().chain([&self.tools]).cloned()
    }
}

impl Loaded {
    pub fn pinned(&self) -> &Pinned {
        self.pinned.get_or_init(|| Pinned::of(self))
    }
}
