//! People, by the library. Invariant: what a host decides or says is checked, kept and taken as what is typed.

use std::time::Duration;

use boatswain::core::event::{CallEvent, Event};
use boatswain::engine::{Engine, Exit, Failure, InterruptKind, Options, Then, Waiting, Why};

use crate::approvals::{BESIDE, ONE, folder};
use crate::stamps::{STAMP, stamps};
use crate::support::{Folder, PATIENCE, wait};

const HOST: &str = "ann of the web shop";

fn gated(more: &str) -> Folder {
    folder(&format!("{ONE}{STAMP}approval = \"always\"\n{more}"))
}

fn engine(folder: &Folder) -> Engine {
    Options::folder(folder.path()).open().unwrap()
}

/// A run that stands still for a person.
async fn parked(engine: &Engine) -> Waiting {
    let run = engine.crew("crew.toml").start().await.unwrap();
    assert_eq!(run.wait().await.unwrap().exit, Exit::Person);
    one(engine).await
}

async fn one(engine: &Engine) -> Waiting {
    let mut all = engine.waiting(None).await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(said: Result<T, Failure>, words: &str) {
    let failure = said.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{failure}");
    assert!(failure.message.contains(words), "{words}: {failure}");
}

/// Takes it up, to its end; gives its result.
async fn resumed(engine: &Engine, run: &str) -> String {
    let report = engine.resume(run).await.unwrap().wait().await.unwrap();
    assert_eq!(report.exit, Exit::Done);
    report.text.unwrap().to_string()
}

#[tokio::test]
async fn a_yes_counts_once_and_names_who_said_it() {
    let folder = gated("");
    let engine = engine(&folder);
    let asked = parked(&engine).await;
    assert_eq!((asked.kind, asked.step.as_str(), asked.tool.as_str()), (InterruptKind::Approval, "t", "stamp"));
    assert_eq!((asked.asks.as_str(), &asked.why[..], asked.decided), ("{\"text\":\"a\"}", &[Why::Always][..], false));
    assert_eq!(asked.agent.as_ref().unwrap().name.as_str(), "clerk");
    assert_eq!(engine.waiting(Some(asked.run.as_str())).await.unwrap(), std::slice::from_ref(&asked));
    refused(engine.waiting(Some("ZZZZ")).await, "is not a run");
    refused(engine.approve("ZZZZZZZZ", HOST).await, "there is no approval");
    refused(engine.answer(asked.id.as_str(), "yes", HOST).await, "it can be approved");
    assert_eq!(engine.approve(asked.id.as_str(), HOST).await.unwrap(), Then::Resume);
    assert!(one(&engine).await.decided);
    refused(engine.reject(asked.id.as_str(), "no", HOST).await, "already");
    assert_eq!(stamps(&folder), 0);
    assert_eq!(resumed(&engine, asked.run.as_str()).await, "Done.");
    refused(engine.approve(asked.id.as_str(), HOST).await, &format!("approved by {HOST}"));
    assert_eq!((stamps(&folder), engine.waiting(None).await.unwrap()), (1, Vec::new()));
    folder.verify();
}

#[tokio::test]
async fn what_a_host_writes_instead_must_fit_and_is_what_happens() {
    let folder = gated("");
    let engine = engine(&folder);
    let asked = parked(&engine).await;
    let id = asked.id.as_str();
    refused(engine.approve_with(id, "{\"text\": 7}", HOST).await, "do not fit");
    refused(engine.approve_with(id, "text", HOST).await, "the arguments are not JSON");
    engine.approve_with(id, "{\"text\": \"mine\"}", HOST).await.unwrap();
    resumed(&engine, asked.run.as_str()).await;
    assert_eq!(folder.read("stamped.txt"), "mine\n");
    folder.verify();
}

#[tokio::test]
async fn a_no_and_an_answer_are_what_the_agent_reads() {
    let folder = gated("");
    let engine = engine(&folder);
    let asked = parked(&engine).await;
    refused(engine.reject(asked.id.as_str(), " ", HOST).await, "the reason is missing");
    engine.reject(asked.id.as_str(), "too red", HOST).await.unwrap();
    assert_eq!(resumed(&engine, asked.run.as_str()).await, "Told: too red.");
    folder.verify();

    let folder = crate::approvals::folder(
        "[agents.clerk]\nmodel = \"m\"\ntools = [\"ask.human\"]\n[tasks.t]\nagent = \"clerk\"\ndescription = \"Do <ask>\"\n",
    );
    // In memory: the same words, as long as the process is there.
    let engine = Options::folder(folder.path()).in_memory().open().unwrap();
    let asked = parked(&engine).await;
    assert_eq!(asked.kind, InterruptKind::Question);
    assert!(asked.asks.contains("\"choices\":[\"red\",\"blue\"]"), "{}", asked.asks);
    refused(engine.answer(asked.id.as_str(), "", HOST).await, "empty");
    refused(engine.approve(asked.id.as_str(), HOST).await, "answered or rejected");
    engine.answer(asked.id.as_str(), "the blue one", HOST).await.unwrap();
    assert_eq!(resumed(&engine, asked.run.as_str()).await, "Blue it is.");
}

/// Once it is there: the run goes on meanwhile.
pub async fn comes(engine: &Engine) -> Waiting {
    let begun = std::time::Instant::now();
    loop {
        if let Some(asked) = engine.waiting(None).await.unwrap().pop() {
            return asked;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody is asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The run has taken it before the first call of this step was answered.
fn before(folder: &Folder, kind: &str, step: &str) -> bool {
    let events = folder.events();
    let answered =
        |event: &Event| matches!(event, Event::Call(CallEvent::Answered(one)) if one.call.step.as_str() == step);
    let taken = events.iter().position(|event| event.kind() == kind).unwrap();
    taken < events.iter().position(answered).unwrap()
}

#[tokio::test]
async fn a_run_at_work_takes_a_decision_up_here_and_in_another_process() {
    let here = gated(BESIDE);
    let own = engine(&here);
    let run = own.crew("crew.toml").start().await.unwrap();
    let asked = comes(&own).await;
    assert_eq!(own.approve(asked.id.as_str(), HOST).await.unwrap(), Then::Soon);
    assert_eq!((run.wait().await.unwrap().exit, stamps(&here)), (Exit::Done, 1));
    assert!(before(&here, "interrupt.decided", "u"));
    here.verify();

    let there = gated(BESIDE);
    let child = there.start(&["run", "crew.toml", "-q"]);
    crate::support::until("it runs", || there.state().join("journal.db").exists() && !there.runs().is_empty());
    let other = engine(&there);
    let asked = comes(&other).await;
    assert_eq!(other.approve(asked.id.as_str(), HOST).await.unwrap(), Then::Soon);
    wait(child).expect(0);
    assert_eq!(stamps(&there), 1);
    assert!(before(&there, "interrupt.decided", "u"));
    there.verify();
}

#[tokio::test]
async fn an_agent_is_told_at_work_and_at_rest() {
    let slow = "[agents.clerk]\nmodel = \"m\"\n[tasks.t]\nagent = \"clerk\"\ndescription = \"Do <slow>\"\n";
    let folder = folder(slow);
    let engine = engine(&folder);
    let run = engine.crew("crew.toml").start().await.unwrap();
    let id = run.id().clone();
    refused(engine.tell(id.as_str(), "clerk", "  ", HOST).await, "the text is empty");
    refused(engine.tell(id.as_str(), "nobody", "say why", HOST).await, "there is no agent");
    let told = loop {
        // Before the task has begun it is for the agent's next one.
        let told = engine.tell(id.as_str(), "clerk", "say why", HOST).await.unwrap();
        if told.hearers[0].step.is_some() {
            break told;
        }
    };
    assert_eq!((told.hearers.len(), told.then), (1, Then::Soon));
    let report = run.wait().await.unwrap();
    assert_eq!((report.exit, report.text.as_deref()), (Exit::Done, Some("Because.")));
    assert!(before(&folder, "agent.told", "t"));
    refused(engine.tell(id.as_str(), "clerk", "say why", HOST).await, "is over");
    folder.verify();

    let folder = gated("");
    let engine = self::engine(&folder);
    let asked = parked(&engine).await;
    let told = engine.tell("latest", "clerk", "say why", HOST).await.unwrap();
    assert_eq!((told.hearers[0].step.as_ref().unwrap().as_str(), told.then), ("t", Then::Resume));
    engine.approve(asked.id.as_str(), HOST).await.unwrap();
    assert_eq!(resumed(&engine, asked.run.as_str()).await, "Because.");
    folder.verify();
}
