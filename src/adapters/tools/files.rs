//! The builtin file tools. Invariant: they see only the places they were given, answer in text that is
//! valid UTF-8 and of bounded size, and never block the runtime.

mod list;
mod places;
mod read;
mod search;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::core::chat::{Effect, ToolSpec};
use crate::ports::BoxFuture;
use crate::ports::tool::{Tool, ToolCall, ToolOutcome};
pub use places::{Grant, Places};

/// Of one call. Reading a huge folder is the slowest thing these tools do.
const TIMEOUT_MS: u64 = 60_000;
/// Tokens of a result that a model is shown.
const MAX_RESULT: u64 = 4_000;

type Args = Map<String, Value>;
type Work = fn(&Places, &Args, &Stop) -> Result<String, String>;

/// A builtin as data: what a model reads about it, and the work.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    description: &'static str,
    effect: Effect,
    parameters: fn() -> Value,
    work: Work,
}

impl Builtin {
    pub(super) fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            parameters: (self.parameters)(),
            effect: self.effect,
            timeout_ms: TIMEOUT_MS,
            max_result: MAX_RESULT,
        }
    }
    /// The tool as `spec` describes it (its name and limits may be a table's), at its places.
    pub(super) fn tool(&self, spec: ToolSpec, places: Places) -> Arc<dyn Tool> {
        Arc::new(FileTool { spec, places: Arc::new(places), work: self.work })
    }
}

/// The registry: one line per builtin.
pub(super) static BUILTINS: [Builtin; 4] = [
    Builtin {
        name: "files.read",
        description: read::ABOUT,
        effect: Effect::Read,
        parameters: read::parameters,
        work: read::read,
    },
    Builtin {
        name: "files.list",
        description: list::ABOUT,
        effect: Effect::Read,
        parameters: list::parameters,
        work: list::list,
    },
    Builtin {
        name: "files.search",
        description: search::ABOUT,
        effect: Effect::Read,
        parameters: search::parameters,
        work: search::search,
    },
    Builtin {
        name: "files.write",
        description: WRITE_ABOUT,
        effect: Effect::Idempotent,
        parameters: write_parameters,
        work: write,
    },
];

struct FileTool {
    spec: ToolSpec,
    places: Arc<Places>,
    work: Work,
}

impl Tool for FileTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }
    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolOutcome> {
        Box::pin(async move {
            let stop = Stop::default();
            let _on_drop = stop.clone().when_dropped();
            let (places, work) = (Arc::clone(&self.places), self.work);
            let job = tokio::task::spawn_blocking(move || work(&places, &call.arguments, &stop));
            match tokio::time::timeout(Duration::from_millis(self.spec.timeout_ms), job).await {
                Ok(Ok(Ok(text))) => ToolOutcome::Ok(text),
                Ok(Ok(Err(why))) => ToolOutcome::Error(why),
                Ok(Err(lost)) => ToolOutcome::Error(format!("{} failed inside: {lost}", self.spec.name)),
                Err(_) => ToolOutcome::Error(format!(
                    "{} took longer than {} s and was stopped; ask for less (a smaller folder, a narrower glob)",
                    self.spec.name,
                    self.spec.timeout_ms / 1000
                )),
            }
        })
    }
}

/// Tells work on a blocking thread that nobody waits for it any more.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// `Err` once the call was dropped: long loops leave by `?`.
    fn check(&self) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) { Err("stopped".to_owned()) } else { Ok(()) }
    }
    fn when_dropped(self) -> OnDrop {
        OnDrop(self)
    }
}

struct OnDrop(Stop);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A text argument. Arguments fit the schema already; this only keeps a wrong caller from a panic.
fn text<'a>(args: &'a Args, name: &str) -> Result<&'a str, String> {
    args.get(name).and_then(Value::as_str).ok_or_else(|| format!("argument `{name}` must be a string"))
}
fn number(args: &Args, name: &str, default: u64) -> u64 {
    args.get(name).and_then(Value::as_u64).unwrap_or(default)
}
fn flag(args: &Args, name: &str) -> bool {
    args.get(name).and_then(Value::as_bool).unwrap_or(false)
}

const WRITE_ABOUT: &str = "Write a text file, whole: an existing file of that name is replaced. Missing folders are made. \
    The path is relative to the project root and must lie in a folder this tool may write (out/ unless the crew says otherwise).";

fn write_parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "path": { "type": "string", "minLength": 1, "description": "File to write, such as out/summary.md" },
            "text": { "type": "string", "description": "The whole content of the file" }
        },
        "required": ["path", "text"],
        "additionalProperties": false
    })
}

fn write(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let content = text(args, "text")?;
    stop.check()?;
    let path = places.write(text(args, "path")?, content.as_bytes())?;
    Ok(format!("wrote {} bytes to {path}", content.len()))
}
