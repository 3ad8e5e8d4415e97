//! `files.move`: one file to another place. Invariant: a file is at its old place or at its new one, whole;
//! nothing is replaced unless the call says so, decided by the kernel in the same step as the move.
//!
//! Effect `once`: that the file is gone from one place and a file lies at the other does not prove that
//! this call did it.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use rustix::fs::renameat;
use rustix::io::Errno;
use serde_json::{Value, json};

use super::places::{Below, Places};
use super::{Args, Stop, flag, text};
use crate::adapters::files::{explain, make_folders, rename_to_new, sync};

pub(in crate::adapters::tools) const ABOUT: &str = "Move or rename one file. If `to` is a folder (or ends in `/`) the file keeps its name in it. Missing folders are made; \
    a file that is there already is replaced only with overwrite = true. Paths are relative to the project root and must lie in folders this tool may move from and to.";

pub(in crate::adapters::tools) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "from": { "type": "string", "minLength": 1, "description": "File to move, such as inbox/scan.pdf" },
            "to": { "type": "string", "minLength": 1, "description": "Where to: a path, or a folder such as archive/invoices/" },
            "overwrite": { "type": "boolean", "description": "Replace a file that is there already (default false)" }
        },
        "required": ["from", "to"],
        "additionalProperties": false
    })
}

pub(in crate::adapters::tools) fn relocate(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let (from, to) = (text(args, "from")?, text(args, "to")?);
    let source = places.source(from)?;
    let (old, old_name) = source
        .parent()
        .map_err(|why| explain(&why, from))?
        .ok_or_else(|| format!("`{from}` is a folder; files.move moves one file"))?;
    plain(&old, &old_name, from)?;
    let target = within(places.destination(to)?, to, &old_name);
    if let Some(parent) = target.path.parent() {
        make_folders(&target.dir, parent).map_err(|why| explain(&why, to))?;
    }
    let (new, new_name) = target
        .parent()
        .map_err(|why| explain(&why, to))?
        .ok_or_else(|| format!("`{to}` is a folder; name a file in it"))?;
    stop.check()?;
    rename((&old, &old_name), (&new, &new_name), flag(args, "overwrite")).map_err(|why| match why {
        Errno::EXIST => format!("`{}` exists already; choose another name, or set overwrite = true", target.shown),
        Errno::ISDIR => format!("`{}` is a folder; end `to` with `/` to move into it", target.shown),
        Errno::XDEV => format!("`{}` is on another file system than `{from}`; copy it there by hand", target.shown),
        other => explain(&io::Error::from(other), from),
    })?;
    let kept = sync(&new).and_then(|()| sync(&old));
    let note = kept.err().map(|why| format!(" (the disk does not confirm it: {why})"));
    Ok(format!("moved {} to {}{}", source.shown, target.shown, note.unwrap_or_default()))
}

fn plain(dir: &Dir, name: &Path, path: &str) -> Result<(), String> {
    let about = dir.symlink_metadata(name).map_err(|why| explain(&why, path))?;
    match (about.is_file(), about.is_dir(), about.is_symlink()) {
        (true, _, _) => Ok(()),
        (_, true, _) => Err(format!("`{path}` is a folder; files.move moves one file")),
        (_, _, true) => Err(format!("`{path}` is a link; files.move moves plain files only")),
        (false, false, false) => Err(format!("`{path}` is a pipe or a device; files.move moves plain files only")),
    }
}

/// A folder as the place of the file in it, under the file's own name.
fn within(target: Below, to: &str, name: &Path) -> Below {
    let found = if target.path.as_os_str().is_empty() { None } else { target.dir.metadata(&target.path).ok() };
    // What a table calls `to` is a folder even before it exists.
    let folder = to.ends_with('/') || found.as_ref().map_or(target.whole, |about| about.is_dir());
    if !folder {
        return target;
    }
    let shown = PathBuf::from(&target.shown).join(name).to_string_lossy().into_owned();
    Below { path: target.path.join(name), shown, ..target }
}

fn rename(old: (&Dir, &Path), new: (&Dir, &Path), overwrite: bool) -> Result<(), Errno> {
    if overwrite {
        return renameat(old.0, old.1, new.0, new.1);
    }
    rename_to_new(old, new)
}
