//! What a model takes and refuses, from one table. Invariant: a model that the table does not know is
//! passed everything; what a model refuses is left out of its requests, and `check` says so.

use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use serde::Deserialize;

use crate::core::chat::Settings;
use crate::core::crew::Tokenizer;
use crate::core::failure::{Parameter, Refuses};

/// Tokens: the least budget of thinking, and what must be left beside it for the answer.
pub const BUDGET_MIN: u64 = 1024;
const TABLE: &str = include_str!("capabilities.toml");

/// Whose words a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Chat Completions and Responses at OpenAI itself: of others that speak them nothing is known.
    OpenAi,
    Anthropic,
    Gemini,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    #[default]
    Yes,
    No,
    /// Only with `reasoning = "none"`.
    UnlessReasoning,
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    /// The word is all there is.
    #[default]
    Effort,
    /// A number of tokens below the output cap.
    Budget,
    /// On or off, and an effort.
    Adaptive,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub temperature: Takes,
    pub top_p: Takes,
    pub seed: Takes,
    /// Words of `reasoning` that are taken; `None`: any.
    pub efforts: Option<Vec<String>>,
    pub thinking: Thinking,
    /// A schema of the output can be stated.
    pub schema: bool,
    /// One tool can be forced.
    pub forced_tool: bool,
    /// The switch for parallel tool calls is known.
    pub parallel: bool,
    /// Tokens of a prefix below which marking it for the cache does nothing.
    pub cache_min: Option<u64>,
    /// Tokens that the provider adds where tools are offered.
    pub tool_prompt: u64,
    /// Tokens of context.
    pub window: Option<u64>,
    /// How it counts its prompt.
    pub tokenizer: Option<Tokenizer>,
}

/// Of a model that nothing is known of.
impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            temperature: Takes::Yes,
            top_p: Takes::Yes,
            seed: Takes::Yes,
            efforts: None,
            thinking: Thinking::Effort,
            schema: true,
            forced_tool: true,
            parallel: true,
            cache_min: None,
            tool_prompt: 0,
            window: None,
            tokenizer: None,
        }
    }
}

impl Capabilities {
    /// The settings as this model takes them: what it refuses is gone.
    pub fn fit(&self, settings: &Settings) -> Settings {
        let mut fit = settings.clone();
        let none = fit.reasoning.as_deref() == Some("none");
        let takes = |takes: Takes| takes == Takes::Yes || takes == Takes::UnlessReasoning && none;
        fit.temperature = fit.temperature.filter(|_| takes(self.temperature));
        fit.top_p = fit.top_p.filter(|_| takes(self.top_p));
        fit.seed = fit.seed.filter(|_| takes(self.seed));
        let room = self.thinking != Thinking::Budget || none || fit.max_output >= 2 * BUDGET_MIN;
        fit.reasoning = fit.reasoning.filter(|word| room && self.takes_effort(word));
        fit
    }

    /// What it answers 400 to, as data that a run pins.
    pub fn refuses(&self) -> Refuses {
        let all =
            [(Parameter::Temperature, self.temperature), (Parameter::TopP, self.top_p), (Parameter::Seed, self.seed)];
        let of =
            |wanted: Takes| all.iter().filter(|(_, takes)| *takes == wanted).map(|(parameter, _)| *parameter).collect();
        Refuses { always: of(Takes::No), reasoning: of(Takes::UnlessReasoning), tool_prompt: self.tool_prompt }
    }

    /// A number of tokens is taken where thinking has a budget.
    fn takes_effort(&self, word: &str) -> bool {
        let counted = self.thinking == Thinking::Budget && word.parse::<u64>().is_ok();
        counted || self.efforts.as_ref().is_none_or(|words| words.iter().any(|known| known == word))
    }

    /// What [`Capabilities::fit`] leaves out, a line each, for whoever wrote it.
    pub fn left_out(&self, model: &str, settings: &Settings) -> Vec<String> {
        let fit = self.fit(settings);
        let gone = |key: &str, takes: Takes| match takes {
            Takes::UnlessReasoning => {
                format!("`{key}` is not sent: `{model}` takes it only with `reasoning = \"none\"`")
            }
            Takes::Yes | Takes::No => format!("`{key}` is not sent: `{model}` refuses it"),
        };
        let mut lines = Vec::new();
        let keys = [
            ("temperature", self.temperature, settings.temperature.is_some() && fit.temperature.is_none()),
            ("top_p", self.top_p, settings.top_p.is_some() && fit.top_p.is_none()),
            ("seed", self.seed, settings.seed.is_some() && fit.seed.is_none()),
        ];
        lines.extend(keys.into_iter().filter(|(.., left)| *left).map(|(key, takes, _)| gone(key, takes)));
        if let (Some(word), None) = (&settings.reasoning, &fit.reasoning) {
            let known = self.efforts.as_deref().unwrap_or_default().join(", ");
            let least = 2 * BUDGET_MIN;
            lines.push(match known.is_empty() {
                true => format!("`reasoning` is not sent: `{model}` does not reason"),
                false if self.takes_effort(word) => {
                    format!("`reasoning` is not sent: `{model}` thinks within `max_output`, which needs {least} tokens")
                }
                false => format!("`reasoning = \"{word}\"` is not sent: `{model}` takes {known}"),
            });
        }
        lines
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[expect(dead_code, reason = "for whoever reads the file; a test reads it too")]
    dated: String,
    #[expect(dead_code, reason = "for whoever reads the file")]
    sources: Vec<String>,
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    api: Api,
    models: Vec<String>,
    temperature: Option<Takes>,
    top_p: Option<Takes>,
    seed: Option<Takes>,
    efforts: Option<Vec<String>>,
    thinking: Option<Thinking>,
    schema: Option<bool>,
    forced_tool: Option<bool>,
    parallel: Option<bool>,
    cache_min: Option<u64>,
    tool_prompt: Option<u64>,
    window: Option<u64>,
    tokenizer: Option<Tokenizer>,
}

impl Row {
    fn lay_over(&self, on: &mut Capabilities) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                *to = value.clone();
            }
        }
        set(&mut on.temperature, &self.temperature);
        set(&mut on.top_p, &self.top_p);
        set(&mut on.seed, &self.seed);
        on.efforts = self.efforts.clone().or(on.efforts.take());
        set(&mut on.thinking, &self.thinking);
        set(&mut on.schema, &self.schema);
        set(&mut on.forced_tool, &self.forced_tool);
        set(&mut on.parallel, &self.parallel);
        on.cache_min = self.cache_min.or(on.cache_min);
        on.tool_prompt = self.tool_prompt.unwrap_or(on.tool_prompt);
        on.window = self.window.or(on.window);
        on.tokenizer = self.tokenizer.or(on.tokenizer);
    }
}

/// One model's row. Parses the table, some 100 µs: whoever asks at every call keeps a [`Known`].
pub fn of(api: Api, model: &str) -> Capabilities {
    laid(&rows(), api, model)
}

fn rows() -> Vec<Row> {
    // A test reads the table.
    toml::from_str::<Table>(TABLE).map(|table| table.row).unwrap_or_default()
}

fn laid(rows: &[Row], api: Api, model: &str) -> Capabilities {
    let mut laid = Capabilities::default();
    let matches = |row: &&Row| row.api == api && row.models.iter().any(|pattern| glob(pattern, model));
    rows.iter().filter(matches).for_each(|row| row.lay_over(&mut laid));
    laid
}

/// `*` is any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            tail.is_empty() || (0..=rest.len()).any(|i| rest.is_char_boundary(i) && glob(tail, &rest[i..]))
        }),
    }
}

/// The models that a client has called, looked up once each.
pub struct Known {
    /// `None`: a server of which nothing is known.
    api: Option<Api>,
    rows: OnceLock<Vec<Row>>,
    seen: DashMap<Arc<str>, Arc<Capabilities>>,
}

impl Known {
    pub fn new(api: Option<Api>) -> Known {
        Known { api, rows: OnceLock::new(), seen: DashMap::new() }
    }

    pub fn of(&self, model: &Arc<str>) -> Arc<Capabilities> {
        if let Some(known) = self.seen.get(model) {
            return known.clone();
        }
        let found = Arc::new(match self.api {
            Some(api) => laid(self.rows.get_or_init(rows), api, model),
            None => Capabilities::default(),
        });
        self.seen.insert(model.clone(), found.clone());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chat::Milli;

    #[test]
    fn the_table_is_whole() {
        let table: Table = toml::from_str(TABLE).unwrap();
        assert!(table.row.len() > 10 && table.row.iter().all(|row| !row.models.is_empty()));
    }

    #[test]
    fn the_last_row_that_names_a_key_counts_and_the_unknown_takes_all() {
        assert_eq!(of(Api::OpenAi, "gpt-9"), Capabilities::default());
        assert_eq!(of(Api::Gemini, "o3"), Capabilities::default(), "another API's rows are not for it");
        let sonnet = of(Api::Anthropic, "claude-sonnet-4-5-20250929");
        assert_eq!((sonnet.thinking, sonnet.schema, sonnet.cache_min), (Thinking::Budget, true, Some(1024)));
        assert_eq!(of(Api::Anthropic, "claude-haiku-4-5").cache_min, Some(4096));
        assert_eq!((sonnet.refuses().tool_prompt, of(Api::OpenAi, "gpt-4.1").refuses().tool_prompt), (700, 0));
        let old = of(Api::Anthropic, "claude-sonnet-4-20250514");
        assert_eq!((old.thinking, old.schema), (Thinking::Budget, false));
        let opus = of(Api::Anthropic, "claude-opus-5-5");
        assert_eq!((opus.thinking, opus.temperature, opus.cache_min), (Thinking::Adaptive, Takes::No, Some(512)));
        for model in ["o1", "o3-mini", "o4-mini"] {
            assert!(!of(Api::OpenAi, model).parallel, "{model}");
        }
        assert!(of(Api::OpenAi, "omni-9").parallel);
        assert_eq!(of(Api::OpenAi, "gpt-5-mini").temperature, Takes::No);
        assert_eq!(of(Api::OpenAi, "gpt-5.4").temperature, Takes::UnlessReasoning);
    }

    #[test]
    fn what_is_refused_is_left_out_and_said() {
        let all = Settings {
            max_output: 4096,
            temperature: Some(Milli(200)),
            top_p: Some(Milli(900)),
            seed: Some(1),
            reasoning: Some("low".into()),
            without: Vec::new(),
        };
        let free = Capabilities::default();
        assert_eq!((free.fit(&all), free.left_out("m", &all)), (all.clone(), vec![]));
        let six = of(Api::OpenAi, "gpt-6");
        assert_eq!(six.fit(&all), Settings { temperature: None, top_p: None, ..all.clone() });
        assert_eq!(six.left_out("gpt-6", &all).len(), 2);
        let quiet = Settings { reasoning: Some("none".into()), ..all.clone() };
        assert_eq!(six.fit(&quiet), quiet);
        let refused = |settings| six.refuses().refuses(Parameter::Temperature, settings);
        assert!(refused(&all) && !refused(&quiet) && free.refuses().is_empty(), "as `fit` leaves it out");
        let four = of(Api::OpenAi, "gpt-4.1");
        assert_eq!(four.left_out("gpt-4.1", &all), ["`reasoning` is not sent: `gpt-4.1` does not reason"]);
        let claude = of(Api::Anthropic, "claude-sonnet-4-5");
        let odd = Settings { reasoning: Some("xhigh".into()), ..all.clone() };
        let said = claude.left_out("claude-sonnet-4-5", &odd);
        assert_eq!(said.len(), 4);
        assert!(said[3].contains("none, low, medium, high"), "{}", said[3]);
        let counted = Settings { reasoning: Some("4000".into()), max_output: 2048, ..Settings::default() };
        assert_eq!(claude.fit(&counted), counted);
        let narrow = Settings { max_output: 2047, ..counted };
        assert_eq!(claude.fit(&narrow).reasoning, None);
        assert!(claude.left_out("c", &narrow)[0].contains("2048 tokens"));
    }
}
