//! From the start of the process to its first request at the server.

use std::time::{Duration, Instant};

use super::server::Server;
use super::{bosun, list_crew, project, verdict};

pub fn run() {
    let server = Server::start(Duration::ZERO);
    for (what, fresh) in [("the first run of a project", true), ("a later run", false)] {
        let mut times: Vec<f64> = Vec::new();
        let mut folder = project("start", &list_crew(server.port, 1), 1);
        for _ in 0..21 {
            if fresh {
                folder = project("start", &list_crew(server.port, 1), 1);
            }
            server.answer_only(u64::MAX);
            let begun = Instant::now();
            let mut child = bosun(&folder, &["run", "crew.toml", "-q"]).spawn().unwrap();
            assert!(child.wait().unwrap().success());
            times.push((server.first().unwrap() - begun).as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        println!("  {what}: first request after {:.1} ms at best", times[0]);
        verdict("median of 21", times[times.len() / 2], 20.0, "ms");
    }
}
