//! Judging an answer. Invariant: an answer becomes a result only if it fits the schema and passes
//! every guardrail; a bad one is replaced, never appended, and what was wrong with it is recorded.

use super::*;
use crate::core::chat::{Effect, Message};
use crate::core::event::{ErrorClass, TaskError, TaskResult, TaskStatus};
use crate::core::failure::Action;
use crate::core::machine::{Decided, Refusal, World};
use crate::core::malformed;
use crate::core::rules::Table;
use crate::core::template::{ResultView, Scope};

impl Agent {
    pub(super) fn judge(
        &self,
        world: World<'_>,
        job: &Job,
        spec: &Spec,
        answer: Msg,
        finish: Finish,
        tools: bool,
    ) -> Result<Decided, Refusal> {
        let text = world.texts.text(&answer.message)?;
        let message = Message::decode(&text);
        let (content, asks) = match &message {
            Ok(Message::Assistant { content, tool_calls }) => (content.as_str(), tool_calls.as_slice()),
            Ok(Message::System { .. } | Message::User { .. } | Message::Tool { .. }) | Err(_) => ("", &[][..]),
        };
        let unusable = |why: &str| Ok(self.fail_attempt(job, spec, ErrorClass::Unusable, why));
        match finish {
            // Paid for and not read: the next would be no smaller.
            Finish::Malformed if malformed::is_too_large(content) => {
                return Ok(self.give_up(job, spec, ErrorClass::Unusable, malformed::words(content)));
            }
            Finish::Malformed => return unusable(&malformed::words(content)),
            Finish::Length => return unusable("the answer was cut off at `max_output`"),
            Finish::Refusal => return unusable(&format!("the model refused: {}", clip(content))),
            Finish::Filter => return unusable("the provider's content filter stopped the answer"),
            Finish::Stop | Finish::Tool => {}
        }
        if !asks.is_empty() {
            if !tools || !self.offers(spec) {
                let class = if job.concluding { ErrorClass::TurnLimit } else { ErrorClass::UnknownTool };
                return Ok(self.fail_attempt(job, spec, class, "it asked for tools where none are offered"));
            }
            // Tools are new work: they start after a resume.
            if self.halted() {
                return Err(Refusal::Paused);
            }
            return self.take_turn(world, job, spec, asks);
        }
        if content.trim().is_empty() {
            return unusable("the answer was empty");
        }
        match self.accept(spec, content) {
            Ok(_) if self.goes_on(job, spec) => self.hear(world, job, spec, true),
            Ok((text, typed)) => Ok(self.with_result(world, job, spec, text, typed)),
            Err((class, why)) => {
                // On the conclusion of a turn limit or a loop, that is the class people look for.
                let class = match class {
                    ErrorClass::Unusable if job.looped => ErrorClass::Loop,
                    ErrorClass::Unusable if job.concluding => ErrorClass::TurnLimit,
                    class => class,
                };
                Ok(self.fail_attempt(job, spec, class, &why))
            }
        }
    }

    fn offers(&self, spec: &Spec) -> bool {
        !self.tool_specs(spec).is_empty()
    }

    /// The result's text, and whether it is typed; or why the answer cannot be used.
    pub(super) fn accept(&self, spec: &Spec, content: &str) -> Result<(String, bool), (ErrorClass, String)> {
        let (text, value) = match &spec.schema {
            None => (content.to_owned(), None),
            Some(schema) => {
                let value =
                    repair_json(content).ok_or_else(|| (ErrorClass::Unusable, not_json(content, spec.crew.rules)))?;
                let fits = schema.check(&value);
                fits.map_err(|why| (ErrorClass::Unusable, format!("the answer does not fit its schema: {why}")))?;
                (value.to_string(), Some(value))
            }
        };
        for guardrail in &spec.guardrails {
            let mut scope = Scope::default();
            let view = ResultView { status: "done".into(), value: value.clone(), text: text.as_str().into() };
            scope.result("output", view);
            let verdict = spec.crew.templates.test(&guardrail.check, &scope);
            match verdict {
                Ok(true) => {}
                Ok(false) => return Err((ErrorClass::Guardrail, guardrail.say.clone())),
                Err(error) => return Err((ErrorClass::Guardrail, format!("{}: {error}", guardrail.say))),
            }
        }
        Ok((text, value.is_some()))
    }

    pub(super) fn finished(&self, job: &Job, result: TaskResult) -> Event {
        let result = TaskResult { tainted: self.taint().map(str::to_owned), ..result };
        Event::Task(TaskEvent::Finished { step: job.step.clone(), agent: Some(self.who.clone()), result })
    }

    /// A counted attempt is over: the next one with its variation, or the end.
    pub(super) fn fail_attempt(&self, job: &Job, spec: &Spec, class: ErrorClass, why: &str) -> Decided {
        // The next attempt would call it again under another key.
        if let Some(tool) = self.once_used(job, spec) {
            let why =
                format!("{why}; `{tool}` has taken effect and must not run twice: nothing is tried again by itself");
            return self.give_up(job, spec, class, why);
        }
        if job.attempt >= spec.attempts {
            return self.give_up(job, spec, class, why.to_owned());
        }
        let mut decided = Decided::default();
        let variation = Box::new(self.next_variation(job, spec, class, why, &mut decided));
        decided.events.push(Event::Task(TaskEvent::AttemptFailed {
            step: job.step.clone(),
            agent: self.who.clone(),
            attempt: job.attempt,
            class,
            message: clip(why),
            variation,
        }));
        decided
    }

    /// A tool that may not be repeated and was started in this step.
    fn once_used<'a>(&self, job: &'a Job, spec: &Spec) -> Option<&'a str> {
        let once = |tool: &&String| spec.crew.tools.get(*tool).is_some_and(|def| def.spec.effect == Effect::Once);
        job.used.keys().find(once).map(String::as_str)
    }

    /// Out of attempts: a failure goes back where someone waits for it, else to a person.
    pub(super) fn give_up(&self, job: &Job, spec: &Spec, class: ErrorClass, message: String) -> Decided {
        let message = clip(&message);
        let (step, agent) = (job.step.clone(), Some(self.who.clone()));
        if spec.failure_returns {
            let error = TaskError { class, message, attempts: job.attempt };
            return Decided::one(self.finished(job, TaskResult::failed(TaskStatus::Failed, error, job.spent)));
        }
        Decided::one(Event::Task(TaskEvent::NeedsReview { step, agent, class, message }))
    }

    pub(super) fn over_budget(&self, job: &Job, message: &str) -> Decided {
        let error = TaskError { class: ErrorClass::Budget, message: message.to_owned(), attempts: job.attempt };
        Decided::one(self.finished(job, TaskResult::failed(TaskStatus::OverBudget, error, job.spent)))
    }

    pub(super) fn after_trouble(&self, job: &Job, spec: &Spec, trouble: &Trouble) -> Result<Decided, Refusal> {
        let (class, why) = match trouble {
            Trouble::Timeout => {
                (ErrorClass::Timeout, format!("the attempt ran longer than {} s", spec.timeout_ms / 1000))
            }
            Trouble::Deaths => {
                let why = format!("the process died {MAX_DEATHS} times inside this step");
                return Ok(self.review(job, ErrorClass::Deaths, why));
            }
            Trouble::UnknownEffect => {
                let why = "a tool with effect may or may not have run; it is not repeated by itself".to_owned();
                return Ok(self.review(job, ErrorClass::Tool, why));
            }
            Trouble::Call(failure) => return Ok(self.after_refusal(job, spec, failure)),
        };
        Ok(self.fail_attempt(job, spec, class, &why))
    }

    /// What the table says of a call that failed and is not simply made again.
    fn after_refusal(&self, job: &Job, spec: &Spec, failure: &CallFailure) -> Decided {
        let rule = failure.class.rule();
        let class = match failure.class {
            FailureClass::Ambiguous | FailureClass::NotSent | FailureClass::Transient => ErrorClass::Ambiguous,
            FailureClass::TooLong => ErrorClass::TooLong,
            FailureClass::OurFault | FailureClass::NotFound => ErrorClass::OurFault,
            FailureClass::Credentials | FailureClass::Quota => ErrorClass::OurFault,
        };
        let words = failure.message.clone();
        match rule.action {
            // Shrunk once by rule; if that is still too long, a person looks.
            Action::ShrinkOnce if job.variation.shorter => self.give_up(job, spec, class, words),
            // Nothing that was sent can be left out: a person reads the provider's words.
            Action::RemoveParameter if self.to_leave_out(job, spec).is_none() => self.give_up(job, spec, class, words),
            Action::ShrinkOnce | Action::RemoveParameter | Action::NextAttempt | Action::NewCall => {
                self.fail_attempt(job, spec, class, &words)
            }
            Action::Again | Action::WaitThenFallback | Action::PauseRun => self.fail_attempt(job, spec, class, &words),
            Action::TellModel | Action::Conclude | Action::Review => self.fail_attempt(job, spec, class, &words),
        }
    }

    /// A person took this answer: it is the result if it has the form the task's results have. What the
    /// guardrails say of it the person has overruled.
    pub(super) fn accepted(&self, world: World<'_>, job: &Job, spec: &Spec, answer: Msg) -> Result<Decided, Refusal> {
        let text = world.texts.text(&answer.message)?;
        let content = Message::decode(&text).map(|message| message.content().to_owned()).unwrap_or_default();
        Ok(match usable(spec, &content) {
            Ok((text, typed)) => {
                let mut decided = Decided::default();
                let text = Some(decided.keep(text));
                let result = TaskResult::done(text, typed, job.spent);
                decided.events.push(self.finished(job, result));
                decided
            }
            Err(why) => self.review(job, ErrorClass::Unusable, why),
        })
    }

    /// Straight to a person: a retry by itself could do harm.
    pub(super) fn review(&self, job: &Job, class: ErrorClass, message: String) -> Decided {
        let (step, agent) = (job.step.clone(), Some(self.who.clone()));
        Decided::one(Event::Task(TaskEvent::NeedsReview { step, agent, class, message: clip(&message) }))
    }
}

/// The text of a result and whether it is typed, if a person may take `content` for it.
///
/// # Errors
/// In words, where it is empty or does not fit the task's schema.
pub fn usable(spec: &Spec, content: &str) -> Result<(String, bool), String> {
    if content.trim().is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let Some(schema) = &spec.schema else { return Ok((content.to_owned(), false)) };
    let value = repair_json(content).ok_or_else(|| not_json(content, spec.crew.rules))?;
    schema.check(&value).map_err(|why| format!("the answer does not fit its schema: {why}"))?;
    Ok((value.to_string(), true))
}

/// At most 500 characters: error texts are for people, whole answers are in the journal.
pub(super) fn clip(text: &str) -> String {
    const MOST: usize = 500;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Why an answer has no value. The parser's words are not kept: they may change with its version.
fn not_json(content: &str, rules: &Table) -> String {
    let wrong = "the answer is not the JSON it must be";
    if !rules.quotes {
        return wrong.to_owned();
    }
    let text = content.trim();
    let (part, inside) = match text.find(['{', '[']) {
        Some(start) => (&text[start..], true),
        None => (text, false),
    };
    let why = match serde_json::from_str::<serde_json::Value>(part).err() {
        _ if !inside => "it holds no object and no list".to_owned(),
        Some(why) if why.is_eof() => "it ends before it is whole".to_owned(),
        Some(why) => {
            let from = if part.len() < text.len() { "from its first bracket on: " } else { "" };
            format!("it breaks off ({from}line {}, column {})", why.line(), why.column())
        }
        None => "it cannot be read".to_owned(),
    };
    format!("{wrong}: {why}; it begins `{}`", malformed::beginning(text))
}

/// JSON that models nearly write: inside a code fence, after a sentence, with a comma too many. Free,
/// and tried before another call is paid for.
pub fn repair_json(text: &str) -> Option<serde_json::Value> {
    let trimmed = text.trim();
    if let Ok(value) = serde_json::from_str(trimmed) {
        return Some(value);
    }
    let start = trimmed.find(['{', '['])?;
    let end = trimmed.rfind(['}', ']'])? + 1;
    let inner = trimmed.get(start..end)?;
    serde_json::from_str(inner).ok().or_else(|| serde_json::from_str(&without_trailing_commas(inner)).ok())
}

fn without_trailing_commas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c == '"' {
            (quoted, escaped) = (true, false);
        } else if matches!(c, '}' | ']') {
            let end = out.trim_end().len();
            if out[..end].ends_with(',') {
                out.truncate(end - 1);
            }
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rules::{THREE, TWO};

    #[test]
    fn what_is_not_json_is_quoted_but_by_the_rules_of_old_runs() {
        for (content, why) in [
            ("Sure! Here it is.", "it holds no object and no list"),
            ("{\"a\": 1", "it ends before it is whole"),
            ("{\"a\": 1\n b}", "it breaks off (line 2, column 2)"),
            ("Here: [1, x]", "it breaks off (from its first bracket on: line 1, column 5)"),
        ] {
            assert_eq!(not_json(content, &TWO), "the answer is not the JSON it must be");
            let said = not_json(content, &THREE);
            let begins = malformed::beginning(content);
            assert_eq!(said, format!("the answer is not the JSON it must be: {why}; it begins `{begins}`"));
        }
    }
}
