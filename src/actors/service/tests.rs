use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::Link;
use crate::ports::BoxFuture;
use crate::ports::tool::{Tool, ToolCall, ToolOutcome};

/// A server that is reached when it is told to, and whose tool `panic` panics.
#[derive(Default)]
struct Fake {
    opened: AtomicU32,
    closed: Arc<AtomicU32>,
    slow: bool,
    changed: Arc<Notify>,
    described: Arc<AtomicU32>,
    listing: Arc<Listing>,
}

struct FakeSession {
    closed: Arc<AtomicU32>,
    changed: Arc<Notify>,
    described: Arc<AtomicU32>,
    listing: Arc<Listing>,
}

/// What was asked of a session, and whether its lists are held back.
#[derive(Default)]
struct Listing {
    begun: AtomicU32,
    /// How often news was waited for: what was said before has reached the actor.
    heard: AtomicU32,
    held: AtomicBool,
    go: Notify,
}

async fn comes(n: u32, what: &AtomicU32) {
    let there = async {
        while what.load(Ordering::SeqCst) < n {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), there).await.unwrap();
}

fn tool(n: u32) -> Definition {
    Definition::new(&json!({"name": "t", "description": n.to_string(), "inputSchema": {"type": "object"}})).unwrap()
}

impl Service for Fake {
    fn name(&self) -> &str {
        "fake"
    }
    fn key(&self) -> &str {
        "fake"
    }
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Session>, String>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let (closed, changed) = (self.closed.clone(), self.changed.clone());
        let (described, listing) = (self.described.clone(), self.listing.clone());
        let session = FakeSession { closed, changed, described, listing };
        Box::pin(async move {
            if self.slow {
                std::future::pending::<()>().await;
            }
            Ok(Arc::new(session) as Arc<dyn Session>)
        })
    }
}

impl Session for FakeSession {
    fn definitions(&self) -> BoxFuture<'_, Result<Vec<Definition>, String>> {
        Box::pin(async {
            let tools = vec![tool(self.described.load(Ordering::SeqCst))];
            self.listing.begun.fetch_add(1, Ordering::SeqCst);
            if self.listing.held.load(Ordering::SeqCst) {
                self.listing.go.notified().await;
            }
            Ok(tools)
        })
    }
    fn call<'a>(&'a self, call: &'a ServiceCall, _: Arc<dyn People>) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            match call.arguments.get("do").and_then(|text| text.as_str()) {
                Some("hang") => std::future::pending().await,
                Some("panic") => panic!("as it was asked"),
                _ => Reply::Done("done".into()),
            }
        })
    }
    fn news(&self) -> BoxFuture<'_, News> {
        Box::pin(async {
            self.listing.heard.fetch_add(1, Ordering::SeqCst);
            self.changed.notified().await;
            News::Changed
        })
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

fn made(fake: &Arc<Fake>, services: &Arc<Services>) -> ServiceTool {
    within(fake, services, 400)
}

fn within(fake: &Arc<Fake>, services: &Arc<Services>, timeout_ms: u64) -> ServiceTool {
    let link = Link::Stdio { argv: vec!["x".into()], env: Vec::new() };
    let pins = Some([("t".to_owned(), tool(0).hash)].into());
    let server = Arc::new(Server { name: "fake".into(), link, allow: Vec::new(), timeout_ms, pins });
    let spec = ToolSpec {
        name: "fake.t".into(),
        description: String::new(),
        parameters: json!({}),
        effect: Effect::Once,
        timeout_ms,
        max_result: 100,
    };
    ServiceTool { services: services.clone(), service: fake.clone(), server, spec, tool: "t".into() }
}

async fn ask(tool: &ServiceTool, what: &str) -> ToolOutcome {
    let serde_json::Value::Object(arguments) = json!({"do": what}) else { panic!() };
    tool.call(ToolCall { arguments, idempotency_key: "k".into() }).await
}

#[tokio::test]
async fn what_was_never_sent_is_an_error_and_what_was_is_unknown() {
    let services = Arc::new(Services::default());
    let slow = Arc::new(Fake { slow: true, ..Fake::default() });
    assert!(matches!(ask(&made(&slow, &services), "x").await, ToolOutcome::Error(_)));
    services.stop().await;
    let services = Arc::new(Services::default());
    let quick = Arc::new(Fake::default());
    let tool = made(&quick, &services);
    assert_eq!(ask(&tool, "x").await, ToolOutcome::Ok("done".into()));
    let ToolOutcome::Unknown(why) = ask(&tool, "hang").await else { panic!("it was sent") };
    assert!(why.contains("within 400 ms"), "{why}");
    let ToolOutcome::Unknown(why) = ask(&tool, "panic").await else { panic!("it was sent") };
    assert!(why.contains("failed in mid-call"), "{why}");
    assert_eq!(ask(&tool, "x").await, ToolOutcome::Ok("done".into()), "the others are not touched");
    assert_eq!(quick.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_server_serves_all_and_is_left_with_them() {
    let services = Arc::new(Services::default());
    let fake = Arc::new(Fake::default());
    let tools: Vec<Arc<ServiceTool>> = (0..8).map(|_| Arc::new(made(&fake, &services))).collect();
    let asked = tools.iter().cloned().map(|tool| tokio::spawn(async move { ask(&tool, "x").await }));
    for answer in asked.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), ToolOutcome::Ok("done".into()));
    }
    assert_eq!(fake.opened.load(Ordering::SeqCst), 1);
    assert_eq!(fake.closed.load(Ordering::SeqCst), 0);
    drop(tools);
    drop(services);
    let left = async {
        while fake.closed.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), left).await.unwrap();
}

#[tokio::test]
async fn after_a_change_nobody_is_served_before_the_tools_are_known_again() {
    let services = Arc::new(Services::default());
    let fake = Arc::new(Fake::default());
    let tool = made(&fake, &services);
    assert_eq!(ask(&tool, "x").await, ToolOutcome::Ok("done".into()));
    fake.described.store(1, Ordering::SeqCst);
    fake.changed.notify_one();
    let blocked = async {
        loop {
            match ask(&tool, "x").await {
                ToolOutcome::Error(why) => return why,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let why = tokio::time::timeout(Duration::from_secs(10), blocked).await.unwrap();
    assert!(why.contains("`t` has changed") && why.contains("bosun tools approve fake"), "{why}");
    fake.described.store(0, Ordering::SeqCst);
    fake.changed.notify_one();
    let again = async { while ask(&tool, "x").await != ToolOutcome::Ok("done".into()) {} };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

#[tokio::test]
async fn a_list_from_before_the_latest_change_lets_nobody_in() {
    let services = Arc::new(Services::default());
    let fake = Arc::new(Fake::default());
    let (tool, listing) = (Arc::new(within(&fake, &services, 60_000)), &fake.listing);
    assert_eq!(ask(&tool, "x").await, ToolOutcome::Ok("done".into()));
    // The second change comes while the list of the first is on its way.
    listing.held.store(true, Ordering::SeqCst);
    fake.changed.notify_one();
    comes(2, &listing.begun).await;
    fake.described.store(1, Ordering::SeqCst);
    let heard = listing.heard.load(Ordering::SeqCst);
    fake.changed.notify_one();
    comes(heard + 1, &listing.heard).await;
    let asked = tool.clone();
    let waits = tokio::spawn(async move { ask(&asked, "x").await });
    listing.go.notify_one();
    comes(3, &listing.begun).await;
    assert!(!waits.is_finished());
    listing.go.notify_one();
    let ToolOutcome::Error(why) = waits.await.unwrap() else { panic!("it was called by a list that is over") };
    assert!(why.contains("`t` has changed"), "{why}");
    assert_eq!(listing.begun.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_change_during_the_first_list_lets_nobody_in() {
    let services = Arc::new(Services::default());
    let fake = Arc::new(Fake::default());
    fake.listing.held.store(true, Ordering::SeqCst);
    let tool = within(&fake, &services, 60_000);
    let waits = tokio::spawn(async move { ask(&tool, "x").await });
    comes(1, &fake.listing.begun).await;
    fake.described.store(1, Ordering::SeqCst);
    fake.changed.notify_one();
    fake.listing.held.store(false, Ordering::SeqCst);
    fake.listing.go.notify_one();
    let ToolOutcome::Error(why) = waits.await.unwrap() else { panic!("it was called by a list that is over") };
    assert!(why.contains("`t` has changed"), "{why}");
}
