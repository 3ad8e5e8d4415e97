//! Step addresses. Invariant: the text is canonical; one step has one address.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BadId, Key, Name, bad, text_id};

/// One level of the task tree inside a step address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    pub name: Name,
    pub key: Option<Key>,
    pub round: Option<u32>,
}

impl Segment {
    pub fn task(name: Name) -> Segment {
        Segment { name, key: None, round: None }
    }
    fn parse(text: &str) -> Result<Segment, BadId> {
        let wrong = |expected| bad("step address", text, expected);
        let (head, round) = match text.rsplit_once('#') {
            Some((head, digits)) => {
                (head, Some(count(digits).ok_or_else(|| wrong("`#` is followed by a round from 1"))?))
            }
            None => (text, None),
        };
        let (name, key) = match head.split_once('[') {
            Some((name, rest)) => {
                let inner = rest.strip_suffix(']').ok_or_else(|| wrong("a `[key]` ends in `]`"))?;
                (name, Some(Key::decode(inner)?))
            }
            None => (head, None),
        };
        Ok(Segment { name: Name::new(name)?, key, round })
    }
}
impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_str())?;
        if let Some(key) = &self.key {
            write!(f, "[{}]", key.encode())?;
        }
        if let Some(round) = self.round {
            write!(f, "#{round}")?;
        }
        Ok(())
    }
}

/// A number from 1, without sign or leading zero.
fn count(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

/// The address of a task. The root of a run is the empty address, printed as nothing; it is a
/// scope (whose tasks are the crew's), never a task.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step(Arc<str>);

impl Step {
    /// The scope of the top crew.
    pub fn root() -> Step {
        Step("".into())
    }
    pub fn parse(text: &str) -> Result<Step, BadId> {
        for segment in text.split('/').filter(|_| !text.is_empty()) {
            Segment::parse(segment)?;
        }
        Ok(Step(text.into()))
    }
    /// As [`Step::parse`], of a text as a person types it: keys need not be percent-encoded.
    pub fn typed(text: &str) -> Result<Step, BadId> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((name, tail)) = rest.split_once('[') {
            // A key may hold a `]`: it ends at one that something which follows a key follows.
            let ends = |(at, _): &(usize, &str)| matches!(tail.as_bytes().get(at + 1), None | Some(b'/' | b'#'));
            let end = tail.match_indices(']').find(ends).map(|(at, _)| at);
            let end = end.ok_or_else(|| bad("step address", text, "a `[key]` ends in `]`"))?;
            out.push_str(&format!("{name}[{}]", Key::new(&tail[..end])?.encode()));
            rest = &tail[end + 1..];
        }
        out.push_str(rest);
        Step::parse(&out)
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
    pub fn child(&self, segment: &Segment) -> Step {
        if self.is_root() { Step(segment.to_string().into()) } else { Step(format!("{}/{segment}", self.0).into()) }
    }
    /// The address one level up; of a top task, the root; of the root, nothing.
    pub fn parent(&self) -> Option<Step> {
        if self.is_root() {
            return None;
        }
        Some(self.0.rsplit_once('/').map_or_else(Step::root, |(head, _)| Step(head.into())))
    }
    pub fn segments(&self) -> Vec<Segment> {
        let parts = self.0.split('/').filter(|part| !part.is_empty());
        // The text was checked when the value was made, so nothing is left out here.
        parts.filter_map(|part| Segment::parse(part).ok()).collect()
    }
    /// The name of each level, from the top down. Nothing is copied: most who look at an address want no more.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let parts = self.0.split('/').filter(|part| !part.is_empty());
        parts.map(|part| part.split(['[', '#']).next().unwrap_or(part))
    }
    pub fn last(&self) -> Option<Segment> {
        self.0.rsplit('/').next().and_then(|part| Segment::parse(part).ok())
    }
    /// Levels of the task tree above and including this one.
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.split('/').count() }
    }
    /// True of the step itself and of everything below it.
    pub fn is_within(&self, above: &Step) -> bool {
        let rest = self.0.strip_prefix(&*above.0);
        above.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
    /// The same step in another round of its loop (`None`: the unit that the rounds belong to).
    pub fn with_round(&self, round: Option<u32>) -> Step {
        // Asked for with almost every event, and mostly true already: a `#` in a key is encoded.
        let last = self.0.rsplit('/').next().unwrap_or_default();
        if round.is_none() && !last.contains('#') {
            return self.clone();
        }
        match (self.parent(), self.last()) {
            (Some(parent), Some(last)) => parent.child(&Segment { round, ..last }),
            _ => self.clone(),
        }
    }
    /// A bound that sorts right behind this address and is no address itself: where a scan goes on.
    pub fn just_after(&self) -> Step {
        Step(format!("{}\0", self.0).into())
    }
    pub fn round(&self) -> Option<u32> {
        self.last().and_then(|segment| segment.round)
    }
}
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for Step {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Step, BadId> {
        Step::parse(text)
    }
}
text_id!(Step);

/// One model call: its step, and its number over all attempts of the step, from 1.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId {
    pub step: Step,
    pub number: u32,
}

impl CallId {
    pub fn parse(text: &str) -> Result<CallId, BadId> {
        let wrong = || bad("call address", text, "a call is STEP.N, such as draft#1.3");
        // A dot inside `[key]` is part of the key, so the call number is what follows the last `]`.
        let (step, digits) = text.rsplit_once('.').ok_or_else(wrong)?;
        if digits.contains(']') {
            return Err(wrong());
        }
        Ok(CallId { step: Step::parse(step)?, number: count(digits).ok_or_else(wrong)? })
    }
}
impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.step, self.number)
    }
}
impl FromStr for CallId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<CallId, BadId> {
        CallId::parse(text)
    }
}
text_id!(CallId);

/// An agent actor of a run: the role, in its crew's scope, and which of several (`writer~2`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentRef {
    pub scope: Step,
    pub name: Name,
    pub number: u32,
}
impl fmt::Display for AgentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scope.is_root() {
            write!(f, "{}:", self.scope)?;
        }
        f.write_str(self.name.as_str())?;
        if self.number > 1 { write!(f, "~{}", self.number) } else { Ok(()) }
    }
}
impl FromStr for AgentRef {
    type Err = BadId;
    fn from_str(text: &str) -> Result<AgentRef, BadId> {
        let wrong = || bad("agent address", text, "an agent is [SCOPE:]NAME[~N]");
        let (scope, rest) = text.rsplit_once(':').unwrap_or(("", text));
        let (name, number) = match rest.split_once('~') {
            Some((name, digits)) => (name, count(digits).ok_or_else(wrong)?),
            None => (rest, 1),
        };
        Ok(AgentRef { scope: Step::parse(scope)?, name: Name::new(name)?, number })
    }
}
text_id!(AgentRef);
