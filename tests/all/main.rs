//! All integration tests, in one binary: it links once.

mod budget;
mod chaos;
mod cli;
mod crash;
mod crashpoints;
mod crewfile;
mod crews;
mod demo;
mod embed;
mod failures;
mod faults;
mod house;
mod notify;
mod plan;
mod provider;
mod sdk;
mod simulate;
mod speech;
mod stand_in;
mod store;
mod streams;
mod support;
mod vendors;
mod wires;
