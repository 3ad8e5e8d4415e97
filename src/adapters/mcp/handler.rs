//! What a server asks of us and tells us by itself. Invariant: nothing that a server says makes this program do
//! anything; what it asks goes to a person, with the call that it belongs to, or to nobody.

use std::sync::Arc;

use rmcp::ClientHandler;
use rmcp::model::{
    ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData, ProgressNotificationParam,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};
use tokio::sync::mpsc::UnboundedSender;

use super::callers::{CALLER, Callers};
use super::child::Redact;
use crate::adapters::tools::ansi;
use crate::core::question::Question;
use crate::ports::service::News;
use crate::ports::tool::{Answer, Progress};

/// Characters of a server's words that are logged.
const SHOWN: usize = 300;

pub(super) struct Handler {
    server: String,
    news: UnboundedSender<News>,
    info: ClientConfig,
    callers: Callers,
    redact: Arc<Redact>,
}

impl Handler {
    pub(super) fn news(&self) -> UnboundedSender<News> {
        self.news.clone()
    }
    pub(super) fn new(server: &str, news: UnboundedSender<News>, info: ClientConfig, redact: Arc<Redact>) -> Handler {
        Handler { server: server.to_owned(), news, info, callers: Callers::default(), redact }
    }
    /// Whose calls are under way.
    pub(super) fn callers(&self) -> &Callers {
        &self.callers
    }

    /// What a server wants to know, without what must not be shown; or why no person is asked.
    fn question(&self, params: ElicitRequestParams) -> Result<Question, String> {
        let (message, schema) = match params {
            ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } => (message, requested_schema),
            ElicitRequestParams::UrlElicitationParams { .. } => {
                return Err("it wants a page opened, which Bosun does not do".to_owned());
            }
            _ => return Err("it is of a kind that Bosun does not know".to_owned()),
        };
        let schema = serde_json::to_string(&schema).map_err(|why| why.to_string())?;
        let schema = serde_json::from_str(&self.redact.text(&schema)).map_err(|why| why.to_string())?;
        Question::new(&self.server, &ansi::plain(&self.redact.text(&message)), schema)
    }
}

fn shown(text: &str) -> String {
    ansi::plain(text).chars().take(SHOWN).collect()
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        self.info.clone()
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let server = &self.server;
        let decline = |why: &str| {
            tracing::warn!(server, why, "a server's question is declined");
            Ok(ElicitResult::new(ElicitationAction::Decline))
        };
        // In the newer era a question comes with its call; in the older one with the connection.
        let Some(caller) = CALLER.try_with(Clone::clone).ok().or_else(|| self.callers.only()) else {
            let why = "it does not say which of the calls under way it belongs to";
            self.callers.note(&format!("the server {server} asked a person something, which was declined: {why}"));
            return decline(why);
        };
        let question = match self.question(params) {
            Ok(question) => question,
            Err(why) => {
                caller.note(format!("the server {server} asked a person something, which was declined: {why}"));
                return decline(&why);
            }
        };
        let answer = tokio::select! {
            answer = caller.ask(question) => answer,
            () = context.ct.cancelled() => Answer::Nobody("the server took it back".to_owned()),
        };
        Ok(match answer {
            Answer::Given(fields) => ElicitResult::new(ElicitationAction::Accept).with_content(fields),
            Answer::Declined => ElicitResult::new(ElicitationAction::Decline),
            Answer::Nobody(why) => {
                caller.note(format!("the server {server} asked a person something, which was cancelled: {why}"));
                ElicitResult::new(ElicitationAction::Cancel)
            }
        })
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let (done, of) = (params.progress, params.total);
        let says = shown(params.message.as_deref().unwrap_or_default());
        tracing::info!(server = self.server, done, of, says, "progress of a call");
        // Of a call that is over nobody wants to know.
        if let Some(caller) = self.callers.of_token(&params.progress_token) {
            caller.is_at(Progress { done, of, says: self.redact.text(&says) });
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        // The session may be over.
        let _ = self.news.send(News::Changed);
    }
}
