//! The campaigns of the safety table. Invariant: what a hostile model, page, file or service says changes
//! nothing that its crew did not allow; each test also shows that the attack arrived.
//!
//! Traversal (60 paths, the symlink race) stands beside the file tools, addresses that lead inside (80 and a
//! rebinding resolver) beside the client.

mod agency;
mod output;
mod secrets;
mod taint;

use super::stand_in;
use super::support;
