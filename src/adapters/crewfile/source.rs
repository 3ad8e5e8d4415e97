//! Where files come from. Invariant: nothing outside the root is read, and what was read can be
//! pinned and read again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file that a crew is made of, in bytes; rows may be larger ([`ROWS_MAX`]).
pub const FILE_MAX: u64 = 4 * 1024 * 1024;
/// Largest csv or jsonl file, in bytes.
pub const ROWS_MAX: u64 = 64 * 1024 * 1024;

/// Files by path, relative to the project root and separated by `/`.
pub trait Source {
    /// The bytes of a file. Errors say what was found instead.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
    fn exists(&self, path: &str) -> bool;
    /// Files below a folder at any depth, sorted.
    fn list(&self, folder: &str) -> Vec<String>;
}

/// A file that a crew was made of, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub path: String,
    pub text: Arc<str>,
}

/// The project's files on disk.
pub struct DiskSource {
    root: PathBuf,
}

impl DiskSource {
    pub fn new(root: impl Into<PathBuf>) -> DiskSource {
        DiskSource { root: root.into() }
    }
}

impl Source for DiskSource {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let full = self.root.join(path);
        let meta = std::fs::metadata(&full).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => error.to_string(),
        })?;
        if meta.is_dir() {
            return Err("it is a folder, a file is needed".to_owned());
        }
        if !meta.is_file() {
            return Err("it is not a plain file".to_owned());
        }
        let rows = path.ends_with(".csv") || path.ends_with(".jsonl");
        let most = if rows { ROWS_MAX } else { FILE_MAX };
        if meta.len() > most {
            return Err(format!("it has {} bytes, at most {most} are read", meta.len()));
        }
        let inside = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
        if !inside(&full)?.starts_with(inside(&self.root)?) {
            return Err("it is a link out of the project folder".to_owned());
        }
        std::fs::read(&full).map_err(|error| error.to_string())
    }

    fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let mut out = Vec::new();
        let mut open = vec![folder.trim_end_matches('/').to_owned()];
        while let Some(folder) = open.pop() {
            let entries = std::fs::read_dir(self.root.join(&folder)).into_iter().flatten().flatten();
            for entry in entries {
                let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(path),
                    Ok(kind) if kind.is_file() => out.push(path),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        out.sort();
        out
    }
}

/// The files that a run was started with.
#[derive(Clone, Debug, Default)]
pub struct PinnedSource(pub BTreeMap<String, Arc<str>>);

impl Source for PinnedSource {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let text = self.0.get(path).ok_or("it is not among the files that the run was started with")?;
        Ok(text.as_bytes().to_vec())
    }
    fn exists(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.0.contains_key(path) || self.0.keys().any(|known| known.starts_with(&folder))
    }
    fn list(&self, folder: &str) -> Vec<String> {
        let folder = format!("{}/", folder.trim_end_matches('/'));
        self.0.keys().filter(|known| known.starts_with(&folder)).cloned().collect()
    }
}

/// A source that remembers what was read from another one.
pub(super) struct Recorder<'a> {
    inner: &'a dyn Source,
    read: RefCell<BTreeMap<String, Arc<str>>>,
}

impl<'a> Recorder<'a> {
    pub fn new(inner: &'a dyn Source) -> Recorder<'a> {
        Recorder { inner, read: RefCell::default() }
    }
    /// A file's text. An error of the first kind is why it cannot be read, of the second the byte
    /// that is not UTF-8.
    pub fn text(&self, path: &str) -> Result<Arc<str>, Unreadable> {
        if let Some(known) = self.read.borrow().get(path) {
            return Ok(known.clone());
        }
        let bytes = self.inner.read(path).map_err(Unreadable::No)?;
        let rows = path.ends_with(".csv") || path.ends_with(".jsonl");
        if bytes.len() as u64 > if rows { ROWS_MAX } else { FILE_MAX } {
            return Err(Unreadable::No(format!("it has {} bytes, at most {FILE_MAX} are read", bytes.len())));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.as_bytes();
            Unreadable::NotUtf8 { byte: bytes.get(at).copied().unwrap_or_default(), at, line: line(&bytes[..at]) }
        })?;
        // Offsets are offsets of the text without the mark that some editors put in front.
        let text: Arc<str> = text.strip_prefix('\u{feff}').map_or_else(|| text.as_str().into(), Into::into);
        self.read.borrow_mut().insert(path.to_owned(), text.clone());
        Ok(text)
    }
    pub fn exists(&self, path: &str) -> bool {
        self.inner.exists(path)
    }
    pub fn list(&self, folder: &str) -> Vec<String> {
        self.inner.list(folder)
    }
    pub fn pins(&self) -> Vec<Pin> {
        let read = self.read.borrow();
        read.iter().map(|(path, text)| Pin { path: path.clone(), text: text.clone() }).collect()
    }
}

fn line(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

pub(super) enum Unreadable {
    No(String),
    NotUtf8 { byte: u8, at: usize, line: usize },
}

/// The project root of a crew file: the nearest folder at or above it that holds `bosun.toml` or
/// `prompts/`, else its own folder.
pub fn project_root(crew: &Path) -> PathBuf {
    let full = std::path::absolute(crew).unwrap_or_else(|_| crew.to_owned());
    let own = if full.is_dir() { full.as_path() } else { full.parent().unwrap_or(&full) };
    let marked = |folder: &&Path| folder.join("bosun.toml").is_file() || folder.join("prompts").is_dir();
    own.ancestors().find(marked).unwrap_or(own).to_owned()
}

/// `path` as `folder/file` names it: relative to the folder of `of`, without `.` and `..`. `None` if
/// it leaves the root.
pub(super) fn beside(of: &str, path: &str) -> Option<String> {
    let folder = of.rsplit_once('/').map_or("", |(folder, _)| folder);
    below(folder, path)
}

pub(super) fn below(folder: &str, path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains('\\') || path.contains(':') || path.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_root() {
        assert_eq!(beside("crews/a.toml", "rows.csv").as_deref(), Some("crews/rows.csv"));
        assert_eq!(beside("crews/a.toml", "../x/./y.csv").as_deref(), Some("x/y.csv"));
        for path in ["../../etc/passwd", "/etc/passwd", "c:\\x", "a\\..\\..", "x\0"] {
            assert_eq!(beside("crews/a.toml", path), None, "{path:?} was let out");
        }
    }

    #[test]
    fn the_root_is_the_nearest_marked_folder() {
        let folder = tempfile::tempdir().unwrap();
        let crews = folder.path().join("crews/deep");
        std::fs::create_dir_all(&crews).unwrap();
        assert_eq!(project_root(&crews.join("a.toml")), crews);
        std::fs::create_dir(folder.path().join("prompts")).unwrap();
        assert_eq!(project_root(&crews.join("a.toml")), folder.path());
        assert_eq!(project_root(&crews), folder.path());
    }

    #[cfg(unix)]
    #[test]
    fn links_out_of_the_root_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.toml"), "x = 1").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.toml"), folder.path().join("a.toml")).unwrap();
        assert!(DiskSource::new(folder.path()).read("a.toml").unwrap_err().contains("link out"));
    }
}
