//! Giving a crew its inputs. Invariant: what is bound has the type its author wrote, and nothing is
//! missing; a secret's value is in no message.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::ids::Name;
use super::super::nearest::nearest;
use super::{Crew, Input, InputKind};

impl Input {
    /// A value from text (`--input k=v`, or a rendered template), by the input's type.
    pub fn parse(&self, text: &str) -> Result<serde_json::Value, String> {
        let wrong = |expected: &str| format!("input `{}`: expected {expected}, found `{text}`", self.name);
        match self.kind {
            InputKind::String | InputKind::Path => Ok(text.into()),
            InputKind::Int => text.trim().parse::<i64>().map(Into::into).map_err(|_| wrong("an integer")),
            InputKind::Number => {
                let number: serde_json::Number = text.trim().parse().map_err(|_| wrong("a number"))?;
                Ok(number.into())
            }
            InputKind::Bool => text.trim().parse::<bool>().map(Into::into).map_err(|_| wrong("true or false")),
            InputKind::Json => serde_json::from_str(text).map_err(|error| wrong(&format!("JSON ({error})"))),
        }
    }
}

impl Crew {
    /// Values of all inputs: those of `typed` (a file of inputs) under those of `texts` (`--input k=v`), else
    /// the defaults. All that is wrong is said at once.
    pub fn bind_inputs(
        &self,
        texts: &BTreeMap<String, String>,
        typed: &BTreeMap<String, Value>,
    ) -> Result<BTreeMap<Name, Value>, Vec<String>> {
        let (bound, lacking, mut wrong) = self.bind(texts, typed);
        wrong.extend(lacking.into_iter().map(missing));
        wrong.sort();
        wrong.dedup();
        if wrong.is_empty() { Ok(bound) } else { Err(wrong) }
    }

    /// As [`Crew::bind_inputs`], for a look at a crew: inputs that nobody gives are named, not refused.
    #[expect(clippy::type_complexity, reason = "values, and the inputs that have none")]
    pub fn bind_known(
        &self,
        texts: &BTreeMap<String, String>,
        typed: &BTreeMap<String, Value>,
    ) -> Result<(BTreeMap<Name, Value>, Vec<&Input>), Vec<String>> {
        let (bound, lacking, mut wrong) = self.bind(texts, typed);
        wrong.sort();
        wrong.dedup();
        if wrong.is_empty() { Ok((bound, lacking)) } else { Err(wrong) }
    }

    fn bind(
        &self,
        texts: &BTreeMap<String, String>,
        typed: &BTreeMap<String, Value>,
    ) -> (BTreeMap<Name, Value>, Vec<&Input>, Vec<String>) {
        let mut bound = BTreeMap::new();
        let (mut lacking, mut wrong) = (Vec::new(), Vec::new());
        for name in texts.keys().chain(typed.keys()) {
            if !self.inputs.iter().any(|input| input.name.as_str() == name) {
                wrong.push(self.unknown(name));
            }
        }
        for input in &self.inputs {
            let name = input.name.as_str();
            let value = match (texts.get(name), typed.get(name), &input.default) {
                (Some(text), _, _) => parse(input, text),
                (None, Some(value), _) => check(input, value.clone()),
                (None, None, Some(default)) => Ok(default.clone()),
                (None, None, None) => {
                    lacking.push(input);
                    continue;
                }
            };
            match value.and_then(|value| chosen(input, value)) {
                Ok(value) => drop(bound.insert(input.name.clone(), value)),
                Err(message) => wrong.push(message),
            }
        }
        (bound, lacking, wrong)
    }

    fn unknown(&self, name: &str) -> String {
        let all = self.inputs.iter().map(|input| input.name.as_str());
        match nearest(name, all.clone()) {
            Some(near) => format!("the crew has no input `{name}`; did you mean `{near}`?"),
            None if self.inputs.is_empty() => format!("the crew has no input `{name}`; it has none at all"),
            None => format!("the crew has no input `{name}`; it has: {}", all.collect::<Vec<_>>().join(", ")),
        }
    }
}

fn missing(input: &Input) -> String {
    let what = if input.description.is_empty() { String::new() } else { format!(" ({})", input.description) };
    format!("input `{0}` is missing{what}: pass --input {0}=…", input.name)
}

fn parse(input: &Input, text: &str) -> Result<Value, String> {
    if input.kind == InputKind::Path && text.is_empty() {
        return Err(format!("input `{}`: expected a path, found nothing", input.name));
    }
    input.parse(text).map_err(|message| if input.secret { hidden(input) } else { message })
}

fn hidden(input: &Input) -> String {
    format!("input `{}`: its value has the wrong type (it is a secret and not shown)", input.name)
}

fn check(input: &Input, value: Value) -> Result<Value, String> {
    let (fits, expected) = match input.kind {
        InputKind::String => (value.is_string(), "a string"),
        InputKind::Path => (value.as_str().is_some_and(|path| !path.is_empty()), "a path"),
        InputKind::Int => (value.is_i64(), "an integer"),
        InputKind::Number => (value.is_number(), "a number"),
        InputKind::Bool => (value.is_boolean(), "true or false"),
        InputKind::Json => (true, "any JSON"),
    };
    if fits {
        return Ok(value);
    }
    if input.secret {
        return Err(hidden(input));
    }
    Err(format!("input `{}`: expected {expected}, found `{value}`", input.name))
}

fn chosen(input: &Input, value: Value) -> Result<Value, String> {
    if input.choices.is_empty() || input.choices.contains(&value) {
        return Ok(value);
    }
    let plain = |choice: &Value| choice.as_str().map_or_else(|| choice.to_string(), str::to_owned);
    let all = input.choices.iter().map(plain).collect::<Vec<_>>().join(", ");
    let found = if input.secret { "another value".to_owned() } else { format!("`{}`", plain(&value)) };
    Err(format!("input `{}`: expected one of {all}, found {found}", input.name))
}
