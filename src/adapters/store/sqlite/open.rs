//! Opening `journal.db`. Invariant: nothing is changed in a file before it is known to be ours and of
//! a format that this version writes.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::io::Errno;

use crate::adapters::files::rename_to_new;
use crate::ports::store::StoreError;

/// `PRAGMA user_version` of what this version writes. A change of the schema raises it.
pub const FORMAT: i64 = 1;
/// `PRAGMA application_id`: "bosn".
const APPLICATION: i64 = 0x626f_736e;

/// How long another process may hold the write lock (`gc` of a big folder) before that is an error.
const BUSY: Duration = Duration::from_secs(30);
/// Pages (4 KiB) after which a commit also checkpoints: it bounds the WAL of a store that is never idle, which
/// then starts at its beginning again and no longer grows (see `room.rs`).
pub const AUTOCHECKPOINT: i64 = 1024;

/// `events.id` is `runs.id << 32 | seq`: one integer key, and a run's entries lie together. Blobs are
/// numbered as they come, so that texts are appended and only their small hash index is written at random.
const SCHEMA: &str = "
BEGIN;
CREATE TABLE runs(
    id INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, crew TEXT NOT NULL, key TEXT, inputs BLOB NOT NULL,
    offline INTEGER NOT NULL, cap TEXT NOT NULL, started INTEGER NOT NULL,
    epoch INTEGER NOT NULL, last INTEGER NOT NULL, updated INTEGER NOT NULL, state TEXT NOT NULL,
    tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL, calls INTEGER NOT NULL, notified INTEGER NOT NULL);
CREATE UNIQUE INDEX runs_key ON runs(crew, key) WHERE key IS NOT NULL;
CREATE TABLE events(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL,
    hash BLOB NOT NULL);
CREATE TABLE blobs(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE edges(run INTEGER NOT NULL, blob INTEGER NOT NULL, PRIMARY KEY(run, blob)) WITHOUT ROWID;
CREATE TABLE inbox(id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, kind TEXT NOT NULL,
    payload TEXT NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX inbox_run ON inbox(run, id);
CREATE VIEW journal AS SELECT runs.run, events.id & 0xffffffff AS seq, at, kind, payload, lower(hex(hash)) AS hash
    FROM events JOIN runs ON runs.id = events.id >> 32;
COMMIT;
";

/// The key of an entry. A journal of 2^32 entries is refused before it gets here.
pub fn event_id(run: i64, seq: u64) -> i64 {
    run << 32 | (seq & 0xffff_ffff) as i64
}
pub fn seq_of(event: i64) -> u64 {
    (event & 0xffff_ffff) as u64
}

/// What to do where nothing can be written for want of room.
const NO_ROOM: &str = "; free some space (or lift a limit on sizes of files) or repair the disk, then try again";

/// As [`NO_ROOM`], if that is what `error` says.
pub fn room(error: &io::Error) -> Option<&'static str> {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge).then_some(NO_ROOM)
}

/// Says what a failed use of the file means and what to do about it.
pub fn unusable(path: &Path, error: &rusqlite::Error) -> StoreError {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            "; journal.db is not a Bosun journal: move it away, or name another state folder"
        }
        Some(ErrorCode::DatabaseCorrupt) => "; journal.db is damaged: put a backup in its place, or move it away",
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "; Bosun must be able to write the folder and every file in it: check owner, permissions and mount"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "; another process has held it for 30 s: wait for it or stop it"
        }
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => NO_ROOM,
        _ => "",
    };
    refuse(path, format!("{error}{advice}"))
}

pub fn refuse(path: &Path, why: impl Into<String>) -> StoreError {
    StoreError::Unusable { path: path.display().to_string(), why: why.into() }
}

/// Makes the folder; says whether there is a journal in it.
pub fn folder(folder: &Path) -> Result<bool, StoreError> {
    if fs::symlink_metadata(folder).is_ok() && !folder.is_dir() {
        return Err(refuse(
            folder,
            "a folder is needed and something else is there: move it away, or name another one",
        ));
    }
    let owners = folder.join("owners");
    let created = DirBuilder::new().recursive(true).mode(0o700).create(&owners);
    created.map_err(|error| not_made(folder, "owners", &error))?;
    Ok(folder.join("journal.db").exists())
}

/// The writer's connection. `max_pages` bounds the file, as a full disk would.
pub fn writer(folder: &Path, max_pages: Option<u32>) -> Result<Connection, StoreError> {
    match fs::metadata(folder.join("journal.db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(folder)?,
        // SQLite takes less than a header for an empty file and would write over it.
        Ok(file) if file.is_file() && file.len() < 512 => {
            let why = "journal.db is cut off or no Bosun journal: put a backup in its place, or move it away";
            return Err(refuse(folder, why));
        }
        Ok(_) | Err(_) => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = |error: rusqlite::Error| unusable(folder, &error);
    let conn = Connection::open_with_flags(folder.join("journal.db"), flags).map_err(sql)?;
    conn.busy_timeout(BUSY).map_err(sql)?;
    if conn.is_readonly("main").map_err(sql)? {
        return Err(refuse(folder, "journal.db is read-only: give this user the right to write it"));
    }
    check_format(&conn, folder)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sql)?;
    if mode != "wal" {
        return Err(refuse(
            folder,
            format!("its file system allows journal mode {mode} only, WAL is needed: use a local disk"),
        ));
    }
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT}; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 33554432;"
    ))
    .map_err(sql)?;
    if let Some(pages) = max_pages {
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(sql)?;
    }
    conn.set_prepared_statement_cache_capacity(32);
    Ok(conn)
}

pub fn reader(folder: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = |error: rusqlite::Error| unusable(folder, &error);
    let conn = Connection::open_with_flags(folder.join("journal.db"), flags).map_err(sql)?;
    conn.busy_timeout(BUSY).map_err(sql)?;
    Ok(conn)
}

/// Refuses foreign and newer files.
fn check_format(conn: &Connection, folder: &Path) -> Result<(), StoreError> {
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| unusable(folder, &e));
    let (format, application) = (number("PRAGMA user_version")?, number("PRAGMA application_id")?);
    // Reads the schema, so that a damaged one is found here.
    number("SELECT count(*) FROM sqlite_schema")?;
    if application != APPLICATION || format < 1 {
        let why = "journal.db is another program's database: move it away, or name another state folder";
        return Err(refuse(folder, why));
    }
    if format > FORMAT {
        return Err(StoreError::Newer { path: folder.display().to_string(), found: format, known: FORMAT });
    }
    Ok(())
}

/// Puts a new journal in place whole: after a crash at any point there is none or a complete one. Two
/// processes may do so at once; the second uses the first one's. (And it costs two fsyncs, where tables
/// created in place cost eight.)
fn make(folder: &Path) -> Result<(), StoreError> {
    let random = getrandom::u64().map_err(|error| refuse(folder, format!("no random number: {error}")))?;
    let new = folder.join(format!("new-{random:016x}.db"));
    build(&new).map_err(|error| {
        let _ = fs::remove_file(&new);
        unusable(folder, &error)
    })?;
    place(folder, &new).map_err(|error| not_made(folder, "journal.db", &error))
}

/// Whatever fails, nothing of it is left.
fn place(folder: &Path, new: &Path) -> io::Result<()> {
    let place = || {
        let dir = File::open(folder)?;
        File::open(new)?.sync_all()?;
        match rename_to_new((&dir, Path::new(new.file_name().unwrap_or_default())), (&dir, Path::new("journal.db"))) {
            // Another process was faster.
            Err(Errno::EXIST) => fs::remove_file(new)?,
            other => other?,
        }
        dir.sync_all()
    };
    place().inspect_err(|_: &io::Error| {
        let _ = fs::remove_file(new);
    })
}

fn build(path: &Path) -> Result<(), rusqlite::Error> {
    let conn = Connection::open(path)?;
    // Whoever calls this syncs the finished file.
    conn.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY;")?;
    conn.execute_batch(SCHEMA)?;
    conn.pragma_update(None, "application_id", APPLICATION)?;
    conn.pragma_update(None, "user_version", FORMAT)?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    conn.close().map_err(|(_, error)| error)
}

fn not_made(folder: &Path, name: &str, error: &io::Error) -> StoreError {
    let advice = "; Bosun must be able to create and write it: check owner, permissions and mount";
    refuse(folder, format!("cannot create {name}: {error}{}", room(error).unwrap_or(advice)))
}
