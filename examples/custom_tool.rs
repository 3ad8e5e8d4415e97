//! A tool written in Rust, given to a crew by name. What it may be asked is its JSON Schema: no call
//! that does not fit reaches it.
//!
//! `cargo run --example custom_tool`

use std::path::Path;

use boatswain::engine::{BoxFuture, Effect, Exit, Failure, Options, Tool, ToolCall, ToolOutcome, ToolSpec};

struct Stock {
    spec: ToolSpec,
    shelves: Vec<(&'static str, u32)>,
}

impl Stock {
    fn new() -> Stock {
        let parameters = serde_json::json!({
            "type": "object",
            "properties": { "below": { "type": "integer", "description": "Only shelves with fewer items" } },
        });
        let spec = ToolSpec {
            name: "stock.count".to_owned(),
            description: "Counts the items on each shelf.".to_owned(),
            parameters,
            // It changes nothing, so that it may be called again after a crash.
            effect: Effect::Read,
            timeout_ms: 1_000,
            max_result: 500,
        };
        Stock { spec, shelves: vec![("tea", 3), ("salt", 41), ("rope", 7)] }
    }
}

impl Tool for Stock {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolOutcome> {
        let below = call.arguments.get("below").and_then(|below| below.as_u64()).unwrap_or(u64::MAX);
        let shown = self.shelves.iter().filter(|(_, items)| u64::from(*items) < below);
        let lines = shown.map(|(name, items)| format!("There are {items} items of {name} on their shelf.\n"));
        Box::pin(std::future::ready(ToolOutcome::Ok(lines.collect())))
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let engine = Options::folder(project).in_memory().tool(Stock::new()).open()?;
    let mut run = engine.crew("crews/tool.toml").start().await?;
    let mut calls = 0;
    while let Some(entry) = run.next().await {
        calls += u32::from(entry.event.kind() == "tool.returned");
    }
    let report = run.wait().await?;
    println!("the tool was called {calls} time(s)\n\n{}", report.text.as_deref().unwrap_or("no result"));
    assert_eq!((report.exit, calls > 0), (Exit::Done, true));
    Ok(())
}
