//! The models' part of `doctor`: keys by name, prices by source, and, online, who answers.

use std::collections::BTreeMap;

use super::{Level, Report};
use crate::adapters::crewfile::Loaded;
use crate::adapters::models::probe::{self, Answer};
use crate::adapters::models::secrets::{KeySource, has_login};
use crate::adapters::models::{ProviderKind, ProviderSpec};
use crate::adapters::prices as list;
use crate::cli::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::Project;
use crate::cli::wiring;
use crate::core::crew::Pricing;
use crate::core::ids::Name;
use crate::core::money::NanoUsd;

pub(super) fn table(report: &mut Report) {
    let day = crate::cli::crew::today();
    let priced = list::all().filter(|row| row.price(&day).is_some()).count();
    let says = format!("{priced} models with a price; a crew's `price`, then [prices] of the settings, come first");
    report.say(Level::Note, "prices", list::source().to_string(), says);
}

/// The providers that matter: those of the crew, else all of the settings.
pub(super) fn providers(
    context: &Context,
    project: &Project,
    loaded: Option<&Loaded>,
    report: &mut Report,
) -> Result<BTreeMap<Name, ProviderSpec>, Failure> {
    let specs: BTreeMap<Name, ProviderSpec> = match loaded {
        None => project.settings.providers.clone(),
        Some(loaded) => {
            let spec = |(name, table)| Ok((Name::clone(name), wiring::provider(name, table, &project.root)?));
            loaded.providers.iter().map(spec).collect::<Result<_, Failure>>()?
        }
    };
    for (name, spec) in &specs {
        key(context, name, spec, loaded.is_some(), report);
    }
    Ok(specs)
}

fn key(context: &Context, name: &Name, spec: &ProviderSpec, needed: bool, report: &mut Report) {
    let base = spec.base_url.as_deref().or_else(|| spec.kind.default_base()).filter(|base| !has_login(base));
    let to = base.map(|base| format!("; goes to {base}")).unwrap_or_default();
    let source = match &spec.key {
        KeySource::None if spec.kind.is_stand_in() => {
            return report.say(Level::Note, "key", name.as_str(), "none needed: a stand-in, not a language model");
        }
        KeySource::None => return report.say(Level::Note, "key", name.as_str(), format!("none stated{to}")),
        KeySource::Env(variable) => format!("the variable {variable}"),
        KeySource::File(path) => format!("the file {}", path.display()),
    };
    match spec.key.read(&context.env) {
        Ok(_) => report.say(Level::Ok, "key", name.as_str(), format!("{source} holds one{to}")),
        Err(why) if needed => report.say(Level::Bad(Exit::Credentials), "key", name.as_str(), why),
        Err(_) => report.say(Level::Note, "key", name.as_str(), format!("{source} holds none{to}")),
    }
}

/// Each model of the crew: what it costs and who says so.
pub(super) fn prices(loaded: &Loaded, report: &mut Report) {
    for (model, pricing) in &loaded.prices {
        let (level, says) = match pricing {
            Pricing::Priced(price) => {
                let from = loaded.price_from.get(model).map_or("", String::as_str);
                let (input, output) = (NanoUsd(price.input), NanoUsd(price.output));
                let longer = price.above.map(|above| {
                    let (input, output) = (NanoUsd(above.input), NanoUsd(above.output));
                    format!("; ${input} and ${output} above {} tokens", crate::core::money::grouped(above.tokens.get()))
                });
                let longer = longer.unwrap_or_default();
                (Level::Ok, format!("${input} in, ${output} out per million tokens{longer}; from {from}"))
            }
            Pricing::Local => (Level::Ok, "local: no money, bounded by tokens and calls".to_owned()),
            Pricing::Unknown => {
                (Level::Warn, "unknown, and allowed by `unpriced`: no limit in dollars holds for it".to_owned())
            }
        };
        report.say(level, "price", model.as_str(), says);
    }
}

/// Asks every provider that can be asked, at the same time.
pub(super) fn online(
    context: &Context,
    specs: &BTreeMap<Name, ProviderSpec>,
    loaded: Option<&Loaded>,
    report: &mut Report,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| Failure::new(Exit::Internal, format!("no runtime: {why}")))?;
    let mut asked = Vec::new();
    for (name, spec) in specs {
        let Some(address) = probe::address(spec) else { continue };
        if spec.key.read(&context.env).is_err() {
            report.say(Level::Note, "online", name.as_str(), "not asked: it has no key");
            continue;
        }
        let (spec, env) = (spec.clone(), context.env.clone());
        asked.push((name, spec.kind, address, runtime.spawn(async move { probe::ask(&spec, &env).await })));
    }
    for (name, kind, address, task) in asked {
        let answer = runtime.block_on(task).unwrap_or_else(|why| Answer::Silent(why.to_string()));
        one(name, kind, &address, &answer, loaded, report);
    }
    Ok(())
}

fn one(name: &Name, kind: ProviderKind, address: &str, answer: &Answer, loaded: Option<&Loaded>, report: &mut Report) {
    // Of a crew it is a fault; of a machine that may have no such server, it is so.
    let missing = if loaded.is_some() { Level::Bad(Exit::Test) } else { Level::Warn };
    let missing = if loaded.is_none() && kind.is_local() { Level::Note } else { missing };
    let (level, says) = match answer {
        Answer::Models(models) if models.is_empty() => (Level::Ok, format!("{address} answers, without a list")),
        Answer::Models(models) => (Level::Ok, format!("{address} answers and lists {} models", models.len())),
        Answer::Refused(status) => {
            (Level::Bad(Exit::Credentials), format!("{address} refuses the key (status {status})"))
        }
        // Some compatible servers have no list; that they answer is what counts.
        Answer::Status(404 | 405) => (Level::Note, format!("{address} answers, but has no list of models")),
        Answer::Status(status) => (missing, format!("{address} answers with status {status}")),
        Answer::Silent(why) => (missing, format!("{address} does not answer: {why}")),
    };
    report.say(level, "online", name.as_str(), says);
    let (Answer::Models(models), Some(loaded)) = (answer, loaded) else { return };
    let own = loaded.prices.keys().filter_map(|model| model.split_once('/'));
    for (_, model) in own.filter(|(provider, _)| *provider == name.as_str()) {
        if models.contains(model) {
            report.say(Level::Ok, "model", format!("{name}/{model}"), "is in the provider's list");
        } else if !models.is_empty() {
            report.say(Level::Warn, "model", format!("{name}/{model}"), "is not in the provider's list");
        }
    }
}
