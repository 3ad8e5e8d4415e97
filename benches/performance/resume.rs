//! A killed run of 10,000 events: from the start of `bosun resume` to its next call.

use std::time::{Duration, Instant};

use super::server::Server;
use super::{bosun, list_crew, project, verdict};

/// Events of a finished item: assigned, held, answered, finished.
const ITEMS: u64 = 2_500;

pub fn run() {
    let server = Server::start(Duration::ZERO);
    let folder = project("resume", &list_crew(server.port, 32), ITEMS as usize + 100);
    server.answer_only(ITEMS);
    let mut child = bosun(&folder, &["run", "crew.toml", "-q"]).spawn().unwrap();
    while server.requests() < ITEMS + 32 {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        server.answer_only(0);
        let begun = Instant::now();
        let mut child = bosun(&folder, &["resume", "latest", "-q"]).spawn().unwrap();
        while server.first().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push((server.first().unwrap() - begun).as_secs_f64() * 1000.0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    times.sort_by(f64::total_cmp);
    verdict("first call after resume, median of 5", times[2], 1000.0, "ms");
}
