//! What a server asks of us and tells us by itself. Invariant: nothing that a server says makes this program do
//! anything; what it asks of a person is declined, for no person is asked yet.

use rmcp::ClientHandler;
use rmcp::model::{
    ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData, ProgressNotificationParam,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};
use tokio::sync::mpsc::UnboundedSender;

use crate::adapters::tools::ansi;
use crate::ports::service::News;

/// Characters of a server's words that are logged.
const SHOWN: usize = 300;

pub(super) struct Handler {
    server: String,
    news: UnboundedSender<News>,
    info: ClientConfig,
}

impl Handler {
    pub(super) fn news(&self) -> UnboundedSender<News> {
        self.news.clone()
    }
    pub(super) fn new(server: &str, news: UnboundedSender<News>, info: ClientConfig) -> Handler {
        Handler { server: server.to_owned(), news, info }
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
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        tracing::info!(server = self.server, "a server asked a question, which is declined");
        Ok(ElicitResult::new(ElicitationAction::Decline))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let (done, of) = (params.progress, params.total);
        let says = shown(params.message.as_deref().unwrap_or_default());
        tracing::info!(server = self.server, done, of, says, "progress of a call");
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        // The session may be over.
        let _ = self.news.send(News::Changed);
    }
}
