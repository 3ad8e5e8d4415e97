//! `show STEP --prompt`: the request of each call. Invariant: it is what the agent's machine makes of the
//! journal up to the call's hold, which is what was sent.

use std::sync::Arc;

use super::step::Wanted;
use crate::adapters::sizes::O200k;
use crate::cli::Context;
use crate::cli::crew;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::open::{Journal, Project, StoreTexts};
use crate::core::chat::{Message, ModelRequest};
use crate::core::event::{CallEvent, Event, Held};
use crate::core::ids::RunId;
use crate::core::machine::World;
use crate::core::run::Run;
use crate::ports::store::Store;

/// The requests of the wanted calls, in the order they were sent.
pub(super) fn requests(
    project: &Project,
    store: Arc<dyn Store>,
    journal: &Journal,
    wanted: &Wanted,
) -> Result<Vec<(Held, ModelRequest)>, Failure> {
    let (crew, _) = crew::pinned(project, &*store, journal.started()?)?;
    let (texts, sizes) = (StoreTexts::new(store), O200k::new());
    let id: &RunId = &journal.row.run;
    let damaged =
        |why: String| Failure::new(Exit::Audit, format!("run {id}: {why}")).hint(format!("bosun audit verify {id}"));
    let mut run = Run::new(crew.clone());
    let mut found = Vec::new();
    for entry in &journal.entries {
        if let Event::Call(CallEvent::Held(held)) = &entry.event
            && wanted.has(&held.call)
        {
            let world = World { run: id, crew: &crew, texts: &texts, sizes: &sizes };
            let agent = run.agents.get(&held.agent);
            let agent = agent.ok_or_else(|| damaged(format!("{} has no agent {}", held.call, held.agent)))?;
            let request = agent.request(world, &held.call).map_err(|refusal| damaged(refusal.to_string()))?;
            found.push((Held::clone(held), request));
        }
        run.apply(entry).map_err(|illegal| damaged(format!("entry {}: {illegal}", entry.seq)))?;
    }
    Ok(found)
}

pub(super) fn print(
    context: &Context,
    project: &Project,
    store: Arc<dyn Store>,
    journal: &Journal,
    wanted: &Wanted,
    json: bool,
) -> Outcome {
    let requests = requests(project, store, journal, wanted)?;
    if requests.is_empty() {
        context.out.note("no model call yet");
    }
    for (held, request) in &requests {
        if json {
            context.out.line(&as_json(held, request));
        } else {
            as_text(context, held, request);
        }
    }
    Ok(Exit::Done)
}

fn as_text(context: &Context, held: &Held, request: &ModelRequest) {
    let mut settings = format!("max_output {}", held.settings.max_output);
    if let Some(temperature) = held.settings.temperature {
        settings.push_str(&format!(" · temperature {}", temperature.as_f64()));
    }
    context.out.line(&format!("=== {} · attempt {} · {} · {settings}", held.call, held.attempt, held.model));
    for tool in request.tools.iter() {
        context.out.result(&format!("--- tool {}: {}\n{}", tool.name, tool.description, tool.parameters));
    }
    if let Some(schema) = &request.schema {
        context.out.result(&format!("--- answer must fit {}\n{}", schema.name, schema.schema));
    }
    for message in &request.messages {
        match Message::decode(message) {
            Ok(message) => {
                context.out.line(&format!("--- {}", role(&message)));
                context.out.result(message.content());
                if let Message::Assistant { tool_calls, .. } = &message {
                    for ask in tool_calls {
                        context.out.result(&format!("[asks {} {}]", ask.name, ask.arguments));
                    }
                }
            }
            // Whatever it is, it is what was sent.
            Err(_) => context.out.result(message),
        }
    }
}

fn role(message: &Message) -> String {
    match message {
        Message::System { .. } => "system".to_owned(),
        Message::User { .. } => "user".to_owned(),
        Message::Assistant { .. } => "assistant".to_owned(),
        Message::Tool { tool_call_id, .. } => format!("tool result {tool_call_id}"),
    }
}

fn as_json(held: &Held, request: &ModelRequest) -> String {
    let message = |text: &Arc<str>| serde_json::from_str::<serde_json::Value>(text).unwrap_or_else(|_| (**text).into());
    serde_json::json!({
        "call": held.call, "attempt": held.attempt, "model": held.model, "settings": held.settings,
        "messages": request.messages.iter().map(message).collect::<Vec<_>>(),
        "tools": request.tools, "schema": request.schema.as_ref().map(|schema| &schema.schema),
        "extra": request.extra,
    })
    .to_string()
}
