//! Asking beside live work. Invariant: a question stands on the terminal only as long as its decision would count,
//! and none of the run's other work waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinHandle};

use super::inline::{Desk, Said};
use super::keys::{Leave, is_in_front};
use super::{Asked, kind, still};
use crate::cli::drive::Signals;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::{self, now_ms};
use crate::cli::progress::Progress;
use crate::core::ids::{InterruptId, RunId};
use crate::ports::store::Store;

/// A run that only waits for people parks within this time, and is asked about when it stands still.
const PARKS_MS: u64 = 300;
/// After a question was taken back: whoever was about to type has seen that.
const STARTLED: Duration = Duration::from_millis(1500);

/// What is asked while a run is at work.
pub struct Beside<'a> {
    desk: &'a Arc<Desk>,
    store: Arc<dyn Store>,
    run: RunId,
    talk: Option<Talk>,
    /// When the last one was taken back.
    startled: Option<Instant>,
}

struct Talk {
    id: InterruptId,
    leave: Arc<Leave>,
    said: JoinHandle<Result<Said, Failure>>,
}

impl<'a> Beside<'a> {
    pub fn new(desk: &'a Arc<Desk>, store: Arc<dyn Store>, run: RunId) -> Beside<'a> {
        Beside { desk, store, run, talk: None, startled: None }
    }

    /// Takes a question back that is over, and puts the next one.
    pub fn look(&mut self, progress: &mut Progress) {
        let open = progress.tally().interrupts.open();
        if let Some(talk) = &self.talk {
            if !open.iter().any(|one| one.raised.id == talk.id) {
                talk.leave.now();
            }
            return;
        }
        if !self.desk.asks || self.startled.is_some_and(|at| at.elapsed() < STARTLED) {
            return;
        }
        let due = |at_ms: u64| now_ms().saturating_sub(at_ms) >= PARKS_MS;
        let mut open = open.into_iter().filter(|one| !one.is_late(now_ms()) && self.desk.wants(&one.raised.id));
        let Some(one) = open.find(|one| one.raised.server().is_some() || due(one.at_ms)) else { return };
        if !is_in_front() {
            return;
        }
        let id = one.raised.id.clone();
        progress.hold();
        let (desk, store, run) = (self.desk.clone(), self.store.clone(), self.run.clone());
        let (leave, wanted) = (Arc::new(Leave::default()), id.clone());
        let left = leave.clone();
        let said = tokio::task::spawn_blocking(move || {
            let Some(asked) = asked(&*store, &run, &wanted)? else { return Ok(Said::Gone) };
            desk.talk(&store, &asked, &left)
        });
        self.talk = Some(Talk { id, leave, said });
    }

    /// Until the question that stands there is done with; for ever without one.
    pub async fn ended(&mut self) {
        let Some(talk) = &mut self.talk else { return std::future::pending().await };
        let said = (&mut talk.said).await;
        self.talk = None;
        let died = |why: JoinError| Failure::new(Exit::Internal, why.to_string());
        match said.map_err(died).and_then(|said| said) {
            Ok(Said::Gone) => self.startled = Some(Instant::now()),
            Ok(Said::Decided | Said::Skipped | Said::Left) => {}
            // Others may decide it, from elsewhere.
            Err(failure) => {
                self.desk.out.err(&failure.text());
                self.desk.leave();
            }
        }
    }

    /// Whoever sits there has asked for an end.
    pub fn leave(&self) {
        self.desk.leave();
        self.take_back();
    }

    fn take_back(&self) {
        self.talk.iter().for_each(|talk| talk.leave.now());
    }

    /// The run has left. Of one that `stands` still the question that is on the screen is talked to its end.
    pub async fn finish(&mut self, stands: bool, signals: &mut Signals) {
        if !stands {
            self.take_back();
        }
        while self.talk.is_some() {
            tokio::select! {
                () = self.ended() => {}
                _ = signals.next() => self.leave(),
            }
        }
    }
}

/// It as it is on disk, if it is open and nobody has decided it.
fn asked(store: &dyn Store, run: &RunId, id: &InterruptId) -> Result<Option<Asked>, Failure> {
    let row = open::find_run(store, run.as_str())?;
    let one = still(store, run)?.get(id).filter(|one| one.is_open()).cloned();
    let inbox = store.inbox(run)?;
    let one = one.filter(|one| !inbox.iter().any(|row| row.kind == kind(one)));
    Ok(one.map(|one| Asked { row, one, coming: None }))
}
