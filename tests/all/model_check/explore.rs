//! Breadth first through every state, so that what is found is found by a shortest way. Invariant: a
//! state is left out only if an equal one, whole and not by its hash, has been seen.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};
use std::rc::Rc;

use boatswain::core::ids::{Seq, Step};
use boatswain::core::run::{Entry, Replay, Run};

use super::machines::Id;
use super::world::{Act, Broken, Left, Node, World};

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub states: usize,
    /// Different folds among them: the machines' own states.
    pub folds: usize,
    pub moves: u64,
    /// Of the longest shortest way.
    pub depth: u32,
    pub ends: usize,
    pub parks: usize,
    /// States, met or only on the way, from which a friendly outside sees the end.
    pub friendly: usize,
    /// States whose journal was folded and replayed by `Run` and `Replay`.
    pub replayed: usize,
}

/// A broken promise and the shortest way to it.
#[derive(Debug)]
pub struct Found {
    pub why: String,
    pub moves: usize,
    pub trace: String,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { states, folds, moves, depth, ends, parks, friendly, replayed } = self;
        write!(
            f,
            "{states} states ({folds} folds) by {moves} moves, up to {depth} deep; {ends} ends, {parks} parked; \
             {friendly} followed to an end, {replayed} replayed"
        )
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} moves\n{}", self.why, self.moves, self.trace)
    }
}

struct Seen {
    node: Rc<Node>,
    from: u32,
    by: Act,
    depth: u32,
}

pub struct Explorer {
    pub world: World,
    seen: Vec<Seen>,
    numbers: HashMap<Rc<Node>, u32>,
    ends: HashSet<Node>,
    figures: Figures,
}

/// Most states before a crew counts as too large to be exhausted.
const MOST: usize = 3_000_000;
/// Moves after which a friendly outside should have seen the end.
const PATIENCE: usize = 600;

impl Explorer {
    pub fn new(world: World) -> Explorer {
        let (seen, numbers) = (Vec::new(), HashMap::new());
        Explorer { world, seen, numbers, ends: HashSet::new(), figures: Figures::default() }
    }

    /// Every state that can be reached. `every`: one state in so many has its journal replayed.
    pub fn exhaust(&mut self, left: Left, every: usize) -> Result<Figures, Found> {
        let first = match self.world.begin(left) {
            Ok(node) => node,
            Err(why) => return Err(Found { why: why.0, moves: 0, trace: String::new() }),
        };
        self.meet(first, 0, Act::Append, 0);
        let mut at = 0;
        while at < self.seen.len() {
            self.leave(at as u32)?;
            if at.is_multiple_of(every) {
                self.replay(at as u32);
            }
            at += 1;
            assert!(at < MOST, "too large to be exhausted: {:?}", self.figures);
        }
        (0..at as u32).try_for_each(|at| self.can_end(at))?;
        let folds: HashSet<_> =
            self.seen.iter().map(|seen| (seen.node.plan, seen.node.ledger, seen.node.agents.clone())).collect();
        self.figures.folds = folds.len();
        self.figures.friendly = self.ends.len();
        self.figures.states = self.seen.len();
        Ok(self.figures)
    }

    fn meet(&mut self, node: Node, from: u32, by: Act, depth: u32) {
        if self.numbers.contains_key(&node) {
            return;
        }
        let node = Rc::new(node);
        self.numbers.insert(node.clone(), self.seen.len() as u32);
        self.figures.depth = self.figures.depth.max(depth);
        self.figures.ends += usize::from(node.ended);
        self.seen.push(Seen { node, from, by, depth });
    }

    fn leave(&mut self, at: u32) -> Result<(), Found> {
        let Seen { node, depth, .. } = &self.seen[at as usize];
        let (node, depth) = (node.clone(), *depth);
        if node.ended {
            return Ok(());
        }
        let mut acts = self.world.due(&node).map_err(|why| self.found(at, &[], why))?;
        let outside = self.world.outside(&node, &acts);
        if acts.is_empty() {
            self.world.rests(&node).map_err(|why| self.found(at, &[], why))?;
            self.figures.parks += 1;
        }
        acts.extend(outside);
        for act in acts {
            self.figures.moves += 1;
            match self.world.perform(&node, act) {
                Ok(next) => self.meet(next, at, act, depth + 1),
                Err(why) => return Err(self.found(at, &[act], why)),
            }
        }
        Ok(())
    }

    /// With a friendly outside the run ends, from here too.
    fn can_end(&mut self, at: u32) -> Result<(), Found> {
        let mut node = (*self.seen[at as usize].node).clone();
        node.left = Left::default();
        let (mut nodes, mut acts) = (Vec::new(), Vec::new());
        while !self.ends.contains(&node) {
            match self.world.friendly(&node) {
                Ok(Some(act)) => acts.push(act),
                Ok(None) => break,
                Err(why) => return Err(self.found(at, &acts, why)),
            }
            match self.world.perform(&node, acts[acts.len() - 1]) {
                Ok(next) => nodes.push(std::mem::replace(&mut node, next)),
                Err(why) => return Err(self.found(at, &acts, why)),
            }
            if acts.len() > PATIENCE {
                return Err(self.found(at, &acts, Broken("a friendly outside never sees the end".into())));
            }
        }
        self.ends.extend(nodes);
        self.ends.insert(node);
        Ok(())
    }

    fn way(&self, at: u32) -> Vec<Act> {
        let (mut way, mut at) = (Vec::new(), at);
        while at != 0 {
            let seen = &self.seen[at as usize];
            way.push(seen.by);
            at = seen.from;
        }
        way.reverse();
        way
    }

    /// The way to a state and on from there, with the events it brings.
    fn found(&mut self, at: u32, on: &[Act], why: Broken) -> Found {
        let mut way = self.way(at);
        way.extend(on);
        let mut node = (*self.seen[0].node).clone();
        let mut trace = String::new();
        for act in &way {
            self.world.log = Some(Vec::new());
            let next = self.world.perform(&node, *act);
            let log = self.world.log.take().unwrap_or_default();
            let _ = writeln!(trace, "{}", self.world.line(*act, &log));
            if let Ok(next) = next {
                node = next;
            }
        }
        Found { why: why.0, moves: way.len(), trace }
    }

    /// The journal of a state, folded by `Run` and derived again by `Replay`: what is explored here is
    /// what the program would fold.
    fn replay(&mut self, at: u32) {
        let way = self.way(at);
        self.world.log = Some(Vec::new());
        let mut node = self.world.begin(self.seen[0].node.left).unwrap();
        for act in way {
            node = self.world.perform(&node, act).unwrap();
        }
        assert!(node == *self.seen[at as usize].node, "the same moves lead elsewhere");
        let log = self.world.log.take().unwrap_or_default();
        let machines = &self.world.machines;
        let entry = |(index, id): (usize, &Id)| Entry {
            seq: Seq(index as u64 + 1),
            at_ms: 0,
            event: (*machines.events.get(*id)).clone(),
        };
        let entries: Vec<Entry> = log.iter().enumerate().map(entry).collect();
        let run = Run::fold(machines.crew.clone(), &entries).unwrap();
        assert!(run.plans[&Step::root()].state == machines.plans.get(node.plan).0.state);
        assert!(run.ledger == *machines.ledgers.get(node.ledger));
        for (who, agent) in &run.agents {
            let mut own = node.agents.iter().filter(|id| **id != Id::MAX).map(|id| machines.agents.get(*id));
            assert!(own.any(|own| own.who == *who && *own == *agent), "{who} differs");
        }
        assert!(node.ended || run.open_calls.len() == node.flights.len());
        let mut replay = Replay::new(machines.run.clone(), machines.crew.clone(), &machines.shelf, &machines.sizes);
        for entry in &entries {
            replay.step(entry, &entry.event.encode()).unwrap_or_else(|found| panic!("{found}"));
        }
        replay.finish().unwrap_or_else(|found| panic!("{found}"));
        self.figures.replayed += 1;
    }
}
