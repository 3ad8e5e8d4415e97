//! The only place that writes to stdout and stderr. Invariant: stdout carries what was asked for and
//! nothing else; a reader that goes away stops the output, never the work.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::screen;
use crate::adapters::redaction::Redactor;
use crate::adapters::tools::ansi;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// What a part of a line is, for its color. Color never says what no word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Warn,
    Dim,
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
            Tone::Dim => "2",
            Tone::Strong => "1",
        }
    }
}

/// The process's standard streams.
pub struct Out {
    stdout_terminal: bool,
    stderr_terminal: bool,
    color_out: bool,
    color_err: bool,
    /// The reader of stdout has gone.
    closed: AtomicBool,
    /// The first other reason why stdout could not be written.
    broken: Mutex<Option<String>>,
    secrets: Redactor,
}

impl Out {
    pub fn new(color: Color, no_color: bool) -> Out {
        let (stdout, stderr) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let colored = |terminal: bool| match color {
            Color::Auto => terminal && !no_color,
            Color::Always => true,
            Color::Never => false,
        };
        Out {
            stdout_terminal: stdout,
            stderr_terminal: stderr,
            color_out: colored(stdout),
            color_err: colored(stderr),
            closed: AtomicBool::new(false),
            broken: Mutex::new(None),
            secrets: Redactor::default(),
        }
    }

    /// With values that neither stream may show; more can be told to it later.
    pub fn hiding(self, secrets: Redactor) -> Out {
        Out { secrets, ..self }
    }
    pub fn secrets(&self) -> &Redactor {
        &self.secrets
    }

    pub fn stdout_is_terminal(&self) -> bool {
        self.stdout_terminal
    }
    pub fn stderr_is_terminal(&self) -> bool {
        self.stderr_terminal
    }
    pub fn err_is_colored(&self) -> bool {
        self.color_err
    }
    pub fn out_is_colored(&self) -> bool {
        self.color_out
    }

    /// `text` in a color, where stdout has any.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        painted(self.color_out, tone, text)
    }
    /// As [`Out::paint`], for stderr.
    pub fn paint_err(&self, tone: Tone, text: &str) -> String {
        painted(self.color_err, tone, text)
    }

    /// To stdout as it is: lines that this program composed.
    pub fn print(&self, text: &str) {
        self.stdout(text);
    }
    /// A line of data to stdout.
    pub fn line(&self, text: &str) {
        self.stdout(&format!("{text}\n"));
    }
    /// The text of a model, tool or file to stdout: byte for byte into a pipe, without terminal
    /// sequences onto a terminal. Ends in a newline either way.
    pub fn result(&self, text: &str) {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let text = if self.stdout_terminal { ansi::shown(text) } else { text.to_owned() };
        self.stdout(&format!("{text}{end}"));
    }
    /// A line to stderr, as it is.
    pub fn note(&self, text: &str) {
        self.err(&format!("{text}\n"));
    }
    /// A sentence of this program to stderr, see [`Out::folded`].
    pub fn say(&self, text: &str) {
        self.note(&self.folded(text));
    }
    /// A sentence for stderr: on a terminal in lines that fit it. What has a layout of its own keeps it;
    /// what a person decides about is never folded: a line of a diff must not look like two.
    pub fn folded(&self, text: &str) -> String {
        let sentence = !text.contains(['\n', '\x1b']) && !text.trim_start().contains("  ");
        match screen::columns().filter(|_| sentence && self.stderr_terminal) {
            // A secret that a line break splits would not be found any more.
            Some(columns) => screen::fold(&self.secrets.hide(text), columns, 2),
            None => text.to_owned(),
        }
    }
    /// To stderr as it is. Nobody is told if that fails: there is nowhere left to say so.
    pub fn err(&self, text: &str) {
        let mut err = io::stderr().lock();
        let text = self.secrets.hide(text);
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// Nobody reads stdout any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
    /// Why stdout could not be written, if it was not just closed.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stdout(&self, text: &str) {
        if self.is_closed() {
            return;
        }
        let mut out = io::stdout().lock();
        let text = self.secrets.hide(text);
        let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
        self.closed.store(true, Ordering::Relaxed);
        if error.kind() != io::ErrorKind::BrokenPipe {
            *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
    }
}

fn painted(colored: bool, tone: Tone, text: &str) -> String {
    if colored { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_owned() }
}
