//! Calls that no budget was left for. Invariant: a raise that is offered lets all of them go on, and none is
//! offered where it would change nothing.

use std::collections::BTreeMap;

use super::Tally;
use crate::core::ids::{AgentRef, CallId, Step};
use crate::core::ledger::{NodeId, path};
use crate::core::money::{Amount, Caps, Limit, NANO, NanoUsd, Tokens};

/// The last call that no budget was left for.
#[derive(Clone, Debug)]
pub struct NoBudget {
    pub node: NodeId,
    pub agent: AgentRef,
    pub limit: Limit,
    pub need: Amount,
    pub left: Amount,
    /// Not for want of budget: a provider billed more for this call than was held, and nobody calls until a raise.
    pub overrun: Option<CallId>,
}

const LIMITS: [Limit; 3] = [Limit::Usd, Limit::Tokens, Limit::Calls];

impl Tally {
    /// The call whose overrun stops the agents of `scope`.
    pub(super) fn overrun(&self, scope: &Step) -> Option<CallId> {
        let over = self.calls.values().filter(|call| {
            let ours = self.ledger.is_stopped(scope) && scope.is_within(&call.held.agent.scope);
            ours && call.answer.as_ref().is_some_and(|answer| answer.overrun)
        });
        over.max_by_key(|call| call.seq).map(|call| call.held.call.clone())
    }

    /// The call whose overrun a step was stopped by.
    pub fn stopped_by(&self, step: &Step) -> Option<&CallId> {
        self.no_budget.get(step)?.overrun.as_ref()
    }

    /// The caps of the run with which all of these steps could make the call that they were refused, limit by
    /// limit, as `--raise-budget` takes them: dollars rounded up to a cent, tokens to a thousand.
    pub fn raises<'a>(&self, steps: impl IntoIterator<Item = &'a Step>) -> BTreeMap<Limit, u64> {
        let all: Vec<(&Step, &NoBudget)> =
            steps.into_iter().filter_map(|step| Some((step, self.no_budget.get(step)?))).collect();
        let mut raises = BTreeMap::new();
        for limit in LIMITS {
            let at_root = all.iter().filter(|(_, why)| why.node == NodeId::Crew(Step::root())).map(|(_, why)| *why);
            let shares =
                all.iter().filter(|(_, why)| why.limit == limit).filter_map(|(step, why)| self.share(step, why));
            if let Some(enough) = self.enough(limit, at_root.collect()).into_iter().chain(shares).max() {
                raises.insert(limit, enough);
            }
        }
        raises
    }

    /// Is the call refused by a cap that no raise of the run's changes?
    pub fn is_own_cap(&self, step: &Step) -> bool {
        self.no_budget.get(step).is_some_and(|why| match &why.node {
            NodeId::Crew(scope) if scope.is_root() => false,
            NodeId::Crew(_) | NodeId::Task(_) | NodeId::Agent(..) => self.share(step, why).is_none(),
            NodeId::Day(_) => false,
        })
    }

    /// The run's own cap with which all of these calls would fit.
    fn enough(&self, limit: Limit, refused: Vec<&NoBudget>) -> Option<u64> {
        let cap = of_caps(limit, self.ledger.caps)?;
        let broken = refused.iter().any(|why| why.limit == limit);
        let need = refused.iter().map(|why| of(limit, why.need)).fold(0, u64::saturating_add);
        let left = refused.iter().map(|why| of(limit, why.left)).min()?;
        // What was in flight when they were refused may have been settled since.
        let left = left.min(cap.saturating_sub(of(limit, self.ledger.total().firm())));
        // Always more than there is: after an overrun nothing may be missing, and only a raise lets the run go on.
        let more = need.saturating_sub(left).max(u64::from(broken));
        (more > 0).then(|| up(limit, cap.saturating_add(more)))
    }

    /// The run's cap with which a part that has a share of it could pay; `None`, if that part's cap is not a share.
    fn share(&self, step: &Step, why: &NoBudget) -> Option<u64> {
        let (crew, limit) = (self.crew.as_ref()?, why.limit);
        let root = of_caps(limit, self.ledger.caps)?;
        let cap_under = |root: u64| {
            let caps = with(limit, self.ledger.caps, root);
            let nodes = path(crew, caps, step, &why.agent)?;
            nodes.into_iter().find(|(node, _)| *node == why.node).and_then(|(_, caps)| of_caps(limit, caps))
        };
        if why.node == NodeId::Crew(Step::root()) {
            return None;
        }
        let now = cap_under(root).filter(|now| *now > 0)?;
        let missing = of(limit, why.need).saturating_sub(of(limit, why.left)).max(1);
        let wanted = now.saturating_add(missing);
        let grown = (u128::from(root) * u128::from(wanted)).div_ceil(u128::from(now));
        let enough = up(limit, u64::try_from(grown).ok()?.saturating_add(1));
        (cap_under(enough)? >= wanted).then_some(enough)
    }
}

fn of(limit: Limit, amount: Amount) -> u64 {
    match limit {
        Limit::Usd => amount.usd.0,
        Limit::Tokens => amount.tokens.0,
        Limit::Calls => amount.calls,
    }
}

fn of_caps(limit: Limit, caps: Caps) -> Option<u64> {
    match limit {
        Limit::Usd => caps.usd.map(|usd| usd.0),
        Limit::Tokens => caps.tokens.map(|tokens| tokens.0),
        Limit::Calls => caps.calls,
    }
}

fn with(limit: Limit, caps: Caps, cap: u64) -> Caps {
    match limit {
        Limit::Usd => Caps { usd: Some(NanoUsd(cap)), ..caps },
        Limit::Tokens => Caps { tokens: Some(Tokens(cap)), ..caps },
        Limit::Calls => Caps { calls: Some(cap), ..caps },
    }
}

fn up(limit: Limit, cap: u64) -> u64 {
    let unit = match limit {
        Limit::Usd => NANO / 100,
        Limit::Tokens => 1000,
        Limit::Calls => 1,
    };
    cap.div_ceil(unit).saturating_mul(unit)
}
