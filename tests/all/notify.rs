//! `[notify]` with the real binary. Invariant: what a person asked to be told of reaches the command in
//! order, at least once, whatever dies in between, with an id that stays the same.

use serde_json::Value;

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};
use boatswain::core::ids::BlobId;
use boatswain::ports::store::RunState;

/// One task after another; every notice is a line of `told`.
fn crew(provider: &Provider, budget: &str, tasks: &[&str], script: &str) -> Folder {
    let tables = provider.tables("");
    let mut text = format!(
        "schema = 1\n[budget]\n{budget}\n[notify]\ncommand = [\"sh\", \"notify.sh\"]\n{tables}[agents.a]\nmodel = \"m\"\n"
    );
    let mut before = "";
    for task in tasks {
        let context = if before.is_empty() { String::new() } else { format!("context = [\"{before}\"]\n") };
        text.push_str(&format!("[tasks.{task}]\nagent = \"a\"\nattempts = 1\ndescription = \"Do it\"\n{context}"));
        before = task;
    }
    let folder = Folder::new(&text);
    folder.file("notify.sh", script);
    folder
}

const APPEND: &str = "cat >> told\n";

fn told(folder: &Folder) -> Vec<Value> {
    folder.read("told").lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

fn kinds(told: &[Value]) -> Vec<&str> {
    told.iter().map(|one| one["notice"]["kind"].as_str().unwrap()).collect()
}

#[test]
fn alerts_and_the_end_come_in_order_with_the_json_line_and_the_head() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 1\nalert_usd = [0.001]", &["one"], APPEND);
    let ran = folder.bosun(&["run", "crew.toml", "--json"]).expect(0);
    folder.verify();
    let told = told(&folder);
    assert_eq!(kinds(&told), ["alert", "finished"]);
    let printed: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for one in &told {
        let line = printed.iter().find(|line| line["seq"] == one["seq"]).unwrap().as_object().unwrap();
        line.iter().for_each(|(key, value)| assert_eq!(&one[key], value, "{key} is that of --json"));
    }
    let (run, _) = &folder.runs()[0];
    let rows = folder.store().read(&run.run, run.last).unwrap();
    assert_eq!(told[1]["head"], BlobId(rows[0].hash).to_string());
    assert_eq!(told[0]["head"], Value::Null);
    assert_eq!(told[1]["notice"]["id"], format!("{}:{}", run.run, run.last));
    assert_eq!(folder.store().notified(&run.run).unwrap(), run.last);
}

#[test]
fn a_budget_pause_says_how_to_go_on_and_the_resume_repeats_nothing() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 1\nmax_calls = 2\nwarn_at = []", &["one", "two"], APPEND);
    // The first answer is no use, so that the calls do not suffice.
    let crew = folder.read("crew.toml").replace("attempts = 1", "attempts = 3");
    folder.file("crew.toml", &crew);
    provider.push(Behaviour::Answer(String::new()));
    folder.bosun(&["run", "crew.toml"]).expect(11);
    folder.verify();
    let first = told(&folder);
    assert_eq!(kinds(&first), ["paused"]);
    assert!(first[0]["notice"]["go_on"].as_str().unwrap().starts_with("bosun resume "), "{}", first[0]);
    assert!(first[0]["head"].is_string());
    folder.bosun(&["resume"]).expect(11);
    let ids: Vec<Value> = told(&folder).iter().map(|one| one["notice"]["id"].clone()).collect();
    assert_eq!(ids.len(), 2, "one for each pause: {ids:?}");
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_failure_is_told_and_only_what_was_asked_for() {
    let provider = Provider::start();
    let folder =
        crew(&provider, "max_usd = 0.5\nalert_usd = [0.001]\non_exhausted = \"fail\"\nmax_calls = 1", &["one"], APPEND);
    let crew = folder.read("crew.toml").replace("[notify]", "[notify]\non = [\"failed\", \"finished\"]");
    folder.file("crew.toml", &crew.replace("attempts = 1", "attempts = 3"));
    provider.push(Behaviour::Answer(String::new()));
    folder.bosun(&["run", "crew.toml"]).expect(10);
    folder.verify();
    assert_eq!(kinds(&told(&folder)), ["failed"]);
}

#[test]
fn killed_before_a_notice_was_taken_the_resume_delivers_it() {
    let provider = Provider::start();
    // The first alert kills the process that tells of it, and is not taken.
    let script = "if [ ! -e killed ]; then touch killed; kill -9 $PPID; exit 1; fi\ncat >> told\n";
    let folder = crew(&provider, "max_usd = 1\nalert_usd = [0.001]", &["one", "two"], script);
    provider.server.latency(std::time::Duration::from_millis(300));
    assert_eq!(folder.bosun(&["run", "crew.toml"]).code, None);
    assert_eq!(folder.read("told"), "");
    folder.bosun(&["resume"]).expect(0);
    folder.verify();
    assert_eq!(kinds(&told(&folder)), ["alert", "finished"]);
}

#[test]
fn killed_at_the_very_end_the_finished_run_still_tells() {
    let provider = Provider::start();
    let script = "if [ ! -e killed ]; then touch killed; kill -9 $PPID; exit 1; fi\ncat >> told\n";
    let folder = crew(&provider, "max_usd = 1\nwarn_at = []", &["one"], script);
    assert_eq!(folder.bosun(&["run", "crew.toml", "--key", "k"]).code, None);
    assert_eq!((folder.runs()[0].0.state, folder.read("told")), (RunState::Completed, String::new()));
    folder.bosun(&["run", "crew.toml", "--key", "k"]).expect(0);
    assert_eq!(kinds(&told(&folder)), ["finished"]);
    folder.bosun(&["run", "crew.toml", "--key", "k"]).expect(0);
    assert_eq!(told(&folder).len(), 1, "what was taken is not repeated");
    assert_eq!(provider.requests(), 1);
}

#[test]
fn a_command_that_fails_touches_no_run_and_is_said() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 1\nwarn_at = []", &["one"], "exit 3\n");
    let ran = folder.bosun(&["run", "crew.toml"]).expect(0);
    folder.verify();
    assert!(
        ran.err.contains("1 of 1 notifications not delivered") && ran.err.contains("exit status: 3"),
        "{}",
        ran.err
    );
    assert!(ran.last_line().contains("bosun resume"), "{}", ran.err);
    let still = folder.bosun(&["resume", "latest"]).expect(2);
    assert!(still.err.contains("1 of 1 notifications not delivered"), "{}", still.err);
    folder.file("notify.sh", APPEND);
    let sent = folder.bosun(&["resume", "latest"]).expect(0);
    assert!(sent.err.contains("is completed; 1 notification was still due and is delivered now"), "{}", sent.err);
    assert_eq!(kinds(&told(&folder)), ["finished"]);
    let over = folder.bosun(&["resume", "latest"]).expect(2);
    assert!(over.err.contains("there is nothing to go on with"), "{}", over.err);
}
