//! Ports made real.

pub mod files;
pub mod tools;
