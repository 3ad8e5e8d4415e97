//! Nothing outside is read or written, whatever the path says and whatever links do meanwhile.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

const CANARY: &str = "canary: this text lies outside";

/// 60 paths that lead out, or pretend to, or name nothing a tool may touch. `@` stands for the
/// absolute path of the folder outside.
const NASTY: [&str; 60] = [
    "../outside/canary",
    "..",
    "../",
    "../..",
    "./..",
    "./../outside/canary",
    ".//../outside/canary",
    "docs/..",
    "docs/../../outside/canary",
    "docs/./../../outside/canary",
    "docs//..//..//outside/canary",
    "../root/../outside/canary",
    "docs/../docs/a.md",
    "out/../out/x",
    "out/../../outside/canary",
    "out/..",
    "@/canary",
    "@",
    "//@/canary",
    "/@/canary",
    "/",
    "//",
    "/.",
    "/..",
    "/etc/passwd",
    "/proc/self/environ",
    "/proc/self/cwd/../outside/canary",
    "/proc/self/root/etc/passwd",
    "/dev/stdin",
    "/dev/zero",
    "~",
    "~/canary",
    "~root/canary",
    "~/../outside/canary",
    "..\\outside\\canary",
    "docs\\..\\..\\outside\\canary",
    "C:\\Windows\\win.ini",
    "\\\\host\\share\\x",
    "docs/..\\..\\outside\\canary",
    "out\\x",
    "..\u{0}/outside/canary",
    "docs/a.md\u{0}.png",
    "docs/a.md\n",
    "\t../outside/canary",
    "a\u{1b}[2Jb",
    "\u{202e}dm.a/scod",
    "docs/\u{2066}a.md",
    "",
    ".bosun/journal.db",
    ".BOSUN/journal.db",
    "docs/.bosun-tmp-1",
    ".bosun",
    "link_file",
    "link_dir/canary",
    "link_up/outside/canary",
    "link_abs/canary",
    "out/link_dir/canary",
    "docs/link_deep/canary",
    "out/link_dir/new/x",
    "link_dir",
];

/// `root/` with links out of it, beside `outside/` with the canary.
fn place() -> (Bench, tempfile::TempDir) {
    let both = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
    fs::create_dir(both.path().join("outside")).unwrap();
    fs::write(both.path().join("outside/canary"), CANARY).unwrap();
    let bench = Bench { root: tempfile::tempdir_in(both.path()).unwrap(), grants: Vec::new() };
    bench.put("docs/a.md", b"fine\n");
    bench.put(".bosun/journal.db", b"canary");
    fs::create_dir(bench.root.path().join("out")).unwrap();
    let outside = both.path().join("outside");
    for (name, to) in [
        ("link_file", outside.join("canary")),
        ("link_dir", "../outside".into()),
        ("link_up", "..".into()),
        ("link_abs", outside.clone()),
        ("out/link_dir", "../../outside".into()),
        ("docs/link_deep", "../link_dir".into()),
    ] {
        symlink(to, bench.root.path().join(name)).unwrap();
    }
    (bench, both)
}

#[tokio::test]
async fn sixty_nasty_paths_are_refused_by_every_tool() {
    let (bench, both) = place();
    let outside = both.path().join("outside");
    for nasty in NASTY {
        let path = nasty.replace('@', &outside.display().to_string());
        for (tool, arguments) in [
            ("files.read", json!({ "path": path })),
            ("files.list", json!({ "path": path, "recursive": true })),
            ("files.search", json!({ "path": path, "pattern": "canary" })),
            ("files.append", json!({ "path": path, "text": "overwritten" })),
            ("files.move", json!({ "from": path, "to": "out/taken", "overwrite": true })),
            ("text.stats", json!({ "path": path })),
            ("data.query", json!({ "path": path, "format": "csv" })),
            ("data.query", json!({ "path": path, "format": "json" })),
            ("data.query", json!({ "path": path, "format": "jsonl" })),
            ("files.write", json!({ "path": path, "text": "overwritten" })),
        ] {
            // The widest places there are: the whole root for both.
            let answer = bench.call_at(tool, bench.places(&["."], &["."]), arguments).await;
            let replaced_link = tool == "files.write" && nasty.starts_with("link_") && !nasty.contains('/');
            if replaced_link {
                // Writing to the place of a link puts a file there; what it led to is untouched.
                assert!(answer.is_ok(), "{path:?}: {answer:?}");
                assert!(!fs::symlink_metadata(bench.root.path().join(nasty)).unwrap().is_symlink());
                continue;
            }
            let why = answer.expect_err(&format!("{tool} {path:?}"));
            assert!(!why.contains(CANARY), "{why}");
        }
        // A move to it: into the root is no escape, nor is putting a file in a link's place; outside is.
        bench.put("docs/b.md", b"mine");
        let to = json!({ "from": "docs/b.md", "to": path, "overwrite": true });
        let _ = bench.call_at("files.move", bench.places(&["."], &["."]), to).await;
        let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["canary"], "{path:?} made something outside");
        assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), CANARY, "{path:?}");
    }
    assert_eq!(fs::read(bench.root.path().join(".bosun/journal.db")).unwrap(), b"canary");
}

#[tokio::test]
async fn a_whole_search_and_listing_stay_inside() {
    let (bench, _both) = place();
    assert_eq!(bench.call("files.search", json!({ "pattern": "canary" })).await.unwrap(), "[no line matches]\n");
    assert_eq!(bench.call("files.list", json!({ "recursive": true })).await.unwrap(), "docs/\ndocs/a.md\nout/\n");
}

#[tokio::test]
async fn below_a_read_root_a_link_into_the_rest_of_the_project_is_not_followed() {
    let bench = Bench::new(&[("docs/a.md", "fine"), ("secret.md", "secret")]);
    symlink("../secret.md", bench.root.path().join("docs/link")).unwrap();
    let read =
        async |path: &str| bench.call_at("files.read", bench.places(&["docs"], &[]), json!({ "path": path })).await;
    assert_eq!(read("docs/a.md").await.unwrap(), "fine");
    assert!(read("docs/link").await.unwrap_err().contains("leads out of its folder"));
    assert!(read("secret.md").await.unwrap_err().contains("this tool reads only `docs`"));
    assert!(read("docsX/a.md").await.unwrap_err().contains("this tool reads only `docs`"));
}

/// A thread swaps a folder and a link that leads out, as fast as it can, while every tool works on it.
async fn race(rounds: usize) {
    let (bench, both) = place();
    let (root, outside) = (bench.root.path().to_owned(), both.path().join("outside"));
    bench.put("swap/canary", b"inside");
    bench.put("out/swap/keep", b"");
    symlink(&outside, root.join("away")).unwrap();
    symlink(&outside, root.join("out/away")).unwrap();
    let end = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&end);
    let swapper = std::thread::spawn(move || {
        let mut swaps = 0u64;
        while !ended.load(Ordering::Relaxed) {
            for place in [root.clone(), root.join("out")] {
                swap(&place);
                swaps += 1;
            }
        }
        swaps
    });
    let places = bench.places(&["."], &["out"]);
    let (mut inside, mut refused) = (0, 0);
    for _ in 0..rounds {
        match bench.call_at("files.read", places.clone(), json!({ "path": "swap/canary" })).await {
            Ok(text) => {
                assert_eq!(text, "inside");
                inside += 1;
            }
            Err(_) => refused += 1,
        }
        let found =
            bench.call_at("files.search", places.clone(), json!({ "path": "swap", "pattern": "lies outside" })).await;
        assert!(found.as_ref().map_or(true, |text| text.starts_with("[no line")), "{found:?}");
        let _ = bench
            .call_at("files.write", places.clone(), json!({ "path": "out/swap/canary", "text": "overwritten" }))
            .await;
        let adding = json!({ "path": "out/swap/canary", "text": "overwritten" });
        let _ = bench.call_at("files.append", places.clone(), adding).await;
        let moving = json!({ "from": "out/swap/canary", "to": "out/swap/moved", "overwrite": true });
        let _ = bench.call_at("files.move", places.clone(), moving).await;
    }
    end.store(true, Ordering::Relaxed);
    let swaps = swapper.join().unwrap();
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), CANARY);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "something was written outside");
    assert!(
        inside > 0 && refused > 0 && swaps > rounds as u64,
        "no race: {inside} read, {refused} refused, {swaps} swaps"
    );
}

/// The folder `swap` and the link `away` change names, at once.
fn swap(place: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, place.join("swap"), CWD, place.join("away"), RenameFlags::EXCHANGE).unwrap();
}

#[tokio::test]
async fn a_link_swapped_for_a_folder_never_leads_out() {
    race(300).await;
}

#[tokio::test]
#[ignore = "the safety table's 10,000 rounds; ten seconds"]
async fn a_link_swapped_for_a_folder_never_leads_out_in_ten_thousand_rounds() {
    race(10_000).await;
}
