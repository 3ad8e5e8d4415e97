//! What is said when something is not as it should be: a reply that is no answer, a key that is refused, a
//! stand-in's result under `-q`, a limit that limits nothing.

use boatswain::core::event::{Event, TaskEvent};

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

fn crew(provider: &Provider, more: &str) -> Folder {
    Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{}[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n",
        provider.tables(more)
    ))
}

#[test]
fn a_reply_that_is_no_answer_is_named_and_begun() {
    let provider = Provider::start();
    let bodies = ["<!DOCTYPE html>\n<html>Sign in to the proxy</html>", "{\"choices\": [{\"message\"", ""];
    bodies.iter().for_each(|body| provider.push(Behaviour::Body((*body).to_owned())));
    let folder = crew(&provider, "");
    let ran = folder.bosun(&["run", "crew.toml"]).expect(16);
    let attempts: Vec<String> = folder.events().iter().filter_map(failed).collect();
    assert!(attempts[0].contains("HTML") && attempts[0].contains("<html>Sign in"), "{attempts:?}");
    assert!(attempts[1].contains("JSON without its end") && attempts[1].contains("{\"choices\""), "{attempts:?}");
    assert!(attempts[2].contains("was empty"), "{attempts:?}");
    assert!(ran.err.contains("HTML") && ran.err.contains("was empty"), "{}", ran.err);
    folder.verify();
}

fn failed(event: &Event) -> Option<String> {
    match event {
        Event::Task(TaskEvent::AttemptFailed { message, .. } | TaskEvent::NeedsReview { message, .. }) => {
            Some(message.clone())
        }
        _ => None,
    }
}

#[test]
fn a_refused_key_names_its_variable_or_file_and_never_itself() {
    for (line, words) in [
        ("api_key_env = \"P_KEY\"", "the key of `p` is read from the variable P_KEY"),
        ("api_key_file = \"p.key\"", "the key of `p` is read from the file p.key"),
        ("", "name a variable in `api_key_env` of [providers.p]"),
    ] {
        for status in [401, 403] {
            let provider = Provider::start();
            provider.push(Behaviour::Status(status, vec![], "{\"error\": {\"message\": \"no\"}}".into()));
            let mut folder = crew(&provider, line);
            folder.env("P_KEY", "sk-of-the-test");
            folder.file("p.key", "sk-of-the-test");
            let ran = folder.bosun(&["run", "crew.toml"]).expect(4);
            assert!(ran.err.contains(words) && !ran.err.contains("sk-of-the-test"), "{}", ran.err);
            let shown = folder.bosun(&["show"]).expect(0).out;
            assert!(shown.contains(words), "{shown}");
        }
    }
}

#[test]
fn a_stand_in_is_named_however_quiet() {
    let folder = Folder::new(
        "schema = 1\n[agents.a]\nmodel = \"offline/stand-in\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say it\"\n",
    );
    for args in [&["run", "crew.toml", "-q", "--key", "k"][..], &["run", "crew.toml", "--key", "k"]] {
        // The second prints the first one's result again.
        let ran = folder.bosun(args).expect(0);
        assert!(!ran.out.contains("[offline]") && !ran.out.is_empty(), "{}", ran.out);
        assert!(ran.err.contains("[offline]"), "{args:?}: {}", ran.err);
    }
    let again = folder.bosun(&["run", "crew.toml", "-q", "--key", "k"]).expect(0);
    assert_eq!(again.err.trim(), "[offline] A stand-in made this text, not a language model.");
}

#[test]
fn a_limit_that_would_limit_nothing_is_exit_2_before_anything_is_sent() {
    let provider = Provider::start();
    let mut folder = crew(&provider, "");
    folder.env("BOSUN_MAX_USDD", "0.01");
    let ran = folder.bosun(&["run", "crew.toml"]).expect(2);
    assert!(ran.err.contains("BOSUN_MAX_USDD") && ran.err.contains("did you mean BOSUN_MAX_USD?"), "{}", ran.err);
    assert_eq!(provider.requests(), 0);
}
