//! `config` and `prices`: what is in force on this machine, and who says so.

use clap::Args;

use super::Context;
use super::failure::{Exit, Outcome};
use super::open::Project;
use super::screen::{Side, Table, clean};
use crate::adapters::models::ProviderSpec;
use crate::adapters::models::secrets::KeySource;
use crate::adapters::prices;
use crate::core::money::NanoUsd;

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// One JSON object per line [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

pub fn config(context: &Context, args: ListArgs) -> Outcome {
    let project = Project::here(context)?;
    let settings = &project.settings;
    let limits = &settings.limits;
    let number = |stated: &Option<crate::adapters::settings::Stated<u64>>| stated.as_ref().map(|s| s.value.to_string());
    let mut values: Vec<(String, Option<String>)> = vec![
        ("root".into(), Some(project.root.display().to_string())),
        ("state_dir".into(), Some(settings.state_dir.display().to_string())),
        ("model".into(), settings.model.clone()),
        ("max_usd".into(), limits.max_usd.as_ref().map(|stated| stated.value.to_string())),
        ("max_tokens".into(), number(&limits.max_tokens)),
        ("max_calls".into(), number(&limits.max_calls)),
        ("max_turns".into(), number(&limits.max_turns)),
        ("max_output".into(), number(&limits.max_output)),
        ("offline".into(), Some(settings.offline.to_string())),
        ("log".into(), settings.log.clone()),
        ("log_file".into(), settings.log_file.as_ref().map(|path| path.display().to_string())),
    ];
    for (name, spec) in &settings.providers {
        values
            .extend(provider(context, spec).into_iter().map(|(key, value)| (format!("providers.{name}.{key}"), value)));
    }
    let mut table = Table::new(&[("SETTING", Side::Left, 0), ("VALUE", Side::Left, 1), ("FROM", Side::Left, 2)]);
    for (key, value) in values {
        let Some(value) = value else { continue };
        let origin = settings.origins.get(&key).map_or("built-in", String::as_str).to_owned();
        if args.json {
            context.out.line(&serde_json::json!({"key": key, "value": value, "from": origin}).to_string());
        }
        table.row(vec![key, clean(&value), origin]);
    }
    if !args.json {
        context.table(&table);
    }
    Ok(Exit::Done)
}

/// A provider's values. Of a key only where it is from and whether it is there.
fn provider(context: &Context, spec: &ProviderSpec) -> Vec<(&'static str, Option<String>)> {
    let there = if spec.key.read(&context.env).is_ok() { "set" } else { "not set" };
    let (env, file) = match &spec.key {
        KeySource::Env(name) => (Some(format!("{name} ({there})")), None),
        KeySource::File(path) => (None, Some(format!("{} ({there})", path.display()))),
        KeySource::None => (None, None),
    };
    vec![
        ("kind", Some(spec.kind.to_string())),
        ("base_url", spec.base_url.clone().or_else(|| spec.kind.default_base().map(str::to_owned))),
        ("api_key_env", env),
        ("api_key_file", file),
        ("max_concurrency", Some(spec.max_concurrency.to_string())),
        ("timeout", Some(format!("{}s", spec.timeout_ms / 1000))),
        ("stream", Some(spec.stream.to_string())),
    ]
}

pub fn prices(context: &Context, args: ListArgs) -> Outcome {
    let mut table = Table::new(&[
        ("MODEL", Side::Left, 0),
        ("INPUT", Side::Right, 1),
        ("OUTPUT", Side::Right, 1),
        ("CACHE READ", Side::Right, 3),
        ("CACHE WRITE", Side::Right, 4),
        ("WINDOW", Side::Right, 5),
        ("DATED", Side::Left, 2),
    ]);
    for (model, listed) in prices::all() {
        let price = listed.price;
        let [input, output, read, write] =
            [price.input, price.output, price.cache_read, price.cache_write].map(|price| NanoUsd(price).to_string());
        if args.json {
            let line = serde_json::json!({
                "model": model, "dated": listed.dated, "context_window": listed.context_window,
                "usd_per_million": {"input": input, "output": output, "cache_read": read, "cache_write": write},
            });
            context.out.line(&line.to_string());
        }
        let window = crate::core::money::grouped(listed.context_window);
        table.row(vec![model.to_owned(), input, output, read, write, window, listed.dated.to_owned()]);
    }
    if !args.json {
        context.table(&table);
        context
            .out
            .note("USD per million tokens; a crew's own `price` comes first, and a run keeps the prices it began with");
    }
    Ok(Exit::Done)
}
