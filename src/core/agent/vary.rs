//! What an attempt does differently. Invariant: the model and the settings of a call follow from the crew
//! and from what the events of the step recorded; a setting that its provider refused stays out.

use std::sync::Arc;

use super::*;
use crate::core::chat::{Message, Milli, Parameter, Settings};
use crate::core::crew::{self, Model, Retry};
use crate::core::event::ErrorClass;
use crate::core::failure::{Vary, WAITS};
use crate::core::machine::Decided;
use crate::core::template::Scope;

impl Job {
    /// Model and settings of the next call; `None` for a tool task.
    pub(super) fn in_force(&self, spec: &Spec) -> Option<(Arc<Model>, Settings)> {
        let own = spec.model.as_ref()?;
        let name = self.fallen.as_ref().or(self.variation.model.as_ref());
        let other = name.and_then(|name| named(own, &spec.retry, self.attempt, name));
        let (model, mut settings) = match other {
            Some(model) => (model.clone(), model.settings.clone()),
            None => (own.clone(), spec.settings.clone()),
        };
        settings.temperature = self.variation.temperature.or(settings.temperature);
        settings.max_output = self.variation.max_output.unwrap_or(settings.max_output).min(spec.most_output);
        self.variation.without.iter().for_each(|parameter| parameter.leave_out(&mut settings));
        Some((model, settings))
    }

    /// Tokens of a prompt that another model than the task's own takes, where its window is known.
    pub(super) fn window(&self, spec: &Spec, model: &Model) -> u64 {
        let own = !spec.degraded && spec.model.as_ref().is_some_and(|own| own.name == model.name);
        let window = model.context_window.filter(|_| !own);
        window.map_or(u64::MAX, |window| window.saturating_sub(model.settings.max_output))
    }

    /// Tokens of a prompt of this attempt, and of one that is not held to half.
    pub(super) fn limits(&self, spec: &Spec, role: &crew::Agent, of: &Model) -> (u64, u64) {
        let own = role.context_tokens.min(role.max_prompt_tokens.unwrap_or(u64::MAX));
        let whole = own.min(self.window(spec, of));
        (if self.variation.shorter { whole / 2 } else { whole }, whole)
    }

    /// The models that stand in for each other, and which of them is in force.
    fn models<'a>(&self, spec: &'a Spec) -> Option<(Vec<&'a Arc<Model>>, usize)> {
        let own = spec.model.as_ref()?;
        let varied = self.variation.model.as_ref().and_then(|name| named(own, &spec.retry, self.attempt, name));
        let first = varied.unwrap_or(own);
        let all: Vec<&Arc<Model>> = std::iter::once(first).chain(&first.fallback).collect();
        let now = self.fallen.as_ref().and_then(|name| all.iter().position(|model| &model.name == name));
        Some((all, now.unwrap_or(0)))
    }

    /// The model after the one in force: those of `fallback` in order, then the first again; none that is
    /// left alone.
    fn next_model(&self, spec: &Spec) -> Option<Arc<Model>> {
        let (all, now) = self.models(spec)?;
        let mut others = all.iter().cycle().skip(now + 1).take(all.len() - 1);
        others.find(|model| !self.cooling.contains(&model.name)).map(|model| (*model).clone())
    }

    /// The models before the one in force.
    fn earlier<'a>(&self, spec: &'a Spec) -> impl Iterator<Item = &'a Arc<Model>> {
        self.models(spec).into_iter().flat_map(|(all, now)| all.into_iter().take(now))
    }
}

/// Half of what it was.
fn lower(temperature: Option<Milli>) -> Option<Milli> {
    temperature.map(|Milli(t)| Milli(t / 2))
}

/// A model by the name that an event gave it. The entry of the attempt comes first: two entries may give
/// one model different settings.
fn named<'a>(own: &'a Arc<Model>, retry: &'a [Retry], attempt: u32, name: &str) -> Option<&'a Arc<Model>> {
    let entry = crew::retries(retry, own).find(|(of, _)| *of == attempt).map(|(_, entry)| entry);
    let listed = entry.into_iter().chain(retry).filter_map(|entry| entry.model.as_ref());
    let first: Vec<&Arc<Model>> = listed.chain([own]).collect();
    let with = first.iter().flat_map(|model| &model.fallback);
    first.iter().copied().chain(with).find(|model| model.name == name)
}

impl Agent {
    /// On with the next model, if there is one, where this one is left alone or after [`WAITS`] refusals in
    /// a row; back to an earlier one that may be tried again.
    pub(super) fn fall_back(&self, job: &Job, spec: &Spec, model: &Model) -> Option<Decided> {
        let back = job.back.as_ref().and_then(|name| job.earlier(spec).find(|earlier| &earlier.name == name));
        let (next, because) = match back {
            Some(back) => (back.clone(), format!("{} may be tried again", back.full_id())),
            None if job.cooling.contains(&model.name) => {
                (job.next_model(spec)?, format!("{} failed call after call and is left alone", model.full_id()))
            }
            None if job.refusals >= WAITS => {
                (job.next_model(spec)?, format!("{} refused {} times in a row", model.full_id(), job.refusals))
            }
            None => return None,
        };
        let (step, agent) = (job.step.clone(), self.who.clone());
        Some(Decided::one(Event::Task(TaskEvent::FellBack { step, agent, model: next.name.clone(), because })))
    }

    /// The name of the model in force, if another could take its call at once.
    pub fn replaceable(&self, crew: &Arc<crew::Crew>) -> Option<String> {
        let job = self.job.as_ref()?;
        let spec = Spec::of(crew, &job.step, &self.who)?;
        job.next_model(&spec)?;
        job.in_force(&spec).map(|(model, _)| model.name.clone())
    }

    /// Models that are left alone and to which the step goes back once they may be tried again.
    pub fn left_alone(&self, crew: &Arc<crew::Crew>) -> Vec<Arc<Model>> {
        let Some(job) = self.job.as_ref().filter(|job| !job.cooling.is_empty()) else { return Vec::new() };
        let Some(spec) = Spec::of(crew, &job.step, &self.who) else { return Vec::new() };
        job.earlier(&spec).filter(|model| job.cooling.contains(&model.name)).cloned().collect()
    }

    /// The parameter that the provider names, if it was in the request that it refused.
    pub(super) fn to_leave_out(&self, job: &Job, spec: &Spec) -> Option<Parameter> {
        let Phase::Failed(Trouble::Call(failure)) = &job.phase else { return None };
        let (_, settings) = job.in_force(spec)?;
        let tools = !job.concluding && !self.tool_specs(spec).is_empty();
        failure.param.filter(|parameter| parameter.is_sent(&settings, spec.schema.is_some(), tools))
    }

    /// The task's `retry` first, else the failure table's.
    pub(super) fn next_variation(
        &self,
        job: &Job,
        spec: &Spec,
        class: ErrorClass,
        why: &str,
        decided: &mut Decided,
    ) -> Variation {
        let vary = class.rule().map_or(Vary::Plain, |rule| rule.vary);
        let tell = vary == Vary::Tell && spec.role.is_some();
        let mut variation = Variation { without: job.variation.without.clone(), ..Variation::default() };
        if tell {
            let mut scope = Scope::default();
            scope.text("error", why.into());
            let content = spec.crew.templates.builtin("repair", &scope);
            variation.note = Some(decided.message(&Message::User { content }));
        }
        let own = spec.model.as_deref();
        let mut listed = own.into_iter().flat_map(|own| crew::retries(&spec.retry, own));
        match listed.find(|(attempt, _)| *attempt == job.attempt + 1).map(|(_, entry)| entry) {
            Some(entry) => {
                let model = entry.model.as_deref().or(own);
                let refused = model.is_some_and(Model::refuses_temperature);
                variation.temperature = entry.temperature.filter(|_| !refused);
                variation.model = entry.model.as_ref().map(|model| model.name.clone());
                variation.max_output = entry.max_output;
                let told = job.retold.iter().find(|told| told.attempt == job.attempt + 1);
                variation.prompt = told.map(|told| told.user);
            }
            None => {
                variation.shorter = job.attempt >= 2;
                if tell {
                    let lower = lower(job.variation.temperature.or(spec.settings.temperature));
                    // A temperature that the model refuses is no variation: the next is due.
                    let refused = job.in_force(spec).is_some_and(|(model, _)| model.refuses_temperature());
                    let late = job.attempt >= 2 || lower.is_some() && refused;
                    (variation.temperature, variation.shorter) = (lower.filter(|_| !refused), late);
                    if let Some(model) = job.next_model(spec).filter(|_| late) {
                        (variation.model, variation.shorter) = (Some(model.name.clone()), false);
                    }
                }
            }
        }
        variation.shorter |= vary == Vary::Shorter;
        if vary == Vary::Without {
            variation.without.extend(self.to_leave_out(job, spec));
        }
        variation
    }

    /// The attempt begins at the task's user message again, or at the one it is told instead.
    pub(super) fn tell_anew(&mut self, base: usize, told: Option<Msg>) {
        self.memory.truncate(base + 1);
        let mut keep = base + 1;
        if let (Some(told), Some(message)) = (told, self.memory.get_mut(base))
            && *message != told
        {
            (*message, keep) = (told, base);
        }
        self.known = self.known.take().filter(|known| known.messages <= keep);
    }
}
