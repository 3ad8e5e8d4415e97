//! Files that a run writes. Invariant: a file is whole or absent, never half.

use super::BoxFuture;

pub trait Files: Send + Sync {
    /// Writes `text` to `path` (relative to the project root) so that a crash leaves the old file or
    /// the new one: temporary file, fsync, rename, fsync of the folder. Missing folders are made.
    /// Errors say what to do; the path cannot leave the root.
    fn write<'a>(&'a self, path: &'a str, text: &'a str) -> BoxFuture<'a, Result<(), String>>;
}
