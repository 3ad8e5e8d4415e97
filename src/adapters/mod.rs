//! Ports made real.
