//! `approve`, `reject`, `answer`. Invariant: a decision is checked against what it is about before it is
//! left for the run's owner, and there is at most one for each thing that is asked.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Asked, find, kind, still};
use crate::cli::Context;
use crate::cli::crew as crews;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::open::{self, Project, now_ms, whoami};
use crate::cli::screen::clean;
use crate::core::agent::{Spec, usable};
use crate::core::event::InterruptKind;
use crate::core::interrupt::{Interrupt, NotOpen, Ruling, Stand, Verdict};
use crate::core::machine::Decided;
use crate::core::question::Question;
use crate::ports::store::Store;

#[derive(Clone, Debug, Args)]
pub struct Which {
    /// A prefix of its id: bosun approvals lists them
    #[arg(value_name = "ID")]
    pub id: String,
    /// It must be of this run: a prefix of its id, or latest
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    pub which: Which,
    /// Other arguments as JSON, or another text of a result, in place of what was asked
    #[arg(long, value_name = "JSON", conflicts_with = "edit_file")]
    pub edit: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE")]
    pub edit_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct RejectArgs {
    #[command(flatten)]
    pub which: Which,
    /// What the agent reads as the tool's result; a server's question is declined without one
    #[arg(long, value_name = "WHY")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct AnswerArgs {
    #[command(flatten)]
    pub which: Which,
    /// What the agent reads as the answer; the fields of a server's question as a JSON object
    #[arg(value_name = "TEXT")]
    pub text: String,
}

pub fn approve(context: &Context, args: ApproveArgs) -> Outcome {
    let arguments = match (&args.edit, &args.edit_file) {
        (Some(text), _) => Some(text.clone()),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(context.cwd.join(path));
            Some(read.map_err(|why| Failure::usage(format!("--edit-file {}: {why}", path.display())))?)
        }
        (None, None) => None,
    };
    by_hand(context, &args.which, |_| Ok(Verdict::Approve { arguments: arguments.clone() }))
}

pub fn reject(context: &Context, args: RejectArgs) -> Outcome {
    args.reason.as_deref().map_or(Ok(()), |reason| said(reason, "--reason"))?;
    by_hand(context, &args.which, |asked| {
        no(asked, args.reason.clone()).map_err(|failure| failure.hint("say it with --reason"))
    })
}

pub fn answer(context: &Context, args: AnswerArgs) -> Outcome {
    let verdict = words(&args.text)?;
    by_hand(context, &args.which, |_| Ok(verdict.clone()))
}

/// A no. What an agent asked for needs a reason, which it reads; a server's question is declined without one.
pub fn no(asked: &Asked, reason: Option<String>) -> Result<Verdict, Failure> {
    let plain = || asked.one.raised.server().map(|_| "declined".to_owned());
    let missing = || Failure::usage("the reason is missing: expected what the agent is to read");
    let reason = reason.filter(|reason| !reason.trim().is_empty()).or_else(plain);
    Ok(Verdict::Reject { reason: reason.ok_or_else(missing)? })
}

/// An answer.
pub fn words(text: &str) -> Result<Verdict, Failure> {
    said(text, "the answer")?;
    Ok(Verdict::Answer { text: text.to_owned() })
}

fn said(text: &str, what: &str) -> Result<(), Failure> {
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("{what} is empty: expected what the agent is to read")));
    }
    Ok(())
}

fn by_hand(context: &Context, which: &Which, verdict: impl Fn(&Asked) -> Result<Verdict, Failure>) -> Outcome {
    let project = Project::here(context)?;
    let store = project.store_of(&which.id)?;
    let asked = find(&*store, &which.id, which.run.as_deref())?;
    decide(&project, store.clone(), &asked, verdict(&asked)?, &whoami(&context.env))?;
    let (id, short) = (&asked.one.raised.id, open::called(&*store, &asked.row.run));
    let after = match store.owner(&asked.row.run) {
        Some(owner) => format!("run {short} in process {} on {} goes on with it", owner.pid, owner.host),
        None => format!("go on: bosun resume {short}"),
    };
    context.out.note(&format!("{id} of {} is decided; {after}", asked.one.raised.step));
    Ok(Exit::Done)
}

/// Leaves a decision for the run's owner.
///
/// # Errors
/// Why it would change nothing: then nothing is written.
pub fn decide(
    project: &Project,
    store: Arc<dyn Store>,
    asked: &Asked,
    verdict: Verdict,
    by: &str,
) -> Result<(), Failure> {
    let (run, id) = (&asked.row.run, &asked.one.raised.id);
    let verdict = fitting(project, &*store, asked, verdict)?;
    let (ruling, at) = (Ruling { id: id.clone(), verdict }, now_ms());
    let internal = |why: serde_json::Error| Failure::new(Exit::Internal, why.to_string());
    let payload = serde_json::to_string(&ruling).map_err(internal)?;
    // What a person typed becomes part of the journal.
    let payload = project.secrets.hide(&payload);
    let ruling = serde_json::from_str(&payload).map_err(internal)?;
    let mine = still(&*store, run)?.rule(&ruling, by, at).map_err(refused)?;
    let Some(row) = store.inbox_put_once(run, &kind(&asked.one), &payload, by, at)? else {
        let first = store.inbox(run)?.into_iter().find(|row| row.kind == kind(&asked.one));
        let who = first.map_or_else(String::new, |row| format!(" by {}", clean(&row.by)));
        return Err(Failure::usage(format!("{id} was decided{who} already: a decision counts once"))
            .hint(format!("it takes effect with: bosun resume {run}")));
    };
    // Another one may have been taken between the look and the row: the journal says which counts.
    let other = still(&*store, run)?.get(id).and_then(|one| other(one, &mine));
    match other {
        Some(why) => {
            store.inbox_done(run, row)?;
            Err(refused(why))
        }
        None => Ok(()),
    }
}

/// Why it is not what was just decided that counts, if it is not. Two decisions of one person may differ.
fn other(one: &Interrupt, mine: &Decided) -> Option<NotOpen> {
    let id = one.raised.id.clone();
    match &one.stand {
        Stand::Decided { by, decision, .. } => {
            let first = one.decided(decision.clone(), by.clone());
            let differs = !mine.events.contains(&first);
            differs.then(|| NotOpen::Decided { id, what: decision.as_str(), by: by.clone() })
        }
        Stand::Void(why) => Some(NotOpen::Void { id, why }),
        Stand::Open => None,
    }
}

fn refused(why: NotOpen) -> Failure {
    Failure::usage(format!("nothing was changed: {why}"))
}

/// What a person put in place of the arguments must fit what the arguments must fit.
fn fitting(project: &Project, store: &dyn Store, asked: &Asked, verdict: Verdict) -> Result<Verdict, Failure> {
    let text = match verdict {
        Verdict::Approve { arguments: Some(text) } => text,
        Verdict::Answer { text } if asked.one.raised.server().is_some() => return filled(store, asked, &text),
        Verdict::Approve { arguments: None } | Verdict::Answer { .. } | Verdict::Reject { .. } => return Ok(verdict),
    };
    let raised = &asked.one.raised;
    let wrong = |why: String| Failure::usage(format!("nothing was changed: {why}"));
    let journal = open::read_run(store, asked.row.clone())?;
    let (crew, _) = crews::pinned(project, store, journal.started()?)?;
    let spec = raised.agent.as_ref().and_then(|agent| Spec::of(&crew, &raised.step, agent));
    let Some(spec) = spec else { return Ok(Verdict::Approve { arguments: Some(text) }) };
    let arguments = match raised.kind {
        InterruptKind::Approval => {
            let value: serde_json::Value =
                serde_json::from_str(&text).map_err(|why| wrong(format!("the arguments are not JSON: {why}")))?;
            let def = spec.crew.tools.get(&raised.tool);
            if let Some(Err(why)) = def.map(|def| def.arguments.check(&value)) {
                let schema = def.map(|def| def.arguments.json().to_string()).unwrap_or_default();
                return Err(wrong(format!("the arguments of {} do not fit: {}", clean(&raised.tool), clean(&why)))
                    .hint(format!("they must fit {schema}")));
            }
            value.to_string()
        }
        InterruptKind::After => usable(&spec, &text).map(|(text, _)| text).map_err(wrong)?,
        // Refused by what it is.
        InterruptKind::Before | InterruptKind::Question => text,
    };
    Ok(Verdict::Approve { arguments: Some(arguments) })
}

/// An answer as the server that asks is given it.
fn filled(store: &dyn Store, asked: &Asked, answer: &str) -> Result<Verdict, Failure> {
    let question = Question::read(&super::text(store, &asked.one.raised.arguments)?);
    let gone = || Failure::new(Exit::Audit, "the question cannot be read from the journal");
    let question = question.ok_or_else(gone)?;
    let fields = question.fill(answer).map_err(|why| {
        let (id, schema) = (&asked.one.raised.id, clean(&question.schema().to_string()));
        Failure::usage(format!("nothing was changed: the answer does not fit: {}", clean(&why)))
            .hint(format!("it must fit {schema}"))
            .hint(format!("bosun answer {id} '{}'", clean(&question.example())))
    })?;
    Ok(Verdict::Answer { text: fields.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{Event, InterruptEvent, Raised};
    use crate::core::ids::{BlobId, InterruptId, Seq};
    use crate::core::interrupt::Interrupts;
    use crate::core::run::Entry;

    fn entry(seq: u64, event: Event) -> Entry {
        Entry { seq: Seq(seq), at_ms: seq, event }
    }

    #[test]
    fn of_two_decisions_of_one_person_only_the_first_counts() {
        let id: InterruptId = "ABCDEFGH".parse().unwrap();
        let raised = Raised {
            id: id.clone(),
            kind: InterruptKind::Approval,
            step: "t".parse().unwrap(),
            agent: None,
            call: None,
            index: 0,
            of: 1,
            tool: "stamp".into(),
            ask: "1".into(),
            arguments: BlobId::of(b"{}"),
            typed: false,
            why: Vec::new(),
            expires_ms: None,
        };
        let mut all = Interrupts::default();
        all.apply(&entry(1, Event::Interrupt(InterruptEvent::Raised(Box::new(raised)))));
        let ruled = |verdict| all.rule(&Ruling { id: id.clone(), verdict }, "ann", 2).unwrap();
        let (yes, no) = (ruled(Verdict::Approve { arguments: None }), ruled(Verdict::Reject { reason: "red".into() }));
        let edited = ruled(Verdict::Approve { arguments: Some("{\"text\":\"b\"}".into()) });
        let bens =
            all.rule(&Ruling { id: id.clone(), verdict: Verdict::Approve { arguments: None } }, "ben", 2).unwrap();
        assert_eq!(other(all.get(&id).unwrap(), &yes), None, "it is open still");
        all.apply(&entry(2, yes.events[0].clone()));
        let one = all.get(&id).unwrap();
        assert_eq!(other(one, &yes), None);
        let first = NotOpen::Decided { id: id.clone(), what: "approved", by: "ann".into() };
        for late in [no, edited, bens] {
            assert_eq!(other(one, &late), Some(first.clone()));
        }
    }
}
