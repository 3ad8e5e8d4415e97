//! The read side of a project: settings, store, runs and their journals. Invariant: looking at a
//! project changes nothing in it; a folder without runs stays without a state folder.

use std::path::{Path, PathBuf};

use super::Context;
use super::failure::{Exit, Failure};
use super::logging::{self, Log};
use crate::adapters::settings::{self, Flags, Settings};
use crate::adapters::store::SqliteStore;
use crate::core::ids::RUN_ID_LEN;
use crate::ports::store::{RunFilter, RunRow, Store};

/// A project that is open: its root, its settings, and the log they ask for.
pub struct Project {
    pub root: PathBuf,
    pub settings: Settings,
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
            Failure::usage(bad.to_string()).hint("bosun config shows every setting and where it is from")
        })?;
        let log = logging::start(&settings, context.global.verbose)?;
        for note in &settings.notes {
            context.out.note(&format!("note: {note}"));
        }
        Ok(Project { root, settings, _log: log })
    }

    /// Opens the store, made if it is missing.
    pub fn store(&self) -> Result<SqliteStore, Failure> {
        Ok(SqliteStore::open(&self.settings.state_dir)?)
    }

    /// The store, if there has been a run.
    pub fn existing_store(&self) -> Result<Option<SqliteStore>, Failure> {
        let journal = self.settings.state_dir.join("journal.db");
        match std::fs::symlink_metadata(&journal) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(Failure::new(Exit::State, format!("{}: {why}", journal.display()))
                .hint("Bosun must be able to read and write the state folder: check owner and permissions")),
            Ok(_) => self.store().map(Some),
        }
    }

    /// The store that `run` must be in.
    pub fn store_of(&self, run: &str) -> Result<SqliteStore, Failure> {
        self.existing_store()?.ok_or_else(|| {
            Failure::usage(format!("there is no run `{run}`: nothing has run in {} yet", self.root.display()))
                .hint("bosun demo, or bosun run CREW")
        })
    }
}

/// The run that a command line names: a prefix of its id from four characters, or `latest`.
pub fn find_run(store: &dyn Store, text: &str) -> Result<RunRow, Failure> {
    let latest = |limit| store.runs(&RunFilter { limit: Some(limit), ..RunFilter::default() });
    if text == "latest" {
        let found = latest(1)?.into_iter().next();
        return found.ok_or_else(|| Failure::usage("there is no latest run: nothing has run here yet"));
    }
    let prefix = text.to_ascii_uppercase();
    let wrong = |why: &str| Failure::usage(format!("`{text}` is not a run: {why}")).hint("bosun runs lists them");
    if !(4..=RUN_ID_LEN).contains(&prefix.len()) || !prefix.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(wrong("expected the first four or more characters of a run's id, or `latest`"));
    }
    let mut found = store.runs(&RunFilter { prefix: Some(prefix), ..RunFilter::default() })?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let known: Vec<String> =
                latest(3)?.iter().map(|row| format!("{} ({})", row.run.short(), row.crew)).collect();
            let known = if known.is_empty() { "nothing has run here yet".to_owned() } else { known.join(", ") };
            Err(wrong(&format!("none begins so; the latest are: {known}")))
        }
        _ => {
            let ids: Vec<String> = found.iter().take(5).map(|row| format!("{} ({})", row.run, row.crew)).collect();
            Err(wrong(&format!("{} begin so: {}; type one more character", found.len(), ids.join(", "))))
        }
    }
}
