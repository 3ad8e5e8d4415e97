//! CPU per model call beside a bare loop. What starting costs is taken out: each figure is the slope
//! between a short and a long run.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Elsewhere, bosun, cpu_of_children, list_crew, project, this, verdict};

pub fn bare(port: u16, calls: usize, lanes: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(super::bare::calls(port, calls, lanes));
}

struct Cost {
    cpu_us: u64,
    wall: Duration,
}

fn cost(mut command: Command) -> Cost {
    let (before, begun) = (cpu_of_children(), Instant::now());
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    Cost { cpu_us: cpu_of_children() - before, wall: begun.elapsed() }
}

/// Microseconds of CPU and of wall time per call.
fn slope(short: usize, long: usize, run: impl Fn(usize) -> Command) -> (f64, f64) {
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..3 {
        let (a, b) = (cost(run(short)), cost(run(long)));
        let calls = (long - short) as f64;
        best.0 = best.0.min(b.cpu_us.saturating_sub(a.cpu_us) as f64 / calls);
        best.1 = best.1.min(b.wall.saturating_sub(a.wall).as_micros() as f64 / calls);
    }
    best
}

pub fn run() {
    let server = Elsewhere::start(Duration::from_millis(1));
    for (at_once, short, long, most) in [(32, 500, 6500, 100.0), (1, 100, 3100, 350.0)] {
        let bare = slope(short, long, |calls| {
            this(&["--bare", &server.port.to_string(), &calls.to_string(), &at_once.to_string()])
        });
        let own = slope(short, long, |calls| {
            let folder = project("overhead", &list_crew(server.port, at_once), calls);
            bosun(&folder, &["run", "crew.toml", "-q"])
        });
        println!(
            "  {at_once} in flight: bare {:.0} us CPU ({:.0} us wall) per call, bosun {:.0} ({:.0}): {:.1} x",
            bare.0,
            bare.1,
            own.0,
            own.1,
            own.0 / bare.0
        );
        verdict("CPU added per call", own.0 - bare.0, most, "us");
    }
}
