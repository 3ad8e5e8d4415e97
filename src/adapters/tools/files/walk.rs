//! Going through folders. Invariant: every folder is opened from the one above it, links are never
//! gone into, and a walk ends: at most [`MOST`] entries, at most [`DEEPEST`] levels.

use std::path::Path;

use cap_std::fs::Dir;
use regex::Regex;

use super::Stop;
use crate::adapters::files::explain;
use crate::core::place::is_own;

/// Most entries that a walk looks at.
const MOST: usize = 100_000;
const DEEPEST: usize = 64;

/// What a walk found, by path below its start, sorted.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) entries: Vec<Entry>,
    /// Names that cannot be given in an argument: not UTF-8, or with control characters.
    pub(super) unnamable: usize,
    /// The walk ended at its own limit.
    pub(super) cut: bool,
}

pub(super) struct Entry {
    pub(super) path: String,
    pub(super) folder: bool,
}

pub(super) fn walk(start: Dir, shown: &str, recursive: bool, stop: &Stop) -> Result<Walk, String> {
    let mut walk = Walk::default();
    let mut open = vec![(start, String::new(), 0)];
    while let Some((dir, prefix, depth)) = open.pop() {
        for entry in dir.entries().map_err(|why| explain(&why, shown))? {
            stop.check()?;
            if walk.entries.len() >= MOST {
                walk.cut = true;
                break;
            }
            let entry = entry.map_err(|why| explain(&why, shown))?;
            let Some(name) =
                entry.file_name().to_str().filter(|name| !name.contains(char::is_control)).map(str::to_owned)
            else {
                walk.unnamable += 1;
                continue;
            };
            if is_own(&name) {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(|why| explain(&why, &path))?;
            if kind.is_dir() && recursive && depth < DEEPEST && name != ".git" {
                // A folder that may not be opened, or is gone again, is listed but not gone into.
                if let Ok(below) = entry.open_dir() {
                    open.push((below, format!("{path}/"), depth + 1));
                }
            }
            let folder = match (kind.is_symlink(), kind.is_dir() || kind.is_file()) {
                (false, true) => kind.is_dir(),
                // A link counts as what it leads to, if that is inside.
                (true, _) => match dir.metadata(Path::new(&name)) {
                    Ok(to) if to.is_dir() || to.is_file() => to.is_dir(),
                    Ok(_) | Err(_) => continue,
                },
                (false, false) => continue,
            };
            walk.entries.push(Entry { path, folder });
        }
    }
    walk.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk)
}

/// `docs` + `a.md`; below the project root nothing is put in front.
pub(super) fn join(shown: &str, path: &str) -> String {
    match shown {
        "" | "." | "./" => path.to_owned(),
        _ if shown.ends_with('/') => format!("{shown}{path}"),
        _ => format!("{shown}/{path}"),
    }
}

/// A glob over paths below the start; without `/` it is matched against file names.
pub(crate) struct Glob {
    regex: Regex,
    names_only: bool,
}

impl Glob {
    /// `*` and `?` stop at `/`, `**` does not, `{a,b}` is either.
    pub(crate) fn new(pattern: &str) -> Result<Glob, String> {
        let mut regex = String::from("^");
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            let (taken, piece) = match c {
                '*' if rest.starts_with("**/") => (3, "(?:.*/)?".to_owned()),
                '*' if rest.starts_with("**") => (2, ".*".to_owned()),
                '*' => (1, "[^/]*".to_owned()),
                '?' => (1, "[^/]".to_owned()),
                '{' => (1, "(?:".to_owned()),
                '}' => (1, ")".to_owned()),
                ',' if regex.rfind("(?:") > regex.rfind(')') => (1, "|".to_owned()),
                other => (other.len_utf8(), regex::escape(other.encode_utf8(&mut [0; 4]))),
            };
            regex.push_str(&piece);
            rest = &rest[taken..];
        }
        regex.push('$');
        let regex = Regex::new(&regex)
            .map_err(|_| format!("glob `{pattern}` is not valid; write it like `*.md` or `docs/**/*.txt`"))?;
        Ok(Glob { regex, names_only: !pattern.contains('/') })
    }
    pub(crate) fn matches(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.regex.is_match(if self.names_only { name } else { path })
    }
}
