//! The library without the command line. Invariant: what `examples/` show works as it stands, and what
//! a run costs in tokens is what its prompts say.

pub mod people;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use boatswain::core::event::{Event, TaskEvent};
use boatswain::engine::{BoxFuture, CallFailure, Exit, Model, ModelAnswer, ModelRequest, Options, Run, Usage, Watch};

use crate::support::{Folder, PATIENCE};

/// Builds the example and runs it.
fn example(name: &str) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--offline", "--example", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let out = cargo.output().unwrap();
    assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn examples_run_without_key_and_network() {
    let text = example("embed");
    for part in ["run.started", "brief asks whether", "interrupt.decided", "run.finished", "settled $0"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(example("custom_tool").contains("items of tea"));
    assert!(example("custom_model").contains("PROCLAIM THIS: THE TIDE IS IN"));
}

#[test]
fn examples_are_short() {
    for name in ["embed", "custom_tool", "custom_model"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        assert!(lines < 80, "{name} has {lines} lines");
    }
}

/// Answers of about 900 tokens; one byte of input counts as a token.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Vec<u64>>>);

impl Model for Counting {
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        _: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        let input: usize = request.messages.iter().map(|message| message.len()).sum();
        self.0.lock().unwrap().push(input as u64);
        let text = "It was a plain day at sea and the crew kept the watch. ".repeat(60).trim().to_owned();
        let answer = ModelAnswer::of(text.replace(". It", ".\n\nIt"), Usage::reported(input as u64, 300));
        Box::pin(std::future::ready(Ok(answer)))
    }
}

#[tokio::test]
async fn input_of_161_sections_grows_linearly_with_a_window() {
    const SECTIONS: usize = 161;
    const WINDOW: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (1..=SECTIONS).map(|n| format!("s{n:03},Section {n:03}\n")).collect();
    std::fs::write(folder.path().join("rows.csv"), format!("id,title\n{rows}")).unwrap();
    let crew = format!(
        "schema = 1\n[budget]\nmax_tokens = 50000000\n[agents.author]\nmodel = \"count/all\"\n[tasks.section]\n\
         agent = \"author\"\nfor_each = \"rows.csv\"\nkey = \"id\"\ndescription = \"Write {{{{ item.title }}}}.\"\n\
         window = {{ tokens = {WINDOW} }}\n"
    );
    std::fs::write(folder.path().join("crew.toml"), crew).unwrap();
    let model = Counting::default();
    let engine = Options::folder(folder.path()).in_memory().model("count", model.clone()).open().unwrap();
    let report = engine.crew("crew.toml").start().await.unwrap().wait().await.unwrap();
    assert_eq!(report.exit, Exit::Done);
    let inputs = model.0.lock().unwrap().clone();
    assert_eq!(inputs.len(), SECTIONS);
    let (prompt, settled) = (inputs[0], inputs[SECTIONS - 1]);
    // The window is full from the third section on; from then on every prompt is as large as the last.
    assert!(settled > prompt + WINDOW, "the window is not there: {inputs:?}");
    let window = settled - prompt;
    let (total, most) = (inputs.iter().sum::<u64>(), SECTIONS as u64 * (prompt + window));
    assert!(total <= most * 105 / 100 && total >= most * 95 / 100, "{total} of {most}");
    let half = SECTIONS / 2;
    let (first, second) = (inputs[..half].iter().sum::<u64>(), inputs[half..half * 2].iter().sum::<u64>());
    assert!(second.abs_diff(first) * 20 <= first, "{first}, then {second}: not linear");
}

async fn ends(run: Run) -> Exit {
    tokio::time::timeout(PATIENCE, run.wait()).await.expect("it ends").unwrap().exit
}

/// Sixty tasks that begin at once.
const CROWD: &str = "schema = 1\n[crew]\nmax_parallel = 60\n[budget]\nmax_tokens = 50000000\nmax_usd = 50.0\n\
    [providers.offline]\nkind = \"offline\"\nmax_concurrency = 60\n\
    [agents.author]\nmodel = \"offline/any\"\n[tasks.part]\nagent = \"author\"\nfor_each = \"rows.csv\"\nkey = \"id\"\n\
    description = \"Write {{ item.id }}.\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_in_the_middle_of_a_crowd_begins_nothing_twice() {
    let mut paused = 0;
    // Where the coordinator is when the pause is written is the scheduler's choice: many moments are tried.
    for begun in 0..30 {
        let folder = Folder::new(CROWD);
        folder.file("rows.csv", &format!("id\n{}", (1..=60).map(|n| format!("s{n:02}\n")).collect::<String>()));
        let engine = Options::folder(folder.path()).open().unwrap();
        let mut run = engine.crew("crew.toml").start().await.unwrap();
        let mut assigned = 0;
        while assigned < begun * 2 {
            let Some(entry) = run.next().await else { break };
            assigned += usize::from(matches!(&entry.event, Event::Task(TaskEvent::Assigned { .. })));
        }
        run.pause();
        let id = run.id().clone();
        if ends(run).await == Exit::Interrupted {
            paused += 1;
            assert_eq!(ends(engine.resume(id.as_str()).await.unwrap()).await, Exit::Done);
        }
        let assigned = folder.events().into_iter().filter_map(|event| match event {
            Event::Task(TaskEvent::Assigned { step, .. }) => Some(step),
            _ => None,
        });
        let mut assigned: Vec<_> = assigned.collect();
        assert_eq!(assigned.len(), 60, "each begins, once");
        assigned.sort();
        assigned.dedup();
        assert_eq!(assigned.len(), 60, "each begins");
        folder.verify();
    }
    assert!(paused > 0, "no pause came in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_watches_hears_of_nothing_that_is_not_on_disk() {
    let folder = Folder::new(CROWD);
    folder.file("rows.csv", "id\na\nb\nc\n");
    let engine = Options::folder(folder.path()).open().unwrap();
    let mut run = engine.crew("crew.toml").start().await.unwrap();
    let (id, mut next) = (run.id().clone(), 1);
    while let Some(entry) = run.next().await {
        assert_eq!(entry.seq.0, next, "each, in order");
        next += 1;
        let there = engine.store().read(&id, entry.seq).unwrap();
        assert!(!there.is_empty(), "{} is told as {} and is not on disk", entry.event.kind(), entry.seq);
    }
    assert_eq!(next as usize - 1, folder.events().len(), "all of them");
}

/// A file is written, and said to be written, once; also where its plan has more mail than it has read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_file_is_written_once() {
    let crew = CROWD.replace("key = \"id\"\n", "key = \"id\"\noutput_file = \"out/{{ key }}.md\"\n");
    let folder = Folder::new(&crew.replace("= 60", "= 300"));
    folder.file("rows.csv", &format!("id\n{}", (1..=300).map(|n| format!("s{n}\n")).collect::<String>()));
    let engine = Options::folder(folder.path()).open().unwrap();
    assert_eq!(ends(engine.crew("crew.toml").start().await.unwrap()).await, Exit::Done);
    let written = folder.events().into_iter().filter(|event| event.kind() == "task.file_written").count();
    assert_eq!(written, 300);
    folder.verify();
}
