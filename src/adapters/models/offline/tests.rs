use serde_json::{Value, json};

use super::*;
use crate::adapters::models::tests::{request, schema, tool};
use crate::core::chat::{Effect, Message, ToolSpec};
use crate::core::money::Count;
use crate::ports::model::Unwatched;

const REPORT: &str = "Bosun runs crews of agents. A budget of 25 cents caps the whole run. \
    The journal is written before each call. Nothing recorded is paid for twice. Boats are nice.";

fn read_tool() -> ToolSpec {
    let parameters = json!({"type":"object","properties":{"path":{"type":"string"}},"required":["path"]});
    tool("files.read", parameters, Effect::Read)
}

fn list_tool() -> ToolSpec {
    ToolSpec { name: "files.list".into(), ..read_tool() }
}

fn delegate_tool() -> ToolSpec {
    let parameters = json!({"type":"object","required":["to","task"],
        "properties":{"to":{"enum":["analyst","copywriter","legal"]},"task":{"type":"string"}}});
    tool("delegate", parameters, Effect::Once)
}

/// The request after `calls` have come back with `result` each.
fn then(mut before: ModelRequest, calls: &[ToolAsk], result: impl Fn(&ToolAsk) -> String) -> ModelRequest {
    let turn = Message::Assistant { content: String::new(), tool_calls: calls.to_vec() };
    before.messages.push(turn.encode().text);
    for ask in calls {
        let back = Message::Tool { tool_call_id: ask.id.clone(), content: result(ask) };
        before.messages.push(back.encode().text);
    }
    before.call.number += 1;
    before
}

fn paths(calls: &[ToolAsk]) -> Vec<String> {
    let path = |ask: &ToolAsk| serde_json::from_str::<Value>(&ask.arguments).unwrap()["path"].clone();
    calls.iter().map(|ask| path(ask).as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_summary_is_of_the_fenced_text_in_the_shape_asked_for() {
    let ask = request("a", "t.1", &format!("Three bullets about the report.\n\n```report\n{REPORT}\n```"));
    let said = answer(&ask);
    assert_eq!((said.finish, said.text.lines().count()), (Finish::Stop, 3));
    assert!(said.text.lines().all(|line| REPORT.contains(line.strip_prefix("- ").unwrap())), "{}", said.text);
    assert!(said.text.contains("25 cents"), "{}", said.text);
    assert_eq!(answer(&ask).text, said.text);
}

#[test]
fn usage_is_a_deterministic_estimate_and_never_over_the_cap() {
    let mut ask = request("a", "t.1", REPORT);
    let usage = answer(&ask).usage;
    assert_eq!(usage.input, Count::Reported(ask.messages[0].len() as u64 / 4));
    ask.settings.max_output = 3;
    let cut = answer(&ask);
    assert_eq!((cut.finish, cut.text.len() <= 12), (Finish::Length, true));
    assert!(cut.usage.output.reported().unwrap() <= 3);
    assert!(answer(&request("a", "t.1", "")).usage.input.reported().unwrap() > 0);
}

#[test]
fn a_file_that_is_named_is_read_and_then_summed_up() {
    let mut ask = request("a", "t.1", "Sum up `notes/report.md`, please.");
    ask.tools = vec![read_tool(), list_tool()].into();
    let turn = answer(&ask);
    assert_eq!((turn.finish, paths(&turn.tool_calls)), (Finish::Tool, vec!["notes/report.md".to_owned()]));
    assert_eq!(turn.tool_calls[0].name, "files__read");
    let end = answer(&then(ask, &turn.tool_calls, |_| REPORT.into()));
    assert!(end.tool_calls.is_empty() && end.text.contains("25 cents"), "{}", end.text);
}

#[test]
fn a_path_between_backticks_may_hold_spaces_and_so_may_a_listing() {
    let mut ask = request("a", "t.1", "Read `my notes/quelle ä.md` and say what is in it.");
    ask.tools = vec![read_tool(), list_tool()].into();
    assert_eq!(paths(&answer(&ask).tool_calls), ["my notes/quelle ä.md"]);

    let mut ask = request("a", "t.1", "Read `my notes` and say what is in it.");
    ask.tools = vec![read_tool(), list_tool()].into();
    let turn = answer(&ask);
    assert_eq!(
        (turn.tool_calls[0].name.as_str(), paths(&turn.tool_calls)),
        ("files__list", vec!["my notes".to_owned()])
    );
    let turn = answer(&then(ask, &turn.tool_calls, |_| "a b.md\nold stuff/\n".into()));
    assert!(paths(&turn.tool_calls).contains(&"my notes/a b.md".to_owned()), "{:?}", paths(&turn.tool_calls));
}

#[test]
fn a_named_file_without_an_ending_is_read_when_it_cannot_be_listed() {
    let mut ask = request("a", "t.1", "Read `/etc/hostname` and say what is in it.");
    ask.tools = vec![read_tool(), list_tool()].into();
    let turn = answer(&ask);
    assert_eq!(turn.tool_calls[0].name, "files__list");
    let turn = answer(&then(ask, &turn.tool_calls, |_| "it is a file".into()));
    assert_eq!(
        (turn.tool_calls[0].name.as_str(), paths(&turn.tool_calls)),
        ("files__read", vec!["/etc/hostname".to_owned()])
    );
}

#[test]
fn a_folder_is_listed_first_and_at_most_three_files_are_read() {
    let mut ask = request("a", "t.1", "Sum up what is in notes/");
    ask.tools = vec![read_tool(), list_tool()].into();
    let turn = answer(&ask);
    assert_eq!((turn.tool_calls[0].name.as_str(), paths(&turn.tool_calls)), ("files__list", vec!["notes/".to_owned()]));
    let ask = then(ask, &turn.tool_calls, |_| "a.md\nb.md\nlogo.png\nc.txt\nd.md\n".into());
    let turn = answer(&ask);
    assert_eq!(paths(&turn.tool_calls), ["notes/a.md", "notes/b.md", "notes/c.txt"]);
    let end = answer(&then(ask, &turn.tool_calls, |_| REPORT.into()));
    assert!(end.tool_calls.is_empty() && !end.text.is_empty());
}

#[test]
fn without_a_list_the_folder_is_searched_for_the_topic_and_then_for_anything() {
    let parameters = json!({"type":"object","required":["pattern"],
        "properties":{"pattern":{"type":"string"},"path":{"type":"string"}}});
    let mut ask = request("a", "t.1", "Ten facts about ship budgets from notes, each with its source");
    ask.tools = vec![read_tool(), tool("files.search", parameters, Effect::Read)].into();
    let turn = answer(&ask);
    assert_eq!(turn.tool_calls[0].arguments, r#"{"pattern":"budgets","path":"notes"}"#);
    let ask = then(ask, &turn.tool_calls, |_| "[no match]".into());
    let turn = answer(&ask);
    assert_eq!(turn.tool_calls[0].arguments, r#"{"pattern":"[a-z]{4}","path":"notes"}"#);
    let ask = then(ask, &turn.tool_calls, |_| "notes/a.md:1: Bosun runs\nnotes/a.md:2: crews\n".into());
    let turn = answer(&ask);
    assert_eq!(paths(&turn.tool_calls), ["notes/a.md"]);
    let end = answer(&then(ask, &turn.tool_calls, |_| REPORT.into()));
    let first = "- \"Bosun runs crews of agents.\" (notes/a.md:1)\n";
    assert!(end.tool_calls.is_empty() && end.text.starts_with(first), "{}", end.text);
}

#[test]
fn a_folder_that_the_task_names_is_looked_into_before_what_lies_around_it() {
    let mut ask = request("a", "t.1", "Sum up the notes and compare with README.md");
    ask.tools = vec![list_tool(), read_tool()].into();
    ask = then(
        ask,
        &[ToolAsk { id: "x".into(), name: "files__list".into(), arguments: r#"{"path":"."}"#.into() }],
        |_| "LICENSE.md\nREADME.md\nnotes/\nsrc/\n".into(),
    );
    let turn = answer(&ask);
    assert_eq!((turn.tool_calls[0].name.as_str(), paths(&turn.tool_calls)), ("files__list", vec!["notes/".to_owned()]));
    let turn = answer(&then(ask, &turn.tool_calls, |_| "notes/a.md\n".into()));
    assert_eq!(paths(&turn.tool_calls), ["README.md", "LICENSE.md", "notes/a.md"]);
}

#[test]
fn each_name_is_delegated_to_once_and_the_results_are_merged() {
    let mut ask = request("lead", "brief.1", "Plan the launch of Bosun.");
    ask.tools = vec![delegate_tool()].into();
    let turn = answer(&ask);
    let to: Vec<String> = turn.tool_calls.iter().filter_map(heard::delegate).collect();
    assert_eq!(to, ["analyst", "copywriter", "legal"]);
    let end = answer(&then(ask, &turn.tool_calls, |ask| {
        json!({"status":"done","result":format!("Part of {}.", heard::delegate(ask).unwrap())}).to_string()
    }));
    assert!(end.tool_calls.is_empty());
    assert_eq!(
        end.text,
        "## analyst\n\nPart of analyst.\n\n## copywriter\n\nPart of copywriter.\n\n## legal\n\nPart of legal."
    );
}

#[test]
fn a_crew_is_asked_after_the_agents_with_their_text_in_its_open_inputs() {
    let parameters = json!({"type":"object","required":["to","task"],"properties":{
        "to":{"enum":["legal","copywriter"]},"task":{"type":"string"},"copy":{"type":"string"},
        "market":{"type":"string","enum":["eu","us"],"default":"us"},"tone":{"type":"string","enum":["dry"]}}});
    let about = "Gives work away.\nlegal: a crew: Checks it (give copy, market, tone)\ncopywriter: Copywriter";
    let delegate = ToolSpec { description: about.into(), ..tool("delegate", parameters, Effect::Once) };
    let mut ask = request("lead", "brief.1", "Plan the launch.\n\n<facts>It floats.</facts>");
    ask.tools = vec![delegate].into();
    let turn = answer(&ask);
    let said: Value = serde_json::from_str(&turn.tool_calls[0].arguments).unwrap();
    let task = "Your part as copywriter: Plan the launch.\n\n<facts>It floats.</facts>";
    assert_eq!((turn.tool_calls.len(), said), (1, json!({"to":"copywriter","task":task})));
    let ask = then(ask, &turn.tool_calls, |_| json!({"status":"done","result":"It floats well."}).to_string());
    let turn = answer(&ask);
    let said: Value = serde_json::from_str(&turn.tool_calls[0].arguments).unwrap();
    assert_eq!(
        (said["to"].clone(), said["copy"].clone(), said["tone"].clone(), said.get("market")),
        (json!("legal"), json!("It floats well."), json!("dry"), None)
    );
}

#[test]
fn nothing_of_the_instructions_is_taken_for_material() {
    let text = "Write a brief of at most 400 words from the research alone.\n\n<research>\n\
                - \"The hull is sound.\" (a.md:3)\n- \"The engine has run 8,200 hours.\" (a.md:7)\n</research>\n\nA Markdown brief.";
    let said = answer(&request("writer", "draft.1", text)).text;
    assert!(said.starts_with("# Brief on a.md\n\n"), "{said}");
    assert!(said.contains("hull is sound") && !said.contains("400") && !said.contains("Markdown"), "{said}");
    let nothing = answer(&request("writer", "draft.1", "Plan the launch of tea.")).text;
    assert!(
        nothing.starts_with("Asked: Plan the launch of tea.\n\nNo text, file or figure came with it."),
        "{nothing}"
    );
}

#[test]
fn a_revision_changes_what_the_review_names_until_the_rules_are_content() {
    let research = "<research>\n- \"The hull is sound.\" (a.md:3)\n- \"The engine is old.\" (a.md:7)\n</research>";
    let first = request("writer", "draft#1.1", &format!("Write a brief.\n\n{research}"));
    let draft = answer(&first).text;
    let review = |text: &str| {
        let text = format!(
            "Review the result of the task `draft`.\n\n<asked>Write a brief.</asked>\n\n{research}\n\n\
                            The result:\n\n<draft>\n{text}\n</draft>"
        );
        let ask = ModelRequest { schema: schema(verdict()), ..request("critic", "draft_review#1.1", &text) };
        serde_json::from_str::<Value>(&answer(&ask).text).unwrap()
    };
    let said = review(&draft);
    assert_eq!(said["verdict"], "revise", "{said}");
    let issues: Vec<String> =
        said["issues"].as_array().unwrap().iter().map(|issue| format!("- {}", issue.as_str().unwrap())).collect();
    let mut again = first;
    again.messages.push(Message::Assistant { content: draft.clone(), tool_calls: vec![] }.encode().text);
    let revise = format!(
        "Round 2.\n\n<previous>\n{draft}\n</previous>\n\nWhat must be put right:\n\n{}\n\nPut each point right.",
        issues.join("\n")
    );
    again.messages.push(Message::User { content: revise }.encode().text);
    let second = answer(&again).text;
    assert_ne!(second, draft);
    assert_eq!(review(&second), json!({"verdict":"approve","issues":[]}), "{second}");
}

fn verdict() -> Value {
    json!({"type":"object","additionalProperties":false,"required":["verdict","issues"],
        "properties":{"verdict":{"enum":["approve","revise"]},"issues":{"type":"array","items":{"type":"string"}}}})
}

#[test]
fn a_tool_that_changes_something_is_left_alone() {
    let mut ask = request("a", "t.1", "Move x.md away");
    let parameters = json!({"type":"object","properties":{"path":{"type":"string"}},"required":["path"]});
    ask.tools = vec![tool("files.move", parameters.clone(), Effect::Once)].into();
    assert!(answer(&ask).tool_calls.is_empty());
    ask.tools = vec![tool("lookup", parameters, Effect::Read)].into();
    let turn = answer(&ask);
    assert_eq!(paths(&turn.tool_calls), ["x.md"]);
    assert!(answer(&then(ask, &turn.tool_calls, |_| "Found it here.".into())).tool_calls.is_empty());
}

#[test]
fn a_critic_names_what_its_rules_find_and_approves_the_rest() {
    let says = |text: &str| {
        let ask = ModelRequest { schema: schema(verdict()), ..request("critic", "draft_review#1.1", text) };
        serde_json::from_str::<Value>(&answer(&ask).text).unwrap()
    };
    let first = says(&format!("Review this draft.\n```draft\n{REPORT}\n```"));
    assert_eq!(first["verdict"], "revise");
    assert!(first["issues"][0].as_str().unwrap().contains("A budget of 25 cents caps"), "{first}");
    assert_eq!(says("Review.\n```draft\nAll is well.\n```"), json!({"verdict":"approve","issues":[]}));
}

#[test]
fn a_value_fits_its_schema() {
    let shape = json!({"type":"object","required":["title","items","n","ok","kind","more"],
        "$defs":{"item":{"type":"object","required":["id","text"],
            "properties":{"id":{"type":"string","maxLength":5},"text":{"type":"string","minLength":3}}}},
        "properties":{"title":{"type":"string"},"items":{"type":"array","minItems":2,"maxItems":3,
            "items":{"$ref":"#/$defs/item"}},"n":{"type":"integer","minimum":3,"maximum":9},"ok":{"type":"boolean"},
            "kind":{"const":"k"},"more":{"anyOf":[{"type":"null"},{"enum":["x","y"]}]},"left":{"type":"string"}}});
    for text in ["", "Word.", REPORT] {
        let said = answer(&ModelRequest { schema: schema(shape.clone()), ..request("a", "t.1", text) }).text;
        let value: Value = serde_json::from_str(&said).unwrap();
        let validator = jsonschema::validator_for(&shape).unwrap();
        assert!(validator.is_valid(&value), "{value}");
    }
    let endless = json!({"$ref":"#"});
    assert_eq!(answer(&ModelRequest { schema: schema(endless), ..request("a", "t.1", "x") }).text, "null");
}

#[tokio::test]
async fn the_count_file_has_a_line_before_and_after_each_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls");
    let offline = Offline::new(Duration::ZERO, Duration::ZERO, Some(path.clone()));
    offline.call(&request("a", "t.1", "x"), &Unwatched).await.unwrap();
    offline.call(&request("a", "t#2.7", "x"), &Unwatched).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "t.1\ndone t.1\nt#2.7\ndone t#2.7\n");
    let nowhere = Offline::new(Duration::ZERO, Duration::ZERO, Some(folder.path().join("no/such")));
    let failure = nowhere.call(&request("a", "t.1", "x"), &Unwatched).await.unwrap_err();
    assert!(failure.message.contains("count file"), "{}", failure.message);
}

#[tokio::test]
async fn a_request_that_is_on_its_way_is_in_no_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("count");
    let offline = Offline::new(Duration::from_secs(60), Duration::ZERO, Some(path.clone()));
    let request = request("a", "t.1", "x");
    let sent = tokio::time::timeout(Duration::from_millis(50), offline.call(&request, &Unwatched)).await;
    assert!(sent.is_err() && !path.exists(), "its sender was gone before it was whole");
}
