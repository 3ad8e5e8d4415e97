//! A stand-in Chat Completions server on a loopback port: fixed latency, fixed answer, HTTP/1.1 with
//! kept connections. It does as little as it can: it must not be what is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Server {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    latency: Duration,
    response: Vec<u8>,
    requests: AtomicU64,
    /// Requests after so many are read and never answered.
    answers: AtomicU64,
    first: watch::Sender<Option<Instant>>,
}

fn response() -> Vec<u8> {
    let text = "The river was crossed at dawn and nothing was lost. ".repeat(30);
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":900,"completion_tokens":320,"total_tokens":1220}}}}"#
    );
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body.into_bytes()].concat()
}

impl Server {
    /// In a thread of this process.
    pub fn start(latency: Duration) -> Server {
        let (ready, port) = std::sync::mpsc::channel();
        let state = Arc::new(State {
            latency,
            response: response(),
            requests: AtomicU64::new(0),
            answers: AtomicU64::new(u64::MAX),
            first: watch::Sender::new(None),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = listener();
                ready.send(listener.local_addr().unwrap().port()).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, shared.clone()));
                }
            });
        });
        Server { port: port.recv().unwrap(), state }
    }

    /// From now on; the count of requests starts anew.
    pub fn answer_only(&self, answers: u64) {
        self.state.requests.store(0, Ordering::SeqCst);
        self.state.first.send_replace(None);
        self.state.answers.store(answers, Ordering::SeqCst);
    }
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }
    /// When the first request since then had arrived whole.
    pub fn first(&self) -> Option<Instant> {
        *self.state.first.borrow()
    }
}

/// Room for all who connect at once. (What does not fit into the usual 128 comes a second later.)
fn listener() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket.listen(1024).unwrap()
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let Some(whole) = read_request(&mut stream, &mut buffer).await else { return };
        let now = Instant::now();
        state.first.send_if_modified(|first| first.is_none() && first.insert(now) == &now);
        buffer.drain(..whole);
        if state.requests.fetch_add(1, Ordering::SeqCst) >= state.answers.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if !state.latency.is_zero() {
            tokio::time::sleep(state.latency).await;
        }
        if stream.write_all(&state.response).await.is_err() {
            return;
        }
    }
}

/// Length of the first request in the buffer, once it is whole.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(head) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = head + 4 + length.map_or(0, |n| n.trim().parse().unwrap_or(0));
            if buffer.len() >= whole {
                return Some(whole);
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// As a process of its own: prints the port, serves until its stdin is closed.
pub fn main(latency: Duration) {
    let server = Server::start(latency);
    println!("{}", server.port);
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}
