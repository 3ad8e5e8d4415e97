//! Wall time and randomness. Invariant: nothing that is decided depends on either; both enter the
//! journal as recorded facts.

pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. May jump in either direction.
    fn now_ms(&self) -> u64;
    /// Random bits: run ids, jitter.
    fn random(&self) -> u64;
}
