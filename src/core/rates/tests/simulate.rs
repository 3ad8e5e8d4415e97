//! Throttles against providers in virtual time. Invariant: the provider keeps its own count and
//! refuses by its own rule; the test believes nothing else.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use proptest::prelude::*;

use super::super::*;

/// The rule a provider enforces.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Bucket,
    Fixed,
    Sliding,
}

struct Server {
    rule: Rule,
    window: u64,
    limit: [u64; 2],
    /// Level of the buckets, in parts of a window's length.
    level: [u128; 2],
    filled_at: u64,
    seen: VecDeque<(u64, [u64; 2])>,
    closed: Option<(u64, u64)>,
    headers: bool,
    accepted: Vec<(u64, [u64; 2])>,
    refused: usize,
    inside: usize,
}

impl Server {
    fn new(rule: Rule, window: u64, requests: u64, tokens: u64) -> Server {
        let limit = [requests, tokens];
        let level = limit.map(|limit| u128::from(limit) * u128::from(window));
        let (seen, accepted) = (VecDeque::new(), Vec::new());
        let (filled_at, closed, headers, refused, inside) = (0, None, false, 0, 0);
        Server { rule, window, limit, level, filled_at, seen, closed, headers, accepted, refused, inside }
    }

    fn used(&mut self, now: u64) -> [u64; 2] {
        let from = match self.rule {
            Rule::Bucket | Rule::Sliding => (now + 1).saturating_sub(self.window),
            Rule::Fixed => now / self.window * self.window,
        };
        while self.seen.front().is_some_and(|(at, _)| *at < from) {
            self.seen.pop_front();
        }
        self.seen.iter().fold([0, 0], |[r, t], (_, [a, b])| [r + a, t + b])
    }

    /// `Err`: the retry-after it sends, if any.
    fn request(&mut self, now: u64, tokens: u64) -> Result<(), Option<u64>> {
        if let Some((from, until)) = self.closed
            && (from..until).contains(&now)
        {
            self.inside += usize::from(self.refused > 0);
            self.refused += 1;
            return Err(Some(until - now));
        }
        let need = [1, tokens];
        let fits = match self.rule {
            Rule::Bucket => {
                let passed = u128::from(now - self.filled_at);
                self.filled_at = now;
                for n in 0..2 {
                    let cap = u128::from(self.limit[n]) * u128::from(self.window);
                    self.level[n] = (self.level[n] + passed * u128::from(self.limit[n])).min(cap);
                }
                (0..2).all(|n| self.level[n] >= u128::from(need[n]) * u128::from(self.window))
            }
            Rule::Fixed | Rule::Sliding => {
                let used = self.used(now);
                (0..2).all(|n| used[n] + need[n] <= self.limit[n])
            }
        };
        if !fits {
            self.refused += 1;
            return Err(None);
        }
        for (level, need) in self.level.iter_mut().zip(need) {
            *level = level.saturating_sub(u128::from(need) * u128::from(self.window));
        }
        self.seen.push_back((now, need));
        self.accepted.push((now, need));
        Ok(())
    }

    fn limits(&mut self, now: u64) -> Limits {
        if !self.headers {
            return Limits::default();
        }
        let used = self.used(now);
        let stand = |n: usize| {
            let remaining = match self.rule {
                Rule::Bucket => u64::try_from(self.level[n] / u128::from(self.window)).unwrap(),
                Rule::Fixed | Rule::Sliding => self.limit[n].saturating_sub(used[n]),
            };
            let reset = match self.rule {
                Rule::Bucket => (self.limit[n] - remaining.min(self.limit[n])) * self.window / self.limit[n],
                Rule::Fixed => self.window - now % self.window,
                Rule::Sliding => self.window,
            };
            Stand { remaining: Some(remaining), limit: Some(self.limit[n]), reset_ms: Some(reset) }
        };
        Limits { requests: stand(0), tokens: stand(1), ..Limits::default() }
    }

    /// Of the first `windows` windows, the fuller of the two limits, in thousandths.
    fn full(&self, windows: u64) -> u64 {
        let end = self.window * windows;
        let sums = self.accepted.iter().filter(|(at, _)| *at < end).fold([0, 0], |[r, t], (_, [a, b])| [r + a, t + b]);
        (0..2).map(|n| sums[n] * 1000 / (self.limit[n] * windows)).max().unwrap()
    }
}

/// One task: worst case and real use.
#[derive(Clone, Copy)]
struct Task {
    need: Need,
    real: (u64, u64),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Pump(usize),
    Exchange(usize),
    Arrives { gate: usize, ticket: u64, task: usize },
    Ends { gate: usize, ticket: u64, task: usize, refused: Option<Option<u64>>, limits: usize },
}

struct World {
    now: u64,
    server: Server,
    gates: Vec<Gate>,
    queues: Vec<VecDeque<usize>>,
    waits: Vec<u64>,
    shared: Shared,
    tasks: Vec<Task>,
    heap: BinaryHeap<Reverse<(u64, u64, What)>>,
    order: u64,
    random: u64,
    said: Vec<Limits>,
    latency: (u64, u64),
    done: usize,
    cut: Option<(usize, u64)>,
    next_exchange: Vec<u64>,
}

impl World {
    fn new(server: Server, rates: Rates, gates: usize, at_once: u32, tasks: Vec<Task>, seed: u64) -> World {
        let window = server.window;
        let gate = || Gate::with_window(rates, at_once, gates > 1, window);
        let mut queues = vec![VecDeque::new(); gates];
        (0..tasks.len()).for_each(|task| queues[task % gates].push_back(task));
        World {
            now: 0,
            gates: (0..gates).map(|_| gate()).collect(),
            waits: vec![0; gates],
            shared: Shared::new(window),
            latency: (window / 120, window / 20),
            heap: BinaryHeap::new(),
            order: 0,
            random: seed | 1,
            said: Vec::new(),
            done: 0,
            cut: None,
            next_exchange: vec![u64::MAX; gates],
            server,
            queues,
            tasks,
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }

    fn at(&mut self, at: u64, what: What) {
        self.order += 1;
        self.heap.push(Reverse((at.max(self.now), self.order, what)));
    }

    fn pump(&mut self, gate: usize) {
        while let Some(task) = self.queues[gate].front().copied() {
            match self.gates[gate].acquire(self.now, self.tasks[task].need) {
                Admit::Yes(Ticket(ticket)) => {
                    self.queues[gate].pop_front();
                    let net = self.server.window / 3000 + self.random() % (self.server.window / 600);
                    self.at(self.now + net, What::Arrives { gate, ticket, task });
                }
                Admit::Wait(wait) => {
                    if wait.at != u64::MAX
                        && self.gates[gate].exchange_due(true).is_none()
                        && self.waits[gate] != wait.at
                    {
                        self.waits[gate] = wait.at;
                        self.at(wait.at, What::Pump(gate));
                    }
                    break;
                }
            }
        }
        let room = self.gates[gate].in_flight() < self.gates[gate].at_once() as usize;
        if let Some(due) = self.gates[gate].exchange_due(!self.queues[gate].is_empty() && room) {
            let due = due.max(self.now);
            if self.next_exchange[gate] <= self.now || due < self.next_exchange[gate] {
                self.next_exchange[gate] = due;
                self.at(due, What::Exchange(gate));
            }
        }
    }

    fn exchange(&mut self, gate: usize) {
        if self.next_exchange[gate] != self.now {
            return;
        }
        self.next_exchange[gate] = u64::MAX;
        let queue: Vec<Need> = self.queues[gate].iter().map(|task| self.tasks[*task].need).collect();
        let since = queue.len() as u64;
        if let Some((rates, window, offer)) = self.gates[gate].offer(self.now, &queue, u64::MAX - since) {
            let reply = self.shared.exchange(self.now, window, gate as u64, &rates, &offer);
            self.gates[gate].accept(self.now, Ok(reply));
        }
        self.pump(gate);
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((at, _, what))) = self.heap.pop() else { return false };
        self.now = at;
        match what {
            What::Pump(gate) => self.pump(gate),
            What::Exchange(gate) => self.exchange(gate),
            What::Arrives { gate, ticket, task } => {
                let (input, output) = self.tasks[task].real;
                let outcome = self.server.request(self.now, input + output);
                self.said.push(self.server.limits(self.now));
                let limits = self.said.len() - 1;
                let (least, more) = self.latency;
                let (takes, refused) = match outcome {
                    Ok(()) => (least + self.random() % more, None),
                    Err(retry_after) => (self.server.window / 2000, Some(retry_after)),
                };
                self.at(self.now + takes, What::Ends { gate, ticket, task, refused, limits });
            }
            What::Ends { gate, ticket, task, refused, limits } => {
                let random = self.random();
                let ended = match refused {
                    None => Ended::Answered { used: Some(self.tasks[task].real) },
                    Some(retry_after_ms) => Ended::Refused { retry_after_ms, rate: true },
                };
                self.gates[gate].end(self.now, Ticket(ticket), ended, self.said[limits], random);
                match refused {
                    None => self.done += 1,
                    Some(_) => self.queues[gate].push_front(task),
                }
                if let Some((after, by)) = self.cut
                    && self.done >= after
                {
                    self.cut = None;
                    self.server.limit = self.server.limit.map(|limit| limit / by);
                }
                self.pump(gate);
            }
        }
        true
    }

    fn run(&mut self) {
        (0..self.gates.len()).for_each(|gate| self.at(0, What::Pump(gate)));
        let mut steps = 0u64;
        while self.done < self.tasks.len() && self.step() {
            steps += 1;
            assert!(steps < 3_000_000, "no end in sight at {} with {} done", self.now, self.done);
        }
        assert_eq!(self.done, self.tasks.len(), "every task ends");
    }
}

/// Worst cases of 1,600 tokens; `mean` used on average, half to one and a half of it.
fn tasks(count: usize, mean: u64, mut seed: u64) -> Vec<Task> {
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut task = || {
        let all = mean / 2 + random() % (mean + 1);
        Task { need: Need { input: 600, output: 1000 }, real: (all * 6 / 10, all - all * 6 / 10) }
    };
    (0..count).map(|_| task()).collect()
}

const RATES: Rates = Rates { rpm: Some(60), tpm: Some(10_000), itpm: None, otpm: None, rpd: None };

#[test]
fn two_hundred_tasks_use_the_limit_and_are_not_refused() {
    for rule in [Rule::Bucket, Rule::Fixed, Rule::Sliding] {
        for mean in [100, 160, 300] {
            for headers in [false, true] {
                for seed in 1..=5 {
                    let mut server = Server::new(rule, 60_000, 60, 10_000);
                    server.headers = headers;
                    let mut world = World::new(server, RATES, 1, 16, tasks(200, mean, seed), seed);
                    world.run();
                    let (full, refused) = (world.server.full(3), world.server.refused);
                    let what = format!("{rule:?}, {mean} tokens, headers {headers}, seed {seed}");

                    assert!(refused * 1000 < 200 * 5, "{what}: {refused} refused");
                    assert!(full >= 900, "{what}: {full} of 1000 used");
                }
            }
        }
    }
}

#[test]
fn a_limit_cut_to_a_tenth_in_mid_run_costs_under_twenty_refusals() {
    for rule in [Rule::Bucket, Rule::Fixed, Rule::Sliding] {
        for headers in [false, true] {
            for seed in 1..=5 {
                let mut server = Server::new(rule, 60_000, 60, 10_000);
                server.headers = headers;
                let mut world = World::new(server, RATES, 1, 16, tasks(200, 150, seed), seed);
                world.cut = Some((100, 10));
                world.run();
                let refused = world.server.refused;

                assert!(refused < 20, "{rule:?}, headers {headers}, seed {seed}: {refused} refused");
            }
        }
    }
}

#[test]
fn nothing_is_called_inside_retry_after() {
    for seed in 1..=20 {
        let mut server = Server::new(Rule::Bucket, 60_000, 600, 100_000);
        server.closed = Some((20_000, 50_000));
        let rates = Rates { rpm: Some(600), tpm: Some(100_000), ..Rates::default() };
        // One at a time: whatever comes inside was sent after the refusal.
        let mut world = World::new(server, rates, 1, 1, tasks(60, 150, seed), seed);
        world.run();
        assert_eq!((world.server.refused, world.server.inside), (1, 0), "seed {seed}");
    }
}

#[test]
fn four_throttles_on_one_key_keep_the_limit_together() {
    for rule in [Rule::Bucket, Rule::Fixed, Rule::Sliding] {
        for mean in [100, 160, 300] {
            for seed in 1..=3 {
                let server = Server::new(rule, 60_000, 60, 10_000);
                let mut world = World::new(server, RATES, 4, 16, tasks(400, mean, seed), seed);
                world.run();
                let (full, refused) = (world.server.full(5), world.server.refused);
                let what = format!("{rule:?}, {mean} tokens, seed {seed}");

                assert!(refused * 1000 < 400 * 5, "{what}: {refused} refused");
                assert!((if mean == 300 { 950 } else { 980 }..=1000).contains(&full), "{what}: {full} of 1000 used");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever the calls are like, the window is never over the limit while usage stays within its bound.
    #[test]
    fn no_window_is_over_the_limit(
        seed in 1u64..u64::MAX,
        count in 1usize..150,
        mean in 1u64..1000,
        at_once in 1u32..40,
        requests in 1u64..200,
        tokens in 2000u64..50_000,
        gates in 1usize..4,
    ) {
        let rates = Rates { rpm: Some(requests), tpm: None, ..Rates::default() };
        let both = Rates { tpm: Some(tokens), ..rates };
        for rates in [rates, both] {
            let server = Server::new(Rule::Sliding, 60_000, 1 << 40, 1 << 40);
            let mut world = World::new(server, rates, gates, at_once, tasks(count, mean, seed), seed);
            world.run();
            let accepted = &world.server.accepted;
            for (at, _) in accepted {
                let within = accepted.iter().filter(|(other, _)| (*at..at + 60_000).contains(other));
                prop_assert!(within.count() as u64 <= requests);
            }
        }
    }
}
