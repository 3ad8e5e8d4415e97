//! What is typed. Invariant: a line counts for the question that stood on the screen when it was typed: what was
//! typed before is forgotten, and a line that nobody waits for any more is nobody's.

use std::io::{BufRead, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::termios::{QueueSelector, tcflush, tcgetpgrp};

/// How often it is looked whether the question still stands.
const EVERY: Duration = Duration::from_millis(50);

/// A question is taken back while it stands on the screen.
#[derive(Default)]
pub struct Leave(AtomicBool);

impl Leave {
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    pub fn is_now(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub enum Line {
    Typed(String),
    /// Of the input.
    End,
    Left,
}

/// The lines of this process's terminal, for one question at a time.
#[derive(Default)]
pub struct Keys(Mutex<Option<Reader>>);

/// A thread that reads: a read that has begun cannot be taken back, but left alone until the next question.
struct Reader {
    wants: Sender<()>,
    lines: Receiver<std::io::Result<Option<String>>>,
    /// It is reading.
    reads: bool,
}

impl Reader {
    fn start() -> Reader {
        let ((wants, wanted), (sends, lines)) = (channel(), channel());
        std::thread::spawn(move || {
            while wanted.recv().is_ok() {
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line);
                if sends.send(read.map(|bytes| (bytes > 0).then_some(line))).is_err() {
                    return;
                }
            }
        });
        Reader { wants, lines, reads: false }
    }
}

impl Keys {
    /// Forgets what has been typed up to now.
    pub fn forget(&self) {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = reader.as_mut()
            && reader.lines.try_recv().is_ok()
        {
            reader.reads = false;
        }
        // Not on every kind of terminal; what is left of it is a line too many, which fits no question or is seen.
        let _ = tcflush(std::io::stdin(), QueueSelector::IFlush);
    }

    /// The next line, unless it is left.
    pub fn line(&self, leave: &Leave) -> std::io::Result<Line> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = reader.get_or_insert_with(Reader::start);
        let gone = || std::io::Error::other("the thread that reads the terminal has ended");
        if !reader.reads {
            reader.wants.send(()).map_err(|_| gone())?;
            reader.reads = true;
        }
        while !leave.is_now() {
            match reader.lines.recv_timeout(EVERY) {
                Ok(line) => {
                    reader.reads = false;
                    return Ok(line?.map_or(Line::End, Line::Typed));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
        Ok(Line::Left)
    }
}

/// May this process read its terminal? One in the background would be stopped by that, with all its work.
pub fn is_in_front() -> bool {
    let stdin = std::io::stdin();
    // No answer: the terminal controls no jobs.
    stdin.is_terminal() && tcgetpgrp(&stdin).map_or(true, |front| front == rustix::process::getpgrp())
}
