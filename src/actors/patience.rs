//! Time that stands still while a person is asked. Invariant: a deadline counts whenever no question is open, and
//! only then.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::core::question::Question;
use crate::ports::BoxFuture;
use crate::ports::tool::{Answer, People, Progress};

/// The time was over.
#[derive(Debug)]
pub struct Late;

/// People, and how much of a call they are asked in.
pub struct Patience {
    inner: Arc<dyn People>,
    /// Questions that are open.
    open: watch::Sender<u32>,
    waited: Mutex<Waited>,
}

#[derive(Default)]
struct Waited {
    before: Duration,
    since: Option<Instant>,
}

impl Patience {
    pub fn with(inner: Arc<dyn People>) -> Patience {
        Patience { inner, open: watch::Sender::new(0), waited: Mutex::default() }
    }

    /// How long at least one question was open.
    pub fn waited(&self) -> Duration {
        let waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        waited.before + waited.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// As a timeout.
    pub async fn within<T>(&self, time: Duration, work: impl Future<Output = T>) -> Result<T, Late> {
        let mut work = std::pin::pin!(work);
        let mut open = self.open.subscribe();
        let mut left = time;
        loop {
            let (begun, asks) = (Instant::now(), *open.borrow_and_update() > 0);
            let over = async {
                match asks {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(left).await,
                }
            };
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                changed = open.changed() => drop(changed),
                () = over => return Err(Late),
            }
            if !asks {
                left = left.saturating_sub(begun.elapsed());
            }
        }
    }

    fn change(&self, by: impl FnOnce(u32) -> u32) {
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        self.open.send_modify(|open| {
            *open = by(*open);
            match (*open, waited.since) {
                (0, Some(since)) => (waited.before, waited.since) = (waited.before + since.elapsed(), None),
                (1.., None) => waited.since = Some(Instant::now()),
                (0, None) | (1.., Some(_)) => {}
            }
        });
    }
}

/// One question that is open.
struct Open<'a>(&'a Patience);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.change(|open| open.saturating_sub(1));
    }
}

impl People for Patience {
    fn ask(&self, question: Question) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.change(|open| open + 1);
            let _open = Open(self);
            self.inner.ask(question).await
        })
    }
    fn watch(&self, progress: Progress) {
        self.inner.watch(progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers after so long.
    struct Slow(Duration);

    impl People for Slow {
        fn ask(&self, _: Question) -> BoxFuture<'_, Answer> {
            Box::pin(async {
                tokio::time::sleep(self.0).await;
                Answer::Declined
            })
        }
    }

    #[tokio::test]
    async fn the_time_in_which_a_person_thinks_does_not_count() {
        let (limit, thinks) = (Duration::from_secs(1), Duration::from_millis(1500));
        let patience = Patience::with(Arc::new(Slow(thinks)));
        let question = Question::new("s", "Who?", serde_json::json!({"type": "object"})).unwrap();
        assert!(patience.within(limit, patience.ask(question.clone())).await.is_ok());
        assert!(patience.waited() >= thinks);
        let hangs = async |asks: Duration| {
            let _ = tokio::time::timeout(asks, patience.ask(question.clone())).await;
            std::future::pending::<()>().await;
        };
        assert!(patience.within(limit / 10, hangs(2 * thinks)).await.is_err(), "it counts after the answer");
        assert!(patience.within(limit / 10, hangs(limit / 10)).await.is_err(), "and after it was withdrawn");
        assert!(patience.within(limit / 10, std::future::pending::<()>()).await.is_err());
    }
}
