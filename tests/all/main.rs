//! All integration tests, in one binary: it links once.

mod cli;
mod crewfile;
mod provider;
mod stand_in;
mod store;
