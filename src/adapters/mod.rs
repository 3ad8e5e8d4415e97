//! Ports made real.

pub mod models;
pub mod prices;
pub mod settings;
