//! The `[notify]` command of a crew. Invariant: it gets each notice whole on its standard input, at least
//! once, with an id that stays the same over repeats; what it does or fails to do never touches a run.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Time a command gets for one notice.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs `argv` with `notice` (one JSON object) on stdin, in `folder`. The id is also in the variable
/// `BOSUN_NOTICE_ID`. Its output is dropped.
///
/// # Errors
/// In words: it does not start, ends with another code than 0, or takes more than [`TIMEOUT`].
pub async fn send(argv: &[String], folder: &std::path::Path, id: &str, notice: &str) -> Result<(), String> {
    send_within(argv, folder, id, notice, TIMEOUT).await
}

async fn send_within(
    argv: &[String],
    folder: &std::path::Path,
    id: &str,
    notice: &str,
    most: Duration,
) -> Result<(), String> {
    let (program, args) = argv.split_first().ok_or("[notify] command is empty: expected a program and arguments")?;
    let mut child = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("BOSUN_NOTICE_ID", id)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        // Ctrl-C pauses a run; what tells of it must not end with it.
        .process_group(0)
        .spawn()
        .map_err(|why| format!("[notify] `{program}` does not start: {why}"))?;
    let stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input may still have done its work.
            let _ = stdin.write_all(notice.as_bytes()).await;
            let _ = stdin.write_all(b"\n").await;
        }
        child.wait().await
    };
    match tokio::time::timeout(most, work).await {
        Err(_) => Err(format!("[notify] `{program}` took more than {} s and was stopped", most.as_secs_f32())),
        Ok(Err(why)) => Err(format!("[notify] `{program}` was lost: {why}")),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("[notify] `{program}` ended with {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[tokio::test]
    async fn the_command_reads_the_notice_and_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let command = argv(&["sh", "-c", "cat > got; printf %s \"$BOSUN_NOTICE_ID\" > id"]);
        send(&command, folder.path(), "7Q3M:4", "{\"kind\":\"paused\"}").await.unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((read("got").as_str(), read("id").as_str()), ("{\"kind\":\"paused\"}\n", "7Q3M:4"));
    }

    #[tokio::test]
    async fn what_goes_wrong_is_said() {
        let here = std::path::Path::new(".");
        let wrong =
            |words: &'static [&'static str]| async move { send(&argv(words), here, "x:1", "{}").await.unwrap_err() };
        assert!(wrong(&["/no/such/program"]).await.contains("does not start"));
        assert!(wrong(&["false"]).await.contains("exit status: 1"));
        assert!(wrong(&[]).await.contains("is empty"));
        let slow = send_within(&argv(&["sleep", "60"]), here, "x:1", "{}", Duration::from_millis(50)).await;
        assert!(slow.unwrap_err().contains("was stopped"));
    }

    #[tokio::test]
    async fn a_large_notice_to_a_command_that_does_not_read_is_no_failure() {
        send(&argv(&["true"]), std::path::Path::new("."), "x:1", &"x".repeat(1 << 20)).await.unwrap();
    }
}
