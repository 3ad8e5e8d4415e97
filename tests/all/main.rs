//! One binary: it builds faster than many.

mod provider;
mod stand_in;
