//! Bosun inside another program. Invariant: nothing is printed, no signal is taken, and no setting
//! is read that the `bosun` command would not read in the same folder.

mod people;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::failure::{Exit, Failure};
use super::open::{self, Project};
use super::wiring::{self, Ready};
use super::{crew as crews, ends};
use crate::actors::host::Live;
use crate::actors::run::Outcome;
use crate::adapters::crewfile::{self, Loaded};
use crate::adapters::models::secrets::Env;
use crate::adapters::settings::Flags;
use crate::adapters::store::MemoryStore;
use crate::core::crew::Overrides;
use crate::core::event::{Event, PauseCause, RunEnd, RunEvent, TaskResult};
use crate::core::ids::{Name, RunId};
use crate::core::ledger::{Ledger, Sums};
use crate::core::machine::Texts;
use crate::core::money::Caps;
use crate::core::run::Entry;
use crate::ports::model::Model;
use crate::ports::store::Store;
use crate::ports::tool::Tool;

pub use people::{Then, Told, Waiting};

/// Runs crews of one project folder. Cheap to share behind an `Arc`.
pub struct Engine {
    project: Arc<Project>,
    inner: wiring::Engine,
    env: Arc<Env>,
}

/// How an [`Engine`] is opened.
#[derive(Default)]
pub struct Options {
    root: PathBuf,
    flags: Flags,
    hosted: wiring::Hosted,
    store: Option<Arc<dyn Store>>,
    wrong: Vec<String>,
}

impl Options {
    /// A folder with crews, prompts and settings, as `bosun` reads it.
    pub fn folder(root: impl Into<PathBuf>) -> Options {
        Options { root: root.into(), ..Options::default() }
    }
    /// Journals go here instead of `.bosun` in the project.
    pub fn state_folder(mut self, path: impl Into<PathBuf>) -> Options {
        self.flags.insert("state_dir".to_owned(), path.into().display().to_string());
        self
    }
    /// Journals are kept in memory and are gone with the process: nothing can be resumed.
    pub fn in_memory(self) -> Options {
        self.store(Arc::new(MemoryStore::new()))
    }
    pub fn store(mut self, store: Arc<dyn Store>) -> Options {
        self.store = Some(store);
        self
    }
    /// A tool that crews may name in `tools`, under the name in its own spec.
    pub fn tool(mut self, tool: impl Tool + 'static) -> Options {
        self.hosted.tools.insert(tool.spec().name.clone(), Arc::new(tool));
        self
    }
    /// A provider: crews name its models `name/anything`. They are free unless a crew states a price.
    pub fn model(mut self, name: &str, model: impl Model + 'static) -> Options {
        match Name::new(name) {
            Ok(name) => drop(self.hosted.models.insert(name, Arc::new(model))),
            Err(why) => self.wrong.push(why.to_string()),
        }
        self
    }
    /// Somebody looks at [`Engine::waiting`] while runs go on. Without this nobody is near: what a server asks in
    /// the middle of a call then waits no longer than the call may take, in place of `expires` of its tool.
    pub fn attended(mut self) -> Options {
        self.hosted.attended = Some(true);
        self
    }

    pub fn open(self) -> Result<Engine, Failure> {
        if !self.wrong.is_empty() {
            return Err(Failure::usage(self.wrong.join("\n")));
        }
        let env: Env =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let env = Arc::new(env);
        let root = std::path::absolute(&self.root)
            .map_err(|why| Failure::usage(format!("the folder {}: {why}", self.root.display())))?;
        let mut project = Project::embedded(root, &env, &self.flags)?;
        project.hosted = wiring::Hosted { attended: self.hosted.attended.or(Some(false)), ..self.hosted };
        let inner = match self.store {
            Some(store) => wiring::Engine::over(&project, store, env.clone()),
            None => wiring::Engine::open(&project, env.clone())?,
        };
        Ok(Engine { project: Arc::new(project), inner, env })
    }
}

impl Engine {
    /// A crew file of the project (relative to its folder), or a role prompt; read when it is started.
    pub fn crew<'e>(&'e self, path: &str) -> Start<'e> {
        let (inputs, overrides) = (BTreeMap::new(), Overrides::default());
        Start { engine: self, path: path.to_owned(), inputs, overrides, key: None, loaded: None }
    }

    /// Takes a run up again from its last recorded event. `run` is a prefix of its id, or `latest`.
    pub async fn resume(&self, run: &str) -> Result<Run, Failure> {
        let row = open::find_run(&*self.inner.store, run)?;
        let journal = open::read_run(&*self.inner.store, row)?;
        let ready = wiring::pinned(&self.project, &*self.inner.store, journal.started()?, &self.env)?;
        let resumed = Event::Run(RunEvent::Resumed { by: open::whoami(&self.env) });
        let (watcher, entries) = mpsc::unbounded_channel();
        let live = self.inner.resume(&journal.row.run, ready, vec![resumed], Some(watcher)).await?;
        Ok(Run::new(live, entries, journal.entries))
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }
}

/// A crew about to be started.
#[derive(Clone)]
pub struct Start<'e> {
    engine: &'e Engine,
    path: String,
    inputs: BTreeMap<String, serde_json::Value>,
    overrides: Overrides,
    key: Option<String>,
    loaded: Option<(Arc<Loaded>, String)>,
}

impl Start<'_> {
    pub fn input(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.inputs.insert(name.to_owned(), value.into());
        self
    }
    /// Every model is replaced by the stand-in, which needs no key and no network and is no AI model.
    pub fn offline(mut self) -> Self {
        self.overrides.offline = true;
        self
    }
    /// Replaces every model of the crew (`provider/model-id`).
    pub fn model(mut self, model: &str) -> Self {
        self.overrides.model = Some(model.to_owned());
        self
    }
    /// Lowers the caps of the crew.
    pub fn caps(mut self, caps: Caps) -> Self {
        self.overrides.caps = caps;
        self
    }
    /// A name of your own; a second start with it is refused ([`Engine::resume`] takes the run up).
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Reads the crew's files now. Clones share what was read: many runs of a crew read it once.
    /// Inputs may still be given; what replaces models or caps must have been.
    pub fn load(mut self) -> Result<Self, Failure> {
        let project = &self.engine.project;
        let loaded = if self.path.ends_with(".md") {
            let given: Vec<(String, bool)> = self.inputs.keys().map(|name| (name.clone(), false)).collect();
            crews::load_prompt(project, &self.path, &given, &self.overrides)
        } else {
            crews::load(project, &self.path, &self.overrides)
        };
        let Some(crew) = &loaded.crew else {
            return Err(Failure::new(Exit::Crew, crewfile::text(&loaded, false, usize::MAX).trim_end()));
        };
        let file = crew.file.clone();
        self.loaded = Some((Arc::new(loaded), file));
        Ok(self)
    }

    fn ready(mut self) -> Result<Ready, Failure> {
        if self.loaded.is_none() {
            self = self.load()?;
        }
        let Some((loaded, file)) = self.loaded else {
            return Err(Failure::new(Exit::Internal, "a crew that was read is gone"));
        };
        let root = &self.engine.project.root;
        let mut ready = wiring::bind(root, root, loaded, file, &BTreeMap::new(), &self.inputs, self.overrides)?;
        ready.key = self.key;
        Ok(ready)
    }

    /// Starts the run on the present tokio runtime. Everything that can be wrong is found before
    /// anything is sent.
    pub async fn start(self) -> Result<Run, Failure> {
        let engine = self.engine;
        let ready = self.ready()?;
        let (watcher, entries) = mpsc::unbounded_channel();
        // Aside: whoever starts a run in a task of its own keeps the room for it as long as that task is there.
        let live = Box::pin(engine.inner.start(ready, Some(watcher))).await?;
        Ok(Run::new(live, entries, Vec::new()))
    }
}

/// How long the entries of a run that is only waited for are left to gather.
const REST: Duration = Duration::from_millis(5);
/// As many at once.
const TOGETHER: usize = 1024;

/// A run at work in this process. Dropping it does not stop it.
pub struct Run {
    live: Live,
    entries: mpsc::UnboundedReceiver<Arc<Entry>>,
    ledger: Ledger,
    outcome: Option<Outcome>,
}

/// How a run left this process.
#[derive(Clone, Debug)]
pub struct Report {
    pub exit: Exit,
    /// The final task's result.
    pub result: Option<TaskResult>,
    /// Its text.
    pub text: Option<Arc<str>>,
    pub budget: Sums,
    pub caps: Caps,
}

impl Run {
    fn new(live: Live, entries: mpsc::UnboundedReceiver<Arc<Entry>>, before: Vec<Entry>) -> Run {
        let mut run = Run { live, entries, ledger: Ledger::default(), outcome: None };
        before.iter().for_each(|entry| run.book(entry));
        run
    }

    fn book(&mut self, entry: &Entry) {
        // What the engine wrote itself can be folded.
        if let Err(error) = self.ledger.apply(&entry.event) {
            tracing::error!(%error, "an entry cannot be booked");
        }
    }

    pub fn id(&self) -> &RunId {
        &self.live.id
    }

    /// The next entry of the journal; `None` once the run has left this process.
    pub async fn next(&mut self) -> Option<Arc<Entry>> {
        let entry = loop {
            if self.outcome.is_some() {
                break self.entries.try_recv().ok();
            }
            tokio::select! {
                biased;
                // Closed: only the outcome is still to come.
                Some(entry) = self.entries.recv() => break Some(entry),
                outcome = self.live.wait() => self.outcome = Some(outcome),
            }
        };
        if let Some(entry) = &entry {
            self.book(entry);
        }
        entry
    }

    /// Nothing new starts; calls in flight end; the run can be resumed.
    pub fn pause(&self) {
        self.live.pause(PauseCause::Asked, "host program");
    }
    pub fn cancel(&self) {
        self.live.cancel("host program");
    }

    /// A text that an event refers to.
    pub fn texts(&self) -> &dyn Texts {
        &*self.live.texts
    }

    /// Waits for the end.
    pub async fn wait(mut self) -> Result<Report, Failure> {
        // Nobody sees the entries: they are booked together, not each with a wake of its own.
        let mut news = Vec::new();
        while self.outcome.is_none() {
            tokio::select! {
                outcome = self.live.wait() => self.outcome = Some(outcome),
                1.. = self.entries.recv_many(&mut news, TOGETHER) => {
                    news.drain(..).for_each(|entry| self.book(&entry));
                    self.outcome = tokio::time::timeout(REST, self.live.wait()).await.ok();
                }
            }
        }
        while let Ok(entry) = self.entries.try_recv() {
            self.book(&entry);
        }
        let (exit, result) = match self.outcome.take() {
            Some(Outcome::Finished { status, result, .. }) => (finished(status), result),
            Some(Outcome::Parked { causes, .. }) => (ends::exit(&causes), None),
            Some(Outcome::StoreFailed(error)) => return Err(error.into()),
            Some(Outcome::Crashed(why) | Outcome::GaveUp(why)) => return Err(Failure::new(Exit::Internal, why)),
            None => return Err(Failure::new(Exit::Internal, "the run ended without a word")),
        };
        let text = result.as_ref().and_then(|result| result.text);
        let text = text.map(|text| self.live.texts.text(&text));
        let text = text.transpose().map_err(|missing| Failure::new(Exit::Audit, missing.to_string()))?;
        Ok(Report { exit, result, text, budget: self.ledger.total(), caps: self.ledger.caps })
    }
}

fn finished(status: RunEnd) -> Exit {
    match status {
        RunEnd::Completed => Exit::Done,
        RunEnd::Failed => Exit::Task,
        RunEnd::Cancelled => Exit::Cancelled,
    }
}
