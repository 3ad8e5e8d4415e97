//! Server-sent events, out of bytes. Invariant: the events are the same however the bytes are cut into
//! pieces, and no event grows beyond [`EVENT_MAX`]. Pure: it reads nothing itself.
//!
//! Grammar: WHATWG HTML, "Server-sent events", 9.2.6. `id` and `retry` are for reconnecting, which
//! would be a second request: they are skipped.

use std::collections::VecDeque;

/// Bytes of one event: a whole answer may come as one.
pub const EVENT_MAX: usize = 8 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Empty where the stream names none.
    pub event: String,
    /// The `data` lines, joined by line feeds; never empty.
    pub data: String,
}

/// An event beyond [`EVENT_MAX`]: the stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    event: String,
    data: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to the same end of line.
    after_cr: bool,
    /// The first line is over, before which a byte order mark may stand.
    begun: bool,
    ready: VecDeque<Event>,
}

impl Parser {
    /// Takes the next bytes; what they complete is taken with [`Parser::take`].
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + self.data.len() + part.len() > EVENT_MAX {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(part);
            bytes = match rest.split_first() {
                Some((byte, after)) => {
                    self.after_cr = *byte == b'\r';
                    self.end_line();
                    after
                }
                None => rest,
            };
        }
        Ok(())
    }

    /// The bytes are over: a last event without its blank line, or a last line without its end, still
    /// counts. Whoever reads its data sees whether it is whole: JSON says so itself.
    pub fn end(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.dispatch();
    }

    /// The next complete event.
    pub fn take(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        let text = match std::mem::replace(&mut self.begun, true) {
            true => &line[..],
            false => line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line),
        };
        if text.is_empty() {
            self.dispatch();
        } else {
            self.field(text);
        }
        line.clear();
        self.line = line;
    }

    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = colon.map_or((line, &line[..0]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            // A comment has an empty name; other fields are not for us.
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        // The last line feed is the joint to a line that did not come.
        self.data.pop();
        if self.data.is_empty() {
            return;
        }
        // Whole lines: a character that was split over pieces is whole again.
        let data = match String::from_utf8(std::mem::take(&mut self.data)) {
            Ok(data) => data,
            Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
        };
        self.ready.push_back(Event { event, data });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &[u8], size: usize) -> Vec<Event> {
        let mut parser = Parser::default();
        text.chunks(size).for_each(|piece| parser.feed(piece).unwrap());
        parser.end();
        std::iter::from_fn(|| parser.take()).collect()
    }

    fn event(event: &str, data: &str) -> Event {
        Event { event: event.into(), data: data.into() }
    }

    const STREAM: &str = "\u{feff}: hello\r\nevent: a\r\ndata: {\"é\":\"日本\"}\r\n\r\nretry: 9\ndata:x\ndata:  y\n\nevent: gone\n\n\
        id: 3\ndata\n\ndata: 🦀\r\rdata:\ndata: z\n\nnonsense\n:\n\ndata: [DONE]";

    #[test]
    fn every_cut_gives_the_same_events() {
        let whole = vec![
            event("a", "{\"é\":\"日本\"}"),
            event("", "x\n y"),
            event("", "🦀"),
            event("", "\nz"),
            event("", "[DONE]"),
        ];
        for size in 1..=STREAM.len() {
            assert_eq!(pieces(STREAM.as_bytes(), size), whole, "pieces of {size}");
        }
        for at in 0..=STREAM.len() {
            let (one, two) = STREAM.as_bytes().split_at(at);
            let mut parser = Parser::default();
            parser.feed(one).and_then(|()| parser.feed(two)).unwrap();
            parser.end();
            assert_eq!(std::iter::from_fn(|| parser.take()).collect::<Vec<_>>(), whole, "cut at {at}");
        }
    }

    #[test]
    fn an_event_is_there_with_its_blank_line() {
        let mut parser = Parser::default();
        parser.feed(b"data: 1\n").unwrap();
        assert_eq!(parser.take(), None);
        parser.feed(b"\ndata: 2").unwrap();
        assert_eq!((parser.take(), parser.take()), (Some(event("", "1")), None));
    }

    #[test]
    fn what_is_no_text_is_replaced_and_what_grows_without_end_is_refused() {
        assert_eq!(pieces(b"data: a\xFFb\n\n", 3), [event("", "a\u{fffd}b")]);
        for line in [&b"x"[..], &b"data: yyyyyyyyyyyyyyyyyyyyyyyy\n"[..]] {
            let mut parser = Parser::default();
            let fed: usize = std::iter::repeat_with(|| parser.feed(&line.repeat(1000)))
                .take_while(Result::is_ok)
                .take(EVENT_MAX)
                .map(|_| line.len() * 1000)
                .sum();
            assert!(fed > EVENT_MAX / 2 && fed < EVENT_MAX * 2, "{fed}");
        }
    }
}
