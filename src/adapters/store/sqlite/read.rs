//! What is read. Invariant: reading never waits for the writer and never repairs what it finds: rows
//! come as they are stored, and whoever relies on them checks the chain.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::types::ToSql;
use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::Opened;
use super::columns::{blob_of, run_of, signed, state_of, unsigned};
use super::open::{self, event_id, reader, seq_of, unusable};
use crate::core::ids::{BlobId, RunId, Seq};
use crate::core::money::{Amount, NanoUsd, Tokens};
use crate::ports::store::{InboxRow, Row, RunFilter, RunRow, StoreError};

/// Connections for reading; as many as threads have read at once.
pub struct Readers {
    folder: PathBuf,
    opened: Arc<Opened>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub fn new(folder: &Path, opened: Arc<Opened>) -> Readers {
        Readers { folder: folder.to_owned(), opened, idle: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.opened.wait()?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = idle.map_or_else(|| reader(&self.folder), Ok)?;
        let outcome = work(&conn);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        outcome
    }

    /// Closes the connections that nobody reads with.
    pub fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn sql(&self, error: rusqlite::Error) -> StoreError {
        unusable(&self.folder, &error)
    }

    pub fn rows(&self, run: &RunId, from: Seq) -> Result<Vec<Row>, StoreError> {
        self.with(|conn| {
            let id = self.id_of(conn, run)?;
            let sql = "SELECT id, at, kind, payload, hash FROM events WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
            let mut select = conn.prepare_cached(sql).map_err(|e| self.sql(e))?;
            // A read that fails half-way says after which entry.
            let mut at = Seq(from.0.max(1));
            let damaged = |seq: Seq, error: rusqlite::Error| match error.sqlite_error_code() {
                None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    StoreError::Damaged { run: run.clone(), seq, why: error.to_string() }
                }
                Some(_) => self.sql(error),
            };
            let bounds = (event_id(id, at.0.min(u64::from(u32::MAX))), event_id(id, u64::from(u32::MAX)));
            let mut found = select.query(bounds).map_err(|e| damaged(at, e))?;
            let mut rows = Vec::new();
            while let Some(row) = found.next().map_err(|e| damaged(at, e))? {
                let seq = row.get(0).map(|id| Seq(seq_of(id))).map_err(|e| damaged(at, e))?;
                rows.push(stored(row, seq).map_err(|e| damaged(seq, e))?);
                at = seq.next();
            }
            Ok(rows)
        })
    }

    pub fn last_of(&self, run: &RunId, kind: &str) -> Result<Option<Row>, StoreError> {
        self.with(|conn| {
            let id = self.id_of(conn, run)?;
            let sql = "SELECT id, at, kind, payload, hash FROM events WHERE id BETWEEN ?1 AND ?2 AND kind = ?3
                ORDER BY id DESC LIMIT 1";
            let mut select = conn.prepare_cached(sql).map_err(|e| self.sql(e))?;
            let values = (event_id(id, 1), event_id(id, u64::from(u32::MAX)), kind);
            let read = |row: &rusqlite::Row| stored(row, Seq(seq_of(row.get(0)?)));
            select.query_row(values, read).optional().map_err(|e| self.sql(e))
        })
    }

    fn id_of(&self, conn: &Connection, run: &RunId) -> Result<i64, StoreError> {
        let select = conn.prepare_cached("SELECT id FROM runs WHERE run = ?1");
        let id = select.and_then(|mut select| select.query_row([run.as_str()], |row| row.get(0)).optional());
        id.map_err(|e| self.sql(e))?.ok_or_else(|| StoreError::NoRun { run: run.to_string() })
    }

    pub fn blob(&self, id: &BlobId) -> Result<Option<Arc<str>>, StoreError> {
        self.with(|conn| {
            let bytes: Option<Vec<u8>> = conn
                .prepare_cached("SELECT text FROM blobs WHERE hash = ?1")
                .and_then(|mut select| {
                    select.query_row([&id.0], |row| Ok(row.get_ref(0)?.as_bytes()?.to_vec())).optional()
                })
                .map_err(|e| self.sql(e))?;
            let Some(bytes) = bytes else { return Ok(None) };
            match String::from_utf8(bytes) {
                Ok(text) if BlobId::of(text.as_bytes()) == *id => Ok(Some(text.into())),
                _ => Err(self.damaged_blob(conn, id)),
            }
        })
    }

    /// Names a run and the first entry that refers to the text (0: none was found).
    fn damaged_blob(&self, conn: &Connection, id: &BlobId) -> StoreError {
        let why = format!("the text {id} that it refers to is no longer what was written: put a backup in its place");
        let sql = "SELECT runs.run, coalesce((SELECT min(events.id) FROM events WHERE events.id >> 32 = runs.id
                AND instr(payload, ?2) > 0), 0) AS entry
            FROM blobs JOIN edges ON edges.blob = blobs.id JOIN runs ON runs.id = edges.run
            WHERE blobs.hash = ?1 ORDER BY entry = 0, runs.id LIMIT 1";
        let found = conn.query_row(sql, (&id.0, id.to_string()), |row| Ok((run_of(row, 0)?, seq_of(row.get(1)?))));
        match found {
            Ok((run, seq)) => StoreError::Damaged { run, seq: Seq(seq), why },
            Err(_) => StoreError::Unusable { path: self.folder.display().to_string(), why },
        }
    }

    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StoreError> {
        let mut sql =
            "SELECT run, crew, key, inputs, offline, state, started, updated, last, tokens, nano_usd, calls, cap
            FROM runs WHERE true"
                .to_owned();
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        if let Some(prefix) = &filter.prefix {
            // Ids are upper-case letters and digits, people type them as they like.
            sql.push_str(" AND substr(run, 1, ?) = ?");
            values.push(Box::new(signed(prefix.chars().count() as u64)));
            values.push(Box::new(prefix.to_ascii_uppercase()));
        }
        for (column, value) in [("crew", &filter.crew), ("key", &filter.key)] {
            if let Some(value) = value {
                sql.push_str(&format!(" AND {column} = ?"));
                values.push(Box::new(value.clone()));
            }
        }
        // In the order in which they were created, whatever the clock said.
        sql.push_str(" ORDER BY id DESC LIMIT ?");
        values.push(Box::new(filter.limit.map_or(-1, |limit| signed(limit as u64))));
        self.with(|conn| {
            let mut select = conn.prepare_cached(&sql).map_err(|e| self.sql(e))?;
            let mut found = select.query(rusqlite::params_from_iter(values)).map_err(|e| self.sql(e))?;
            let (mut rows, mut damaged) = (Vec::new(), None);
            while let Some(row) = found.next().map_err(|e| self.sql(e))? {
                match run_row(row) {
                    Ok(row) => rows.push(row),
                    // A record that is damaged is its own run's alone.
                    Err(why) => {
                        let damage = self.damaged_run(row, &why);
                        tracing::error!(%damage, "left out of a list of runs");
                        damaged.get_or_insert(damage);
                    }
                }
            }
            damaged.filter(|_| rows.is_empty()).map_or(Ok(rows), Err)
        })
    }

    fn damaged_run(&self, row: &rusqlite::Row, why: &rusqlite::Error) -> StoreError {
        let name = row.get_ref(0).ok().and_then(|name| name.as_str().ok()).unwrap_or("?").escape_debug();
        let column = match why {
            rusqlite::Error::FromSqlConversionFailure(column, ..) | rusqlite::Error::InvalidColumnType(column, ..) => {
                row.as_ref().column_name(*column).unwrap_or("?").to_owned()
            }
            other => other.to_string(),
        };
        let why = format!(
            "the record of run {name} is damaged (`{column}` of its row in `runs`): put a backup of journal.db in its \
             place; other runs can be used by their ids"
        );
        open::refuse(&self.folder, why)
    }

    pub fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, StoreError> {
        let sql = "SELECT inbox.id, kind, payload, by, at FROM inbox JOIN runs ON runs.id = inbox.run
            WHERE runs.run = ?1 ORDER BY inbox.id";
        let read = |row: &rusqlite::Row| {
            let (id, at) = (unsigned(row.get(0)?), row.get::<_, i64>(4)? as u64);
            Ok(InboxRow { id, kind: row.get(1)?, payload: row.get(2)?, by: row.get(3)?, at_ms: at })
        };
        self.with(|conn| {
            let mut select = conn.prepare_cached(sql).map_err(|e| self.sql(e))?;
            let rows = select.query_map([run.as_str()], read).map_err(|e| self.sql(e))?;
            rows.collect::<Result<_, _>>().map_err(|e| self.sql(e))
        })
    }

    pub fn notified(&self, run: &RunId) -> Result<Seq, StoreError> {
        self.with(|conn| {
            let id = self.id_of(conn, run)?;
            let upto = conn.query_row("SELECT notified FROM runs WHERE id = ?1", [id], |row| row.get(0));
            upto.map(|upto| Seq(unsigned(upto))).map_err(|e| self.sql(e))
        })
    }
}

fn stored(row: &rusqlite::Row, seq: Seq) -> rusqlite::Result<Row> {
    let payload = Bytes::copy_from_slice(row.get_ref(3)?.as_bytes()?);
    let at_ms = row.get::<_, i64>(1)? as u64;
    Ok(Row { seq, at_ms, kind: row.get(2)?, payload, hash: row.get(4)? })
}

fn run_row(row: &rusqlite::Row) -> rusqlite::Result<RunRow> {
    let time = |column| row.get::<_, i64>(column).map(|ms| ms as u64);
    Ok(RunRow {
        run: run_of(row, 0)?,
        crew: row.get(1)?,
        key: row.get(2)?,
        inputs: blob_of(row, 3)?,
        offline: row.get(4)?,
        state: state_of(row, 5)?,
        started_ms: time(6)?,
        updated_ms: time(7)?,
        last: Seq(unsigned(row.get(8)?)),
        spent: Amount {
            tokens: Tokens(unsigned(row.get(9)?)),
            usd: NanoUsd(unsigned(row.get(10)?)),
            calls: unsigned(row.get(11)?),
        },
        cap: row.get(12)?,
    })
}
