//! A server's question on the terminal of a tool that is called by hand. Invariant: without a terminal nobody is
//! asked, and an answer that does not fit is asked for again.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use super::view::safe;
use crate::cli::Context;
use crate::cli::out::Out;
use crate::core::question::Question;
use crate::ports::BoxFuture;
use crate::ports::tool::{Answer, Nobody, People};

struct Near {
    out: Arc<Out>,
    /// One question at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Whoever sits before this process.
pub fn near(context: &Context) -> Arc<dyn People> {
    if !std::io::stdin().is_terminal() || !context.out.stderr_is_terminal() {
        return Arc::new(Nobody);
    }
    Arc::new(Near { out: context.out.clone(), turn: tokio::sync::Mutex::default() })
}

impl People for Near {
    fn ask(&self, question: Question) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            self.out.note(&format!("the server {} asks:", safe(&question.server).join(" ")));
            safe(&question.message).iter().for_each(|line| self.out.note(&format!("  {line}")));
            question.fields().iter().for_each(|field| self.out.note(&format!("  - {}", safe(field).join(" "))));
            loop {
                self.out.err("answer (JSON object, or text for one field; empty declines): ");
                let read = tokio::task::spawn_blocking(|| {
                    let mut line = String::new();
                    std::io::stdin().lock().read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
                });
                let line = match read.await {
                    Ok(Ok(line)) => line.unwrap_or_default(),
                    Ok(Err(why)) => return Answer::Nobody(format!("the input cannot be read: {why}")),
                    Err(why) => return Answer::Nobody(why.to_string()),
                };
                match line.trim() {
                    "" => return Answer::Declined,
                    text => match question.fill(text) {
                        Ok(fields) => return Answer::Given(fields),
                        Err(why) => self.out.note(&format!("it does not fit: {}", safe(&why).join(" "))),
                    },
                }
            }
        })
    }
}
