//! One group of appends. Invariant: a batch is judged before anything of it is written, so that a
//! refused batch needs no savepoint and does not touch the others of its transaction.

use std::collections::HashMap;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql, params};

use super::columns::{run_of, signed, state_of, state_text, unsigned};
use super::open::event_id;
use super::writer::{Append, Halt, Known, Writer};
use crate::core::chat::Blob;
use crate::core::ids::{BlobId, RunId, Seq};
use crate::core::money::{Amount, NanoUsd, Tokens};
use crate::ports::store::{Batch, Epoch, NewRun, RunState, StoreError};

/// SQLite takes a billion bytes in a row; one text must leave space for its neighbours.
const LONGEST: usize = 900_000_000;
/// Entries of one run: their number shares an integer with the run's.
const LAST: u64 = u32::MAX as u64;

/// Inserts what can be inserted and says of each batch how it went. `Err` means: roll everything back.
pub fn write(writer: &mut Writer, group: &[Append]) -> Result<Vec<Result<(), StoreError>>, Halt> {
    let Writer { conn, runs, generation, repeated, .. } = writer;
    let mut statements = Statements::prepare(conn, repeated)?;
    let mut verdicts = Vec::with_capacity(group.len());
    let mut touched: Vec<&RunId> = Vec::with_capacity(group.len());
    for Append { new, batch, .. } in group {
        let begun = new.as_ref().map_or(Ok(()), |new| begin(conn, runs, new, batch));
        match begun.and_then(|()| admit(conn, runs, *generation, batch)) {
            Ok(known) => {
                if !known.dirty {
                    touched.push(&batch.run);
                }
                statements.insert(known, batch)?;
                verdicts.push(Ok(()));
            }
            Err(Halt::Refused(refusal)) => verdicts.push(Err(refusal)),
            Err(halt @ Halt::Sql(_)) => return Err(halt),
        }
    }
    for run in touched {
        if let Some(known) = runs.get_mut(run) {
            statements.update(known)?;
        }
    }
    Ok(verdicts)
}

/// Makes the run's row, if it may be made and its first batch may be written.
fn begin(conn: &Connection, runs: &mut HashMap<RunId, Known>, run: &NewRun, first: &Batch) -> Result<(), Halt> {
    if let Some(key) = &run.key {
        let mut select = conn.prepare_cached("SELECT run FROM runs WHERE crew = ?1 AND key = ?2")?;
        if let Some(found) = select.query_row([&run.crew, key], |row| run_of(row, 0)).optional()? {
            return Err(StoreError::KeyTaken { key: key.clone(), crew: run.crew.clone(), run: found }.into());
        }
    }
    let mut select = conn.prepare_cached("SELECT last FROM runs WHERE run = ?1")?;
    if let Some(last) = select.query_row([run.run.as_str()], |row| row.get(0)).optional()? {
        // Nothing that is queued behind may land in the other run. Its lock is held: its epoch may rise.
        conn.prepare_cached("UPDATE runs SET epoch = epoch + 1 WHERE run = ?1")?.execute([run.run.as_str()])?;
        runs.remove(&run.run);
        let (expected, found) = (Seq(0), Seq(unsigned(last)));
        return Err(StoreError::Moved { run: run.run.clone(), expected, found }.into());
    }
    follows(first, Seq(0))?;
    let sql = "INSERT INTO runs(run, crew, key, inputs, offline, cap, started, epoch, last, updated, state, tokens,
            nano_usd, calls, notified)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?7, ?9, 0, 0, 0, 0)";
    let (epoch, state) = (signed(first.epoch.0), state_text(first.state.unwrap_or(RunState::Running)));
    let started = run.started_ms as i64;
    let values =
        params![run.run.as_str(), run.crew, run.key, run.inputs.0, run.offline, run.cap, started, epoch, state];
    conn.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// May this batch be written? Reads the run's row only where memory does not know it.
fn admit<'a>(
    conn: &Connection,
    runs: &'a mut HashMap<RunId, Known>,
    generation: i64,
    batch: &Batch,
) -> Result<&'a mut Known, Halt> {
    if runs.get(&batch.run).is_none_or(|known| known.generation != generation) {
        let known = look_up(conn, generation, &batch.run)?;
        runs.insert(batch.run.clone(), known);
    }
    let absent = || StoreError::NoRun { run: batch.run.to_string() };
    let known = runs.get_mut(&batch.run).ok_or_else(absent)?;
    if known.epoch != batch.epoch {
        return Err(StoreError::Fenced { run: batch.run.clone() }.into());
    }
    follows(batch, known.last)?;
    Ok(known)
}

/// Whether the batch starts right after `last` and is contiguous in itself.
fn follows(batch: &Batch, last: Seq) -> Result<(), StoreError> {
    let moved = |expected| StoreError::Moved { run: batch.run.clone(), expected, found: last };
    if batch.after != last {
        return Err(moved(batch.after));
    }
    let mut expected = last.next();
    for row in &batch.rows {
        if row.seq != expected {
            return Err(moved(Seq(row.seq.0.saturating_sub(1))));
        }
        expected = expected.next();
    }
    let sizes = batch.rows.iter().map(|row| row.payload.len()).chain(batch.blobs.iter().map(|blob| blob.text.len()));
    if let Some(long) = sizes.max().filter(|size| *size > LONGEST) {
        return Err(StoreError::WriteFailed { why: format!("a text of {long} bytes; at most {LONGEST} are stored") });
    }
    if expected.0 > LAST {
        return Err(StoreError::WriteFailed {
            why: format!("run {} has {LAST} entries, the most there can be", batch.run),
        });
    }
    Ok(())
}

fn look_up(conn: &Connection, generation: i64, run: &RunId) -> Result<Known, Halt> {
    let sql = "SELECT id, epoch, last, tokens, nano_usd, calls, updated, state FROM runs WHERE run = ?1";
    let read = |row: &Row| {
        let spent = Amount {
            tokens: Tokens(unsigned(row.get(3)?)),
            usd: NanoUsd(unsigned(row.get(4)?)),
            calls: unsigned(row.get(5)?),
        };
        Ok(Known {
            id: row.get(0)?,
            epoch: Epoch(unsigned(row.get(1)?)),
            last: Seq(unsigned(row.get(2)?)),
            spent,
            updated_ms: unsigned(row.get(6)?),
            state: state_of(row, 7)?,
            generation,
            dirty: false,
        })
    };
    let known = conn.prepare_cached(sql)?.query_row([run.as_str()], read).optional()?;
    known.ok_or_else(|| StoreError::NoRun { run: run.to_string() }.into())
}

/// The statements of the hot path, looked up once per transaction.
struct Statements<'c> {
    conn: &'c Connection,
    event: CachedStatement<'c>,
    blob: CachedStatement<'c>,
    edge: CachedStatement<'c>,
    run: CachedStatement<'c>,
    repeated: &'c mut Repeated,
}

/// Numbers of texts that came again: what a crew is made of comes with each of its runs.
#[derive(Default)]
pub struct Repeated {
    ids: HashMap<BlobId, i64>,
    /// Value of [`Writer::generation`] of which they are: another process may have removed texts.
    generation: i64,
}
impl Repeated {
    const MOST: usize = 1024;

    pub fn forget(&mut self) {
        self.ids.clear();
    }
    /// What was known of another content of the file is forgotten.
    pub fn as_of(&mut self, generation: i64) {
        if self.generation != generation || self.ids.len() >= Repeated::MOST {
            self.forget();
        }
        self.generation = generation;
    }
}

/// Bytes bound as text: what is JSON by contract reads as text in any SQLite shell.
struct Text<'a>(&'a [u8]);
impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

impl<'c> Statements<'c> {
    fn prepare(conn: &'c Connection, repeated: &'c mut Repeated) -> Result<Statements<'c>, rusqlite::Error> {
        Ok(Statements {
            conn,
            repeated,
            event: conn.prepare_cached("INSERT INTO events(id, at, kind, payload, hash) VALUES (?1, ?2, ?3, ?4, ?5)")?,
            blob: conn.prepare_cached("INSERT INTO blobs(hash, text) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?,
            edge: conn.prepare_cached("INSERT INTO edges(run, blob) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?,
            run: conn.prepare_cached(
                "UPDATE runs SET last = ?2, updated = ?3, state = ?4, tokens = ?5, nano_usd = ?6, calls = ?7 WHERE id = ?1",
            )?,
        })
    }

    /// Rows, blobs and edges of an admitted batch. The run's own row follows with [`Statements::update`].
    fn insert(&mut self, known: &mut Known, batch: &Batch) -> Result<(), Halt> {
        for row in &batch.rows {
            let (id, at) = (event_id(known.id, row.seq.0), row.at_ms as i64);
            self.event.execute(params![id, at, row.kind, Text(&row.payload), row.hash])?;
        }
        for blob in &batch.blobs {
            let id = match self.repeated.ids.get(&blob.id) {
                Some(id) => *id,
                None => self.store(blob)?,
            };
            self.edge.execute(params![known.id, id])?;
        }
        if let Some(last) = batch.rows.last() {
            (known.last, known.updated_ms) = (last.seq, last.at_ms);
        }
        known.spent = known.spent.plus(batch.spent);
        known.state = batch.state.unwrap_or(known.state);
        known.dirty = true;
        Ok(())
    }

    /// The number of a text, which is written if it is new.
    fn store(&mut self, blob: &Blob) -> Result<i64, Halt> {
        if self.blob.execute(params![blob.id.0, &*blob.text])? == 1 {
            return Ok(self.conn.last_insert_rowid());
        }
        let mut select = self.conn.prepare_cached("SELECT id FROM blobs WHERE hash = ?1")?;
        let id = select.query_row([&blob.id.0], |row| row.get(0))?;
        self.repeated.ids.insert(blob.id, id);
        Ok(id)
    }

    fn update(&mut self, known: &mut Known) -> Result<(), Halt> {
        let Amount { tokens, usd, calls } = known.spent;
        let (last, updated, state) = (signed(known.last.0), known.updated_ms as i64, state_text(known.state));
        self.run.execute(params![known.id, last, updated, state, signed(tokens.0), signed(usd.0), signed(calls)])?;
        known.dirty = false;
        Ok(())
    }
}
