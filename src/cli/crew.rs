//! Crews from disk, and from what a run has pinned. Invariant: a run's crew is compiled from its own
//! journal alone; today's files and limits have no say in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{Exit, Failure};
use super::open::Project;
use crate::adapters::crewfile::{self, ListedPrice, LoadOptions, Loaded, PinnedSource, ProviderTable};
use crate::adapters::models::secrets::KeySource;
use crate::adapters::models::{ProviderKind, ProviderSpec};
use crate::adapters::settings::Settings;
use crate::adapters::{prices, tools};
use crate::core::chat::ToolSpec;
use crate::core::crew::{Crew, Overrides};
use crate::core::event::Started;
use crate::core::ids::Name;
use crate::core::money::{Caps, Tokens};
use crate::core::nearest::nearest;
use crate::core::rules;
use crate::ports::store::Store;

/// The providers of the settings as a crew file reads them.
pub fn provider_tables(settings: &Settings) -> BTreeMap<Name, ProviderTable> {
    settings.providers.iter().map(|(name, spec)| (name.clone(), table(spec))).collect()
}

/// Those and the models of the host program.
fn providers(project: &Project) -> BTreeMap<Name, ProviderTable> {
    let mut tables = provider_tables(&project.settings);
    tables.extend(project.hosted.providers());
    tables
}

fn tool_specs(project: &Project) -> Vec<ToolSpec> {
    tools::builtin_specs().into_iter().chain(project.hosted.specs()).collect()
}

fn table(spec: &ProviderSpec) -> ProviderTable {
    let (api_key_env, api_key_file) = match &spec.key {
        KeySource::Env(variable) => (Some(variable.clone()), None),
        KeySource::File(path) => (None, Some(path.display().to_string())),
        KeySource::None => (None, None),
    };
    ProviderTable {
        kind: spec.kind.as_str().to_owned(),
        base_url: spec.base_url.clone(),
        api_key_env,
        api_key_file,
        file: spec.script.as_ref().map(|path| path.display().to_string()),
        max_concurrency: Some(spec.max_concurrency as u64),
        timeout_ms: Some(spec.timeout_ms),
        rpm: spec.rpm,
        tpm: spec.tpm,
        rpd: spec.rpd,
        tier: spec.tier.clone(),
        max_wait_ms: Some(spec.max_wait_ms),
        stream: Some(spec.stream),
    }
}

/// The limits of the settings that cap a whole run.
pub fn caps(settings: &Settings) -> Caps {
    let limits = &settings.limits;
    Caps {
        usd: limits.max_usd.as_ref().map(|stated| stated.value),
        tokens: limits.max_tokens.as_ref().map(|stated| Tokens(stated.value)),
        calls: limits.max_calls.as_ref().map(|stated| stated.value),
    }
}

/// The price and window of the settings, else of the built-in table. Of a model for which neither has
/// a price there is none, whatever else is known of it.
pub fn listed(settings: &Settings, provider: &str, model: &str) -> Option<ListedPrice> {
    let row = prices::lookup(provider, model);
    let context_window = row.as_ref().and_then(|row| row.window);
    if let Some(stated) = settings.prices.get(&format!("{provider}/{model}")) {
        return Some(ListedPrice { price: stated.value, context_window, tokenizer: None, from: stated.origin.clone() });
    }
    let price = row?.price(&today())?;
    Some(ListedPrice { price, context_window, tokenizer: None, from: prices::source().to_string() })
}

/// The day in UTC, `2026-11-20`: by it prices and day caps change.
pub fn today() -> String {
    super::screen::rfc3339(super::open::now_ms()).chars().take(10).collect()
}

/// Reads a crew of `project` from disk with the machine's providers and limits. `path` is relative to
/// the project's root.
pub fn load(project: &Project, path: &str, overrides: &Overrides) -> Loaded {
    from_disk(project, overrides, |source, options| crewfile::load(source, path, options))
}

/// Reads a role prompt as a crew of one. `given` are the inputs of the command line, true for files.
pub fn load_prompt(project: &Project, path: &str, given: &[(String, bool)], overrides: &Overrides) -> Loaded {
    from_disk(project, overrides, |source, options| crewfile::load_prompt(source, path, given, options))
}

fn from_disk(
    project: &Project,
    overrides: &Overrides,
    read: impl FnOnce(&crewfile::DiskSource, &LoadOptions<'_>) -> Loaded,
) -> Loaded {
    let source = crewfile::DiskSource::new(&project.root);
    let builtin_tools = tool_specs(project);
    let providers = providers(project);
    let limits = caps(&project.settings);
    let from = project.settings.limits.max_usd.as_ref().map(|stated| stated.origin.as_str()).unwrap_or_default();
    // A file of the project is named as its author knows it.
    let from = Path::new(from).strip_prefix(&project.root).ok().and_then(Path::to_str).unwrap_or(from);
    let options = LoadOptions {
        overrides,
        builtin_tools: &builtin_tools,
        price: &|provider, model| listed(&project.settings, provider, model),
        providers: &providers,
        limits,
        limits_from: from,
        refuses: None,
        pinned: false,
        rules: rules::RULES,
    };
    read(&source, &options)
}

/// `path`, typed in the folder `cwd`, as its project's root names it.
pub fn relative(root: &Path, cwd: &Path, path: &Path) -> Result<String, Failure> {
    let full = std::path::absolute(cwd.join(path)).unwrap_or_else(|_| cwd.join(path));
    // A root may be named through a link; what counts is where it is.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let inside = full
        .strip_prefix(root)
        .map(Path::to_owned)
        .or_else(|_| real(&full).strip_prefix(real(root)).map(Path::to_owned));
    let inside = inside.ok().and_then(|inside| inside.to_str().map(str::to_owned));
    inside.ok_or_else(|| {
        Failure::usage(format!("{} is not inside the project {}", path.display(), root.display()))
            .hint("a crew file stands in its project: the nearest folder above it with bosun.toml or prompts/")
    })
}

/// As [`relative`], of a crew, a folder with one, or a prompt that is there.
pub fn place(root: &Path, cwd: &Path, path: &Path) -> Result<String, Failure> {
    let inside = relative(root, cwd, path)?;
    let full = root.join(&inside);
    if !full.exists() {
        return Err(missing(root, cwd, path));
    }
    if !full.is_dir() || inside.ends_with(".toml") || full.join("crew.toml").exists() {
        return Ok(inside);
    }
    let shown = path.strip_prefix(cwd).or_else(|_| path.strip_prefix(".")).unwrap_or(path);
    let failure = Failure::usage(format!("{} is a folder without a crew.toml", path.display()));
    let inside = [full.join("crews"), full.clone()];
    let files = inside.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let toml = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let crews = toml.filter(|path| path.file_name().is_some_and(|name| name != "bosun.toml"));
    let first = crews.min().and_then(|found| found.strip_prefix(&full).ok().map(|found| shown.join(found)));
    Err(match first {
        Some(first) => failure.hint(format!("name a crew file, such as {}", first.display())),
        None => failure.hint("name a crew file, or begin with one that works: bosun new NAME"),
    })
}

/// A crew file or prompt that is not there, with the one that was probably meant.
fn missing(root: &Path, cwd: &Path, path: &Path) -> Failure {
    let here = |path: &Path| path.strip_prefix(cwd).unwrap_or(path).display().to_string();
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for (folder, ending) in [("crews", "toml"), ("", "toml"), ("prompts", "md")] {
        let files = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten().map(|file| file.path());
        found.extend(files.filter(|path| path.extension().is_some_and(|end| end == ending)));
    }
    found.retain(|path| path.file_name().is_some_and(|name| name != "bosun.toml"));
    // A prompt that is named is looked for among the prompts first.
    found.sort_by_key(|found| (found.extension() != path.extension(), found.clone()));
    let stems: Vec<String> = found.iter().map(|path| stem(path)).collect();
    let near = nearest(&stem(path), stems.iter().map(String::as_str));
    let near = near.and_then(|near| stems.iter().position(|stem| stem == near)).and_then(|at| found.get(at));
    let failure = Failure::usage(format!("there is no crew file or prompt {}", here(path)));
    match near {
        Some(near) => failure.hint(format!("did you mean {}?", here(near))),
        None if found.is_empty() => failure.hint("begin with one that works: bosun new NAME"),
        None => {
            let some: Vec<String> = found.iter().take(5).map(|path| here(path)).collect();
            let more = found.len().saturating_sub(some.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            failure.hint(format!("there are: {}{more}", some.join(", ")))
        }
    }
}

/// The tools that a run was started with; today's for a run that does not say.
fn pinned_tools(project: &Project, store: &dyn Store, started: &Started) -> Result<Vec<ToolSpec>, Failure> {
    let Some(blob) = &started.tools else { return Ok(tool_specs(project)) };
    let lost = |why: String| {
        Failure::new(Exit::Audit, format!("the journal of run {}: its tools ({blob}) {why}", started.run))
            .hint("bosun audit verify RUN says what else is gone")
    };
    let text = store.blob(blob)?.ok_or_else(|| lost("are gone".to_owned()))?;
    serde_json::from_str(&text).map_err(|why| lost(format!("cannot be read: {why}")))
}

/// What a run's journal pins, read again.
pub fn load_pinned(project: &Project, store: &dyn Store, started: &Started) -> Result<Loaded, Failure> {
    let mut files = BTreeMap::new();
    for (path, blob) in &started.pins {
        let text = store.blob(blob)?.ok_or_else(|| {
            Failure::new(Exit::Audit, format!("the journal of run {} has lost {path} ({blob})", started.run))
                .hint("bosun audit verify RUN says what else is gone")
        })?;
        files.insert(path.clone(), text);
    }
    let price = |provider: &str, model: &str| {
        let price = *started.prices.get(&format!("{provider}/{model}"))?;
        let context_window = started.windows.get(&format!("{provider}/{model}")).copied();
        let from = started.price_from.get(&format!("{provider}/{model}")).cloned().unwrap_or_default();
        let tokenizer = started.tokenizers.get(&format!("{provider}/{model}")).copied();
        Some(ListedPrice { price, context_window, tokenizer, from })
    };
    if rules::table(started.rules).is_none() {
        let (found, known) = (started.rules, rules::RULES);
        let message =
            format!("run {} was started under rules {found}; this bosun knows rules 1 to {known}", started.run);
        return Err(Failure::new(Exit::State, message)
            .hint(format!("use the newer bosun that started it ({})", super::screen::clean(&started.version))));
    }
    let builtin_tools = pinned_tools(project, store, started)?;
    let providers = providers(project);
    let options = LoadOptions {
        overrides: &started.overrides,
        builtin_tools: &builtin_tools,
        price: &price,
        providers: &providers,
        limits: Caps::default(),
        limits_from: "",
        refuses: Some(&started.refuses),
        pinned: true,
        rules: started.rules,
    };
    Ok(crewfile::load(&PinnedSource(files), &started.file, &options))
}

/// The pinned crew, or why it does not compile any more.
pub fn pinned(project: &Project, store: &dyn Store, started: &Started) -> Result<(Arc<Crew>, Loaded), Failure> {
    let loaded = load_pinned(project, store, started)?;
    match &loaded.crew {
        Some(crew) => Ok((crew.clone(), loaded)),
        None => {
            let mut failure = Failure::new(
                Exit::Crew,
                format!("the crew that run {} was started with cannot be read any more:", started.run),
            );
            failure.message.push_str(&format!("\n{}", crewfile::text(&loaded, false, usize::MAX).trim_end()));
            Err(failure.hint("this bosun reads crew files otherwise than the one that started it"))
        }
    }
}

/// Where the providers' keys come from, in words, by the provider's name.
pub fn keys(loaded: &Loaded) -> BTreeMap<String, String> {
    let from = |name: &Name, table: &ProviderTable| match (&table.api_key_env, &table.api_key_file) {
        (Some(variable), _) => format!("read from the variable {variable}"),
        (None, Some(path)) => format!("read from the file {path}"),
        (None, None) => format!("not stated: name a variable in `api_key_env` of [providers.{name}]"),
    };
    loaded.providers.iter().map(|(name, table)| (name.to_string(), from(name, table))).collect()
}

/// What a model is, for lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelClass {
    Priced,
    /// Runs on this machine; costs nothing that a provider bills.
    Local,
    /// `offline` or `scripted`: not a language model.
    StandIn,
    /// No price is known: its dollars are unknown, never zero.
    Unpriced,
}

impl ModelClass {
    /// What stands behind the model's name.
    pub fn mark(self) -> &'static str {
        match self {
            ModelClass::Priced => "",
            ModelClass::Local => " (local)",
            ModelClass::StandIn => " [offline]",
            ModelClass::Unpriced => " (no price)",
        }
    }
    pub fn as_str(self) -> &'static str {
        match self {
            ModelClass::Priced => "priced",
            ModelClass::Local => "local",
            ModelClass::StandIn => "offline",
            ModelClass::Unpriced => "unpriced",
        }
    }
}

/// Models by what they are. Providers of the crew's own files come before those of the settings.
pub struct Classes(BTreeMap<String, ProviderKind>);

impl Classes {
    pub fn new(settings: &Settings, loaded: Option<&Loaded>) -> Classes {
        let mut kinds: BTreeMap<String, ProviderKind> =
            settings.providers.iter().map(|(name, spec)| (name.to_string(), spec.kind)).collect();
        for (name, table) in loaded.iter().flat_map(|loaded| &loaded.providers) {
            if let Ok(kind) = ProviderKind::parse(&table.kind) {
                kinds.insert(name.to_string(), kind);
            }
        }
        Classes(kinds)
    }
    /// Of `provider/model-id`; `priced` is whether its calls were held with a price.
    pub fn of(&self, model: &str, priced: bool) -> ModelClass {
        let provider = model.split_once('/').map_or(model, |(provider, _)| provider);
        match self.0.get(provider) {
            Some(kind) if kind.is_stand_in() => ModelClass::StandIn,
            Some(kind) if kind.is_local() => ModelClass::Local,
            Some(_) | None if priced => ModelClass::Priced,
            Some(_) | None => ModelClass::Unpriced,
        }
    }
}
