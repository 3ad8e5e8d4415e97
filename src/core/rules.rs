//! Constants that decisions depend on, by a number that a run pins. Invariant: a table that a release has
//! used is never changed; another choice is another number, so that an old run is replayed by its own.

/// The rules of runs that are started now.
pub const RULES: u32 = 2;

/// Tokens that a provider may add to what is counted of a request: upper bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub per_message: u64,
    pub per_request: u64,
    /// Also of a schema.
    pub per_tool: u64,
    /// What tools bring in from outside is not trusted.
    pub taint: bool,
}

/// Rules 1, of runs of before there was taint.
pub const ONE: Table = Table { per_message: 8, per_request: 32, per_tool: 32, taint: false };
/// Rules 2.
pub const TWO: Table = Table { taint: true, ..ONE };

/// The table of a run's rules; `None` of a number that this program does not know: a newer one's.
pub fn table(rules: u32) -> Option<&'static Table> {
    match rules {
        1 => Some(&ONE),
        2 => Some(&TWO),
        _ => None,
    }
}

/// What runs have that were started before the number was written down.
pub fn first() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_that_runs_were_made_with_stay_as_they_are() {
        assert_eq!(table(1), Some(&Table { per_message: 8, per_request: 32, per_tool: 32, taint: false }));
        assert_eq!(table(2), Some(&Table { per_message: 8, per_request: 32, per_tool: 32, taint: true }));
        assert_eq!(table(RULES + 1), None);
        assert!(table(RULES).is_some() && table(first()).is_some());
    }
}
