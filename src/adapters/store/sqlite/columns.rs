//! Values as columns. Invariant: what was written comes back equal, or reading it is an error.

use rusqlite::Row;
use rusqlite::types::Type;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as Unknown;

use crate::core::ids::{BadId, BlobId, RunId};
use crate::ports::store::RunState;

/// SQLite's integers are signed; totals beyond them stand at the end of the scale.
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
pub fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// As serde names it, which reads it back.
pub fn state_text(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::WaitingPerson => "waiting_person",
        RunState::WaitingRate => "waiting_rate",
        RunState::WaitingBudget => "waiting_budget",
        RunState::NeedsReview => "needs_review",
        RunState::Paused => "paused",
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    }
}

fn bad(column: usize, why: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
}

pub fn state_of(row: &Row, column: usize) -> rusqlite::Result<RunState> {
    let text = row.get_ref(column)?.as_str()?;
    let read: Result<_, Unknown> = RunState::deserialize(text.into_deserializer());
    read.map_err(|_| bad(column, format!("`{text}` is not a state of a run")))
}

pub fn run_of(row: &Row, column: usize) -> rusqlite::Result<RunId> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error: BadId| bad(column, error.to_string()))
}

pub fn blob_of(row: &Row, column: usize) -> rusqlite::Result<BlobId> {
    row.get(column).map(BlobId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_as_serde_names_them() {
        let states = [
            RunState::Running,
            RunState::WaitingPerson,
            RunState::WaitingRate,
            RunState::WaitingBudget,
            RunState::NeedsReview,
            RunState::Paused,
            RunState::Completed,
            RunState::Failed,
            RunState::Cancelled,
        ];
        for state in states {
            assert_eq!(serde_json::to_value(state).unwrap(), state_text(state));
        }
    }
}
