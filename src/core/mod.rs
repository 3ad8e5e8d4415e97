//! Decisions, pure. What a crew is, what a run is, what happens next.

pub mod chain;
pub mod chat;
pub mod crew;
pub mod ids;
pub mod money;
pub mod nearest;
pub mod schema;
pub mod template;
