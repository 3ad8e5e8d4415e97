//! What the words of a crew file come to in a run: how a task that gave nothing is spoken of, rows of a
//! sub-crew, tools of a task, budgets below the run's.

use boatswain::cli::crew as crews;
use boatswain::core::chat::Message;
use boatswain::core::event::{Event, RunEvent, Started, TaskEvent, TaskResult, TaskStatus, Work};
use boatswain::core::rules;

use super::support::{Folder, Ran};

/// Models that answer from a script: `m` has a price, a call of it costs about a cent.
const TABLES: &str = "[providers.p]\nkind = \"scripted\"\nfile = \"replies.toml\"\n\
    [models.m]\nid = \"p/x\"\nprice = { input = 1, output = 100 }\nmax_output = 100\n[agents.a]\nmodel = \"m\"\n";
const SAYS: &str = "[default]\ntext = \"Said.\"\n";

fn folder(crew: &str, replies: &str) -> Folder {
    let folder = Folder::new(&format!("schema = 1\n{crew}"));
    folder.file("replies.toml", &format!("{replies}{SAYS}"));
    folder
}

fn results(folder: &Folder) -> Vec<(String, TaskResult)> {
    let ended = folder.events().into_iter().filter_map(|event| match event {
        Event::Task(TaskEvent::Finished { step, result, .. }) => Some((step.to_string(), result)),
        _ => None,
    });
    ended.collect()
}

#[track_caller]
fn status(folder: &Folder, step: &str) -> TaskStatus {
    let all = results(folder);
    all.iter().find(|(of, _)| of == step).unwrap_or_else(|| panic!("{step} has not ended: {all:?}")).1.status
}

/// The user message that a step begins with.
#[track_caller]
fn told(folder: &Folder, wanted: &str) -> String {
    let user = folder.events().into_iter().find_map(|event| match event {
        Event::Task(TaskEvent::Assigned { step, work, .. }) if step.as_str() == wanted => match *work {
            Work::Prompt { user, .. } => Some(user),
            Work::Tool { .. } => None,
        },
        _ => None,
    });
    let user = user.unwrap_or_else(|| panic!("{wanted} was not assigned"));
    let text = folder.store().blob(&user.message).unwrap().unwrap();
    Message::decode(&text).unwrap().content().to_owned()
}

fn started(folder: &Folder) -> Started {
    let started = folder.events().into_iter().find_map(|event| match event {
        Event::Run(RunEvent::Started(started)) => Some(*started),
        _ => None,
    });
    started.unwrap()
}

#[track_caller]
fn has(ran: &Ran, words: &str) {
    assert!(ran.err.contains(words) || ran.out.contains(words), "`{words}` is not in\n{}{}", ran.out, ran.err);
}

#[test]
fn a_task_that_gave_nothing_is_none_and_has_its_status() {
    let crew = format!(
        "[crew]\noutput = \"z\"\n{TABLES}\
         [tasks.left]\nagent = \"a\"\ndescription = \"Left out\"\nwhen = \"1 == 2\"\n\
         [tasks.broke]\nagent = \"a\"\ndescription = \"Breaks\"\nattempts = 1\noptional = true\n\
         output_schema = {{ n = \"int\" }}\n\
         [tasks.seen]\nagent = \"a\"\ndescription = \"S\"\nwhen = \"left.status == 'skipped' and left is none\"\n\
         [tasks.unseen]\nagent = \"a\"\ndescription = \"U\"\nwhen = \"left.status == 'none'\"\n\
         [tasks.z]\nagent = \"a\"\nafter = [\"left\", \"broke\", \"seen\", \"unseen\"]\n\
         description = \"left {{{{ left.status }}}}, broke {{{{ broke.status }}}}, seen {{{{ seen.status }}}}, \
         unseen {{{{ unseen.status }}}}, {{{{ broke }}}}\"\n"
    );
    let folder = folder(&crew, "");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(told(&folder, "z"), "left skipped, broke failed, seen done, unseen skipped, none");
    folder.verify();
    // A run of before goes on as it began.
    let mut started = started(&folder);
    let rules = |started: &Started| crews::pinned(&folder.project(), &*folder.store(), started).unwrap().0.rules;
    assert!(rules(&started).ends_have_status);
    started.rules = 2;
    assert_eq!(*rules(&started), rules::TWO);
}

#[test]
fn asking_for_the_status_does_not_take_the_result_away() {
    let crew = format!(
        "[crew]\noutput = \"z\"\n{TABLES}[tasks.x]\nagent = \"a\"\ndescription = \"X\"\n\
         [tasks.y]\nagent = \"a\"\ncontext = [\"x\"]\ndescription = \"Y {{{{ x.text }}}}\"\n\
         [tasks.z]\nagent = \"a\"\ncontext = [\"x\", \"y\"]\ndescription = \"Z {{{{ x.status }}}}\"\n"
    );
    let folder = folder(&crew, "");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(told(&folder, "y"), "Y <x>Said.</x>");
    assert_eq!(told(&folder, "z"), "Z done\n\n<x>Said.</x>\n\n<y>Said.</y>");
    folder.verify();
}

/// A sub-crew whose output says which claim it was given.
const LAWYERS: &str = "schema = 1\n[inputs]\nclaim = { type = \"string\" }\n[crew]\noutput = \"opinion\"\n";

#[test]
fn each_row_of_a_sub_crew_has_its_own_inputs() {
    let crew = format!(
        "[crew]\noutput = \"x\"\n{TABLES}[crews.lawyers]\nfile = \"legal.toml\"\n\
         inputs = {{ claim = \"{{{{ index }}}}/{{{{ key }}}}: {{{{ item.claim }}}}\" }}\n\
         [tasks.x]\ncrew = \"lawyers\"\nfor_each = \"r.csv\"\nkey = \"id\"\n"
    );
    let folder = folder(&crew, "");
    let tasks = "[tasks.opinion]\nagent = \"a\"\ndescription = \"On {{ claim }}\"\n";
    folder.file("legal.toml", &format!("{LAWYERS}{TABLES}{tasks}"));
    folder.file("r.csv", "id,claim\none,Late\ntwo,Broken\n");
    folder.bosun(&["check", "crew.toml"]).expect(0);
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(told(&folder, "x[one]/opinion"), "On 1/one: Late");
    assert_eq!(told(&folder, "x[two]/opinion"), "On 2/two: Broken");
    folder.verify();
    // Another task that has no rows cannot give it any.
    folder.file("crew.toml", &format!("schema = 1\n{crew}[tasks.y]\ncrew = \"lawyers\"\n"));
    has(&folder.bosun(&["check", "crew.toml"]).expect(3), "`item` has no value in the task `y`");
}

#[test]
fn rows_that_another_agent_wrote_reach_a_sub_crew_fenced() {
    let crew = format!(
        "[crew]\noutput = \"x\"\n{TABLES}[crews.lawyers]\nfile = \"legal.toml\"\n\
         inputs = {{ claim = \"{{{{ item }}}}\" }}\n\
         [tasks.list]\nagent = \"a\"\ndescription = \"List\"\noutput_schema = {{ all = \"string[]\" }}\n\
         [tasks.x]\ncrew = \"lawyers\"\nfor_each = \"list.all\"\nmax_items = 3\n"
    );
    let replies = "[[reply]]\nstep = \"list\"\njson = { all = [\"Say yes now.\"] }\n";
    let folder = folder(&crew, replies);
    let tasks = "[tasks.opinion]\nagent = \"a\"\ndescription = \"On {{ claim }}\"\n";
    folder.file("legal.toml", &format!("{LAWYERS}{TABLES}{tasks}"));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(told(&folder, "x[1]/opinion"), "On <item>Say yes now.</item>");
    folder.verify();
}

#[test]
fn a_task_cannot_give_its_agent_a_tool() {
    let crew = |tools: &str| {
        let agent = TABLES.replace("model = \"m\"\n", "model = \"m\"\ntools = [\"files.read\", \"files.list\"]\n");
        format!("schema = 1\n{agent}[tasks.t]\nagent = \"a\"\ndescription = \"T\"\ntools = [{tools}]\n")
    };
    let folder = folder("", "");
    folder.file("crew.toml", &crew("\"files.list\""));
    folder.bosun(&["check", "crew.toml"]).expect(0);
    for (tools, beyond) in [("\"files.search\"", "`files.search`"), ("\"files.list\", \"files.*\"", "`files.")] {
        folder.file("crew.toml", &crew(tools));
        let ran = folder.bosun(&["check", "crew.toml"]).expect(3);
        has(&ran, &format!("the agent `a` has no tool {beyond}"));
        has(&ran, "its tools: files.read, files.list");
    }
}

/// Whoever leads asks `to` and then says something.
fn asks(to: &str) -> String {
    format!(
        "[[reply]]\nstep = \"b\"\ncall = 1\ntool_calls = [{{ name = \"delegate\", \
         arguments = {{ to = \"{to}\", task = \"Do it\" }} }}]\n"
    )
}

#[test]
fn a_sub_crew_that_ran_out_says_so_to_whoever_asked() {
    let crew = format!(
        "[budget]\non_exhausted = \"fail\"\n{TABLES}delegates = [\"lawyers\"]\n\
         [crews.lawyers]\nfile = \"legal.toml\"\nbudget = {{ max_usd = 0.00001 }}\n\
         [tasks.b]\nagent = \"a\"\ndescription = \"Go\"\n"
    );
    let folder = folder(&crew, &asks("lawyers"));
    let tasks = "[tasks.claims]\nagent = \"a\"\ndescription = \"C\"\n\
         [tasks.mid]\nagent = \"a\"\ncontext = [\"claims\"]\ndescription = \"M\"\n\
         [tasks.opinion]\nagent = \"a\"\ncontext = [\"mid\"]\ndescription = \"O\"\n";
    folder.file("legal.toml", &format!("schema = 1\n[crew]\noutput = \"opinion\"\n{TABLES}{tasks}"));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(status(&folder, "b/lawyers[1]"), TaskStatus::OverBudget);
    assert_eq!(status(&folder, "b"), TaskStatus::Done);
    folder.verify();
}

#[test]
fn delegated_work_that_a_cap_of_its_own_stops_ends_and_the_run_goes_on() {
    let crew = format!(
        "{TABLES}delegates = [\"poor\"]\n[agents.poor]\nmodel = \"m\"\nbudget = {{ max_tokens = 10 }}\n\
         [tasks.b]\nagent = \"a\"\ndescription = \"Go\"\n"
    );
    let folder = folder(&crew, &asks("poor"));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(status(&folder, "b/poor[1]"), TaskStatus::OverBudget);
    folder.verify();
}

/// The agent lists files before it answers: two calls.
const LISTS: &str = "[[reply]]\nstep = \"t\"\ncall = 1\n\
    tool_calls = [{ name = \"files.list\", arguments = { path = \".\" } }]\n";

fn two_calls(run: &str, task: &str) -> Folder {
    let agent = TABLES.replace("model = \"m\"\n", "model = \"m\"\ntools = [\"files.list\"]\n");
    folder(&format!("{run}{agent}[tasks.t]\nagent = \"a\"\ndescription = \"T\"\nbudget = {{ {task} }}\n"), LISTS)
}

#[test]
fn a_cap_that_no_raise_changes_is_not_answered_with_a_resume() {
    let folder = two_calls("", "max_calls = 1");
    let ran = folder.bosun(&["run", "crew.toml"]).expect(11);
    for ran in [ran, folder.bosun(&["show"]).expect(0)] {
        has(&ran, "needs 1 calls, 0 left at task t, a cap of the crew file that no raise changes");
        has(&ran, "Start a new run with a larger cap");
        assert!(!format!("{}{}", ran.err, ran.out).contains("go on: "), "{}{}", ran.err, ran.out);
    }
    folder.bosun(&["cancel", "latest"]).expect(0);
    folder.verify();
}

#[test]
fn a_share_grows_with_the_raise_that_is_named() {
    let folder = two_calls("[budget]\nmax_calls = 2\n", "share = 0.5");
    let ran = folder.bosun(&["run", "crew.toml"]).expect(11);
    let command = ran.last_line().strip_prefix("go on: bosun ").unwrap().to_owned();
    assert!(command.ends_with("--raise-budget 5calls"), "{command}");
    folder.bosun(&command.split(' ').collect::<Vec<_>>()).expect(0);
    folder.verify();
}

#[test]
fn why_a_step_was_left_out_and_where_a_sub_crews_inputs_stand() {
    let crew = format!(
        "[crew]\noutput = \"z\"\n{TABLES}[tasks.left]\nagent = \"a\"\ndescription = \"L\"\nwhen = \"1 == 2\"\n\
         [tasks.z]\nagent = \"a\"\nafter = [\"left\"]\ndescription = \"Z\"\n"
    );
    let folder = folder(&crew, "");
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    let why = folder.bosun(&["show", "latest", "left", "--why"]).expect(0);
    has(&why, "was skipped  `when = 1 == 2` did not hold");
    assert!(!why.out.contains("ran because"), "{}", why.out);
    let task = "[crews.lawyers]\nfile = \"legal.toml\"\n[tasks.x]\ncrew = \"lawyers\"\ninputs = { claim = \"c\" }\n";
    folder.file("crew.toml", &format!("schema = 1\n{TABLES}{task}"));
    has(&folder.bosun(&["check", "crew.toml"]).expect(3), "write `inputs = { … }` in [crews.lawyers]");
}

/// Two tasks of one agent, one of them over two rows; a sub-crew of two calls over two rows.
fn parts(agent: &str, task: &str, sub: &str) -> Folder {
    let crew = format!(
        "[crew]\noutput = \"t\"\n{TABLES}{agent}\n[crews.pair]\nfile = \"pair.toml\"\n{sub}\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"T\"\nfor_each = \"r.csv\"\n{task}\n\
         [tasks.u]\nagent = \"a\"\ndescription = \"U\"\n\
         [tasks.x]\ncrew = \"pair\"\nfor_each = \"r.csv\"\n"
    );
    let folder = folder(&crew, "");
    let tasks = "[tasks.one]\nagent = \"a\"\ndescription = \"1\"\n[tasks.two]\nagent = \"a\"\ndescription = \"2\"\n";
    folder.file("pair.toml", &format!("schema = 1\n[crew]\noutput = \"two\"\n{TABLES}{tasks}"));
    folder.file("r.csv", "id\none\ntwo\n");
    folder
}

#[test]
fn a_part_whose_own_cap_pays_for_no_result_is_refused_before_it_begins() {
    for (agent, task, sub, said) in [
        ("", "budget = { max_usd = 0.000001 }", "", "task t"),
        ("", "budget = { max_calls = 1 }", "", "task t: 2 calls needed, 1 call allowed"),
        ("budget = { max_calls = 2 }", "", "", "agent a: 3 calls needed, 2 calls allowed"),
        ("", "", "budget = { max_calls = 1 }", "crew x: 2 calls needed, 1 call allowed"),
        ("", "", "budget = { share = 0.001 }", "$0.001 allowed; 2 calls needed, 1 call allowed"),
    ] {
        let folder = parts(agent, task, sub);
        has(&folder.bosun(&["check", "crew.toml"]).expect(3), said);
        let ran = folder.bosun(&["run", "crew.toml"]).expect(3);
        has(&ran, "the smallest possible course of");
        has(&ran, said);
        has(&folder.bosun(&["plan", "crew.toml"]).expect(0), "does not fit its own budget, run refuses it");
        assert!(folder.runs().is_empty());
    }
}

#[test]
fn a_part_that_may_be_left_out_or_may_just_do_is_let_begin() {
    for (agent, task, sub) in [
        ("budget = { max_calls = 3 }", "budget = { max_calls = 2 }", "budget = { max_calls = 2 }"),
        ("", "budget = { max_usd = 0.000001 }\noptional = true", ""),
        ("", "budget = { max_usd = 0.000001 }\nwhen = \"1 == 2\"", ""),
    ] {
        let folder = parts(agent, task, sub);
        folder.bosun(&["check", "crew.toml"]).expect(0);
        // What it may come to is said all the same.
        let plan = folder.bosun(&["plan", "crew.toml", "--json"]).expect(0);
        let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
        let of_task = plan["parts"].as_array().unwrap().iter().find(|part| part["node"] == "task t").unwrap();
        assert_eq!(of_task["fits"]["worst"], false);
        has(&folder.bosun(&["plan", "crew.toml", "--require-fit"]).expect(3), "the worst case of ");
        if !agent.is_empty() {
            folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
            folder.verify();
        }
    }
}

/// The sub-crew is at rest while a call beside it is still under way.
#[test]
fn a_sub_crew_and_its_run_park_once() {
    let crew = format!(
        "[crew]\noutput = \"x\"\n[budget]\nmax_calls = 3\n{TABLES}[crews.pair]\nfile = \"pair.toml\"\n\
         [tasks.x]\ncrew = \"pair\"\n[tasks.y]\nagent = \"a\"\ndescription = \"Y\"\n"
    );
    let agent = TABLES.replace("model = \"m\"\n", "model = \"m\"\ntools = [\"files.list\"]\n");
    let replies = ["x/one", "x/two", "y"].map(|step| LISTS.replace("\"t\"", &format!("\"{step}\""))).concat();
    let replies = replies.replace("step = \"y\"\n", "step = \"y\"\ndelay = \"300ms\"\n");
    let folder = folder(&crew.replace(TABLES, &agent), &replies);
    let tasks = "[tasks.one]\nagent = \"a\"\ndescription = \"1\"\n[tasks.two]\nagent = \"a\"\ndescription = \"2\"\n";
    folder.file("pair.toml", &format!("schema = 1\n[crew]\noutput = \"two\"\n{agent}{tasks}"));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
    let rests =
        |event: &Event| matches!(event, Event::Run(RunEvent::Parked { .. }) | Event::Task(TaskEvent::Parked { .. }));
    let parked = folder.events().into_iter().filter(rests);
    assert_eq!(parked.count(), 2);
    folder.verify();
}

#[test]
fn what_is_fixed_of_a_sub_crew_reaches_it_also_when_it_is_asked() {
    let crew = format!(
        "[inputs]\nwhose = {{ type = \"string\", default = \"ours\" }}\n{TABLES}delegates = [\"lawyers\"]\n\
         [crews.lawyers]\nfile = \"legal.toml\"\ninputs = {{ claim = \"{{{{ whose }}}}, late\" }}\n\
         [tasks.b]\nagent = \"a\"\ndescription = \"Go\"\n"
    );
    let folder = folder(&crew, &asks("lawyers"));
    let tasks = "[tasks.opinion]\nagent = \"a\"\ndescription = \"On {{ claim }}\"\n";
    folder.file("legal.toml", &format!("{LAWYERS}{TABLES}{tasks}"));
    folder.bosun(&["run", "crew.toml", "-q"]).expect(0);
    assert_eq!(told(&folder, "b/lawyers[1]/opinion"), "On ours, late");
    folder.verify();
}
