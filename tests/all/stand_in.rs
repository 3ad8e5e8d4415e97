//! A Chat Completions server on a loopback port. Invariant: it counts and bills a request before it
//! does anything else with it, so that its count is what a provider's invoice would say.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use axum::routing::any;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What to do with one request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// A plain answer with usage.
    Answer(String),
    /// A 200 with this body.
    Body(String),
    /// Not billed: a status with headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Headers and this much of a body, then the connection breaks.
    Cut(String),
    /// Billed, never answered.
    Hang,
    /// Billed; the connection is closed without a word.
    Reset,
    /// A 200 with this stream of events in pieces of so many bytes; then it ends, or the connection breaks.
    Events { text: String, piece: usize, cut: bool },
}

/// What one request was.
#[derive(Clone, Debug)]
pub struct Seen {
    /// With the query, if there is one.
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    /// Role and text of each message of a chat completion's request.
    pub fn messages(&self) -> Vec<(String, String)> {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let all = body["messages"].as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        all.map(|message| (text(&message["role"]), text(&message["content"]))).collect()
    }
}

/// The provider's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    pub requests: u64,
    pub input: u64,
    pub output: u64,
}

/// What a request gets, from its body and its number; and how long it takes.
pub type Responder = dyn Fn(&str, usize) -> (Duration, Behaviour) + Send + Sync;

#[derive(Default)]
struct Inner {
    queue: VecDeque<Behaviour>,
    responder: Option<Arc<Responder>>,
    seen: Vec<Seen>,
    billed: Billed,
    latency: Duration,
}

/// Stops when it is dropped.
pub struct StandIn {
    address: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

/// Tokens of output that every answer is billed with.
pub const OUTPUT: u64 = 7;

impl StandIn {
    pub async fn start() -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Mutex::new(Inner::default()));
        let app = Router::new().fallback(any(serve)).with_state(inner.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        StandIn { address, inner, server }
    }

    /// `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
    /// What the next request that has none in front of it gets; with an empty queue, a plain answer.
    pub fn push(&self, behaviour: Behaviour) {
        self.inner.lock().unwrap().queue.push_back(behaviour);
    }
    /// What requests get once the queue is empty.
    pub fn respond(&self, responder: impl Fn(&str, usize) -> (Duration, Behaviour) + Send + Sync + 'static) {
        self.inner.lock().unwrap().responder = Some(Arc::new(responder));
    }
    /// Before each answer; billing comes before it.
    pub fn latency(&self, latency: Duration) {
        self.inner.lock().unwrap().latency = latency;
    }
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.lock().unwrap().seen.clone()
    }
    pub fn requests(&self) -> usize {
        self.inner.lock().unwrap().seen.len()
    }
    pub fn billed(&self) -> Billed {
        self.inner.lock().unwrap().billed
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A Chat Completions body with this text and usage.
pub fn completion(text: &str, input: u64, output: u64) -> String {
    json!({"id":"c","object":"chat.completion","model":"stand-in",
        "choices":[{"index":0,"message":{"role":"assistant","content":text},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":input,"completion_tokens":output,"total_tokens":input + output}})
    .to_string()
}

async fn serve(
    State(inner): State<Arc<Mutex<Inner>>>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let input = (body.len() as u64 / 4).max(1);
    let (behaviour, number, latency) = {
        let mut inner = inner.lock().unwrap();
        let number = inner.seen.len() + 1;
        let (latency, behaviour) = match (inner.queue.pop_front(), &inner.responder) {
            (Some(behaviour), _) => (inner.latency, behaviour),
            (None, Some(respond)) => respond(&body, number),
            (None, None) => (inner.latency, Behaviour::Answer(format!("Answer {number}."))),
        };
        let path = uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string);
        inner.seen.push(Seen { path, headers, body });
        if !matches!(behaviour, Behaviour::Status(..)) {
            let Billed { requests, input: before, output } = inner.billed;
            inner.billed = Billed { requests: requests + 1, input: before + input, output: output + OUTPUT };
        }
        (behaviour, number, latency)
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let good = || {
        let json = ("content-type", "application/json");
        Response::builder().header(json.0, json.1).header("x-request-id", format!("req_{number}"))
    };
    match behaviour {
        Behaviour::Answer(text) => good().body(completion(&text, input, OUTPUT).into()).unwrap(),
        Behaviour::Body(body) => good().body(body.into()).unwrap(),
        Behaviour::Status(status, headers, body) => {
            let start = Response::builder().status(status);
            let start = headers.into_iter().fold(start, |start, (name, value)| start.header(name, value));
            start.body(body.into()).unwrap()
        }
        Behaviour::Cut(body) => {
            let stream = Pieces { bytes: body.into(), piece: usize::MAX, cut: true, flushed: true };
            good().body(Body::from_stream(stream)).unwrap()
        }
        Behaviour::Hang => std::future::pending().await,
        // The connection's task ends with it; no hook prints anything.
        Behaviour::Reset => std::panic::resume_unwind(Box::new("as told")),
        Behaviour::Events { text, piece, cut } => {
            let stream = Pieces { bytes: text.into(), piece: piece.max(1), cut, flushed: true };
            let answer = Response::builder().header("content-type", "text/event-stream; charset=utf-8");
            answer.header("x-request-id", format!("req_{number}")).body(Body::from_stream(stream)).unwrap()
        }
    }
}

/// A body that gives its bytes piece by piece, each on the wire before the next, and then ends or fails,
/// upon which the server drops the connection.
struct Pieces {
    bytes: Bytes,
    piece: usize,
    cut: bool,
    flushed: bool,
}

impl futures_core::Stream for Pieces {
    type Item = Result<Bytes, std::io::Error>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The server flushes what it has when a body has nothing to give yet.
        if !std::mem::replace(&mut self.flushed, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.bytes.is_empty() {
            let piece = self.piece.min(self.bytes.len());
            self.flushed = false;
            return Poll::Ready(Some(Ok(self.bytes.split_to(piece))));
        }
        if self.cut { Poll::Ready(Some(Err(std::io::Error::other("as told")))) } else { Poll::Ready(None) }
    }
}
