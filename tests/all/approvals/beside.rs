//! Questions on the terminal of a run that is at work. Invariant: nothing of the run waits for whoever reads, nothing
//! is printed over the question, and what is typed counts for the question that stood there.

use std::time::Duration;

use boatswain::core::event::{CallEvent, InterruptEvent};

use super::terminal::{ASKS, Terminal};
use super::*;

fn gated(more: &str) -> Folder {
    folder(&format!("{ONE}{STAMP}approval = \"always\"\n{BESIDE}{more}"))
}

/// Entries of the one run: where it was decided, and where the slow call was answered.
fn order(folder: &Folder) -> (Option<usize>, Option<usize>) {
    let events = folder.events();
    let decided = |event: &Event| matches!(event, Event::Interrupt(InterruptEvent::Decided { .. }));
    let answered =
        |event: &Event| matches!(event, Event::Call(CallEvent::Answered(one)) if one.call.step.as_str() == "u");
    (events.iter().position(decided), events.iter().position(answered))
}

#[test]
fn what_is_typed_happens_while_the_rest_goes_on() {
    for columns in [80, 40] {
        let folder = gated("");
        let mut terminal = Terminal::sized(&folder, &["run", "crew.toml"], columns);
        let seen = terminal.types(ASKS, "y\n");
        // Its exact arguments and why; the region is gone before it stands there.
        assert!(seen.contains("\"text\": \"a\"") && seen.contains("always needs a yes"), "{seen}");
        let question = &seen[seen.rfind("wants stamp").unwrap()..];
        assert!(!question.contains('\u{1b}'), "something was printed over it: {question:?}");
        assert!(order(&folder).1.is_none(), "it is asked before the slow call has ended");
        until("it is stamped", || stamps(&folder) == 1);
        assert!(order(&folder).1.is_none(), "it happens before the slow call has ended");
        until("the region is there again", || terminal.seen().contains("calling s/m"));
        assert_eq!(terminal.ends(), Some(0));
        let (decided, answered) = order(&folder);
        assert!(decided.unwrap() < answered.unwrap());
        folder.verify();
    }
}

#[test]
fn a_question_outlives_the_work_beside_it() {
    let folder = gated("");
    let mut terminal = Terminal::sized(&folder, &["run", "crew.toml"], 80);
    until("it asks", || terminal.seen().contains(ASKS));
    until("the rest is done", || order(&folder).1.is_some());
    std::thread::sleep(Duration::from_millis(300));
    assert!(terminal.seen().ends_with(ASKS), "{}", terminal.seen());
    terminal.types(ASKS, "y\n");
    until("its result", || terminal.seen().contains("Done."));
    assert!(!terminal.seen().contains("go on: bosun resume"), "nobody needs to be told: {}", terminal.seen());
    assert_eq!((terminal.ends(), stamps(&folder)), (Some(0), 1));
    folder.verify();
}

#[test]
fn what_is_skipped_beside_is_not_asked_again() {
    let folder = gated("");
    let mut terminal = Terminal::sized(&folder, &["run", "crew.toml"], 80);
    terminal.types(ASKS, "s\n");
    until("it says how to go on", || terminal.seen().contains("go on: "));
    assert!(!terminal.seen().contains(ASKS), "{}", terminal.seen());
    assert_eq!((terminal.ends(), stamps(&folder)), (Some(12), 0));
    // Ctrl-C leaves it, and pauses the run as ever.
    let folder = gated("");
    let mut terminal = Terminal::sized(&folder, &["run", "crew.toml"], 80);
    until("it asks", || terminal.seen().contains(ASKS));
    super::super::support::signal(terminal.child.id(), rustix::process::Signal::INT);
    assert_eq!(terminal.child.wait().unwrap().code(), Some(12));
    assert_eq!(stamps(&folder), 0);
    folder.verify();
}

/// Two clerks want to stamp; each question names its own.
const TWO_CLERKS: &str = "[tasks.v]\nagent = \"clerk\"\ndescription = \"Do <one>\"\nafter = [\"t\"]\n";

#[test]
fn a_question_that_others_decide_is_taken_back_and_keys_meant_for_it_are_nobodys() {
    let folder = gated(TWO_CLERKS);
    let mut terminal = Terminal::sized(&folder, &["run", "crew.toml"], 80);
    until("it asks", || terminal.seen().contains(ASKS));
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    until("it is stamped", || stamps(&folder) == 1);
    // Whoever was about to say yes does so a moment too late.
    until("it is taken back", || terminal.seen().trim_end_matches(ASKS).contains(&format!("{ASKS}\n")));
    terminal.types(ASKS, "y\n");
    terminal.types(ASKS, "n\n");
    assert_eq!((terminal.ends(), stamps(&folder)), (Some(0), 1));
    folder.verify();
}

#[test]
fn a_run_that_is_told_not_to_asks_nobody() {
    for args in [&["run", "crew.toml", "--no-ask"][..], &["run", "crew.toml", "--json"][..]] {
        let folder = gated("");
        let terminal = Terminal::sized(&folder, args, 80);
        until("the rest is done", || !folder.runs().is_empty() && order(&folder).1.is_some());
        assert!(!terminal.seen().contains(ASKS), "{}", terminal.seen());
        assert_eq!((terminal.ends(), stamps(&folder)), (Some(12), 0));
    }
}
