use super::*;
use std::fs;

async fn write(root: &Path, path: &str, text: &str) -> Result<(), String> {
    RootFiles::open(root).unwrap().write(path, text).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_is_written_whole_with_its_folders_and_nothing_else_stays() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "out/a/a/brief.md", "one").await.unwrap();
    write(root.path(), "./out//a/a/brief.md", "two, longer").await.unwrap();
    assert_eq!(fs::read_to_string(root.path().join("out/a/a/brief.md")).unwrap(), "two, longer");
    assert_eq!(names(&root.path().join("out/a/a")), ["brief.md"]);
}

#[tokio::test]
async fn what_leaves_the_root_is_refused_in_words() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
    let absolute = outside.path().join("x").display().to_string();
    let cases = [
        ("../x", "`..` is not allowed"),
        ("out/../../x", "`..` is not allowed"),
        (absolute.as_str(), "it is absolute"),
        ("link/x", "leads out of its folder"),
        ("link/new/x", "leads out of its folder"),
        (".bosun/journal.db", "Bosun's own"),
        ("out/.Bosun-tmp-1", "Bosun's own"),
        ("", "it is empty"),
        (".", "is a folder"),
        ("a\nb", "control characters"),
    ];
    for (path, why) in cases {
        let error = write(root.path(), path, "x").await.unwrap_err();
        assert!(error.contains(why), "{path:?}: {error}");
    }
    assert!(names(outside.path()).is_empty());
    assert_eq!(names(root.path()), ["link"]);
}

#[tokio::test]
async fn a_link_in_the_place_of_the_file_is_replaced_and_rights_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("canary");
    fs::write(&canary, "untouched").unwrap();
    std::os::unix::fs::symlink(&canary, root.path().join("brief.md")).unwrap();
    write(root.path(), "brief.md", "new").await.unwrap();
    assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched");
    assert!(fs::symlink_metadata(root.path().join("brief.md")).unwrap().is_file());

    fs::set_permissions(root.path().join("brief.md"), fs::Permissions::from_mode(0o600)).unwrap();
    write(root.path(), "brief.md", "newer").await.unwrap();
    let mode = fs::metadata(root.path().join("brief.md")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_write_that_fails_leaves_no_temporary_file_and_the_old_content() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("taken/inside")).unwrap();
    let error = write(root.path(), "taken", "x").await.unwrap_err();
    assert!(error.contains("is a folder"), "{error}");
    fs::write(root.path().join("file"), "old").unwrap();
    let error = write(root.path(), "file/below", "x").await.unwrap_err();
    assert!(error.contains("is a file, not a folder"), "{error}");
    assert_eq!(names(root.path()), ["file", "taken"]);
    assert_eq!(fs::read_to_string(root.path().join("file")).unwrap(), "old");
}

/// A reader that looks all the time sees the old file or the new one, never a part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_half_a_file() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("big");
    let texts: Vec<String> = (0..2).map(|i| i.to_string().repeat(300_000 + i)).collect();
    fs::write(&path, &texts[0]).unwrap();
    let files = RootFiles::open(root.path()).unwrap();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let watched = texts.clone();
    let reader = std::thread::spawn(move || {
        let mut seen = 0;
        while ended.try_recv().is_err() || seen < 50 {
            let now = fs::read_to_string(&path).unwrap();
            assert!(watched.contains(&now), "half a file of {} bytes", now.len());
            seen += 1;
        }
    });
    for i in 0..40 {
        files.write("big", &texts[i % 2]).await.unwrap();
    }
    end.send(()).unwrap();
    reader.join().unwrap();
}
