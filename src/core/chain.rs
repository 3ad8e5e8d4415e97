//! The hash chain of a journal. Invariant: hashes cover the stored bytes, never a re-serialisation.
//!
//! `hash = SHA-256("bosun.journal.1" || previous hash || seq || at_ms || kind length || kind ||
//! SHA-256(payload))`, integers as 8 bytes big-endian. The first entry's previous hash is SHA-256 of
//! the run id, so that a journal cannot pass for another run's.

use sha2::{Digest, Sha256};

use super::ids::{RunId, Seq};

const DOMAIN: &[u8] = b"bosun.journal.1";

pub type Hash = [u8; 32];

/// What stands before the first entry.
pub fn genesis(run: &RunId) -> Hash {
    Sha256::digest(run.as_str().as_bytes()).into()
}

/// The hash of an entry that follows `previous`.
pub fn link(previous: &Hash, seq: Seq, at_ms: u64, kind: &str, payload: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(previous);
    hash.update(seq.0.to_be_bytes());
    hash.update(at_ms.to_be_bytes());
    hash.update((kind.len() as u64).to_be_bytes());
    hash.update(kind.as_bytes());
    hash.update(Sha256::digest(payload));
    hash.finalize().into()
}
