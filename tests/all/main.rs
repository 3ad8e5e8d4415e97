//! All integration tests, in one binary: it links once.

mod budget;
mod crash;
mod crashpoints;
mod crewfile;
mod provider;
mod stand_in;
mod store;
mod support;
