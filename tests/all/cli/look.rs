//! Commands that read a run, over journals that the machines have written.

use boatswain::ports::store::RunState;

use super::engine::Mini;
use super::{Place, crew, fits};

/// A finished run of the report crew.
fn finished() -> (Place, Mini) {
    let place = Place::empty();
    crew(&place.root());
    let mut mini = Mini::new(&place.root(), "crews/report.toml", 7);
    mini.says = Some(|call| match call.step.as_str() {
        "draft_review#1" => r#"{"verdict":"revise","issues":["shorter"]}"#.to_owned(),
        "draft_review#2" => r#"{"verdict":"approve","issues":[]}"#.to_owned(),
        step => format!("\x1b[31mText\x1b[0m of {step}"),
    });
    mini.run();
    mini.save(&place.root(), RunState::Completed);
    (place, mini)
}

/// A run whose process died in its second call.
fn killed() -> (Place, Mini) {
    let place = Place::empty();
    crew(&place.root());
    let mut mini = Mini::new(&place.root(), "crews/report.toml", 8);
    mini.dies_in = Some("draft#1.1".parse().unwrap());
    mini.run();
    (place, mini)
}

#[test]
fn show_prints_a_run_step_by_step() {
    let (place, mini) = finished();
    let said = place.run(&["show"]);
    assert_eq!(said.code, 0, "{}", said.err);
    insta::assert_snapshot!(said.out.replace(&mini.head(), "HEAD"), @r#"
    run 7000000000 report completed · 24s · 5 calls · 902 tok · spent $0.0005 of $0.25
    crews/report.toml · 2026-11-20 12:00:01 · topic="tides"
    STEP            STATUS  AGENT       MODEL                CALLS  TOKENS       USD  TIME
    research        done    researcher  openai/gpt-4.1-mini      1     106  $0.00009  3.0s
    draft#1         done    writer      openai/gpt-4.1-mini      1      72  $0.00007  3.0s
    draft_review#1  done    critic      openai/gpt-4.1-mini      1     286   $0.0002  3.0s
    draft#2         done    writer      openai/gpt-4.1-mini      1     152  $0.00009  3.0s
    draft_review#2  done    critic      openai/gpt-4.1-mini      1     286   $0.0002  3.0s
    head HEAD
    "#);
    assert!(said.out.contains(&mini.head()));
    let json: serde_json::Value = serde_json::from_str(&place.run(&["show", "--json"]).out).unwrap();
    assert_eq!((&json["state"], &json["exit"]), (&"completed".into(), &0.into()));
    assert_eq!(json["steps"].as_array().unwrap().len(), 5);
}

#[test]
fn runs_fits_any_width() {
    let (place, _) = finished();
    let wide = place.run(&["runs"]).out;
    assert!(wide.contains("report") && wide.contains("completed") && wide.contains("/$0.25"), "{wide}");
    for columns in ["80", "40", "20", "7"] {
        let said = place.wide(columns, &["runs"]);
        assert!(fits(&said.out, columns.parse().unwrap()), "{}", said.out);
        assert!(said.out.starts_with("RUN"));
        let said = place.wide(columns, &["cost", "latest"]);
        assert!(said.code == 0 && said.out.contains("AGENT") || columns == "7", "{}", said.out);
    }
    assert!(place.wide("40", &["runs"]).out.contains("completed  $0.0005/$0.25"));
    assert!(place.wide("20", &["runs"]).out.contains("completed"));
    assert!(place.wide("20", &["cost"]).out.lines().skip(2).all(|line| line.contains("  $0.0")));
    let json: serde_json::Value = serde_json::from_str(&place.run(&["runs", "--json"]).out).unwrap();
    assert_eq!((&json["state"], &json["alive"]), (&"completed".into(), &false.into()));
}

#[test]
fn a_step_shows_its_calls_its_prompt_and_why_it_ran() {
    let (place, mini) = finished();
    let step = place.run(&["show", mini.id.short(), "draft#2"]);
    assert!(step.out.contains("draft#2.1") && step.out.contains("result:"), "{}\n{}", step.out, step.err);
    // Into a pipe a result goes as it is.
    assert!(step.out.contains("\x1b[31mText\x1b[0m of draft#2"), "{:?}", step.out);
    let both = place.run(&["show", "latest", "draft"]);
    assert!(both.out.contains("draft#1 done") && both.out.contains("draft#2 done"), "{}", both.out);
    let prompt = place.run(&["show", "latest", "draft#2.1", "--prompt"]).out;
    assert!(prompt.contains("--- system\nYou are Writer.") && prompt.contains("shorter"), "{prompt}");
    let line = place.run(&["show", "latest", "draft#2", "--prompt", "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["settings"]["max_output"], 400);
    insta::assert_snapshot!(place.run(&["show", "latest", "draft#2", "--why"]).out, @r#"
    draft#2
      ran because  after draft_review#1, `until = verdict == 'approve'` did not hold: round 2 of 2 (a rule chose this, not a model)
      ran because  research ended done (`context`, `after`)
      saw          research 11 tok
      model        openai/gpt-4.1-mini <- crews/report.toml [agents.writer]
      max_output   400 <- crews/report.toml [tasks.draft]
      temperature  0.5 <- prompts/writer.md (front matter)
      system       prompts/writer.md@184613 -> 4 tok
      user         crews/report.toml tasks.draft.description -> 67 tok (--prompt prints it)
    "#);
    let wrong = place.run(&["show", "latest", "drft"]);
    assert!(wrong.code == 2 && wrong.err.contains("has no step `drft`"), "{}", wrong.err);
}

#[test]
fn events_are_gapless_json_lines_or_words() {
    let (place, _) = finished();
    let lines = place.run(&["show", "--events", "--json"]).out;
    let events: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (index, event) in events.iter().enumerate() {
        assert_eq!((&event["seq"], &event["v"]), (&(index + 1).into(), &1.into()));
        assert_eq!(event["run"].as_str().unwrap().len(), 10);
    }
    assert_eq!(events.last().unwrap()["type"], "run.finished");
    let words = place.run(&["show", "--events"]).out;
    assert_eq!(words.lines().count(), events.len());
    assert!(words.contains("task.finished       draft_review#1 done · verdict=revise · 1 call"), "{words}");
    let some = place.run(&["show", "latest", "draft", "--events", "--json"]).out;
    assert!(some.lines().count() > 4 && some.lines().all(|line| line.contains(":\"draft")), "{some}");
}

#[test]
fn replay_derives_every_entry_and_audit_finds_what_was_changed() {
    let (place, mini) = finished();
    let said = place.run(&["replay"]);
    assert!(
        said.code == 0 && said.out.contains("decisions identical") && said.out.ends_with("· $0\n"),
        "{}{}",
        said.out,
        said.err
    );
    let audit = place.run(&["audit", "verify", "latest", "--head", &mini.head()[..20]]);
    assert_eq!(audit.code, 0, "{}", audit.err);
    assert!(place.run(&["audit", "verify"]).out.contains("but no journal that was rewritten"));
    assert_eq!(place.run(&["audit", "verify", "latest", "--head", &"0".repeat(64)]).code, 22);
    assert_eq!(place.run(&["audit", "verify", "latest", "--head", "xyz"]).code, 2);
    let change = |sql: &str| {
        let conn = rusqlite::Connection::open(place.root().join(".bosun/journal.db")).unwrap();
        assert_eq!(conn.execute(sql, []).unwrap(), 1, "{sql}");
    };
    change(
        "UPDATE events SET payload = replace(payload, '\"researcher\"', '\"researcheR\"') WHERE id & 0xffffffff = 2",
    );
    let audit = place.run(&["audit", "verify"]);
    assert!(audit.code == 22 && audit.err.contains("entry 2"), "{}", audit.err);
}

#[test]
fn the_record_that_lists_go_by_is_held_against_the_entries() {
    let (place, mini) = finished();
    let conn = rusqlite::Connection::open(place.root().join(".bosun/journal.db")).unwrap();
    assert_eq!(place.run(&["audit", "verify"]).code, 0);
    for (sql, undo, words) in [
        ("nano_usd = nano_usd + 5000000000", "nano_usd = nano_usd - 5000000000", "record says spent "),
        ("tokens = tokens + 1", "tokens = tokens - 1", "record says spent "),
        ("calls = calls + 1", "calls = calls - 1", "record says spent "),
        ("state = 'failed'", "state = 'completed'", "record says state failed, its entries say completed"),
        ("key = 'other'", "key = NULL", "record says key other, its entries say none"),
    ] {
        let change = |what: &str| assert_eq!(conn.execute(&format!("UPDATE runs SET {what}"), []).unwrap(), 1);
        change(sql);
        let audit = place.run(&["audit", "verify", mini.id.short()]);
        assert!(audit.code == 22 && audit.err.contains(words), "{sql}: {}", audit.err);
        change(undo);
    }
    assert_eq!(place.run(&["audit", "verify"]).code, 0);
}

#[test]
fn a_text_that_is_gone_and_an_end_that_is_cut_off_are_found() {
    for sql in [
        "DELETE FROM blobs WHERE id = (SELECT max(id) FROM blobs)",
        "DELETE FROM events WHERE id = (SELECT max(id) FROM events)",
    ] {
        let (place, _) = finished();
        rusqlite::Connection::open(place.root().join(".bosun/journal.db")).unwrap().execute(sql, []).unwrap();
        let audit = place.run(&["audit", "verify"]);
        assert!(audit.code == 22 && audit.err.contains("gone"), "{sql}: {}", audit.err);
    }
}

#[test]
fn a_call_in_doubt_stays_held_until_a_person_settles_it() {
    let (place, mut mini) = killed();
    mini.lose("draft#1.1");
    mini.save(&place.root(), RunState::Running);
    let short = mini.id.short().to_owned();
    let runs = place.run(&["runs"]).out;
    assert!(runs.contains("stopped") && runs.contains("draft#1") && runs.contains("IN DOUBT"), "{runs}");
    let ledger = place.run(&["ledger", "show", &short]).out;
    assert!(ledger.contains("crew") && ledger.contains("$0.25") && ledger.contains("draft#1.1"), "{ledger}");
    let cost = place.run(&["cost", &short, "--by", "task"]).out;
    assert!(cost.contains("IN DOUBT") && cost.contains("bosun ledger settle"), "{cost}");
    let wrong = place.run(&["ledger", "settle", &short, "draft#1.9", "--usd", "0.01"]);
    assert!(wrong.code == 2 && wrong.err.contains("draft#1.1"), "{}", wrong.err);
    assert_eq!(place.run(&["ledger", "settle", &short, "draft#1.1", "--usd", "ten"]).code, 2);
    let said = place.run(&["ledger", "settle", &short, "draft#1.1", "--usd", "0.0123"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let again = place.run(&["ledger", "settle", &short, "draft#1.1", "--usd", "0.0123"]);
    assert_eq!(again.code, 2, "terminal is final");
    let json: serde_json::Value = serde_json::from_str(&place.run(&["show", &short, "--json"]).out).unwrap();
    assert_eq!((&json["ambiguous"]["calls"], &json["held"]["calls"]), (&0.into(), &0.into()));
    assert!(json["settled"]["usd"].as_str().unwrap().starts_with("0.012"), "{json}");
    assert!(!place.run(&["runs"]).out.contains("IN DOUBT"));
    assert!(place.run(&["audit", "list", &short]).out.contains("settled draft#1.1 at $0.0123"));
    assert_eq!(place.run(&["audit", "verify", &short]).code, 0);
    assert_eq!(place.run(&["replay", &short]).code, 0);
}

#[test]
fn a_hold_that_a_killed_process_left_can_be_settled_before_any_resume() {
    let (place, mini) = killed();
    mini.save(&place.root(), RunState::Running);
    let said = place.run(&["ledger", "settle", mini.id.short(), "draft#1.1", "--usd", "0"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(place.run(&["replay"]).code, 0);
    let json: serde_json::Value = serde_json::from_str(&place.run(&["show", "--json"]).out).unwrap();
    assert_eq!(json["held"]["calls"], 0);
}

#[test]
fn cancelling_a_run_that_nobody_runs_ends_it_as_its_machines_would() {
    let (place, mini) = killed();
    mini.save(&place.root(), RunState::Running);
    let said = place.run(&["cancel", mini.id.short()]);
    assert_eq!(said.code, 0, "{}", said.err);
    let show = place.run(&["show"]).out;
    assert!(show.contains("cancelled") && show.contains("in doubt"), "{show}");
    let replay = place.run(&["replay"]);
    assert_eq!(replay.code, 0, "{}", replay.err);
    assert_eq!(place.run(&["audit", "verify"]).code, 0);
    let again = place.run(&["cancel"]);
    assert!(again.code == 0 && again.err.contains("is over"), "{}", again.err);
    let pause = place.run(&["pause"]);
    assert!(pause.code == 0 && pause.err.contains("nothing to pause"), "{}", pause.err);
}

#[test]
fn a_run_that_is_owned_gets_a_message_and_is_left_alone() {
    use boatswain::adapters::store::SqliteStore;
    use boatswain::ports::store::Store;
    let (place, mut mini) = killed();
    mini.lose("draft#1.1");
    mini.save(&place.root(), RunState::Running);
    let store = SqliteStore::open(&place.root().join(".bosun")).unwrap();
    store.claim(&mini.id).unwrap();
    // It began long ago, and its last entry was soon after: its time goes on.
    let conn = rusqlite::Connection::open(place.root().join(".bosun/journal.db")).unwrap();
    conn.execute_batch("UPDATE events SET at = id & 0xff; UPDATE runs SET started = 1, updated = 2").unwrap();
    let (shown, listed) = (place.run(&["show"]).out, place.run(&["runs"]).out);
    let hours = |line: Option<&str>| line.unwrap_or_default().split(' ').any(|word| word.matches(':').count() == 2);
    assert!(hours(shown.lines().next()) && hours(listed.lines().nth(1)), "{shown}{listed}");
    for args in [&["pause"][..], &["cancel"], &["ledger", "settle", "latest", "draft#1.1", "--usd", "0.5"]] {
        let said = place.run(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    }
    let inbox = store.inbox(&mini.id).unwrap();
    assert_eq!(inbox.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>(), ["pause", "cancel", "settle"]);
    let settle: boatswain::cli::ledger::Settle = serde_json::from_str(&inbox[2].payload).unwrap();
    assert_eq!((settle.call.to_string().as_str(), settle.cost.usd.0), ("draft#1.1", 500_000_000));
    assert!(place.run(&["show"]).out.contains("it is running in process"));
}

#[test]
fn runs_are_found_by_prefix_and_errors_name_the_others() {
    let (place, mini) = finished();
    let id = mini.id.to_string();
    assert_eq!(place.run(&["show", &id[..6].to_lowercase()]).code, 0);
    let none = place.run(&["show", "ZZZZ"]);
    assert!(none.code == 2 && none.err.contains(&format!("{} (report)", mini.id.short())), "{}", none.err);
    assert_eq!(place.run(&["show", "7"]).code, 0, "any prefix that no other run has");
    assert!(place.run(&["show", "7-"]).err.contains("the first characters"));
    let mut other = Mini::new(&place.root(), "crews/report.toml", 7 + (1 << 40));
    other.run();
    other.save(&place.root(), RunState::Paused);
    let several = place.run(&["show", &id[..4]]);
    assert!(several.code == 2 && several.err.contains("2 begin so"), "{}", several.err);
    assert!(several.err.contains("700000001 (report), 700000000 (report); name more of it"), "{}", several.err);
    // Whatever is listed or told to be typed names one run.
    let listed = place.run(&["runs"]).out;
    assert!(listed.contains("\n700000000 ") && listed.contains("\n700000001 "), "{listed}");
    let refused = place.run(&["resume", "700000001", "--retry", "draft#1"]);
    assert!(refused.err.ends_with("\n  bosun show 700000001\n"), "{}", refused.err);
}

#[test]
fn a_list_without_a_run_says_why() {
    let (place, _) = finished();
    let said = place.run(&["runs", "--crew", "nope"]);
    assert_eq!((said.code, said.err.as_str()), (0, "no run of crew `nope`; there are runs of: report\n"));
    let said = place.run(&["runs", "--limit", "0"]);
    assert!(said.code == 2 && said.err.contains("1.."), "{}", said.err);
}

#[test]
fn what_goes_is_named_with_its_crew() {
    let (place, mini) = finished();
    let said = place.run(&["gc", "--dry-run", "--keep", "0d"]).out;
    let line = said.lines().find(|line| line.starts_with(mini.id.as_str())).unwrap_or_default();
    assert!(line.contains(" report ") && line.ends_with(" ago"), "{said}");
}

#[test]
fn cost_adds_up_to_the_ledger_and_marks_stand_ins() {
    let (place, _) = finished();
    let lines = place.run(&["cost", "--by", "model", "--json"]).out;
    let total: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let show: serde_json::Value = serde_json::from_str(&place.run(&["show", "--json"]).out).unwrap();
    assert_eq!((&total["settled_usd"], &total["calls"]), (&show["settled"]["usd"], &5.into()));
    let root = place.root();
    let text = std::fs::read_to_string(root.join("crews/report.toml")).unwrap();
    place.write("crews/offline.toml", &text.replace("openai/gpt-4.1-mini", "offline/stand-in"));
    let mut mini = Mini::new(&root, "crews/offline.toml", 9);
    mini.run();
    mini.save(&root, RunState::Completed);
    let cost = place.run(&["cost", mini.id.as_str(), "--by", "model"]).out;
    assert!(cost.contains("offline/stand-in [offline]"), "{cost}");
}

#[test]
fn gc_removes_what_is_over_and_old_and_says_so_first() {
    let (place, _) = finished();
    let dry = place.run(&["gc", "--dry-run", "--keep", "0s"]).out;
    assert!(dry.starts_with("would remove 1 run"), "{dry}");
    assert!(place.run(&["gc", "--keep", "0s"]).out.starts_with("removed 1 run"));
    assert_eq!(place.run(&["runs"]).out, "");
}

#[test]
fn a_state_folder_of_a_newer_bosun_is_named_and_left_as_it_is() {
    let (place, _) = finished();
    let path = place.root().join(".bosun/journal.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let said = place.run(&["runs"]);
    assert!(said.code == 6 && said.err.contains("format 99") && said.err.contains("newer bosun"), "{}", said.err);
    let format: i64 =
        rusqlite::Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(format, 99);
}
