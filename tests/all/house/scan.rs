//! Rust as text: enough of it to find functions, matches and paths.

/// The source with comments and the contents of strings blanked; lines stay where they are.
pub fn blank(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    let space = |c: char| if c == '\n' { '\n' } else { ' ' };
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied().unwrap_or(' '));
        let end = if c == '/' && next == '/' {
            (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
        } else if c == '/' && next == '*' {
            let close = (at + 2..chars.len().saturating_sub(1)).find(|i| chars[*i] == '*' && chars[i + 1] == '/');
            close.map_or(chars.len(), |i| i + 2)
        } else if c == '"' {
            quoted(&chars, at)
        } else if c == 'r' && (next == '"' || next == '#') && !word(&chars, at) {
            raw(&chars, at).unwrap_or(at)
        } else if c == '\'' {
            letter(&chars, at).unwrap_or(at)
        } else {
            at
        };
        if end == at {
            out.push(c);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| space(*c)));
            at = end;
        }
    }
    out
}

fn word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn quoted(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != '"' {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

fn raw(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return None;
    }
    let closes = |i: usize| chars[i] == '"' && (1..=hashes).all(|n| chars.get(i + n) == Some(&'#'));
    (at + 2 + hashes..chars.len()).find(|i| closes(*i)).map(|i| i + 1 + hashes)
}

/// A character literal; a lifetime is none.
fn letter(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        return (at + 3..(at + 14).min(chars.len())).find(|i| chars[*i] == '\'').map(|i| i + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

/// Where the block that opens at or after `from` closes.
fn close(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(from + at + 1);
                }
            }
            ';' if depth == 0 => return Some(from + at + 1),
            _ => {}
        }
    }
    None
}

/// Blanked code without what is compiled for tests only.
pub fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(at) = out.find("#[cfg(test)]") {
        let end = close(&out, at).unwrap_or(out.len());
        let blanked: String = out[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(at..end, &blanked);
    }
    out
}

pub struct Function {
    pub name: String,
    pub line: usize,
    pub length: usize,
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Every function that has a body.
pub fn functions(code: &str) -> Vec<Function> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let Some(end) = close(code, at).filter(|end| !name.is_empty() && code[..*end].ends_with('}')) {
            let length = code[at..end].matches('\n').count() + 1;
            out.push(Function { name, line: line_of(code, at), length });
        }
    }
    out
}

/// Line and arm patterns of every `match`.
pub fn matches(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices("match ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') {
            continue;
        }
        let Some(open) = code[at..].find('{').map(|open| at + open) else { continue };
        let Some(end) = close(code, open) else { continue };
        out.push((line_of(code, at), arms(&code[open + 1..end - 1])));
    }
    out
}

/// Patterns of the arms in the body of a `match`.
fn arms(body: &str) -> Vec<String> {
    let (mut depth, mut from, mut at) = (0i32, 0, 0);
    let mut out = Vec::new();
    let bytes = body.as_bytes();
    let mut pattern = true;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                // A block ends its arm without a comma.
                if depth == 0
                    && !pattern
                    && bytes[at] == b'}'
                    && !body[at + 1..].trim_start().starts_with(['.', '?', ','])
                {
                    (pattern, from) = (true, at + 1);
                }
            }
            b'=' if depth == 0 && pattern && bytes.get(at + 1) == Some(&b'>') => {
                let text = body[from..at].trim();
                let text = text.split(" if ").next().unwrap_or(text);
                out.push(text.to_owned());
                pattern = false;
                at += 1;
            }
            b',' if depth == 0 && !pattern => (pattern, from) = (true, at + 1),
            _ => {}
        }
        at += 1;
    }
    out
}
