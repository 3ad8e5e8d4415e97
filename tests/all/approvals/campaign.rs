//! Approvals from one process, kills of another. Invariant: whatever the instants, each effect happens once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::support::{Dice, Folder, kill9, size, wait};
use super::{HEAD, open};

const BODY: &str = r#"
[crew]
max_parallel = 3
[agents.clerk]
model = "m"
tools = ["stamp", "mark"]
[tasks.t]
agent = "clerk"
for_each = "rows.csv"
key = "id"
description = "Do <{{ item.id }}>"
[tools.stamp]
kind = "command"
description = "Stamps"
isolation = "none"
effect = "once"
approval = "always"
command = ["sh", "-c", "echo \"$1\" >> stamped.txt", "sh", "{text}"]
[tools.mark]
kind = "command"
description = "Marks"
isolation = "none"
effect = "idempotent"
approval = "always"
command = ["sh", "-c", "set -C; echo \"$1\" > \"marks/$BOSUN_IDEMPOTENCY_KEY\" || test -s \"marks/$BOSUN_IDEMPOTENCY_KEY\"", "sh", "{text}"]
"#;

fn project() -> Folder {
    let folder = Folder::new(&format!("{HEAD}{BODY}"));
    let reply = |id: &str| {
        format!(
            "[[reply]]\ncontains = \"<{id}>\"\nrepeat = true\ntool_calls = [{{ name = \"stamp\", arguments = {{ text = \"{id}\" }} }}, \
             {{ name = \"mark\", arguments = {{ text = \"{id}\" }} }}]\n"
        )
    };
    folder.file("script.toml", &(["x", "y"].map(reply).concat() + "[default]\ntext = \"Done.\"\n"));
    folder.file("rows.csv", "id\nx\ny\n");
    std::fs::create_dir(folder.path().join("marks")).unwrap();
    folder
}

/// One run: its process is killed at random while another one approves at random.
fn disturbed(seed: u64) -> u64 {
    let mut dice = Dice::new(seed);
    let folder = project();
    let (mut kills, begun) = (dice.below(4), Instant::now());
    let mut killed = 0;
    loop {
        assert!(begun.elapsed() < Duration::from_secs(120), "seed {seed}: it never ends");
        let child = folder.start(&["run", "crew.toml", "--key", "k", "-q"]);
        let pid = child.id();
        let killer = (kills > 0).then(|| {
            kills -= 1;
            let after = Duration::from_micros(dice.below(160_000));
            std::thread::spawn(move || {
                std::thread::sleep(after);
                kill9(pid);
            })
        });
        let journal = folder.state().join("journal.db");
        if journal.exists() && dice.below(3) > 0 {
            for one in open(&folder).iter().filter(|one| one["decided"] == false) {
                if dice.below(2) == 0 {
                    std::thread::sleep(Duration::from_micros(dice.below(30_000)));
                    // A run that ends meanwhile, or a second word, is refused: it changes nothing.
                    folder.bosun(&["approve", one["id"].as_str().unwrap()]);
                }
            }
        }
        let ran = wait(child);
        if let Some(killer) = killer {
            killer.join().unwrap();
        }
        match ran.code {
            Some(0) => break,
            None => killed += 1,
            // Whether a tool has run is not known: a person looks, and lets it start over if it has not.
            Some(16) => {
                if !look(&folder, &ran.err) {
                    break;
                }
            }
            Some(5 | 12) => {}
            code => panic!("seed {seed}: {code:?}\n{}", ran.err),
        }
    }
    let stamped = folder.read("stamped.txt");
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    stamped.lines().for_each(|line| *counts.entry(line).or_default() += 1);
    assert_eq!(counts, BTreeMap::from([("x", 1), ("y", 1)]), "seed {seed}: each effect once");
    folder.verify();
    killed
}

/// `false` if every effect is there and only a person can say that the step is done.
fn look(folder: &Folder, err: &str) -> bool {
    let stamped = folder.read("stamped.txt");
    let missing = |id: &str| !stamped.lines().any(|line| line == id);
    let steps: Vec<&str> = ["x", "y"].into_iter().filter(|id| err.contains(&format!("t[{id}] needs review"))).collect();
    let again: Vec<String> = steps.iter().filter(|id| missing(id)).map(|id| format!("t[{id}]")).collect();
    if again.is_empty() {
        // What stands still was done; the other item may still be at work.
        return ["x", "y"].into_iter().any(missing);
    }
    let mut command = vec!["resume", "-q"];
    again.iter().for_each(|step| command.extend(["--retry", step]));
    folder.bosun(&command);
    true
}

fn campaign(runs: u64) {
    let killed: u64 = (0..runs).map(|seed| disturbed(seed + 1)).sum();
    println!("{runs} runs, {killed} kills: each effect once");
}

#[test]
fn kills_and_approvals_at_random_leave_each_effect_once() {
    campaign(size("APPROVAL_RUNS", 4));
}

#[test]
#[ignore = "minutes: the whole campaign"]
fn kills_and_approvals_at_random_leave_each_effect_once_100_times() {
    campaign(100);
}
