//! Many at once in one process, beside the bare loop.

use std::time::{Duration, Instant};

use boatswain::engine::{Engine, Exit, Options};

use super::{Elsewhere, list_crew, project, prompt, this, verdict};

const CREWS: usize = 500;
const TASKS: usize = 200;

/// Four tasks in a row, as a crew of its own or below a list of 500.
fn chain_crew(port: u16) -> String {
    let provider = {
        format!(
            "[providers.local]\nkind = \"openai-compatible\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\nmax_concurrency = {CREWS}\n"
        )
    };
    let tasks: String = (1..=4)
        .map(|n| {
            let after = if n == 1 { String::new() } else { format!("context = [\"t{}\"]\n", n - 1) };
            format!("[tasks.t{n}]\nagent = \"author\"\ndescription = \"{}\"\n{after}", prompt().trim())
        })
        .collect();
    format!(
        "schema = 1\n[crew]\nmax_parallel = 1\n[budget]\nmax_usd = 500.0\nmax_tokens = 900000000\nmax_calls = 1000000\n{provider}[models.main]\nid = \"local/m\"\n\
         price = {{ input = 0.4, output = 1.6 }}\nmax_output = 400\n[agents.author]\nmodel = \"main\"\n{tasks}"
    )
}

fn parent_crew(port: u16) -> String {
    format!(
        "schema = 1\n[crew]\nmax_parallel = {CREWS}\n[budget]\nmax_usd = 500.0\nmax_tokens = 900000000\nmax_calls = 1000000\n[providers.local]\n\
         kind = \"openai-compatible\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\nmax_concurrency = {CREWS}\n\
         [crews.chain]\nfile = \"chain.toml\"\n[tasks.each]\ncrew = \"chain\"\nfor_each = \"rows.csv\"\nkey = \"id\"\n"
    )
}

fn rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Prints wall milliseconds and kilobytes added.
pub fn child(what: &str, port: u16) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let before = rss_kb();
    let wall = runtime.block_on(async {
        match what {
            "bare-crews" => crews_bare(port).await,
            "bare-tasks" => super::bare::calls(port, TASKS, TASKS).await,
            "runs" => runs(port).await,
            "list" => one_run(port, &parent_crew(port), CREWS).await,
            _ => one_run(port, &list_crew(port, TASKS), TASKS).await,
        }
    });
    println!("{} {}", wall.as_secs_f64() * 1000.0, rss_kb() - before);
}

async fn crews_bare(port: u16) -> Duration {
    super::bare::calls(port, CREWS * 4, CREWS).await
}

/// Each round has a folder of its own, and all go at the end: a file system may not reuse at once what was removed
/// (ext4 without a journal looks at each such inode for minutes), which the next round would pay for.
fn folder_of_round() -> String {
    format!("makespan-{}", std::process::id())
}

async fn one_run(port: u16, crew: &str, rows: usize) -> Duration {
    let folder = project(&folder_of_round(), crew, rows);
    std::fs::write(folder.join("chain.toml"), chain_crew(port)).unwrap();
    let begun = Instant::now();
    let engine = Options::folder(&folder).open().unwrap();
    let report = engine.crew("crew.toml").start().await.unwrap().wait().await.unwrap();
    assert_eq!(report.exit, Exit::Done);
    begun.elapsed()
}

async fn runs(port: u16) -> Duration {
    let folder = project(&folder_of_round(), &chain_crew(port), 0);
    let begun = Instant::now();
    let engine: &'static Engine = Box::leak(Box::new(Options::folder(&folder).open().unwrap()));
    let crew = engine.crew("crew.toml").load().unwrap();
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..CREWS {
        let start = crew.clone().start();
        runs.spawn(async move { start.await.unwrap().wait().await.unwrap().exit });
    }
    while let Some(exit) = runs.join_next().await {
        assert_eq!(exit.unwrap(), Exit::Done);
    }
    begun.elapsed()
}

/// Wall milliseconds, kilobytes.
#[derive(Clone, Copy)]
struct Best(f64, f64);

/// The best of many rounds, of each in turn: what slows the machine down for a while slows both. (Of 200
/// connections that are opened at once some may be late, which doubles the bare loop's time in one run of two.)
fn measure<const N: usize>(what: [&str; N], port: u16, rounds: usize) -> [Best; N] {
    let mut best = [Best(f64::MAX, f64::MAX); N];
    for _ in 0..rounds {
        for (what, best) in what.iter().zip(&mut best) {
            let out = this(&["--makespan", what, &port.to_string()]).output().unwrap();
            assert!(out.status.success(), "{what}: {}", String::from_utf8_lossy(&out.stderr));
            let text = String::from_utf8(out.stdout).unwrap();
            let mut figures = text.split_whitespace().map(|word| word.parse::<f64>().unwrap());
            let (wall, memory) = (figures.next().unwrap(), figures.next().unwrap());
            if wall < best.0 {
                *best = Best(wall, memory);
            }
        }
    }
    best
}

pub fn run() {
    let server = Elsewhere::start(Duration::from_millis(100));
    // First: five hundred runs remove five hundred locks.
    let [bare, own] = measure(["bare-tasks", "tasks"], server.port, 40);
    println!("  {TASKS} tasks of 100 ms at once: bare {:.1} ms, bosun {:.1} ms", bare.0, own.0);
    verdict("tasks at once", own.0 / bare.0, 1.1, "x");
    let [bare, list, runs] = measure(["bare-crews", "list", "runs"], server.port, 7);
    println!(
        "  bare: {CREWS} chains of 4 calls of 100 ms at once: {:.0} ms, {:.0} KB each",
        bare.0,
        bare.1 / CREWS as f64
    );
    for (own, name) in [(list, "one for_each over a sub-crew"), (runs, "as many runs of the embedding API")] {
        println!("  {name}: {:.0} ms, {:.0} KB each in flight", own.0, own.1 / CREWS as f64);
        verdict(name, own.0 / bare.0, 2.0, "x");
    }
    for folder in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten() {
        if folder.file_name().to_string_lossy().starts_with("bench-makespan-") {
            let _ = std::fs::remove_dir_all(folder.path());
        }
    }
}
