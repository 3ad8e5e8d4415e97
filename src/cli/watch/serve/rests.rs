//! Events whose runs rest, and crews that wait. Invariant: what rests is in the store and found again by
//! the next watch; nothing here is lost with the process.

use serde_json::json;

use super::{ELSEWHERE_MS, Watch};
use crate::actors::run::Outcome as RunOutcome;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::{self, now_ms};
use crate::cli::out::Tone;
use crate::cli::screen::{count, rfc3339};
use crate::cli::tally::{RunStand, Tally};
use crate::cli::watch::after::{self, Again, Hold};
use crate::cli::watch::one::{End, News};
use crate::cli::watch::sentry::What;
use crate::core::crew::Crew;
use crate::core::event::RunEnd;
use crate::core::ids::RunId;
use crate::core::trigger::{DEATHS_MAX, Item, deaths};
use crate::ports::store::{RunFilter, RunRow, Store};

/// An event whose run rests.
pub(super) struct Aside {
    pub(super) trigger: usize,
    pub(super) row: RunRow,
    pub(super) again: Again,
}

impl Watch {
    /// Runs of an earlier watch that are not over: gone on with, or left to whom they wait for.
    pub(super) async fn take_stock(&mut self) -> Result<(), Failure> {
        let hands = self.hands.clone();
        for (index, served) in hands.served.iter().enumerate() {
            let filter = RunFilter { crew: Some(served.crew.name.clone()), ..RunFilter::default() };
            let rows = hands.engine.store.runs(&filter)?;
            for row in rows.into_iter().rev().filter(|row| !row.state.is_final()) {
                let Some(trigger) = row.key.as_deref().and_then(|key| served.crew.trigger_of(key)) else { continue };
                let at = served.crew.triggers.iter().position(|one| one.name == trigger.name);
                let Some(post) = at.and_then(|at| hands.posts.iter().position(|post| *post == (index, at))) else {
                    continue;
                };
                self.consider(post, row).await?;
            }
        }
        Ok(())
    }

    /// A run that exists and is not over, and that this process does not have.
    pub(super) async fn consider(&mut self, trigger: usize, row: RunRow) -> Result<(), Failure> {
        let Some(key) = row.key.clone() else { return Ok(()) };
        let (store, of) = (self.hands.engine.store.clone(), row.clone());
        let read = move || match store.owner(&of.run) {
            Some(_) => Ok(None),
            None => open::read_run(&*store, of).map(Some),
        };
        let Some(journal) = blocking(read).await? else {
            let again = Again::At(now_ms().saturating_add(ELSEWHERE_MS));
            self.aside.insert(key, Aside { trigger, row, again });
            return Ok(());
        };
        let again = match &journal.tally.stand {
            RunStand::Parked(causes) => match after::again(causes, &journal.tally, now_ms(), 0) {
                // What has kept it may be over: it is found out by trying, once.
                Again::At(_) => Again::At(now_ms()),
                other @ (Again::Person(_) | Again::Left) => timed(other, &journal.tally),
            },
            RunStand::Running | RunStand::Pausing | RunStand::Cancelling | RunStand::Ended(..) => Again::At(now_ms()),
        };
        let deaths = deaths(journal.entries.iter().map(|entry| &entry.event));
        if deaths >= DEATHS_MAX {
            let text = format!(
                "{}: processes have died {deaths} times on it, it is left alone; to try it again: bosun resume {}",
                key, row.run
            );
            self.face.say("stopped", Tone::Bad, &text, json!({"key": key, "run": row.run, "deaths": deaths}));
            self.note(Exit::Review);
            self.aside.insert(key, Aside { trigger, row, again: Again::Left });
            return Ok(());
        }
        if let Again::At(_) = again {
            let what = What::Run(Box::new(row));
            self.queue.add(Item { trigger, key, deaths, begun: true, what });
        } else {
            let text = format!("{}: waits for a person; bosun show {}", key, row.run);
            self.face.say("rests", Tone::Warn, &text, json!({"key": key, "run": row.run}));
            self.look_again();
            self.aside.insert(key, Aside { trigger, row, again });
        }
        Ok(())
    }

    pub(super) async fn ended(&mut self, item: Item<What>, end: End) {
        let crew = self.crew_of(item.trigger);
        match end {
            End::Left(outcome) => self.left(&item, crew, &outcome).await,
            End::NotStarted(failure) if failure.exit == Exit::Credentials => {
                let hold = after::unstarted(failure.message.trim_end(), now_ms(), self.tries[crew]);
                self.note(failure.exit);
                self.queue.add(item);
                self.hold(crew, hold);
            }
            End::NotStarted(failure) => {
                self.note(failure.exit);
                self.counts.failed += 1;
                self.face.not_started(&self.name_of(&item), &item.key, &failure);
            }
            End::Elsewhere(row) => {
                let again = Again::At(now_ms().saturating_add(ELSEWHERE_MS));
                self.aside.insert(item.key, Aside { trigger: item.trigger, row: *row, again });
            }
            End::Over => {}
        }
    }

    /// A run has left this process: it is over, or it rests.
    async fn left(&mut self, item: &Item<What>, crew: usize, outcome: &RunOutcome) {
        let run = self.face.runs.get(&item.key).map(|face| face.run.clone());
        let (Some(run), Some((tally, exit))) = (run, self.face.ended(&item.key, outcome)) else {
            let lost = Failure::new(Exit::Internal, format!("it was lost before its run began: {outcome:?}"));
            return self.face.not_started(&self.name_of(item), &item.key, &lost);
        };
        if exit != Exit::Done {
            self.note(exit);
        }
        let tries = self.tries[crew];
        let again = match outcome {
            RunOutcome::Finished { status, .. } => {
                match status {
                    RunEnd::Completed => self.counts.done += 1,
                    RunEnd::Failed | RunEnd::Cancelled => self.counts.failed += 1,
                }
                self.tries[crew] = 0;
                None
            }
            RunOutcome::Parked { causes, .. } => Some(after::again(causes, &tally, now_ms(), tries)),
            RunOutcome::StoreFailed(_) | RunOutcome::Crashed(_) | RunOutcome::GaveUp(_) => Some(Again::Left),
        };
        let causes = if let RunOutcome::Parked { causes, .. } = outcome { causes.as_slice() } else { &[] };
        // A crew that allows more by now does not wait for what an older run was allowed.
        let per_day = |crew: &Crew| crew.budget.per_day;
        let pinned = tally.crew.as_deref().map(per_day);
        let same = self.hands.served.get(crew).map(|served| per_day(&served.crew)) == pinned;
        if let Some(hold) = after::hold(causes, &tally, now_ms(), tries, same) {
            self.hold(crew, hold);
        }
        let Some(again) = again else { return };
        let store = self.hands.engine.store.clone();
        if let Ok(row) = blocking(move || open::find_run(&*store, run.as_str())).await {
            // A decision may have come between.
            self.look_again();
            let again = timed(again, &tally);
            self.aside.insert(item.key.clone(), Aside { trigger: item.trigger, row, again });
        }
    }

    fn hold(&mut self, crew: usize, hold: Hold) {
        let Some(place) = self.holds.get_mut(crew) else { return };
        let longer = place.as_ref().is_none_or(|old| old.until_ms < hold.until_ms);
        if !longer {
            return;
        }
        self.tries[crew] = hold.tries;
        let name = self.hands.served.get(crew).map(|served| served.crew.name.clone()).unwrap_or_default();
        let until = rfc3339(hold.until_ms);
        let waiting = count(self.queue.waiting() as u64, "event");
        let text = format!("{name}: nothing new starts until {until}: {} ({waiting} in the queue)", hold.why);
        let more = json!({"crew": name, "until": until, "events": self.queue.waiting()});
        *place = Some(hold);
        self.face.say("waits", Tone::Warn, &text, more);
    }

    /// What waits for a time or a person.
    pub(super) fn beat(&mut self) {
        let now = now_ms();
        for hold in &mut self.holds {
            hold.take_if(|hold| hold.until_ms <= now);
        }
        if self.is_going() {
            self.look();
            let due: Vec<String> =
                self.aside.iter().filter(|(_, one)| is_due(one, now)).map(|(key, _)| key.clone()).collect();
            for key in due {
                let Some(Aside { trigger, row, .. }) = self.aside.remove(&key) else { continue };
                let what = What::Run(Box::new(row));
                self.queue.add(Item { trigger, key, deaths: 0, begun: true, what });
            }
        }
        let counts = self.figures();
        self.face.tick(counts);
    }

    /// Looks at the runs that wait for a person, where another process has written since: off the runtime's thread,
    /// for another process may be keeping the store waiting.
    fn look(&mut self) {
        let resting = || self.aside.iter().filter(|(_, one)| waits(one));
        if self.look.at_work || resting().next().is_none() {
            return;
        }
        let rests = resting().map(|(key, one)| (key.clone(), one.row.run.clone(), one.again != Again::Left)).collect();
        let (hands, known, number) = (self.hands.clone(), self.version, self.look.number);
        self.look.at_work = true;
        tokio::task::spawn_blocking(move || {
            let looked = look(&*hands.engine.store, known, rests);
            let (version, changed) = looked.unwrap_or_default();
            // The watch may be over.
            let _ = hands.news.send(News::Looked(Looked { number, version, changed }));
        });
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        let Looked { number, version, changed } = looked;
        self.look.at_work = false;
        if number == self.look.number {
            self.look.done = true;
            self.version = version.or(self.version);
        }
        // Of a look that does not count too: a run that has come to rest again meanwhile is tried once in vain.
        for (key, change) in changed {
            match change {
                Change::Decided => {
                    if let Some(one) = self.aside.get_mut(&key).filter(|one| waits(one)) {
                        one.again = Again::At(0);
                    }
                }
                Change::Over => drop(self.aside.remove(&key)),
            }
        }
    }

    /// What rests is other than what was last looked at, or is being looked at.
    fn look_again(&mut self) {
        self.version = None;
        self.look.number += 1;
        self.look.done = false;
    }

    /// Is it known of all that waits for a person whether that person has decided?
    pub(super) fn has_looked(&self) -> bool {
        self.look.done || !self.aside.values().any(waits)
    }
}

/// The look at what rests that counts: one that began before a run came to rest does not.
#[derive(Default)]
pub(super) struct Look {
    number: u64,
    at_work: bool,
    done: bool,
}

/// What has become of the runs that wait for a person.
pub struct Looked {
    number: u64,
    /// The store's; `None`: nobody has written since, or it could not be asked.
    version: Option<u64>,
    changed: Vec<(String, Change)>,
}

enum Change {
    Decided,
    /// Another process has ended it.
    Over,
}

fn waits(one: &Aside) -> bool {
    matches!(one.again, Again::Person(_) | Again::Left)
}

/// Blocks. `rests`: key, run, and whether it waits for a decision.
fn look(store: &dyn Store, known: Option<u64>, rests: Vec<(String, RunId, bool)>) -> Option<(Option<u64>, Changes)> {
    // First: what is written after it changes it again.
    let version = store.version().ok()?;
    if known == Some(version) {
        return None;
    }
    let change = |run: &RunId, person: bool| {
        if person && store.inbox(run).is_ok_and(|rows| !rows.is_empty()) {
            return Some(Change::Decided);
        }
        let over = open::find_run(store, run.as_str()).is_ok_and(|row| row.state.is_final());
        over.then_some(Change::Over)
    };
    let changed = rests.into_iter().filter_map(|(key, run, person)| Some((key, change(&run, person)?)));
    Some((Some(version), changed.collect()))
}

type Changes = Vec<(String, Change)>;

/// With the time at which what a person is asked for expires.
fn timed(again: Again, tally: &Tally) -> Again {
    let Again::Person(_) = again else { return again };
    Again::Person(tally.interrupts.open().into_iter().filter_map(|one| one.ends_ms()).min())
}

/// What asks the store, off the runtime's thread.
async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let asked = tokio::task::spawn_blocking(ask).await;
    asked.map_err(|why| Failure::new(Exit::Internal, format!("the store was not asked to the end: {why}")))?
}

pub(super) fn is_due(one: &Aside, now: u64) -> bool {
    match one.again {
        Again::At(at) | Again::Person(Some(at)) => at <= now,
        Again::Person(None) | Again::Left => false,
    }
}
