//! The journal in SQLite: `journal.db` and `owners/` in the state folder. Invariant: one thread of a
//! process writes ([`writer`]), in WAL mode with `synchronous = FULL`; a `done(Ok)` has seen its fsync.

mod append;
mod columns;
mod gc;
mod open;
mod pots;
mod read;
mod room;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SendError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{OptionalExtension, params};

use self::columns::{signed, unsigned};
pub use self::open::FORMAT;
use self::read::Readers;
use self::writer::{Append, Halt, Job, Writer, tell};
use super::lock::{NotTaken, OwnerLock, Owners};
use crate::core::ids::{BlobId, RunId, Seq};
use crate::ports::store::{
    Batch, Done, Epoch, Garbage, InboxRow, NewRun, Owner, PotAsk, PotShare, Row, RunFilter, RunRow, Store, StoreError,
};

pub struct SqliteStore {
    folder: PathBuf,
    opened: Arc<Opened>,
    readers: Readers,
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
    owners: Arc<Owners>,
    held: Arc<Mutex<HashMap<RunId, OwnerLock>>>,
    /// Commands that this process has left: `data_version` says nothing of them.
    left: AtomicU64,
}

/// How the opening went. Whoever needs the file waits for it.
#[derive(Default)]
pub struct Opened(OnceLock<Result<(), StoreError>>);

impl Opened {
    fn wait(&self) -> Result<(), StoreError> {
        self.0.wait().clone()
    }
    fn tell(&self, how: Result<(), StoreError>) {
        // The first word stands.
        let _ = self.0.set(how);
    }
}

/// Whatever ends the opening, nobody waits for it for ever.
struct Opening(Arc<Opened>);
impl Drop for Opening {
    fn drop(&mut self) {
        self.0.tell(Err(StoreError::ended()));
    }
}

impl SqliteStore {
    /// Opens or creates the state folder (created with mode 0700). A journal that is not there yet is made
    /// beside whatever the caller does next; if it cannot be made, the first use says so.
    ///
    /// # Errors
    /// `Unusable` with what to do, `Newer` for a later format.
    pub fn open(folder: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::start(folder, None)
    }

    /// As [`SqliteStore::open`], with a file of at most `max_pages` pages of 4 KiB. A write beyond fails as
    /// on a full disk: for hosts that ration space, and for tests.
    pub fn open_bounded(folder: &Path, max_pages: u32) -> Result<SqliteStore, StoreError> {
        SqliteStore::start(folder, Some(max_pages))
    }

    /// The format of the files it writes.
    pub fn format() -> i64 {
        open::FORMAT
    }

    fn start(folder: &Path, max_pages: Option<u32>) -> Result<SqliteStore, StoreError> {
        let (opened, (jobs, queue)) = (Arc::new(Opened::default()), mpsc::channel());
        let (there, opening, own) = (open::folder(folder)?, Opening(opened.clone()), folder.to_owned());
        let serve = move || match open::writer(&own, max_pages) {
            Ok(conn) => {
                opening.0.tell(Ok(()));
                Writer::new(conn, own).serve(queue);
            }
            Err(error) => {
                opening.0.tell(Err(error.clone()));
                writer::refuse(&queue, &error);
            }
        };
        let thread = std::thread::Builder::new().name("bosun-store".to_owned()).spawn(serve);
        let thread = thread.map_err(|e| open::refuse(folder, format!("its thread did not start: {e}")))?;
        if there {
            opened.wait()?;
        }
        let (readers, folder, held) = (Readers::new(folder, opened.clone()), folder.to_owned(), Arc::default());
        let (owners, thread) = (Arc::new(Owners::new(folder.join("owners"))), Some(thread));
        Ok(SqliteStore { folder, opened, readers, jobs, thread, owners, held, left: AtomicU64::new(0) })
    }

    /// Why the writer takes no jobs.
    fn gone(&self) -> StoreError {
        self.opened.wait().err().unwrap_or_else(StoreError::ended)
    }

    /// Runs `work` on the writer's thread, behind all appends so far, and waits for it.
    fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let job = Job::Call(Box::new(move |writer| {
            // Nobody waits any more only if the caller has panicked.
            let _ = reply.send(work(writer));
        }));
        self.jobs.send(job).map_err(|_| self.gone())?;
        answer.recv().map_err(|_| self.gone())?
    }

    fn queue(&self, append: Append) {
        if let Err(SendError(Job::Append(append))) = self.jobs.send(Job::Append(append)) {
            tell(append.done, Err(self.gone()));
        }
    }

    fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, Halt> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.on_writer(|writer| writer.transaction(work))
    }

    /// A command of this process is on disk.
    fn leaves(&self) {
        self.left.fetch_add(1, Ordering::Release);
    }

    fn held(&self) -> MutexGuard<'_, HashMap<RunId, OwnerLock>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, run: &RunId) -> Result<OwnerLock, StoreError> {
        self.owners.take(run).map_err(|error| match error {
            NotTaken::Held(owner) => StoreError::Owned { run: run.clone(), owner },
            NotTaken::Io(error) => {
                let advice = open::room(&error).unwrap_or_default();
                open::refuse(&self.folder, format!("owner lock of run {run}: {error}{advice}"))
            }
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // First the readers: while one is open, the writer is not the last and its log stays.
        self.readers.close();
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take()
            // The last handle may be dropped by a `done`, which runs on that thread.
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

impl Store for SqliteStore {
    fn begin(&self, run: NewRun, first: Batch, done: Done) -> Result<Epoch, StoreError> {
        let (id, epoch) = (run.run.clone(), Epoch(1));
        let lock = self.lock(&id)?;
        self.held().insert(id.clone(), lock);
        let batch = Batch { run: id.clone(), epoch, ..first };
        let held = self.held.clone();
        let told: Done = Box::new(move |made| {
            if made.is_err() {
                held.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
            done(made);
        });
        self.queue(Append { new: Some(Box::new(run)), batch, done: told });
        Ok(epoch)
    }

    fn claim(&self, run: &RunId) -> Result<Epoch, StoreError> {
        self.opened.wait()?;
        let lock = self.lock(run)?;
        let id = run.clone();
        let epoch = self.transact(move |writer| {
            let sql = "UPDATE runs SET epoch = epoch + 1 WHERE run = ?1 RETURNING epoch";
            let mut update = writer.conn.prepare_cached(sql)?;
            let epoch: Option<i64> = update.query_row([id.as_str()], |row| row.get(0)).optional()?;
            drop(update);
            writer.runs.remove(&id);
            let epoch = epoch.ok_or_else(|| StoreError::NoRun { run: id.to_string() })?;
            Ok(Epoch(unsigned(epoch)))
        })?;
        self.held().insert(run.clone(), lock);
        Ok(epoch)
    }

    fn release(&self, run: &RunId) {
        self.held().remove(run);
    }

    fn owner(&self, run: &RunId) -> Option<Owner> {
        self.owners.owner(run)
    }

    fn append(&self, batch: Batch, done: Done) {
        self.queue(Append { new: None, batch, done });
    }

    fn read(&self, run: &RunId, from: Seq) -> Result<Vec<Row>, StoreError> {
        self.readers.rows(run, from)
    }

    fn last_of(&self, run: &RunId, kind: &str) -> Result<Option<Row>, StoreError> {
        self.readers.last_of(run, kind)
    }

    fn blob(&self, id: &BlobId) -> Result<Option<Arc<str>>, StoreError> {
        self.readers.blob(id)
    }

    fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StoreError> {
        self.readers.runs(filter)
    }

    fn inbox_put(&self, run: &RunId, kind: &str, payload: &str, by: &str, at_ms: u64) -> Result<u64, StoreError> {
        let run = run.clone();
        let (kind, payload, by) = (kind.to_owned(), payload.to_owned(), by.to_owned());
        self.transact(move |writer| {
            let id = writer.id_of(&run)?;
            let sql = "INSERT INTO inbox(run, kind, payload, by, at) VALUES (?1, ?2, ?3, ?4, ?5)";
            writer.conn.prepare_cached(sql)?.execute(params![id, kind, payload, by, at_ms as i64])?;
            Ok(unsigned(writer.conn.last_insert_rowid()))
        })
        .inspect(|_| self.leaves())
    }

    fn inbox_put_once(
        &self,
        run: &RunId,
        kind: &str,
        payload: &str,
        by: &str,
        at_ms: u64,
    ) -> Result<Option<u64>, StoreError> {
        let run = run.clone();
        let (kind, payload, by) = (kind.to_owned(), payload.to_owned(), by.to_owned());
        // One statement: of two processes the second finds the first one's row.
        self.transact(move |writer| {
            let id = writer.id_of(&run)?;
            let sql = "INSERT INTO inbox(run, kind, payload, by, at) SELECT ?1, ?2, ?3, ?4, ?5
                WHERE NOT EXISTS (SELECT 1 FROM inbox WHERE run = ?1 AND kind = ?2)";
            let put = writer.conn.prepare_cached(sql)?.execute(params![id, kind, payload, by, at_ms as i64])?;
            Ok((put > 0).then(|| unsigned(writer.conn.last_insert_rowid())))
        })
        .inspect(|_| self.leaves())
    }

    fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, StoreError> {
        self.readers.inbox(run)
    }

    fn pot(&self, ask: &PotAsk) -> Result<PotShare, StoreError> {
        let (ask, owners) = (ask.clone(), self.owners.clone());
        self.transact(move |writer| pots::divided(&writer.conn, &owners, &ask))
    }

    fn inbox_done(&self, run: &RunId, id: u64) -> Result<(), StoreError> {
        let run = run.clone();
        self.transact(move |writer| {
            let number = writer.id_of(&run)?;
            let mut delete = writer.conn.prepare_cached("DELETE FROM inbox WHERE run = ?1 AND id = ?2")?;
            delete.execute(params![number, signed(id)])?;
            Ok(())
        })
    }

    /// The writer's own `data_version`, which its own commits do not change: a busy process that polls
    /// does not wake itself up, but by the commands that it leaves. It waits behind the group that is being
    /// committed.
    fn version(&self) -> Result<u64, StoreError> {
        let folder = self.folder.clone();
        let version = self.on_writer(move |writer| match writer.data_version() {
            Ok(version) => Ok(unsigned(version)),
            Err(error) => Err(open::unusable(&folder, &error)),
        })?;
        // Both only grow: the sum changes with either.
        Ok(version + self.left.load(Ordering::Acquire))
    }

    fn notified(&self, run: &RunId) -> Result<Seq, StoreError> {
        self.readers.notified(run)
    }

    fn set_notified(&self, run: &RunId, upto: Seq) -> Result<(), StoreError> {
        let run = run.clone();
        self.transact(move |writer| {
            let id = writer.id_of(&run)?;
            let mut update = writer.conn.prepare_cached("UPDATE runs SET notified = ?2 WHERE id = ?1")?;
            update.execute(params![id, signed(upto.0)])?;
            Ok(())
        })
    }

    fn gc(&self, before_ms: u64, dry: bool) -> Result<Garbage, StoreError> {
        let owners = self.owners.clone();
        self.transact(move |writer| {
            let found = gc::candidates(&writer.conn, signed(before_ms))?;
            // Held until the removal is durable, so that nobody resumes a run that is going.
            let free = |(id, run)| owners.take(&run).ok().map(|lock| (id, run, lock));
            let doomed: Vec<_> = found.into_iter().filter_map(free).collect();
            let garbage = gc::sweep(&writer.conn, &doomed, dry)?;
            if !dry {
                pots::sweep(&writer.conn, signed(before_ms))?;
            }
            writer.forget();
            Ok((garbage, doomed))
        })
        .map(|(garbage, _locks)| garbage)
    }
}
