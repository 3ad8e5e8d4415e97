//! The performance promises, measured: `cargo bench`. Each figure stands beside the same work done by
//! a bare loop in the same run, and beside what is asked. `cargo bench -- overhead` measures one part.
//!
//! CPU is user + system time of the client's whole process; the server is another process.

mod bare;
mod makespan;
mod overhead;
mod resume;
mod server;
mod start;
mod tools;

/// As `bosun` has it; the bare loop gets it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// 4 KB, as a task's instructions are.
pub fn prompt() -> String {
    "Write the next part from the notes you were given, in plain words, and leave out what you cannot show. ".repeat(40)
}

/// A project folder in the build's own temporary folder: on the disk that the build is on.
pub fn project(name: &str, crew: &str, rows: usize) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("prompts")).unwrap();
    std::fs::write(folder.join("crew.toml"), crew).unwrap();
    std::fs::write(folder.join("prompts/author.md"), "You are an author.\n").unwrap();
    let lines: String = (1..=rows).map(|n| format!("r{n}\n")).collect();
    std::fs::write(folder.join("rows.csv"), format!("id\n{lines}")).unwrap();
    folder
}

/// A crew that makes one call per row.
pub fn list_crew(port: u16, at_once: usize) -> String {
    format!(
        r#"schema = 1
[crew]
max_parallel = {at_once}
[budget]
max_usd = 500.0
max_tokens = 900000000
max_calls = 1000000
[providers.local]
kind = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
max_concurrency = {at_once}
[models.main]
id = "local/m"
price = {{ input = 0.4, output = 1.6 }}
max_output = 400
[agents.author]
model = "main"
[tasks.part]
agent = "author"
for_each = "rows.csv"
key = "id"
description = "{}"
"#,
        prompt().trim()
    )
}

pub fn bosun(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bosun"));
    command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("BOSUN_QUIET", "1");
    command
}

/// The server in a process of its own.
pub struct Elsewhere {
    pub port: u16,
    child: Child,
}
impl Elsewhere {
    pub fn start(latency: Duration) -> Elsewhere {
        let mut child = this(&["--server", &latency.as_micros().to_string()]);
        child.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Elsewhere { port: line.trim().parse().unwrap(), child }
    }
}
impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn this(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args);
    command
}

/// Microseconds of user + system time of all children that have ended, in clock ticks of 10 ms.
pub fn cpu_of_children() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| rest.split_whitespace().nth(n).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    (field(13) + field(14)) * 10_000
}

pub fn verdict(what: &str, found: f64, most: f64, unit: &str) {
    let word = if found <= most { "ok" } else { "OVER" };
    println!("  {word:4} {what}: {found:.2} {unit} (asked: at most {most} {unit})");
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |i: usize| args.get(i).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    match args.first().map(String::as_str) {
        Some("--server") => return server::main(Duration::from_micros(number(1))),
        Some("--bare") => return overhead::bare(number(1) as u16, number(2) as usize, number(3) as usize),
        Some("--makespan") => return makespan::child(&args[1], number(2) as u16),
        Some(_) | None => {}
    }
    let wanted = |part: &str| args.is_empty() || args.iter().any(|arg| arg == part);
    let parts: [(&str, fn()); 5] = [
        ("overhead", overhead::run),
        ("start", start::run),
        ("makespan", makespan::run),
        ("resume", resume::run),
        ("tools", tools::run),
    ];
    for (name, part) in parts.into_iter().filter(|(name, _)| wanted(name)) {
        println!("{name}");
        part();
    }
}
