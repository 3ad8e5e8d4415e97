//! Times and fractions as crew files write them. Invariant: integers out, never through floats.

use crate::core::chat::Milli;

/// `"250ms"`, `"90s"`, `"10m"`, `"2h"`, `"1d"` in milliseconds.
pub fn time(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let found: String = text.chars().take(40).collect();
    let wrong = || format!("`{found}` is not a time: write a whole number and ms, s, m, h or d, such as \"90s\"");
    if unit == 0 {
        return Err(wrong());
    }
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)) {
        Some(0) => Err("a time is longer than nothing".to_owned()),
        Some(ms) if ms <= 366 * 86_400_000 => Ok(ms),
        Some(_) => Err("a time is at most a year".to_owned()),
        None => Err(wrong()),
    }
}

/// A decimal with at most three digits after the point, from 0 to `most` thousandths.
pub(super) fn milli(text: &str, most: u32) -> Result<Milli, String> {
    let plain = text.trim_start_matches('+').replace('_', "");
    let (whole, part) = plain.split_once('.').unwrap_or((&plain, ""));
    let found: String = text.chars().take(40).collect();
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.is_empty() && part.is_empty() {
        return Err(format!("`{found}` is not a plain decimal such as 0.2"));
    }
    let part = part.trim_end_matches('0');
    if part.len() > 3 {
        return Err(format!("`{found}` has more than three decimals"));
    }
    let value = format!("{whole}{part:0<3}").parse::<u32>().ok().filter(|n| *n <= most);
    let limit = format!("{}.{:03}", most / 1000, most % 1000);
    let limit = limit.trim_end_matches('0').trim_end_matches('.');
    value.map(Milli).ok_or_else(|| format!("`{found}` is not from 0 to {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_fractions_are_exact() {
        for (text, ms) in [("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("1d", 86_400_000), ("250ms", 250)] {
            assert_eq!(time(text), Ok(ms));
        }
        for text in ["", "10", "s", "1.5h", "-1s", "0s", "10 m", "99999999999999999999s", "400d", "10M"] {
            assert!(time(text).is_err(), "{text} was taken for a time");
        }
        for (text, value) in [("0.2", 200), ("1", 1000), ("0.125", 125), ("0.50000", 500), (".7", 700), ("0", 0)] {
            assert_eq!(milli(text, 1000), Ok(Milli(value)));
        }
        for text in ["0.1234", "1.001", "-1", "1e2", "nan", ""] {
            assert!(milli(text, 1000).is_err(), "{text} was taken for a fraction");
        }
    }
}
