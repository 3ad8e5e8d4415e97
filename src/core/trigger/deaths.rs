//! Deaths of processes on one run. Invariant: a fold of the run's journal; a task that ends in between
//! begins the count anew, so that a long run on a machine that is often restarted is not blamed.

use crate::core::event::{Event, RunEvent, TaskEvent};

/// So many deaths in a row, and an event is left for a person.
pub const DEATHS_MAX: u32 = 5;

/// How often a process has died on the run and no task ended since; counts the last one too, so the
/// run must have no owner.
pub fn deaths<'e>(events: impl IntoIterator<Item = &'e Event>) -> u32 {
    let (mut live, mut deaths) = (false, 0);
    for event in events {
        match event {
            Event::Run(RunEvent::Started(_)) => live = true,
            Event::Run(RunEvent::Resumed { .. }) => {
                deaths += u32::from(live);
                live = true;
            }
            Event::Run(RunEvent::Parked { .. } | RunEvent::Finished { .. }) => (live, deaths) = (false, 0),
            // Answers are no measure: a tool that kills its process is asked for again and again.
            Event::Task(TaskEvent::Finished { .. }) => deaths = 0,
            Event::Run(_) | Event::Call(_) | Event::Tool(_) | Event::Task(_) | Event::Ledger(_) => {}
            Event::Interrupt(_) => {}
        }
    }
    deaths + u32::from(live)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{ParkCause, PauseCause};

    fn resumed() -> Event {
        Event::Run(RunEvent::Resumed { by: "someone".into() })
    }
    fn asked() -> Event {
        Event::Run(RunEvent::PauseAsked { cause: PauseCause::Asked, by: "someone".into() })
    }
    fn parked() -> Event {
        Event::Run(RunEvent::Parked { causes: vec![ParkCause::Asked] })
    }
    fn skipped() -> Event {
        let step = "a".parse().unwrap();
        Event::Task(TaskEvent::Skipped { step, because: "`when` is false".into(), upstream: false })
    }

    #[test]
    fn only_deaths_in_a_row_count() {
        // The first entry of a journal stands for the start here.
        assert_eq!(deaths(&[]), 0);
        assert_eq!(deaths(&[resumed()]), 1);
        assert_eq!(deaths(&[resumed(), asked(), resumed(), skipped(), resumed()]), 3);
        assert_eq!(deaths(&[resumed(), resumed(), parked()]), 0);
        assert_eq!(deaths(&[resumed(), resumed(), parked(), resumed(), resumed()]), 2);
    }
}
