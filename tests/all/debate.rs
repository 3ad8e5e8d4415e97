//! Debates through the binary. Invariant: each speaks once a round, in order, with the others' last words and
//! no older ones before it; rounds are bounded by what `plan` says, and whatever dies nothing is asked twice.

use std::time::Duration;

use boatswain::core::event::{Event, TaskEvent};

use super::stand_in::{Behaviour, Seen};
use super::support::{Folder, Provider, kill9, until, wait};

const AGENTS: &str =
    "[agents]\nann = { model = \"m\" }\nben = { model = \"m\" }\ncat = { model = \"m\" }\nzoe = { model = \"m\" }\n";

fn folder(provider: &Provider, body: &str) -> Folder {
    Folder::new(&format!("schema = 1\n{}{AGENTS}{body}", provider.tables("max_concurrency = 8")))
}

fn debate(settings: &str, more: &str) -> String {
    format!("[tasks.topic]\ndescription = \"Is it <so>?\"\ndebate = {{ {settings} }}\n{more}\n")
}

const JUDGED: &str = "agents = [\"ann\", \"ben\"], max_rounds = 3, judge = \"zoe\"";

/// Numbers of the answers that the last user message of each request holds. Answer n is `word n end`.
fn heard(provider: &Provider) -> Vec<Vec<usize>> {
    let of = |seen: &Seen| {
        let last = seen.messages().pop().unwrap().1;
        (1..=20).filter(|n| last.contains(&format!("word {n} end"))).collect()
    };
    provider.seen().iter().map(of).collect()
}

fn speak(provider: &Provider) {
    provider.server.respond(|_, number| (Duration::ZERO, Behaviour::Answer(format!("word {number} end"))));
}

fn ended(folder: &Folder) -> Vec<String> {
    let events = folder.events().into_iter();
    let ended = events.filter_map(|event| match event {
        Event::Task(TaskEvent::Finished { step, result, .. }) => Some(format!("{step} {}", result.status.as_str())),
        Event::Task(TaskEvent::Skipped { step, .. }) => Some(format!("{step} skipped")),
        _ => None,
    });
    ended.collect()
}

#[test]
fn each_hears_the_others_last_words_and_no_older_ones() {
    let provider = Provider::start();
    speak(&provider);
    let folder = folder(&provider, &debate(JUDGED, ""));
    let ran = folder.bosun(&["run", "crew.toml"]).expect(0);
    assert_eq!(ran.out, "word 7 end\n");
    assert_eq!(heard(&provider), [vec![], vec![1], vec![2], vec![3], vec![4], vec![5], vec![5, 6]]);
    let steps = ["topic_ann#1", "topic_ben#1", "topic_ann#2", "topic_ben#2", "topic_ann#3", "topic_ben#3", "topic"];
    assert_eq!(ended(&folder), steps.map(|step| format!("{step} done")));
    assert!(ran.err.contains("round 2 of topic_ben: again"), "{}", ran.err);
    assert!(ran.err.contains("round 3 of topic_ben: the debate is over"), "{}", ran.err);
    // Who speaks goes on from its own turns; who judges begins anew.
    let seen: Vec<Vec<(String, String)>> = provider.seen().iter().map(Seen::messages).collect();
    let roles = |n: usize| seen[n].iter().map(|(role, _)| role.chars().next().unwrap()).collect::<String>();
    assert_eq!([roles(0), roles(2), roles(4), roles(5), roles(6)], ["su", "suau", "suauau", "suauau", "su"]);
    let answers = |n: usize| seen[n].iter().filter(|(role, _)| role == "assistant").map(|(_, text)| text.clone());
    assert_eq!(answers(5).collect::<Vec<_>>(), ["word 2 end", "word 4 end"]);
    // Fenced and named.
    assert!(
        seen[3][3].1.contains("\n<ann>word 3 end</ann>\n") && !seen[3][3].1.contains("Is it <so>?"),
        "{:?}",
        seen[3]
    );
    assert!(seen[6][1].1.contains("<ann>word 5 end</ann>") && seen[6][1].1.contains("<ben>word 6 end</ben>"));
    assert!(seen[6][1].1.starts_with("Is it <so>?"), "{:?}", seen[6]);
    folder.verify();
}

#[test]
fn three_speak_in_order_and_read_two() {
    let provider = Provider::start();
    speak(&provider);
    let body = debate("agents = [\"cat\", \"ann\", \"ben\"], max_rounds = 2, judge = \"zoe\"", "");
    let folder = folder(&provider, &body);
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    let words = [vec![], vec![1], vec![1, 2], vec![2, 3], vec![3, 4], vec![4, 5], vec![4, 5, 6]];
    assert_eq!(heard(&provider), words);
    assert_eq!(ended(&folder)[0], "topic_cat#1 done");
    folder.verify();
}

#[test]
fn until_is_asked_after_each_round_and_ends_it() {
    let provider = Provider::start();
    // The fourth message, Ben's second, is the first in which both agree.
    provider.server.respond(|_, number| {
        let answer = match number {
            5 => "{\"verdict\": \"sail\"}".to_owned(),
            n => format!("{{\"argument\": \"word {n} end\", \"agree\": {}}}", n > 1 && n != 2),
        };
        (Duration::ZERO, Behaviour::Answer(answer))
    });
    let settings = "agents = [\"ann\", \"ben\"], max_rounds = 9, judge = \"zoe\", until = \"ann.agree and ben.agree\", \
        says = { argument = \"string\", agree = \"bool\" }";
    let folder = folder(&provider, &debate(settings, "output_schema = { verdict = \"sail | stay\" }"));
    let ran = folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!((ran.out.as_str(), provider.requests()), ("{\"verdict\":\"sail\"}\n", 5));
    let asks = |n: usize| provider.seen()[n].body.contains("agree") && !provider.seen()[n].body.contains("sail | stay");
    assert!(asks(0) && asks(3), "messages have the schema of messages");
    folder.verify();
    // Over the number of rounds, and texts.
    let provider = Provider::start();
    speak(&provider);
    let settings = "agents = [\"ann\", \"ben\"], max_rounds = 9, until = \"round == 2 or 'word 2' in ann\"";
    let folder = self::folder(&provider, &debate(settings, ""));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(provider.requests(), 4);
    folder.verify();
}

#[test]
fn without_a_judge_the_last_message_is_the_result_and_is_written_once() {
    let provider = Provider::start();
    provider
        .server
        .respond(|_, number| (Duration::ZERO, Behaviour::Answer(format!("{{\"position\": \"word {number} end\"}}"))));
    let more = "output_schema = { position = \"string\" }\noutput_file = \"out/topic.json\"\n\
        [tasks.after]\nagent = \"zoe\"\ndescription = \"Sum up\"\ncontext = [\"topic\"]";
    let folder = folder(&provider, &debate("agents = [\"ann\", \"ben\"], max_rounds = 2", more));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0).out.contains("word 5 end");
    assert_eq!(folder.read("out/topic.json"), "{\"position\":\"word 4 end\"}");
    let steps = ["topic_ann#1 done", "topic#1 done", "topic_ann#2 done", "topic#2 done", "after done"];
    assert_eq!(ended(&folder), steps);
    let written = folder.events().iter().filter(|event| event.kind() == "task.file_written").count();
    assert_eq!((written, heard(&provider)[4].clone()), (1, vec![4]));
    folder.verify();
}

/// Figures of one row of `plan`: CALLS and MAX.
fn planned(folder: &Folder, row: &str) -> [usize; 2] {
    let out = folder.bosun(&["plan", "crew.toml"]).expect(0).out;
    let table = out.lines().skip_while(|line| !line.starts_with("TASK"));
    let line = table.into_iter().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("{out}"));
    let cells: Vec<usize> = line.split_whitespace().skip(1).take(2).map(|cell| cell.parse().unwrap()).collect();
    [cells[0], cells[1]]
}

#[test]
fn the_worst_case_is_what_plan_says() {
    let provider = Provider::start();
    // Two of three attempts of every step are no answer.
    provider.server.respond(|_, number| {
        let text = if number % 3 == 0 { format!("word {number} end") } else { String::new() };
        (Duration::ZERO, Behaviour::Answer(text))
    });
    let folder = folder(&provider, &debate(JUDGED, ""));
    let [expected, most] = planned(&folder, "total");
    assert_eq!((expected, most), (7, 21), "three rounds of two, and the judge; three attempts of each");
    assert_eq!(planned(&folder, "smallest"), [3, 3]);
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(provider.requests(), most);
    let spent = folder.verify()[0].sums.settled;
    let json: serde_json::Value =
        serde_json::from_str(&folder.bosun(&["plan", "crew.toml", "--json"]).expect(0).out).unwrap();
    let worst = ["input_tokens", "output_tokens"].iter().map(|part| json["worst"][part].as_u64().unwrap()).sum::<u64>();
    assert!(spent.tokens.0 <= worst, "{spent:?} of {worst}");
}

#[test]
fn killed_in_every_turn_it_goes_on_and_repeats_nothing() {
    let answer = |body: &str| {
        // The answer depends on the whole prompt: a wrong one after a resume would show.
        let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
        let sum = parsed["messages"]
            .to_string()
            .bytes()
            .fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        (Duration::ZERO, Behaviour::Answer(format!("I hold {sum:x}.")))
    };
    let provider = Provider::start();
    provider.server.respond(move |body, _| answer(body));
    let whole = folder(&provider, &debate(JUDGED, ""));
    let expected = whole.bosun(&["run", "crew.toml", "-q"]).expect(0).out;
    let prompts: Vec<_> = provider.seen().iter().map(Seen::messages).collect();

    let provider = Provider::start();
    provider.server.respond(move |body, number| match number % 2 {
        1 => (Duration::ZERO, Behaviour::Hang),
        _ => answer(body),
    });
    let folder = folder(&provider, &debate(JUDGED, ""));
    for turn in 0..7 {
        let child = folder.start(&["run", "crew.toml", "--key", "k", "-q"]);
        until("the turn's call", || provider.requests() == 2 * turn + 1);
        kill9(child.id());
        wait(child);
        folder.verify();
        if turn == 6 {
            break;
        }
        // Goes on by exactly this turn: the next one hangs and is killed.
    }
    let ran = folder.bosun(&["run", "crew.toml", "--key", "k", "-q"]).expect(0);
    assert_eq!(ran.out, expected);
    let seen: Vec<_> = provider.seen().iter().map(Seen::messages).collect();
    assert_eq!(seen.len(), 14, "each of seven calls was lost once and made once more");
    for (turn, prompt) in prompts.iter().enumerate() {
        assert_eq!((&seen[2 * turn], &seen[2 * turn + 1]), (prompt, prompt), "turn {turn}");
    }
    folder.verify();
}

#[test]
fn a_speaker_out_of_attempts_needs_review_and_the_debate_waits() {
    let provider = Provider::start();
    // Ben's second message is nothing, three times over.
    provider.server.respond(|_, number| {
        let text = if (4..=6).contains(&number) { String::new() } else { format!("word {number} end") };
        (Duration::ZERO, Behaviour::Answer(text))
    });
    let folder = folder(&provider, &debate(JUDGED, ""));
    let ran = folder.bosun(&["run", "crew.toml"]).expect(16);
    assert!(ran.err.contains("topic_ben#2 needs review"), "{}", ran.err);
    folder.verify();
    let ran = folder.bosun(&["resume", "-q", "--retry", "topic_ben#2"]).expect(0);
    assert_eq!((ran.out.as_str(), provider.requests()), ("word 10 end\n", 10));
    folder.verify();
}

#[test]
fn of_an_optional_debate_what_was_said_stands() {
    // Who fails, and which words the judge gets: those of the round before it, as far as there is one.
    for (failing, words) in [(4..=6, vec![2, 3]), (3..=5, vec![1, 2]), (2..=4, vec![1])] {
        let provider = Provider::start();
        let fails = failing.clone();
        provider.server.respond(move |_, number| {
            let text = if fails.contains(&number) { String::new() } else { format!("word {number} end") };
            (Duration::ZERO, Behaviour::Answer(text))
        });
        let folder = folder(&provider, &debate(JUDGED, "optional = true"));
        folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
        assert_eq!(heard(&provider).last(), Some(&words), "{failing:?}");
        assert_eq!(ended(&folder).last().map(String::as_str), Some("topic done"));
        folder.verify();
    }
    // Nobody has said anything: there is nothing to judge.
    let provider = Provider::start();
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer(String::new())));
    let folder = folder(&provider, &debate(JUDGED, "optional = true"));
    folder.bosun(&["run", "crew.toml", "-q"]);
    assert_eq!(provider.requests(), 3);
    assert_eq!(ended(&folder).last().map(String::as_str), Some("topic skipped"));
    folder.verify();
}

#[test]
fn short_of_budget_it_has_fewer_rounds_and_its_result() {
    for (calls, rounds) in [(3, 1), (4, 1), (5, 2), (6, 2), (7, 3)] {
        let provider = Provider::start();
        speak(&provider);
        let budget = format!("[budget]\nmax_calls = {calls}\non_exhausted = \"finish\"\n");
        let folder = folder(&provider, &format!("{}{budget}", debate(JUDGED, "")));
        let ran = folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
        assert_eq!(ended(&folder).last().map(String::as_str), Some("topic done"), "{calls} calls: {}", ran.err);
        assert!(provider.requests() <= calls);
        let ben = ended(&folder).iter().filter(|step| step.starts_with("topic_ben") && step.ends_with("done")).count();
        assert_eq!(ben, rounds, "{calls} calls: {:?}", ended(&folder));
        folder.verify();
    }
}

#[test]
fn a_condition_leaves_it_out_as_a_whole_and_context_comes_first() {
    let provider = Provider::start();
    speak(&provider);
    let facts = "[tasks.facts]\nagent = \"cat\"\ndescription = \"Facts\"\n";
    let left = folder(
        &provider,
        &format!(
            "{facts}{}[tasks.end]\nagent = \"zoe\"\ndescription = \"End\"\nafter = [\"topic\"]\n",
            debate(JUDGED, "when = \"'flood' in facts\"\n")
        ),
    );
    left.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(ended(&left), ["facts done", "topic_ann#1 skipped", "topic_ben#1 skipped", "topic skipped", "end done"]);
    left.verify();
    let provider = Provider::start();
    speak(&provider);
    let folder = folder(
        &provider,
        &format!(
            "{facts}{}",
            debate("agents = [\"ann\", \"ben\"], max_rounds = 1, judge = \"zoe\"", "context = [\"facts\"]")
        ),
    );
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(heard(&provider), [vec![], vec![1], vec![1, 2], vec![1, 2, 3]]);
    assert!(provider.seen()[1].messages()[1].1.contains("<facts>word 1 end</facts>"));
    folder.verify();
}

/// Its own words for what was said take the place of the built-in ones.
#[test]
fn a_prompt_may_place_the_voices_itself() {
    let provider = Provider::start();
    speak(&provider);
    let body = debate(JUDGED, "").replace(
        "Is it <so>?",
        "Round {{ round }}.{% if ann %} Ann: {{ ann }}{% endif %}{% if ben %} Ben: {{ ben }}{% endif %}",
    );
    let folder = folder(&provider, &body);
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    let last: Vec<String> = provider.seen().iter().map(|seen| seen.messages().pop().unwrap().1).collect();
    assert_eq!(last[0], "Round 1.");
    assert_eq!(last[1], "Round 1. Ann: <ann>word 1 end</ann>");
    assert_eq!(last[2], "Round 2. Ann: <ann>word 1 end</ann> Ben: <ben>word 2 end</ben>");
    assert_eq!(last[6], "Round 3. Ann: <ann>word 5 end</ann> Ben: <ben>word 6 end</ben>");
    folder.verify();
}

/// Between two of its turns, from another process.
#[test]
fn a_speaker_can_be_told_something_between_its_turns() {
    let provider = Provider::start();
    provider.server.respond(|_, number| {
        let wait = if number == 2 { 700 } else { 0 };
        (Duration::from_millis(wait), Behaviour::Answer(format!("word {number} end")))
    });
    let folder = folder(&provider, &debate(JUDGED, ""));
    let child = folder.start(&["run", "crew.toml", "-q"]);
    until("Ben's first turn", || provider.requests() == 2);
    let told = folder.bosun(&["tell", "latest", "ann", "Think of the tide."]).expect(0);
    assert!(told.err.contains("ann (topic_ann#1) hears it at its next turn"), "{}", told.err);
    wait(child).expect(0);
    let seen = provider.seen();
    let with: Vec<usize> = (0..seen.len()).filter(|n| seen[*n].body.contains("Think of the tide.")).collect();
    assert_eq!((with, seen.len()), (vec![2, 4], 7), "from Ann's second turn on, which remembers it");
    assert!(seen[2].messages().pop().unwrap().1.contains("Think of the tide."));
    folder.verify();
}
