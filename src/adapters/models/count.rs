//! A count on the wire. Invariant: missing, null and nonsense stay distinguishable from a number.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::core::money::Count;

/// A field whose null is not its absence.
#[derive(Clone, Copy, Default)]
pub enum Field<'a> {
    #[default]
    Absent,
    Present(&'a str),
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&'de RawValue>::deserialize(from).map(|raw| Field::Present(raw.get()))
    }
}

impl Field<'_> {
    /// Digits only: `"10"`, `-3`, `1e30`, `1.0` and null are not counts.
    pub fn count(self) -> Count {
        match self {
            Field::Absent => Count::Absent,
            Field::Present(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().map_or(Count::Unparsable, Count::Reported)
            }
            Field::Present(_) => Count::Unparsable,
        }
    }
}
