//! The protocol's own conformance suite against our client. Invariant: a scenario that fails stands in [`FAILS`]
//! with its reason, and nothing stands there that passes.
