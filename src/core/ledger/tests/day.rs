//! A cap per day: what other runs have comes from outside, and a hold is decided within it.

use super::*;
use crate::core::crew::Budget;
use crate::core::event::LedgerEvent;

const TODAY: u64 = 1_795_176_045_123;

fn book(per_day: u64) -> Book {
    let mut crew =
        Arc::try_unwrap(crew_of(usd_caps(Some(1000)), vec![task("two", Who::Agent(name("a")), NO)], vec![], {
            vec![agent("a", NO)]
        }))
        .unwrap();
    crew.budget = Budget { per_day: Some(NanoUsd(per_day)), warn_at: Vec::new(), alert_usd: Vec::new(), ..crew.budget };
    Book::new(Arc::new(crew))
}

fn today() -> Day {
    Day::of_ms(TODAY)
}

impl Book {
    fn grant(&mut self, day: Day, granted: u64, most: u64) {
        let cap = self.crew.budget.per_day.unwrap();
        let (granted, most) = (NanoUsd(granted), NanoUsd(most));
        self.append(Event::Ledger(LedgerEvent::Day { day, cap, granted, most }));
    }
    fn want(&mut self, cost: u64) -> Option<u64> {
        let call = CallId { step: "two".parse().unwrap(), number: 99 };
        let ask = self.ledger.day_ask(&self.crew, &self.request(&call, cost), today());
        ask.map(|ask| ask.want.0)
    }
}

#[test]
fn no_hold_before_the_store_was_asked_and_none_beyond_the_grant() {
    let mut book = book(500);
    assert_eq!(book.want(100), Some(100));
    let call = book.next_call("two");
    assert!(matches!(book.decide(&book.request(&call, 100)), Err(Refusal::NotDue(_))));
    book.grant(today(), 150, 500);
    assert_eq!((book.want(100), book.want(151)), (None, Some(151)));
    let (kind, first) = book.ask("two", 100);
    assert_eq!(kind, "call.held");
    assert!(matches!(book.events.last(), Some(Event::Call(CallEvent::Held(held)))
        if held.nodes.last() == Some(&NodeId::Day(today()))));
    // 100 held; 100 more is beyond the grant and within what the day may still give.
    let (kind, second) = book.ask("two", 100);
    assert_eq!((kind, book.want(100)), ("call.queued", Some(200)));
    book.answer(&first, 20);
    assert_eq!(book.ask_again(&second, 100), "call.held", "its own settlement makes room");
    assert_eq!(book.ledger.day_rest(&book.crew).map(|ask| ask.want.0), Some(120));
}

#[test]
fn what_the_day_cannot_give_is_exhausted_and_the_next_day_begins_at_nothing() {
    let mut book = book(500);
    book.grant(today(), 60, 60);
    let (kind, first) = book.ask("two", 61);
    assert_eq!(kind, "call.exhausted");
    let told = book.events.last().cloned();
    let Some(Event::Call(CallEvent::Exhausted { node, limit: Limit::Usd, left, pause: true, .. })) = told else {
        panic!("{told:?}")
    };
    assert_eq!((node, left.usd), (NodeId::Day(today()), NanoUsd(60)));
    let tomorrow = Day::of_ms(TODAY + 86_400_000);
    let ask = book.ledger.day_ask(&book.crew, &book.request(&first, 61), tomorrow).unwrap();
    assert_eq!((ask.day, ask.want.0), (tomorrow, 61));
    book.grant(tomorrow, 61, 500);
    assert_eq!(book.ask_again(&first, 61), "call.held");
    // The clock jumps back: the day does not.
    assert_eq!(book.ledger.day_ask(&book.crew, &book.request(&book.request(&first, 1).call, 1), today()), None);
    let late = CallId { number: 9, ..first };
    assert_eq!(book.ledger.day_ask(&book.crew, &book.request(&late, 61), today()).unwrap().day, tomorrow);
}

#[test]
fn a_pause_gives_the_grant_back_and_whoever_goes_on_asks_anew() {
    let mut book = book(500);
    book.grant(today(), 100, 500);
    let (_, call) = book.ask("two", 100);
    book.lose(&call);
    book.append(Event::Run(RunEvent::Parked { causes: Vec::new() }));
    let used = book.ledger.day_used(&book.crew).unwrap();
    assert_eq!((used.want.0, used.firm.0), (100, 100), "a call in doubt stays in the day's sum");
    book.append(Event::Run(RunEvent::Resumed { by: "test".into() }));
    assert_eq!(book.want(1), Some(101));
    let free = HoldRequest { price: Pricing::Local, ..book.request(&CallId { number: 7, ..call }, 5) };
    assert_eq!(book.ledger.day_ask(&book.crew, &free, today()), None, "what costs nothing asks nobody");
}
