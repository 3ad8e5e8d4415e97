//! Turns that no longer fit: shortened, slid, summed up, in that order; data in, events out.

use std::cell::RefCell;
use std::rc::Rc;

use boatswain::core::agent::SUMMARIES;
use boatswain::core::chat::{FailureClass, Finish, Message, ModelRequest};
use boatswain::core::event::{CallEvent, Event, LostCause, RunEnd, TaskEvent};

use super::FAIR;
use super::crews::crew;
use super::driver::{End, Sim};
use super::random::Random;
use super::script::{Mood, Reply, ask};

const BODY: &str = "[budget]\nmax_usd = CAP\nmax_tokens = 100000000\n\
                    [agents]\na = { model = \"m\", tools = [\"look\"], max_turns = 40, context_tokens = 900 }\n\
                    [tasks.x]\nagent = \"a\"\ndescription = \"Find the door\"\n";

type Seen = Rc<RefCell<Vec<ModelRequest>>>;

fn content(request: &ModelRequest, index: usize) -> String {
    Message::decode(&request.messages[index]).unwrap().content().to_owned()
}

fn is_summary(request: &ModelRequest) -> bool {
    request.messages.len() == 2 && content(request, 1).starts_with("You are in the middle of a task")
}

/// An agent that looks behind another door each turn; `sums` is what the nth summary gets.
fn play(cap: &str, mood: Mood, sums: impl Fn(usize) -> Reply + 'static, meddle: impl FnOnce(&mut Sim)) -> (Sim, Seen) {
    let crew = crew(&[("a.toml", &BODY.replace("CAP", cap))]);
    let (seen, into) = (Seen::default(), Seen::default());
    let log = seen.clone();
    let says = move |request: &ModelRequest, _: &mut Random| {
        log.borrow_mut().push(request.clone());
        if is_summary(request) {
            into.borrow_mut().push(request.clone());
            let nth = into.borrow().len();
            return Some(sums(nth));
        }
        let at = format!("door {}", request.call.number);
        let look = ask(0, "look", &serde_json::json!({ "at": at }));
        Some(if request.tools.is_empty() { Reply::Text("Behind the last.".into()) } else { Reply::Tools(vec![look]) })
    };
    let mut sim = Sim::new(&crew, &[], mood, 2).says(says).resumes(3);
    meddle(&mut sim);
    assert_eq!(sim.go(), End::Finished(RunEnd::Completed), "{}", sim.tail());
    (sim, seen)
}

fn count(sim: &Sim, kind: &str) -> usize {
    sim.kinds().iter().filter(|known| **known == kind).count()
}

/// Tool results of up to 1,500 tokens in a context of 900.
const LONG: Mood = Mood { long: 6_000, tools: 1000, ..FAIR };

fn good(nth: usize) -> Reply {
    Reply::Text(format!("Summary {nth}: no door yet."))
}

#[test]
fn an_agent_that_would_overflow_twenty_times_finishes() {
    let (sim, seen) = play("90", LONG, good, |_| {});
    let (shrunk, summed) = (count(&sim, "task.shrunk"), count(&sim, "task.summarised"));
    println!("{shrunk} shrunk, {summed} summed up, {} calls", count(&sim, "call.answered"));
    assert!(shrunk + summed >= 20, "{shrunk} {summed}");
    assert_eq!(summed as u32, SUMMARIES);
    assert_eq!(count(&sim, "call.answered"), 40 + summed, "a summary is a call, not a turn");
    // Held and counted like every call, with what it alone needs.
    let held: Vec<_> = sim.held.values().filter(|held| held.summary).collect();
    assert_eq!(held.len(), summed);
    assert!(held.iter().all(|held| !held.tools && held.messages == 2 && held.settings.max_output == 225));
    // The next request has the summary after the task, and a later summary takes in the one before.
    let seen = seen.borrow();
    let first = seen.iter().position(is_summary).unwrap();
    assert_eq!(content(&seen[first + 1], 1), "Find the door");
    assert!(content(&seen[first + 1], 2).contains("Summary 1: no door yet."), "{}", content(&seen[first + 1], 2));
    let second = seen.iter().filter(|request| is_summary(request)).nth(1).unwrap();
    assert!(content(second, 1).contains("Summary 1: no door yet."));
    assert!(content(second, 1).contains("you call look {\"at\":\"door "));
    // What was paid for is there to the end.
    assert!(content(seen.last().unwrap(), 2).contains("Summary 4"), "{}", content(seen.last().unwrap(), 2));
}

#[test]
fn one_tool_result_too_long_is_shortened_and_nothing_is_paid() {
    let crew = crew(&[("a.toml", &BODY.replace("CAP", "90").replace("max_turns = 40", "max_turns = 3"))]);
    let mut sim = Sim::new(&crew, &[], LONG, 2).resumes(0);
    assert_eq!(sim.go(), End::Finished(RunEnd::Completed));
    assert!(count(&sim, "task.shrunk") > 0 && count(&sim, "task.summarising") == 0);
}

#[test]
fn a_summary_that_fails_or_is_of_no_use_falls_back_to_sliding() {
    type Says = fn(usize) -> Reply;
    let bad: [(&str, Says); 8] = [
        ("empty", |_| Reply::Text("  ".into())),
        ("as long as the turns", |_| Reply::Text("word ".repeat(900))),
        ("refused", |_| Reply::Finish(Finish::Refusal)),
        ("asks for tools", |_| Reply::Tools(vec![ask(0, "look", &serde_json::json!({ "at": "x" }))])),
        ("busy", |_| Reply::Fail(FailureClass::Transient)),
        ("too long", |_| Reply::Fail(FailureClass::TooLong)),
        ("in doubt", |_| Reply::Fail(FailureClass::Ambiguous)),
        ("out of time", |_| Reply::Lost(LostCause::Timeout)),
    ];
    for (what, says) in bad {
        let (sim, seen) = play("90", LONG, says, |_| {});
        assert_eq!(count(&sim, "task.summarised"), 0, "{what}");
        assert_eq!(count(&sim, "task.summarising"), 1, "{what}: none is asked for again");
        assert_eq!(count(&sim, "task.attempt_failed"), 0, "{what}: no attempt is spent");
        assert_eq!(seen.borrow().iter().filter(|request| !is_summary(request)).count(), 40, "{what}");
    }
}

#[test]
fn a_summary_that_was_cut_off_still_says_more_than_none() {
    let (sim, _) = play("90", LONG, |_| Reply::Finish(Finish::Length), |_| {});
    assert_eq!(count(&sim, "task.summarised") as u32, SUMMARIES);
}

#[test]
fn a_summary_whose_process_died_is_asked_for_again() {
    let (sim, seen) = play("90", LONG, |nth| if nth == 1 { Reply::Lost(LostCause::Died) } else { good(nth) }, |_| {});
    assert_eq!(count(&sim, "task.summarised") as u32, SUMMARIES);
    let sums: Vec<_> = seen.borrow().iter().filter(|request| is_summary(request)).map(|r| content(r, 1)).collect();
    assert_eq!(sums[0], sums[1]);
}

/// Nothing stops for a summary: where the budget cannot hold one, the window slides.
#[test]
fn a_summary_that_no_budget_pays_for_stops_nothing() {
    let mut refused = 0;
    for mills in (40..240).step_by(2) {
        let crew = crew(&[("a.toml", &BODY.replace("CAP", &format!("0.{mills:03}")))]);
        let says = |request: &ModelRequest, _: &mut Random| {
            if is_summary(request) {
                return Some(good(1));
            }
            let look = ask(0, "look", &serde_json::json!({ "at": format!("door {}", request.call.number) }));
            (!request.tools.is_empty()).then(|| Reply::Tools(vec![look]))
        };
        let mood = Mood { full_usage: 1000, ..LONG };
        let mut sim = Sim::new(&crew, &[], mood, 2).says(says).resumes(0);
        let end = sim.go();
        let mut last = None;
        for event in sim.events() {
            match event {
                Event::Call(CallEvent::Exhausted { summary: true, pause, finish, .. }) => {
                    assert!(!pause && !finish);
                    refused += 1;
                    last = Some("refused");
                }
                Event::Task(TaskEvent::Shrunk { dropped: Some(_), .. }) if last == Some("refused") => last = None,
                Event::Run(_) => assert!(last.is_none(), "it parked for a summary: {end:?}\n{}", sim.tail()),
                _ => {}
            }
        }
    }
    println!("{refused} summaries found no budget");
    assert!(refused > 0);
}

#[test]
fn an_empty_prompt_turns_summaries_off() {
    let crew = crew(&[("a.toml", &BODY.replace("CAP", "90")), ("prompts/builtin/summary.md", "")]);
    let mut sim = Sim::new(&crew, &[], LONG, 2).says(|request, _| {
        let look = ask(0, "look", &serde_json::json!({ "at": format!("door {}", request.call.number) }));
        (!request.tools.is_empty()).then(|| Reply::Tools(vec![look]))
    });
    assert_eq!(sim.go(), End::Finished(RunEnd::Completed));
    assert_eq!(count(&sim, "task.summarising"), 0);
    let slid = |event: &&Event| matches!(event, Event::Task(TaskEvent::Shrunk { dropped: Some(_), .. }));
    assert!(sim.events().filter(slid).count() > 10);
}
