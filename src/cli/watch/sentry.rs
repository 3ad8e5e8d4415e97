//! Looks for events. Invariant: an event is given out when the store does not know its key as run to the
//! end; a look changes nothing outside this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Served;
use crate::adapters::crewfile::{DiskSource, Source as _};
use crate::adapters::cron::Schedule;
use crate::adapters::folder::Folder;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::now_ms;
use crate::cli::screen::rfc3339;
use crate::core::crew::TriggerSource;
use crate::core::ids::{BlobId, Name};
use crate::core::trigger::{Calendar, Settling, Sight, Ticks, file_key, tick_key, tick_of};
use crate::ports::store::{RunFilter, RunRow, Store, StoreError};

/// How often folders are looked at, at least and at most.
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(500);

/// How often the crews' own files are looked at.
const PINS: Duration = Duration::from_secs(2);

/// What has happened.
#[derive(Clone, Debug)]
pub enum What {
    File {
        path: String,
        size: u64,
        modified_ms: u64,
    },
    Tick {
        at_ms: u64,
    },
    /// The event's run exists and is not over.
    Run(Box<RunRow>),
}

/// An event that is to be run.
#[derive(Clone, Debug)]
pub struct Event {
    /// Index over all triggers of all crews.
    pub trigger: usize,
    pub key: String,
    pub what: What,
}

/// What one look has found.
#[derive(Debug, Default)]
pub struct Found {
    pub events: Vec<Event>,
    /// News for a person, each once.
    pub notes: Vec<String>,
    /// Files that have not settled.
    pub unsettled: usize,
}

/// One trigger with what it looks at.
struct Post {
    name: Name,
    crew: String,
    source: Source,
}

enum Source {
    Folder { folder: Folder, settling: Settling, settle_ms: u64 },
    Clock { schedule: Schedule, ticks: Ticks },
}

pub struct Sentry {
    store: Arc<dyn Store>,
    posts: Vec<Post>,
    began: Instant,
    said: BTreeSet<String>,
    disk: DiskSource,
    /// Files that the crews are made of, as they were read.
    pins: BTreeMap<String, BlobId>,
    /// Of those, what is different now, and when that was looked at last.
    changed: (Vec<String>, Option<Instant>),
}

impl Sentry {
    pub fn new(store: Arc<dyn Store>, root: &std::path::Path, served: &[Served]) -> Result<Sentry, Failure> {
        let wrong = |why: String| Failure::new(Exit::Crew, why);
        let mut posts = Vec::new();
        for crew in served.iter().map(|served| &served.crew) {
            for trigger in &crew.triggers {
                let source = match &trigger.source {
                    TriggerSource::Watch { path, glob, settle_ms } => {
                        let folder = Folder::new(root, path, glob).map_err(wrong)?;
                        Source::Folder { folder, settling: Settling::default(), settle_ms: *settle_ms }
                    }
                    TriggerSource::Cron { schedule, timezone, catch_up } => {
                        let schedule = Schedule::new(schedule, timezone.as_deref()).map_err(wrong)?;
                        let ticks = Ticks::new(now_ms(), last_tick(&*store, &crew.name, &trigger.name)?, *catch_up);
                        Source::Clock { schedule, ticks }
                    }
                };
                posts.push(Post { name: trigger.name.clone(), crew: crew.name.clone(), source });
            }
        }
        let pins = served.iter().flat_map(|served| &served.loaded.pins);
        let pins = pins.map(|pin| (pin.path.clone(), BlobId::of(pin.text.as_bytes()))).collect();
        let (disk, changed) = (DiskSource::new(root), (Vec::new(), None));
        Ok(Sentry { store, posts, began: Instant::now(), said: BTreeSet::new(), disk, pins, changed })
    }

    /// How long to wait between looks.
    pub fn pace(&self) -> Duration {
        let settle = self.posts.iter().filter_map(|post| match &post.source {
            Source::Folder { settle_ms, .. } => Some(Duration::from_millis(settle_ms / 4)),
            Source::Clock { .. } => None,
        });
        settle.min().unwrap_or(SELDOM).clamp(OFTEN, SELDOM)
    }

    /// The next tick of each schedule, by the trigger's index.
    pub fn next_ticks(&self) -> Vec<(usize, u64)> {
        let next = |(index, post): (usize, &Post)| match &post.source {
            Source::Clock { schedule, ticks } => Some((index, ticks.next(schedule)?)),
            Source::Folder { .. } => None,
        };
        self.posts.iter().enumerate().filter_map(next).collect()
    }

    /// Blocks for the disk.
    pub fn look(&mut self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        for (index, post) in self.posts.iter_mut().enumerate() {
            let (store, crew) = (&*self.store, post.crew.as_str());
            match &mut post.source {
                Source::Folder { folder, settling, settle_ms } => {
                    let look = folder.look();
                    found.notes.extend(look.notes);
                    for (path, sight) in settling.look(now, *settle_ms, look.files) {
                        match folder.content(&path, sight) {
                            Ok(Some(content)) => {
                                let key = file_key(&post.name, &path, &content);
                                let what = What::File { path, size: sight.size, modified_ms: modified_ms(sight) };
                                found.events.extend(due(store, crew, index, key, what)?);
                            }
                            Ok(None) => settling.again(&path, now),
                            Err(why) => found.notes.push(why),
                        }
                    }
                    found.unsettled += settling.unsettled();
                }
                Source::Clock { schedule, ticks } => {
                    let due_now = ticks.look(&*schedule as &dyn Calendar, now_ms());
                    if due_now.missed > 0 {
                        let at = rfc3339(now_ms());
                        let missed = due_now.missed;
                        found.notes.push(format!(
                            "{crew} {}: {missed} ticks up to {at} were missed and are not run",
                            post.name
                        ));
                    }
                    if let Some(at_ms) = due_now.tick {
                        let key = tick_key(&post.name, &rfc3339(at_ms));
                        found.events.extend(due(store, crew, index, key, What::Tick { at_ms })?);
                    }
                }
            }
        }
        found.notes.extend(self.changed());
        // A note stands once, until what it says is over and comes again.
        let notes: BTreeSet<String> = found.notes.drain(..).collect();
        found.notes = notes.difference(&self.said).cloned().collect();
        self.said = notes;
        Ok(found)
    }
}

impl Sentry {
    /// Files of the crews that are not what is served.
    fn changed(&mut self) -> Vec<String> {
        let (known, looked) = &mut self.changed;
        if looked.is_some_and(|at| at.elapsed() < PINS) {
            return known.clone();
        }
        *looked = Some(Instant::now());
        let other = |(path, was): (&String, &BlobId)| {
            let now = self.disk.read(path).ok().map(|bytes| BlobId::of(&bytes));
            (now != Some(*was)).then(|| {
                format!("{path} has changed: events are still run by what it was; start bosun watch again to take it")
            })
        };
        *known = self.pins.iter().filter_map(other).collect();
        known.clone()
    }
}

fn modified_ms(sight: Sight) -> u64 {
    u64::try_from(sight.modified_ns / 1_000_000).unwrap_or(0)
}

/// The run of a key.
pub fn run_of(store: &dyn Store, crew: &str, key: &str) -> Result<Option<RunRow>, StoreError> {
    let filter =
        RunFilter { crew: Some(crew.to_owned()), key: Some(key.to_owned()), limit: Some(1), ..RunFilter::default() };
    Ok(store.runs(&filter)?.into_iter().next())
}

/// The event, if it has not been run to its end.
fn due(store: &dyn Store, crew: &str, trigger: usize, key: String, what: What) -> Result<Option<Event>, StoreError> {
    Ok(match run_of(store, crew, &key)? {
        None => Some(Event { trigger, key, what }),
        Some(row) if row.state.is_final() => None,
        Some(row) => Some(Event { trigger, key, what: What::Run(Box::new(row)) }),
    })
}

/// The latest tick of a trigger that has a run.
fn last_tick(store: &dyn Store, crew: &str, trigger: &Name) -> Result<Option<u64>, StoreError> {
    let rows = store.runs(&RunFilter { crew: Some(crew.to_owned()), ..RunFilter::default() })?;
    let ticks = rows.iter().filter_map(|row| tick_of(trigger, row.key.as_deref()?));
    let times = ticks.filter_map(|at| u64::try_from(at.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok());
    Ok(times.max())
}
