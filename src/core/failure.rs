//! The failure table. Invariant: what a failure does to money, what happens next, whether it counts as
//! an attempt and what that attempt does differently stand here, once for each row, and nowhere else.

use serde::{Deserialize, Serialize};

use super::chat::{FailureClass, Settings};
use super::event::ErrorClass;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    NotSent,
    RefusedTransient,
    RefusedFinal,
    TooLong,
    OurFault,
    Ambiguous,
    Died,
    Unusable,
    BadTool,
    Loop,
    TurnLimit,
    Guardrail,
    PromptTooLarge,
    Timeout,
    ToolFailed,
}

/// What happens to the hold of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Money {
    /// Provably unbilled: it goes back.
    Release,
    /// It may have been billed: held at its worst case.
    Hold,
    /// Answered: the usage is booked.
    Settle,
    /// No call was made.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The same call again after a wait that grows, as long as it takes.
    Again,
    /// As [`Action::Again`]; after [`WAITS`] waits in a row the fallback model, where there is one.
    WaitThenFallback,
    PauseRun,
    /// Once with half the context, then review.
    ShrinkOnce,
    /// Without the parameter that the provider names; review where it names none that was sent.
    RemoveParameter,
    /// A new call of the same attempt.
    NewCall,
    NextAttempt,
    /// The model reads what was wrong and goes on.
    TellModel,
    /// Tools off, once; then the next attempt.
    Conclude,
    Review,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    No,
    Attempt,
    /// The second in a row does.
    SecondInARow,
    /// Deaths of the process: [`MAX_DEATHS`] in one step end it.
    Deaths,
}

/// What the next attempt does differently, where the task's `retry` does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vary {
    /// Nothing at first, from the third attempt on half the context.
    Plain,
    /// The reason and a lower temperature; from the third attempt on the fallback model, else half the context.
    Tell,
    /// Half the context.
    Shorter,
    Without,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub row: Row,
    pub money: Money,
    pub action: Action,
    pub counts: Counts,
    pub vary: Vary,
}

const fn rule(row: Row, money: Money, action: Action, counts: Counts, vary: Vary) -> Rule {
    Rule { row, money, action, counts, vary }
}

/// Waits for one model that refuses, before the next of its `fallback` is asked.
pub const WAITS: u32 = 3;
/// Deaths of the process inside one step after which a person must look.
pub const MAX_DEATHS: u32 = 5;

pub static TABLE: [Rule; 15] = [
    rule(Row::NotSent, Money::Release, Action::Again, Counts::No, Vary::Plain),
    rule(Row::RefusedTransient, Money::Release, Action::WaitThenFallback, Counts::No, Vary::Plain),
    rule(Row::RefusedFinal, Money::Release, Action::PauseRun, Counts::No, Vary::Plain),
    rule(Row::TooLong, Money::Release, Action::ShrinkOnce, Counts::Attempt, Vary::Shorter),
    rule(Row::OurFault, Money::Release, Action::RemoveParameter, Counts::Attempt, Vary::Without),
    rule(Row::Ambiguous, Money::Hold, Action::NextAttempt, Counts::Attempt, Vary::Plain),
    rule(Row::Died, Money::Hold, Action::NewCall, Counts::Deaths, Vary::Plain),
    rule(Row::Unusable, Money::Settle, Action::NextAttempt, Counts::Attempt, Vary::Tell),
    rule(Row::BadTool, Money::Settle, Action::TellModel, Counts::SecondInARow, Vary::Tell),
    rule(Row::Loop, Money::Settle, Action::Conclude, Counts::Attempt, Vary::Tell),
    rule(Row::TurnLimit, Money::Settle, Action::NextAttempt, Counts::Attempt, Vary::Tell),
    rule(Row::Guardrail, Money::Settle, Action::NextAttempt, Counts::Attempt, Vary::Tell),
    rule(Row::PromptTooLarge, Money::None, Action::Review, Counts::No, Vary::Tell),
    rule(Row::Timeout, Money::Hold, Action::NextAttempt, Counts::Attempt, Vary::Plain),
    rule(Row::ToolFailed, Money::None, Action::TellModel, Counts::Attempt, Vary::Tell),
];

impl Row {
    pub fn rule(self) -> &'static Rule {
        // In the order of the variants: a test says so.
        &TABLE[self as usize]
    }
}

impl FailureClass {
    pub fn rule(self) -> &'static Rule {
        let row = match self {
            FailureClass::NotSent => Row::NotSent,
            FailureClass::Transient => Row::RefusedTransient,
            FailureClass::Credentials | FailureClass::Quota | FailureClass::NotFound => Row::RefusedFinal,
            FailureClass::TooLong => Row::TooLong,
            FailureClass::OurFault => Row::OurFault,
            FailureClass::Ambiguous => Row::Ambiguous,
        };
        row.rule()
    }
    /// Release only when provably unbilled.
    pub fn money(self) -> Money {
        self.rule().money
    }
    /// Credentials or money at the provider: no later call can fare better.
    pub fn stops_the_run(self) -> bool {
        self.rule().action == Action::PauseRun
    }
}

impl ErrorClass {
    /// `None`: the end of a step that no attempt led to.
    pub fn rule(self) -> Option<&'static Rule> {
        let row = match self {
            ErrorClass::Unusable => Row::Unusable,
            ErrorClass::UnknownTool => Row::BadTool,
            ErrorClass::Loop => Row::Loop,
            ErrorClass::TurnLimit => Row::TurnLimit,
            // A result that a person does not take is like one that a guardrail refuses.
            ErrorClass::Guardrail | ErrorClass::Rejected => Row::Guardrail,
            ErrorClass::Ambiguous => Row::Ambiguous,
            ErrorClass::Timeout => Row::Timeout,
            ErrorClass::TooLong => Row::TooLong,
            ErrorClass::OurFault => Row::OurFault,
            ErrorClass::Tool => Row::ToolFailed,
            ErrorClass::PromptTooLarge => Row::PromptTooLarge,
            ErrorClass::Deaths => Row::Died,
            ErrorClass::Crashed | ErrorClass::RoundLimit | ErrorClass::TooManyItems | ErrorClass::Template => {
                return None;
            }
            ErrorClass::Upstream | ErrorClass::Budget | ErrorClass::Cancelled => return None,
        };
        Some(row.rule())
    }
}

/// A part of a request that some models refuse and that a call can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameter {
    Temperature,
    TopP,
    Seed,
    Reasoning,
    /// The provider's own enforcement of the output schema: the answer is checked here anyway.
    Schema,
    /// The word on whether several tools may be asked for at once.
    ParallelTools,
}

/// What a model is known to answer 400 to, whatever its value; and what its provider adds to its prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refuses {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always: Vec<Parameter>,
    /// Unless it is told `reasoning = "none"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Parameter>,
    /// Most tokens of the provider's own words on how to call tools, billed with every prompt that has some.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tool_prompt: u64,
}

fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}

impl Refuses {
    pub fn is_empty(&self) -> bool {
        self.always.is_empty() && self.reasoning.is_empty() && self.tool_prompt == 0
    }
    /// Would a request with these settings and `parameter` be refused?
    pub fn refuses(&self, parameter: Parameter, settings: &Settings) -> bool {
        let reasons = settings.reasoning.as_deref() != Some("none");
        self.always.contains(&parameter) || reasons && self.reasoning.contains(&parameter)
    }
}

/// How the vendors' APIs call them.
const NAMES: [(&str, Parameter); 16] = [
    ("temperature", Parameter::Temperature),
    ("top_p", Parameter::TopP),
    ("topP", Parameter::TopP),
    ("seed", Parameter::Seed),
    ("reasoning", Parameter::Reasoning),
    ("reasoning_effort", Parameter::Reasoning),
    ("effort", Parameter::Reasoning),
    ("thinking", Parameter::Reasoning),
    ("thinkingConfig", Parameter::Reasoning),
    ("response_format", Parameter::Schema),
    ("strict", Parameter::Schema),
    ("output_format", Parameter::Schema),
    ("responseSchema", Parameter::Schema),
    ("json_schema", Parameter::Schema),
    ("parallel_tool_calls", Parameter::ParallelTools),
    ("disable_parallel_tool_use", Parameter::ParallelTools),
];

impl Parameter {
    /// From the `param` of an error body: `reasoning.effort`, `response_format`.
    pub fn of(param: &str) -> Option<Parameter> {
        let mut parts = param.split(['.', '[', ']']).filter(|part| !part.is_empty());
        parts.find_map(|part| NAMES.iter().find(|(name, _)| *name == part).map(|(_, parameter)| *parameter))
    }

    /// From a provider's words, where they quote it or begin with it: "Unsupported parameter: 'seed'",
    /// "temperature: must be 1". A word in running prose names nothing.
    pub fn in_words(words: &str) -> Option<Parameter> {
        let quote = |c: char| matches!(c, '\'' | '"' | '`');
        let mut quoted = words.split(quote).skip(1).step_by(2);
        let opening = words.split_once(':').map(|(first, _)| first.trim());
        quoted.find_map(Parameter::of).or_else(|| opening.and_then(Parameter::of))
    }

    /// Is it in a request with these settings?
    pub fn is_sent(self, settings: &Settings, schema: bool, tools: bool) -> bool {
        !settings.without.contains(&self)
            && match self {
                Parameter::Temperature => settings.temperature.is_some(),
                Parameter::TopP => settings.top_p.is_some(),
                Parameter::Seed => settings.seed.is_some(),
                Parameter::Reasoning => settings.reasoning.is_some(),
                Parameter::Schema => schema,
                Parameter::ParallelTools => tools,
            }
    }

    /// Takes it out of the settings.
    pub fn leave_out(self, settings: &mut Settings) {
        match self {
            Parameter::Temperature => settings.temperature = None,
            Parameter::TopP => settings.top_p = None,
            Parameter::Seed => settings.seed = None,
            Parameter::Reasoning => settings.reasoning = None,
            Parameter::Schema | Parameter::ParallelTools => {}
        }
        if !settings.without.contains(&self) {
            settings.without.push(self);
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Parameter::Temperature => "temperature",
            Parameter::TopP => "top_p",
            Parameter::Seed => "seed",
            Parameter::Reasoning => "reasoning",
            Parameter::Schema => "output schema",
            Parameter::ParallelTools => "parallel tool calls",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_stand_in_the_order_of_their_variants() {
        for (index, rule) in TABLE.iter().enumerate() {
            assert_eq!(rule.row as usize, index);
            assert_eq!(rule.row.rule(), rule);
        }
    }

    #[test]
    fn only_what_is_provably_unbilled_is_released() {
        let released = TABLE.iter().filter(|rule| rule.money == Money::Release).map(|rule| rule.row);
        let unbilled = [Row::NotSent, Row::RefusedTransient, Row::RefusedFinal, Row::TooLong, Row::OurFault];
        assert_eq!(released.collect::<Vec<_>>(), unbilled);
    }

    #[test]
    fn a_parameter_is_named_by_the_param_or_in_quotes_never_by_prose() {
        assert_eq!(Parameter::of("reasoning.effort"), Some(Parameter::Reasoning));
        assert_eq!(Parameter::of("text.format.json_schema"), Some(Parameter::Schema));
        assert_eq!(Parameter::of("messages[0].content"), None);
        let words = "Unsupported value: 'temperature' does not support 0.2 with this model.";
        assert_eq!(Parameter::in_words(words), Some(Parameter::Temperature));
        assert_eq!(Parameter::in_words("`top_p` cannot be specified"), Some(Parameter::TopP));
        assert_eq!(Parameter::in_words("seed: Extra inputs are not permitted"), Some(Parameter::Seed));
        assert_eq!(Parameter::in_words("it takes strict care of its seed and temperature"), None);
        assert_eq!(Parameter::in_words("'messages': too many"), None);
    }
}
