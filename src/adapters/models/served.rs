//! Who answered, in the provider's words. Invariant: what was asked for is not repeated as news.

use crate::core::chat::Served;

/// Who answered, where that is not who was asked (model and tier). `default` is what a provider calls the tier of a
/// request that names none.
pub fn served(
    asked: (&str, Option<&str>),
    model: Option<String>,
    tier: Option<String>,
    default: &str,
) -> Option<Served> {
    let (asked_model, asked_tier) = asked;
    let model = model.filter(|model| model != asked_model && !model.is_empty() && !is_dated(asked_model, model));
    let usual = match asked_tier {
        None | Some("auto") => default,
        Some(tier) => tier,
    };
    let tier = tier.filter(|tier| tier != usual && !tier.is_empty());
    (model.is_some() || tier.is_some()).then_some(Served { model, tier })
}

/// `claude-sonnet-4-5-20250929` is what `claude-sonnet-4-5` asks for; `gpt-4.1-2025-04-14` likewise.
fn is_dated(asked: &str, model: &str) -> bool {
    let day = model.strip_prefix(asked).and_then(|rest| rest.strip_prefix('-'));
    day.is_some_and(|day| day.len() >= 8 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_served_is_said_only_where_it_is_news() {
        let is = |asked, model: &str, tier: &str| {
            served(("m", asked), Some(model.into()), Some(tier.into()), "default")
                .map(|served| (served.model, served.tier))
        };
        assert_eq!(is(None, "m", "default"), None);
        assert_eq!(is(Some("auto"), "m", "default"), None);
        assert_eq!(is(Some("flex"), "m", "flex"), None);
        assert_eq!(is(Some("flex"), "m", "default"), Some((None, Some("default".into()))));
        assert_eq!(is(None, "m-20250929", "default"), None);
        assert_eq!(is(None, "m-2025-09-29", "default"), None);
        assert_eq!(is(None, "m-2", "priority"), Some((Some("m-2".into()), Some("priority".into()))));
    }
}
