//! Money that runs share: one row per crew, day and run. Invariant: a row changes only in a transaction
//! that has read all rows of its pot, so that two processes can never both take the last of it.
//!
//! The table is made when a crew with a cap per day first asks. It is no change of the format: an older
//! Bosun reads the journals beside it as before, and refuses the crews that need it.

use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{run_of, signed, unsigned};
use super::writer::Halt;
use crate::adapters::store::lock::Owners;
use crate::core::ids::Seq;
use crate::core::ledger::{PotRow, divide};
use crate::core::money::NanoUsd;
use crate::ports::store::{PotAsk, PotShare, StoreError};

/// `granted` and `firm` in nano-USD; `seq` is the entry as of which the run asked last.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS pots(crew TEXT NOT NULL, day TEXT NOT NULL, run TEXT NOT NULL,
    granted INTEGER NOT NULL, firm INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(crew, day, run)) WITHOUT ROWID";

/// Inside a transaction.
pub fn divided(conn: &Connection, owners: &Owners, ask: &PotAsk) -> Result<PotShare, Halt> {
    let mut select = conn.prepare_cached("SELECT epoch FROM runs WHERE run = ?1")?;
    let epoch: Option<i64> = select.query_row([ask.run.as_str()], |row| row.get(0)).optional()?;
    let epoch = epoch.ok_or_else(|| StoreError::NoRun { run: ask.run.to_string() })?;
    if unsigned(epoch) != ask.epoch.0 {
        return Err(StoreError::Fenced { run: ask.run.clone() }.into());
    }
    conn.execute(TABLE, [])?;
    let day = ask.ask.day.to_string();
    let mut select = conn.prepare_cached("SELECT run, granted, firm, seq FROM pots WHERE crew = ?1 AND day = ?2")?;
    let rows = select.query_map([&ask.crew, &day], |row| {
        let money = |column| row.get(column).map(|nano| NanoUsd(unsigned(nano)));
        Ok((run_of(row, 0)?, PotRow { granted: money(1)?, firm: money(2)? }, Seq(unsigned(row.get(3)?))))
    })?;
    let (mut own, mut seq, mut others) = (PotRow::default(), Seq(0), Vec::new());
    for row in rows {
        let (run, row, asked) = row?;
        if run == ask.run {
            (own, seq) = (row, asked);
        } else {
            // What a dead process held may have been billed, and nobody gives it back before a resume.
            let open = row.firm != row.granted;
            others.push((row, open && owners.owner(&run).is_some()));
        }
    }
    let (row, most) = divide(&ask.ask, own, others);
    let late = row.granted < own.granted && ask.as_of <= seq;
    let (row, seq) = (if late { own } else { row }, seq.max(ask.as_of));
    let sql = "INSERT INTO pots(crew, day, run, granted, firm, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT DO UPDATE SET granted = excluded.granted, firm = excluded.firm, seq = excluded.seq";
    let (granted, firm) = (signed(row.granted.0), signed(row.firm.0));
    conn.prepare_cached(sql)?.execute(params![ask.crew, day, ask.run.as_str(), granted, firm, signed(seq.0)])?;
    Ok(PotShare { granted: row.granted, most })
}

/// Forgets days that ended before `before_ms`.
pub fn sweep(conn: &Connection, before_ms: i64) -> Result<(), Halt> {
    let known = conn.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'pots'", [], |row| row.get(0))?;
    let known: i64 = known;
    if known > 0 {
        conn.execute("DELETE FROM pots WHERE day < date(?1 / 1000, 'unixepoch')", [before_ms])?;
    }
    Ok(())
}
