//! The one thread of a process that writes. Invariant: a batch is written as a whole or not at all, in
//! the order of the calls; and once a write has failed, nothing is ever written again by this process,
//! so that no effect can follow a fact that was lost.
//!
//! *Group commit*: all batches that are waiting go into one transaction and share its fsync. Under load
//! the writer lets a crowd gather first ([`Pace`]).
//! What the last entry and the epoch of a run are is kept in memory; when another process has written
//! (`PRAGMA data_version`) it is read again before it is believed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::append::{self, Repeated};
use super::room::{self, Room};
use crate::core::ids::{RunId, Seq};
use crate::core::money::Amount;
use crate::ports::store::{Batch, Done, Epoch, NewRun, RunState, StoreError};

/// Rows after which a group is closed: a bound for the latency of its first batch.
const GROUP_ROWS: usize = 512;
/// Without work for this long, the writer moves the WAL into the file.
const IDLE: Duration = Duration::from_millis(300);

/// How the last transactions went: what the next may wait for company.
#[derive(Default)]
struct Pace {
    /// Transactions of a crowd, one after the other.
    crowds: u32,
    /// The last one.
    took: Duration,
}
impl Pace {
    /// So many batches at once are a load in which the fsyncs, not the waiting, are what costs.
    const CROWD: usize = 8;
    /// So many crowds in a row are a load that lasts. A burst is written as fast as it comes.
    const LASTS: u32 = 16;
    /// Nothing beside what a model takes to answer.
    const LONGEST: Duration = Duration::from_millis(3);
    /// Where one has company, more are on their way: 500 runs at once take a third fewer syncs with it.
    const MORE: Duration = Duration::from_micros(600);

    fn after(&mut self, batches: usize, took: Duration) {
        self.crowds = if batches < Pace::CROWD { 0 } else { self.crowds.saturating_add(1) };
        self.took = took;
    }

    /// What `batches` that are there wait for others: as long as two transactions take in a crowd that lasts.
    /// Whoever is alone is written at once.
    fn gather(&self, batches: usize) -> Duration {
        match batches {
            0 | 1 => Duration::ZERO,
            _ if self.crowds < Pace::LASTS => Pace::MORE,
            _ => (self.took * 2).min(Pace::LONGEST),
        }
    }
}

/// A batch, of a run that it begins if `new` is there.
pub struct Append {
    pub new: Option<Box<NewRun>>,
    pub batch: Batch,
    pub done: Done,
}

pub enum Job {
    Append(Append),
    Call(Box<dyn FnOnce(&mut Writer) + Send>),
    Stop,
}

/// What the writer knows of a run without asking.
pub struct Known {
    pub id: i64,
    pub epoch: Epoch,
    pub last: Seq,
    pub spent: Amount,
    pub updated_ms: u64,
    pub state: RunState,
    /// Value of [`Writer::generation`] when this was read.
    pub generation: i64,
    /// Has news for its row of `runs` in the transaction under way.
    pub dirty: bool,
}

/// Why a transaction was rolled back.
pub enum Halt {
    /// Says no and harms nobody.
    Refused(StoreError),
    Sql(rusqlite::Error),
}
impl From<rusqlite::Error> for Halt {
    fn from(error: rusqlite::Error) -> Halt {
        Halt::Sql(error)
    }
}
impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Halt {
        Halt::Refused(error)
    }
}

pub struct Writer {
    pub conn: Connection,
    pub folder: PathBuf,
    pub repeated: Repeated,
    pub runs: HashMap<RunId, Known>,
    /// `PRAGMA data_version` of this connection: raised by other processes' commits, not by its own.
    pub generation: i64,
    /// The first write that failed.
    failed: Option<StoreError>,
    /// The WAL holds commits that are not in the file yet.
    unmoved: bool,
    /// Groups that were to be committed.
    commits: u32,
    room: Room,
}

impl Writer {
    pub fn new(conn: Connection, folder: PathBuf) -> Writer {
        let (runs, repeated) = (HashMap::new(), Repeated::default());
        let (failed, room) = (None, Room::default());
        Writer { conn, folder, repeated, runs, generation: 0, failed, unmoved: false, commits: 0, room }
    }

    pub fn serve(mut self, jobs: Receiver<Job>) {
        let mut group: Vec<Append> = Vec::new();
        let mut kept_back = None;
        let mut pace = Pace::default();
        while let Some(job) = kept_back.take().or_else(|| self.wait(&jobs)) {
            match job {
                Job::Stop => return self.leave(),
                Job::Call(call) => call(&mut self),
                Job::Append(append) => {
                    group.push(append);
                    kept_back = join(&mut group, &jobs);
                    if kept_back.is_none() && rows(&group) < GROUP_ROWS {
                        std::thread::sleep(pace.gather(group.len()));
                        kept_back = join(&mut group, &jobs);
                    }
                    let (crowd, begun) = (group.len(), Instant::now());
                    self.commit(&mut group);
                    pace.after(crowd, begun.elapsed());
                    self.commits = self.commits.saturating_add(1);
                    self.room.after(crowd);
                    if self.commits == room::COMMITS {
                        self.make_room(room::ROOM);
                    }
                }
            }
        }
    }

    fn wait(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        if self.room == Room::Wanted {
            match jobs.recv_timeout(room::QUIET) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.make_room(room::FOR_A_CROWD),
            }
        }
        if self.unmoved {
            match jobs.recv_timeout(IDLE) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.checkpoint(),
            }
        }
        jobs.recv().ok()
    }

    /// A log that is long enough is synced faster. Without room it is just as durable.
    fn make_room(&mut self, to: u64) {
        self.room = Room::Tried;
        if self.failed.is_some() || self.run("BEGIN IMMEDIATE").is_err() {
            return;
        }
        if let Err(error) = room::make(&self.folder, to) {
            tracing::debug!(%error, "the log has no room ahead");
        }
        if let Err(error) = self.run("ROLLBACK") {
            tracing::error!(%error, "rollback failed");
        }
    }

    fn checkpoint(&mut self) {
        self.unmoved = false;
        // It may fail or stop half-way: the WAL is just as durable, and a later one goes on.
        if let Err(error) = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "checkpoint put off");
        }
    }

    /// The last act: what was written moves into the file, and the log is emptied. Whoever reads at this
    /// moment is not waited for; the log is then left to the next process.
    fn leave(&mut self) {
        if self.unmoved {
            let emptied = self.conn.busy_timeout(Duration::ZERO).and_then(|()| self.truncate());
            if let Err(error) = emptied {
                tracing::debug!(%error, "the log is left for the next process");
            }
        }
    }

    fn truncate(&self) -> Result<(), rusqlite::Error> {
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    fn commit(&mut self, group: &mut Vec<Append>) {
        let outcome = self.transaction(|writer| append::write(writer, group));
        match outcome {
            Ok(verdicts) => {
                for (append, verdict) in group.drain(..).zip(verdicts) {
                    tell(append.done, verdict);
                }
            }
            Err(error) => {
                for append in group.drain(..) {
                    tell(append.done, Err(error.clone()));
                }
            }
        }
    }

    /// Runs `work` in one transaction. A refusal rolls back and is returned; any other failure is final
    /// for this process. (After a failed fsync the entries may still turn up when the journal is
    /// opened again; nothing was done on their account, and resume settles them like any others.)
    pub fn transaction<T>(&mut self, work: impl FnOnce(&mut Writer) -> Result<T, Halt>) -> Result<T, StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = self.begin().map_err(Halt::Sql).and_then(|()| work(self));
        let outcome = outcome.and_then(|value| Ok(self.run("COMMIT").map(|()| value)?));
        self.unmoved = true;
        outcome.map_err(|halt| {
            if !self.conn.is_autocommit()
                && let Err(error) = self.run("ROLLBACK")
            {
                tracing::error!(%error, "rollback failed");
            }
            // It may speak of rows that are no longer there.
            self.forget();
            match halt {
                Halt::Refused(error) => error,
                Halt::Sql(error) => self.fail(&error),
            }
        })
    }

    fn fail(&mut self, error: &rusqlite::Error) -> StoreError {
        let folder = self.folder.display();
        let why = format!(
            "{error} in {folder}; nothing more is written by this process: free some space (or lift a limit on sizes of files) or repair the disk, \
             then resume"
        );
        tracing::error!(%error, "the journal cannot be written");
        self.failed.insert(StoreError::WriteFailed { why }).clone()
    }

    /// What it knows of the file's content.
    pub fn forget(&mut self) {
        self.runs.clear();
        self.repeated.forget();
    }

    fn begin(&mut self) -> Result<(), rusqlite::Error> {
        self.run("BEGIN IMMEDIATE")?;
        self.generation = self.data_version()?;
        self.repeated.as_of(self.generation);
        Ok(())
    }

    pub fn data_version(&self) -> Result<i64, rusqlite::Error> {
        self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    fn run(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    pub fn id_of(&self, run: &RunId) -> Result<i64, Halt> {
        let mut select = self.conn.prepare_cached("SELECT id FROM runs WHERE run = ?1")?;
        let id = select.query_row([run.as_str()], |row| row.get(0)).optional()?;
        id.ok_or_else(|| StoreError::NoRun { run: run.to_string() }.into())
    }
}

fn rows(group: &[Append]) -> usize {
    group.iter().map(|append| append.batch.rows.len()).sum()
}

/// Takes in the batches that are waiting, as long as there is room; returns what is none.
fn join(group: &mut Vec<Append>, jobs: &Receiver<Job>) -> Option<Job> {
    let mut taken = rows(group);
    while taken < GROUP_ROWS {
        match jobs.try_recv().ok()? {
            Job::Append(append) => {
                taken += append.batch.rows.len();
                group.push(append);
            }
            other @ (Job::Call(_) | Job::Stop) => return Some(other),
        }
    }
    None
}

/// In place of a writer whose file could not be opened: what is queued, now and later, is told why.
pub fn refuse(jobs: &Receiver<Job>, why: &StoreError) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Stop => return,
            Job::Append(append) => tell(append.done, Err(why.clone())),
            // Its caller, whose reply it drops, asks how the opening went.
            Job::Call(_) => {}
        }
    }
}

/// A caller's panic is its own: the thread that everybody writes with survives it.
pub fn tell(done: Done, verdict: Result<(), StoreError>) {
    if catch_unwind(AssertUnwindSafe(|| done(verdict))).is_err() {
        tracing::error!("a `done` of an append panicked");
    }
}
