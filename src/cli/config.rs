//! `config` and `prices`: what is in force on this machine, and who says so.

use clap::Args;

use super::Context;
use super::crew::today;
use super::failure::{Exit, Outcome};
use super::open::Project;
use super::screen::{Side, Table, clean};
use crate::adapters::models::ProviderSpec;
use crate::adapters::models::secrets::KeySource;
use crate::adapters::prices;
use crate::core::money::{Above, NanoUsd, Price};

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
        ("rpm", spec.rpm.map(|n| n.to_string())),
        ("tpm", spec.tpm.map(|n| n.to_string())),
        ("rpd", spec.rpd.map(|n| n.to_string())),
        ("tier", spec.tier.clone()),
        ("max_wait", Some(format!("{}s", spec.max_wait_ms / 1000))),
        ("stream", Some(spec.stream.to_string())),
    ]
}

#[derive(Clone, Debug, Args)]
pub struct PricesArgs {
    /// Only models whose name holds this text
    #[arg(value_name = "TEXT")]
    pub filter: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

/// One line of `prices`.
struct Priced {
    model: String,
    price: Option<Price>,
    window: Option<u64>,
    from: String,
    dated: String,
}

pub fn prices(context: &Context, args: PricesArgs) -> Outcome {
    let project = Project::here(context)?;
    let (source, day) = (prices::source(), today());
    let wanted = args.filter.as_deref().unwrap_or_default().to_lowercase();
    let own = project.settings.prices.iter().map(|(model, stated)| Priced {
        model: model.clone(),
        price: Some(stated.value),
        window: None,
        from: stated.origin.clone(),
        dated: String::new(),
    });
    let table = format!("{} {}", source.source, source.version);
    let listed = prices::all().filter(|row| !project.settings.prices.contains_key(&row.model)).map(|row| Priced {
        price: row.price(&day),
        window: row.window,
        model: row.model,
        from: table.clone(),
        dated: source.dated.clone(),
    });
    let found: Vec<Priced> = own.chain(listed).filter(|row| row.model.to_lowercase().contains(&wanted)).collect();
    if args.list.json {
        found.iter().for_each(|row| context.out.line(&row.json().to_string()));
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("MODEL", Side::Left, 0),
        ("INPUT", Side::Right, 1),
        ("OUTPUT", Side::Right, 1),
        ("CACHE READ", Side::Right, 3),
        ("CACHE WRITE", Side::Right, 4),
        ("WINDOW", Side::Right, 5),
        ("FROM", Side::Left, 6),
        ("DATED", Side::Left, 2),
    ]);
    found.iter().flat_map(Priced::rows).for_each(|row| table.row(row));
    context.table(&table);
    for (name, spec) in project.settings.providers.iter().filter(|(name, _)| name.as_str().contains(&wanted)) {
        if spec.kind.is_local() {
            context.out.note(&format!("{name}/…: local, no money; bounded by tokens and calls"));
        }
    }
    if found.is_empty() {
        context.out.note(&format!("no model in {source} has `{wanted}` in its name: its price is unknown, not zero"));
    }
    context.out.note(&format!(
        "USD per million tokens, {source}; `unknown` is billed by more than tokens, or free: state its price\n\
         a crew's own `price` comes first, then [prices] of the settings; a run keeps the prices it began with"
    ));
    Ok(Exit::Done)
}

impl Priced {
    fn json(&self) -> serde_json::Value {
        let text = |nano: u64| NanoUsd(nano).to_string();
        let buckets = |p: Price| {
            serde_json::json!({
                "input": text(p.input), "output": text(p.output), "cache_read": text(p.cache_read),
                "cache_write": text(p.cache_write),
            })
        };
        let above = self.price.and_then(|price| price.above);
        serde_json::json!({
            "model": self.model, "from": self.from, "dated": self.dated, "context_window": self.window,
            "usd_per_million": self.price.map(buckets),
            "above": above.map(|above| serde_json::json!({
                "tokens": above.tokens, "usd_per_million": buckets(flat(above)),
            })),
        })
    }

    /// The model's line, and one for its longer prompts where they cost more.
    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |model: String, price: Option<Price>| {
            let text = |of: fn(Price) -> u64| price.map_or_else(String::new, |p| NanoUsd(of(p)).to_string());
            let input = if price.is_none() { "unknown".to_owned() } else { text(|p| p.input) };
            let window = self.window.map(crate::core::money::grouped).unwrap_or_default();
            let (output, read, write) = (text(|p| p.output), text(|p| p.cache_read), text(|p| p.cache_write));
            vec![model, input, output, read, write, window, self.from.clone(), self.dated.clone()]
        };
        let above = self.price.and_then(|price| price.above);
        let longer = above.map(|above| {
            let size = crate::core::money::grouped(above.tokens.get());
            cells(format!("{} above {size} tok", self.model), Some(flat(above)))
        });
        std::iter::once(cells(self.model.clone(), self.price)).chain(longer).collect()
    }
}

fn flat(above: Above) -> Price {
    let Above { input, output, cache_read, cache_write, .. } = above;
    Price { input, output, cache_read, cache_write, above: None }
}
