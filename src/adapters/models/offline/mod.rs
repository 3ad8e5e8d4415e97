//! The kind `offline`: a stand-in that does honest, deterministic work on what it is given. It is
//! not a language model. Invariant: the answer is a function of the request alone; every claim in it
//! is from the material that the request brings, never from its instructions.

mod fit;
mod heard;
mod passage;
mod review;
mod text;
mod tools;
mod write;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use self::fit::Material;
use self::heard::Heard;
use self::passage::Passage;
use self::text::Shape;
use crate::core::chat::{CallFailure, FailureClass, Finish, ModelAnswer, ModelRequest, ToolAsk};
use crate::core::money::Usage;
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

/// Bytes that count as one token of this stand-in.
const BYTES_PER_TOKEN: usize = 4;

pub struct Offline {
    way: Duration,
    delay: Duration,
    count_file: Option<PathBuf>,
}

impl Offline {
    /// `way` is how long a request is on its way, `delay` how long each answer takes. `count_file` gets a line
    /// `CALL` when a request is whole, before its answer, and `done CALL` after it: the provider's own count of
    /// requests. One whose sender dies while it is on its way is in no count.
    pub fn new(way: Duration, delay: Duration, count_file: Option<PathBuf>) -> Offline {
        Offline { way, delay, count_file }
    }

    fn count(&self, line: &str) -> Result<(), CallFailure> {
        let Some(path) = &self.count_file else { return Ok(()) };
        let file = OpenOptions::new().create(true).append(true).open(path);
        // One write per line: appends of several processes do not mix.
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|why| {
            let words = format!("the count file {} cannot be written: {why}", path.display());
            CallFailure::of(FailureClass::OurFault, words)
        })
    }

    async fn answer(&self, request: &ModelRequest) -> Result<ModelAnswer, CallFailure> {
        if !self.way.is_zero() {
            tokio::time::sleep(self.way).await;
        }
        self.count(&format!("{}\n", request.call))?;
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let answer = answer(request);
        self.count(&format!("done {}\n", request.call))?;
        Ok(answer)
    }
}

impl Model for Offline {
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        _: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        Box::pin(self.answer(request))
    }
}

/// What the stand-in says to `request`.
pub fn answer(request: &ModelRequest) -> ModelAnswer {
    let heard = Heard::of(request);
    let calls = tools::next(request, &heard);
    let room = usize::try_from(request.settings.max_output).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_TOKEN);
    let (text, tool_calls, finish) = if calls.is_empty() {
        let (text, finish) = conclusion(request, &heard, room);
        (text, Vec::new(), finish)
    } else {
        (String::new(), calls, Finish::Tool)
    };
    let usage = estimate(request, &text, &tool_calls);
    ModelAnswer { text, tool_calls, finish, usage, ..ModelAnswer::unusable(None) }
}

fn conclusion(request: &ModelRequest, heard: &Heard, room: usize) -> (String, Finish) {
    let text = match &request.schema {
        Some(output) => fit::value(&output.schema, &judgement(heard)).to_string(),
        None => write::answer(heard, room),
    };
    if text.len() <= room {
        return (text, Finish::Stop);
    }
    (text[..text.floor_char_boundary(room)].to_owned(), Finish::Length)
}

/// What a typed answer is made of: the material, and what the rules find in the text to be judged.
fn judgement(heard: &Heard) -> Material {
    let (task, passages) = (heard.first_task(), heard.passages());
    let shape = Shape::asked(&format!("{task}\n{}", heard.fenced("expected").unwrap_or_default()));
    let chosen = write::chosen(&passages, shape.count.unwrap_or(text::USUAL), None);
    let mut sentences: Vec<String> = chosen.iter().map(Passage::cited).collect();
    let blocks = heard.material();
    // A review ends with what is reviewed; any other task begins with what it is about.
    let judged = if task.starts_with("Review the result") { blocks.last() } else { blocks.first() };
    let judged = judged.map_or_else(|| sentences.join(" "), |block| block.text.clone());
    let issues = review::issues(&judged, shape.words);
    let reason = match issues.len() {
        0 => "The rules of the stand-in find no fault; they are no judgement of the matter.".to_owned(),
        n => format!("The rules of the stand-in find {n} point(s) in {} words.", judged.split_whitespace().count()),
    };
    if sentences.is_empty() {
        sentences.extend(text::sentences(&task).into_iter().take(1));
    }
    let summary = text::paragraphs(&sentences);
    Material { summary, sentences, issues, task, reason }
}

/// Deterministic usage of a stand-in: bytes / 4, at least one token each way.
pub(super) fn estimate(request: &ModelRequest, text: &str, calls: &[ToolAsk]) -> Usage {
    let tokens = |bytes: usize| u64::try_from((bytes / BYTES_PER_TOKEN).max(1)).unwrap_or(u64::MAX);
    let tools = request.tools.iter().map(|tool| tool.name.len() + tool.description.len());
    let input = request.messages.iter().map(|message| message.len()).chain(tools).sum();
    let output = text.len() + calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>();
    let cap = request.settings.max_output.max(1);
    Usage::reported(tokens(input), tokens(output).min(cap))
}

#[cfg(test)]
mod tests;
