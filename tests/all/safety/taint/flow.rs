//! Whither taint goes. Invariant: it follows the words from agent to agent, and stops where no word goes.

use boatswain::cli::crew as crews;
use boatswain::core::event::{RunEvent, Started};

use super::*;

const SOURCE: &str = r#"
[tools.source]
kind = "command"
description = "Reads the mail"
isolation = "none"
effect = "read"
command = ["cat", "payload.txt"]
"#;

/// What is asked for by its mark; `more` comes first.
fn script(more: &str) -> String {
    format!(
        "{more}[[reply]]\ncontains = \"<read>\"\nrepeat = true\ntool_calls = [{{ name = \"source\" }}]\n\
         [[reply]]\ncontains = \"<stamp>\"\nrepeat = true\ntool_calls = [{{ name = \"stamp\", arguments = {{ text = \"x\" }} }}]\n\
         [default]\ntext = \"Done.\"\n"
    )
}

fn folder(body: &str, script: &str) -> Folder {
    let folder = Folder::new(&format!("{HEAD}{SOURCE}{STAMP}{body}"));
    folder.file("payload.txt", "A letter.\n");
    folder.file("script.toml", script);
    folder
}

/// It is asked because of what was read there; and is not, where the owner of the source vouches for it.
#[track_caller]
fn follows(body: &str, more: &str, files: &[(&str, &str)], from: &str) {
    let place = folder(body, &script(more));
    files.iter().for_each(|(path, text)| place.file(path, text));
    let ran = place.bosun(&["run", "crew.toml", "-q"]);
    assert_eq!(ran.code, Some(12), "{}{}", ran.out, ran.err);
    assert_eq!(asked(&place), [(vec![Why::Tainted(from.to_owned())], false)]);
    place.verify();
    let said = place.bosun(&["check", "crew.toml"]).expect(0).out;
    assert!(said.contains("may read what is not to be trusted"), "nobody was told before: {said}");
    let vouched = |text: &str| text.replace("[tools.source]\n", "[tools.source]\nuntrusted = false\n");
    let place = folder("", &script(more));
    place.file("crew.toml", &vouched(&format!("{HEAD}{SOURCE}{STAMP}{body}")));
    files.iter().for_each(|(path, text)| place.file(path, &vouched(text)));
    place.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(place.read("stamped.txt"), "x\n");
}

const ONE_AND_TWO: &str = "[agents.a]\nmodel = \"m\"\ntools = [\"source\", \"stamp\"]\n\
     [tasks.one]\nagent = \"a\"\ndescription = \"<read>\"\n[tasks.two]\nagent = \"a\"\ndescription = \"<stamp>\"\nafter = [\"one\"]\n";

#[test]
fn a_memory_that_is_kept_keeps_its_taint_and_a_new_one_has_none() {
    follows(&ONE_AND_TWO.replace("[tasks.one]", "memory = \"run\"\n[tasks.one]"), "", &[], "source at one.1");
    // No word of the one is in the other.
    let place = folder(ONE_AND_TWO, &script(""));
    place.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(place.read("stamped.txt"), "x\n");
}

#[test]
fn a_name_in_a_template_is_a_way() {
    let body = ONE_AND_TWO.replace("description = \"<stamp>\"", "description = \"{{ one }} <stamp>\"");
    follows(&body, "", &[], "source at one.1");
}

#[test]
fn a_task_that_is_one_tool_call_is_told_like_an_agent() {
    let body = "[agents.a]\nmodel = \"m\"\ntools = [\"source\"]\n[tasks.one]\nagent = \"a\"\ndescription = \"<read>\"\n\
                [tasks.two]\ntool = \"stamp\"\nargs = { text = \"x{{ one | replace('Done.', '') }}\" }\ncontext = [\"one\"]\n";
    follows(body, "", &[], "source at one.1");
}

#[test]
fn what_a_task_without_a_model_reads_taints_its_result() {
    let body = "[agents.a]\nmodel = \"m\"\ntools = [\"stamp\"]\n[tasks.one]\ntool = \"source\"\n\
                [tasks.two]\nagent = \"a\"\ncontext = [\"one\"]\ndescription = \"Now\"\n";
    let more = "[[reply]]\nstep = \"two\"\ntool_calls = [{ name = \"stamp\", arguments = { text = \"x\" } }]\n";
    follows(body, more, &[], "source at one.1");
}

#[test]
fn a_child_has_its_task_from_whoever_asked() {
    let body = "[agents.lead]\nmodel = \"m\"\ntools = [\"source\"]\ndelegates = [\"clerk\"]\n\
                [agents.clerk]\nmodel = \"m\"\ntools = [\"stamp\"]\n[tasks.t]\nagent = \"lead\"\ndescription = \"Lead\"\n";
    let more = "[[reply]]\nstep = \"t\"\ntool_calls = [{ name = \"source\" }]\n\
                [[reply]]\nstep = \"t\"\ntool_calls = [{ name = \"delegate\", arguments = { to = \"clerk\", task = \"<stamp>\" } }]\n\
                [[reply]]\nstep = \"t\"\ntext = \"Led.\"\n";
    follows(body, more, &[], "source at t.1");
}

#[test]
fn a_childs_result_is_read_by_whoever_asked() {
    let body = "[agents.lead]\nmodel = \"m\"\ntools = [\"stamp\"]\ndelegates = [\"reader\"]\n\
                [agents.reader]\nmodel = \"m\"\ntools = [\"source\"]\n[tasks.t]\nagent = \"lead\"\ndescription = \"Lead\"\n";
    let more = "[[reply]]\nstep = \"t\"\ntool_calls = [{ name = \"delegate\", arguments = { to = \"reader\", task = \"<read>\" } }]\n\
                [[reply]]\nstep = \"t\"\ntool_calls = [{ name = \"stamp\", arguments = { text = \"x\" } }]\n\
                [[reply]]\nstep = \"t\"\ntext = \"Led.\"\n";
    follows(body, more, &[], "source at t/reader[1].1");
}

#[test]
fn a_sub_crew_is_given_it_and_gives_it_back() {
    let inner = "schema = 1\n[inputs]\nx = { default = \"\" }\n[models.m]\nid = \"s/m\"\nprice = { input = 1, output = 1 }\n\
         [providers.s]\nkind = \"scripted\"\nfile = \"script.toml\"\n";
    let down = format!(
        "{inner}{STAMP}[agents.clerk]\nmodel = \"m\"\ntools = [\"stamp\"]\n[tasks.in]\nagent = \"clerk\"\ndescription = \"<stamp> {{{{ x }}}}\"\n"
    );
    let body = "[crews.sub]\nfile = \"sub.toml\"\ninputs = { x = \"{{ one }}\" }\n[agents.a]\nmodel = \"m\"\ntools = [\"source\"]\n\
                [tasks.one]\nagent = \"a\"\ndescription = \"<read>\"\n[tasks.two]\ncrew = \"sub\"\ncontext = [\"one\"]\n";
    follows(body, "", &[("sub.toml", &down)], "source at one.1");
    let up = format!(
        "{inner}{SOURCE}[agents.reader]\nmodel = \"m\"\ntools = [\"source\"]\n[tasks.in]\nagent = \"reader\"\ndescription = \"<read>\"\n"
    );
    let body = "[crews.sub]\nfile = \"sub.toml\"\n[agents.a]\nmodel = \"m\"\ntools = [\"stamp\"]\n[tasks.one]\ncrew = \"sub\"\n\
                [tasks.two]\nagent = \"a\"\ndescription = \"{{ one }} <stamp>\"\ncontext = [\"one\"]\n";
    follows(body, "", &[("sub.toml", &up)], "source at one/in.1");
}

#[test]
fn a_window_and_a_list_hand_it_on() {
    let body = "[agents.a]\nmodel = \"m\"\ntools = [\"source\", \"stamp\"]\n[tasks.t]\nagent = \"a\"\nfor_each = \"rows.csv\"\n\
                key = \"id\"\ndescription = \"<{{ item.id }}>\"\n";
    let windowed = format!("{body}window = {{ tokens = 100 }}\n");
    follows(&windowed, "", &[("rows.csv", "id\nread\nstamp\n")], "source at t[read].1");
    // Without one the items know nothing of each other, and whoever gets the list knows of all.
    let listed = format!("{body}[tasks.end]\nagent = \"a\"\ncontext = [\"t\"]\ndescription = \"Now <stamp>\"\n");
    follows(&listed, "", &[("rows.csv", "id\nother\nread\n")], "source at t[read].1");
}

#[test]
fn a_reviewer_that_reads_taints_the_revision() {
    let body = "[agents.writer]\nmodel = \"m\"\ntools = [\"stamp\"]\n[agents.critic]\nmodel = \"m\"\ntools = [\"source\"]\n\
                [tasks.draft]\nagent = \"writer\"\ndescription = \"Write\"\nreview = { by = \"critic\", max_rounds = 2 }\n";
    let more = "[[reply]]\nagent = \"critic\"\ntool_calls = [{ name = \"source\" }]\n\
                [[reply]]\nagent = \"critic\"\njson = { verdict = \"revise\", issues = [\"stamp it\"] }\n\
                [[reply]]\nagent = \"critic\"\nrepeat = true\njson = { verdict = \"approve\", issues = [] }\n\
                [[reply]]\nstep = \"draft#2\"\ntool_calls = [{ name = \"stamp\", arguments = { text = \"x\" } }]\n";
    let place = folder(body, &script(more));
    let ran = place.bosun(&["run", "crew.toml", "-q"]);
    assert_eq!(ran.code, Some(12), "{}{}", ran.out, ran.err);
    let all = asked(&place);
    let [(why, false)] = &all[..] else { panic!("{all:?}") };
    assert!(
        matches!(&why[..], [Why::Tainted(from)] if from.starts_with("source at ") && from.contains("#1")),
        "{why:?}"
    );
    place.verify();
}

#[test]
fn the_file_of_a_trigger_taints_its_run() {
    let body = "[inputs]\nfile = { type = \"path\" }\n[agents.a]\nmodel = \"m\"\ntools = [\"stamp\"]\n\
                [tasks.t]\nagent = \"a\"\ndescription = \"<stamp> {{ file }}\"\n\
                [triggers.scan]\nkind = \"watch\"\npath = \"inbox\"\nsettle = \"100ms\"\ninputs = { file = \"{{ event.path }}\" }\n";
    let place = folder(body, &script(""));
    place.file("inbox/a.txt", "A letter.\n");
    place.bosun(&["watch", "--once"]);
    assert_eq!(asked(&place), [(vec![Why::Tainted("the file of the trigger scan".to_owned())], false)]);
    // Whoever names the file himself has looked at it.
    place.bosun(&["run", "crew.toml", "-q", "--input", "file=inbox/a.txt"]).expect(0);
    assert_eq!(place.read("stamped.txt"), "x\n");
}

#[test]
fn check_and_plan_say_whom_it_may_stop() {
    let place = folder(ONE_AND_TWO, &script(""));
    let said = place.bosun(&["check"]).expect(0).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("a may read what is not to be trusted (source); stamp then waits for a person's yes"),
        "{said}"
    );
    let plan = place.bosun(&["plan", "crew.toml"]).expect(0);
    let plan = format!("{}{}", plan.out, plan.err).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plan.contains("stamp by a (once it has read what is not to be trusted: source)"), "{plan}");
    for out in ["approval = \"never\"\n", "approval = \"always\"\n"] {
        let place = folder("", &script(""));
        place.file("crew.toml", &format!("{HEAD}{SOURCE}{STAMP}{out}{ONE_AND_TWO}"));
        let said = place.bosun(&["check"]).expect(0).out;
        assert!(!said.contains("not to be trusted"), "{said}");
    }
}

#[test]
fn nobody_vouches_for_the_whole_web() {
    let place = folder("", "");
    place.file("crew.toml", &format!("{HEAD}{}[tools.source]\nuse = \"web.fetch\"\nuntrusted = false\n{STAMP}", CLERK));
    let said = place.bosun(&["check"]).expect(3);
    assert!(said.out.contains("nobody can vouch for every page"), "{}{}", said.out, said.err);
}

#[test]
fn a_run_of_before_there_was_taint_goes_on_without_it() {
    let place = folder(ONE_AND_TWO, &script(""));
    place.bosun(&["run", "crew.toml", "-q"]).expect(0);
    let mut started = place.events().into_iter().find_map(|event| match event {
        Event::Run(RunEvent::Started(started)) => Some(*started),
        _ => None,
    });
    let started = started.as_mut().unwrap();
    let taints = |started: &Started| {
        let (crew, _) = crews::pinned(&place.project(), &*place.store(), started).unwrap();
        let (source, stamp) = (&crew.tools["source"], &crew.tools["stamp"]);
        (source.taints, stamp.taints, stamp.approval.expires_ms.is_some())
    };
    assert_eq!(taints(started), (true, true, true));
    started.rules = 1;
    assert_eq!(taints(started), (false, false, false));
}

/// Ann and ben talk, zoe sums up; `tools` are theirs in this order.
fn debate(tools: [&str; 3], rounds: u32) -> String {
    let names = ["ann", "ben", "zoe"].into_iter().zip(tools);
    let agents = names.map(|(name, tools)| format!("[agents.{name}]\nmodel = \"m\"\ntools = [{tools}]\n"));
    let debate = format!("agents = [\"ann\", \"ben\"], max_rounds = {rounds}, judge = \"zoe\"");
    format!("{}[tasks.topic]\ndescription = \"Is it so?\"\ndebate = {{ {debate} }}\n", agents.collect::<String>())
}

/// What one of them does at a step of the debate.
fn does(step: &str, tool: &str, arguments: &str) -> String {
    format!("[[reply]]\nstep = \"{step}\"\ntool_calls = [{{ name = \"{tool}\", arguments = {{ {arguments} }} }}]\n")
}

#[test]
fn who_speaks_next_hears_what_was_read() {
    let (reads, stamps) = ("\"source\"", "\"stamp\"");
    let next = does("topic_ann#1", "source", "") + &does("topic_ben#1", "stamp", "text = \"x\"");
    follows(&debate([reads, stamps, ""], 1), &next, &[], "source at topic_ann#1.1");
    // The first to speak hears the last one of the round before.
    let around = does("topic_ben#1", "source", "") + &does("topic_ann#2", "stamp", "text = \"x\"");
    follows(&debate([stamps, reads, ""], 2), &around, &[], "source at topic_ben#1.1");
    let judge = does("topic_ann#1", "source", "") + &does("topic", "stamp", "text = \"x\"");
    follows(&debate([reads, "", stamps], 1), &judge, &[], "source at topic_ann#1.1");
    // Whoever speaks before anything was read has heard nothing of it.
    let before = does("topic_ann#1", "stamp", "text = \"x\"") + &does("topic_ben#1", "source", "");
    let place = folder(&debate([stamps, reads, ""], 2), &script(&before));
    place.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!((asked(&place), place.read("stamped.txt").as_str()), (Vec::new(), "x\n"));
    place.verify();
}

#[test]
fn what_a_debate_comes_to_is_what_its_speakers_read() {
    let after = "[agents.clerk]\nmodel = \"m\"\ntools = [\"stamp\"]\n\
                 [tasks.end]\nagent = \"clerk\"\ncontext = [\"topic\"]\ndescription = \"Now <stamp>\"\n";
    let body = debate(["\"source\"", "", ""], 1) + after;
    follows(&body, &does("topic_ann#1", "source", ""), &[], "source at topic_ann#1.1");
    // A topic that quotes what was read taints the first who hears it.
    let before = "[agents.reader]\nmodel = \"m\"\ntools = [\"source\"]\n[tasks.one]\nagent = \"reader\"\ndescription = \"<read>\"\n";
    let topic = debate(["\"stamp\"", "", ""], 1).replace("Is it so?", "Is {{ one }} so?");
    let body = before.to_owned() + &topic + "context = [\"one\"]\n";
    follows(&body, &does("topic_ann#1", "stamp", "text = \"x\""), &[], "source at one.1");
}

#[test]
fn an_error_may_quote_what_was_read() {
    let body = "[agents.reader]\nmodel = \"m\"\ntools = [\"source\"]\n[agents.clerk]\nmodel = \"m\"\ntools = [\"stamp\"]\n\
                [tasks.one]\nagent = \"reader\"\ndescription = \"Read\"\non_error = \"two\"\n\
                [tasks.two]\nagent = \"clerk\"\ndescription = \"It failed: {{ error.message }} <stamp>\"\n";
    let fails = "[[reply]]\nstep = \"one\"\nfail = { status = 400, message = \"A letter.\" }\n";
    let more = does("one", "source", "") + fails;
    follows(body, &more, &[], "source at one.1");
    // A task that failed before it had read anything tells nothing of it.
    let place = folder(body, &script(fails));
    place.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!((asked(&place), place.read("stamped.txt").as_str()), (Vec::new(), "x\n"));
}

#[test]
fn what_the_one_that_stood_in_has_read_taints_the_result() {
    let body = "[agents.writer]\nmodel = \"m\"\n[agents.reader]\nmodel = \"m\"\ntools = [\"source\"]\n\
                [agents.clerk]\nmodel = \"m\"\ntools = [\"stamp\"]\n\
                [tasks.one]\nagent = \"writer\"\ndescription = \"Write\"\non_error = \"two\"\n\
                [tasks.two]\nagent = \"reader\"\ndescription = \"Stand in\"\n\
                [tasks.end]\nagent = \"clerk\"\ncontext = [\"one\"]\ndescription = \"Now <stamp>\"\n";
    let more = "[[reply]]\nstep = \"one\"\nfail = { status = 400 }\n".to_owned() + &does("two", "source", "");
    follows(body, &more, &[], "source at two.1");
    // Nobody had to stand in.
    let place = folder(body, &script(""));
    place.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!((asked(&place), place.read("stamped.txt").as_str()), (Vec::new(), "x\n"));
}
