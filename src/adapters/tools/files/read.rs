//! `files.read`: one page of a text file. Invariant: a page is whole lines of UTF-8, at most
//! [`PAGE_BYTES`], and says where the next one starts.

use std::io::{BufRead, BufReader, Read};

use cap_std::fs::File;
use serde_json::{Value, json};

use super::places::{Opened, Places};
use super::{Args, Stop, flag, number, text};
use crate::adapters::files::explain;

/// Most bytes of one page.
pub(super) const PAGE_BYTES: usize = 1 << 20;

pub(in crate::adapters::tools) const ABOUT: &str = "Read a text file. Long files come in pages: the last line of a page says with which offset \
    to go on. Paths are relative to the project root, or exactly as the task gives them.";

pub(in crate::adapters::tools) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "path": { "type": "string", "minLength": 1, "description": "File to read" },
            "offset": { "type": "integer", "minimum": 1, "description": "First line to read, from 1 (default 1)" },
            "limit": { "type": "integer", "minimum": 1, "description": "Most lines to read (default: all that fit one page)" },
            "numbered": { "type": "boolean", "description": "Put the line number before each line (default false)" }
        },
        "required": ["path"],
        "additionalProperties": false
    })
}

pub(in crate::adapters::tools) fn read(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let path = text(args, "path")?;
    let file = match places.find(path)?.open(path)? {
        Opened::File(file, _) => file,
        Opened::Folder(_) => return Err(format!("`{path}` is a folder; files.list shows what is in it")),
    };
    let first = number(args, "offset", 1).max(1);
    let limit = number(args, "limit", u64::MAX).max(1);
    let mut pages = Pages { path, reader: BufReader::with_capacity(1 << 16, file), line: 1 };
    pages.skip_to(first, stop)?;
    pages.page(limit, flag(args, "numbered"), stop)
}

/// A file read line by line, without ever holding more than a page.
struct Pages<'a> {
    path: &'a str,
    reader: BufReader<File>,
    /// Number of the next line.
    line: u64,
}

/// A line as far as it fits, with its end.
struct Line {
    bytes: Vec<u8>,
    whole: bool,
}

impl Pages<'_> {
    fn skip_to(&mut self, first: u64, stop: &Stop) -> Result<(), String> {
        while self.line < first {
            stop.check()?;
            let skipped = self.reader.skip_until(b'\n').map_err(|why| explain(&why, self.path))?;
            if skipped == 0 {
                let lines = self.line - 1;
                return Err(format!("`{}` has {lines} lines; offset {first} is past its end", self.path));
            }
            self.line += 1;
        }
        Ok(())
    }

    fn page(&mut self, limit: u64, numbered: bool, stop: &Stop) -> Result<String, String> {
        let first = self.line;
        let mut page = String::new();
        let mut cut = None;
        while self.line - first < limit && page.len() < PAGE_BYTES {
            stop.check()?;
            let Some(line) = self.next_line(PAGE_BYTES)? else { break };
            let content = self.decode(&line)?;
            let number = if numbered { format!("{:>6}\t", self.line) } else { String::new() };
            let fits = page.len() + number.len() + content.len() <= PAGE_BYTES;
            if !fits && self.line > first {
                return Ok(self.with_note(page, first, cut));
            }
            page.push_str(&number);
            page.push_str(content);
            if !line.whole {
                cut = Some(self.line);
            }
            self.line += 1;
        }
        let more = !self.reader.fill_buf().map_err(|why| explain(&why, self.path))?.is_empty();
        if more || cut.is_some() { Ok(self.with_note(page, first, cut)) } else { Ok(page) }
    }

    /// The next line with its `\n`, `None` at the end. Of a longer line, `most` bytes; the rest is passed over.
    fn next_line(&mut self, most: usize) -> Result<Option<Line>, String> {
        let mut bytes = Vec::new();
        let taken = self.reader.by_ref().take(most as u64).read_until(b'\n', &mut bytes);
        if taken.map_err(|why| explain(&why, self.path))? == 0 {
            return Ok(None);
        }
        let whole = bytes.len() < most || bytes.ends_with(b"\n");
        if !whole {
            self.reader.skip_until(b'\n').map_err(|why| explain(&why, self.path))?;
        }
        Ok(Some(Line { bytes, whole }))
    }

    fn decode<'a>(&self, line: &'a Line) -> Result<&'a str, String> {
        let bytes = match self.line {
            1 => line.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line.bytes),
            _ => &line.bytes,
        };
        if bytes.contains(&0) {
            return Err(format!(
                "`{}` is not a text file (zero byte in line {}); it cannot be read",
                self.path, self.line
            ));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            // A character cut in two at the page's end is the cut's fault, not the file's.
            Err(why) if !line.whole && why.error_len().is_none() => {
                Ok(std::str::from_utf8(&bytes[..why.valid_up_to()]).unwrap_or_default())
            }
            Err(why) => Err(format!(
                "`{}` is not UTF-8 text (byte 0x{:02x} in line {}); convert it, or read another file",
                self.path,
                bytes.get(why.valid_up_to()).copied().unwrap_or_default(),
                self.line
            )),
        }
    }

    fn with_note(&self, mut page: String, first: u64, cut: Option<u64>) -> String {
        if !page.ends_with('\n') {
            page.push('\n');
        }
        if let Some(line) = cut {
            page.push_str(&format!("[line {line} is longer than {PAGE_BYTES} bytes and is cut]\n"));
        }
        page.push_str(&format!("[lines {first} to {}; go on with offset = {}]\n", self.line - 1, self.line));
        page
    }
}
