//! The three pipes of a program. Invariant: all are served at once, so that neither side waits for the
//! other for ever; what is kept of them is bounded, what is read is not.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

pub(super) struct Pipes {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    head: Head,
    tail: Tail,
}

/// The first bytes of a stream.
struct Head {
    most: usize,
    kept: Vec<u8>,
    seen: u64,
}

/// The last bytes of a stream.
struct Tail {
    most: usize,
    kept: VecDeque<u8>,
}

impl Pipes {
    pub(super) fn new(child: &mut Child, output_most: usize, error_tail: usize) -> Pipes {
        Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            head: Head { most: output_most, kept: Vec::new(), seen: 0 },
            tail: Tail { most: error_tail, kept: VecDeque::new() },
        }
    }

    /// Writes the input, reads both outputs to their end.
    pub(super) async fn talk(&mut self, input: &[u8]) {
        let Pipes { stdin, stdout, stderr, head, tail } = self;
        let feed = async {
            if let Some(mut pipe) = stdin.take() {
                // A program that does not read its input is within its rights.
                let _ = pipe.write_all(input).await;
            }
        };
        let output = drain(stdout, |bytes| {
            head.seen += bytes.len() as u64;
            let room = head.most.saturating_sub(head.kept.len());
            head.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
        let error = drain(stderr, |bytes| {
            tail.kept.extend(bytes);
            let over = tail.kept.len().saturating_sub(tail.most);
            tail.kept.drain(..over);
        });
        tokio::join!(feed, output, error);
    }

    pub(super) fn output(&self) -> &[u8] {
        &self.head.kept
    }
    pub(super) fn output_bytes(&self) -> u64 {
        self.head.seen
    }
    pub(super) fn error(&self) -> Vec<u8> {
        self.tail.kept.iter().copied().collect()
    }
}

async fn drain<R: AsyncRead + Unpin>(pipe: &mut Option<R>, mut keep: impl FnMut(&[u8])) {
    let Some(pipe) = pipe else { return };
    let mut buffer = vec![0; 16 << 10];
    // A read error ends the stream as its end does: the exit code says whether that matters.
    while let Ok(bytes) = pipe.read(&mut buffer).await {
        if bytes == 0 {
            break;
        }
        keep(&buffer[..bytes]);
    }
}
