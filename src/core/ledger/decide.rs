//! Deciding a hold: it fits everywhere, waits its turn somewhere, or can never fit.

use std::sync::Arc;

use super::aside::Reached;
use super::{Countable, DayShare, Ledger, NodeId, Sums, path};
use crate::core::chat::Settings;
use crate::core::crew::{self, Crew, OnExhausted, Pricing};
use crate::core::event::{AlertAt, CallEvent, Event, Held, LedgerEvent};
use crate::core::ids::{AgentRef, CallId};
use crate::core::machine::{Decided, Refusal, World};
use crate::core::money::{Amount, Caps, Limit, Tokens};

/// What an agent asks the ledger for: one model call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRequest {
    pub call: CallId,
    pub agent: AgentRef,
    pub attempt: u32,
    pub model: String,
    /// Bound of the input.
    pub input: Tokens,
    pub price: Pricing,
    pub settings: Settings,
    pub messages: u32,
    pub tools: bool,
    /// A turn without tools: it may use what is set aside for its task.
    pub ending: bool,
    /// What of the input may be counted exactly; `None` where no tokenizer is known.
    pub countable: Option<Countable>,
    /// A summary: worth waiting for, not worth stopping for.
    pub summary: bool,
}

impl HoldRequest {
    /// The worst case of the call.
    pub fn need(&self) -> Amount {
        let output = Tokens(self.settings.max_output);
        let usd = match self.price {
            Pricing::Priced(price) => price.worst(self.input, output),
            Pricing::Local | Pricing::Unknown => Default::default(),
        };
        Amount { tokens: Tokens(self.input.0.saturating_add(output.0)), usd, calls: 1 }
    }
}

/// A node that a call counts in: its caps, and what must be left free there beside the call.
struct Place {
    node: NodeId,
    caps: Caps,
    leave: Amount,
}

impl Ledger {
    /// By the bound in bytes; where that does not fit at once, by the exact one, if a tokenizer is known.
    pub fn decide(&self, world: World<'_>, request: &HoldRequest) -> Result<Decided, Refusal> {
        let first = self.decide_bound(world, request);
        let fits = match &first {
            Ok(decided) => matches!(decided.events.first(), Some(Event::Call(CallEvent::Held(_)))),
            Err(refusal) => *refusal != Refusal::Waiting,
        };
        // What a day grants is asked for by the bound in bytes, before this is known.
        if fits || world.crew.budget.per_day.is_some() {
            return first;
        }
        match request.counted(world.texts, world.sizes)? {
            Some(counted) => self.decide_bound(world, &counted),
            None => first,
        }
    }

    fn decide_bound(&self, world: World<'_>, request: &HoldRequest) -> Result<Decided, Refusal> {
        if self.control.is_halted() {
            return Err(Refusal::Paused);
        }
        if self.holds.contains_key(&request.call) {
            return Err(Refusal::NotDue(format!("{} is already held", request.call)));
        }
        let need = request.need();
        let nodes = path(world.crew, self.caps, &request.call.step, &request.agent)
            .ok_or_else(|| Refusal::NotDue(format!("the crew has no step {}", request.call.step)))?;
        let day = self.day_share(world.crew, need)?;
        let (mut said, nodes) = self.with_asides(nodes, request);
        let mut decided = self.decide_on(world, request, need, (nodes, day))?;
        decided.events.append(&mut said);
        Ok(decided)
    }

    fn decide_on(
        &self,
        world: World<'_>,
        request: &HoldRequest,
        need: Amount,
        (mut nodes, day): (Vec<Place>, Option<DayShare>),
    ) -> Result<Decided, Refusal> {
        let over = self.never_fits(&nodes, need, request).or_else(|| self.day_is_over(day?, need));
        if let Some((node, limit, left)) = over {
            let stopped = self.is_stopped(&request.agent.scope);
            if let Some(event) =
                self.degrade(world, request, (&node, limit, left)).filter(|_| !stopped && !request.summary)
            {
                return Ok(Decided::one(event));
            }
            let policy = world.crew.budget.on_exhausted;
            let summary = request.summary;
            let waits = policy == OnExhausted::Pause && !ends_there(world.crew, &node, request);
            let (pause, finish) = (waits && !summary, policy == OnExhausted::Finish && !summary);
            let (call, agent) = (request.call.clone(), request.agent.clone());
            let event = CallEvent::Exhausted { call, agent, node, limit, need, left, pause, finish, summary };
            return Ok(Decided::one(Event::Call(event)));
        }
        // Within the grant: what the other runs have is beyond it. Nothing of it is set aside: what a day
        // allows comes back tomorrow.
        nodes.extend(day.map(|share| Place {
            node: NodeId::Day(share.day),
            caps: Caps { usd: Some(share.granted), ..Caps::default() },
            leave: Amount::default(),
        }));
        let waits_at = nodes.iter().find_map(|place| self.must_wait(place, need, &request.call));
        let waiting = self.waiting.get(&request.call).map(|(node, _)| node);
        match (waits_at, waiting) {
            (Some((node, _)), Some(at)) if node == at => Err(Refusal::Waiting),
            // It left the head of one queue only to stand at the end of another: it keeps its place
            // where it is, or two nodes could pass it to and fro for ever.
            (Some(_), Some(_)) => Err(Refusal::Waiting),
            (Some((node, limit)), None) => {
                let (call, agent, node) = (request.call.clone(), request.agent.clone(), node.clone());
                Ok(Decided::one(Event::Call(CallEvent::Queued { call, agent, node, limit, need })))
            }
            (None, _) => Ok(self.hold_now(world, request, need, nodes)),
        }
    }

    /// The next step that the crew gives up before the policy of its budget counts.
    fn degrade(
        &self,
        world: World<'_>,
        request: &HoldRequest,
        (node, limit, left): (&NodeId, Limit, Amount),
    ) -> Option<Event> {
        let budget = &world.crew.budget;
        let gives_up = budget.degrade.get(self.degraded as usize)?.to_string();
        let (call, agent, node) = (request.call.clone(), request.agent.clone(), node.clone());
        let (step, of, need) = (self.degraded + 1, budget.steps(), request.need());
        Some(Event::Ledger(LedgerEvent::Degraded { call, agent, node, limit, need, left, step, of, gives_up }))
    }

    /// The nodes with what a call must leave free at each, and what is to be said of it.
    fn with_asides(&self, nodes: Vec<(NodeId, Caps)>, request: &HoldRequest) -> (Vec<Event>, Vec<Place>) {
        let mut said = Vec::new();
        if !self.asides.is_kept() {
            let plain = |(node, caps)| Place { node, caps, leave: Amount::default() };
            return (said, nodes.into_iter().map(plain).collect());
        }
        let covers = self.asides.covers(&request.call.step).filter(|_| request.ending);
        let places = nodes.into_iter().map(|(node, caps)| {
            let used = self.nodes.get(&node).map(|sums| sums.used()).unwrap_or_default();
            let reached = self.asides.reached(&node, caps, used);
            let leave = self.asides.to_leave(&node, covers.as_ref(), reached.as_ref());
            if let Some(Reached { limit, aside, never }) = reached {
                let node = node.clone();
                said.push(Event::Ledger(LedgerEvent::Unguaranteed { node, limit, aside, used, caps, never }));
            }
            Place { node, caps, leave }
        });
        let places = places.collect();
        (said, places)
    }

    fn hold_now(&self, world: World<'_>, request: &HoldRequest, need: Amount, nodes: Vec<Place>) -> Decided {
        let mut events = vec![Event::Call(CallEvent::Held(Box::new(Held {
            call: request.call.clone(),
            agent: request.agent.clone(),
            attempt: request.attempt,
            model: request.model.clone(),
            input: request.input,
            amount: need,
            price: match request.price {
                Pricing::Priced(price) => Some(price),
                Pricing::Local | Pricing::Unknown => None,
            },
            settings: request.settings.clone(),
            messages: request.messages,
            tools: request.tools,
            waited: self.waiting.contains_key(&request.call),
            nodes: nodes.iter().map(|place| place.node.clone()).collect(),
            ending: request.ending && self.asides.is_kept(),
            summary: request.summary,
        })))];
        let budget = &world.crew.budget;
        // A grant is no cap to be warned of: it grows with what is asked.
        for Place { node, caps, .. } in nodes.iter().filter(|place| !matches!(place.node, NodeId::Day(_))) {
            let before = self.nodes.get(node);
            let used = before.map(|sums| sums.used()).unwrap_or_default().plus(need);
            let old = |at: &AlertAt| before.is_some_and(|sums| sums.alerted.contains(at));
            let shares = budget.warn_at.iter().map(|share| AlertAt::Share(*share));
            let amounts = budget.alert_usd.iter().map(|usd| AlertAt::Usd(*usd));
            let amounts = amounts.filter(|_| *node == NodeId::Crew(crate::core::ids::Step::root()));
            for alert in shares.chain(amounts).filter(|at| !old(at)) {
                if let Some(limit) = passed(alert, *caps, used, world.crew.rules.shares_of_nothing) {
                    let node = node.clone();
                    events.push(Event::Ledger(LedgerEvent::Alert { node, alert, limit, used, caps: *caps }));
                }
            }
        }
        Decided { events, blobs: Vec::new() }
    }

    /// The first node where the need is over the cap even if every open hold settles at zero.
    fn never_fits(&self, nodes: &[Place], need: Amount, request: &HoldRequest) -> Option<(NodeId, Limit, Amount)> {
        nodes.iter().find_map(|Place { node, caps, leave }| {
            let firm = self.nodes.get(node).map(|sums| sums.firm()).unwrap_or_default().plus(*leave);
            let left = || Amount {
                tokens: Tokens(caps.tokens.map_or(u64::MAX, |n| n.0).saturating_sub(firm.tokens.0)),
                usd: caps.usd.unwrap_or(crate::core::money::NanoUsd(u64::MAX)).minus(firm.usd),
                calls: caps.calls.unwrap_or(u64::MAX).saturating_sub(firm.calls),
            };
            if self.is_stopped(&request.agent.scope) {
                return Some((node.clone(), Limit::Usd, left()));
            }
            caps.broken_by(firm.plus(need)).map(|limit| (node.clone(), limit, left()))
        })
    }

    /// Would the need be over the day's cap even if every open hold, of any run, settled at zero?
    fn day_is_over(&self, share: DayShare, need: Amount) -> Option<(NodeId, Limit, Amount)> {
        let node = NodeId::Day(share.day);
        let firm = self.nodes.get(&node).map(|sums| sums.firm()).unwrap_or_default().usd;
        let left = share.most.minus(firm);
        let left = Amount { tokens: Tokens(u64::MAX), usd: left, calls: u64::MAX };
        (firm.plus(need.usd) > share.most).then_some((node, Limit::Usd, left))
    }

    /// Must the call wait at this node: for open holds to settle lower, or for who came before?
    fn must_wait<'a>(&self, place: &'a Place, need: Amount, call: &CallId) -> Option<(&'a NodeId, Limit)> {
        let Place { node, caps, leave } = place;
        let none = Sums::default();
        let sums = self.nodes.get(node).unwrap_or(&none);
        if let Some(limit) = caps.broken_by(sums.used().plus(*leave).plus(need)) {
            return Some((node, limit));
        }
        let first = sums.queue.first()?;
        // A waiter blocks only later waiters of the node that refused it; one that already waits
        // elsewhere came before this queue's end and is not blocked by it.
        let blocked = first != call && self.waiting.get(call).is_none_or(|(at, _)| at == node);
        blocked.then(|| (node, caps.broken_by(sums.used().plus(need)).unwrap_or(Limit::Calls)))
    }
}

/// Whoever delegated is told that the budget is used up, where no raise could give more: only the caps of the
/// run are raised, and a day's end by themselves.
fn ends_there(crew: &Arc<Crew>, node: &NodeId, request: &HoldRequest) -> bool {
    let own = match node {
        NodeId::Crew(scope) => !scope.is_root(),
        NodeId::Task(_) | NodeId::Agent(..) => true,
        NodeId::Day(_) => false,
    };
    let places = crew.places(&request.call.step).unwrap_or_default();
    let delegated = |place: &crew::Place<'_>| match place {
        crew::Place::Delegated { .. } | crew::Place::DelegatedCrew { .. } => true,
        crew::Place::Task { .. } => false,
    };
    own && crew.rules.delegated_ends && places.iter().any(delegated)
}

/// The limit whose threshold `used` has passed. `nothing`: a cap of nothing has shares, too.
fn passed(alert: AlertAt, caps: Caps, used: Amount, nothing: bool) -> Option<Limit> {
    match alert {
        AlertAt::Usd(usd) => (used.usd >= usd).then_some(Limit::Usd),
        AlertAt::Share(share) => {
            let over = |cap: u64, used: u64| {
                (cap > 0 || nothing) && u128::from(used) * 1000 >= u128::from(cap) * u128::from(share)
            };
            let usd = caps.usd.is_some_and(|cap| over(cap.0, used.usd.0));
            let tokens = caps.tokens.is_some_and(|cap| over(cap.0, used.tokens.0));
            let calls = caps.calls.is_some_and(|cap| over(cap, used.calls));
            usd.then_some(Limit::Usd).or(tokens.then_some(Limit::Tokens)).or(calls.then_some(Limit::Calls))
        }
    }
}
