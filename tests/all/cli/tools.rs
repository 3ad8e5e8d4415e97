//! `bosun tools`: what agents may call, seen and called by hand.

use super::*;

const CREW: &str = "schema = 1\n[agents]\na = { model = 'ollama/x', tools = ['file_it', 'files.read', 'say', 'fail'] }\n\
    [tasks.t]\nagent = 'a'\ndescription = 'Do'\n\
    [tools.file_it]\nuse = 'files.move'\nfrom = 'inbox'\nto = 'archive'\nmax_calls = 3\n\
    [tools.say]\nkind = 'command'\ncommand = ['printf', 'said %s', '{what}']\nisolation = 'none'\n\
    description = 'Says it'\neffect = 'read'\n\
    [tools.fail]\nkind = 'command'\ncommand = ['sh', '-c', 'echo no >&2; exit 3']\nisolation = 'none'\n\
    description = 'Fails'\neffect = 'read'\n";

fn shop() -> Place {
    let place = Place::empty();
    place.write("crew.toml", CREW);
    place.write("notes.md", "One. Two.\n");
    place.write("inbox/a.pdf", "A");
    place
}

#[test]
fn tools_are_listed_with_effect_and_origin() {
    let place = shop();
    let list = place.run(&["tools", "list"]);
    assert_eq!(list.code, 0, "{}", list.err);
    let names: Vec<&str> = list.out.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    let builtins = ["read", "list", "search", "write", "append", "move"].map(|name| format!("files.{name}"));
    assert_eq!(names[..6], builtins);
    assert_eq!(names[6..], ["text.stats", "data.query", "ask.human", "web.fetch"]);
    let own = place.run(&["tools", "list", "crew.toml"]).out;
    assert!(own.contains("file_it       once        -           files.move, [tools.file_it] in crew.toml"), "{own}");
    let json = place.run(&["tools", "list", "crew.toml", "--json"]).out;
    let all: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let moving = all.iter().find(|tool| tool["name"] == "file_it").unwrap();
    assert_eq!(moving["folders"], serde_json::json!({ "from": ["inbox"], "to": ["archive"] }));
    assert_eq!((moving["effect"].as_str(), moving["max_calls"].as_u64()), (Some("once"), Some(3)));
    assert_eq!((&moving["approval"], &all[0]["approval"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    place.write("crew.toml", &CREW.replace("max_calls = 3", "max_calls = 3\napproval = 'always'\nexpires = '2h'"));
    let own = place.run(&["tools", "list", "crew.toml"]).out;
    assert!(own.contains("file_it       once        always      files.move"), "{own}");
    let shown = place.run(&["tools", "show", "file_it", "crew.toml"]).out;
    assert!(shown.contains("\napproval always, open for 2h\n"), "{shown}");
    place.write("broken.toml", "schema = 1\n[tools.x]\n");
    for (file, code) in [("broken.toml", 3), ("none.toml", 2)] {
        let said = place.run(&["tools", "list", file]);
        assert_eq!(said.code, code, "{}", said.err);
    }
}

#[test]
fn a_tool_is_shown_within_the_columns_there_are() {
    let place = shop();
    for columns in ["80", "40"] {
        for args in [
            &["tools", "show", "file_it", "crew.toml"][..],
            &["tools", "show", "data.query"],
            &["tools", "list", "crew.toml"],
        ] {
            let said = place.wide(columns, args);
            let wide = said.out.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(said.code == 0 && wide <= columns.parse().unwrap(), "{columns}: {wide}\n{}", said.out);
        }
    }
    let shown = place.run(&["tools", "show", "file_it", "crew.toml"]).out;
    for part in [
        "effect   once",
        "[tools.file_it] in crew.toml",
        "3 per run",
        "from     inbox",
        "to       archive",
        "\"overwrite\"",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let unknown = place.run(&["tools", "show", "files.reed"]);
    assert!(unknown.code == 2 && unknown.err.contains("did you mean `files.read`?"), "{}", unknown.err);
}

#[test]
fn a_tool_is_called_once_and_an_effect_only_if_said() {
    let place = shop();
    let read = place.run(&["tools", "call", "files.read", "--args", "{\"path\":\"notes.md\"}"]);
    assert_eq!((read.code, read.out.as_str()), (0, "One. Two.\n"), "{}", read.err);
    let said = place.run(&["tools", "call", "say", "crew.toml", "--args", "{\"what\":\"ahoy\"}"]);
    assert_eq!((said.code, said.out.as_str()), (0, "said ahoy\n"), "{}", said.err);
    let moving = ["tools", "call", "file_it", "crew.toml", "--args", "{\"from\":\"inbox/a.pdf\",\"to\":\"archive/\"}"];
    let refused = place.run(&moving);
    assert!(refused.code == 2 && refused.err.contains("--yes"), "{}", refused.err);
    assert!(place.root().join("inbox/a.pdf").exists());
    let done = place.run(&[&moving[..], &["--yes", "--json"]].concat());
    let line: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(line["result"], "moved inbox/a.pdf to archive/a.pdf");
    assert!(done.code == 0 && place.root().join("archive/a.pdf").exists());
    let outside = place.run(&["tools", "call", "files.read", "--args", "{\"path\":\"../x\"}"]);
    assert!(outside.code == 10 && outside.err.contains("`..` is not allowed"), "{}", outside.err);
    let failed = place.run(&["tools", "call", "fail", "crew.toml"]);
    assert!(failed.code == 10 && failed.err.contains("exit code 3"), "{}", failed.err);
    for (args, expected) in [
        ("{\"path\":1}", "/path: 1 is not of type"),
        ("[]", "is not of type"),
        ("{path}", "expected a JSON object"),
        ("{}", "\"path\" is a required property"),
    ] {
        let wrong = place.run(&["tools", "call", "files.read", "--args", args]);
        assert!(wrong.code == 2 && wrong.err.contains(expected), "{args}: {}", wrong.err);
    }
    assert!(!place.root().join(".bosun").exists(), "a call by hand is no run");
}

#[test]
fn an_agent_file_of_another_tool_runs_and_says_what_it_goes_without() {
    let place = shop();
    place.write("prompts/x.md", "---\nname: x\ntools: Read, files.read\ntemperature: 0.5\ncolor: red\n---\nSum up.\n");
    let said = place.run(&["run", "prompts/x.md", "--offline", "--input", "file=notes.md"]);
    assert!(said.code == 0 && said.out.contains("One."), "{}", said.err);
    assert!(
        said.err.contains("warning: prompts/x.md: there is no tool `Read`, so the agent goes without it"),
        "{}",
        said.err
    );
    assert!(said.err.contains("warning: prompts/x.md: `color` is not used"), "{}", said.err);
    let why = place.run(&["show", "latest", "answer", "--why"]).out;
    assert!(why.contains("0.5 <- prompts/x.md (front matter)"), "{why}");
}
