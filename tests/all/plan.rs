//! `plan` and what `run` refuses. Invariant: nothing is sent, spent or written before a course fits; what
//! a plan says is true of the run.

use super::support::{Folder, Provider};
use boatswain::core::event::{CallEvent, Event};

/// Research, then a draft that is reviewed, then a file's rows.
fn crew(provider: &Provider, budget: &str) -> Folder {
    let tables = provider.tables("");
    let folder = Folder::new(&format!(
        "schema = 1\n[crew]\noutput = \"rows\"\n[inputs]\ntopic = {{ description = \"What about\" }}\n\
         [budget]\n{budget}\n{tables}\
         [agents.a]\nmodel = \"m\"\ncontext_tokens = 4000\n[agents.b]\nmodel = \"m\"\ncontext_tokens = 4000\n\
         [tasks.research]\nagent = \"a\"\ndescription = \"Find {{{{ topic }}}}\"\n\
         [tasks.draft]\nagent = \"a\"\ndescription = \"Write\"\ncontext = [\"research\"]\n\
         review = {{ by = \"b\", max_rounds = 3 }}\n\
         [tasks.rows]\nagent = \"b\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Row {{{{ item.id }}}}\"\n\
         after = [\"draft\"]\n"
    ));
    folder.file("rows.csv", "id\nx\ny\nz\n");
    folder
}

fn json(folder: &Folder, args: &[&str]) -> serde_json::Value {
    let ran = folder.bosun(&[&["plan", "crew.toml", "--json"], args].concat()).expect(0);
    serde_json::from_str(&ran.out).expect("one JSON object on stdout")
}

#[test]
fn a_plan_names_every_task_its_bounds_and_its_figures_and_leaves_nothing_behind() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 5");
    let ran = folder.bosun(&["plan", "crew.toml"]).expect(0);
    for word in [
        "research: a p/m",
        "└ draft: a p/m · at most 3 rounds with draft_review",
        "max_rounds 3",
        "rows: b p/m · for each of 3 rows",
        "inputs not given, which run needs: topic (What about); 2,000 bytes",
        "the cap in USD is from: crew.toml",
        "nothing was sent, nothing was spent",
    ] {
        assert!(ran.out.contains(word), "`{word}` is missing in:\n{}", ran.out);
    }
    assert!(!ran.out.contains('\x1b'));
    let graph = folder.bosun(&["plan", "crew.toml", "--graph"]).expect(0).out;
    assert!(graph.contains("└ draft") && !graph.contains("WORST CASE"), "{graph}");
    assert_eq!(provider.requests(), 0);
    assert!(!folder.state().exists(), "a plan makes no state folder");
}

#[test]
fn it_fits_narrow_terminals() {
    let provider = Provider::start();
    for columns in [40, 80] {
        let mut folder = crew(&provider, "max_usd = 5");
        folder.env("COLUMNS", &columns.to_string());
        let ran = folder.bosun(&["plan", "crew.toml"]).expect(0);
        let long = ran.out.lines().find(|line| line.chars().count() > columns);
        assert_eq!(long, None, "at {columns} columns");
        assert!(ran.out.contains("WORST CASE") && ran.out.contains("draft_review"), "{}", ran.out);
    }
}

#[test]
fn a_run_uses_no_more_than_the_worst_case_and_as_many_calls_as_the_smallest_course_at_least() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 5");
    let planned = json(&folder, &["--input", "topic=tea"]);
    assert_eq!(planned["inputs_missing"], serde_json::json!([]));
    assert_eq!(planned["tasks"][3]["items"]["rows"], 3);
    // Six calls of a token each, and room for one whole answer of 100.
    assert_eq!((&planned["smallest"]["calls"], &planned["smallest"]["output_tokens"]), (&6.into(), &105.into()));
    folder.bosun(&["run", "crew.toml", "--input", "topic=tea", "-q", "--model", "offline/x"]).expect(0);
    folder.verify();
    let held = folder.events().iter().filter(|e| matches!(e, Event::Call(CallEvent::Held(_)))).count() as u64;
    let (least, most) = (&planned["smallest"]["calls"], &planned["worst"]["calls"]);
    assert!(least.as_u64().unwrap() <= held && held <= most.as_u64().unwrap(), "{least} {held} {most}");
}

#[test]
fn require_fit_is_of_the_worst_case_in_plan_and_of_the_expected_one_in_run() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 5\nmax_tokens = 2_000_000");
    // With tools more than one call of a task is expected.
    folder
        .file("crew.toml", &folder.read("crew.toml").replace("[agents.a]\n", "[agents.a]\ntools = [\"files.read\"]\n"));
    let planned = json(&folder, &["--input", "topic=tea"]);
    let usd = |course: &str| planned[course]["usd"].as_str().unwrap().parse::<f64>().unwrap();
    let (smallest, expected, worst) = (usd("smallest"), usd("expected"), usd("worst"));
    assert!(smallest < expected && expected < worst, "{smallest} {expected} {worst}");
    let topic = ["--input", "topic=tea"];
    let with = |command: &[&str], cap: f64| {
        let cap = format!("{cap:.9}");
        folder.bosun(&[command, &topic, &["--max-usd", &cap]].concat())
    };
    let plan = ["plan", "crew.toml", "--require-fit"];
    with(&plan, worst).expect(0);
    let refused = with(&plan, worst - 1e-9).expect(3);
    assert!(
        refused.err.contains("the worst case does not fit") && refused.err.contains("--max-usd"),
        "{}",
        refused.err
    );
    assert!(refused.out.contains("Such a run would pause"), "the plan is printed all the same: {}", refused.out);
    let least = with(&["plan", "crew.toml"], smallest - 1e-9).expect(0);
    assert!(least.out.contains("run refuses it (exit 3)"), "{}", least.out);
    let refused = with(&["run", "crew.toml", "--require-fit"], expected - 1e-9).expect(3);
    assert!(refused.err.contains("the expected course"), "{}", refused.err);
    let refused = with(&["run", "crew.toml"], smallest - 1e-9).expect(3);
    for word in ["smallest possible course", "allowed", "max_usd = ", "nothing was sent, no run was made"] {
        assert!(refused.err.contains(word), "`{word}` is missing in: {}", refused.err);
    }
    assert!(folder.runs().is_empty(), "what is refused leaves no run");
    assert_eq!(provider.requests(), 0);
}

#[test]
fn tokens_and_calls_refuse_as_dollars_do_and_a_resume_is_never_refused() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 5");
    let refused = folder.bosun(&["run", "crew.toml", "--input", "topic=tea", "--max-tokens", "600"]).expect(3);
    assert!(refused.err.contains("600 tokens allowed") && refused.err.contains("max_tokens = "), "{}", refused.err);
    let calls = crew(&provider, "max_usd = 5\nmax_calls = 5");
    let refused = calls.bosun(&["run", "crew.toml", "--input", "topic=tea"]).expect(3);
    assert!(refused.err.contains("6 calls needed, 5 calls allowed"), "{}", refused.err);
    assert_eq!(provider.requests(), 0);
    // Six calls start; the review takes more, so that it pauses, and the key goes on without a second look.
    let enough = crew(&provider, "max_usd = 5\nmax_calls = 6");
    let run = ["run", "crew.toml", "--input", "topic=tea", "--key", "k"];
    let first = enough.bosun(&run);
    assert!(first.code != Some(3) && !enough.runs().is_empty(), "{}", first.err);
    let (sent, again) = (provider.requests(), enough.bosun(&[&run[..], &["--require-fit"]].concat()));
    assert!(sent > 0 && again.code != Some(3), "{}", again.err);
}

#[test]
fn what_has_no_price_is_said_in_words() {
    let folder = Folder::new(
        "schema = 1\n[budget]\nunpriced = \"allow\"\n[providers.q]\nkind = \"openai-compatible\"\n\
         base_url = \"http://127.0.0.1:9/v1\"\n[agents.a]\nmodel = \"q/m\"\n[agents.l]\nmodel = \"ollama/m\"\n\
         [agents.o]\nmodel = \"offline/m\"\n[tasks.x]\nagent = \"a\"\ndescription = \"Do\"\n\
         [tasks.y]\nagent = \"l\"\ndescription = \"Do\"\ncontext = [\"x\"]\n\
         [tasks.z]\nagent = \"o\"\ndescription = \"Do\"\ncontext = [\"y\"]\n",
    );
    let ran = folder.bosun(&["plan", "crew.toml"]).expect(0);
    let cell = |task: &str| {
        let line = ran.out.lines().skip_while(|line| !line.starts_with("TASK")).find(|line| line.starts_with(task));
        line.unwrap().split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!([cell("x"), cell("y"), cell("z"), cell("total")], ["?", "local", "offline", "?"]);
    assert!(!ran.out.contains("$0.0"), "{}", ran.out);
    let planned = json(&folder, &[]);
    assert_eq!((&planned["money"], &planned["worst"]["usd"]), (&"unknown".into(), &serde_json::Value::Null));
}

#[test]
fn a_wrong_input_or_crew_is_told_as_in_run() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 5");
    let ran = folder.bosun(&["plan", "crew.toml", "--input", "topik=tea"]).expect(2);
    assert!(ran.err.contains("did you mean `topic`?") && ran.out.is_empty(), "{}", ran.err);
    folder.file("crew.toml", "schema = 1\n[tasks.x]\nagent = \"nobody\"\ndescription = \"Do\"\n");
    folder.bosun(&["plan", "crew.toml"]).expect(3);
}

/// Every call of the plan at one provider, in minutes that allow two each: no run is over sooner, whatever the answers
/// take.
#[test]
fn a_plan_says_how_long_the_limits_of_a_provider_take() {
    let provider = Provider::start();
    let folder = crew(&provider, "max_usd = 5");
    let plain = folder.bosun(&["plan", "crew.toml"]).expect(0);
    assert!(!plain.out.contains("time by the limits"), "{}", plain.out);
    assert_eq!(json(&folder, &[])["rates"], serde_json::json!([]));
    let text = folder.read("crew.toml").replace("[providers.p]\n", "[providers.p]\nrpm = 2\nmax_concurrency = 2\n");
    folder.file("crew.toml", &text);
    let plan = json(&folder, &[]);
    let rates = &plan["rates"][0];
    assert_eq!((&rates["of"], &rates["limits"]["rpm"], &rates["max_concurrency"]), (&"p".into(), &2.into(), &2.into()));
    for course in ["expected", "worst"] {
        let calls = plan[course]["calls"].as_u64().unwrap();
        let floor = &rates[course];
        assert_eq!(floor["at_least_ms"], (calls.div_ceil(2) - 1) * 60_000, "{plan}");
        assert_eq!((&floor["by"]["limit"], &floor["by"]["of"]), (&"requests".into(), &2.into()));
        assert_eq!(floor["rounds"], calls.div_ceil(2));
    }
    let ran = folder.bosun(&["plan", "crew.toml"]).expect(0);
    let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    let minutes = plan["expected"]["calls"].as_u64().unwrap().div_ceil(2) - 1;
    let expected =
        format!("time by the limits of p: expected at least {minutes} min at 2 requests a minute, worst case");
    assert!(words.contains(&expected), "{}", ran.out);
}
