//! Questions of servers in the middle of a call. Invariant: each ends once, and how it ended is on disk before the
//! server is told.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::oneshot;

use super::streams::ToolStream;
use super::work::{Context, Work};
use crate::core::agent::Spec;
use crate::core::chat::Message;
use crate::core::event::{Decision, Event, InterruptEvent, InterruptKind, Raised, Why};
use crate::core::ids::{AgentRef, CallId, InterruptId};
use crate::core::interrupt::words;
use crate::core::machine::Decided;
use crate::core::question::Question;
use crate::ports::BoxFuture;
use crate::ports::tool::{Answer, People, Progress};

/// How long a person has where the crew does not say and somebody is near.
const EXPIRES_MS: u64 = 24 * 3_600_000;

/// How a question ends.
enum End {
    /// A person has decided, which is on disk.
    Decided(Answer),
    /// The run stops for this reason; nothing of it is on record.
    Stopped(&'static str),
}

struct Open {
    question: Question,
    end: oneshot::Sender<End>,
}

/// The questions of this stay of a run in this process.
#[derive(Default)]
pub struct Questions {
    /// `None`: over.
    all: DashMap<InterruptId, Option<Open>>,
    /// Why the run stops, once it does. It does not go on in this stay.
    stopped: OnceLock<&'static str>,
}

/// Whose a decision is.
pub enum Claim {
    /// Not about a question of a server.
    Other,
    /// It changes nothing: the question is over, or this is no answer to it.
    Void,
    /// From now on nobody else ends the question.
    Taken(Taken),
}

/// A question that is decided; dropped, nobody has answered.
pub struct Taken {
    end: oneshot::Sender<End>,
    answer: Answer,
}

impl Taken {
    /// Its event is on disk.
    pub fn hand_over(self) {
        // The call may have ended meanwhile.
        let _ = self.end.send(End::Decided(self.answer));
    }
}

impl Questions {
    /// Looks before the event is recorded.
    pub fn claim(&self, decided: &Decided) -> Claim {
        let Some(Event::Interrupt(InterruptEvent::Decided { id, decision, .. })) = decided.events.first() else {
            return Claim::Other;
        };
        let Some(mut place) = self.all.get_mut(id) else { return Claim::Other };
        let Some(open) = place.as_ref() else { return Claim::Void };
        let answer = match decision {
            Decision::Rejected { .. } => Answer::Declined,
            Decision::Answered { content } => {
                let said = decided.blobs.iter().find(|blob| blob.id == content.message);
                let said = said.and_then(|blob| serde_json::from_str(&blob.text).ok());
                let Some(Message::Tool { content, .. }) = said else { return Claim::Void };
                // Whoever answered was told already; this is for whoever wrote to the inbox by hand.
                match open.question.fill(&content) {
                    Ok(fields) => Answer::Given(fields),
                    Err(why) => {
                        tracing::warn!(%id, why, "an answer does not fit");
                        return Claim::Void;
                    }
                }
            }
            Decision::Approved { .. } | Decision::Expired => return Claim::Void,
        };
        place.take().map_or(Claim::Void, |Open { end, .. }| Claim::Taken(Taken { end, answer }))
    }

    /// The run stops: nobody is waited for, and nobody is asked from now on.
    pub fn stop(&self, why: &'static str) {
        // Before the look: what is put after it looks itself. A second pause changes nothing.
        let _ = self.stopped.set(why);
        for mut place in self.all.iter_mut() {
            if let Some(open) = place.take() {
                let _ = open.end.send(End::Stopped(why));
            }
        }
    }

    /// `true` of whoever ends it.
    fn close(&self, id: &InterruptId) -> bool {
        self.all.get_mut(id).is_some_and(|mut place| place.take().is_some())
    }
}

/// The people that one call may ask.
pub struct Asker {
    pub context: Arc<Context>,
    pub call: CallId,
    pub index: u32,
    pub agent: AgentRef,
    pub tool: String,
    pub ask: String,
    /// How far it is, for whoever watches.
    pub stream: ToolStream,
}

/// Withdrawn when it is dropped: on record, if its call goes on.
struct Asked<'a>(&'a Asker, InterruptId);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Asked(asker, id) = self;
        let work = Work::Tool(asker.call.clone(), asker.index);
        if !asker.context.questions.close(id) || !asker.context.flights.has(&work, None) {
            return;
        }
        let (journal, expired) = (asker.context.journal.clone(), asker.expired(id, "the server"));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { journal.record(expired).await });
        }
    }
}

impl Asker {
    /// `expires` of the tool's table; where nobody is near, no longer than a call may take.
    fn time_ms(&self) -> u64 {
        let context = &self.context;
        let spec = Spec::of(&context.crew, &self.call.step, &self.agent);
        let def = spec.and_then(|spec| spec.crew.tools.get(&self.tool).cloned());
        let expires_ms = def.as_ref().and_then(|def| def.approval.expires_ms).unwrap_or(EXPIRES_MS);
        match def.filter(|_| !context.ports.attended) {
            Some(def) => expires_ms.min(def.spec.timeout_ms),
            None => expires_ms,
        }
    }

    fn raised(&self, question: &Question, expires_ms: u64) -> (InterruptId, Decided) {
        let (mut decided, text) = (Decided::default(), question.text());
        let mark = self.context.ports.clock.random();
        let id = InterruptId::of_question(&self.context.run, &self.call, self.index, &text, mark);
        let raised = Raised {
            id: id.clone(),
            kind: InterruptKind::Question,
            step: self.call.step.clone(),
            agent: Some(self.agent.clone()),
            call: Some(self.call.clone()),
            index: self.index,
            of: 0,
            tool: self.tool.clone(),
            ask: self.ask.clone(),
            arguments: decided.keep(text),
            typed: false,
            why: vec![Why::Server(question.server.clone())],
            expires_ms: Some(expires_ms),
        };
        decided.events.push(Event::Interrupt(InterruptEvent::Raised(Box::new(raised))));
        (id, decided)
    }

    fn expired(&self, id: &InterruptId, by: &str) -> Decided {
        let (id, step, agent) = (id.clone(), self.call.step.clone(), Some(self.agent.clone()));
        let event = InterruptEvent::Decided { id, step, agent, decision: Decision::Expired, by: by.to_owned() };
        Decided::one(Event::Interrupt(event))
    }

    async fn expire(&self, id: &InterruptId, by: &str) {
        let journal = &self.context.journal;
        if let Some(seq) = journal.record(self.expired(id, by)).await {
            // A journal that cannot be written ends the run.
            let _ = journal.durable.wait(seq).await;
        }
    }

    async fn put(&self, question: Question) -> Answer {
        let expires_ms = self.time_ms();
        let (id, decided) = self.raised(&question, expires_ms);
        let questions = &self.context.questions;
        let (end, mut ended) = oneshot::channel();
        questions.all.insert(id.clone(), Some(Open { question, end }));
        if let Some(why) = questions.stopped.get() {
            questions.all.remove(&id);
            return Answer::Nobody(format!("nobody is asked any more: the run is being stopped by {why}"));
        }
        let _asked = Asked(self, id.clone());
        let nobody = || Answer::Nobody("the run has stopped".to_owned());
        if self.context.journal.record(decided).await.is_none() {
            return nobody();
        }
        let late = tokio::select! {
            end = &mut ended => Some(end),
            () = tokio::time::sleep(Duration::from_millis(expires_ms)) => None,
        };
        let end = match late {
            Some(end) => end,
            None if questions.close(&id) => {
                self.expire(&id, "time").await;
                return Answer::Nobody(format!("nobody answered within {}", words(expires_ms)));
            }
            // Somebody decided in the last moment.
            None => ended.await,
        };
        match end {
            Ok(End::Decided(answer)) => answer,
            Ok(End::Stopped(why)) => {
                self.expire(&id, why).await;
                Answer::Nobody(format!("nobody had answered when it was ended by {why}"))
            }
            Err(_) => nobody(),
        }
    }
}

impl People for Asker {
    fn ask(&self, question: Question) -> BoxFuture<'_, Answer> {
        Box::pin(self.put(question))
    }
    fn watch(&self, progress: Progress) {
        self.stream.is_at(progress);
    }
}
