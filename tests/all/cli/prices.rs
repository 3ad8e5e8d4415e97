//! `bosun prices`, and whose price a crew gets.

use crate::cli::Place;

#[test]
fn prices_say_source_day_and_every_bucket() {
    let place = Place::empty();
    let said = place.run(&["prices", "openai/gpt-4.1-mini"]);
    let line = said.out.lines().find(|line| line.starts_with("openai/gpt-4.1-mini ")).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[..6], ["openai/gpt-4.1-mini", "0.4", "1.6", "0.1", "0.4", "1,000,000"]);
    assert!(line.contains("genai-prices 0.") && line.trim_end().ends_with("2026-10-30"), "{line}");

    let said = place.run(&["prices", "google/gemini-2.5-pro", "--json"]);
    let lines: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pro = lines.iter().find(|line| line["model"] == "google/gemini-2.5-pro").unwrap();
    assert_eq!((&pro["usd_per_million"]["input"], &pro["dated"]), (&"1.25".into(), &"2026-10-30".into()));
    assert_eq!((&pro["above"]["tokens"], &pro["above"]["usd_per_million"]["output"]), (&200_000.into(), &"15".into()));

    // What is billed by more than tokens is unknown, never nothing.
    let said = place.run(&["prices", "perplexity/sonar"]);
    let own: Vec<&str> = said.out.lines().filter(|line| line.starts_with("perplexity/sonar")).collect();
    assert!(!own.is_empty() && own.iter().all(|line| line.contains("unknown")), "{own:?}");
    let said = place.run(&["prices", "no-such-model"]);
    assert!((said.code, said.out.lines().count()) == (0, 1) && said.err.contains("unknown, not zero"), "{}", said.err);
    let said = place.run(&["prices", "ollama"]);
    assert!(said.err.contains("ollama/…: local, no money"), "{}", said.err);
}

#[test]
fn a_crews_price_comes_before_the_settings_and_theirs_before_the_list() {
    let place = Place::empty();
    place.write("bosun.toml", "[prices]\n\"openai/gpt-4.1-mini\" = { input = 9, output = 10.5 }\n");
    let crew = |price: &str| {
        format!(
            "schema = 1\n[models.m]\nid = \"openai/gpt-4.1-mini\"\n{price}\n[agents.a]\nmodel = \"m\"\n\
             [tasks.t]\nagent = \"a\"\ndescription = \"Say hello\"\n"
        )
    };
    place.write("own.toml", &crew("price = { input = 1, output = 2 }"));
    place.write("plain.toml", &crew(""));
    let from = |file: &str| {
        let said = place.run(&["doctor", file, "--json"]);
        let lines: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let line = lines.iter().find(|line| line["check"] == "price").unwrap_or_else(|| panic!("{}", said.err));
        line["says"].as_str().unwrap().to_owned()
    };
    assert!(from("own.toml").contains("$1") && from("own.toml").contains("own.toml"), "{}", from("own.toml"));
    assert!(from("plain.toml").contains("$9") && from("plain.toml").contains("bosun.toml"), "{}", from("plain.toml"));
    let said = place.run(&["prices", "gpt-4.1-mini", "--json"]);
    let own = said.out.lines().find(|line| line.contains("\"openai/gpt-4.1-mini\"")).unwrap();
    assert!(own.contains("\"10.5\"") && own.contains("bosun.toml"), "{own}");
    place.write("bosun.toml", "");
    assert!(from("plain.toml").contains("genai-prices"), "{}", from("plain.toml"));

    place.write("bosun.toml", "[prices]\n\"openai/x\" = { input = 9 }\ngpt = 3\n\"a/b\" = { input = 1, out = 2 }\n");
    let said = place.run(&["prices"]);
    assert_eq!(said.code, 2);
    for problem in ["has no `output`", "does not name a model", "has a key `out`; known: input, output"] {
        assert!(said.err.contains(problem), "{problem}: {}", said.err);
    }
}
