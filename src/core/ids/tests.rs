use super::*;
use proptest::prelude::*;

#[test]
fn addresses_of_the_papers_parse() {
    for text in ["draft#2", "section[intro]", "brief/analyst[1]", "a/b[%2F%5D%23]#3/c", "section[a b-c_d.e]"] {
        assert_eq!(Step::parse(text).unwrap().to_string(), text);
    }
    let call = CallId::parse("draft_review#1.3").unwrap();
    assert_eq!((call.step.as_str(), call.number), ("draft_review#1", 3));
    assert_eq!(CallId::parse("section[v1.2].7").unwrap().step.as_str(), "section[v1.2]");
}

#[test]
fn what_is_not_canonical_is_refused() {
    for text in ["Draft", "draft#0", "draft#01", "draft[", "draft[]", "a//b", "/a", "a/", "a[%41]", "a[x/y]", "a[%2f]"]
    {
        assert!(Step::parse(text).is_err(), "{text} was taken for an address");
    }
    assert!(CallId::parse("section[v1.2]").is_err());
    assert!(RunId::from_str("7Q3MILOU00").is_err());
}

#[test]
fn a_typed_address_need_not_encode_its_keys() {
    let typed = |text| Step::typed(text).map(|step| step.to_string());
    for (text, address) in [
        ("section[a/b]", "section[a%2Fb]"),
        ("section[50%]#2", "section[50%25]#2"),
        ("a[x/y]/b[#1]#3/c", "a[x%2Fy]/b[%231]#3/c"),
        ("a[b]c]", "a[b%5Dc]"),
        ("draft#2", "draft#2"),
    ] {
        assert_eq!(typed(text).as_deref(), Ok(address));
    }
    for text in ["a[", "a[]", "Draft", "a[x]y"] {
        assert!(typed(text).is_err(), "{text}");
    }
}

#[test]
fn within_is_by_segment_not_by_text() {
    let step = |s| Step::parse(s).unwrap();
    assert!(step("brief/analyst[1]").is_within(&step("brief")));
    assert!(!step("briefing").is_within(&step("brief")));
    assert!(step("brief").is_within(&Step::root()));
}

proptest! {
    #[test]
    fn every_key_survives_its_address(text in "\\PC{1,80}", round in proptest::option::of(1u32..9), call in 1u32..99) {
        let key = Key::new(&text).unwrap();
        let step = Step::root().child(&Segment { name: Name::new("section").unwrap(), key: Some(key), round });
        let inner = step.child(&Segment::task(Name::new("inner").unwrap()));
        for step in [step, inner] {
            prop_assert_eq!(&Step::parse(step.as_str()).unwrap(), &step);
            let call = CallId { step, number: call };
            prop_assert_eq!(CallId::parse(&call.to_string()).unwrap(), call);
        }
    }
}
