//! What `show` and `runs` say of a run that had trouble: raised caps, attempts, the journal in words.

use std::time::Duration;

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

/// One agent with one task whose answer must be a list; the first two answers are not.
fn stubborn() -> (Provider, Folder) {
    let provider = Provider::start();
    for said in ["First I think", "Then I wonder", r#"{"items": ["tea"]}"#] {
        provider.push(Behaviour::Answer(said.into()));
    }
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{}[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\n\
         description = \"List what there is\"\noutput_schema = {{ items = \"string[]\" }}\n",
        provider.tables("")
    ));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    (provider, folder)
}

#[test]
fn an_attempt_shows_its_calls_prompts_answers_and_end() {
    let (provider, folder) = stubborn();
    assert_eq!(provider.requests(), 3);
    let shows = |number: &str, more: &[&str]| {
        let args = [&["show", "latest", "t", "--attempt", number], more].concat();
        folder.bosun(&args).expect(0).out
    };
    let second = shows("2", &[]);
    assert!(second.contains("attempt 2 of 3 · 1 call") && second.contains("Then I wonder"), "{second}");
    assert!(second.contains("t.2") && second.contains("\nfailed: "), "{second}");
    for other in ["First I think", "tea", "t.1", "t.3"] {
        assert!(!second.contains(other), "{other} is not of attempt 2: {second}");
    }
    let third = shows("3", &[]);
    assert!(third.contains("tea") && third.ends_with("\ndone\n") && !third.contains("failed"), "{third}");
    let prompt = shows("2", &["--prompt"]);
    assert!(prompt.contains("=== t.2 · attempt 2") && !prompt.contains("=== t.1"), "{prompt}");
    assert!(prompt.contains("could not be used"), "what was wrong before is part of its prompt: {prompt}");
    let json: serde_json::Value = serde_json::from_str(&shows("2", &["--json"])).unwrap();
    assert_eq!((&json["attempt"], json["calls"].as_array().unwrap().len()), (&2.into(), 1));
    assert_eq!(json["answers"][0]["content"], "Then I wonder");
    let wrong = folder.bosun(&["show", "latest", "t", "--attempt", "4"]).expect(2);
    assert!(wrong.err.contains("attempts 1 to 3"), "{}", wrong.err);
    folder.bosun(&["show", "latest", "--attempt", "1"]).expect(2);
}

#[test]
fn the_journal_in_words_fits_eighty_columns_and_cuts_no_word() {
    let (_provider, mut folder) = stubborn();
    let whole = folder.bosun(&["show", "--events"]).expect(0).out;
    assert!(!whole.contains('{') && !whole.contains("\"v\""), "no JSON: {whole}");
    folder.env("COLUMNS", "80");
    let fits = folder.bosun(&["show", "--events"]).expect(0).out;
    assert_eq!(whole.lines().count(), folder.events().len());
    for (whole, line) in whole.lines().zip(fits.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
        let shown = line.strip_suffix(" …").unwrap_or(line);
        assert!(whole.starts_with(shown), "{line}\n{whole}");
        assert!(matches!(whole[shown.len()..].chars().next(), None | Some(' ')), "cut inside a word: {line}");
    }
    for words in ["call.held           t.1 p/m · up to $", "task.attempt_failed t attempt 1: unusable", "completed"] {
        assert!(fits.contains(words), "no `{words}` in\n{fits}");
    }
}

#[test]
fn a_raised_cap_is_the_one_that_is_listed() {
    let provider = Provider::start();
    // Booked at the worst case: what is left is too little for a second call.
    provider.push(Behaviour::Body("<html>".into()));
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer("Fine.".into())));
    let folder = Folder::new(&format!(
        "schema = 1\n{}[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n",
        provider.tables("")
    ));
    folder.bosun(&["run", "crew.toml", "--max-usd", "0.0022"]).expect(11);
    assert!(folder.bosun(&["runs"]).expect(0).out.contains("/$0.0022"));
    folder.bosun(&["resume", "--raise-budget", "0.5"]).expect(0);
    let listed = folder.bosun(&["runs"]).expect(0).out;
    assert!(listed.contains("/$0.50") && !listed.contains("0.0022"), "{listed}");
    let json = folder.bosun(&["runs", "--json"]).expect(0).out;
    let json: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(json["budget"], "0.50");
}

#[test]
fn a_run_that_ends_leaves_no_log_beside_its_journal() {
    let (_provider, folder) = stubborn();
    let log = folder.state().join("journal.db-wal");
    assert_eq!(std::fs::metadata(log).map_or(0, |file| file.len()), 0);
}

#[test]
fn a_loop_at_its_limit_is_said_at_the_end_and_in_what_is_shown() {
    for (on_limit, code, words) in [
        ("accept", 0, "draft_review: not approved after 1 round; its last result is used"),
        ("fail", 10, "draft_review: not approved after 1 round: its loop has failed"),
    ] {
        let provider = Provider::start();
        provider.push(Behaviour::Answer("First.".into()));
        provider.push(Behaviour::Answer("{\"verdict\":\"revise\",\"issues\":[\"more\"]}".into()));
        provider.push(Behaviour::Answer("All the same.".into()));
        let folder = Folder::new(&format!(
            "schema = 1\n[crew]\noutput = \"draft\"\n{}[agents.w]\nmodel = \"m\"\n[agents.c]\nmodel = \"m\"\n[tasks.draft]\nagent = \"w\"\n\
             description = \"Write\"\nreview = {{ by = \"c\", max_rounds = 1, on_limit = \"{on_limit}\" }}\n\
             [tasks.other]\nagent = \"w\"\ndescription = \"Beside\"\nwhen = \"draft_review is none or true\"\n",
            provider.tables("")
        ));
        let ran = folder.bosun(&["run", "crew.toml"]).expect(code);
        assert!(ran.err.contains(words), "{}", ran.err);
        let shown = folder.bosun(&["show"]).expect(0).out;
        assert!(shown.contains(words), "{shown}");
        let went_on = shown.contains("what went on after the first failure: 1 call");
        assert_eq!(went_on, on_limit == "fail", "{shown}");
    }
}
