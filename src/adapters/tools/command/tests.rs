use super::*;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

fn spec(effect: Effect, timeout_ms: u64) -> ToolSpec {
    let text = json!({ "type": "string" });
    ToolSpec {
        name: "probe".into(),
        description: "a program of the tests".into(),
        parameters: json!({ "type": "object", "properties": { "a": text, "b": text, "list": { "type": "array" } } }),
        effect,
        timeout_ms,
        max_result: 4_000,
    }
}

fn tool(argv: &[&str], cwd: &Path, effect: Effect, timeout_ms: u64) -> Command {
    let argv = argv.iter().map(|text| (*text).to_owned()).collect();
    Command::new(CommandSpec {
        spec: spec(effect, timeout_ms),
        argv,
        env: vec!["CARGO_PKG_NAME".into()],
        cwd: cwd.into(),
    })
    .unwrap()
}

async fn run(argv: &[&str], arguments: Value) -> ToolOutcome {
    let folder = tempfile::tempdir().unwrap();
    tool(argv, folder.path(), Effect::Read, 20_000).call(asked(arguments)).await
}

fn asked(arguments: Value) -> ToolCall {
    ToolCall { arguments: arguments.as_object().unwrap().clone(), idempotency_key: "RUN/draft#1.2/abc".into() }
}

fn ok(outcome: ToolOutcome) -> String {
    match outcome {
        ToolOutcome::Ok(text) => text,
        ToolOutcome::Error(why) | ToolOutcome::Unknown(why) => panic!("{why}"),
    }
}

fn error(outcome: ToolOutcome) -> String {
    match outcome {
        ToolOutcome::Error(why) => why,
        ToolOutcome::Ok(text) | ToolOutcome::Unknown(text) => panic!("{text}"),
    }
}

/// 100 strings that mean something to a shell, an option parser, a format or a terminal.
fn injections() -> Vec<String> {
    let heads = ["", "x", "-", "--help", "-rf /", "' ", "\" ", "a b ", "$HOME", "{b}"];
    let tails = [
        "; touch pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "| touch pwned",
        "&& touch pwned",
        "\ntouch pwned\n",
        "> pwned",
        "%s%n\\x41",
        "*?[a]~",
        "{a}{{b}}",
    ];
    heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect()
}

#[tokio::test]
async fn a_hundred_hostile_arguments_each_stay_one_argument() {
    let folder = tempfile::tempdir().unwrap();
    // Prints how many arguments came, then each between marks.
    let script = r#"printf '%s' $#; for x in "$@"; do printf '<%s>' "$x"; done"#;
    let argv = ["sh", "-c", script, "sh", "{a}", "--name={b}", "{{a}}"];
    let probe = tool(&argv, folder.path(), Effect::Read, 20_000);
    let strings = injections();
    assert_eq!(strings.len(), 100);
    for text in strings {
        let said = ok(probe.call(asked(json!({ "a": text, "b": text }))).await);
        assert_eq!(said, format!("3<{text}><--name={text}><{{a}}>"));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was run");
}

#[tokio::test]
async fn arguments_that_are_not_given_and_those_that_are_no_text() {
    let argv = ["printf", "<%s>", "{a}", "b={b}", "{list}", "end"];
    assert_eq!(ok(run(&argv, json!({ "list": [1, "x y"] })).await), "<b=><[1,\"x y\"]><end>");
    assert_eq!(ok(run(&argv, json!({ "a": "", "b": null })).await), "<><b=><end>");
    let why = error(run(&argv, json!({ "a": "nul\u{0}" })).await);
    assert!(why.contains("zero byte"), "{why}");
}

#[tokio::test]
async fn the_input_is_the_arguments_and_the_environment_is_clean() {
    assert_eq!(ok(run(&["cat"], json!({ "a": "x", "list": [1] })).await), r#"{"a":"x","list":[1]}"#);
    let said = ok(run(&["env"], json!({})).await);
    let mut names: Vec<_> = said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.retain(|name| !["LANG", "HOME"].contains(name));
    names.sort_unstable();
    // Cargo sets dozens; the one that the table names is passed on, where it is set.
    let named = std::env::var_os("CARGO_PKG_NAME").map(|_| "CARGO_PKG_NAME");
    let expected: Vec<_> = ["BOSUN_IDEMPOTENCY_KEY"].into_iter().chain(named).chain(["PATH"]).collect();
    assert_eq!(names, expected);
    assert!(said.contains("BOSUN_IDEMPOTENCY_KEY=RUN/draft#1.2/abc\n"), "{said}");
}

#[tokio::test]
async fn a_program_runs_in_the_project_and_is_found_from_there() {
    let folder = tempfile::tempdir().unwrap();
    // A link: a program written here could be open for writing in another test's fork (`ETXTBSY`).
    std::os::unix::fs::symlink("/bin/pwd", folder.path().join("here")).unwrap();
    let here = tool(&["./here", "-P"], folder.path(), Effect::Read, 20_000);
    let said = ok(here.call(asked(json!({}))).await);
    assert_eq!(Path::new(said.trim_end()), folder.path().canonicalize().unwrap());
    let why = error(run(&["no-such-program-anywhere"], json!({})).await);
    assert!(why.contains("was not found; install it"), "{why}");
}

#[tokio::test]
async fn a_failure_shows_its_code_and_the_end_of_standard_error_without_colours() {
    let script = r"i=0; while [ $i -lt 2000 ]; do echo noise >&2; i=$((i+1)); done; printf '\033[31mno such row\033[0m' >&2; exit 3";
    let why = error(run(&["sh", "-c", script], json!({})).await);
    assert!(why.starts_with("probe ended with exit code 3; standard error:\n"), "{why}");
    assert!(why.ends_with("noise\nno such row") && why.len() < STDERR_TAIL + 100, "{why}");
    assert_eq!(
        error(run(&["false"], json!({})).await),
        "probe ended with exit code 1; it said nothing on standard error"
    );
}

#[tokio::test]
async fn output_is_cut_at_its_limit_and_the_program_still_ends_well() {
    let said = ok(run(&["head", "-c", "3000000", "/dev/zero"], json!({})).await);
    assert!(
        said.ends_with("\n[cut: the first 1048576 of 3000000 bytes]\n") && said.len() < 100,
        "zero bytes are no text"
    );
    let said = ok(run(&["sh", "-c", "yes ahoy | head -c 2000000"], json!({})).await);
    assert!(said.starts_with("ahoy\n") && said.len() < OUTPUT_MOST + 100);
    assert_eq!(ok(run(&["true"], json!({})).await), "[it printed nothing]\n");
}

/// Waits for the kernel to report a process gone; a zombie without a parent counts as gone.
async fn gone(pid: i32) -> bool {
    let limit = Instant::now() + Duration::from_secs(10);
    while Instant::now() < limit {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let alive = rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_ok();
        if !alive || stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

async fn pid_in(path: &Path) -> i32 {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if let Some(pid) = text.strip_suffix('\n').and_then(|text| text.parse().ok()) {
            return pid;
        }
        assert!(Instant::now() < limit, "the program never wrote {}", path.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The child starts a grandchild that would live for ten minutes, and waits for it.
const FAMILY: [&str; 3] = ["sh", "-c", "sh -c 'echo $$ > pid; exec sleep 600' & wait"];

#[tokio::test]
async fn a_timeout_kills_grandchildren_too() {
    for (effect, unknown) in [(Effect::Once, true), (Effect::Idempotent, false), (Effect::Read, false)] {
        let folder = tempfile::tempdir().unwrap();
        let outcome = tool(&FAMILY, folder.path(), effect, 1_500).call(asked(json!({}))).await;
        let (is_unknown, why) = match outcome {
            ToolOutcome::Unknown(why) => (true, why),
            ToolOutcome::Error(why) => (false, why),
            ToolOutcome::Ok(text) => panic!("{text}"),
        };
        assert_eq!(is_unknown, unknown);
        assert!(why.contains("took longer than 1500 ms"), "{why}");
        assert!(gone(pid_in(&folder.path().join("pid")).await).await, "the grandchild lives");
    }
}

#[tokio::test]
async fn a_dropped_call_kills_grandchildren_too() {
    let folder = tempfile::tempdir().unwrap();
    let probe = tool(&FAMILY, folder.path(), Effect::Read, 60_000);
    let path = folder.path().join("pid");
    let pid = tokio::select! {
        outcome = probe.call(asked(json!({}))) => panic!("{outcome:?}"),
        pid = pid_in(&path) => pid,
    };
    assert!(gone(pid).await, "the grandchild lives");
}

#[tokio::test]
async fn what_is_left_running_after_a_clean_end_is_killed_and_its_output_kept() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo done; sh -c 'echo $$ > pid; exec sleep 600' & while [ ! -s pid ]; do :; done";
    let said = ok(tool(&["sh", "-c", script], folder.path(), Effect::Read, 20_000).call(asked(json!({}))).await);
    assert_eq!(said, "done\n");
    assert!(gone(pid_in(&folder.path().join("pid")).await).await, "the grandchild lives");
}

#[tokio::test]
async fn a_program_ended_by_a_signal_is_unknown_only_with_effect_once() {
    let folder = tempfile::tempdir().unwrap();
    let argv = ["sh", "-c", "kill -9 $$"];
    let once = tool(&argv, folder.path(), Effect::Once, 20_000).call(asked(json!({}))).await;
    assert!(matches!(once, ToolOutcome::Unknown(why) if why.contains("signal")));
    let read = tool(&argv, folder.path(), Effect::Read, 20_000).call(asked(json!({}))).await;
    assert!(matches!(read, ToolOutcome::Error(_)));
}
