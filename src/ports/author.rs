//! The one way from events to a journal's rows. Invariant: the rows of an author follow the entry that it
//! was told the journal ends with, without a gap and linked to it, and a batch says of its run what its
//! own rows imply, no more and no less.

use super::store::{Batch, Epoch, Row, RunState};
use crate::core::chain::{Hash, genesis, link};
use crate::core::chat::Blob;
use crate::core::event::{CallEvent, Event, ParkCause, RunEnd, RunEvent};
use crate::core::ids::{RunId, Seq};
use crate::core::money::Amount;
use crate::core::run::Entry;

/// Writes one run's events as rows. What was written since the last [`Author::take`] waits in it.
#[derive(Debug)]
pub struct Author {
    run: RunId,
    last: Seq,
    hash: Hash,
    /// The entry before the first row that waits.
    after: Seq,
    rows: Vec<Row>,
    blobs: Vec<Blob>,
    spent: Amount,
    state: Option<RunState>,
}

impl Author {
    /// Of a run that has no entry yet.
    pub fn of_new(run: &RunId) -> Author {
        Author::after(run, Seq(0), genesis(run))
    }

    /// Goes on behind the entry `last`, whose hash is `hash`.
    pub fn after(run: &RunId, last: Seq, hash: Hash) -> Author {
        let (rows, blobs, spent) = (Vec::new(), Vec::new(), Amount::default());
        Author { run: run.clone(), last, hash, after: last, rows, blobs, spent, state: None }
    }

    /// Goes on behind a journal that was read.
    pub fn behind(run: &RunId, rows: &[Row]) -> Author {
        rows.last().map_or_else(|| Author::of_new(run), |last| Author::after(run, last.seq, last.hash))
    }

    /// The last entry written, waiting or taken, and its hash.
    pub fn end(&self) -> (Seq, Hash) {
        (self.last, self.hash)
    }

    /// Rows that wait.
    pub fn waiting(&self) -> usize {
        self.rows.len()
    }

    /// Writes one event; `at_ms` is the wall clock's time.
    pub fn write(&mut self, event: Event, at_ms: u64) -> Entry {
        let (seq, kind, payload) = (self.last.next(), event.kind(), event.encode());
        self.hash = link(&self.hash, seq, at_ms, kind, &payload);
        self.last = seq;
        self.rows.push(Row { seq, at_ms, kind: kind.to_owned(), payload: payload.into(), hash: self.hash });
        self.spent = self.spent.plus(settled(&event));
        self.state = run_state(&event).or(self.state);
        Entry { seq, at_ms, event }
    }

    /// Texts that the waiting events refer to.
    pub fn keep(&mut self, blobs: impl IntoIterator<Item = Blob>) {
        self.blobs.extend(blobs);
    }

    /// What waits, as one append. Without a row it has nothing to say, and texts wait on.
    pub fn take(&mut self, epoch: Epoch) -> Batch {
        let after = std::mem::replace(&mut self.after, self.last);
        let (rows, spent) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.spent));
        let blobs = if rows.is_empty() { Vec::new() } else { std::mem::take(&mut self.blobs) };
        Batch { run: self.run.clone(), epoch, after, rows, blobs, spent, state: self.state.take() }
    }
}

/// What the record of a run says of its journal: the totals, and the state after the last entry.
pub fn implied<'a>(events: impl IntoIterator<Item = &'a Event>) -> (Amount, Option<RunState>) {
    events.into_iter().fold((Amount::default(), None), |(spent, state), event| {
        (spent.plus(settled(event)), run_state(event).or(state))
    })
}

/// What an event adds to the run's totals: settled only.
fn settled(event: &Event) -> Amount {
    match event {
        Event::Call(CallEvent::Answered(answered)) => answered.cost,
        Event::Call(CallEvent::Settled { cost, .. }) => *cost,
        Event::Call(_) | Event::Run(_) | Event::Task(_) | Event::Tool(_) => Amount::default(),
        Event::Interrupt(_) | Event::Ledger(_) => Amount::default(),
    }
}

/// The state of the run after an event that changes it.
fn run_state(event: &Event) -> Option<RunState> {
    let Event::Run(event) = event else { return None };
    match event {
        RunEvent::Started(_) | RunEvent::Resumed { .. } => Some(RunState::Running),
        RunEvent::PauseAsked { .. } | RunEvent::CancelAsked { .. } => None,
        RunEvent::Parked { causes } => Some(parked_state(causes)),
        RunEvent::Finished { status, .. } => Some(match status {
            RunEnd::Completed => RunState::Completed,
            RunEnd::Failed => RunState::Failed,
            RunEnd::Cancelled => RunState::Cancelled,
        }),
    }
}

/// Of several causes, the one a person must do most about.
fn parked_state(causes: &[ParkCause]) -> RunState {
    let state = |cause: &ParkCause| match cause {
        ParkCause::Budget { .. } => RunState::WaitingBudget,
        ParkCause::Rate(_) => RunState::WaitingRate,
        ParkCause::Review { .. } => RunState::NeedsReview,
        ParkCause::Approval { .. } | ParkCause::Question { .. } => RunState::WaitingPerson,
        ParkCause::Credentials { .. } | ParkCause::Quota { .. } | ParkCause::Deadline => RunState::Paused,
        ParkCause::Interrupted | ParkCause::Terminated | ParkCause::Asked => RunState::Paused,
    };
    let states: Vec<RunState> = causes.iter().map(state).collect();
    let after = [RunState::WaitingBudget, RunState::WaitingRate, RunState::WaitingPerson, RunState::NeedsReview];
    let order = std::iter::once(RunState::Paused).chain(after);
    order.into_iter().find(|state| states.contains(state)).unwrap_or(RunState::Paused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chain::verify;
    use crate::core::ids::CallId;
    use crate::core::money::NanoUsd;

    fn resumed() -> Event {
        Event::Run(RunEvent::Resumed { by: "me".into() })
    }
    fn settlement() -> Event {
        let call: CallId = CallId::parse("t.1").unwrap();
        let cost = Amount { usd: NanoUsd(7), ..Amount::default() };
        Event::Call(CallEvent::Settled { call, cost, by: "me".into() })
    }

    #[test]
    fn batches_follow_each_other_and_say_what_their_own_rows_imply() {
        let run = RunId::from_random(1);
        let mut author = Author::of_new(&run);
        assert_eq!((author.write(resumed(), 5).seq, author.waiting()), (Seq(1), 1));
        let first = author.take(Epoch(1));
        assert_eq!((first.after, first.rows.len(), first.state), (Seq(0), 1, Some(RunState::Running)));
        author.keep([Blob::new("kept")]);
        let none = author.take(Epoch(1));
        assert!((none.rows.is_empty(), none.blobs.is_empty(), none.state.is_none()) == (true, true, true));
        author.write(settlement(), 6);
        author.write(settlement(), 7);
        let second = author.take(Epoch(1));
        assert_eq!((second.after, second.spent.usd, second.state), (Seq(1), NanoUsd(14), None));
        assert_eq!(second.blobs.len(), 1);
        let rows: Vec<Row> = first.rows.into_iter().chain(second.rows).collect();
        assert_eq!(verify(&run, &rows), Ok(author.end().1));
        // Whoever reads the journal goes on where it ends.
        assert_eq!(Author::behind(&run, &rows).end(), author.end());
        assert_eq!(Author::behind(&run, &[]).end(), (Seq(0), genesis(&run)));
    }
}
