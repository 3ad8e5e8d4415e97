//! A person's message on its way from the inbox to those it is for. Invariant: it is on record once, whatever
//! dies in between, and for whoever was at work at that very entry: not for an agent that had just ended.

use std::sync::Arc;

use super::journal::Noted;
use super::work::Context;
use crate::core::chat::Message;
use crate::core::event::{Event, Subject, TaskEvent};
use crate::core::machine::Decided;
use crate::core::run::Run;
use crate::ports::store::InboxRow;

/// How often it is looked anew who is at work, in a run that moves on under one's eyes.
const TRIES: u32 = 20;

/// What the inbox carries for the kind `tell`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Telling {
    /// An agent's name or a step address.
    pub to: String,
    pub text: String,
}

/// `None` of a row that is no such message.
pub fn telling(row: &InboxRow) -> Option<Telling> {
    serde_json::from_str(&row.payload).ok().filter(|_| row.kind == "tell")
}

/// What is to be recorded of it; nothing, if that is on record already.
pub fn decided(run: &Run, row: &InboxRow) -> Decided {
    let mut decided = Decided::default();
    let Some(Telling { to, text }) = telling(row).filter(|_| !run.taken.contains(&row.id)) else { return decided };
    let hearers = match run.hearers(&to) {
        Ok(hearers) => hearers.into_iter().map(|hearer| hearer.agent).collect(),
        Err(why) => {
            // It was right when it was said. What is on record can be seen not to have been heard.
            tracing::warn!(run = ?run.id, %to, %why, "a message comes too late");
            Vec::from_iter(run.late(&to))
        }
    };
    for agent in hearers {
        let message = decided.message(&Message::User { content: text.clone() });
        let told = TaskEvent::Told { agent, message, by: row.by.clone(), id: row.id };
        decided.events.push(Event::Task(told));
    }
    decided
}

/// Records the message and waits for the disk. `None`: the journal is gone, and the message stays where it is.
pub async fn record(context: &Arc<Context>, row: InboxRow) -> Option<()> {
    let row = Arc::new(row);
    for attempt in 1..=TRIES {
        let (head, _) = context.journal.head().await?;
        context.journal.durable.wait(head).await.ok()?;
        let (store, id, crew) = (context.ports.store.clone(), context.run.clone(), context.crew.clone());
        let told = row.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let run = super::coordinator::fold(&*store, &id, crew)?;
            let seen: Vec<_> = run.plans.keys().map(|scope| Subject::Plan(scope.clone())).collect();
            let seen = seen.into_iter().map(|subject| (subject.clone(), run.seen(&subject))).collect();
            Some((decided(&run, &told), seen))
        });
        let (decided, mut expected): (Decided, Vec<_>) = looked.await.ok()??;
        if decided.events.is_empty() {
            return Some(());
        }
        if attempt == TRIES {
            expected.clear();
        }
        match context.journal.note(expected, decided).await? {
            Noted::Done(seq) => return context.journal.durable.wait(seq).await.ok(),
            Noted::Stale => {}
        }
    }
    None
}
