//! Money and tokens. Invariant: integers only, rounded once and always up; a figure that is not
//! known is never zero.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Tokens, as providers count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tokens(pub u64);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&grouped(self.0))
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An amount in 10⁻⁹ US dollars. Serialised as a decimal string of dollars (`"0.0314"`), so that no
/// reader of the journal rounds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NanoUsd(pub u64);

pub const NANO: u64 = 1_000_000_000;

impl NanoUsd {
    pub const ZERO: NanoUsd = NanoUsd(0);
    pub fn plus(self, other: NanoUsd) -> NanoUsd {
        NanoUsd(self.0.saturating_add(other.0))
    }
    pub fn minus(self, other: NanoUsd) -> NanoUsd {
        NanoUsd(self.0.saturating_sub(other.0))
    }
    /// `$0.031`: at least `digits` decimals, more where the amount would read as zero; never rounds down.
    pub fn short(self, digits: usize) -> String {
        let mut digits = digits.clamp(1, 9);
        while digits < 9 && self.0 > 0 && self.0 < 10u64.pow(9 - digits as u32) {
            digits += 1;
        }
        let unit = 10u64.pow(9 - digits as u32);
        let units = self.0.div_ceil(unit);
        let scale = 10u64.pow(digits as u32);
        format!("${}.{:0width$}", units / scale, units % scale, width = digits)
    }
}
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / NANO, self.0 % NANO);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{part:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Why a text is not an amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not an amount in USD: {expected}")]
pub struct BadMoney {
    pub found: String,
    pub expected: &'static str,
}

impl FromStr for NanoUsd {
    type Err = BadMoney;
    /// Decimal dollars with at most nine decimals, no sign, no exponent. `$` in front is allowed.
    fn from_str(text: &str) -> Result<NanoUsd, BadMoney> {
        let wrong = |expected| BadMoney { found: text.chars().take(60).collect(), expected };
        let plain = text.trim().trim_start_matches('$').replace('_', "");
        let (whole, part) = plain.split_once('.').unwrap_or((&plain, ""));
        if whole.is_empty() && part.is_empty() || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(wrong(match plain.as_bytes() {
                [b'-', ..] => "at least 0",
                bytes if bytes.contains(&b',') => "write dollars with a point and no comma, such as 0.25 or 1200",
                _ => "write dollars as digits, such as 0.25",
            }));
        }
        if part.len() > 9 {
            return Err(wrong("at most nine decimals"));
        }
        let too_much = || wrong("at most 18,000,000,000 dollars");
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_much())? };
        let part: u64 = if part.is_empty() { 0 } else { format!("{part:0<9}").parse().map_err(|_| too_much())? };
        whole.checked_mul(NANO).and_then(|n| n.checked_add(part)).map(NanoUsd).ok_or_else(too_much)
    }
}
impl Serialize for NanoUsd {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for NanoUsd {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One count of a provider's usage, in the three states it can be in. Absent and unparsable are not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    Reported(u64),
    Absent,
    Unparsable,
}

impl Count {
    pub fn reported(self) -> Option<u64> {
        match self {
            Count::Reported(n) => Some(n),
            Count::Absent | Count::Unparsable => None,
        }
    }
}

/// What a provider says it used. Totals are inclusive: `input` includes both cache buckets, `output`
/// includes reasoning, whatever the provider's own convention is (its adapter converts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Usage {
    pub input: Count,
    pub cache_read: Count,
    pub cache_write: Count,
    pub output: Count,
    pub reasoning: Count,
}

impl Usage {
    pub const ABSENT: Usage = Usage {
        input: Count::Absent,
        cache_read: Count::Absent,
        cache_write: Count::Absent,
        output: Count::Absent,
        reasoning: Count::Absent,
    };
    pub fn reported(input: u64, output: u64) -> Usage {
        Usage { input: Count::Reported(input), output: Count::Reported(output), ..Usage::ABSENT }
    }
    /// The total tokens that were reported, if both totals were and they can be true: an answer to
    /// a prompt uses at least one token of input. Anything else settles at the hold, flagged.
    pub fn known(&self) -> Option<(u64, u64)> {
        let broken = |count: Count| count == Count::Unparsable;
        if broken(self.cache_read) || broken(self.cache_write) {
            return None;
        }
        let (input, output) = (self.input.reported()?, self.output.reported()?);
        let cached = self.cache_read.reported().unwrap_or(0).saturating_add(self.cache_write.reported().unwrap_or(0));
        (input > 0 && cached <= input).then_some((input, output))
    }
}

/// Nano-USD per *million* tokens: $0.0375 per million is 37,500,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    /// Of input that came from the provider's cache; the input price where none is stated.
    pub cache_read: u64,
    pub cache_write: u64,
    /// What a call with a longer prompt costs, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Above>,
}

/// The dearer tier of prompts of more than `tokens` tokens, cached ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Above {
    pub tokens: NonZeroU64,
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
}

impl Price {
    pub const FREE: Price = Price { input: 0, output: 0, cache_read: 0, cache_write: 0, above: None };

    /// The price of a prompt of `input` tokens, without tiers.
    fn tier(&self, input: u64) -> Price {
        match self.above.filter(|above| input > above.tokens.get()) {
            Some(Above { input, output, cache_read, cache_write, .. }) => {
                Price { input, output, cache_read, cache_write, above: None }
            }
            None => Price { above: None, ..*self },
        }
    }

    /// Price of `usage` in the tier of the input that was reported, rounded up once. `None` where the
    /// usage is not known ([`Usage::known`]).
    pub fn cost(&self, usage: &Usage) -> Option<NanoUsd> {
        let (input, output) = usage.known()?;
        let price = self.tier(input);
        let read = usage.cache_read.reported().unwrap_or(0);
        let write = usage.cache_write.reported().unwrap_or(0);
        let plain = input.saturating_sub(read).saturating_sub(write);
        let sum = [(plain, price.input), (read, price.cache_read), (write, price.cache_write), (output, price.output)];
        Some(priced(sum))
    }

    /// The most that `input` and `output` tokens can cost: every input token at the dearest input
    /// price, in the dearer of the tiers that a prompt of at most `input` tokens may be served by.
    pub fn worst(&self, input: Tokens, output: Tokens) -> NanoUsd {
        let of = |price: Price| {
            let dearest = price.input.max(price.cache_write).max(price.cache_read);
            priced([(input.0, dearest), (output.0, price.output)])
        };
        of(self.tier(0)).max(of(self.tier(input.0)))
    }
}

fn priced<const N: usize>(parts: [(u64, u64); N]) -> NanoUsd {
    let sum =
        parts.iter().fold(0u128, |sum, (tokens, price)| sum.saturating_add(u128::from(*tokens) * u128::from(*price)));
    NanoUsd(u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// What a call may use of every limit: what a hold reserves, and what a settlement books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amount {
    pub tokens: Tokens,
    pub usd: NanoUsd,
    pub calls: u64,
}

impl Amount {
    pub fn plus(self, other: Amount) -> Amount {
        Amount {
            tokens: Tokens(self.tokens.0.saturating_add(other.tokens.0)),
            usd: self.usd.plus(other.usd),
            calls: self.calls.saturating_add(other.calls),
        }
    }
    pub fn times(self, n: u64) -> Amount {
        Amount {
            tokens: Tokens(self.tokens.0.saturating_mul(n)),
            usd: NanoUsd(self.usd.0.saturating_mul(n)),
            calls: self.calls.saturating_mul(n),
        }
    }
    pub fn minus(self, other: Amount) -> Amount {
        Amount {
            tokens: Tokens(self.tokens.0.saturating_sub(other.tokens.0)),
            usd: self.usd.minus(other.usd),
            calls: self.calls.saturating_sub(other.calls),
        }
    }
}

/// Caps of one node of the budget tree; `None` is no cap of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Caps {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<NanoUsd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
}

impl Caps {
    /// The first limit that `amount` is over, if any.
    pub fn broken_by(&self, amount: Amount) -> Option<Limit> {
        let over = |cap: Option<u64>, used: u64| cap.is_some_and(|cap| used > cap);
        if over(self.usd.map(|n| n.0), amount.usd.0) {
            return Some(Limit::Usd);
        }
        if over(self.tokens.map(|n| n.0), amount.tokens.0) {
            return Some(Limit::Tokens);
        }
        over(self.calls, amount.calls).then_some(Limit::Calls)
    }
    pub fn is_none(&self) -> bool {
        self.tokens.is_none() && self.usd.is_none() && self.calls.is_none()
    }
    /// The smaller of each limit.
    pub fn min(self, other: Caps) -> Caps {
        fn low<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        }
        Caps {
            tokens: low(self.tokens, other.tokens),
            usd: low(self.usd, other.usd),
            calls: low(self.calls, other.calls),
        }
    }
}

/// Which of a node's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    Usd,
    Tokens,
    Calls,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Usd => "USD",
            Limit::Tokens => "tokens",
            Limit::Calls => "calls",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price {
        input: 400_000_000,
        output: 1_600_000_000,
        cache_read: 100_000_000,
        cache_write: 400_000_000,
        above: None,
    };

    #[test]
    fn dollars_round_trip_and_never_through_floats() {
        for (text, nano) in
            [("0.0375", 37_500_000), ("1", NANO), ("18", 18 * NANO), ("0.000000001", 1), (".5", NANO / 2)]
        {
            assert_eq!(text.parse::<NanoUsd>().unwrap(), NanoUsd(nano));
        }
        assert_eq!(NanoUsd(37_500_000).to_string(), "0.0375");
        for text in ["", ".", "-1", "1e3", "0.0000000001", "99999999999999999999", "a"] {
            assert!(text.parse::<NanoUsd>().is_err(), "{text} was taken for money");
        }
    }

    #[test]
    fn short_amounts_never_read_as_nothing() {
        assert_eq!(NanoUsd(31_000_000).short(3), "$0.031");
        assert_eq!(NanoUsd(31_000_001).short(3), "$0.032");
        assert_eq!(NanoUsd(1).short(3), "$0.000000001");
        assert_eq!(NanoUsd(0).short(3), "$0.000");
    }

    #[test]
    fn cached_tokens_are_priced_apart_and_the_sum_is_rounded_once() {
        let usage = Usage { cache_read: Count::Reported(600), ..Usage::reported(1000, 100) };
        // 400 x 0.4 + 600 x 0.1 + 100 x 1.6 per million = 0.00038 USD
        assert_eq!(PRICE.cost(&usage), Some(NanoUsd(380_000)));
        assert_eq!(Price { input: 1, ..Price::FREE }.cost(&Usage::reported(1, 0)), Some(NanoUsd(1)));
    }

    #[test]
    fn a_long_prompt_is_held_at_the_dearest_tier_and_settled_at_the_reported_one() {
        let tokens = NonZeroU64::new(200_000).unwrap();
        let above = Above { tokens, input: 6, output: 22, cache_read: 1, cache_write: 8 };
        let price = Price { input: 3, output: 15, cache_read: 1, cache_write: 4, above: Some(above) };
        let million = |n: u64| Tokens(n * 1_000_000);
        assert_eq!(price.worst(Tokens(200_000), million(1)), NanoUsd(16), "at most 200,000 tokens: the lower tier");
        assert_eq!(price.worst(million(1), million(1)), NanoUsd(30));
        assert_eq!(price.cost(&Usage::reported(1_000_000, 1_000_000)), Some(NanoUsd(28)));
        assert_eq!(price.cost(&Usage::reported(200_000, 1_000_000)), Some(NanoUsd(16)));
        let discount = Price { above: Some(Above { input: 1, output: 1, cache_write: 1, ..above }), ..price };
        assert_eq!(discount.worst(million(1), million(1)), NanoUsd(19), "a bound may be served by the lower tier");
    }

    #[test]
    fn unknown_usage_has_no_cost() {
        assert_eq!(PRICE.cost(&Usage::ABSENT), None);
        assert_eq!(PRICE.cost(&Usage { output: Count::Unparsable, ..Usage::reported(5, 5) }), None);
        assert_eq!(PRICE.cost(&Usage::reported(0, 5)), None, "a prompt of zero tokens is a lie");
        let more_cached_than_sent = Usage { cache_read: Count::Reported(9), ..Usage::reported(5, 5) };
        assert_eq!(PRICE.cost(&more_cached_than_sent), None);
    }
}
