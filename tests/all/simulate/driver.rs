//! One simulated run. No actors, no clock, no files: whatever is due is decided in a random order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boatswain::core::agent::AgentStep;
use boatswain::core::chat::{Blob, CallFailure, Effect, FailureClass, Finish, Message, ModelRequest};
use boatswain::core::crew::Crew;
use boatswain::core::estimate::set_aside;
use boatswain::core::event::{
    Answered, CallEvent, ErrorClass, Event, Held, LedgerEvent, LostCause, Msg, Outcome, ParkCause, PauseCause, RunEnd,
    RunEvent, Started, TaskEvent, ToolEvent,
};
use boatswain::core::failure::Parameter;
use boatswain::core::ids::{AgentRef, BlobId, CallId, RunId, Seq, Step};
use boatswain::core::ledger::{LedgerStep, NodeId, path};
use boatswain::core::machine::{Decided, MissingText, Refusal, Sizes, Texts, World};
use boatswain::core::money::{Amount, Caps, Count, NanoUsd, Tokens, Usage};
use boatswain::core::plan::PlanStep;
use boatswain::core::run::{Entry, Replay, Run};

use super::random::Random;
use super::script::{Mood, Reply, reply};

/// Texts in memory.
#[derive(Default)]
pub struct Shelf(pub BTreeMap<BlobId, Arc<str>>);

impl Texts for Shelf {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
        self.0.get(id).cloned().ok_or(MissingText(*id))
    }
}

/// So many bytes a token.
pub struct Bytes(pub u64);
impl Sizes for Bytes {
    fn tokens(&self, text: &str) -> u64 {
        (text.len() as u64).div_ceil(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Plan(Step, PlanKey),
    Agent(AgentRef),
    Send(CallId),
    Answer(CallId),
    Tool(CallId, u32),
    Wake(AgentRef),
    File(Step, Step),
}

/// Index in `next()` of the scope's plan: steps themselves have no order.
type PlanKey = usize;

pub type Says = Box<dyn FnMut(&ModelRequest, &mut Random) -> Option<Reply>>;

pub struct Sim {
    pub id: RunId,
    pub crew: Arc<Crew>,
    pub mood: Mood,
    pub random: Random,
    pub journal: Vec<(Entry, Vec<u8>)>,
    pub shelf: Shelf,
    pub sizes: Bytes,
    pub run: Run,
    pub says: Says,
    pub held: BTreeMap<CallId, Held>,
    /// Handles of this process: empty after a crash.
    flying: BTreeSet<CallId>,
    running: BTreeSet<(CallId, u32)>,
    /// Tools that a dead process had started.
    ghosts: BTreeSet<(CallId, u32)>,
    caps: BTreeMap<NodeId, Caps>,
    resumes: u32,
    quick: bool,
    pub steps: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Finished(RunEnd),
    Parked(Vec<ParkCause>),
}

impl Sim {
    pub fn new(crew: &Arc<Crew>, inputs: &[(&str, &str)], mood: Mood, seed: u64) -> Sim {
        let id = RunId::from_random(seed);
        let mut sim = Sim {
            id: id.clone(),
            crew: crew.clone(),
            mood,
            random: Random::new(seed),
            journal: Vec::new(),
            shelf: Shelf::default(),
            sizes: Bytes(4),
            run: Run::new(crew.clone()),
            says: Box::new(|_, _| None),
            held: BTreeMap::new(),
            flying: BTreeSet::new(),
            running: BTreeSet::new(),
            ghosts: BTreeSet::new(),
            caps: BTreeMap::new(),
            resumes: 6,
            quick: false,
            steps: 0,
        };
        let inputs = inputs.iter().map(|(name, value)| (name.parse().unwrap(), (*value).into()));
        sim.append(Event::Run(RunEvent::Started(Box::new(Started {
            run: id,
            crew: crew.name.clone(),
            file: crew.file.clone(),
            pins: BTreeMap::new(),
            inputs: inputs.collect(),
            overrides: Default::default(),
            prices: BTreeMap::new(),
            price_from: Default::default(),
            windows: BTreeMap::new(),
            tokenizers: BTreeMap::new(),
            refuses: BTreeMap::new(),
            caps: crew.budget.caps,
            aside: set_aside(crew, &BTreeMap::new()),
            cap_origin: crew.budget.origin.clone(),
            key: None,
            offline: false,
            version: "test".into(),
            tools: None,
            rules: boatswain::core::rules::RULES,
            tainted: None,
        }))));
        sim
    }

    pub fn says(mut self, says: impl FnMut(&ModelRequest, &mut Random) -> Option<Reply> + 'static) -> Sim {
        self.says = Box::new(says);
        self
    }
    /// Without the proofs that take longest, for runs by the thousand.
    pub fn quick(mut self) -> Sim {
        self.quick = true;
        self
    }
    pub fn resumes(mut self, resumes: u32) -> Sim {
        self.resumes = resumes;
        self
    }

    fn world(&self) -> World<'_> {
        World { run: &self.id, crew: &self.crew, texts: &self.shelf, sizes: &self.sizes }
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.journal.iter().map(|(entry, _)| &entry.event)
    }

    pub fn kinds(&self) -> Vec<&'static str> {
        self.events().map(Event::kind).collect()
    }

    pub fn blob(&mut self, blob: Blob) {
        self.shelf.0.insert(blob.id, blob.text);
    }

    pub fn append(&mut self, event: Event) {
        let bytes = event.encode();
        let entry = Entry { seq: self.run.last.next(), at_ms: u64::from(self.steps), event };
        if let Event::Call(CallEvent::Held(held)) = &entry.event {
            self.held.insert(held.call.clone(), (**held).clone());
            let nodes = path(&self.crew, self.run.ledger.caps, &held.call.step, &held.agent).unwrap();
            self.caps.extend(nodes);
        }
        self.check_heard(&entry.event);
        let kind = entry.event.kind();
        if let Err(illegal) = self.run.apply(&entry) {
            panic!("{kind}: {illegal}\n{}", self.tail());
        }
        self.journal.push((entry, bytes));
        self.check_budget();
    }

    pub fn record(&mut self, decided: Decided) {
        assert!(!decided.events.is_empty(), "a decision without events\n{}", self.tail());
        for blob in decided.blobs {
            self.blob(blob);
        }
        for event in decided.events {
            self.append(event);
        }
    }

    /// Everything that has not ended.
    fn states(&self) -> String {
        let plans = self.run.plans.values().flat_map(|plan| plan.state.units.iter());
        let open = plans.filter(|(_, unit)| !unit.is_over());
        let lines = open.map(|(step, unit)| format!("{step}: {:?} round {} {:?}", unit.phase, unit.round, unit.agent));
        let agents =
            self.run.agents.iter().filter_map(|(who, agent)| {
                agent.job.as_ref().map(|job| format!("{who}: {} {:?}", job.step, job.phase))
            });
        lines.chain(agents).collect::<Vec<_>>().join("\n")
    }

    pub fn tail(&self) -> String {
        let from = self.journal.len().saturating_sub(40);
        let lines = self.journal[from..].iter().map(|(entry, bytes)| {
            let text: String = String::from_utf8_lossy(bytes).chars().take(330).collect();
            format!("{:>4} {text}", entry.seq.0)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// `settled + held + ambiguous <= cap` at every node, but for overruns.
    fn check_budget(&self) {
        for (node, sums) in &self.run.ledger.nodes {
            let caps =
                if *node == NodeId::Crew(Step::root()) { Some(&self.run.ledger.caps) } else { self.caps.get(node) };
            let used = sums.used().minus(sums.overrun);
            if let Some(limit) = caps.and_then(|caps| caps.broken_by(used)) {
                panic!("{node} is over its {limit} cap: {sums:?} {caps:?}\n{}", self.tail());
            }
        }
    }

    /// Everything that is due, and the park of the root by itself: it comes last.
    fn due(&self) -> (Vec<Action>, bool) {
        let (mut actions, mut park) = (Vec::new(), false);
        for (scope, plan) in &self.run.plans {
            for (index, step) in plan.next().into_iter().enumerate() {
                match step {
                    PlanStep::WriteFile(step) => actions.push(Action::File(scope.clone(), step)),
                    PlanStep::Park if scope.is_root() => park = true,
                    _ => actions.push(Action::Plan(scope.clone(), index)),
                }
            }
        }
        for (who, agent) in &self.run.agents {
            for step in agent.next() {
                match step {
                    AgentStep::Decide => actions.push(Action::Agent(who.clone())),
                    AgentStep::Send(call) if self.flying.contains(&call) => {}
                    AgentStep::Send(call) => actions.push(Action::Send(call)),
                    AgentStep::RunTool { call, index } => actions.push(Action::Tool(call, index)),
                    AgentStep::Wake { .. } => actions.push(Action::Wake(who.clone())),
                }
            }
        }
        actions.extend(self.flying.iter().cloned().map(Action::Answer));
        // Held, and its task is over before it was sent.
        let unsent = self.run.open_calls.iter().filter(|(call, who)| {
            !self.flying.contains(call) && !self.run.agents[*who].next().contains(&AgentStep::Send((*call).clone()))
        });
        actions.extend(unsent.map(|(call, _)| Action::Answer(call.clone())));
        (actions, park)
    }

    /// One of the things that are due, if there is one.
    pub fn one(&mut self) -> bool {
        let (mut actions, _) = self.due();
        let mut progress = false;
        while !actions.is_empty() && !progress {
            let action = actions.swap_remove(self.random.below(actions.len() as u64) as usize);
            progress = self.perform(action);
        }
        progress
    }

    /// Runs to the end. Panics where the machines break a promise.
    pub fn go(&mut self) -> End {
        loop {
            self.steps += 1;
            assert!(self.steps < 30_000, "it goes on for ever\n{}", self.tail());
            self.meddle();
            if self.one() {
                continue;
            }
            self.check_queues();
            if self.due().1 {
                assert!(self.run.open_calls.is_empty(), "parked with open calls\n{}", self.tail());
                let decided = self.run.decide_plan(self.world(), &Step::root(), &PlanStep::Park);
                let decided = decided.unwrap_or_else(|why| {
                    panic!("{}: nothing goes on: {why}\n{}\n{}", self.id, self.states(), self.tail())
                });
                self.record(decided);
            }
            match self.events().last() {
                Some(Event::Run(RunEvent::Finished { status, .. })) => {
                    let status = *status;
                    self.check_end(status);
                    return End::Finished(status);
                }
                Some(Event::Run(RunEvent::Parked { causes })) => {
                    assert!(!causes.is_empty());
                    let causes = causes.clone();
                    if self.resumes == 0 {
                        self.check_journal();
                        return End::Parked(causes);
                    }
                    self.resume(&causes);
                }
                _ if self.events().any(|event| matches!(event, Event::Run(RunEvent::Finished { .. }))) => {
                    let status = RunEnd::Cancelled;
                    self.check_end(status);
                    return End::Finished(status);
                }
                last => panic!("stuck after {last:?}\n{}\n{}", self.states(), self.tail()),
            }
        }
    }

    /// With nothing in flight nobody may wait for money.
    fn check_queues(&self) {
        let waits = self.run.ledger.next();
        for step in &waits {
            let LedgerStep::Try(call) = step;
            assert!(
                !self.run.open_calls.is_empty() || !self.flying.is_empty(),
                "{call} waits for money and nothing is in flight\n{:#?}\n{}",
                self.run.ledger,
                self.tail()
            );
        }
    }

    fn perform(&mut self, action: Action) -> bool {
        match action {
            Action::Plan(scope, index) => {
                let step = self.run.plans[&scope].next().swap_remove(index);
                match self.run.decide_plan(self.world(), &scope, &step) {
                    Ok(decided) => self.record(decided),
                    Err(why) => panic!("{scope}: {step:?} is due and refused: {why}\n{}", self.tail()),
                }
                true
            }
            Action::Agent(who) => match self.run.decide_agent(self.world(), &who) {
                Ok(decided) => {
                    self.record(decided);
                    true
                }
                Err(Refusal::Waiting) => false,
                Err(why) => panic!("{who} is due and refuses: {why}\n{}", self.tail()),
            },
            Action::Send(call) => {
                let who = self.run.open_calls[&call].clone();
                let request = self.run.agents[&who].request(self.world(), &call).unwrap();
                let held = &self.held[&call];
                assert_eq!(request.messages.len() as u32, held.messages);
                assert_eq!(!request.tools.is_empty(), held.tools);
                self.flying.insert(call);
                true
            }
            Action::Answer(call) => {
                if self.flying.remove(&call) {
                    self.outcome(&call);
                } else {
                    self.drop_unsent(call);
                }
                true
            }
            Action::Tool(call, index) => self.tool(call, index),
            Action::Wake(agent) => {
                let step = self.run.agents[&agent].job.as_ref().unwrap().step.clone();
                self.append(Event::Task(TaskEvent::Woken { step, agent }));
                true
            }
            Action::File(scope, step) => {
                let written = self.run.plans[&scope].output_file(self.world(), &step);
                let (path, text) = written.unwrap_or_else(|why| panic!("{why}"));
                let event = if self.random.per_mille(self.mood.file_fail) {
                    TaskEvent::FileFailed { step, path, message: "disk full".into() }
                } else {
                    TaskEvent::FileWritten { step, path, text }
                };
                self.append(Event::Task(event));
                true
            }
        }
    }

    fn tool(&mut self, call: CallId, index: u32) -> bool {
        let key = (call.clone(), index);
        if self.running.insert(key.clone()) {
            return true;
        }
        self.running.remove(&key);
        let (who, (tool, _, _, ask)) =
            self.run.agents.iter().find_map(|(who, agent)| Some((who.clone(), agent.tool_run(&call, index)?))).unwrap();
        let ask = ask.to_owned();
        let effect = self.run.crew.of_scope(&who.scope).unwrap().tools[tool].spec.effect;
        let outcome = if self.ghosts.remove(&key) && effect == Effect::Once {
            Outcome::Unknown
        } else if self.random.per_mille(self.mood.tool_fail) {
            *self.random.pick(&[Outcome::Error, Outcome::Error, Outcome::Unknown])
        } else {
            Outcome::Ok
        };
        let content = super::script::words(self.mood.long, &mut self.random);
        let message = Message::Tool { tool_call_id: ask, content };
        let blob = message.encode();
        let content = Msg::of(&message, &blob);
        self.blob(blob);
        let event = ToolEvent::Returned { call, index, agent: who, outcome, content, full: None, elapsed_ms: 5 };
        self.append(Event::Tool(event));
        true
    }

    /// The answer to a call in flight.
    fn outcome(&mut self, call: &CallId) {
        let held = self.held[call].clone();
        let agent = held.agent.clone();
        let alive = self.run.agents[&agent].request(self.world(), call).ok();
        let request = alive.filter(|_| {
            let step = AgentStep::Send(call.clone());
            self.run.agents[&agent].next().contains(&step)
        });
        let Some(request) = request else {
            // Its task is over: the shell has dropped it, or it comes too late.
            let lost = CallEvent::Lost { call: call.clone(), agent, cause: LostCause::Aborted, elapsed_ms: 1 };
            return self.append(Event::Call(lost));
        };
        let said = (self.says)(&request, &mut self.random);
        let said = said.unwrap_or_else(|| reply(&request, &self.mood, &mut self.random));
        let message = |content: String, tool_calls| Message::Assistant { content, tool_calls };
        let (message, finish) = match said {
            Reply::Text(text) => (message(text, Vec::new()), Finish::Stop),
            Reply::Tools(asks) => (message(String::new(), asks), Finish::Tool),
            Reply::Finish(finish) => (message("half an ans".into(), Vec::new()), finish),
            Reply::Refuse(param) => {
                let (class, message) = (FailureClass::OurFault, "no".to_owned());
                let failure = CallFailure { status: Some(400), param, ..CallFailure::of(class, message) };
                let call = call.clone();
                return self.append(Event::Call(CallEvent::Failed { call, agent, failure, elapsed_ms: 9 }));
            }
            Reply::Fail(class) => {
                let retry_after_ms = (class == FailureClass::Transient).then_some(10);
                let named =
                    [None, Some(Parameter::Temperature), Some(Parameter::Schema), Some(Parameter::ParallelTools)];
                let param = if class == FailureClass::OurFault { *self.random.pick(&named) } else { None };
                let failure = CallFailure { retry_after_ms, param, ..CallFailure::of(class, "no".into()) };
                let call = call.clone();
                return self.append(Event::Call(CallEvent::Failed { call, agent, failure, elapsed_ms: 9 }));
            }
            Reply::Lost(cause) => {
                let call = call.clone();
                return self.append(Event::Call(CallEvent::Lost { call, agent, cause, elapsed_ms: 9 }));
            }
        };
        let asks = match &message {
            Message::Assistant { tool_calls, .. } => tool_calls.len() as u32,
            _ => 0,
        };
        let blob = message.encode();
        let message = Msg::of(&message, &blob);
        self.blob(blob);
        let (usage, cost, estimated, overrun) = self.bill(&held);
        let answered = Answered {
            call: call.clone(),
            agent,
            model: held.model,
            finish,
            asks,
            usage,
            cost,
            estimated,
            overrun,
            message,
            native: None,
            served: None,
            raw_usage: None,
            request_id: None,
            elapsed_ms: 20,
        };
        self.append(Event::Call(CallEvent::Answered(Box::new(answered))));
    }

    fn drop_unsent(&mut self, call: CallId) {
        let agent = self.held[&call].agent.clone();
        let failure = CallFailure::of(FailureClass::NotSent, "its task is over".into());
        self.append(Event::Call(CallEvent::Failed { call, agent, failure, elapsed_ms: 0 }));
    }

    /// Usage within the bound, or a lie.
    fn bill(&mut self, held: &Held) -> (Usage, Amount, bool, bool) {
        let unknown = |usage| (usage, held.amount, true, false);
        if self.random.per_mille(self.mood.unknown_usage) {
            let usage = *self.random.pick(&[
                Usage::ABSENT,
                Usage::reported(0, 7),
                Usage { output: Count::Unparsable, ..Usage::reported(5, 5) },
            ]);
            return unknown(usage);
        }
        let mut input = 1 + self.random.below(held.input.0);
        let mut output = self.random.below(held.settings.max_output + 1);
        if self.random.per_mille(self.mood.full_usage) {
            (input, output) = (held.input.0, held.settings.max_output);
        }
        if self.random.per_mille(self.mood.triple_usage) {
            (input, output) = (held.input.0 * 3, held.settings.max_output * 3);
        }
        let usage = Usage::reported(input, output);
        let usd = held.price.map_or(NanoUsd::ZERO, |price| price.cost(&usage).unwrap());
        let cost = Amount { tokens: Tokens(input + output), usd, calls: 1 };
        let overrun = cost.tokens > held.amount.tokens || cost.usd > held.amount.usd;
        (usage, cost, false, overrun)
    }

    /// The world does what it likes.
    fn meddle(&mut self) {
        if self.over() {
            return;
        }
        let mood = self.mood;
        if self.random.per_mille(mood.crash) {
            self.crash();
        }
        if self.random.per_mille(mood.pause) {
            let causes = [PauseCause::Interrupted, PauseCause::Terminated, PauseCause::Asked, PauseCause::Deadline];
            let cause = self.random.pick(&causes).clone();
            self.append(Event::Run(RunEvent::PauseAsked { cause, by: "test".into() }));
        }
        if self.random.per_mille(mood.cancel) {
            self.append(Event::Run(RunEvent::CancelAsked { by: "test".into() }));
        }
        if self.random.per_mille(mood.raise) {
            self.raise();
        }
        if self.random.per_mille(mood.panic) {
            let busy =
                self.run.agents.iter().filter_map(|(who, agent)| Some((who.clone(), agent.job.as_ref()?.step.clone())));
            let busy: Vec<_> = busy.collect();
            if !busy.is_empty() {
                let (agent, step) = self.random.pick(&busy).clone();
                self.append(Event::Task(TaskEvent::Crashed { step, agent, message: "panicked".into() }));
            }
        }
        if self.random.per_mille(mood.settle) {
            let doubtful =
                self.run.ledger.holds.iter().filter(|(_, hold)| hold.ambiguous).map(|(call, _)| call.clone());
            let doubtful: Vec<_> = doubtful.collect();
            if !doubtful.is_empty() {
                let call = self.random.pick(&doubtful).clone();
                let cost = self.held[&call].amount;
                self.append(Event::Call(CallEvent::Settled { call, cost, by: "test".into() }));
            }
        }
        if self.random.per_mille(mood.cool) {
            self.cool();
        }
        if self.random.per_mille(mood.retry) {
            self.retry_all(300);
        }
        if self.random.per_mille(mood.person) {
            self.decide_one();
        }
        if self.random.per_mille(mood.tell) {
            self.tell();
        }
    }

    /// Something to one of the agents, if anybody would hear it.
    fn tell(&mut self) {
        let names: BTreeSet<_> = self.run.plans.values().flat_map(|plan| plan.crew().agents.keys().cloned()).collect();
        let names: Vec<_> = names.into_iter().collect();
        let to = self.random.pick(&names).to_string();
        self.told(&to, &format!("Message {} of the owner", self.run.taken.len() + 1));
    }

    /// As the run's process records it; `false` if nobody would hear it.
    pub fn told(&mut self, to: &str, text: &str) -> bool {
        let Ok(hearers) = self.run.hearers(to) else { return false };
        let id = self.run.taken.len() as u64 + 1;
        let said = Message::User { content: text.to_owned() };
        let blob = said.encode();
        let message = Msg::of(&said, &blob);
        self.blob(blob);
        for hearer in hearers {
            let told = TaskEvent::Told { agent: hearer.agent, message, by: "test".into(), id };
            self.append(Event::Task(told));
        }
        true
    }

    /// An answer is the result only if its agent has heard everything, or had no turn or budget left.
    fn check_heard(&self, event: &Event) {
        use boatswain::core::agent::{Phase, Spec};
        let Event::Task(TaskEvent::Finished { agent: Some(who), result, .. }) = event else { return };
        let machine = &self.run.agents[who];
        let Some(job) = machine.job.as_ref().filter(|_| result.text.is_some() && machine.waiting() > 0) else { return };
        let role = Spec::of(&self.crew, &job.step, who).and_then(|spec| spec.role.clone());
        let spent = self.kinds().contains(&"call.exhausted");
        let turns = role.is_none_or(|role| job.turns + 1 >= role.max_turns);
        // What a person took for the result stands.
        let accepted = matches!(job.phase, Phase::Accepted { .. } | Phase::Asked { .. });
        assert!(turns || spent || accepted, "{who} was told and not heard\n{}", self.tail());
    }

    /// A breaker opens, or lets a call through again.
    fn cool(&mut self) {
        let crew = self.crew.clone();
        let mut events = Vec::new();
        for (who, agent) in &self.run.agents {
            let Some(job) = &agent.job else { continue };
            let (step, agent_ref) = (job.step.clone(), who.clone());
            for model in agent.left_alone(&crew) {
                let (step, agent) = (step.clone(), agent_ref.clone());
                events.push(TaskEvent::Cooled { step, agent, model: model.name.clone() });
            }
            if let Some(model) = agent.replaceable(&crew) {
                events.push(TaskEvent::Cooling { step, agent: agent_ref, model, until_ms: 9 });
            }
        }
        if !events.is_empty() {
            let event = self.random.pick(&events).clone();
            self.append(Event::Task(event));
        }
    }

    fn over(&self) -> bool {
        self.events().any(|event| matches!(event, Event::Run(RunEvent::Finished { .. })))
    }

    fn raise(&mut self) {
        let caps = self.run.ledger.caps;
        let caps = Caps {
            usd: caps.usd.map(|usd| NanoUsd(usd.0 * 2)),
            tokens: caps.tokens.map(|tokens| Tokens(tokens.0 * 2)),
            calls: caps.calls.map(|calls| calls * 2),
        };
        self.append(Event::Ledger(LedgerEvent::Raised { caps, by: "test".into() }));
    }

    /// A person lets steps that need review start over.
    fn retry_all(&mut self, chance: u32) {
        let mut steps = Vec::new();
        for plan in self.run.plans.values() {
            for (address, unit) in &plan.state.units {
                if let boatswain::core::plan::Phase::Review(class, _) = &unit.phase {
                    let agent = unit
                        .agent
                        .clone()
                        .filter(|_| !matches!(class, ErrorClass::Template | ErrorClass::TooManyItems));
                    steps.push((unit.step(address), agent));
                }
            }
        }
        for (step, agent) in steps {
            if self.random.per_mille(chance) {
                if let Some(event) = self.accept(&step, agent.as_ref()).filter(|_| self.mood.accept)
                    && self.random.per_mille(400)
                {
                    self.append(event);
                    continue;
                }
                self.append(Event::Task(TaskEvent::Retried { step, agent, by: "test".into() }));
            }
        }
    }

    /// A person takes some earlier answer of the step: it may not fit, and is judged again then.
    pub fn accept(&mut self, step: &Step, agent: Option<&AgentRef>) -> Option<Event> {
        let agent = agent?.clone();
        let job = self.run.agents[&agent].job.as_ref().filter(|job| job.step == *step)?;
        assert_eq!(job.phase, boatswain::core::agent::Phase::Review);
        let answers: Vec<(u32, Msg)> = self
            .events()
            .filter_map(|event| match event {
                Event::Call(CallEvent::Answered(answered)) if answered.call.step == *step && answered.asks == 0 => {
                    Some((self.held[&answered.call].attempt, answered.message))
                }
                _ => None,
            })
            .collect();
        let (attempt, answer) = *answers.get(self.random.below(answers.len().max(1) as u64) as usize)?;
        Some(Event::Task(TaskEvent::Accepted {
            step: step.clone(),
            agent,
            attempt,
            answer: Box::new(answer),
            by: "test".into(),
        }))
    }

    fn resume(&mut self, causes: &[ParkCause]) {
        self.resumes -= 1;
        self.flying.clear();
        let broke = causes.iter().any(|cause| matches!(cause, ParkCause::Budget { .. }));
        if broke && self.random.per_mille(700) {
            self.raise();
        }
        let first = self.random.below(2) == 0;
        if first {
            self.retry_all(700);
            self.decide_all(700);
        }
        self.append(Event::Run(RunEvent::Resumed { by: "test".into() }));
        if !first {
            self.retry_all(700);
            self.decide_all(700);
        }
    }

    /// kill -9, and what the next process makes of the journal.
    pub fn crash(&mut self) {
        let read = self.journal.iter().map(|(entry, bytes)| {
            let event = Event::decode(entry.event.kind(), bytes).unwrap_or_else(|bad| panic!("{bad}"));
            assert_eq!(event, entry.event);
            Entry { event, ..entry.clone() }
        });
        let read: Vec<Entry> = read.collect();
        let again = Run::fold(self.crew.clone(), &read).unwrap();
        assert_eq!(again.ledger, self.run.ledger);
        assert_eq!(again.agents, self.run.agents);
        for (scope, plan) in &again.plans {
            assert_eq!(plan.state, self.run.plans[scope].state);
        }
        assert_eq!(again.open_calls, self.run.open_calls);
        assert_eq!(again.interrupts, self.run.interrupts);
        self.run = again;
        self.flying.clear();
        self.ghosts.append(&mut self.running);
        for (call, agent) in self.run.open_calls.clone() {
            let lost = CallEvent::Lost { call, agent, cause: LostCause::Died, elapsed_ms: 0 };
            self.append(Event::Call(lost));
        }
        self.append(Event::Run(RunEvent::Resumed { by: "test".into() }));
    }

    fn check_end(&mut self, status: RunEnd) {
        for (call, agent) in self.run.open_calls.clone() {
            if self.flying.remove(&call) {
                let lost = CallEvent::Lost { call, agent, cause: LostCause::Aborted, elapsed_ms: 1 };
                self.append(Event::Call(lost));
            } else {
                self.drop_unsent(call);
            }
        }
        for (scope, plan) in &self.run.plans {
            assert_eq!(plan.next(), Vec::new(), "`{scope}` goes on after the end\n{}", self.tail());
        }
        for (who, agent) in &self.run.agents {
            assert_eq!(agent.next(), Vec::new(), "{who} goes on after the end\n{}", self.tail());
        }
        assert_eq!(self.run.ledger.next(), Vec::new());
        assert_eq!(self.run.ledger.total().held, Amount::default(), "money leaks\n{}", self.tail());
        let unrest = self.events().any(|event| matches!(event, Event::Task(TaskEvent::Crashed { .. })));
        if status != RunEnd::Cancelled && !unrest {
            self.check_spent();
        }
        self.check_delegations(status);
        self.check_journal();
    }

    /// What the result says it cost is what the ledger has booked, hand-settled calls aside.
    fn check_spent(&self) {
        let said = self.events().find_map(|event| match event {
            Event::Run(RunEvent::Finished { result: Some(result), .. }) => Some(result.spent),
            _ => None,
        });
        let booked = self.events().fold(Amount::default(), |sum, event| match event {
            Event::Call(CallEvent::Answered(answered)) => sum.plus(answered.cost),
            _ => sum,
        });
        if let Some(said) = said {
            assert_eq!(said, booked, "the result's cost\n{}", self.tail());
        }
    }

    fn check_delegations(&self, status: RunEnd) {
        let mut open = BTreeSet::new();
        for event in self.events() {
            match event {
                Event::Task(TaskEvent::Delegated { step, .. }) => drop(open.insert(step.clone())),
                Event::Task(TaskEvent::Returned { step, .. }) => drop(open.remove(step)),
                _ => {}
            }
        }
        assert!(open.is_empty() || status == RunEnd::Cancelled, "never came back: {open:?}\n{}", self.tail());
    }

    /// Replay, the sums from first principles, and nothing ends twice.
    pub fn check_journal(&self) {
        if self.quick {
            return self.check_sums();
        }
        let mut replay = Replay::new(self.id.clone(), self.crew.clone(), &self.shelf, &self.sizes);
        for (entry, bytes) in &self.journal {
            replay.step(entry, bytes).unwrap_or_else(|found| panic!("{found}\n{}", self.tail()));
        }
        let again = replay.finish().unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(again.last, Seq(self.journal.len() as u64));
        assert_eq!(again.ledger, self.run.ledger);
        self.check_sums();
        self.check_people();
        let mut ended = BTreeSet::new();
        for event in self.events() {
            let Event::Task(TaskEvent::Finished { step, .. } | TaskEvent::Skipped { step, .. }) = event else {
                continue;
            };
            assert!(ended.insert(step.clone()), "{step} ends twice\n{}", self.tail());
        }
    }

    fn check_sums(&self) {
        let mut calls: BTreeMap<CallId, (Amount, &str, Vec<NodeId>)> = BTreeMap::new();
        for event in self.events() {
            let Event::Call(event) = event else { continue };
            match event {
                CallEvent::Held(held) => {
                    calls.insert(held.call.clone(), (held.amount, "held", held.nodes.clone()));
                }
                CallEvent::Answered(answered) => {
                    let call = calls.get_mut(&answered.call).unwrap();
                    (call.0, call.1) = (answered.cost, "settled");
                }
                CallEvent::Settled { call, cost, .. } => {
                    let call = calls.get_mut(call).unwrap();
                    (call.0, call.1) = (*cost, "settled");
                }
                CallEvent::Failed { call, failure, .. } => {
                    let doubt = failure.class == FailureClass::Ambiguous;
                    calls.get_mut(call).unwrap().1 = if doubt { "ambiguous" } else { "released" };
                }
                CallEvent::Lost { call, .. } => calls.get_mut(call).unwrap().1 = "ambiguous",
                CallEvent::Queued { .. } | CallEvent::Exhausted { .. } => {}
            }
        }
        for (node, sums) in &self.run.ledger.nodes {
            let of = |state: &str| {
                let here = calls.values().filter(|(_, at, nodes)| *at == state && nodes.contains(node));
                here.fold(Amount::default(), |sum, (amount, ..)| sum.plus(*amount))
            };
            assert_eq!(
                (sums.settled, sums.held, sums.ambiguous),
                (of("settled"), of("held"), of("ambiguous")),
                "{node}"
            );
        }
    }
}
