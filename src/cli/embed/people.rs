//! People, in a program that embeds this one. Invariant: what a host decides or says goes the way of `bosun approve`,
//! `reject`, `answer` and `tell`: checked by the same words, left in the same inbox, taken by the run's owner.

use std::sync::Arc;

use super::Engine;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::{self, Project};
use crate::cli::people::{self, Asked};
use crate::cli::tell;
use crate::core::event::{InterruptKind, Why};
use crate::core::ids::{AgentRef, InterruptId, RunId, Step};
use crate::core::interrupt::Verdict;
use crate::core::run::Hearer;
use crate::ports::store::{RunFilter, Store};

/// An approval or a question that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: InterruptId,
    pub run: RunId,
    pub step: Step,
    pub kind: InterruptKind,
    /// `None`: a task is to begin, and nobody works on it yet.
    pub agent: Option<AgentRef>,
    /// The tool that is to run; empty where it is not about one.
    pub tool: String,
    /// Exactly what is asked: a tool's arguments or a question (both JSON), a result's text, or nothing of a task.
    /// A model may have written it: show it as data.
    pub asks: String,
    pub why: Vec<Why>,
    /// Wall time in milliseconds since the Unix epoch.
    pub asked_ms: u64,
    /// Nothing is decided after this time; `None`: it stays open.
    pub ends_ms: Option<u64>,
    /// A decision is in the inbox, and the run has not taken it yet.
    pub decided: bool,
}

/// When something that a host said takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// A process runs the run now and takes it up. A run that parks at this moment takes it up as `Resume` says.
    Soon,
    /// The run rests: with [`Engine::resume`].
    Resume,
}

/// Who hears a message, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub hearers: Vec<Hearer>,
    pub then: Then,
}

impl Engine {
    /// What waits for a person: of one run (a prefix of its id, or `latest`), or of every run in the state folder,
    /// whichever process runs it; of each run, oldest first.
    ///
    /// # Errors
    /// No such run; a store that cannot be read.
    pub async fn waiting(&self, run: Option<&str>) -> Result<Vec<Waiting>, Failure> {
        let run = run.map(str::to_owned);
        self.aside(move |_, store| {
            let rows = match run {
                Some(run) => vec![open::find_run(&**store, &run)?],
                None => store.runs(&RunFilter::default())?,
            };
            people::open_of(&**store, rows)?.into_iter().map(|asked| waiting(&**store, asked)).collect()
        })
        .await
    }

    /// Says yes to exactly what is asked. `id` is an [`InterruptId`] or a prefix of one, `by` is who says it, as the
    /// journal is to name them.
    ///
    /// # Errors
    /// It is not open (any more), somebody was faster, or it is a question. Then nothing was changed. So for
    /// all that decide.
    pub async fn approve(&self, id: &str, by: &str) -> Result<Then, Failure> {
        self.decide(id, by, |_| Ok(Verdict::Approve { arguments: None })).await
    }

    /// Says yes with other arguments (JSON), or with another text of a result.
    ///
    /// # Errors
    /// As [`Engine::approve`]; and they do not fit what the tool takes, or the text what the task gives.
    pub async fn approve_with(&self, id: &str, arguments: &str, by: &str) -> Result<Then, Failure> {
        let arguments = Some(arguments.to_owned());
        self.decide(id, by, move |_| Ok(Verdict::Approve { arguments })).await
    }

    /// Says no. The agent reads `reason` as the tool's result; only a server's question is declined without one.
    ///
    /// # Errors
    /// As [`Engine::approve`]; and `reason` is empty.
    pub async fn reject(&self, id: &str, reason: &str, by: &str) -> Result<Then, Failure> {
        let reason = Some(reason.to_owned());
        self.decide(id, by, move |asked| people::no(asked, reason)).await
    }

    /// Answers a question: words for an agent, a JSON object (or text, for one field) for a server.
    ///
    /// # Errors
    /// As [`Engine::approve`]; and it is no question, `text` is empty, or it does not fit the fields that a
    /// server asks for.
    pub async fn answer(&self, id: &str, text: &str, by: &str) -> Result<Then, Failure> {
        let text = text.to_owned();
        self.decide(id, by, move |_| people::answered(&text)).await
    }

    /// Says something to an agent of a run (`run` as in [`Engine::waiting`]): `to` is its name or a step address.
    /// It hears it at its next turn, also if it is in the middle of a call.
    ///
    /// # Errors
    /// Nobody would hear it, it is empty or too long for the agent's context, there is no such run or it is over.
    /// Then it is left nowhere.
    pub async fn tell(&self, run: &str, to: &str, text: &str, by: &str) -> Result<Told, Failure> {
        let (run, to, text, by) = (run.to_owned(), to.to_owned(), text.to_owned(), by.to_owned());
        self.aside(move |project, store| {
            let row = open::find_run(&**store, &run)?;
            let id = row.run.clone();
            let heard = tell::say(project, &**store, row, &to, &text, &by)?;
            let then = if heard.waits { then(&**store, &id) } else { Then::Soon };
            Ok(Told { hearers: heard.hearers, then })
        })
        .await
    }

    async fn decide(
        &self,
        id: &str,
        by: &str,
        verdict: impl FnOnce(&Asked) -> Result<Verdict, Failure> + Send + 'static,
    ) -> Result<Then, Failure> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.aside(move |project, store| {
            let asked = people::find(&**store, &id, None)?;
            people::decide(project, store.clone(), &asked, verdict(&asked)?, &by)?;
            Ok(then(&**store, &asked.row.run))
        })
        .await
    }

    /// Reads and waits for the store, where the runs of this process are not held up by it.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Project, &Arc<dyn Store>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (project, store) = (self.project.clone(), self.inner.store.clone());
        let done = tokio::task::spawn_blocking(move || work(&project, &store)).await;
        done.map_err(|died| Failure::new(Exit::Internal, died.to_string()))?
    }
}

fn then(store: &dyn Store, run: &RunId) -> Then {
    store.owner(run).map_or(Then::Resume, |_| Then::Soon)
}

fn waiting(store: &dyn Store, asked: Asked) -> Result<Waiting, Failure> {
    let Asked { row, one, coming } = asked;
    let asks = people::text(store, &one.raised.arguments)?;
    let (asked_ms, ends_ms, raised) = (one.at_ms, one.ends_ms(), one.raised);
    Ok(Waiting {
        id: raised.id,
        run: row.run,
        step: raised.step,
        kind: raised.kind,
        agent: raised.agent,
        tool: raised.tool,
        asks,
        why: raised.why,
        asked_ms,
        ends_ms,
        decided: coming.is_some(),
    })
}
