//! All integration tests, in one binary: it links once.

mod crewfile;
mod crews;
mod demo;
mod provider;
mod stand_in;
mod store;
