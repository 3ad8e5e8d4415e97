//! Servers that others wrote, as their registries have them. Invariant: every tool that needs no network is listed
//! and called.
