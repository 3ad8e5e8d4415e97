use jiff::tz::TimeZone;

mod frames;

use super::region::UnderWay;
use super::*;
use crate::core::chat::{CallFailure, FailureClass, Finish, Settings};
use crate::core::crew::Overrides;
use crate::core::event::{
    Answered, CallEvent, Held, LostCause, Msg, ParkCause, PauseCause, RunEnd, RunEvent, Started, TaskResult, ToolEvent,
    Work,
};
use crate::core::ids::{AgentRef, CallId, Step};
use crate::core::ledger::NodeId;
use crate::core::money::{Amount, Caps, Limit, NanoUsd, Price, Tokens, Usage};

/// 2026-11-20T12:00:00Z.
const NOON: u64 = 1_795_176_000_000;

/// Writes a journal by hand and keeps what was said about it.
struct Told {
    tally: Tally,
    seq: Seq,
    at: u64,
    said: Vec<String>,
}

fn step(text: &str) -> Step {
    text.parse().unwrap()
}
fn agent(text: &str) -> AgentRef {
    text.parse().unwrap()
}
fn call(text: &str) -> CallId {
    text.parse().unwrap()
}
fn money(tokens: u64, usd: &str) -> Amount {
    Amount { tokens: Tokens(tokens), usd: usd.parse().unwrap(), calls: 1 }
}
fn msg() -> Msg {
    Msg { message: BlobId::of(b""), bytes: 2, is_result: false, own: None }
}

fn answered(id: &str, who: &str, tokens: u64, usd: &str) -> Answered {
    Answered {
        call: call(id),
        agent: agent(who),
        model: "openai/gpt-4.1-mini".into(),
        finish: Finish::Stop,
        asks: 0,
        usage: Usage::reported(tokens - 10, 10),
        cost: money(tokens, usd),
        estimated: false,
        overrun: false,
        message: msg(),
        native: None,
        served: None,
        raw_usage: None,
        request_id: None,
        elapsed_ms: 20_000,
    }
}

impl Told {
    fn new(offline: bool) -> Told {
        let mut told = Told { tally: Tally::default(), seq: Seq(0), at: NOON, said: Vec::new() };
        let caps = Caps { usd: Some(NanoUsd(250_000_000)), tokens: Some(Tokens(1_000_000)), calls: Some(1000) };
        told.event(Event::Run(RunEvent::Started(Box::new(Started {
            run: "7Q3M000000".parse().unwrap(),
            crew: "report".into(),
            file: "crews/report.toml".into(),
            pins: Default::default(),
            inputs: Default::default(),
            overrides: Overrides::default(),
            prices: Default::default(),
            price_from: Default::default(),
            windows: Default::default(),
            tokenizers: Default::default(),
            refuses: Default::default(),
            caps,
            aside: Vec::new(),
            cap_origin: "default".into(),
            key: None,
            offline,
            version: "0.1.0".into(),
            tools: None,
            rules: 1,
            tainted: None,
        }))));
        told
    }
    fn event(&mut self, event: Event) -> &mut Told {
        self.seq = self.seq.next();
        let entry = Entry { seq: self.seq, at_ms: self.at, event };
        self.tally.apply(&entry);
        let zone = TimeZone::UTC;
        let out = Out::new(crate::cli::out::Color::Never, true);
        let said = said(&self.tally, &entry, Some("revise"));
        self.said.extend(said.iter().map(|said| said.print(&out, Some(screen::clock(self.at, &zone)))));
        self.at += 1_000;
        self
    }
    fn start(&mut self, at: &str, who: &str) -> &mut Told {
        let work = Box::new(Work::Prompt { system: msg(), user: msg(), carries: false, retry: Vec::new() });
        self.event(Event::Task(TaskEvent::Assigned {
            step: step(at),
            agent: agent(who),
            work,
            degraded: 0,
            tainted: None,
        }))
    }
    fn hold(&mut self, id: &str, who: &str, usd: &str) -> &mut Told {
        let held = Held {
            call: call(id),
            agent: agent(who),
            attempt: 1,
            model: "openai/gpt-4.1-mini".into(),
            input: Tokens(1_000),
            amount: money(5_000, usd),
            price: Some(Price::FREE),
            settings: Settings { max_output: 4_000, ..Settings::default() },
            messages: 2,
            tools: false,
            waited: false,
            ending: false,
            summary: false,
            nodes: vec![NodeId::Crew(Step::root())],
        };
        self.event(Event::Call(CallEvent::Held(Box::new(held))))
    }
    fn answer(&mut self, id: &str, who: &str, tokens: u64, usd: &str) -> &mut Told {
        self.at += 20_000;
        let answered = answered(id, who, tokens, usd);
        self.event(Event::Call(CallEvent::Answered(Box::new(answered))))
    }
    fn finish(&mut self, at: &str, who: &str, spent: Amount) -> &mut Told {
        let result = TaskResult::done(None, true, spent);
        self.event(Event::Task(TaskEvent::Finished { step: step(at), agent: Some(agent(who)), result }))
    }
    fn rows(&self, columns: usize) -> String {
        region::rows(&self.tally, &UnderWay::default(), &[], self.at + 13_000, wide(columns)).join("\n")
    }
}

/// A terminal that is high enough.
fn wide(columns: usize) -> Size {
    Size { columns, ..Size::USUAL }
}

fn at_work() -> Told {
    let mut told = Told::new(false);
    told.start("research", "researcher").hold("research.1", "researcher", "0.02");
    told.answer("research.1", "researcher", 9_120, "0.004").finish("research", "researcher", money(9_120, "0.004"));
    told.start("draft#1", "writer").hold("draft#1.1", "writer", "0.084");
    told.start("fact_check", "checker~2");
    told
}

#[test]
fn a_plain_log_has_one_line_per_event_that_matters() {
    let told = at_work();
    insta::assert_snapshot!(told.said.join("\n"), @r#"
    run 7Q3M report · cap $0.25 (default) · 1,000,000 tokens (default) · 1,000 calls (default) · Ctrl-C pauses safely
    12:00:01 start research researcher
    12:00:24 done research researcher 1 call 9,120 tok $0.0040 23s verdict=revise · spent $0.0040 of $0.25
    12:00:25 start draft#1 writer
    12:00:27 start fact_check checker~2
    "#);
}

#[test]
fn a_pause_by_budget_says_what_it_needs_and_which_command_goes_on() {
    let mut told = at_work();
    let need = money(5_000, "0.084");
    let (node, left) = (NodeId::Crew(Step::root()), money(900_000, "0.059"));
    told.event(Event::Call(CallEvent::Exhausted {
        call: call("fact_check.1"),
        agent: agent("checker~2"),
        node,
        limit: Limit::Usd,
        need,
        left,
        finish: false,
        summary: false,
        pause: true,
    }));
    told.answer("draft#1.1", "writer", 3_400, "0.026").finish("draft#1", "writer", money(3_400, "0.026"));
    told.event(Event::Run(RunEvent::Parked { causes: vec![ParkCause::Budget { step: step("fact_check") }] }));
    let end = ends::of(&told.tally).unwrap();
    assert_eq!(end.exit, Exit::Budget);
    insta::assert_snapshot!(last_lines(&told.tally, Some(&end), Some(&[0xab; 32])).join("\n"), @r#"
    paused by budget before fact_check: needs $0.0840 USD, $0.0590 left at crew
    waits 7Q3M report · 2 calls · 12,520 tok · 51s · spent $0.0300 of $0.25
    nothing paid for is repeated
    head abababababababababababababababababababababababababababababababab
    go on: bosun resume 7Q3M --raise-budget 0.28
    "#);
    assert_eq!(told.rows(80), "", "a parked run has no live rows");
}

/// Refused at the crew, which has so much left.
fn refused(told: &mut Told, id: &str, limit: Limit, (need, left): (Amount, Amount)) {
    let (call, agent, node) = (call(id), agent("writer"), NodeId::Crew(Step::root()));
    let (finish, summary, pause) = (false, false, true);
    told.event(Event::Call(CallEvent::Exhausted { call, agent, node, limit, need, left, finish, summary, pause }));
}

fn parked(told: &mut Told, steps: &[&str]) -> ends::End {
    let causes = steps.iter().map(|at| ParkCause::Budget { step: step(at) }).collect();
    told.event(Event::Run(RunEvent::Parked { causes }));
    ends::of(&told.tally).unwrap()
}

#[test]
fn the_raise_is_enough_for_every_call_that_waits() {
    let mut told = Told::new(false);
    let left = Amount { calls: 0, ..money(400_000, "0.02") };
    for id in ["a.1", "b.1", "c.1", "d.1"] {
        refused(&mut told, id, Limit::Calls, (money(5_000, "0.01"), left));
    }
    let end = parked(&mut told, &["a", "b", "c", "d"]);
    // Four cents are needed besides, and two are left.
    let command = "bosun resume 7Q3M --raise-budget 0.27 --raise-budget 1004calls";
    assert_eq!(end.command.as_deref(), Some(command));
}

#[test]
fn a_stop_by_an_overrun_is_said_to_be_one() {
    let mut told = Told::new(false);
    told.start("t", "writer").hold("t.1", "writer", "0.01");
    let answered = Answered { overrun: true, ..answered("t.1", "writer", 9_000, "0.02") };
    told.event(Event::Call(CallEvent::Answered(Box::new(answered))));
    told.start("u", "writer").said.clear();
    refused(&mut told, "u.1", Limit::Usd, (money(5_000, "0.01"), money(900_000, "0.23")));
    assert_eq!(told.said[0].split_once(' ').unwrap().1, "no budget u: stopped by the overrun of t.1");
    let end = parked(&mut told, &["u"]);
    let said = "paused by budget before u: stopped by the overrun of t.1, until the budget is raised";
    assert_eq!(end.lines, [said]);
    assert_eq!(end.command.as_deref(), Some("bosun resume 7Q3M --raise-budget 0.26"));
}

#[test]
fn ctrl_c_says_what_is_waited_for_and_a_lost_call_stays_held() {
    let mut told = at_work();
    told.said.clear();
    told.event(Event::Run(RunEvent::PauseAsked { cause: PauseCause::Interrupted, by: "ana".into() }));
    let row = told.rows(200);
    assert!(row.lines().last().unwrap().starts_with("pausing: 1 call in flight · spent"), "{row}");
    let (lost, who) = (call("draft#1.1"), agent("writer"));
    told.event(Event::Call(CallEvent::Lost { call: lost, agent: who, cause: LostCause::Aborted, elapsed_ms: 1 }));
    told.event(Event::Run(RunEvent::Parked { causes: vec![ParkCause::Interrupted] }));
    insta::assert_snapshot!(told.said.join("\n"), @r#"
    12:00:28 pausing 1 call in flight (draft#1); waiting up to 30 s. Ctrl-C again drops them (they may still be billed)
    12:00:29 lost draft#1.1: dropped; it may be billed, $0.0840 stays held
    "#);
    let end = ends::of(&told.tally).unwrap();
    assert_eq!((end.exit, end.command.as_deref()), (Exit::Interrupted, Some("bosun resume 7Q3M")));
    assert!(ends::money(&told.tally).contains("+ in doubt $0.0840 of $0.25"), "{}", ends::money(&told.tally));
}

#[test]
fn a_pause_counts_tools_and_promises_no_time_that_it_does_not_have() {
    let mut told = at_work();
    told.answer("draft#1.1", "writer", 3_400, "0.026");
    let (id, who) = (call("draft#1.1"), agent("writer"));
    for index in 0..2 {
        told.event(Event::Tool(ToolEvent::Started {
            call: id.clone(),
            index,
            of: 2,
            agent: who.clone(),
            tool: "web.fetch".into(),
            ask: "1".into(),
            arguments: BlobId::of(b"{}"),
            key: "k".into(),
            tainted: None,
        }));
    }
    let mut said = |cause| {
        told.said.clear();
        told.event(Event::Run(RunEvent::PauseAsked { cause, by: "ana".into() }));
        told.said[0].split_once("pausing ").unwrap().1.to_owned()
    };
    let tools = "2 tool calls in flight (draft#1, draft#1); ";
    assert_eq!(said(PauseCause::Asked), format!("{tools}waiting until they end"));
    let signal = said(PauseCause::Terminated);
    assert!(signal.starts_with(&format!("{tools}waiting up to 30 s")), "{signal}");
    assert!(
        told.rows(200).lines().last().unwrap().starts_with("pausing: 2 tool calls in flight"),
        "{}",
        told.rows(200)
    );
}

#[test]
fn terminal_sequences_of_a_provider_never_get_through() {
    let mut told = at_work();
    told.said.clear();
    let message = "\x1b[2J\x1b]0;owned\x07no \x1b[31mquota\r\nleft".to_owned();
    let failure = CallFailure { status: Some(429), ..CallFailure::of(FailureClass::Quota, message) };
    let (id, who) = (call("draft#1.1"), agent("writer"));
    told.event(Event::Call(CallEvent::Failed { call: id, agent: who, failure, elapsed_ms: 1 }));
    assert_eq!(told.said, ["12:00:28 failed draft#1.1 not answered: no quota left"]);
}

#[test]
fn a_json_line_is_the_payload_with_its_place_and_no_key_twice() {
    let run: RunId = "7Q3M000000".parse().unwrap();
    let event = Event::Run(RunEvent::Finished { status: RunEnd::Completed, result: None });
    let line = json_line(&run, Seq(41), NOON + 45_000, &event.encode());
    assert_eq!(
        line,
        r#"{"v":1,"seq":41,"ts":"2026-11-20T12:00:45.000Z","run":"7Q3M000000","type":"run.finished","status":"completed","result":null}"#
    );
    let first = json_line(&run, Seq(1), NOON, br#"{"v":1,"type":"run.started","run":"7Q3M000000","crew":"x"}"#);
    assert_eq!(first.matches("\"run\":").count(), 1, "{first}");
    let damaged = json_line(&run, Seq(2), NOON, b"\xff\xfe");
    assert!(serde_json::from_str::<serde_json::Value>(&damaged).is_ok(), "{damaged}");
}

#[test]
fn stand_ins_are_marked_in_the_first_line_the_region_and_the_last() {
    let mut told = Told::new(true);
    told.start("draft", "writer");
    assert!(told.said[0].contains("run 7Q3M report [offline] · cap $0.25 (default)"), "{}", told.said[0]);
    assert!(told.rows(120).contains("[offline]"));
    assert!(last_lines(&told.tally, None, None)[0].contains("[offline]"));
}

#[test]
fn notices_are_of_what_a_person_must_know_with_an_id_that_stays() {
    let mut told = at_work();
    let entry = Entry {
        seq: told.seq.next(),
        at_ms: NOON,
        event: Event::Run(RunEvent::Parked { causes: vec![ParkCause::Review { step: step("draft#1") }] }),
    };
    told.tally.apply(&entry);
    let notice = crate::cli::notify::of(&told.tally, &entry).unwrap();
    assert_eq!((notice.kind, notice.id.as_str()), ("paused", "7Q3M000000:9"));
    let json: serde_json::Value = serde_json::from_str(&notice.line(&[7; 32])).unwrap();
    assert_eq!(json["notice"]["go_on"], "bosun resume 7Q3M --retry 'draft#1'");
    assert_eq!((&json["type"], &json["seq"]), (&"run.parked".into(), &9.into()));
    assert_eq!(json["head"], "07".repeat(32));
    assert_eq!(
        crate::cli::notify::of(
            &told.tally,
            &Entry { event: Event::Run(RunEvent::Resumed { by: "a".into() }), ..entry }
        ),
        None
    );
}
