use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use crate::adapters::files::open_folder;
use crate::adapters::tools::builtin::BUILTINS;
use crate::ports::tool::{ToolCall, ToolOutcome};

mod effects;
mod escape;

/// A file tool over a root with default places and the given grants.
struct Bench {
    root: tempfile::TempDir,
    grants: Vec<Grant>,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Bench {
        let bench = Bench { root: tempfile::tempdir().unwrap(), grants: Vec::new() };
        for (path, text) in files {
            bench.put(path, text.as_bytes());
        }
        bench
    }
    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fn places(&self, read: &[&str], write: &[&str]) -> Places {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let root = Arc::new(open_folder(self.root.path()).unwrap());
        Places::new(root, &own(read), &own(write), self.grants.clone().into()).unwrap()
    }
    async fn call_at(&self, tool: &str, places: Places, arguments: Value) -> Result<String, String> {
        let builtin = BUILTINS.iter().find(|builtin| builtin.name == tool).unwrap();
        let call = ToolCall { arguments: arguments.as_object().unwrap().clone(), idempotency_key: "k".into() };
        match builtin.tool(builtin.spec(), places).call(call).await {
            ToolOutcome::Ok(text) => Ok(text),
            ToolOutcome::Error(why) => Err(why),
            ToolOutcome::Unknown(why) => panic!("{why}"),
        }
    }
    async fn call(&self, tool: &str, arguments: Value) -> Result<String, String> {
        self.call_at(tool, self.places(&[], &[]), arguments).await
    }
}

#[tokio::test]
async fn reading_whole_in_pages_and_with_numbers() {
    let bench = Bench::new(&[("a.md", "one\ntwo\nthree"), ("empty", "")]);
    assert_eq!(bench.call("files.read", json!({ "path": "a.md" })).await.unwrap(), "one\ntwo\nthree");
    assert_eq!(bench.call("files.read", json!({ "path": "empty" })).await.unwrap(), "");
    let page = bench.call("files.read", json!({ "path": "./a.md", "offset": 2, "limit": 1, "numbered": true })).await;
    assert_eq!(page.unwrap(), "     2\ttwo\n[lines 2 to 2; go on with offset = 3]\n");
    assert_eq!(bench.call("files.read", json!({ "path": "a.md", "offset": 3 })).await.unwrap(), "three");
    let past = bench.call("files.read", json!({ "path": "a.md", "offset": 9 })).await.unwrap_err();
    assert_eq!(past, "`a.md` has 3 lines; offset 9 is past its end");
    let missing = bench.call("files.read", json!({ "path": "b.md" })).await.unwrap_err();
    assert_eq!(missing, "`b.md` does not exist; files.list shows what does");
    let folder = bench.call("files.read", json!({ "path": "." })).await.unwrap_err();
    assert_eq!(folder, "`.` is a folder; files.list shows what is in it");
}

#[tokio::test]
async fn a_large_file_is_paged_without_loss() {
    let bench = Bench::new(&[]);
    let text: String = (0..200_000).map(|i| format!("line {i} äöü\n")).collect();
    bench.put("big", text.as_bytes());
    let (mut offset, mut all, mut pages) = (1, String::new(), 0);
    loop {
        let page = bench.call("files.read", json!({ "path": "big", "offset": offset })).await.unwrap();
        assert!(page.len() <= read::PAGE_BYTES + 100);
        pages += 1;
        let Some((head, note)) = page.rsplit_once("[lines ") else {
            all.push_str(&page);
            break;
        };
        all.push_str(head);
        offset = note.split_once("offset = ").unwrap().1.trim_end_matches("]\n").parse().unwrap();
    }
    assert!(pages >= 4 && all == text, "{pages} pages, {} of {} bytes", all.len(), text.len());
}

#[tokio::test]
async fn a_line_longer_than_a_page_is_cut_and_says_so() {
    let bench = Bench::new(&[]);
    bench.put("long", format!("{}\nnext\n", "ä".repeat(read::PAGE_BYTES)).as_bytes());
    let page = bench.call("files.read", json!({ "path": "long" })).await.unwrap();
    assert!(
        page.ends_with("[line 1 is longer than 1048576 bytes and is cut]\n[lines 1 to 1; go on with offset = 2]\n")
    );
    assert_eq!(bench.call("files.read", json!({ "path": "long", "offset": 2 })).await.unwrap(), "next\n");
}

#[tokio::test]
async fn what_is_not_utf8_text_says_so() {
    let bench = Bench::new(&[]);
    bench.put("latin1", b"first\ncaf\xe9\n");
    bench.put("binary", b"\x7fELF\0\0");
    bench.put("bom", b"\xef\xbb\xbftext");
    let why = bench.call("files.read", json!({ "path": "latin1" })).await.unwrap_err();
    assert_eq!(why, "`latin1` is not UTF-8 text (byte 0xe9 in line 2); convert it, or read another file");
    assert_eq!(
        bench.call("files.read", json!({ "path": "latin1", "limit": 1 })).await.unwrap().lines().next(),
        Some("first")
    );
    assert!(bench.call("files.read", json!({ "path": "binary" })).await.unwrap_err().contains("not a text file"));
    assert_eq!(bench.call("files.read", json!({ "path": "bom" })).await.unwrap(), "text");
    let found = bench.call("files.search", json!({ "pattern": "t" })).await.unwrap();
    assert_eq!(found, "bom:1: text\n[2 files that are not UTF-8 text or too large were skipped]\n");
}

#[tokio::test]
async fn a_listing_is_sorted_capped_and_hides_what_is_not_for_tools() {
    let bench =
        Bench::new(&[("b.md", ""), ("a/z.txt", ""), ("a/b/c.md", ""), (".bosun/journal", ""), (".git/HEAD", "")]);
    symlink("a/z.txt", bench.root.path().join("link")).unwrap();
    symlink("/etc", bench.root.path().join("out-link")).unwrap();
    symlink("nowhere", bench.root.path().join("dangling")).unwrap();
    bench.put("bad\nname", b"");
    let flat = bench.call("files.list", json!({})).await.unwrap();
    assert_eq!(flat, ".git/\na/\nb.md\nlink\n[1 names that are not plain UTF-8 are left out]\n");
    let deep = bench.call("files.list", json!({ "recursive": true, "glob": "*.{md,txt}" })).await.unwrap();
    assert_eq!(deep, "a/b/c.md\na/z.txt\nb.md\n[1 names that are not plain UTF-8 are left out]\n");
    let below = bench.call("files.list", json!({ "path": "./a/", "recursive": true, "glob": "b/**" })).await.unwrap();
    assert_eq!(below, "a/b/c.md\n");
    assert_eq!(bench.call("files.list", json!({ "path": "b.md" })).await.unwrap(), "b.md\n");
    assert_eq!(
        bench.call("files.list", json!({ "path": "a", "glob": "*.rs" })).await.unwrap(),
        "[nothing here matches]\n"
    );
    for i in 0..1_200 {
        bench.put(&format!("many/{i:04}"), b"");
    }
    let many = bench.call("files.list", json!({ "path": "many" })).await.unwrap();
    assert!(
        many.starts_with("many/0000\n")
            && many.ends_with("many/0999\n[1000 of 1200 shown; narrow with path or glob]\n")
    );
}

#[tokio::test]
async fn a_search_is_ordered_capped_and_linear() {
    let bench = Bench::new(&[("b.md", "Ahoy\nnone\nahoy (all)\n"), ("a/x.md", "ahoy\n"), ("a/x.txt", "ahoy\n")]);
    let found = bench.call("files.search", json!({ "pattern": "^ahoy", "glob": "*.md" })).await.unwrap();
    assert_eq!(found, "a/x.md:1: ahoy\nb.md:3: ahoy (all)\n");
    let found =
        bench.call("files.search", json!({ "pattern": "(ALL)", "literal": true, "ignore_case": true })).await.unwrap();
    assert_eq!(found, "b.md:3: ahoy (all)\n");
    let found = bench.call("files.search", json!({ "pattern": "ahoy", "path": "a/x.txt" })).await.unwrap();
    assert_eq!(found, "a/x.txt:1: ahoy\n");
    let wrong = bench.call("files.search", json!({ "pattern": "(all" })).await.unwrap_err();
    assert!(
        wrong.contains("is not a regular expression") && wrong.ends_with("set literal = true to search for it as text")
    );
    bench.put("evil", format!("{}!\n", "a".repeat(50_000)).as_bytes());
    let found = bench.call("files.search", json!({ "pattern": "^(a+)+$", "path": "evil" })).await.unwrap();
    assert_eq!(found, "[no line matches]\n");
    bench.put("many", "hit\n".repeat(500).as_bytes());
    let found = bench.call("files.search", json!({ "pattern": "hit" })).await.unwrap();
    assert!(found.ends_with("many:200: hit\n[the first 200 lines; narrow with path, glob or pattern]\n"), "{found}");
}

#[tokio::test]
async fn grants_are_read_by_the_text_the_user_gave_and_nothing_beside_them() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("notes")).unwrap();
    fs::write(outside.path().join("notes/a.md"), "inside the grant\n").unwrap();
    fs::write(outside.path().join("beside.md"), "beside\n").unwrap();
    fs::write(outside.path().join("single.md"), "single\n").unwrap();
    symlink(outside.path().join("beside.md"), outside.path().join("notes/link")).unwrap();
    let absolute = outside.path().join("single.md").display().to_string();
    let base = outside.path().join("notes");
    let mut bench = Bench::new(&[("own.md", "own\n")]);
    bench.grants = vec![
        Grant::open("../notes/", &base).unwrap(),
        Grant::open(&absolute, &base).unwrap(),
        Grant::open("./a.md", &base).unwrap(),
    ];
    for (path, expected) in [
        ("../notes/a.md", "inside the grant\n"),
        (absolute.as_str(), "single\n"),
        ("a.md", "inside the grant\n"),
        ("own.md", "own\n"),
    ] {
        assert_eq!(bench.call("files.read", json!({ "path": path })).await.unwrap(), expected, "{path}");
    }
    let listed = bench.call("files.list", json!({ "path": "../notes" })).await.unwrap();
    assert_eq!(listed, "../notes/a.md\n", "a link out of the grant is left out");
    let found = bench.call("files.search", json!({ "path": "../notes", "pattern": "grant" })).await.unwrap();
    assert_eq!(found, "../notes/a.md:1: inside the grant\n");
    for path in ["../notes/../beside.md", "../notes/link", "../beside.md", "../notesX", &format!("{absolute}/x"), "../"]
    {
        assert!(bench.call("files.read", json!({ "path": path })).await.is_err(), "{path}");
    }
    assert!(
        bench.call("files.write", json!({ "path": "../notes/a.md", "text": "x" })).await.is_err(),
        "a grant is for reading"
    );
    assert!(Grant::open("../missing", &base).err().unwrap().contains("`../missing` cannot be read"));
}

#[tokio::test]
async fn a_pipe_is_refused_without_waiting() {
    let bench = Bench::new(&[]);
    let path = bench.root.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let why = bench.call("files.read", json!({ "path": "pipe" })).await.unwrap_err();
    assert!(why.contains("pipes and devices are not read"), "{why}");
    assert_eq!(bench.call("files.list", json!({})).await.unwrap(), "[nothing here matches]\n");
}
