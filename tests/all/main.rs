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
mod pins;
mod places;
mod plan;
mod provider;
mod said;
mod shown;
mod simulate;
mod stand_in;
mod store;
mod support;
mod whole_crew;
