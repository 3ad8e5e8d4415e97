//! `bosun demo`, as a person runs it: its figures, its words, and what it leaves behind.

use std::process::Command;
use std::time::Instant;

fn demo(folder: &std::path::Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bosun"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    // A user's own settings must not reach it.
    command.env("BOSUN_MAX_TOKENS", "1").env("BOSUN_STATE_DIR", "/nowhere");
    let ran = command.arg("demo").args(args).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
}

/// The number after `name` in the demo's last line.
fn figure(line: &str, name: &str) -> u64 {
    let rest = line.split(name).nth(1).unwrap_or_else(|| panic!("no `{name}` in {line}"));
    let digits: String = rest.trim().chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    digits.replace(',', "").parse().unwrap()
}

#[test]
fn the_demo_keeps_every_promise_and_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let (code, out, err) = demo(folder.path(), &["here"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(began.elapsed().as_secs() < 20, "it took {:?}", began.elapsed());
    let line = out.lines().last().unwrap();
    assert_eq!(out.lines().count(), 1, "stdout carries the figures alone: {out}");
    assert_eq!(figure(line, "calls"), 12);
    assert_eq!(figure(line, "recorded calls repeated"), 0);
    // Of the two calls that a process died in the provider got one, unless this machine stood still meanwhile.
    let unseen = err.matches("the provider never got it whole").count() as u64;
    assert_eq!(figure(line, "paid twice"), 2 - unseen, "{line} {err}");
    assert_eq!(figure(line, "cap"), 6000, "{line}");
    let (cap, most) = (figure(line, "cap"), figure(line, "most settled+held"));
    assert!(most > 0 && most <= cap, "{line}");
    assert_eq!(figure(line, "restarts"), 1);
    assert!(line.ends_with("· journal verified · replay identical"), "{line}");

    // The figures again, from what it left: the provider's list of requests and the project.
    let project = folder.path().join("here");
    let list = std::fs::read_to_string(project.join("requests.log")).unwrap();
    let begun = list.lines().filter(|line| !line.starts_with("done ")).count() as u64;
    assert_eq!(begun, figure(line, "calls") + figure(line, "paid twice"));
    assert!(std::fs::read_to_string(project.join("out/brief.md")).unwrap().starts_with("# Brief on notes/"));
    assert!(project.join(".bosun/journal.db").is_file());

    for said in ["kill -9 in call draft#1.1", "exit 11", "panics", "cd ", "bosun show "] {
        assert!(err.contains(said), "`{said}` is missing in {err}");
    }
    assert!(!err.contains('\x1b') && !out.contains('\x1b'), "no colors into a pipe");
}

#[test]
fn the_demo_puts_nothing_into_a_folder_that_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    let (code, out, err) = demo(folder.path(), &["."]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("is not empty"), "{err}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
