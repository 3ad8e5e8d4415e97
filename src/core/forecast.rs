//! What a run will have cost if the rest of its tasks costs what those that are done did. Invariant: a
//! report, never a fact: no machine reads it; integers only, rounded up; it says what it was made from.

use std::collections::{BTreeMap, BTreeSet};

use super::crew::{Crew, Over, Who};
use super::ids::{Segment, Step};
use super::money::{Amount, NanoUsd, Tokens};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Pieces of work that are done: tasks, items, tasks of sub-crews; rounds and children are part of theirs.
    pub finished: u64,
    /// All there are, as far as it is known: a list that is not there yet counts with half its `max_items`.
    pub all: u64,
    pub settled: Amount,
    /// `settled` x `all` / `finished`.
    pub at_end: Amount,
}

/// The forecast of a run; `None` before the first piece is done and after the last.
/// `ended` are the steps that ended, `lists` the sizes of the lists that are there, by the address of their task.
pub fn forecast<'a>(
    crew: &Crew,
    ended: impl IntoIterator<Item = &'a Step>,
    lists: &BTreeMap<Step, u64>,
    settled: Amount,
) -> Option<Forecast> {
    let done: BTreeSet<Step> =
        ended.into_iter().filter(|step| is_piece(crew, step)).map(|step| step.with_round(None)).collect();
    let (finished, all) = (done.len() as u64, pieces(crew, &Step::root(), lists));
    if finished == 0 || finished >= all {
        return None;
    }
    let grown =
        |n: u64| u64::try_from((u128::from(n) * u128::from(all)).div_ceil(u128::from(finished))).unwrap_or(u64::MAX);
    let at_end = Amount {
        tokens: Tokens(grown(settled.tokens.0)),
        usd: NanoUsd(grown(settled.usd.0)),
        calls: grown(settled.calls),
    };
    Some(Forecast { finished, all, settled, at_end })
}

/// Is it a task of a file with an agent, or one item of such a task?
fn is_piece(crew: &Crew, step: &Step) -> bool {
    let mut crew = crew;
    let segments: Vec<Segment> = step.segments();
    for (level, segment) in segments.iter().enumerate() {
        let Some(task) = crew.task(&segment.name) else { return false };
        let last = level + 1 == segments.len();
        match &task.who {
            Who::Agent(_) => return last && task.repeat.is_some() == segment.key.is_some() && task.rescues.is_none(),
            Who::Tool { .. } => return false,
            Who::Crew(name) => match crew.crews.get(name) {
                Some(sub) => crew = &sub.crew,
                None => return false,
            },
        }
    }
    false
}

fn pieces(crew: &Crew, scope: &Step, lists: &BTreeMap<Step, u64>) -> u64 {
    let each = crew.tasks.iter().filter(|task| task.rescues.is_none()).map(|task| {
        let address = scope.child(&Segment::task(task.name.clone()));
        let times = match task.repeat.as_ref().map(|repeat| (&repeat.over, repeat.max_items)) {
            None => 1,
            Some((Over::Rows(rows), _)) => rows.len() as u64,
            Some((Over::Result { .. }, most)) => {
                lists.get(&address).copied().unwrap_or_else(|| u64::from(most.unwrap_or(2)).div_ceil(2))
            }
        };
        match &task.who {
            Who::Agent(_) => times,
            Who::Tool { .. } => 0,
            // Lists inside a sub-crew count with their half: each of its runs may have another.
            Who::Crew(name) => {
                times.saturating_mul(crew.crews.get(name).map_or(0, |sub| pieces(&sub.crew, &address, lists)))
            }
        }
    });
    each.fold(0, u64::saturating_add)
}
