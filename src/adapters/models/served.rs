//! Who answered. Invariant: only what differs from what was asked for is said, in the provider's words.

use crate::core::chat::Served;

/// `tier` is given only where it is not the one that was asked for.
pub fn served(asked: &str, model: Option<String>, tier: Option<String>) -> Option<Served> {
    let model = model.filter(|model| !model.is_empty() && model != asked && !is_dated(asked, model));
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
    fn a_dated_name_is_what_was_asked_for() {
        let of = |asked: &str, model: &str| served(asked, Some(model.to_owned()), None).and_then(|s| s.model);
        assert_eq!(of("gpt-4.1", "gpt-4.1-2025-04-14"), None);
        assert_eq!(of("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"), None);
        assert_eq!(of("gpt-4.1", "gpt-4.1"), None);
        assert_eq!(of("gpt-4.1", ""), None);
        assert_eq!(of("gpt-4.1", "gpt-4.1-mini").as_deref(), Some("gpt-4.1-mini"));
        assert_eq!(of("gpt-5", "gpt-5-5").as_deref(), Some("gpt-5-5"));
        assert_eq!(served("a", Some("a".into()), Some("flex".into())).unwrap().tier.as_deref(), Some("flex"));
    }
}
