//! What a watch says. Invariant: stdout carries events as JSON if asked for and nothing else; every event
//! is said when it is seen and when its run leaves, with what a person can do.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::actors::run::Outcome;
use crate::cli::ends;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::now_ms;
use crate::cli::out::{Out, Tone};
use crate::cli::progress::{Mode, Region, json_line, last_lines, room, said, verdict};
use crate::cli::screen::{self, Size, clean, clip, clock, count, rfc3339, span, usd};
use crate::cli::tally::{StepState, Tally};
use crate::core::crew::Crew;
use crate::core::ids::RunId;
use crate::core::machine::Texts;
use crate::core::money::NanoUsd;
use crate::core::run::Entry;

/// Most runs that the live region shows.
const SHOWN: usize = 10;

/// One event's run, as it goes on.
pub struct RunFace {
    pub run: RunId,
    pub tally: Tally,
    texts: Arc<dyn Texts>,
    /// `scan inbox/a.pdf`.
    what: String,
    /// What it had settled when it was taken up.
    before: NanoUsd,
}

/// What the last row counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub waiting: usize,
    pub done: u64,
    pub failed: u64,
    /// Runs that wait for a person, a day or a rate.
    pub rest: usize,
}

pub struct Face {
    out: Arc<Out>,
    mode: Mode,
    zone: LazyLock<TimeZone>,
    region: Region,
    pub runs: BTreeMap<String, RunFace>,
    /// Settled by this process.
    spent: NanoUsd,
    began_ms: u64,
    counts: Counts,
    /// The rows that are on screen.
    drawn: Vec<String>,
}

impl Face {
    pub fn new(out: Arc<Out>, json: bool, quiet: bool) -> Face {
        let mode = Mode::choose(&out, json, quiet);
        let (region, runs, counts) = (Region::default(), BTreeMap::new(), Counts::default());
        let zone = LazyLock::new(TimeZone::system as fn() -> TimeZone);
        Face { out, mode, zone, region, runs, spent: NanoUsd::ZERO, began_ms: now_ms(), counts, drawn: Vec::new() }
    }

    /// A line about the watch itself; `more` is what JSON readers get besides.
    pub fn say(&mut self, word: &'static str, tone: Tone, text: &str, more: Value) {
        match self.mode {
            Mode::Json => {
                let mut line = json!({"v": 1, "ts": rfc3339(now_ms()), "type": format!("watch.{word}"), "text": text});
                if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
                    line.extend(more);
                }
                self.out.line(&line.to_string());
            }
            Mode::Plain | Mode::Live => {
                let time = clock(now_ms(), &self.zone);
                self.lines(&[format!("{time} {} {}", self.out.paint_err(tone, word), clean(text))]);
            }
            // What a person must do is said however quiet it is asked to be.
            Mode::Quiet if matches!(tone, Tone::Bad | Tone::Warn) => self.out.note(&format!("{word} {}", clean(text))),
            Mode::Quiet => {}
        }
    }

    fn lines(&mut self, lines: &[String]) {
        if self.mode == Mode::Live {
            let size = screen::size().unwrap_or(Size::USUAL);
            let rows = self.rows(size);
            // Nothing is written while nothing happens.
            if lines.is_empty() && rows == self.drawn {
                return;
            }
            self.drawn.clone_from(&rows);
            let frame = self.region.frame(lines, &rows, size);
            return self.out.err(&frame);
        }
        self.out.err(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }

    /// `called`: see [`crate::cli::open::called`].
    pub fn begun(
        &mut self,
        key: String,
        what: String,
        (run, called): (RunId, String),
        (crew, texts): (Arc<Crew>, Arc<dyn Texts>),
        before: &[Entry],
    ) {
        let mut tally = Tally::of(before);
        tally.crew = Some(crew.clone());
        let word = if before.is_empty() { "start" } else { "resume" };
        let text = format!("{called} {}: {what}", crew.name);
        tally.called = Some(called);
        let settled = tally.ledger.total().settled.usd;
        self.say(word, Tone::Strong, &text, json!({"run": run, "key": key, "crew": crew.name}));
        self.runs.insert(key, RunFace { run, tally, texts, what, before: settled });
    }

    pub fn entry(&mut self, key: &str, entry: &Entry, keys: &BTreeMap<String, String>) {
        let Some(face) = self.runs.get_mut(key) else { return };
        face.tally.apply(entry);
        if face.tally.keys.is_empty() {
            face.tally.keys.clone_from(keys);
        }
        match self.mode {
            Mode::Json => self.out.line(&json_line(&face.run, entry.seq, entry.at_ms, &entry.event.encode())),
            Mode::Plain | Mode::Live => {
                let verdict = verdict(&*face.texts, &entry.event);
                let news = said(&face.tally, entry, verdict.as_deref());
                // What goes as it should is shown by the region and by the last line.
                let news = news.iter().filter(|said| matches!(said.tone, Tone::Warn | Tone::Bad));
                let before = format!("{} {}", clock(entry.at_ms, &self.zone), face.tally.short());
                let lines: Vec<String> = news.map(|said| said.print(&self.out, Some(before.clone()))).collect();
                if !lines.is_empty() {
                    self.lines(&lines);
                }
            }
            Mode::Quiet => {}
        }
    }

    /// The run has left this process. Gives its figures, and how it ended.
    pub fn ended(&mut self, key: &str, outcome: &Outcome) -> Option<(Tally, Exit)> {
        let RunFace { tally, before, .. } = self.runs.remove(key)?;
        self.spent = self.spent.plus(tally.ledger.total().settled.usd.minus(before));
        let end = ends::of(&tally);
        let exit = match outcome {
            Outcome::Crashed(_) | Outcome::GaveUp(_) => Exit::Internal,
            Outcome::StoreFailed(_) => Exit::State,
            Outcome::Finished { .. } | Outcome::Parked { .. } => end.as_ref().map_or(Exit::Interrupted, |end| end.exit),
        };
        let mut lines = last_lines(&tally, end.as_ref(), None);
        match outcome {
            Outcome::Crashed(why) | Outcome::GaveUp(why) => lines.insert(0, format!("internal error: {}", clean(why))),
            Outcome::StoreFailed(error) => lines.insert(0, error.to_string()),
            Outcome::Finished { .. } => {}
            Outcome::Parked { .. } => lines.retain(|line| line != "nothing paid for is repeated"),
        }
        if exit == Exit::Task {
            lines.push(format!("it is not repeated: bosun show {}", tally.short()));
        }
        let tone = if exit == Exit::Done { Tone::Good } else { Tone::Warn };
        if let (Mode::Plain | Mode::Live, Some((first, rest))) = (self.mode, lines.split_first()) {
            let time = clock(now_ms(), &self.zone);
            let first = format!("{time} {}", self.out.paint_err(tone, first));
            let rest = rest.iter().map(|line| format!("{time}   {line}"));
            self.lines(&std::iter::once(first).chain(rest).collect::<Vec<_>>());
        } else if self.mode == Mode::Quiet && exit != Exit::Done {
            lines.iter().for_each(|line| self.out.note(line));
        }
        Some((tally, exit))
    }

    pub fn not_started(&mut self, what: &str, key: &str, failure: &Failure) {
        let hints = failure.hints.iter().map(|hint| format!("; {hint}")).collect::<String>();
        let text = format!("{what}: {}{hints}", failure.message.trim_end());
        self.say("refused", Tone::Bad, &text, json!({"key": key, "exit": failure.exit.code()}));
    }

    /// Call every 100 to 500 ms.
    pub fn tick(&mut self, counts: Counts) {
        self.counts = counts;
        if self.mode == Mode::Live {
            self.lines(&[]);
        }
    }

    fn rows(&self, size: Size) -> Vec<String> {
        let (now, columns) = (now_ms(), size.columns.saturating_sub(1).max(1));
        let Some(most) = room(size).checked_sub(1) else { return Vec::new() };
        let shown =
            if self.runs.len() <= most.min(SHOWN) { self.runs.len() } else { SHOWN.min(most.saturating_sub(1)) };
        let row = |face: &RunFace| {
            let at_work = face.tally.order.iter().rev().find_map(|step| {
                let row = face.tally.steps.get(step)?;
                matches!(row.state, StepState::Running | StepState::WaitsBudget).then(|| step.to_string())
            });
            let elapsed = span(now.saturating_sub(face.tally.first_ms.max(self.began_ms)));
            clip(
                &format!("* {} {}  {}  {elapsed}", face.tally.short(), face.what, at_work.unwrap_or_default()),
                columns,
            )
        };
        let mut rows: Vec<String> = self.runs.values().take(shown).map(row).collect();
        if self.runs.len() > shown && most > 0 {
            rows.push(clip(&format!("… and {} more", count((self.runs.len() - shown) as u64, "run")), columns));
        }
        rows.push(clip(&self.figures(), columns));
        rows
    }

    /// `watching · 2 at work · 14 wait · 12 done · spent $0.0310`.
    fn figures(&self) -> String {
        let Counts { waiting, done, failed, rest } = self.counts;
        let mut parts = vec!["watching".to_owned(), format!("{} at work", self.runs.len())];
        let counted = [(waiting as u64, "wait"), (rest as u64, "rest"), (done, "done"), (failed, "failed")];
        parts.extend(counted.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")));
        if self.spent > NanoUsd::ZERO {
            parts.push(format!("spent {}", usd(self.spent)));
        }
        parts.join(" · ")
    }

    /// The last line: what this process has done, and what is still there to be done.
    pub fn close(&mut self, counts: Counts) {
        self.counts = counts;
        if self.mode == Mode::Live {
            let frame = self.region.frame(&[], &[], screen::size().unwrap_or(Size::USUAL));
            self.out.err(&frame);
        }
        if self.mode == Mode::Live || self.mode == Mode::Plain {
            self.out.note(&self.figures().replacen("watching", "watched", 1));
        }
    }
}
