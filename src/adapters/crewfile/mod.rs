//! Crew files: from TOML to [`Crew`](crate::core::crew::Crew). Invariant: every problem of every file is found in one
//! pass, and a crew is given only if there is none.

mod agents;
mod approval;
mod budget;
mod checks;
mod debate;
mod degrade;
mod doc;
mod files;
mod form;
mod graph;
mod http;
mod inputs;
mod instructions;
mod keys;
mod loops;
mod make;
mod models;
mod oauth;
mod pinned;
mod places;
mod problem;
mod prompts;
mod render;
mod repeat;
mod retry;
mod rows;
mod scope;
mod servers;
mod solo;
mod source;
mod tasks;
mod tools;
mod triggers;
mod values;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use crate::adapters::lockfile::Lock;
use crate::core::chat::ToolSpec;
use crate::core::crew::{Crew, Overrides, Pricing, Server, Tokenizer};
use crate::core::failure::Refuses;
use crate::core::ids::Name;
use crate::core::money::{Caps, Price};
use crate::core::rules;

pub use keys::{
    AGENT, AUTH, BUDGET, CREW, DEBATE, DEGRADE, FRONT, GUARDRAIL, INPUT, Key, Kind, MODEL, NODE_BUDGET, NOTIFY, PRICE,
    PROVIDER, REVIEW, REVISE, ROOT, SUB_CREW, Spec, TASK, TIERS, TOOL, TRIGGER, WINDOW,
};
pub use pinned::Pinned;
pub use places::{OutputAt, misplaced};
pub use problem::{At, Bytes, CODES, Problem, Severity};
pub use render::{json, shown, summary, text};
pub use solo::load_prompt;
pub use source::{DiskSource, FILE_MAX, Pin, PinnedSource, ROWS_MAX, Source, project_root};
pub use values::time;
pub use yaml::states as yaml_states;

/// A price that was looked up, and the model's window where the list knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPrice {
    pub price: Price,
    pub context_window: Option<u64>,
    /// Of a run that is read again: what it was started with.
    pub tokenizer: Option<Tokenizer>,
    /// Who states the price: a settings file, or the price table with its version and day.
    pub from: String,
}

/// A provider as a crew file or the machine's settings state it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderTable {
    /// `openai`, `openai-responses`, `anthropic`, `gemini`, `ollama`, `openai-compatible`, `offline`, `scripted`.
    pub kind: String,
    pub base_url: Option<String>,
    pub api_key_env: Option<String>,
    pub api_key_file: Option<String>,
    /// Replies of the kind `scripted`.
    pub file: Option<String>,
    pub max_concurrency: Option<u64>,
    pub timeout_ms: Option<u64>,
    /// Requests and tokens per minute, requests per day.
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    pub rpd: Option<u64>,
    /// A preset of `models/tiers.toml`.
    pub tier: Option<String>,
    pub max_wait_ms: Option<u64>,
    /// Whether answers are streamed; `None`: as the kind has it.
    pub stream: Option<bool>,
}

/// What the crew's files are read with.
pub struct LoadOptions<'a> {
    pub overrides: &'a Overrides,
    /// Tools there are without a `[tools.N]` table.
    pub builtin_tools: &'a [ToolSpec],
    /// Price by provider and model id.
    pub price: &'a dyn Fn(&str, &str) -> Option<ListedPrice>,
    /// Providers there are without a `[providers.N]` table.
    pub providers: &'a BTreeMap<Name, ProviderTable>,
    /// Limits of the machine's settings.
    pub limits: Caps,
    /// Who states the dollars of `limits`: a file, a variable or a flag.
    pub limits_from: &'a str,
    /// What models refuse, by `provider/model-id`, as a run was started with; `None`: as the table knows.
    pub refuses: Option<&'a BTreeMap<String, Refuses>>,
    /// What a run was started with is read again: it was checked then, and a provider that is in no
    /// settings any more is stood for by one of the kind [`GONE`], which sends nothing.
    pub pinned: bool,
    /// The rules in force: of a run that is read again, its own.
    pub rules: u32,
}

/// Kind of a provider that a pinned crew names and that no settings have any more.
pub const GONE: &str = "gone";

/// What came of the files.
#[derive(Debug)]
pub struct Loaded {
    /// `None` if there is an error among the problems.
    pub crew: Option<Arc<Crew>>,
    /// In order of file and place.
    pub problems: Vec<Problem>,
    /// Everything that was read, prompts and rows too.
    pub pins: Vec<Pin>,
    /// Providers that the crew's models use, as stated in its files over those of the options.
    pub providers: BTreeMap<Name, ProviderTable>,
    /// Prices that were used, by `provider/model-id`.
    pub prices: BTreeMap<String, Pricing>,
    /// Who states each of them: a crew file, a settings file, or the price table with its version and day.
    pub price_from: BTreeMap<String, String>,
    /// Context windows that were looked up, by `provider/model-id`.
    pub windows: BTreeMap<String, u64>,
    /// Tokenizers that are known, by `provider/model-id`.
    pub tokenizers: BTreeMap<String, Tokenizer>,
    /// What the models refuse, where they refuse anything, by `provider/model-id`.
    pub refuses: BTreeMap<String, Refuses>,
    /// What `check` says besides: which key goes to which host.
    pub notes: Vec<String>,
    /// The tools that the options offered.
    pub tools: Vec<ToolSpec>,
    /// Where the `output_file`s of the top crew stand.
    pub outputs: Vec<OutputAt>,
    /// The MCP servers of its files; there even if the crew is not.
    pub servers: Vec<Arc<Server>>,
    /// Names of those that somebody is to call and of which nothing is pinned yet: no run begins with them.
    pub unpinned: Vec<String>,
    pinned: OnceLock<Pinned>,
}

/// Reads the crew in `path` (relative to the source's root).
pub fn load(source: &dyn Source, path: &str, options: &LoadOptions<'_>) -> Loaded {
    let mut loader = Loader::new(source, options);
    let path = if path.ends_with(".toml") { path.to_owned() } else { loader.crew_in(path) };
    let crew = make::crew(&mut loader, &path, true);
    loader.finish(crew)
}

/// What is shared by a crew and its sub-crews while they are read.
pub(crate) struct Loader<'a> {
    files: source::Recorder<'a>,
    options: &'a LoadOptions<'a>,
    problems: Vec<Problem>,
    providers: BTreeMap<Name, ProviderTable>,
    prices: BTreeMap<String, Pricing>,
    price_from: BTreeMap<String, String>,
    windows: BTreeMap<String, u64>,
    tokenizers: BTreeMap<String, Tokenizer>,
    refuses: BTreeMap<String, Refuses>,
    notes: BTreeSet<String>,
    outputs: Vec<OutputAt>,
    /// Tables of kind `mcp`, and the lock file with what is pinned of them; `None`: not read yet.
    servers: Vec<servers::Known>,
    lock: Option<Option<Lock>>,
    unpinned: Vec<String>,
    /// What `--model` stands for in the top crew: its aliases count in sub-crews too.
    replacement: Option<crate::core::crew::Model>,
    /// Crew files that are being read, outermost first.
    stack: Vec<String>,
}

impl<'a> Loader<'a> {
    fn new(source: &'a dyn Source, options: &'a LoadOptions<'a>) -> Loader<'a> {
        Loader {
            files: source::Recorder::new(source),
            options,
            problems: Vec::new(),
            providers: BTreeMap::new(),
            prices: BTreeMap::new(),
            price_from: BTreeMap::new(),
            windows: BTreeMap::new(),
            tokenizers: BTreeMap::new(),
            refuses: BTreeMap::new(),
            notes: BTreeSet::new(),
            outputs: Vec::new(),
            servers: Vec::new(),
            lock: None,
            unpinned: Vec::new(),
            replacement: None,
            stack: Vec::new(),
        }
    }

    /// A folder with `crew.toml` is a crew.
    fn crew_in(&self, folder: &str) -> String {
        let inside = source::below(folder, "crew.toml").filter(|path| self.files.exists(path));
        inside.unwrap_or_else(|| folder.to_owned())
    }

    /// A run that was started without the prompt for summaries goes on without them.
    fn sums_up(&self) -> bool {
        !self.options.pinned || self.files.exists("prompts/builtin/summary.md")
    }

    /// Under the rules in force, is what tools bring in from outside not trusted?
    fn taints(&self) -> bool {
        self.rules().taint
    }

    /// The rules in force. Whoever reads a run of a newer program's has refused it before.
    fn rules(&self) -> rules::Table {
        *rules::table(self.options.rules).unwrap_or(&rules::ONE)
    }

    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn finish(mut self, crew: Option<Arc<Crew>>) -> Loaded {
        self.problems.sort_by(|a, b| {
            let key = |p: &Problem| (p.file.clone(), p.span.start, p.span.end, p.code, p.message.clone());
            key(a).cmp(&key(b))
        });
        // A prompt is read by many tasks: what it lacks is said once, for the first of them.
        let scope = |code: &str| code == "E0402" || code == "E0408";
        self.problems
            .dedup_by(|b, a| a == b || scope(a.code) && a.code == b.code && a.file == b.file && a.span == b.span);
        let failed = self.problems.iter().any(|problem| problem.severity == Severity::Error);
        self.notes.extend(crew.iter().flat_map(|crew| crew.exposed()).map(|exposed| exposed.to_string()));
        Loaded {
            crew: crew.filter(|_| !failed),
            problems: self.problems,
            pins: self.files.pins(),
            providers: self.providers,
            prices: self.prices,
            price_from: self.price_from,
            windows: self.windows,
            tokenizers: self.tokenizers,
            refuses: self.refuses,
            notes: self.notes.into_iter().collect(),
            tools: self.options.builtin_tools.to_vec(),
            outputs: self.outputs,
            servers: self.servers.into_iter().map(|known| known.server).collect(),
            unpinned: self.unpinned,
            pinned: OnceLock::new(),
        }
    }
}
