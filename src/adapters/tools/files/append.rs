//! `files.append`: adding to the end of a text file. Invariant: what was in the file stays as it is, and a
//! file that has another name somewhere is not touched.

use std::io::Write;
use std::path::Path;

use cap_std::fs::{Dir, File, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::places::Places;
use super::{Args, Stop, text};
use crate::adapters::files::{explain, make_folders, sync};

pub(in crate::adapters::tools) const ABOUT: &str = "Add text to the end of a file, which is made if it does not exist. The text is added as it is: \
    end it with a newline. The path is relative to the project root and must lie in a folder this tool may write (out/ unless the crew says otherwise).";

pub(in crate::adapters::tools) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "path": { "type": "string", "minLength": 1, "description": "File to add to, such as out/log.md" },
            "text": { "type": "string", "minLength": 1, "description": "What is added, as it is" }
        },
        "required": ["path", "text"],
        "additionalProperties": false
    })
}

pub(in crate::adapters::tools) fn append(places: &Places, args: &Args, stop: &Stop) -> Result<String, String> {
    let (path, content) = (text(args, "path")?, text(args, "text")?);
    let place = places.writable(path)?;
    if let Some(parent) = place.path.parent() {
        make_folders(&place.dir, parent).map_err(|why| explain(&why, path))?;
    }
    let (dir, name) = place
        .parent()
        .map_err(|why| explain(&why, path))?
        .ok_or_else(|| format!("`{path}` is a folder; name a file in it"))?;
    let mut file = open(&dir, &name, path)?;
    stop.check()?;
    add(&mut file, content.as_bytes(), path)?;
    file.sync_all().and_then(|()| sync(&dir)).map_err(|why| {
        format!(
            "`{path}`: {} bytes were added, but the disk does not confirm it: {why}; do not add them again",
            content.len()
        )
    })?;
    let size = file.metadata().map_or(0, |about| about.len());
    Ok(format!("added {} bytes to {}, which has {size} now", content.len(), place.shown))
}

/// Opens a plain file for adding, without following a link in its place and without waiting for a pipe.
fn open(dir: &Dir, name: &Path, path: &str) -> Result<File, String> {
    if dir.symlink_metadata(name).is_ok_and(|about| about.is_symlink()) {
        return Err(format!("`{path}` is a link, and nothing is added through one; name the file it leads to"));
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = dir.open_with(name, OpenOptions::new().append(true).create(true).custom_flags(flags));
    let file = file.map_err(|why| explain(&why, path))?;
    let about = file.metadata().map_err(|why| explain(&why, path))?;
    if !about.is_file() {
        return Err(format!("`{path}` is not a plain file; nothing is added to pipes and devices"));
    }
    if about.nlink() > 1 {
        let links = about.nlink();
        return Err(format!(
            "`{path}` is one of {links} names (hard links) of a file, and the others may lie outside; write a new file instead"
        ));
    }
    Ok(file)
}

/// Says how much was added where not all could be.
fn add(file: &mut File, bytes: &[u8], path: &str) -> Result<(), String> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write(&bytes[done..]) {
            Ok(0) => return Err(partly(path, done, bytes.len(), "the file takes no more")),
            Ok(count) => done += count,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(why) => return Err(partly(path, done, bytes.len(), &explain(&why, path))),
        }
    }
    Ok(())
}

fn partly(path: &str, done: usize, all: usize, why: &str) -> String {
    format!("{why}; of {all} bytes the first {done} were added to `{path}`")
}
