//! The time that a person has. Invariant: it is judged by the entry that asked, on the clock of the process
//! that is there when it ends; what was decided before counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::actors::inbox::interrupts;
use crate::actors::work::Context;
use crate::core::event::Decision;
use crate::core::ids::{InterruptId, Seq};
use crate::core::machine::Decided;

/// What an agent has asked and nobody has decided, each with a timer.
#[derive(Default)]
pub(super) struct People(BTreeMap<InterruptId, AbortHandle>);

impl Drop for People {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

impl People {
    /// `last`: up to where the agent has folded; what it asks is there by then.
    pub(super) fn watch(&mut self, context: &Arc<Context>, open: Vec<&InterruptId>, last: Seq) {
        self.0.retain(|id, timer| {
            let waits = open.contains(&id);
            if !waits {
                timer.abort();
            }
            waits
        });
        for id in open {
            if !self.0.contains_key(id) {
                let timer = tokio::spawn(expire(context.clone(), id.clone(), last));
                self.0.insert(id.clone(), timer.abort_handle());
            }
        }
    }
}

async fn expire(context: Arc<Context>, id: InterruptId, last: Seq) {
    if context.journal.durable.wait(last).await.is_err() {
        return;
    }
    let (store, run) = (context.ports.store.clone(), context.run.clone());
    let read = tokio::task::spawn_blocking(move || interrupts(&*store, &run)).await;
    let Ok(Ok(all)) = read else { return };
    let Some(one) = all.get(&id).filter(|one| one.is_open()) else { return };
    let Some(ends) = one.ends_ms() else { return };
    let left = ends.saturating_sub(context.ports.clock.now_ms());
    tokio::time::sleep(Duration::from_millis(left)).await;
    context.journal.record(Decided::one(one.decided(Decision::Expired, "time".to_owned()))).await;
}
