//! What runs more than once: lists and loops. Invariant: both are bounded.

use std::sync::Arc;

use crate::core::ids::{Key, Name};
use crate::core::template::{Condition, Expression, TemplateName};

#[derive(Debug)]
pub struct Repeat {
    pub over: Over,
    /// Key of an item of a result list: a field or template over `item` and `index`; `None` is the index.
    pub key: Option<TemplateName>,
    pub max_items: Option<u32>,
    pub max_parallel: Option<usize>,
    /// Tokens (o200k) of the tail of the results so far; implies one at a time.
    pub window: Option<u64>,
}

#[derive(Debug)]
pub enum Over {
    /// A csv or jsonl file, read when the crew was compiled and pinned with it.
    Rows(Arc<[Row]>),
    /// A list inside the result of an earlier task.
    Result { task: Name, list: Expression },
}

/// One row of a `for_each` file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub key: Key,
    pub item: Arc<serde_json::Value>,
}

/// A revise loop: rounds of `body` until `until` holds. Rounds are steps `draft#1, critique#1, draft#2 …`.
#[derive(Debug)]
pub struct Loop {
    /// Tasks on a path from the revised one to the judge, indices in [`Crew::tasks`], order of work.
    pub body: Vec<usize>,
    pub revised: usize,
    pub judge: usize,
    /// Sees every result of the round, and `round`.
    pub until: Condition,
    pub max_rounds: u32,
    pub on_limit: OnLimit,
    /// The body's tasks repeat over the same items: one loop per item.
    pub per_item: bool,
    /// Its tasks argue, each with what the others said last, and all go on from their own turns: the task
    /// whose result is the debate's, the judge of it or the last who speaks.
    pub debate: Option<usize>,
}

impl Loop {
    /// The `until` of a debate that states none: it takes all its rounds.
    pub fn all_rounds(max_rounds: u32) -> String {
        format!("round >= {max_rounds}")
    }
    pub fn takes_all_rounds(&self) -> bool {
        self.debate.is_some() && *self.until.0 == *Loop::all_rounds(self.max_rounds)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLimit {
    Accept,
    Fail,
    Review,
}
