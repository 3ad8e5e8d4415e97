use super::*;

fn read(text: &str) -> (serde_json::Value, String, Vec<String>) {
    let mut problems = Vec::new();
    let (table, start) = front(&"p.md".into(), text, &mut problems);
    let said = problems.iter().map(|problem| format!("{}: {}", &text[problem.span.clone()], problem.message));
    let fields = table.entries.iter().map(|entry| (entry.key.clone(), entry.node.json()));
    (serde_json::Value::Object(fields.collect()), text[start..].to_owned(), said.collect())
}

#[test]
fn scalars_lists_and_blocks_are_read_as_their_authors_meant_them() {
    let text = "---\nname: code-reviewer\n# a remark\ndescription: Use when: code changed; it's late # remark\n\
        tools: [Read, 'a b', \"c\\n\"]\nmore:\n  - one\n- two\n\nblock: |\n  first\n\n  second\nfolded: >-\n  a\n  b\n\
        long: begins\n  and goes on\nflag: true\nwhole: -3\npart: 0.5\nversion: 1.2.3\nquoted: 'it''s: #1'\nempty:\n---\n\nBody\n";
    let (found, body, problems) = read(text);
    assert_eq!(problems, [] as [&str; 0]);
    assert_eq!(body, "\nBody\n");
    let expected = serde_json::json!({
        "name": "code-reviewer", "description": "Use when: code changed; it's late", "tools": ["Read", "a b", "c\n"],
        "more": ["one", "two"], "block": "first\n\nsecond", "folded": "a b", "long": "begins and goes on",
        "flag": true, "whole": -3, "part": 0.5, "version": "1.2.3", "quoted": "it's: #1"
    });
    assert_eq!(found, expected);
    let (found, body, problems) = read("---\r\nname: a\r\ntools: [b,c]\r\n---\r\nBody");
    assert_eq!((found["tools"].clone(), body.as_str(), problems.len()), (serde_json::json!(["b", "c"]), "Body", 0));
}

#[test]
fn whatever_else_yaml_has_is_refused_at_its_place() {
    for (line, place) in [
        ("a: &x b", "&x b"),
        ("a: *x", "*x"),
        ("a: !!str b", "!!str b"),
        ("a: {b: c}", "{b: c}"),
        ("a: [b, [c]]", "[b, [c]]"),
        ("a: [b", "[b"),
        ("a: 'open", "'open"),
        ("a: \"open", "\"open"),
        ("a: \"\\q\"", "\"\\q\""),
        ("? a", "? a"),
        ("a:\n  b: c", "b: c"),
        ("a:\n  - b: c", "- b: c"),
        ("a: 1\na: 2", "a"),
    ] {
        let (_, body, problems) = read(&format!("---\n{line}\n---\nBody"));
        assert_eq!(body, "Body", "{line}");
        assert!(problems.len() == 1 && problems[0].starts_with(&format!("{place}: ")), "{line}: {problems:?}");
    }
    let (_, _, problems) = read("---\na: b\nBody");
    assert_eq!(problems, ["---: the front matter is not closed"]);
}

#[test]
fn a_rule_at_the_top_of_a_text_is_no_front_matter() {
    for (text, expected) in [
        ("---\nname: x\n---\n", true),
        ("---\n# c\n\nname: x\n", true),
        ("---\n---\nText", true),
        ("---\nA sentence, no key.\n", false),
        ("---\nNote this: it is text with a space before the colon\n", false),
        ("----\nname: x\n", false),
        ("--- name: x\n", false),
        ("", false),
        ("---", false),
    ] {
        assert_eq!(begins(text), expected, "{text:?}");
    }
}

#[test]
fn no_cut_text_panics_and_every_place_is_in_the_file() {
    let whole = "---\na: 'ö''ü'\ntools: [ä, \"ö\", Read]\nlist:\n  - ü\n  more: x\ndescription: >\n  ä\n\tö\nx: a\n  b, c\ntools: é, è # ö\ninputs: \"é, è\"\n---\nText";
    for end in (0..=whole.len()).filter(|end| whole.is_char_boundary(*end) && begins(&whole[..*end])) {
        let text = &whole[..end];
        let mut problems = Vec::new();
        let (table, start) = front(&"p.md".into(), text, &mut problems);
        let table = fitted(table, &mut problems);
        assert!(text.get(start..).is_some());
        let inner = table.entries.iter().flat_map(|entry| entry.node.list().unwrap_or_default());
        let places = inner.map(|node| node.at.span).chain(table.entries.iter().map(|entry| entry.node.at.span));
        for span in places.chain(problems.iter().map(|problem| problem.span.clone().into())) {
            assert!(span.start <= span.end && text.get(span.start..span.end).is_some(), "{end}");
        }
    }
}

#[test]
fn a_key_is_stated_only_if_it_is_used() {
    let text = "---\nname: x\nmodel: inherit\ntemperature: 0.5\ncolor: red\n---\nBody";
    assert_eq!(["model", "temperature", "color"].map(|key| states(text, key)), [false, true, false]);
    assert!(states("---\nmodel: a/b\n---\n", "model") && !states("+++\nmodel = 'a/b'\n+++\n", "model"));
}
