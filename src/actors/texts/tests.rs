use super::*;
use crate::core::ids::RunId;
use crate::ports::store as port;
use crate::ports::store::{PotAsk, PotShare};
use port::StoreError;

/// Has nothing and takes nothing.
struct Empty;
impl Store for Empty {
    fn begin(&self, _: port::NewRun, _: port::Batch, _: port::Done) -> Result<port::Epoch, StoreError> {
        Ok(port::Epoch(1))
    }
    fn claim(&self, _: &RunId) -> Result<port::Epoch, StoreError> {
        Ok(port::Epoch(1))
    }
    fn release(&self, _: &RunId) {}
    fn owner(&self, _: &RunId) -> Option<port::Owner> {
        None
    }
    fn append(&self, _: port::Batch, _: port::Done) {}
    fn read(&self, _: &RunId, _: Seq) -> Result<Vec<port::Row>, StoreError> {
        Ok(Vec::new())
    }
    fn blob(&self, _: &BlobId) -> Result<Option<Arc<str>>, StoreError> {
        Ok(None)
    }
    fn runs(&self, _: &port::RunFilter) -> Result<Vec<port::RunRow>, StoreError> {
        Ok(Vec::new())
    }
    fn inbox_put(&self, _: &RunId, _: &str, _: &str, _: &str, _: u64) -> Result<u64, StoreError> {
        Ok(1)
    }
    fn inbox_put_once(&self, _: &RunId, _: &str, _: &str, _: &str, _: u64) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }
    fn inbox(&self, _: &RunId) -> Result<Vec<port::InboxRow>, StoreError> {
        Ok(Vec::new())
    }
    fn pot(&self, ask: &PotAsk) -> Result<PotShare, StoreError> {
        Err(StoreError::NoRun { run: ask.run.to_string() })
    }
    fn inbox_done(&self, _: &RunId, _: u64) -> Result<(), StoreError> {
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
    fn gc(&self, _: u64, _: bool) -> Result<port::Garbage, StoreError> {
        Ok(port::Garbage::default())
    }
}

#[test]
fn a_text_that_is_not_on_disk_yet_outlives_every_generation() {
    let texts = TextCache::new(Arc::new(Empty), Arc::default());
    let blob = Blob::new("a text");
    texts.pin(&blob, Seq(7));
    let rotate = || (0..5).for_each(|n| texts.keep(&Blob::new(n.to_string().repeat(GENERATION / 2))));
    rotate();
    texts.durable(Seq(6));
    assert_eq!(texts.text(&blob.id).as_deref(), Ok("a text"));
    rotate();
    texts.durable(Seq(7));
    assert!(texts.text(&blob.id).is_err(), "from here on the store has it");
}

#[test]
fn what_runs_have_in_common_is_there_once_and_goes_with_the_last_of_them() {
    let lately: Arc<Lately> = Arc::default();
    let [one, other] = [(); 2].map(|()| TextCache::new(Arc::new(Empty), lately.clone()));
    let [first, again] = [(); 2].map(|()| Blob::new("a text of the crew"));
    one.pin(&first, Seq(2));
    other.pin(&again, Seq(2));
    other.durable(Seq(2));
    assert_eq!(Arc::strong_count(&again.text), 1, "the first one's serves both");
    assert!(Arc::ptr_eq(&other.text(&again.id).unwrap(), &first.text));
    let text = Arc::downgrade(&first.text);
    drop((lately, one, other, first));
    assert_eq!(text.strong_count(), 0);
}
