//! Set aside: money for one ending of every task that must have a result. Invariant, at every node that
//! the endings count in, from the first hold on, as long as the run has not said otherwise:
//! `settled + held + ambiguous + sum of S(t) <= cap`, over all mandatory tasks t that have not ended.
//!
//! Why a result follows: a call that is not an ending is held only where the sum still fits beside it;
//! t's ending may use S(t), which then stands in its hold instead of the sum, and needs at most S(t), as
//! long as its prompt stays within what its inputs allow. An ending that settles lower frees the rest;
//! one that is given back puts S(t) back with it. So the next ending always fits. Three things take free
//! money first and S then: an ending whose answer was no result, a call that may have been billed, an
//! overrun. When they reach S, or when the cap never covered it, `budget.unguaranteed` says so, once a
//! node. From then on endings may use what there is, and whatever is no ending still leaves them the sum;
//! only where the cap never covered it nothing is kept.
//!
//! S is in [`RunEvent::Started`](crate::core::event::RunEvent::Started), so that the fold needs no crew. It is
//! kept of crews with `on_exhausted = "finish"`: a pause needs no money.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::NodeId;
use crate::core::ids::{Segment, Step};
use crate::core::money::{Amount, Caps, Limit};

/// One mandatory task: what one ending of it may need.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SetAside {
    /// Address without keys and rounds.
    pub task: Step,
    /// Items at each level of the address, at most; 1 where there is no list.
    pub items: Vec<u64>,
    /// Of one item.
    pub amount: Amount,
    /// Where its ending counts. Nodes of a sub-crew that are known only when it begins are not among them.
    pub nodes: Vec<NodeId>,
}

impl SetAside {
    /// Pieces of work below the level of `above`, of one instance of it.
    fn below(&self, above: &Step) -> u64 {
        self.items.iter().skip(above.depth()).fold(1, |all, n| all.saturating_mul(*n))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Asides {
    kept: BTreeMap<Step, SetAside>,
    /// The sum of S at each node.
    reserved: BTreeMap<NodeId, Amount>,
    /// Units that ended once, lists that fanned out: they are not counted again.
    ended: BTreeSet<Step>,
    /// Units whose ending is held, or answered and not judged: their S stands in their hold.
    out: BTreeSet<Step>,
    /// Sub-crews under way: how many pieces of each task are still ahead in them.
    scopes: BTreeMap<Step, BTreeMap<Step, u64>>,
    /// Nodes where the run has said that nothing is guaranteed; `true`: the cap never covered the sum.
    lost: BTreeMap<NodeId, bool>,
}

/// What the run says when S is reached.
pub struct Reached {
    pub limit: Limit,
    pub aside: Amount,
    pub never: bool,
}

impl Asides {
    pub fn begin(&mut self, table: &[SetAside]) {
        for entry in table {
            self.kept.insert(entry.task.clone(), entry.clone());
            self.put(&entry.task, entry.below(&Step::root()));
        }
    }

    pub fn is_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The sum of S at a node.
    pub fn at(&self, node: &NodeId) -> Amount {
        self.reserved.get(node).copied().unwrap_or_default()
    }

    /// The unit of a step whose ending has its S still before it.
    pub fn covers(&self, step: &Step) -> Option<Step> {
        let unit = step.with_round(None);
        let kept = path(step).is_some_and(|path| self.kept.contains_key(&path));
        (kept && !self.ended.contains(&unit)).then_some(unit)
    }

    /// What a call must leave free at `node` beside itself.
    pub fn to_leave(&self, node: &NodeId, covers: Option<&Step>, reached: Option<&Reached>) -> Amount {
        let never = reached.map(|reached| reached.never).or(self.lost.get(node).copied());
        match (never, covers) {
            (Some(true), _) | (Some(false), Some(_)) => Amount::default(),
            (Some(false), None) | (None, None) => self.at(node),
            (None, Some(unit)) => {
                let own = path(unit).and_then(|path| self.kept.get(&path));
                let own = own.filter(|own| own.nodes.contains(node) && !self.out.contains(unit));
                self.at(node).minus(own.map_or(Amount::default(), |own| own.amount))
            }
        }
    }

    /// Does `used` leave less than the sum at a node, and has nobody said so yet?
    pub fn reached(&self, node: &NodeId, caps: Caps, used: Amount) -> Option<Reached> {
        let aside = self.at(node);
        if aside == Amount::default() || self.lost.contains_key(node) {
            return None;
        }
        let limit = caps.broken_by(used.plus(aside))?;
        Some(Reached { limit, aside, never: used == Amount::default() })
    }

    pub fn said(&mut self, node: &NodeId, never: bool) {
        self.lost.insert(node.clone(), never);
    }

    /// The budget was raised: it is looked at anew.
    pub fn raised(&mut self) {
        self.lost.clear();
    }

    pub fn fanned_out(&mut self, list: &Step, keys: u64) {
        let Some(path) = self.kept_path(list) else { return };
        if !self.ended.insert(list.with_round(None)) {
            return;
        }
        let tasks: Vec<Step> = self.within(&path);
        for task in tasks {
            let entry = &self.kept[&task];
            let most = entry.items.get(path.depth() - 1).copied().unwrap_or(1);
            let gone = most.saturating_sub(keys).saturating_mul(entry.below(&path));
            self.gone(&task, list, gone);
        }
    }

    pub fn crew_started(&mut self, step: &Step) {
        let Some(path) = self.kept_path(step) else { return };
        let inside = self.within(&path).into_iter().map(|task| {
            let ahead = self.kept[&task].below(&path);
            (task, ahead)
        });
        let inside = inside.collect();
        self.scopes.insert(step.clone(), inside);
    }

    /// A unit has ended, in whatever way: its S is free, and that of everything below it.
    pub fn over(&mut self, step: &Step) {
        let Some(path) = self.kept_path(step) else { return };
        let unit = step.with_round(None);
        if !self.ended.insert(unit.clone()) {
            return;
        }
        let is_item = step.last().is_some_and(|segment| segment.key.is_some());
        let begun = self.scopes.remove(step);
        for task in self.within(&path) {
            let entry = &self.kept[&task];
            let list = if is_item { 1 } else { entry.items.get(path.depth() - 1).copied().unwrap_or(1) };
            let ahead = match &begun {
                Some(left) if task != path => left.get(&task).copied().unwrap_or(0),
                Some(_) | None => list.saturating_mul(entry.below(&path)),
            };
            // Its own ending may be under way: then its S is not in the sum, and comes back to go with the rest.
            let under_way = u64::from(task == path && self.out.remove(&unit));
            self.put(&task, under_way);
            self.gone(&task, step, ahead);
        }
    }

    /// The ending of a unit is held: its S stands in the hold.
    pub fn taken(&mut self, unit: &Step) {
        if let Some(path) = path(unit).filter(|_| self.out.insert(unit.clone())) {
            self.take(&path, 1);
        }
    }

    /// The ending came to nothing: the unit needs another.
    pub fn back(&mut self, step: &Step) {
        let unit = step.with_round(None);
        if let Some(path) = path(&unit).filter(|_| self.out.remove(&unit)) {
            self.put(&path, 1);
        }
    }

    fn kept_path(&self, step: &Step) -> Option<Step> {
        if self.kept.is_empty() { None } else { path(step) }
    }

    /// Tasks at or below a path.
    fn within(&self, path: &Step) -> Vec<Step> {
        self.kept.keys().filter(|task| task.is_within(path)).cloned().collect()
    }

    /// `n` pieces of a task will not be done any more, below `step`.
    fn gone(&mut self, task: &Step, step: &Step, n: u64) {
        self.take(task, n);
        for (scope, ahead) in &mut self.scopes {
            if step != scope
                && step.is_within(scope)
                && let Some(left) = ahead.get_mut(task)
            {
                *left = left.saturating_sub(n);
            }
        }
    }

    fn take(&mut self, task: &Step, n: u64) {
        let Some(entry) = self.kept.get(task) else { return };
        for node in &entry.nodes {
            let sum = self.reserved.entry(node.clone()).or_default();
            *sum = sum.minus(entry.amount.times(n));
        }
    }

    fn put(&mut self, task: &Step, n: u64) {
        let Some(entry) = self.kept.get(task) else { return };
        for node in &entry.nodes {
            let sum = self.reserved.entry(node.clone()).or_default();
            *sum = sum.plus(entry.amount.times(n));
        }
    }
}

/// The address without keys and rounds; `None` below a later round of a loop, which is extra work.
fn path(step: &Step) -> Option<Step> {
    let segments = step.segments();
    let above = segments.len().saturating_sub(1);
    if segments[..above].iter().any(|segment| segment.round.is_some_and(|round| round > 1)) {
        return None;
    }
    Some(segments.into_iter().fold(Step::root(), |path, segment| path.child(&Segment::task(segment.name))))
}
