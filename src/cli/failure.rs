//! How a command ends. Invariant: every end of the program is one row of [`TABLE`]; a failure says what
//! was expected, what was found, where, and what to type next.

use crate::ports::store::StoreError;

/// An exit code by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exit {
    Done,
    Internal,
    Usage,
    Crew,
    Credentials,
    Elsewhere,
    State,
    Task,
    Budget,
    Person,
    Rejected,
    Deadline,
    Rate,
    Review,
    Cancelled,
    Test,
    Diverged,
    Audit,
    Interrupted,
    Terminated,
}

/// One row of the runbook.
pub struct Row {
    pub exit: Exit,
    pub code: u8,
    pub name: &'static str,
    pub means: &'static str,
    /// The run goes on from where it stopped with `bosun resume`.
    pub resumable: bool,
    pub next: &'static str,
}

const fn row(
    exit: Exit,
    code: u8,
    name: &'static str,
    resumable: bool,
    means: &'static str,
    next: &'static str,
) -> Row {
    Row { exit, code, name, means, resumable, next }
}

/// All of them, in order of the code.
pub const TABLE: [Row; 20] = [
    row(Exit::Done, 0, "done", false, "the command did what it was asked; of a run: every task is done", ""),
    row(
        Exit::Internal,
        1,
        "internal error",
        false,
        "a bug of Bosun, or output that could not be written; the journal is as it was",
        "bosun -vv --log-file bosun.log COMMAND, then report the log; a run is taken up with: bosun resume RUN",
    ),
    row(
        Exit::Usage,
        2,
        "usage",
        false,
        "the command line cannot be understood, or names what does not exist",
        "bosun help COMMAND",
    ),
    row(
        Exit::Crew,
        3,
        "crew invalid",
        false,
        "a crew file is wrong, or its smallest course does not fit the budget; nothing was sent",
        "bosun check CREW, bosun plan CREW",
    ),
    row(
        Exit::Credentials,
        4,
        "credentials",
        true,
        "a provider's key is missing or was refused",
        "set the variable that the message names, then: bosun resume RUN",
    ),
    row(
        Exit::Elsewhere,
        5,
        "running elsewhere",
        false,
        "another live process runs this run; it is left alone",
        "bosun show RUN, or wait for the process that the message names",
    ),
    row(
        Exit::State,
        6,
        "state folder unusable",
        false,
        "the state folder cannot be read or written, or a newer Bosun made it; no call is sent",
        "mend what the message names, then: bosun resume RUN",
    ),
    row(
        Exit::Task,
        10,
        "a task failed",
        false,
        "the run is over and a task has failed; the others' results stand",
        "bosun show RUN",
    ),
    row(
        Exit::Budget,
        11,
        "paused by budget",
        true,
        "the next call's worst case does not fit what is left; or the provider refuses every call: no money there, \
         or no such model or address",
        "bosun resume RUN --raise-budget USD, or mend what the message names, then: bosun resume RUN",
    ),
    row(
        Exit::Person,
        12,
        "waiting for a person",
        true,
        "an approval or an answer is waited for",
        "bosun approvals, then: bosun approve|reject|answer ID, then: bosun resume RUN",
    ),
    row(Exit::Rejected, 13, "rejected", false, "a person has rejected what was asked", "bosun show RUN"),
    row(Exit::Deadline, 14, "deadline", true, "the crew's running time is over", "bosun resume RUN"),
    row(
        Exit::Rate,
        15,
        "rate wait too long",
        true,
        "a rate limit would take longer than `max_wait`",
        "later: bosun resume RUN",
    ),
    row(
        Exit::Review,
        16,
        "needs review",
        true,
        "a step has used up its attempts; what does not depend on it is done",
        "bosun show RUN, then: bosun resume RUN --retry STEP, or --accept STEP --attempt N",
    ),
    row(Exit::Cancelled, 17, "cancelled", false, "the run was cancelled", "bosun show RUN"),
    row(Exit::Test, 20, "test failed", false, "a test failed, or none ran", ""),
    row(
        Exit::Diverged,
        21,
        "replay diverged",
        false,
        "an entry of the journal is not what this Bosun would decide",
        "bosun audit verify RUN; with a sound chain, report the entry",
    ),
    row(
        Exit::Audit,
        22,
        "audit broken",
        false,
        "the journal is not what was written",
        "restore the state folder from a backup; trust no figure of this run",
    ),
    row(
        Exit::Interrupted,
        130,
        "paused by Ctrl-C",
        true,
        "Ctrl-C; what was in flight has ended or is held at its worst case",
        "bosun resume RUN",
    ),
    row(Exit::Terminated, 143, "paused by SIGTERM", true, "SIGTERM or SIGHUP; as Ctrl-C", "bosun resume RUN"),
];

/// Of several causes the first of these is the exit code; all are printed.
const PRECEDENCE: [Exit; 8] =
    [Exit::State, Exit::Credentials, Exit::Deadline, Exit::Budget, Exit::Rate, Exit::Person, Exit::Review, Exit::Task];

impl Exit {
    pub fn row(self) -> &'static Row {
        // A test checks that every variant has its row.
        TABLE.iter().find(|row| row.exit == self).unwrap_or(&TABLE[1])
    }
    pub fn code(self) -> u8 {
        self.row().code
    }
    /// The exit of several causes at once: first of 6 4 14 11 15 12 16 10; else the first given.
    pub fn first(causes: &[Exit]) -> Option<Exit> {
        PRECEDENCE.iter().find(|exit| causes.contains(exit)).or(causes.first()).copied()
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    /// What to do, one line each.
    pub hints: Vec<String>,
}

/// What a command comes to.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hints: Vec::new() }
    }
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }
    /// `bosun: …`, then the hints, each on its line.
    pub fn text(&self) -> String {
        let hints = self.hints.iter().map(|hint| format!("  {hint}\n"));
        format!("bosun: {}\n{}", self.message.trim_end(), hints.collect::<String>())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text().trim_end())
    }
}
impl std::error::Error for Failure {}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let exit = match &error {
            StoreError::Unusable { .. } | StoreError::Newer { .. } | StoreError::WriteFailed { .. } => Exit::State,
            StoreError::NoRun { .. } | StoreError::KeyTaken { .. } => Exit::Usage,
            StoreError::Owned { .. } => Exit::Elsewhere,
            StoreError::Fenced { .. } | StoreError::Moved { .. } => Exit::Internal,
            StoreError::Damaged { .. } => Exit::Audit,
        };
        let failure = Failure::new(exit, error.to_string());
        match &error {
            StoreError::Owned { run, .. } => failure.hint(format!(
                "it is left alone; look at it with: bosun show {0}, or stop it with: bosun pause {0}",
                run
            )),
            StoreError::Unusable { .. }
            | StoreError::Newer { .. }
            | StoreError::NoRun { .. }
            | StoreError::Fenced { .. }
            | StoreError::Moved { .. }
            | StoreError::KeyTaken { .. }
            | StoreError::Damaged { .. }
            | StoreError::WriteFailed { .. } => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_whole() {
        assert!(TABLE.is_sorted_by(|a, b| a.code < b.code && a.exit < b.exit));
        // The last variant's place in the enum is the number of the others.
        assert_eq!(Exit::Terminated as usize + 1, TABLE.len());
        let resumable: Vec<u8> = TABLE.iter().filter(|row| row.resumable).map(|row| row.code).collect();
        assert_eq!(resumable, [4, 11, 12, 14, 15, 16, 130, 143]);
    }

    #[test]
    fn of_several_causes_the_first_in_the_order_of_precedence_counts() {
        let order: Vec<u8> = PRECEDENCE.iter().map(|exit| exit.code()).collect();
        assert_eq!(order, [6, 4, 14, 11, 15, 12, 16, 10]);
        assert_eq!(Exit::first(&[Exit::Task, Exit::Review, Exit::Budget]), Some(Exit::Budget));
        assert_eq!(Exit::first(&[Exit::Interrupted, Exit::Task]), Some(Exit::Task));
        assert_eq!(Exit::first(&[Exit::Interrupted]), Some(Exit::Interrupted));
        assert_eq!(Exit::first(&[]), None);
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let failure = Failure::usage("no run begins with `7Q3M`").hint("bosun runs");
        assert_eq!(failure.text(), "bosun: no run begins with `7Q3M`\n  bosun runs\n");
    }
}
