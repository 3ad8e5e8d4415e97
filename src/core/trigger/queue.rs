//! Events that wait for their turn. Invariant: an event is waiting or at work at most once, none is
//! dropped but by its trigger's own `overlap = "skip"`, and one that processes have died on is alone
//! when it is tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::crew::Overlap;

/// Deaths on an event after which it is tried alone, so that whoever causes them is known.
const SUSPECT: u32 = 2;

/// How the events of one trigger follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub overlap: Overlap,
    pub max_parallel: usize,
}

/// An event that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<T> {
    /// Index of its [`Rule`].
    pub trigger: usize,
    pub key: String,
    /// Deaths of processes on it.
    pub deaths: u32,
    /// Its run exists: it is never skipped.
    pub begun: bool,
    pub what: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    Waits,
    /// It is waiting or at work already.
    Known,
    /// A run of its trigger is at work, and the trigger says to leave it then.
    Skipped,
}

#[derive(Debug)]
pub struct Queue<T> {
    rules: Vec<Rule>,
    waiting: VecDeque<Item<T>>,
    /// Of all that wait.
    keys: BTreeSet<String>,
    running: BTreeMap<String, usize>,
    /// The event at work is one that is tried alone.
    alone: bool,
}

impl<T> Queue<T> {
    pub fn new(rules: Vec<Rule>) -> Queue<T> {
        let (waiting, keys, running) = (VecDeque::new(), BTreeSet::new(), BTreeMap::new());
        Queue { rules, waiting, keys, running, alone: false }
    }

    pub fn add(&mut self, item: Item<T>) -> Added {
        if self.keys.contains(&item.key) || self.running.contains_key(&item.key) {
            return Added::Known;
        }
        let skips = self.rules.get(item.trigger).is_some_and(|rule| rule.overlap == Overlap::Skip);
        if skips && !item.begun && self.busy(item.trigger) {
            return Added::Skipped;
        }
        self.keys.insert(item.key.clone());
        self.waiting.push_back(item);
        Added::Waits
    }

    fn busy(&self, trigger: usize) -> bool {
        self.at_work(trigger) > 0 || self.waiting.iter().any(|item| item.trigger == trigger)
    }
    fn at_work(&self, trigger: usize) -> usize {
        self.running.values().filter(|of| **of == trigger).count()
    }
    fn has_room(&self, trigger: usize) -> bool {
        let rule = self.rules.get(trigger);
        let most = rule.map_or(1, |rule| if rule.overlap == Overlap::Parallel { rule.max_parallel } else { 1 });
        self.at_work(trigger) < most.max(1)
    }

    /// The next event to be run, in the order they came; `held` says whose events must wait. It counts as
    /// at work until [`Queue::ended`].
    pub fn next(&mut self, held: impl Fn(usize) -> bool) -> Option<Item<T>> {
        if self.alone {
            return None;
        }
        let suspect = |item: &Item<T>| item.deaths >= SUSPECT && !held(item.trigger);
        let suspects = self.waiting.iter().enumerate().filter(|(_, item)| suspect(item));
        let at = match suspects.min_by_key(|(_, item)| item.deaths) {
            Some((at, _)) => {
                if !self.running.is_empty() {
                    return None;
                }
                self.alone = true;
                Some(at)
            }
            None => {
                let free: Vec<bool> = (0..self.rules.len()).map(|of| self.has_room(of) && !held(of)).collect();
                self.waiting.iter().position(|item| free.get(item.trigger) == Some(&true))
            }
        };
        let item = self.waiting.remove(at?)?;
        self.keys.remove(&item.key);
        self.running.insert(item.key.clone(), item.trigger);
        Some(item)
    }

    /// The event is not at work any more.
    pub fn ended(&mut self, key: &str) {
        if self.running.remove(key).is_some() {
            self.alone = false;
        }
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
    /// Events that wait, in order.
    pub fn items(&self) -> impl Iterator<Item = &Item<T>> {
        self.waiting.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(rules: &[(Overlap, usize)]) -> Queue<()> {
        Queue::new(
            rules
                .iter()
                .map(|(overlap, max_parallel)| Rule { overlap: *overlap, max_parallel: *max_parallel })
                .collect(),
        )
    }
    fn item(trigger: usize, key: &str, deaths: u32) -> Item<()> {
        Item { trigger, key: key.to_owned(), deaths, begun: deaths > 0, what: () }
    }
    fn keys(queue: &mut Queue<()>) -> Vec<String> {
        std::iter::from_fn(|| queue.next(|_| false)).map(|item| item.key).collect()
    }

    #[test]
    fn queue_runs_one_after_the_other_in_order_and_each_once() {
        let mut queue = queue(&[(Overlap::Queue, 4)]);
        for key in ["a", "b", "c"] {
            assert_eq!(queue.add(item(0, key, 0)), Added::Waits);
            assert_eq!(queue.add(item(0, key, 0)), Added::Known);
        }
        for key in ["a", "b", "c"] {
            assert_eq!(keys(&mut queue), [key]);
            assert_eq!(queue.add(item(0, key, 0)), Added::Known, "it is at work");
            queue.ended(key);
        }
        assert_eq!((queue.running(), queue.waiting()), (0, 0));
    }

    #[test]
    fn skip_leaves_what_comes_while_a_run_is_at_work_but_never_a_run_that_exists() {
        let mut queue = queue(&[(Overlap::Skip, 1), (Overlap::Queue, 1)]);
        assert_eq!(queue.add(item(0, "a", 0)), Added::Waits);
        assert_eq!(queue.add(item(0, "b", 0)), Added::Skipped, "a is about to start");
        assert_eq!(keys(&mut queue), ["a"]);
        assert_eq!(queue.add(item(0, "c", 0)), Added::Skipped);
        assert_eq!(queue.add(item(1, "d", 0)), Added::Waits, "another trigger");
        assert_eq!(queue.add(item(0, "e", 1)), Added::Waits, "its run exists");
        queue.ended("a");
        assert_eq!(keys(&mut queue), ["d", "e"]);
        queue.ended("e");
        assert_eq!(queue.add(item(0, "f", 0)), Added::Waits);
    }

    #[test]
    fn parallel_runs_up_to_its_limit_and_triggers_do_not_wait_for_each_other() {
        let mut queue = queue(&[(Overlap::Parallel, 2), (Overlap::Queue, 1)]);
        for key in ["a", "b", "c", "d"] {
            queue.add(item(0, key, 0));
        }
        queue.add(item(1, "x", 0));
        queue.add(item(1, "y", 0));
        assert_eq!(keys(&mut queue), ["a", "b", "x"]);
        queue.ended("b");
        queue.ended("x");
        assert_eq!(keys(&mut queue), ["c", "y"]);
    }

    #[test]
    fn events_that_are_held_wait_and_are_not_lost() {
        let mut queue = queue(&[(Overlap::Parallel, 9), (Overlap::Parallel, 9)]);
        for (trigger, key) in [(0, "a"), (1, "b"), (0, "c")] {
            queue.add(item(trigger, key, 0));
        }
        assert_eq!(queue.next(|of| of == 0).map(|item| item.key).as_deref(), Some("b"));
        assert_eq!(queue.next(|of| of == 0), None);
        assert_eq!(queue.waiting(), 2);
        assert_eq!(keys(&mut queue), ["a", "c"]);
    }

    #[test]
    fn what_processes_died_on_runs_alone_the_least_suspect_first() {
        let mut queue = queue(&[(Overlap::Parallel, 9)]);
        for (key, deaths) in [("a", 0), ("b", 4), ("c", 2), ("d", 1)] {
            queue.add(item(0, key, deaths));
        }
        assert_eq!(keys(&mut queue), ["c"]);
        queue.ended("c");
        assert_eq!(keys(&mut queue), ["b"]);
        queue.ended("b");
        assert_eq!(keys(&mut queue), ["a", "d"]);
        queue.add(item(0, "e", 3));
        queue.add(item(0, "f", 0));
        assert_eq!(keys(&mut queue), Vec::<String>::new(), "it waits until the others have ended");
        queue.ended("a");
        queue.ended("d");
        assert_eq!(keys(&mut queue), ["e"]);
        queue.ended("e");
        assert_eq!(keys(&mut queue), ["f"]);
    }
}
