//! Where journals live. Invariant: an append is durable as a whole or absent as a whole, it follows
//! exactly the entry its author expected, and only the owner of a run appends to it.
//!
//! The port is coarse, because SQLite and later Postgres implement it; `conformance` in
//! `tests/all/store.rs` is the suite that both must pass. It knows events as bytes only.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::core::chain::Entry;
use crate::core::chat::Blob;
use crate::core::ids::{BlobId, RunId, Seq};
use crate::core::ledger::DayAsk;
use crate::core::money::{Amount, NanoUsd};

/// Raised by each claim of a run; an append that carries an older one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// One journal row as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub seq: Seq,
    /// Milliseconds since the Unix epoch, as the clock said. Never read by a decision.
    pub at_ms: u64,
    /// `task.finished` and the like: the names of `--json`.
    pub kind: String,
    /// JSON, byte for byte.
    pub payload: Bytes,
    /// `core::chain::link` of the row before.
    pub hash: [u8; 32],
}

impl<'a> From<&'a Row> for Entry<'a> {
    fn from(row: &'a Row) -> Entry<'a> {
        Entry { seq: row.seq, at_ms: row.at_ms, kind: &row.kind, payload: &row.payload, hash: &row.hash }
    }
}

/// What one append writes, in one transaction.
#[derive(Clone, Debug)]
pub struct Batch {
    pub run: RunId,
    pub epoch: Epoch,
    /// The last Seq that its author knows; the batch starts right after it.
    pub after: Seq,
    pub rows: Vec<Row>,
    /// Stored once over all runs, with an edge from this run.
    pub blobs: Vec<Blob>,
    /// What the rows add to the run's totals (settled only).
    pub spent: Amount,
    /// The run's state after the rows, where they change it.
    pub state: Option<RunState>,
}

/// State of a run, as `runs` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Running,
    WaitingPerson,
    WaitingRate,
    WaitingBudget,
    NeedsReview,
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl RunState {
    /// Nothing more happens to the run.
    pub fn is_final(self) -> bool {
        matches!(self, RunState::Completed | RunState::Failed | RunState::Cancelled)
    }
}

/// What is known of a run without reading its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    pub run: RunId,
    pub crew: String,
    /// `--key`, unique per store and crew.
    pub key: Option<String>,
    /// Hash of the inputs, compared when a key is used again.
    pub inputs: BlobId,
    /// Every model is a stand-in.
    pub offline: bool,
    pub state: RunState,
    pub started_ms: u64,
    pub updated_ms: u64,
    pub last: Seq,
    pub spent: Amount,
    /// The crew's caps as text, for lists (`$1.00`).
    pub cap: String,
}

/// A run to be created. Its first batch has `after = Seq(0)`; `epoch` is filled by the store.
#[derive(Clone, Debug)]
pub struct NewRun {
    pub run: RunId,
    pub crew: String,
    pub key: Option<String>,
    pub inputs: BlobId,
    pub offline: bool,
    pub cap: String,
    pub started_ms: u64,
}

/// Which runs to list; all conditions hold. Newest first.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Prefix of the run id.
    pub prefix: Option<String>,
    pub crew: Option<String>,
    pub key: Option<String>,
    pub limit: Option<usize>,
}

/// A command from another process, waiting for the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxRow {
    pub id: u64,
    /// `pause`, `cancel`, `settle`, `tell`, `decide:ID`.
    pub kind: String,
    pub payload: String,
    /// Who asked: user@host pid.
    pub by: String,
    pub at_ms: u64,
}

/// Who holds a run, for the message of exit 5.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    pub host: String,
}

/// What `gc` would remove or has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    pub runs: Vec<RunId>,
    pub blobs: u64,
    pub bytes: u64,
}

/// A run asks for its part of a day's pot: the money that all runs of a crew share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PotAsk {
    pub crew: String,
    pub run: RunId,
    /// As for an append: an older claim's ask is refused.
    pub epoch: Epoch,
    /// The entry up to which the run's ledger had folded. Less than before is taken only from an ask that
    /// comes later in the journal than every one before it.
    pub as_of: Seq,
    pub ask: DayAsk,
}

/// What a run has of a pot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PotShare {
    pub granted: NanoUsd,
    /// What it could have at most if the other runs' open holds settled at zero.
    pub most: NanoUsd,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The state folder or file cannot be used (permissions, read-only, not a database, locked).
    #[error("state folder {path}: {why}")]
    Unusable { path: String, why: String },
    /// Made by a newer Bosun: it is printed by that one, never changed by this one.
    #[error(
        "state folder {path} has format {found}; this bosun knows formats up to {known}: use the newer bosun that made it"
    )]
    Newer { path: String, found: i64, known: i64 },
    #[error("run {run} does not exist")]
    NoRun { run: String },
    /// Another live process owns the run.
    #[error("run {run} is running in process {} on {}", .owner.pid, .owner.host)]
    Owned { run: RunId, owner: Owner },
    /// A later claim exists: this process must stop writing.
    #[error("run {run} was claimed by another process; this one must not write any more")]
    Fenced { run: RunId },
    /// The batch does not follow the last entry.
    #[error("run {run} is at entry {found}, the writer expected {expected}")]
    Moved { run: RunId, expected: Seq, found: Seq },
    #[error("key `{key}` of crew {crew} already names run {run}")]
    KeyTaken { key: String, crew: String, run: RunId },
    /// The bytes are there but are not what was written.
    #[error("run {run}, entry {seq}: {why}")]
    Damaged { run: RunId, seq: Seq, why: String },
    /// Full disk, IO error: the write did not happen.
    #[error("the journal cannot be written: {why}")]
    WriteFailed { why: String },
}

impl StoreError {
    /// The store went away without saying how a write went, which none does that keeps to this contract.
    pub fn ended() -> StoreError {
        let why = "the store's thread has ended without a word: this is a bug of Bosun, resume the run";
        StoreError::WriteFailed { why: why.to_owned() }
    }
}

/// Called once, on the store's thread, when the batch is durable or has failed. Must not block.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// All methods but `begin` and `append` block for a disk access and are called off the runtime's threads or
/// before it runs, [`Store::blob`] excepted; those two only queue.
pub trait Store: Send + Sync {
    /// Takes the lock of a new run and queues its making, with its first batch; more batches may be queued at
    /// once. If `done` hears a refusal (`KeyTaken`, `Moved`) there is no such run, its lock is let go, and what
    /// was queued behind fails.
    fn begin(&self, run: NewRun, first: Batch, done: Done) -> Result<Epoch, StoreError>;
    /// As [`Store::begin`]; durable on return.
    fn create(&self, run: NewRun, first: Batch) -> Result<Epoch, StoreError> {
        let (reply, made) = std::sync::mpsc::sync_channel(1);
        // The receiver waits below.
        let epoch = self.begin(run, first, Box::new(move |how| drop(reply.send(how))))?;
        made.recv().unwrap_or_else(|_| Err(StoreError::ended())).map(|()| epoch)
    }
    /// Takes the OS lock of the run and raises its epoch. Fails with `Owned` while another process holds it.
    fn claim(&self, run: &RunId) -> Result<Epoch, StoreError>;
    /// Lets the lock go. A dead process lets it go by dying.
    fn release(&self, run: &RunId);
    /// The live owner of a run, if any.
    fn owner(&self, run: &RunId) -> Option<Owner>;
    /// Queues the batch behind all earlier ones. Batches of one run are committed in the order of these calls.
    fn append(&self, batch: Batch, done: Done);
    /// Rows from `from` on, in order.
    fn read(&self, run: &RunId, from: Seq) -> Result<Vec<Row>, StoreError>;
    /// The last row of a kind, without the rest of the journal.
    fn last_of(&self, run: &RunId, kind: &str) -> Result<Option<Row>, StoreError> {
        Ok(self.read(run, Seq(1))?.into_iter().rev().find(|row| row.kind == kind))
    }
    /// A blob by id. A stored text that no longer has this hash is `Damaged`. Actors ask for it in the middle of a
    /// message, where a text is not in memory any more: one lookup by key, which must not wait for a writer.
    fn blob(&self, id: &BlobId) -> Result<Option<std::sync::Arc<str>>, StoreError>;
    fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StoreError>;
    /// For other processes: leave a command for the run's owner.
    fn inbox_put(&self, run: &RunId, kind: &str, payload: &str, by: &str, at_ms: u64) -> Result<u64, StoreError>;
    /// As [`Store::inbox_put`], unless a command of this kind waits already: then `None`, and nothing is written.
    fn inbox_put_once(
        &self,
        run: &RunId,
        kind: &str,
        payload: &str,
        by: &str,
        at_ms: u64,
    ) -> Result<Option<u64>, StoreError>;
    /// Commands not yet taken, oldest first. They stay until [`Store::inbox_done`].
    fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, StoreError>;
    /// Divides a pot (`core::ledger::divide`): sets the run's row if the pot allows it, in one transaction
    /// over all processes, durable on return. Refused money is not an error: the share says less than was asked.
    fn pot(&self, ask: &PotAsk) -> Result<PotShare, StoreError>;
    /// Forget command `id`, once its event is durable, and no other.
    fn inbox_done(&self, run: &RunId, id: u64) -> Result<(), StoreError>;
    /// Changes whenever another process has written (`PRAGMA data_version`), or this one has left a command: cheap
    /// to poll.
    fn version(&self) -> Result<u64, StoreError>;
    /// The last Seq whose notifications were handed over, and setting it.
    fn notified(&self, run: &RunId) -> Result<Seq, StoreError>;
    fn set_notified(&self, run: &RunId, upto: Seq) -> Result<(), StoreError>;
    /// Removes final runs last touched before `before_ms`, then blobs without an edge. `dry` only counts.
    fn gc(&self, before_ms: u64, dry: bool) -> Result<Garbage, StoreError>;
}
