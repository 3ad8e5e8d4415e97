//! Constants that decisions depend on, by a number that a run pins. Invariant: a table that a release has
//! used is never changed; another choice is another number, so that an old run is replayed by its own.

/// The rules of runs that are started now.
pub const RULES: u32 = 3;

/// Tokens that a provider may add to what is counted of a request: upper bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub per_message: u64,
    pub per_request: u64,
    /// Also of a schema.
    pub per_tool: u64,
    /// What tools bring in from outside is not trusted.
    pub taint: bool,
    /// Of an answer that is not the JSON it must be, it is said how it begins and where it breaks off.
    pub quotes: bool,
    /// Any share of a cap of nothing is reached by the first call that costs nothing.
    pub shares_of_nothing: bool,
}

/// Rules 1, of runs of before there was taint.
pub const ONE: Table =
    Table { per_message: 8, per_request: 32, per_tool: 32, taint: false, quotes: false, shares_of_nothing: true };
/// Rules 2, of runs of before a failure quoted what it found.
pub const TWO: Table = Table { taint: true, ..ONE };
/// Rules 3.
pub const THREE: Table = Table { quotes: true, shares_of_nothing: false, ..TWO };

/// The table of a run's rules; `None` of a number that this program does not know: a newer one's.
pub fn table(rules: u32) -> Option<&'static Table> {
    match rules {
        1 => Some(&ONE),
        2 => Some(&TWO),
        3 => Some(&THREE),
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
        let one = Table {
            per_message: 8,
            per_request: 32,
            per_tool: 32,
            taint: false,
            quotes: false,
            shares_of_nothing: true,
        };
        assert_eq!(table(1), Some(&one));
        assert_eq!(table(2), Some(&Table { taint: true, ..one }));
        assert_eq!(table(3), Some(&Table { taint: true, quotes: true, shares_of_nothing: false, ..one }));
        assert_eq!(table(RULES + 1), None);
        assert!(table(RULES).is_some() && table(first()).is_some());
    }
}
