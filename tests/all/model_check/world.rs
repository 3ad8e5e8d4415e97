//! One state of a whole run, and every move out of it. Invariant: a move is one decision that is
//! appended whole, or one event from outside; what the outside knows (calls in flight, the provider's
//! own bill, who was promised an answer) is kept apart from the machines and never shown to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use boatswain::core::agent::{AgentStep, DELEGATE, Phase};
use boatswain::core::chat::{CallFailure, FailureClass, Finish, Message};
use boatswain::core::crew::Crew;
use boatswain::core::event::{
    Answered, CallEvent, ErrorClass, Event, Held, LedgerEvent, LostCause, Msg, ParkCause, PauseCause, RunEvent,
    Started, Subject, TaskEvent, ToolEvent,
};
use boatswain::core::failure::Money;
use boatswain::core::ids::{AgentRef, CallId, Step};
use boatswain::core::ledger::settlement;
use boatswain::core::machine::{Control, Refusal};
use boatswain::core::money::{Amount, Caps, NanoUsd, Tokens, Usage};
use boatswain::core::plan::{self, Plan, PlanStep};
use serde_json::json;

use super::machines::{Id, Kept, Machines, Table, Wants};
use super::people::{Folded, Known, People, Word};
use crate::simulate::script::ask;

const NONE: Id = Id::MAX;

/// A mistake, planted in this file or in `machines.rs`, never in the shipped code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A hold counts twice at each of its nodes.
    HeldTwice,
    /// A call that may have been billed gives its hold back.
    ReleasedAfterSend,
    /// The call is sent on the ledger's word, before `call.held` is in the journal.
    RepliesFirst,
    /// An append is taken whatever has moved since it was decided.
    Unconditional,
    /// Only the ledger's appends are: a hold is decided on sums that are old.
    OldSums,
    /// A hold names the ledger and not the agent that asked: the ledger decides again for who has moved.
    OldRequest,
    /// Who waits for money is not tried again.
    NobodyTried,
    /// After a crash an agent has not heard of its last answer.
    Forgets,
    /// A child's result is appended twice.
    ReturnsTwice,
    /// A tool that needs a yes runs as soon as somebody is asked.
    RunsUnasked,
    /// It runs with the arguments that it asked for, whatever a person has made of them.
    AsAsked,
    /// After a crash a tool that may have run is run.
    RunsAgain,
}

/// How often the outside may still do what it need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    /// Answers that are unusable or billed oddly, calls that fail.
    pub odd: u8,
    pub crashes: u8,
    pub pauses: u8,
    pub resumes: u8,
    pub raises: u8,
    /// Doubtful calls that a person settles.
    pub settles: u8,
    pub cancels: u8,
    /// Agents' actors that panic.
    pub panics: u8,
    /// Messages to an agent that has been up.
    pub tells: u8,
    /// Decisions that people leave.
    pub rulings: u8,
    /// Timers of approvals that fire, also late.
    pub expiries: u8,
    /// Decisions that are made on one state and appended to a later one.
    pub early: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bill {
    Less,
    Equal,
    More,
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Say {
    Delegate,
    /// It asks for the tool that needs a yes.
    Stamp,
    Revise,
    Approve,
    Text,
    Nothing,
}

/// How much agents talk.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// They delegate as long as their prompt has so many messages at most.
    pub messages: u32,
    /// They ask for a tool so many times at once, in place of delegating.
    pub stamps: u32,
    /// Of a delegated task and of an answer; a summary is always brief.
    pub words: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Answered(Say, Bill),
    Failed(FailureClass),
    Lost(LostCause),
}

/// One move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    Plan(usize),
    /// What the agent records, or the ledger's answer to what it asks for.
    Agent(usize),
    /// The author decides now; `Append` brings it to the journal later.
    PlanEarly(usize),
    AgentEarly(usize),
    Append,
    /// `RepliesFirst` only.
    SendEarly,
    Send(Id),
    GiveBack(Id),
    Outcome(Id, Outcome),
    Wake(usize),
    Tell(usize),
    Pause,
    /// And the calls in flight are dropped.
    Cancel,
    Panic(usize),
    Crash,
    Settle(usize),
    /// A person leaves a decision about an interrupt.
    Say(Id, Word),
    /// The run's owner looks at a row, writes what comes of it, and forgets the row.
    Judge(usize),
    TakeIn,
    Forget(usize),
    Expire(Id),
    /// A tool that runs takes effect, and returns.
    Effect(usize),
    Return(usize),
    Resume {
        raise: bool,
        retry: bool,
    },
}

/// A decision that has not reached the journal, and whether what it depends on has moved since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Early {
    author: Author,
    decision: Id,
    /// The author's own subject.
    moved: bool,
    /// The agent that asked the ledger, and the state it asked in.
    asker_moved: bool,
    asked: Id,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Author {
    Plan,
    Agent(usize),
    /// The ledger, on the word of an agent as of then.
    Ledger(usize),
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Node {
    // The fold.
    pub plan: Id,
    pub ledger: Id,
    pub agents: Vec<Id>,
    pub control: Id,
    // The processes.
    /// Open calls by their hold's event, and whether they have left.
    pub flights: Vec<(Id, bool)>,
    pub early: Option<Early>,
    pub people: People,
    pub parked: bool,
    pub ended: bool,
    // What the outside remembers.
    /// The most that the provider may charge for what it was sent.
    pub bill: Amount,
    /// Sum of the costs in the journal.
    pub booked: Amount,
    /// Part of it that a person settled: no task's result counts it.
    by_hand: Amount,
    overran: bool,
    /// Work was ended from above: a call of it may still be in flight at the end of the run.
    cut: bool,
    /// Calls ever held, prompts ever answered, delegations without a result: bits by number.
    held: u128,
    answered: u128,
    asked: u128,
    pub left: Left,
}

/// A promise that a move breaks.
#[derive(Debug)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub fn broken<T>(why: impl Into<String>) -> Result<T, Broken> {
    Err(Broken(why.into()))
}

pub struct World {
    pub machines: Machines,
    /// Moves that the outside has at all.
    pub odd: Vec<Outcome>,
    pub talk: Talk,
    calls: Table<CallId>,
    prompts: Table<(Step, u32, u32)>,
    delegations: Table<(CallId, u32, AgentRef)>,
    decisions: Table<Vec<Id>>,
    pub folds: Table<Folded>,
    pub known: Known,
    /// The events of the moves made while it is set.
    pub log: Option<Vec<Id>>,
    /// Kinds of events and causes of parking that were met, and appends that were refused.
    pub met: BTreeSet<String>,
    pub refused: u64,
}

impl World {
    pub fn new(crew: &Arc<Crew>, odd: &[Outcome], mutant: Option<Mutant>) -> World {
        World {
            machines: Machines::new(crew.clone(), mutant),
            odd: odd.to_vec(),
            talk: Talk { messages: 2, stamps: 0, words: 1 },
            calls: Table::default(),
            prompts: Table::default(),
            delegations: Table::default(),
            decisions: Table::default(),
            folds: Table::default(),
            known: Known::default(),
            log: None,
            met: BTreeSet::new(),
            refused: 0,
        }
    }

    /// The state after `run.started`.
    pub fn begin(&mut self, left: Left) -> Result<Node, Broken> {
        let crew = self.machines.crew.clone();
        // Nothing was asked: number 0.
        self.folds.id(Folded(Default::default()));
        let mut node = Node {
            plan: self.machines.plans.id(Kept(Plan::new(Step::root(), crew.clone()))),
            ledger: self.machines.ledgers.id(Default::default()),
            agents: Vec::new(),
            control: self.machines.controls.id(Control::default()),
            flights: Vec::new(),
            early: None,
            people: People::default(),
            parked: false,
            ended: false,
            bill: Amount::default(),
            booked: Amount::default(),
            by_hand: Amount::default(),
            overran: false,
            cut: false,
            held: 0,
            answered: 0,
            asked: 0,
            left,
        };
        let started = Event::Run(RunEvent::Started(Box::new(Started {
            run: self.machines.run.clone(),
            crew: crew.name.clone(),
            file: crew.file.clone(),
            pins: BTreeMap::new(),
            inputs: BTreeMap::new(),
            overrides: Default::default(),
            prices: BTreeMap::new(),
            price_from: BTreeMap::new(),
            windows: BTreeMap::new(),
            tokenizers: BTreeMap::new(),
            refuses: BTreeMap::new(),
            caps: crew.budget.caps,
            aside: Vec::new(),
            cap_origin: crew.budget.origin.clone(),
            key: None,
            offline: false,
            version: "test".into(),
            tools: None,
            rules: boatswain::core::rules::RULES,
            tainted: None,
        })));
        self.add(&mut node, started)?;
        Ok(node)
    }

    // ---- what may happen ----

    /// What this process does or waits for. Empty: it is at rest.
    pub fn due(&mut self, node: &Node) -> Result<Vec<Act>, Broken> {
        let mut acts = Vec::new();
        if node.early.is_some() {
            acts.push(Act::Append);
        }
        for (index, step) in self.machines.plan_next(node.plan).iter().enumerate() {
            // Calls in flight may still end: parked is what nothing moves any more.
            if *step == PlanStep::Park && !(node.flights.is_empty() && node.people.rests()) {
                continue;
            }
            match self.machines.decide_plan(node.plan, index) {
                Ok(_) => acts.push(Act::Plan(index)),
                Err(why) => return broken(format!("{step:?} is due and refused: {why}")),
            }
        }
        for index in 0..node.agents.len() {
            self.agent_due(node, index, &mut acts)?;
        }
        self.people_due(node, &mut acts);
        for (held, sent) in &node.flights {
            if *sent {
                acts.extend(self.outcomes(node, *held).into_iter().map(|outcome| Act::Outcome(*held, outcome)));
            } else if self.calling(node, *held) {
                acts.push(Act::Send(*held));
            } else {
                acts.push(Act::GiveBack(*held));
            }
        }
        Ok(acts)
    }

    fn agent_due(&mut self, node: &Node, index: usize, acts: &mut Vec<Act>) -> Result<(), Broken> {
        let id = node.agents[index];
        if id == NONE {
            return Ok(());
        }
        match self.machines.agent_wants(id) {
            Ok(Wants::Nothing) => {}
            Ok(Wants::Record(_)) => acts.push(Act::Agent(index)),
            Ok(Wants::Hold) => match self.machines.decide_hold(node.ledger, id) {
                Ok(_) if self.machines.mutant == Some(Mutant::NobodyTried) && self.queued(id) => {}
                Ok(_) => acts.push(Act::Agent(index)),
                Err(Refusal::Waiting) => {}
                Err(why) => return broken(format!("a hold is due and refused: {why}")),
            },
            Err(why) => return broken(format!("{} is due and refuses: {why}", self.machines.who.get(index as Id))),
        }
        for step in self.machines.agent_next(id).iter() {
            match step {
                AgentStep::Decide => {}
                AgentStep::Send(call) => {
                    let open = |held| self.machines.held(held).call == *call;
                    if !node.flights.iter().map(|(held, _)| *held).any(open) {
                        return broken(format!("{call} is to be sent and has no open hold"));
                    }
                }
                AgentStep::Wake { .. } => acts.push(Act::Wake(index)),
                AgentStep::RunTool { .. } => self.tool_runs(node, step)?,
            }
        }
        Ok(())
    }

    fn queued(&self, agent: Id) -> bool {
        self.machines.agents.get(agent).job.as_ref().is_some_and(|job| job.phase == Phase::Queued)
    }

    /// Does its agent still wait for this call? One whose task is over gives the hold back.
    fn calling(&mut self, node: &Node, held: Id) -> bool {
        let held = self.machines.held(held);
        let index = self.machines.who.id(held.agent.clone()) as usize;
        let agent = self.machines.agents.get(node.agents[index]);
        matches!(agent.job.as_ref().map(|job| &job.phase), Some(Phase::Calling { held: open }) if open.call == held.call)
    }

    /// How a call in flight may end.
    fn outcomes(&mut self, node: &Node, held: Id) -> Vec<Outcome> {
        let held = self.machines.held(held);
        let stamps = self.talk.stamps > 0 && held.tools && held.messages <= self.talk.messages;
        let says: &[Say] = if stamps {
            &[Say::Stamp, Say::Text]
        } else if held.call.step.as_str().contains("review") {
            &[Say::Revise, Say::Approve]
        } else if held.tools && held.messages <= self.talk.messages {
            &[Say::Delegate, Say::Text]
        } else {
            &[Say::Text]
        };
        let mut all: Vec<Outcome> = says.iter().rev().map(|say| Outcome::Answered(*say, Bill::Less)).collect();
        if node.left.odd > 0 {
            for odd in &self.odd {
                match odd {
                    Outcome::Answered(Say::Nothing, bill) => all.push(Outcome::Answered(Say::Nothing, *bill)),
                    Outcome::Answered(_, bill) => all.push(Outcome::Answered(says[0], *bill)),
                    // Only a person or the end of the run drops a call.
                    Outcome::Lost(LostCause::Aborted) if !self.halted(node) => {}
                    Outcome::Failed(_) | Outcome::Lost(_) => all.push(*odd),
                }
            }
        }
        all
    }

    fn halted(&self, node: &Node) -> bool {
        self.machines.controls.get(node.control).is_halted()
    }

    /// What else may happen, as far as it is still allowed. `due` is what the process itself would do.
    pub fn outside(&mut self, node: &Node, due: &[Act]) -> Vec<Act> {
        let mut acts = Vec::new();
        if node.ended {
            return acts;
        }
        let left = node.left;
        self.people_outside(node, &mut acts);
        if due.is_empty() && node.parked {
            if left.resumes > 0 {
                let reviews = self.reviews(node);
                for raise in [false, true].into_iter().filter(|raise| !raise || left.raises > 0) {
                    let retries = [false, true].into_iter().filter(|retry| !retry || !reviews.is_empty());
                    acts.extend(retries.map(|retry| Act::Resume { raise, retry }));
                }
            }
            return acts;
        }
        if left.crashes > 0 {
            acts.push(Act::Crash);
        }
        if left.pauses > 0 && !self.halted(node) {
            acts.push(Act::Pause);
        }
        if left.cancels > 0 {
            acts.push(Act::Cancel);
        }
        if left.panics > 0 {
            let up = (0..node.agents.len()).filter(|index| node.agents[*index] != NONE);
            let busy = up.filter(|index| self.machines.agents.get(node.agents[*index]).job.is_some());
            acts.extend(busy.map(Act::Panic));
        }
        if left.tells > 0 {
            let up = (0..node.agents.len()).filter(|index| node.agents[*index] != NONE);
            acts.extend(up.map(Act::Tell));
        }
        if left.settles > 0 {
            let doubtful = self.machines.ledgers.get(node.ledger).holds.values().filter(|hold| hold.ambiguous).count();
            acts.extend((0..doubtful).map(Act::Settle));
        }
        if left.early > 0 && node.early.is_none() {
            acts.extend(due.iter().filter_map(|act| match act {
                Act::Plan(index) => Some(Act::PlanEarly(*index)),
                Act::Agent(index) => Some(Act::AgentEarly(*index)),
                _ => None,
            }));
        }
        if let Some(Early { author: Author::Ledger(_), decision, .. }) = node.early
            && self.machines.mutant == Some(Mutant::RepliesFirst)
            && matches!(&*self.machines.events.get(self.decisions.get(decision)[0]), Event::Call(CallEvent::Held(_)))
        {
            acts.push(Act::SendEarly);
        }
        acts
    }

    /// Steps that wait for a person.
    fn reviews(&self, node: &Node) -> Vec<(Step, Option<AgentRef>)> {
        let plan = self.machines.plans.get(node.plan);
        let mut steps = Vec::new();
        for (address, unit) in &plan.0.state.units {
            if let plan::Phase::Review(class, _) = &unit.phase {
                let own = !matches!(class, ErrorClass::Template | ErrorClass::TooManyItems | ErrorClass::RoundLimit);
                steps.push((unit.step(address), unit.agent.clone().filter(|_| own)));
            }
        }
        steps
    }

    // ---- making it happen ----

    pub fn perform(&mut self, node: &Node, act: Act) -> Result<Node, Broken> {
        let mut next = node.clone();
        let left = &mut next.left;
        match act {
            Act::Outcome(_, Outcome::Answered(say, bill)) if say != Say::Nothing && bill == Bill::Less => {}
            Act::Outcome(..) => left.odd = left.odd.saturating_sub(1),
            Act::PlanEarly(_) | Act::AgentEarly(_) => left.early = left.early.saturating_sub(1),
            Act::Pause => left.pauses = left.pauses.saturating_sub(1),
            Act::Cancel => left.cancels = left.cancels.saturating_sub(1),
            Act::Panic(_) => left.panics = left.panics.saturating_sub(1),
            Act::Tell(_) => left.tells = left.tells.saturating_sub(1),
            Act::Crash => left.crashes = left.crashes.saturating_sub(1),
            Act::Settle(_) => left.settles = left.settles.saturating_sub(1),
            Act::Resume { raise, .. } => {
                left.resumes = left.resumes.saturating_sub(1);
                left.raises = left.raises.saturating_sub(u8::from(raise));
            }
            Act::Say(..) => left.rulings = left.rulings.saturating_sub(1),
            Act::Expire(_) => left.expiries = left.expiries.saturating_sub(1),
            Act::Judge(_) | Act::TakeIn | Act::Forget(_) | Act::Effect(_) | Act::Return(_) => {}
            Act::Plan(_) | Act::Agent(_) | Act::Append | Act::SendEarly => {}
            Act::Send(_) | Act::GiveBack(_) | Act::Wake(_) => {}
        }
        self.take(&mut next, act)?;
        self.check(&mut next)?;
        Ok(next)
    }

    fn take(&mut self, node: &mut Node, act: Act) -> Result<(), Broken> {
        match act {
            Act::Plan(_) | Act::Agent(_) => {
                let (_, events) = self.decision(node, act)?;
                let returns =
                    |id: &Id| matches!(&*self.machines.events.get(*id), Event::Task(TaskEvent::Returned { .. }));
                let twice = self.machines.mutant == Some(Mutant::ReturnsTwice) && events.iter().any(returns);
                self.append_all(node, &events)?;
                if twice { self.append_all(node, &events) } else { Ok(()) }
            }
            Act::PlanEarly(index) => self.decide_early(node, Act::Plan(index)),
            Act::AgentEarly(index) => self.decide_early(node, Act::Agent(index)),
            Act::Append => {
                let Some(early) = node.early.take() else { return broken("nothing was decided") };
                let money = matches!(early.author, Author::Ledger(_));
                let moved = early.moved && !self.blind(money);
                let asker_moved = early.asker_moved && self.machines.mutant != Some(Mutant::Unconditional);
                match self.machines.mutant {
                    Some(Mutant::OldRequest) if money => match self.machines.decide_hold(node.ledger, early.asked) {
                        Ok(events) => self.append_all(node, &events),
                        Err(_) => Ok(()),
                    },
                    // Its author hears what moved, and decides again on that: a move of its own.
                    None | Some(_) if moved || asker_moved => {
                        self.refused += 1;
                        Ok(())
                    }
                    None | Some(_) => {
                        let events = self.decisions.get(early.decision);
                        self.append_all(node, &events)
                    }
                }
            }
            Act::SendEarly => {
                let Some(early) = node.early else { return broken("nothing was decided") };
                let held = self.machines.held(self.decisions.get(early.decision)[0]);
                node.bill = node.bill.plus(held.amount);
                Ok(())
            }
            Act::Send(id) => {
                let held = self.machines.held(id);
                let hold = self.machines.ledgers.get(node.ledger).hold(&held.call).cloned();
                if hold.is_none_or(|hold| hold.ambiguous || hold.amount != held.amount) {
                    return broken(format!("{} leaves without its hold", held.call));
                }
                node.bill = node.bill.plus(held.amount);
                for (flight, sent) in &mut node.flights {
                    if *flight == id && std::mem::replace(sent, true) {
                        return broken(format!("{} is sent twice", held.call));
                    }
                }
                Ok(())
            }
            Act::GiveBack(id) => {
                let event = failed(&self.machines.held(id), FailureClass::NotSent);
                self.add(node, event)
            }
            Act::Outcome(id, outcome) => {
                let event = self.outcome(id, outcome);
                self.add(node, event)
            }
            Act::Wake(index) => {
                let agent = self.machines.agents.get(node.agents[index]);
                let Some(job) = &agent.job else { return broken("nobody sleeps") };
                self.add(node, Event::Task(TaskEvent::Woken { step: job.step.clone(), agent: agent.who.clone() }))
            }
            Act::Tell(index) => {
                let agent = self.machines.agents.get(node.agents[index]).who.clone();
                let said = Message::User { content: "Mind the pumps.".into() };
                let blob = said.encode();
                let message = Msg::of(&said, &blob);
                self.machines.shelf.0.insert(blob.id, blob.text);
                let id = u64::from(node.left.tells);
                self.add(node, Event::Task(TaskEvent::Told { agent, message, by: "test".into(), id }))
            }
            Act::Pause => {
                self.add(node, Event::Run(RunEvent::PauseAsked { cause: PauseCause::Asked, by: "test".into() }))
            }
            Act::Cancel => {
                self.add(node, Event::Run(RunEvent::CancelAsked { by: "test".into() }))?;
                for (held, _) in node.flights.clone().into_iter().filter(|(_, sent)| *sent) {
                    let event = lost(&self.machines.held(held), LostCause::Aborted);
                    self.add(node, event)?;
                }
                Ok(())
            }
            Act::Panic(index) => {
                let agent = self.machines.agents.get(node.agents[index]);
                let Some(job) = &agent.job else { return broken("nobody is at work") };
                let (step, agent, message) = (job.step.clone(), agent.who.clone(), "panicked".into());
                self.add(node, Event::Task(TaskEvent::Crashed { step, agent, message }))
            }
            Act::Settle(index) => {
                let ledger = self.machines.ledgers.get(node.ledger);
                let (call, hold) = ledger.holds.iter().filter(|(_, hold)| hold.ambiguous).nth(index).unwrap();
                let (call, cost, by) = (call.clone(), hold.amount, "test".into());
                self.add(node, Event::Call(CallEvent::Settled { call, cost, by }))
            }
            Act::Say(..) | Act::Judge(_) | Act::TakeIn | Act::Forget(_) | Act::Expire(_) => self.people_take(node, act),
            Act::Effect(_) | Act::Return(_) => self.people_take(node, act),
            Act::Crash => self.open_again(node, Vec::new()),
            Act::Resume { raise, retry } => {
                let mut opening = Vec::new();
                if raise {
                    let caps = self.machines.ledgers.get(node.ledger).caps;
                    let caps = Caps {
                        usd: caps.usd.map(|usd| NanoUsd(usd.0 * 2)),
                        tokens: caps.tokens.map(|tokens| Tokens(tokens.0 * 2)),
                        calls: caps.calls.map(|calls| calls * 2),
                    };
                    opening.push(Event::Ledger(LedgerEvent::Raised { caps, by: "test".into() }));
                }
                let reviews = if retry { self.reviews(node) } else { Vec::new() };
                let retried = |(step, agent)| Event::Task(TaskEvent::Retried { step, agent, by: "test".into() });
                opening.extend(reviews.into_iter().map(retried));
                self.open_again(node, opening)
            }
        }
    }

    /// Is an append taken though its author's subject has moved?
    fn blind(&self, money: bool) -> bool {
        match self.machines.mutant {
            Some(Mutant::Unconditional) => true,
            Some(Mutant::OldSums) => money,
            Some(Mutant::HeldTwice | Mutant::ReleasedAfterSend | Mutant::RepliesFirst | Mutant::OldRequest) => false,
            Some(Mutant::NobodyTried | Mutant::Forgets | Mutant::ReturnsTwice) | None => false,
            Some(Mutant::RunsUnasked | Mutant::AsAsked | Mutant::RunsAgain) => false,
        }
    }

    /// The next process: what the last one left open is in doubt; then `run.resumed` and what came with it.
    fn open_again(&mut self, node: &mut Node, opening: Vec<Event>) -> Result<(), Broken> {
        node.early = None;
        for (held, _) in node.flights.clone() {
            let event = lost(&self.machines.held(held), LostCause::Died);
            self.add(node, event)?;
        }
        self.tools_left_open(node)?;
        if self.machines.mutant == Some(Mutant::Forgets) {
            self.forget(node);
        }
        self.add(node, Event::Run(RunEvent::Resumed { by: "test".into() }))?;
        opening.into_iter().try_for_each(|event| self.add(node, event))?;
        self.rows_of_a_resume(node)
    }

    fn forget(&mut self, node: &mut Node) {
        for id in node.agents.iter_mut().filter(|id| **id != NONE) {
            let mut agent = (*self.machines.agents.get(*id)).clone();
            if let Some(job) = agent.job.as_mut().filter(|job| matches!(job.phase, Phase::Judging { .. })) {
                job.phase = Phase::Ready;
                *id = self.machines.agents.id(agent);
            }
        }
    }

    fn decision(&mut self, node: &Node, act: Act) -> Result<(Author, Rc<[Id]>), Broken> {
        let decided = match act {
            Act::Plan(index) => self.machines.decide_plan(node.plan, index).map(|events| (Author::Plan, events)),
            Act::Agent(index) => match self.machines.agent_wants(node.agents[index]) {
                Ok(Wants::Record(events)) => Ok((Author::Agent(index), events)),
                Ok(Wants::Hold) => {
                    let decided = self.machines.decide_hold(node.ledger, node.agents[index]);
                    decided.map(|events| (Author::Ledger(index), events))
                }
                Ok(Wants::Nothing) => return broken("nothing is due"),
                Err(why) => Err(why),
            },
            _ => return broken("not a decision"),
        };
        match decided {
            Ok((_, events)) if events.is_empty() => broken("a decision without events"),
            Ok(decided) => Ok(decided),
            Err(why) => broken(why.to_string()),
        }
    }

    fn decide_early(&mut self, node: &mut Node, act: Act) -> Result<(), Broken> {
        let (author, events) = self.decision(node, act)?;
        let asked = match author {
            Author::Ledger(index) => node.agents[index],
            Author::Plan | Author::Agent(_) => NONE,
        };
        let decision = self.decisions.id(events.to_vec());
        node.early = Some(Early { author, decision, moved: false, asker_moved: false, asked });
        Ok(())
    }

    fn outcome(&mut self, id: Id, outcome: Outcome) -> Event {
        let held = self.machines.held(id);
        let (say, bill) = match outcome {
            Outcome::Failed(class) => return failed(&held, class),
            Outcome::Lost(cause) => return lost(&held, cause),
            Outcome::Answered(say, bill) => (say, bill),
        };
        let verdict = |verdict: &str| json!({ "verdict": verdict, "issues": [] }).to_string();
        let (content, tool_calls) = match say {
            Say::Text if held.summary => ("Text.".to_owned(), Vec::new()),
            Say::Text => (["Text."].repeat(self.talk.words).join(" "), Vec::new()),
            Say::Nothing => (String::new(), Vec::new()),
            Say::Approve => (verdict("approve"), Vec::new()),
            Say::Revise => (verdict("revise"), Vec::new()),
            Say::Stamp => {
                let one = |at: u32| ask(at as usize, "stamp", &json!({ "what": "it" }));
                (String::new(), (0..self.talk.stamps).map(one).collect())
            }
            Say::Delegate => {
                let task = ["a piece"].repeat(self.talk.words).join(" ");
                (String::new(), vec![ask(0, DELEGATE, &json!({ "to": "analyst", "task": task }))])
            }
        };
        let (input, output) = (held.input.0, held.settings.max_output);
        let usage = match bill {
            Bill::Less => Usage::reported(10, 5),
            Bill::Equal => Usage::reported(input, output),
            Bill::More => Usage::reported(3 * input, 3 * output),
            Bill::Absent => Usage::ABSENT,
        };
        let (asks, settled) = (tool_calls.len() as u32, settlement(&held, &usage));
        let message = Message::Assistant { content, tool_calls };
        let blob = message.encode();
        let message = Msg::of(&message, &blob);
        self.machines.shelf.0.insert(blob.id, blob.text);
        Event::Call(CallEvent::Answered(Box::new(Answered {
            call: held.call.clone(),
            agent: held.agent.clone(),
            model: held.model.clone(),
            finish: if asks > 0 { Finish::Tool } else { Finish::Stop },
            asks,
            usage,
            cost: settled.cost,
            estimated: settled.estimated,
            overrun: settled.overrun,
            message,
            native: None,
            served: None,
            raw_usage: None,
            request_id: None,
            elapsed_ms: 0,
        })))
    }

    // ---- the journal ----

    fn add(&mut self, node: &mut Node, event: Event) -> Result<(), Broken> {
        let id = self.machines.events.id(event);
        self.append_all(node, &[id])
    }

    /// A result is no answer that swallows what its agent was told, as long as it has a turn and money for it.
    fn heard(&mut self, node: &Node, event: &Event) -> Result<(), Broken> {
        let Event::Task(TaskEvent::Finished { step, agent: Some(who), result }) = event else { return Ok(()) };
        let index = self.machines.who.id(who.clone()) as usize;
        let Some(agent) = node.agents.get(index).filter(|agent| **agent != NONE) else { return Ok(()) };
        let agent = self.machines.agents.get(*agent);
        let turns = agent.job.as_ref().map_or(0, |job| job.turns);
        if result.text.is_some() && agent.waiting() > 0 && turns < 2 {
            return broken(format!("{step} ends and {who} has not heard what it was told"));
        }
        Ok(())
    }

    pub fn append_one(&mut self, node: &mut Node, event: Id) -> Result<(), Broken> {
        self.append(node, event)
    }

    fn append_all(&mut self, node: &mut Node, events: &[Id]) -> Result<(), Broken> {
        events.iter().try_for_each(|event| self.append(node, *event))
    }

    /// Folds an event into whom it concerns, by the core's own table.
    fn append(&mut self, node: &mut Node, id: Id) -> Result<(), Broken> {
        if let Some(log) = &mut self.log {
            log.push(id);
        }
        let event = self.machines.events.get(id);
        if !self.met.contains(event.kind()) {
            self.met.insert(event.kind().to_owned());
        }
        node.control = self.machines.apply_control(node.control, id);
        if let Event::Task(TaskEvent::Assigned { agent, .. }) = &*event {
            let index = self.machines.who.id(agent.clone()) as usize;
            if node.agents.len() <= index {
                node.agents.resize(index + 1, NONE);
            }
            if node.agents[index] == NONE {
                let control = (*self.machines.controls.get(node.control)).clone();
                let begun = boatswain::core::agent::Agent::begun(agent.clone(), control);
                node.agents[index] = self.machines.agents.id(begun);
            }
        }
        self.remember(node, &event, id)?;
        self.people_remember(node, &event, id)?;
        self.people_fold(node, id);
        self.heard(node, &event)?;
        let all = node.agents.len();
        for subject in self.machines.subjects(id).iter() {
            let (mut plan, mut ledger, mut agents) = (false, false, 0..0);
            match subject {
                Subject::All => (plan, ledger, agents) = (true, true, 0..all),
                Subject::Plan(_) => plan = true,
                Subject::Ledger => ledger = true,
                Subject::Agent(who) => {
                    let index = self.machines.who.id(who.clone()) as usize;
                    agents = index.min(all)..(index + 1).min(all);
                }
            }
            if let Some(early) = &mut node.early {
                early.moved |= match early.author {
                    Author::Plan => plan,
                    Author::Agent(index) => agents.contains(&index),
                    Author::Ledger(_) => ledger,
                };
                early.asker_moved |= matches!(early.author, Author::Ledger(index) if agents.contains(&index));
            }
            if plan {
                node.plan = self.machines.apply_plan(node.plan, id).map_err(Broken)?;
            }
            if ledger {
                node.ledger = self.machines.apply_ledger(node.ledger, id).map_err(Broken)?;
            }
            for agent in node.agents[agents].iter_mut().filter(|agent| **agent != NONE) {
                *agent = self.machines.apply_agent(*agent, id).map_err(Broken)?;
            }
        }
        Ok(())
    }

    /// The outside's own books, before the machines fold the event.
    fn remember(&mut self, node: &mut Node, event: &Event, id: Id) -> Result<(), Broken> {
        match event {
            Event::Call(event) => self.remember_call(node, event, id)?,
            Event::Tool(ToolEvent::Started { call, index, agent, tool, .. }) if tool == DELEGATE => {
                let bit = bit(self.delegations.id((call.clone(), *index, agent.clone())));
                if node.asked & bit != 0 {
                    return broken(format!("{call} delegates twice"));
                }
                node.asked |= bit;
            }
            Event::Task(
                TaskEvent::Returned { from, index, agent, .. }
                | TaskEvent::DelegationRefused { from, index, agent, .. },
            ) => {
                let bit = bit(self.delegations.id((from.clone(), *index, agent.clone())));
                if node.asked & bit == 0 {
                    return broken(format!("a delegation of {from} returns again, or to another"));
                }
                node.asked &= !bit;
            }
            // A person wants the step done anew, from its first prompt; or its prompt is another from here on.
            Event::Task(
                TaskEvent::Retried { step, .. }
                | TaskEvent::Shrunk { step, .. }
                | TaskEvent::Summarising { step, .. }
                | TaskEvent::Summarised { step, .. },
            ) => {
                for prompt in 0..self.prompts.len() as Id {
                    if self.prompts.get(prompt).0 == *step {
                        node.answered &= !bit(prompt);
                    }
                }
            }
            Event::Run(RunEvent::Parked { causes }) => {
                if causes.is_empty() {
                    return broken("parked without a cause");
                }
                let name = |cause: &ParkCause| json!(cause)["cause"].as_str().map(str::to_owned);
                self.met.extend(causes.iter().filter_map(name));
                node.parked = true;
                // Whoever judged has nobody to tell any more: the row stays.
                node.people.process_ended();
            }
            Event::Run(RunEvent::CancelAsked { .. }) => node.cut = true,
            Event::Task(TaskEvent::Finished { result, .. }) => {
                node.cut |= result.error.as_ref().is_some_and(|error| error.class == ErrorClass::Crashed);
            }
            Event::Run(RunEvent::Resumed { .. }) => node.parked = false,
            Event::Run(RunEvent::Finished { result, .. }) => {
                let own = node.booked.minus(node.by_hand);
                if let Some(result) = result.as_ref().filter(|result| !node.cut && result.spent != own) {
                    return broken(format!("the result cost {:?}, the journal's answers {own:?}", result.spent));
                }
                node.ended = true;
            }
            Event::Ledger(LedgerEvent::Raised { .. }) => node.overran = false,
            Event::Run(_) | Event::Task(_) | Event::Tool(_) | Event::Interrupt(_) | Event::Ledger(_) => {}
        }
        Ok(())
    }

    fn remember_call(&mut self, node: &mut Node, event: &CallEvent, id: Id) -> Result<(), Broken> {
        match event {
            CallEvent::Held(held) => {
                let call = bit(self.calls.id(held.call.clone()));
                let prompt = bit(self.prompt(held));
                if node.held & call != 0 {
                    return broken(format!("{} is held twice", held.call));
                }
                if node.answered & prompt != 0 {
                    return broken(format!("{} pays again for an answer that is in the journal", held.call));
                }
                if node.overran {
                    return broken(format!("{} is held after an overrun", held.call));
                }
                self.machines.pays(held);
                node.held |= call;
                node.flights.push((id, false));
                node.flights.sort_unstable();
            }
            CallEvent::Answered(answered) => {
                let (held, sent) = self.landed(node, &answered.call)?;
                let charged = if answered.estimated { held.amount } else { answered.cost };
                if sent {
                    node.bill = node.bill.minus(held.amount).plus(charged);
                }
                node.booked = node.booked.plus(answered.cost);
                node.answered |= bit(self.prompt(&held));
                node.overran |= answered.overrun;
            }
            CallEvent::Failed { call, failure, .. } => {
                let (held, sent) = self.landed(node, call)?;
                if sent && failure.class.money() == Money::Release {
                    node.bill = node.bill.minus(held.amount);
                }
            }
            CallEvent::Lost { call, .. } => drop(self.landed(node, call)?),
            CallEvent::Settled { cost, .. } => {
                node.booked = node.booked.plus(*cost);
                node.by_hand = node.by_hand.plus(*cost);
            }
            CallEvent::Queued { .. } | CallEvent::Exhausted { .. } => {}
        }
        Ok(())
    }

    fn prompt(&mut self, held: &Held) -> Id {
        // A summary's is its own.
        let messages = if held.summary { 0 } else { held.messages };
        self.prompts.id((held.call.step.clone(), held.attempt, messages))
    }

    fn landed(&mut self, node: &mut Node, call: &CallId) -> Result<(Rc<Held>, bool), Broken> {
        let at = node.flights.iter().position(|(held, _)| self.machines.held(*held).call == *call);
        let Some(at) = at else { return broken(format!("{call} ends and was not open")) };
        let (held, sent) = node.flights.remove(at);
        Ok((self.machines.held(held), sent))
    }

    // ---- what must hold ----

    fn check(&mut self, node: &mut Node) -> Result<(), Broken> {
        if let Some(why) = self.machines.unsound(node.ledger) {
            return broken(why);
        }
        let ledger = self.machines.ledgers.get(node.ledger);
        let total = ledger.total();
        if total.settled != node.booked {
            return broken(format!("settled is {:?}, the journal's costs are {:?}", total.settled, node.booked));
        }
        let (bill, used) = (node.bill, total.used());
        if bill.usd > used.usd || bill.tokens > used.tokens || bill.calls > used.calls {
            return broken(format!("the provider may charge {bill:?}, the ledger knows of {used:?}"));
        }
        if !node.ended {
            return Ok(());
        }
        if !node.cut && (total.held != Amount::default() || !node.flights.is_empty()) {
            return broken("the run has ended and money is still held");
        }
        if !node.cut && node.asked != 0 {
            return broken("the run has ended and a delegation never came back");
        }
        // A call of what was cut off stays held: a person settles it.
        let mut end = Node { early: None, flights: Vec::new(), ..node.clone() };
        if !end.people.rests() {
            return broken("the run has ended and a tool still runs");
        }
        end.people.over();
        if !self.machines.plan_next(end.plan).is_empty() || (0..end.agents.len()).any(|index| self.goes_on(&end, index))
        {
            return broken("the run has ended and something is still due");
        }
        // What is remembered of the way matters no more.
        *node = Node { left: Left::default(), ..end };
        Ok(())
    }

    fn goes_on(&mut self, node: &Node, index: usize) -> bool {
        node.agents[index] != NONE && !self.machines.agent_next(node.agents[index]).is_empty()
    }

    /// In a state where nothing is due: has a person something to act on?
    pub fn rests(&self, node: &Node) -> Result<(), Broken> {
        if node.ended || node.parked {
            return Ok(());
        }
        broken("nothing is due, nothing is in flight, and the run is not parked")
    }

    /// What a friendly outside does: every call is answered well, and a person raises and retries what
    /// is parked. `None`: the run has ended.
    pub fn friendly(&mut self, node: &Node) -> Result<Option<Act>, Broken> {
        if node.ended {
            return Ok(None);
        }
        let due = self.due(node)?;
        match due.first() {
            Some(act) => Ok(Some(*act)),
            None => self.rests(node).map(|()| {
                let resume = Act::Resume { raise: true, retry: true };
                Some(self.unsaid(node).unwrap_or(resume))
            }),
        }
    }

    /// A move and the events it brought, for people.
    pub fn line(&self, act: Act, log: &[Id]) -> String {
        let events = log.iter().map(|id| {
            let text = String::from_utf8_lossy(&self.machines.events.get(*id).encode()).into_owned();
            let text: String = text.chars().skip(r#"{"v":1,"type":"#.len()).take(130).collect();
            format!("\n        {text}")
        });
        let what = match act {
            Act::Send(held) | Act::GiveBack(held) => self.call_of(held),
            Act::Outcome(held, _) => self.call_of(held),
            _ => String::new(),
        };
        format!("    {act:?} {what}{}", events.collect::<String>())
    }

    fn call_of(&self, held: Id) -> String {
        match &*self.machines.events.get(held) {
            Event::Call(CallEvent::Held(held)) => held.call.to_string(),
            _ => String::new(),
        }
    }
}

pub fn bit(number: Id) -> u128 {
    assert!(number < 128, "a crew that is too large for its bits");
    1 << number
}

fn failed(held: &Held, class: FailureClass) -> Event {
    let failure = CallFailure::of(class, "no".into());
    Event::Call(CallEvent::Failed { call: held.call.clone(), agent: held.agent.clone(), failure, elapsed_ms: 0 })
}

fn lost(held: &Held, cause: LostCause) -> Event {
    Event::Call(CallEvent::Lost { call: held.call.clone(), agent: held.agent.clone(), cause, elapsed_ms: 0 })
}
