//! What the figures are measured against: a loop over reqwest that makes the same calls, keeps
//! nothing, holds no budget and forgets everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(serde::Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Usage,
}
#[derive(serde::Deserialize)]
struct Choice {
    message: Message,
}
#[derive(serde::Deserialize)]
struct Message {
    content: String,
}
#[derive(serde::Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// `lanes` loops at once make `calls` calls in all; how long that took.
pub async fn calls(port: u16, calls: usize, lanes: usize) -> Duration {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().pool_max_idle_per_host(lanes).build().unwrap();
    let url: Arc<str> = format!("http://127.0.0.1:{port}/v1/chat/completions").into();
    let left = Arc::new(AtomicUsize::new(calls));
    let begun = Instant::now();
    let lanes = (0..lanes).map(|_| {
        let (client, url, left) = (client.clone(), url.clone(), left.clone());
        tokio::spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                one(&client, &url).await;
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    begun.elapsed()
}

async fn one(client: &reqwest::Client, url: &str) {
    let body = serde_json::json!({
        "model": "m", "max_tokens": 400,
        "messages": [{ "role": "system", "content": "You are an author." }, { "role": "user", "content": super::prompt() }],
    });
    let request = client.post(url).header("content-type", "application/json").body(body.to_string());
    let bytes = request.send().await.unwrap().bytes().await.unwrap();
    let answer: Answer = serde_json::from_slice(&bytes).unwrap();
    assert!(answer.usage.prompt_tokens + answer.usage.completion_tokens > 0);
    assert!(!answer.choices[0].message.content.is_empty());
}
