//! One event, from its key to the end of its run. Invariant: the run is created under the event's key or
//! taken up where it stands; nothing of the event is kept anywhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;

use super::Served;
use super::sentry::{What, run_of};
use super::serve::Looked;
use crate::actors::host::Live;
use crate::actors::run::Outcome;
use crate::adapters::models::secrets::Env;
use crate::cli::failure::{Exit, Failure};
use crate::cli::notifier::Notifier;
use crate::cli::open::{self, Journal, Project};
use crate::cli::screen::rfc3339;
use crate::cli::tally::Tally;
use crate::cli::wiring::{self, Engine, Ready};
use crate::cli::{crew as crews, fit};
use crate::core::crew::{Crew, EVENT, InputKind, Trigger};
use crate::core::event::{Event, PauseCause, RunEvent};
use crate::core::ids::RunId;
use crate::core::machine::Texts;
use crate::core::place;
use crate::core::run::Entry;
use crate::core::template::Scope;
use crate::core::trigger::Item;
use crate::ports::store::{RunRow, StoreError};

/// How far the watch is on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Go,
    /// Nothing new starts, runs at work go on.
    Drain,
    /// Calls in flight end, nothing else does.
    Pause(PauseCause),
    /// Calls in flight are dropped.
    Drop,
}

/// What the loop of a watch hears: of events' runs, and of those that rest.
pub enum News {
    Begun {
        key: String,
        run: RunId,
        crew: Arc<Crew>,
        texts: Arc<dyn Texts>,
        keys: BTreeMap<String, String>,
        before: Vec<Entry>,
    },
    Entry {
        key: String,
        entry: Arc<Entry>,
    },
    Note(String),
    /// The answer to a look at the runs that rest.
    Looked(Looked),
    Ended {
        key: String,
        end: Box<End>,
    },
}

/// How an event left this process.
pub enum End {
    Left(Outcome),
    /// There is no run of it, or none that this process could take up.
    NotStarted(Failure),
    /// Another process has it.
    Elsewhere(Box<RunRow>),
    /// Another process has finished it.
    Over,
}

/// What every event is served with.
pub struct Hands {
    pub project: Project,
    pub engine: Engine,
    pub env: Arc<Env>,
    pub served: Vec<Served>,
    /// Crew and trigger by the trigger's index.
    pub posts: Vec<(usize, usize)>,
    pub news: mpsc::UnboundedSender<News>,
    pub stage: watch::Receiver<Stage>,
}

struct Begun {
    live: Live,
    entries: mpsc::UnboundedReceiver<Arc<Entry>>,
    keys: BTreeMap<String, String>,
    before: Vec<Entry>,
}

impl Hands {
    pub fn served(&self, trigger: usize) -> Option<(&Served, &Trigger)> {
        let (crew, index) = *self.posts.get(trigger)?;
        let served = self.served.get(crew)?;
        Some((served, served.crew.triggers.get(index)?))
    }

    /// Serves the event; whatever happens, [`News::Ended`] is the last word.
    pub async fn serve(self: Arc<Self>, item: Item<What>) {
        let key = item.key.clone();
        let hands = self.clone();
        let work = tokio::spawn(async move {
            match hands.begin(&item).await {
                Ok(begun) => End::Left(hands.follow(&item.key, begun).await),
                Err(end) => *end,
            }
        });
        let end = work.await.unwrap_or_else(|lost| End::Left(Outcome::Crashed(lost.to_string())));
        let _ = self.news.send(News::Ended { key, end: Box::new(end) });
    }

    async fn begin(self: &Arc<Self>, item: &Item<What>) -> Result<Begun, Box<End>> {
        let not = |failure: Failure| Box::new(End::NotStarted(failure));
        let gone = || not(Failure::new(Exit::Internal, "the trigger is not served any more"));
        let (served, trigger) = self.served(item.trigger).ok_or_else(gone)?;
        if let What::Run(row) = &item.what {
            return self.take_up(row).await;
        }
        let ready = self.ready(served, trigger, item).map_err(not)?;
        fit::may_start(&ready, false).map_err(not)?;
        let keys = crews::keys(&ready.loaded);
        let (watcher, entries) = mpsc::unbounded_channel();
        match self.engine.start(ready, Some(watcher)).await {
            Ok(live) => Ok(Begun { live, entries, keys, before: Vec::new() }),
            // A key that was free a moment ago: another process has started its run in between.
            Err(failure) => match run_of(&*self.engine.store, &served.crew.name, &item.key) {
                Ok(Some(row)) => self.take_up(&row).await,
                Ok(None) => Err(not(failure)),
                Err(error) => Err(not(error.into())),
            },
        }
    }

    async fn take_up(self: &Arc<Self>, row: &RunRow) -> Result<Begun, Box<End>> {
        let not = |failure: Failure| Box::new(End::NotStarted(failure));
        let (hands, run) = (self.clone(), row.run.clone());
        let looked = tokio::task::spawn_blocking(move || hands.look_up(&run)).await;
        let lost =
            |why: JoinError| Failure::new(Exit::Internal, format!("the run was not looked up to the end: {why}"));
        let (journal, ready) = looked.map_err(lost).map_err(not)??;
        let row = journal.row;
        let keys = crews::keys(&ready.loaded);
        let resumed = Event::Run(RunEvent::Resumed { by: open::whoami(&self.env) });
        let (watcher, entries) = mpsc::unbounded_channel();
        match self.engine.resume(&row.run, ready, vec![resumed], Some(watcher)).await {
            Ok(live) => Ok(Begun { live, entries, keys, before: journal.entries }),
            Err(failure) if failure.exit == Exit::Elsewhere => Err(Box::new(End::Elsewhere(Box::new(row)))),
            Err(failure) => Err(not(failure)),
        }
    }

    /// A run that may be taken up, with what it runs. Blocks for the store.
    fn look_up(&self, run: &RunId) -> Result<(Journal, Ready), Box<End>> {
        let not = |failure: Failure| Box::new(End::NotStarted(failure));
        let store = &self.engine.store;
        let row = open::find_run(&**store, run.as_str()).map_err(not)?;
        if row.state.is_final() {
            return Err(Box::new(End::Over));
        }
        if store.owner(&row.run).is_some() {
            return Err(Box::new(End::Elsewhere(Box::new(row))));
        }
        let journal = open::read_run(&**store, row).map_err(not)?;
        let started = journal.started().map_err(not)?;
        let ready = wiring::pinned(&self.project, &**store, started, &self.env).map_err(not)?;
        Ok((journal, ready))
    }

    /// The crew with the inputs that the event comes to.
    fn ready(&self, served: &Served, trigger: &Trigger, item: &Item<What>) -> Result<Ready, Failure> {
        let mut scope = Scope::default();
        scope.json(EVENT, event(trigger, &item.what));
        let crew = &served.crew;
        let mut texts = BTreeMap::new();
        let mut tainted = None;
        for input in &crew.inputs {
            let text = match trigger.inputs.get(&input.name) {
                Some(template) => {
                    // Whoever put the file there chose its name and its words.
                    let of_file =
                        matches!(item.what, What::File { .. }) && crew.templates.names(template).contains(EVENT);
                    if of_file {
                        tainted.get_or_insert_with(|| trigger.brings());
                    }
                    let text = crew.templates.render(template, &scope);
                    Some(text.map_err(|why| Failure::usage(format!("input `{}`: {why}", input.name)))?)
                }
                None => {
                    let variable = format!("BOSUN_INPUT_{}", input.name.as_str().to_ascii_uppercase());
                    self.env.get(&variable).filter(|_| input.secret).cloned()
                }
            };
            let Some(text) = text else { continue };
            // Nobody has typed it: it may not name a place outside.
            if input.kind == InputKind::Path && !input.secret {
                place::parts(&text).map_err(|why| Failure::usage(format!("input `{}`: {why}", input.name)))?;
            }
            texts.insert(input.name.to_string(), text);
        }
        let (root, loaded, file) = (&self.project.root, served.loaded.clone(), served.file.clone());
        let overrides = served.overrides.clone();
        let mut ready = wiring::bind(root, root, loaded, file, &texts, &BTreeMap::new(), overrides)?;
        (ready.key, ready.tainted) = (Some(item.key.clone()), tainted);
        Ok(ready)
    }

    /// Stays with a run until it leaves this process.
    async fn follow(&self, key: &str, begun: Begun) -> Outcome {
        let Begun { mut live, mut entries, keys, before } = begun;
        let notifier = Notifier::start(self.engine.store.clone(), &self.engine.root, &live.id, &live.crew);
        let mut noted = notifier.map(|notifier| (notifier, Tally::default()));
        if let Some((notifier, tally)) = &mut noted {
            tally.crew = Some(live.crew.clone());
            for entry in &before {
                tally.apply(entry);
                notifier.entry(tally, entry);
            }
        }
        let (run, crew, texts) = (live.id.clone(), live.crew.clone(), live.texts.clone());
        let _ = self.news.send(News::Begun { key: key.to_owned(), run, crew, texts, keys, before });
        let mut tell = |entry: Arc<Entry>| {
            if let Some((notifier, tally)) = &mut noted {
                tally.apply(&entry);
                notifier.entry(tally, &entry);
            }
            let _ = self.news.send(News::Entry { key: key.to_owned(), entry });
        };
        let mut stage = self.stage.clone();
        obey(&live, &stage.borrow_and_update());
        let outcome = loop {
            tokio::select! {
                biased;
                Ok(()) = stage.changed() => obey(&live, &stage.borrow_and_update()),
                Some(entry) = entries.recv() => tell(entry),
                outcome = live.wait() => break outcome,
            }
        };
        while let Ok(entry) = entries.try_recv() {
            tell(entry);
        }
        if let Some((notifier, _)) = noted
            && let Some(line) = notifier.end().await
        {
            let _ = self.news.send(News::Note(line));
        }
        self.engine.store.release(&live.id);
        outcome
    }
}

fn obey(live: &Live, stage: &Stage) {
    match stage {
        Stage::Go | Stage::Drain => {}
        Stage::Pause(cause) => live.pause(cause.clone(), "signal"),
        Stage::Drop => live.drop_calls(),
    }
}

/// `event`, as a trigger's templates see it.
fn event(trigger: &Trigger, what: &What) -> serde_json::Value {
    match what {
        What::File { path, size, modified_ms } => {
            let name = path.rsplit('/').next().unwrap_or(path);
            json!({"path": path, "name": name, "size": size, "time": rfc3339(*modified_ms)})
        }
        What::Tick { at_ms } => json!({"name": trigger.name, "time": rfc3339(*at_ms)}),
        // Its inputs are in its journal.
        What::Run(_) => json!({}),
    }
}

/// The store cannot be used: nothing more is started.
pub fn is_fatal(end: &End) -> Option<Failure> {
    match end {
        End::Left(Outcome::StoreFailed(error)) => Some(StoreError::clone(error).into()),
        End::NotStarted(failure) if failure.exit == Exit::State => Some(failure.clone()),
        End::Left(Outcome::Finished { .. } | Outcome::Parked { .. } | Outcome::Crashed(_) | Outcome::GaveUp(_)) => None,
        End::NotStarted(_) | End::Elsewhere(_) | End::Over => None,
    }
}
