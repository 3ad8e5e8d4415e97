//! `bosun doctor`: what it finds, what it never prints, and what it never sends.

use serde_json::Value;

use crate::cli::{Place, Said};
use crate::stand_in::Behaviour;
use crate::support::{Provider, kill9, until, wait};

const KEY: &str = "sk-not-to-be-seen-12345";

fn lines(said: &Said) -> Vec<Value> {
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn finding(lines: &[Value], check: &str, of: &str) -> Value {
    let found = lines.iter().find(|line| line["check"] == check && line["of"] == of);
    found.cloned().unwrap_or_else(|| panic!("no {check} of {of}: {lines:#?}"))
}

fn crew(place: &Place, provider: &Provider) {
    let tables = provider.tables("api_key_env = \"ACME_KEY\"");
    place.write(
        "crew.toml",
        &format!("schema = 1\n[budget]\nper_day_usd = 2\n{tables}[agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Hi\"\n"),
    );
}

#[test]
fn without_a_crew_it_says_what_is_here_and_changes_nothing() {
    let place = Place::empty();
    let said = place.run(&["doctor"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    let starts: Vec<usize> = said.out.lines().filter_map(|line| line.find("  ")).collect();
    assert!(starts.len() > 8 && said.out.contains("genai-prices"), "{}", said.out);
    assert!(!place.has(".bosun"));
    let json = lines(&place.run(&["doctor", "--json"]));
    assert_eq!(finding(&json, "key", "openai")["level"], "note", "no crew needs it");
    assert_eq!(
        finding(&json, "clock", json.iter().find(|l| l["check"] == "clock").unwrap()["of"].as_str().unwrap())["level"],
        "ok"
    );
    for width in ["20", "80"] {
        assert_eq!(place.wide(width, &["doctor"]).code, 0);
    }
}

#[test]
fn with_a_crew_a_missing_key_is_exit_4_and_a_wrong_crew_exit_3() {
    let (place, provider) = (Place::empty(), Provider::start());
    crew(&place, &provider);
    let said = place.run(&["doctor", "crew.toml", "--json"]);
    assert_eq!(said.code, 4);
    let found = lines(&said);
    let key = finding(&found, "key", "p");
    assert!(key["level"] == "bad" && key["exit"] == 4 && key["says"].as_str().unwrap().contains("ACME_KEY"), "{key}");
    let price = finding(&found, "price", "p/m");
    assert!(price["says"].as_str().unwrap().contains("$1 in, $10 out per million tokens; from crew.toml"), "{price}");
    assert!(finding(&found, "crew", "crew.toml")["says"].as_str().unwrap().contains("$2.00 a day (UTC)"));
    assert_eq!(provider.requests(), 0, "nothing is asked without --online");
    place.write("crew.toml", "schema = 1\n[tasks.t]\nagent = \"nobody\"\n");
    assert_eq!(place.run(&["doctor", "crew.toml"]).code, 3);
    assert_eq!(place.run(&["doctor", "absent.toml"]).code, 2);
}

#[test]
fn online_asks_for_the_list_of_models_and_for_nothing_else() {
    let (place, provider) = (Place::empty(), Provider::start());
    crew(&place, &provider);
    let doctor = |key: &str| {
        let output =
            place.command(&["doctor", "crew.toml", "--online", "--json"]).env("ACME_KEY", key).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    };
    provider.push(Behaviour::Body("{\"data\":[{\"id\":\"m\"},{\"id\":\"n\"}]}".into()));
    let said = doctor(KEY);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let found = lines(&said);
    assert!(finding(&found, "online", "p")["says"].as_str().unwrap().contains("lists 2 models"));
    assert_eq!(finding(&found, "model", "p/m")["level"], "ok");
    let seen = provider.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].path.as_str(), seen[0].body.as_str()), ("/v1/models", ""));
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {KEY}"));
    assert!(!said.out.contains(KEY) && !said.err.contains(KEY));

    provider.push(Behaviour::Status(401, Vec::new(), format!("no such key {KEY}")));
    let refused = doctor(KEY);
    assert!(refused.code == 4 && !refused.out.contains(KEY), "{}", refused.out);
    provider.push(Behaviour::Body("{\"data\":[{\"id\":\"other\"}]}".into()));
    assert_eq!(finding(&lines(&doctor(KEY)), "model", "p/m")["level"], "warn");
    let crew = std::fs::read_to_string(place.root().join("crew.toml")).unwrap();
    let address = provider.server.base_url();
    place.write("crew.toml", &crew.replace(&address, "http://127.0.0.1:1/v1"));
    let silent = doctor(KEY);
    assert_eq!(silent.code, 20, "{}", silent.out);
    assert!(finding(&lines(&silent), "online", "p")["says"].as_str().unwrap().contains("does not answer"));
}

#[test]
fn the_store_its_clock_and_its_dead_owners_are_named() {
    let (place, provider) = (Place::empty(), Provider::start());
    crew(&place, &provider);
    provider.push(Behaviour::Hang);
    let mut command = place.command(&["run", "crew.toml", "-q"]);
    let child = command.env("ACME_KEY", KEY).spawn().unwrap();
    until("a request", || provider.requests() == 1);
    let alive = lines(&place.run(&["doctor", "--json"]));
    let lock = alive.iter().find(|line| line["check"] == "lock").unwrap();
    assert!(lock["says"].as_str().unwrap().contains(&format!("process {}", child.id())), "{lock}");
    kill9(child.id());
    wait(child);
    let said = place.run(&["doctor", "--json"]);
    assert_eq!(said.code, 0, "{}", said.out);
    let found = lines(&said);
    let lock = found.iter().find(|line| line["check"] == "lock").unwrap();
    assert!(lock["level"] == "warn" && lock["says"].as_str().unwrap().contains("bosun resume"), "{lock}");
    let store = found.iter().find(|line| line["check"] == "store").unwrap();
    assert!(store["says"].as_str().unwrap().contains("format 1, 1 run in"), "{store}");

    // The journal has seen a later time than the clock shows.
    let db = rusqlite::Connection::open(place.root().join(".bosun/journal.db")).unwrap();
    db.execute("UPDATE runs SET updated = updated + 86400000", []).unwrap();
    drop(db);
    let found = lines(&place.run(&["doctor", "--json"]));
    let clock = found.iter().find(|line| line["check"] == "clock").unwrap();
    assert!(clock["level"] == "warn" && clock["says"].as_str().unwrap().contains("behind"), "{clock}");
    place.write(".bosun/journal.db", "no database");
    assert_eq!(place.run(&["doctor"]).code, 6);
}
