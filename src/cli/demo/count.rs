//! What the demo counts. Invariant: calls and money are folds of the journal, requests are the
//! provider's own lines; neither side is asked about the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::adapters::sizes::O200k;
use crate::cli::failure::Failure;
use crate::cli::open::{Journal, StoreTexts};
use crate::cli::{Context, crew as crews};
use crate::core::chain;
use crate::core::event::{CallEvent, Event, LostCause, RunEvent, TaskEvent};
use crate::core::ledger::Ledger;
use crate::core::money::grouped;
use crate::core::run::{Entry, Replay};

/// The provider's list: a line `CALL` before each answer, a line `done CALL` after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// In order, with every repetition.
    pub begun: Vec<String>,
    done: BTreeSet<String>,
}

impl Requests {
    pub fn parse(text: &str) -> Requests {
        let mut requests = Requests::default();
        // A line that is just being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            match line.strip_prefix("done ") {
                Some(call) => drop(requests.done.insert(call.to_owned())),
                None => requests.begun.push(line.to_owned()),
            }
        }
        requests
    }
    pub fn is_done(&self, call: &str) -> bool {
        self.done.contains(call)
    }
}

/// Calls that the journal has an answer to.
pub fn answered(entries: &[Entry]) -> BTreeSet<String> {
    let call = |entry: &Entry| match &entry.event {
        Event::Call(CallEvent::Answered(answered)) => Some(answered.call.to_string()),
        Event::Call(CallEvent::Held(_) | CallEvent::Queued { .. } | CallEvent::Exhausted { .. }) => None,
        Event::Call(CallEvent::Failed { .. } | CallEvent::Lost { .. } | CallEvent::Settled { .. }) => None,
        Event::Run(_) | Event::Task(_) | Event::Tool(_) | Event::Interrupt(_) | Event::Ledger(_) => None,
    };
    entries.iter().filter_map(call).collect()
}

/// Steps in which an agent panicked and was taken up again.
fn crashed(entries: &[Entry]) -> Vec<String> {
    let step = |entry: &Entry| match &entry.event {
        Event::Task(TaskEvent::Crashed { step, .. }) => Some(step.to_string()),
        Event::Task(_) | Event::Run(_) | Event::Call(_) | Event::Tool(_) => None,
        Event::Interrupt(_) | Event::Ledger(_) => None,
    };
    entries.iter().filter_map(step).collect()
}

/// All figures of one run.
pub struct Count {
    /// Distinct calls with an answer in the journal.
    pub calls: usize,
    /// Requests that the provider saw.
    pub requests: usize,
    /// Requests for a call that the journal had the answer to.
    pub repeated: usize,
    /// Requests beyond one per answered call.
    pub paid_twice: usize,
    /// Tokens: the first cap, and the most that was settled, held or in doubt under it.
    pub first: (u64, u64),
    /// The same after the raise.
    pub raised: (u64, u64),
    /// The cap was passed after this entry.
    over: Option<u64>,
    pub restarts: usize,
    /// The steps in which an agent panicked.
    pub panics: Vec<String>,
    /// Calls that a dead process left open.
    pub lost: usize,
    /// Requests without a hold in the journal.
    unheld: usize,
    chain: Result<(), String>,
    replay: Result<(), String>,
}

impl Count {
    pub fn of(context: &Context, root: &Path, journal: &Journal, requests: &Requests) -> Result<Count, Failure> {
        let entries = &journal.entries;
        let answered = answered(entries);
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        requests.begun.iter().for_each(|call| *times.entry(call).or_default() += 1);
        let held: BTreeSet<String> = journal.tally.calls.keys().map(|call| call.to_string()).collect();
        let again = |call: &String| times.get(call.as_str()).map_or(0, |times| times.saturating_sub(1));
        let died = |entry: &&Entry| matches!(&entry.event, Event::Call(CallEvent::Lost { cause: LostCause::Died, .. }));
        let mut count = Count {
            calls: answered.len(),
            requests: requests.begun.len(),
            repeated: answered.iter().map(again).sum(),
            paid_twice: requests.begun.len().saturating_sub(answered.len()),
            first: (0, 0),
            raised: (0, 0),
            over: None,
            restarts: 0,
            panics: crashed(entries),
            lost: entries.iter().filter(died).count(),
            unheld: requests.begun.iter().filter(|call| !held.contains(*call)).count(),
            chain: verify(journal),
            replay: replay(context, root, journal)?,
        };
        count.restarts = count.panics.len();
        count.money(entries);
        Ok(count)
    }

    /// The highest sums over all prefixes of the journal.
    fn money(&mut self, entries: &[Entry]) {
        let mut ledger = Ledger::default();
        for entry in entries {
            if ledger.apply(&entry.event).is_err() {
                self.over.get_or_insert(entry.seq.0);
            }
            let (Some(cap), used) = (ledger.caps.tokens, ledger.total().used().tokens.0) else { continue };
            if self.first.0 == 0 {
                self.first.0 = cap.0;
            }
            let most = if cap.0 == self.first.0 { &mut self.first } else { &mut self.raised };
            *most = (cap.0, most.1.max(used));
            if used > cap.0 {
                self.over.get_or_insert(entry.seq.0);
            }
        }
    }

    /// The last line of the demo.
    pub fn line(&self) -> String {
        let word = |good: bool, yes: &'static str, no: &'static str| if good { yes } else { no };
        format!(
            "calls {} · recorded calls repeated {} · paid twice {} · cap {} tok, most settled+held {} · restarts {} · {} · {}",
            self.calls,
            self.repeated,
            self.paid_twice,
            grouped(self.first.0),
            grouped(self.first.1),
            self.restarts,
            word(self.chain.is_ok(), "journal verified", "journal BROKEN"),
            word(self.replay.is_ok(), "replay identical", "replay DIVERGED"),
        )
    }

    /// What is not as promised. `calls`: of the same crew undisturbed. `panicked`: the step whose agent was
    /// told to.
    pub fn wrong(&self, calls: usize, panicked: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |good: bool, why: String| {
            if !good {
                wrong.push(why);
            }
        };
        check(self.calls == calls, format!("{} calls, {calls} when undisturbed", self.calls));
        check(self.repeated == 0, format!("{} recorded calls were asked again", self.repeated));
        check(self.paid_twice <= self.lost, format!("{} paid twice in {} calls lost", self.paid_twice, self.lost));
        check(self.unheld == 0, format!("{} requests without a hold", self.unheld));
        check(self.over.is_none(), format!("over the cap after entry {}", self.over.unwrap_or_default()));
        check(self.panics == [panicked], format!("panics in {:?}, expected {panicked}", self.panics));
        check(self.chain.is_ok(), self.chain.clone().err().unwrap_or_default());
        check(self.replay.is_ok(), self.replay.clone().err().unwrap_or_default());
        wrong
    }
}

/// The chain from the first entry, and that the last one is not cut off.
fn verify(journal: &Journal) -> Result<(), String> {
    chain::verify(&journal.row.run, &journal.rows).map_err(|broken| broken.to_string())?;
    let last = journal.rows.last().map(|row| row.seq);
    let ended = matches!(journal.entries.last().map(|e| &e.event), Some(Event::Run(RunEvent::Finished { .. })));
    match last == Some(journal.row.last) && ended {
        true => Ok(()),
        false => Err(format!("the journal ends before its last entry {}", journal.row.last)),
    }
}

/// Every decision derived again from the prefix before it.
fn replay(context: &Context, root: &Path, journal: &Journal) -> Result<Result<(), String>, Failure> {
    let project = super::inside(context, root)?;
    let store = project.store()?;
    let (crew, _) = crews::pinned(&project, &*store, journal.started()?)?;
    let (texts, sizes) = (StoreTexts::new(store), O200k::new());
    let mut replay = Replay::new(journal.row.run.clone(), crew, &texts, &sizes);
    for (entry, row) in journal.entries.iter().zip(&journal.rows) {
        if let Err(divergence) = replay.step(entry, &row.payload) {
            return Ok(Err(divergence.to_string()));
        }
    }
    Ok(replay.finish().map(drop).map_err(|divergence| divergence.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_requests_is_read_line_by_line() {
        let requests = Requests::parse("a.1\ndone a.1\na.2\na.2\ndone a");
        assert_eq!(requests.begun, ["a.1", "a.2", "a.2"]);
        assert!(requests.is_done("a.1") && !requests.is_done("a.2") && !requests.is_done("a"));
        assert_eq!(Requests::parse("a.1"), Requests::default());
    }
}
