//! `[prices]` of the settings files: what a model costs here, before any list. Invariant: a price that
//! cannot be read is a problem, never a smaller one; of a model the last layer that prices it counts, whole.

use std::collections::BTreeMap;

use config::{Value, ValueKind};

use super::Stated;
use super::layers::{self, Layer, nearest, sorted};
use crate::core::money::Price;

const KEYS: [&str; 4] = ["input", "output", "cache_read", "cache_write"];

/// By `provider/model-id`.
pub fn all(layers: &[Layer], problems: &mut Vec<String>) -> BTreeMap<String, Stated<Price>> {
    let mut out = BTreeMap::new();
    for value in layers.iter().filter_map(|layer| layer.values.get("prices")) {
        let origin = value.origin().unwrap_or_default();
        let ValueKind::Table(models) = &value.kind else {
            problems.push(format!("{origin}: `prices` is not a table: write [prices]"));
            continue;
        };
        for (model, value) in sorted(models) {
            match price(model, value) {
                Ok(value) => drop(out.insert(model.clone(), Stated { value, origin: origin.to_owned() })),
                Err(why) => problems.push(format!("{origin}: `prices.\"{model}\"` {why}")),
            }
        }
    }
    out
}

fn price(model: &str, value: &Value) -> Result<Price, String> {
    const FORM: &str = "write \"provider/model-id\" = { input = 0.4, output = 1.6 } (USD per million tokens)";
    if !model.contains('/') {
        return Err(format!("does not name a model: {FORM}"));
    }
    let ValueKind::Table(table) = &value.kind else { return Err(format!("is not a price: {FORM}")) };
    if let Some((key, _)) = sorted(table).into_iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
        return Err(format!("has a key `{key}`{}", nearest(key, &KEYS)));
    }
    let of = |key: &str| match table.get(key) {
        Some(value) => layers::money(value).map(|money| Some(money.0)).map_err(|why| format!(": `{key}` {why}")),
        None => Ok(None),
    };
    let needed = |key: &str| of(key)?.ok_or_else(|| format!("has no `{key}`: {FORM}"));
    let (input, output) = (needed("input")?, needed("output")?);
    let (read, write) = (of("cache_read")?.unwrap_or(input), of("cache_write")?.unwrap_or(input));
    Ok(Price { input, output, cache_read: read, cache_write: write, above: None })
}
