//! The read side of a project: settings, store, runs and their journals. Invariant: looking at a
//! project changes nothing in it; a folder without runs stays without a state folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Context;
use super::failure::{Exit, Failure};
use super::logging::{self, Log};
use super::tally::Tally;
use super::wiring::Hosted;
use crate::adapters::models::secrets::Env;
use crate::adapters::redaction::Redactor;
use crate::adapters::settings::{self, Flags, Settings};
use crate::adapters::store::SqliteStore;
use crate::core::chain::{Hash, genesis};
use crate::core::event::{BadEvent, Event, Started};
use crate::core::ids::{BlobId, RUN_ID_LEN, RunId, Seq};
use crate::core::machine::{MissingText, Texts};
use crate::core::run::Entry;
use crate::ports::store::{Row, RunFilter, RunRow, Store};

/// A project that is open: its root, its settings, and the log they ask for.
pub struct Project {
    pub root: PathBuf,
    pub settings: Settings,
    /// Tools and models of the program that embeds this one.
    pub hosted: Hosted,
    /// What nothing that is written may hold.
    pub secrets: Redactor,
    /// This very program, for [`leash`](crate::adapters::mcp::leash); `None` inside another one.
    pub leash: Option<PathBuf>,
    _log: Log,
}

impl Project {
    /// The project that the present folder is in: the nearest folder at or above it with a state
    /// folder, `bosun.toml` or `prompts/`, else the folder itself.
    pub fn here(context: &Context) -> Result<Project, Failure> {
        let marked = |folder: &&Path| {
            folder.join(".bosun/journal.db").is_file()
                || folder.join(settings::PROJECT_FILE).is_file()
                || folder.join("prompts").is_dir()
        };
        let root = context.cwd.ancestors().find(marked).unwrap_or(&context.cwd).to_owned();
        Project::at(context, root, Flags::new())
    }

    /// The project of `root`. `flags` are laid over the global flags.
    pub fn at(context: &Context, root: PathBuf, flags: Flags) -> Result<Project, Failure> {
        let mut all = context.global.flags();
        if let Some(folder) = all.get_mut("state_dir") {
            // A flag's path is relative to where it was typed.
            *folder = context.cwd.join(&*folder).display().to_string();
        }
        all.extend(flags);
        let settings = settings::load(&root, &context.env, &all).map_err(|bad| {
            Failure::usage(bad.to_string()).hint("nothing was done; bosun help environment names the variables")
        })?;
        let log = logging::start(&settings, context.global.verbose, context.out.secrets())?;
        for note in &settings.notes {
            context.out.note(&format!("note: {note}"));
        }
        let (hosted, secrets) = (Hosted::default(), context.out.secrets().clone());
        Ok(Project { root, settings, hosted, secrets, leash: this_program(), _log: log })
    }

    /// The project of `root` in a program that has its own log and output.
    pub fn embedded(root: PathBuf, env: &Env, flags: &Flags) -> Result<Project, Failure> {
        let settings = settings::load(&root, env, flags).map_err(|bad| Failure::usage(bad.to_string()))?;
        let (hosted, secrets) = (Hosted::default(), Redactor::of_env(env));
        Ok(Project { root, settings, hosted, secrets, leash: None, _log: Log::default() })
    }

    /// Opens the store, made if it is missing.
    pub fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(Arc::new(SqliteStore::open(&self.settings.state_dir)?))
    }

    /// The store, if there has been a run.
    pub fn existing_store(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        let journal = self.settings.state_dir.join("journal.db");
        match std::fs::symlink_metadata(&journal) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // The store says what is in the way.
            Err(why) if why.kind() == std::io::ErrorKind::NotADirectory => self.store().map(Some),
            Err(why) => Err(Failure::new(Exit::State, format!("{}: {why}", journal.display()))
                .hint("Bosun must be able to read and write the state folder: check owner and permissions")),
            Ok(_) => self.store().map(Some),
        }
    }

    /// The store that `run` must be in.
    pub fn store_of(&self, run: &str) -> Result<Arc<dyn Store>, Failure> {
        self.existing_store()?.ok_or_else(|| {
            Failure::usage(format!("there is no run `{run}`: nothing has run in {} yet", self.root.display()))
                .hint("bosun demo, or bosun run CREW")
        })
    }
}

/// What a run is called where somebody may type it: the first four characters of its id, and more where
/// another run of the store begins with them too.
pub fn called(store: &dyn Store, run: &RunId) -> String {
    let like = RunFilter { prefix: Some(run.short().to_owned()), ..RunFilter::default() };
    // Nothing is known of the others: the whole id is right in any case.
    store.runs(&like).map_or_else(|_| run.to_string(), |rows| apart(run, rows.iter().map(|row| &row.run)).to_owned())
}

/// The shortest beginning of `run`, of at least four characters, that none of the others has.
fn apart<'a>(run: &'a RunId, others: impl Iterator<Item = &'a RunId>) -> &'a str {
    let own = run.as_str();
    let alike = |other: &RunId| own.bytes().zip(other.as_str().bytes()).take_while(|(a, b)| a == b).count();
    let most = others.filter(|other| *other != run).map(alike).max().unwrap_or(0);
    &own[..(most + 1).clamp(run.short().len(), own.len())]
}

/// The run that a command line names: any prefix of its id that no other run has, or `latest`.
pub fn find_run(store: &dyn Store, text: &str) -> Result<RunRow, Failure> {
    let latest = |limit| store.runs(&RunFilter { limit: Some(limit), ..RunFilter::default() });
    if text == "latest" {
        let found = latest(1)?.into_iter().next();
        return found.ok_or_else(|| Failure::usage("there is no latest run: nothing has run here yet"));
    }
    let prefix = text.to_ascii_uppercase();
    let wrong = |why: &str| Failure::usage(format!("`{text}` is not a run: {why}")).hint("bosun runs lists them");
    if !(1..=RUN_ID_LEN).contains(&prefix.len()) || !prefix.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(wrong("expected the first characters of a run's id, or `latest`"));
    }
    let mut found = store.runs(&RunFilter { prefix: Some(prefix), ..RunFilter::default() })?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let known: Vec<String> =
                latest(3)?.iter().map(|row| format!("{} ({})", called(store, &row.run), row.crew)).collect();
            let known = if known.is_empty() { "nothing has run here yet".to_owned() } else { known.join(", ") };
            Err(wrong(&format!("none begins so; the latest are: {known}")))
        }
        _ => {
            let name = |row: &RunRow| format!("{} ({})", apart(&row.run, found.iter().map(|row| &row.run)), row.crew);
            let names: Vec<String> = found.iter().take(5).map(name).collect();
            let more = if found.len() > names.len() { ", …" } else { "" };
            Err(wrong(&format!("{} begin so: {}{more}; name more of it", found.len(), names.join(", "))))
        }
    }
}

/// A run's journal, read and decoded.
pub struct Journal {
    pub row: RunRow,
    pub rows: Vec<Row>,
    pub entries: Vec<Entry>,
    pub tally: Tally,
}

impl Journal {
    /// As [`called`].
    pub fn called(&self) -> &str {
        self.tally.called.as_deref().unwrap_or(self.row.run.as_str())
    }
    pub fn started(&self) -> Result<&Started, Failure> {
        self.tally.started.as_deref().ok_or_else(|| {
            Failure::new(Exit::Audit, format!("the journal of run {} does not begin with run.started", self.row.run))
                .hint(format!("bosun audit verify {}", self.row.run))
        })
    }
    /// Hash of the last entry.
    pub fn head(&self) -> Hash {
        self.rows.last().map_or_else(|| genesis(&self.row.run), |row| row.hash)
    }
}

/// Reads a whole run.
pub fn read_run(store: &dyn Store, row: RunRow) -> Result<Journal, Failure> {
    let mut journal = read_one_of_many(store, row)?;
    journal.tally.called = Some(called(store, &journal.row.run));
    Ok(journal)
}

/// As [`read_run`], without a look at what other runs are called.
pub fn read_one_of_many(store: &dyn Store, row: RunRow) -> Result<Journal, Failure> {
    let rows = store.read(&row.run, Seq(1))?;
    let entries = decode(&row.run, &rows)?;
    let tally = Tally::of(&entries);
    Ok(Journal { row, rows, entries, tally })
}

/// Rows as entries. A newer format is named as such; anything else that cannot be read is damage.
pub fn decode(run: &RunId, rows: &[Row]) -> Result<Vec<Entry>, Failure> {
    let one = |row: &Row| match Event::decode(&row.kind, &row.payload) {
        Ok(event) => Ok(Entry { seq: row.seq, at_ms: row.at_ms, event }),
        Err(bad) => {
            let exit = match bad {
                BadEvent::Newer { .. } | BadEvent::UnknownKind(_) => Exit::State,
                BadEvent::Malformed { .. } => Exit::Audit,
            };
            let failure = Failure::new(exit, format!("run {run}, entry {}: {bad}", row.seq));
            Err(failure.hint(format!("bosun show {run} --events --json prints it as it is stored")))
        }
    };
    rows.iter().map(one).collect()
}

/// The texts of a store, each read once as long as they fit in memory.
pub struct StoreTexts {
    store: Arc<dyn Store>,
    cache: Mutex<(HashMap<BlobId, Arc<str>>, usize)>,
}

/// Bytes of texts that are kept; then the cache begins anew.
const CACHE_MAX: usize = 64 * 1024 * 1024;

impl StoreTexts {
    pub fn new(store: Arc<dyn Store>) -> StoreTexts {
        StoreTexts { store, cache: Mutex::default() }
    }
}

impl Texts for StoreTexts {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = cache.0.get(id) {
            return Ok(text.clone());
        }
        let text = match self.store.blob(id) {
            Ok(text) => text.ok_or(MissingText(*id))?,
            Err(error) => {
                tracing::error!(%error, blob = %id, "a text cannot be read");
                return Err(MissingText(*id));
            }
        };
        if cache.1 + text.len() > CACHE_MAX {
            *cache = Default::default();
        }
        cache.1 += text.len();
        cache.0.insert(*id, text.clone());
        Ok(text)
    }
}

/// This program as it can be started again, even if its file has been replaced meanwhile.
fn this_program() -> Option<PathBuf> {
    let kernels = PathBuf::from("/proc/self/exe");
    if kernels.exists() { Some(kernels) } else { std::env::current_exe().ok() }
}

/// Wall time in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Who types this command: `user@host pid N`.
pub fn whoami(env: &Env) -> String {
    let user = env.get("USER").or_else(|| env.get("LOGNAME")).map_or("unknown", String::as_str);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host} pid {}", std::process::id())
}
