//! A project in a temporary folder, the real binary in it, and what must hold of every run afterwards.
//! Invariant: every run that a test made is verified: chain, replay, budget, calls and delegations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boatswain::adapters::models::secrets::Env;
use boatswain::adapters::settings::Flags;
use boatswain::adapters::sizes::O200k;
use boatswain::cli::open::{Project, StoreTexts};
use boatswain::cli::out::{Color, Out};
use boatswain::cli::{Context, Global, crew as crews};
use boatswain::core::chain;
use boatswain::core::event::{CallEvent, Event, RunEnd, RunEvent, Started, TaskEvent, ToolEvent};
use boatswain::core::ids::{CallId, RunId, Seq, Step};
use boatswain::core::ledger::{Ledger, NodeId, Sums, path};
use boatswain::core::money::Caps;
use boatswain::core::run::{Entry, Replay};
use boatswain::ports::store::{RunFilter, RunRow, Store};

use super::stand_in::{Behaviour, Billed, Seen, StandIn};

/// Longer than any run of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Folder {
    dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
    /// The last line of stderr that says anything.
    pub fn last_line(&self) -> &str {
        self.err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default()
    }
}

impl Folder {
    /// A project whose crew file is `crew.toml`.
    pub fn new(crew: &str) -> Folder {
        let folder = Folder { dir: tempfile::tempdir().unwrap(), env: BTreeMap::new() };
        folder.file("crew.toml", crew);
        folder
    }
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
    pub fn state(&self) -> PathBuf {
        self.path().join(".bosun")
    }
    pub fn file(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).unwrap_or_default()
    }
    /// For every process that is started from now on.
    pub fn env(&mut self, name: &str, value: &str) {
        self.env.insert(name.into(), value.into());
    }
    /// `bosun ARGS` in this folder, with nothing of the tester's own environment but the path.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        self.prepare(&mut command);
        command.args(args);
        command
    }
    pub fn prepare(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).envs(&self.env).current_dir(self.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    pub fn bosun(&self, args: &[&str]) -> Ran {
        wait(self.command(args).spawn().unwrap())
    }
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    fn context(&self) -> Context {
        let env: Env = [("HOME".to_owned(), self.path().display().to_string())].into_iter().collect();
        let (global, cwd) = (Global::default(), self.path().to_owned());
        Context { out: Arc::new(Out::new(Color::Never, true)), global, env: Arc::new(env), cwd }
    }
    pub fn project(&self) -> Project {
        Project::at(&self.context(), self.path().to_owned(), Flags::new()).unwrap()
    }
    /// The store, for looking at.
    pub fn store(&self) -> Arc<dyn Store> {
        self.project().store().unwrap()
    }
    /// The runs, newest first, each with its entries.
    pub fn runs(&self) -> Vec<(RunRow, Vec<Entry>)> {
        if !self.state().join("journal.db").exists() {
            return Vec::new();
        }
        let store = self.store();
        let rows = store.runs(&RunFilter::default()).unwrap();
        rows.into_iter().map(|row| (row.clone(), entries(&*store, &row.run))).collect()
    }
    /// The events of the one run.
    pub fn events(&self) -> Vec<Event> {
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "one run was expected");
        runs.into_iter().next().unwrap().1.into_iter().map(|entry| entry.event).collect()
    }
    /// Everything that must hold of every run, whatever happened to it.
    #[track_caller]
    pub fn verify(&self) -> Vec<Figures> {
        if !self.state().join("journal.db").exists() {
            return Vec::new();
        }
        let project = self.project();
        let store = self.store();
        let rows = store.runs(&RunFilter::default()).unwrap();
        rows.iter().map(|row| verify_run(&project, store.clone(), row)).collect()
    }
}

/// The binary under test; another one, such as a release build, by `BOSUN_TEST_BIN`.
pub fn program() -> String {
    std::env::var("BOSUN_TEST_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_bosun").to_owned())
}

/// Waits for the process to end by itself, for a while.
#[track_caller]
pub fn wait(child: Child) -> Ran {
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(PATIENCE) else {
        kill9(pid);
        let output = ended.recv().unwrap().unwrap();
        panic!("still running after {PATIENCE:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    };
    drop(waiter);
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

pub fn kill9(pid: u32) {
    signal(pid, rustix::process::Signal::KILL);
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended by itself.
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits until the world is as it should be.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn entries(store: &dyn Store, run: &RunId) -> Vec<Entry> {
    let rows = store.read(run, Seq(1)).unwrap();
    rows.iter().map(|row| Entry::decode(row.seq, row.at_ms, &row.kind, &row.payload).unwrap()).collect()
}

/// What a run comes to.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub held: u64,
    pub answered: u64,
    pub failed: u64,
    pub lost: u64,
    pub sums: Sums,
    pub derived: u64,
    pub outside: u64,
    pub end: Option<RunEnd>,
}

#[track_caller]
pub fn verify_run(project: &Project, store: Arc<dyn Store>, row: &RunRow) -> Figures {
    let rows = store.read(&row.run, Seq(1)).unwrap();
    chain::verify(&row.run, &rows).expect("the chain");
    assert_eq!(rows.last().map(|last| last.seq), Some(row.last), "the run's own record of its last entry");
    let entries = entries(&*store, &row.run);
    let Event::Run(RunEvent::Started(started)) = &entries[0].event else { panic!("it begins with run.started") };
    let (crew, _) = crews::pinned(project, &*store, started).unwrap();
    let (texts, sizes) = (StoreTexts::new(store.clone()), O200k::new());
    let mut replay = Replay::new(row.run.clone(), crew.clone(), &texts, &sizes);
    for (entry, row) in entries.iter().zip(&rows) {
        replay.step(entry, &row.payload).unwrap_or_else(|divergence| panic!("replay: {divergence}"));
    }
    let (derived, outside) = (replay.derived, replay.outside);
    let run = replay.finish().unwrap_or_else(|divergence| panic!("replay: {divergence}"));
    let mut figures = budget(&crew, &entries, started);
    calls(&entries, &mut figures);
    (figures.derived, figures.outside) = (derived, outside);
    assert_eq!(row.spent, figures.sums.settled, "the list's total is the ledger's");
    assert_eq!(run.ledger.total(), figures.sums);
    figures.end = entries.iter().find_map(|entry| match &entry.event {
        Event::Run(RunEvent::Finished { status, .. }) => Some(*status),
        _ => None,
    });
    if figures.end.is_some_and(|end| end != RunEnd::Cancelled) {
        delegations(&entries);
    }
    figures
}

/// `settled + held + ambiguous <= cap (+ overrun)` at every node, after every entry.
#[track_caller]
fn budget(crew: &Arc<boatswain::core::crew::Crew>, entries: &[Entry], started: &Started) -> Figures {
    let mut ledger = Ledger::default();
    let mut root = started.caps;
    // A node's caps, and one call by which they are read anew after a raise.
    let mut caps: BTreeMap<NodeId, Caps> = BTreeMap::new();
    let mut makers: BTreeMap<NodeId, (Step, boatswain::core::ids::AgentRef)> = BTreeMap::new();
    for entry in entries {
        if let Event::Call(CallEvent::Held(held)) = &entry.event {
            for (node, cap) in path(crew, root, &held.call.step, &held.agent).unwrap() {
                caps.insert(node.clone(), cap);
                makers.insert(node, (held.call.step.clone(), held.agent.clone()));
            }
        }
        if let Event::Ledger(boatswain::core::event::LedgerEvent::Raised { caps: raised, .. }) = &entry.event {
            root = *raised;
            for (step, agent) in makers.values() {
                caps.extend(path(crew, root, step, agent).unwrap());
            }
        }
        ledger.apply(&entry.event).unwrap();
        for (node, sums) in &ledger.nodes {
            let Some(cap) = caps.get(node) else { continue };
            let used = sums.used().minus(sums.overrun);
            assert_eq!(cap.broken_by(used), None, "entry {}: {node} uses {used:?} of {cap:?}", entry.seq);
        }
    }
    Figures { sums: ledger.total(), ..Figures::default() }
}

/// No call is held, answered or failed twice; what is answered was held.
#[track_caller]
fn calls(entries: &[Entry], figures: &mut Figures) {
    let (mut held, mut over) = (BTreeSet::new(), BTreeSet::new());
    let mut end = |call: &CallId, held: &BTreeSet<CallId>| {
        assert!(held.contains(call), "{call} ends and was never held");
        assert!(over.insert(call.clone()), "{call} ends twice");
    };
    for entry in entries {
        let Event::Call(event) = &entry.event else { continue };
        match event {
            CallEvent::Held(hold) => {
                assert!(held.insert(hold.call.clone()), "{} is held twice", hold.call);
                figures.held += 1;
            }
            CallEvent::Answered(answered) => {
                end(&answered.call, &held);
                figures.answered += 1;
            }
            CallEvent::Failed { call, .. } => {
                end(call, &held);
                figures.failed += 1;
            }
            CallEvent::Lost { call, .. } => {
                end(call, &held);
                figures.lost += 1;
            }
            CallEvent::Queued { .. } | CallEvent::Exhausted { .. } | CallEvent::Settled { .. } => {}
        }
    }
}

/// Every delegation that was asked has come back: with a refusal, or with a child's typed result.
#[track_caller]
fn delegations(entries: &[Entry]) {
    let mut open = BTreeSet::new();
    for entry in entries {
        match &entry.event {
            Event::Tool(ToolEvent::Started { call, index, tool, .. }) if tool == "delegate" => {
                open.insert((call.clone(), *index));
            }
            Event::Task(TaskEvent::Returned { from, index, .. })
            | Event::Task(TaskEvent::DelegationRefused { from, index, .. }) => {
                assert!(open.remove(&(from.clone(), *index)), "{from} got a second answer");
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "delegations that never came back: {open:?}");
}

/// The stand-in on a runtime of its own, for tests that wait for processes.
pub struct Provider {
    pub server: StandIn,
    // Dropped last.
    _runtime: tokio::runtime::Runtime,
}

impl Provider {
    pub fn start() -> Provider {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(StandIn::start());
        Provider { server, _runtime: runtime }
    }
    pub fn requests(&self) -> usize {
        self.server.requests()
    }
    pub fn billed(&self) -> Billed {
        self.server.billed()
    }
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }
    pub fn push(&self, behaviour: Behaviour) {
        self.server.push(behaviour);
    }
    /// `[providers.p]` and the model `m` of it, at $1 a million tokens in and $10 out. `more` is
    /// appended to the provider's table.
    pub fn tables(&self, more: &str) -> String {
        format!(
            "[providers.p]\nkind = \"openai-compatible\"\nbase_url = \"{}\"\n{more}\n\
             [models.m]\nid = \"p/m\"\nprice = {{ input = 1.0, output = 10.0 }}\nmax_output = 100\n",
            self.server.base_url()
        )
    }
}

/// Numbers that look random and are the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }
}

/// A figure that the environment may raise: `BOSUN_TEST_NAME`.
pub fn size(name: &str, usual: u64) -> u64 {
    std::env::var(format!("BOSUN_TEST_{name}")).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
