//! Where a step stands. Invariant: a step of a run is found in the crew it was started from, level by level.

use std::sync::Arc;

use super::{Agent, Crew, SubCrew, Task, Who};
use crate::core::ids::Step;

/// Where in the crew tree a step stands.
#[derive(Clone, Debug)]
pub enum Place<'a> {
    /// A task of the file of `crew`.
    Task { crew: &'a Arc<Crew>, task: &'a Task },
    /// Work delegated to an agent of `crew`.
    Delegated { crew: &'a Arc<Crew>, agent: &'a Arc<Agent> },
    /// Work delegated to a sub-crew; steps below it are tasks of that crew.
    DelegatedCrew { crew: &'a Arc<Crew>, sub: &'a SubCrew },
}

impl Crew {
    /// The place of every level of `step`, from the top down; `None` if the crew has no such step.
    pub fn places<'a>(self: &'a Arc<Crew>, step: &Step) -> Option<Vec<Place<'a>>> {
        let mut crew = self;
        // Below an agent's task stand delegations; below a sub-crew's, that crew's tasks.
        let mut delegating = false;
        let mut places = Vec::new();
        for name in step.names() {
            let place = if !delegating {
                Place::Task { crew, task: crew.tasks.iter().find(|task| task.name.as_str() == name)? }
            } else if let Some(sub) = crew.crews.get(name) {
                Place::DelegatedCrew { crew, sub }
            } else {
                Place::Delegated { crew, agent: crew.agents.get(name)? }
            };
            match &place {
                Place::Task { task, .. } => match &task.who {
                    Who::Crew(name) => crew = &crew.crews.get(name)?.crew,
                    Who::Agent(_) | Who::Tool { .. } => delegating = true,
                },
                Place::Delegated { .. } => {}
                Place::DelegatedCrew { sub, .. } => {
                    crew = &sub.crew;
                    delegating = false;
                }
            }
            places.push(place);
        }
        Some(places)
    }

    /// The crew whose tasks stand directly below `scope` (the root scope: this crew).
    pub fn of_scope(self: &Arc<Crew>, scope: &Step) -> Option<Arc<Crew>> {
        match self.places(scope)?.last() {
            None => Some(self.clone()),
            Some(Place::Task { crew, task }) => match &task.who {
                Who::Crew(name) => crew.crews.get(name).map(|sub| sub.crew.clone()),
                Who::Agent(_) | Who::Tool { .. } => Some((*crew).clone()),
            },
            Some(Place::Delegated { crew, .. }) => Some((*crew).clone()),
            Some(Place::DelegatedCrew { sub, .. }) => Some(sub.crew.clone()),
        }
    }
}
