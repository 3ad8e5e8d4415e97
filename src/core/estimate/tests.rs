use super::*;

#[test]
fn the_words_around_a_note_fit_what_is_kept_for_them() {
    // A second attempt's note and a round's instructions are built-in texts around a result.
    assert!(prompt::builtin_bytes() < 2_000);
}

#[test]
fn what_is_unknown_is_never_free() {
    assert_eq!(Money::Priced.and(Money::Local), Money::Priced);
    assert_eq!(Money::Local.and(Money::Unknown), Money::Unknown);
    assert_eq!(Money::Unknown.and(Money::Priced), Money::Unknown);
    assert_eq!(Money::Local.and(Money::Local), Money::Local);
}

#[test]
fn words_of_prose_do_not_make_a_prompt_endless() {
    use super::prompt::repeats;
    assert!(!repeats("An article for whoever will include it; call for help in {{ macro }}"));
    assert!(!repeats("{% if a %}for {% endif %}"));
    assert!(repeats("{%- for row in rows %}{{ row }}{% endfor %}") && repeats("{% include \"a.md\" %}"));
}
