//! Summaries over the wire: what is sent, held, counted and shown of a call that sums up turns.

use std::time::Duration;

use boatswain::core::event::{CallEvent, Event, TaskEvent};
use serde_json::json;

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

const ASK: &str = "You are in the middle of a task";

fn read(number: usize) -> Behaviour {
    let path = format!("{{\"path\": \"note{number}.txt\"}}");
    let call =
        json!({"id": format!("c{number}"), "type": "function", "function": {"name": "files__read", "arguments": path}});
    let message = json!({"role": "assistant", "content": "", "tool_calls": [call]});
    let usage = json!({"prompt_tokens": 50, "completion_tokens": 7});
    Behaviour::Body(
        json!({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}).to_string(),
    )
}

/// Reads fifteen notes, one a turn, in a context of 800 tokens; `sums` answers a summary.
fn crew(provider: &Provider, sums: impl Fn(usize) -> Behaviour + Send + Sync + 'static) -> Folder {
    provider.server.respond(move |body, number| {
        let behaviour = match (body.contains(ASK), body.contains("\"tools\"")) {
            (true, _) => sums(number),
            (false, true) => read(number),
            (false, false) => Behaviour::Answer("Fine.".into()),
        };
        (Duration::ZERO, behaviour)
    });
    let tables = provider.tables("timeout = \"20s\"");
    let folder = Folder::new(&format!(
        "schema = 1\n[budget]\nmax_usd = 1\n{tables}[agents.a]\nmodel = \"m\"\ntools = [\"files.read\"]\n\
         max_turns = 15\ncontext_tokens = 800\n[tasks.t]\nagent = \"a\"\ndescription = \"Read the notes\"\n"
    ));
    for n in 1..40 {
        folder.file(&format!("note{n}.txt"), &format!("Note {n}: {}\n", "the pump holds. ".repeat(90)));
    }
    folder
}

fn summed(folder: &Folder) -> usize {
    folder.events().iter().filter(|event| matches!(event, Event::Task(TaskEvent::Summarised { .. }))).count()
}

#[test]
fn a_summary_is_sent_held_counted_and_shown_like_every_call() {
    let provider = Provider::start();
    let folder = crew(&provider, |_| Behaviour::Answer("The pump holds, says every note.".into()));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    folder.verify();
    let (events, seen) = (folder.events(), provider.seen());
    let sums: Vec<_> = seen.iter().filter(|seen| seen.body.contains(ASK)).collect();
    assert!(sums.len() >= 2 && summed(&folder) == sums.len(), "{} {}", sums.len(), summed(&folder));
    assert_eq!(seen.len(), 15 + sums.len());
    for sum in &sums {
        let body: serde_json::Value = serde_json::from_str(&sum.body).unwrap();
        assert_eq!(body["messages"].as_array().unwrap().len(), 2);
        assert!(
            body.get("tools").is_none() && body["messages"][1]["content"].as_str().unwrap().contains("Read the notes")
        );
    }
    // What follows has the summary in place of the turns.
    let first = seen.iter().position(|seen| seen.body.contains(ASK)).unwrap();
    assert!(seen[first + 1].body.contains("The pump holds, says every note."));
    assert!(seen[first + 1].body.len() < seen[first - 1].body.len());
    let held: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Call(CallEvent::Held(held)) if held.summary => Some(held.call.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(held.len(), sums.len());
    let shown = folder.bosun(&["show", "latest", "t"]).expect(0);
    assert_eq!(shown.out.matches("answered, a summary").count(), sums.len(), "{}", shown.out);
    let prompt = folder.bosun(&["show", "latest", &held[0], "--prompt"]).expect(0);
    assert!(prompt.out.contains(ASK), "{}", prompt.out);
    let cost = folder.bosun(&["cost", "--by", "agent"]).expect(0);
    assert!(cost.out.contains(&format!(" {} ", seen.len())), "{}", cost.out);
    // The worst case of `plan` counts them.
    let plan = folder.bosun(&["plan", "crew.toml", "--json"]).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
    assert_eq!(plan["worst"]["calls"], 3 * (15 + 4));
    for args in [&["replay"][..], &["audit", "verify"], &["prompts", "show", "builtin/summary"]] {
        folder.bosun(args).expect(0);
    }
}

#[test]
fn a_provider_that_refuses_summaries_stops_nothing() {
    for status in [400, 429, 500, 529] {
        let provider = Provider::start();
        let folder = crew(&provider, move |_| {
            Behaviour::Status(status, vec![("retry-after-ms", "5".into())], "{\"error\":{\"message\":\"no\"}}".into())
        });
        folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
        folder.verify();
        let sums = provider.seen().iter().filter(|seen| seen.body.contains(ASK)).count();
        assert_eq!((sums, summed(&folder), provider.requests()), (1, 0, 16), "{status}");
    }
}
