//! A server that is reached. Invariant: every way in which a call can end becomes a [`Reply`]: done, refused, or
//! lost, which is said only where the server may have acted.

use std::error::Error;

use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequestParams, ClientRequest, GetMeta, JsonRpcMessage, ServerJsonRpcMessage, SubscriptionFilter,
};
use rmcp::service::{ClientInitializeError, Peer, RunningService, ServiceError, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::AbortHandle;

use super::callers::{CALLER, Callers};
use super::child::{Child, Redact};
use super::handler::Handler;
use super::oauth::shut;
use super::reply;
use crate::core::definition::Definition;
use crate::ports::BoxFuture;
use crate::ports::service::{News, Reply, ServiceCall, Session};
use crate::ports::tool::People;
use std::sync::Arc;

/// Tools of one server, and pages of its list, that are read.
const TOOLS_MOST: usize = 1000;
const PAGES_MOST: usize = 100;
/// Rounds of questions within one call.
const ROUNDS: usize = 4;
/// Key of the idempotency key in a call's `_meta`.
const KEY: &str = "boatswain/idempotencyKey";

pub(super) struct McpSession {
    server: String,
    // Before the child: whoever reads its lines ends first.
    running: RunningService<RoleClient, Handler>,
    _child: Option<Child>,
    news: Mutex<UnboundedReceiver<News>>,
    listener: Option<AbortHandle>,
    redact: Arc<Redact>,
}

impl McpSession {
    pub(super) fn new(
        server: &str,
        running: RunningService<RoleClient, Handler>,
        child: Option<Child>,
        news: UnboundedReceiver<News>,
        redact: Arc<Redact>,
    ) -> McpSession {
        let listener = listen(running.peer(), running.service().news());
        McpSession { server: server.to_owned(), running, _child: child, news: Mutex::new(news), listener, redact }
    }

    async fn list(&self) -> Result<Vec<Definition>, String> {
        let mut all = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES_MOST {
            let mut params = rmcp::model::PaginatedRequestParams::default();
            params.cursor = cursor.take();
            let page = self.running.peer().list_tools(Some(params)).await;
            let page = page.map_err(|why| format!("its tools cannot be listed: {}", self.words(&why)))?;
            for tool in &page.tools {
                let json = serde_json::to_value(tool).map_err(|why| why.to_string())?;
                match Definition::new(&json) {
                    Ok(definition) => all.push(definition),
                    Err(why) => tracing::warn!(server = self.server, why, "a tool is left out"),
                }
            }
            if all.len() > TOOLS_MOST {
                return Err(format!("it has more than {TOOLS_MOST} tools"));
            }
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
        Err(format!("its list of tools does not end within {PAGES_MOST} pages"))
    }

    async fn near(&self, call: &ServiceCall, people: Arc<dyn People>) -> Reply {
        let (caller, _here) = self.running.service().callers().enter(&call.key, people);
        let reply = CALLER.scope(caller.clone(), self.ask(call)).await;
        let with = |text: String| caller.notes().into_iter().fold(text, |text, note| format!("{text}\n[{note}]"));
        match reply {
            Reply::Done(text) => Reply::Done(with(text)),
            Reply::Refused(text) => Reply::Refused(with(text)),
            Reply::Lost(text) => Reply::Lost(with(text)),
        }
    }

    async fn ask(&self, call: &ServiceCall) -> Reply {
        let mut params = CallToolRequestParams::new(call.tool.clone()).with_arguments(call.arguments.clone());
        let mut meta = rmcp::model::RequestMetaObject::new();
        meta.0.insert(KEY.to_owned(), call.key.clone().into());
        params.meta = Some(meta);
        let server = &self.server;
        match self.running.call_tool_with_mrtr_max_rounds(params, ROUNDS).await {
            Ok(result) => {
                let text = self.redact.text(&reply::text(&result));
                if result.is_error == Some(true) { Reply::Refused(text) } else { Reply::Done(text) }
            }
            Err(ServiceError::McpError(error)) => {
                let said = self.redact.text(&reply::plain(&error.message));
                Reply::Refused(format!("the server {server} refused: {said} (code {})", error.code.0))
            }
            Err(ServiceError::UnexpectedResponse) => {
                Reply::Refused(format!("the server {server} answered with something that is no result of a tool"))
            }
            Err(ServiceError::InputRequiredRoundsExceeded { .. }) => {
                Reply::Refused(format!("the server {server} asks again and again what nobody answers"))
            }
            Err(why) => match refused(&why) {
                Some(words) => Reply::Refused(self.redact.text(words)),
                None => Reply::Lost(format!("the server {server} was lost in mid-call: {}", self.words(&why))),
            },
        }
    }

    fn words(&self, why: &ServiceError) -> String {
        let said = match why {
            ServiceError::TransportSend(error) => chain(error.error.as_ref()),
            other => chain(other),
        };
        self.redact.text(&said)
    }
}

impl Drop for McpSession {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl Session for McpSession {
    fn definitions(&self) -> BoxFuture<'_, Result<Vec<Definition>, String>> {
        Box::pin(self.list())
    }
    fn call<'a>(&'a self, call: &'a ServiceCall, people: Arc<dyn People>) -> BoxFuture<'a, Reply> {
        Box::pin(self.near(call, people))
    }
    fn news(&self) -> BoxFuture<'_, News> {
        Box::pin(async {
            let mut news = self.news.lock().await;
            // Both senders are gone with the connection.
            news.recv().await.unwrap_or_else(|| News::Ended("the connection is closed".to_owned()))
        })
    }
}

/// In the newer era a server tells of a change only who has asked for it.
fn listen(peer: &Peer<RoleClient>, news: UnboundedSender<News>) -> Option<AbortHandle> {
    let info = peer.peer_info()?;
    let tells = info.capabilities.tools.as_ref().and_then(|tools| tools.list_changed) == Some(true);
    if info.protocol_version.has_initialize() || !tells {
        return None;
    }
    let peer = peer.clone();
    let task = tokio::spawn(async move {
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        let mut subscription = match peer.listen(filter).await {
            Ok(subscription) => subscription,
            Err(why) => return tracing::debug!(%why, "a server does not tell of changes"),
        };
        while let Ok(Some(_)) = subscription.next().await {
            let _ = news.send(News::Changed);
        }
    });
    Some(task.abort_handle())
}

/// A transport whose end is news, and whose calls are known by their marks.
pub(super) struct Watched<T> {
    inner: T,
    callers: Callers,
    news: UnboundedSender<News>,
    why: Box<dyn Fn() -> String + Send + Sync>,
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T, handler: &Handler, why: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Watched { inner, callers: handler.callers().clone(), news: handler.news(), why: Box::new(why) }
    }
}

/// The connection marks each call itself, as it leaves: here is the first place that sees the mark.
fn marked(item: &TxJsonRpcMessage<RoleClient>, callers: &Callers) {
    let JsonRpcMessage::Request(message) = item else { return };
    let ClientRequest::CallToolRequest(call) = &message.request else { return };
    let own = call.params.meta.as_ref().and_then(|meta| meta.0.get(KEY));
    let key = own.or_else(|| message.request.get_meta().0.get(KEY)).and_then(|key| key.as_str());
    if let (Some(key), Some(token)) = (key, message.request.get_meta().get_progress_token()) {
        callers.leaves(key, token);
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Watched<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        marked(&item, &self.callers);
        self.inner.send(item)
    }
    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        let message = self.inner.receive().await;
        if message.is_none() {
            let _ = self.news.send(News::Ended((self.why)()));
        }
        message
    }
    async fn close(&mut self) -> Result<(), T::Error> {
        self.inner.close().await
    }
}

/// Why a session did not begin.
pub(super) fn words(why: &ClientInitializeError) -> String {
    match why {
        ClientInitializeError::TransportError { error, .. } => chain(error.error.as_ref()),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => words(fallback),
        ClientInitializeError::ConnectionClosed(_) => "it ended before it was ready".to_owned(),
        other => chain(other),
    }
}

/// A call that was not served because of who asks, in words.
fn refused(why: &ServiceError) -> Option<&str> {
    match why {
        ServiceError::TransportSend(error) => shut(error.error.as_ref()),
        other => shut(other),
    }
}

/// An error with what caused it, each said once.
fn chain(why: &(dyn Error + 'static)) -> String {
    if let Some(words) = shut(why) {
        return words.to_owned();
    }
    if why.to_string().contains("Auth required") {
        return "it wants to know who asks, and does not take what its header `Authorization` says: is the variable right? \
                Without that header: bosun tools login"
            .to_owned();
    }
    let mut out = why.to_string();
    let mut next = why.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        next = cause.source();
    }
    reply::plain(&out)
}
