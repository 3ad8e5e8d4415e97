//! From the start of the process to its first request at the server.

use std::time::{Duration, Instant};

use super::server::Server;
use super::{bosun, list_crew, project, verdict};

pub fn run() {
    let server = Server::start(Duration::ZERO);
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..21 {
        let folder = project("start", &list_crew(server.port, 1), 1);
        server.answer_only(u64::MAX);
        let begun = Instant::now();
        let mut child = bosun(&folder, &["run", "crew.toml", "-q"]).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        times.push((server.first().unwrap() - begun).as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    println!("  first request after {:.1} ms at best, a fresh journal each time", times[0]);
    verdict("median of 21", times[times.len() / 2], 20.0, "ms");
}
