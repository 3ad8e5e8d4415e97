//! Output of foreign programs as plain text. Invariant: what comes out holds no control character but
//! newline and tab, so that nothing a program prints can move a cursor or colour a report.

use std::iter::Peekable;
use std::str::Chars;

/// Drops terminal sequences (CSI, OSC and the like) and control characters; `\r\n` and a lone `\r` are `\n`.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => escape(&mut chars),
            '\u{9b}' => parameters(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => string(&mut chars),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// As [`plain`], also without the characters that turn the direction of what is around them: a line of them
/// reads otherwise than it is.
pub(crate) fn shown(text: &str) -> String {
    let mut out = plain(text);
    out.retain(
        |c| !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'),
    );
    out
}

/// What follows ESC.
fn escape(chars: &mut Peekable<Chars<'_>>) {
    match chars.next() {
        Some('[') => parameters(chars),
        Some(']' | 'P' | 'X' | '^' | '_') => string(chars),
        // Two-byte sequences with an intermediate, such as a choice of character set.
        Some(' '..='/') => drop(chars.next()),
        Some(_) | None => {}
    }
}

/// A control sequence, up to its final byte. Anything that cannot be in one ends it and stays.
fn parameters(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
    chars.next_if(|c| ('@'..='~').contains(c));
}

/// A string sequence, up to BEL or ST; a newline ends one that was never closed.
fn string(chars: &mut Peekable<Chars<'_>>) {
    while let Some(c) = chars.next_if(|c| *c != '\n') {
        match c {
            '\x07' | '\u{9c}' => return,
            '\x1b' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{plain, shown};

    #[test]
    fn nothing_that_is_shown_runs_against_its_line() {
        let controls =
            ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').chain(['\u{61c}', '\u{200e}', '\u{200f}']);
        for control in controls {
            assert_eq!(shown(&format!("pay {control}\x1b[1m100\x1b[0m")), "pay 100", "{control:?}");
        }
        assert_eq!(shown("שלום مرحبا"), "שלום مرحبا");
    }

    #[test]
    fn only_text_is_left() {
        let cases = [
            ("\x1b[31mred\x1b[0m", "red"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
            ("1\r\n2\r3", "1\n2\n3"),
            ("\u{9b}2Jgone", "gone"),
            ("bell\x07 back\x08 nul\0 tab\t.", "bell back nul tab\t."),
            ("\x1b(Bset \x1b7saved", "set saved"),
            ("cut \x1b[", "cut "),
            ("\x1b]never closed\nnext", "\nnext"),
            ("äöü 漢字 🚢", "äöü 漢字 🚢"),
        ];
        for (raw, clean) in cases {
            assert_eq!(plain(raw), clean, "{raw:?}");
        }
    }
}
