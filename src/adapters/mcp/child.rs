//! A server that is a program. Invariant: it sees the variables it was given and no other; with the session its
//! whole process group is gone.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, Command};

use super::Surroundings;
use super::leash::WORD;
use super::lines::Lines;
use crate::adapters::models::secrets::Env;
use crate::adapters::redaction::Redactor;
use crate::adapters::tools::ansi;

/// Variables that a server gets besides those its table names.
const BASE_ENV: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];
/// Bytes of standard error that are kept, from its end; and of one line that is logged.
const TAIL: usize = 2 << 10;
const LINE: u64 = 4 << 10;
/// Shorter values are words that a result may hold for reasons of its own.
const SECRET_LEAST: usize = 8;

/// How a server is started.
pub(super) struct Program {
    argv: Vec<OsString>,
    env: Vec<(String, String)>,
    root: PathBuf,
    leash: Option<PathBuf>,
}

impl Program {
    pub(super) fn new(argv: &[String], env: &[String], around: &Surroundings) -> Result<Program, String> {
        let (first, rest) = argv.split_first().filter(|(first, _)| !first.is_empty()).ok_or("`command` is empty")?;
        let program = if first.contains('/') { around.root.join(first).into() } else { OsString::from(first) };
        let names = BASE_ENV.into_iter().chain(env.iter().map(String::as_str));
        let given = names.filter_map(|name| Some((name.to_owned(), around.env.get(name)?.clone())));
        Ok(Program {
            argv: std::iter::once(program).chain(rest.iter().map(OsString::from)).collect(),
            env: given.collect(),
            root: around.root.clone(),
            leash: around.leash.clone(),
        })
    }

    pub(super) fn start(&self, name: &str) -> Result<(Lines, Child), String> {
        let (program, args) = self.argv.split_first().ok_or("`command` is empty")?;
        let mut command = match &self.leash {
            Some(leash) => {
                let mut command = Command::new(leash);
                command.arg(WORD).args(&self.argv);
                command
            }
            None => {
                let mut command = Command::new(program);
                command.args(args);
                command
            }
        };
        command.env_clear().envs(self.env.iter().cloned()).current_dir(&self.root);
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = program.to_string_lossy();
        let mut child = command.spawn().map_err(|why| match why.kind() {
            std::io::ErrorKind::NotFound => format!("the program `{shown}` was not found"),
            _ => format!("the program `{shown}` could not be started: {why}"),
        })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(format!("the program `{shown}` has no standard streams"));
        };
        let tail = Tail::default();
        tokio::spawn(drain(name.to_owned(), stderr, tail.clone()));
        Ok((Lines::new(name, stdout, stdin), Child { group, tail, _child: child }))
    }
}

/// The process of a session. Dropped, it is killed with its group: while it is not reaped, its id is taken.
pub(super) struct Child {
    group: Option<Pid>,
    tail: Tail,
    _child: tokio::process::Child,
}

impl Child {
    pub(super) fn tail(&self) -> Tail {
        self.tail.clone()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            // An empty group is no error.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The end of what a server said on standard error.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let over = kept.len().saturating_sub(TAIL);
        kept.drain(..over);
    }
    pub(super) fn said(&self) -> String {
        let kept: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        match ansi::plain(&String::from_utf8_lossy(&kept)).trim() {
            "" => "it said nothing on standard error".to_owned(),
            text => format!("it said on standard error: {text}"),
        }
    }
}

/// Reads standard error to its end: a server that finds it full would stand still.
async fn drain(server: String, stderr: ChildStderr, tail: Tail) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A read error ends the stream as its end does.
        let read = (&mut reader).take(LINE).read_until(b'\n', &mut line).await;
        if !read.is_ok_and(|bytes| bytes > 0) {
            return;
        }
        tail.keep(&line);
        let text = ansi::plain(&String::from_utf8_lossy(&line));
        tracing::debug!(server, text = text.trim_end(), "a server says");
    }
}

/// Values that must not come back in a server's words.
#[derive(Default)]
pub(super) struct Redact {
    values: Vec<String>,
    /// What logins bring, as they bring it.
    tokens: Redactor,
}

impl Redact {
    pub(super) fn new(values: impl IntoIterator<Item = String>) -> Redact {
        let values = values.into_iter().filter(|value| value.len() >= SECRET_LEAST).collect();
        Redact { values, tokens: Redactor::default() }
    }
    pub(super) fn and(self, tokens: Redactor) -> Redact {
        Redact { tokens, ..self }
    }
    /// Of the variables of a program those that are named as what holds a key is named.
    pub(super) fn of_variables(names: &[String], env: &Env) -> Redact {
        let secret = |name: &&String| {
            let name = name.to_ascii_uppercase();
            ["KEY", "TOKEN", "SECRET", "PASS", "AUTH", "CREDENTIAL"].iter().any(|word| name.contains(word))
        };
        Redact::new(names.iter().filter(secret).filter_map(|name| env.get(name).cloned()))
    }
    pub(super) fn text(&self, text: &str) -> String {
        let text = self.values.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), "[secret]"));
        self.tokens.hide(&text).into_owned()
    }
}
