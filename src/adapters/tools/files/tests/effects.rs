//! What `files.append` and `files.move` do to files, and what they leave alone.

use super::*;

#[tokio::test]
async fn appending_adds_to_the_end_and_makes_what_is_missing() {
    let bench = Bench::new(&[("out/log.md", "one\n")]);
    let add = async |path: &str, text: &str| bench.call("files.append", json!({ "path": path, "text": text })).await;
    let said = add("out/log.md", "two\n").await.unwrap();
    assert_eq!(said, "added 4 bytes to out/log.md, which has 8 now");
    assert_eq!(fs::read_to_string(bench.root.path().join("out/log.md")).unwrap(), "one\ntwo\n");
    add("out/new/deep.md", "first").await.unwrap();
    add("out/new/deep.md", "second").await.unwrap();
    assert_eq!(fs::read_to_string(bench.root.path().join("out/new/deep.md")).unwrap(), "firstsecond");
    for (path, expected) in [
        ("log.md", "path `log.md` is refused: this tool writes only `out`"),
        ("out", "`out` is a folder; name a file in it"),
        ("out/new", "`out/new` is a folder; name a file in it"),
        ("out/log.md/x", "`out/log.md/x`: a part of the path is a file, not a folder"),
    ] {
        assert_eq!(add(path, "x").await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn nothing_is_appended_through_links_or_to_pipes() {
    let bench = Bench::new(&[("out/a", "a"), ("elsewhere", "kept")]);
    let root = bench.root.path();
    symlink("a", root.join("out/link")).unwrap();
    symlink("../elsewhere", root.join("out/far")).unwrap();
    symlink("../made", root.join("out/dangling")).unwrap();
    fs::hard_link(root.join("elsewhere"), root.join("out/hard")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(root.join("out/pipe")).status().unwrap().success());
    for path in ["out/link", "out/far", "out/dangling", "out/hard", "out/pipe"] {
        let why = bench.call("files.append", json!({ "path": path, "text": "x" })).await.unwrap_err();
        assert!(why.contains("link") || path == "out/pipe", "{path}: {why}");
    }
    assert_eq!(fs::read_to_string(root.join("elsewhere")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(root.join("out/a")).unwrap(), "a");
    assert!(!root.join("made").exists());
}

/// From `inbox`, to `archive`.
async fn relocate(bench: &Bench, from: &str, to: &str, overwrite: bool) -> Result<String, String> {
    let places = bench.places(&[], &[]).moving(&["inbox".into()], &["archive".into()]).unwrap();
    bench.call_at("files.move", places, json!({ "from": from, "to": to, "overwrite": overwrite })).await
}

#[tokio::test]
async fn a_move_goes_from_its_folders_to_its_folders() {
    let bench = Bench::new(&[("inbox/a.pdf", "A"), ("inbox/b.pdf", "B"), ("inbox/c.pdf", "C"), ("other/x", "X")]);
    let root = bench.root.path().to_owned();
    for (from, to, place) in [
        ("inbox/a.pdf", "archive/2026/bills/", "archive/2026/bills/a.pdf"),
        ("./inbox/b.pdf", "archive", "archive/b.pdf"),
        ("inbox/c.pdf", "archive/2026", "archive/2026/c.pdf"),
        ("inbox/d.pdf", "archive/named.pdf", "archive/named.pdf"),
    ] {
        bench.put("inbox/d.pdf", b"D");
        let said = relocate(&bench, from, to, false).await.unwrap();
        assert_eq!(said, format!("moved {} to {place}", from.trim_start_matches("./")));
        assert!(root.join(place).is_file() && !root.join(from).exists());
    }
    for (from, to, expected) in [
        ("other/x", "archive/", "path `other/x` is refused: this tool moves files only from `inbox`"),
        ("inbox/y", "other/", "`inbox/y` does not exist; files.list shows what does"),
        ("inbox", "archive/", "`inbox` is a folder; files.move moves one file"),
        ("archive/b.pdf", "inbox/", "path `archive/b.pdf` is refused: this tool moves files only from `inbox`"),
    ] {
        assert_eq!(relocate(&bench, from, to, false).await.unwrap_err(), expected);
    }
    bench.put("inbox/e.pdf", b"E");
    let why = relocate(&bench, "inbox/e.pdf", "other/e.pdf", false).await.unwrap_err();
    assert_eq!(why, "path `other/e.pdf` is refused: this tool moves files only to `archive`");
    assert!(root.join("inbox/e.pdf").exists());
}

#[tokio::test]
async fn a_move_replaces_only_what_it_is_told_to() {
    let bench = Bench::new(&[("inbox/a", "new"), ("archive/a", "old"), ("archive/folder/a/in", "kept")]);
    let root = bench.root.path();
    let why = relocate(&bench, "inbox/a", "archive/a", false).await.unwrap_err();
    assert_eq!(why, "`archive/a` exists already; choose another name, or set overwrite = true");
    assert_eq!(fs::read_to_string(root.join("archive/a")).unwrap(), "old");
    let why = relocate(&bench, "inbox/a", "archive/folder", true).await.unwrap_err();
    assert!(why.starts_with("`archive/folder/a` is a folder"), "{why}");
    symlink("../elsewhere", root.join("archive/link")).unwrap();
    assert!(relocate(&bench, "inbox/a", "archive/link", false).await.unwrap_err().contains("exists already"));
    relocate(&bench, "inbox/a", "archive/a", true).await.unwrap();
    assert_eq!(fs::read_to_string(root.join("archive/a")).unwrap(), "new");
    symlink("a", root.join("inbox/link")).unwrap();
    let why = relocate(&bench, "inbox/link", "archive/l", false).await.unwrap_err();
    assert_eq!(why, "`inbox/link` is a link; files.move moves plain files only");
}

#[tokio::test]
async fn of_two_moves_to_one_place_one_wins_and_no_file_is_lost() {
    for round in 0..20 {
        let bench = Bench::new(&[("inbox/a", "A"), ("inbox/b", "B")]);
        let (a, b) = tokio::join!(
            relocate(&bench, "inbox/a", "archive/one", false),
            relocate(&bench, "inbox/b", "archive/one", false)
        );
        assert!(a.is_ok() != b.is_ok(), "round {round}: {a:?} {b:?}");
        let (left, moved) = if a.is_ok() { ("inbox/b", "A") } else { ("inbox/a", "B") };
        assert!(bench.root.path().join(left).exists());
        assert_eq!(fs::read_to_string(bench.root.path().join("archive/one")).unwrap(), moved);
    }
}

#[tokio::test]
async fn without_folders_of_its_own_a_move_stays_in_what_may_be_written() {
    let bench = Bench::new(&[("a", "A"), ("out/b", "B")]);
    let why = bench.call("files.move", json!({ "from": "a", "to": "out/" })).await.unwrap_err();
    assert_eq!(why, "path `a` is refused: this tool moves files only from `out`");
    bench.call("files.move", json!({ "from": "out/b", "to": "out/done/" })).await.unwrap();
    assert!(bench.root.path().join("out/done/b").exists());
}

#[tokio::test]
async fn an_effect_that_took_too_long_is_unknown_and_a_reading_is_an_error() {
    let bench = Bench::new(&[("out/a", "A")]);
    let late = async |name: &str, arguments: Value| {
        let builtin = BUILTINS.iter().find(|builtin| builtin.name == name).unwrap();
        let spec = crate::core::chat::ToolSpec { timeout_ms: 0, ..builtin.spec() };
        let call = ToolCall { arguments: arguments.as_object().unwrap().clone(), idempotency_key: "k".into() };
        // The work is begun on a thread of its own; the time is over before it can be awaited.
        builtin.tool(spec, bench.places(&[], &[])).call(call).await
    };
    let text = "a b. ".repeat(1_000_000);
    let read = late("text.stats", json!({ "text": text })).await;
    assert!(matches!(&read, ToolOutcome::Error(why) if why.contains("took longer")), "{read:?}");
    let bulk = late("files.append", json!({ "path": "out/a", "text": text })).await;
    assert!(matches!(&bulk, ToolOutcome::Unknown(why) if why.contains("took longer")), "{bulk:?}");
}

#[tokio::test]
async fn a_text_is_counted_given_or_read() {
    let bench = Bench::new(&[("a.md", "One two. Three!\nFour\n")]);
    let figures = "{\"words\":4,\"characters\":21,\"sentences\":3,\"lines\":2,\"tokens\":7}\n";
    let path = bench.call("text.stats", json!({ "path": "a.md" })).await.unwrap();
    let text = bench.call("text.stats", json!({ "text": "One two. Three!\nFour\n" })).await.unwrap();
    assert_eq!((path.as_str(), text.as_str()), (figures, figures));
    assert!(bench.call("text.stats", json!({})).await.unwrap_err().contains("give one of them"));
    let both = json!({ "text": "a", "path": "a.md" });
    assert!(bench.call("text.stats", both).await.unwrap_err().contains("give one of them"));
    bench.put("big", &vec![b'a'; (8 << 20) + 1]);
    assert!(bench.call("text.stats", json!({ "path": "big" })).await.unwrap_err().contains("at most 8388608 are read"));
    bench.put("latin", b"caf\xe9");
    assert!(
        bench.call("text.stats", json!({ "path": "latin" })).await.unwrap_err().contains("not UTF-8 text (at byte 3)")
    );
}
