//! Requests to a server with the token of its login. Invariant: a request is made again only if the server said that
//! it did not serve it; then once with a token that is new, and once with one that is good for more.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use secrecy::{ExposeSecret, SecretString};
use sse_stream::Sse;

use super::{Account, Challenge, Shut};

type Wrong = StreamableHttpError<reqwest::Error>;
type Headers = HashMap<HeaderName, HeaderValue>;

/// A client that shows who asks.
#[derive(Clone)]
pub(in crate::adapters::mcp) struct Gate {
    pub http: reqwest::Client,
    /// None: a header does.
    pub account: Option<Arc<Account>>,
}

enum Verdict {
    Unknown(Challenge),
    Short(Challenge),
}

/// Did the server refuse who asks, or what they may?
fn verdict(wrong: &Wrong) -> Option<Verdict> {
    match wrong {
        StreamableHttpError::AuthRequired(why) => {
            Some(Verdict::Unknown(Challenge::parse(&why.www_authenticate_header)))
        }
        StreamableHttpError::InsufficientScope(why) => {
            Some(Verdict::Short(Challenge::parse(&why.www_authenticate_header)))
        }
        // The crate's words for a 401 that says nothing more, as servers of 2025-03-26 do.
        StreamableHttpError::UnexpectedServerResponse(text) if text.starts_with("HTTP 401") => {
            Some(Verdict::Unknown(Challenge::default()))
        }
        _ => None,
    }
}

fn wrong(why: Shut) -> Wrong {
    StreamableHttpError::Io(std::io::Error::other(why))
}

/// What a failure says of a login, if it is one of a [`Gate`].
pub(in crate::adapters::mcp) fn shut<'a>(why: &'a (dyn Error + 'static)) -> Option<&'a str> {
    let mut next = Some(why);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(Shut(words)) = inner.and_then(|inner| inner.downcast_ref::<Shut>()) {
            return Some(words);
        }
        next = error.source();
    }
    None
}

impl Gate {
    async fn through<T, F>(&self, given: Option<String>, call: impl Fn(Option<String>) -> F) -> Result<T, Wrong>
    where
        F: Future<Output = Result<T, Wrong>>,
    {
        let Some(account) = &self.account else { return call(given).await };
        let mut token = account.token().await.map_err(wrong)?;
        let (mut renewed, mut widened) = (false, false);
        loop {
            let text = token.as_ref().map(|token: &SecretString| token.expose_secret().to_owned());
            let result = call(text).await;
            let next = match result.as_ref().err().and_then(verdict) {
                None => return result,
                Some(Verdict::Unknown(_)) if renewed => Err(account.unwelcome()),
                Some(Verdict::Unknown(challenge)) => {
                    renewed = true;
                    account.unknown(token, challenge).await
                }
                Some(Verdict::Short(challenge)) => {
                    // Said once more, it is refused in words.
                    let again = std::mem::replace(&mut widened, true);
                    match account.short(token, challenge).await {
                        Ok(_) if again => Err(account.unwelcome()),
                        other => other,
                    }
                }
            };
            token = Some(next.map_err(wrong)?);
        }
    }
}

impl StreamableHttpClient for Gate {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Wrong> {
        let most = super::super::MESSAGE_MOST;
        self.post_message_with_max_sse_event_size(uri, message, session, token, headers, most).await
    }
    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
        most: usize,
    ) -> Result<StreamableHttpPostResponse, Wrong> {
        let (http, uri, session) = (&self.http, &uri, &session);
        let call = |token| {
            let (uri, message, session) = (uri.clone(), message.clone(), session.clone());
            http.post_message_with_max_sse_event_size(uri, message, session, token, headers.clone(), most)
        };
        self.through(token, call).await
    }
    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<(), Wrong> {
        let call = |token| self.http.delete_session(uri.clone(), session.clone(), token, headers.clone());
        self.through(token, call).await
    }
    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Wrong> {
        let most = super::super::MESSAGE_MOST;
        self.get_stream_with_max_sse_event_size(uri, session, last, token, headers, most).await
    }
    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last: Option<String>,
        token: Option<String>,
        headers: Headers,
        most: usize,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Wrong> {
        let (http, uri, session, last) = (&self.http, &uri, &session, &last);
        let call = |token| {
            let (uri, session, last) = (uri.clone(), session.clone(), last.clone());
            http.get_stream_with_max_sse_event_size(uri, session, last, token, headers.clone(), most)
        };
        self.through(token, call).await
    }
}
