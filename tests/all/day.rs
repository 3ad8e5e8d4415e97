//! A cap per day over runs and processes. Invariant: what all runs of a crew have settled, held and in
//! doubt of a UTC day never passes `per_day_usd`, whoever is killed when.

use std::time::Duration;

use boatswain::core::event::{CallEvent, Event, LedgerEvent};
use boatswain::core::ledger::{Day, Ledger, NodeId};
use boatswain::core::money::NanoUsd;
use boatswain::core::run::Entry;

use super::stand_in::{Behaviour, Billed};
use super::support::{Dice, Folder, Provider, kill9, size, until, wait};

/// What the provider's own count costs, at the prices of `Provider::tables`.
fn invoice(billed: Billed) -> NanoUsd {
    NanoUsd(billed.input * 1_000 + billed.output * 10_000)
}

fn crew(provider: &Provider, per_day: &str, tasks: u32, max_output: u32) -> Folder {
    let tables = provider.tables("max_concurrency = 64");
    let tables = tables.replace("max_output = 100", &format!("max_output = {max_output}"));
    let folder = Folder::new(&format!(
        "schema = 1\n[crew]\nmax_parallel = 4\n[budget]\nmax_usd = 9\nper_day_usd = {per_day}\n{tables}\
         [agents.a]\nmodel = \"m\"\n[tasks.t]\nagent = \"a\"\noptional = true\nfor_each = \"rows.csv\"\nkey = \"id\"\n\
         description = \"Say {{{{ item.id }}}}\"\n"
    ));
    let rows: String = (1..=tasks).map(|n| format!("r{n}\n")).collect();
    folder.file("rows.csv", &format!("id\n{rows}"));
    folder
}

fn latency(provider: &Provider, seed: u64, most_micros: u64) {
    provider.server.respond(move |_, number| {
        let micros = Dice::new(seed ^ number as u64).below(most_micros);
        (Duration::from_micros(micros), Behaviour::Answer(format!("Answer {number}.")))
    });
}

/// At every entry, what the run uses of a day is within what it was granted; what it uses of it in the end.
#[track_caller]
fn used_of_the_day(entries: &[Entry]) -> NanoUsd {
    let (mut ledger, mut last) = (Ledger::default(), None);
    for entry in entries {
        ledger.apply(&entry.event).unwrap();
        if let Event::Ledger(LedgerEvent::Day { day, granted, .. }) = &entry.event {
            last = Some((*day, *granted));
        }
        let Some((day, granted)) = last else {
            assert!(!matches!(&entry.event, Event::Call(CallEvent::Held(_))), "a hold before any grant");
            continue;
        };
        let used = ledger.nodes.get(&NodeId::Day(day)).map(|sums| sums.used()).unwrap_or_default().usd;
        assert!(used <= granted, "entry {}: {used} of the {granted} that were granted", entry.seq);
    }
    last.map(|(day, _)| ledger.nodes.get(&NodeId::Day(day)).map(|sums| sums.used().usd).unwrap_or_default())
        .unwrap_or_default()
}

#[test]
fn four_processes_share_a_day_and_random_kills_do_not_pass_its_cap() {
    let seed = size("SEED", 1);
    let mut dice = Dice::new(seed);
    let provider = Provider::start();
    latency(&provider, seed, 20_000);
    // A worst case of about 1.2 m$, an actual of about 0.2.
    let folder = crew(&provider, "0.030", 60, 100);
    let keys = ["a", "b", "c", "d"];
    let run = |key: &'static str| ["run", "crew.toml", "-q", "--key", key];
    let mut children: Vec<_> = keys.iter().map(|key| folder.start(&run(key))).collect();
    for _ in 0..size("KILLS", 10) {
        let more = provider.requests() + 2 + dice.below(6) as usize;
        let patience = std::time::Instant::now();
        // At the end of the day nobody sends any more.
        while provider.requests() < more && patience.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_micros(300));
        }
        let victim = dice.below(4) as usize;
        kill9(children[victim].id());
        wait(std::mem::replace(&mut children[victim], folder.start(&run(keys[victim]))));
    }
    for child in children {
        let ran = wait(child);
        assert!(matches!(ran.code, Some(0 | 11)), "{ran:?}");
    }
    let cap: NanoUsd = "0.030".parse().unwrap();
    let figures = folder.verify();
    let runs = folder.runs();
    let used: u64 = runs.iter().map(|(_, entries)| used_of_the_day(entries).0).sum();
    let lost: u64 = figures.iter().map(|figures| figures.lost).sum();
    let billed = invoice(provider.billed());
    println!("{lost} calls lost, {} used and {billed} billed of {cap}", NanoUsd(used));
    assert!(lost > 0, "the kills hit calls");
    assert!(NanoUsd(used) <= cap, "{used}");
    assert!(billed <= cap, "{billed}");
    assert!(billed.0 * 10 > cap.0 * 2, "the day was used: {billed}");
}

#[test]
fn a_day_that_is_used_up_pauses_with_the_budgets_code_and_says_when_it_ends() {
    let provider = Provider::start();
    latency(&provider, 1, 2_000);
    let folder = crew(&provider, "0.006", 40, 100);
    let first = folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
    let today = Day::of_ms(boatswain::cli::open::now_ms());
    assert!(first.err.contains(&format!("left at day {today}")), "{}", first.err);
    assert!(first.err.contains("ends at 00:00 UTC"), "{}", first.err);
    assert!(first.last_line().contains("bosun resume") && !first.last_line().contains("--raise"), "{}", first.err);
    // The next run finds nothing left and sends nothing; what the first one did not use, it gave back.
    let sent = provider.requests();
    folder.bosun(&["run", "crew.toml", "-q"]).expect(11);
    let more = provider.requests() - sent;
    assert!(more <= 4, "{more} calls in a day that was used up");
    folder.verify();
    let used: Vec<u64> = folder.runs().iter().map(|(_, entries)| used_of_the_day(entries).0).collect();
    let cap: NanoUsd = "0.006".parse().unwrap();
    assert!(used.iter().sum::<u64>() <= cap.0, "{used:?}");
    assert!(used[1] * 10 >= cap.0 * 6, "one run alone can use a day but for one worst case: {used:?}");
    assert!(invoice(provider.billed()) <= cap);
    // Resumed on the same day it pauses again.
    folder.bosun(&["resume", "latest", "-q"]).expect(11);
    folder.verify();
}

/// A pause that met the first question to the store used to wait for ever.
#[test]
fn a_pause_at_any_moment_comes_to_rest() {
    let provider = Provider::start();
    latency(&provider, 1, 2_000);
    for round in 0..size("PAUSES", 12) {
        let folder = crew(&provider, "0.5", 40, 100);
        let child = folder.start(&["run", "crew.toml", "-q"]);
        until("a journal", || folder.state().join("journal.db").exists());
        let store = folder.store();
        until("a run", || store.runs(&Default::default()).is_ok_and(|runs| !runs.is_empty()));
        std::thread::sleep(Duration::from_millis(round * 3));
        let run = store.runs(&Default::default()).unwrap().remove(0).run;
        store.inbox_put(&run, "pause", "{}", "test", 1).unwrap();
        let ran = wait(child);
        assert!(matches!(ran.code, Some(0 | 130)), "{ran:?}");
        folder.verify();
    }
}

#[test]
fn a_sub_crews_own_cap_is_refused_and_not_ignored() {
    let provider = Provider::start();
    let folder = crew(&provider, "1", 2, 100);
    let text = folder.read("crew.toml");
    folder.file("sub/crew.toml", &text);
    folder.file("sub/rows.csv", "id\nx\n");
    folder.file("top.toml", "schema = 1\n[crews.sub]\nfile = \"sub/crew.toml\"\n[tasks.t]\ncrew = \"sub\"\n");
    let ran = folder.bosun(&["check", "top.toml"]).expect(3);
    assert!(ran.out.contains("not supported yet: `per_day_usd` of a sub-crew"), "{}", ran.out);
    folder.bosun(&["check", "crew.toml"]).expect(0);
}

#[test]
fn a_run_waits_for_what_another_process_only_holds() {
    let provider = Provider::start();
    // Worst case 8 m$, actual under 0.3: one call at a time fits into the day.
    provider.server.respond(|_, number| (Duration::from_millis(120), Behaviour::Answer(format!("Answer {number}."))));
    let folder = crew(&provider, "0.0125", 4, 800);
    let children: Vec<_> =
        ["a", "b"].iter().map(|key| folder.start(&["run", "crew.toml", "-q", "--key", key])).collect();
    for child in children {
        wait(child).expect(0);
    }
    folder.verify();
    assert_eq!(provider.requests(), 8, "every call was made once");
    let waited = folder
        .runs()
        .iter()
        .flat_map(|(_, entries)| entries)
        .filter(|entry| matches!(&entry.event, Event::Call(CallEvent::Queued { node: NodeId::Day(_), .. })))
        .count();
    assert!(waited > 0, "nobody waited for the day");
    until("both are over", || folder.runs().iter().all(|(row, _)| row.state.is_final()));
}
