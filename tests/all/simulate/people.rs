//! People who decide, or do not. Invariant: what needs a yes runs after one and at most once.

use std::collections::{BTreeMap, BTreeSet};

use boatswain::core::chat::{Blob, Message};
use boatswain::core::event::{Decision, Event, InterruptEvent, InterruptKind, Msg, RunEnd, ToolEvent};
use boatswain::core::ids::InterruptId;
use boatswain::core::interrupt::Interrupt;
use serde_json::json;

use super::crews::crew;
use super::driver::{End, Sim};
use super::script::{Reply, ask};
use super::{FAIR, Mood};

impl Sim {
    /// Something that is open, or was: a second decision must change nothing.
    pub fn decide_one(&mut self) {
        let all: Vec<Interrupt> = self.run.interrupts.iter().cloned().collect();
        let open: Vec<Interrupt> = all.iter().filter(|one| one.is_open()).cloned().collect();
        let again = self.random.per_mille(150);
        let among = if again { &all } else { &open };
        if !among.is_empty() {
            let one = self.random.pick(among).clone();
            self.decide(&one);
        }
    }

    pub fn decide_all(&mut self, chance: u32) {
        let open: Vec<Interrupt> = self.run.interrupts.open().into_iter().cloned().collect();
        for one in open {
            if self.random.per_mille(chance) {
                self.decide(&one);
            }
        }
    }

    fn decide(&mut self, one: &Interrupt) {
        let raised = &one.raised;
        let said = match raised.kind {
            _ if self.random.per_mille(100) => Decision::Expired,
            _ if self.random.per_mille(250) => Decision::Rejected { reason: "not like this".into() },
            InterruptKind::Question => {
                let message = Message::Tool { tool_call_id: raised.ask.clone(), content: "the left one".into() };
                let blob = message.encode();
                let content = Msg::of(&message, &blob);
                self.blob(blob);
                Decision::Answered { content }
            }
            InterruptKind::Approval | InterruptKind::After if self.random.per_mille(300) => {
                // Some fit what they stand for, some do not.
                let texts = [json!({"door": "back"}), json!({"ok": true}), json!({"wrong": 1})];
                let blob = Blob::new(self.random.pick(&texts).to_string());
                let arguments = Some(blob.id);
                self.blob(blob);
                Decision::Approved { arguments }
            }
            InterruptKind::Approval | InterruptKind::After | InterruptKind::Before => {
                Decision::Approved { arguments: None }
            }
        };
        self.append(one.decided(said, "test".into()));
    }

    /// From the journal alone.
    pub fn check_people(&self) {
        let mut asked = BTreeMap::new();
        let mut said: BTreeMap<InterruptId, Decision> = BTreeMap::new();
        let (mut ids, mut begun) = (BTreeSet::new(), BTreeSet::new());
        for event in self.events() {
            match event {
                Event::Interrupt(InterruptEvent::Raised(raised)) => {
                    assert!(ids.insert(raised.id.clone()), "{} is raised twice\n{}", raised.id, self.tail());
                    if let (Some(call), InterruptKind::Approval) = (&raised.call, raised.kind) {
                        asked.insert((call.clone(), raised.index), raised.clone());
                    }
                }
                Event::Interrupt(InterruptEvent::Decided { id, decision, .. }) => {
                    said.entry(id.clone()).or_insert_with(|| decision.clone());
                }
                Event::Tool(ToolEvent::Started { call, index, tool, arguments, .. }) => {
                    let key = (call.clone(), *index);
                    assert!(begun.insert(key.clone()), "{call} {index} starts twice\n{}", self.tail());
                    let gated = matches!(tool.as_str(), "shut" | "lock");
                    let raised = asked.get(&key);
                    assert!(!gated || raised.is_some(), "{tool} started and nobody was asked\n{}", self.tail());
                    let Some(raised) = raised else { continue };
                    let agreed = match said.get(&raised.id) {
                        Some(Decision::Approved { arguments }) => arguments.unwrap_or(raised.arguments),
                        other => panic!("{tool} started after {other:?}\n{}", self.tail()),
                    };
                    assert_eq!(*arguments, agreed, "what runs is what was agreed to\n{}", self.tail());
                }
                _ => {}
            }
        }
    }
}

const GATE: &str = "[tools.shut]\nkind = \"command\"\ncommand = [\"shut\", \"{door}\"]\nisolation = \"none\"\n\
    description = \"Shuts\"\napproval = \"always\"\nmax_calls = 2\n\
    [agents]\na = { model = \"m\", tools = [\"shut\", \"look\"] }\n[tasks.x]\nagent = \"a\"\ndescription = \"X\"\n";

/// The tools of a turn that need nobody run while one waits; the run stands still, and holds no slot.
#[test]
fn a_turn_waits_for_a_person_and_the_rest_of_it_does_not() {
    let crew = crew(&[("a.toml", GATE)]);
    let mut sim = Sim::new(&crew, &[], Mood { person: 0, tools: 0, ..FAIR }, 1).resumes(0).says(|request, _| {
        let asks = vec![ask(0, "shut", &json!({"door": "front"})), ask(1, "look", &json!({"at": "it"}))];
        (request.messages.len() == 2).then_some(Reply::Tools(asks))
    });
    let End::Parked(causes) = sim.go() else { panic!("it waits for a person") };
    assert_eq!(causes.len(), 1);
    let returned = |sim: &Sim| sim.kinds().iter().filter(|kind| **kind == "tool.returned").count();
    assert_eq!(returned(&sim), 1, "only what needed nobody has run");
    let one = sim.run.interrupts.open()[0].clone();
    sim.append(one.decided(Decision::Approved { arguments: None }, "me".into()));
    assert_eq!(sim.go(), End::Finished(RunEnd::Completed));
    assert_eq!(returned(&sim), 2);
}
