//! The throttle with a runtime below it. Windows are shorter than a minute, the rest is as it ships.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::core::rates::{Rates, Shared, Stand};
use crate::ports::model::{Model, Tier};

const NEED: Need = Need { input: 100, output: 100 };

struct One(Arc<Tier>);
impl Models for One {
    fn provider(&self, _: &Name) -> Option<Arc<dyn Model>> {
        None
    }
    fn tier(&self, _: &Name, _: &str) -> Arc<Tier> {
        self.0.clone()
    }
}

fn one(tier: Tier) -> One {
    One(Arc::new(tier))
}

fn tier(rpm: Option<u64>, window_ms: u64, at_once: u32) -> Tier {
    let rates = Rates { rpm, ..Rates::default() };
    Tier { rates, window_ms, ..Tier::at_once("key", at_once) }
}

fn acme() -> Name {
    "acme".parse().unwrap()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() })
}

#[test]
fn leave_is_given_in_turn_and_comes_back_however_a_call_ends() {
    run(async {
        let (throttle, models, acme) = (Throttle::default(), one(tier(None, 60_000, 1)), acme());
        let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
        let first = throttle.try_admit(&models, &ask).unwrap();
        assert!(throttle.try_admit(&models, &ask).is_none());
        let order = Mutex::new(Vec::new());
        let wait = |n: u32| {
            let (throttle, models, ask, order) = (&throttle, &models, &ask, &order);
            async move {
                let permit = throttle.admit(models, ask).await.unwrap();
                order.lock().unwrap().push(n);
                match n {
                    0 => drop(permit),
                    1 => permit.ended(Outcome::Answered { used: Some((1, 1)) }),
                    2 => permit.ended(Outcome::Failed),
                    _ => permit.ended(Outcome::Rejected),
                }
            }
        };
        let look = async {
            tokio::task::yield_now().await;
            let waiting = throttle.waiting();
            assert_eq!((waiting[0].calls, waiting[0].cause, waiting[0].until_ms), (4, Cause::Concurrency, None));
            drop(first);
        };
        // One that gives its place up keeps nobody waiting.
        let gone = tokio::time::timeout(Duration::from_millis(1), throttle.admit(&models, &ask));
        assert!(gone.await.is_err());
        tokio::join!(biased; wait(0), wait(1), wait(2), wait(3), look);
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
        assert!(throttle.waiting().is_empty());
        throttle.try_admit(&models, &ask).unwrap();
    });
}

#[test]
fn a_refusal_closes_the_gate_for_everyone_and_for_leave_that_was_given() {
    run(async {
        let (throttle, models, acme) = (Throttle::default(), one(tier(None, 600, 8)), acme());
        let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
        let refused = throttle.try_admit(&models, &ask).unwrap();
        let unsent = throttle.try_admit(&models, &ask).unwrap();
        let refused = refused.sending(false).await.unwrap();
        let start = Instant::now();
        refused.ended(Outcome::Refused { status: Some(429), retry_after_ms: Some(300) });
        assert!(throttle.try_admit(&models, &ask).is_none());
        let late = async {
            let unsent = unsent.sending(false).await.unwrap();
            assert!(start.elapsed() >= Duration::from_millis(300));
            unsent.ended(Outcome::Answered { used: None });
        };
        let (admitted, ()) = tokio::join!(throttle.admit(&models, &ask), late);
        assert!(admitted.is_ok() && start.elapsed() >= Duration::from_millis(300));
    });
}

#[test]
fn a_wait_that_is_known_to_be_too_long_is_said_at_once() {
    run(async {
        let tier = Tier { max_wait_ms: 10_000, ..tier(None, 60_000, 8) };
        let (throttle, models, acme) = (Throttle::default(), one(tier), acme());
        let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
        let refused = throttle.try_admit(&models, &ask).unwrap();
        let unsent = throttle.try_admit(&models, &ask).unwrap();
        refused.ended(Outcome::Refused { status: Some(429), retry_after_ms: Some(3_600_000) });
        assert!(unsent.sending(false).await.is_err());
        let long = throttle.admit(&models, &ask).await.unwrap_err();
        assert_eq!((long.provider.as_str(), long.cause), ("acme", Cause::Refused));
        assert!(throttle.waiting().is_empty());
    });
}

#[test]
fn a_limit_is_waited_for_and_the_wait_can_be_seen() {
    run(async {
        let (throttle, models, acme) = (Throttle::default(), one(tier(Some(2), 600, 8)), acme());
        let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
        let start = Instant::now();
        for _ in 0..2 {
            throttle.try_admit(&models, &ask).unwrap().ended(Outcome::Failed);
        }
        let seen = async {
            while throttle.waiting().is_empty() {
                tokio::task::yield_now().await;
            }
            throttle.waiting()
        };
        let (permit, seen) = tokio::join!(throttle.admit(&models, &ask), seen);
        permit.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(600));
        assert_eq!((seen[0].cause, seen[0].calls), (Cause::Requests, 1));
        assert!(seen[0].until_ms.is_some());
    });
}

#[test]
fn headers_are_heard_while_the_call_runs() {
    run(async {
        let (throttle, models, acme) = (Throttle::default(), one(tier(Some(100), 60_000, 8)), acme());
        let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
        let permit = throttle.try_admit(&models, &ask).unwrap();
        let requests = Stand { remaining: Some(0), limit: Some(100), reset_ms: Some(60_000) };
        permit.limits(Limits { requests, ..Limits::default() });
        assert!(throttle.try_admit(&models, &ask).is_none());
    });
}

#[test]
fn an_ill_model_rests_while_others_go_on() {
    run(async {
        let (throttle, models, acme) = (Throttle::default(), one(tier(None, 60_000, 8)), acme());
        let ask = |model| Ask { provider: &acme, model, need: NEED, elsewhere: false, held: false };
        for _ in 0..5 {
            assert_eq!(throttle.cooling(&models, &ask("ill")), None);
            throttle.try_admit(&models, &ask("ill")).unwrap().ended(Outcome::Failed);
        }
        assert!(throttle.cooling(&models, &ask("ill")).is_some());
        let (ill, well) = (ask("ill"), ask("well"));
        let waits = tokio::time::timeout(Duration::from_millis(50), throttle.admit(&models, &ill));
        let (waits, well) = tokio::join!(waits, throttle.admit(&models, &well));
        assert!(waits.is_err() && well.is_ok());
    });
}

#[test]
fn a_call_that_can_go_elsewhere_is_told_as_soon_as_its_model_is_left_alone() {
    run(async {
        let (throttle, models, acme) = (Throttle::default(), one(tier(None, 60_000, 1)), acme());
        let ask = Ask { provider: &acme, model: "ill", need: NEED, elsewhere: true, held: false };
        (0..4).for_each(|_| throttle.try_admit(&models, &ask).unwrap().ended(Outcome::Failed));
        // The only place is taken: it waits, and need not once that call has failed too.
        let fifth = throttle.try_admit(&models, &ask).unwrap();
        let fail = async { fifth.ended(Outcome::Failed) };
        let (queued, ()) = tokio::join!(biased; throttle.admit(&models, &ask), fail);
        let told = throttle.admit(&models, &ask).await.unwrap_err();
        assert_eq!(queued.unwrap_err(), told);
        assert_eq!(told.cause, Cause::Breaker);
        assert_eq!(Some(told.until_ms), throttle.cooling(&models, &ask));
        assert!(throttle.waiting().is_empty());
    });
}

/// A state folder in memory.
#[derive(Default)]
struct Folder(Mutex<BTreeMap<String, Shared>>, AtomicUsize);
impl SharedRates for Folder {
    fn exchange(&self, key: &str, act: &mut dyn FnMut(&mut Shared)) -> io::Result<()> {
        self.1.fetch_add(1, Ordering::SeqCst);
        act(self.0.lock().unwrap().entry(key.to_owned()).or_insert_with(|| Shared::new(1)));
        Ok(())
    }
}
struct Broken;
impl SharedRates for Broken {
    fn exchange(&self, _: &str, _: &mut dyn FnMut(&mut Shared)) -> io::Result<()> {
        Err(io::Error::other("as told"))
    }
}

#[test]
fn throttles_that_share_a_key_keep_its_limit_together() {
    run(async {
        let (folder, acme) = (Arc::new(Folder::default()), acme());
        let models = one(Tier { shared: true, ..tier(Some(60), 1200, 8) });
        let calls = Mutex::new(Vec::new());
        let start = Instant::now();
        let process = || async {
            let throttle = Throttle::new(Some(folder.clone()));
            let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
            loop {
                let permit = throttle.admit(&models, &ask).await.unwrap();
                if start.elapsed() > Duration::from_millis(3600) {
                    return;
                }
                calls.lock().unwrap().push(start.elapsed());
                let permit = permit.sending(false).await.unwrap();
                permit.ended(Outcome::Answered { used: Some((50, 50)) });
            }
        };
        tokio::join!(process(), process(), process(), process());
        let mut calls = calls.into_inner().unwrap();
        calls.sort();
        for (n, from) in calls.iter().enumerate() {
            let within = calls[n..].iter().take_while(|at| **at < *from + Duration::from_millis(1199)).count();
            assert!(within <= 60, "{within} calls in one window");
        }
        assert!(calls.len() > 110, "{} calls in three windows", calls.len());
        assert!(folder.1.load(Ordering::SeqCst) > 10);
    });
}

#[test]
fn of_throttles_that_share_a_key_one_tries_an_ill_model() {
    run(async {
        let (folder, acme) = (Arc::new(Folder::default()), acme());
        let models = one(Tier { shared: true, ..tier(None, 1200, 8) });
        let ask = Ask { provider: &acme, model: "ill", need: NEED, elsewhere: false, held: false };
        let all = [(); 4].map(|()| Throttle::new(Some(folder.clone())));
        for _ in 0..5 {
            all[0].admit(&models, &ask).await.unwrap().ended(Outcome::Failed);
        }
        // The others may hear of it from now on: who calls before that does not try.
        let told = |shared: &Shared| !serde_json::to_value(shared).unwrap()["meter"]["open"]["ill"].is_null();
        while !folder.0.lock().unwrap().values().any(told) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // While the trial call is under way nobody else has leave, in whichever process.
        let (out, tries) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let trial = |at: usize| {
            let (throttle, models, ask, out, tries) = (&all[at], &models, &ask, &out, &tries);
            async move {
                let permit = throttle.admit(models, ask).await.unwrap();
                let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
                assert_eq!(out.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                if first {
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                }
                out.fetch_sub(1, Ordering::SeqCst);
                permit.ended(Outcome::Answered { used: Some((50, 50)) });
            }
        };
        let start = Instant::now();
        tokio::join!(trial(0), trial(1), trial(2), trial(3));
        assert_eq!(tries.into_inner(), 4);
        // They hear that it is well, and do not wait until the time that was left to the trial is over.
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    });
}

#[test]
fn a_state_folder_that_fails_does_not_stop_the_calls() {
    run(async {
        let acme = acme();
        let models = one(Tier { shared: true, ..tier(Some(100), 6000, 8) });
        let throttle = Throttle::new(Some(Arc::new(Broken)));
        let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
        throttle.admit(&models, &ask).await.unwrap().ended(Outcome::Failed);
        assert!(throttle.try_admit(&models, &ask).is_some());
    });
}

#[test]
fn leave_at_once_costs_next_to_nothing() {
    run(async {
        let acme = acme();
        let models = one(tier(Some(1 << 40), 60_000, 8));
        let throttle = Throttle::default();
        let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
        let start = Instant::now();
        for _ in 0..10_000 {
            throttle.try_admit(&models, &ask).unwrap().ended(Outcome::Answered { used: Some((50, 50)) });
        }
        // Unoptimised and on a busy machine: the bound is for what would grow with the number of calls.
        let each = start.elapsed() / 10_000;
        println!("{each:?} per call");
        assert!(each < Duration::from_micros(200), "{each:?} per call");
    });
}

#[test]
fn a_model_that_is_expected_is_asked_about_before_its_first_call() {
    run(async {
        let (folder, acme) = (Arc::new(Folder::default()), acme());
        let throttle = Throttle::new(Some(folder.clone()));
        let ask = Ask { provider: &acme, model: "m", need: NEED, elsewhere: false, held: false };
        // Where a limit is stated nothing is taken ahead.
        let limited = one(Tier { key: "limited".into(), shared: true, ..tier(Some(60), 60_000, 8) });
        throttle.ask_ahead(&limited, &acme, "m");
        let models = one(Tier { shared: true, ..tier(None, 60_000, 8) });
        (0..3).for_each(|_| throttle.ask_ahead(&models, &acme, "m"));
        while throttle.try_admit(&models, &ask).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(folder.1.load(Ordering::SeqCst), 1, "asked once, by nobody who waits");
        assert!(throttle.try_admit(&limited, &ask).is_none());
        // A gate that another process has closed is closed for the first call.
        let other = Throttle::new(Some(folder.clone()));
        let refused = other.admit(&models, &ask).await.unwrap().sending(false).await.unwrap();
        refused.ended(Outcome::Refused { status: Some(429), retry_after_ms: Some(60_000) });
        other.farewell().await;
        let third = Throttle::new(Some(folder.clone()));
        third.ask_ahead(&models, &acme, "m");
        let asked = folder.1.load(Ordering::SeqCst) + 1;
        while folder.1.load(Ordering::SeqCst) < asked {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(tokio::time::timeout(Duration::from_millis(20), third.admit(&models, &ask)).await.is_err());
    });
}
