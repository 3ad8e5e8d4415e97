//! `[providers]` and `[models]`. Invariant: a model that comes out of here has a provider that is
//! built, and a price or a reason to have none.

use std::collections::BTreeMap;
use std::sync::Arc;

mod tables;
use tables::{key_note, merged, price, settings};

use super::doc::{Node, Table};
use super::pasted::pasted;
use super::problem::{At, Problem};
use super::values::milli;
use super::{GONE, ListedPrice, Loader, ProviderTable};
use crate::adapters::models::ProviderKind;
use crate::adapters::models::capabilities::{Api, Known};
use crate::adapters::models::secrets::{has_login, is_variable};
use crate::core::chat::Settings;
use crate::core::crew::{Model, Pricing, Tokenizer};
use crate::core::failure::Refuses;
use crate::core::ids::Name;
use crate::core::money::Price;
use crate::core::nearest::nearest;

/// Reports a key where its variable's name belongs, and a login in an address; neither is ever printed.
fn no_secrets(loader: &mut Loader<'_>, table: &Table) {
    let text = |key: &str| table.get(key).and_then(|node| Some((node.text()?, &node.at)));
    if let Some((variable, at)) = text("api_key_env").filter(|(text, _)| !is_variable(text) && !pasted(text)) {
        let message = match variable.is_empty() {
            true => "`api_key_env` is empty",
            false => "`api_key_env` is not the name of an environment variable",
        };
        let help = "write the variable's name: letters, digits and _; if this is the key itself, replace that key";
        loader.report(Problem::error("E0110", at, message).help(help));
    }
    if let Some((_, at)) = text("base_url").filter(|(text, _)| has_login(text)) {
        let help =
            "take it out and name a variable in `api_key_env`; a password that stood in a file is to be replaced";
        loader.report(Problem::error("E0110", at, "`base_url` holds a user name or password").help(help));
    }
}

/// What `--offline` calls.
pub const STAND_IN: &str = "offline/stand-in";

/// Settings that a layer states; the nearest to the task wins.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub model: Option<(String, At)>,
    pub temperature: Option<crate::core::chat::Milli>,
    pub max_output: Option<u64>,
}

impl Layer {
    pub fn of(table: &Table) -> Layer {
        Layer {
            model: table.get("model").and_then(|node| Some((node.text()?.to_owned(), node.at.clone()))),
            temperature: table.get("temperature").and_then(|node| milli(node.decimal()?, 2000).ok()),
            max_output: table.int("max_output"),
        }
    }
}

/// The models and providers of one crew.
pub(super) struct Models<'d> {
    aliases: Option<&'d Table>,
    providers: BTreeMap<Name, ProviderTable>,
    allow_unpriced: bool,
    known: BTreeMap<Api, Known>,
}

impl<'d> Models<'d> {
    pub fn read(loader: &mut Loader<'_>, doc: &'d Table, allow_unpriced: bool) -> Models<'d> {
        let mut providers = loader.options.providers.clone();
        for entry in doc.table("providers").map(|table| table.entries.as_slice()).unwrap_or_default() {
            let (Ok(name), Some(table)) = (Name::new(&entry.key), entry.node.table()) else { continue };
            let known = providers.get(&name).cloned();
            let pinned = loader.options.pinned;
            if table.get("kind").is_none() && known.is_none() && !pinned {
                let message = format!("the provider `{name}` has no `kind`");
                let help =
                    "one of: openai, openai-responses, anthropic, gemini, ollama, openai-compatible, offline, scripted";
                loader.report(Problem::error("E0106", &entry.key_at, message).help(help));
            }
            no_secrets(loader, table);
            let gone = ProviderTable { kind: GONE.to_owned(), ..ProviderTable::default() };
            providers.insert(name, merged(known.unwrap_or(gone), table));
            for (key, kind) in [("base_url", "openai-compatible"), ("file", "scripted")] {
                if table.text("kind") == Some(kind) && table.get(key).is_none() {
                    let message = format!("a provider of the kind `{kind}` needs `{key}`");
                    loader.report(Problem::error("E0106", &entry.key_at, message));
                }
            }
        }
        let known = [Api::OpenAi, Api::Anthropic, Api::Gemini].map(|api| (api, Known::new(Some(api)))).into();
        let models = Models { aliases: doc.table("models"), providers, allow_unpriced, known };
        models.check_aliases(loader);
        models
    }

    /// Every alias is checked, used or not, unless another model replaces it anyway.
    fn check_aliases(&self, loader: &mut Loader<'_>) {
        for entry in self.aliases.map(|table| table.entries.as_slice()).unwrap_or_default() {
            let node = entry.node.table().map_or(Some(&entry.node), |table| table.get("id"));
            let Some((id, at)) = node.and_then(|node| Some((node.text()?, &node.at))) else {
                if entry.node.table().is_some_and(|table| table.get("id").is_none()) {
                    let message = format!("the model `{}` has no `id`", entry.key);
                    loader.report(
                        Problem::error("E0106", &entry.key_at, message).help("write `id = \"provider/model\"`"),
                    );
                }
                continue;
            };
            if !id.contains('/') {
                let message = format!("`{id}` is not a model");
                let help = "write `provider/model-id`, such as `openai/gpt-4.1-mini`";
                loader.report(Problem::error("E0204", at, message).help(help));
            }
            for (name, at) in entry.node.table().map(|table| table.texts("fallback")).unwrap_or_default() {
                self.exists(loader, name, at);
            }
            let price = entry.node.table().and_then(|table| table.get("price"));
            if let Some((at, table)) = price.and_then(|node| Some((&node.at, node.table()?))) {
                for key in ["input", "output"].into_iter().filter(|key| table.get(key).is_none()) {
                    loader.report(Problem::error("E0106", at, format!("the price has no `{key}`")));
                }
            }
        }
    }

    /// The model that the nearest of `layers` names, with the settings of all, the first one winning.
    pub fn resolve(&self, loader: &mut Loader<'_>, layers: &[&Layer]) -> Option<Arc<Model>> {
        let overrides = loader.options.overrides;
        let named = layers.iter().find_map(|layer| layer.model.clone());
        let instead = if overrides.offline { Some(STAND_IN.to_owned()) } else { overrides.model.clone() };
        let replaced = instead.is_some();
        if let (Some(_), Some((spec, at))) = (&instead, &named) {
            self.exists(loader, spec, at);
        }
        let (spec, at) = match instead {
            Some(spec) => (spec, At::file("--model")),
            None => match (named, &overrides.usual_model) {
                (Some(named), _) => named,
                (None, usual) => (usual.clone()?, At::file("BOSUN_MODEL")),
            },
        };
        let mut model = match loader.replacement.clone().filter(|_| replaced) {
            Some(model) => model,
            None => self.find(loader, &spec, &at)?,
        };
        if replaced && loader.replacement.is_none() {
            loader.replacement = Some(model.clone());
        }
        let most = overrides.max_output;
        let mut others = self.fallback(loader, &spec);
        // A model that replaces all others has nobody behind it.
        others.retain(|_| !replaced);
        for other in &mut others {
            lay(layers, most, &mut other.settings);
        }
        model.fallback = others.into_iter().map(Arc::new).collect();
        lay(layers, most, &mut model.settings);
        self.note_left_out(loader, &model);
        model.fallback.iter().for_each(|other| self.note_left_out(loader, other));
        Some(Arc::new(model))
    }

    /// The models that an alias names in `fallback`.
    fn fallback(&self, loader: &mut Loader<'_>, spec: &str) -> Vec<Model> {
        let table = self.aliases.and_then(|table| table.get(spec)).and_then(Node::table);
        let Some(table) = table else { return Vec::new() };
        let mut out: Vec<Model> = Vec::new();
        for (name, at) in table.texts("fallback") {
            let (name, at) = (name.to_owned(), at.clone());
            if name == spec || out.iter().any(|other| other.name == name) {
                let message = format!("`{name}` is there already: nothing would change");
                loader.report(Problem::error("E0204", &at, message));
            } else if let Some(model) = self.find(loader, &name, &at) {
                out.push(model);
            }
        }
        out
    }

    /// What is known to be refused by this model: pinned with a run, else from the table.
    fn refuses(&self, loader: &mut Loader<'_>, kind: &str, full: &str, id: &str) -> Refuses {
        let known = ProviderKind::parse(kind).ok().and_then(ProviderKind::api).and_then(|api| self.known.get(&api));
        let found = match loader.options.refuses {
            Some(pinned) => pinned.get(full).cloned().unwrap_or_default(),
            None => known.map(|known| known.of(&id.into()).refuses()).unwrap_or_default(),
        };
        if !found.is_empty() {
            loader.refuses.insert(full.to_owned(), found.clone());
        }
        found
    }

    /// What this model refuses is not sent to it, and whoever wrote it is told.
    fn note_left_out(&self, loader: &mut Loader<'_>, model: &Model) {
        let kind = loader.providers.get(&model.provider).and_then(|table| ProviderKind::parse(&table.kind).ok());
        if let Some(known) = kind.and_then(ProviderKind::api).and_then(|api| self.known.get(&api)) {
            let lines = known.of(&model.id).left_out(&model.full_id(), &model.settings);
            loader.notes.extend(lines);
        }
    }

    /// Reports a name that no alias has; `provider/model-id` is taken as it is.
    fn exists(&self, loader: &mut Loader<'_>, spec: &str, at: &At) -> bool {
        let known = || self.aliases.map(|table| table.entries.as_slice()).unwrap_or_default();
        if spec.contains('/') || known().iter().any(|entry| entry.key == spec) {
            return true;
        }
        // What is no name is refused where it stands, and no model to suggest.
        let all = known().iter().map(|entry| entry.key.as_str()).filter(|name| Name::new(name).is_ok());
        let all = all.collect::<Vec<_>>();
        let help = match nearest(spec, all.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if all.is_empty() => "write `provider/model-id`, such as `openai/gpt-4.1-mini`".to_owned(),
            None => format!("one of {}, or `provider/model-id`", all.join(", ")),
        };
        loader.report(Problem::error("E0204", at, format!("there is no model `{spec}`")).help(help));
        false
    }

    fn find(&self, loader: &mut Loader<'_>, spec: &str, at: &At) -> Option<Model> {
        if !self.exists(loader, spec, at) {
            return None;
        }
        let alias = self.aliases.and_then(|table| table.get(spec));
        let table = alias.and_then(Node::table);
        let written = match alias {
            Some(node) => table.map_or(Some(node), |table| table.get("id")),
            None => None,
        };
        let (full, at) = match written {
            Some(node) => (node.text()?.to_owned(), node.at.clone()),
            None if alias.is_some() => return None,
            None => (spec.to_owned(), at.clone()),
        };
        let (provider, id) = full.split_once('/')?;
        let provider_table = self.provider(loader, provider, &at)?;
        let provider = Name::new(provider).ok()?;
        let listed = (loader.options.price)(provider.as_str(), id);
        let listed_window = listed.as_ref().and_then(|listed| listed.context_window);
        if let Some(window) = listed_window {
            loader.windows.insert(full.clone(), window);
        }
        let stated = table.and_then(|table| table.table("price"));
        let stated = stated.and_then(|table| price(table, &provider_table.kind));
        let price = self.pricing(loader, (&full, &at), (stated, &provider_table.kind, listed.as_ref()))?;
        loader.prices.insert(full.clone(), price);
        let tokenizer = self.tokenizer(loader.options.pinned, &provider_table, (id, price), listed.as_ref());
        loader.tokenizers.extend(tokenizer.map(|tokenizer| (full.clone(), tokenizer)));
        if let Pricing::Priced(_) = price {
            let from = if stated.is_some() { at.file.to_string() } else { listed.map(|l| l.from).unwrap_or_default() };
            loader.price_from.insert(full.clone(), from);
        }
        let refuses = self.refuses(loader, &provider_table.kind, &full, id);
        loader.notes.extend(key_note(&provider_table, &provider));
        loader.providers.insert(provider.clone(), provider_table);
        let window = table.and_then(|table| table.int("context_window"));
        if let Some(node) = table.and_then(|table| table.get("extra")) {
            self.check_extra(loader, node, &provider);
        }
        Some(Model {
            name: spec.to_owned(),
            provider,
            id: id.into(),
            price,
            context_window: window.or(listed_window),
            tokenizer,
            settings: settings(table),
            refuses,
            fallback: Vec::new(),
            extra: Arc::new(match table.and_then(|table| table.get("extra")).map(Node::json) {
                Some(serde_json::Value::Object(extra)) => extra,
                Some(_) | None => serde_json::Map::new(),
            }),
        })
    }

    /// What a model costs by the crew's word, else by its kind, else by the list.
    fn pricing(
        &self,
        loader: &mut Loader<'_>,
        (full, at): (&str, &At),
        (stated, kind, listed): (Option<Price>, &str, Option<&ListedPrice>),
    ) -> Option<Pricing> {
        let pinned = loader.options.pinned;
        Some(match (stated, kind, listed) {
            (Some(price), _, _) => Pricing::Priced(price),
            // What a run was started with counts, whatever its provider has become since.
            (None, _, Some(listed)) if pinned => Pricing::Priced(listed.price),
            (None, "ollama" | "offline" | "scripted" | "host", _) => Pricing::Local,
            (None, _, Some(listed)) => Pricing::Priced(listed.price),
            (None, _, None) if self.allow_unpriced => Pricing::Unknown,
            // It was let start without a price, so it cost none.
            (None, _, None) if pinned => Pricing::Local,
            (None, _, None) => {
                let message = format!("no price is known for `{full}`, so the budget cannot hold its calls");
                let help = "write `[models.NAME]` with `id` and `price = { input = …, output = … }` (USD per million \
                            tokens; 0 if it is free), or `unpriced = \"allow\"` in [budget]";
                loader.report(Problem::error("E0301", at, message).help(help));
                return None;
            }
        })
    }

    /// Of a priced model: nothing of others is pinned.
    fn tokenizer(
        &self,
        pinned: bool,
        provider: &ProviderTable,
        (id, price): (&str, Pricing),
        listed: Option<&ListedPrice>,
    ) -> Option<Tokenizer> {
        match (price, pinned) {
            (Pricing::Priced(_), true) => listed?.tokenizer,
            (Pricing::Priced(_), false) => {
                let api = ProviderKind::parse(&provider.kind).ok().and_then(ProviderKind::api)?;
                self.known.get(&api)?.of(&id.into()).tokenizer
            }
            (Pricing::Local | Pricing::Unknown, _) => None,
        }
    }

    fn check_extra(&self, loader: &mut Loader<'_>, node: &Node, provider: &Name) {
        let kind = loader.providers.get(provider).and_then(|table| ProviderKind::parse(&table.kind).ok());
        if let (Some(kind), serde_json::Value::Object(extra)) = (kind, node.json()) {
            for why in kind.refused_extra(&extra) {
                loader.report(Problem::error("E0111", &node.at, why));
            }
        }
    }

    fn provider(&self, loader: &mut Loader<'_>, name: &str, at: &At) -> Option<ProviderTable> {
        if let Some(table) = self.providers.get(name) {
            return Some(table.clone());
        }
        if loader.options.pinned {
            return Some(ProviderTable { kind: GONE.to_owned(), ..ProviderTable::default() });
        }
        let all = self.providers.keys().map(Name::as_str).collect::<Vec<_>>();
        let help = match nearest(name, all.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}; write `[providers.{name}]` for another", all.join(", ")),
        };
        let problem = Problem::error("E0204", at, format!("there is no provider `{name}`")).help(help);
        loader.report(problem);
        None
    }
}

/// Lays what the layers state over a model's settings, the first one winning; `most` is `--max-output`.
fn lay(layers: &[&Layer], most: Option<u64>, settings: &mut Settings) {
    for layer in layers.iter().rev() {
        settings.temperature = layer.temperature.or(settings.temperature);
        settings.max_output = layer.max_output.unwrap_or(settings.max_output);
    }
    settings.max_output = settings.max_output.min(most.unwrap_or(u64::MAX));
}
