//! What a call is booked at. Invariant: unknown usage is booked at the hold and flagged; more than
//! the hold is booked in full and flagged; a figure is never clipped.

use crate::core::event::Held;
use crate::core::money::{Amount, Tokens, Usage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub cost: Amount,
    /// The usage was absent, unparsable or cannot be true.
    pub estimated: bool,
    /// More was billed than held.
    pub overrun: bool,
}

/// The price is the hold's: the entry in force when the call was sent.
pub fn settlement(held: &Held, usage: &Usage) -> Settlement {
    let Some((input, output)) = usage.known() else {
        return Settlement { cost: held.amount, estimated: true, overrun: false };
    };
    let usd = held.price.and_then(|price| price.cost(usage)).unwrap_or_default();
    let cost = Amount { tokens: Tokens(input.saturating_add(output)), usd, calls: 1 };
    let overrun = cost.tokens > held.amount.tokens || cost.usd > held.amount.usd;
    Settlement { cost, estimated: false, overrun }
}
