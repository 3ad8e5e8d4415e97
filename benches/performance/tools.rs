//! Tool calls of one turn run side by side: what a turn of eight takes beyond the slowest of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boatswain::core::chat::{Finish, ToolAsk};
use boatswain::engine::{
    BoxFuture, CallFailure, Effect, Exit, Model, ModelAnswer, ModelRequest, Options, Tool, ToolCall, ToolOutcome,
    ToolSpec, Usage, Watch,
};

use super::{project, verdict};

const CALLS: usize = 8;
const TAKES: Duration = Duration::from_millis(100);

/// When each request came.
#[derive(Clone, Default)]
struct Asks(Arc<Mutex<Vec<Instant>>>);

impl Model for Asks {
    fn call<'a>(&'a self, _: &'a ModelRequest, _: &'a dyn Watch) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        let mut came = self.0.lock().unwrap();
        let mut answer = ModelAnswer::of("Done.".to_owned(), Usage::reported(10, 10));
        if came.is_empty() {
            let ask =
                |n: usize| ToolAsk { id: format!("c{n}"), name: "wait".into(), arguments: format!("{{\"n\":{n}}}") };
            answer = ModelAnswer { tool_calls: (0..CALLS).map(ask).collect(), finish: Finish::Tool, ..answer };
        }
        came.push(Instant::now());
        Box::pin(std::future::ready(Ok(answer)))
    }
}

struct Wait(ToolSpec);

impl Tool for Wait {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }
    fn call(&self, _: ToolCall) -> BoxFuture<'_, ToolOutcome> {
        Box::pin(async {
            tokio::time::sleep(TAKES).await;
            ToolOutcome::Ok("waited".to_owned())
        })
    }
}

/// From the answer that asks for the tools to the request that carries their results, journal and all.
fn turn() -> Duration {
    let crew = "schema = 1\n[models.m]\nid = \"house/m\"\n[agents.a]\nmodel = \"m\"\ntools = [\"wait\"]\n\
                [tasks.t]\nagent = \"a\"\ndescription = \"Wait\"\n";
    let folder = project("tools", crew, 0);
    let spec = ToolSpec {
        name: "wait".to_owned(),
        description: "Waits.".to_owned(),
        parameters: serde_json::json!({ "type": "object", "properties": { "n": { "type": "integer" } } }),
        effect: Effect::Once,
        timeout_ms: 10_000,
        max_result: 100,
    };
    let asks = Asks::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Options::folder(&folder).model("house", asks.clone()).tool(Wait(spec)).open().unwrap();
        let report = engine.crew("crew.toml").start().await.unwrap().wait().await.unwrap();
        assert_eq!(report.exit, Exit::Done);
    });
    let came = asks.0.lock().unwrap();
    came[1] - came[0]
}

pub fn run() {
    let best = (0..5).map(|_| turn()).min().unwrap_or_default().as_secs_f64() * 1000.0;
    println!("  {CALLS} tool calls of {} ms in one turn, each with an effect: {best:.1} ms", TAKES.as_millis());
    verdict("a turn of parallel tools", best, 110.0, "ms");
}
