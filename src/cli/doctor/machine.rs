//! The machine's part of `doctor`: settings, terminal, state folder, clock, locks.

use std::path::Path;

use super::{Level, Report};
use crate::adapters::settings::{PROJECT_FILE, user_file};
use crate::adapters::store::SqliteStore;
use crate::cli::Context;
use crate::cli::failure::Exit;
use crate::cli::open::{Project, called, now_ms};
use crate::cli::screen::{columns, count, rfc3339, span};
use crate::ports::store::{RunFilter, RunRow, RunState, Store};

/// 2026-01-01: no Bosun is older.
const EARLIEST_MS: u64 = 1_767_225_600_000;
/// Less on the state folder's disk is soon a full one.
const SCARCE: u64 = 200 << 20;

pub(super) fn settings(context: &Context, project: &Project, report: &mut Report) {
    let files = [user_file(&context.env), Some(project.root.join(PROJECT_FILE))];
    for path in files.into_iter().flatten() {
        let says = if path.is_file() { "read" } else { "not there; nothing is needed in it" };
        report.say(Level::Note, "settings", path.display().to_string(), says);
    }
    let variables: Vec<&str> =
        context.env.keys().filter(|name| name.starts_with("BOSUN_")).map(String::as_str).collect();
    if !variables.is_empty() {
        report.say(Level::Note, "settings", "environment", variables.join(", "));
    }
    let limits = &project.settings.limits;
    if let Some(most) = &limits.max_usd {
        report.say(Level::Note, "settings", "max_usd", format!("{} ({})", most.value, most.origin));
    }
}

pub(super) fn terminal(context: &Context, report: &mut Report) {
    let on = |yes: bool| if yes { "a terminal" } else { "no terminal" };
    let (out, err) = (on(context.out.stdout_is_terminal()), on(context.out.stderr_is_terminal()));
    let wide = columns().map(|columns| format!(", {columns} columns")).unwrap_or_default();
    let color = if context.out.err_is_colored() { "with colors" } else { "without colors" };
    report.say(Level::Note, "terminal", "", format!("stdout is {out}, stderr is {err}{wide}, {color}"));
}

pub(super) fn store(project: &Project, report: &mut Report) {
    let folder = &project.settings.state_dir;
    let name = folder.display().to_string();
    let store = match project.existing_store() {
        Ok(Some(store)) => store,
        Ok(None) => return absent(folder, &name, report),
        Err(failure) => return report.say(Level::Bad(Exit::State), "store", name, failure.text()),
    };
    let size = |file: &str| std::fs::metadata(folder.join(file)).map(|meta| meta.len()).unwrap_or(0);
    let (journal, wal) = (size("journal.db"), size("journal.db-wal"));
    let runs = match store.runs(&RunFilter::default()) {
        Ok(runs) => runs,
        Err(error) => return report.say(Level::Bad(Exit::State), "store", name, error.to_string()),
    };
    let says = format!(
        "opens and can be written; format {}, {} in {}, write-ahead log {}",
        SqliteStore::format(),
        count(runs.len() as u64, "run"),
        bytes(journal),
        bytes(wal)
    );
    report.say(Level::Ok, "store", name.clone(), says);
    space(folder, &name, report);
    clock(&runs, report);
    locks(folder, &*store, &runs, report);
}

/// Nothing has run yet: would it be possible?
fn absent(folder: &Path, name: &str, report: &mut Report) {
    let above = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    match rustix::fs::access(above, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => report.say(Level::Ok, "store", name, "nothing has run here yet; it will be made by the first run"),
        Err(why) => {
            let says = format!("cannot be made: {} cannot be written ({why})", above.display());
            report.say(Level::Bad(Exit::State), "store", name, says);
        }
    }
    space(above, name, report);
    clock(&[], report);
}

fn space(folder: &Path, name: &str, report: &mut Report) {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < SCARCE {
        report.say(Level::Warn, "disk", name, format!("{} free: a full disk stops every run", bytes(free)));
    }
}

/// A clock that is behind what the journal has seen gives days and ages that are wrong.
fn clock(runs: &[RunRow], report: &mut Report) {
    let now = now_ms();
    let last = runs.iter().map(|run| run.updated_ms).max().unwrap_or(0);
    let (level, says) = if now < EARLIEST_MS {
        (Level::Bad(Exit::State), "is years behind: certificates fail and a day's budget is another day's".to_owned())
    } else if now < last {
        let says =
            format!("is {} behind the journal's last entry ({}): it was set back", span(last - now), rfc3339(last));
        (Level::Warn, says)
    } else {
        (Level::Ok, "is not behind the journal; days of a budget end at 00:00 UTC".to_owned())
    };
    report.say(level, "clock", rfc3339(now), says);
}

fn locks(folder: &Path, store: &dyn Store, runs: &[RunRow], report: &mut Report) {
    for run in runs {
        let called = called(store, &run.run);
        let name = format!("run {called}");
        match store.owner(&run.run) {
            Some(owner) => {
                report.say(Level::Note, "lock", name, format!("is running in process {} on {}", owner.pid, owner.host));
            }
            None if run.state == RunState::Running => {
                let left = folder.join("owners").join(run.run.as_str()).exists();
                let left = if left { "; its lock file is nobody's" } else { "" };
                let says = format!("its process is gone{left}: bosun resume {called}");
                report.say(Level::Warn, "lock", name, says);
            }
            None => {}
        }
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}
