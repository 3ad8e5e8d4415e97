//! What a run was started with. Invariant: it is read from the run's own journal; today's settings and
//! today's program are asked only for what sends.

use std::time::Duration;

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
