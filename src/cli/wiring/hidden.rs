//! What a run may not write. Invariant: every secret that a run is given is told to the redactor before
//! the run is.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::Ready;
use crate::adapters::models::ProviderSpec;
use crate::adapters::models::secrets::Env;
use crate::adapters::redaction::{Redactor, is_secret_name};
use crate::core::crew::{Crew, Link, ToolSource};

/// Keys of providers and of requests, variables of commands that are secrets by their names, and secret
/// inputs; those as their marks, which models and tools are given the values of.
pub(super) fn of_run(all: &Redactor, ready: &Ready, specs: &[ProviderSpec], env: &Env) -> Redactor {
    let keys = specs.iter().filter_map(|spec| spec.key.read(env).ok().flatten());
    keys.for_each(|key| all.learn(key.expose_secret()));
    let mut open = vec![ready.crew.clone()];
    while let Some(crew) = open.pop() {
        variables(&crew).filter_map(|name| env.get(name)).for_each(|value| all.learn(value));
        open.extend(crew.crews.values().map(|sub| sub.crew.clone()));
    }
    ready.secrets.values().for_each(|value| all.learn(value));
    all.of_run(&ready.secret_inputs())
}

/// Names of variables whose values a crew's tools are given and nobody may see.
fn variables(crew: &Arc<Crew>) -> impl Iterator<Item = &str> {
    crew.tools.values().flat_map(|def| -> Vec<&str> {
        match &def.source {
            ToolSource::Builtin { .. } => Vec::new(),
            ToolSource::Command { env, .. } => named(env),
            ToolSource::Http(call) => call.variables().collect(),
            ToolSource::Mcp { server, .. } => match &server.link {
                Link::Stdio { env, .. } => named(env),
                Link::Http { headers, login, .. } => {
                    let login = login.iter().flat_map(|login| login.variables());
                    headers.values().map(String::as_str).chain(login).collect()
                }
            },
        }
    })
}

/// Those that are secrets by their names.
fn named(env: &[String]) -> Vec<&str> {
    env.iter().map(String::as_str).filter(|name| is_secret_name(name)).collect()
}
