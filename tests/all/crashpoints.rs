//! Death at every commit, send, receive and effect boundary. Invariant: whatever the instant, the run
//! resumes, ends as if nothing had happened, and its journal proves it.

use std::collections::BTreeSet;
use std::path::Path;

use super::support::{Folder, until, wait};
use super::whole_crew;

/// What sends, commits or acts. Each needs a crash point nearby: a new one without fails here.
const BOUNDARIES: [&str; 10] = [
    ".append(batch",
    "model.call(",
    "try_tool(&*tool",
    "files.write(",
    "store.begin(",
    "store.claim(",
    "store.pot(",
    "inbox_done(",
    "Outcome::Parked { causes, head }",
    "Outcome::Finished { status, result, head }",
];
/// Lines between a boundary and its point.
const NEAR: usize = 6;
const SOURCES: [&str; 5] = ["src/actors", "src/actors/ledger", "src/actors/run", "src/actors/work", "src/cli/wiring"];

fn sources() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for source in SOURCES {
        let path = root.join(source);
        let paths = match path.is_dir() {
            true => std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect(),
            false => vec![path],
        };
        for path in paths.into_iter().filter(|path| path.is_file() && !path.ends_with("crash.rs")) {
            let text = std::fs::read_to_string(&path).unwrap();
            files.push((path.display().to_string(), text.lines().map(str::to_owned).collect()));
        }
    }
    files
}

/// The points of the source text, in its order.
fn points() -> Vec<String> {
    let mut points = Vec::new();
    for (_, lines) in sources() {
        for line in lines.iter().filter(|line| line.contains("crash_point!(")) {
            points.push(line.split('"').nth(1).expect("a point has a name").to_owned());
        }
    }
    let unique: BTreeSet<&String> = points.iter().collect();
    assert_eq!(unique.len(), points.len(), "a name stands for one place");
    points
}

#[test]
fn every_boundary_of_the_source_has_a_crash_point() {
    let mut found = BTreeSet::new();
    for (path, lines) in sources() {
        for (at, line) in lines.iter().enumerate() {
            let Some(boundary) = BOUNDARIES.iter().find(|boundary| line.contains(**boundary)) else { continue };
            found.insert(*boundary);
            let near = lines[at.saturating_sub(NEAR)..lines.len().min(at + NEAR + 1)].iter();
            assert!(
                near.into_iter().any(|line| line.contains("crash_point!(")),
                "{path}, line {}: `{boundary}` has no crash_point! within {NEAR} lines",
                at + 1
            );
        }
    }
    // A boundary that was renamed must be renamed here too.
    assert_eq!(found, BOUNDARIES.into_iter().collect());
}

fn crew() -> Folder {
    whole_crew::crew("0ms")
}

const RUN: [&str; 5] = ["run", "crew.toml", "--key", "k", "-q"];
const TELLING: [&str; 5] = ["run", "crew.toml", "--key", "k", "--json"];

/// Runs until it ends or dies at the point: `true` if it died.
fn dies(folder: &Folder, point: &str, pass: u32) -> bool {
    let mut command = folder.command(&TELLING);
    let ran = wait(command.env("BOSUN_CRASH_AT", format!("{point}:{pass}")).spawn().unwrap());
    assert!(matches!(ran.code, None | Some(0)), "{point}:{pass}: {ran:?}");
    told_only_what_is_kept(folder, &ran.out, &format!("{point}:{pass}"));
    ran.code.is_none()
}

/// Whoever reads the events of a process that dies was told of none that is not on disk.
fn told_only_what_is_kept(folder: &Folder, out: &str, at: &str) {
    let there = folder.state().join("journal.db").exists();
    let runs = if there { folder.runs() } else { Vec::new() };
    let kept: BTreeSet<(u64, &str)> =
        runs.iter().flat_map(|(_, entries)| entries).map(|entry| (entry.seq.0, entry.event.kind())).collect();
    // The last line may be cut off.
    let lines = out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let told = lines.filter_map(|line| Some((line["seq"].as_u64()?, line["type"].as_str()?.to_owned())));
    for (seq, kind) in told {
        assert!(kept.contains(&(seq, kind.as_str())), "{at}: {kind} was told as {seq}, which is not on disk");
    }
}

fn ask_pause(folder: &Folder) {
    let store = folder.store();
    let runs = store.runs(&Default::default()).unwrap();
    store.inbox_put(&runs[0].run, "pause", "{}", "test", 1).unwrap();
}

/// On a fresh start, on a resume, or on a pause that another process asks for.
fn dies_somewhere(point: &str, pass: u32) -> Option<Folder> {
    let folder = crew();
    if dies(&folder, point, pass) {
        return Some(folder);
    }
    let folder = crew();
    assert!(dies(&folder, "call_send", 2));
    // Asked of a dead process: over with it, and taken out of the inbox.
    ask_pause(&folder);
    if dies(&folder, point, pass) {
        return Some(folder);
    }
    let folder = crew();
    whole_crew::slow(&folder, "research", "400ms");
    let mut command = folder.command(&RUN);
    let child = command.env("BOSUN_CRASH_AT", format!("{point}:{pass}")).spawn().unwrap();
    until("a first entry", || folder.state().join("journal.db").exists());
    until("a run", || folder.store().runs(&Default::default()).is_ok_and(|runs| !runs.is_empty()));
    ask_pause(&folder);
    let ran = wait(child);
    ran.code.is_none().then_some(folder)
}

#[test]
fn death_at_any_boundary_costs_nothing_that_was_recorded() {
    let whole = crew();
    let expected = whole.bosun(&RUN).expect(0).out;
    assert_eq!(expected.trim(), "The whole.");
    whole.verify();
    let points = points();
    assert!(points.len() > 15, "{points:?}");
    std::thread::scope(|threads| {
        for chunk in points.chunks(points.len().div_ceil(3)) {
            let expected = &expected;
            threads.spawn(move || {
                for point in chunk {
                    for pass in [1, 2] {
                        die_and_resume(point, pass, expected);
                    }
                }
            });
        }
    });
}

fn die_and_resume(point: &str, pass: u32, expected: &str) {
    let Some(folder) = dies_somewhere(point, pass) else {
        assert!(pass > 1, "{point} is never passed: the crew of this test must be made to pass it");
        return;
    };
    // What is there after the death is already sound.
    folder.verify();
    let ran = folder.bosun(&RUN);
    assert_eq!(ran.code, Some(0), "after {point}:{pass}: {}", ran.err);
    assert_eq!(ran.out, expected, "after {point}:{pass}");
    assert_eq!(folder.read("out/whole.md").trim(), expected.trim(), "after {point}:{pass}");
    let figures = folder.verify();
    assert_eq!(figures.len(), 1, "after {point}:{pass}: one key, one run");
    let lost = figures.iter().map(|run| run.lost).sum::<u64>();
    assert!(lost <= 4, "after {point}:{pass}: {lost} calls in doubt");
}
