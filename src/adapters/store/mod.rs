//! Where journals live. Invariant: every adapter here passes `conformance` in `tests/all/store.rs`.

mod lock;
pub mod memory;
pub mod sqlite;

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
