use super::*;
use crate::core::chat::{Effect, wire_name};
use crate::ports::tool::{ToolCall, ToolOutcome};
use serde_json::json;

fn call(arguments: serde_json::Value) -> ToolCall {
    ToolCall { arguments: arguments.as_object().unwrap().clone(), idempotency_key: "k".into() }
}

fn spec(name: &str) -> ToolSpec {
    ToolSpec {
        name: name.into(),
        description: "d".into(),
        parameters: json!({ "type": "object", "properties": { "text": { "type": "string" } } }),
        effect: Effect::Once,
        timeout_ms: 1_000,
        max_result: 10,
    }
}

#[test]
fn builtins_are_what_the_papers_name_with_schemas_that_compile() {
    let specs = builtin_specs();
    let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "files.read",
            "files.list",
            "files.search",
            "files.write",
            "files.append",
            "files.move",
            "text.stats",
            "data.query",
            "ask.human",
            "web.fetch"
        ]
    );
    for spec in &specs {
        let schema = jsonschema::validator_for(&spec.parameters).unwrap();
        assert!(!schema.is_valid(&json!({ "unheard_of": 1 })), "{}", spec.name);
        assert!(wire_name(&spec.name).chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{}", spec.name);
        let seconds = if spec.name == "web.fetch" { 30 } else { 60 };
        assert_eq!((spec.timeout_ms, spec.max_result), (seconds * 1000, 4_000));
        let effect = match spec.name.as_str() {
            "files.write" => Effect::Idempotent,
            "files.append" | "files.move" => Effect::Once,
            _ => Effect::Read,
        };
        assert_eq!(spec.effect, effect, "{}", spec.name);
    }
}

#[tokio::test]
async fn a_table_names_a_builtin_with_its_own_places_and_limits() {
    let root = tempfile::tempdir().unwrap();
    let note = Declared::Use {
        builtin: "files.write".into(),
        spec: spec("note"),
        places: ToolPlaces { write: vec!["notes".into(), "log.md".into()], ..ToolPlaces::default() },
    };
    let tools = ToolBox::new(root.path(), vec![], vec![note]).unwrap();
    let tool = tools.get("note").unwrap();
    assert_eq!((tool.spec().name.as_str(), tool.spec().timeout_ms), ("note", 1_000));
    assert!(tool.spec().parameters["properties"]["path"].is_object(), "the parameters are the builtin's");
    for path in ["notes/a.md", "log.md"] {
        let done = tool.call(call(json!({ "path": path, "text": "hi" }))).await;
        assert_eq!(done, ToolOutcome::Ok(format!("wrote 2 bytes to {path}")));
        assert_eq!(std::fs::read_to_string(root.path().join(path)).unwrap(), "hi");
    }
    let ToolOutcome::Error(why) = tool.call(call(json!({ "path": "out/a.md", "text": "hi" }))).await else { panic!() };
    assert!(why.contains("writes only `notes`, `log.md`"), "{why}");
    assert!(tools.get("unheard_of").is_none() && tools.get("delegate").is_none());
}

#[test]
fn every_wrong_table_is_reported_at_once() {
    let root = tempfile::tempdir().unwrap();
    let command = |name: &str, argv: &[&str]| {
        let argv = argv.iter().map(|text| (*text).to_owned()).collect();
        Declared::Command(CommandSpec { spec: spec(name), argv, env: vec![], cwd: root.path().into() })
    };
    let builtin = |name: &str, builtin: &str, read: &str| Declared::Use {
        builtin: builtin.into(),
        spec: spec(name),
        places: ToolPlaces { read: vec![read.into()], ..ToolPlaces::default() },
    };
    let tables = vec![
        builtin("a", "files.fly", "docs"),
        builtin("b", "files.read", "../.."),
        command("c", &[]),
        command("d", &["echo", "{unknown}"]),
        command("e", &["echo", "{text"]),
        command("f", &["{text}"]),
        command("g", &["echo", "{text}"]),
        command("g", &["echo", "{text}"]),
    ];
    let problems = ToolBox::new(root.path(), vec![], tables).err().unwrap();
    let expected = [
        "tool a: use = \"files.fly\" names no builtin",
        "tool b: path `../..` is refused",
        "tool c: `command` is empty",
        "tool d: placeholder `{unknown}` is no argument",
        "tool e: command element `{text`: a brace is not closed",
        "tool f: the program `{text}` holds a placeholder",
        "tool g: the name is taken",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, start) in problems.iter().zip(expected) {
        assert!(problem.starts_with(start), "{problem}");
    }
}
