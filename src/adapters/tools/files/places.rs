//! Where a file tool may read and write. Invariant: every access goes through a folder that was opened
//! for it; a path outside the roots and grants of its tool has no handle to start from.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;

use crate::adapters::files::{explain, make_folders, open_folder, relative, write_atomic};
use crate::adapters::textfile::plain;

/// A file or folder that the user named on the command line, readable for this run wherever it lies.
#[derive(Clone)]
pub struct Grant {
    /// As the user wrote it, without `./` in front and `/` at the end: how the model addresses it.
    text: String,
    dir: Arc<Dir>,
    /// Of a file: its name in `dir`.
    file: Option<PathBuf>,
}

impl Grant {
    /// Opens what `text` names, relative to the working directory `base`. The user's own links are
    /// followed here, once. Errors name the path and what to do.
    pub fn open(text: &str, base: &Path) -> Result<Grant, String> {
        let wrong = |why: io::Error| {
            format!("path `{text}` cannot be read: {}; check that it exists and is readable", plain(&why))
        };
        let real = base.join(text).canonicalize().map_err(wrong)?;
        let (folder, file) = match (real.parent(), real.file_name()) {
            (Some(parent), Some(name)) if !real.is_dir() => (parent, Some(PathBuf::from(name))),
            _ => (real.as_path(), None),
        };
        let grant = Grant { text: tidy(text).to_owned(), dir: Arc::new(open_folder(folder)?), file };
        grant.target(text).open(text).map(|_| grant)
    }
    /// As [`Grant::open`], of a path that no person has typed: inside `root`, and through no link.
    pub fn inside(text: &str, root: &Path) -> Result<Grant, String> {
        let wrong = |why: io::Error| {
            format!("path `{text}` cannot be read: {}; check that it exists and is readable", plain(&why))
        };
        let expected = root.canonicalize().map_err(wrong)?.join(relative(text)?);
        if expected.canonicalize().map_err(wrong)? != expected {
            return Err(format!("path `{text}` is refused: it leads through a link, and an event gave it"));
        }
        Grant::open(text, root)
    }
    /// What is left of `path` below this grant, if it is the grant or below it.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = tidy(path).strip_prefix(&self.text)?;
        if rest.is_empty() || self.text.ends_with('/') {
            return Some(rest);
        }
        rest.strip_prefix('/').filter(|_| self.file.is_none())
    }
    fn target(&self, shown: &str) -> Target {
        let path = self.file.clone().unwrap_or_default();
        Target { dir: Arc::clone(&self.dir), path, shown: tidy(shown).to_owned(), exact: self.file.is_some() }
    }
}

/// `./a/` and `a` are one place; `/` and `.` stay.
fn tidy(text: &str) -> &str {
    let mut head = text;
    while let Some(rest) = head.strip_prefix("./").filter(|rest| !rest.is_empty()) {
        head = rest.trim_start_matches('/');
    }
    let short = head.trim_end_matches('/');
    if short.is_empty() { text } else { short }
}

/// The roots and grants of one tool.
#[derive(Clone)]
pub struct Places {
    root: Arc<Dir>,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    /// Where files may be moved from and to.
    from: Vec<PathBuf>,
    to: Vec<PathBuf>,
    grants: Arc<[Grant]>,
}

impl Places {
    /// `read` and `write` are relative to `root`. An empty `read` means the root, an empty `write`
    /// means `out/`. A grant's text comes before a path of the root that reads the same.
    pub fn new(root: Arc<Dir>, read: &[String], write: &[String], grants: Arc<[Grant]>) -> Result<Places, String> {
        let all = |list: &[String], default: &str| match list {
            [] => Ok(vec![relative(default)?]),
            list => list.iter().map(|path| relative(path)).collect::<Result<Vec<_>, String>>(),
        };
        let write = all(write, "out")?;
        Ok(Places { root, read: all(read, ".")?, from: write.clone(), to: write.clone(), write, grants })
    }

    /// With folders of its own for moves; empty: what may be written, for a move takes its file away.
    pub fn moving(mut self, from: &[String], to: &[String]) -> Result<Places, String> {
        for (own, list) in [(&mut self.from, from), (&mut self.to, to)] {
            if !list.is_empty() {
                *own = list.iter().map(|path| relative(path)).collect::<Result<_, _>>()?;
            }
        }
        Ok(self)
    }

    /// The place that `path` names for reading.
    pub(super) fn find(&self, path: &str) -> Result<Target, String> {
        for grant in self.grants.iter() {
            let Some(rest) = grant.rest(path) else { continue };
            let mut target = grant.target(path);
            if !rest.is_empty() {
                target.path = relative(rest)?;
            }
            return Ok(target);
        }
        let inside = relative(path)?;
        let Some(root) = self.read.iter().find(|root| inside.starts_with(root)) else {
            return Err(format!("path `{path}` is refused: this tool reads only {}", names(&self.read)));
        };
        let shown = inside.to_string_lossy().into_owned();
        let rest = inside.strip_prefix(root).unwrap_or(&inside);
        if root.as_os_str().is_empty() || rest.as_os_str().is_empty() {
            return Ok(Target { dir: Arc::clone(&self.root), path: inside, shown, exact: false });
        }
        // Below a read root nothing leads out of *it*, not only out of the project.
        let dir = Arc::new(self.root.open_dir(root).map_err(|why| explain(&why, path))?);
        Ok(Target { dir, path: rest.to_owned(), shown, exact: false })
    }

    /// A regular file of at most `most` bytes.
    pub(in crate::adapters::tools) fn file(&self, path: &str, most: u64) -> Result<File, String> {
        match self.find(path)?.open(path)? {
            Opened::File(_, size) if size > most => {
                Err(format!("`{path}` has {size} bytes; at most {most} are read, so take a part of it"))
            }
            Opened::File(file, _) => Ok(file),
            Opened::Folder(_) => Err(format!("`{path}` is a folder; files.list shows what is in it")),
        }
    }

    /// A whole text file of at most `most` bytes.
    pub(in crate::adapters::tools) fn whole_text(&self, path: &str, most: u64) -> Result<String, String> {
        let mut bytes = Vec::new();
        // It may grow meanwhile: what is beyond is not read.
        let read = self.file(path, most)?.take(most).read_to_end(&mut bytes);
        read.map_err(|why| explain(&why, path))?;
        let text = String::from_utf8(bytes).map_err(|why| {
            let at = why.utf8_error().valid_up_to();
            format!("`{path}` is not UTF-8 text (at byte {at}); convert it, or read another file")
        })?;
        Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }

    /// Writes below a write root; missing folders are made.
    pub(super) fn write(&self, path: &str, bytes: &[u8]) -> Result<String, String> {
        let below = self.below(&self.write, path, "writes only", true)?;
        write_atomic(&below.dir, &below.path, bytes).map_err(|why| explain(&why, path))?;
        Ok(below.shown)
    }

    /// The place that `path` names for adding to it.
    pub(super) fn writable(&self, path: &str) -> Result<Below, String> {
        self.below(&self.write, path, "writes only", true)
    }
    /// The file that is to be moved.
    pub(super) fn source(&self, path: &str) -> Result<Below, String> {
        self.below(&self.from, path, "moves files only from", false)
    }
    /// Where it is to go. The folder that the tool may move to is made if it is missing.
    pub(super) fn destination(&self, path: &str) -> Result<Below, String> {
        self.below(&self.to, path, "moves files only to", true)
    }

    fn below(&self, roots: &[PathBuf], path: &str, only: &str, make: bool) -> Result<Below, String> {
        let inside = relative(path)?;
        let Some(root) = roots.iter().find(|root| inside.starts_with(root)) else {
            return Err(format!("path `{path}` is refused: this tool {only} {}", names(roots)));
        };
        let shown = inside.to_string_lossy().into_owned();
        let rest = inside.strip_prefix(root).unwrap_or(&inside);
        let opened = if root.as_os_str().is_empty() || rest.as_os_str().is_empty() {
            self.root.try_clone().map(|dir| (dir, inside.clone()))
        } else {
            let made = if make { make_folders(&self.root, root) } else { Ok(()) };
            // Below the root nothing leads out of *it*, not only out of the project.
            made.and_then(|()| self.root.open_dir(root)).map(|dir| (dir, rest.to_owned()))
        };
        let (dir, path) = opened.map_err(|why| explain(&why, path))?;
        Ok(Below { dir, path, shown, whole: rest.as_os_str().is_empty() })
    }
}

/// A place for an effect: an open folder and what is left to go below it.
pub(super) struct Below {
    pub(super) dir: Dir,
    pub(super) path: PathBuf,
    /// Relative to the project root.
    pub(super) shown: String,
    /// It is one of the tool's roots itself.
    pub(super) whole: bool,
}

impl Below {
    /// The folder that holds it, opened, and its name there. `None`: it is the project root.
    pub(super) fn parent(&self) -> io::Result<Option<(Dir, PathBuf)>> {
        let Some(name) = self.path.file_name() else { return Ok(None) };
        let parent = self.path.parent().unwrap_or(Path::new(""));
        let dir = if parent.as_os_str().is_empty() { self.dir.try_clone() } else { self.dir.open_dir(parent) };
        Ok(Some((dir?, PathBuf::from(name))))
    }
}

fn names(roots: &[PathBuf]) -> String {
    let name = |root: &PathBuf| match root.as_os_str().is_empty() {
        true => "the project".to_owned(),
        false => format!("`{}`", root.display()),
    };
    roots.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A place found by its text: an open folder and what is left to go below it.
pub(super) struct Target {
    dir: Arc<Dir>,
    /// Empty: the folder itself.
    path: PathBuf,
    /// What entries below it are shown under; empty for the project root.
    pub(super) shown: String,
    /// The last component must not have become a link.
    exact: bool,
}

pub(super) enum Opened {
    /// A regular file and its bytes.
    File(File, u64),
    Folder(Dir),
}

impl Target {
    /// `asked` is the path as the model wrote it, for errors.
    pub(super) fn open(&self, asked: &str) -> Result<Opened, String> {
        if self.path.as_os_str().is_empty() {
            return self.dir.try_clone().map(Opened::Folder).map_err(|why| explain(&why, asked));
        }
        let opened = open_any(&self.dir, &self.path, self.exact).map_err(|why| explain(&why, asked))?;
        opened.ok_or_else(|| format!("`{asked}` is neither a file nor a folder; pipes and devices are not read"))
    }
}

/// Opens without waiting (a pipe would block for ever) and says what it is; `None`: something special.
pub(super) fn open_any(dir: &Dir, path: &Path, exact: bool) -> io::Result<Option<Opened>> {
    let links = if exact { OFlags::NOFOLLOW } else { OFlags::empty() };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlags::NONBLOCK | links).bits().cast_signed());
    let file = dir.open_with(path, &options)?;
    let about = file.metadata()?;
    Ok(match (about.is_file(), about.is_dir()) {
        (true, _) => Some(Opened::File(file, about.len())),
        (false, true) => Some(Opened::Folder(Dir::from_std_file(file.into_std()))),
        (false, false) => None,
    })
}
