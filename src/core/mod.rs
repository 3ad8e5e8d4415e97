//! Decisions, pure. What a crew is, what a run is, what happens next.

pub mod agent;
pub mod builtin;
pub mod chain;
pub mod chat;
pub mod crew;
pub mod definition;
pub mod estimate;
pub mod event;
pub mod failure;
pub mod forecast;
pub mod ids;
pub mod interrupt;
pub mod json_text;
pub mod ledger;
pub mod machine;
pub mod malformed;
pub mod money;
pub mod nearest;
pub mod place;
pub mod plan;
pub mod rates;
pub mod rules;
pub mod run;
pub mod schema;
pub mod template;
pub mod trigger;
