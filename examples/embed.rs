//! Runs a crew from Rust: prints its events as they happen, asks before its result counts, prints the result and
//! the budget. No key and no network: `offline()` puts the stand-in, which is no AI model, in the place of every
//! model.
//!
//! `cargo run --example embed`

use std::path::Path;

use boatswain::engine::{Exit, Failure, Options, Report, Run};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    // In memory: this run is gone with the process. Leave it out, and journals are in `.bosun` of the folder.
    let engine = Options::folder(project).in_memory().open()?;
    let crew = engine.crew("crews/embed.toml").input("topic", "tidal power").offline();
    let run = crew.start().await?;
    let id = run.id().clone();

    println!("run {id}");
    let mut report = watch(run).await?;
    // It stands still, and costs nothing, until somebody has decided: here, with `bosun approve`, tomorrow.
    while report.exit == Exit::Person {
        for asked in engine.waiting(Some(id.as_str())).await? {
            println!("\n{} asks whether this counts:\n{}\n", asked.step, asked.asks);
            engine.approve(asked.id.as_str(), "the editor").await?;
        }
        report = watch(engine.resume(id.as_str()).await?).await?;
    }
    println!("\n{}\n", report.text.as_deref().unwrap_or("no result"));
    let cap = report.caps.usd.map_or("none".to_owned(), |usd| format!("${usd}"));
    println!("settled ${} of {cap}, {} calls", report.budget.settled.usd, report.budget.settled.calls);
    assert_eq!(report.exit, Exit::Done);
    Ok(())
}

async fn watch(mut run: Run) -> Result<Report, Failure> {
    while let Some(entry) = run.next().await {
        println!("{:>4} {}", entry.seq, entry.event.kind());
    }
    run.wait().await
}
