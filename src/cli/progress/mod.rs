//! Prints entries: as a run commits them, and alike when `show --events` reads them. Invariant: what is
//! on screen is a fold of the entries seen so far and the time; printing never delays or fails a run.

mod lines;
mod region;
mod waits;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::tz::TimeZone;

use super::ends;
use super::failure::Exit;
use super::out::{Out, Tone};
use super::screen::{self, Size, clean, count, span, tokens};
use super::tally::{RunStand, Tally};
use crate::actors::streams::{Working, Writing};
use crate::actors::throttle::{NearLimit, Waiting};
use crate::core::chain::Hash;
use crate::core::chat::Message;
use crate::core::crew::Crew;
use crate::core::event::{Event, TaskEvent};
use crate::core::ids::{BlobId, RunId, Seq};
use crate::core::machine::Texts;
use crate::core::run::Entry;

pub use lines::{Said, asks, said};
pub use region::{Region, far, room};
use waits::Waits;

/// How a run shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One line per event that matters, on stderr.
    Plain,
    /// The live region, on stderr.
    Live,
    /// Events as JSON lines, on stdout.
    Json,
    /// Nothing but what a person must do.
    Quiet,
}

impl Mode {
    pub fn choose(out: &Out, json: bool, quiet: bool) -> Mode {
        match (json, quiet) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Quiet,
            (false, false) if out.stderr_is_terminal() && screen::columns().is_some() => Mode::Live,
            (false, false) => Mode::Plain,
        }
    }
}

/// Silence after which a plain log says what is still going on.
const HEARTBEAT_MS: u64 = 30_000;

/// The face of one run.
pub struct Progress {
    out: Arc<Out>,
    mode: Mode,
    texts: Arc<dyn Texts>,
    /// Looked up when a time is printed: that reads a hundred folders, and the first call need not wait for it.
    zone: LazyLock<TimeZone>,
    tally: Tally,
    region: Region,
    waits: Waits,
    writing: Vec<Writing>,
    working: Vec<Working>,
    /// When the last line was printed.
    spoke_ms: u64,
    /// Somebody else has the screen: what there is to say until they give it back.
    held: Option<Vec<String>>,
}

impl Progress {
    pub fn new(out: Arc<Out>, mode: Mode, texts: Arc<dyn Texts>) -> Progress {
        let (tally, region, waits) = (Tally::default(), Region::default(), Waits::default());
        Progress {
            out,
            mode,
            texts,
            zone: LazyLock::new(TimeZone::system),
            tally,
            region,
            waits,
            writing: Vec::new(),
            working: Vec::new(),
            spoke_ms: 0,
            held: None,
        }
    }

    /// What is shown may speak of what is still to come, and of where the providers' keys come from, for the
    /// words about one that is refused.
    pub fn of(mut self, crew: Arc<Crew>, keys: BTreeMap<String, String>) -> Progress {
        (self.tally.crew, self.tally.keys) = (Some(crew), keys);
        self
    }

    /// What the run is called in its store, see [`super::open::called`].
    pub fn called(mut self, name: String) -> Progress {
        self.tally.called = Some(name);
        self
    }

    /// The figures so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Folds entries of before a resume: nothing is printed (with `--json` they are, so that a reader
    /// of the stream has all of it: that is the caller's choice, by [`Progress::entry`]).
    pub fn seen(&mut self, entry: &Entry) {
        self.tally.apply(entry);
    }

    /// Folds an entry and prints what there is to say about it.
    pub fn entry(&mut self, entry: &Entry) {
        self.tally.apply(entry);
        match self.mode {
            Mode::Json => {
                if let Some(started) = &self.tally.started {
                    self.out.line(&json_line(&started.run, entry.seq, entry.at_ms, &entry.event.encode()));
                }
            }
            Mode::Quiet => {}
            Mode::Plain | Mode::Live => {
                let verdict = verdict(&*self.texts, &entry.event);
                let said = said(&self.tally, entry, verdict.as_deref());
                let live = self.mode == Mode::Live;
                let lines: Vec<String> = said
                    .iter()
                    .filter(|said| !live || !said.in_region)
                    .map(|said| said.print(&self.out, (!live).then(|| screen::clock(entry.at_ms, &self.zone))))
                    .collect();
                self.speak(&lines, entry.at_ms);
            }
        }
    }

    /// Call every 100 to 500 ms: elapsed times move on, and a plain log says that it is still alive.
    pub fn tick(&mut self, now_ms: u64) {
        match self.mode {
            Mode::Live => self.speak(&[], now_ms),
            Mode::Plain => {
                if self.spoke_ms > 0 && now_ms.saturating_sub(self.spoke_ms) >= HEARTBEAT_MS {
                    let time = screen::clock(now_ms, &self.zone);
                    let still = lines::still(&self.tally, now_ms);
                    let lines: Vec<String> = still.into_iter().map(|line| format!("{time} {line}")).collect();
                    self.speak(&lines, now_ms);
                }
            }
            Mode::Json | Mode::Quiet => {}
        }
    }

    /// What waits for a provider's limits now, and which limits are nearly used up.
    pub fn rates(&mut self, waiting: Vec<Waiting>, near: &[NearLimit], now_ms: u64) {
        let news = self.waits.look(waiting, near, now_ms, &self.zone);
        match self.mode {
            Mode::Live => self.speak(&self.waits.above(near), now_ms),
            Mode::Plain => {
                let time = screen::clock(now_ms, &self.zone);
                let lines: Vec<String> = news.into_iter().map(|line| format!("{time} {line}")).collect();
                self.speak(&lines, now_ms);
            }
            Mode::Json => near.iter().for_each(|near| self.out.line(&waits::json_line(near, now_ms))),
            Mode::Quiet => {}
        }
    }

    /// Answers that are coming as they are written: the live region says how far they are.
    pub fn writing(&mut self, writing: Vec<Writing>) {
        self.writing = writing;
    }

    /// Tools that say how far they are: the live region shows it, and programs get what is new.
    pub fn working(&mut self, working: Vec<Working>, now_ms: u64) {
        if self.mode == Mode::Json {
            let new = working.iter().filter(|one| !self.working.contains(one));
            new.for_each(|one| self.out.line(&lines::working(one, now_ms)));
        }
        self.working = working;
    }

    fn speak(&mut self, lines: &[String], now_ms: u64) {
        if !lines.is_empty() || self.spoke_ms == 0 {
            self.spoke_ms = now_ms;
        }
        if let Some(held) = &mut self.held {
            return held.extend_from_slice(lines);
        }
        if self.mode == Mode::Live {
            let size = screen::size().unwrap_or(Size::USUAL);
            let under_way = region::UnderWay { writing: &self.writing, working: &self.working };
            let rows = region::rows(&self.tally, &under_way, &self.waits.rows(now_ms), now_ms, size);
            let frame = self.region.frame(lines, &rows, size);
            return self.out.err(&frame);
        }
        if !lines.is_empty() {
            self.out.err(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
        }
    }

    /// Takes the live region away, for whoever has something else to say.
    pub fn clear(&mut self) {
        let frame = self.region.frame(&[], &[], screen::size().unwrap_or(Size::USUAL));
        self.out.err(&frame);
    }

    /// Leaves the screen to somebody else until [`Progress::go_on`]: nothing is lost meanwhile.
    pub fn hold(&mut self) {
        self.clear();
        self.held.get_or_insert_default();
    }

    pub fn go_on(&mut self, now_ms: u64) {
        let lines = self.held.take().unwrap_or_default();
        if matches!(self.mode, Mode::Live | Mode::Plain) {
            self.speak(&lines, now_ms);
        }
    }

    /// The last lines: how it ended, what it cost, the head of the journal, the command that goes on.
    /// Gives the exit code; of a run that is neither parked nor over, as after a third Ctrl-C.
    pub fn end(&mut self, head: Option<&Hash>) -> Exit {
        self.clear();
        let end = ends::of(&self.tally);
        let exit = end.as_ref().map_or(Exit::Interrupted, |end| end.exit);
        let silent = match self.mode {
            Mode::Plain | Mode::Live => false,
            Mode::Json | Mode::Quiet => exit == Exit::Done,
        };
        if !silent {
            let lines = last_lines(&self.tally, end.as_ref(), head);
            for (index, line) in lines.iter().enumerate() {
                let tone = if exit == Exit::Done { Tone::Good } else { Tone::Warn };
                let line = self.out.folded(line);
                self.out.note(&if index == 0 { self.out.paint_err(tone, &line) } else { line });
            }
        }
        exit
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.region.is_drawn() {
            self.clear();
        }
    }
}

/// The last lines of a run.
pub fn last_lines(tally: &Tally, end: Option<&ends::End>, head: Option<&Hash>) -> Vec<String> {
    let started = tally.started.as_deref();
    let crew = started.map(|started| clean(&started.crew)).unwrap_or_default();
    let offline = if started.is_some_and(|started| started.offline) { " [offline]" } else { "" };
    let sums = tally.ledger.total();
    let figures = format!(
        "{} {crew}{offline} · {} · {} · {} · {}",
        tally.short(),
        ends::calls(tally),
        tokens(sums.settled.tokens.0),
        span(tally.running_ms()),
        ends::money(tally),
    );
    let mut lines = Vec::new();
    match end {
        None => lines.push(format!("stopped {figures}")),
        // A finished run's word stands before its figures; causes of a pause are sentences of their own.
        Some(end) if matches!(tally.stand, RunStand::Ended(..)) => {
            let (word, rest) = end.lines.split_first().map_or(("ended", &[][..]), |(word, rest)| (word, rest));
            lines.push(format!("{word} {figures}"));
            lines.extend(rest.iter().cloned());
        }
        Some(end) => {
            lines.extend(end.lines.iter().cloned());
            lines.push(format!("waits {figures}"));
            lines.push("nothing paid for is repeated".to_owned());
        }
    }
    for (agent, messages) in &tally.unheard {
        lines.push(format!("{agent} has not heard {}", count(*messages, "message")));
    }
    if let Some(head) = head {
        lines.push(format!("head {}", BlobId(*head)));
    }
    let command = match end {
        None => Some(ends::resume(tally)),
        Some(end) => end.command.clone(),
    };
    lines.extend(command.map(|command| format!("go on: {command}")));
    lines
}

/// An entry as a JSON line: its payload with `seq`, `ts` and `run` behind the version.
pub fn json_line(run: &RunId, seq: Seq, at_ms: u64, payload: &[u8]) -> String {
    let payload = String::from_utf8_lossy(payload);
    let ts = screen::rfc3339(at_ms);
    match payload.split_once(',') {
        Some((version, rest)) if version.starts_with("{\"v\":") => {
            // Its own first entry names the run by itself; a key stands once.
            let named = rest.starts_with("\"type\":\"run.started\",\"run\":");
            let run = if named { String::new() } else { format!("\"run\":\"{run}\",") };
            format!("{version},\"seq\":{seq},\"ts\":\"{ts}\",{run}{rest}")
        }
        Some(_) | None => serde_json::json!({"seq": seq.0, "ts": ts, "run": run, "damaged": payload}).to_string(),
    }
}

/// What a typed result says of itself, if it says `verdict`; of a message, what was said.
pub fn verdict(texts: &dyn Texts, event: &Event) -> Option<String> {
    if let Event::Task(TaskEvent::Told { message, .. }) = event {
        let text = texts.text(&message.message).ok()?;
        return Some(screen::excerpt(Message::decode(&text).ok()?.content(), 120));
    }
    let Event::Task(TaskEvent::Finished { result, .. }) = event else { return None };
    let text = texts.text(result.text.as_ref().filter(|_| result.typed)?).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    value.get("verdict")?.as_str().map(|verdict| screen::excerpt(verdict, 24))
}

#[cfg(test)]
mod tests;
