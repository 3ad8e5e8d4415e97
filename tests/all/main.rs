//! The integration tests, one binary: a link per file would cost more than the tests.

mod crewfile;
