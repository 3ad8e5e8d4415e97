//! The command line as people meet it: the real binary, in folders of its own.

mod doctor;
mod engine;
mod look;
mod mishaps;
mod prices;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder, and the binary in it with nothing of this machine's settings.
pub struct Place {
    folder: TempDir,
}

pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn empty() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }
    pub fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bosun"));
        command.args(args).current_dir(self.root()).env_clear().env("HOME", self.root().join("home"));
        command.env("TZ", "UTC").stdin(Stdio::null());
        command
    }
    pub fn run(&self, args: &[&str]) -> Said {
        self.said(self.command(args).output().unwrap())
    }
    pub fn wide(&self, columns: &str, args: &[&str]) -> Said {
        self.said(self.command(args).env("COLUMNS", columns).output().unwrap())
    }
    fn said(&self, output: Output) -> Said {
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&self.root().display().to_string(), "ROOT");
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
    pub fn has(&self, path: &str) -> bool {
        self.root().join(path).exists()
    }
}

#[test]
fn help_shows_the_eight_commands_one_needs_and_says_where_the_rest_is() {
    let place = Place::empty();
    let help = place.run(&["--help"]);
    let names: Vec<&str> = help
        .out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["demo", "new", "check", "plan", "run", "resume", "show", "runs"]);
    assert!(help.out.contains("bosun help all") && help.code == 0 && help.err.is_empty());
    let all = place.run(&["help", "all"]).out;
    for name in [
        "ledger settle",
        "audit verify",
        "prompts eject",
        "tools call",
        "pause",
        "cancel",
        "replay",
        "cost",
        "gc",
        "config",
    ] {
        assert!(all.contains(name), "{name} is not in {all}");
    }
}

#[test]
fn every_flag_that_a_variable_can_set_names_it() {
    let place = Place::empty();
    for (args, variables) in [
        (
            vec!["run", "--help"],
            vec![
                "BOSUN_MAX_USD",
                "BOSUN_MAX_TOKENS",
                "BOSUN_MAX_TURNS",
                "BOSUN_MAX_OUTPUT",
                "BOSUN_OFFLINE",
                "BOSUN_MODEL",
                "BOSUN_JSON",
                "BOSUN_QUIET",
            ],
        ),
        (vec!["--help"], vec!["BOSUN_LOG", "BOSUN_LOG_FORMAT", "BOSUN_LOG_FILE", "BOSUN_STATE_DIR", "NO_COLOR"]),
    ] {
        let text = place.run(&args).out;
        let environment = place.run(&["help", "environment"]).out;
        for variable in variables {
            assert!(text.contains(&format!("[env: {variable}")), "{variable} is not in\n{text}");
            assert!(environment.contains(variable));
        }
    }
}

#[test]
fn exit_codes_are_a_runbook() {
    let text = Place::empty().run(&["help", "exit-codes"]).out;
    for code in [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22, 130, 143] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))), "{code}");
    }
    assert!(Place::empty().run(&["help", "16"]).out.contains("--retry STEP"));
    assert!(Place::empty().run(&["help", "E0104"]).out.starts_with("E0104: "));
    let near = Place::empty().run(&["help", "exit-code5"]);
    assert_eq!(
        (near.code, near.err.lines().next().unwrap()),
        (2, "bosun: there is no help on `exit-code5`; did you mean `exit-codes`?")
    );
}

#[test]
fn what_cannot_be_understood_is_exit_2_on_stderr() {
    let place = Place::empty();
    for args in [&["rnu"][..], &["run"], &["show", "a", "b", "c"], &["cost", "--by", "moon"], &["gc", "--keep", "soon"]]
    {
        let said = place.run(args);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}: {}", said.err);
        assert!(!said.err.is_empty());
    }
    assert!(!place.has(".bosun"));
}

#[test]
fn looking_at_an_empty_folder_changes_nothing() {
    let place = Place::empty();
    for args in [
        &["runs"][..],
        &["runs", "--json"],
        &["cost"],
        &["config"],
        &["prices"],
        &["prompts", "list"],
        &["gc", "--dry-run"],
    ] {
        let said = place.run(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    }
    for args in [
        &["show"][..],
        &["show", "7Q3M"],
        &["replay", "latest"],
        &["audit", "verify"],
        &["pause", "7Q3M"],
        &["ledger", "show"],
    ] {
        let said = place.run(args);
        assert_eq!(said.code, 2, "{args:?}: {}", said.err);
        assert!(said.err.contains("nothing has run in ROOT yet"), "{}", said.err);
    }
    assert_eq!(std::fs::read_dir(place.root()).unwrap().count(), 0);
}

#[test]
fn a_new_project_is_sound_and_nothing_is_overwritten() {
    let place = Place::empty();
    place.write("mine/.gitignore", "keep me\n");
    let said = place.run(&["new", "mine"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("left as it is: .gitignore") && said.out.contains("cd mine && bosun check"),
        "{}",
        said.out
    );
    assert_eq!(std::fs::read_to_string(place.root().join("mine/.gitignore")).unwrap(), "keep me\n");
    assert_eq!(said.out.lines().rev().take_while(|line| line.starts_with("  ")).count(), 3, "three next commands");
    let check = place.said(place.command(&["check"]).current_dir(place.root().join("mine")).output().unwrap());
    assert_eq!((check.code, check.out.as_str()), (0, "checked 5 files, nothing was sent\n"), "{}", check.err);
}

#[test]
fn check_finds_everything_and_says_which_key_goes_where() {
    let place = Place::empty();
    place.run(&["new", "."]);
    let crew = std::fs::read_to_string(place.root().join("crews/quickstart.toml")).unwrap();
    let crew = crew.replace("main = \"offline/stand-in\"", "main = \"openai/gpt-4.1-mini\"");
    place.write("crews/real.toml", &crew);
    let said = place.run(&["check", "crews/real.toml"]);
    assert!(said.out.contains("OPENAI_API_KEY goes to https://api.openai.com/v1"), "{}", said.out);
    place.write(
        "crews/bad.toml",
        &crew.replace("goal =", "goall =").replace("agent = \"writer\"", "agent = \"writter\""),
    );
    let said = place.run(&["check"]);
    assert_eq!(said.code, 3);
    assert!(
        said.out.contains("E0104") && said.out.contains("did you mean") && !said.out.contains('\x1b'),
        "{}",
        said.out
    );
    assert!(said.out.lines().last().unwrap().starts_with("checked 7 files, "), "{}", said.out);
    let json = place.run(&["check", "crews/bad.toml", "--format", "json"]);
    let codes: Vec<String> = json
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["code"].to_string())
        .collect();
    assert!(json.code == 3 && codes.len() >= 2, "{}", json.out);
}

#[test]
fn prompts_are_listed_printed_and_ejected_once() {
    let place = Place::empty();
    place.run(&["new", "."]);
    let list = place.run(&["prompts", "list"]).out;
    assert!(list.contains("prompts/writer.md") && list.contains("builtin/repair"), "{list}");
    let shown = place.run(&["prompts", "show", "writer"]);
    assert_eq!(shown.out, std::fs::read_to_string(place.root().join("prompts/writer.md")).unwrap());
    let built_in = place.run(&["prompts", "show", "builtin/role"]);
    assert_eq!(place.run(&["prompts", "eject", "role"]).code, 0);
    assert_eq!(built_in.out, std::fs::read_to_string(place.root().join("prompts/builtin/role.md")).unwrap());
    let again = place.run(&["prompts", "eject", "builtin/role"]);
    assert!(again.code == 2 && again.err.contains("exists"), "{}", again.err);
    assert!(place.run(&["prompts", "show", "writr"]).err.contains("did you mean `writer`?"));
    assert!(place.run(&["prompts", "list"]).out.contains("prompts/builtin/role.md"));
}

#[test]
fn a_reader_that_goes_away_stops_the_output_silently() {
    let place = Place::empty();
    let mut child =
        place.command(&["help", "exit-codes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Closed before the first byte is read: every write fails.
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let done = Place::empty().command(&["help", "exit-codes"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("could not be written"));
}

#[test]
fn a_state_folder_that_cannot_be_used_is_exit_6() {
    let place = Place::empty();
    place.write(".bosun/journal.db", "this is a text of some other program, and it is long enough to be one.");
    let said = place.run(&["runs"]);
    assert_eq!(said.code, 6, "{}", said.err);
    assert!(said.err.contains("ROOT/.bosun") && said.err.contains("journal.db"), "{}", said.err);
    place.write("a file", "");
    let said = place.run(&["--state-dir", "a file/state", "runs"]);
    assert_eq!(said.code, 6, "{}", said.err);
}

#[test]
fn settings_that_are_wrong_are_said_all_at_once() {
    let place = Place::empty();
    place.write("bosun.toml", "max_us = 1\nlog_format = 'xml'\n");
    let said = place.run(&["runs"]);
    assert!(said.code == 2 && said.err.contains("`max_usd`") && said.err.contains("text or json"), "{}", said.err);
    place.write("bosun.toml", "max_usd = 0.5\n");
    let said = place.said(place.command(&["config"]).env("BOSUN_MAX_USD", "0.25").output().unwrap());
    assert!(
        said.out
            .lines()
            .any(|line| line.starts_with("max_usd") && line.contains("0.25") && line.ends_with("BOSUN_MAX_USD")),
        "{}",
        said.out
    );
    let said = place.said(place.command(&["runs", "-v"]).env("BOSUN_LOG", "=/=").output().unwrap());
    assert_eq!(said.code, 0, "a flag comes before the variable: {}", said.err);
}

#[test]
fn a_log_goes_to_its_file_and_never_to_stdout() {
    let place = Place::empty();
    let said = place.run(&["-vv", "--log-file", "log/bosun.log", "runs"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let files: Vec<_> = std::fs::read_dir(place.root().join("log")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(files.len() == 1 && files[0].to_string_lossy().starts_with("bosun.log."), "{files:?}");
    assert_eq!(said.out, "");
}

/// Every line fits, counted in characters.
pub fn fits(text: &str, columns: usize) -> bool {
    text.lines().all(|line| line.chars().count() <= columns)
}

pub fn crew(root: &Path) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("prompts/writer.md", "+++\ndescription = \"Writes\"\ntemperature = 0.5\n+++\nYou are {{ agent.role }}.\n");
    write(
        "crews/report.toml",
        r#"schema = 1
[inputs]
topic = { default = "tides" }
[budget]
max_usd = 0.25
[models.main]
id = "openai/gpt-4.1-mini"
max_output = 500
[agents.researcher]
role = "Researcher"
model = "main"
[agents.writer]
role = "Writer"
model = "main"
[agents.critic]
role = "Critic"
model = "main"
[tasks.research]
agent = "researcher"
description = "Facts about {{ topic }}"
[tasks.draft]
agent = "writer"
description = "An article about {{ topic }}"
context = ["research"]
max_output = 400
review = { by = "critic", max_rounds = 2 }
output_file = "out/article.md"
"#,
    );
}
