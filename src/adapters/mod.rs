//! Ports made real. Invariant: an adapter moves data between a port and the world; it decides nothing
//! about tasks, money or retries.

pub mod clock;
pub mod crewfile;
pub mod cron;
pub mod files;
pub mod folder;
pub mod lockfile;
pub mod mcp;
pub mod models;
pub mod notify;
pub mod prices;
pub mod rates;
pub mod redaction;
pub mod settings;
pub mod sizes;
pub mod store;
pub mod textfile;
pub mod tools;
pub mod web;
