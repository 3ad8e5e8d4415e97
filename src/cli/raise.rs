//! `--raise-budget`. Invariant: a cap is only ever loosened, by an amount a person wrote.

use crate::core::money::{BadMoney, Caps, NanoUsd, Tokens};

/// `0.30` dollars, `9000tok`, `50calls`: the caps with that one raised.
///
/// # Errors
/// In words, if the text is none of these or would tighten a cap.
pub fn raised(caps: Caps, text: &str) -> Result<Caps, String> {
    let wrong = |why: String| format!("--raise-budget `{text}`: {why}");
    let plain = text.replace(['_', ','], "");
    let number = |digits: &str| digits.trim().parse::<u64>().map_err(|_| wrong("expected a whole number".into()));
    let tighter = |old: String| wrong(format!("the cap is {old}; it can only be raised"));
    if let Some(digits) = plain.strip_suffix("tok").or_else(|| plain.strip_suffix("tokens")) {
        let (new, old) = (Tokens(number(digits)?), caps.tokens.unwrap_or(Tokens(u64::MAX)));
        return if new > old { Ok(Caps { tokens: Some(new), ..caps }) } else { Err(tighter(format!("{old} tokens"))) };
    }
    if let Some(digits) = plain.strip_suffix("calls") {
        let (new, old) = (number(digits)?, caps.calls.unwrap_or(u64::MAX));
        return if new > old { Ok(Caps { calls: Some(new), ..caps }) } else { Err(tighter(format!("{old} calls"))) };
    }
    // A comma that parted dollars from cents would make a hundredfold of them.
    let expected = |why| wrong(format!("{why}; expected dollars (0.30), 9000tok or 50calls"));
    let usd: NanoUsd = text.parse().map_err(|why: BadMoney| expected(why))?;
    let old = caps.usd.unwrap_or(NanoUsd(u64::MAX));
    if usd > old { Ok(Caps { usd: Some(usd), ..caps }) } else { Err(tighter(super::screen::cap(old))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_looser() {
        let caps = Caps { usd: Some(NanoUsd(250_000_000)), tokens: Some(Tokens(6000)), calls: None };
        assert_eq!(raised(caps, "0.30").unwrap().usd, Some(NanoUsd(300_000_000)));
        assert_eq!(raised(caps, "9_000tok").unwrap().tokens, Some(Tokens(9000)));
        for text in ["0.25", "0.1", "6000tok", "9calls", "much", "0,50", "-1"] {
            assert!(raised(caps, text).is_err(), "{text} was taken");
        }
    }
}
