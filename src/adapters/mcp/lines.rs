//! Messages as lines over a program's standard streams. Invariant: a line is bounded; a reply that cannot be taken
//! ends the call it answers, with the reason.

use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{ErrorCode, ErrorData, JsonRpcError, JsonRpcVersion2_0, RequestId, ServerJsonRpcMessage};
use rmcp::service::TxJsonRpcMessage;
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;

use super::MESSAGE_MOST;

/// Bytes of either end of a line that is too long, in which its id is looked for.
const ENDS: usize = 512;
/// Messages that may wait; a server that says more waits itself.
const AHEAD: usize = 64;

pub(super) struct Lines {
    messages: mpsc::Receiver<ServerJsonRpcMessage>,
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    reader: AbortHandle,
}

impl Lines {
    pub(super) fn new(server: &str, stdout: ChildStdout, stdin: ChildStdin) -> Lines {
        let (put, messages) = mpsc::channel(AHEAD);
        // A task of its own: `receive` may be dropped at any moment and must lose nothing.
        let reader = tokio::spawn(read(server.to_owned(), BufReader::with_capacity(64 << 10, stdout), put));
        Lines { messages, stdin: Arc::new(Mutex::new(Some(stdin))), reader: reader.abort_handle() }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Transport<RoleClient> for Lines {
    type Error = std::io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), std::io::Error>> + Send + 'static {
        let stdin = self.stdin.clone();
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            let pipe = stdin.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
            pipe.write_all(&line).await?;
            pipe.flush().await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.messages.recv().await
    }

    async fn close(&mut self) -> Result<(), std::io::Error> {
        drop(self.stdin.lock().await.take());
        Ok(())
    }
}

async fn read(server: String, mut stdout: impl AsyncBufRead + Unpin, put: mpsc::Sender<ServerJsonRpcMessage>) {
    loop {
        let message = match line(&mut stdout).await {
            Line::Whole(bytes) => match parse(&bytes) {
                Some(message) => message,
                None => {
                    tracing::debug!(server, bytes = bytes.len(), "a line that is no message is passed over");
                    continue;
                }
            },
            Line::TooLong { bytes, id: Some(id) } => {
                let most = MESSAGE_MOST;
                failed(id, format!("its reply of {bytes} bytes is refused: at most {most} are taken"))
            }
            Line::TooLong { bytes, id: None } => {
                tracing::warn!(server, bytes, "a message is too long, and which call it answers is not known");
                return;
            }
            Line::End => return,
        };
        if put.send(message).await.is_err() {
            return;
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong { bytes: u64, id: Option<RequestId> },
    End,
}

/// The next line that is not empty. Of one that is too long only both ends are kept.
async fn line(stdout: &mut (impl AsyncBufRead + Unpin)) -> Line {
    let (mut kept, mut bytes, mut head) = (Vec::new(), 0u64, Vec::new());
    loop {
        let Ok(available) = stdout.fill_buf().await else { return Line::End };
        if available.is_empty() {
            // What has no end of line is no message.
            return Line::End;
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let take = end.map_or(available.len(), |at| at + 1);
        kept.extend_from_slice(&available[..take]);
        bytes += take as u64;
        stdout.consume(take);
        if kept.len() > MESSAGE_MOST && head.is_empty() {
            head = kept[..ENDS].to_vec();
        }
        if !head.is_empty() {
            let over = kept.len().saturating_sub(ENDS);
            kept.drain(..over);
        }
        if end.is_none() {
            continue;
        }
        if !head.is_empty() {
            return Line::TooLong { bytes, id: id_of(&head, &kept) };
        }
        if kept.iter().all(u8::is_ascii_whitespace) {
            (kept, bytes) = (Vec::new(), 0);
            continue;
        }
        return Line::Whole(kept);
    }
}

/// The id of a reply of which only both ends are known: it stands before the result or behind it.
fn id_of(head: &[u8], tail: &[u8]) -> Option<RequestId> {
    let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
    let before = head.find("\"result\"").or_else(|| head.find("\"error\""));
    let first = before.and_then(|end| number(head[..end].split_once("\"id\"")?.1));
    // Behind the result stand no more braces than the message's own.
    let last = tail.trim_end().strip_suffix('}').and_then(|tail| {
        let (before, after) = tail.rsplit_once("\"id\"")?;
        let plain = !after.contains(['{', '}', '[', ']']) && !before.trim_end().is_empty();
        plain.then(|| number(after)).flatten()
    });
    first.or(last)
}

/// `: 7, …`. Our own ids are numbers.
fn number(text: &str) -> Option<RequestId> {
    let digits = text.trim_start().strip_prefix(':')?.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok().map(RequestId::Number)
}

/// A message, whatever can be made of it. A reply that is none still ends its call.
fn parse(line: &[u8]) -> Option<ServerJsonRpcMessage> {
    if let Ok(message) = serde_json::from_slice(line) {
        return Some(message);
    }
    let value: Value = serde_json::from_slice(line).ok()?;
    let id = value.get("id")?.as_i64()?;
    let answers = value.get("result").is_some() || value.get("error").is_some();
    answers.then(|| failed(RequestId::Number(id), "its reply is not one of the protocol".to_owned()))
}

fn failed(id: RequestId, why: String) -> ServerJsonRpcMessage {
    let error = ErrorData::new(ErrorCode::INTERNAL_ERROR, why, None);
    ServerJsonRpcMessage::Error(JsonRpcError { jsonrpc: JsonRpcVersion2_0, id: Some(id), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_a_long_reply_is_known_by_its_id() {
        let long = "x".repeat(MESSAGE_MOST);
        let text = format!(
            "\n  \n{{\"a\":1}}\n{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{\"id\":1,\"text\":\"{long}\"}}}}\nnext\n\
             {{\"result\":{{\"text\":\"{long}\"}},\"jsonrpc\":\"2.0\",\"id\":8}}\n{{\"text\":\"{long}\"}}\nhalf"
        );
        let mut from = BufReader::new(text.as_bytes());
        let mut seen = Vec::new();
        loop {
            match line(&mut from).await {
                Line::Whole(bytes) => seen.push(String::from_utf8(bytes).unwrap().trim().to_owned()),
                Line::TooLong { bytes, id } => seen.push(format!("{} {id:?}", bytes > MESSAGE_MOST as u64)),
                Line::End => break,
            }
        }
        assert_eq!(seen, ["{\"a\":1}", "true Some(Number(7))", "next", "true Some(Number(8))", "true None"]);
    }

    #[test]
    fn an_id_within_the_result_is_not_the_replys() {
        let head = br#"{"result":{"id":3,"text":"xxxx"#;
        assert_eq!(id_of(head, br#"xxx"}],"meta":{"id":4}}}"#), None);
        assert_eq!(id_of(head, br#"xxx"}]},"jsonrpc":"2.0","id":5}"#), Some(RequestId::Number(5)));
    }

    #[test]
    fn garbage_is_no_message_and_a_bad_reply_ends_its_call() {
        assert!(parse(b"Listening on stdio\n").is_none() && parse(b"[1,2]").is_none() && parse(b"\xff\xfe").is_none());
        let Some(ServerJsonRpcMessage::Error(error)) = parse(br#"{"id":4,"result":7,"x":1}"#) else { panic!() };
        assert_eq!(error.id, Some(RequestId::Number(4)));
    }
}
