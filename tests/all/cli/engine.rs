//! Makes real journals without actors: one thread asks the machines what is due, lets them decide, and
//! answers calls with the stand-in's words. What it writes is what a run writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use boatswain::adapters::models::offline;
use boatswain::adapters::settings::Flags;
use boatswain::adapters::sizes::O200k;
use boatswain::adapters::store::SqliteStore;
use boatswain::cli::open::Project;
use boatswain::cli::out::{Color, Out};
use boatswain::cli::{Context, Global, crew};
use boatswain::core::agent::AgentStep;
use boatswain::core::chain::{genesis, link};
use boatswain::core::chat::{Blob, Message};
use boatswain::core::crew::{Overrides, Pricing};
use boatswain::core::event::{Answered, CallEvent, Event, Held, LostCause, Msg, RunEvent, Started, TaskEvent};
use boatswain::core::ids::{BlobId, CallId, RunId, Seq, Step};
use boatswain::core::machine::{MissingText, Texts, World};
use boatswain::core::money::Amount;
use boatswain::core::plan::PlanStep;
use boatswain::core::run::{Entry, Run};
use boatswain::ports::store::{Batch, Epoch, NewRun, Row, RunState, Store};

#[derive(Default)]
struct Kept(Mutex<BTreeMap<BlobId, Arc<str>>>);

impl Texts for Kept {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
        self.0.lock().unwrap().get(id).cloned().ok_or(MissingText(*id))
    }
}

pub struct Mini {
    pub id: RunId,
    pub run: Run,
    texts: Kept,
    sizes: O200k,
    rows: Vec<Row>,
    blobs: Vec<Blob>,
    spent: Amount,
    held: BTreeMap<CallId, Held>,
    at_ms: u64,
    /// The call that gets no answer: the run ends there, as if the process had been killed.
    pub dies_in: Option<CallId>,
    /// What the model says in place of the stand-in.
    pub says: Option<fn(&CallId) -> String>,
}

pub fn project(root: &Path) -> Project {
    let context = Context {
        out: Arc::new(Out::new(Color::Never, true)),
        global: Global::default(),
        env: Arc::default(),
        cwd: root.to_owned(),
    };
    Project::at(&context, root.to_owned(), Flags::new()).unwrap()
}

impl Mini {
    /// A run of the crew file `file` of the project in `root`.
    pub fn new(root: &Path, file: &str, number: u64) -> Mini {
        let loaded = crew::load(&project(root), file, &Overrides::default());
        let crew = loaded.crew.clone().unwrap_or_else(|| panic!("{:?}", loaded.problems));
        let id = RunId::from_random(number);
        let run = Run::new(crew.clone());
        let mut mini = Mini {
            id: id.clone(),
            run,
            texts: Kept::default(),
            sizes: O200k::new(),
            rows: Vec::new(),
            blobs: Vec::new(),
            spent: Amount::default(),
            held: BTreeMap::new(),
            at_ms: 1_795_176_000_000,
            dies_in: None,
            says: None,
        };
        let pins = loaded.pins.iter().map(|pin| (pin.path.clone(), mini.keep(Blob::new(pin.text.clone())))).collect();
        let prices = loaded.prices.iter().filter_map(|(model, pricing)| match pricing {
            Pricing::Priced(price) => Some((model.clone(), *price)),
            Pricing::Local | Pricing::Unknown => None,
        });
        let started = Started {
            run: id,
            crew: crew.name.clone(),
            file: file.to_owned(),
            pins,
            inputs: crew.inputs.iter().filter_map(|i| Some((i.name.clone(), i.default.clone()?))).collect(),
            overrides: Overrides::default(),
            prices: prices.collect(),
            price_from: Default::default(),
            windows: loaded.windows.clone(),
            tokenizers: loaded.tokenizers.clone(),
            refuses: loaded.refuses.clone(),
            caps: crew.budget.caps,
            aside: Vec::new(),
            cap_origin: crew.budget.origin.clone(),
            key: None,
            offline: false,
            version: "0.1.0".into(),
            tools: None,
            rules: boatswain::core::rules::RULES,
            tainted: None,
        };
        mini.push(Event::Run(RunEvent::Started(Box::new(started))));
        mini
    }

    fn keep(&mut self, blob: Blob) -> BlobId {
        let id = blob.id;
        self.texts.0.lock().unwrap().insert(id, blob.text.clone());
        self.blobs.push(blob);
        id
    }

    pub fn push(&mut self, event: Event) {
        self.at_ms += 1_000;
        if let Event::Call(CallEvent::Held(held)) = &event {
            self.held.insert(held.call.clone(), Held::clone(held));
        }
        if let Event::Call(CallEvent::Answered(answered)) = &event {
            self.spent = self.spent.plus(answered.cost);
        }
        let (kind, payload) = (event.kind().to_owned(), event.encode());
        let previous = self.rows.last().map_or_else(|| genesis(&self.id), |row| row.hash);
        let (seq, at_ms) = (self.run.last.next(), self.at_ms);
        let hash = link(&previous, seq, at_ms, &kind, &payload);
        self.run.apply(&Entry { seq, at_ms, event }).unwrap();
        self.rows.push(Row { seq, at_ms, kind, payload: payload.into(), hash });
    }

    /// Until nothing is due, or the call it dies in.
    pub fn run(&mut self) {
        for _ in 0..300 {
            if !self.step() {
                return;
            }
        }
        let last: Vec<String> =
            self.rows.iter().rev().take(6).map(|row| String::from_utf8_lossy(&row.payload).into_owned()).collect();
        panic!("the machines do not come to rest: {last:#?}");
    }

    fn step(&mut self) -> bool {
        let crew = self.run.crew.clone();
        let id = self.id.clone();
        let plans: Vec<(Step, PlanStep)> = self
            .run
            .plans
            .iter()
            .flat_map(|(scope, plan)| plan.next().into_iter().map(|step| (scope.clone(), step)))
            .collect();
        for (scope, step) in plans {
            let world = World { run: &id, crew: &crew, texts: &self.texts, sizes: &self.sizes };
            if let PlanStep::WriteFile(address) = &step {
                let (path, text) = self.run.plans[&scope].output_file(world, address).unwrap();
                let step = address.clone();
                self.push(Event::Task(TaskEvent::FileWritten { step, path, text }));
                return true;
            }
            if let Ok(decided) = self.run.decide_plan(world, &scope, &step) {
                decided.blobs.into_iter().for_each(|blob| {
                    self.keep(blob);
                });
                decided.events.into_iter().for_each(|event| self.push(event));
                return true;
            }
        }
        let agents: Vec<_> = self
            .run
            .agents
            .iter()
            .flat_map(|(who, agent)| agent.next().into_iter().map(|s| (who.clone(), s)))
            .collect();
        for (who, step) in agents {
            let world = World { run: &id, crew: &crew, texts: &self.texts, sizes: &self.sizes };
            match step {
                AgentStep::Decide => {
                    if let Ok(decided) = self.run.decide_agent(world, &who) {
                        decided.blobs.into_iter().for_each(|blob| {
                            self.keep(blob);
                        });
                        decided.events.into_iter().for_each(|event| self.push(event));
                        return true;
                    }
                }
                AgentStep::Send(call) if self.dies_in.as_ref() == Some(&call) => return false,
                AgentStep::Send(call) => {
                    let request = self.run.agents[&who].request(world, &call).unwrap();
                    let answer = offline::answer(&request);
                    let content = self.says.map_or(answer.text.clone(), |says| says(&call));
                    let message = Message::Assistant { content, tool_calls: Vec::new() };
                    let blob = message.encode();
                    let held = self.held[&call].clone();
                    let (input, output) = answer.usage.known().unwrap();
                    let usd = held.price.and_then(|price| price.cost(&answer.usage)).unwrap_or_default();
                    let tokens = boatswain::core::money::Tokens(input + output);
                    let answered = Answered {
                        call,
                        agent: who,
                        model: held.model,
                        finish: answer.finish,
                        asks: 0,
                        usage: answer.usage,
                        cost: Amount { tokens, usd, calls: 1 },
                        estimated: false,
                        overrun: false,
                        message: Msg::of(&message, &blob),
                        native: None,
                        served: None,
                        raw_usage: None,
                        request_id: None,
                        elapsed_ms: 1_500,
                    };
                    self.keep(blob);
                    self.push(Event::Call(CallEvent::Answered(Box::new(answered))));
                    return true;
                }
                AgentStep::RunTool { .. } | AgentStep::Wake { .. } => panic!("the crews here have no tools: {step:?}"),
            }
        }
        false
    }

    /// As a resume records what a killed process left in flight.
    pub fn lose(&mut self, call: &str) {
        let call: CallId = call.parse().unwrap();
        let agent = self.held[&call].agent.clone();
        self.push(Event::Call(CallEvent::Lost { call, agent, cause: LostCause::Died, elapsed_ms: 0 }));
    }

    pub fn head(&self) -> String {
        BlobId(self.rows.last().unwrap().hash).to_string()
    }

    /// Writes the run into the project's store, owned by nobody.
    pub fn save(&self, root: &Path, state: RunState) {
        let store = SqliteStore::open(&root.join(".bosun")).unwrap();
        let new = NewRun {
            run: self.id.clone(),
            crew: self.run.crew.name.clone(),
            key: None,
            inputs: BlobId::of(b"{}"),
            offline: false,
            cap: "$0.25".into(),
            started_ms: self.rows[0].at_ms,
        };
        let (run, rows, blobs) = (self.id.clone(), self.rows.clone(), self.blobs.clone());
        let first = Batch { run, epoch: Epoch(1), after: Seq(0), rows, blobs, spent: self.spent, state: Some(state) };
        store.create(new, first).unwrap();
        store.release(&self.id);
    }
}
