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
    /// A task that ended without a result is none to templates and conditions, and its `status` is how it ended.
    pub ends_have_status: bool,
    /// A template that asks only for the `status` of a result has not placed the result.
    pub status_places_nothing: bool,
    /// A sub-crew whose `output` could not run for want of another task's result ends as that task did.
    pub crew_ends_as_cause: bool,
    /// A delegated task that a cap below the run's stops ends over budget; it does not wait for a raise,
    /// which no such cap can be given.
    pub delegated_ends: bool,
    /// A sub-crew at rest stays so when the run parks because of it.
    pub parks_once: bool,
    /// A sub-crew that work is delegated to is given what [crews.N] fixes of its inputs.
    pub fixed_inputs_given: bool,
}

/// Rules 1, of runs of before there was taint.
pub const ONE: Table = Table {
    per_message: 8,
    per_request: 32,
    per_tool: 32,
    taint: false,
    quotes: false,
    shares_of_nothing: true,
    ends_have_status: false,
    status_places_nothing: false,
    crew_ends_as_cause: false,
    delegated_ends: false,
    parks_once: false,
    fixed_inputs_given: false,
};
/// Rules 2, of runs of before a failure quoted what it found.
pub const TWO: Table = Table { taint: true, ..ONE };
/// Rules 3.
pub const THREE: Table = Table {
    quotes: true,
    shares_of_nothing: false,
    ends_have_status: true,
    status_places_nothing: true,
    crew_ends_as_cause: true,
    delegated_ends: true,
    parks_once: true,
    fixed_inputs_given: true,
    ..TWO
};

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
            ends_have_status: false,
            status_places_nothing: false,
            crew_ends_as_cause: false,
            delegated_ends: false,
            parks_once: false,
            fixed_inputs_given: false,
        };
        let two = Table { taint: true, ..one };
        let three = Table {
            quotes: true,
            shares_of_nothing: false,
            ends_have_status: true,
            status_places_nothing: true,
            crew_ends_as_cause: true,
            delegated_ends: true,
            parks_once: true,
            fixed_inputs_given: true,
            ..two
        };
        assert_eq!((table(1), table(2), table(3)), (Some(&one), Some(&two), Some(&three)));
        assert_eq!(table(RULES + 1), None);
        assert!(table(RULES).is_some() && table(first()).is_some());
    }
}
