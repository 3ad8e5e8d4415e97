//! Does a course fit the budget. Invariant: a run that cannot get a result is refused before it is
//! created, with the figures and what to change.

use super::failure::{Exit, Failure};
use super::screen::{cap, count, usd};
use super::wiring::Ready;
use crate::adapters::sizes::O200k;
use crate::core::estimate::{Spend, estimate_with};
use crate::core::money::{Amount, Caps, Limit, NANO, NanoUsd, grouped};

/// A limit that a course is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    pub limit: Limit,
    /// In words: `$0.2780`, `120,000 tokens`.
    pub need: String,
    pub cap: String,
    /// What would be enough, as a crew file writes it: `max_usd = 0.28`.
    pub enough: String,
}

/// Every limit of `caps` that `need` is over.
pub fn over(caps: Caps, need: Amount) -> Vec<Over> {
    let mut found = Vec::new();
    if let Some(most) = caps.usd.filter(|most| need.usd > *most) {
        let enough = NanoUsd(need.usd.0.div_ceil(NANO / 100).saturating_mul(NANO / 100));
        let enough = format!("max_usd = {}", cap(enough).trim_start_matches('$'));
        found.push(Over { limit: Limit::Usd, need: usd(need.usd), cap: cap(most), enough });
    }
    let mut counted = |limit: Limit, word: &str, key: &str, most: Option<u64>, need: u64| {
        if let Some(most) = most.filter(|most| need > *most) {
            let (need, cap) = (count(need, word), count(most, word));
            let enough = format!("{key} = {}", need.split(' ').next().unwrap_or_default().replace(',', "_"));
            found.push(Over { limit, need, cap, enough });
        }
    };
    counted(Limit::Tokens, "token", "max_tokens", caps.tokens.map(|tokens| tokens.0), need.tokens.0);
    counted(Limit::Calls, "call", "max_calls", caps.calls, need.calls);
    found
}

/// `$0.3100 needed, $0.25 allowed`, of every limit.
pub fn words(over: &[Over]) -> String {
    let all: Vec<String> = over.iter().map(|over| format!("{} needed, {} allowed", over.need, over.cap)).collect();
    all.join("; ")
}

/// `max_usd = 0.28, max_tokens = 120_000`.
pub fn enough(over: &[Over]) -> String {
    over.iter().map(|over| over.enough.as_str()).collect::<Vec<_>>().join(", ")
}

/// Refuses a new run whose smallest course does not fit, with `require` also the expected one.
pub fn may_start(ready: &Ready, require: bool) -> Result<(), Failure> {
    let made = estimate_with(&ready.crew, &ready.inputs, &O200k::new());
    let caps = ready.crew.budget.caps;
    refused(ready, caps, "smallest possible", made.smallest).map_or(Ok(()), Err)?;
    if let Some((part, over)) =
        made.parts.iter().map(|part| (part, over(part.caps, part.smallest.amount()))).find(|(_, over)| !over.is_empty())
    {
        let (node, words) = (&part.node, words(&over));
        let message = format!("the smallest possible course of {node} does not fit the budget of {node}: {words}");
        let change = format!("give it {}, or less to do: a cheaper `model`, a smaller `max_output`", enough(&over));
        let failure = Failure::new(Exit::Crew, message).hint(change);
        return Err(
            failure.hint(format!("bosun plan {} shows every task; nothing was sent, no run was made", ready.file))
        );
    }
    let expected = refused(ready, caps, "expected", made.total.expected).filter(|_| require);
    expected.map_or(Ok(()), Err)
}

fn refused(ready: &Ready, caps: Caps, course: &str, spend: Spend) -> Option<Failure> {
    let over = over(caps, spend.amount());
    if over.is_empty() {
        return None;
    }
    let message =
        format!("the {course} course of crew `{}` does not fit its budget: {}", ready.crew.name, words(&over));
    let calls = count(spend.calls, "call");
    let figures = format!(
        "it is {calls}, {} tokens of prompts and {} for answers; the cap in USD is from {}",
        grouped(spend.input),
        grouped(spend.output),
        ready.crew.budget.origin
    );
    let change = format!("give it {}, or less to do: a cheaper `model`, a smaller `max_output`", enough(&over));
    let failure = Failure::new(Exit::Crew, message).hint(figures).hint(change);
    Some(failure.hint(format!("bosun plan {} shows every task; nothing was sent, no run was made", ready.file)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::money::Tokens;

    #[test]
    fn each_limit_that_is_broken_is_named_with_what_would_be_enough() {
        let caps = Caps { usd: Some(NanoUsd(250_000_000)), tokens: Some(Tokens(1_000)), calls: Some(5) };
        let need = Amount { usd: NanoUsd(277_100_000), tokens: Tokens(12_345), calls: 5 };
        let found = over(caps, need);
        assert_eq!(words(&found), "$0.2771 needed, $0.25 allowed; 12,345 tokens needed, 1,000 tokens allowed");
        assert_eq!(enough(&found), "max_usd = 0.28, max_tokens = 12_345");
        assert_eq!(over(Caps::default(), need), []);
        assert_eq!(over(caps, Amount { usd: NanoUsd(250_000_000), tokens: Tokens(1_000), calls: 5 }), []);
    }
}
