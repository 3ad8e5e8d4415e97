use super::*;
use crate::adapters::models::tests::request;
use crate::ports::model::Unwatched;

fn script(text: &str) -> Scripted {
    Scripted::parse("s.toml", text).unwrap()
}

async fn ask(script: &Scripted, agent: &str, call: &str) -> String {
    script
        .call(&request(agent, call, "the last message"), &Unwatched)
        .await
        .map_or_else(|f| f.message, |answer| answer.text)
}

#[tokio::test]
async fn entries_of_an_exact_step_answer_its_calls_in_file_order_in_any_process() {
    let text = "[[reply]]\nstep = 'draft#1'\ntext = 'one'\n[[reply]]\nstep = 'draft#1'\ntext = 'two'\nrepeat = true\n";
    let first = script(text);
    for (call, said) in [("draft#1.1", "one"), ("draft#1.2", "two"), ("draft#1.1", "one"), ("draft#1.9", "two")] {
        assert_eq!(ask(&first, "a", call).await, said);
        assert_eq!(ask(&script(text), "a", call).await, said, "a new process hears the same");
    }
}

#[tokio::test]
async fn other_entries_answer_once_and_in_order() {
    let script = script(
        "[[reply]]\nagent = 'a'\ntext = '1'\n[[reply]]\nstep = 's[*]'\ntext = '2'\n[[reply]]\ncontains = 'last m'\ntext = '3'\n\
         [[reply]]\nattempt = 2\ntext = 'no'\n[default]\ntext = 'd'\n",
    );
    for said in ["1", "2", "3", "d", "d"] {
        assert_eq!(ask(&script, "a", "s[x].1").await, said);
    }
}

#[tokio::test]
async fn no_reply_names_call_agent_and_file() {
    let failure = script("").call(&request("a", "t#2.3", "x"), &Unwatched).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::OurFault);
    for word in ["s.toml", "t#2.3", "agent a", "[[reply]]"] {
        assert!(failure.message.contains(word), "{}", failure.message);
    }
}

#[tokio::test]
async fn every_field_does_what_it_says() {
    let script = script(
        "[[reply]]\nstep = 't'\njson = { verdict = 'approve', issues = [] }\nusage = { input = 0, output = 0 }\n\
         [[reply]]\nstep = 't'\ntool_calls = [{ name = 'files.read', arguments = { path = 'a' } }, { name = 'x', arguments = 'no json' }]\nusage = 'absent'\n\
         [[reply]]\nstep = 't'\ntext = 'cut'\nfinish = 'length'\nusage = 'unparsable'\n\
         [[reply]]\nstep = 't'\nfail = { status = 429, retry_after = '2s', message = 'slow' }\n\
         [[reply]]\nstep = 't'\nfail = { status = 429, code = 'insufficient_quota' }\n\
         [[reply]]\nstep = 't'\nfail = { class = 'ambiguous' }\n",
    );
    let call = async |n: u32| script.call(&request("a", &format!("t.{n}"), "x"), &Unwatched).await;
    let one = call(1).await.unwrap();
    assert_eq!((one.text.as_str(), one.usage), (r#"{"issues":[],"verdict":"approve"}"#, Usage::reported(0, 0)));
    let two = call(2).await.unwrap();
    assert_eq!((two.finish, two.usage), (Finish::Tool, Usage::ABSENT));
    let asks: Vec<_> = two.tool_calls.iter().map(|ask| (ask.name.as_str(), ask.arguments.as_str())).collect();
    assert_eq!(asks, [("files__read", r#"{"path":"a"}"#), ("x", "no json")]);
    let three = call(3).await.unwrap();
    assert_eq!((three.finish, three.usage.input), (Finish::Length, Count::Unparsable));
    let four = call(4).await.unwrap_err();
    assert_eq!((four.class, four.status, four.retry_after_ms), (FailureClass::Transient, Some(429), Some(2000)));
    assert_eq!(call(5).await.unwrap_err().class, FailureClass::Quota);
    assert_eq!(call(6).await.unwrap_err().class, FailureClass::Ambiguous);
}

#[tokio::test]
async fn delays_pass_and_a_hang_never_ends() {
    let script = script("[[reply]]\nstep='t'\ntext='x'\ndelay='30ms'\n[[reply]]\nstep='t'\nhang=true\n");
    let start = std::time::Instant::now();
    assert_eq!(ask(&script, "a", "t.1").await, "x");
    assert!(start.elapsed() >= Duration::from_millis(30));
    let hung = tokio::time::timeout(Duration::from_millis(50), ask(&script, "a", "t.2")).await;
    assert!(hung.is_err());
}

#[test]
fn errors_of_the_file_name_line_and_key() {
    for (text, words) in [
        ("[[reply]]\ntext = 'a'\ntexx = 'b'\n", ["line 3", "texx"]),
        ("[[reply]]\nhang = true\n[[reply]]\ntext='a'\ndelay = 'soon'\n", ["line 3", "delay"]),
        ("[[reply]]\nfail = { message = 'x' }\n", ["line 1", "status"]),
        ("[[reply]]\ntext = 'a'\njson = 1\n", ["line 1", "json"]),
        ("[[reply]]\nagent = 'a'\n", ["line 1", "says nothing"]),
        ("[[reply]]\ntext = 'a'\nusage = 'none'\n", ["line 3", "usage"]),
        ("[[reply]\n", ["line 1", "s.toml"]),
    ] {
        let wrong = Scripted::parse("s.toml", text).err().unwrap();
        assert!(words.iter().all(|word| wrong.contains(word)), "{wrong}");
    }
}

#[test]
fn stars_stand_for_anything() {
    for (pattern, text, fits) in [
        ("draft#*", "draft#12", true),
        ("*", "", true),
        ("brief/*[*]", "brief/analyst[é]", true),
        ("a*b", "a", false),
        ("a", "ab", false),
    ] {
        assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
    }
}
