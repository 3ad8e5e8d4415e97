//! What people get wrong at 2 am: a key in the wrong place, an empty variable, a limit of nothing. Every
//! refusal comes before anything is sent, says what to do, and repeats no secret.

use boatswain::core::event::{CallEvent, Event};

use super::Place;
use crate::stand_in::Behaviour;
use crate::support::{Folder, Provider, kill9, until, wait};

const KEY: &str = "sk-live-ABCDEF1234567890";

const CREW: &str = "schema = 1\n[agents.a]\nmodel = \"offline/stand-in\"\n\
                    [tasks.t]\nagent = \"a\"\ndescription = \"Say something\"\n";

fn place() -> Place {
    let place = Place::empty();
    place.write("crew.toml", CREW);
    place
}

fn with_provider(line: &str) -> String {
    format!(
        "schema = 1\n[providers.p]\nkind = \"openai-compatible\"\nbase_url = \"http://127.0.0.1:1/v1\"\n{line}\n\
         [models.m]\nid = \"p/m\"\nprice = {{ input = 1, output = 1 }}\n[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Say something\"\n"
    )
}

#[test]
fn a_key_in_a_crew_file_is_refused_and_never_repeated() {
    for line in [
        format!("api_key = \"{KEY}\""),
        format!("api_key_env = \"{KEY}\""),
        "api_key_env = \"hunter2-hunter2\"".to_owned(),
        "api_key_env = \"\"".to_owned(),
    ] {
        let place = Place::empty();
        place.write("crew.toml", &with_provider(&line));
        for args in [&["check", "crew.toml"][..], &["check", "crew.toml", "--format", "json"], &["run", "crew.toml"]] {
            let said = place.run(args);
            let text = format!("{}{}", said.out, said.err);
            assert!(said.code == 3 && text.contains("E0110"), "{line} {args:?}: {text}");
            assert!(!text.contains(KEY) && !text.contains("hunter2"), "{args:?}: {text}");
            // No line says where a key of no name goes.
            assert!(!text.contains("goes to"), "{text}");
        }
    }
}

#[test]
fn a_login_in_an_address_is_found_by_check_and_never_repeated() {
    let place = Place::empty();
    let crew = with_provider("api_key_env = \"P_KEY\"").replace("http://", "http://me:hunter2@");
    place.write("crew.toml", &crew);
    for args in [&["check", "crew.toml"][..], &["run", "crew.toml"]] {
        let said = place.run(args);
        let text = format!("{}{}", said.out, said.err);
        assert!(said.code == 3 && text.contains("`base_url` holds a user name or password"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_key_in_the_settings_is_refused_and_never_repeated() {
    for (line, words) in [
        (format!("api_key = \"{KEY}\""), "keys do not belong into files"),
        (format!("api_key_env = \"{KEY}\""), "not the name of an environment variable"),
        (format!("api_key_env = {KEY}"), "line 3: is not TOML"),
        (format!("base_url = \"https://me:{KEY}@host/v1\""), "holds a user name or password"),
    ] {
        let place = place();
        place.write("bosun.toml", &format!("[providers.p]\nkind = \"openai-compatible\"\n{line}\n"));
        for args in [&["config"][..], &["run", "crew.toml"]] {
            let said = place.run(args);
            let text = format!("{}{}", said.out, said.err);
            assert!(said.code == 2 && text.contains(words), "{line} {args:?}: {text}");
            assert!(!text.contains(KEY), "{text}");
        }
    }
}

#[test]
fn a_broken_inputs_file_is_not_quoted() {
    let place = place();
    place.write("in.toml", &format!("a = 1\ntoken = {KEY}\n"));
    let said = place.run(&["run", "crew.toml", "--inputs", "in.toml"]);
    assert!(said.code == 2 && said.err.contains("--inputs in.toml: line 2: "), "{}", said.err);
    assert!(!said.err.contains(KEY), "{}", said.err);
}

#[test]
fn an_empty_key_is_refused_before_all_orders_become_one_run() {
    let place = place();
    for key in ["", "  "] {
        let said = place.run(&["run", "crew.toml", "--key", key]);
        assert!(said.code == 2 && said.err.starts_with("bosun: --key is empty"), "{}", said.err);
    }
    assert!(!place.has(".bosun"));
}

#[test]
fn a_limit_of_nothing_or_less_is_a_slip() {
    let place = place();
    for (flag, value, words) in [
        ("--max-usd", "-1", "`-1` is not an amount in USD: at least 0"),
        ("--max-usd", "0,50", "`0,50` is not an amount in USD: write dollars with a point"),
        ("--max-tokens", "0", "expected a whole number from 1"),
        ("--max-tokens", "-5", "expected a whole number from 1"),
        ("--max-turns", "0", "expected a whole number from 1"),
        ("--max-output", "0", "expected a whole number from 1"),
    ] {
        let said = place.run(&["run", "crew.toml", flag, value]);
        assert!(said.code == 2 && said.err.contains(words) && said.err.contains(flag), "{flag}: {}", said.err);
    }
    let said = place.run(&["run", "crew.toml", "--offline", "--model", "openai/gpt-4.1"]);
    assert!(said.code == 2 && said.err.contains("cannot be used with"), "{}", said.err);
    assert!(!place.has(".bosun"));
}

#[test]
fn the_first_line_says_who_set_the_cap() {
    let place = place();
    let first = |args: &[&str], env: &[(&str, &str)]| {
        let output = place.command(args).envs(env.iter().copied()).output().unwrap();
        String::from_utf8(output.stderr).unwrap().lines().next().unwrap_or_default().to_owned()
    };
    let run = &["run", "crew.toml"][..];
    assert!(first(run, &[]).contains("cap $1.00 (default)"));
    let flag = first(&["run", "crew.toml", "--max-usd", "0.50"], &[]);
    assert!(flag.contains("cap $0.50 (--max-usd)"), "{flag}");
    let variable = first(&["run", "crew.toml", "--max-usd", "0.50"], &[("BOSUN_MAX_USD", "0.30")]);
    assert!(variable.contains("cap $0.30 (BOSUN_MAX_USD)"), "{variable}");
    place.write("bosun.toml", "max_usd = 0.20\n");
    let file = first(&["run", "crew.toml", "--max-usd", "0.50"], &[]);
    assert!(file.contains("cap $0.20 (bosun.toml)"), "{file}");
}

/// A provider whose first reply is no answer: it is booked at the worst case, and what is left is too little.
fn half_spent(flag: &str, cap: &str) -> (Provider, Folder, String) {
    let provider = Provider::start();
    provider.push(Behaviour::Body("<html>".into()));
    let crew = "[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say something\"\n";
    let folder = Folder::new(&format!("schema = 1\n{}{crew}", provider.tables("")));
    let err = folder.bosun(&["run", "crew.toml", flag, cap]).expect(11).err;
    (provider, folder, err)
}

#[test]
fn a_cap_in_tokens_is_refused_and_raised_in_tokens() {
    let (_provider, folder, err) = half_spent("--max-tokens", "700");
    let line = err.lines().find(|line| line.contains("no budget")).unwrap();
    assert!(line.contains(" tokens, ") && line.contains(" left at crew") && !line.contains('$'), "{line}");
    let command = err.lines().find_map(|line| line.strip_prefix("go on: bosun ")).unwrap();
    assert!(command.contains("--raise-budget") && command.ends_with("tok"), "{command}");
    let args: Vec<&str> = command.split(' ').collect();
    let resumed = folder.bosun(&args).expect(0).err;
    assert!(resumed.contains("raised cap is now") && resumed.contains(" tokens, "), "{resumed}");
    folder.verify();
}

#[test]
fn the_model_of_the_settings_is_for_agents_that_name_none_and_is_pinned() {
    let place = Place::empty();
    place.write("prompts/say.md", "Say it.\n");
    let bare = place.run(&["run", "prompts/say.md"]);
    assert!(bare.code == 3 && bare.err.contains("--> prompts/say.md"), "{}", bare.err);
    assert!(bare.err.contains("BOSUN_MODEL") && !bare.err.contains("solo.toml"), "{}", bare.err);

    let mut folder = Folder::new("");
    folder.file("prompts/say.md", "Say it.\n");
    folder.env("BOSUN_MODEL", "offline/x");
    folder.env("BOSUN_OFFLINE_DELAY_MS", "60000");
    let child = folder.start(&["run", "prompts/say.md"]);
    let held = |event: &Event| matches!(event, Event::Call(CallEvent::Held(_)));
    until("a call is held", || folder.runs().iter().any(|(_, entries)| entries.iter().any(|e| held(&e.event))));
    kill9(child.id());
    wait(child);
    // The variable is gone; the run has what it was started with.
    folder.env("BOSUN_MODEL", "");
    folder.env("BOSUN_OFFLINE_DELAY_MS", "0");
    folder.bosun(&["resume"]).expect(0);
    assert!(folder.bosun(&["show", "latest"]).expect(0).out.contains("offline/x"));
    folder.verify();

    let output = place.command(&["run", "prompts/say.md"]).env("BOSUN_MODEL", "zzz/x").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("there is no provider `zzz`") && text.contains("BOSUN_MODEL"), "{text}");
    assert!(text.contains("1 error"), "{text}");
}

#[test]
fn a_folder_without_a_crew_names_one_that_is_near() {
    let place = Place::empty();
    place.write("prompts/x.md", "x");
    place.write("crews/one.toml", CREW);
    for (args, near) in [(["run", "."], "crews/one.toml"), (["check", "crews"], "crews/one.toml")] {
        let said = place.run(&args);
        assert!(said.code == 2 && said.err.contains("a folder without a crew.toml"), "{}", said.err);
        assert!(said.err.contains(&format!("such as {near}")), "{}", said.err);
    }
}

#[test]
fn an_input_that_is_no_name_is_refused_as_it_was_typed() {
    let place = Place::empty();
    place.write("prompts/say.md", "Say it.\n");
    let said = place.run(&["run", "prompts/say.md", "--offline", "--input", "a]b=1"]);
    assert!(said.code == 2 && said.err.starts_with("bosun: --input `a]b`"), "{}", said.err);
    let said = place.run(&["run", "prompts/say.md", "--offline", "--input", "a=1", "--input", "a=2"]);
    assert!(said.code == 2 && said.err.contains("--input a is given twice"), "{}", said.err);
}

#[test]
fn a_path_that_is_not_there_is_said_with_its_input() {
    let place = Place::empty();
    place.write(
        "crew.toml",
        "schema = 1\n[inputs.source]\ntype = \"path\"\n[models.m]\nid = \"offline/x\"\n[agents.a]\nmodel = \"m\"\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Read {{ source }}\"\n",
    );
    let said = place.run(&["run", "crew.toml", "--offline", "--input", "source=nope.md"]);
    let words = "input `source`: path `nope.md` cannot be read: No such file or directory; check";
    assert!(said.code == 2 && said.err.contains(words), "{}", said.err);
}

#[test]
fn the_next_step_of_a_new_project_survives_a_space() {
    let place = Place::empty();
    let said = place.run(&["new", "my project"]);
    assert!(said.out.contains("cd 'my project' && bosun check"), "{}", said.out);
    assert!(place.run(&["new", "plain"]).out.contains("cd plain && "));
}

#[test]
fn something_else_in_the_state_folders_place_is_named() {
    let place = place();
    place.write(".bosun", "a file");
    for args in [&["run", "crew.toml"][..], &["runs"], &["show", "latest"]] {
        let said = place.run(args);
        assert!(said.code == 6 && said.err.contains("move it away"), "{args:?}: {}", said.err);
    }
}

#[test]
fn a_refusal_for_now_is_a_wait_and_no_failure() {
    let provider = Provider::start();
    let busy = r#"{"error":{"message":"slow down"}}"#;
    provider.push(Behaviour::Status(429, vec![("retry-after", "0".into())], busy.into()));
    let crew = "[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say something\"\n";
    let folder = Folder::new(&format!("schema = 1\n{}{crew}", provider.tables("")));
    let ran = folder.bosun(&["run", "crew.toml"]).expect(0);
    assert!(ran.err.contains("waits t.1 and is sent again: HTTP 429: slow down"), "{}", ran.err);
    assert!(!ran.err.contains("failed"), "{}", ran.err);
    folder.verify();
}

#[test]
fn a_step_of_a_run_that_nobody_runs_is_not_said_to_run() {
    let provider = Provider::start();
    provider.push(Behaviour::Hang);
    let crew = "[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say something\"\n";
    let folder = Folder::new(&format!("schema = 1\n{}{crew}", provider.tables("")));
    let child = folder.start(&["run", "crew.toml"]);
    until("the call is sent", || provider.requests() == 1);
    let running = folder.bosun(&["show", "latest"]).expect(0).out;
    assert!(running.lines().any(|line| line.starts_with("t ") && line.contains("running")), "{running}");
    kill9(child.id());
    wait(child);
    let stopped = folder.bosun(&["show", "latest"]).expect(0).out;
    assert!(stopped.lines().any(|line| line.starts_with("t ") && line.contains("stopped")), "{stopped}");
    let json = folder.bosun(&["runs", "--json"]).expect(0).out;
    assert!(json.contains("\"budget\":\"1.00\""), "{json}");
}

#[test]
fn everything_may_stand_in_a_folder_with_spaces_and_accents() {
    let place = Place::empty();
    place.run(&["new", "ü ö/日本 語"]);
    place.write("ü ö/日本 語/quelle ä.md", "Bosun runs crews of agents. It keeps a journal on disk.\n");
    let mut command = place.command(&["run", "crews/quickstart.toml", "--input", "source=quelle ä.md"]);
    let output = command.current_dir(place.root().join("ü ö/日本 語")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("quelle ä.md:1)"), "{text}");
    assert!(text.contains("journal on disk"), "{text}");
    assert!(place.has("ü ö/日本 語/out/brief.md"));
}

#[test]
fn of_many_processes_with_one_new_key_one_runs_and_the_others_leave_it_alone() {
    let provider = Provider::start();
    provider.server.latency(std::time::Duration::from_millis(300));
    let crew = "[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say something\"\n";
    let folder = Folder::new(&format!("schema = 1\n{}{crew}", provider.tables("")));
    // The state folder is there already: what is raced for is the key.
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    let children: Vec<_> = (0..6).map(|_| folder.start(&["run", "crew.toml", "--key", "order-1"])).collect();
    let mut codes: Vec<_> = children.into_iter().map(|child| wait(child).code.unwrap()).collect();
    codes.sort_unstable();
    // One that comes late prints the finished result.
    assert!(codes[0] == 0 && codes.iter().all(|code| [0, 5].contains(code)), "{codes:?}");
    assert_eq!((provider.requests(), folder.verify().len()), (2, 2));
}

#[test]
fn a_small_cap_is_never_shown_rounded() {
    let (_provider, folder, err) = half_spent("--max-usd", "0.0021");
    assert!(err.contains("cap $0.0021 (--max-usd)"), "{err}");
    let said = folder.bosun(&["resume", "--raise-budget", "0.001"]).expect(2).err;
    assert!(said.contains("the cap is $0.0021;"), "{said}");
    assert!(folder.bosun(&["runs"]).expect(0).out.contains("/$0.0021"));
}

#[test]
fn a_file_that_is_not_there_is_a_slip_of_the_command_line() {
    let place = Place::empty();
    place.write("prompts/writer.md", "Write.\n");
    place.write("crews/quickstart.toml", CREW);
    for (typed, near) in [
        ("quickstart", "did you mean crews/quickstart.toml?"),
        ("crews/quickstrt.toml", "did you mean crews/quickstart.toml?"),
        ("prompts/writr.md", "did you mean prompts/writer.md?"),
        ("nope.toml", "there are: crews/quickstart.toml, prompts/writer.md"),
    ] {
        for command in ["run", "check", "plan"] {
            let said = place.run(&[command, typed]);
            assert_eq!(said.code, 2, "{command} {typed}: {}{}", said.out, said.err);
            assert!(said.err.contains(&format!("no crew file or prompt {typed}\n  {near}")), "{}", said.err);
        }
    }
    let empty = Place::empty().run(&["run", "x.toml"]);
    assert!(empty.code == 2 && empty.err.contains("bosun new NAME"), "{}", empty.err);
}

#[test]
fn a_prompt_that_names_no_model_is_checked_and_not_run() {
    let place = Place::empty();
    place.write("prompts/writer.md", "Write.\n");
    let said = place.run(&["check", "prompts/writer.md"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let said = place.run(&["run", "prompts/writer.md"]);
    assert!(said.code == 3 && said.err.contains("the prompt names no model"), "{}", said.err);
    place.write("prompts/writer.md", "Write on {{ größe }}.\n");
    let said = place.run(&["check", "prompts/writer.md"]);
    assert!(said.code == 3 && said.out.contains("`größe` is not a name"), "{}{}", said.out, said.err);
}
