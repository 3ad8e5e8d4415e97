//! Where actors meet adapters: the only module that names both. Invariant: a run is created or claimed
//! before anything of it starts, and what it runs is what its journal pins.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::failure::{Exit, Failure};
use super::open::Project;
use super::screen;
use crate::actors::Ports;
use crate::actors::crash::{CrashPoints, crash_point};
use crate::actors::host::{Host, Launch, LaunchError, Live};
use crate::adapters::clock::SystemClock;
use crate::adapters::crewfile::Loaded;
use crate::adapters::files::RootFiles;
use crate::adapters::models::secrets::Env;
use crate::adapters::models::{ProviderKind, ProviderSpec, Registry, Surroundings};
use crate::adapters::redaction::{RedactedModels, RedactedTools, Redactor};
use crate::adapters::sizes::O200k;
use crate::core::chat::FailureClass;
use crate::core::crew::{Crew, InputKind, Pricing};
use crate::core::estimate::set_aside;
use crate::core::event::{Event, RunEvent, Started};
use crate::core::ids::{Name, RunId};
use crate::core::machine::Decided;
use crate::core::rules;
use crate::core::run::Entry;
use crate::ports::author::Author;
use crate::ports::clock::Clock;
use crate::ports::store::{Epoch, NewRun, Store, StoreError};

mod boxes;
mod hidden;
mod hosted;
mod inputs;
mod providers;
mod servers;
mod taken;

pub use boxes::toolbox;
pub use hosted::Hosted;
use inputs::inputs_hash;
pub use inputs::{Ready, bind, keyed, pinned};
pub use providers::provider;
pub use servers::Servers;
use taken::Taken;

/// Names the file in which the stand-in counts its requests; of `bosun demo` alone.
pub const DEMO_COUNT: &str = "BOSUN_DEMO_COUNT";
/// Milliseconds that a request is on its way to the stand-in of the demo.
pub const DEMO_WAY: &str = "BOSUN_DEMO_WAY_MS";
/// Names the step whose agent is to panic once; of `bosun demo` alone.
pub const DEMO_DRILL: &str = "BOSUN_DEMO_DRILL";

/// Everything a process needs to run crews of one project.
pub struct Engine {
    pub root: PathBuf,
    pub store: Arc<dyn Store>,
    pub host: Arc<Host>,
    env: Arc<Env>,
    offline_delay: Duration,
    /// Where the stand-in counts its requests, for drills.
    pub count_file: Option<PathBuf>,
    /// How long requests are on their way to the stand-in.
    way: Duration,
    /// The step whose agent is to panic once, for drills.
    pub drill: Option<String>,
    sizes: Arc<O200k>,
    hosted: Hosted,
    secrets: Redactor,
    /// MCP servers, shared by all runs.
    servers: Servers,
    /// Ports of the crew that was started last.
    shared: Mutex<Option<(Arc<Crew>, Ports)>>,
}

/// Watches a run: every new entry.
pub type Watcher = mpsc::UnboundedSender<Arc<Entry>>;

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Failure {
        match error {
            LaunchError::Store(error) => error.into(),
            LaunchError::Corrupt { ref run, .. } => {
                Failure::new(Exit::Audit, error.to_string()).hint(format!("bosun audit verify {run}"))
            }
            LaunchError::Over { ref run } => Failure::usage(error.to_string()).hint(format!("bosun show {run}")),
            LaunchError::Actor { .. } => Failure::new(Exit::Internal, error.to_string()),
        }
    }
}

impl Engine {
    pub fn open(project: &Project, env: Arc<Env>) -> Result<Engine, Failure> {
        Ok(Engine::over(project, project.store()?, env))
    }

    /// Over a store that is open.
    pub fn over(project: &Project, store: Arc<dyn Store>, env: Arc<Env>) -> Engine {
        Engine {
            root: project.root.clone(),
            store,
            host: Arc::new(Host::sharing(Some(providers::rates(&project.settings.state_dir)))),
            offline_delay: project.settings.offline_delay,
            count_file: env.get(DEMO_COUNT).map(PathBuf::from),
            way: Duration::from_millis(env.get(DEMO_WAY).and_then(|ms| ms.parse().ok()).unwrap_or_default()),
            drill: env.get(DEMO_DRILL).cloned(),
            env: env.clone(),
            sizes: Arc::new(O200k::new()),
            hosted: project.hosted.clone(),
            secrets: project.secrets.clone(),
            servers: Servers::new(project, env.clone()),
            shared: Mutex::default(),
        }
    }

    /// The ports of one run. Missing keys and unreachable files are found here, before anything is sent.
    /// Runs of one crew share them, unless a run brings secrets or paths of its own.
    fn ports(&self, ready: &Ready) -> Result<Ports, Failure> {
        let own = !ready.secrets.is_empty() || ready.crew.inputs.iter().any(|input| input.kind == InputKind::Path);
        if own {
            return self.new_ports(ready);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ports)) = shared.as_ref().filter(|(crew, _)| Arc::ptr_eq(crew, &ready.crew)) {
            return Ok(ports.clone());
        }
        let ports = self.new_ports(ready)?;
        *shared = Some((ready.crew.clone(), ports.clone()));
        Ok(ports)
    }

    fn new_ports(&self, ready: &Ready) -> Result<Ports, Failure> {
        let own = ready.loaded.providers.iter().filter(|(name, _)| !self.hosted.models.contains_key(*name));
        let specs = own.map(|(name, table)| providers::of_run(name, table, &ready.loaded, &self.root));
        let specs: Vec<ProviderSpec> = specs.collect::<Result<_, _>>()?;
        let names: Vec<Name> = specs.iter().map(|spec| spec.name.clone()).collect();
        let inputs = Arc::new(ready.secret_inputs());
        let hide = hidden::of_run(&self.secrets, ready, &specs, &self.env);
        let around = Surroundings {
            env: self.env.clone(),
            secrets: inputs.clone(),
            offline_delay: self.offline_delay,
            count_file: self.count_file.clone(),
            offline_way: self.way,
        };
        let registry = Registry::new(specs, around);
        for name in &names {
            registry.check(name).map_err(|failure| {
                let exit = if failure.class == FailureClass::Credentials { Exit::Credentials } else { Exit::Crew };
                Failure::new(exit, failure.message).hint("nothing was sent")
            })?;
        }
        let boxes = boxes::of_run(&self.root, ready, &self.env, all_stand_ins(&ready.loaded), &self.servers)?;
        let files = RootFiles::open(&self.root).map_err(|why| Failure::new(Exit::Crew, why))?;
        Ok(Ports {
            store: self.store.clone(),
            models: Arc::new(RedactedModels(self.hosted.models_over(registry), hide.clone())),
            tools: Arc::new(RedactedTools { tools: self.hosted.tools_over(boxes), hide, inputs }),
            files: Arc::new(files),
            clock: Arc::new(SystemClock),
            sizes: self.sizes.clone(),
            attended: self
                .hosted
                .attended
                .unwrap_or_else(|| std::io::stdin().is_terminal() && std::io::stderr().is_terminal()),
            crash: CrashPoints::told(self.env.get("BOSUN_CRASH_AT"), std::process::abort).map_err(Failure::usage)?,
        })
    }

    /// Creates the run and starts it.
    pub async fn start(&self, mut ready: Ready, watcher: Option<Watcher>) -> Result<Live, Failure> {
        let inputs = inputs_hash(&ready.inputs, &ready.secrets);
        ready.draw_marks(SystemClock.random());
        let ports = self.ports(&ready)?;
        self.servers.ready(&ready).await?;
        let id = RunId::from_random(ports.clock.random());
        let started = started(&id, &ready);
        let time_left = ready.crew.deadline_ms.map(Duration::from_millis);
        let new = NewRun {
            run: id.clone(),
            crew: ready.crew.name.clone(),
            key: ready.key.clone(),
            inputs,
            offline: started.offline,
            cap: screen::caps(started.caps),
            started_ms: ports.clock.now_ms(),
        };
        let mut author = Author::of_new(&id);
        author.keep(ready.loaded.pinned().blobs());
        let entry = Arc::new(author.write(Event::Run(RunEvent::Started(Box::new(started))), new.started_ms));
        let batch = author.take(Epoch(0));
        let rows = batch.rows.clone();
        let (tell, made) = oneshot::channel();
        let (keyed, first) = (new.key.is_some(), watcher.clone());
        let told = move |how: Result<(), StoreError>| {
            // Nobody outside hears of an entry that is not on disk; whoever does not watch any more has gone.
            let _ = first.filter(|_| how.is_ok()).map(|watcher| watcher.send(entry));
            let _ = tell.send(how);
        };
        let epoch = self.store.begin(new, batch, Box::new(told)).map_err(not_begun)?;
        crash_point!(ports.crash, "run_begun");
        #[cfg(debug_assertions)]
        let crash = ports.crash.clone();
        let made = async move {
            made.await.map_err(|_| StoreError::ended())??;
            crash_point!(crash, "run_created");
            Ok::<(), StoreError>(())
        };
        let (crew, opening, told) = (ready.crew, Decided::default(), Vec::new());
        let launch = Launch { id: id.clone(), epoch, crew, rows, opening, told, time_left };
        if keyed {
            // Another process may have been faster: then nothing of it begins here.
            made.await.map_err(|error| not_begun(self.taken(error)))?;
            return self.launch(launch, ports, watcher).await;
        }
        // It goes up while its first entry is synced: whatever it would send waits for entries behind that one.
        let (live, made) = tokio::join!(self.launch(launch, ports, watcher), made);
        made.map_err(not_begun)?;
        live
    }

    /// Of several processes that start one key at once, the first creates the run: to the others it is
    /// running elsewhere.
    fn taken(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::KeyTaken { ref run, .. } => match self.store.owner(run) {
                Some(owner) => StoreError::Owned { run: run.clone(), owner },
                None => error,
            },
            other => other,
        }
    }

    /// Takes a run up again. `opening` are facts that come with it (a raise, retries).
    pub async fn resume(
        &self,
        run: &RunId,
        ready: Ready,
        opening: Vec<Event>,
        watcher: Option<Watcher>,
    ) -> Result<Live, Failure> {
        let ports = self.ports(&ready)?;
        let mut taken = Taken::up(&ports, run).await?;
        let time_left = taken.time_left(ready.crew.deadline_ms, ready.more_time);
        let (opening, told, known) = (taken.opening(opening), taken.told(), taken.known());
        let Taken { claim, epoch, rows, .. } = taken;
        claim.keep();
        let launch = Launch { id: run.clone(), epoch, crew: ready.crew, rows, opening, told, time_left };
        let live = self.launch(launch, ports.clone(), watcher).await?;
        if let Err(failure) = taken::forget(&ports, run, known).await {
            self.store.release(run);
            return Err(failure);
        }
        Ok(live)
    }

    async fn launch(&self, launch: Launch, ports: Ports, watcher: Option<Watcher>) -> Result<Live, Failure> {
        let run = launch.id.clone();
        let launched = self.host.launch(launch, ports, watcher).await;
        launched.map_err(|error| {
            self.store.release(&run);
            error.into()
        })
    }
}

/// Of a run whose first entry could not be written: there is no run to go on with.
fn not_begun(error: StoreError) -> Failure {
    let hint = is_state(&error).then_some("nothing was sent: when that is mended, start it again");
    hint.into_iter().fold(Failure::from(error), Failure::hint)
}

/// The state of a store that cannot be used is exit 6 everywhere.
pub fn is_state(error: &StoreError) -> bool {
    matches!(error, StoreError::Unusable { .. } | StoreError::WriteFailed { .. } | StoreError::Newer { .. })
}

fn started(id: &RunId, ready: &Ready) -> Started {
    let prices = ready.loaded.prices.iter().filter_map(|(model, pricing)| match pricing {
        Pricing::Priced(price) => Some((model.clone(), *price)),
        Pricing::Local | Pricing::Unknown => None,
    });
    Started {
        run: id.clone(),
        crew: ready.crew.name.clone(),
        file: ready.file.clone(),
        pins: ready.loaded.pinned().ids(),
        inputs: ready.inputs.clone(),
        overrides: ready.overrides.clone(),
        prices: prices.collect(),
        price_from: ready.loaded.price_from.clone(),
        windows: ready.loaded.windows.clone(),
        tokenizers: ready.loaded.tokenizers.clone(),
        refuses: ready.loaded.refuses.clone(),
        aside: set_aside(&ready.crew, &ready.inputs),
        caps: ready.crew.budget.caps,
        cap_origin: ready.crew.budget.origin.clone(),
        key: ready.key.clone(),
        offline: all_stand_ins(&ready.loaded),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tools: Some(ready.loaded.pinned().tools.id),
        rules: rules::RULES,
        tainted: ready.tainted.clone(),
    }
}

/// Every model of the crew is a stand-in.
fn all_stand_ins(loaded: &Loaded) -> bool {
    let kinds = loaded.providers.values().map(|table| ProviderKind::parse(&table.kind));
    kinds.into_iter().all(|kind| kind.is_ok_and(|kind| kind.is_stand_in()))
}
