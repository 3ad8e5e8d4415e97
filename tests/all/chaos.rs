//! Whatever happens to a process, in any order: signals, kills, commands of other processes, panics. The
//! crew has everything in it. Invariant: at every stop the journal is
//! sound, the last line says how to go on, and in the end the result is that of an undisturbed run.

use std::time::Duration;

use boatswain::cli::open::now_ms;
use boatswain::core::event::RunEnd;
use rustix::process::Signal;

use super::support::{Dice, Folder, kill9, signal, size, wait};
use super::whole_crew::crew;

const RUN: [&str; 5] = ["run", "crew.toml", "-q", "--key", "k"];

/// One process, and something that happens to it. `true` once the run is over.
fn disturbed(folder: &Folder, dice: &mut Dice) -> bool {
    let child = folder.start(&RUN);
    let pid = child.id();
    std::thread::sleep(Duration::from_millis(25 + dice.below(60)));
    let what = dice.below(6);
    match what {
        0 | 1 => kill9(pid),
        2 => signal(pid, Signal::INT),
        3 => signal(pid, Signal::TERM),
        4 => {
            signal(pid, Signal::INT);
            std::thread::sleep(Duration::from_millis(dice.below(8)));
            signal(pid, Signal::INT);
        }
        _ => {
            let store = folder.store();
            for row in store.runs(&Default::default()).unwrap() {
                let _ = store.inbox_put(&row.run, "pause", "{}", "test", now_ms());
            }
        }
    }
    let ran = wait(child);
    match ran.code {
        // Killed, or signalled before it listened.
        None => {}
        Some(0) => return true,
        Some(11 | 130 | 143) => assert!(ran.last_line().contains("bosun resume"), "{what}: {}", ran.err),
        Some(code) => panic!("disturbance {what}: exit {code}: {}", ran.err),
    }
    folder.verify();
    false
}

#[test]
fn whatever_happens_the_result_is_the_same() {
    let calm = crew("1ms");
    let expected = calm.bosun(&RUN).expect(0).out;
    assert_eq!(expected.trim(), "The whole.");
    let undisturbed = calm.verify().remove(0);
    let (seed, rounds) = (size("SEED", 1), size("CHAOS", 8));
    let (mut stops, mut lost) = (0, 0);
    for round in seed..seed + rounds {
        let mut dice = Dice::new(round);
        let folder = crew("12ms");
        let mut over = false;
        for _ in 0..12 {
            if over {
                break;
            }
            over = disturbed(&folder, &mut dice);
            stops += u32::from(!over);
        }
        let ran = folder.bosun(&RUN);
        // Five deaths in one step are a person's matter, and the last line says what to type.
        if ran.code == Some(16) {
            assert!(ran.last_line().contains("--retry"), "seed {round}: {}", ran.err);
            folder.verify();
            continue;
        }
        assert_eq!((ran.code, &ran.out), (Some(0), &expected), "seed {round}: {}", ran.err);
        let figures = folder.verify().remove(0);
        assert_eq!(figures.end, Some(RunEnd::Completed), "seed {round}");
        assert_eq!(figures.answered, undisturbed.answered, "seed {round}: nothing is answered twice");
        assert_eq!(folder.read("out/whole.md").trim(), expected.trim());
        assert_eq!(folder.read("out/draft.md").trim(), calm.read("out/draft.md").trim());
        lost += figures.lost;
    }
    println!("{rounds} runs, {stops} stops, {lost} calls in doubt");
}

#[test]
fn a_dead_run_can_be_cancelled_at_any_point_and_its_journal_is_sound() {
    for seed in 0..8 {
        let mut dice = Dice::new(900 + seed);
        let folder = crew("12ms");
        let child = folder.start(&RUN);
        std::thread::sleep(Duration::from_millis(30 + dice.below(150)));
        kill9(child.id());
        if wait(child).code == Some(0) || folder.runs().is_empty() {
            continue;
        }
        // It may have finished and died on its way out: then there is nothing to cancel.
        if folder.verify().remove(0).end.is_some() {
            continue;
        }
        let cancelled = folder.bosun(&["cancel", "latest"]);
        assert_eq!(cancelled.code, Some(0), "seed {seed}: {}", cancelled.err);
        let figures = folder.verify().remove(0);
        assert_eq!(figures.end, Some(RunEnd::Cancelled), "seed {seed}");
        assert_eq!(figures.sums.held.calls, 0, "seed {seed}: what was in flight is in doubt, not held");
        folder.bosun(&RUN).expect(17);
        folder.verify();
    }
}

/// Built-in prompts that a run pins, and those a project keeps a copy of, say what the program says.
#[test]
fn a_copy_of_a_builtin_prompt_says_the_same() {
    let plain = crew("1ms");
    plain.bosun(&RUN).expect(0);
    plain.verify();
    let copied = crew("1ms");
    for (name, text) in boatswain::core::builtin::ALL {
        copied.file(&format!("prompts/builtin/{name}.md"), text);
    }
    copied.bosun(&RUN).expect(0);
    copied.verify();
    let prompts = |folder: &Folder| -> std::collections::BTreeSet<String> {
        let assigned = folder.events().into_iter().filter_map(|event| match event {
            boatswain::core::event::Event::Task(boatswain::core::event::TaskEvent::Assigned { step, work, .. }) => {
                Some(format!("{step} {}", serde_json::to_string(&work).unwrap()))
            }
            _ => None,
        });
        assigned.collect()
    };
    assert_eq!(prompts(&plain), prompts(&copied));
}
