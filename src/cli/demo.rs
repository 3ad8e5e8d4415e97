//! `demo`: kills, starves and crashes a crew of its own, and counts. Invariant: every figure it prints
//! is counted from the journal or from the provider's own list of requests, and one that is not as
//! promised is exit 1.

mod child;
mod count;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use self::child::{Child, Stay};
use self::count::{Count, Requests};
use super::failure::{Exit, Failure, Outcome};
use super::open::{self, Journal, Project};
use super::{Context, Global};
use crate::adapters::settings::Flags;
use crate::core::ids::RunId;
use crate::core::money::grouped;

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// A new or empty folder for the project; a temporary one unless stated
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// The project that the demo writes.
const FILES: [(&str, &str); 4] = [
    ("crew.toml", include_str!("demo/crew.toml")),
    ("notes/hull.md", include_str!("demo/notes/hull.md")),
    ("notes/engine.md", include_str!("demo/notes/engine.md")),
    ("notes/papers.md", include_str!("demo/notes/papers.md")),
];
/// Tokens: too few for the crew, so that it stops before its end.
const CAP: &str = "6000";
/// Where the crew is let on to after that.
const MORE: &str = "12000tok";
/// The step in whose call the process is killed, and the one whose request is on its way then.
const KILLS: [&str; 2] = ["draft#1", "draft#2"];
/// The step whose agent is made to panic.
const PANIC: &str = "draft#2";

pub fn demo(context: &Context, args: DemoArgs) -> Outcome {
    let root = project(context, args.folder)?;
    let say = |text: &str| context.out.note(text);
    say("[offline] A stand-in answers here.\nIt is not a language model.");
    say(&format!("Project: {}\n", root.display()));

    let calm = Child::new(context, &root, "calm", 0)?;
    let undisturbed = calm.run(&["run", "crew.toml"])?.ended(Exit::Done)?;
    let calm_run = look(context, &root)?;
    let calm_calls = count::answered(&calm_run.entries).len();
    say(&format!("1. The crew undisturbed: {calm_calls} calls."));

    let child = Child::new(context, &root, "requests", child::DELAY_MS)?;
    let start = ["run", "crew.toml", "--max-tokens", CAP];
    let killed = child.until_in_call(&start, KILLS[0])?;
    say(&format!("2. Again, with a cap of {} tokens.\n   kill -9 in call {killed}.", grouped_text(CAP)));
    let run = look(context, &root)?.row.run;
    let resume = ["resume", run.as_str()];
    let (killed, unseen) = child.until_on_its_way(&resume, KILLS[1], || in_flight(context, &root))?;
    let how = match unseen {
        true => format!("while {killed} is on its way:\n   the provider never got it whole"),
        // A machine that stood still meanwhile.
        false => format!("in call {killed}"),
    };
    say(&format!("3. bosun resume {}\n   kill -9 {how}.", run.short()));
    let starved = child.panicking(&resume, PANIC)?.ended(Exit::Budget)?;
    say(&format!("4. bosun resume {}\n   The agent of {PANIC} panics.", run.short()));
    say(&format!("   Then the cap: exit {}.", Exit::Budget.code()));
    starved.lines("paused by budget").for_each(|line| say(&format!("   {}", line.replacen(": ", ":\n   ", 1))));
    let raise = ["resume", run.as_str(), "--raise-budget", MORE];
    let finished = child.run(&raise)?.ended(Exit::Done)?;
    say(&format!(
        "5. bosun resume {} \\\n     --raise-budget {MORE}\n   Done: exit {}.",
        run.short(),
        Exit::Done.code()
    ));

    let journal = read(context, &root, &run)?;
    let count = Count::of(context, &root, &journal, &child.requests()?)?;
    let mut wrong = count.wrong(calm_calls, PANIC);
    match undisturbed.result == finished.result {
        true => say(&format!("   Same result, {} bytes.", finished.result.len())),
        false => wrong.push("the result differs from the undisturbed run's".to_owned()),
    }
    end(context, &root, &run, &count, wrong)
}

fn end(context: &Context, root: &Path, run: &RunId, count: &Count, wrong: Vec<String>) -> Outcome {
    context.out.note(&format!(
        "The provider's own list has {} requests;\n\
         the journal: {} answers, {} calls lost.\n\
         Under the raised cap, {} tok,\n\
         most settled+held was {}.\n",
        count.requests,
        count.calls,
        count.lost,
        grouped(count.raised.0),
        grouped(count.raised.1),
    ));
    let folder = root.display();
    context.out.note(&format!("Look at it:\n  cd {folder}\n  bosun show {}\n  cat out/brief.md\n", run.short()));
    context.out.line(&count.line());
    if wrong.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::new(Exit::Internal, format!("not as promised: {}", wrong.join("; ")))
        .hint(format!("the project is kept in {folder}; please report it")))
}

/// `9000` as people read it.
fn grouped_text(digits: &str) -> String {
    digits.parse().map_or_else(|_| digits.to_owned(), grouped)
}

/// Writes the project into a folder that holds nothing else.
fn project(context: &Context, folder: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let fresh = || std::env::temp_dir().join(format!("bosun-demo-{}-{}", std::process::id(), open::now_ms()));
    let root = folder.map_or_else(fresh, |folder| context.cwd.join(folder));
    let wrong = |path: &Path, why: &std::io::Error| Failure::usage(format!("{}: {why}", path.display()));
    if std::fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::usage(format!("{} is not empty; the demo needs a folder of its own", root.display()))
            .hint("bosun demo makes a temporary one"));
    }
    for (path, text) in FILES {
        let path = root.join(path);
        let folder = path.parent().unwrap_or(&root);
        std::fs::create_dir_all(folder).map_err(|why| wrong(folder, &why))?;
        std::fs::write(&path, text).map_err(|why| wrong(&path, &why))?;
    }
    std::fs::canonicalize(&root).map_err(|why| wrong(&root, &why))
}

/// The project as its own processes see it: nothing of the user's settings.
fn inside(context: &Context, root: &Path) -> Result<Project, Failure> {
    let env = Arc::new(child::environment(context, root));
    let own = Context { out: context.out.clone(), global: Global::default(), env, cwd: root.to_owned() };
    Project::at(&own, root.to_owned(), Flags::new())
}

/// The latest run.
fn look(context: &Context, root: &Path) -> Result<Journal, Failure> {
    let store = inside(context, root)?.store()?;
    open::read_run(&*store, open::find_run(&*store, "latest")?)
}

/// The calls that the latest run has open.
fn in_flight(context: &Context, root: &Path) -> Result<Vec<String>, Failure> {
    let journal = look(context, root)?;
    Ok(journal.tally.in_flight().iter().map(|call| call.to_string()).collect())
}

fn read(context: &Context, root: &Path, run: &RunId) -> Result<Journal, Failure> {
    let store = inside(context, root)?.store()?;
    open::read_run(&*store, open::find_run(&*store, run.as_str())?)
}

impl Stay {
    /// It ended by itself, as it should.
    fn ended(self, exit: Exit) -> Result<Stay, Failure> {
        if self.code == Some(i32::from(exit.code())) {
            return Ok(self);
        }
        let found = self.code.map_or("by a signal".to_owned(), |code| format!("with exit {code}"));
        let why = format!("not as promised: a process ended {found}, expected {}", exit.code());
        Err(Failure::new(Exit::Internal, format!("{why}\n{}", self.said.trim_end())))
    }
    fn lines(&self, with: &str) -> impl Iterator<Item = &str> {
        self.said.lines().filter(move |line| line.contains(with))
    }
}
