//! Where actors meet adapters: the only file that names both. Invariant: a run is created or claimed
//! before anything of it starts, and what it runs is what its journal pins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::crew as crews;
use super::failure::{Exit, Failure};
use super::open::Project;
use crate::actors::Ports;
use crate::actors::crash::{CrashPoints, crash_point};
use crate::actors::host::{Host, Launch, LaunchError, Live};
use crate::adapters::clock::SystemClock;
use crate::adapters::crewfile::{Loaded, ProviderTable};
use crate::adapters::files::RootFiles;
use crate::adapters::models::secrets::{Env, KeySource, SecretInputs, mark};
use crate::adapters::models::{ProviderKind, ProviderSpec, Registry, Surroundings};
use crate::adapters::sizes::O200k;
use crate::adapters::tools::{CommandSpec, Declared, Grant, ToolBox, ToolBoxes};
use crate::core::chain;
use crate::core::chat::{Blob, FailureClass};
use crate::core::crew::{Crew, InputKind, Overrides, Pricing, ToolSource};
use crate::core::event::{Event, RunEvent, Started};
use crate::core::ids::{BlobId, Name, RunId, Seq};
use crate::core::money::Amount;
use crate::core::run::Entry;
use crate::ports::store::{Batch, Epoch, NewRun, Row, RunRow, RunState, Store, StoreError};

/// Names the file in which the stand-in counts its requests; of `bosun demo` alone.
pub const DEMO_COUNT: &str = "BOSUN_DEMO_COUNT";
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
    /// The step whose agent is to panic once, for drills.
    pub drill: Option<String>,
    sizes: Arc<O200k>,
}

/// A crew with its inputs, ready to start.
pub struct Ready {
    pub crew: Arc<Crew>,
    pub loaded: Loaded,
    /// Path of the crew file below the root.
    pub file: String,
    /// Bound inputs, secrets as marks.
    pub inputs: BTreeMap<Name, serde_json::Value>,
    pub secrets: BTreeMap<Name, String>,
    pub overrides: Overrides,
    pub key: Option<String>,
}

/// Watches a run: every new entry.
pub type Watcher = mpsc::UnboundedSender<Arc<Entry>>;

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Failure {
        match error {
            LaunchError::Store(error) => error.into(),
            LaunchError::Corrupt { ref run, .. } => {
                Failure::new(Exit::Audit, error.to_string()).hint(format!("bosun audit verify {}", run.short()))
            }
            LaunchError::Actor { .. } => Failure::new(Exit::Internal, error.to_string()),
        }
    }
}

impl Engine {
    pub fn open(project: &Project, env: Arc<Env>) -> Result<Engine, Failure> {
        Ok(Engine {
            root: project.root.clone(),
            store: project.store()?,
            host: Arc::new(Host::new()),
            offline_delay: project.settings.offline_delay,
            count_file: env.get(DEMO_COUNT).map(PathBuf::from),
            drill: env.get(DEMO_DRILL).cloned(),
            env,
            sizes: Arc::new(O200k::new()),
        })
    }

    /// The ports of one run. Missing keys and unreachable files are found here, before anything is sent.
    fn ports(&self, ready: &Ready) -> Result<Ports, Failure> {
        let specs = ready.loaded.providers.iter().map(|(name, table)| provider(name, table, &self.root));
        let specs: Vec<ProviderSpec> = specs.collect::<Result<_, _>>()?;
        let names: Vec<Name> = specs.iter().map(|spec| spec.name.clone()).collect();
        let around = Surroundings {
            env: self.env.clone(),
            secrets: Arc::new(secret_inputs(&ready.secrets)),
            offline_delay: self.offline_delay,
            count_file: self.count_file.clone(),
        };
        let registry = Registry::new(specs, around);
        for name in &names {
            registry.check(name).map_err(|failure| {
                let exit = if failure.class == FailureClass::Credentials { Exit::Credentials } else { Exit::Crew };
                Failure::new(exit, format!("provider `{name}`: {}", failure.message)).hint("nothing was sent")
            })?;
        }
        let files = RootFiles::open(&self.root).map_err(|why| Failure::new(Exit::Crew, why))?;
        Ok(Ports {
            store: self.store.clone(),
            models: Arc::new(registry),
            tools: Arc::new(self.tools(ready)?),
            files: Arc::new(files),
            clock: Arc::new(SystemClock),
            sizes: self.sizes.clone(),
            crash: CrashPoints::told(self.env.get("BOSUN_CRASH_AT"), std::process::abort).map_err(Failure::usage)?,
        })
    }

    fn tools(&self, ready: &Ready) -> Result<ToolBoxes, Failure> {
        let mut boxes = ToolBoxes::default();
        let mut open = vec![ready.crew.clone()];
        while let Some(crew) = open.pop() {
            if boxes.0.contains_key(&crew.file) {
                continue;
            }
            let declared = crew.tools.iter().filter_map(|(name, def)| self.declared(name, def)).collect();
            let tools = ToolBox::new(&self.root, self.grants(ready)?, declared)
                .map_err(|problems| Failure::new(Exit::Crew, problems.join("\n")))?;
            boxes.0.insert(crew.file.clone(), tools);
            open.extend(crew.crews.values().map(|sub| sub.crew.clone()));
        }
        Ok(boxes)
    }

    fn declared(&self, name: &str, def: &crate::core::crew::ToolDef) -> Option<Declared> {
        match &def.source {
            // Builtins that a crew only names are in every box.
            ToolSource::Builtin { name: builtin, read, write }
                if builtin == name && read.is_empty() && write.is_empty() =>
            {
                None
            }
            ToolSource::Builtin { name: builtin, read, write } => Some(Declared::Use {
                builtin: builtin.clone(),
                spec: def.spec.clone(),
                read: read.clone(),
                write: write.clone(),
            }),
            ToolSource::Command { argv, env } => Some(Declared::Command(CommandSpec {
                spec: def.spec.clone(),
                argv: argv.clone(),
                env: env.clone(),
                cwd: self.root.clone(),
            })),
        }
    }

    /// Path inputs are read grants of the run.
    fn grants(&self, ready: &Ready) -> Result<Vec<Grant>, Failure> {
        let paths = ready.crew.inputs.iter().filter(|input| input.kind == InputKind::Path && !input.secret);
        let texts = paths.filter_map(|input| ready.inputs.get(&input.name)?.as_str());
        let grants = texts.map(|text| Grant::open(text, &self.root).map_err(Failure::usage));
        grants.collect()
    }

    /// Creates the run and starts it.
    pub async fn start(&self, ready: Ready, watcher: Option<Watcher>) -> Result<Live, Failure> {
        let ports = self.ports(&ready)?;
        let id = RunId::from_random(ports.clock.random());
        let started = started(&id, &ready);
        let blobs = ready.loaded.pins.iter().map(|pin| Blob::new(pin.text.clone())).collect();
        let time_left = ready.crew.deadline_ms.map(Duration::from_millis);
        let new = NewRun {
            run: id.clone(),
            crew: ready.crew.name.clone(),
            key: ready.key.clone(),
            inputs: inputs_hash(&ready.inputs, &ready.secrets),
            offline: started.offline,
            cap: cap_text(&started),
            started_ms: ports.clock.now_ms(),
        };
        let row = first_row(&id, Event::Run(RunEvent::Started(Box::new(started))), new.started_ms);
        let batch = Batch {
            run: id.clone(),
            epoch: Epoch(0),
            after: Seq(0),
            rows: vec![row.clone()],
            blobs,
            spent: Amount::default(),
            state: Some(RunState::Running),
        };
        let epoch = self.store.create(new, batch)?;
        crash_point!(ports.crash, "run_created");
        if let (Some(watcher), Ok(entry)) = (&watcher, Entry::decode(row.seq, row.at_ms, &row.kind, &row.payload)) {
            let _ = watcher.send(Arc::new(entry));
        }
        let (crew, opening) = (ready.crew, Vec::new());
        let launch = Launch { id: id.clone(), epoch, crew, rows: vec![row], opening, time_left };
        self.launch(launch, ports, watcher).await
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
        #[cfg(debug_assertions)]
        let crash = ports.crash.clone();
        let epoch = self.store.claim(run)?;
        crash_point!(ports.crash, "run_claimed");
        let resumed = async {
            let rows = self.store.read(run, Seq(1))?;
            let ran = running_ms(&rows);
            let time_left = ready.crew.deadline_ms.map(|all| Duration::from_millis(all.saturating_sub(ran)));
            let inbox = self.store.inbox(run)?;
            let settles = inbox.iter().filter(|row| row.kind == "settle").filter_map(crate::actors::host::settle_event);
            let opening = settles.chain(opening).collect();
            let launch = Launch { id: run.clone(), epoch, crew: ready.crew, rows, opening, time_left };
            let live = self.launch(launch, ports, watcher).await?;
            // A pause that was asked of the dead process is over with it; a cancel is not.
            if inbox.iter().any(|row| row.kind == "cancel") {
                live.cancel("inbox");
            }
            if let Some(last) = inbox.last() {
                crash_point!(crash, "inbox_opened");
                self.store.inbox_done(run, last.id)?;
            }
            Ok::<Live, Failure>(live)
        };
        let live = resumed.await;
        if live.is_err() {
            self.store.release(run);
        }
        live
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

/// The run a key already names, if its inputs are the same.
pub fn keyed(store: &dyn Store, ready: &Ready) -> Result<Option<RunRow>, Failure> {
    let Some(key) = &ready.key else { return Ok(None) };
    let filter = crate::ports::store::RunFilter {
        crew: Some(ready.crew.name.clone()),
        key: Some(key.clone()),
        limit: Some(1),
        ..Default::default()
    };
    let Some(row) = store.runs(&filter)?.into_iter().next() else { return Ok(None) };
    if row.inputs != inputs_hash(&ready.inputs, &ready.secrets) {
        return Err(Failure::usage(format!("key `{key}` names run {}, which has other inputs", row.run.short()))
            .hint(format!("bosun show {} prints them; use another key for other inputs", row.run.short())));
    }
    Ok(Some(row))
}

/// Equal inputs have equal hashes; a secret counts by its value, of which only the hash is kept.
fn inputs_hash(inputs: &BTreeMap<Name, serde_json::Value>, secrets: &BTreeMap<Name, String>) -> BlobId {
    let secrets: BTreeMap<String, String> =
        secrets.iter().map(|(name, value)| (name.to_string(), BlobId::of(value.as_bytes()).to_string())).collect();
    let inputs: BTreeMap<String, &serde_json::Value> =
        inputs.iter().map(|(name, value)| (name.to_string(), value)).collect();
    BlobId::of(serde_json::json!([inputs, secrets]).to_string().as_bytes())
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
        pins: ready.loaded.pins.iter().map(|pin| (pin.path.clone(), BlobId::of(pin.text.as_bytes()))).collect(),
        inputs: ready.inputs.clone(),
        overrides: ready.overrides.clone(),
        prices: prices.collect(),
        caps: ready.crew.budget.caps,
        cap_origin: ready.crew.budget.origin.clone(),
        key: ready.key.clone(),
        offline: all_stand_ins(&ready.loaded),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Every model of the crew is a stand-in.
fn all_stand_ins(loaded: &Loaded) -> bool {
    let kinds = loaded.providers.values().map(|table| ProviderKind::parse(&table.kind));
    kinds.into_iter().all(|kind| kind.is_ok_and(|kind| kind.is_stand_in()))
}

fn cap_text(started: &Started) -> String {
    match (started.caps.usd, started.caps.tokens) {
        (Some(usd), _) => usd.short(2),
        (None, Some(tokens)) => format!("{tokens} tok"),
        (None, None) => "none".to_owned(),
    }
}

fn first_row(id: &RunId, event: Event, at_ms: u64) -> Row {
    let (kind, payload) = (event.kind(), event.encode());
    let hash = chain::link(&chain::genesis(id), Seq(1), at_ms, kind, &payload);
    Row { seq: Seq(1), at_ms, kind: kind.to_owned(), payload: payload.into(), hash }
}

/// Running time so far: between each start and the last entry before the next one, on the clock of
/// the rows. A clock that jumped back counts as nothing.
fn running_ms(rows: &[Row]) -> u64 {
    let mut total = 0u64;
    let (mut from, mut last) = (None, 0);
    for row in rows {
        if row.kind == "run.started" || row.kind == "run.resumed" {
            total = total.saturating_add(from.map_or(0, |from| u64::saturating_sub(last, from)));
            from = Some(row.at_ms);
        }
        last = row.at_ms;
    }
    total.saturating_add(from.map_or(0, |from| last.saturating_sub(from)))
}

fn secret_inputs(secrets: &BTreeMap<Name, String>) -> SecretInputs {
    secrets.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect()
}

/// A provider as its adapter takes it.
pub fn provider(name: &Name, table: &ProviderTable, root: &Path) -> Result<ProviderSpec, Failure> {
    let kind = ProviderKind::parse(&table.kind).map_err(|why| Failure::new(Exit::Crew, why))?;
    let mut spec = ProviderSpec::new(name.clone(), kind);
    spec.base_url = table.base_url.clone().or(spec.base_url);
    spec.key = match (&table.api_key_env, &table.api_key_file) {
        (Some(variable), _) => KeySource::Env(variable.clone()),
        (None, Some(path)) => KeySource::File(root.join(path)),
        (None, None) => spec.key,
    };
    spec.timeout_ms = table.timeout_ms.unwrap_or(spec.timeout_ms);
    spec.max_concurrency =
        table.max_concurrency.map_or(spec.max_concurrency, |n| usize::try_from(n).unwrap_or(usize::MAX));
    spec.script = table.file.as_ref().map(|path| root.join(path)).or(spec.script);
    Ok(spec)
}

/// Binds a crew's inputs. Paths are relative to `cwd`; inside the root they become relative to it.
pub fn bind(
    root: &Path,
    cwd: &Path,
    loaded: Loaded,
    file: String,
    texts: &BTreeMap<String, String>,
    typed: &BTreeMap<String, serde_json::Value>,
    overrides: Overrides,
) -> Result<Ready, Failure> {
    let crew = loaded.crew.clone().ok_or_else(|| Failure::new(Exit::Crew, "the crew is not valid"))?;
    let mut inputs = crew.bind_inputs(texts, typed).map_err(|wrong| {
        Failure::usage(wrong.join("\n")).hint(format!("bosun plan {file} shows what a crew needs; nothing was sent"))
    })?;
    let mut secrets = BTreeMap::new();
    for input in &crew.inputs {
        let Some(value) = inputs.get_mut(&input.name) else { continue };
        if input.secret {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            secrets.insert(input.name.clone(), plain);
            *value = mark(&input.name).into();
        } else if let (InputKind::Path, Some(text)) = (input.kind, value.as_str()) {
            *value = place(root, cwd, text).into();
        }
    }
    Ok(Ready { crew, loaded, file, inputs, secrets, overrides, key: None })
}

/// A path as the run knows it: relative to the root if it is inside, else absolute. The same on resume,
/// whatever folder that is typed in.
fn place(root: &Path, cwd: &Path, text: &str) -> String {
    let full = std::path::absolute(cwd.join(text)).unwrap_or_else(|_| cwd.join(text));
    let inside = full.strip_prefix(root).ok().filter(|inside| !inside.as_os_str().is_empty());
    inside.unwrap_or(&full).to_string_lossy().into_owned()
}

/// What a run was started with, read from its journal. Secrets must be given again.
pub fn pinned(
    project: &Project,
    store: &dyn Store,
    started: &Started,
    env: &Env,
    texts: &BTreeMap<String, String>,
) -> Result<Ready, Failure> {
    let (crew, loaded) = crews::pinned(project, store, started)?;
    let mut secrets = BTreeMap::new();
    for input in crew.inputs.iter().filter(|input| input.secret) {
        let variable = format!("BOSUN_INPUT_{}", input.name.as_str().to_ascii_uppercase());
        let value = texts.get(input.name.as_str()).or_else(|| env.get(&variable));
        let value = value.ok_or_else(|| {
            Failure::new(Exit::Credentials, format!("secret input `{}` is not in the journal", input.name))
                .hint(format!("set {variable}, then: bosun resume {}", started.run.short()))
        })?;
        secrets.insert(input.name.clone(), value.clone());
    }
    Ok(Ready {
        crew,
        loaded,
        file: started.file.clone(),
        inputs: started.inputs.clone(),
        secrets,
        overrides: started.overrides.clone(),
        key: started.key.clone(),
    })
}
