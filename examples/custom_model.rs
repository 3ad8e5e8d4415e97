//! A model written in Rust: anything that answers messages can be a provider. Bosun holds the worst
//! case of each call before it is made, and books the usage that the answer reports.
//!
//! `cargo run --example custom_model`

use std::path::Path;

use boatswain::engine::{
    BoxFuture, CallFailure, Exit, Failure, FailureClass, Message, Model, ModelAnswer, ModelRequest, Options, Usage,
    Watch,
};

/// Says what it was told, louder.
struct UpperCase;

impl UpperCase {
    fn answer(request: &ModelRequest) -> Result<ModelAnswer, CallFailure> {
        let broken = |why: String| CallFailure::of(FailureClass::OurFault, why);
        let last = request.messages.last().ok_or_else(|| broken("there is no message".to_owned()))?;
        let message = Message::decode(last).map_err(|error| broken(error.to_string()))?;
        let words = message.content().split_whitespace().count() as u64;
        Ok(ModelAnswer::of(message.content().to_uppercase(), Usage::reported(words, words)))
    }
}

impl Model for UpperCase {
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        _: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        Box::pin(std::future::ready(UpperCase::answer(request)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let engine = Options::folder(project).in_memory().model("house", UpperCase).open()?;
    let run = engine.crew("crews/model.toml").input("news", "the tide is in").start().await?;
    let report = run.wait().await?;
    println!("{}", report.text.as_deref().unwrap_or("no result"));
    println!("{} calls, {} tokens", report.budget.settled.calls, report.budget.settled.tokens);
    assert_eq!(report.exit, Exit::Done);
    Ok(())
}
