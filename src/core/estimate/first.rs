//! What the first holds of a run need. Not an estimate: the run's own machines prepare the first calls, with
//! the inputs as they are given, and their requests are measured as the ledger will measure them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Spend;
use crate::core::agent::{Agent, Decision};
use crate::core::chat::Blob;
use crate::core::crew::Crew;
use crate::core::event::{Event, TaskEvent};
use crate::core::ids::{BlobId, Name, RunId};
use crate::core::ledger::HoldRequest;
use crate::core::machine::{Control, Decided, MissingText, Sizes, Texts, World};
use crate::core::plan::{Plan, PlanStep};

/// Decisions looked at, at most: lists and conditions come before the first calls.
const MOST: usize = 64;

/// Texts that the decisions made.
#[derive(Default)]
struct Made(BTreeMap<BlobId, Arc<str>>);

impl Made {
    fn keep(&mut self, blobs: Vec<Blob>) {
        self.0.extend(blobs.into_iter().map(|blob| (blob.id, blob.text)));
    }
}
impl Texts for Made {
    fn text(&self, id: &BlobId) -> Result<Arc<str>, MissingText> {
        self.0.get(id).cloned().ok_or(MissingText(*id))
    }
}

/// Whether a prompt must be shrunk is not asked here: four bytes a token.
struct Quarter;
impl Sizes for Quarter {
    fn tokens(&self, text: &str) -> u64 {
        (text.len() as u64).div_ceil(4)
    }
}

/// The largest hold among the first calls of a crew that is given these inputs; zero where none can be
/// prepared without what is not known yet. `count`: by the exact bound, where there is one. `steps`: of
/// `degrade`, that the crew's own agents have given up.
pub(super) fn largest(
    crew: &Arc<Crew>,
    inputs: &BTreeMap<Name, serde_json::Value>,
    count: Option<&dyn Sizes>,
    steps: u32,
) -> Spend {
    let mut spend = Spend::default();
    holds(crew, inputs, (count, steps), &mut spend);
    spend
}

fn holds(
    crew: &Arc<Crew>,
    inputs: &BTreeMap<Name, serde_json::Value>,
    (count, steps): (Option<&dyn Sizes>, u32),
    most: &mut Spend,
) {
    let missing = |input: &crate::core::crew::Input| input.default.is_none() && !inputs.contains_key(&input.name);
    if crew.inputs.iter().any(missing) {
        return;
    }
    let run = RunId::from_random(0);
    let (mut plan, mut texts) = (Plan::at_start(crew, inputs.clone()), Made::default());
    for _ in 0..MOST {
        let start = plan.next().into_iter().find(|step| matches!(step, PlanStep::Start(_)));
        let world = World { run: &run, crew, texts: &texts, sizes: &Quarter };
        let Some(Ok(decided)) = start.map(|step| plan.decide(world, &step)) else { return };
        let Decided { events, blobs } = decided;
        texts.keep(blobs);
        for event in &events {
            if let Event::Task(TaskEvent::CrewStarted { step, inputs, .. }) = event
                && let Some(sub) = crew.of_scope(step)
            {
                holds(&sub, inputs, (count, 0), most);
            }
            if let Some(request) = request(crew, &texts, event, steps) {
                let counted = count.and_then(|sizes| request.counted(&texts, sizes).ok().flatten());
                *most = larger(*most, counted.as_ref().unwrap_or(&request));
            }
            if plan.apply(event).is_err() {
                return;
            }
        }
    }
}

/// What the agent of an assignment asks the ledger for.
fn request(crew: &Arc<Crew>, texts: &Made, event: &Event, degraded: u32) -> Option<HoldRequest> {
    let Event::Task(TaskEvent::Assigned { step, agent, work, .. }) = event else { return None };
    let task = crew.task(&step.last()?.name)?;
    // A run can do without the others.
    if task.optional || task.when.is_some() || task.rescues.is_some() {
        return None;
    }
    let mut machine = Agent::begun(agent.clone(), Control::default());
    let (step, agent, work) = (step.clone(), agent.clone(), work.clone());
    machine.apply(&Event::Task(TaskEvent::Assigned { step, agent, work, degraded, tainted: None })).ok()?;
    let run = RunId::from_random(0);
    match machine.decide(World { run: &run, crew, texts, sizes: &Quarter }).ok()? {
        Decision::Ask(request) => Some(request),
        Decision::Record(_) => None,
    }
}

fn larger(most: Spend, request: &HoldRequest) -> Spend {
    let need = request.need();
    let own = Spend {
        calls: need.calls,
        input: request.input.0,
        output: need.tokens.0.saturating_sub(request.input.0),
        usd: need.usd,
    };
    at_least(most, own)
}

/// The larger of each limit; the tokens of one of the two, never a mixture that nobody needs.
pub(super) fn at_least(a: Spend, b: Spend) -> Spend {
    let tokens = |spend: Spend| spend.input.saturating_add(spend.output);
    let (input, output) = if tokens(b) > tokens(a) { (b.input, b.output) } else { (a.input, a.output) };
    Spend { calls: a.calls.max(b.calls), input, output, usd: a.usd.max(b.usd) }
}
