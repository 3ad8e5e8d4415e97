//! Texts for people: widths, tables, times. Invariant: what comes from a model, a tool or a file holds
//! no terminal sequence after [`clean`], and a clipped line is never wider than its columns.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::adapters::tools::ansi;
use crate::core::money::{Caps, NanoUsd, grouped};

/// What fits on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

impl Size {
    /// Where a terminal does not say.
    pub const USUAL: Size = Size { columns: 80, rows: 24 };
}

/// Of the terminal at stderr or stdout; `None` where there is none.
pub fn size() -> Option<Size> {
    let (columns, rows) = crossterm::terminal::size().ok().filter(|(columns, _)| *columns > 0)?;
    let rows = if rows > 0 { usize::from(rows) } else { Size::USUAL.rows };
    Some(Size { columns: usize::from(columns), rows })
}

/// Columns of the terminal at stderr or stdout; `None` where there is none.
pub fn columns() -> Option<usize> {
    size().map(|size| size.columns)
}

/// Foreign text as one line: no terminal sequences, no line breaks, runs of white space as one.
pub fn clean(text: &str) -> String {
    ansi::shown(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first `chars` characters of a foreign text, as one line.
pub fn excerpt(text: &str, chars: usize) -> String {
    // Nobody reads on: a text of megabytes is not cleaned whole.
    let head: String = text.chars().take(chars.saturating_mul(8)).collect();
    let line = clean(&head);
    if line.chars().count() <= chars {
        return line;
    }
    line.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
}

pub fn width(text: &str) -> usize {
    text.width()
}

/// At most `columns` wide; what is cut off ends in `…`.
pub fn clip(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        // One column stays for the mark.
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// A line as lines of at most `columns`, broken between words; all but the first begin with `hang` spaces.
pub fn wrap(text: &str, columns: usize, hang: usize) -> Vec<String> {
    broken(text, text.split_whitespace(), columns, hang, usize::MAX).iter().map(|line| clip(line, columns)).collect()
}

/// As [`wrap`], and nothing is cut off: a word that is too long stays whole, and so does a command from its
/// first word on, which somebody will copy.
pub fn fold(text: &str, columns: usize, hang: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (free, command) = text.split_at(text.find("bosun ").unwrap_or(text.len()));
    let command = Some(command).filter(|command| !command.is_empty());
    broken(text, free.split_whitespace().chain(command), columns, hang, columns.saturating_sub(hang)).join("\n")
}

/// No line is begun for a word of more than `most` columns: it would not fit there either.
fn broken<'a>(
    text: &str,
    words: impl Iterator<Item = &'a str>,
    columns: usize,
    hang: usize,
    most: usize,
) -> Vec<String> {
    let indent = " ".repeat(hang.min(columns / 2));
    let mut lines = Vec::new();
    let mut line: String = text.chars().take_while(|c| *c == ' ').collect();
    let mut begun = false;
    for word in words {
        if begun && width(&line) + 1 + width(word) > columns && width(word) <= most {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            begun = false;
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    lines.push(line);
    lines
}

/// A part of a line that may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The highest is left out first, 0 never.
    rank: u8,
    /// What stands before it, unless it begins the line.
    joint: &'static str,
    text: String,
}

impl Part {
    pub fn new(rank: u8, joint: &'static str, text: impl Into<String>) -> Part {
        Part { rank, joint, text: text.into() }
    }
}

/// Parts as a line of at most `columns`: whole parts are left out until it fits.
pub fn fitting(mut parts: Vec<Part>, columns: usize) -> String {
    loop {
        let line = parts.iter().fold(String::new(), |line, part| match line.is_empty() || line.ends_with(' ') {
            true => line + &part.text,
            false => line + part.joint + &part.text,
        });
        let least = parts.iter().map(|part| part.rank).max().filter(|rank| *rank > 0);
        match least.filter(|_| width(&line) > columns) {
            Some(least) => parts.retain(|part| part.rank != least),
            None => return clip(&line, columns),
        }
    }
}

/// Which side a column's cells lean to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Columns that a text keeps beside its figures.
const LEAST: usize = 4;

/// A table that leaves columns out until it fits.
pub struct Table {
    heads: Vec<(&'static str, Side, u8)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Each column: head, side, and its rank: the highest rank is left out first, rank 0 never.
    pub fn new(heads: &[(&'static str, Side, u8)]) -> Table {
        Table { heads: heads.to_vec(), rows: Vec::new() }
    }
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.heads.len());
        self.rows.push(cells);
    }
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lines of at most `columns`, the head first. Where not even the columns of rank 0 fit, the widest text
    /// gives way: figures, which lean to the right, are what a table is looked at for.
    pub fn lines(&self, columns: usize) -> Vec<String> {
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let wide = |column: usize| cells(column).map(|cell| width(cell)).max().unwrap_or(0);
        // A column without a single cell says nothing.
        let used = |column: &usize| cells(*column).any(|cell| !cell.is_empty()) || self.heads[*column].2 == 0;
        let mut shown: Vec<usize> = (0..self.heads.len()).filter(used).collect();
        let mut widths: Vec<usize> = (0..self.heads.len()).map(|c| wide(c).max(width(self.heads[c].0))).collect();
        let total =
            |shown: &[usize], widths: &[usize]| shown.iter().map(|c| widths[*c] + 2).sum::<usize>().saturating_sub(2);
        while total(&shown, &widths) > columns {
            let Some(least) = shown.iter().copied().filter(|c| self.heads[*c].2 > 0).max_by_key(|c| self.heads[*c].2)
            else {
                break;
            };
            shown.retain(|column| *column != least);
        }
        let over = total(&shown, &widths).saturating_sub(columns);
        let texts = shown.iter().copied().filter(|column| self.heads[*column].1 == Side::Left);
        if let Some(widest) = texts.max_by_key(|column| widths[*column]) {
            widths[widest] = widths[widest].saturating_sub(over).max(widths[widest].min(LEAST));
        }
        let heads: Vec<String> = self.heads.iter().map(|(head, _, _)| (*head).to_owned()).collect();
        let line = |row: &Vec<String>| {
            let mut out = String::new();
            for column in &shown {
                let cell = clip(&row[*column], widths[*column]);
                let pad = " ".repeat(widths[*column].saturating_sub(width(&cell)));
                match self.heads[*column].1 {
                    Side::Left => out.push_str(&format!("{cell}{pad}  ")),
                    Side::Right => out.push_str(&format!("{pad}{cell}  ")),
                }
            }
            clip(out.trim_end(), columns)
        };
        std::iter::once(&heads).chain(&self.rows).map(line).collect()
    }
}

/// `21s`, `2:08`, `1:02:03`.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) if ms < 10_000 => format!("{}.{}s", seconds, ms / 100 % 10),
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}:{rest:02}"),
        (_, _) => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// `2 min ago`.
pub fn ago(at_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1000;
    match seconds {
        0..=9 => "just now".to_owned(),
        10..=59 => format!("{seconds} s ago"),
        60..=3599 => format!("{} min ago", seconds / 60),
        3600..=86_399 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

fn timestamp(at_ms: u64) -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(at_ms).unwrap_or(i64::MAX)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// RFC 3339 in UTC, to the millisecond: `2026-11-20T12:00:45.123Z`.
pub fn rfc3339(at_ms: u64) -> String {
    format!("{:.3}", timestamp(at_ms))
}

/// `12:00:21`, in the zone of whoever reads it.
pub fn clock(at_ms: u64, zone: &TimeZone) -> String {
    timestamp(at_ms).to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// `2026-11-20 12:00:21`.
pub fn date(at_ms: u64, zone: &TimeZone) -> String {
    timestamp(at_ms).to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `9,120 tok`.
pub fn tokens(tokens: u64) -> String {
    format!("{} tok", grouped(tokens))
}

/// `1 call`, `4 calls`.
pub fn count(number: u64, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{} {word}s", grouped(number)) }
}

/// An amount with four decimals; more where it would read as nothing.
pub fn usd(amount: NanoUsd) -> String {
    amount.short(4)
}

/// A cap as its author would write it: at least two decimals, never rounded.
pub fn cap(amount: NanoUsd) -> String {
    let plain = amount.to_string();
    match plain.split_once('.') {
        None => format!("${plain}.00"),
        Some((_, part)) if part.len() == 1 => format!("${plain}0"),
        Some(_) => format!("${plain}"),
    }
}

/// The cap that a list shows: dollars, else tokens.
pub fn caps(caps: Caps) -> String {
    match (caps.usd, caps.tokens) {
        (Some(usd), _) => cap(usd),
        (None, Some(tokens)) => format!("{tokens} tok"),
        (None, None) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_counts_wide_characters_and_never_exceeds_the_width() {
        for text in ["plain text", "日本語のテキスト", "e\u{301}tude", "a日b本c", "👩‍🚀 up"] {
            for columns in 0..12 {
                assert!(width(&clip(text, columns)) <= columns, "{text} at {columns}");
            }
        }
        assert_eq!(clip("日本語", 5), "日本…");
        assert_eq!(clip("日本語", 4), "日…");
        assert_eq!(clip("abc", 3), "abc");
    }

    #[test]
    fn wrapped_lines_keep_every_word_and_fit() {
        assert_eq!(wrap("  one two three four", 12, 4), ["  one two", "    three", "    four"]);
        assert_eq!(wrap("one two", usize::MAX, 4), ["one two"]);
        assert_eq!(wrap("unbreakable", 6, 2), ["unbre…"]);
        assert_eq!(fold("Ctrl-C pauses safely", 15, 2), "Ctrl-C pauses\n  safely");
        assert_eq!(fold("go on: bosun resume 7Q3M --retry a", 30, 2), "go on:\n  bosun resume 7Q3M --retry a");
        assert_eq!(fold("a head abababababab then b", 10, 2), "a head abababababab\n  then b");
    }

    #[test]
    fn foreign_text_is_one_harmless_line() {
        assert_eq!(clean("a\x1b[31mred\x1b[0m\r\n\tb\x07"), "ared b");
        assert_eq!(excerpt("one two three", 8), "one two…");
    }

    #[test]
    fn a_table_leaves_out_its_least_columns_first_and_never_the_first() {
        let mut table = Table::new(&[("RUN", Side::Left, 0), ("CREW", Side::Left, 1), ("TIME", Side::Right, 2)]);
        table.row(vec!["7Q3M".into(), "report".into(), "2:08".into()]);
        assert_eq!(table.lines(80), ["RUN   CREW    TIME", "7Q3M  report  2:08"]);
        assert_eq!(table.lines(14), ["RUN   CREW", "7Q3M  report"]);
        assert_eq!(table.lines(5), ["RUN", "7Q3M"]);
        assert_eq!(table.lines(3), ["RUN", "7Q…"]);
    }

    #[test]
    fn what_names_a_row_gives_way_to_what_the_table_is_for() {
        let mut table = Table::new(&[("AGENT", Side::Left, 0), ("CALLS", Side::Right, 1), ("USD", Side::Right, 0)]);
        table.row(vec!["writer (no price)".into(), "12".into(), "$0.0256".into()]);
        assert_eq!(table.lines(40), ["AGENT              CALLS      USD", "writer (no price)     12  $0.0256"]);
        assert_eq!(table.lines(20), ["AGENT            USD", "writer (no…  $0.0256"]);
        assert_eq!(table.lines(13), ["AGE…      USD", "wri…  $0.0256"]);
        assert!(table.lines(9).iter().all(|line| width(line) <= 9));
    }

    #[test]
    fn parts_are_left_out_whole_the_highest_rank_first() {
        let parts =
            || vec![Part::new(1, " · ", "pausing"), Part::new(0, " · ", "spent $1"), Part::new(2, " of ", "$4")];
        assert_eq!(
            [80, 18, 12, 5].map(|columns| fitting(parts(), columns)),
            ["pausing · spent $1 of $4", "pausing · spent $1", "spent $1", "spen…"]
        );
    }

    #[test]
    fn times_and_amounts_read_well() {
        assert_eq!([span(900), span(21_400), span(128_000), span(3_723_000)], ["0.9s", "21s", "2:08", "1:02:03"]);
        assert_eq!(rfc3339(1_795_176_045_123), "2026-11-20T12:00:45.123Z");
        assert_eq!(clock(1_795_176_045_123, &TimeZone::UTC), "12:00:45");
        assert_eq!(rfc3339(u64::MAX), "1970-01-01T00:00:00.000Z");
        let caps = ["1", "0.25", "0.5", "0.0375"].map(|text| cap(text.parse().unwrap()));
        assert_eq!(caps, ["$1.00", "$0.25", "$0.50", "$0.0375"]);
        assert_eq!([ago(0, 5_000), ago(0, 130_000)], ["just now", "2 min ago"]);
    }
}
