//! A run that is started from a terminal asks there. Invariant: what is typed is what happens, and what is
//! skipped stays open.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::super::support::{Folder, kill9, until};
use super::{ONE, STAMP, folder, id, refused, stamps};

/// A process whose terminal is ours.
pub struct Terminal {
    pub child: Child,
    keys: File,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    pub fn of(folder: &Folder, args: &[&str]) -> Terminal {
        Terminal::sized(folder, args, 0)
    }
    /// With a live region, if it has columns.
    pub fn sized(folder: &Folder, args: &[&str], columns: u16) -> Terminal {
        Terminal::high(folder, args, columns, if columns > 0 { 24 } else { 0 })
    }
    pub fn high(folder: &Folder, args: &[&str], columns: u16, rows: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let side = || Stdio::from(OpenOptions::new().read(true).write(true).open(&name).unwrap());
        let mut command = folder.command(args);
        command.env("TERM", "xterm").env("NO_COLOR", "1").env("EDITOR", "sed -i s/a/mine/");
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        drop(command);
        let keys = File::from(master);
        let (mut screen, seen) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(String::new())));
        let shown = seen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The other side is closed with the process.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Terminal { child, keys, seen }
    }
    pub fn seen(&self) -> String {
        self.seen.lock().unwrap().replace('\r', "")
    }
    /// Waits for these words, forgets what was seen, and types.
    #[track_caller]
    pub fn types(&mut self, after: &str, keys: &str) -> String {
        until(after, || self.seen().contains(after));
        let seen = self.seen();
        self.seen.lock().unwrap().clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
        seen
    }
    #[track_caller]
    pub fn ends(mut self) -> Option<i32> {
        let mut ended = None;
        until("it ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            kill9(self.child.id());
            let _ = self.child.wait();
        }
    }
}

pub const ASKS: &str = "s skip: ";

fn gated() -> Folder {
    folder(&format!("{ONE}{STAMP}approval = \"always\"\n"))
}

#[test]
fn a_run_on_a_terminal_asks_and_does_what_is_typed() {
    let yes = gated();
    let mut terminal = Terminal::of(&yes, &["run", "crew.toml"]);
    let seen = terminal.types(ASKS, "maybe\n");
    assert!(seen.contains("\"text\": \"a\"") && seen.contains("always needs a yes"), "{seen}");
    assert_eq!(stamps(&yes), 0);
    terminal.types(ASKS, "y\n");
    assert_eq!((terminal.ends(), yes.read("stamped.txt").as_str()), (Some(0), "a\n"));
    yes.verify();

    let edited = gated();
    let mut terminal = Terminal::of(&edited, &["run", "crew.toml"]);
    terminal.types(ASKS, "e\n");
    assert_eq!((terminal.ends(), edited.read("stamped.txt").as_str()), (Some(0), "mine\n"));

    let no = gated();
    let mut terminal = Terminal::of(&no, &["run", "crew.toml"]);
    terminal.types(ASKS, "r\n");
    terminal.types("why: ", "too red\n");
    until("its result", || terminal.seen().contains("Told: too red."));
    assert_eq!((terminal.ends(), stamps(&no)), (Some(0), 0));
}

#[test]
fn what_is_skipped_stays_open_and_what_others_said_meanwhile_counts() {
    let folder = gated();
    let mut terminal = Terminal::of(&folder, &["run", "crew.toml"]);
    terminal.types(ASKS, "s\n");
    assert_eq!((terminal.ends(), stamps(&folder)), (Some(12), 0));
    let id = id(&folder);
    let quiet = Terminal::of(&folder, &["resume", "--no-ask"]);
    assert_eq!(quiet.ends(), Some(12));
    // Ctrl-C at the question leaves it as it is.
    let mut terminal = Terminal::of(&folder, &["resume"]);
    until(ASKS, || terminal.seen().contains(ASKS));
    super::super::support::signal(terminal.child.id(), rustix::process::Signal::INT);
    assert_eq!(terminal.child.wait().unwrap().code(), Some(12));
    // Somebody else says no while the question stands here: the first word counts.
    let mut terminal = Terminal::of(&folder, &["resume"]);
    until(ASKS, || terminal.seen().contains(ASKS));
    folder.bosun(&["reject", &id, "--reason", "too red"]).expect(0);
    terminal.types(ASKS, "y\n");
    assert_eq!((terminal.ends(), stamps(&folder)), (Some(0), 0));
    refused(&folder, &["approve", &id], "rejected by");
    folder.bosun(&["resume"]).expect(2);
}
