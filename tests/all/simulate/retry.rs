//! What an attempt does differently, seen in the requests: data in, requests and events out.

use std::cell::RefCell;
use std::rc::Rc;

use boatswain::core::chat::{FailureClass, Finish, Message, Milli, ModelRequest, Parameter};
use boatswain::core::event::{CallEvent, ErrorClass, Event, RunEnd, TaskEvent, TaskStatus};

use super::crews::crew;
use super::driver::{End, Sim};
use super::random::Random;
use super::script::{Mood, Reply};
use super::{FAIR, ends};

type Seen = Rc<RefCell<Vec<ModelRequest>>>;

/// Plays `body` with these replies in order, then "Fine."
fn play(body: &str, replies: Vec<Reply>, meddle: impl FnOnce(&mut Sim)) -> (Sim, End, Seen) {
    let crew = crew(&[("a.toml", body), ("prompts/short.md", "In short: {{ topic }}, attempt {{ attempt }}")]);
    let (seen, mut replies) = (Seen::default(), replies.into_iter());
    let into = seen.clone();
    let says = move |request: &ModelRequest, _: &mut Random| {
        into.borrow_mut().push(request.clone());
        Some(replies.next().unwrap_or_else(|| Reply::Text("Fine.".into())))
    };
    let mut sim = Sim::new(&crew, &[("topic", "pumps")], Mood { tools: 0, ..FAIR }, 3).says(says).resumes(0);
    meddle(&mut sim);
    let end = sim.go();
    (sim, end, seen)
}

fn told(request: &ModelRequest) -> Vec<String> {
    let messages = request.messages.iter().map(|text| Message::decode(text).unwrap());
    messages.filter(|message| matches!(message, Message::User { .. })).map(|m| m.content().to_owned()).collect()
}

fn bad() -> Reply {
    Reply::Finish(Finish::Length)
}

const INPUT: &str = "[inputs]\ntopic = { default = \"pumps\" }\n";

#[test]
fn each_entry_applies_to_its_attempt_alone_and_beyond_the_list_the_rule_does() {
    let body = format!(
        "{INPUT}[agents]\na = {{ model = \"m\" }}\n[tasks.x]\nagent = \"a\"\ndescription = \"Do\"\nattempts = 5\n\
         retry = [{{ temperature = 0.2, max_output = 90 }}, {{ prompt = \"short\" }}, {{ model = \"small\" }}]\n"
    );
    let (sim, end, seen) = play(&body, vec![bad(), bad(), bad(), bad()], |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    let seen = seen.borrow();
    let of = |n: usize| (&*seen[n].model, seen[n].settings.temperature, seen[n].settings.max_output);
    assert_eq!(of(0), ("m", None, 500));
    assert_eq!(of(1), ("m", Some(Milli(200)), 90));
    assert_eq!(of(2), ("m", None, 500), "entry 2 names neither");
    assert_eq!(of(3), ("small", None, 50));
    assert_eq!(of(4), ("m", None, 500), "beyond the list");
    assert_eq!(told(&seen[0])[0], "Do");
    assert_eq!(told(&seen[2])[0], "In short: pumps, attempt 3\n\nDo");
    assert_eq!(told(&seen[3])[0], "Do", "the task's own words again");
    assert!(seen[1..].iter().all(|request| told(request).len() == 2), "each is told what was wrong");
    let variations: Vec<_> = sim
        .events()
        .filter_map(|event| match event {
            Event::Task(TaskEvent::AttemptFailed { variation, .. }) => Some(variation.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(variations[0].max_output, Some(90));
    assert!(variations[1].prompt.is_some() && variations[1].model.is_none());
    assert_eq!(variations[2].model.as_deref(), Some("small"));
    assert!(variations[3].shorter && variations[3].model.is_none());
}

#[test]
fn the_third_try_of_a_bad_answer_is_the_fallback_s() {
    let body = "[agents]\na = { model = \"twin\" }\n[tasks.x]\nagent = \"a\"\ndescription = \"Do\"\n";
    let (_, end, seen) = play(body, vec![bad(), bad()], |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    let models: Vec<_> = seen.borrow().iter().map(|request| request.model.to_string()).collect();
    assert_eq!(models, ["m", "m", "small"]);
}

#[test]
fn a_model_that_refuses_is_left_after_three_waits_and_no_attempt_is_spent() {
    let body = "[agents]\na = { model = \"twin\" }\n[tasks.x]\nagent = \"a\"\ndescription = \"Do\"\n";
    let busy = || Reply::Fail(FailureClass::Transient);
    let (sim, end, seen) = play(body, vec![busy(), busy(), busy(), busy(), busy(), busy(), bad()], |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    let seen = seen.borrow();
    let caps: Vec<_> = seen.iter().map(|request| request.settings.max_output).collect();
    // twin, small, m (which is twin's id with other settings): they are told apart by their limits.
    assert_eq!(caps, [200, 200, 200, 50, 50, 50, 500, 500]);
    let fell: Vec<_> = sim
        .events()
        .filter_map(|event| match event {
            Event::Task(TaskEvent::FellBack { model, .. }) => Some(model.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(fell, ["small", "m"]);
    let waits = sim.kinds().iter().filter(|kind| **kind == "task.woken").count();
    assert_eq!((waits, seen[6].attempt), (6, 1));
    assert_eq!(seen[7].settings.max_output, 500, "a bad answer does not bring back the model that refuses");
}

#[test]
fn a_model_that_is_left_alone_is_not_waited_for_and_is_tried_again_once_it_has_cooled() {
    let body = "[agents]\na = { model = \"twin\", tools = [\"look\"], max_turns = 9 }\n[tasks.x]\nagent = \"a\"\ndescription = \"Do\"\n";
    let crew = crew(&[("a.toml", body)]);
    let seen = Seen::default();
    let into = seen.clone();
    let says = move |request: &ModelRequest, _: &mut Random| {
        into.borrow_mut().push(request.clone());
        let look = super::script::ask(0, "look", &serde_json::json!({ "at": format!("{}", request.call.number) }));
        Some(if request.call.number > 4 { Reply::Text("Fine.".into()) } else { Reply::Tools(vec![look]) })
    };
    let mut sim = Sim::new(&crew, &[], FAIR, 3).says(says).resumes(0);
    // What is known before each call.
    let step: boatswain::core::ids::Step = "x".parse().unwrap();
    let cooling =
        |agent, model: &str| TaskEvent::Cooling { step: step.clone(), agent, model: model.into(), until_ms: 7 };
    let mut told = 0;
    while !sim.kinds().contains(&"run.finished") {
        let ready =
            sim.run.agents.iter().find(|(_, agent)| {
                agent.job.as_ref().is_some_and(|job| job.phase == boatswain::core::agent::Phase::Ready)
            });
        let turns = sim.kinds().iter().filter(|kind| **kind == "tool.returned").count();
        if let Some(agent) = ready.map(|(who, _)| who.clone()).filter(|_| turns == told) {
            told += 1;
            let news = match turns {
                0 => Some(cooling(agent, "twin")),
                1 => Some(cooling(agent, "small")),
                2 => Some(cooling(agent, "m")),
                3 => Some(TaskEvent::Cooled { step: step.clone(), agent, model: "twin".into() }),
                _ => None,
            };
            news.into_iter().for_each(|event| sim.append(Event::Task(event)));
        }
        assert!(sim.one());
    }
    let caps: Vec<_> = seen.borrow().iter().map(|request| request.settings.max_output).collect();
    // With all of them left alone there is nobody else: it waits at the gate of the last.
    assert_eq!(caps, [50, 500, 500, 200, 200]);
    sim.check_journal();
}

#[test]
fn without_a_fallback_it_waits_as_long_as_it_takes() {
    let body = "[agents]\na = { model = \"m\" }\n[tasks.x]\nagent = \"a\"\ndescription = \"Do\"\n";
    let busy = (0..9).map(|_| Reply::Fail(FailureClass::Transient)).collect();
    let (sim, end, _) = play(body, busy, |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    assert!(!sim.kinds().contains(&"task.fell_back") && !sim.kinds().contains(&"task.attempt_failed"));
}

/// `openai/o3` refuses any temperature; `openai/gpt-4.1` takes them.
#[test]
fn a_temperature_that_the_model_refuses_is_skipped_for_the_next_variation() {
    let body = |model: &str, retry: &str| {
        format!(
            "{INPUT}[models.x]\nid = \"openai/{model}\"\ntemperature = 0.8\nfallback = [\"small\"]\n\
             [agents]\na = {{ model = \"x\" }}\n[tasks.x]\nagent = \"a\"\ndescription = \"Do\"\n{retry}\n"
        )
    };
    let listed =
        "retry = [{ temperature = 0.2 }, { prompt = \"short\" }, { temperature = 0.3, max_output = 77 }]\nattempts = 4";
    let varied = |model: &str, retry: &str| {
        let (sim, end, seen) = play(&body(model, retry), vec![bad(), bad(), bad()], |_| {});
        assert_eq!(end, End::Finished(RunEnd::Completed));
        let variations = sim.events().filter_map(|event| match event {
            Event::Task(TaskEvent::AttemptFailed { variation, .. }) => Some(variation.clone()),
            _ => None,
        });
        (variations.collect::<Vec<_>>(), seen)
    };
    let (takes, seen) = varied("gpt-4.1", listed);
    assert_eq!(takes[0].temperature, Some(Milli(200)));
    assert_eq!(told(&seen.borrow()[2])[0].lines().next(), Some("In short: pumps, attempt 3"));
    let (skips, seen) = varied("o3", listed);
    assert_eq!((skips[0].temperature, skips[0].prompt.is_some()), (None, true), "the entry after it");
    assert_eq!(told(&seen.borrow()[1])[0].lines().next(), Some("In short: pumps, attempt 2"));
    assert_eq!((skips[1].temperature, skips[1].max_output), (None, Some(77)), "the rest of an entry stands");
    // The table's own: a lower temperature, then the fallback model.
    let (takes, _) = varied("gpt-4.1", "attempts = 4");
    assert_eq!((takes[0].temperature, &takes[0].model), (Some(Milli(400)), &None));
    let (skips, seen) = varied("o3", "attempts = 4");
    assert_eq!((skips[0].temperature, skips[0].model.as_deref()), (None, Some("small")));
    assert_eq!(&*seen.borrow()[1].model, "small");
}

#[test]
fn an_accepted_answer_is_the_result_if_it_has_the_form() {
    let body = "[agents]\na = { model = \"m\" }\nb = { model = \"m\" }\n[tasks.x]\nagent = \"a\"\ndescription = \"Do\"\n\
                output_schema = { n = \"int\" }\nguardrails = [{ if = \"output.n > 99\", say = \"more\" }]\n\
                [tasks.y]\nagent = \"b\"\ndescription = \"Then {{ x.n }}\"\ncontext = [\"x\"]\n";
    let replies =
        || vec![Reply::Text("nothing".into()), Reply::Text("{\"n\": 7,}".into()), Reply::Text("{\"n\": 8}".into())];
    for (attempt, fits) in [(1, false), (2, true), (3, true)] {
        let (mut sim, end, seen) = play(body, replies(), |_| {});
        assert!(matches!(end, End::Parked(_)));
        let answers: Vec<_> = sim
            .events()
            .filter_map(|event| match event {
                Event::Call(CallEvent::Answered(answered)) => {
                    Some((answered.agent.clone(), Box::new(answered.message)))
                }
                _ => None,
            })
            .collect();
        let (agent, answer) = answers[attempt - 1].clone();
        let step = "x".parse().unwrap();
        sim.append(Event::Run(boatswain::core::event::RunEvent::Resumed { by: "me".into() }));
        sim.append(Event::Task(TaskEvent::Accepted { step, agent, attempt: attempt as u32, answer, by: "me".into() }));
        let end = sim.go();
        if fits {
            assert_eq!(end, End::Finished(RunEnd::Completed), "attempt {attempt}");
            assert_eq!(ends(&sim)["x"], TaskStatus::Done.as_str());
            assert_eq!(
                told(seen.borrow().last().unwrap())[0].lines().next(),
                Some(if attempt == 2 { "Then 7" } else { "Then 8" })
            );
        } else {
            assert!(matches!(end, End::Parked(_)), "it waits for a person again");
        }
    }
}

#[test]
fn a_parameter_is_left_out_only_where_the_provider_names_one_that_was_sent() {
    let body = "[models.warm]\nid = \"openai/w\"\ntemperature = 0.7\nseed = 4\n[agents]\na = { model = \"warm\" }\n\
                [tasks.x]\nagent = \"a\"\ndescription = \"Do\"\noutput_schema = { n = \"int\" }\n";
    let good = || Reply::Text("{\"n\": 1}".into());
    let refuse = |param| Reply::Refuse(Some(param));
    let (_, end, seen) = play(body, vec![refuse(Parameter::Temperature), refuse(Parameter::Schema), good()], |_| {});
    assert_eq!(end, End::Finished(RunEnd::Completed));
    let sent: Vec<_> =
        seen.borrow().iter().map(|r| (r.settings.temperature, r.settings.seed, r.settings.without.clone())).collect();
    assert_eq!(sent[0], (Some(Milli(700)), Some(4), vec![]));
    assert_eq!(sent[1], (None, Some(4), vec![Parameter::Temperature]));
    assert_eq!(sent[2], (None, Some(4), vec![Parameter::Temperature, Parameter::Schema]), "what was refused stays out");
    for param in [None, Some(Parameter::TopP), Some(Parameter::ParallelTools)] {
        let (sim, end, seen) = play(body, vec![Reply::Refuse(param)], |_| {});
        assert!(matches!(end, End::Parked(_)), "{param:?} was not sent");
        assert_eq!(seen.borrow().len(), 1);
        let review = sim
            .events()
            .any(|event| matches!(event, Event::Task(TaskEvent::NeedsReview { class: ErrorClass::OurFault, .. })));
        assert!(review);
    }
}
