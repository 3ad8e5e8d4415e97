//! What is being written right now by models that stream. Invariant: progress, never fact: nothing is
//! decided by it, and a call that has ended is not in it.

use std::sync::Arc;

use dashmap::DashMap;

use crate::core::ids::{CallId, RunId};

/// A call and how many characters of its answer have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    pub run: RunId,
    pub call: CallId,
    pub characters: u64,
}

/// One per process, over all its runs.
#[derive(Clone, Default)]
pub struct Streams(Arc<DashMap<(RunId, CallId), u64>>);

impl Streams {
    /// The entry of a call, from its first piece on until this is dropped.
    pub fn of(&self, run: &RunId, call: &CallId) -> Stream {
        Stream { streams: self.clone(), key: (run.clone(), call.clone()) }
    }

    pub fn writing(&self) -> Vec<Writing> {
        let one = |run: &RunId, call: &CallId, characters| Writing { run: run.clone(), call: call.clone(), characters };
        self.0.iter().map(|entry| one(&entry.key().0, &entry.key().1, *entry.value())).collect()
    }
}

pub struct Stream {
    streams: Streams,
    key: (RunId, CallId),
}

impl Stream {
    pub fn came(&self, piece: &str) {
        let characters = piece.chars().count() as u64;
        match self.streams.0.get_mut(&self.key) {
            Some(mut count) => *count += characters,
            None => drop(self.streams.0.insert(self.key.clone(), characters)),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.0.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_it_from_its_first_piece_to_its_end() {
        let (streams, run) = (Streams::default(), RunId::from_random(1));
        let call = CallId::parse("draft.1").unwrap();
        let stream = streams.of(&run, &call);
        assert_eq!(streams.writing(), []);
        stream.came("Bön");
        stream.came("jour");
        assert_eq!(streams.writing(), [Writing { run, call, characters: 7 }]);
        drop(stream);
        assert_eq!(streams.writing(), []);
    }
}
