//! What dies with its keeper: a server of a process that was killed. Invariant: when the keeper is gone, by whatever
//! signal, the server and all that it has started are gone within [`GRACE`].
//!
//! The keeper starts this program again as `bosun __leash PROGRAM ARGS`, leader of a process group of its own. It
//! starts the server in that group, with its own standard streams, and asks the kernel for one thing: to be woken when
//! nobody holds the other end of the server's standard input any more. A server that is well behaved ends by itself
//! then; what is left after the grace is killed with the group. A process that leaves the group (`setsid`) is out
//! of reach here, as it is for command tools: only a pid namespace holds it.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpgrp, getpid, kill_process_group};

/// The word that makes a leash of this program.
pub const WORD: &str = "__leash";
/// How long a server may take to end after its keeper has.
pub const GRACE: Duration = Duration::from_millis(500);

/// Runs `args` (a program and its arguments) on the leash. Returns only if it could not be started.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let mut args = args.into_iter();
    let Some(program) = args.next() else { return 2 };
    let mut command = Command::new(&program);
    command.args(args).stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(why) => {
            let shown = program.to_string_lossy();
            let why = match why.kind() {
                std::io::ErrorKind::NotFound => format!("the program `{shown}` was not found"),
                _ => format!("the program `{shown}` could not be started: {why}"),
            };
            // The keeper reads it; nobody else would.
            let _ = writeln!(std::io::stderr(), "{why}");
            return 127;
        }
    };
    std::thread::spawn(|| {
        await_keeper();
        std::thread::sleep(GRACE);
        end();
    });
    // Nobody needs its exit code; what it has started may outlive it, and hold the streams open.
    let _ = child.wait();
    end()
}

/// Returns when the other end of standard input is closed. Nothing is read: that is the server's.
fn await_keeper() {
    let stdin = std::io::stdin();
    loop {
        let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
        match poll(&mut fds, None) {
            Ok(_) if !fds[0].revents().is_empty() => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Ends the group with everything in it, this process too.
fn end() -> ! {
    if getpgrp() == getpid() {
        let _ = kill_process_group(getpgrp(), Signal::KILL);
    }
    std::process::exit(1);
}
