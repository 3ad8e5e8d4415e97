//! Ports made real.

pub mod crewfile;
