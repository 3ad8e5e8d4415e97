//! Files that a run writes under its project root. Invariant: a file is whole or absent, never half,
//! and no path and no link leads out of the folder that was opened at start.
//!
//! Every access is relative to an open folder (`cap-std`): what a path means is decided by the kernel
//! below that folder, not by comparing texts. Texts are checked first only for a clear answer.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use rustix::fs::{AtFlags, RenameFlags, linkat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::core::place::{self, OWN};
use crate::ports::BoxFuture;
use crate::ports::files::Files;

/// The project root as the place of `output_file`s.
pub struct RootFiles {
    root: Arc<Dir>,
}

impl RootFiles {
    /// Opens the project root; the error names it and what to do.
    pub fn open(root: &Path) -> Result<RootFiles, String> {
        Ok(RootFiles { root: Arc::new(open_folder(root)?) })
    }
}

impl Files for RootFiles {
    fn write<'a>(&'a self, path: &'a str, text: &'a str) -> BoxFuture<'a, Result<(), String>> {
        let (root, shown, text) = (Arc::clone(&self.root), path.to_owned(), text.to_owned());
        Box::pin(async move {
            let inside = relative(&shown)?;
            // Not cancelled by a drop: the file is then the old one or the new one, as after a crash.
            let work = move || write_atomic(&root, &inside, text.as_bytes()).map_err(|why| explain(&why, &shown));
            match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(lost) => Err(format!("the file was not written, its thread was lost: {lost}")),
            }
        })
    }
}

/// Opens a folder by a path that the user, not a model, has chosen.
pub(crate) fn open_folder(path: &Path) -> Result<Dir, String> {
    Dir::open_ambient_dir(path, ambient_authority()).map_err(|why| {
        format!("folder {} cannot be opened: {why}; check that it exists and is readable", path.display())
    })
}

/// A path below a root, checked as text ([`place::parts`]); it may be empty: the root itself.
pub(crate) fn relative(path: &str) -> Result<PathBuf, String> {
    Ok(place::parts(path)?.iter().collect())
}

/// An IO error in words that say what to do. `shown` is the path as its author wrote it.
pub(crate) fn explain(why: &io::Error, shown: &str) -> String {
    // cap-std's own refusal carries no number of the operating system.
    let leads_out = why.kind() == ErrorKind::PermissionDenied && why.raw_os_error().is_none();
    let shown = shown.escape_debug();
    if leads_out {
        return format!("path `{shown}` is refused: a link in it leads out of its folder");
    }
    match why.kind() {
        ErrorKind::NotFound => format!("`{shown}` does not exist; files.list shows what does"),
        ErrorKind::NotADirectory => format!("`{shown}`: a part of the path is a file, not a folder"),
        ErrorKind::IsADirectory => format!("`{shown}` is a folder; name a file in it"),
        ErrorKind::PermissionDenied => format!("`{shown}`: permission denied; check the rights of the file"),
        ErrorKind::StorageFull => format!("`{shown}` was not written: the disk is full"),
        _ => format!("`{shown}`: {why}"),
    }
}

/// Writes a file so that a crash leaves the old one or the new one. Folders are made as needed. A link
/// in the place of the file is replaced, never written through.
pub(crate) fn write_atomic(root: &Dir, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::IsADirectory)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    make_folders(root, parent)?;
    let folder = if parent.as_os_str().is_empty() { root.try_clone()? } else { root.open_dir(parent)? };
    let old = folder.symlink_metadata(name).ok();
    if old.as_ref().is_some_and(|old| old.is_dir()) {
        return Err(ErrorKind::IsADirectory.into());
    }
    let random = getrandom::u64().map_err(|why| io::Error::other(why.to_string()))?;
    let unfinished = format!("{OWN}-tmp-{random:016x}");
    let written = (|| {
        let mut file = folder.open_with(&unfinished, OpenOptions::new().write(true).create_new(true))?;
        file.write_all(bytes)?;
        if let Some(old) = old.filter(|old| old.is_file()) {
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        folder.rename(&unfinished, &folder, name)?;
        sync(&folder)
    })();
    if written.is_err() {
        // Best effort: the reason of the failure is what matters, and the name is hidden from tools.
        let _ = folder.remove_file(&unfinished);
    }
    written
}

/// Makes each missing folder of `path`, and makes its entry durable.
pub(crate) fn make_folders(root: &Dir, path: &Path) -> io::Result<()> {
    let mut upto = PathBuf::new();
    for component in path.components() {
        let above = if upto.as_os_str().is_empty() { root.try_clone()? } else { root.open_dir(&upto)? };
        upto.push(component);
        match above.create_dir(component) {
            Ok(()) => sync(&above)?,
            Err(why) if why.kind() == ErrorKind::AlreadyExists => {}
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// fsync of a folder. The handle of a `Dir` may be path-only, so the folder is opened for reading.
pub(crate) fn sync(folder: &Dir) -> io::Result<()> {
    folder.open(".")?.sync_all()
}

/// Gives a file a name that nothing has yet. The names are plain: nothing in them is followed.
pub fn rename_to_new(old: (impl AsFd, &Path), new: (impl AsFd, &Path)) -> Result<(), Errno> {
    let ((old, old_name), (new, new_name)) = ((old.0.as_fd(), old.1), (new.0.as_fd(), new.1));
    match renameat_with(old, old_name, new, new_name, RenameFlags::NOREPLACE) {
        // File systems without it: a second name cannot replace anything either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            linkat(old, old_name, new, new_name, AtFlags::empty())?;
            unlinkat(old, old_name, AtFlags::empty())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
