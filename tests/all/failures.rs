//! The failure table, row by row, against a server that counts. Invariant: the action, the attempts and
//! the money of each row are exactly as `money-and-failure` writes them.

use std::time::Duration;

use boatswain::core::event::{CallEvent, ErrorClass, Event, TaskEvent, ToolEvent};
use serde_json::json;

use super::stand_in::Behaviour;
use super::support::{Figures, Folder, Provider, size};

/// What a row must come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub exit: i32,
    pub requests: usize,
    /// Of counted attempts that were followed by another.
    pub attempts: Vec<ErrorClass>,
    pub review: Option<ErrorClass>,
    pub answered: u64,
    /// Calls whose hold was given back, and whose hold stays.
    pub released: u64,
    pub doubtful: u64,
    /// Waits that were no attempt.
    pub waits: usize,
}

pub struct Row {
    pub provider: Provider,
    pub folder: Folder,
}

/// One agent, one task; `task`, `agent` and `more` are further lines.
fn row(behaviours: &[Behaviour], agent: &str, task: &str, more: &str) -> Row {
    let provider = Provider::start();
    behaviours.iter().for_each(|behaviour| provider.push(behaviour.clone()));
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer("Fine.".into())));
    let tables = provider.tables("timeout = \"20s\"");
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\n{agent}\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n{task}\n{more}\n"
    ));
    folder.file("notes.txt", "Some notes.\n");
    Row { provider, folder }
}

impl Row {
    #[track_caller]
    pub fn run(&self) -> Seen {
        self.seen(&["run", "crew.toml", "-q"])
    }
    #[track_caller]
    pub fn seen(&self, args: &[&str]) -> Seen {
        let ran = self.folder.bosun(args);
        let figures = self.folder.verify().pop().unwrap_or_default();
        let mut seen = self.of(&figures, &self.folder.events());
        seen.exit = ran.code.unwrap_or(-1);
        if seen.exit != 0 {
            // The last line says what happens next: a command, or what needs doing.
            assert!(ran.err.contains("bosun resume"), "{}", ran.err);
        }
        // Every request is accounted for.
        assert_eq!(seen.requests as u64, figures.answered + figures.failed + figures.lost - self.unsent(&figures));
        seen
    }
    fn unsent(&self, figures: &Figures) -> u64 {
        let not_sent = |event: &Event| {
            matches!(event, Event::Call(CallEvent::Failed { failure, .. })
            if failure.class == boatswain::core::chat::FailureClass::NotSent)
        };
        let count = self.folder.events().iter().filter(|event| not_sent(event)).count() as u64;
        assert!(count <= figures.failed);
        count
    }
    fn of(&self, figures: &Figures, events: &[Event]) -> Seen {
        let mut seen = Seen { requests: self.provider.requests(), answered: figures.answered, ..Seen::default() };
        for event in events {
            match event {
                Event::Task(TaskEvent::AttemptFailed { class, .. }) => seen.attempts.push(*class),
                Event::Task(TaskEvent::NeedsReview { class, .. }) => seen.review = Some(*class),
                Event::Task(TaskEvent::Woken { .. }) => seen.waits += 1,
                _ => {}
            }
        }
        seen.doubtful = figures.sums.ambiguous.calls;
        assert_eq!(figures.sums.held.calls, 0, "nothing is held once it stands still");
        assert_eq!(figures.sums.settled.calls, figures.answered);
        seen.released = figures.failed + figures.lost - seen.doubtful;
        assert_eq!(figures.sums.ambiguous.usd.0 > 0, seen.doubtful > 0);
        seen
    }
    /// The body of request `n`, from 1.
    pub fn body(&self, n: usize) -> String {
        self.provider.seen()[n - 1].body.clone()
    }
}

pub fn done(requests: usize, answered: u64) -> Seen {
    Seen { requests, answered, ..Seen::default() }
}

fn status(status: u16, code: &str) -> Behaviour {
    let wait = vec![("retry-after-ms", "5".to_owned())];
    Behaviour::Status(status, wait, json!({"error": {"message": "as told", "code": code}}).to_string())
}

fn calls(calls: &[(&str, &str)]) -> Behaviour {
    let calls: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(n, (name, arguments))| {
            json!({"id": format!("c{n}"), "type": "function", "function": {"name": name, "arguments": arguments}})
        })
        .collect();
    let message = json!({"role": "assistant", "content": "", "tool_calls": calls});
    let usage = json!({"prompt_tokens": 50, "completion_tokens": 7});
    Behaviour::Body(
        json!({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}).to_string(),
    )
}

fn says(text: &str, finish: &str) -> Behaviour {
    let usage = json!({"prompt_tokens": 50, "completion_tokens": 7});
    let message = json!({"role": "assistant", "content": text});
    Behaviour::Body(json!({"choices": [{"message": message, "finish_reason": finish}], "usage": usage}).to_string())
}

fn answer(text: &str) -> Behaviour {
    says(text, "stop")
}

/// Twice, or as often as asked: `BOSUN_TEST_TABLE=50 cargo test --test all failures::`.
fn times(check: impl Fn()) {
    (0..size("TABLE", 2)).for_each(|_| check());
}

#[test]
fn refused_transient_waits_and_is_no_attempt() {
    times(|| {
        for code in [408, 425, 429, 503, 529] {
            let behaviours: Vec<_> = (0..5).map(|_| status(code, "")).collect();
            let row = row(&behaviours, "", "", "");
            let expected = Seen { released: 5, waits: 5, ..done(6, 1) };
            assert_eq!(row.run(), expected, "{code}");
        }
    });
}

#[test]
fn without_a_retry_after_it_waits_two_seconds() {
    let row = row(&[Behaviour::Status(429, Vec::new(), "slow down".into())], "", "", "");
    let begun = std::time::Instant::now();
    assert_eq!(row.run(), Seen { released: 1, waits: 1, ..done(2, 1) });
    assert!((2.0..4.5).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
}

/// Five failures in a row open the model's breaker: the next call is the fallback's, at once. After the
/// cooling-off the step goes back, and so does a later one.
#[test]
fn a_model_that_fails_five_times_in_a_row_is_left_alone_for_a_while() {
    let provider = Provider::start();
    provider.server.respond(|body, number| {
        let fails = number <= 5;
        assert_eq!(body.contains("\"spare\""), number == 6, "{number}: {body}");
        // The fallback takes its time: longer than the cooling-off, which is 5 s and a tenth at most.
        let slow = if number == 6 { Duration::from_millis(5_700) } else { Duration::ZERO };
        let list = [("files__list", "{\"path\": \".\"}")];
        match (fails, number) {
            (true, _) => (slow, status(500, "")),
            (false, 6) => (slow, calls(&list)),
            (false, _) => (slow, Behaviour::Answer("Fine.".into())),
        }
    });
    let tables = provider.tables("timeout = \"20s\"").replace("[models.m]\n", "[models.m]\nfallback = [\"spare\"]\n");
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[models.spare]\nid = \"p/spare\"\nprice = {{ input = 1, output = 1 }}\n\
         max_output = 50\n[agents.a]\nmodel = \"m\"\ntools = [\"files.list\"]\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\nattempts = 8\n\
         [tasks.u]\nagent = \"a\"\ndescription = \"Say it\"\ncontext = [\"t\"]\n"
    ));
    let begun = std::time::Instant::now();
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(provider.requests(), 8, "5 that failed, the fallback's, the first model's in both tasks");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    folder.verify();
    let kinds: Vec<_> = folder
        .events()
        .iter()
        .map(Event::kind)
        .filter(|kind| kind.starts_with("task.cool") || *kind == "task.fell_back")
        .collect();
    assert_eq!(kinds, ["task.cooling", "task.fell_back", "task.cooled", "task.fell_back"]);
}

/// Two tasks at the least share a budget that pays for one call at a time: the next call is held as soon as
/// one has ended, however the gate stands then.
fn narrow(provider: &Provider, tasks: usize, provider_keys: &str, model_keys: &str) -> Folder {
    let tables = provider.tables(provider_keys).replace("[models.m]\n", &format!("[models.m]\n{model_keys}\n"));
    let tables = tables.replace("max_output = 100", "max_output = 300");
    let folder = Folder::new(&format!(
        "schema = 1\n[crew]\nmax_parallel = 8\n[budget]\nmax_usd = 0.006\n{tables}[models.spare]\nid = \"p/spare\"\n\
         price = {{ input = 1, output = 10 }}\nmax_output = 300\n[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Say {{{{ item.id }}}}\"\n"
    ));
    let rows: String = (1..=tasks).map(|n| format!("r{n}\n")).collect();
    folder.file("rows.csv", &format!("id\n{rows}"));
    folder
}

/// The steps whose held calls were given back, and why.
fn given_back(folder: &Folder) -> Vec<(String, String)> {
    let back = |event: Event| match event {
        Event::Call(CallEvent::Failed { call, failure, .. })
            if failure.class == boatswain::core::chat::FailureClass::NotSent =>
        {
            Some((call.step.to_string(), failure.message))
        }
        _ => None,
    };
    folder.events().into_iter().filter_map(back).collect()
}

/// The first answer comes when all others wait for budget.
fn first_slow(number: usize) -> Duration {
    Duration::from_millis(if number == 1 { 300 } else { 0 })
}

fn overloaded() -> Behaviour {
    Behaviour::Status(503, vec![("retry-after-ms", "5".to_owned())], "{}".into())
}

/// The sixth call is held when the breaker has opened: it goes to the fallback, not to sleep on its hold.
#[test]
fn a_held_call_whose_model_is_left_alone_goes_back_and_on_with_the_fallback() {
    let provider = Provider::start();
    provider.server.respond(|body, number| {
        let ill = body.contains("\"m\"");
        (first_slow(number), if ill { overloaded() } else { Behaviour::Answer("Fine.".into()) })
    });
    let folder = narrow(&provider, 6, "", "fallback = [\"spare\"]");
    let begun = std::time::Instant::now();
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}: nobody waits for the model", begun.elapsed());
    folder.verify();
    assert_eq!(provider.requests(), 11, "5 that failed, 6 of the fallback");
    let back = given_back(&folder);
    assert!(!back.is_empty() && back.iter().all(|(_, why)| why.contains("several times in a row")), "{back:?}");
    let fell = |event: &Event| matches!(event, Event::Task(TaskEvent::FellBack { model, .. }) if model == "spare");
    assert_eq!(folder.events().iter().filter(|event| fell(event)).count(), 6);
}

#[test]
fn a_held_call_whose_model_is_left_alone_parks_where_nothing_stands_in_for_longer_than_max_wait() {
    let provider = Provider::start();
    provider.server.respond(|_, number| {
        (first_slow(number), if number <= 5 { overloaded() } else { Behaviour::Answer("Fine.".into()) })
    });
    let folder = narrow(&provider, 6, "max_wait = \"1s\"", "");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(15);
    let figures = folder.verify().pop().unwrap();
    assert_eq!((figures.sums.held.calls, provider.requests()), (0, 5));
    // Whichever asks first parks the run: a call that was held by then has given its hold back.
    let back = given_back(&folder);
    assert!(back.iter().all(|(_, why)| why.contains("several times in a row")), "{back:?}");
}

/// The second call is held when the first one's refusal has closed the gate.
#[test]
fn a_held_call_does_not_wait_for_a_gate_that_is_closed_for_long() {
    let provider = Provider::start();
    provider.server.respond(|_, number| {
        let refused = || Behaviour::Status(429, vec![("retry-after", "2".to_owned())], "{}".into());
        (first_slow(number), if number == 1 { refused() } else { Behaviour::Answer("Fine.".into()) })
    });
    let folder = narrow(&provider, 2, "", "");
    let begun = std::time::Instant::now();
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    folder.verify();
    assert_eq!(provider.requests(), 3);
    let back = given_back(&folder);
    assert!(matches!(&back[..], [(_, why)] if why.contains("asks to wait")), "{back:?}");
}

/// The whole wait is known, and longer than `max_wait`: the fallback takes over at once, held calls and others.
#[test]
fn a_gate_closed_for_longer_than_max_wait_is_a_reason_to_fall_back() {
    let provider = Provider::start();
    provider.server.respond(|body, number| {
        let refused = || Behaviour::Status(429, vec![("retry-after", "3600".to_owned())], "{}".into());
        let shut = body.contains("\"m\"");
        (first_slow(number), if shut { refused() } else { Behaviour::Answer("Fine.".into()) })
    });
    let folder = narrow(&provider, 3, "", "fallback = [\"spare\"]");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    folder.verify();
    assert_eq!(provider.requests(), 4, "one refusal, and three answers of the fallback");
    assert!(!given_back(&folder).is_empty());
    let kinds: Vec<_> = folder.events().iter().map(Event::kind).collect();
    let count = |of: &str| kinds.iter().filter(|kind| **kind == of).count();
    assert_eq!((count("task.cooling"), count("task.fell_back"), count("task.cooled")), (3, 3, 0));
}

#[test]
fn refused_finally_pauses_the_run_with_the_provider_s_words() {
    times(|| {
        let rows =
            [(401, "", 4), (403, "", 4), (402, "", 11), (404, "model_not_found", 11), (429, "insufficient_quota", 11)];
        for (code, said, exit) in rows {
            let row = row(&[status(code, said)], "", "", "");
            assert_eq!(row.run(), Seen { exit, released: 1, ..done(1, 0) }, "{code}");
            // Somebody has mended it: the same call is made anew.
            assert_eq!(row.seen(&["resume", "-q"]), Seen { released: 1, ..done(2, 1) }, "{code}");
        }
    });
}

#[test]
fn nothing_listens_and_nothing_is_billed() {
    let row = row(&[], "", "", "");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = row.folder.read("crew.toml");
    let real = row.provider.server.base_url();
    row.folder.file(
        "crew.toml",
        &text.replace(&real, &format!("http://{closed}/v1")).replace("[budget]", "[crew]\ndeadline = \"1s\"\n[budget]"),
    );
    let seen = row.run();
    assert_eq!(seen, Seen { exit: 14, released: 1, ..done(0, 0) });
}

#[test]
fn an_overflow_is_shrunk_once_and_then_a_person_looks() {
    times(|| {
        let overflow = || status(400, "context_length_exceeded");
        let once = row(&[overflow()], "", "", "");
        let attempts = vec![ErrorClass::TooLong];
        assert_eq!(once.run(), Seen { released: 1, attempts: attempts.clone(), ..done(2, 1) });
        let twice = row(&[overflow(), overflow(), overflow()], "", "", "");
        let review = Some(ErrorClass::TooLong);
        assert_eq!(twice.run(), Seen { exit: 16, released: 2, attempts, review, ..done(2, 0) });
    });
}

#[test]
fn what_is_our_fault_goes_to_a_person() {
    times(|| {
        for code in [400, 413, 422] {
            let row = row(&[status(code, "bad_parameter")], "", "", "");
            let review = Some(ErrorClass::OurFault);
            assert_eq!(row.run(), Seen { exit: 16, released: 1, review, ..done(1, 0) }, "{code}");
            let review = Some(ErrorClass::OurFault);
            let retried = row.seen(&["resume", "-q", "--retry", "t"]);
            assert_eq!(retried, Seen { released: 1, review, ..done(2, 1) });
        }
    });
}

#[test]
fn what_may_have_been_billed_stays_held_and_counts() {
    times(|| {
        let kinds = [
            Behaviour::Status(500, Vec::new(), "oops".into()),
            Behaviour::Status(502, Vec::new(), String::new()),
            Behaviour::Status(504, Vec::new(), String::new()),
            Behaviour::Status(520, Vec::new(), String::new()),
            Behaviour::Cut("{\"choices\":[{\"mess".into()),
            Behaviour::Hang,
        ];
        for kind in kinds {
            let row = row(std::slice::from_ref(&kind), "", "", "");
            if matches!(kind, Behaviour::Hang) {
                // Long enough for the next call, on a machine that does much else.
                let text = row.folder.read("crew.toml").replace("20s", "1500ms");
                row.folder.file("crew.toml", &text);
            }
            let attempts = vec![ErrorClass::Ambiguous];
            assert_eq!(row.run(), Seen { doubtful: 1, attempts, ..done(2, 1) }, "{kind:?}");
        }
    });
    let oops = || Behaviour::Status(500, Vec::new(), "oops".into());
    let row = row(&[oops(), oops(), oops()], "", "", "");
    let attempts = vec![ErrorClass::Ambiguous; 2];
    let review = Some(ErrorClass::Ambiguous);
    assert_eq!(row.run(), Seen { exit: 16, doubtful: 3, attempts, review, ..done(3, 0) });
}

#[test]
fn an_unusable_answer_is_paid_replaced_and_told() {
    times(|| {
        let kinds = [
            Behaviour::Body("<html>gateway</html>".into()),
            Behaviour::Body("{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"BADBADBAD".into()),
            answer(""),
            answer(" \n "),
            says("BADBADBAD", "length"),
            says("BADBADBAD", "content_filter"),
            Behaviour::Body(
                json!({"choices": [{"message": {"role": "assistant", "content": null, "refusal": "BADBADBAD"},
                "finish_reason": "stop"}], "usage": {"prompt_tokens": 50, "completion_tokens": 7}})
                .to_string(),
            ),
        ];
        for kind in kinds {
            let row = row(std::slice::from_ref(&kind), "", "", "");
            let attempts = vec![ErrorClass::Unusable];
            assert_eq!(row.run(), Seen { attempts, ..done(2, 2) }, "{kind:?}");
            let (first, second) = (messages(&row.body(1)), messages(&row.body(2)));
            assert_eq!(second[..first.len()], first[..], "the same prompt");
            assert_eq!(second.len(), first.len() + 1, "and what was wrong: {second:?}");
            assert_eq!(second.last().unwrap()["role"], "user");
            let assistant = |message: &serde_json::Value| message["role"] == "assistant";
            assert!(!second.iter().any(assistant), "the bad answer is replaced, not appended");
        }
    });
}

fn messages(body: &str) -> Vec<serde_json::Value> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["messages"].as_array().unwrap().clone()
}

const SCHEMA: &str = "output_schema = { verdict = \"approve | revise\" }";

#[test]
fn json_is_repaired_for_free_and_else_asked_again() {
    times(|| {
        for text in ["```json\n{\"verdict\": \"approve\"}\n```", "Here: {\"verdict\": \"approve\",}"] {
            assert_eq!(row(&[answer(text)], "", SCHEMA, "").run(), done(1, 1), "{text}");
        }
        let good = answer("{\"verdict\": \"approve\"}");
        let bad = || answer("{\"verdict\": \"perhaps\"}");
        let mended = row(&[bad(), good], "", SCHEMA, "");
        let text = mended.folder.read("crew.toml").replace("max_output = 100", "max_output = 100\ntemperature = 0.8");
        mended.folder.file("crew.toml", &text);
        assert_eq!(mended.run(), Seen { attempts: vec![ErrorClass::Unusable], ..done(2, 2) });
        let second: serde_json::Value = serde_json::from_str(&mended.body(2)).unwrap();
        assert!(second["temperature"].as_f64().is_some_and(|t| t < 0.8), "a lower temperature: {second}");
        let first = messages(&mended.body(1)).pop().unwrap();
        assert!(first["content"].as_str().unwrap().contains("{\"type\":\"object\""), "the schema as JSON: {first}");
        let hopeless = row(&[bad(), bad(), bad()], "", SCHEMA, "");
        let (attempts, review) = (vec![ErrorClass::Unusable; 2], Some(ErrorClass::Unusable));
        assert_eq!(hopeless.run(), Seen { exit: 16, attempts, review, ..done(3, 3) });
    });
}

#[test]
fn an_answer_that_is_no_json_is_quoted_and_the_commands_name_it() {
    let row = row(&[answer("Sure!\n It is {\"verdict\": perhaps"), answer("no json"), answer("{")], "", SCHEMA, "");
    let ran = row.folder.bosun(&["run", "crew.toml", "-q"]).expect(16);
    let why = "it ends before it is whole; it begins `{`";
    let look = format!("; its answer: bosun show {} t --attempt 3", row.folder.runs()[0].0.run.short());
    assert!(ran.err.contains(&format!("is not the JSON it must be: {why}{look}")), "{}", ran.err);
    let told = |body: usize| messages(&row.body(body)).pop().unwrap()["content"].as_str().unwrap().to_owned();
    assert!(told(2).contains("line 1, column 13); it begins `Sure! It is {\"verdict\": perhaps`"), "{}", told(2));
    assert!(told(3).contains("it holds no object and no list; it begins `no json`"), "{}", told(3));
    let shown = row.folder.bosun(&["show", "latest", "t"]).expect(0).out;
    assert!(shown.contains("--retry t, or --accept t --attempt 3 to take that answer"), "{shown}");
    // Derived again under the run's own rules.
    row.folder.verify();
}

#[test]
fn a_model_that_does_not_exist_is_named_with_its_place_and_what_to_mend() {
    let row = row(&[status(404, "model_not_found")], "", "", "");
    let ran = row.folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
    let place = format!("({}/chat/completions)", row.provider.server.base_url());
    let model = match row.folder.events().into_iter().find_map(|event| match event {
        Event::Call(CallEvent::Held(held)) => Some(held.model),
        _ => None,
    }) {
        Some(model) => format!("paused: {model} is refused: HTTP 404: "),
        None => panic!("no call was held"),
    };
    let start_anew = "mend the crew and start anew with bosun run crew.toml";
    for words in [&model, &place, start_anew] {
        assert!(ran.err.contains(words), "{words} is not in: {}", ran.err);
    }
}

const READS: &str = "tools = [\"files.read\"]";

#[test]
fn the_second_hallucinated_tool_in_a_row_counts() {
    times(|| {
        for (bad, word) in [(calls(&[("nope", "{}")]), "files__read"), (calls(&[("files__read", "{\"pa")]), "path")] {
            let once = row(std::slice::from_ref(&bad), READS, "", "");
            assert_eq!(once.run(), done(2, 2));
            let told = messages(&once.body(2)).pop().unwrap();
            assert_eq!(told["role"], "tool");
            assert!(told["content"].as_str().unwrap().contains(word), "{told}");
            let twice = row(&[bad.clone(), bad.clone()], READS, "", "");
            assert_eq!(twice.run(), Seen { attempts: vec![ErrorClass::UnknownTool], ..done(3, 3) });
            // A good turn between them: neither counts.
            let good = calls(&[("files__read", "{\"path\":\"notes.txt\"}")]);
            let between = row(&[bad.clone(), good, bad.clone()], READS, "", "");
            assert_eq!(between.run(), done(4, 4));
        }
    });
}

#[test]
fn a_loop_is_asked_for_its_conclusion_once() {
    times(|| {
        let same = || calls(&[("files__read", "{\"path\":\"notes.txt\"}")]);
        let row = row(&[same(), same(), same()], READS, "", "");
        assert_eq!(row.run(), done(4, 4));
        let runs =
            row.folder.events().iter().filter(|event| matches!(event, Event::Tool(ToolEvent::Started { .. }))).count();
        assert_eq!(runs, 2, "the third is not run");
        assert!(!row.body(4).contains("\"tools\":["), "tools are off");
    });
}

#[test]
fn the_last_turn_is_the_conclusion() {
    times(|| {
        let look = || calls(&[("files__read", "{\"path\":\"notes.txt\"}")]);
        let agent = format!("{READS}\nmax_turns = 2");
        let good = row(&[look()], &agent, "", "");
        assert_eq!(good.run(), done(2, 2));
        assert!(!good.body(2).contains("\"tools\":["));
        let bad = row(&[look(), look()], &agent, "", "");
        assert_eq!(bad.run(), Seen { attempts: vec![ErrorClass::TurnLimit], ..done(3, 3) });
    });
}

#[test]
fn a_guardrail_says_why() {
    times(|| {
        let rule = "guardrails = [{ if = \"output | words <= 3\", say = \"BE BRIEF\" }]";
        let row = row(&[answer("far too many words here")], "", rule, "");
        assert_eq!(row.run(), Seen { attempts: vec![ErrorClass::Guardrail], ..done(2, 2) });
        assert!(row.body(2).contains("BE BRIEF"));
    });
}

#[test]
fn a_task_that_runs_too_long_is_tried_again() {
    times(|| {
        let row = row(&[Behaviour::Hang], "", "timeout = \"1s\"", "");
        assert_eq!(row.run(), Seen { doubtful: 1, attempts: vec![ErrorClass::Timeout], ..done(2, 1) });
    });
}

#[test]
fn a_prompt_that_is_too_large_is_not_sent() {
    times(|| {
        let agent =
            "context_tokens = 10\nbackstory = \"one two three four five six seven eight nine ten eleven twelve\"";
        let row = row(&[], agent, "", "");
        let review = Some(ErrorClass::PromptTooLarge);
        assert_eq!(row.run(), Seen { exit: 16, review, ..done(0, 0) });
    });
}

fn tool(effect: &str, script: &str) -> String {
    format!(
        "[tools.act]\nkind = \"command\"\ndescription = \"Acts\"\nisolation = \"none\"\neffect = \"{effect}\"\n\
         timeout = \"200ms\"\ncommand = [\"sh\", \"-c\", \"echo x >> ran.txt; {script}\"]"
    )
}

#[test]
fn a_failed_tool_is_told_repeated_or_reviewed_by_its_effect() {
    times(|| {
        let act = || calls(&[("act", "{}")]);
        let agent = "tools = [\"act\"]";
        // Read and once: told to the model. Idempotent: two retries first.
        for (effect, runs) in [("read", 1), ("once", 1), ("idempotent", 3)] {
            let row = row(&[act()], agent, "", &tool(effect, "exit 1"));
            assert_eq!(row.run(), done(2, 2), "{effect}");
            assert_eq!(row.folder.read("ran.txt").lines().count(), runs, "{effect}");
            assert_eq!(messages(&row.body(2)).pop().unwrap()["role"], "tool");
        }
        // It may or may not have happened: a person looks, and nothing repeats it.
        let unknown = row(&[act()], agent, "", &tool("once", "sleep 5"));
        let review = Some(ErrorClass::Tool);
        assert_eq!(unknown.run(), Seen { exit: 16, review, ..done(1, 1) });
        assert_eq!(unknown.folder.read("ran.txt").lines().count(), 1);
        let again = unknown.seen(&["resume", "-q"]);
        assert_eq!((again.exit, again.requests), (16, 1));
        assert_eq!(unknown.folder.read("ran.txt").lines().count(), 1);
    });
}

#[test]
#[ignore = "each row fifty times: minutes"]
fn each_row_fifty_times() {
    // One process per test: the figure is read from the environment by each row.
    let program = std::env::current_exe().unwrap();
    let run = std::process::Command::new(program).arg("failures::").env("BOSUN_TEST_TABLE", "50").status().unwrap();
    assert!(run.success());
}

#[test]
fn a_refused_parameter_is_left_out_of_the_next_attempt() {
    times(|| {
        let named = |param: serde_json::Value, words: &str| {
            Behaviour::Status(400, Vec::new(), json!({"error": {"message": words, "param": param}}).to_string())
        };
        let words = "Unsupported value: 'temperature' does not support 0.8 with this model.";
        for refusal in [named(json!("temperature"), "no"), named(json!(null), words)] {
            let row = row(&[refusal], "", "retry = [{ temperature = 0.5 }]", "");
            let text = row.folder.read("crew.toml").replace("max_output = 100", "max_output = 100\ntemperature = 0.8");
            row.folder.file("crew.toml", &text);
            assert_eq!(row.run(), Seen { released: 1, attempts: vec![ErrorClass::OurFault], ..done(2, 1) });
            let (first, second) = (row.body(1), row.body(2));
            assert!(first.contains("\"temperature\":0.8") && !second.contains("temperature"), "{second}");
        }
    });
}

#[test]
fn retry_varies_the_attempts_as_the_crew_says() {
    times(|| {
        let row = row(
            &[answer(""), answer("")],
            "",
            "retry = [{ temperature = 0.3 }, { max_output = 40, model = \"other\" }]",
            "",
        );
        let text = row.folder.read("crew.toml");
        let more =
            text.split("[models.m]").nth(1).unwrap().split("[agents").next().unwrap().replace("/m\"", "/other\"");
        row.folder.file("crew.toml", &text.replace("[agents.a]", &format!("[models.other]{more}[agents.a]")));
        assert_eq!(row.run(), Seen { attempts: vec![ErrorClass::Unusable; 2], ..done(3, 3) });
        let body = |n| serde_json::from_str::<serde_json::Value>(&row.body(n)).unwrap();
        assert_eq!((body(1)["temperature"].as_f64(), body(2)["temperature"].as_f64()), (None, Some(0.3)));
        assert_eq!(body(3)["max_tokens"], 40);
        assert_ne!(body(3)["model"], body(1)["model"]);
        assert_eq!(body(3)["temperature"].as_f64(), None);
    });
}

#[test]
fn a_model_that_refuses_for_long_is_left_for_its_fallback() {
    times(|| {
        let busy: Vec<_> = (0..3).map(|_| status(529, "")).collect();
        let row = row(&busy, "", "", "");
        let text = row.folder.read("crew.toml");
        let more =
            text.split("[models.m]").nth(1).unwrap().split("[agents").next().unwrap().replace("/m\"", "/other\"");
        let text = text.replace("max_output = 100", "max_output = 100\nfallback = [\"other\"]");
        row.folder.file("crew.toml", &text.replace("[agents.a]", &format!("[models.other]{more}[agents.a]")));
        assert_eq!(row.run(), Seen { released: 3, waits: 3, ..done(4, 1) });
        assert!(row.body(4).contains("other") && !row.body(3).contains("other"));
    });
}

#[test]
fn a_person_may_take_an_earlier_answer() {
    times(|| {
        let bad = |n: u32| answer(&format!("{{\"verdict\": \"approve\", \"n\": {n}}}"));
        let task = "output_schema = { verdict = \"string\", n = \"int\" }\nguardrails = [{ if = \"output.n > 9\", say = \"more\" }]";
        let row = row(&[answer("no json"), bad(2), bad(3)], "", task, "");
        let review = Some(ErrorClass::Guardrail);
        let attempts = vec![ErrorClass::Unusable, ErrorClass::Guardrail];
        assert_eq!(row.run(), Seen { exit: 16, attempts: attempts.clone(), review, ..done(3, 3) });
        for (args, words) in [
            (["--accept", "t", "--attempt", "1"], "is not the JSON"),
            (["--accept", "t", "--attempt", "7"], "there are answers in 1, 2, 3"),
            (["--accept", "u", "--attempt", "1"], "no such step waits"),
        ] {
            let refused = row.folder.bosun(&[&["resume", "-q"], &args[..]].concat()).expect(2);
            assert!(refused.err.contains(words), "{}", refused.err);
        }
        let taken = row.folder.bosun(&["resume", "-q", "--accept", "t", "--attempt", "2"]).expect(0);
        assert_eq!(taken.out.trim(), "{\"verdict\":\"approve\",\"n\":2}");
        assert_eq!(row.provider.requests(), 3, "nothing is asked again");
        row.folder.verify();
    });
}

/// The last line of such a run names this command; it used to be refused, because the step had ended.
#[test]
fn a_loop_stopped_by_its_round_limit_gets_another_round_from_a_person() {
    let provider = Provider::start();
    let verdict = |verdict: &str| Behaviour::Answer(format!("{{\"verdict\":\"{verdict}\",\"issues\":[\"more\"]}}"));
    let draft = |text: &str| Behaviour::Answer(text.into());
    for behaviour in [draft("First."), verdict("revise"), draft("Second."), verdict("revise")] {
        provider.push(behaviour);
    }
    let folder = Folder::new(&format!(
        "schema = 1\n{}[agents.w]\nmodel = \"m\"\n[agents.c]\nmodel = \"m\"\n[tasks.draft]\nagent = \"w\"\n\
         description = \"Write\"\nreview = {{ by = \"c\", max_rounds = 2, on_limit = \"review\" }}\n",
        provider.tables("")
    ));
    let ran = folder.bosun(&["run", "crew.toml"]).expect(16);
    assert!(ran.err.contains("draft#2 needs review: not approved after 2 rounds"), "{}", ran.err);
    assert!(ran.last_line().contains("--retry 'draft#2'"), "{}", ran.last_line());
    folder.bosun(&["resume", "--retry", "draft#1"]).expect(2);
    folder.bosun(&["resume", "--retry", "draft_review#2"]).expect(2);
    // Not judged a third time by itself.
    folder.bosun(&["resume"]).expect(16);
    for behaviour in [draft("Third."), verdict("approve")] {
        provider.push(behaviour);
    }
    let ran = folder.bosun(&["resume", "--retry", "draft#2"]).expect(0);
    assert_eq!(ran.out.trim(), "Third.");
    assert_eq!(provider.requests(), 6);
    let shown = folder.bosun(&["show"]).expect(0);
    assert!(!shown.out.contains("review: not approved"), "{}", shown.out);
    folder.verify();
}
