//! Random sequences of everything that can happen to a ledger, checked against the event list.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Ask(usize, u64),
    Retry(usize),
    Answer(usize, u64),
    Fail(usize, bool),
    Lose(usize),
    Settle(usize, u64),
    Raise(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let at = 0usize..64;
    let act = prop_oneof![
        6 => (0usize..4, 2u64..260).prop_map(|(step, cost)| Act::Ask(step, cost)),
        3 => at.clone().prop_map(Act::Retry),
        5 => (at.clone(), 0u64..=1000).prop_map(|(at, part)| Act::Answer(at, part)),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, doubt)| Act::Fail(at, doubt)),
        1 => at.clone().prop_map(Act::Lose),
        1 => (at, 0u64..300).prop_map(|(at, cost)| Act::Settle(at, cost)),
        1 => (1000u64..3000).prop_map(Act::Raise),
    ];
    prop::collection::vec(act, 1..60)
}

const STEPS: [&str; 4] = ["one", "two", "sub/side", "sub/deep/leaf"];

fn pick<T: Clone>(all: &[T], at: usize) -> Option<T> {
    if all.is_empty() { None } else { Some(all[at % all.len()].clone()) }
}

/// Plays random acts; after each one every promise of the ledger is checked from first principles.
fn play(acts: &[Act]) -> Result<(), TestCaseError> {
    let mut book = Book::new(tree());
    let mut waiting: BTreeMap<CallId, u64> = BTreeMap::new();
    let mut flying: Vec<CallId> = Vec::new();
    let mut doubtful: Vec<CallId> = Vec::new();
    for act in acts {
        match act {
            Act::Ask(step, cost) => {
                let (kind, call) = book.ask(STEPS[*step], *cost);
                match kind {
                    "call.held" => flying.push(call),
                    "call.queued" => drop(waiting.insert(call, *cost)),
                    _ => {}
                }
            }
            Act::Retry(at) => {
                let calls: Vec<CallId> = waiting.keys().cloned().collect();
                if let Some(call) = pick(&calls, *at) {
                    retry(&mut book, &call, &mut waiting, &mut flying);
                }
            }
            Act::Answer(at, part) => {
                if let Some(call) = pick(&flying, *at) {
                    flying.retain(|other| *other != call);
                    let held = book.held[&call].usd.0;
                    // One in some hundred lies.
                    let cost = if *part > 990 { held + 50 } else { held * part / 1000 };
                    book.answer(&call, cost);
                }
            }
            Act::Fail(at, doubt) => {
                if let Some(call) = pick(&flying, *at) {
                    flying.retain(|other| *other != call);
                    book.fail(&call, if *doubt { FailureClass::Ambiguous } else { FailureClass::Transient });
                    doubtful.extend(doubt.then_some(call));
                }
            }
            Act::Lose(at) => {
                if let Some(call) = pick(&flying, *at) {
                    flying.retain(|other| *other != call);
                    book.lose(&call);
                    doubtful.push(call);
                }
            }
            Act::Settle(at, cost) => {
                if let Some(call) = pick(&doubtful, *at) {
                    doubtful.retain(|other| *other != call);
                    let cost = book.held[&call].usd.0.min(*cost);
                    let cost = Amount { tokens: Tokens(cost), usd: NanoUsd(cost), calls: 1 };
                    book.append(Event::Call(CallEvent::Settled { call, cost, by: "me".into() }));
                }
            }
            Act::Raise(usd) => {
                let now = book.ledger.caps.usd.map_or(0, |usd| usd.0);
                book.raise(now.max(*usd));
            }
        }
        check(&book)?;
    }
    // Everything in flight comes to its end; then nobody waits and nothing is held.
    while let Some(call) = flying.pop() {
        book.answer(&call, 1);
        check(&book)?;
        drain(&mut book, &mut waiting, &mut flying);
    }
    drain(&mut book, &mut waiting, &mut flying);
    while let Some(call) = flying.pop() {
        book.answer(&call, 1);
        drain(&mut book, &mut waiting, &mut flying);
    }
    prop_assert!(waiting.is_empty() && book.ledger.next().is_empty(), "somebody waits for ever: {waiting:?}");
    prop_assert!(book.ledger.nodes.values().all(|sums| sums.held == Amount::default()), "money leaks");
    check(&book)
}

fn retry(book: &mut Book, call: &CallId, waiting: &mut BTreeMap<CallId, u64>, flying: &mut Vec<CallId>) -> bool {
    match book.ask_again(call, waiting[call]) {
        "waiting" => return false,
        "call.held" => flying.push(call.clone()),
        _ => {}
    }
    waiting.remove(call);
    true
}

/// As the shell does: tries what the ledger names until it names nobody that can go on.
fn drain(book: &mut Book, waiting: &mut BTreeMap<CallId, u64>, flying: &mut Vec<CallId>) {
    loop {
        let next = book.ledger.next();
        let went = next.iter().any(|LedgerStep::Try(call)| retry(book, call, waiting, flying));
        if !went {
            return;
        }
    }
}

fn check(book: &Book) -> Result<(), TestCaseError> {
    let mut calls: BTreeMap<&CallId, (Amount, u8, &[NodeId], Amount)> = BTreeMap::new();
    for event in &book.events {
        let Event::Call(event) = event else { continue };
        match event {
            CallEvent::Held(held) => drop(calls.insert(&held.call, (held.amount, 1, &held.nodes, Amount::default()))),
            CallEvent::Answered(answered) => {
                let call = calls.get_mut(&answered.call).unwrap();
                (call.3, call.0, call.1) = (answered.cost.minus(call.0), answered.cost, 0);
            }
            CallEvent::Settled { call, cost, .. } => {
                let call = calls.get_mut(call).unwrap();
                (call.0, call.1) = (*cost, 0);
            }
            CallEvent::Failed { call, failure, .. } => match failure.class {
                FailureClass::Ambiguous => calls.get_mut(call).unwrap().1 = 2,
                _ => drop(calls.remove(call)),
            },
            CallEvent::Lost { call, .. } => calls.get_mut(call).unwrap().1 = 2,
            CallEvent::Queued { .. } | CallEvent::Exhausted { .. } => {}
        }
    }
    for (node, sums) in &book.ledger.nodes {
        let of = |state: u8| {
            let here = calls.values().filter(|(_, at, nodes, _)| *at == state && nodes.contains(node));
            here.fold(Amount::default(), |sum, call| sum.plus(call.0))
        };
        prop_assert_eq!((sums.settled, sums.held, sums.ambiguous), (of(0), of(1), of(2)), "{}", node);
    }
    for step in STEPS {
        let call = CallId { step: step.parse().unwrap(), number: 1 };
        let agent = book.request(&call, 2).agent;
        for (node, caps) in path(&book.crew, book.ledger.caps, &call.step, &agent).unwrap() {
            let sums = book.ledger.nodes.get(&node).cloned().unwrap_or_default();
            let used = sums.used().minus(sums.overrun);
            prop_assert_eq!(caps.broken_by(used), None, "{} {:?}", node, sums);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_breaks_a_promise(acts in acts()) {
        play(&acts)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]
    #[test]
    #[ignore = "minutes: the full size of the figure"]
    fn no_sequence_of_a_hundred_thousand_breaks_a_promise(acts in acts()) {
        play(&acts)?;
    }
}
