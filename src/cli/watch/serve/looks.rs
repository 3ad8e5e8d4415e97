//! Looks for events, one after the other, off the runtime's thread. Invariant: a look that was begun is
//! heard, whatever else the watch does meanwhile.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cli::watch::sentry::{Found, Sentry};
use crate::ports::store::StoreError;

pub(super) struct Looks {
    idle: Option<Sentry>,
    at_work: Option<JoinHandle<Look>>,
    due: tokio::time::Instant,
}

/// Who has looked, what for, and how long it took.
type Look = (Sentry, Result<Found, StoreError>, Duration);

impl Looks {
    pub(super) fn new(sentry: Sentry) -> Looks {
        Looks { idle: Some(sentry), at_work: None, due: tokio::time::Instant::now() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.at_work.is_none()
    }

    /// The next look's outcome. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Found, StoreError> {
        let lost = |why: String| StoreError::WriteFailed { why };
        if self.at_work.is_none() {
            tokio::time::sleep_until(self.due).await;
            let Some(mut sentry) = self.idle.take() else { return Err(lost("nobody looks any more".into())) };
            self.at_work = Some(tokio::task::spawn_blocking(move || {
                let began = std::time::Instant::now();
                let found = sentry.look();
                (sentry, found, began.elapsed())
            }));
        }
        let Some(look) = &mut self.at_work else { return Err(lost("nobody looks any more".into())) };
        let done = look.await;
        self.at_work = None;
        let (sentry, found, took) = done.map_err(|why| lost(format!("the look for events was lost: {why}")))?;
        // A large folder takes at most a tenth of one core.
        let pace = sentry.pace().max(took * 10);
        (self.due, self.idle) = (tokio::time::Instant::now() + pace, Some(sentry));
        found
    }
}
