//! Builtins as data and as tools. Invariant: a builtin works off the runtime's threads, within its time;
//! whether an effect happened is never guessed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};

use super::files::{Places, append, list, moving, read, search};
use super::{ask, data, files, stats};
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::ASK_HUMAN;
use crate::ports::BoxFuture;
use crate::ports::tool::{Tool, ToolCall, ToolOutcome};

/// Of one call. Reading a huge folder is the slowest thing these tools do.
const TIMEOUT_MS: u64 = 60_000;
/// Tokens of a result that a model is shown.
const MAX_RESULT: u64 = 4_000;

pub(super) type Args = Map<String, Value>;
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
        Arc::new(BuiltinTool { spec, places: Arc::new(places), work: self.work })
    }
}

const fn row(
    name: &'static str,
    effect: Effect,
    description: &'static str,
    parameters: fn() -> Value,
    work: Work,
) -> Builtin {
    Builtin { name, description, effect, parameters, work }
}

/// The registry: one line per builtin.
pub(super) static BUILTINS: [Builtin; 9] = [
    row("files.read", Effect::Read, read::ABOUT, read::parameters, read::read),
    row("files.list", Effect::Read, list::ABOUT, list::parameters, list::list),
    row("files.search", Effect::Read, search::ABOUT, search::parameters, search::search),
    row("files.write", Effect::Idempotent, files::WRITE_ABOUT, files::write_parameters, files::write),
    row("files.append", Effect::Once, append::ABOUT, append::parameters, append::append),
    row("files.move", Effect::Once, moving::ABOUT, moving::parameters, moving::relocate),
    row("text.stats", Effect::Read, stats::ABOUT, stats::parameters, stats::stats),
    row("data.query", Effect::Read, data::ABOUT, data::parameters, data::query),
    row(ASK_HUMAN, Effect::Read, ask::ABOUT, ask::parameters, ask::never),
];

struct BuiltinTool {
    spec: ToolSpec,
    places: Arc<Places>,
    work: Work,
}

impl Tool for BuiltinTool {
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
                Ok(Err(lost)) => self.undecided(format!("{} failed inside: {lost}", self.spec.name)),
                Err(_) => self.undecided(format!(
                    "{} took longer than {} s and was stopped; ask for less (a smaller folder, a narrower glob)",
                    self.spec.name,
                    self.spec.timeout_ms / 1000
                )),
            }
        })
    }
}

impl BuiltinTool {
    /// The work may have come as far as its effect: of a tool that must not be repeated nobody knows.
    fn undecided(&self, why: String) -> ToolOutcome {
        match self.spec.effect {
            Effect::Once => ToolOutcome::Unknown(why),
            Effect::Read | Effect::Idempotent => ToolOutcome::Error(why),
        }
    }
}

/// Tells work on a blocking thread that nobody waits for it any more.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// `Err` once the call was dropped: long loops leave by `?`.
    pub(super) fn check(&self) -> Result<(), String> {
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
pub(super) fn text<'a>(args: &'a Args, name: &str) -> Result<&'a str, String> {
    args.get(name).and_then(Value::as_str).ok_or_else(|| format!("argument `{name}` must be a string"))
}
pub(super) fn number(args: &Args, name: &str, default: u64) -> u64 {
    args.get(name).and_then(Value::as_u64).unwrap_or(default)
}
pub(super) fn flag(args: &Args, name: &str) -> bool {
    args.get(name).and_then(Value::as_bool).unwrap_or(false)
}
