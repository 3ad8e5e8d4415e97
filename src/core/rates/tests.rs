//! The gate by itself, and against simulated providers in virtual time.

mod simulate;
mod trial;

use super::*;

const MAX: Limits = Limits {
    requests: Stand { remaining: None, limit: None, reset_ms: None },
    tokens: Stand { remaining: None, limit: None, reset_ms: None },
    input: Stand { remaining: None, limit: None, reset_ms: None },
    output: Stand { remaining: None, limit: None, reset_ms: None },
};
/// Some moment.
const BASE: u64 = 1_000_000_000;
const NEED: Need = Need { input: 400, output: 600 };

fn rpm(rpm: u64) -> Rates {
    Rates { rpm: Some(rpm), ..Rates::default() }
}

fn pass(gate: &mut Gate, now: u64) -> Ticket {
    match gate.acquire(now, NEED) {
        Admit::Yes(ticket) => ticket,
        Admit::Wait(wait) => panic!("at {now}: {wait:?}"),
    }
}

fn wait(gate: &mut Gate, now: u64) -> Wait {
    match gate.acquire(now, NEED) {
        Admit::Yes(_) => panic!("at {now}: let through"),
        Admit::Wait(wait) => wait,
    }
}

fn answer(gate: &mut Gate, now: u64, ticket: Ticket) {
    gate.end(now, ticket, Ended::Answered { used: Some((100, 100)) }, MAX, 0);
}

#[test]
fn a_call_in_flight_takes_a_place_until_it_ends_however_it_ends() {
    let ends = [
        Ended::Answered { used: None },
        Ended::Refused { retry_after_ms: Some(0), rate: false },
        Ended::Failed,
        Ended::NotSent,
    ];
    for ended in ends {
        let mut gate = Gate::new(Rates::default(), 1, false);
        let ticket = pass(&mut gate, 0);
        assert_eq!(wait(&mut gate, 0), Wait { at: u64::MAX, cause: Cause::Concurrency });
        gate.end(10, ticket, ended, MAX, 0);
        gate.end(10, ticket, ended, MAX, 0);
        pass(&mut gate, 10_000);
        assert_eq!(gate.in_flight(), 1, "{ended:?}");
    }
}

#[test]
fn what_was_not_sent_counts_nothing_and_what_failed_counts() {
    let mut gate = Gate::new(rpm(1), 8, false);
    let ticket = pass(&mut gate, 0);
    gate.end(1, ticket, Ended::NotSent, MAX, 0);
    let ticket = pass(&mut gate, 2);
    gate.end(3, ticket, Ended::Failed, MAX, 0);
    let wait = wait(&mut gate, 4);
    assert_eq!(wait.cause, Cause::Requests);
    assert!((60_000..61_000).contains(&wait.at), "{wait:?}");
}

#[test]
fn a_joint_limit_counts_input_and_output_and_unused_tokens_come_back() {
    let mut gate = Gate::new(Rates { tpm: Some(1500), ..Rates::default() }, 8, false);
    let ticket = pass(&mut gate, 0);
    assert_eq!(wait(&mut gate, 0).cause, Cause::Tokens);
    answer(&mut gate, 10, ticket);
    // 200 of 1,500 used; the next is expected to use no more than its worst case.
    pass(&mut gate, 11);
}

#[test]
fn separate_limits_for_input_and_output_hold_each() {
    let rates = Rates { itpm: Some(900), otpm: Some(100_000), ..Rates::default() };
    let mut gate = Gate::new(rates, 8, false);
    pass(&mut gate, 0);
    pass(&mut gate, 0);
    assert_eq!(wait(&mut gate, 0).cause, Cause::Input);
    let rates = Rates { itpm: Some(100_000), otpm: Some(900), ..Rates::default() };
    let mut gate = Gate::new(rates, 8, false);
    pass(&mut gate, 0);
    assert_eq!(wait(&mut gate, 0).cause, Cause::Output);
}

#[test]
fn a_call_larger_than_the_limit_leaves_when_nothing_else_counts() {
    let mut gate = Gate::new(Rates { tpm: Some(10), ..Rates::default() }, 8, false);
    pass(&mut gate, 0);
    let wait = wait(&mut gate, 1);
    pass(&mut gate, wait.at);
}

#[test]
fn requests_of_a_day_wait_for_the_day() {
    let mut gate = Gate::new(Rates { rpd: Some(2), ..Rates::default() }, 8, false);
    for _ in 0..2 {
        let ticket = pass(&mut gate, 1000);
        answer(&mut gate, 1001, ticket);
    }
    let wait = wait(&mut gate, 2000);
    assert_eq!((wait.cause, wait.at), (Cause::Day, 25 * 3_600_000));
    pass(&mut gate, wait.at);
}

#[test]
fn headers_count_where_they_say_less() {
    let mut gate = Gate::new(rpm(60), 8, false);
    let ticket = pass(&mut gate, BASE);
    let stand = Stand { remaining: Some(0), limit: Some(60), reset_ms: Some(20_000) };
    gate.limits(BASE + 100, ticket, Limits { requests: stand, ..MAX });
    answer(&mut gate, BASE + 100, ticket);
    let wait = wait(&mut gate, BASE + 200);
    assert_eq!(wait.cause, Cause::Requests);
    assert!(wait.at <= BASE + 20_200, "{wait:?}");
    // They come back over the time the provider names, not all at its end.
    let mut back = 0;
    for now in (BASE + 200..BASE + 21_000).step_by(50) {
        while let Admit::Yes(ticket) = gate.acquire(now, NEED) {
            answer(&mut gate, now, ticket);
            back += 1;
        }
    }
    assert!((40..60).contains(&back), "{back}");
}

#[test]
fn headers_that_say_more_change_nothing() {
    let mut gate = Gate::new(rpm(2), 8, false);
    let ticket = pass(&mut gate, 0);
    pass(&mut gate, 0);
    let stand = Stand { remaining: Some(4999), limit: Some(5000), reset_ms: Some(12) };
    gate.limits(100, ticket, Limits { requests: stand, ..MAX });
    assert_eq!(wait(&mut gate, 100).cause, Cause::Requests);
}

#[test]
fn a_limit_of_a_day_in_the_headers_is_not_taken_for_one_of_a_minute() {
    let mut gate = Gate::new(Rates::default(), 80, false);
    let ticket = pass(&mut gate, 0);
    let stand = Stand { remaining: Some(199), limit: Some(200), reset_ms: Some(432_000) };
    gate.limits(100, ticket, Limits { requests: stand, ..MAX });
    for _ in 0..50 {
        pass(&mut gate, 100);
    }
    let stand = Stand { remaining: Some(0), ..stand };
    let ticket = pass(&mut gate, 100);
    gate.limits(200, ticket, Limits { requests: stand, ..MAX });
    assert_eq!(wait(&mut gate, 300), Wait { at: 432_200, cause: Cause::Refused });
}

#[test]
fn retry_after_closes_the_gate_and_opens_it_one_by_one() {
    for random in [0, 1, 77_777, u64::MAX] {
        let mut gate = Gate::new(Rates::default(), 8, false);
        let tickets: Vec<Ticket> = (0..4).map(|_| pass(&mut gate, 0)).collect();
        gate.end(100, tickets[0], Ended::Refused { retry_after_ms: Some(30_000), rate: true }, MAX, random);
        for now in [101, 15_000, 30_099] {
            wait(&mut gate, now);
        }
        tickets[1..].iter().for_each(|ticket| answer(&mut gate, 200, *ticket));
        assert_eq!(gate.at_once(), 1, "answers of calls that left before do not open it");
        let reopens = wait(&mut gate, 201);
        assert_eq!(reopens.cause, Cause::Refused);
        assert!((30_100..34_000).contains(&reopens.at), "{reopens:?}");
    }
    let mut gate = Gate::new(Rates::default(), 8, false);
    let ticket = pass(&mut gate, 0);
    gate.end(0, ticket, Ended::Refused { retry_after_ms: Some(1000), rate: true }, MAX, 0);
    let first = pass(&mut gate, 61_000);
    assert_eq!(wait(&mut gate, 61_000).cause, Cause::Concurrency, "one at a time at first");
    answer(&mut gate, 61_500, first);
    let pair = [pass(&mut gate, 61_500), pass(&mut gate, 61_500)];
    assert_eq!(wait(&mut gate, 61_500).cause, Cause::Concurrency, "then two");
    pair.iter().for_each(|ticket| answer(&mut gate, 62_000, *ticket));
}

#[test]
fn concurrency_halves_for_a_burst_once_and_grows_by_one_in_twenty() {
    let mut gate = Gate::new(Rates::default(), 8, false);
    let tickets: Vec<Ticket> = (0..8).map(|_| pass(&mut gate, 0)).collect();
    for ticket in tickets {
        gate.end(50, ticket, Ended::Refused { retry_after_ms: Some(0), rate: false }, MAX, 0);
    }
    let mut now = 100_000;
    let mut at_once = Vec::new();
    for _ in 0..100 {
        let ticket = pass(&mut gate, now);
        answer(&mut gate, now + 1, ticket);
        now += 1000;
        at_once.push(gate.at_once());
    }
    assert_eq!((at_once[3], at_once[25], at_once[99]), (4, 5, 8));
    for _ in 0..10 {
        now += 100_000;
        let ticket = pass(&mut gate, now);
        gate.end(now, ticket, Ended::Refused { retry_after_ms: Some(0), rate: false }, MAX, 0);
    }
    assert_eq!(gate.at_once(), 1, "never below one");
}

#[test]
fn near_is_said_once_a_window() {
    let mut gate = Gate::new(rpm(10), 80, false);
    let mut said = Vec::new();
    for call in 0..10 {
        pass(&mut gate, call * 1000);
        if let Some(near) = gate.near(call * 1000) {
            said.push((call, near));
        }
    }
    assert_eq!(said, [(7, Near { resource: Resource::Requests, used: 8, limit: 10 })]);
}

#[test]
fn a_breaker_opens_after_five_failures_in_a_row_and_lets_one_try() {
    let mut breaker = Breaker::default();
    for now in 0..4 {
        breaker.failed(now, 0);
    }
    breaker.answered();
    for now in 10..14 {
        breaker.failed(now, 0);
        assert_eq!(breaker.may(now), Ok(()), "four in a row");
    }
    breaker.failed(14, 0);
    let until = breaker.may(14).unwrap_err();
    breaker.failed(15, 0);
    assert_eq!(breaker.may(16), Err(until), "a late failure does not keep it open for longer");
    assert_eq!(breaker.may(until), Ok(()));
    breaker.left(until);
    assert_eq!(breaker.may(until), Err(u64::MAX), "one probe");
    breaker.failed(until + 1, 0);
    let longer = breaker.may(until + 1).unwrap_err();
    assert!(longer - until > until - 14, "{longer}");
    breaker.left(longer);
    breaker.unsure();
    assert_eq!(breaker.may(longer), Ok(()), "a probe that was never sent may be made again");
    breaker.left(longer);
    breaker.answered();
    assert_eq!(breaker.may(longer), Ok(()));
    assert!(!breaker.is_shut(u64::MAX - 1));
}

#[test]
fn a_lease_of_a_process_that_is_gone_ends_and_counts_as_spent() {
    let rates = rpm(10);
    let mut shared = Shared::new(60_000);
    let one = Units { requests: 1, input: 0, output: 0 };
    let offer = |wants: usize, since| Offer { wants: vec![one; wants], since, ..Offer::default() };
    let gone = shared.exchange(0, 60_000, 1, &rates, &offer(3, 0));
    assert_eq!(gone.have.requests, 3);
    let reply = shared.exchange(100, 60_000, 2, &rates, &offer(10, 100));
    assert_eq!((reply.have.requests, reply.wait.is_some()), (1, true), "four at once for all, then by the second");
    let mut total = 0;
    for now in (1000..59_000).step_by(100) {
        let have = shared.exchange(now, 60_000, 3, &rates, &offer(1, now)).have;
        shared.meter.apply(now, &rates, &Act::Spent { at: now, units: have });
        shared.leases.remove(&3);
        total += have.requests;
    }
    assert_eq!(total, 6, "10 less 3 and 1 that may have been spent");
}

#[test]
fn who_waits_longer_gets_room_first() {
    let rates = Rates { tpm: Some(1000), ..Rates::default() };
    let mut shared = Shared::new(60_000);
    let tokens = |n| Units { requests: 1, input: n, output: 0 };
    let offer = |want, since| Offer { wants: vec![tokens(want)], since, ..Offer::default() };
    shared.meter.apply(0, &rates, &Act::Spent { at: 0, units: tokens(500) });
    shared.meter.apply(0, &rates, &Act::Spent { at: 10_000, units: tokens(500) });
    assert!(shared.exchange(59_000, 60_000, 1, &rates, &offer(900, 59_000)).wait.is_some());
    let small = shared.exchange(60_600, 60_000, 2, &rates, &offer(100, 60_600));
    assert_eq!(small.have, Units::ZERO, "500 are free, but the first in line needs 900");
    shared.exchange(70_600, 60_000, 1, &rates, &offer(900, 59_000));
    let small = shared.exchange(70_601, 60_000, 2, &rates, &offer(100, 60_600));
    assert_eq!(small.have, tokens(100));
}

#[test]
fn without_a_limit_the_processes_share_the_closed_gate_and_nothing_else() {
    let mut shared = Shared::new(60_000);
    let none = Rates::default();
    let one = Units { requests: 1, input: 10, output: 10 };
    let wants = || Offer { wants: vec![one; 3], ..Offer::default() };
    let first = shared.exchange(1000, 60_000, 1, &none, &wants());
    let second = shared.exchange(1000, 60_000, 2, &none, &wants());
    assert!(first.have.requests > 1_000_000 && second.have == first.have, "{first:?} {second:?}");
    assert!(shared.leases.is_empty());
    assert_eq!(shared.exchange(1000, 60_000, 2, &none, &Offer::default()).have, Units::ZERO, "it asks for nothing");
    let refused = Some(meter::Refusal { retry_after_ms: Some(5000), rate: true, random: 0 });
    let said = Said { left: 1000, limits: Limits::default(), ahead: Units::ZERO, refused };
    let opened = Act::Opened { model: "ill".to_owned(), until: 9000 };
    let acts = vec![Act::Said(Box::new(said)), opened];
    shared.exchange(1100, 60_000, 1, &none, &Offer { acts, ..Offer::default() });
    let told = shared.exchange(1200, 60_000, 2, &none, &wants());
    assert_eq!((told.closed_until, told.open["ill"], told.have), (6100, 9000, Units::ZERO));
    assert_eq!(told.wait, Some(Wait { at: 6100, cause: Cause::Refused }));
    let later = shared.exchange(9000, 60_000, 2, &none, &wants());
    assert!(later.wait.is_none() && later.open.is_empty());
    // A state of an earlier form of this program has no models in it.
    let mut text = serde_json::to_value(&shared).unwrap();
    text["meter"].as_object_mut().unwrap().remove("open").unwrap();
    assert_eq!(serde_json::from_value::<Shared>(text).unwrap(), shared);
}

#[test]
fn a_refusal_and_an_open_breaker_are_told_at_once_and_a_process_gives_back_what_it_had() {
    let mut gate = Gate::new(Rates::default(), 8, true);
    let mut shared = Shared::new(MINUTE_MS);
    let need = Need { input: 10, output: 10 };
    let mut exchange = |gate: &mut Gate, now, wants: &[Need]| {
        let (rates, window, offer) = gate.offer(now, wants, now).unwrap();
        gate.accept(now, Ok(shared.exchange(now, window, 1, &rates, &offer)));
    };
    assert!(matches!(gate.acquire(1000, need), Admit::Wait(Wait { cause: Cause::Share, .. })));
    exchange(&mut gate, 1000, &[need]);
    let Admit::Yes(ticket) = gate.acquire(1000, need) else { panic!("there is no limit") };
    assert!(gate.exchange_due(false).is_some_and(|at| at > 1000), "a call can be told later");
    gate.end(1001, ticket, Ended::Refused { retry_after_ms: Some(500), rate: true }, Limits::default(), 0);
    assert!(gate.exchange_due(false).is_some_and(|at| at <= 1001), "a refusal cannot");
    exchange(&mut gate, 1001, &[]);
    gate.opened(1002, "ill", 5000);
    assert!(gate.exchange_due(false).is_some_and(|at| at <= 1002));
    exchange(&mut gate, 1002, &[]);
    assert_eq!(gate.take_ill().unwrap().open.into_iter().collect::<Vec<_>>(), [("ill".to_owned(), 5000)]);
    exchange(&mut gate, 1600, &[need]);
    let (_, _, last) = gate.farewell(1600).unwrap();
    assert_eq!((last.ahead, last.wants.len()), (Units::ZERO, 0));
    assert!(gate.is_away() && gate.farewell(1600).is_none());
}

#[test]
fn a_breaker_that_another_process_opened_is_open_here() {
    let mut breaker = Breaker::default();
    breaker.hear(5000);
    assert_eq!((breaker.may(4999), breaker.is_shut(4999)), (Err(5000), true));
    breaker.hear(3000);
    assert_eq!((breaker.may(4999), breaker.may(5000)), (Err(5000), Ok(())));
    // The trial call goes, others wait for its end.
    breaker.left(5000);
    assert_eq!((breaker.may(5001), breaker.is_shut(5001)), (Err(u64::MAX), false));
    assert!(breaker.failed(5001, 0).is_some_and(|until| until > 5001 + 5000), "longer than the first time");
}
