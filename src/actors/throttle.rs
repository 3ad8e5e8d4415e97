//! Calls at once with a provider. Invariant: waiting here is free and holds nothing; a permit goes
//! back when the call it let through has ended, however it ended.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::ids::Name;
use crate::ports::model::Models;

/// Leave for one call.
pub type Permit = OwnedSemaphorePermit;

/// One per process, shared by all its runs.
#[derive(Default)]
pub struct Throttle {
    providers: DashMap<Name, Arc<Semaphore>>,
}

impl Throttle {
    fn gate(&self, models: &dyn Models, provider: &Name) -> Arc<Semaphore> {
        if let Some(gate) = self.providers.get(provider) {
            return gate.clone();
        }
        let gate = || Arc::new(Semaphore::new(models.concurrency(provider).clamp(1, Semaphore::MAX_PERMITS)));
        self.providers.entry(provider.clone()).or_insert_with(gate).clone()
    }

    /// Leave at once, or nothing.
    pub fn try_admit(&self, models: &dyn Models, provider: &Name) -> Option<Permit> {
        self.gate(models, provider).try_acquire_owned().ok()
    }

    /// Leave in turn. `None` only if the process is ending.
    pub async fn admit(&self, models: &dyn Models, provider: &Name) -> Option<Permit> {
        self.gate(models, provider).acquire_owned().await.ok()
    }
}
