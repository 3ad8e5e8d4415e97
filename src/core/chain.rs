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

/// An entry as the chain sees it: borrowed from wherever it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub seq: Seq,
    pub at_ms: u64,
    pub kind: &'a str,
    pub payload: &'a [u8],
    pub hash: &'a Hash,
}

/// The first entry at which a journal stops being what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {why}")]
pub struct Broken {
    pub seq: Seq,
    pub why: String,
}

/// Checks a whole journal from its first entry and returns the last hash ([`genesis`] of an empty one).
///
/// Finds entries that were changed, removed, swapped or inserted. Entries cut off at the *end* leave a
/// valid chain: compare the count with the run's own record of its last entry.
pub fn verify<'a, E: Into<Entry<'a>>>(run: &RunId, entries: impl IntoIterator<Item = E>) -> Result<Hash, Broken> {
    let mut previous = genesis(run);
    let mut expected = Seq(1);
    for entry in entries {
        let Entry { seq, at_ms, kind, payload, hash } = entry.into();
        if seq > expected {
            let why = format!("missing; the entry found in its place is {seq}");
            return Err(Broken { seq: expected, why });
        }
        if seq < expected {
            return Err(Broken { seq, why: format!("found again where entry {expected} was expected") });
        }
        if link(&previous, seq, at_ms, kind, payload) != *hash {
            let why = "its hash does not follow from its content and the entry before: it was changed, \
                       or another entry was put in its place";
            return Err(Broken { seq, why: why.to_owned() });
        }
        previous = *hash;
        expected = expected.next();
    }
    Ok(previous)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Kept {
        seq: u64,
        at_ms: u64,
        kind: &'static str,
        payload: Vec<u8>,
        hash: Hash,
    }
    impl<'a> From<&'a Kept> for Entry<'a> {
        fn from(kept: &'a Kept) -> Entry<'a> {
            let Kept { seq, at_ms, kind, payload, hash } = kept;
            Entry { seq: Seq(*seq), at_ms: *at_ms, kind, payload, hash }
        }
    }

    fn run() -> RunId {
        RunId::from_random(7)
    }
    fn journal(entries: u64) -> Vec<Kept> {
        let mut previous = genesis(&run());
        let entry = |seq: u64| {
            let payload = format!("{{\"v\":1,\"n\":{seq}}}").into_bytes();
            let at_ms = 1000 - seq;
            previous = link(&previous, Seq(seq), at_ms, "task.finished", &payload);
            Kept { seq, at_ms, kind: "task.finished", payload, hash: previous }
        };
        (1..=entries).map(entry).collect()
    }
    fn broken_at(journal: &[Kept]) -> u64 {
        verify(&run(), journal).unwrap_err().seq.0
    }

    #[test]
    fn a_journal_as_written_ends_in_its_last_hash() {
        let kept = journal(5);
        assert_eq!(verify(&run(), &kept), Ok(kept[4].hash));
        assert_eq!(verify(&run(), &kept[..0]), Ok(genesis(&run())));
        assert_eq!(verify(&RunId::from_random(8), &kept).unwrap_err().seq, Seq(1), "passed for another run's");
    }

    #[test]
    fn every_flipped_bit_is_found_where_it_is() {
        for at in 0..5 {
            let changes: [fn(&mut Kept); 4] = [
                |kept| kept.payload[3] ^= 1,
                |kept| kept.at_ms ^= 1,
                |kept| kept.kind = "task.finishee",
                |kept| kept.hash[31] ^= 0x80,
            ];
            for change in changes {
                let mut kept = journal(5);
                change(&mut kept[at]);
                assert_eq!(broken_at(&kept), at as u64 + 1);
            }
        }
    }

    #[test]
    fn removed_swapped_and_inserted_entries_are_found() {
        let mut removed = journal(5);
        removed.remove(2);
        assert_eq!(broken_at(&removed), 3);
        // Renumbering what follows a gap does not help: the hashes still tell.
        for kept in &mut removed[2..] {
            kept.seq -= 1;
        }
        assert_eq!(broken_at(&removed), 3);
        let mut swapped = journal(5);
        swapped.swap(1, 2);
        assert_eq!(broken_at(&swapped), 2);
        (swapped[1].seq, swapped[2].seq) = (2, 3);
        assert_eq!(broken_at(&swapped), 2);
        let mut inserted = journal(5);
        inserted.insert(3, inserted[2].clone());
        assert_eq!(verify(&run(), &inserted).unwrap_err().seq, Seq(3), "the same entry twice");
        for (i, kept) in inserted.iter_mut().enumerate() {
            kept.seq = i as u64 + 1;
        }
        assert_eq!(broken_at(&inserted), 4);
    }
}
