//! Providers and their limits, from tables to adapters. Invariant: what a table states reaches the
//! provider; what it does not state is the kind's own.

use std::path::Path;
use std::sync::Arc;

use crate::adapters::crewfile::ProviderTable;
use crate::adapters::models::secrets::KeySource;
use crate::adapters::models::{ProviderKind, ProviderSpec};
use crate::adapters::rates::RateFiles;
use crate::cli::failure::{Exit, Failure};
use crate::core::ids::Name;
use crate::ports::rates::SharedRates;

/// Limits that the processes of this host share, in the state folder.
pub fn rates(state: &Path) -> Arc<dyn SharedRates> {
    Arc::new(RateFiles::new(state.join("rates")))
}

/// A provider as its adapter takes it.
pub fn spec(name: &Name, table: &ProviderTable, root: &Path) -> Result<ProviderSpec, Failure> {
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
    spec.rpm = table.rpm.or(spec.rpm);
    spec.tpm = table.tpm.or(spec.tpm);
    spec.rpd = table.rpd.or(spec.rpd);
    spec.tier = table.tier.clone().or(spec.tier);
    spec.max_wait_ms = table.max_wait_ms.unwrap_or(spec.max_wait_ms);
    spec.script = table.file.as_ref().map(|path| root.join(path)).or(spec.script);
    Ok(spec)
}
