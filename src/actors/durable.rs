//! The durable mark of a run. Invariant: whoever waits for a Seq goes on only once the store has it
//! on disk, and never after a write has failed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::oneshot;

use crate::core::ids::Seq;
use crate::ports::store::StoreError;

/// The journal cannot be written: no effect may happen any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken;

#[derive(Default)]
pub struct Durable(Mutex<Marks>);

#[derive(Default)]
struct Marks {
    upto: Seq,
    failed: Option<StoreError>,
    /// By Seq, so that a mark wakes only those it has passed.
    waiting: BTreeMap<Seq, Vec<oneshot::Sender<()>>>,
}

impl Durable {
    pub fn new(upto: Seq) -> Durable {
        Durable(Mutex::new(Marks { upto, ..Marks::default() }))
    }

    fn marks(&self) -> std::sync::MutexGuard<'_, Marks> {
        // Nothing panics while it is held; a poisoned mark would still be a true one.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Called on the store's thread. It wakes one of those it has passed, and that one the others: a
    /// wake from another thread is a system call, one from a task is not.
    pub fn reached(&self, seq: Seq) {
        let mut marks = self.marks();
        if marks.failed.is_some() {
            return;
        }
        marks.upto = marks.upto.max(seq);
        while let Some(mut first) = marks.waiting.first_entry().filter(|first| *first.key() <= seq) {
            let waiter = first.get_mut().remove(0);
            if first.get().is_empty() {
                first.remove();
            }
            // Whoever no longer waits wakes nobody.
            if waiter.send(()).is_ok() {
                return;
            }
        }
    }

    /// Wakes everyone whose Seq is on disk.
    fn release(&self) {
        let mut marks = self.marks();
        let beyond = marks.upto.next();
        let later = marks.waiting.split_off(&beyond);
        let due = std::mem::replace(&mut marks.waiting, later);
        drop(marks);
        for waiter in due.into_values().flatten() {
            let _ = waiter.send(());
        }
    }

    /// Every waiter, now and later, learns that it must not go on.
    pub fn fail(&self, error: StoreError) {
        let mut marks = self.marks();
        marks.failed.get_or_insert(error);
        marks.waiting.clear();
    }

    pub fn failure(&self) -> Option<StoreError> {
        self.marks().failed.clone()
    }

    pub async fn wait(&self, seq: Seq) -> Result<(), Broken> {
        let waiter = {
            let mut marks = self.marks();
            if marks.failed.is_some() {
                return Err(Broken);
            }
            if marks.upto >= seq {
                return Ok(());
            }
            let (waker, waiter) = oneshot::channel();
            marks.waiting.entry(seq).or_default().push(waker);
            waiter
        };
        // Woken or dropped, it hands on: it may be the one that was woken for all.
        let _others = HandOn(self);
        waiter.await.map_err(|_| Broken)
    }
}

struct HandOn<'a>(&'a Durable);
impl Drop for HandOn<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_go_on_in_their_turn_and_none_after_a_failure() {
        let durable = Durable::new(Seq(1));
        assert_eq!(durable.wait(Seq(1)).await, Ok(()));
        let (third, fourth) = (durable.wait(Seq(3)), durable.wait(Seq(4)));
        tokio::pin!(third, fourth);
        assert!(futures_now(third.as_mut()).is_none());
        assert!(futures_now(fourth.as_mut()).is_none());
        durable.reached(Seq(3));
        assert_eq!(futures_now(third.as_mut()), Some(Ok(())));
        durable.fail(StoreError::WriteFailed { why: "full".into() });
        assert_eq!(fourth.await, Err(Broken));
        durable.reached(Seq(9));
        assert_eq!(durable.wait(Seq(5)).await, Err(Broken), "after a failed write nothing is durable any more");
    }

    #[tokio::test]
    async fn who_is_woken_wakes_the_others_even_if_it_is_dropped_at_that_moment() {
        let durable = Durable::new(Seq(0));
        let mut one = Box::pin(durable.wait(Seq(1)));
        let (also, two) = (durable.wait(Seq(1)), durable.wait(Seq(2)));
        tokio::pin!(also, two);
        for waiter in [one.as_mut(), also.as_mut()] {
            assert!(futures_now(waiter).is_none());
        }
        assert!(futures_now(two.as_mut()).is_none());
        durable.reached(Seq(2));
        drop(one);
        assert_eq!(futures_now(also.as_mut()), Some(Ok(())));
        assert_eq!(futures_now(two.as_mut()), Some(Ok(())));
    }

    fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
