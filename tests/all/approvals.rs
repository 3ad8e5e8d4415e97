//! Approvals and questions through the real binary. Invariant: what needs a yes happens after one, with the
//! arguments that were agreed to, and never twice: every case counts what a tool has left on the disk.

mod beside;
mod campaign;
pub mod terminal;

use std::time::Duration;

use boatswain::core::event::{Event, RunEnd};
use serde_json::Value;

use super::stamps::{HEAD, STAMP, open, stamps};
use super::support::{Folder, Ran, until, wait};

/// What was said last decides what is answered: an agent does what its task's mark says.
const SCRIPT: &str = r#"
[[reply]]
contains = "said no: too red"
repeat = true
text = "Told: too red."
[[reply]]
contains = "nobody decided within 1s"
repeat = true
text = "Told: too late."
[[reply]]
contains = "a person changed the arguments"
repeat = true
text = "Told: misfit."
[[reply]]
contains = "the blue one"
repeat = true
text = "Blue it is."
[[reply]]
contains = "say why"
repeat = true
text = "Because."
[[reply]]
contains = "<one>"
repeat = true
tool_calls = [{ name = "stamp", arguments = { text = "a" } }]
[[reply]]
contains = "<two>"
repeat = true
tool_calls = [{ name = "stamp", arguments = { text = "a" } }, { name = "stamp", arguments = { text = "b" } }]
[[reply]]
contains = "<ask>"
repeat = true
tool_calls = [{ name = "ask.human", arguments = { question = "Which one?\u001b[2K", choices = ["red", "blue"] } }]
[[reply]]
contains = "<write>"
repeat = true
tool_calls = [{ name = "files.write", arguments = { path = "out/a.md", text = "one\n2\n" } }]
[[reply]]
contains = "<lead>"
repeat = true
tool_calls = [{ name = "delegate", arguments = { to = "clerk", task = "Do <one>" } }]
[[reply]]
contains = "<slow>"
repeat = true
delay = "3s"
text = "Slow."
[default]
text = "Done."
"#;

pub const ONE: &str =
    "[agents.clerk]\nmodel = \"m\"\ntools = [\"stamp\"]\n[tasks.t]\nagent = \"clerk\"\ndescription = \"Do <one>\"\n";

/// A task that goes on for three seconds beside the others.
pub const BESIDE: &str = "[tasks.u]\nagent = \"clerk\"\ndescription = \"Do <slow>\"\n[crew]\noutput = \"t\"\n";

pub fn folder(body: &str) -> Folder {
    let folder = Folder::new(&format!("{HEAD}{body}"));
    folder.file("script.toml", SCRIPT);
    folder
}

/// One task whose one tool call needs a yes, parked.
fn one(more: &str) -> Folder {
    let folder = folder(&format!("{ONE}{STAMP}approval = \"always\"\n{more}"));
    park(&folder);
    folder
}

#[track_caller]
fn park(folder: &Folder) -> Ran {
    let ran = folder.bosun(&["run", "crew.toml", "--key", "k"]).expect(12);
    assert_eq!(stamps(folder), 0, "nothing has happened");
    ran
}

#[track_caller]
fn id(folder: &Folder) -> String {
    let open = open(folder);
    assert_eq!(open.len(), 1, "{open:?}");
    open[0]["id"].as_str().unwrap().to_owned()
}

/// A decision that is refused: its words, and that the journal stays as it was.
#[track_caller]
fn refused(folder: &Folder, args: &[&str], words: &str) {
    let before = entries(folder);
    let ran = folder.bosun(args).expect(2);
    assert!(ran.err.contains(words), "{words}: {}", ran.err);
    assert_eq!(entries(folder), before, "a refused decision changes nothing");
}

fn entries(folder: &Folder) -> usize {
    folder.runs().iter().map(|(_, entries)| entries.len()).sum()
}

/// The run to its end; gives its result.
#[track_caller]
fn resume(folder: &Folder, code: i32, effects: usize) -> String {
    let ran = folder.bosun(&["resume", "-q"]).expect(code);
    assert_eq!(stamps(folder), effects, "effects");
    folder.verify();
    ran.out.trim().to_owned()
}

#[test]
fn a_yes_counts_once_and_a_second_word_is_refused() {
    let folder = one("");
    let (id, prefix) = (id(&folder), id(&folder)[..4].to_lowercase());
    folder.bosun(&["approve", &prefix]).expect(0);
    refused(&folder, &["approve", &id], "already");
    refused(&folder, &["reject", &id, "--reason", "no"], "already");
    assert_eq!(open(&folder)[0]["decided"], true);
    assert_eq!(resume(&folder, 0, 1), "Done.");
    refused(&folder, &["approve", &id], "approved by");
    refused(&folder, &["reject", &id, "--reason", "no"], "approved by");
    assert_eq!(open(&folder), Vec::<Value>::new());
    // The same key prints the result again, and does nothing again.
    folder.bosun(&["run", "crew.toml", "--key", "k", "-q"]).expect(0);
    assert_eq!(stamps(&folder), 1);
}

#[test]
fn a_no_is_what_the_model_reads() {
    let folder = one("");
    let id = id(&folder);
    refused(&folder, &["reject", &id, "--reason", " "], "empty");
    folder.bosun(&["reject", &id, "--reason", "too red"]).expect(0);
    refused(&folder, &["approve", &id], "already");
    assert_eq!(resume(&folder, 0, 0), "Told: too red.");
}

#[test]
fn what_does_not_name_it_changes_nothing() {
    let folder = one("");
    let id = id(&folder);
    refused(&folder, &["approve", "00000000"], "there is no approval");
    refused(&folder, &["approve", &id[..2]], "is no id");
    refused(&folder, &["approve", "a;b"], "is no id");
    refused(&folder, &["answer", &id, "yes"], "it can be approved");
    let other = folder.bosun(&["run", "crew.toml", "--key", "other", "--no-ask"]).expect(12);
    assert!(other.err.contains("bosun approve "), "{}", other.err);
    let runs = folder.runs();
    let (latest, first) = (runs[0].0.run.to_string(), runs[1].0.run.to_string());
    refused(&folder, &["approve", &id, "--run", &latest], "is of run");
    refused(&folder, &["approve", &id, "--run", "ZZZZ"], "is not a run");
    folder.bosun(&["approve", &id, "--run", &first]).expect(0);
    folder.bosun(&["resume", &first, "-q"]).expect(0);
    assert_eq!(stamps(&folder), 1, "only the run that was approved");
    folder.bosun(&["resume", &latest, "-q"]).expect(12);
    assert_eq!(stamps(&folder), 1);
}

#[test]
fn what_a_person_writes_instead_must_fit() {
    let folder = one("");
    let id = id(&folder);
    refused(&folder, &["approve", &id, "--edit", "{"], "not JSON");
    refused(&folder, &["approve", &id, "--edit", "{\"text\":1}"], "do not fit");
    refused(&folder, &["approve", &id, "--edit", "{\"text\":\"x\",\"more\":1}"], "do not fit");
    refused(&folder, &["approve", &id, "--edit-file", "none.json"], "none.json");
    folder.file("edit.json", "{\"text\": \"mine\"}\n");
    folder.bosun(&["approve", &id, "--edit-file", "edit.json"]).expect(0);
    resume(&folder, 0, 1);
    assert_eq!(folder.read("stamped.txt"), "mine\n", "what was agreed to, and nothing else");
}

#[test]
fn time_is_up_and_a_word_in_time_counts_later() {
    let folder = one("expires = \"1s\"\n");
    let late = id(&folder);
    std::thread::sleep(Duration::from_millis(1100));
    refused(&folder, &["approve", &late], "its time is over");
    assert_eq!(resume(&folder, 0, 0), "Told: too late.");
    refused(&folder, &["approve", &late], "expired by time");

    let folder = one("expires = \"5s\"\n");
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    std::thread::sleep(Duration::from_millis(5100));
    assert_eq!(resume(&folder, 0, 1), "Done.");
}

/// Time ends while the run is at work on something else.
#[test]
fn time_is_up_in_a_live_run() {
    let slow = "[agents.other]\nmodel = \"m\"\n[tasks.slow]\nagent = \"other\"\ndescription = \"<slow>\"\n\
                [crew]\noutput = \"t\"\n";
    let folder = folder(&format!("{ONE}{STAMP}approval = \"always\"\nexpires = \"1s\"\n{slow}"));
    let ran = folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!((ran.out.trim(), stamps(&folder)), ("Told: too late.", 0));
    folder.verify();
}

#[test]
fn a_live_run_takes_the_word_of_another_process() {
    let slow = "[agents.other]\nmodel = \"m\"\n[tasks.slow]\nagent = \"other\"\ndescription = \"<slow>\"\n\
                [crew]\noutput = \"t\"\n";
    let folder = folder(&format!("{ONE}{STAMP}approval = \"always\"\n{slow}"));
    let child = folder.start(&["run", "crew.toml", "-q"]);
    until("it asks", || folder.state().join("journal.db").exists() && !open(&folder).is_empty());
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    let ran = wait(child).expect(0);
    assert_eq!((ran.out.trim(), stamps(&folder)), ("Done.", 1));
    folder.verify();
}

#[test]
fn of_two_processes_at_once_one_is_heard() {
    let folder = one("");
    let id = id(&folder);
    let both = [folder.start(&["approve", &id]), folder.start(&["reject", &id, "--reason", "too red"])];
    let codes: Vec<Option<i32>> = both.into_iter().map(|child| wait(child).code).collect();
    assert!(codes == [Some(0), Some(2)] || codes == [Some(2), Some(0)], "{codes:?}");
    resume(&folder, 0, usize::from(codes[0] == Some(0)));
}

#[test]
fn after_a_cancel_nothing_is_decided() {
    let folder = one("");
    let id = id(&folder);
    folder.bosun(&["cancel"]).expect(0);
    refused(&folder, &["approve", &id], "void");
    refused(&folder, &["reject", &id, "--reason", "no"], "void");
    assert_eq!((stamps(&folder), open(&folder).len()), (0, 0));
    // Decided first and cancelled then: a cancel is stronger.
    let folder = one("");
    folder.bosun(&["approve", &self::id(&folder)]).expect(0);
    folder.bosun(&["cancel"]).expect(0);
    folder.bosun(&["resume"]).expect(2);
    assert_eq!(stamps(&folder), 0);
    folder.verify();
}

/// Whoever writes to the inbox past the command line gains nothing.
#[test]
fn rows_by_hand_change_nothing() {
    let folder = one("");
    let id = id(&folder);
    let put = |kind: &str, payload: &str| {
        let (run, _) = folder.runs().remove(0);
        folder.store().inbox_put(&run.run, kind, payload, "mallory", 5).unwrap();
    };
    let kind = format!("decide:{id}");
    put(&kind, "{");
    put("decide:00000000", "{\"id\":\"00000000\",\"verdict\":{\"approve\":{}}}");
    put(&kind, &format!("{{\"id\":\"{id}\",\"verdict\":{{\"answer\":{{\"text\":\"yes\"}}}}}}"));
    resume(&folder, 12, 0);
    // An edit that does not fit is refused by the run itself.
    put(&kind, &format!("{{\"id\":\"{id}\",\"verdict\":{{\"approve\":{{\"arguments\":\"{{\\\"text\\\":1}}\"}}}}}}"));
    // A second row about it comes too late, and so does the first one again.
    let yes = format!("{{\"id\":\"{id}\",\"verdict\":{{\"approve\":{{}}}}}}");
    put(&kind, &yes);
    assert_eq!(resume(&folder, 0, 0), "Told: misfit.");
    let folder = one("");
    let id = self::id(&folder);
    folder.bosun(&["approve", &id]).expect(0);
    let (run, _) = folder.runs().remove(0);
    let yes = format!("{{\"id\":\"{id}\",\"verdict\":{{\"approve\":{{}}}}}}");
    for _ in 0..3 {
        folder.store().inbox_put(&run.run, &format!("decide:{id}"), &yes, "mallory", 5).unwrap();
    }
    resume(&folder, 0, 1);
}

#[test]
fn each_call_of_a_turn_has_its_own_answer() {
    let folder = folder(&format!("{}{STAMP}approval = \"always\"\n", ONE.replace("<one>", "<two>")));
    park(&folder);
    let open = open(&folder);
    let ids: Vec<&str> = open.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((open[0]["arguments"]["text"].as_str(), open[1]["arguments"]["text"].as_str()), (Some("a"), Some("b")));
    folder.bosun(&["approve", ids[0]]).expect(0);
    // One yes is no yes to the other.
    assert_eq!(resume(&folder, 12, 1), "");
    folder.bosun(&["reject", ids[1], "--reason", "too red"]).expect(0);
    assert_eq!(resume(&folder, 0, 1), "Told: too red.");
    assert_eq!(folder.read("stamped.txt"), "a\n");
}

#[test]
fn a_condition_over_the_arguments_asks_only_where_it_holds() {
    let gate = |when: &str| folder(&format!("{ONE}{STAMP}approve_when = \"{when}\"\n"));
    let folder = gate("args.text == 'b'");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(stamps(&folder), 1);
    let folder = gate("args.text == 'a' and agent == 'clerk' and step == 't' and tool == 'stamp'");
    park(&folder);
    assert!(open(&folder)[0]["why"][0]["condition"].as_str().unwrap().starts_with("args.text"));
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    resume(&folder, 0, 1);
}

#[test]
fn a_tool_task_asks_too() {
    let task = format!("[tasks.t]\ntool = \"stamp\"\nargs = {{ text = \"a\" }}\n{STAMP}approval = \"always\"\n");
    let yes = folder(&task);
    park(&yes);
    yes.bosun(&["approve", &id(&yes), "--edit", "{\"text\":\"b\"}"]).expect(0);
    resume(&yes, 0, 1);
    assert_eq!(yes.read("stamped.txt"), "b\n");
    let no = folder(&task);
    park(&no);
    no.bosun(&["reject", &id(&no), "--reason", "too red"]).expect(0);
    resume(&no, 13, 0);
    assert_eq!(no.verify()[0].end, Some(RunEnd::Failed));
}

#[test]
fn a_task_waits_before_it_begins_and_with_its_result() {
    let task = |approval: &str| {
        let folder = folder(&format!(
            "[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Do\"\napproval = \"{approval}\"\n"
        ));
        park(&folder);
        folder
    };
    let begun = |folder: &Folder| folder.events().iter().any(|event| matches!(event, Event::Call(_)));
    let folder = task("before");
    assert!(!begun(&folder), "nothing is asked of a model");
    refused(&folder, &["approve", &id(&folder), "--edit", "x"], "as it is");
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    assert_eq!(resume(&folder, 0, 0), "Done.");
    let folder = task("before");
    folder.bosun(&["reject", &id(&folder), "--reason", "not today"]).expect(0);
    resume(&folder, 13, 0);
    assert!(!begun(&folder));
    let folder = task("after");
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    assert_eq!(resume(&folder, 0, 0), "Done.");
    let folder = task("after");
    folder.bosun(&["approve", &id(&folder), "--edit", "Better."]).expect(0);
    assert_eq!(resume(&folder, 0, 0), "Better.");
    // A no is one attempt, and the next one reads why.
    let folder = task("after");
    let first = id(&folder);
    folder.bosun(&["reject", &first, "--reason", "say why"]).expect(0);
    resume(&folder, 12, 0);
    refused(&folder, &["approve", &first], "rejected by");
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    assert_eq!(resume(&folder, 0, 0), "Because.");
}

#[test]
fn a_question_is_answered_in_words() {
    let ask = || {
        let folder = folder(
            "[agents.a]\nmodel = \"m\"\ntools = [\"ask.human\"]\n[tasks.t]\nagent = \"a\"\ndescription = \"Do <ask>\"\n",
        );
        park(&folder);
        folder
    };
    let folder = ask();
    let id = id(&folder);
    let shown = folder.bosun(&["approvals", "show", &id]).expect(0);
    assert!(shown.out.contains("Which one?\n- red\n- blue\n"), "{}", shown.out);
    refused(&folder, &["approve", &id], "answered or rejected");
    refused(&folder, &["answer", &id, ""], "empty");
    folder.bosun(&["answer", &id, "Take the blue one."]).expect(0);
    refused(&folder, &["answer", &id, "the red one"], "already");
    assert_eq!(resume(&folder, 0, 0), "Blue it is.");
    let folder = ask();
    folder.bosun(&["reject", &self::id(&folder), "--reason", "too red"]).expect(0);
    assert_eq!(resume(&folder, 0, 0), "Told: too red.");
}

#[test]
fn it_appears_at_the_top_from_any_depth() {
    let sub = format!("{HEAD}{ONE}{STAMP}approval = \"always\"\n");
    let folder = folder("[crews.low]\nfile = \"low.toml\"\n[tasks.t]\ncrew = \"low\"\n");
    folder.file("low.toml", &sub);
    let parked = park(&folder);
    assert!(parked.err.contains("t/t waits for a yes to stamp"), "{}", parked.err);
    assert!(folder.bosun(&["runs"]).expect(0).out.contains("waiting: person"));
    assert_eq!(open(&folder)[0]["step"], "t/t");
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    assert_eq!(resume(&folder, 0, 1), "Done.");
    // Below a delegation.
    let lead = "[agents.lead]\nmodel = \"m\"\ndelegates = [\"clerk\"]\n[tasks.l]\nagent = \"lead\"\n\
                description = \"Lead <lead>\"\n[agents.clerk]\nmodel = \"m\"\ntools = [\"stamp\"]\n";
    let folder = self::folder(&format!("{lead}{STAMP}approval = \"always\"\n"));
    park(&folder);
    assert_eq!(open(&folder)[0]["step"], "l/clerk[1]");
    folder.bosun(&["approve", &id(&folder)]).expect(0);
    assert_eq!(resume(&folder, 0, 1), "Done.");
}

#[test]
fn what_a_file_would_become_is_shown_and_lists_say_what_waits() {
    let folder = folder(
        "[agents.a]\nmodel = \"m\"\ntools = [\"files.write\"]\n[tasks.t]\nagent = \"a\"\ndescription = \"<write>\"\n\
         [tools.note]\nuse = \"files.write\"\n[notify]\non = [\"approval\"]\ncommand = [\"sh\", \"-c\", \"cat >> told.json\"]\n",
    );
    let crew = folder
        .read("crew.toml")
        .replace("[\"files.write\"]", "[\"note\"]")
        .replace("use =", "approval = \"always\"\nuse =");
    folder.file("crew.toml", &crew);
    folder.file("script.toml", &SCRIPT.replace("name = \"files.write\"", "name = \"note\""));
    folder.file("out/a.md", "one\ntwo\n");
    let plan = folder.bosun(&["plan", "crew.toml"]).expect(0);
    assert!(plan.out.contains("note in t (each call)"), "{}", plan.out);
    let ran = park(&folder);
    let id = id(&folder);
    assert!(ran.err.contains(&format!("bosun approve {id}")), "{}", ran.err);
    let shown = folder.bosun(&["approvals", "show", &id]).expect(0).out;
    assert!(shown.contains("--- out/a.md\n+++ out/a.md\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"), "{shown}");
    assert!(shown.contains("the tool always needs a yes"), "{shown}");
    let told = folder.read("told.json");
    assert_eq!((told.matches("\"notice\":").count(), told.contains(&id)), (1, true), "{told}");
    assert!(folder.bosun(&["approvals"]).expect(0).out.contains(&id));
    assert!(folder.bosun(&["show"]).expect(0).out.contains("waiting(person)"));
    let step = folder.bosun(&["show", "latest", "t"]).expect(0).out;
    assert!(step.contains(&format!("needs a person: t wants note: bosun approvals show {id}")), "{step}");
    assert!(folder.bosun(&["show", "--events"]).expect(0).out.contains("interrupt.raised"));
    assert_eq!(folder.read("out/a.md"), "one\ntwo\n");
    folder.bosun(&["approve", &id]).expect(0);
    resume(&folder, 0, 0);
    assert_eq!(folder.read("out/a.md"), "one\n2\n");
    assert!(folder.bosun(&["audit", "list"]).expect(0).out.contains(&format!("approved {id}")));
}
