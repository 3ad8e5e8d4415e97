//! Hands a run's notices to the crew's `[notify]` command. Invariant: in order, each only once its entry
//! is on disk, and at least once: the store's mark moves on behind a notice that was taken, and a resume
//! begins behind the mark. The run never waits for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::notify::{self, Notice};
use super::open::{Journal, Project};
use super::tally::Tally;
use super::{Context, crew as crews, drive};
use crate::adapters::notify::send;
use crate::core::chain::Hash;
use crate::core::crew::Crew;
use crate::core::ids::{RunId, Seq};
use crate::core::run::Entry;
use crate::ports::store::Store;

/// What is pending when the run ends gets so long.
const LAST: Duration = Duration::from_secs(5);
/// Pauses before another try of a command that has failed.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// A command that took longer to fail is not tried again: others wait behind it.
const SLOW: Duration = Duration::from_secs(5);
/// How often a fresh entry is looked for on the disk.
const LOOK: Duration = Duration::from_millis(10);

/// Notices of one run, on their way.
pub struct Notifier {
    run: RunId,
    on: Vec<String>,
    /// Handed over by an earlier process.
    upto: Seq,
    queue: mpsc::UnboundedSender<Notice>,
    task: JoinHandle<()>,
    sums: Arc<Mutex<Sums>>,
}

#[derive(Debug, Default)]
struct Sums {
    asked: u64,
    taken: u64,
    /// Why the last one that failed did.
    failure: Option<String>,
}

struct Work {
    store: Arc<dyn Store>,
    root: PathBuf,
    run: RunId,
    argv: Vec<String>,
    sums: Arc<Mutex<Sums>>,
}

impl Notifier {
    /// `None` where the crew asks for none. Needs a runtime.
    pub fn start(store: Arc<dyn Store>, root: &Path, run: &RunId, crew: &Crew) -> Option<Notifier> {
        let asked = crew.notify.as_ref()?;
        let upto = store.notified(run).unwrap_or_else(|error| {
            tracing::warn!(%error, "how far notices were handed over cannot be read: all are repeated");
            Seq(0)
        });
        let (queue, notices) = mpsc::unbounded_channel();
        let sums = Arc::<Mutex<Sums>>::default();
        let (argv, root) = (asked.command.clone(), root.to_owned());
        let work = Work { store, root, run: run.clone(), argv, sums: sums.clone() };
        let task = tokio::spawn(work.all(notices));
        Some(Notifier { run: run.clone(), on: asked.on.clone(), upto, queue, task, sums })
    }

    /// Takes note of an entry that `tally` has just folded. Never waits.
    pub fn entry(&self, tally: &Tally, entry: &Entry) {
        if entry.seq <= self.upto {
            return;
        }
        let Some(notice) = notify::of(tally, entry) else { return };
        if self.on.iter().any(|kind| kind == notice.kind) {
            self.sums.lock().unwrap_or_else(PoisonError::into_inner).asked += 1;
            let _ = self.queue.send(notice);
        }
    }

    /// Waits for what is pending, for a while. Gives what a person must know.
    pub async fn end(self) -> Option<String> {
        let Notifier { run, queue, mut task, sums, .. } = self;
        drop(queue);
        let late = tokio::time::timeout(LAST, &mut task).await.is_err();
        task.abort();
        let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        let open = sums.asked.saturating_sub(sums.taken);
        if open == 0 {
            return None;
        }
        let why = match &sums.failure {
            Some(why) => why.clone(),
            None if late => format!("[notify] still at work {} s after the end", LAST.as_secs()),
            None => "[notify] its entry is not on disk".to_owned(),
        };
        let all = sums.asked;
        Some(format!("note: {open} of {all} notifications not delivered: {why}; bosun resume {} sends them again", run))
    }
}

impl Work {
    async fn all(self, mut notices: mpsc::UnboundedReceiver<Notice>) {
        let mut whole = true;
        while let Some(notice) = notices.recv().await {
            let Some(hash) = self.durable(notice.seq).await else { return };
            match self.tried(&notice, &hash).await {
                Ok(()) => {
                    self.sums.lock().unwrap_or_else(PoisonError::into_inner).taken += 1;
                    // Behind one that failed the mark stays: a resume begins with that one.
                    if whole {
                        self.mark(notice.seq).await;
                    }
                }
                Err(why) => {
                    whole = false;
                    tracing::warn!(notice = %notice.id, %why, "a notification was not delivered");
                    self.sums.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(why);
                }
            }
        }
    }

    /// The chain's hash at the entry, once it is on disk. `None`: the store cannot be read.
    async fn durable(&self, seq: Seq) -> Option<Hash> {
        loop {
            let (store, run) = (self.store.clone(), self.run.clone());
            let rows = tokio::task::spawn_blocking(move || store.read(&run, seq)).await.ok()?.ok()?;
            if let Some(row) = rows.first() {
                return Some(row.hash);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn tried(&self, notice: &Notice, hash: &Hash) -> Result<(), String> {
        let line = notice.line(hash);
        let mut pauses = AGAIN.iter();
        loop {
            let begun = Instant::now();
            let Err(why) = send(&self.argv, &self.root, &notice.id, &line).await else { return Ok(()) };
            match pauses.next().filter(|_| begun.elapsed() < SLOW) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(why),
            }
        }
    }

    async fn mark(&self, seq: Seq) {
        let (store, run) = (self.store.clone(), self.run.clone());
        let marked = tokio::task::spawn_blocking(move || store.set_notified(&run, seq)).await;
        if let Ok(Err(error)) = marked {
            tracing::warn!(%error, "a notification was delivered and may be sent again");
        }
    }
}

/// How many notices a run that is over still owed, and how many of them were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    pub asked: u64,
    pub taken: u64,
}

/// Hands over what a run that is over still owes: its process was killed before its command took it. `None`: it
/// owes nothing.
pub fn overdue(context: &Context, project: &Project, store: Arc<dyn Store>, journal: &Journal) -> Option<Handed> {
    let (crew, _) = journal.started().and_then(|started| crews::pinned(project, &*store, started)).ok()?;
    crew.notify.as_ref()?;
    let sent = drive::block_on(async {
        let Some(notifier) = Notifier::start(store, &project.root, &journal.row.run, &crew) else { return Ok(None) };
        let sums = notifier.sums.clone();
        let mut tally = Tally::default();
        for entry in &journal.entries {
            tally.apply(entry);
            notifier.entry(&tally, entry);
        }
        let undelivered = notifier.end().await;
        let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some((Handed { asked: sums.asked, taken: sums.taken }, undelivered)))
    });
    let (handed, undelivered) = sent.ok()??;
    undelivered.iter().for_each(|line| context.out.note(line));
    Some(handed).filter(|handed| handed.asked > 0)
}
