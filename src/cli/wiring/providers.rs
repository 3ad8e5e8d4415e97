//! Providers as their adapters take them. Invariant: a provider that no settings have any more is named
//! before anything is sent, and only to who would send.

use std::path::Path;
use std::sync::Arc;

use crate::adapters::crewfile::{GONE, Loaded, ProviderTable};
use crate::adapters::models::secrets::KeySource;
use crate::adapters::models::{ProviderKind, ProviderSpec};
use crate::adapters::rates::RateFiles;
use crate::cli::failure::{Exit, Failure};
use crate::core::ids::Name;
use crate::ports::rates::SharedRates;

/// A provider of a run that is about to send.
pub(super) fn of_run(
    name: &Name,
    table: &ProviderTable,
    loaded: &Loaded,
    root: &Path,
) -> Result<ProviderSpec, Failure> {
    if table.kind == GONE { Err(gone(name, loaded)) } else { provider(name, table, root) }
}

/// A pinned crew's provider that no settings have any more.
fn gone(name: &Name, loaded: &Loaded) -> Failure {
    let models = loaded.prices.keys().filter(|model| model.split_once('/').is_some_and(|(of, _)| of == name.as_str()));
    let models = models.map(String::as_str).collect::<Vec<_>>().join(", ");
    let message =
        format!("the run calls {models}, and no settings have a table [providers.{name}] with `kind` any more");
    Failure::new(Exit::Crew, message)
        .hint(format!("write [providers.{name}] with `kind` (and `base_url`, `api_key_env`) into bosun.toml again"))
        .hint("nothing was sent; show, cost, audit, replay and cancel work without it")
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
    spec.stream = table.stream.unwrap_or(spec.stream);
    spec.max_concurrency =
        table.max_concurrency.map_or(spec.max_concurrency, |n| usize::try_from(n).unwrap_or(usize::MAX));
    spec.rpm = table.rpm.or(spec.rpm);
    spec.tpm = table.tpm.or(spec.tpm);
    spec.rpd = table.rpd.or(spec.rpd);
    spec.tier = table.tier.clone().or(spec.tier);
    spec.max_wait_ms = table.max_wait_ms.unwrap_or(spec.max_wait_ms);
    spec.script = table.file.as_ref().map(|path| root.join(path)).or(spec.script);
    Ok(spec)
}

/// Limits that the processes of this host share, in the state folder.
pub(super) fn rates(state: &Path) -> Arc<dyn SharedRates> {
    Arc::new(RateFiles::new(state.join("rates")))
}
