//! Numbers of cells. Invariant: decimals of up to twelve places are added exactly; only what has more, or
//! an exponent, is a float.

use std::cmp::Ordering;

use serde_json::{Number, Value};

const PLACES: usize = 12;
const ONE: i128 = 1_000_000_000_000;
/// Digits before the point that are held exactly.
const DIGITS: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Num {
    /// In units of 10^-12.
    Exact(i128),
    Float(f64),
}

impl Num {
    /// Of a number, or of a text that reads as one.
    pub fn of(value: &Value) -> Option<Num> {
        match value {
            Value::Number(number) => Num::parse(&number.to_string()),
            Value::String(text) => Num::parse(text.trim()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
    fn parse(text: &str) -> Option<Num> {
        let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
        // `inf`, `nan` and the like are words.
        if !bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') || text.len() > 400 {
            return None;
        }
        let (whole, part) = bare.split_once('.').unwrap_or((bare, ""));
        let plain =
            whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) && !(whole.is_empty() && part.is_empty());
        if plain && whole.len() <= DIGITS && part.len() <= PLACES {
            let units: i128 = format!("{whole}{part:0<PLACES$}").parse().ok()?;
            return Some(Num::Exact(if text.starts_with('-') { -units } else { units }));
        }
        text.parse().ok().filter(|float: &f64| float.is_finite()).map(Num::Float)
    }
    fn float(self) -> f64 {
        match self {
            Num::Exact(units) => units as f64 / ONE as f64,
            Num::Float(float) => float,
        }
    }
    pub fn plus(self, other: Num) -> Num {
        match (self, other) {
            (Num::Exact(a), Num::Exact(b)) => {
                a.checked_add(b).map_or(Num::Float(self.float() + other.float()), Num::Exact)
            }
            (Num::Exact(_) | Num::Float(_), Num::Exact(_) | Num::Float(_)) => Num::Float(self.float() + other.float()),
        }
    }
    /// Rounded to twelve places.
    pub fn over(self, count: u64) -> Num {
        match self {
            Num::Exact(units) => {
                let (count, half) = (i128::from(count.max(1)), i128::from(count.max(1)) / 2);
                Num::Exact((units + if units < 0 { -half } else { half }) / count)
            }
            Num::Float(float) => Num::Float(float / count.max(1) as f64),
        }
    }
    pub fn compare(self, other: Num) -> Ordering {
        match (self, other) {
            (Num::Exact(a), Num::Exact(b)) => a.cmp(&b),
            (Num::Exact(_) | Num::Float(_), Num::Exact(_) | Num::Float(_)) => self.float().total_cmp(&other.float()),
        }
    }
    /// A JSON number, or its digits as text where JSON's readers would round them.
    pub fn json(self) -> Value {
        let units = match self {
            Num::Float(float) => return Number::from_f64(float).map_or(Value::Null, Value::Number),
            Num::Exact(units) => units,
        };
        if units % ONE == 0 {
            let whole = i64::try_from(units / ONE);
            return whole.map_or_else(|_| (units / ONE).to_string().into(), Value::from);
        }
        let sign = if units < 0 { "-" } else { "" };
        let (whole, part) = (units.unsigned_abs() / ONE.unsigned_abs(), units.unsigned_abs() % ONE.unsigned_abs());
        let text = format!("{sign}{whole}.{}", format!("{part:012}").trim_end_matches('0'));
        let number = text.parse().ok().and_then(Number::from_f64).filter(|number| number.to_string() == text);
        number.map_or(Value::String(text), Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decimals_are_exact_and_words_are_no_numbers() {
        let sum = |texts: &[&str]| {
            let all = texts.iter().map(|text| Num::of(&json!(text)).unwrap());
            all.reduce(Num::plus).unwrap().json()
        };
        assert_eq!(sum(&["0.1", "0.2"]).to_string(), "0.3");
        assert_eq!(sum(&["1e3", ".5"]), json!(1000.5));
        assert_eq!(sum(&["-1.50", "1.5"]), json!(0));
        assert_eq!(sum(&["999999999999999999999999", "1"]), json!("1000000000000000000000000"));
        assert_eq!(sum(&["12345678901234567.89", "0"]), json!("12345678901234567.89"));
        assert_eq!(Num::of(&json!("0.3")).unwrap().over(3).json().to_string(), "0.1");
        assert_eq!(Num::of(&json!("-2")).unwrap().over(3).json().to_string(), "-0.666666666667");
        for word in ["", "-", ".", "inf", "nan", "1,000", "$5", "0x10", "1e999", "e5"] {
            assert_eq!(Num::of(&json!(word)), None, "{word}");
        }
    }
}
