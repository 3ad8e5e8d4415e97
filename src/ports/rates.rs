//! What the processes of a host know together about a provider key. Invariant: one process at a time
//! reads and changes a key's state; a process that dies in the middle leaves the state before or after.

use std::io;

use crate::core::rates::Shared;

pub trait SharedRates: Send + Sync {
    /// Runs `act` alone on the key's state and keeps what it leaves. Blocks for milliseconds, so never on
    /// a runtime's thread. An error means `act` was not kept, and perhaps not run.
    fn exchange(&self, key: &str, act: &mut dyn FnMut(&mut Shared)) -> io::Result<()>;
}
