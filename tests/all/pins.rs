//! What a run was started with. Invariant: it is read from the run's own journal; today's settings and
//! today's program are asked only for what sends.

use std::time::Duration;

use boatswain::adapters::store::MemoryStore;
use boatswain::cli::crew as crews;
use boatswain::core::chat::{Blob, ToolSpec};
use boatswain::core::event::{Event, RunEvent, Started};
use boatswain::ports::author::Author;
use boatswain::ports::store::{Epoch, NewRun, Store};

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

/// A crew whose provider stands in `bosun.toml`, and nowhere once that is emptied.
fn of_the_settings(provider: &Provider) -> Folder {
    let folder = Folder::new(
        "schema = 1\n[models.m]\nid = \"acme/large\"\nprice = { input = 1, output = 1 }\nmax_output = 100\n\
         [agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n",
    );
    let url = provider.server.base_url();
    folder.file("bosun.toml", &format!("[providers.acme]\nkind = \"openai-compatible\"\nbase_url = \"{url}\"\n"));
    folder
}

#[test]
fn a_finished_run_needs_no_provider() {
    let provider = Provider::start();
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer("Fine.".into())));
    let folder = of_the_settings(&provider);
    folder.bosun(&["run", "crew.toml"]).expect(0);
    folder.file("bosun.toml", "");
    for args in [
        &["show"][..],
        &["show", "latest", "t"],
        &["show", "latest", "t", "--why"],
        &["show", "latest", "t.1", "--prompt"],
        &["cost"],
        &["audit", "verify"],
        &["audit", "list"],
        &["ledger", "show"],
        &["replay"],
        &["runs"],
    ] {
        let ran = folder.bosun(args).expect(0);
        assert!(!ran.out.trim().is_empty() && !ran.err.contains("acme"), "{args:?}: {}", ran.err);
    }
    let ran = folder.bosun(&["resume"]).expect(2);
    assert!(ran.err.contains("nothing to go on with"), "{}", ran.err);
    folder.verify();
}

#[test]
fn a_run_with_work_left_names_the_provider_that_is_gone_and_can_be_cancelled() {
    let provider = Provider::start();
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Status(401, vec![], "{}".into())));
    let folder = of_the_settings(&provider);
    folder.bosun(&["run", "crew.toml"]).expect(4);
    folder.file("bosun.toml", "");
    let sent = provider.requests();
    let ran = folder.bosun(&["resume"]).expect(3);
    assert!(ran.err.contains("acme/large") && ran.err.contains("[providers.acme]"), "{}", ran.err);
    assert_eq!(provider.requests(), sent);
    folder.bosun(&["replay"]).expect(0);
    folder.bosun(&["cancel"]).expect(0);
    folder.bosun(&["replay"]).expect(0);
    folder.verify();
}

#[test]
fn a_local_provider_that_is_gone_is_replayed_without_a_price() {
    let provider = Provider::start();
    let folder = of_the_settings(&provider);
    folder.file("replies.toml", "[default]\ntext = \"Fine.\"\n");
    folder.file("crew.toml", &folder.read("crew.toml").replace("price = { input = 1, output = 1 }\n", ""));
    folder.file("bosun.toml", "[providers.acme]\nkind = \"scripted\"\nscript = \"replies.toml\"\n");
    folder.bosun(&["run", "crew.toml"]).expect(0);
    folder.file("bosun.toml", "");
    folder.bosun(&["replay"]).expect(0);
    folder.verify();
}

/// A finished run of an agent with a tool.
fn with_a_tool() -> Folder {
    let folder = Folder::new(
        "schema = 1\n[agents.a]\nmodel = \"offline/stand-in\"\ntools = [\"files.read\"]\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Read notes.txt\"\n",
    );
    folder.file("notes.txt", "Some notes.\n");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    folder
}

fn started(folder: &Folder) -> Started {
    match folder.events().swap_remove(0) {
        Event::Run(RunEvent::Started(started)) => *started,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tools_are_those_that_the_run_was_started_with() {
    let folder = with_a_tool();
    let (store, mut started) = (folder.store(), started(&folder));
    let text = store.blob(&started.tools.expect("the tools are pinned")).unwrap().unwrap();
    let mut specs: Vec<ToolSpec> = serde_json::from_str(&text).unwrap();
    let read = specs.iter_mut().find(|spec| spec.name == "files.read").unwrap();
    // As another bosun had it.
    (read.description, read.timeout_ms, read.max_result) = ("Reads, in other words".into(), 77, 88);
    let other = Blob::new(serde_json::to_string(&specs).unwrap());
    started.tools = Some(other.id);
    let elsewhere = MemoryStore::new();
    let texts: Vec<Blob> =
        started.pins.values().map(|id| Blob::new(store.blob(id).unwrap().unwrap())).chain([other]).collect();
    let mut author = Author::of_new(&started.run);
    author.keep(texts);
    author.write(Event::Run(RunEvent::Started(Box::new(started.clone()))), 1);
    let row = folder.runs().remove(0).0;
    let new = NewRun {
        run: row.run,
        crew: row.crew,
        key: None,
        inputs: row.inputs,
        offline: true,
        cap: row.cap,
        started_ms: 1,
    };
    elsewhere.create(new, author.take(Epoch(0))).unwrap();
    let (crew, _) = crews::pinned(&folder.project(), &elsewhere, &started).unwrap();
    let spec = &crew.tools["files.read"].spec;
    assert_eq!((&*spec.description, spec.timeout_ms, spec.max_result), ("Reads, in other words", 77, 88));
    // A run of before the tools were pinned takes today's.
    started.tools = None;
    let (crew, _) = crews::pinned(&folder.project(), &elsewhere, &started).unwrap();
    assert_ne!(crew.tools["files.read"].spec.timeout_ms, 77);
}

#[test]
fn a_run_of_rules_that_nobody_here_knows_is_refused_by_name() {
    let folder = with_a_tool();
    assert_eq!(started(&folder).rules, boatswain::core::rules::RULES);
    let journal = rusqlite::Connection::open(folder.state().join("journal.db")).unwrap();
    let known = boatswain::core::rules::RULES;
    let (now, next) = (format!(",\"rules\":{known}"), format!(",\"rules\":{}", known + 1));
    let change = "UPDATE events SET payload = replace(payload, ?1, ?2) WHERE id & 4294967295 = 1";
    let changed = journal.execute(change, [&now, &next]).unwrap();
    assert_eq!(changed, 1);
    let ran = folder.bosun(&["replay"]).expect(6);
    let said = (format!("rules {}", known + 1), format!("knows rules 1 to {known}"));
    assert!(ran.err.contains(&said.0) && ran.err.contains(&said.1), "{}", ran.err);
    assert!(ran.err.contains("newer bosun"), "{}", ran.err);
    folder.bosun(&["show"]).expect(0);
    // Before the number there was one table.
    journal.execute(change, [&next, ""]).unwrap();
    folder.bosun(&["replay"]).expect(0);
}

#[test]
fn a_run_of_before_there_were_summaries_goes_on_without_them() {
    let folder = with_a_tool();
    let crew = |started: &Started| crews::pinned(&folder.project(), &*folder.store(), started).unwrap().0;
    let mut started = started(&folder);
    assert!(crew(&started).summaries);
    started.pins.remove("prompts/builtin/summary.md").expect("it is pinned");
    assert!(!crew(&started).summaries);
}

#[test]
fn what_a_model_refuses_is_what_it_refused_when_the_run_was_started() {
    let provider = Provider::start();
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer("Fine.".into())));
    let url = provider.server.base_url();
    let mut folder = Folder::new(&format!(
        "schema = 1\n[providers.p]\nkind = \"openai\"\nbase_url = \"{url}\"\nstream = false\napi_key_env = \"P_KEY\"\n\
         [models]\nm = {{ id = \"p/o3\", price = {{ input = 1, output = 1 }} }}\n\
         n = {{ id = \"p/gpt-4.1\", price = {{ input = 1, output = 1 }} }}\n\
         [agents]\na = {{ model = \"m\" }}\nb = {{ model = \"n\" }}\n[tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n\
         [tasks.u]\nagent = \"b\"\ndescription = \"Say it\"\ncontext = [\"t\"]\n"
    ));
    folder.env("P_KEY", "k");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    let mut started = started(&folder);
    assert_eq!(started.refuses.keys().collect::<Vec<_>>(), ["p/o3"]);
    let refuses = |started: &Started| {
        let (crew, _) = crews::pinned(&folder.project(), &*folder.store(), started).unwrap();
        ["a", "b"].map(|name| crew.agents[name].model.refuses_temperature())
    };
    assert_eq!(refuses(&started), [true, false]);
    // A run of before it was pinned skipped nothing.
    started.refuses.clear();
    assert_eq!(refuses(&started), [false, false]);
    folder.bosun(&["replay"]).expect(0);
}
