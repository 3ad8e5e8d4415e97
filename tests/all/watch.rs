//! `bosun watch` through the real binary. Invariant: an event is one run, whatever is killed when, and
//! what cannot be run now waits and is said.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boatswain::core::event::{CallEvent, Event, RunEvent};
use boatswain::ports::store::{RunFilter, RunRow, RunState};
use rustix::process::Signal;

use super::stand_in::Behaviour;
use super::support::{Dice, Folder, Provider, Ran, kill9, signal, size, until, wait};

/// A crew whose agent reads the file of the event.
fn reader(trigger: &str) -> Folder {
    let folder = Folder::new(&format!(
        "schema = 1\n[inputs]\nfile = {{ type = \"path\" }}\n[agents.a]\nmodel = \"offline/x\"\ntools = [\"files.read\"]\n\
         [tasks.t]\nagent = \"a\"\ndescription = \"Read {{{{ file }}}}\"\noutput_file = \"out/{{{{ run.id }}}}.md\"\n\
         [triggers.scan]\nkind = \"watch\"\npath = \"inbox\"\nglob = \"*.txt\"\nsettle = \"200ms\"\n\
         inputs = {{ file = \"{{{{ event.path }}}}\" }}\n{trigger}\n"
    ));
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    folder
}

/// A crew that asks a provider, at prices.
fn priced(provider: &Provider, budget: &str, trigger: &str) -> Folder {
    let tables = provider.tables("max_concurrency = 64\nmax_wait = \"1s\"");
    let folder = Folder::new(&format!(
        "schema = 1\n[inputs]\nfile = {{ type = \"path\" }}\n[budget]\nmax_usd = 1\n{budget}\n{tables}\
         [agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\ndescription = \"Say {{{{ file }}}}\"\n\
         [triggers.scan]\nkind = \"watch\"\npath = \"inbox\"\nsettle = \"100ms\"\n\
         inputs = {{ file = \"{{{{ event.path }}}}\" }}\n{trigger}\n"
    ));
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    folder
}

fn rows(folder: &Folder) -> Vec<RunRow> {
    if !folder.state().join("journal.db").exists() {
        return Vec::new();
    }
    folder.store().runs(&RunFilter::default()).unwrap()
}

/// How many runs each file has.
fn served(folder: &Folder) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for row in rows(folder) {
        let key = row.key.unwrap();
        let path = key.split(':').nth(1).unwrap().to_owned();
        *served.entry(path).or_default() += 1;
    }
    served
}

fn completed(folder: &Folder) -> usize {
    rows(folder).iter().filter(|row| row.state == RunState::Completed).count()
}

/// Ends a watch that is at rest.
#[track_caller]
fn end(child: Child) -> Ran {
    signal(child.id(), Signal::TERM);
    wait(child).expect(0)
}

#[test]
fn a_file_that_is_dropped_is_run_and_its_output_written() {
    let folder = reader("");
    let child = folder.start(&["watch"]);
    folder.file("inbox/a.txt", "The pump never fails.\n");
    until("the run is over", || completed(&folder) == 1);
    let ran = end(child);
    let row = rows(&folder).remove(0);
    assert!(folder.read(&format!("out/{}.md", row.run)).contains("\"The pump never fails.\" (inbox/a.txt:1)"));
    for line in ["event scan inbox/a.txt", "start ", "completed ", "watched · 0 at work · 1 done"] {
        assert!(ran.err.contains(line), "`{line}` is not in {}", ran.err);
    }
    assert_eq!(ran.out, "", "stdout carries only what was asked for");
    folder.verify();
    // Started again: it is known.
    folder.bosun(&["watch", "--once"]).expect(0);
    assert_eq!(rows(&folder).len(), 1);
}

#[test]
fn a_file_that_is_written_slowly_is_one_event_with_all_of_it() {
    let folder = reader("");
    let child = folder.start(&["watch"]);
    let path = folder.path().join("inbox/slow.txt");
    let mut file = std::fs::File::create(&path).unwrap();
    // Empty for longer than the settle time, then a line every 60 ms.
    std::thread::sleep(Duration::from_millis(500));
    for n in 1..=12 {
        writeln!(file, "Line {n} of twelve.").unwrap();
        file.flush().unwrap();
        std::thread::sleep(Duration::from_millis(60));
    }
    drop(file);
    until("the run is over", || completed(&folder) == 1);
    std::thread::sleep(Duration::from_millis(400));
    end(child);
    let rows = rows(&folder);
    assert_eq!(rows.len(), 1, "{rows:?}");
    let content = boatswain::core::ids::BlobId::of(&std::fs::read(&path).unwrap()).to_string();
    assert_eq!(rows[0].key.as_deref(), Some(format!("scan:inbox/slow.txt:{}", &content[..32]).as_str()));
}

#[test]
fn hidden_files_other_names_folders_and_links_are_no_events() {
    let folder = reader("");
    for path in ["inbox/.hidden.txt", "inbox/a.pdf", "inbox/sub/b.txt", "other/c.txt", "inbox/d.txt"] {
        folder.file(path, "text\n");
    }
    folder.file("inbox/empty.txt", "");
    std::os::unix::fs::symlink(folder.path().join("other/c.txt"), folder.path().join("inbox/link.txt")).unwrap();
    folder.bosun(&["watch", "--once"]).expect(0);
    assert_eq!(served(&folder).into_keys().collect::<Vec<_>>(), ["inbox/d.txt"]);
}

#[test]
fn an_event_is_a_path_and_its_content() {
    let folder = reader("");
    let once = || drop(folder.bosun(&["watch", "--once"]).expect(0));
    folder.file("inbox/a.txt", "one\n");
    once();
    // Written again, byte for byte: the same event.
    folder.file("inbox/a.txt", "one\n");
    once();
    assert_eq!(rows(&folder).len(), 1);
    folder.file("inbox/a.txt", "two\n");
    folder.file("inbox/b.txt", "one\n");
    once();
    assert_eq!(served(&folder), BTreeMap::from([("inbox/a.txt".into(), 2), ("inbox/b.txt".into(), 1)]));
    // And what it was before is known for good.
    folder.file("inbox/a.txt", "one\n");
    once();
    assert_eq!(rows(&folder).len(), 3);
}

/// Drops files, kills the watch at random, starts it again; every file is run once.
#[track_caller]
fn campaign(files: u64, kills: u64, seed: u64, settle: &str) {
    let mut dice = Dice::new(seed);
    let folder = reader("overlap = \"parallel\"\nmax_parallel = 8");
    folder.file("crew.toml", &folder.read("crew.toml").replace("200ms", settle));
    let mut child = folder.start(&["watch"]);
    let begun = Instant::now();
    for n in 0..files {
        folder.file(&format!("inbox/{n:04}.txt"), &format!("File {n} of many. It says {}.\n", dice.roll()));
    }
    assert!(begun.elapsed() < Duration::from_secs(1 + files / 500), "they were dropped in {:?}", begun.elapsed());
    for kill in 0..kills {
        // Somewhere in the middle: after so many runs more are done, and at a moment of its own.
        let share = files * (kill + 1) / (kills + 1);
        until("runs are done", || completed(&folder) as u64 >= share);
        std::thread::sleep(Duration::from_micros(dice.below(20_000)));
        kill9(child.id());
        wait(child);
        child = folder.start(&["watch"]);
    }
    let patience = Instant::now();
    while completed(&folder) < files as usize {
        assert!(patience.elapsed() < Duration::from_secs(300), "{} of {files} runs are over", completed(&folder));
        std::thread::sleep(Duration::from_millis(50));
    }
    // Nothing comes after.
    std::thread::sleep(Duration::from_millis(500));
    end(child);
    let served = served(&folder);
    assert_eq!(served.len() as u64, files);
    assert!(served.values().all(|runs| *runs == 1), "{served:?}");
    // A process that is killed in a write leaves its unfinished file, hidden.
    let outputs = std::fs::read_dir(folder.path().join("out")).unwrap().flatten();
    let outputs = outputs.filter(|file| !file.file_name().to_string_lossy().starts_with('.')).count();
    assert_eq!(outputs as u64, files);
    let figures = folder.verify();
    let (held, lost) = figures.iter().fold((0, 0), |sum, one| (sum.0 + one.held, sum.1 + one.lost));
    println!("{files} files, {kills} kills: {} runs, {held} calls, {lost} in doubt", figures.len());
}

#[test]
fn killed_in_the_middle_it_loses_none_and_runs_none_twice() {
    campaign(40, 3, size("SEED", 1), "100ms");
}

#[test]
#[ignore = "the campaign of the README: 1,000 files in one second, five kills"]
fn a_thousand_files_and_five_kills() {
    campaign(size("FILES", 1000), size("KILLS", 5), size("SEED", 1), "2s");
}

#[test]
fn a_failed_run_is_said_and_not_repeated_and_holds_up_nobody() {
    let folder = reader("");
    let crew = folder.read("crew.toml");
    let judge = "[agents.j]\nmodel = \"offline/x\"\n[tasks.judge]\nagent = \"j\"\ncontext = [\"t\"]\n\
                 description = \"Judge\"\noutput_schema = { ok = \"bool\" }\n\
                 revise = { task = \"t\", until = \"judge.ok and 1 > 2\", max_rounds = 1, on_limit = \"fail\" }\n[crew]\noutput = \"t\"\n";
    folder.file("crew.toml", &crew.replace("[triggers.scan]", &format!("{judge}[triggers.scan]")));
    folder.file("inbox/a.txt", "one\n");
    folder.file("inbox/b.txt", "two\n");
    let ran = folder.bosun(&["watch", "--once"]).expect(10);
    assert_eq!(ran.err.matches("it is not repeated: bosun show ").count(), 2, "{}", ran.err);
    assert!(rows(&folder).iter().all(|row| row.state == RunState::Failed));
    let ran = folder.bosun(&["watch", "--once"]).expect(0);
    assert_eq!((rows(&folder).len(), ran.err.contains("failed")), (2, false), "{}", ran.err);
}

#[test]
fn a_run_that_waits_for_a_person_blocks_nobody() {
    let provider = Provider::start();
    provider.server.respond(|body, _| {
        let fails = body.contains("inbox/bad.txt");
        let status = Behaviour::Status(400, Vec::new(), "{\"error\":{\"message\":\"no\"}}".into());
        (Duration::ZERO, if fails { status } else { Behaviour::Answer("Fine.".into()) })
    });
    let folder = priced(&provider, "", "");
    for name in ["a", "bad", "c"] {
        folder.file(&format!("inbox/{name}.txt"), name);
        std::thread::sleep(Duration::from_millis(20));
    }
    let ran = folder.bosun(&["watch", "--once"]).expect(16);
    assert!(ran.err.contains("needs review") && ran.err.contains("go on: bosun resume"), "{}", ran.err);
    assert_eq!(completed(&folder), 2);
    // It is left to the person it waits for.
    let requests = provider.requests();
    let ran = folder.bosun(&["watch", "--once"]).expect(0);
    assert!(ran.err.contains("waits for a person"), "{}", ran.err);
    assert_eq!((provider.requests(), rows(&folder).len()), (requests, 3));
}

#[test]
fn when_the_money_of_the_day_is_used_up_events_wait_and_are_not_lost() {
    let provider = Provider::start();
    provider.server.respond(|_, _| (Duration::ZERO, Behaviour::Answer("Fine.".into())));
    let folder = priced(&provider, "per_day_usd = 0.0017", "");
    for n in 0..8 {
        folder.file(&format!("inbox/{n}.txt"), &format!("{n}"));
        std::thread::sleep(Duration::from_millis(3));
    }
    let ran = folder.bosun(&["watch", "--once"]).expect(11);
    let (begun, done) = (rows(&folder).len(), completed(&folder));
    assert!((1..=6).contains(&done) && begun == done + 1, "{done} of {begun}: {}", ran.err);
    assert!(ran.err.contains("`per_day_usd`") && ran.err.contains("nothing new starts until"), "{}", ran.err);
    assert!(ran.err.contains(&format!("{} wait", 8 - begun)), "{}", ran.err);
    // Still dry: the run that rests is tried, the others wait.
    folder.bosun(&["watch", "--once"]).expect(11);
    assert_eq!((rows(&folder).len(), completed(&folder)), (begun, done));
    // More money: those that were not begun are run by the crew as it is now.
    folder.file("crew.toml", &folder.read("crew.toml").replace("0.0017", "0.5"));
    folder.bosun(&["watch", "--once"]);
    assert_eq!(served(&folder).len(), 8);
    folder.verify();
}

#[test]
fn a_file_that_kills_the_process_is_stopped_after_five_deaths_and_the_others_are_served() {
    let folder = Folder::new(
        "schema = 1\n[inputs]\nfile = { type = \"path\" }\n[tasks.t]\ntool = \"digest\"\nargs = { path = \"{{ file }}\" }\n\
         [tools.digest]\nkind = \"command\"\ndescription = \"Digests a file\"\ncommand = [\"./digest.sh\", \"{path}\"]\nisolation = \"none\"\neffect = \"read\"\n\
         [triggers.scan]\nkind = \"watch\"\npath = \"inbox\"\nsettle = \"50ms\"\noverlap = \"parallel\"\n\
         inputs = { file = \"{{ event.path }}\" }\n",
    );
    folder.file("digest.sh", "#!/bin/sh\nsleep 0.05\ngrep -q poison \"$1\" && kill -9 $PPID\necho fine\n");
    let script = folder.path().join("digest.sh");
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for n in 0..6 {
        folder.file(&format!("inbox/{n}.txt"), if n == 2 { "poison" } else { "food" });
    }
    let mut deaths = 0;
    let ran = loop {
        let ran = folder.bosun(&["watch", "--once"]);
        if ran.code.is_some() {
            break ran;
        }
        deaths += 1;
        assert!(deaths < 20, "it dies on and on");
    };
    assert_eq!(deaths, 5, "{}", ran.err);
    let ran = ran.expect(16);
    assert!(ran.err.contains("processes have died 5 times on it"), "{}", ran.err);
    assert_eq!(completed(&folder), 5, "{:?}", served(&folder));
    // And it stays so.
    folder.file("inbox/9.txt", "more food");
    let ran = folder.bosun(&["watch", "--once"]).expect(16);
    assert!(ran.err.contains("it is left alone"), "{}", ran.err);
    assert_eq!(completed(&folder), 6);
}

/// A provider that answers slowly; how many requests were open at once.
fn slow(provider: &Provider, latency: Duration) {
    provider.server.respond(move |_, _| (latency, Behaviour::Answer("Fine.".into())));
}

/// Most calls that were in flight at once, by the runs' own journals.
fn most_at_once(folder: &Folder) -> usize {
    let mut moments = Vec::new();
    for (_, entries) in folder.runs() {
        for entry in entries {
            match &entry.event {
                Event::Call(CallEvent::Held(_)) => moments.push((entry.at_ms, 1i64)),
                Event::Call(CallEvent::Answered(_)) => moments.push((entry.at_ms, -1)),
                _ => {}
            }
        }
    }
    moments.sort_unstable();
    let mut open = 0;
    let most = moments.iter().map(|(_, change)| {
        open += change;
        open
    });
    usize::try_from(most.max().unwrap_or_default()).unwrap()
}

#[test]
fn overlap_says_whether_events_follow_each_other_run_at_once_or_are_left() {
    for (overlap, most, runs) in [("queue", 1, 6), ("parallel\"\nmax_parallel = 3\n#\"", 3, 6), ("skip", 1, 1)] {
        let provider = Provider::start();
        slow(&provider, Duration::from_millis(80));
        let folder = priced(&provider, "", &format!("overlap = \"{overlap}\""));
        for n in 0..6 {
            folder.file(&format!("inbox/{n}.txt"), &format!("{n}"));
        }
        let ran = folder.bosun(&["watch", "--once"]).expect(0);
        assert_eq!((most_at_once(&folder), completed(&folder)), (most, runs), "{overlap}: {}", ran.err);
        assert_eq!(ran.err.matches("skipped scan inbox/").count(), 6 - runs, "{}", ran.err);
    }
}

#[test]
fn sigterm_lets_runs_end_and_ctrl_c_pauses_them_for_the_next_watch() {
    let provider = Provider::start();
    slow(&provider, Duration::from_millis(700));
    let folder = priced(&provider, "", "");
    folder.file("inbox/a.txt", "a");
    folder.file("inbox/b.txt", "b");
    let child = folder.start(&["watch"]);
    until("a call is in flight", || provider.requests() == 1);
    let ran = end(child);
    assert!(ran.err.contains("runs at work may end"), "{}", ran.err);
    assert_eq!((rows(&folder).len(), completed(&folder)), (1, 1), "the second was not begun: {}", ran.err);
    // Two tasks: the call in flight ends, the next one does not begin.
    let more = "[tasks.u]\nagent = \"a\"\ndescription = \"More\"\ncontext = [\"t\"]\n[triggers.scan]";
    folder.file("crew.toml", &folder.read("crew.toml").replace("[triggers.scan]", more));
    let child = folder.start(&["watch"]);
    until("a call is in flight", || provider.requests() == 2);
    signal(child.id(), Signal::INT);
    wait(child).expect(130);
    assert_eq!((provider.requests(), completed(&folder)), (2, 1));
    folder.bosun(&["watch", "--once"]).expect(0);
    assert_eq!((provider.requests(), rows(&folder).len(), completed(&folder)), (3, 2, 2));
    folder.verify();
}

#[test]
fn three_ctrl_c_end_it_at_once_and_the_call_is_in_doubt() {
    let provider = Provider::start();
    slow(&provider, Duration::from_secs(50));
    let folder = priced(&provider, "", "");
    folder.file("inbox/a.txt", "a");
    let child = folder.start(&["watch"]);
    until("a call is in flight", || provider.requests() == 1);
    signal(child.id(), Signal::INT);
    std::thread::sleep(Duration::from_millis(200));
    signal(child.id(), Signal::INT);
    let ran = wait(child).expect(130);
    assert!(ran.err.contains("calls in flight are dropped"), "{}", ran.err);
    let figures = folder.verify();
    assert_eq!((figures.len(), figures[0].lost), (1, 1));
}

/// What a process has said to stderr so far.
fn hears(child: &mut Child) -> Arc<Mutex<String>> {
    let (said, mut stderr) = (Arc::new(Mutex::new(String::new())), child.stderr.take().unwrap());
    let heard = said.clone();
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(n @ 1..) = stderr.read(&mut part) {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&part[..n]));
        }
    });
    said
}

#[test]
fn a_signal_is_heard_while_another_process_keeps_the_store_waiting() {
    let provider = Provider::start();
    provider.server.respond(|_, _| {
        (Duration::ZERO, Behaviour::Status(400, Vec::new(), "{\"error\":{\"message\":\"no\"}}".into()))
    });
    let folder = priced(&provider, "", "");
    folder.file("inbox/a.txt", "a");
    let mut child = folder.start(&["watch"]);
    let said = hears(&mut child);
    // A run that rests is looked at again and again.
    until("a run rests", || rows(&folder).iter().any(|row| row.state == RunState::NeedsReview));
    let other = rusqlite::Connection::open(folder.state().join("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    folder.file("inbox/b.txt", "b");
    until("its run begins", || said.lock().unwrap().contains("inbox/b.txt"));
    // The store's thread waits for the lock by now, and every look for that thread.
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    signal(child.id(), Signal::INT);
    until("it is heard", || said.lock().unwrap().contains("stopping"));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    other.execute_batch("ROLLBACK").unwrap();
    wait(child);
    folder.verify();
}

#[test]
fn two_watches_share_the_events_and_run_each_once() {
    for overlap in ["parallel", "queue"] {
        let folder = reader(&format!("overlap = \"{overlap}\""));
        let watches = [folder.start(&["watch"]), folder.start(&["watch"])];
        for n in 0..24 {
            folder.file(&format!("inbox/{n}.txt"), &format!("File {n}.\n"));
        }
        until("all are served", || completed(&folder) == 24);
        std::thread::sleep(Duration::from_millis(300));
        watches.into_iter().for_each(|child| drop(end(child)));
        assert!(served(&folder).values().all(|runs| *runs == 1), "{overlap}");
        assert_eq!(rows(&folder).len(), 24, "{overlap}");
    }
    // What is left while one is at work is left by each; what is run is run by one of them.
    let folder = reader("overlap = \"skip\"");
    (0..24).for_each(|n| folder.file(&format!("inbox/{n}.txt"), &format!("File {n}.\n")));
    let watches = [folder.start(&["watch", "--once"]), folder.start(&["watch", "--once"])];
    watches.into_iter().for_each(|child| drop(wait(child).expect(0)));
    let runs = rows(&folder).len();
    assert!((1..=2).contains(&runs) && completed(&folder) == runs, "{runs}");
    assert!(served(&folder).values().all(|runs| *runs == 1));
}

#[test]
fn a_schedule_starts_one_run_for_each_of_its_times() {
    let folder = Folder::new(
        "schema = 1\n[inputs]\nat = {}\n[agents.a]\nmodel = \"offline/x\"\n[tasks.t]\nagent = \"a\"\n\
         description = \"It is {{ at }}\"\n[triggers.tick]\nkind = \"cron\"\nschedule = \"* * * * * *\"\ntimezone = \"UTC\"\n\
         inputs = { at = \"{{ event.time }}\" }\n",
    );
    let child = folder.start(&["watch"]);
    until("ticks are met", || completed(&folder) >= 2);
    kill9(child.id());
    wait(child);
    let before = rows(&folder).len();
    let child = folder.start(&["watch"]);
    until("ticks are met again", || completed(&folder) >= before + 2);
    end(child);
    let keys: Vec<String> = rows(&folder).into_iter().map(|row| row.key.unwrap()).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("tick@20") && key.ends_with(".000Z")), "{keys:?}");
    for (row, entries) in folder.runs() {
        let Event::Run(RunEvent::Started(started)) = &entries[0].event else { panic!("it begins with run.started") };
        let at = started.inputs.values().next().unwrap().as_str().unwrap().to_owned();
        assert_eq!(row.key, Some(format!("tick@{at}")));
    }
}

#[test]
fn notices_are_told_of_every_run_and_a_changed_crew_is_said() {
    let folder = reader("[notify]\ncommand = [\"./told.sh\"]\non = [\"finished\"]");
    folder
        .file("told.sh", "#!/bin/sh\nif [ ! -e killed ]; then touch killed; kill -9 $PPID; exit 1; fi\ncat >> told\n");
    let script = folder.path().join("told.sh");
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder.file("inbox/a.txt", "one\n");
    assert_eq!(folder.bosun(&["watch", "--once"]).code, None, "killed at the very end of the run");
    assert_eq!((completed(&folder), folder.read("told")), (1, String::new()));
    folder.file("inbox/b.txt", "two\n");
    folder.bosun(&["watch", "--once"]).expect(0);
    assert_eq!(folder.read("told").lines().count(), 2, "{}", folder.read("told"));
    let child = folder.start(&["watch"]);
    std::thread::sleep(Duration::from_millis(300));
    folder.file("crew.toml", &format!("# new\n{}", folder.read("crew.toml")));
    std::thread::sleep(Duration::from_millis(3000));
    let ran = end(child);
    assert_eq!(ran.err.matches("crew.toml has changed").count(), 1, "{}", ran.err);
}

#[test]
fn json_has_every_event_of_every_run_and_of_the_watch() {
    let folder = reader("");
    folder.file("inbox/a.txt", "one\n");
    folder.file("inbox/b.txt", "two\n");
    let ran = folder.bosun(&["watch", "--once", "--json"]).expect(0);
    let lines: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("watch.event"), of("watch.start"), of("run.started"), of("run.finished")), (2, 2, 2, 2));
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.get("seq").is_some()) {
        let seq = last.entry(line["run"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(line["seq"].as_u64(), Some(*seq + 1), "gapless by run");
        *seq += 1;
    }
    assert_eq!(ran.err, "");
}

#[test]
fn a_path_that_an_event_makes_stays_inside_and_through_no_link() {
    let folder = reader("");
    folder.file("crew.toml", &folder.read("crew.toml").replace("{{ event.path }}", "inbox/../../{{ event.name }}"));
    folder.file("inbox/passwd.txt", "one\n");
    let ran = folder.bosun(&["watch", "--once"]).expect(2);
    assert!(ran.err.contains("`..` is not allowed"), "{}", ran.err);
    let link = "latest/{{ event.name }}";
    folder.file("crew.toml", &folder.read("crew.toml").replace("inbox/../../{{ event.name }}", link));
    std::os::unix::fs::symlink("inbox", folder.path().join("latest")).unwrap();
    let ran = folder.bosun(&["watch", "--once"]).expect(2);
    assert!(ran.err.contains("leads through a link"), "{}", ran.err);
    assert!(rows(&folder).is_empty());
}

#[test]
fn a_watch_without_triggers_is_refused_with_what_to_write() {
    let folder =
        Folder::new("schema = 1\n[agents.a]\nmodel = \"offline/x\"\n[tasks.t]\nagent = \"a\"\ndescription = \"x\"\n");
    let ran = folder.bosun(&["watch"]).expect(2);
    assert!(ran.err.contains("[triggers.scan]"), "{}", ran.err);
    let ran = folder.bosun(&["watch", "crew.toml"]).expect(2);
    assert!(ran.err.contains("crew.toml has no [triggers]"), "{}", ran.err);
    assert!(!folder.state().exists(), "nothing was made");
}
