//! A tool of a server. Invariant: a call that the server may have heard of and that has no answer is unknown where it
//! has an effect that must not happen twice; a call that it cannot have heard of is an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Ask, ServiceMsg, Services};
use crate::actors::patience::{Late, Patience};
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::Server;
use crate::core::definition::{Definition, differences};
use crate::core::ids::BlobId;
use crate::ports::BoxFuture;
use crate::ports::service::{Reply, Service, ServiceCall};
use crate::ports::tool::{Nobody, People, Tool, ToolCall, ToolOutcome};

/// Why a server is not called, where it says other than what was pinned.
pub fn quarantine(server: &Server, pins: &BTreeMap<String, BlobId>, found: &[Definition]) -> Option<String> {
    let differs = differences(pins, found, &server.allow);
    if differs.is_empty() {
        return None;
    }
    let (name, more) = (&server.name, differs.len().saturating_sub(3));
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let differs = differs.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    Some(format!(
        "the server {name} defines its tools otherwise than was approved: {differs}{rest}; none of them is called \
         until a person has looked at that: bosun tools approve {name}"
    ))
}

/// A tool of a server.
pub struct ServiceTool {
    pub services: Arc<Services>,
    pub service: Arc<dyn Service>,
    /// With the definitions that its run was pinned to.
    pub server: Arc<Server>,
    pub spec: ToolSpec,
    /// The server's name of it.
    pub tool: String,
}

impl ServiceTool {
    async fn ask(&self, call: ToolCall, sent: Arc<AtomicBool>, people: Arc<dyn People>) -> Reply {
        let call = ServiceCall { tool: self.tool.clone(), arguments: call.arguments, key: call.idempotency_key };
        let deadline = Duration::from_millis(self.server.timeout_ms);
        let actor = match self.services.actor(&self.service, deadline).await {
            Ok(actor) => actor,
            Err(why) => return Reply::Refused(why),
        };
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Call { call, server: self.server.clone(), sent, people, reply };
        if actor.cast(ServiceMsg::Ask(ask)).is_err() {
            return Reply::Refused(format!("the actor of the server {} ended", self.server.name));
        }
        let lost = || Reply::Lost(format!("the actor of the server {} failed in mid-call", self.server.name));
        answer.await.unwrap_or_else(|_| lost())
    }

    /// With effect `once` nobody knows whether it happened.
    fn lost(&self, why: String) -> ToolOutcome {
        match self.spec.effect {
            Effect::Once => ToolOutcome::Unknown(why),
            Effect::Read | Effect::Idempotent => ToolOutcome::Error(why),
        }
    }
}

impl Tool for ServiceTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }
    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolOutcome> {
        self.call_near(call, Arc::new(Nobody))
    }
    fn call_near(&self, call: ToolCall, people: Arc<dyn People>) -> BoxFuture<'_, ToolOutcome> {
        Box::pin(async move {
            let people = Arc::new(Patience::with(people));
            let time = Duration::from_millis(self.spec.timeout_ms);
            let sent = Arc::new(AtomicBool::new(false));
            match people.within(time, self.ask(call, sent.clone(), people.clone())).await {
                Ok(Reply::Done(text)) => ToolOutcome::Ok(text),
                Ok(Reply::Refused(why)) => ToolOutcome::Error(why),
                Ok(Reply::Lost(why)) => self.lost(why),
                Err(Late) if !sent.load(Ordering::SeqCst) => ToolOutcome::Error(format!(
                    "the server {} was not ready in time; nothing was called",
                    self.server.name
                )),
                Err(Late) => self.lost(format!("{} did not answer within {} ms", self.spec.name, time.as_millis())),
            }
        })
    }
}
