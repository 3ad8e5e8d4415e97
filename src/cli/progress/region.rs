//! The live region: a few rows under the normal scrollback. Invariant: at most [`ROWS`] rows and two less than
//! the terminal has, none wider than it; what it takes away is exactly what it drew, also after a resize.
//!
//! No alternate screen, no raw mode, no hidden cursor: a killed process leaves a usable terminal.

use crate::actors::streams::{Working, Writing};
use crate::cli::ends;
use crate::cli::progress::lines::in_flight;
use crate::cli::screen::{self, Part, Size, clean, clip, count, span, tokens, usd, width};
use crate::cli::tally::{RunStand, StepState, StepTally, Tally};
use crate::core::ledger::Ledger;
use crate::core::money::NanoUsd;
use crate::ports::tool::Progress;

/// Most rows, the last with money.
pub const ROWS: usize = 12;
/// Of them at most so many about waits for rates.
const WAITS: usize = 3;

/// What is on screen now.
#[derive(Debug, Default)]
pub struct Region {
    /// Widths of the rows that were drawn.
    drawn: Vec<usize>,
}

impl Region {
    pub fn is_drawn(&self) -> bool {
        !self.drawn.is_empty()
    }

    /// One write: the old rows away, `lines` into the scrollback, the new rows below them.
    pub fn frame(&mut self, lines: &[String], rows: &[String], size: Size) -> String {
        let mut out = String::new();
        // A narrower terminal has wrapped the old rows; what has left the screen cannot be reached.
        let up: usize = self.drawn.iter().map(|wide| wide.div_ceil(size.columns.max(1)).max(1)).sum();
        // Row by row: of a screen that is erased as a whole, terminals keep a copy in the scrollback.
        out.push_str(&"\x1b[1A\x1b[2K".repeat(up.min(size.rows.saturating_sub(1))));
        if up > 0 {
            out.push('\r');
        }
        for line in lines.iter().chain(rows) {
            out.push_str(line);
            out.push('\n');
        }
        self.drawn = rows.iter().map(|row| width(row)).collect();
        out
    }
}

/// What no entry says.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnderWay<'a> {
    /// Answers that are coming.
    pub writing: &'a [Writing],
    /// Tools that say how far they are.
    pub working: &'a [Working],
}

/// Steps that an agent is at work on, in the order they began.
pub fn active(tally: &Tally) -> impl Iterator<Item = &StepTally> {
    let rows = tally.order.iter().filter_map(|step| tally.steps.get(step)).filter(|row| row.agent.is_some());
    rows.filter(|row| match row.state {
        StepState::Running | StepState::WaitsBudget => true,
        StepState::WaitsPerson | StepState::NoBudget | StepState::Review { .. } | StepState::Ended(_) => false,
    })
}

/// Rows that the region may have: what was said last and the cursor stay on the screen.
pub fn room(size: Size) -> usize {
    ROWS.min(size.rows.saturating_sub(2))
}

/// The rows at a moment. `waits`: lines about waits for rates, which stand above the money.
pub fn rows(tally: &Tally, under_way: &UnderWay<'_>, waits: &[String], now_ms: u64, size: Size) -> Vec<String> {
    // The last column stays free: a terminal that wraps early would add a row.
    let columns = size.columns.saturating_sub(1).max(1);
    let over = matches!(tally.stand, RunStand::Ended(..) | RunStand::Parked(_));
    let Some(most) = room(size).checked_sub(1).filter(|_| tally.started.is_some() && !over) else {
        return Vec::new();
    };
    let active: Vec<&StepTally> = active(tally).collect();
    let waits = &waits[..waits.len().min(WAITS).min(most / 3)];
    let most = most - waits.len();
    let shown = if active.len() <= most { active.len() } else { most.saturating_sub(1) };
    let mut rows: Vec<String> =
        active.iter().take(shown).map(|row| step(row, &tally.ledger, under_way, now_ms, columns)).collect();
    if active.len() > shown && most > 0 {
        rows.push(clip(&format!("… and {} more", count((active.len() - shown) as u64, "step")), columns));
    }
    rows.extend(waits.iter().map(|wait| clip(wait, columns)));
    rows.push(money(tally, now_ms, columns));
    rows
}

/// `12 of 50: reading`.
pub fn far(progress: &Progress) -> String {
    let of = progress.of.map(|of| format!(" of {of}")).unwrap_or_default();
    let says = clean(&progress.says);
    format!("{}{of}{}{says}", progress.done, if says.is_empty() { "" } else { ": " })
}

fn step(row: &StepTally, ledger: &Ledger, under_way: &UnderWay<'_>, now_ms: u64, columns: usize) -> String {
    let elapsed = span(now_ms.saturating_sub(row.started_ms));
    let agent = row.agent.as_ref().map(|agent| agent.to_string()).unwrap_or_default();
    let calling = ledger.open().any(|call| call.step == row.step);
    let what = if matches!(row.state, StepState::WaitsBudget) {
        "waits for budget".to_owned()
    } else if calling {
        let model = row.model.as_deref().unwrap_or_default();
        match under_way.writing.iter().find(|one| one.call.step == row.step) {
            Some(one) => format!("{} from {model}", count(one.characters, "character")),
            None => format!("calling {model}"),
        }
    } else {
        match under_way.working.iter().find(|one| one.call.step == row.step) {
            Some(one) => format!("tool {} {}", one.tool, far(&one.progress)),
            None => row.tool.as_ref().map_or_else(|| "working".to_owned(), |tool| format!("tool {tool}")),
        }
    };
    let settled = row.settled;
    let mut right = vec![elapsed.clone(), String::new()];
    if settled.calls > 0 {
        let (tokens, usd) = (tokens(settled.tokens.0), usd(settled.usd));
        match settled.usd {
            NanoUsd::ZERO => right.insert(0, format!("{tokens}  {elapsed}")),
            _ => drop(right.splice(0..0, [format!("{tokens}  {usd}  {elapsed}"), format!("{usd}  {elapsed}")])),
        }
    }
    // The address is what a person needs most, then the time.
    let left = format!("* {}  {agent}  {what}", row.step);
    let needed = width(row.step.as_str()) + 2;
    // Figures give way to what the step is doing, that to the time.
    let beside = |least: usize| right.iter().find(|right| least + 1 + width(right) <= columns);
    let whole = beside(width(&left)).filter(|right| !right.is_empty());
    let time = std::iter::once(&elapsed).find(|time| needed + 1 + width(time) <= columns);
    let right = whole.or(time).map_or("", String::as_str);
    let room = columns.saturating_sub(width(right) + usize::from(!right.is_empty()));
    let left = clip(&left, room);
    let pad = " ".repeat(columns.saturating_sub(width(&left) + width(right)));
    format!("{left}{pad}{right}").trim_end().to_owned()
}

/// What is spent, and beside it whatever fits: the least important is left out first.
fn money(tally: &Tally, now_ms: u64, columns: usize) -> String {
    let mut parts: Vec<Part> = match tally.stand {
        RunStand::Pausing => {
            let flying = in_flight(tally).unwrap_or_else(|| count(0, "call"));
            vec![Part::new(1, "", "pausing"), Part::new(7, ": ", format!("{flying} in flight"))]
        }
        RunStand::Cancelling => vec![Part::new(1, "", "cancelling")],
        RunStand::Running | RunStand::Parked(_) | RunStand::Ended(..) => Vec::new(),
    };
    if tally.started.as_ref().is_some_and(|started| started.offline) {
        parts.push(Part::new(6, " · ", "[offline] "));
    }
    parts.extend(ends::money_parts(tally));
    parts.push(Part::new(8, " · ", tokens(tally.ledger.total().settled.tokens.0)));
    parts.push(Part::new(5, " · ", span(tally.running_ms() + now_ms.saturating_sub(tally.last_ms))));
    parts.extend(tally.forecast_words().map(|words| Part::new(9, " · ", words)));
    screen::fitting(parts, columns)
}
