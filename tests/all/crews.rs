//! Every shipped crew and prompt, run as it lies there. Invariant: what is shipped is checked, runs to
//! its end with the stand-in, and leaves the files it promises.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use boatswain::core::chat::Message;
use boatswain::core::event::{Event, Outcome, TaskEvent, ToolEvent, Work};
use boatswain::ports::store::RunState;

use super::support::{Folder, Ran, kill9, signal, until, wait};

/// A copy of what is shipped, in a folder of its own; every run in it is verified.
struct Copy(Folder);

impl Copy {
    fn new() -> Copy {
        let folder = Folder::new("");
        std::fs::remove_file(folder.path().join("crew.toml")).unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let shipped = ["crews", "prompts"].into_iter().flat_map(|folder| files(&here.join(folder)));
        for file in shipped.chain([here.join("README.md")]) {
            let text = std::fs::read_to_string(&file).unwrap();
            folder.file(file.strip_prefix(here).unwrap().to_str().unwrap(), &text);
        }
        Copy(folder)
    }
    #[track_caller]
    fn done(&self, args: &[&str]) -> Ran {
        let ran = self.0.bosun(args).expect(0);
        assert!(ran.err.contains("[offline]"), "a stand-in's run says so: {}", ran.err);
        self.0.verify();
        ran
    }
    #[track_caller]
    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.path().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
    }
    out.sort();
    out
}

/// Words that stand only in instructions: no answer may hold them.
#[track_caller]
fn made_of_material(text: &str) {
    for word in ["at most 400 words", "<research>", "</", "You are ", "What must be put right", "verdict"] {
        assert!(!text.contains(word), "`{word}` in:\n{text}");
    }
}

#[test]
fn quickstart_writes_a_brief_with_places_and_says_what_a_real_model_needs() {
    let copy = Copy::new();
    let ran = copy.done(&["run", "crews/quickstart.toml", "--input", "source=README.md"]);
    let brief = copy.read("out/brief.md");
    assert_eq!(ran.out.trim_end(), brief.trim_end());
    assert!(brief.starts_with("# Brief on README.md\n"), "{brief}");
    assert!(brief.matches("(README.md:").count() >= 3, "{brief}");
    made_of_material(&brief);
    // Each claim is a sentence of the line it names, or of the lines after it.
    let source = copy.read("README.md");
    let source: Vec<&str> = source.lines().collect();
    for line in brief.lines().filter(|line| line.ends_with(')') && line.contains("(README.md:")) {
        let (claim, place) = line.trim_start_matches("- ").rsplit_once(" (README.md:").unwrap();
        let at: usize = place.trim_end_matches(')').parse().unwrap();
        let first: String = claim.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        assert!(source[at - 1].contains(&first), "`{first}` is not in line {at}: {}", source[at - 1]);
    }
    for said in ["--model openai/gpt-4.1-mini", "OPENAI_API_KEY", "--model ollama/llama3.1", "not a language model"] {
        assert!(ran.err.contains(said), "`{said}` is missing in {}", ran.err);
    }
    assert!(ran.err.contains("round 1 of draft_review: again"), "the first draft is sent back: {}", ran.err);
    assert!(ran.err.contains("round 2 of draft_review: approved"), "{}", ran.err);
}

/// The user message that a step begins with, and whether it goes on from earlier turns.
fn asked(copy: &Copy, wanted: &str) -> (String, bool) {
    let store = copy.0.store();
    let asked = copy.0.events().into_iter().find_map(|event| match event {
        Event::Task(TaskEvent::Assigned { step, work, .. }) => match *work {
            Work::Prompt { user, carries, .. } => (step.as_str() == wanted).then_some((user, carries)),
            Work::Tool { .. } => None,
        },
        _ => None,
    });
    let (user, carries) = asked.unwrap_or_else(|| panic!("{wanted} was not assigned"));
    let text = store.blob(&user.message).unwrap().unwrap();
    (Message::decode(&text).unwrap().content().to_owned(), carries)
}

#[test]
fn a_judge_reads_the_new_text_in_each_round_and_not_its_own_verdict() {
    let copy = Copy::new();
    let ran = copy.done(&["run", "crews/quickstart.toml", "--input", "source=README.md"]);
    let (judge, carries) = asked(&copy, "draft_review#2");
    assert!(judge.contains(ran.out.trim_end()), "the revised text is not in {judge}");
    assert!(!judge.contains("Your last result") && !carries, "{judge}");
    assert!(judge.contains("\n{\"type\":\"object\""), "the schema is JSON, not a string of it: {judge}");
    let (writer, carries) = asked(&copy, "draft#2");
    assert!(writer.starts_with("Round 2. Your last result was reviewed") && carries, "{writer}");
}

#[test]
fn report_reads_a_folder_and_cites_it() {
    let copy = Copy::new();
    copy.done(&["run", "crews/report.toml", "--offline", "--input", "topic=claims", "--input", "source=prompts"]);
    let article = copy.read("out/article.md");
    assert!(article.starts_with("# Article on prompts/") && article.contains("(prompts/"), "{article}");
    made_of_material(&article.replace("You are ", ""));
}

#[test]
fn handbook_writes_all_its_sections_in_order() {
    let copy = Copy::new();
    copy.done(&["run", "crews/handbook.toml", "--offline"]);
    let rows = csv::Reader::from_reader(copy.read("crews/sections.csv").as_bytes()).into_records().count();
    let sections = files(&copy.0.path().join("out"));
    assert_eq!((rows, sections.len()), (161, 161));
    let second = copy.read("out/002-the-ship-in-figures.md");
    assert!(second.starts_with("## The ship in figures\n\nFollows \"Who this handbook is for\".\n"), "{second}");
    made_of_material(&second);
}

#[test]
fn launch_delegates_to_agents_and_to_legal_and_legal_runs_by_itself() {
    let copy = Copy::new();
    let ran = copy.done(&["run", "crews/launch.toml", "--offline", "--input", "product=A pump that never fails"]);
    let brief = copy.read("out/brief.md");
    let heads: Vec<&str> = brief.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(heads, ["## analyst", "## copywriter", "## legal"]);
    assert!(ran.err.contains("brief/legal[1]/opinion"), "legal has its own agents: {}", ran.err);
    let legal = brief.split("## legal").nth(1).unwrap();
    assert!(legal.contains("verdict: change") && legal.contains("\"never\""), "{legal}");

    let ran = copy.done(&[
        "run",
        "crews/legal.toml",
        "--offline",
        "--input",
        "copy=Our pump never fails.",
        "--input",
        "market=eu",
    ]);
    let opinion: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(opinion["verdict"], "change");
    assert!(opinion["changes"][0].as_str().unwrap().contains("\"never\""), "{opinion}");
}

#[test]
fn inbox_reads_each_file_that_arrives_and_the_stand_in_moves_none() {
    let copy = Copy::new();
    copy.0.file("inbox/pump.md", "Invoice 17: one pump, due on Friday.\n");
    copy.0.file("inbox/.draft.md", "Not yet.\n");
    let ran = copy.done(&["watch", "crews/inbox.toml", "--once", "--offline"]);
    assert!(ran.err.contains("event scan inbox/pump.md") && ran.err.contains("· 1 done"), "{}", ran.err);
    let runs = copy.0.runs();
    assert_eq!(runs.len(), 1);
    let said = copy.0.bosun(&["run", "crews/inbox.toml", "--input", "file=inbox/pump.md", "--offline", "-q"]).expect(0);
    assert!(said.out.contains("Invoice 17: one pump, due on Friday."), "{}", said.out);
    assert!(copy.0.path().join("inbox/pump.md").exists());
}

/// What a model would do with a file of the inbox.
const CLERK: &str = r#"
[[reply]]
step = "filing"
tool_calls = [{ name = "files.read", arguments = { path = "inbox/pump.md" } }, { name = "files.list", arguments = { path = "archive" } }]
[[reply]]
step = "filing"
tool_calls = [{ name = "file_it", arguments = { from = "inbox/pump.md", to = "archive/invoices/" } }]
[[reply]]
step = "filing"
delay = "700ms"
text = "inbox/pump.md -> archive/invoices/pump.md\nIt is an invoice."
[default]
text = "inbox/pump.md -> archive/invoices/pump.md\nIt is an invoice."
"#;

/// The one approval that is open.
fn approval(folder: &Folder) -> String {
    let ran = folder.bosun(&["approvals", "--json"]).expect(0);
    let lines: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{}", ran.out);
    lines[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn inbox_goes_on_by_itself_when_a_person_has_decided_and_serves_others_meanwhile() {
    let copy = Copy::new();
    copy.0.file("bosun.toml", "[providers.clerk]\nkind = \"scripted\"\nscript = \"clerk.toml\"\n");
    copy.0.file("clerk.toml", &CLERK.replace("delay = \"700ms\"\n", ""));
    let child = copy.0.start(&["watch", "crews/inbox.toml", "--model", "clerk/any"]);
    copy.0.file("inbox/pump.md", "Invoice 17: one pump, due on Friday.\n");
    let states = || copy.0.runs().into_iter().map(|(row, _)| row.state).collect::<Vec<_>>();
    until("it waits for a person", || states() == [RunState::WaitingPerson]);
    let id = approval(&copy.0);
    copy.0.bosun(&["approve", &id]).expect(0);
    until("it has gone on by itself", || states() == [RunState::Completed]);
    assert!(copy.0.path().join("archive/invoices/pump.md").exists());
    signal(child.id(), rustix::process::Signal::TERM);
    wait(child).expect(0);
    assert_eq!(copy.0.runs().len(), 1);
    copy.0.verify();
}

#[test]
fn inbox_files_a_file_and_goes_on_when_it_is_killed_after_the_move() {
    let copy = Copy::new();
    copy.0.file("bosun.toml", "[providers.clerk]\nkind = \"scripted\"\nscript = \"clerk.toml\"\n");
    copy.0.file("clerk.toml", CLERK);
    copy.0.file("archive/letters/a.md", "A letter.\n");
    copy.0.file("inbox/pump.md", "Invoice 17: one pump, due on Friday.\n");
    let watch = ["watch", "crews/inbox.toml", "--once", "--model", "clerk/any"];
    let moved = copy.0.path().join("archive/invoices/pump.md");
    let ran = copy.0.bosun(&watch).expect(12);
    assert!(ran.err.contains("bosun approvals show ") && !moved.exists(), "{}", ran.err);
    let id = approval(&copy.0);
    copy.0.bosun(&["approve", &id]).expect(0);
    let child = copy.0.start(&watch);
    until("the file is moved", || moved.exists());
    std::thread::sleep(std::time::Duration::from_millis(200));
    kill9(child.id());
    wait(child);
    // Its input is not there any more, and the run goes on.
    let ran = copy.0.bosun(&watch).expect(0);
    assert!(ran.err.contains("resume ") && ran.err.contains("· 1 done"), "{}", ran.err);
    assert_eq!(copy.0.runs().len(), 1);
    assert!(moved.exists() && !copy.0.path().join("inbox/pump.md").exists());
    copy.0.verify();
}

#[test]
fn debate_is_argued_by_two_sides_and_decided() {
    let copy = Copy::new();
    let ran = copy.done(&["run", "crews/debate.toml", "--input", "source=README.md"]);
    let decision: serde_json::Value = serde_json::from_str(&copy.read("out/decision.json")).unwrap();
    assert!(decision["decision"].as_str().unwrap().contains("(README.md:"), "{decision}");
    assert!(ran.err.contains("round 1 of topic_skeptic: again"), "{}", ran.err);
    assert!(ran.err.contains("round 2 of topic_skeptic: the debate is over"), "{}", ran.err);
    let (advocate, carries) = asked(&copy, "topic_advocate#2");
    assert!(advocate.starts_with("Round 2 of at most 3.") && carries, "{advocate}");
    assert!(advocate.contains("<skeptic>{\"argument\":"), "{advocate}");
}

/// With replies as a model might give them: they agree in the third round only, and the judge reads its words.
#[test]
fn debate_goes_on_until_both_sides_agree() {
    let mut copy = Copy::new();
    let says = |step: &str, argument: &str, agree: bool| {
        format!("[[reply]]\nstep = \"{step}\"\njson = {{ argument = \"{argument}\", agree = {agree} }}\n")
    };
    let script: String = [
        says("topic_advocate#1", "Ship: the fix is small.", true),
        says("topic_skeptic#1", "Nobody has tried the rollback.", false),
        says("topic_advocate#2", "Ship once the rollback is tried.", false),
        says("topic_skeptic#2", "Then it holds, but for the weekend.", true),
        says("topic_advocate#3", "Ship on Thursday, with a rollback that was tried.", true),
        says("topic_skeptic#3", "I would sign that.", true),
        "[[reply]]\nstep = \"topic\"\njson = { decision = \"Thursday\", because = [\"Skeptic: rollback\"], open = [] }\n".into(),
    ]
    .concat();
    copy.0.file("replies.toml", &script);
    let script = copy.0.path().join("replies.toml").display().to_string();
    copy.0.env("BOSUN_SCRIPT", &script);
    let args = ["run", "crews/debate.toml", "--input", "source=README.md", "--model", "scripted/replies"];
    let ran = copy.0.bosun(&args).expect(0);
    let decision: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(decision["decision"], "Thursday");
    let (judge, carries) = asked(&copy, "topic");
    let words = ["Ship on Thursday, with a rollback that was tried.", "I would sign that."];
    assert!(words.iter().all(|words| judge.contains(words)) && !judge.contains("but for the weekend"), "{judge}");
    assert!(judge.contains("after round 3") && !carries, "{judge}");
    copy.0.verify();
}

#[test]
fn a_prompt_runs_as_a_crew_of_one() {
    let copy = Copy::new();
    let ran = copy.done(&["run", "prompts/summarise.md", "--input", "file=README.md", "--offline"]);
    assert!(ran.out.contains("(README.md:"), "{}", ran.out);
    made_of_material(&ran.out);
}

#[test]
fn every_role_prompt_is_in_use() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crews: String = files(&here.join("crews")).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let names = files(&here.join("prompts")).into_iter().filter(|file| file.parent() == Some(&here.join("prompts")));
    let names: BTreeSet<String> = names.map(|file| file.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let unused: Vec<&String> = names
        .iter()
        .filter(|name| {
            *name != "summarise"
                && !crews.contains(&format!("\n{name} = {{"))
                && !crews.contains(&format!("[agents.{name}]"))
        })
        .collect();
    assert!(unused.is_empty(), "no crew has an agent for {unused:?}");
}

#[test]
fn check_finds_nothing_to_complain_about() {
    let copy = Copy::new();
    let ran = copy.0.bosun(&["check"]).expect(0);
    assert!(!ran.out.contains("warning") && !ran.out.contains("error"), "{}", ran.out);
}

/// A copy in a repository whose last commit adds `sum.py`, and with the server on the path.
fn repository() -> Option<Copy> {
    let servers = super::mcp::third::pypi()?;
    let mut copy = Copy::new();
    super::mcp::third::repository(copy.0.path());
    copy.0.file("sum.py", "def sum(a, b):\n    # The sum of two numbers is what both come to.\n    return a - b\n");
    super::mcp::third::commit(copy.0.path(), "The module sum adds two numbers for the till.");
    let path = format!("{}:{}", servers.display(), std::env::var("PATH").unwrap());
    copy.0.env("PATH", &path);
    Some(copy)
}

#[test]
fn code_review_reads_a_repository_through_a_server_and_runs_without_a_model() {
    let Some(copy) = repository() else { return };
    let ran = copy.done(&["run", "crews/code-review.toml"]);
    assert!(ran.err.contains("the server git (mcp-server-git) is met for the first time"), "{}", ran.err);
    let review = copy.read("out/review.md");
    assert_eq!(ran.out.trim_end(), review.trim_end());
    assert!(review.contains("Tester <tester@example.org>"), "of the commit: {review}");
    made_of_material(&review);
    copy.done(&["run", "crews/code-review.toml", "--locked"]);
}

#[test]
fn code_review_cites_file_and_line_of_what_the_server_read() {
    let Some(copy) = repository() else { return };
    let crew = copy.read("crews/code-review.toml").replace("main = \"offline/stand-in\"", "main = \"p/m\"");
    let crew = format!("{crew}\n[providers.p]\nkind = \"scripted\"\nfile = \"script.toml\"\n");
    copy.0.file("crews/code-review.toml", &crew);
    copy.0.file(
        "script.toml",
        "[[reply]]\nstep = \"review\"\ntool_calls = [{ name = \"git__git_show\", arguments = { repo_path = \".\", \
         revision = \"HEAD:sum.py\" } }, { name = \"files__read\", arguments = { path = \"sum.py\" } }]\n\
         [[reply]]\nstep = \"review\"\ncontains = \"return a - b\"\n\
         text = \"It must not be merged.\\n\\n- `sum.py:3`: subtracts; `sum(1, 1)` is 0. Write `a + b`.\"\n",
    );
    copy.0.bosun(&["run", "crews/code-review.toml"]).expect(0);
    copy.0.verify();
    assert!(copy.read("out/review.md").contains("`sum.py:3`"));
    let store = copy.0.store();
    let returned = copy.0.events().into_iter().filter_map(|event| match event {
        Event::Tool(ToolEvent::Returned { content, outcome, .. }) => {
            assert_eq!(outcome, Outcome::Ok);
            Some(store.blob(&content.message).unwrap().unwrap().to_string())
        }
        _ => None,
    });
    let returned: Vec<String> = returned.collect();
    assert_eq!(returned.len(), 3, "the task's own call, and the two of the model");
    assert!(returned.iter().filter(|text| text.contains("return a - b")).count() >= 2, "{returned:?}");
}
