use std::sync::Mutex as Lock;

use ractor::{Actor, ActorProcessingErr};
use tokio::sync::Notify;

use super::*;
use crate::core::ids::BlobId;
use crate::ports::store::{
    Batch, Done, Epoch, Garbage, NewRun, Owner, PotAsk, PotShare, Row, RunFilter, RunRow, Store, StoreError,
};

/// Commands that wait, and nothing else.
struct Commands(Lock<Vec<(RunId, InboxRow)>>);

impl Commands {
    fn of(&self, run: &RunId) -> Vec<InboxRow> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(of, _)| of == run).map(|(_, row)| row.clone()).collect()
    }
}

impl Store for Commands {
    fn begin(&self, _: NewRun, _: Batch, _: Done) -> Result<Epoch, StoreError> {
        unreachable!()
    }
    fn claim(&self, _: &RunId) -> Result<Epoch, StoreError> {
        unreachable!()
    }
    fn release(&self, _: &RunId) {}
    fn owner(&self, _: &RunId) -> Option<Owner> {
        None
    }
    fn append(&self, _: Batch, _: Done) {}
    fn read(&self, _: &RunId, _: Seq) -> Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }
    fn blob(&self, _: &BlobId) -> Result<Option<Arc<str>>, StoreError> {
        Ok(None)
    }
    fn runs(&self, _: &RunFilter) -> Result<Vec<RunRow>, StoreError> {
        Ok(Vec::new())
    }
    fn inbox_put(&self, _: &RunId, _: &str, _: &str, _: &str, _: u64) -> Result<u64, StoreError> {
        unreachable!()
    }
    fn inbox_put_once(&self, _: &RunId, _: &str, _: &str, _: &str, _: u64) -> Result<Option<u64>, StoreError> {
        unreachable!()
    }
    fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, StoreError> {
        Ok(self.of(run))
    }
    fn pot(&self, _: &PotAsk) -> Result<PotShare, StoreError> {
        unreachable!()
    }
    fn inbox_done(&self, run: &RunId, id: u64) -> Result<(), StoreError> {
        self.0.lock().unwrap().retain(|(of, row)| of != run || row.id != id);
        Ok(())
    }
    fn version(&self) -> Result<u64, StoreError> {
        Ok(1)
    }
    fn notified(&self, _: &RunId) -> Result<Seq, StoreError> {
        Ok(Seq(0))
    }
    fn set_notified(&self, _: &RunId, _: Seq) -> Result<(), StoreError> {
        Ok(())
    }
    fn gc(&self, _: u64, _: bool) -> Result<Garbage, StoreError> {
        Ok(Garbage::default())
    }
}

/// Notes what it is told; one with a gate has it on disk only once that is opened.
struct Root;

#[derive(Clone, Default)]
struct Notes {
    told: Arc<Lock<Vec<&'static str>>>,
    gate: Option<Arc<Notify>>,
}

impl Actor for Root {
    type Msg = RunMsg;
    type State = Notes;
    type Arguments = Notes;

    async fn pre_start(&self, _: ActorRef<RunMsg>, notes: Notes) -> Result<Notes, ActorProcessingErr> {
        Ok(notes)
    }
    async fn handle(&self, _: ActorRef<RunMsg>, message: RunMsg, notes: &mut Notes) -> Result<(), ActorProcessingErr> {
        let RunMsg::Take { decided, durable } = message else { return Ok(()) };
        notes.told.lock().unwrap().extend(decided.events.iter().map(Event::kind));
        let gate = notes.gate.clone();
        tokio::spawn(async move {
            if let Some(gate) = gate {
                gate.notified().await;
            }
            let _ = durable.send(());
        });
        Ok(())
    }
}

fn command(run: &RunId, id: u64, kind: &str) -> (RunId, InboxRow) {
    let row = InboxRow { id, kind: kind.into(), payload: String::new(), by: "ann".into(), at_ms: 1 };
    (run.clone(), row)
}

async fn comes(what: impl Fn() -> bool) {
    let there = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), there).await.unwrap();
}

#[tokio::test]
async fn a_run_whose_command_takes_long_holds_up_no_other_and_keeps_its_order() {
    let [slow, quick] = [1, 2].map(RunId::from_random);
    let rows = vec![command(&slow, 1, "pause"), command(&slow, 2, "cancel"), command(&quick, 3, "cancel")];
    let store = Arc::new(Commands(Lock::new(rows)));
    let gate = Arc::new(Notify::new());
    let (late, soon) = (Notes { gate: Some(gate.clone()), ..Notes::default() }, Notes::default());
    let (late_root, _) = Actor::spawn(None, Root, late.clone()).await.unwrap();
    let (soon_root, _) = Actor::spawn(None, Root, soon.clone()).await.unwrap();
    let live = vec![(slow.clone(), late_root.clone()), (quick.clone(), soon_root.clone())];
    let mut inbox = Inbox::new(store.clone());
    for _ in 0..2 {
        inbox.look(live.clone()).await;
        comes(|| store.of(&quick).is_empty() && !late.told.lock().unwrap().is_empty()).await;
    }
    assert_eq!(*soon.told.lock().unwrap(), ["run.cancel_asked"]);
    assert_eq!(*late.told.lock().unwrap(), ["run.pause_asked"], "the second waits for the first, once");
    assert_eq!(store.of(&slow).len(), 2, "what is not on disk is not forgotten");
    gate.notify_one();
    comes(|| late.told.lock().unwrap().len() == 2).await;
    gate.notify_one();
    comes(|| store.of(&slow).is_empty()).await;
    assert_eq!(*late.told.lock().unwrap(), ["run.pause_asked", "run.cancel_asked"]);
    late_root.stop(None);
    soon_root.stop(None);
}
