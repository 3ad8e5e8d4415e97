//! Ports made real.

pub mod store;
