//! A crew with five levels of caps on one path.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::chat::Settings;
use crate::core::crew::{
    Agent, Budget, Crew, MemoryScope, Model, NodeBudget, OnExhausted, OnFailure, Pricing, SubCrew, Task, Who,
};
use crate::core::ids::{BlobId, Name};
use crate::core::machine::{MissingText, Sizes, Texts};
use crate::core::money::{Caps, NanoUsd, Price};
use crate::core::template::{TemplateName, Templates};

pub struct None_;
impl Texts for None_ {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
        Err(MissingText(*id))
    }
}
impl Sizes for None_ {
    fn tokens(&self, text: &str) -> u64 {
        text.len() as u64
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn model() -> Model {
    Model {
        name: "m".into(),
        provider: name("p"),
        id: "m".into(),
        price: Pricing::Priced(PRICE),
        context_window: None,
        tokenizer: None,
        fallback: Vec::new(),
        settings: Settings::default(),
        extra: Arc::default(),
        refuses: Default::default(),
    }
}

/// A thousandth of a dollar per million tokens: a token is a nano-dollar.
pub const PRICE: Price =
    Price { input: 1_000_000, output: 1_000_000, cache_read: 1_000_000, cache_write: 1_000_000, above: None };

pub fn agent(who: &str, budget: NodeBudget) -> (Name, Arc<Agent>) {
    let agent = Agent {
        name: name(who),
        role: who.into(),
        goal: String::new(),
        backstory: String::new(),
        system: TemplateName("builtin/role.md".into()),
        model: Arc::new(model()),
        tools: Vec::new(),
        delegates: Vec::new(),
        memory: MemoryScope::Task,
        max_turns: 9,
        max_tool_calls: 9,
        max_children: 9,
        max_depth: 9,
        context_tokens: 9999,
        max_prompt_tokens: None,
        max_parallel: None,
        budget,
        timeout_ms: 1,
    };
    (name(who), Arc::new(agent))
}

pub fn task(called: &str, who: Who, budget: NodeBudget) -> Task {
    Task {
        name: name(called),
        who,
        prompt: None,
        expected_output: None,
        schema: None,
        output_file: None,
        guardrails: Vec::new(),
        context: Vec::new(),
        after: Vec::new(),
        when: None,
        optional: false,
        on_error: None,
        rescues: None,
        approval: Default::default(),
        repeat: None,
        in_loop: None,
        retry: Default::default(),
        attempts: 3,
        timeout_ms: None,
        budget,
        model: None,
        max_output: None,
        tools: None,
    }
}

pub fn crew_of(
    caps: Caps,
    tasks: Vec<Task>,
    crews: Vec<(Name, SubCrew)>,
    agents: Vec<(Name, Arc<Agent>)>,
) -> Arc<Crew> {
    Arc::new(Crew {
        name: "c".into(),
        file: "c.toml".into(),
        description: String::new(),
        inputs: Vec::new(),
        budget: Budget {
            caps,
            origin: "test".into(),
            warn_at: vec![500, 900],
            alert_usd: vec![NanoUsd(300)],
            on_exhausted: OnExhausted::Pause,
            degrade: Vec::new(),
            per_day: None,
            allow_unpriced: false,
        },
        max_parallel: 9,
        deadline_ms: None,
        on_failure: OnFailure::Continue,
        output: 0,
        tasks,
        loops: Vec::new(),
        agents: agents.into_iter().collect(),
        crews: crews.into_iter().collect(),
        tools: BTreeMap::new(),
        notify: None,
        triggers: Vec::new(),
        templates: Templates::default(),
        summaries: true,
        rules: crate::core::rules::THREE,
    })
}

pub const NO: NodeBudget = NodeBudget { caps: usd_caps(None), share: None };

pub const fn usd_caps(usd: Option<u64>) -> Caps {
    Caps {
        tokens: None,
        usd: match usd {
            Some(n) => Some(NanoUsd(n)),
            None => None,
        },
        calls: None,
    }
}
pub fn usd(n: u64) -> NodeBudget {
    NodeBudget { caps: usd_caps(Some(n)), share: None }
}
pub fn share(n: u32) -> NodeBudget {
    NodeBudget { caps: Caps::default(), share: Some(n) }
}

/// crew 1000 > task sub (700) > crew sub (share 0.9) > task deep (500) > crew deep (share 0.9) > task leaf
/// (share 0.8), and the agents of each: five levels of caps on one path.
pub fn tree() -> Arc<Crew> {
    let who = |text: &str| Who::Agent(name(text));
    let deep = crew_of(usd_caps(None), vec![task("leaf", who("c"), share(800))], vec![], vec![agent("c", share(900))]);
    let sub = crew_of(
        usd_caps(Some(600)),
        vec![task("deep", Who::Crew(name("deep")), usd(500)), task("side", who("b"), NO)],
        vec![(name("deep"), SubCrew { crew: deep, inputs: BTreeMap::new(), budget: share(900) })],
        vec![agent("b", usd(400))],
    );
    let sub = SubCrew { crew: sub, inputs: BTreeMap::new(), budget: share(900) };
    let tasks =
        vec![task("sub", Who::Crew(name("sub")), usd(700)), task("one", who("a"), usd(600)), task("two", who("a"), NO)];
    crew_of(usd_caps(Some(1000)), tasks, vec![(name("sub"), sub)], vec![agent("a", usd(800))])
}
