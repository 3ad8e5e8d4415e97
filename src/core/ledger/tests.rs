mod day;
mod property;
mod tree;

use std::sync::Arc;

use tree::*;

use super::*;
use crate::core::chat::{CallFailure, FailureClass, Finish, Settings};
use crate::core::crew::{Crew, Pricing, Who};
use crate::core::event::{Answered, LostCause, Msg, RunEvent};
use crate::core::ids::{AgentRef, BlobId, RunId};
use crate::core::machine::{Decided, Refusal, World};
use crate::core::money::{Limit, Tokens, Usage};

/// A ledger with everything that was appended to it.
struct Book {
    crew: Arc<Crew>,
    ledger: Ledger,
    events: Vec<Event>,
    held: BTreeMap<CallId, Amount>,
    number: u32,
}

impl Book {
    fn new(crew: Arc<Crew>) -> Book {
        let caps = crew.budget.caps;
        let ledger = Ledger { caps, ..Ledger::default() };
        Book { crew, ledger, events: Vec::new(), held: BTreeMap::new(), number: 0 }
    }
    fn append(&mut self, event: Event) {
        self.ledger.apply(&event).unwrap();
        if let Event::Call(CallEvent::Held(held)) = &event {
            self.held.insert(held.call.clone(), held.amount);
        }
        self.events.push(event);
    }
    fn request(&self, call: &CallId, tokens: u64) -> HoldRequest {
        let (scope, who) = match call.step.as_str() {
            "sub/deep/leaf" => ("sub/deep", "c"),
            "sub/side" => ("sub", "b"),
            _ => ("", "a"),
        };
        HoldRequest {
            call: call.clone(),
            agent: AgentRef { scope: scope.parse().unwrap_or(Step::root()), name: name(who), number: 1 },
            attempt: 1,
            model: "p/m".into(),
            input: Tokens(tokens - 1),
            price: Pricing::Priced(PRICE),
            settings: Settings { max_output: 1, ..Settings::default() },
            messages: 2,
            ending: false,
            summary: false,
            tools: false,
            countable: None,
        }
    }
    fn decide(&self, request: &HoldRequest) -> Result<Decided, Refusal> {
        let run = RunId::from_random(1);
        self.ledger.decide(World { run: &run, crew: &self.crew, texts: &None_, sizes: &None_ }, request)
    }
    fn next_call(&mut self, step: &str) -> CallId {
        self.number += 1;
        CallId { step: step.parse().unwrap(), number: self.number }
    }
    /// Asks for a call of so many nano-dollars; the kind of the first event, and the call.
    fn ask(&mut self, step: &str, cost: u64) -> (&'static str, CallId) {
        let call = self.next_call(step);
        (self.ask_again(&call, cost), call)
    }
    fn ask_again(&mut self, call: &CallId, cost: u64) -> &'static str {
        match self.decide(&self.request(call, cost)) {
            Ok(decided) => {
                let kind = decided.events[0].kind();
                decided.events.into_iter().for_each(|event| self.append(event));
                kind
            }
            Err(Refusal::Waiting) => "waiting",
            Err(why) => panic!("{why}"),
        }
    }
    fn answer(&mut self, call: &CallId, cost: u64) {
        let event = self.answered(call, cost);
        self.append(event);
    }
    fn answered(&self, call: &CallId, cost: u64) -> Event {
        let cost = Amount { tokens: Tokens(cost), usd: NanoUsd(cost), calls: 1 };
        let message = Msg { message: BlobId::of(b"x"), bytes: 1, is_result: false, own: None };
        Event::Call(CallEvent::Answered(Box::new(Answered {
            call: call.clone(),
            agent: self.request(call, 2).agent,
            model: "p/m".into(),
            finish: Finish::Stop,
            asks: 0,
            usage: Usage::ABSENT,
            cost,
            estimated: false,
            overrun: self.held.get(call).is_some_and(|held| cost.usd > held.usd),
            message,
            native: None,
            served: None,
            raw_usage: None,
            request_id: None,
            elapsed_ms: 1,
        })))
    }
    fn fail(&mut self, call: &CallId, class: FailureClass) {
        let failure = CallFailure::of(class, String::new());
        let agent = self.request(call, 2).agent;
        self.append(Event::Call(CallEvent::Failed { call: call.clone(), agent, failure, elapsed_ms: 1 }));
    }
    fn lose(&mut self, call: &CallId) {
        let agent = self.request(call, 2).agent;
        let cause = LostCause::Died;
        self.append(Event::Call(CallEvent::Lost { call: call.clone(), agent, cause, elapsed_ms: 1 }));
    }
    fn raise(&mut self, usd: u64) {
        self.append(Event::Ledger(LedgerEvent::Raised { caps: usd_caps(Some(usd)), by: "me".into() }));
    }
    fn sums(&self, node: &str) -> Sums {
        self.ledger.nodes.get(&node.parse().unwrap()).cloned().unwrap_or_default()
    }
    fn alerts(&self) -> Vec<String> {
        let alerts = self.events.iter().filter_map(|event| match event {
            Event::Ledger(LedgerEvent::Alert { node, alert, .. }) => Some(format!("{node} {alert:?}")),
            _ => None,
        });
        alerts.collect()
    }
}

#[test]
fn a_hold_counts_at_every_node_above_it() {
    let mut book = Book::new(tree());
    let (kind, call) = book.ask("sub/deep/leaf", 100);
    assert_eq!(kind, "call.held");
    let nodes: Vec<String> = book.ledger.hold(&call).unwrap().nodes.iter().map(NodeId::to_string).collect();
    let path =
        ["crew", "task sub", "crew sub", "task sub/deep", "crew sub/deep", "task sub/deep/leaf", "agent sub/deep:c"];
    assert_eq!(nodes, path);
    assert!(path.iter().all(|node| book.sums(node).held.usd == NanoUsd(100)));
    book.answer(&call, 30);
    assert!(
        path.iter().all(|node| book.sums(node).settled.usd == NanoUsd(30) && book.sums(node).held == Amount::default())
    );
}

#[test]
fn shares_are_of_the_parents_cap_and_read_again_after_a_raise() {
    let crew = tree();
    let call = CallId { step: "sub/deep/leaf".parse().unwrap(), number: 1 };
    let agent = Book::new(crew.clone()).request(&call, 2).agent;
    let caps = |root: u64| {
        let nodes = path(&crew, usd_caps(Some(root)), &call.step, &agent).unwrap();
        nodes.iter().map(|(_, caps)| caps.usd.unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!(caps(1000), [1000, 700, 600, 500, 450, 360, 405]);
    assert_eq!(caps(101), [101, 700, 90, 500, 81, 64, 72], "floor, of what bounds the level above");
}

#[test]
fn a_need_waits_while_open_holds_may_settle_lower_and_is_exhausted_when_none_can() {
    let mut book = Book::new(tree());
    let (_, first) = book.ask("one", 500);
    let (kind, second) = book.ask("one", 200);
    assert_eq!(kind, "call.queued");
    assert_eq!(book.ask_again(&second, 200), "waiting");
    book.answer(&first, 350);
    assert_eq!(book.ledger.next(), [LedgerStep::Try(second.clone())]);
    assert_eq!(book.ask_again(&second, 200), "call.held");
    book.answer(&second, 200);
    assert_eq!(book.ask("one", 51).0, "call.exhausted");
    assert_eq!(book.ask("one", 50).0, "call.held");
}

#[test]
fn a_waiter_blocks_later_ones_of_its_node_only() {
    let mut book = Book::new(tree());
    let (_, open) = book.ask("one", 500);
    let (_, big) = book.ask("one", 300);
    let (kind, small) = book.ask("one", 10);
    assert_eq!(kind, "call.queued", "it would fit, but came later");
    assert_eq!(book.ask_again(&small, 10), "waiting", "asking again is no way past the first");
    assert_eq!(book.ask("two", 10).0, "call.held", "another node's calls go on");
    assert_eq!(book.ledger.next(), [LedgerStep::Try(big.clone())]);
    book.answer(&open, 100);
    assert_eq!(book.ask_again(&big, 300), "call.held");
    assert_eq!(book.ask_again(&small, 10), "call.held");
}

#[test]
fn an_agents_budget_is_over_all_its_tasks() {
    let mut book = Book::new(tree());
    let (_, one) = book.ask("one", 600);
    assert_eq!(book.ask("two", 201).0, "call.queued");
    assert_eq!(book.sums("agent a").held.usd, NanoUsd(600));
    book.answer(&one, 600);
    assert_eq!(book.ask("two", 201).0, "call.exhausted");
}

#[test]
fn only_what_is_provably_unbilled_is_released() {
    use FailureClass::*;
    for class in [NotSent, Transient, TooLong, OurFault, Ambiguous] {
        let mut book = Book::new(tree());
        let (_, call) = book.ask("one", 100);
        book.fail(&call, class);
        let sums = book.sums("crew");
        let stays = if class == Ambiguous { 100 } else { 0 };
        assert_eq!((sums.held.usd.0, sums.ambiguous.usd.0), (0, stays), "{class:?}");
    }
}

#[test]
fn an_ambiguous_call_stays_until_it_is_settled_once() {
    let mut book = Book::new(tree());
    let (_, call) = book.ask("one", 600);
    book.lose(&call);
    assert_eq!(book.ask("one", 1).0, "call.exhausted", "it counts as used for good");
    let cost = Amount { tokens: Tokens(5), usd: NanoUsd(5), calls: 1 };
    let settled = Event::Call(CallEvent::Settled { call: call.clone(), cost, by: "me".into() });
    book.append(settled.clone());
    assert_eq!((book.sums("crew").settled.usd, book.sums("crew").ambiguous.usd), (NanoUsd(5), NanoUsd(0)));
    assert!(book.ledger.apply(&settled).is_err(), "settled twice");
    assert!(book.ledger.apply(&book.answered(&call, 5)).is_err(), "terminal is final");
}

#[test]
fn a_release_of_a_doubtful_call_frees_what_was_in_doubt() {
    let mut book = Book::new(tree());
    let (_, call) = book.ask("one", 100);
    let (_, other) = book.ask("two", 50);
    book.lose(&call);
    book.fail(&call, FailureClass::NotSent);
    assert_eq!((book.sums("crew").held.usd.0, book.sums("crew").ambiguous.usd.0), (50, 0));
    book.answer(&other, 50);
    assert_eq!(book.sums("crew").held, Amount::default());
}

#[test]
fn an_overrun_is_booked_and_stops_its_crew_until_a_raise() {
    let mut book = Book::new(tree());
    let (_, call) = book.ask("sub/side", 100);
    book.answer(&call, 170);
    assert_eq!((book.sums("crew").settled.usd.0, book.sums("crew").overrun.usd.0), (170, 70));
    assert_eq!(book.ask("sub/side", 1).0, "call.exhausted");
    assert_eq!(book.ask("sub/deep/leaf", 1).0, "call.exhausted", "the subtree stops with it");
    assert_eq!(book.ask("two", 1).0, "call.held", "the rest goes on");
    book.raise(2000);
    assert_eq!(book.ask("sub/side", 1).0, "call.held");
}

#[test]
fn an_alert_is_raised_once_per_node_and_threshold() {
    let mut book = Book::new(tree());
    let (_, call) = book.ask("one", 310);
    assert_eq!(book.alerts(), ["crew Usd(NanoUsd(300))", "task one Share(500)"]);
    book.answer(&call, 310);
    book.ask("two", 190);
    assert_eq!(book.alerts()[2..], ["crew Share(500)", "agent a Share(500)"]);
    book.ask("one", 250);
    assert_eq!(book.alerts()[4..], ["task one Share(900)", "agent a Share(900)"]);
}

#[test]
fn every_limit_holds_by_itself() {
    for (caps, limit) in [
        (Caps { tokens: Some(Tokens(99)), ..Caps::default() }, Limit::Tokens),
        (Caps { calls: Some(0), ..Caps::default() }, Limit::Calls),
        (usd_caps(Some(99)), Limit::Usd),
    ] {
        let tasks = vec![task("one", Who::Agent(name("a")), NO)];
        let mut book = Book::new(crew_of(caps, tasks, vec![], vec![agent("a", NO)]));
        assert_eq!(book.ask("one", 100).0, "call.exhausted");
        assert!(
            matches!(book.events.last(), Some(Event::Call(CallEvent::Exhausted { limit: found, .. })) if *found == limit)
        );
    }
}

#[test]
fn a_halted_run_holds_nothing() {
    let mut book = Book::new(tree());
    book.append(Event::Run(RunEvent::CancelAsked { by: "me".into() }));
    let call = book.next_call("one");
    assert_eq!(book.decide(&book.request(&call, 5)), Err(Refusal::Paused));
}

#[test]
fn what_can_be_given_up_is_given_up_in_order_before_the_budget_counts_as_used_up() {
    use crate::core::crew::Degrade;
    let caps = usd_caps(Some(100));
    let tasks = vec![task("one", Who::Agent(name("a")), NO)];
    let mut crew = Arc::into_inner(crew_of(caps, tasks, vec![], vec![agent("a", NO)])).unwrap();
    crew.budget.degrade = vec![Degrade::SkipOptional, Degrade::MaxOutput(40)];
    let mut book = Book::new(Arc::new(crew));
    let (kind, open) = book.ask("one", 60);
    assert_eq!(kind, "call.held");
    // It may still settle lower: nothing is given up for what only has to wait.
    let (kind, call) = book.ask("one", 50);
    assert_eq!(kind, "call.queued");
    book.answer(&open, 60);
    assert_eq!(book.ask_again(&call, 50), "budget.degraded");
    assert_eq!(book.ask_again(&call, 40), "call.held", "it asks for less and keeps its place");
    book.answer(&call, 40);
    let last = book.next_call("one");
    assert_eq!(book.ask_again(&last, 2), "budget.degraded");
    assert_eq!(book.ask_again(&last, 2), "call.exhausted", "no step is left");
    let told: Vec<(u32, u32, &str)> = book
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Ledger(LedgerEvent::Degraded { step, of, gives_up, .. }) => Some((*step, *of, gives_up.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(1, 2, "skip = \"optional\""), (2, 2, "max_output = 40")]);
}

#[test]
fn an_overrun_is_not_answered_by_giving_something_up() {
    use crate::core::crew::Degrade;
    let tasks = vec![task("one", Who::Agent(name("a")), NO)];
    let mut crew = Arc::into_inner(crew_of(usd_caps(Some(1000)), tasks, vec![], vec![agent("a", NO)])).unwrap();
    crew.budget.degrade = vec![Degrade::MaxOutput(40)];
    let mut book = Book::new(Arc::new(crew));
    let (_, call) = book.ask("one", 100);
    book.answer(&call, 170);
    assert_eq!(book.ask("one", 1).0, "call.exhausted");
}
