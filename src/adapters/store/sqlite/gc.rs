//! What can go. Invariant: only a run that is final, old and owned by nobody is removed, and a text only
//! when no run refers to it; a dry run counts by the same conditions as the real one removes.

use rusqlite::Connection;

use super::columns::{run_of, unsigned};
use super::open::event_id;
use super::writer::Halt;
use crate::adapters::store::lock::OwnerLock;
use crate::core::ids::RunId;
use crate::ports::store::Garbage;

/// Final runs last touched before `before_ms`.
pub fn candidates(conn: &Connection, before_ms: i64) -> Result<Vec<(i64, RunId)>, Halt> {
    let sql = "SELECT id, run FROM runs
        WHERE state IN ('completed', 'failed', 'cancelled') AND updated < ?1 ORDER BY id";
    let mut select = conn.prepare_cached(sql)?;
    let rows = select.query_map([before_ms], |row| Ok((row.get(0)?, run_of(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Counts and, unless `dry`, removes `runs`, whose locks the caller holds. Inside a transaction.
pub fn sweep(conn: &Connection, runs: &[(i64, RunId, OwnerLock)], dry: bool) -> Result<Garbage, Halt> {
    conn.execute_batch("CREATE TEMP TABLE IF NOT EXISTS doomed(id INTEGER PRIMARY KEY); DELETE FROM doomed;")?;
    let mut garbage = Garbage::default();
    for (id, run, _) in runs {
        conn.prepare_cached("INSERT INTO doomed(id) VALUES (?1)")?.execute([id])?;
        let entries = (event_id(*id, 0), event_id(*id, u64::from(u32::MAX)));
        let sql = "SELECT coalesce(sum(octet_length(payload)), 0) FROM events WHERE id BETWEEN ?1 AND ?2";
        garbage.bytes += unsigned(conn.prepare_cached(sql)?.query_row(entries, |row| row.get(0))?);
        garbage.runs.push(run.clone());
        if !dry {
            conn.prepare_cached("DELETE FROM events WHERE id BETWEEN ?1 AND ?2")?.execute(entries)?;
        }
    }
    let loose = "id NOT IN (SELECT blob FROM edges WHERE run NOT IN (SELECT id FROM doomed))";
    let sql = format!("SELECT count(*), coalesce(sum(octet_length(text)), 0) FROM blobs WHERE {loose}");
    let (blobs, bytes) = conn.query_row(&sql, [], |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))))?;
    garbage.blobs = blobs;
    garbage.bytes += bytes;
    if !dry {
        conn.execute_batch(&format!(
            "DELETE FROM blobs WHERE {loose};
             DELETE FROM edges WHERE run IN (SELECT id FROM doomed);
             DELETE FROM inbox WHERE run IN (SELECT id FROM doomed);
             DELETE FROM runs WHERE id IN (SELECT id FROM doomed);"
        ))?;
    }
    Ok(garbage)
}
