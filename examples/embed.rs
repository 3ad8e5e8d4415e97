//! Runs a crew from Rust: prints its events as they happen, its result and its budget. No key and no
//! network: `offline()` puts the stand-in, which is no AI model, in the place of every model.
//!
//! `cargo run --example embed`

use std::path::Path;

use boatswain::engine::{Exit, Failure, Options};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    // In memory: this run cannot be resumed. Leave it out, and journals are in `.bosun` of the folder.
    let engine = Options::folder(project).in_memory().open()?;
    let crew = engine.crew("crews/embed.toml").input("topic", "tidal power").offline();
    let mut run = crew.start().await?;

    println!("run {}", run.id());
    while let Some(entry) = run.next().await {
        println!("{:>4} {}", entry.seq, entry.event.kind());
    }
    let report = run.wait().await?;
    println!("\n{}\n", report.text.as_deref().unwrap_or("no result"));
    let cap = report.caps.usd.map_or("none".to_owned(), |usd| format!("${usd}"));
    println!("settled ${} of {cap}, {} calls", report.budget.settled.usd, report.budget.settled.calls);
    assert_eq!(report.exit, Exit::Done);
    Ok(())
}
