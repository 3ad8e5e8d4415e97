//! Ids of interrupts. Invariant: an id follows from what it asks for, so that a resumed run asks the same
//! thing under the same id, and a decision can only be about that.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BadId, BlobId, CROCKFORD, CallId, RunId, Step, bad, text_id};

/// Characters of an interrupt's id: 40 bits.
pub const INTERRUPT_ID_LEN: usize = 8;

/// An approval or a question. Eight characters of Crockford base 32.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterruptId(Arc<str>);

impl InterruptId {
    fn of(text: &str) -> InterruptId {
        let BlobId(hash) = BlobId::of(text.as_bytes());
        let bits = hash.iter().take(5).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let digit = |i: usize| CROCKFORD[((bits >> (5 * i)) & 31) as usize] as char;
        InterruptId((0..INTERRUPT_ID_LEN).map(digit).collect::<String>().into())
    }
    /// Of one tool call: run, call, its place in the turn, and its very arguments.
    pub fn of_call(run: &RunId, call: &CallId, index: u32, arguments: &str) -> InterruptId {
        InterruptId::of(&format!("call {run} {call} {index} {}", BlobId::of(arguments.as_bytes())))
    }
    /// Of a question that comes from outside in the middle of a call: never the same twice, as a call that is
    /// repeated asks anew. `mark` is random.
    pub fn of_question(run: &RunId, call: &CallId, index: u32, question: &str, mark: u64) -> InterruptId {
        InterruptId::of(&format!("question {run} {call} {index} {mark} {}", BlobId::of(question.as_bytes())))
    }
    /// Of a task that has not begun.
    pub fn of_task(run: &RunId, step: &Step) -> InterruptId {
        InterruptId::of(&format!("before {run} {step}"))
    }
    /// Of a result: the call it came from, and its very text.
    pub fn of_result(run: &RunId, call: &CallId, text: &str) -> InterruptId {
        InterruptId::of(&format!("after {run} {call} {}", BlobId::of(text.as_bytes())))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for InterruptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for InterruptId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<InterruptId, BadId> {
        let upper = text.to_ascii_uppercase();
        if upper.len() == INTERRUPT_ID_LEN && upper.bytes().all(|b| CROCKFORD.contains(&b)) {
            return Ok(InterruptId(upper.into()));
        }
        Err(bad("id of an interrupt", text, "such an id is 8 characters of 0-9 A-Z without I L O U"))
    }
}
text_id!(InterruptId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_exactly_one_thing_that_is_asked() {
        let (run, other) = (RunId::from_random(1), RunId::from_random(2));
        let call = CallId::parse("t#1.2").unwrap();
        let id = InterruptId::of_call(&run, &call, 0, "{}");
        assert_eq!(id, InterruptId::of_call(&run, &call, 0, "{}"));
        let others = [
            InterruptId::of_call(&other, &call, 0, "{}"),
            InterruptId::of_call(&run, &CallId::parse("t#1.3").unwrap(), 0, "{}"),
            InterruptId::of_call(&run, &call, 1, "{}"),
            InterruptId::of_call(&run, &call, 0, "{\"a\":1}"),
            InterruptId::of_result(&run, &call, "{}"),
            InterruptId::of_task(&run, &Step::parse("t#1").unwrap()),
        ];
        assert!(!others.contains(&id));
        assert_eq!(id.as_str().to_lowercase().parse(), Ok(id));
        assert!("ABCDEFGI".parse::<InterruptId>().is_err() && "ABC".parse::<InterruptId>().is_err());
    }
}
