//! The watch itself: looks, starts, waits, goes on. Invariant: what decides is the queue, the store and
//! the run's own journal; this loop only carries events from one to the other, and can be killed at any
//! instant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::after::{self, Again, Hold};
use super::face::{Counts, Face};
use super::one::{End, Hands, News, Stage, is_fatal};
use super::sentry::{Event, Found, Sentry, What};
use super::{Served, WatchArgs};
use crate::actors::run::Outcome as RunOutcome;
use crate::cli::Context;
use crate::cli::drive::Signals;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::open::{self, Project, now_ms};
use crate::cli::out::Tone;
use crate::cli::screen::{count, rfc3339};
use crate::cli::tally::RunStand;
use crate::cli::wiring::Engine;
use crate::core::crew::{Crew, Overlap};
use crate::core::event::{PauseCause, RunEnd};
use crate::core::trigger::{Added, DEATHS_MAX, Item, Queue, Rule, deaths};
use crate::ports::store::{RunFilter, RunRow, StoreError};

/// How long runs may take to end after SIGTERM, and calls after they were paused.
const GRACE: Duration = Duration::from_secs(30);
/// How often the face moves on, and what rests is looked at.
const TICK: Duration = Duration::from_millis(200);
/// An event that another process has is looked at again after so long.
const ELSEWHERE_MS: u64 = 1000;

/// An event whose run rests.
struct Aside {
    trigger: usize,
    row: RunRow,
    again: Again,
}

struct Watch {
    hands: Arc<Hands>,
    face: Face,
    queue: Queue<What>,
    /// Events at work, by key.
    items: BTreeMap<String, Item<What>>,
    /// Where the keys of the runs at work come from, in words.
    keys: BTreeMap<String, BTreeMap<String, String>>,
    aside: BTreeMap<String, Aside>,
    /// By crew.
    holds: Vec<Option<Hold>>,
    /// Holds in a row, by crew.
    tries: Vec<u32>,
    stage: watch::Sender<Stage>,
    counts: Counts,
    exits: Vec<Exit>,
    /// Of the store, as of the last look at what rests.
    version: Option<u64>,
    /// Files that have not settled, as of the last look; `None` before the first.
    unsettled: Option<usize>,
}

pub async fn serve(
    context: &Context,
    project: Project,
    engine: Engine,
    served: Vec<Served>,
    args: &WatchArgs,
) -> Outcome {
    let mut signals = Signals::new().map_err(|why| Failure::new(Exit::Internal, format!("no signals: {why}")))?;
    let sentry = Sentry::new(engine.store.clone(), &engine.root, &served)?;
    let (news, mut heard) = mpsc::unbounded_channel();
    let (stage, stages) = watch::channel(Stage::Go);
    let mut watch = Watch::new(context, Hands::new(context, project, engine, served, news, stages), stage, args);
    watch.greet(&sentry);
    watch.take_stock()?;
    let mut looks = Looks::new(sentry);
    let (mut tick, mut asked) = (tokio::time::interval(TICK), 0u32);
    let mut give_up: Option<tokio::time::Instant> = None;
    let fatal = loop {
        watch.start();
        if watch.is_over(args.once, &looks) {
            break None;
        }
        tokio::select! {
            biased;
            cause = signals.next() => {
                asked += 1;
                if !watch.stop(asked, cause) {
                    return Ok(Exit::Interrupted);
                }
                give_up = Some(tokio::time::Instant::now() + GRACE);
            }
            Some(one) = heard.recv() => if let Some(fatal) = watch.hear(one) {
                break Some(fatal);
            },
            found = looks.next(), if watch.is_going() => match found {
                Ok(found) => watch.found(found),
                Err(error) => break Some(error.into()),
            },
            _ = tick.tick() => watch.beat(),
            () = until(give_up) => {
                give_up = watch.escalate().then(|| tokio::time::Instant::now() + GRACE);
            }
        }
    };
    watch.leave(fatal, args.once, &mut heard).await
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Looks for events, one after the other, off the runtime's thread.
struct Looks {
    idle: Option<Sentry>,
    at_work: Option<JoinHandle<Look>>,
    due: tokio::time::Instant,
}

/// Who has looked, what for, and how long it took.
type Look = (Sentry, Result<Found, StoreError>, Duration);

impl Looks {
    fn new(sentry: Sentry) -> Looks {
        Looks { idle: Some(sentry), at_work: None, due: tokio::time::Instant::now() }
    }

    /// The next look's outcome. May be dropped and called again.
    async fn next(&mut self) -> Result<Found, StoreError> {
        let lost = |why: String| StoreError::WriteFailed { why };
        if self.at_work.is_none() {
            tokio::time::sleep_until(self.due).await;
            let Some(mut sentry) = self.idle.take() else { return Err(lost("nobody looks any more".into())) };
            self.at_work = Some(tokio::task::spawn_blocking(move || {
                let began = std::time::Instant::now();
                let found = sentry.look();
                (sentry, found, began.elapsed())
            }));
        }
        let Some(look) = &mut self.at_work else { return Err(lost("nobody looks any more".into())) };
        let done = look.await;
        self.at_work = None;
        let (sentry, found, took) = done.map_err(|why| lost(format!("the look for events was lost: {why}")))?;
        // A large folder takes at most a tenth of one core.
        let pace = sentry.pace().max(took * 10);
        (self.due, self.idle) = (tokio::time::Instant::now() + pace, Some(sentry));
        found
    }
}

impl Hands {
    fn new(
        context: &Context,
        project: Project,
        engine: Engine,
        served: Vec<Served>,
        news: mpsc::UnboundedSender<News>,
        stage: watch::Receiver<Stage>,
    ) -> Hands {
        let of = |(crew, served): (usize, &Served)| (0..served.crew.triggers.len()).map(move |index| (crew, index));
        let posts = served.iter().enumerate().flat_map(of).collect();
        Hands { project, engine, env: context.env.clone(), served, posts, news, stage }
    }
}

impl Watch {
    fn new(context: &Context, hands: Hands, stage: watch::Sender<Stage>, args: &WatchArgs) -> Watch {
        let rule = |index: usize| {
            let trigger = hands.served(index).map(|(_, trigger)| trigger);
            let overlap = trigger.map_or(Overlap::Queue, |trigger| trigger.overlap);
            Rule { overlap, max_parallel: trigger.map_or(1, |trigger| trigger.max_parallel) }
        };
        let queue = Queue::new((0..hands.posts.len()).map(rule).collect());
        let crews = hands.served.len();
        Watch {
            face: Face::new(context.out.clone(), args.show.json, args.show.quiet),
            queue,
            items: BTreeMap::new(),
            keys: BTreeMap::new(),
            aside: BTreeMap::new(),
            holds: vec![None; crews],
            tries: vec![0; crews],
            stage,
            counts: Counts::default(),
            exits: Vec::new(),
            version: None,
            unsettled: None,
            hands: Arc::new(hands),
        }
    }

    /// Says what is served.
    fn greet(&mut self, sentry: &Sentry) {
        let hands = self.hands.clone();
        let next: BTreeMap<usize, u64> = sentry.next_ticks().into_iter().collect();
        for index in 0..hands.posts.len() {
            let Some((served, trigger)) = hands.served(index) else { continue };
            let next = next.get(&index).map(|at| format!(", next {}", rfc3339(*at))).unwrap_or_default();
            let text = format!("{} {trigger}{next} · Ctrl-C pauses safely", served.crew.name);
            let more = json!({"crew": served.crew.name, "trigger": trigger.name, "file": served.file});
            self.face.say("watching", Tone::Strong, &text, more);
        }
    }

    /// Runs of an earlier watch that are not over: gone on with, or left to whom they wait for.
    fn take_stock(&mut self) -> Result<(), Failure> {
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
                self.consider(post, row)?;
            }
        }
        Ok(())
    }

    /// A run that exists and is not over, and that this process does not have.
    fn consider(&mut self, trigger: usize, row: RunRow) -> Result<(), Failure> {
        let store = self.hands.engine.store.clone();
        let Some(key) = row.key.clone() else { return Ok(()) };
        if store.owner(&row.run).is_some() {
            let again = Again::At(now_ms().saturating_add(ELSEWHERE_MS));
            self.aside.insert(key, Aside { trigger, row, again });
            return Ok(());
        }
        let journal = open::read_run(&*store, row.clone())?;
        let again = match &journal.tally.stand {
            RunStand::Parked(causes) => match after::again(causes, &journal.tally, now_ms(), 0) {
                // What has kept it may be over: it is found out by trying, once.
                Again::At(_) => Again::At(now_ms()),
                other @ (Again::Person | Again::Left) => other,
            },
            RunStand::Running | RunStand::Pausing | RunStand::Cancelling | RunStand::Ended(..) => Again::At(now_ms()),
        };
        let deaths = deaths(journal.entries.iter().map(|entry| &entry.event));
        if deaths >= DEATHS_MAX {
            let text = format!(
                "{}: processes have died {deaths} times on it, it is left alone; to try it again: bosun resume {}",
                key,
                row.run.short()
            );
            self.face.say("stopped", Tone::Bad, &text, json!({"key": key, "run": row.run, "deaths": deaths}));
            self.exits.push(Exit::Review);
            self.aside.insert(key, Aside { trigger, row, again: Again::Left });
            return Ok(());
        }
        if let Again::At(_) = again {
            let what = What::Run(Box::new(row));
            self.queue.add(Item { trigger, key, deaths, begun: true, what });
        } else {
            let text = format!("{}: waits for a person; bosun show {}", key, row.run.short());
            self.face.say("rests", Tone::Warn, &text, json!({"key": key, "run": row.run}));
            self.version = None;
            self.aside.insert(key, Aside { trigger, row, again });
        }
        Ok(())
    }

    fn found(&mut self, found: Found) {
        for note in &found.notes {
            self.face.say("note", Tone::Warn, note, json!({}));
        }
        for event in found.events {
            self.event(event);
        }
        self.unsettled = Some(found.unsettled);
    }

    fn event(&mut self, event: Event) {
        let Event { trigger, key, what } = event;
        if self.aside.contains_key(&key) || self.items.contains_key(&key) {
            return;
        }
        if let What::Run(row) = what {
            if let Err(failure) = self.consider(trigger, *row) {
                self.face.not_started("an event", &key, &failure);
            }
            return;
        }
        let item = Item { trigger, key: key.clone(), deaths: 0, begun: false, what };
        let text = self.name_of(&item);
        match self.queue.add(item) {
            Added::Waits => self.face.say("event", Tone::Dim, &text, json!({"key": key})),
            Added::Known => {}
            Added::Skipped => {
                let text = format!("{text}: a run of the trigger is at work (`overlap = \"skip\"`)");
                self.face.say("skipped", Tone::Warn, &text, json!({"key": key}));
            }
        }
    }

    /// `scan inbox/a.pdf`.
    fn name_of(&self, item: &Item<What>) -> String {
        let name = self.hands.served(item.trigger).map(|(_, trigger)| trigger.name.to_string()).unwrap_or_default();
        match &item.what {
            What::File { path, .. } => format!("{name} {path}"),
            What::Tick { at_ms } => format!("{name} {}", rfc3339(*at_ms)),
            What::Run(row) => row.key.clone().unwrap_or(name),
        }
    }

    fn crew_of(&self, trigger: usize) -> usize {
        self.hands.posts.get(trigger).map_or(0, |(crew, _)| *crew)
    }

    /// Starts what has room.
    fn start(&mut self) {
        if !self.is_going() {
            return;
        }
        let (posts, holds) = (self.hands.posts.clone(), self.holds.clone());
        let held = |trigger: usize| {
            let crew = posts.get(trigger).map_or(0, |(crew, _)| *crew);
            holds.get(crew).is_some_and(Option::is_some)
        };
        while let Some(item) = self.queue.next(held) {
            self.items.insert(item.key.clone(), item.clone());
            tokio::spawn(self.hands.clone().serve(item));
        }
    }

    fn hear(&mut self, news: News) -> Option<Failure> {
        match news {
            News::Begun { key, run, crew, texts, keys, before } => {
                let what = self.items.get(&key).map(|item| self.name_of(item)).unwrap_or_default();
                self.keys.insert(key.clone(), keys);
                self.face.begun(key, what, (run, crew, texts), &before);
                None
            }
            News::Entry { key, entry } => {
                let none = BTreeMap::new();
                self.face.entry(&key, &entry, self.keys.get(&key).unwrap_or(&none));
                None
            }
            News::Note(line) => {
                self.face.say("note", Tone::Warn, &line, json!({}));
                None
            }
            News::Ended { key, end } => {
                self.queue.ended(&key);
                self.keys.remove(&key);
                let item = self.items.remove(&key)?;
                let fatal = is_fatal(&end);
                self.ended(item, *end);
                fatal
            }
        }
    }

    fn ended(&mut self, item: Item<What>, end: End) {
        let crew = self.crew_of(item.trigger);
        match end {
            End::Left(outcome) => self.left(&item, crew, &outcome),
            End::NotStarted(failure) if failure.exit == Exit::Credentials => {
                let hold = after::unstarted(failure.message.trim_end(), now_ms(), self.tries[crew]);
                self.exits.push(failure.exit);
                self.queue.add(item);
                self.hold(crew, hold);
            }
            End::NotStarted(failure) => {
                self.exits.push(failure.exit);
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
    fn left(&mut self, item: &Item<What>, crew: usize, outcome: &RunOutcome) {
        let Some(run) = self.face.runs.get(&item.key).map(|face| face.run.clone()) else { return };
        let Some((tally, exit)) = self.face.ended(&item.key, outcome) else { return };
        self.exits.extend((exit != Exit::Done).then_some(exit));
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
        let row = open::find_run(&*self.hands.engine.store, run.as_str());
        if let (Some(again), Ok(row)) = (again, row) {
            // A decision may have come between.
            self.version = None;
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
    fn beat(&mut self) {
        let now = now_ms();
        for hold in &mut self.holds {
            hold.take_if(|hold| hold.until_ms <= now);
        }
        if self.is_going() {
            self.decided();
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

    /// Looks at the runs that wait for a person, where another process has written since.
    fn decided(&mut self) {
        let store = self.hands.engine.store.clone();
        let waits = |one: &Aside| one.again == Again::Person || one.again == Again::Left;
        if !self.aside.values().any(waits) {
            return;
        }
        let Ok(version) = store.version() else { return };
        if self.version.replace(version) == Some(version) {
            return;
        }
        let mut over = Vec::new();
        for (key, one) in self.aside.iter_mut().filter(|(_, one)| waits(one)) {
            let decided = one.again == Again::Person && store.inbox(&one.row.run).is_ok_and(|rows| !rows.is_empty());
            if decided {
                one.again = Again::At(0);
            } else if open::find_run(&*store, one.row.run.as_str()).is_ok_and(|row| row.state.is_final()) {
                over.push(key.clone());
            }
        }
        over.iter().for_each(|key| drop(self.aside.remove(key)));
    }

    fn figures(&self) -> Counts {
        Counts { waiting: self.queue.waiting(), rest: self.aside.len(), ..self.counts }
    }

    fn is_going(&self) -> bool {
        *self.stage.borrow() == Stage::Go
    }

    /// A signal: Ctrl-C pauses, drops, exits; SIGTERM lets runs end first. False if there is nothing left
    /// to wait for.
    fn stop(&mut self, asked: u32, cause: PauseCause) -> bool {
        let now = self.stage.borrow().clone();
        let next = match (now, &cause) {
            (Stage::Go, PauseCause::Terminated) => Stage::Drain,
            (Stage::Go | Stage::Drain, _) => Stage::Pause(cause),
            (Stage::Pause(_), _) => Stage::Drop,
            (Stage::Drop, _) => return false,
        };
        let text = match &next {
            Stage::Drain => "nothing new starts; runs at work may end, for up to 30 s",
            Stage::Pause(_) => "nothing new starts; calls in flight may end, for up to 30 s. Ctrl-C again drops them",
            Stage::Drop | Stage::Go => "calls in flight are dropped (they may still be billed)",
        };
        if asked == 1 || next == Stage::Drop {
            self.face.say("stopping", Tone::Warn, text, json!({}));
        }
        self.stage.send_replace(next);
        true
    }

    /// The grace of a stage is over; true if there is another one.
    fn escalate(&mut self) -> bool {
        let (next, more) = match self.stage.borrow().clone() {
            Stage::Drain => (Stage::Pause(PauseCause::Terminated), true),
            Stage::Go | Stage::Pause(_) | Stage::Drop => (Stage::Drop, false),
        };
        self.stage.send_replace(next);
        more
    }

    fn is_over(&self, once: bool, looks: &Looks) -> bool {
        if !self.items.is_empty() {
            return false;
        }
        if !self.is_going() {
            return true;
        }
        let stuck = |item: &Item<What>| self.holds.get(self.crew_of(item.trigger)).is_some_and(Option::is_some);
        let soon = self.aside.values().any(|one| is_due(one, now_ms()));
        once && looks.at_work.is_none() && self.unsettled == Some(0) && self.queue.items().all(stuck) && !soon
    }

    async fn leave(mut self, fatal: Option<Failure>, once: bool, heard: &mut mpsc::UnboundedReceiver<News>) -> Outcome {
        if fatal.is_some() {
            self.stage.send_replace(Stage::Drop);
            let end = tokio::time::Instant::now() + Duration::from_secs(5);
            while !self.items.is_empty() {
                match tokio::time::timeout_at(end, heard.recv()).await {
                    Ok(Some(news)) => drop(self.hear(news)),
                    Ok(None) | Err(_) => break,
                }
            }
        }
        let counts = self.figures();
        self.face.close(counts);
        if let Some(failure) = fatal {
            return Err(failure.hint("no event is lost: bosun watch goes on when that is mended"));
        }
        if once {
            return Ok(Exit::first(&self.exits).unwrap_or(Exit::Done));
        }
        let paused = [Exit::Interrupted, Exit::Terminated];
        Ok(self.exits.iter().rev().find(|exit| paused.contains(exit)).copied().unwrap_or(Exit::Done))
    }
}

fn is_due(one: &Aside, now: u64) -> bool {
    match one.again {
        Again::At(at) => at <= now,
        Again::Person | Again::Left => false,
    }
}
