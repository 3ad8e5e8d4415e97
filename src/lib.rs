//! Bosun runs crews of LLM role agents.
#![deny(unsafe_code)]

pub mod actors;
pub mod adapters;
pub mod cli;
pub mod core;
pub mod ports;
