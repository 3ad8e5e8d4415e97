//! Whoever calls a tool by hand: hears how far it is, and is asked what its server asks. Invariant: without a
//! terminal nobody is asked, and an answer that does not fit is asked for again.

use std::io::{BufRead, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::view::safe;
use crate::cli::Context;
use crate::cli::out::Out;
use crate::cli::progress::far;
use crate::core::question::Question;
use crate::ports::BoxFuture;
use crate::ports::tool::{Answer, People, Progress};

/// Between two lines of how far a tool is: some say it a thousand times a second.
const BREATH: Duration = Duration::from_millis(500);

struct Near {
    out: Arc<Out>,
    /// Somebody can be asked.
    attended: bool,
    /// One question at a time.
    turn: tokio::sync::Mutex<()>,
    /// When it was said last how far the tool is.
    said: Mutex<Option<Instant>>,
}

/// Whoever sits before this process.
pub fn near(context: &Context) -> Arc<dyn People> {
    let attended = std::io::stdin().is_terminal() && context.out.stderr_is_terminal();
    let (turn, said) = (tokio::sync::Mutex::default(), Mutex::default());
    Arc::new(Near { out: context.out.clone(), attended, turn, said })
}

impl People for Near {
    fn watch(&self, progress: Progress) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= BREATH) {
            *said = Some(Instant::now());
            self.out.note(&far(&progress));
        }
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            if !self.attended {
                return Answer::Declined;
            }
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
