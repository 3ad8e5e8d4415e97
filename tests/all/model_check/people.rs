//! People who decide at any moment, and the tools that wait for them. Invariant: what the outside knows (rows in the
//! inbox, tools that run, what they have done) is kept apart from the machines, as calls and bills are.
//!
//! A decision goes the way of the program: a row, checked when it is left; judged by whoever owns the run against what
//! is on disk then; its entry appended later, whatever has come in between; then the row is forgotten. Each of these
//! is a move, and the process dies between any two. A tool that has begun takes effect, and returns after that.

use boatswain::core::agent::{AgentStep, DELEGATE};
use boatswain::core::chat::{Effect, Message};
use boatswain::core::event::{Decision, Event, InterruptEvent, InterruptKind, Msg, Outcome as Ended, ToolEvent};
use boatswain::core::ids::{BlobId, CallId, InterruptId};
use boatswain::core::interrupt::{Interrupts, Ruling, Verdict};

use super::machines::Id;
use super::world::{Act, Broken, Mutant, Node, World, bit, broken};

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    Yes,
    /// With other arguments.
    Other,
    No,
}

/// A row of the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    about: Id,
    word: Word,
    /// Its entry is durable, or it changes nothing: it is to be forgotten.
    over: bool,
}

/// A tool call that runs in this process, by its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Running {
    started: Id,
    done: bool,
}

/// What people and tools are to a state.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct People {
    /// The fold of what was asked.
    asked: Id,
    rows: Vec<Row>,
    /// A row that has been judged, and the entry that is to come of it.
    judged: Option<(usize, Id)>,
    running: Vec<Running>,
    // What the outside remembers, in bits.
    /// Interrupts that somebody, or time, has decided.
    decided: u128,
    /// Tool calls that were agreed to, and with which arguments.
    agreed: Vec<(Id, BlobId)>,
    /// Tool calls that have taken effect.
    effects: u128,
}

/// Who is known by a number here.
#[derive(Default)]
pub struct Known {
    pub interrupts: super::machines::Table<InterruptId>,
    tools: super::machines::Table<(CallId, u32)>,
}

/// A fold of what was asked; the same where the same stands the same way, whenever it was asked.
pub struct Folded(pub Interrupts);

impl Folded {
    fn stands(&self) -> Vec<(&InterruptId, String)> {
        self.0.iter().map(|one| (&one.raised.id, format!("{:?}", one.stand))).collect()
    }
}
impl PartialEq for Folded {
    fn eq(&self, other: &Folded) -> bool {
        self.stands() == other.stands()
    }
}
impl Eq for Folded {}
impl std::hash::Hash for Folded {
    fn hash<H: std::hash::Hasher>(&self, to: &mut H) {
        self.stands().hash(to);
    }
}

impl People {
    pub fn rests(&self) -> bool {
        self.running.is_empty()
    }
    /// The process is gone: what it had judged and not written, and what it ran. Rows stay.
    pub fn process_ended(&mut self) {
        self.judged = None;
        self.running.clear();
    }
    /// Of a run that is over nothing matters any more.
    pub fn over(&mut self) {
        *self = People::default();
    }
}

impl World {
    /// What this process does about people and tools.
    pub fn people_due(&mut self, node: &Node, acts: &mut Vec<Act>) {
        let people = &node.people;
        if node.parked {
            return;
        }
        match people.judged {
            Some(_) => acts.push(Act::TakeIn),
            None => {
                let rows = people.rows.iter().enumerate();
                acts.extend(rows.map(|(at, row)| if row.over { Act::Forget(at) } else { Act::Judge(at) }));
            }
        }
        let running = people.running.iter().enumerate();
        acts.extend(running.map(|(at, one)| if one.done { Act::Return(at) } else { Act::Effect(at) }));
    }

    /// A tool that its agent takes to be running does.
    pub fn tool_runs(&mut self, node: &Node, step: &AgentStep) -> Result<(), Broken> {
        let AgentStep::RunTool { call, index } = step else { return Ok(()) };
        let own = |one: &Running| {
            matches!(&*self.machines.events.get(one.started),
            Event::Tool(ToolEvent::Started { call: of, index: at, .. }) if of == call && at == index)
        };
        if node.people.running.iter().any(own) { Ok(()) } else { broken(format!("{call} is to run again")) }
    }

    /// What people may say now, and what time may end.
    pub fn people_outside(&mut self, node: &Node, acts: &mut Vec<Act>) {
        let asked = self.folds.get(node.people.asked);
        for one in asked.0.iter() {
            let about = self.known.interrupts.id(one.raised.id.clone());
            let words = if one.is_open() { &[Word::Yes, Word::Other, Word::No][..] } else { &[] };
            if node.left.rulings > 0 && !node.people.rows.iter().any(|row| row.about == about) {
                acts.extend(words.iter().map(|word| Act::Say(about, *word)));
            }
            // Its timer may fire while a decision is on its way.
            if node.left.expiries > 0 && !node.parked {
                acts.push(Act::Expire(about));
            }
        }
    }

    /// What is open and nobody has said anything about: a friendly person says yes.
    pub fn unsaid(&mut self, node: &Node) -> Option<Act> {
        let asked = self.folds.get(node.people.asked);
        let open = asked.0.open().into_iter().map(|one| self.known.interrupts.id(one.raised.id.clone()));
        let mut open: Vec<Id> = open.collect();
        open.retain(|about| !node.people.rows.iter().any(|row| row.about == *about));
        open.first().map(|about| Act::Say(*about, Word::Yes))
    }

    pub fn people_take(&mut self, node: &mut Node, act: Act) -> Result<(), Broken> {
        match act {
            Act::Say(about, word) => node.people.rows.push(Row { about, word, over: false }),
            Act::Judge(at) => match self.ruled(node, node.people.rows[at]) {
                Some(event) => node.people.judged = Some((at, event)),
                None => node.people.rows[at].over = true,
            },
            Act::TakeIn => {
                let Some((at, event)) = node.people.judged.take() else { return broken("nothing was judged") };
                self.append_one(node, event)?;
                // Of a run that has ended meanwhile nothing is left.
                if let Some(row) = node.people.rows.get_mut(at) {
                    row.over = true;
                }
            }
            Act::Forget(at) => {
                node.people.rows.remove(at);
            }
            Act::Expire(about) => {
                let asked = self.folds.get(node.people.asked);
                let id = self.known.interrupts.get(about);
                let Some(one) = asked.0.get(&id) else { return broken("nobody was asked") };
                let event = self.machines.events.id(one.decided(Decision::Expired, "time".into()));
                self.append_one(node, event)?;
            }
            Act::Effect(at) => {
                let started = node.people.running[at].started;
                node.people.running[at].done = true;
                self.effect(node, started)?;
            }
            Act::Return(at) => {
                let started = node.people.running.remove(at).started;
                self.returns(node, started, Ended::Ok, "Stamped.")?;
            }
            _ => return broken("nothing that people or tools do"),
        }
        Ok(())
    }

    /// As the owner of the run rules on a row, by what is on disk.
    fn ruled(&mut self, node: &Node, row: Row) -> Option<Id> {
        let verdict = match row.word {
            Word::Yes => Verdict::Approve { arguments: None },
            Word::Other => Verdict::Approve { arguments: Some("{\"what\":\"other\"}".into()) },
            Word::No => Verdict::Reject { reason: "no".into() },
        };
        let id = (*self.known.interrupts.get(row.about)).clone();
        let decided = self.folds.get(node.people.asked).0.rule(&Ruling { id, verdict }, "test", 0).ok()?;
        self.machines.keep(decided).first().copied()
    }

    /// The next process: what its predecessor ran and may have done is unknown; then the inbox.
    pub fn tools_left_open(&mut self, node: &mut Node) -> Result<(), Broken> {
        let running = std::mem::take(&mut node.people.running);
        node.people.process_ended();
        if self.machines.mutant == Some(Mutant::RunsAgain) {
            node.people.running = running.into_iter().map(|one| Running { done: false, ..one }).collect();
            return Ok(());
        }
        running.into_iter().try_for_each(|one| self.returns(node, one.started, Ended::Unknown, "Nobody knows."))
    }

    /// What people said while no process ran the run.
    pub fn rows_of_a_resume(&mut self, node: &mut Node) -> Result<(), Broken> {
        for row in std::mem::take(&mut node.people.rows) {
            if let Some(event) = self.ruled(node, row) {
                self.append_one(node, event)?;
            }
        }
        Ok(())
    }

    fn returns(&mut self, node: &mut Node, started: Id, outcome: Ended, text: &str) -> Result<(), Broken> {
        let Event::Tool(ToolEvent::Started { call, index, agent, ask, .. }) = &*self.machines.events.get(started)
        else {
            return broken("no tool has started");
        };
        let message = Message::Tool { tool_call_id: ask.clone(), content: text.to_owned() };
        let blob = message.encode();
        let content = Msg::of(&message, &blob);
        self.machines.shelf.0.insert(blob.id, blob.text);
        let (call, index, agent) = (call.clone(), *index, agent.clone());
        let returned = ToolEvent::Returned { call, index, agent, outcome, content, full: None, elapsed_ms: 0 };
        let event = self.machines.events.id(Event::Tool(returned));
        self.append_one(node, event)
    }

    /// It happens: once, after a yes, with the arguments that were agreed to.
    fn effect(&mut self, node: &mut Node, started: Id) -> Result<(), Broken> {
        let (call, index, mut arguments) = match &*self.machines.events.get(started) {
            Event::Tool(ToolEvent::Started { call, index, arguments, .. }) => (call.clone(), *index, *arguments),
            Event::Interrupt(InterruptEvent::Raised(raised)) => match &raised.call {
                Some(call) => (call.clone(), raised.index, raised.arguments),
                None => return broken("no tool call"),
            },
            _ => return broken("no tool has started"),
        };
        if self.machines.mutant == Some(Mutant::AsAsked) {
            arguments = self.as_asked(node, &call, index).unwrap_or(arguments);
        }
        let tool = self.known.tools.id((call.clone(), index));
        if node.people.effects & bit(tool) != 0 {
            return broken(format!("{call} {index} takes effect twice"));
        }
        node.people.effects |= bit(tool);
        match node.people.agreed.iter().find(|(of, _)| *of == tool) {
            Some((_, agreed)) if *agreed == arguments => Ok(()),
            Some(_) => broken(format!("{call} {index} takes effect with other arguments than were agreed to")),
            None => broken(format!("{call} {index} takes effect and nobody said yes")),
        }
    }

    /// The outside's own books of an entry, and what this process does because of it.
    pub fn people_remember(&mut self, node: &mut Node, event: &Event, id: Id) -> Result<(), Broken> {
        match event {
            Event::Interrupt(InterruptEvent::Raised(raised)) => {
                if raised.kind != InterruptKind::Approval
                    || self.folds.get(node.people.asked).0.get(&raised.id).is_some()
                {
                    return broken(format!("{} is asked twice, or of another kind", raised.id));
                }
                if self.machines.mutant == Some(Mutant::RunsUnasked) {
                    node.people.running.push(Running { started: id, done: false });
                }
            }
            Event::Interrupt(InterruptEvent::Decided { id, decision, .. }) => {
                let about = bit(self.known.interrupts.id(id.clone()));
                let asked = self.folds.get(node.people.asked);
                let Some(one) = asked.0.get(id) else { return broken(format!("{id} is decided and was not asked")) };
                // The first word counts.
                let first = node.people.decided & about == 0;
                node.people.decided |= about;
                if let (Decision::Approved { arguments }, Some(call), true) = (decision, &one.raised.call, first) {
                    let tool = self.known.tools.id((call.clone(), one.raised.index));
                    node.people.agreed.push((tool, arguments.unwrap_or(one.raised.arguments)));
                    node.people.agreed.sort_unstable();
                }
            }
            Event::Tool(ToolEvent::Started { call, index, agent, tool, arguments, .. }) if tool != DELEGATE => {
                let number = self.known.tools.id((call.clone(), *index));
                let once = self.machines.crew.tools.get(tool).is_some_and(|def| def.spec.effect == Effect::Once);
                if !once || node.people.effects & bit(number) != 0 {
                    return broken(format!("{call} {index} of {agent} starts again"));
                }
                let asked = node.people.agreed.iter().find(|(of, _)| *of == number);
                if asked.is_none_or(|(_, agreed)| agreed != arguments) && self.machines.mutant.is_none() {
                    return broken(format!("{call} {index} starts and nobody agreed to that"));
                }
                node.people.running.push(Running { started: id, done: false });
                node.people.running.sort_unstable();
            }
            Event::Tool(_) | Event::Run(_) | Event::Task(_) | Event::Call(_) | Event::Ledger(_) => {}
        }
        Ok(())
    }

    /// What it asked for, before a person changed that.
    fn as_asked(&self, node: &Node, call: &CallId, index: u32) -> Option<BlobId> {
        let asked = self.folds.get(node.people.asked);
        let one = asked.0.iter().find(|one| one.raised.call.as_ref() == Some(call) && one.raised.index == index)?;
        Some(one.raised.arguments)
    }

    /// Whom the entry concerns, beside the machines.
    pub fn people_fold(&mut self, node: &mut Node, id: Id) {
        let event = self.machines.events.get(id);
        if !Interrupts::looks_at(event.kind()) {
            return;
        }
        let mut asked = self.folds.get(node.people.asked).0.clone();
        let entry =
            boatswain::core::run::Entry { seq: boatswain::core::ids::Seq(0), at_ms: 0, event: (*event).clone() };
        asked.apply(&entry);
        node.people.asked = self.folds.id(Folded(asked));
    }
}
