//! Presets of a provider's limits by name. Invariant: each has its row in `models/tiers.toml`.

/// The names in `models/tiers.toml`.
pub const TIERS: &[&str] = &[
    "anthropic/1",
    "anthropic/2",
    "anthropic/3",
    "anthropic/4",
    "openai/1",
    "openai/2",
    "openai/3",
    "openai/4",
    "openai/5",
];
