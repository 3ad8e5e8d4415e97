//! What wakes a desk. Invariant: while somebody waits for a moment that is known, or other processes
//! must be told something, exactly one task per desk sleeps until then; the runtime's threads never
//! wait for a file.

use std::sync::Arc;
use std::time::Duration;

use super::desk::Desk;
use crate::core::rates::{Need, Offer, Rates, Reply, Shared};
use crate::ports::model::Tier;

/// Calls of a queue whose needs are told at once.
const TOLD: usize = 64;
/// How often, and after which pause, an exchange under way is waited for at the end.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(2);

impl Desk {
    /// Starts the timer, or has it look again.
    pub(super) fn wind(desk: &Arc<Desk>) {
        let started = std::mem::replace(&mut desk.state().timed, true);
        if started {
            desk.changed.notify_one();
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(run(desk.clone()));
        } else {
            desk.state().timed = false;
        }
    }

    /// The exchanges that are due.
    fn offers(&self) -> Vec<(Arc<str>, Rates, u64, Offer)> {
        let mut state = self.state();
        let now = self.time.now();
        let room = state.has_room();
        let mut offers = Vec::new();
        for (class, line) in &mut state.lines {
            let waits = line.waits_for_room(room);
            if line.gate.exchange_due(waits).is_none_or(|due| due > now) {
                continue;
            }
            let queue = line.queue.iter().take(if waits { TOLD } else { 0 });
            let needs: Vec<Need> = queue.map(|waiter| waiter.need).collect();
            let since = line.queue.front().map_or(now, |waiter| waiter.since);
            if let Some((rates, window, offer)) = line.gate.offer(now, &needs, since) {
                offers.push((class.clone(), rates, window, offer));
            }
        }
        offers
    }

    /// Asks the other processes about a model that is about to be called, so that its first call need not wait
    /// for their answer.
    pub(super) fn ask_ahead(desk: &Arc<Desk>, tier: &Arc<Tier>) {
        let now = desk.time.now();
        let Some((rates, window, offer)) = desk.state().line(desk, tier).gate.ask_ahead(now) else { return };
        let (desk, class) = (desk.clone(), tier.class.clone());
        tokio::spawn(async move {
            desk.exchange(class, rates, window, offer).await;
            Desk::pump(&desk);
        });
    }

    async fn exchange(&self, class: Arc<str>, rates: Rates, window: u64, offer: Offer) {
        let Some(shared) = self.shared.clone() else { return };
        let (time, owner) = (self.time, self.owner);
        let key = if class.is_empty() { self.key.clone() } else { format!("{}-{class}", self.key) };
        let told = offer.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut reply: Option<Reply> = None;
            let mut turn = |state: &mut Shared| {
                reply = Some(state.exchange(time.now(), window, owner, &rates, &told));
            };
            shared.exchange(&key, &mut turn).map(|()| reply)
        });
        let reply = match done.await {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Ok(None)) => Err(offer),
            Ok(Err(why)) => {
                tracing::warn!(%why, "the rates shared with other processes cannot be reached");
                Err(offer)
            }
            // The runtime is ending.
            Err(_) => Err(offer),
        };
        let now = self.time.now();
        if let Some(line) = self.state().lines.get_mut(&class) {
            if line.gate.accept(now, reply) {
                tracing::warn!("this process goes on by itself: several at once may be refused by the provider");
            }
            line.hear(now);
        }
    }

    /// Tells the others what they do not know yet, and gives back what may still be spent: to be called
    /// before the process ends.
    pub(super) async fn farewell(&self) {
        for _ in 0..TRIES {
            let (mut last, mut away) = (Vec::new(), false);
            let now = self.time.now();
            for (class, line) in &mut self.state().lines {
                away |= line.gate.is_away();
                let words = line.gate.farewell(now);
                last.extend(words.map(|(rates, window, offer)| (class.clone(), rates, window, offer)));
            }
            for (class, rates, window, offer) in last {
                self.exchange(class, rates, window, offer).await;
            }
            if !away {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn run(desk: Arc<Desk>) {
    loop {
        let due = {
            let mut state = desk.state();
            let due = state.next_due(desk.time.now());
            // Whoever comes later starts another.
            state.timed = due.is_some();
            due
        };
        let Some(due) = due else { return };
        tokio::select! {
            () = tokio::time::sleep_until(desk.time.instant(due)) => {}
            () = desk.changed.notified() => continue,
        }
        for (class, rates, window, offer) in desk.offers() {
            desk.exchange(class, rates, window, offer).await;
        }
        Desk::let_through(&desk);
    }
}
