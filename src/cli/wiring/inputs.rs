//! A crew with its inputs. Invariant: what a run is started with is bound, checked and pinned once;
//! a resume reads it from the journal, and only secrets are asked for again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::adapters::crewfile::{self, Loaded};
use crate::adapters::models::secrets::{Env, SecretInputs, mark, unbound};
use crate::cli::crew as crews;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::Project;
use crate::core::chat::SECRET_MAX;
use crate::core::crew::{Crew, InputKind, Overrides};
use crate::core::event::Started;
use crate::core::ids::{BlobId, Name};
use crate::ports::store::{RunRow, Store};

/// A crew with its inputs, ready to start.
pub struct Ready {
    pub crew: Arc<Crew>,
    pub loaded: Arc<Loaded>,
    /// Path of the crew file below the root.
    pub file: String,
    /// Bound inputs, secrets as marks.
    pub inputs: BTreeMap<Name, serde_json::Value>,
    pub secrets: BTreeMap<Name, String>,
    pub overrides: Overrides,
    pub key: Option<String>,
    /// What the inputs come from that is not to be trusted, in words.
    pub tainted: Option<String>,
    /// Running time that a resume adds to the deadline.
    pub more_time: Duration,
    /// The run exists: its journal says what it is.
    pub taken_up: bool,
}

impl Ready {
    /// Gives the secrets the marks of a run that begins; a resume finds them in the journal.
    pub(super) fn draw_marks(&mut self, drawn: u64) {
        for name in self.secrets.keys() {
            self.inputs.insert(name.clone(), mark(name, drawn).into());
        }
    }

    /// The values behind the marks.
    pub(super) fn secret_inputs(&self) -> SecretInputs {
        let marked = self.secrets.iter().filter_map(|(name, value)| Some((self.inputs.get(name)?.as_str()?, value)));
        marked.map(|(mark, value)| (mark.to_owned(), value.clone().into())).collect()
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
        return Err(Failure::usage(format!("key `{key}` names run {}, which has other inputs", row.run))
            .hint(format!("bosun show {} prints them; use another key for other inputs", row.run)));
    }
    Ok(Some(row))
}

/// Equal inputs have equal hashes (before marks are drawn); a secret counts by its value, of which only the hash is kept.
pub(super) fn inputs_hash(inputs: &BTreeMap<Name, serde_json::Value>, secrets: &BTreeMap<Name, String>) -> BlobId {
    let secrets: BTreeMap<String, String> =
        secrets.iter().map(|(name, value)| (name.to_string(), BlobId::of(value.as_bytes()).to_string())).collect();
    let inputs: BTreeMap<String, &serde_json::Value> =
        inputs.iter().map(|(name, value)| (name.to_string(), value)).collect();
    BlobId::of(serde_json::json!([inputs, secrets]).to_string().as_bytes())
}

/// Binds a crew's inputs. Paths are relative to `cwd`; inside the root they become relative to it.
pub fn bind(
    root: &Path,
    cwd: &Path,
    loaded: impl Into<Arc<Loaded>>,
    file: String,
    texts: &BTreeMap<String, String>,
    typed: &BTreeMap<String, serde_json::Value>,
    overrides: Overrides,
) -> Result<Ready, Failure> {
    let loaded = loaded.into();
    let crew = loaded.crew.clone().ok_or_else(|| Failure::new(Exit::Crew, "the crew is not valid"))?;
    let mut inputs =
        crew.bind_inputs(texts, typed).map_err(|wrong| Failure::usage(wrong.join("\n")).hint("nothing was sent"))?;
    let mut secrets = BTreeMap::new();
    for input in &crew.inputs {
        let Some(value) = inputs.get_mut(&input.name) else { continue };
        if input.secret {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if serde_json::Value::from(plain.as_str()).to_string().len() > SECRET_MAX {
                let why = format!("secret input `{}` is longer than {SECRET_MAX} bytes", input.name);
                return Err(Failure::usage(why)
                    .hint("a prompt holds only its mark, and a hold counts that many bytes for each"));
            }
            secrets.insert(input.name.clone(), plain);
            *value = unbound(&input.name).into();
        } else if let (InputKind::Path, Some(text)) = (input.kind, value.as_str()) {
            *value = place(root, cwd, text).into();
        }
    }
    let wrong = crewfile::misplaced(&loaded, &inputs);
    if !wrong.is_empty() {
        let text = crewfile::shown(&loaded, &wrong, false, usize::MAX);
        return Err(Failure::new(Exit::Crew, text.trim_end()).hint("nothing was sent"));
    }
    Ok(Ready {
        crew,
        loaded,
        file,
        inputs,
        secrets,
        overrides,
        key: None,
        tainted: None,
        more_time: Duration::ZERO,
        taken_up: false,
    })
}

/// A path as the run knows it: relative to the root if it is inside, else absolute. The same on resume,
/// whatever folder that is typed in.
fn place(root: &Path, cwd: &Path, text: &str) -> String {
    let full = std::path::absolute(cwd.join(text)).unwrap_or_else(|_| cwd.join(text));
    let inside = full.strip_prefix(root).ok().filter(|inside| !inside.as_os_str().is_empty());
    inside.unwrap_or(&full).to_string_lossy().into_owned()
}

/// What a run was started with, read from its journal. Secrets must be given again.
pub fn pinned(project: &Project, store: &dyn Store, started: &Started, env: &Env) -> Result<Ready, Failure> {
    let (crew, loaded) = crews::pinned(project, store, started)?;
    let mut secrets = BTreeMap::new();
    for input in crew.inputs.iter().filter(|input| input.secret) {
        let variable = format!("BOSUN_INPUT_{}", input.name.as_str().to_ascii_uppercase());
        let value = env.get(&variable);
        let value = value.ok_or_else(|| {
            Failure::new(Exit::Credentials, format!("secret input `{}` is not in the journal", input.name))
                .hint(format!("set {variable}, then: bosun resume {}", started.run))
        })?;
        secrets.insert(input.name.clone(), value.clone());
    }
    Ok(Ready {
        crew,
        loaded: loaded.into(),
        file: started.file.clone(),
        inputs: started.inputs.clone(),
        secrets,
        overrides: started.overrides.clone(),
        key: started.key.clone(),
        more_time: Duration::ZERO,
        tainted: None,
        taken_up: true,
    })
}
