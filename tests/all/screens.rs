//! What a terminal shows, however small it is.

use super::approvals::terminal::Terminal;
use super::support::{Folder, until};

/// Eight items at once, their answers a moment away.
fn eight() -> Folder {
    let mut folder = Folder::new(
        "schema = 1\n[crew]\nmax_parallel = 8\noutput = \"sum\"\n\
         [agents.writer_of_sections]\nmodel = \"offline/stand-in\"\n[tasks.section]\nagent = \"writer_of_sections\"\n\
         for_each = \"rows.csv\"\nkey = \"id\"\nmax_parallel = 8\ndescription = \"{{ item.id }}\"\n\
         [tasks.sum]\nagent = \"writer_of_sections\"\ndescription = \"sum\"\ncontext = [\"section\"]\n",
    );
    folder.file("rows.csv", "id\na/1\nb\nc\nd\ne\nf\ng\nh\n");
    folder.env("BOSUN_OFFLINE_DELAY_MS", "500");
    folder
}

#[test]
fn the_live_region_of_a_low_terminal_stays_on_its_screen() {
    let folder = eight();
    let terminal = Terminal::high(&folder, &["run", "crew.toml"], 40, 6);
    until("a region that is drawn anew", || terminal.seen().contains("\x1b[1A"));
    until("the end", || terminal.seen().contains("completed "));
    let seen = terminal.seen();
    assert_eq!(terminal.ends(), Some(0));
    assert!(seen.contains("more\n[offline] "), "{seen:?}");
    // Erased row by row, and never more of them than stand above the cursor.
    assert!(!seen.contains("\x1b[J") && !seen.contains(&"\x1b[1A\x1b[2K".repeat(5)), "{seen:?}");
    for line in seen.lines().take_while(|line| !line.starts_with("head ")) {
        let shown = line.replace("\x1b[1A\x1b[2K", "");
        assert!(shown.chars().count() <= 40 || shown.contains("bosun "), "broken by the terminal: {shown}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_said_to_be_kept() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let mut folder = eight();
    folder.env("BOSUN_OFFLINE_DELAY_MS", "0");
    let ran = folder.command(&["run", "crew.toml"]).stdout(full).output().unwrap();
    let err = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{err}");
    let command = err.split("its result is kept; print it with: bosun ").nth(1).and_then(|rest| rest.lines().next());
    let args: Vec<&str> = command.unwrap_or_default().split(' ').collect();
    assert!(folder.bosun(&args).expect(0).out.contains("result:"), "{args:?} of {err}");
    // A key as it stands in the list names its step too.
    assert!(folder.bosun(&["show", "latest", "section[a/1]"]).expect(0).out.contains("section[a%2F1] done"));
    let wrong = folder.bosun(&["show", "latest", "nothing"]).expect(2).err;
    assert!(wrong.contains("its steps so far: section"), "{wrong}");
}

#[test]
fn a_caret_stands_under_what_is_wrong_on_a_narrow_terminal() {
    let mut folder = Folder::new(
        "schema = 1\n[agents.a]\nmodel = \"offline/stand-in\"\n[tasks.t]\nagent = \"a\"\n\
         description = \"a description that is far longer than the terminal is wide\"\nagnet = \"b\"\n\
         context = [\"one_that_is_long\", \"two_that_is_long\", \"three_that_is_long\", \"four_that_is_long\"]\n",
    );
    let carets = |text: &str| -> Vec<usize> {
        let lines = text.lines().filter(|line| line.trim_start().starts_with('|') && line.contains('^'));
        lines.filter_map(|line| line.rfind('^')).collect()
    };
    let wide = folder.bosun(&["check", "crew.toml"]).expect(3).out;
    assert!(carets(&wide).iter().any(|at| *at > 60), "{wide}");
    folder.env("COLUMNS", "60");
    let narrow = folder.bosun(&["check", "crew.toml"]).expect(3).out;
    assert_eq!(carets(&narrow).len(), carets(&wide).len(), "{narrow}");
    assert!(carets(&narrow).iter().all(|at| *at < 60), "{narrow}");
}
