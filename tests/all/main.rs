//! All integration tests, in one binary: it links once.

mod budget;
mod crash;
mod crashpoints;
mod crewfile;
mod house;
mod notify;
mod plan;
mod provider;
mod simulate;
mod stand_in;
mod store;
mod support;
