//! What is under way right now: answers that models stream, tools that say how far they are. Invariant: progress,
//! never fact: nothing is decided by it, and a call that has ended is not in it.

use std::sync::Arc;

use dashmap::DashMap;

use crate::core::ids::{CallId, RunId};
use crate::ports::tool::Progress;

/// A call and how many characters of its answer have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    pub run: RunId,
    pub call: CallId,
    pub characters: u64,
}

/// A tool call and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Working {
    pub run: RunId,
    pub call: CallId,
    /// Which of the turn's tool calls, from 0.
    pub index: u32,
    pub tool: String,
    pub progress: Progress,
}

/// A tool call of a run.
type ToolKey = (RunId, CallId, u32);

/// One per process, over all its runs.
#[derive(Clone, Default)]
pub struct Streams {
    answers: Arc<DashMap<(RunId, CallId), u64>>,
    tools: Arc<DashMap<ToolKey, (String, Progress)>>,
}

impl Streams {
    /// The entry of a call, from its first piece on until this is dropped.
    pub fn of(&self, run: &RunId, call: &CallId) -> Stream {
        Stream { streams: self.clone(), key: (run.clone(), call.clone()) }
    }

    /// The same of a tool call.
    pub fn of_tool(&self, run: &RunId, call: &CallId, index: u32, tool: &str) -> ToolStream {
        ToolStream { streams: self.clone(), key: (run.clone(), call.clone(), index), tool: tool.to_owned() }
    }

    pub fn writing(&self) -> Vec<Writing> {
        let one = |run: &RunId, call: &CallId, characters| Writing { run: run.clone(), call: call.clone(), characters };
        self.answers.iter().map(|entry| one(&entry.key().0, &entry.key().1, *entry.value())).collect()
    }

    /// In the order of their addresses.
    pub fn working(&self) -> Vec<Working> {
        let all = self.tools.iter().map(|entry| {
            let ((run, call, index), (tool, progress)) = entry.pair();
            let (run, call, tool) = (run.clone(), call.clone(), tool.clone());
            Working { run, call, index: *index, tool, progress: progress.clone() }
        });
        let mut all: Vec<Working> = all.collect();
        all.sort_by(|a, b| (&a.run, &a.call, a.index).cmp(&(&b.run, &b.call, b.index)));
        all
    }
}

pub struct Stream {
    streams: Streams,
    key: (RunId, CallId),
}

impl Stream {
    pub fn came(&self, piece: &str) {
        let characters = piece.chars().count() as u64;
        match self.streams.answers.get_mut(&self.key) {
            Some(mut count) => *count += characters,
            None => drop(self.streams.answers.insert(self.key.clone(), characters)),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.answers.remove(&self.key);
    }
}

pub struct ToolStream {
    streams: Streams,
    key: ToolKey,
    tool: String,
}

impl ToolStream {
    pub fn is_at(&self, progress: Progress) {
        self.streams.tools.insert(self.key.clone(), (self.tool.clone(), progress));
    }
}

impl Drop for ToolStream {
    fn drop(&mut self) {
        self.streams.tools.remove(&self.key);
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

    #[test]
    fn a_tool_is_in_it_as_far_as_it_last_said() {
        let (streams, run) = (Streams::default(), RunId::from_random(1));
        let call = CallId::parse("draft.1").unwrap();
        let stream = streams.of_tool(&run, &call, 1, "s.steps");
        assert_eq!(streams.working(), []);
        let at = |done: f64| Progress { done, of: Some(50.0), says: String::new() };
        stream.is_at(at(1.0));
        stream.is_at(at(2.5));
        assert_eq!(streams.working(), [Working { run, call, index: 1, tool: "s.steps".into(), progress: at(2.5) }]);
        drop(stream);
        assert_eq!(streams.working(), []);
    }
}
