//! One trial call of all processes. Invariant: whoever tries, the others leave the model alone until its end.

use super::super::*;

#[test]
fn of_all_processes_one_tries_and_its_end_is_heard_by_the_others() {
    let (mut shared, none) = (Shared::new(MINUTE_MS), Rates::default());
    let mut turn = |now, owner, acts: Vec<Act>, wants: bool| {
        let tries = wants.then(|| "ill".to_owned()).into_iter().collect();
        shared.exchange(now, 60_000, owner, &none, &Offer { acts, tries, ..Offer::default() })
    };
    let opened = |until| vec![Act::Opened { model: "ill".to_owned(), until }];
    let tried = |well| vec![Act::Tried { model: "ill".to_owned(), well }];
    turn(1000, 1, opened(6000), false);
    assert!(turn(5999, 1, Vec::new(), true).tries.is_empty(), "nobody tries before its time");
    assert_eq!(turn(6000, 1, Vec::new(), true).tries["ill"], 66_000);
    let other = turn(6001, 2, Vec::new(), true);
    assert_eq!((other.tries.len(), other.open["ill"]), (0, 66_000), "one tries, the others leave it alone");
    // It failed: nobody tries, then whoever asks first.
    turn(7000, 1, opened(17_000), false);
    assert_eq!(turn(7001, 2, Vec::new(), true).open["ill"], 17_000);
    assert_eq!(turn(17_000, 2, Vec::new(), true).tries.len(), 1);
    // It says nothing: another one may.
    assert_eq!(turn(17_001, 1, Vec::new(), true).tries.len(), 0);
    turn(17_002, 2, tried(false), false);
    assert_eq!(turn(17_003, 1, Vec::new(), true).tries.len(), 1);
    // It was answered: nothing is open for anybody.
    let mut breaker = Breaker::default();
    breaker.hear(turn(17_004, 2, Vec::new(), false).open["ill"]);
    assert!(breaker.is_shut(17_004));
    turn(18_000, 1, tried(true), false);
    assert!(turn(18_001, 2, Vec::new(), false).open.is_empty());
    breaker.hear_nothing(18_001);
    assert_eq!((breaker.may(18_001), breaker.has_opened()), (Ok(()), false));
    // The process that tries has died: its time ends.
    turn(20_000, 1, opened(25_000), false);
    assert_eq!(turn(25_000, 1, Vec::new(), true).tries.len(), 1);
    assert_eq!(turn(84_999, 2, Vec::new(), true).tries.len(), 0);
    assert_eq!(turn(85_000, 2, Vec::new(), true).tries.len(), 1);
}

#[test]
fn a_breaker_whose_time_is_over_needs_leave_and_its_own_opening_is_not_taken_for_closed() {
    let mut breaker = Breaker::default();
    let until = (0..5).filter_map(|now| breaker.failed(now, 0)).last().unwrap();
    breaker.hear_nothing(10);
    assert!(breaker.is_shut(10), "the others have not been told yet");
    breaker.hear(until);
    // By another one's clock its time may be over now: that is no word of an answer.
    breaker.hear_nothing(until - 1);
    assert!(breaker.is_shut(until - 1));
    assert!(!breaker.needs_leave(until - 1) && breaker.needs_leave(until));
    breaker.grant(until + 100);
    assert!(!breaker.needs_leave(until) && breaker.needs_leave(until + 100));
    breaker.left(until);
    assert!(breaker.is_probing() && !breaker.needs_leave(until));
}
