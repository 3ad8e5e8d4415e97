//! The watch itself: looks, starts, waits, goes on. Invariant: what decides is the queue, the store and
//! the run's own journal; this loop only carries events from one to the other, and can be killed at any
//! instant.

mod looks;
mod rests;
mod stages;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::after::Hold;
use super::face::{Counts, Face};
use super::one::{Hands, News, Stage, is_fatal};
use super::sentry::{Event, Found, Sentry, What};
use super::{Served, WatchArgs};
use crate::cli::Context;
use crate::cli::drive::Signals;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::open::{self, Project, now_ms};
use crate::cli::out::Tone;
use crate::cli::screen::rfc3339;
use crate::cli::wiring::Engine;
use crate::core::crew::Overlap;
use crate::core::trigger::{Added, Item, Queue, Rule};
use looks::Looks;
pub use rests::Looked;
use rests::{Aside, Look, is_due};

/// How long runs may take to end after SIGTERM, and calls after they were paused.
const GRACE: Duration = Duration::from_secs(30);
/// How often the face moves on, and what rests is looked at.
const TICK: Duration = Duration::from_millis(200);
/// An event that another process has is looked at again after so long.
const ELSEWHERE_MS: u64 = 1000;

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
    /// How runs have ended, latest last, each once.
    exits: Vec<Exit>,
    /// Of the store, as of the last look at what rests.
    version: Option<u64>,
    look: Look,
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
    watch.take_stock().await?;
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
            Some(one) = heard.recv() => if let Some(fatal) = watch.hear(one).await {
                break Some(fatal);
            },
            found = looks.next(), if watch.is_going() => match found {
                Ok(found) => watch.found(found).await,
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
            look: Look::default(),
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

    async fn found(&mut self, found: Found) {
        for note in &found.notes {
            self.face.say("note", Tone::Warn, note, json!({}));
        }
        for event in found.events {
            self.event(event).await;
        }
        self.unsettled = Some(found.unsettled);
    }

    async fn event(&mut self, event: Event) {
        let Event { trigger, key, what } = event;
        if self.aside.contains_key(&key) || self.items.contains_key(&key) {
            return;
        }
        if let What::Run(row) = what {
            if let Err(failure) = self.consider(trigger, *row).await {
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

    async fn hear(&mut self, news: News) -> Option<Failure> {
        match news {
            News::Begun { key, run, crew, texts, keys, before } => {
                let what = self.items.get(&key).map(|item| self.name_of(item)).unwrap_or_default();
                self.keys.insert(key.clone(), keys);
                let called = open::called(&*self.hands.engine.store, &run);
                self.face.begun(key, what, (run, called), (crew, texts), &before);
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
            News::Looked(looked) => {
                self.looked(looked);
                None
            }
            News::Ended { key, end } => {
                self.queue.ended(&key);
                self.keys.remove(&key);
                let item = self.items.remove(&key)?;
                let fatal = is_fatal(&end);
                self.ended(item, *end).await;
                fatal
            }
        }
    }

    fn figures(&self) -> Counts {
        Counts { waiting: self.queue.waiting(), rest: self.aside.len(), ..self.counts }
    }

    fn note(&mut self, exit: Exit) {
        self.exits.retain(|known| *known != exit);
        self.exits.push(exit);
    }

    fn is_going(&self) -> bool {
        *self.stage.borrow() == Stage::Go
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
        let looked = looks.is_idle() && self.unsettled == Some(0) && self.has_looked();
        once && looked && self.queue.items().all(stuck) && !soon
    }

    async fn leave(mut self, fatal: Option<Failure>, once: bool, heard: &mut mpsc::UnboundedReceiver<News>) -> Outcome {
        if fatal.is_some() {
            self.stage.send_replace(Stage::Drop);
            let end = tokio::time::Instant::now() + Duration::from_secs(5);
            while !self.items.is_empty() {
                match tokio::time::timeout_at(end, heard.recv()).await {
                    Ok(Some(news)) => drop(self.hear(news).await),
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
