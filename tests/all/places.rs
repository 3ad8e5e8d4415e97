//! Where results are written. Invariant: a place outside the project, or none, costs no call: what rows
//! and inputs say is refused before the run, what a result says when its item would start.

use std::time::Duration;

use boatswain::core::event::{ErrorClass, Event, TaskEvent};

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

/// A task over `rows.csv` whose file's path is `file`.
fn over_rows(provider: &Provider, file: &str, rows: &str) -> Folder {
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer("Fine.".into())));
    let tables = provider.tables("");
    let folder = Folder::new(&format!(
        "schema = 1\n[inputs.dir]\ndefault = \"out\"\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Say {{{{ item.id }}}}\"\nfor_each = \"rows.csv\"\nkey = \"id\"\n\
         output_file = \"{file}\"\n"
    ));
    folder.file("rows.csv", rows);
    folder
}

#[test]
fn a_row_that_leads_out_of_the_project_is_refused_before_anything_is_sent() {
    for (id, why) in [("../../x", "`..` is not allowed"), ("/etc/x", "empty part"), ("..\\x", "separated by `/`")] {
        let provider = Provider::start();
        let folder = over_rows(&provider, "out/{{ item.id }}.md", &format!("id\ngood\n{id}\n"));
        for args in [&["check", "crew.toml"][..], &["plan", "crew.toml"], &["run", "crew.toml"]] {
            let ran = folder.bosun(args).expect(3);
            let said = format!("{}{}", ran.out, ran.err);
            for words in ["E0605", "crew.toml:", "output_file = \"out/{{ item.id }}.md\"", "^^^", why] {
                assert!(said.contains(words), "{id} {args:?}: no `{words}` in\n{said}");
            }
            assert!(said.contains(&format!("t[{id}]")) && !said.contains("t[good]"), "{said}");
        }
        assert_eq!(provider.requests(), 0);
        assert!(!folder.state().join("journal.db").exists(), "no run was begun");
    }
}

#[test]
fn an_input_that_leads_out_of_the_project_is_refused_before_anything_is_sent() {
    let provider = Provider::start();
    let folder = over_rows(&provider, "{{ dir }}/{{ key }}.md", "id\ngood\n");
    folder.bosun(&["check", "crew.toml"]).expect(0);
    for (dir, why) in [("../up", "`..`"), ("/tmp", "absolute"), ("", "absolute"), ("a/", "empty part")] {
        let ran = folder.bosun(&["run", "crew.toml", "--input", &format!("dir={dir}")]).expect(3);
        let shown = ran.err.contains("E0605") && ran.err.contains("^^^") && ran.err.contains("t[good]");
        assert!(shown && ran.err.contains(why), "{dir}: {}", ran.err);
    }
    assert_eq!(provider.requests(), 0);
    folder.bosun(&["run", "crew.toml", "--input", "dir=deep/er"]).expect(0);
    assert_eq!(folder.read("deep/er/good.md").trim(), "Fine.");
    folder.verify();
}

#[test]
fn an_item_of_a_result_that_leads_out_of_the_project_waits_for_a_person_before_its_call() {
    let provider = Provider::start();
    provider.server.respond(|body, _| {
        let list = r#"{"items": ["good", "../../bad"]}"#;
        let answer = if body.contains("List them") { list } else { "Fine." };
        (Duration::ZERO, Behaviour::Answer(answer.into()))
    });
    let tables = provider.tables("");
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\n\
         [tasks.list]\nagent = \"a\"\ndescription = \"List them\"\noutput_schema = {{ items = \"string[]\" }}\n\
         [tasks.each]\nagent = \"a\"\nfor_each = \"list.items\"\nmax_items = 5\ndescription = \"About {{{{ item }}}}\"\n\
         output_file = \"out/{{{{ item }}}}.md\"\n"
    ));
    let ran = folder.bosun(&["run", "crew.toml", "-q"]).expect(16);
    assert!(ran.err.contains("output_file") && ran.err.contains("`..` is not allowed"), "{}", ran.err);
    // The list and the good item were paid for, the bad one was not.
    assert_eq!(provider.requests(), 2);
    assert_eq!(folder.read("out/good.md").trim(), "Fine.");
    let reviews: Vec<String> = folder.events().iter().filter_map(review).collect();
    assert_eq!(reviews, ["each[2]"]);
    // The item stays what it is: a retry is not offered, and refused before the run is taken up.
    assert!(ran.err.contains("bosun cancel") && !ran.err.contains("--retry"), "{}", ran.err);
    let shown = folder.bosun(&["show", "latest", "each[2]"]).expect(0).out;
    assert!(shown.contains("Mend them and start a new run") && !shown.contains("--retry"), "{shown}");
    let entries = folder.events().len();
    let again = folder.bosun(&["resume", "latest", "--retry", "each[2]"]).expect(2);
    assert!(again.err.contains("`..` is not allowed") && again.err.contains("bosun cancel"), "{}", again.err);
    let taken = folder.bosun(&["resume", "latest", "--accept", "each[2]", "--attempt", "1"]).expect(2);
    assert!(taken.err.contains("bosun cancel") && !taken.err.contains("--retry"), "{}", taken.err);
    assert_eq!(folder.events().len(), entries);
    folder.verify();
}

fn review(event: &Event) -> Option<String> {
    match event {
        Event::Task(TaskEvent::NeedsReview { step, class: ErrorClass::Template, .. }) => Some(step.to_string()),
        _ => None,
    }
}
