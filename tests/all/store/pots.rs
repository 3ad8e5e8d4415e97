//! Money that runs share, over all openers of a place.

use boatswain::core::ids::Seq;
use boatswain::core::ledger::{Day, DayAsk};
use boatswain::core::money::NanoUsd;
use boatswain::ports::store::{Epoch, PotAsk, PotShare, Store, StoreError};

use super::Author;

fn ask(author: &Author, day: u64, want: u64, firm: u64) -> PotAsk {
    let day = Day::of_ms(day * 86_400_000);
    let ask = DayAsk { day, cap: NanoUsd(100), firm: NanoUsd(firm), want: NanoUsd(want) };
    PotAsk { crew: "report".into(), run: author.run.clone(), epoch: author.epoch, as_of: author.after, ask }
}

fn share(granted: u64, most: u64) -> PotShare {
    PotShare { granted: NanoUsd(granted), most: NanoUsd(most) }
}

pub fn a_pot_is_divided_and_never_beyond_its_cap(a: &dyn Store, b: &dyn Store) {
    let [mut one, mut two, mut gone] = [7_001, 7_002, 7_003].map(Author::new);
    one.create(a, 3);
    two.create(b, 3);
    gone.create(a, 3);
    assert_eq!(a.pot(&ask(&one, 9, 60, 10)).unwrap(), share(60, 100));
    assert_eq!(b.pot(&ask(&two, 9, 40, 0)).unwrap(), share(40, 90), "another process sees it");
    assert_eq!(a.pot(&ask(&one, 9, 61, 10)).unwrap(), share(60, 100), "nothing is left");
    assert_eq!(b.pot(&ask(&two, 10, 100, 0)).unwrap(), share(100, 100), "tomorrow is another pot");
    let other = PotAsk { crew: "other".into(), ..ask(&two, 9, 100, 0) };
    assert_eq!(b.pot(&other).unwrap(), share(100, 100), "and so is another crew's");
    // Giving back counts only if it comes later in the journal than what was asked for.
    assert_eq!(a.pot(&ask(&one, 9, 20, 20)).unwrap().granted, NanoUsd(60), "a late one");
    one.after = Seq(4);
    assert_eq!(a.pot(&ask(&one, 9, 20, 20)).unwrap(), share(20, 100));
    assert_eq!(a.pot(&ask(&gone, 9, 40, 5)).unwrap().granted, NanoUsd(40));
    // What a live run may still give back can be waited for; what a dead one holds cannot.
    assert_eq!(b.pot(&ask(&two, 9, 60, 0)).unwrap(), share(40, 75));
    a.release(&gone.run);
    assert_eq!(b.pot(&ask(&two, 9, 60, 0)).unwrap(), share(40, 40));
    let old = PotAsk { epoch: Epoch(0), ..ask(&two, 9, 1, 0) };
    assert!(matches!(b.pot(&old), Err(StoreError::Fenced { .. })));
    let absent = ask(&Author::new(7_009), 9, 1, 0);
    assert!(matches!(b.pot(&absent), Err(StoreError::NoRun { .. })));
    // An overrun is booked beyond the cap, and leaves nothing.
    assert_eq!(a.pot(&ask(&one, 9, 150, 150)).unwrap().granted, NanoUsd(150));
    assert_eq!(b.pot(&ask(&two, 9, 41, 0)).unwrap(), share(40, 0));
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let mut author = Author::new(7_100 + number);
                let store = if number % 2 == 0 { a } else { b };
                author.create(store, 1);
                for step in 1..=20 {
                    store.pot(&ask(&author, 20, step, 0)).unwrap();
                }
            });
        }
    });
    let granted: u64 = (0..8)
        .map(|number| {
            let author = Author::new(7_100 + number);
            // Asking for nothing as of an old entry only reads.
            let share = a.pot(&PotAsk { as_of: Seq(0), epoch: Epoch(1), ..ask(&author, 20, 0, 0) }).unwrap();
            share.granted.0
        })
        .sum();
    assert!((93..=100).contains(&granted), "eight took {granted} of 100");
}
