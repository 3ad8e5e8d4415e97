//! Bosun runs crews of LLM role agents.
#![deny(unsafe_code)]

pub mod actors;
pub mod adapters;
pub mod core;
pub mod ports;
